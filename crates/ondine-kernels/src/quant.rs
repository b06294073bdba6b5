//! 8-bit numbers: activations quantized row by row as the network runs, weights once and for all.

pub(crate) mod blocks;

use blocks::{block_row, blocked_row_len};
use half::{bf16, f16};

use crate::{
    arch::{dot::WORD, enter::Kernel, isa::Isa, vector::Vector},
    cpu::Cpu,
    math::ROUND,
    number::Float,
    rowwise::{for_pieces, for_rows, max, min, piece_rows},
    threads::Pool,
};

/// How to read a row of quantized activations: `x = scale * (q - zero)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowScale {
    /// The distance between neighbouring values.
    pub scale: f32,
    /// The value that stands for exactly 0, in `0..=255`.
    pub zero: i32,
}

impl RowScale {
    /// The 256 values that span a range and zero.
    #[must_use]
    #[inline(always)]
    pub fn spanning(low: f32, high: f32) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = (high - low) / 255.0;
        let scale = if scale < f32::MIN_POSITIVE { 1.0 } else { scale };
        Self { scale, zero: ((-low * (1.0 / scale) + ROUND) - ROUND) as i32 }
    }

    /// Bytes that it takes at the end of a row.
    const BYTES: usize = 8;

    /// The scale of a row of [`quantized_row_len`] bytes.
    #[inline(always)]
    pub(crate) fn of_row(row: &[u8]) -> Self {
        let [scale, zero] = match row.last_chunk::<{ Self::BYTES }>() {
            Some(&[a, b, c, d, e, f, g, h]) => [[a, b, c, d], [e, f, g, h]],
            None => return Self { scale: f32::NAN, zero: 0 },
        };
        Self { scale: f32::from_ne_bytes(scale), zero: i32::from_ne_bytes(zero) }
    }
}

/// Bytes of a quantized row: `width` values, zeros up to a whole word, the scale and the zero.
///
/// Each row brings along how to read it, so that what quantizes yields a single value, of rows of equal length.
#[must_use]
pub fn quantized_row_len(width: usize) -> usize {
    width.next_multiple_of(WORD) + RowScale::BYTES
}

