//! From scores to weights, and what becomes of the sums when weights would grow too large.
//!
//! Weights are `2^(factor * score + offset)`. The offset of a query makes its weights relative to the largest score
//! so far, but it changes only when weights would exceed `2^GROWTH`: what is summed so far has then to be rescaled.

use std::ops::Range;

use crate::{
    arch::{product::Product, vector::Vector},
    attention::{
        lanes::{load, load_rows, store, store_rows},
        strip::Strip,
    },
    math,
};

/// Exponent of the largest weight before sums are rescaled: far from the ends of the range of f32, so that nothing is
/// lost, yet seldom exceeded once there is an offset.
const GROWTH: f32 = 40.0;

/// What scores of a strip are multiplied by: `factor`, and the scale of a query of 8 bits.
#[inline(always)]
pub(super) fn factors<P: Product, const N: usize>(strip: &Strip<'_>, factor: f32) -> [P::Vector; N] {
    let mut factors = [P::Vector::splat(factor); N];
    if P::QUANTIZED {
        let scales: [P::Vector; N] = load(strip.scales);
        for (factor, &scale) in factors.iter_mut().zip(&scales) {
            *factor = factor.mul(scale);
        }
    }
    factors
}

/// True if weights of the largest scores are too large.
#[inline(always)]
pub(super) fn grows<V: Vector, const N: usize>(max: &[V; N], factors: &[V; N], offsets: &[V; N]) -> bool {
    let mut grows = false;
    for ((max, &factor), &offset) in max.iter().zip(factors).zip(offsets) {
        grows |= max.mul_add(factor, offset).any_greater(V::splat(GROWTH));
    }
    grows
}

/// Makes weights relative to the largest scores if they would be too large otherwise.
#[inline(always)]
pub(super) fn rescale<V: Vector, const N: usize>(strip: &mut Strip<'_>, factors: &[V; N], max: &[V; N]) {
    let offsets: [V; N] = load(strip.offsets);
    if !grows(max, factors, &offsets) {
        return;
    }
    let mut totals: [V; N] = load(strip.totals);
    let (mut shrinks, mut new) = (offsets, offsets);
    for j in 0..N {
        let zero = V::splat(0.0);
        let larger = zero.sub(max[j].mul(factors[j]));
        new[j] = max[j].mul_add(factors[j], offsets[j]).if_greater(zero, larger, offsets[j]);
        shrinks[j] = math::exp2(new[j].sub(offsets[j]));
        totals[j] = totals[j].mul(shrinks[j]);
    }
    store(strip.offsets, new);
    store(strip.totals, totals);
    if !strip.begun {
        return;
    }
    for sums in strip.sums.chunks_exact_mut(N * V::LANES) {
        let mut products: [V; N] = load(sums);
        for (product, &shrink) in products.iter_mut().zip(&shrinks) {
            *product = product.mul(shrink);
        }
        store(sums, products);
    }
}

/// `2^x` for `x` up to 127, as precise as weights have to be.
#[inline(always)]
fn exp2<P: Product>(x: P::Vector) -> P::Vector {
    if P::COARSE { math::exp2_coarse(x) } else { math::exp2(x) }
}

/// From scores to weights.
pub(super) struct Softmax<V, const N: usize> {
    factors: [V; N],
    pub(super) offsets: [V; N],
    /// Sums of weights.
    pub(super) totals: [V; N],
}

impl<V: Vector, const N: usize> Softmax<V, N> {
    #[inline(always)]
    pub(super) fn new(strip: &Strip<'_>, factors: [V; N]) -> Self {
        Self { factors, offsets: load(strip.offsets), totals: load(strip.totals) }
    }

    /// Makes weights of the scores of the keys of a word, one or two, and writes them.
    ///
    /// # Safety
    /// `to` is valid for writing the word.
    #[inline(always)]
    pub(super) unsafe fn weights<P: Product<Vector = V>>(
        &mut self,
        first: &[V; N],
        second: &[V; N],
        to: *mut f32,
        word: usize,
    ) {
        for j in 0..N {
            let first = exp2::<P>(first[j].mul_add(self.factors[j], self.offsets[j]));
            let (mut second, mut sum) = (exp2::<P>(second[j].mul_add(self.factors[j], self.offsets[j])), first);
            if P::PER_WORD == 1 {
                second = first;
            } else {
                sum = first.add(second);
            }
            self.totals[j] = self.totals[j].add(sum);
            // SAFETY: as the caller says.
            unsafe { P::words(first, second).store(to.add((word * N + j) * V::LANES)) };
        }
    }

    /// Makes weights of scores, and writes them over those of the same keys or before.
    ///
    /// # Safety
    /// There are scores for the keys, and room for one more; the first key is the first of a word.
    #[inline(always)]
    pub(super) unsafe fn weights_of_scores<P: Product<Vector = V>>(&mut self, scores: *mut f32, keys: Range<usize>) {
        // SAFETY: as the caller says.
        unsafe {
            if !keys.end.is_multiple_of(P::PER_WORD) {
                store_rows(scores.add(keys.end * N * V::LANES), &[[V::splat(f32::NEG_INFINITY); N]]);
            }
            for key in keys.step_by(P::PER_WORD) {
                let mut rows = [[V::splat(0.0); N]; 2];
                load_rows(scores.add(key * N * V::LANES), &mut rows);
                self.weights::<P>(&rows[0], &rows[P::PER_WORD - 1], scores, key / P::PER_WORD);
            }
        }
    }
}
