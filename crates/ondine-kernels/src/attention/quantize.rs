//! Queries and keys as numbers of 8 bits, whose products are the fastest that a tier has.
//!
//! A query has a scale of its own. The keys of a tile share one, after the same vector has been taken from all keys of
//! the head: that changes all scores of a query alike, so not its weights, and keys are often far from zero in a few
//! elements and near each other (Zhang et al. 2024, SageAttention). Keys are stored as unsigned numbers, 128 larger,
//! so sums of products begin with 128 times the sum of the query below zero.

use std::ops::Range;

use crate::{
    arch::{dot::WORD, product::Product},
    attention::shape::{Attention, AttentionShape},
};

/// The largest magnitude of a number of 8 bits, both signs alike.
const LARGEST: f32 = 127.0;

/// The least scale: the product of two is no zero, which would make a number of a hidden key's infinite score.
const LEAST_SCALE: f32 = 1e-18;

/// Numbers near it, above and below, are whole.
const WHOLE: f32 = 1.5 * (1 << 23) as f32;

/// The keys, at most, whose mean is taken from all.
const SAMPLE: usize = 64;

/// How rows become words.
pub(super) enum Form<'a> {
    /// As they are.
    Plain,
    /// As numbers of 8 bits with a scale for each, and what sums of products begin with: of each lane.
    Queries { scales: &'a mut [f32], starts: &'a mut [f32] },
    /// As numbers of 8 bits with a scale given.
    Keys { mean: &'a [f32], scale: f32 },
}

impl Attention<'_> {
    /// The scale of the keys of a tile, 1 unless they are of 8 bits.
    ///
    /// # Safety
    /// `packed` is a tile.
    #[inline(always)]
    pub(super) unsafe fn key_scale<P: Product>(&self, packed: *const f32) -> f32 {
        // SAFETY: as the caller says.
        if P::QUANTIZED { unsafe { *packed.add(self.packing.tile_words - 1) } } else { 1.0 }
    }

    /// Fills `mean` with what is taken from all keys of a head, and returns the scale of some of them. Behind a window
    /// it is the mean of what can be seen, in whole tiles: what lies before that may be gone.
    #[inline(always)]
    pub(super) fn center_keys(&self, head: usize, keys: Range<usize>, mean: &mut [f32], copies: &mut [f32]) -> f32 {
        let &AttentionShape { kv_heads, keys: all, head_dim, .. } = self.shape;
        let (mean, numbers) = (&mut mean[..head_dim], &mut copies[..head_dim]);
        let place = |key: usize| (self.row(head / kv_heads, key), head % kv_heads);
        mean.fill(0.0);
        let first = self.shape.first_of_tile(all);
        let all = all - first;
        let count = all.min(SAMPLE);
        for i in 0..count {
            // SAFETY: keys and head exist.
            unsafe { self.numbers(1, place(first + i * all / count), 0, numbers) };
            mean.iter_mut().zip(&*numbers).for_each(|(mean, x)| *mean += x);
        }
        mean.iter_mut().for_each(|mean| *mean /= count as f32);
        let mut largest = 0;
        for key in keys {
            // SAFETY: keys and head exist.
            unsafe { self.numbers(1, place(key), 0, numbers) };
            numbers.iter_mut().zip(&*mean).for_each(|(x, mean)| *x -= mean);
            largest = largest.max(largest_magnitude(numbers));
        }
        scale_of(largest)
    }

    /// Makes a query or key the numbers of 8 bits of lane `lane`, in as many words.
    #[inline(always)]
    pub(super) fn quantize_row(&self, lane: usize, numbers: &mut [f32], form: &mut Form<'_>, to: &mut [f32]) {
        to[self.packing.key_words - 1] = 0.0;
        // SAFETY: any bytes are words.
        let to = unsafe { std::slice::from_raw_parts_mut(to.as_mut_ptr().cast::<u8>(), WORD * to.len()) };
        match form {
            Form::Plain => {}
            Form::Queries { scales, starts } => {
                let scale = scale_of(largest_magnitude(numbers));
                let sum = round(numbers, scale, 0, to);
                scales[lane] = scale;
                starts[lane] = f32::from_bits((-128 * sum).cast_unsigned());
            }
            Form::Keys { mean, scale } => {
                numbers.iter_mut().zip(*mean).for_each(|(x, mean)| *x -= mean);
                round(numbers, *scale, 0x80, to);
            }
        }
    }
}

