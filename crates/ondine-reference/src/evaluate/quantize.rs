//! Rows of 8 bits: as many bytes as elements, zeros up to a multiple of four, then the scale as f32 and what stands for
//! zero as an integer of 32 bits.

use ondine_runtime::{DType, Prologue, Result};

use super::{
    norm::{group_norm, layer_norm, rms_norm},
    one,
};
use crate::{
    index::{count, rows},
    number::Real,
    tensor::{Tensor, misfit},
};

/// Bytes of the values of a row, whole words.
fn values_len(width: usize) -> usize {
    width.next_multiple_of(4)
}

/// The distance of the 256 values that span a range and zero, and the one that stands for zero.
fn span(low: f64, high: f64) -> (f32, i32) {
    let (low, high) = (low.min(0.0), high.max(0.0));
    let scale = ((high - low) / 255.0) as f32;
    let scale = if scale < f32::MIN_POSITIVE { 1.0 } else { scale };
    (scale, (-low / f64::from(scale)).round_ties_even() as i32)
}

fn quantize_row<R: Real>(row: &[R], range: Option<[f32; 2]>, out: &mut Vec<i64>) {
    let finite = row.iter().all(|x| x.value().is_finite());
    let fold = |better: fn(f64, f64) -> f64| row.iter().map(|x| x.value()).fold(0.0, better);
    let (scale, zero) = match range {
        Some([low, high]) => span(low.into(), high.into()),
        None if finite => span(fold(f64::min), fold(f64::max)),
        // It stays wrong in what follows.
        None => (f32::NAN, 0),
    };
    let value = |x: &R| (x.value() / f64::from(scale)).round_ties_even() + f64::from(zero);
    let values = row.iter().map(|x| value(x).clamp(0.0, 255.0) as i64);
    let padding = values_len(row.len()) - row.len();
    out.extend(values.chain(std::iter::repeat_n(0, padding)));
    out.extend(scale.to_ne_bytes().into_iter().chain(zero.to_ne_bytes()).map(i64::from));
}

pub(super) fn quantize<R: Real>(
    prologue: Prologue,
    range: Option<[f32; 2]>,
    inputs: &[&Tensor<R>],
    shape: &[usize],
) -> Result<Tensor<R>> {
    let normed = match prologue {
        Prologue::None => one(inputs)?.clone(),
        Prologue::LayerNorm { eps } => layer_norm(eps, inputs)?,
        Prologue::RmsNorm { eps } => rms_norm(eps, inputs)?,
        Prologue::GroupNorm { groups, eps, activation } => group_norm(groups, eps, activation, inputs)?,
    };
    let (outer, width) = rows(normed.shape());
    let (numbers, mut out) = (normed.reals()?, Vec::with_capacity(count(shape)));
    (0..outer).for_each(|row| quantize_row(&numbers[row * width..][..width], range, &mut out));
    Tensor::integer(DType::U8, shape, out)
}

/// The numbers that rows of 8 bits stand for, `width` in each.
///
/// # Errors
/// If they are no such rows.
pub fn dequantize<R: Real>(x: &Tensor<R>, width: usize) -> Result<Tensor<R>> {
    let len = values_len(width) + 8;
    let (mut shape, bytes) = (x.shape().to_vec(), x.integers()?);
    if shape.pop() != Some(len) || x.dtype() != DType::U8 {
        return Err(misfit(format!("{} {:?} are no rows of {width} numbers in 8 bits", x.dtype(), x.shape())));
    }
    shape.push(width);
    let word = |bytes: &[i64]| [bytes[0] as u8, bytes[1] as u8, bytes[2] as u8, bytes[3] as u8];
    let numbers = bytes.chunks(len).flat_map(|row| {
        let (scale, zero) = (f32::from_ne_bytes(word(&row[len - 8..])), i32::from_ne_bytes(word(&row[len - 4..])));
        row[..width].iter().map(move |&q| R::exact(f64::from(scale) * (q - i64::from(zero)) as f64))
    });
    Tensor::new(DType::F32, &shape, crate::Elements::Real(numbers.collect()))
}
