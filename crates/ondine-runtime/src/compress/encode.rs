//! Tensors as codes: integers at equal distances here, palettes and corrections of low rank next door.

use half::f16;

use super::{
    format::{Format, Kind},
    low_rank, palette,
};
use crate::cpu::{
    Processor,
    share::{map, map_rows},
};
use ondine_graph::{
    Bytes, DType, Result, Tensor, Weights,
    encoding::{ENCODING, LOW_RANK_A, LOW_RANK_B, LUT, SCALE, ZERO, code_bytes, pack_codes, symmetric_zero},
    fail,
};

/// F16 loses digits below this, so smaller scales and tables are F32.
const LEAST_HALF: f32 = 1.0 / 8192.0;

/// The codes of a matrix, one per element, and the numbers that they stand for.
#[derive(Clone)]
pub(super) struct Codes {
    pub(super) codes: Vec<u8>,
    pub(super) levels: Levels,
    /// Elements of a row with one scale, or rows with one table.
    pub(super) group: usize,
    /// True if the numbers of `levels` are F16.
    pub(super) half: bool,
    /// What the codes stand for.
    pub(super) values: Vec<f32>,
}

/// See [`Codes`].
#[derive(Clone)]
pub(super) enum Levels {
    Integers { scales: Vec<f32>, zeros: Option<Vec<f32>> },
    Palette(Vec<f32>),
}

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
    Ok(assemble(codes, correction, shape, format, processor))
}

