//! Tensors as codes: integers at equal distances here, palettes and corrections of low rank next door.

use half::f16;

use super::{
    codes::{Codes, Levels},
    format::{Format, Kind},
    integers::{Integers, integers},
    low_rank, palette,
};
use crate::cpu::{Processor, share::map_rows};
use ondine_graph::{
    Bytes, DType, Result, Tensor, Weights,
    encoding::{ENCODING, INPUT_RANGE, LOW_RANK_A, LOW_RANK_B, LUT, SCALE, ZERO, code_bytes, pack_codes},
    fail,
};

/// A weight in few bits.
pub(super) struct Coded {
    /// Tensors by what their names add to that of the weight.
    parts: Vec<(&'static str, Tensor)>,
    /// What the weight stands for now.
    pub(super) values: Vec<f32>,
}

impl Coded {
    /// Bytes of all its tensors.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|(_, tensor)| tensor.bytes.len()).sum()
    }

    /// Keeps the range of what the weight is multiplied with, in which that becomes 8 bits.
    pub(super) fn set_range(&mut self, range: [f32; 2]) {
        self.parts.push((INPUT_RANGE, numbers(&range, &[2], false)));
    }

    /// True if what the weight is multiplied with loses digits too.
    pub(super) fn has_range(&self) -> bool {
        self.parts.iter().any(|(part, _)| *part == INPUT_RANGE)
    }

    /// Puts the tensors where the weight `path` was.
    pub(super) fn insert(&self, path: &str, weights: &mut Weights) {
        for (part, tensor) in &self.parts {
            weights.insert(&format!("{path}{part}"), tensor.clone());
        }
    }
}

/// The rows and columns that a weight is taken as.
pub(super) fn matrix(shape: &[usize]) -> [usize; 2] {
    match shape {
        [rows, columns @ ..] => [*rows, columns.iter().product()],
        [] => [1, 1],
    }
}

/// Encodes a weight of this shape.
///
/// # Errors
/// If it is empty, or holds an infinity or NaN.
pub(super) fn encode(values: &[f32], shape: &[usize], format: &Format, processor: &Processor) -> Result<Coded> {
    let [rows, columns] = matrix(shape);
    if values.is_empty() {
        fail!(Shape, "a weight without elements has no codes");
    }
    if !values.iter().all(|value| value.is_finite()) {
        fail!(Format, "the weight holds numbers that are not finite");
    }
    if format.kind == Kind::Rows8 && values.iter().any(|value| value.abs() > 127.0 * f16::MAX.to_f32()) {
        fail!(Unsupported, "the weight holds numbers that are too large for rows of 8 bits with scales of F16");
    }
    let quantize = |values: &[f32]| match format.kind {
        Kind::Rows8 => {
            integers(values, columns, &Integers { bits: 8, group: columns, symmetric: true, rows8: true }, processor)
        }
        Kind::Integer { bits, symmetric } => {
            let group = format.group_of(columns);
            integers(values, columns, &Integers { bits, group, symmetric, rows8: false }, processor)
        }
        Kind::Palette { bits } => {
            palette::palette(values, columns, bits, format.group.unwrap_or(rows).clamp(1, rows), processor)
        }
    };
    let (codes, correction) = if format.low_rank == 0 {
        (quantize(values), None)
    } else {
        let (codes, correction) = low_rank::correct(values, [rows, columns], format.low_rank, quantize, processor);
        (codes, Some(correction))
    };
    assemble(codes, correction, shape, format, processor)
}

fn assemble(
    codes: Codes,
    correction: Option<low_rank::Correction>,
    shape: &[usize],
    format: &Format,
    processor: &Processor,
) -> Result<Coded> {
    let [rows, columns] = matrix(shape);
    let Codes { codes, levels, group, half, mut values } = codes;
    if format.kind == Kind::Rows8 {
        let Levels::Integers { scales, .. } = levels else { fail!(Format, "rows of 8 bits are integers") };
        let centred: Vec<u8> = codes.iter().map(|code| code.wrapping_sub(128)).collect();
        let parts = vec![("", tensor(DType::I8, shape, &centred)), (SCALE, numbers(&scales, &[rows, 1], true))];
        return Ok(Coded { parts, values });
    }
    let bits = format.bits();
    let Some(row_bytes) = code_bytes(columns, bits) else { fail!(Shape, "rows of {columns} codes are too long") };
    let mut packed = vec![0; rows * row_bytes];
    map_rows(processor, &mut packed, row_bytes, |row, out| pack_codes(&codes[row * columns..][..columns], bits, out));
    let header: Vec<i64> = [bits as usize, group].iter().chain(shape).map(|&n| n as i64).collect();
    let header: Vec<u8> = header.iter().flat_map(|n| n.to_le_bytes()).collect();
    let mut parts = vec![
        ("", tensor(DType::U8, &[rows, row_bytes], &packed)),
        (ENCODING, tensor(DType::I64, &[header.len() / 8], &header)),
    ];
    match levels {
        Levels::Integers { scales, zeros } => {
            let shape = [rows, columns.div_ceil(group)];
            parts.push((SCALE, numbers(&scales, &shape, half)));
            parts.extend(zeros.map(|zeros| (ZERO, numbers(&zeros, &shape, true))));
        }
        Levels::Palette(tables) => parts.push((LUT, numbers(&tables, &[rows.div_ceil(group), 1 << bits], half))),
    }
    if let Some(low_rank::Correction { rank, a, b }) = correction {
        map_rows(processor, &mut values, columns, |row, out| low_rank::add(&b[row * rank..][..rank], &a, out));
        parts.push((LOW_RANK_A, numbers(&a, &[rank, columns], true)));
        parts.push((LOW_RANK_B, numbers(&b, &[rows, rank], true)));
    }
    Ok(Coded { parts, values })
}

fn tensor(dtype: DType, shape: &[usize], bytes: &[u8]) -> Tensor {
    Tensor { dtype, shape: shape.to_vec(), bytes: Bytes::from(bytes), file: "compressed".into() }
}

/// Numbers as F16, which they are already, or F32.
fn numbers(values: &[f32], shape: &[usize], half: bool) -> Tensor {
    if half {
        let bytes: Vec<u8> = values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        return tensor(DType::F16, shape, &bytes);
    }
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    tensor(DType::F32, shape, &bytes)
}
