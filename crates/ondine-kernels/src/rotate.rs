//! Rotary positions (Su et al. 2021): pairs of features of each head, turned.

use crate::{
    arch::{enter::Kernel, isa::Isa},
    cpu::Cpu,
    number::Float,
    rowwise::{for_rows, piece_rows},
};

/// How heads are turned.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// Heads that are turned by the same angles, one after the other.
    pub heads: usize,
    /// Features of a head.
    pub width: usize,
    /// Pairs of them; later features stay.
    pub pairs: usize,
    /// True if neighbours are a pair, false if a feature and the one `pairs` further are.
    pub interleaved: bool,
    /// `[tokens, pairs]`
    pub cos: &'a [f32],
    /// `[tokens, pairs]`
    pub sin: &'a [f32],
}

/// `out` is `x` `[tokens, heads, width]` with its pairs `(a, b)` as `(a cos - b sin, b cos + a sin)`, each product
/// rounded.
///
/// # Panics
/// If there are more pairs than features, or `x`, `out`, cosines and sines differ in tokens.
pub fn rotate<T: Float>(cpu: &Cpu, rotation: &Rotation<'_>, x: &[T], out: &mut [T]) {
    let &Rotation { heads, width, pairs, cos, sin, .. } = rotation;
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    assert!(2 * pairs <= width && heads > 0, "{pairs} pairs of {width} features of {heads} heads");
    let token = heads * width;
    assert!(token > 0 && x.len().is_multiple_of(token), "the input is not tokens of {heads} heads of {width}");
    let tokens = x.len() / token;
    assert!(cos.len() == tokens * pairs && sin.len() == cos.len(), "angles of {} pairs for {tokens} tokens", cos.len());
    for_rows(cpu.pool(), out, token, piece_rows(token), |first, out| {
        cpu.enter(Rotate { rotation, first, x: &x[first * token..][..out.len()], out });
    });
}

/// A piece of [`rotate`].
struct Rotate<'a, T> {
    rotation: &'a Rotation<'a>,
    first: usize,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Float> Kernel for Rotate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let &Rotation { heads, width, pairs, interleaved, cos, sin } = self.rotation;
        let heads_of = self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width));
        for (index, (x, out)) in heads_of.enumerate() {
            let at = (self.first + index / heads) * pairs;
            let (cos, sin) = (&cos[at..][..pairs], &sin[at..][..pairs]);
            let (turned, rest) = out.split_at_mut(2 * pairs);
            rest.copy_from_slice(&x[2 * pairs..]);
            let angles = cos.iter().zip(sin);
            if interleaved {
                let both = x.as_chunks::<2>().0.iter().zip(turned.as_chunks_mut::<2>().0);
                for (([a, b], out), (&cos, &sin)) in both.zip(angles) {
                    *out = turn(*a, *b, cos, sin);
                }
            } else {
                let (first, second) = turned.split_at_mut(pairs);
                let halves = x[..pairs].iter().zip(&x[pairs..]).zip(first.iter_mut().zip(second));
                for (((a, b), (first, second)), (&cos, &sin)) in halves.zip(angles) {
                    [*first, *second] = turn(*a, *b, cos, sin);
                }
            }
        }
    }
}

#[inline(always)]
fn turn<T: Float>(a: T, b: T, cos: f32, sin: f32) -> [T; 2] {
    let (a, b) = (a.widen(), b.widen());
    [T::narrow(a * cos - b * sin), T::narrow(b * cos + a * sin)]
}