fn assemble(
    codes: Codes,
    correction: Option<low_rank::Correction>,
    shape: &[usize],
    format: &Format,
    processor: &Processor,
) -> Coded {
    let [rows, columns] = matrix(shape);
    let Codes { codes, levels, group, half, mut values } = codes;
    if format.kind == Kind::Rows8 {
        let Levels::Integers { scales, .. } = levels else { unreachable!("rows of 8 bits are integers") };
        let centred: Vec<u8> = codes.iter().map(|code| code.wrapping_sub(128)).collect();
        let parts = vec![("", tensor(DType::I8, shape, &centred)), (SCALE, numbers(&scales, &[rows, 1], true))];
        return Coded { parts, values };
    }
    let bits = format.bits();
    let row_bytes = code_bytes(columns, bits).expect("the codes are in memory");
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
    Coded { parts, values }
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

/// How integers are fitted.
struct Integers {
    bits: u32,
    /// Elements with one scale; at least one.
    group: usize,
    symmetric: bool,
    /// True if they are to be multiplied with integers: -127..=127, and scales of F16 whatever their size.
    rows8: bool,
}

/// The numbers of a group: `scale * (code - zero)`.
#[derive(Clone, Copy)]
struct Grid {
    scale: f32,
    zero: f32,
}

impl Grid {
    /// Of the scale; 0 if all numbers are 0, or next to it.
    fn inverse(self) -> f32 {
        let inverse = 1.0 / self.scale;
        if inverse.is_finite() { inverse } else { 0.0 }
    }
}

fn integers(values: &[f32], columns: usize, how: &Integers, processor: &Processor) -> Codes {
    let group = how.group.min(columns);
    let largest =
        values.chunks(columns).flat_map(|row| row.chunks(group)).map(|values| how.covering(range(values), 1.0).scale);
    let largest = largest.fold(0.0, f32::max);
    let half = how.rows8 || (LEAST_HALF..f16::MAX.to_f32()).contains(&largest) || largest == 0.0;
    let rows = values.len() / columns;
    let coded = map(processor, rows, |row| {
        let (mut codes, mut grids, mut values_of) = (Vec::new(), Vec::new(), Vec::new());
        for values in values[row * columns..][..columns].chunks(group) {
            let grid = how.fit(values, half);
            let inverse = grid.inverse();
            for &value in values {
                let code = how.code(grid, inverse, value);
                codes.push(code as u8);
                values_of.push(grid.scale * (code - grid.zero));
            }
            grids.push(grid);
        }
        (codes, grids, values_of)
    });
    let (mut codes, mut grids, mut decoded) =
        (Vec::with_capacity(values.len()), vec![], Vec::with_capacity(values.len()));
    for (row, of_row, values) in coded {
        codes.extend(row);
        grids.extend(of_row);
        decoded.extend(values);
    }
    let scales = grids.iter().map(|grid| grid.scale).collect();
    let zeros = (!how.symmetric).then(|| grids.iter().map(|grid| grid.zero).collect());
    Codes { codes, levels: Levels::Integers { scales, zeros }, group, half, values: decoded }
}

impl Integers {
    fn top(&self) -> f32 {
        f32::from((1_u16 << self.bits) - 1)
    }

    /// The nearest code, as a number; `inverse` is that of the scale.
    #[inline(always)]
    fn code(&self, grid: Grid, inverse: f32, value: f32) -> f32 {
        // Adding 1.5 * 2^23 rounds to integers, in any lane of a vector.
        const ROUND: f32 = 12_582_912.0;
        ((value * inverse + grid.zero).clamp(0.0, self.top()) + ROUND) - ROUND
    }

    /// The grid that reaches `share` of the way to both ends of a range.
    fn covering(&self, (low, high): (f32, f32), share: f32) -> Grid {
        let (low, high) = (low * share, high * share);
        if self.rows8 {
            return Grid { scale: high.max(-low) / 127.0, zero: 128.0 };
        }
        if self.symmetric {
            let zero = symmetric_zero(self.bits);
            return Grid { scale: (high / (self.top() - zero)).max(-low / zero), zero };
        }
        let scale = high / self.top() - low / self.top();
        let zero = if scale > 0.0 { -low / scale } else { 0.0 };
        // Two bits leave no code to spare for an exact 0.
        Grid { scale, zero: if self.bits == 2 { f16::from_f32(zero).to_f32() } else { zero.round_ties_even() } }
    }

    /// The grid of least squared error: with few codes, it is better to cut off what is rare.
    fn fit(&self, values: &[f32], half: bool) -> Grid {
        let rounded = |grid: Grid| Grid { scale: if half { half_above(grid.scale) } else { grid.scale }, ..grid };
        let range = range(values);
        let (step, least) = match self.bits {
            2 => (0.04, 18),
            4 => (0.04, 10),
            _ => return rounded(self.covering(range, 1.0)),
        };
        let error = |grid: Grid| -> f64 {
            let inverse = grid.inverse();
            let squared = |&value: &f32| {
                let off = self.code(grid, inverse, value) - grid.zero - value * inverse;
                off * off
            };
            let mut sums = [0.0_f32; 16];
            let (chunks, rest) = values.as_chunks::<16>();
            for chunk in chunks {
                sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += squared(value));
            }
            let steps = sums.iter().sum::<f32>() + rest.iter().map(squared).sum::<f32>();
            f64::from(grid.scale).powi(2) * f64::from(steps)
        };
        let grids = (0..=least).map(|i| rounded(self.covering(range, 1.0 - step * i as f32)));
        let mut best = (f64::INFINITY, rounded(self.covering(range, 1.0)));
        for grid in grids {
            let error = error(grid);
            if error < best.0 {
                best = (error, grid);
            }
        }
        best.1
    }
}

/// The smallest and the largest of the values and zero.
fn range(values: &[f32]) -> (f32, f32) {
    values.iter().fold((0.0, 0.0), |(low, high), &x| (low.min(x), high.max(x)))
}

/// The smallest F16 that is not below `x`, which is none of the largest.
fn half_above(x: f32) -> f32 {
    let half = f16::from_f32(x);
    if half.to_f32() < x { f16::from_bits(half.to_bits() + 1).to_f32() } else { half.to_f32() }
}

/// Scales or tables as F16 if that keeps their digits, and whether it does.
pub(super) fn halved(mut values: Vec<f32>) -> (Vec<f32>, bool) {
    let largest = values.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    // A table has small numbers beside large ones, which need not keep more digits than these.
    let half = largest == 0.0 || (LEAST_HALF..f16::MAX.to_f32()).contains(&largest);
    if half {
        values.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32());
    }
    (values, half)
}
