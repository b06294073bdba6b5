//! Weights in few bits: what a file stores in place of a tensor, and the numbers that this stands for.
//!
//! A weight `W` of shape `[rows, ..]` is taken as rows of `columns` elements. In a file it is
//!
//! - `W`: U8 `[rows, ceil(columns * bits / 8)]`, the codes of a row one after the other, the first in the lowest bits;
//! - `W.encoding`: I64, the bits of a code (2, 4, 6 or 8), the size of a group, then the shape of the weight;
//! - of integers `W.scale`: F16 or F32 `[rows, groups]`, each for a group of consecutive elements of a row, of which
//!   the last may have fewer; and `W.zero`: F16 of the same shape, unless it is [`symmetric_zero`] everywhere;
//! - of a palette `W.lut`: F16 or F32 `[tables, 2^bits]`, each for a group of consecutive rows;
//! - of either, if a correction of low rank was kept, `W.low_rank.a`: F16 `[rank, columns]` and `W.low_rank.b`: F16
//!   `[rows, rank]`.
//!
//! It stands for `scale * (code - zero)` or `lut[code]`, plus `b * a`, the products added in the order of the rank; all
//! in f32, each operation rounded.

use half::f16;
use serde::Serialize;

use crate::{
    cpu::{self, Coding},
    dtype::DType,
    error::{Result, fail},
    ndarray::element_count,
    weights::{Tensor, Weights},
};

/// The names, after that of the weight, of the tensors that belong to it.
pub(crate) const ENCODING: &str = ".encoding";
pub(crate) const SCALE: &str = ".scale";
pub(crate) const ZERO: &str = ".zero";
pub(crate) const LUT: &str = ".lut";
pub(crate) const LOW_RANK_A: &str = ".low_rank.a";
pub(crate) const LOW_RANK_B: &str = ".low_rank.b";

/// Beside weights of type I8 with a scale: F32, the lowest and the highest number that they are multiplied with. Such
/// products have activations of 8 bits, whose scale follows from that.
pub(crate) const INPUT_RANGE: &str = ".input_range";

/// What the name of a weight ends with that stands for the codes alone, without their correction. No file has it.
pub(crate) const CODES: &str = "#codes";

/// All of them.
pub(crate) const PARTS: [&str; 7] = [ENCODING, SCALE, ZERO, LUT, LOW_RANK_A, LOW_RANK_B, INPUT_RANGE];

/// The most dimensions of a weight that is encoded.
const MAX_RANK: usize = 8;

/// How codes become numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) enum Levels {
    /// At equal distances.
    Integers {
        /// True if the code that stands for 0 is stored for each group.
        zeros: bool,
    },
    /// From a table.
    Palette,
}

/// How a weight is encoded: all but the numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct Encoding {
    /// Of a code.
    pub(crate) bits: u32,
    pub(crate) levels: Levels,
    /// Elements of a row with one scale, or rows with one table.
    pub(crate) group: usize,
    /// True if scales or tables are F16.
    pub(crate) half: bool,
    /// Rank of the correction; 0 if there is none.
    pub(crate) rank: usize,
    /// Of the weight.
    pub(crate) shape: Vec<usize>,
}

/// An encoded weight, its parts checked against each other.
pub(crate) struct Encoded<'a> {
    pub(crate) encoding: Encoding,
    /// Rows of [`Encoded::row_bytes`].
    pub(crate) codes: &'a [u8],
    pub(crate) scales: Vec<f32>,
    pub(crate) zeros: Vec<f32>,
    pub(crate) tables: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
}

/// The code that stands for 0 in symmetric integers: the middle, which with 2 bits lies between two codes, since four
/// levels on both sides of 0 are worth more than three and a zero.
pub(crate) fn symmetric_zero(bits: u32) -> f32 {
    if bits == 2 { 1.5 } else { f32::from(1_u8 << (bits - 1)) }
}

/// Bytes of `count` codes.
pub(crate) fn code_bytes(count: usize, bits: u32) -> Option<usize> {
    Some(count.checked_mul(bits as usize)?.div_ceil(8))
}

/// Writes codes one after the other, the first in the lowest bits.
pub(crate) fn pack_codes(codes: &[u8], bits: u32, out: &mut [u8]) {
    out.fill(0);
    for (index, &code) in codes.iter().enumerate() {
        let (byte, shift) = (index * bits as usize / 8, index * bits as usize % 8);
        let word = u16::from(code) << shift;
        out[byte] |= word as u8;
        if let Some(next) = out.get_mut(byte + 1) {
            *next |= (word >> 8) as u8;
        }
    }
}

/// Code `index` of those that [`pack_codes`] wrote.
pub(crate) fn code_at(packed: &[u8], bits: u32, index: usize) -> u8 {
    let (byte, shift) = (index * bits as usize / 8, index * bits as usize % 8);
    let next = packed.get(byte + 1).copied().unwrap_or(0);
    let word = u16::from_le_bytes([packed[byte], next]) >> shift;
    (word & ((1 << bits) - 1)) as u8
}