/// Where the results of a kernel go that works row by row.
#[derive(Debug)]
pub enum RowsOut<'a, T> {
    /// One after the other.
    Plain(&'a mut [T]),
    /// One after the other, rounded to bf16.
    Bf16(&'a mut [bf16]),
    /// Quantized, each in [`quantized_row_len`] bytes: with this scale, beyond whose range numbers are cut off, or with
    /// one that spans the row.
    Quantized(&'a mut [u8], Option<RowScale>),
    /// Quantized in blocks, each in [`blocked_row_len`](crate::blocked_row_len) bytes.
    Blocks(&'a mut [u8]),
}

impl<'a, T> From<&'a mut [T]> for RowsOut<'a, T> {
    fn from(out: &'a mut [T]) -> Self {
        Self::Plain(out)
    }
}

impl<'a, T> From<&'a mut Vec<T>> for RowsOut<'a, T> {
    fn from(out: &'a mut Vec<T>) -> Self {
        Self::Plain(out)
    }
}

impl<T: Float> RowsOut<'_, T> {
    /// Rows of `width` elements.
    ///
    /// # Panics
    /// If there are no whole rows.
    pub(crate) fn rows(&self, width: usize) -> usize {
        let (len, row) = match self {
            Self::Plain(out) => (out.len(), width),
            Self::Bf16(out) => (out.len(), width),
            Self::Quantized(out, _) => (out.len(), quantized_row_len(width)),
            Self::Blocks(out) => (out.len(), blocked_row_len(width)),
        };
        assert!(len == 0 || row > 0 && len.is_multiple_of(row), "the output is not rows of {width} elements");
        len.checked_div(row).unwrap_or(0)
    }

    /// Calls `body` with pieces of up to `rows` rows and the index of their first, on the threads of `pool`.
    pub(crate) fn for_rows(self, pool: &Pool, width: usize, rows: usize, body: impl Fn(usize, RowsOut<'_, T>) + Sync) {
        match self {
            Self::Plain(out) => for_rows(pool, out, width, rows, |first, out| body(first, RowsOut::Plain(out))),
            Self::Bf16(out) => for_rows(pool, out, width, rows, |first, out| body(first, RowsOut::Bf16(out))),
            Self::Quantized(out, scale) => {
                let len = quantized_row_len(width);
                for_rows(pool, out, len, rows, |first, out| body(first, RowsOut::Quantized(out, scale)));
            }
            Self::Blocks(out) => {
                for_rows(pool, out, blocked_row_len(width), rows, |first, out| body(first, RowsOut::Blocks(out)));
            }
        }
    }

    /// Lets `fill` write the numbers of rows of `width` elements, then stores them from row `first` on; by way of
    /// `scratch`, which has room for them.
    #[inline(always)]
    pub(crate) fn store<V: Vector>(
        &mut self,
        first: usize,
        width: usize,
        scratch: &mut [f32],
        fill: impl FnOnce(&mut [f32]),
    ) {
        // `fill` has one place to be called from, so that it is compiled with the instructions of the tier.
        let plain = first * width..first * width + scratch.len();
        fill(match self {
            Self::Plain(out) => T::lanes(&mut out[plain.clone()], scratch),
            Self::Bf16(_) | Self::Quantized(..) | Self::Blocks(_) => scratch,
        });
        match self {
            Self::Plain(out) => T::narrow_all(&mut out[plain], scratch),
            Self::Bf16(out) => bf16::narrow_all(&mut out[plain], scratch),
            Self::Quantized(out, scale) => {
                let len = quantized_row_len(width);
                for (row, out) in scratch.chunks_exact(width).zip(out[first * len..].chunks_exact_mut(len)) {
                    quantize_into(row, *scale, out);
                }
            }
            Self::Blocks(out) => {
                let len = blocked_row_len(width);
                for (row, out) in scratch.chunks_exact(width).zip(out[first * len..].chunks_exact_mut(len)) {
                    block_row::<V, f32>(row, out);
                }
            }
        }
    }
}

/// Quantizes each row of `x`, of `width` elements, to the 256 values that span it and zero.
///
/// The error is at most half a `scale`, that is (max - min) / 510 with zero among them. A row of zeros has the scale 1.
/// A row that holds NaN or an infinity gets the scale NaN and zeros: it stays wrong in what follows.
///
/// # Panics
/// If `x` and `out` differ in length, or are not as many rows of `width` elements as there are `scales`.
pub fn quantize_rows<T: Float>(cpu: &Cpu, width: usize, x: &[T], out: &mut [u8], scales: &mut [RowScale]) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    assert_eq!(x.len(), width * scales.len(), "the input is not {} rows of {width} elements", scales.len());
    if x.is_empty() {
        scales.fill(RowScale { scale: 1.0, zero: 0 });
        return;
    }
    let rows = piece_rows(width);
    let pieces = x.chunks(rows * width).zip(out.chunks_mut(rows * width)).zip(scales.chunks_mut(rows));
    for_pieces(cpu.pool(), pieces.collect(), |_, ((x, out), scales)| {
        cpu.enter(QuantizeRows { width, x, out, scales });
    });
}

/// Quantizes each row of `x`, of `width` elements, as [`quantize_rows`] does, to rows of [`quantized_row_len`] bytes;
/// with `scale`, if there is one, beyond whose range numbers are cut off.
///
/// # Panics
/// If `x` is not rows of `width` elements, or `out` not as many quantized rows.
pub fn quantize_beside<T: Float>(cpu: &Cpu, width: usize, x: &[T], scale: Option<RowScale>, out: &mut [u8]) {
    let len = quantized_row_len(width);
    assert!(x.is_empty() || x.len().is_multiple_of(width), "the input is not rows of {width} elements");
    assert_eq!(out.len(), x.len().checked_div(width).unwrap_or(0) * len, "the output is not as many quantized rows");
    for_rows(cpu.pool(), out, len, piece_rows(width), |first, out| {
        let x = &x[first * width..][..out.len() / len * width];
        cpu.enter(QuantizeBeside { width, x, scale, out });
    });
}

