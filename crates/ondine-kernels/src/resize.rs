//! Feature maps resized, channels-last.

use crate::{
    arch::{enter::Kernel, isa::Isa},
    cpu::Cpu,
    number::Float,
    rowwise::{for_rows, piece_rows},
    threads::Pool,
};

/// Height and width of a feature map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Resizes `x`, `[batch, from.height, from.width, channels]`, to `out`, `[batch, to.height, to.width, channels]`,
/// by the nearest element: `floor(i * (from / to))` with the quotient rounded to `f32`, as PyTorch does.
///
/// # Panics
/// If the lengths are not those of the shapes, or `from` is empty and `to` is not.
pub fn resize_nearest<T: Copy + Send + Sync>(
    pool: &Pool,
    channels: usize,
    from: Size,
    to: Size,
    x: &[T],
    out: &mut [T],
) {
    if check_sizes(channels, from, to, x.len(), out.len()) {
        return;
    }
    let source = |i: usize, from: usize, to: usize| ((i as f32 * (from as f32 / to as f32)) as usize).min(from - 1);
    let columns: Vec<usize> = (0..to.width).map(|column| source(column, from.width, to.width)).collect();
    let doubled = to.width == 2 * from.width;
    let width = to.width * channels;
    for_rows(pool, out, width, piece_rows(width), |first, out| {
        for (row, out) in (first..).zip(out.chunks_exact_mut(width)) {
            let (image, row) = (row / to.height, row % to.height);
            let start = (image * from.height + source(row, from.height, to.height)) * from.width * channels;
            let x = &x[start..][..from.width * channels];
            if doubled {
                for (x, out) in x.chunks_exact(channels).zip(out.chunks_exact_mut(2 * channels)) {
                    let (even, odd) = out.split_at_mut(channels);
                    even.copy_from_slice(x);
                    odd.copy_from_slice(x);
                }
            } else {
                for (&column, out) in columns.iter().zip(out.chunks_exact_mut(channels)) {
                    out.copy_from_slice(&x[column * channels..][..channels]);
                }
            }
        }
    });
}

/// Resizes `x`, `[batch, from.height, from.width, channels]`, to `out`, `[batch, to.height, to.width, channels]`,
/// between the four nearest elements, pixel centres at halves (PyTorch's `align_corners = false`, without
/// antialiasing).
///
/// # Panics
/// If the lengths are not those of the shapes, or `from` is empty and `to` is not.
pub fn resize_bilinear<T: Float>(cpu: &Cpu, channels: usize, from: Size, to: Size, x: &[T], out: &mut [T]) {
    if check_sizes(channels, from, to, x.len(), out.len()) {
        return;
    }
    let rows = Tap::all(from.height, to.height);
    let columns = Tap::all(from.width, to.width);
    let width = to.width * channels;
    for_rows(cpu.pool(), out, width, piece_rows(width), |first, out| {
        for (row, out) in (first..).zip(out.chunks_exact_mut(width)) {
            let image = &x[row / to.height * from.height * from.width * channels..];
            let tap = rows[row % to.height];
            let [above, below] =
                [tap.low, tap.high].map(|row| &image[row * from.width * channels..][..from.width * channels]);
            cpu.enter(BilinearRows { channels, weight: tap.weight, columns: &columns, above, below, out });
        }
    });
}

/// True if there is nothing to do.
fn check_sizes(channels: usize, from: Size, to: Size, x: usize, out: usize) -> bool {
    let (source, target) = (from.height * from.width * channels, to.height * to.width * channels);
    if out == 0 {
        return true;
    }
    assert!(
        source > 0 && x.is_multiple_of(source),
        "the input is not [batch, {}, {}, {channels}]",
        from.height,
        from.width
    );
    assert_eq!(out, x / source * target, "the output is not [batch, {}, {}, {channels}]", to.height, to.width);
    false
}

/// Where an output element lies between two input elements.
#[derive(Clone, Copy)]
pub(crate) struct Tap {
    low: usize,
    high: usize,
    /// The share of `high`.
    weight: f32,
}

impl Tap {
    /// The taps of a whole dimension.
    fn all(from: usize, to: usize) -> Vec<Self> {
        let scale = from as f32 / to as f32;
        let tap = |i: usize| {
            let position = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
            let low = (position as usize).min(from - 1);
            Self { low, high: (low + 1).min(from - 1), weight: (position - low as f32).clamp(0.0, 1.0) }
        };
        (0..to).map(tap).collect()
    }
}

/// One row of [`resize_bilinear`].
pub(crate) struct BilinearRows<'a, T> {
    channels: usize,
    weight: f32,
    columns: &'a [Tap],
    above: &'a [T],
    below: &'a [T],
    out: &'a mut [T],
}

impl<T: Float> Kernel for BilinearRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let channels = self.channels;
        for (tap, out) in self.columns.iter().zip(self.out.chunks_exact_mut(channels)) {
            let (low, high) = (tap.low * channels, tap.high * channels);
            let upper = self.above[low..].iter().zip(&self.above[high..]);
            let lower = self.below[low..].iter().zip(&self.below[high..]);
            for ((out, upper), lower) in out.iter_mut().zip(upper).zip(lower) {
                let upper = mix(upper.0.widen(), upper.1.widen(), tap.weight);
                let lower = mix(lower.0.widen(), lower.1.widen(), tap.weight);
                *out = T::narrow(mix(upper, lower, self.weight));
            }
        }
    }
}

/// `(1 - weight) * a + weight * b`
#[inline(always)]
fn mix(a: f32, b: f32, weight: f32) -> f32 {
    (1.0 - weight) * a + weight * b
}