impl Encoding {
    /// Rows and elements of a row.
    pub(crate) fn size(&self) -> [usize; 2] {
        let rows = self.shape[0];
        [rows, self.shape[1..].iter().product()]
    }

    /// Groups of a row.
    pub(crate) fn groups(&self) -> usize {
        self.size()[1].div_ceil(self.group)
    }
}

impl Weights {
    /// The parts of the weight `path`, if it is encoded.
    ///
    /// # Errors
    /// If they do not fit each other.
    pub(crate) fn encoded(&self, path: &str) -> Result<Option<Encoded<'_>>> {
        let whole = path;
        let path = path.strip_suffix(CODES).unwrap_or(path);
        let Some(header) = self.get(&format!("{path}{ENCODING}")) else { return Ok(None) };
        let Some(codes) = self.get(path) else { return Ok(None) };
        let part = |name: &str| self.get(&format!("{path}{name}"));
        let (scale, zero, lut) = (part(SCALE), part(ZERO), part(LUT));
        let (bits, group, shape) = read_header(path, header)?;
        let levels = match (scale, lut) {
            (Some(_), None) => Levels::Integers { zeros: zero.is_some() },
            (None, Some(_)) if zero.is_none() => Levels::Palette,
            _ => fail!(Format, "{}: `{path}` needs either `.scale` or `.lut`", header.file),
        };
        let values = scale.or(lut);
        let half = values.is_some_and(|tensor| tensor.dtype == DType::F16);
        let corrected = whole == path && (part(LOW_RANK_A).is_some() || part(LOW_RANK_B).is_some());
        let rank = part(LOW_RANK_A).filter(|_| corrected).and_then(|a| a.shape.first().copied()).unwrap_or(0);
        let encoding = Encoding { bits, levels, group, half, rank, shape };
        let [rows, columns] = encoding.size();
        let row_bytes = code_bytes(columns, bits);
        if codes.dtype != DType::U8 || row_bytes.and_then(|len| len.checked_mul(rows)) != Some(codes.bytes.len()) {
            let (file, shape) = (&codes.file, &encoding.shape);
            fail!(Format, "{file}: `{path}` has {} bytes, not the {bits}-bit codes of {shape:?}", codes.bytes.len());
        }
        let read = |name: &str, wanted: [usize; 2], wide: bool| self.read_part(&format!("{path}{name}"), wanted, wide);
        let mut encoded = Encoded {
            codes: &codes.bytes,
            scales: vec![],
            zeros: vec![],
            tables: vec![],
            a: vec![],
            b: vec![],
            encoding,
        };
        let groups = encoded.encoding.groups();
        match levels {
            Levels::Integers { zeros } => {
                encoded.scales = read(SCALE, [rows, groups], true)?;
                if zeros {
                    encoded.zeros = read(ZERO, [rows, groups], false)?;
                }
            }
            Levels::Palette => encoded.tables = read(LUT, [rows.div_ceil(group), 1 << bits], true)?,
        }
        if corrected {
            encoded.a = read(LOW_RANK_A, [rank, columns], false)?;
            encoded.b = read(LOW_RANK_B, [rows, rank], false)?;
        }
        Ok(Some(encoded))
    }

    /// How kernels read the codes of a weight, if it has some that they read.
    pub(crate) fn coding(&self, path: &str) -> Option<Coding> {
        if self.input_range(path).is_some() {
            return Some(Coding::ROWS8);
        }
        self.encoded(path).ok()??.coding()
    }

    /// The rank of the correction of a weight whose codes kernels read, if it has one.
    pub(crate) fn corrected(&self, path: &str) -> Option<usize> {
        self.coding(&format!("{path}{CODES}"))?;
        let rank = self.encoded(path).ok()??.encoding.rank;
        (rank > 0).then_some(rank)
    }

    /// The range of what the weight is multiplied with, if it is one for activations of 8 bits.
    pub(crate) fn input_range(&self, path: &str) -> Option<[f32; 2]> {
        let tensor = self.get(path).filter(|tensor| tensor.dtype == DType::I8 && tensor.shape.len() == 2)?;
        let range = self.get(&format!("{path}{INPUT_RANGE}")).filter(|range| range.dtype == DType::F32)?;
        let (&[low, high], []) = range.bytes.as_chunks::<4>() else { return None };
        let [low, high] = [low, high].map(f32::from_le_bytes);
        (tensor.shape[0] > 0 && low.is_finite() && high.is_finite() && low <= high).then_some([low, high])
    }

    /// A matrix of floating-point numbers that belongs to an encoded weight.
    fn read_part(&self, path: &str, wanted: [usize; 2], wide: bool) -> Result<Vec<f32>> {
        let Some(tensor) = self.get(path) else { fail!(Missing, "tensor `{path}` is missing") };
        if tensor.shape != wanted || !(tensor.dtype == DType::F16 || wide && tensor.dtype == DType::F32) {
            let (file, dtype, shape) = (&tensor.file, tensor.dtype, &tensor.shape);
            fail!(Format, "{file}: `{path}` is {dtype} {shape:?}, wanted F16 {wanted:?}");
        }
        let numbers: Vec<f32> = match tensor.dtype {
            DType::F16 => tensor.bytes.as_chunks().0.iter().map(|&pair| f16::from_le_bytes(pair).to_f32()).collect(),
            _ => tensor.bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect(),
        };
        if !numbers.iter().all(|x| x.is_finite()) {
            fail!(Format, "{}: `{path}` holds numbers that are not finite", tensor.file);
        }
        Ok(numbers)
    }
}