/// Quantizes each row of weights `[rows, width]` to -127..=127 with one `f16` scale, so that `w = scale * q`.
///
/// The scale is rounded up, so no weight is cut off unless one exceeds 127 times the largest `f16`. The error is at
/// most half a scale. `sums` gets the sum of each row of `out`, which corrects products with activations whose zero
/// is not 0. A row that holds NaN or an infinity gets the scale NaN and zeros.
///
/// # Panics
/// If `weights` and `out` differ in length, or are not as many rows of `width` as there are `scales` and `sums`.
pub fn quantize_weights<T: Float>(
    cpu: &Cpu,
    width: usize,
    weights: &[T],
    out: &mut [i8],
    scales: &mut [f16],
    sums: &mut [i32],
) {
    assert_eq!(weights.len(), out.len(), "input and output differ in length");
    assert_eq!(weights.len(), width * scales.len(), "the input is not {} rows of {width} elements", scales.len());
    assert_eq!(scales.len(), sums.len(), "scales and sums differ in length");
    if weights.is_empty() {
        scales.fill(f16::ZERO);
        sums.fill(0);
        return;
    }
    let rows = piece_rows(width);
    let results = out.chunks_mut(rows * width).zip(scales.chunks_mut(rows).zip(sums.chunks_mut(rows)));
    let pieces = weights.chunks(rows * width).zip(results);
    for_pieces(cpu.pool(), pieces.collect(), |_, (x, (out, (scales, sums)))| {
        cpu.enter(QuantizeWeights { width, x, out, scales, sums });
    });
}

/// `out = scale * q` for rows of `width` elements, one scale for each row.
///
/// # Panics
/// If `q` and `out` differ in length, or are not as many rows of `width` elements as there are `scales`.
pub fn dequantize_rows<T: Float>(cpu: &Cpu, width: usize, q: &[i8], scales: &[f16], out: &mut [T]) {
    assert_eq!(q.len(), out.len(), "input and output differ in length");
    assert_eq!(q.len(), width * scales.len(), "the input is not {} rows of {width} elements", scales.len());
    if q.is_empty() {
        return;
    }
    let rows = piece_rows(width);
    let pieces = q.chunks(rows * width).zip(scales.chunks(rows)).zip(out.chunks_mut(rows * width));
    for_pieces(cpu.pool(), pieces.collect(), |_, ((q, scales), out)| {
        cpu.enter(DequantizeRows { width, q, scales, out });
    });
}

/// A piece of [`quantize_rows`].
pub(crate) struct QuantizeRows<'a, T> {
    width: usize,
    x: &'a [T],
    out: &'a mut [u8],
    scales: &'a mut [RowScale],
}

impl<T: Float> Kernel for QuantizeRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let rows = self.x.chunks_exact(self.width).zip(self.out.chunks_exact_mut(self.width));
        for ((x, out), result) in rows.zip(self.scales) {
            *result = quantize_row(x, out);
        }
    }
}

/// A piece of [`quantize_beside`].
pub(crate) struct QuantizeBeside<'a, T> {
    width: usize,
    x: &'a [T],
    scale: Option<RowScale>,
    out: &'a mut [u8],
}

impl<T: Float> Kernel for QuantizeBeside<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let rows = self.out.chunks_exact_mut(quantized_row_len(self.width));
        for (x, out) in self.x.chunks_exact(self.width).zip(rows) {
            quantize_into(x, self.scale, out);
        }
    }
}

/// Quantizes a row into [`quantized_row_len`] bytes.
#[inline(always)]
fn quantize_into<T: Float>(x: &[T], scale: Option<RowScale>, out: &mut [u8]) {
    let (values, rest) = out.split_at_mut(x.len());
    let RowScale { scale, zero } = match scale {
        Some(scale) => quantize_row_with(x, scale, values),
        None => quantize_row(x, values),
    };
    rest.fill(0);
    if let Some(at) = rest.last_chunk_mut::<{ RowScale::BYTES }>() {
        let ([a, b, c, d], [e, f, g, h]) = (scale.to_ne_bytes(), zero.to_ne_bytes());
        *at = [a, b, c, d, e, f, g, h];
    }
}