/// The bits of the largest magnitude of some numbers. (Those of magnitudes are in the order of these, and a maximum of
/// integers is that of vectors.)
#[inline(always)]
fn largest_magnitude(numbers: &[f32]) -> u32 {
    numbers.iter().map(|x| x.abs().to_bits()).fold(0, u32::max)
}

/// The scale for numbers up to a magnitude, given its bits; NaN if that is not finite.
#[inline(always)]
fn scale_of(largest: u32) -> f32 {
    let largest = f32::from_bits(largest);
    if largest.is_finite() { (largest / LARGEST).max(LEAST_SCALE) } else { f32::NAN }
}

/// Writes numbers in units of `scale` with some bits flipped, and returns the sum of those units.
#[inline(always)]
fn round(numbers: &[f32], scale: f32, flip: u8, to: &mut [u8]) -> i32 {
    // What is not finite has no scale, and does not become a number.
    let inverse = if scale.is_nan() { 0.0 } else { 1.0 / scale };
    let mut sum = 0;
    for (to, &x) in to.iter_mut().zip(numbers) {
        // The sum with a number of this size is rounded to a whole one.
        let unit = (x * inverse + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits());
        sum += unit.cast_signed();
        *to = (unit as u8) ^ flip;
    }
    sum
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{arch::dot::WeightType, attention::shape::Packing, cpu::Cpu};

    /// Rounds queries and keys as a tier does for operands of bf16, one number after the other; what is taken from keys
    /// and their scales come from the first `lengths` of each sequence, which are all that is read.
    pub(crate) fn round_operands(cpu: &Cpu, shape: &AttentionShape, lengths: &[usize], operands: &mut [Vec<f64>; 3]) {
        let words = cpu.tier().attention_words(WeightType::Bf16, shape.eight_bit);
        let &AttentionShape { batch, heads, kv_heads, queries, keys, head_dim, strides, .. } = shape;
        if words.queries_per_word == words.per_word || batch * queries * keys == 0 {
            return;
        }
        let place = |which: usize, row: usize, head: usize| row * strides[which] + head * head_dim;
        for (row, head) in (0..batch * queries).flat_map(|row| (0..heads).map(move |head| (row, head))) {
            let row = &mut operands[0][place(0, row, head)..][..head_dim];
            let largest = row.iter().fold(0.0, |largest: f64, x| largest.max(x.abs())) as f32;
            round_all(row.iter_mut(), (largest / 127.0).max(1e-18));
        }
        for (sequence, head) in (0..batch).flat_map(|sequence| (0..kv_heads).map(move |head| (sequence, head))) {
            let place = |key: usize| place(1, sequence * keys + key, head);
            let seen = lengths[sequence];
            if seen == 0 {
                continue;
            }
            let tile = Packing::new(words, &AttentionShape { keys: seen, ..*shape }).tile_keys;
            let before = shape.first_of_tile(seen);
            let (sampled, count) = (seen - before, (seen - before).min(64));
            for d in 0..head_dim {
                let sum = (0..count)
                    .fold(0.0, |sum: f32, i| sum + operands[1][place(before + i * sampled / count) + d] as f32);
                let mean = sum / count as f32;
                (0..seen).for_each(|key| {
                    let x = &mut operands[1][place(key) + d];
                    *x = f64::from(*x as f32 - mean);
                });
            }
            for first in (0..seen).step_by(tile) {
                let rows = (first..seen.min(first + tile)).flat_map(|key| (0..head_dim).map(move |d| place(key) + d));
                let largest = rows.clone().fold(0.0, |largest: f64, at| largest.max(operands[1][at].abs())) as f32;
                rows.for_each(|at| round_all(std::iter::once(&mut operands[1][at]), (largest / 127.0).max(1e-18)));
            }
        }
    }

    fn round_all<'a>(numbers: impl Iterator<Item = &'a mut f64>, scale: f32) {
        numbers.for_each(|x| {
            let unit = (*x as f32 * (1.0 / scale)).round_ties_even();
            assert!(unit.abs() <= 127.0, "{unit} is not of 8 bits");
            *x = f64::from(scale) * f64::from(unit);
        });
    }

    #[test]
    fn what_is_not_finite_is_not_rounded_to_a_number() {
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(scale_of(largest_magnitude(&[1.0, x, 2.0])).is_nan());
        }
        let mut codes = [0; 4];
        assert_eq!(round(&[0.0, -1.27, 0.5, 1.0], 0.01, 0x80, &mut codes), 23);
        assert_eq!(codes, [128, 1, 178, 228]);
    }
}