/// Bits, group and shape.
fn read_header(path: &str, header: &Tensor) -> Result<(u32, usize, Vec<usize>)> {
    let numbers: Vec<i64> = header.bytes.as_chunks().0.iter().map(|&word| i64::from_le_bytes(word)).collect();
    let sizes: Option<Vec<usize>> = numbers.iter().map(|&n| usize::try_from(n).ok()).collect();
    let known = header.dtype == DType::I64 && header.shape.len() == 1;
    match sizes.as_deref() {
        Some([bits @ (2 | 4 | 6 | 8), group, shape @ ..])
            if known
                && *group > 0
                && (1..=MAX_RANK).contains(&shape.len())
                && element_count(shape).is_some_and(|n| n > 0) =>
        {
            Ok((*bits as u32, *group, shape.to_vec()))
        }
        _ => fail!(Format, "{}: `{path}{ENCODING}` holds {numbers:?}, which no encoding has", header.file),
    }
}

impl Encoded<'_> {
    /// Bytes of a row of codes.
    pub(crate) fn row_bytes(&self) -> usize {
        self.codes.len() / self.encoding.shape[0]
    }

    /// The codes, a byte each.
    pub(crate) fn codes(&self) -> Vec<u8> {
        let columns = self.encoding.size()[1];
        let rows = self.codes.chunks_exact(self.row_bytes());
        rows.flat_map(|row| (0..columns).map(|index| code_at(row, self.encoding.bits, index))).collect()
    }

    /// How kernels for matrix products read the codes, if they can: scales and zeros of F16 or one table, no
    /// correction.
    fn coding(&self) -> Option<Coding> {
        let &Encoding { bits, levels, group, half, rank, ref shape } = &self.encoding;
        let levels = match levels {
            Levels::Palette if bits <= 4 && group >= shape[0] => cpu::Levels::Table,
            Levels::Integers { zeros: true } if bits != 6 && half => cpu::Levels::Zeros,
            Levels::Integers { zeros: false } if bits != 6 && half => cpu::Levels::Symmetric,
            _ => return None,
        };
        let columns = self.encoding.size()[1];
        let group = if levels == cpu::Levels::Table { columns } else { group.min(columns) };
        (shape.len() == 2 && rank == 0).then_some(Coding { bits, group, levels })
    }

    /// The numbers that the weight stands for.
    pub(crate) fn decode(&self) -> Vec<f32> {
        let [rows, columns] = self.encoding.size();
        let mut values = vec![0.0; rows * columns];
        for (row, out) in values.chunks_exact_mut(columns).enumerate() {
            self.decode_row(row, out);
        }
        values
    }

    /// The numbers of one row.
    pub(crate) fn decode_row(&self, row: usize, out: &mut [f32]) {
        let &Encoding { bits, levels, group, rank, .. } = &self.encoding;
        let row_bytes = self.row_bytes();
        let codes = &self.codes[row * row_bytes..][..row_bytes];
        match levels {
            Levels::Palette => {
                let table = &self.tables[(row / group) << bits..][..1 << bits];
                for (index, value) in out.iter_mut().enumerate() {
                    *value = table[usize::from(code_at(codes, bits, index))];
                }
            }
            Levels::Integers { .. } => {
                let groups = self.encoding.groups();
                for (index, values) in out.chunks_mut(group).enumerate() {
                    let scale = self.scales[row * groups + index];
                    let zero = self.zeros.get(row * groups + index).copied().unwrap_or(symmetric_zero(bits));
                    for (value, at) in values.iter_mut().zip(index * group..) {
                        *value = scale * (f32::from(code_at(codes, bits, at)) - zero);
                    }
                }
            }
        }
        for (r, b) in self.b[row * rank..][..rank].iter().enumerate() {
            let a = &self.a[r * out.len()..][..out.len()];
            out.iter_mut().zip(a).for_each(|(value, a)| *value += b * a);
        }
    }
}