#[inline(always)]
fn quantize_row<T: Float>(x: &[T], out: &mut [u8]) -> RowScale {
    let (low, high) = row_range(x);
    let range = high - low;
    if !range.is_finite() {
        out.fill(0);
        return RowScale { scale: f32::NAN, zero: 0 };
    }
    let scale = RowScale::spanning(low, high);
    write_row(x, scale, out);
    scale
}

/// Quantizes a row with a scale that was chosen before. One that holds NaN gets the scale NaN and zeros.
#[inline(always)]
fn quantize_row_with<T: Float>(x: &[T], scale: RowScale, out: &mut [u8]) -> RowScale {
    let wrong = x.iter().fold(false, |wrong, x| wrong | x.widen().is_nan());
    if wrong {
        out.fill(0);
        return RowScale { scale: f32::NAN, zero: 0 };
    }
    write_row(x, scale, out);
    scale
}

#[inline(always)]
fn write_row<T: Float>(x: &[T], RowScale { scale, zero }: RowScale, out: &mut [u8]) {
    let (inverse, zero) = (1.0 / scale, zero as f32);
    for (out, x) in out.iter_mut().zip(x) {
        *out = (within(x.widen() * inverse, -zero, 255.0 - zero) + (ROUND + zero)).to_bits() as u8;
    }
}

/// A piece of [`quantize_weights`].
pub(crate) struct QuantizeWeights<'a, T> {
    width: usize,
    x: &'a [T],
    out: &'a mut [i8],
    scales: &'a mut [f16],
    sums: &'a mut [i32],
}

impl<T: Float> Kernel for QuantizeWeights<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let rows = self.x.chunks_exact(self.width).zip(self.out.chunks_exact_mut(self.width));
        for ((x, out), (result, sum)) in rows.zip(self.scales.iter_mut().zip(self.sums)) {
            let (low, high) = row_range(x);
            let largest = high.max(-low);
            *sum = 0;
            if !(high - low).is_finite() {
                *result = f16::NAN;
                out.fill(0);
                continue;
            }
            *result = scale_for(largest);
            let inverse = if *result == f16::ZERO { 0.0 } else { 1.0 / result.to_f32() };
            for (out, x) in out.iter_mut().zip(x) {
                *out = (within(x.widen() * inverse, -127.0, 127.0) + ROUND).to_bits() as i8;
            }
            *sum = out.iter().map(|&q| i32::from(q)).sum();
        }
    }
}

/// The smallest finite `f16` of which 127 reach `largest`.
fn scale_for(largest: f32) -> f16 {
    let scale = f16::from_f32((largest / 127.0).min(f16::MAX.to_f32()));
    if scale.to_f32() * 127.0 < largest && scale < f16::MAX { f16::from_bits(scale.to_bits() + 1) } else { scale }
}

/// A piece of [`dequantize_rows`].
pub(crate) struct DequantizeRows<'a, T> {
    width: usize,
    q: &'a [i8],
    scales: &'a [f16],
    out: &'a mut [T],
}

impl<T: Float> Kernel for DequantizeRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let rows = self.q.chunks_exact(self.width).zip(self.out.chunks_exact_mut(self.width));
        for ((q, out), scale) in rows.zip(self.scales) {
            let scale = scale.to_f32();
            for (out, &q) in out.iter_mut().zip(q) {
                *out = T::narrow(scale * f32::from(q));
            }
        }
    }
}

/// The smallest and the largest element of a row and zero; NaN if it holds one.
#[inline(always)]
fn row_range<T: Float>(row: &[T]) -> (f32, f32) {
    let (low, high) = (min(row), max(row));
    (if low > 0.0 { 0.0 } else { low }, if high < 0.0 { 0.0 } else { high })
}

/// `x`, or the end of the range that it is beyond.
#[inline(always)]
fn within(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}
