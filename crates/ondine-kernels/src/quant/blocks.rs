//! Rows of 8-bit activations in blocks, each with a scale of its own: `x = scale * code`, as what meets weights of few
//! bits in groups.
//!
//! A scale of its own keeps an outlier from taking the digits of the rest of its row, and codes around 0 spare the
//! sums of weights that another zero would need.

use crate::{
    arch::{enter::Kernel, isa::Isa, vector::Vector},
    cpu::Cpu,
    math::ROUND,
    number::Float,
    rowwise::{for_rows, piece_rows},
};

/// Elements of a block.
pub const BLOCK: usize = 32;

/// Elements whose codes are added up beside them: weights may come in groups of as few.
pub(crate) const HALF_BLOCK: usize = BLOCK / 2;

/// The largest code.
const MOST: f32 = 127.0;

/// The bits of a scale that are 0, the lowest: 22 digits are left, with which products of scales and
/// [`LIFT`](crate::arch::vector::LIFT) are exact.
const NO_DIGITS: u32 = 3;

/// Bytes of a row in blocks: `width` codes (i8), a scale (f32) for each block, the sum (i16) of the codes of each half
/// of a block. Rows are whole blocks, see [`BLOCK`].
#[must_use]
pub fn blocked_row_len(width: usize) -> usize {
    width + width / BLOCK * size_of::<f32>() + width / HALF_BLOCK * size_of::<i16>()
}

/// Where scales and sums of a row are, in bytes from its first.
pub(crate) fn blocked_offsets(width: usize) -> (usize, usize) {
    (width, width + width / BLOCK * size_of::<f32>())
}

/// Quantizes each row of `x`, of `width` elements, block by block to -127..=127, into rows of [`blocked_row_len`]
/// bytes.
///
/// The error is at most half a scale, that is the largest magnitude of the block / 254. A block that holds NaN or an
/// infinity gets the scale NaN: it stays wrong in what follows. Products with a block that holds more than 3e33 may be
/// infinite.
///
/// # Panics
/// If rows are not whole blocks, `x` is not rows of `width` elements, or `out` not as many rows in blocks.
pub fn quantize_blocks<T: Float>(cpu: &Cpu, width: usize, x: &[T], out: &mut [u8]) {
    let len = blocked_row_len(width);
    assert!(width > 0 && width.is_multiple_of(BLOCK), "rows of {width} elements are not whole blocks of {BLOCK}");
    assert!(x.len().is_multiple_of(width), "the input is not rows of {width} elements");
    assert_eq!(out.len(), x.len() / width * len, "the output is not as many rows in blocks");
    for_rows(cpu.pool(), out, len, piece_rows(width), |first, out| {
        let x = &x[first * width..][..out.len() / len * width];
        cpu.enter(QuantizeBlocks { width, x, out });
    });
}

/// A piece of [`quantize_blocks`].
struct QuantizeBlocks<'a, T> {
    width: usize,
    x: &'a [T],
    out: &'a mut [u8],
}

impl<T: Float> Kernel for QuantizeBlocks<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let rows = self.out.chunks_exact_mut(blocked_row_len(self.width));
        for (x, out) in self.x.chunks_exact(self.width).zip(rows) {
            block_row::<I::Wide, T>(x, out);
        }
    }
}

/// Quantizes a row of whole blocks into [`blocked_row_len`] bytes.
#[inline(always)]
pub(crate) fn block_row<V: Vector, T: Float>(x: &[T], out: &mut [u8]) {
    let (scales, sums) = blocked_offsets(x.len());
    let (codes, rest) = out.split_at_mut(scales);
    let (scales, sums) = rest.split_at_mut(sums - scales);
    let (x, codes) = (x.as_chunks::<BLOCK>().0, codes.as_chunks_mut::<BLOCK>().0);
    let (scales, sums) = (scales.as_chunks_mut::<4>().0, sums.as_chunks_mut::<4>().0);
    let spans = x.chunks(SPAN).zip(codes.chunks_mut(SPAN));
    for ((x, codes), (scales, sums)) in spans.zip(scales.chunks_mut(SPAN).zip(sums.chunks_mut(SPAN))) {
        span::<V, T>(x, codes, scales, sums);
    }
}

/// Blocks whose scales are computed together: divisions take long, and as long for many as for one.
const SPAN: usize = 16;

/// Quantizes up to [`SPAN`] blocks.
#[inline(always)]
fn span<V: Vector, T: Float>(
    x: &[[T; BLOCK]],
    codes: &mut [[u8; BLOCK]],
    scales: &mut [[u8; 4]],
    sums: &mut [[u8; 4]],
) {
    // Loops, no closures: those that are not inlined lose the instructions of the tier.
    let mut wide = [[0.0_f32; BLOCK]; SPAN];
    let mut most = [0.0_f32; SPAN];
    for ((x, wide), most) in x.iter().zip(&mut wide).zip(&mut most) {
        for (wide, x) in wide.iter_mut().zip(x) {
            *wide = x.widen();
        }
        let mut lanes = V::splat(0.0);
        for at in (0..BLOCK).step_by(V::LANES) {
            // SAFETY: a block is whole vectors. NaN is larger than an infinity, and that than all numbers.
            lanes = lanes.max_magnitude(unsafe { V::load(wide.as_ptr().add(at)) });
        }
        *most = lanes.largest_magnitude();
    }
    let (mut steps, mut inverses) = ([0.0_f32; SPAN], [0.0_f32; SPAN]);
    for ((step, inverse), &most) in steps.iter_mut().zip(&mut inverses).zip(&most) {
        let (scale, number) = (most / MOST, most < f32::INFINITY);
        let counts = number && scale >= f32::MIN_POSITIVE;
        *step = if number { 0.0 } else { f32::NAN };
        *step = if counts { f32::from_bits(scale.to_bits() & !NO_DIGITS) } else { *step };
        *inverse = if counts { MOST / most } else { 0.0 };
    }
    for (block, codes) in codes.iter_mut().enumerate() {
        for at in (0..BLOCK).step_by(V::LANES) {
            // SAFETY: numbers and codes are whole vectors. What is infinite or NaN times 0 is NaN, of whose bits any
            // code will do.
            unsafe {
                let nearest = V::load(wide[block].as_ptr().add(at)).mul(V::splat(inverses[block])).add(V::splat(ROUND));
                nearest.store_bytes(codes.as_mut_ptr().add(at));
            }
        }
        let mut halves = [0_i16; 2];
        for (sum, codes) in halves.iter_mut().zip(codes.as_chunks::<HALF_BLOCK>().0) {
            for &code in codes {
                *sum += i16::from(code as i8);
            }
        }
        let ([a, b], [c, d]) = (halves[0].to_ne_bytes(), halves[1].to_ne_bytes());
        (scales[block], sums[block]) = (steps[block].to_ne_bytes(), [a, b, c, d]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        arch::vector::LIFT,
        suite::{Random, tiers},
    };

    fn read(row: &[u8], width: usize) -> (Vec<i8>, Vec<f32>, Vec<i16>) {
        let (scales, sums) = blocked_offsets(width);
        let codes = row[..width].iter().map(|&code| code as i8).collect();
        let scales = row[scales..sums].as_chunks().0.iter().map(|&bytes| f32::from_ne_bytes(bytes)).collect();
        (codes, scales, row[sums..].as_chunks().0.iter().map(|&bytes| i16::from_ne_bytes(bytes)).collect())
    }

    #[test]
    fn blocks_are_within_half_a_step() {
        let (width, rows) = (96, 7);
        let mut x = Random(5).numbers(width * rows);
        x[3 * width..][..BLOCK].fill(0.0);
        x[3 * width + BLOCK] = 1e6;
        x[4 * width] = 1e-40;
        for cpus in tiers() {
            let mut out = vec![0xaa; rows * blocked_row_len(width)];
            quantize_blocks(&cpus[0], width, &x, &mut out);
            for (x, row) in x.chunks(width).zip(out.chunks(blocked_row_len(width))) {
                let (codes, scales, sums) = read(row, width);
                for (index, &x) in x.iter().enumerate() {
                    let (scale, code) = (f64::from(scales[index / BLOCK]), f64::from(codes[index]));
                    let off = (scale * code - f64::from(x)).abs();
                    assert!(off <= scale * 0.5001 + 1e-36, "{x} became {} on {}", scale * code, cpus[0].tier());
                }
                for &scale in &scales {
                    let lifted = f64::from(scale) * f64::from(LIFT);
                    assert!(f64::from(scale * LIFT) == lifted, "{scale} on {} has too many digits", cpus[0].tier());
                }
                for (half, &sum) in sums.iter().enumerate() {
                    let codes = &codes[half * HALF_BLOCK..][..HALF_BLOCK];
                    assert_eq!(codes.iter().map(|&code| i16::from(code)).sum::<i16>(), sum);
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0_f32; 64];
            x[40] = wrong;
            for cpus in tiers() {
                let mut out = vec![0; blocked_row_len(64)];
                quantize_blocks(&cpus[0], 64, &x, &mut out);
                let (codes, scales, _) = read(&out, 64);
                assert!(scales[1].is_nan() && scales[0] > 0.0 && codes[..32].iter().all(|&code| code == 127));
            }
        }
    }
}
