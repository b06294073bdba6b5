//! Reading weights in few bits: see [`encoding`](crate::encoding) for what a file holds of them.

use std::borrow::Cow;

use half::f16;

use crate::{
    block::{Block, GroupNumbers, Scales},
    dtype::DType,
    encoding::{
        BLOCKS, CODES, ENCODING, Encoding, FLOATS, INPUT_RANGE, LOW_RANK_A, LOW_RANK_B, LUT, Levels, SCALE, ZERO,
        code_at, symmetric_zero,
    },
    error::{Result, fail},
    float8::Float8,
    ndarray::element_count,
    weights::{Tensor, Weights},
};

/// The most dimensions of a weight that is encoded.
pub(super) const MAX_RANK: usize = 8;

/// An encoded weight, its parts checked against each other.
#[derive(Debug)]
pub struct Encoded<'a> {
    /// How it is encoded.
    pub encoding: Encoding,
    packed: &'a [u8],
    /// Of integers `[rows, groups]`.
    pub scales: Vec<f32>,
    /// As the scales; empty if the middle stands for 0.
    pub zeros: Vec<f32>,
    /// Palettes one after the other.
    pub tables: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
}

/// Codes, a byte each, with the scales and minima of their groups.
#[derive(Debug)]
pub struct Unpacked<'a> {
    /// `[rows, columns]`
    pub codes: Vec<u8>,
    /// `[rows, groups]`; none with a palette.
    pub scales: Cow<'a, [f32]>,
    /// As the scales, of block formats that have some.
    pub minima: Vec<f32>,
    /// Of each block, what its scales and its minima have to be multiplied with, of formats whose scales are
    /// [`Scales::Steps`].
    pub units: Vec<[f32; 2]>,
}

impl Weights {
    /// How the weight `path` is encoded, if it is: types and shapes of its parts are looked at, their numbers are not.
    ///
    /// # Errors
    /// If its parts do not fit each other.
    pub fn encoding(&self, path: &str) -> Result<Option<Encoding>> {
        let whole = path;
        let path = path.strip_suffix(CODES).unwrap_or(path);
        let (Some(header), Some(codes)) = (self.get(&format!("{path}{ENCODING}")), self.get(path)) else {
            return Ok(None);
        };
        let part = |name: &str| self.get(&format!("{path}{name}"));
        let (scale, zero, lut) = (part(SCALE), part(ZERO), part(LUT));
        let (kind, group, shape) = read_header(path, header)?;
        let (bits, levels) = match (kind, scale, lut) {
            (Kind::Codes(bits), Some(_), None) => (bits, Levels::Integers { zeros: zero.is_some() }),
            (Kind::Codes(bits), None, Some(_)) if zero.is_none() => (bits, Levels::Palette),
            (Kind::Codes(_), ..) => fail!(Format, "{}: `{path}` needs either `.scale` or `.lut`", header.file),
            (Kind::Blocks(block), None, None) if group == block.elements() => (u8::BITS, Levels::Blocks(block)),
            (Kind::Blocks(block), ..) => fail!(Format, "{}: `{path}` is no weight in {block} blocks", header.file),
            (Kind::Floats(format), scale, None) if zero.is_none() => {
                (u8::BITS, Levels::Floats { format, scaled: scale.is_some() })
            }
            (Kind::Floats(format), ..) => fail!(Format, "{}: `{path}` is no weight in {format}", header.file),
        };
        let half = scale.or(lut).is_some_and(|tensor| tensor.dtype == DType::F16);
        let corrected = whole == path && (part(LOW_RANK_A).is_some() || part(LOW_RANK_B).is_some());
        let rank = part(LOW_RANK_A).filter(|_| corrected).and_then(|a| a.shape.first().copied());
        let encoding = Encoding { bits, levels, group, half, rank: rank.unwrap_or(0), shape };
        let bytes = encoding.row_bytes().and_then(|len| len.checked_mul(encoding.size()[0]));
        if codes.dtype != DType::U8 || bytes != Some(codes.bytes.len()) {
            let kind = match levels {
                Levels::Blocks(block) => format!("{block} blocks"),
                Levels::Integers { .. } | Levels::Palette => format!("{bits}-bit codes"),
                Levels::Floats { format, .. } => format!("numbers in {format}"),
            };
            let (file, len, shape) = (&codes.file, codes.bytes.len(), &encoding.shape);
            fail!(Format, "{file}: `{path}` has {len} bytes, not the {kind} of {shape:?}");
        }
        for (name, wanted, wide) in encoding.parts(corrected) {
            self.part(&format!("{path}{name}"), wanted, wide)?;
        }
        Ok(Some(encoding))
    }

    /// The parts of the weight `path`, if it is encoded.
    ///
    /// # Errors
    /// If they do not fit each other, or hold numbers that are not finite.
    pub fn encoded(&self, path: &str) -> Result<Option<Encoded<'_>>> {
        let Some(encoding) = self.encoding(path)? else { return Ok(None) };
        let whole = path;
        let path = path.strip_suffix(CODES).unwrap_or(path);
        let Some(codes) = self.get(path) else { return Ok(None) };
        let mut encoded = Encoded {
            packed: &codes.bytes,
            scales: vec![],
            zeros: vec![],
            tables: vec![],
            a: vec![],
            b: vec![],
            encoding,
        };
        let corrected = whole == path && self.get(&format!("{path}{LOW_RANK_A}")).is_some();
        for (name, wanted, wide) in encoded.encoding.parts(corrected) {
            let numbers = self.read_part(&format!("{path}{name}"), wanted, wide)?;
            match name {
                SCALE => encoded.scales = numbers,
                ZERO => encoded.zeros = numbers,
                LUT => encoded.tables = numbers,
                LOW_RANK_A => encoded.a = numbers,
                _ => encoded.b = numbers,
            }
        }
        Ok(Some(encoded))
    }

    /// The range of what the weight is multiplied with, if it is one for activations of 8 bits.
    pub fn input_range(&self, path: &str) -> Option<[f32; 2]> {
        let tensor = self.get(path).filter(|tensor| tensor.dtype == DType::I8 && tensor.shape.len() == 2)?;
        let range = self.get(&format!("{path}{INPUT_RANGE}")).filter(|range| range.dtype == DType::F32)?;
        let (&[low, high], []) = range.bytes.as_chunks::<4>() else { return None };
        let [low, high] = [low, high].map(f32::from_le_bytes);
        (tensor.shape[0] > 0 && low.is_finite() && high.is_finite() && low <= high).then_some([low, high])
    }

    /// A matrix of floating-point numbers that belongs to an encoded weight.
    fn part(&self, path: &str, wanted: [usize; 2], wide: bool) -> Result<&Tensor> {
        let Some(tensor) = self.get(path) else { fail!(Missing, "tensor `{path}` is missing") };
        if tensor.shape != wanted || !(tensor.dtype == DType::F16 || wide && tensor.dtype == DType::F32) {
            let (file, dtype, shape) = (&tensor.file, tensor.dtype, &tensor.shape);
            fail!(Format, "{file}: `{path}` is {dtype} {shape:?}, wanted F16 {wanted:?}");
        }
        Ok(tensor)
    }

    /// Its numbers.
    fn read_part(&self, path: &str, wanted: [usize; 2], wide: bool) -> Result<Vec<f32>> {
        let tensor = self.part(path, wanted, wide)?;
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

impl Encoding {
    /// The parts beside header and codes: names, shapes, and whether they may be F32.
    fn parts(&self, corrected: bool) -> Vec<(&'static str, [usize; 2], bool)> {
        let [rows, columns] = self.size();
        let groups = [rows, self.groups()];
        let mut parts = match self.levels {
            Levels::Integers { zeros: true } => vec![(SCALE, groups, true), (ZERO, groups, false)],
            Levels::Integers { zeros: false } => vec![(SCALE, groups, true)],
            Levels::Palette => vec![(LUT, [rows.div_ceil(self.group), 1 << self.bits], true)],
            Levels::Blocks(_) | Levels::Floats { scaled: false, .. } => vec![],
            Levels::Floats { scaled: true, .. } => vec![(SCALE, [rows.div_ceil(self.group), 1], true)],
        };
        if corrected {
            parts.extend([(LOW_RANK_A, [self.rank, columns], false), (LOW_RANK_B, [rows, self.rank], false)]);
        }
        parts
    }
}

/// What the first number of a header says.
enum Kind {
    /// Codes of so many bits.
    Codes(u32),
    Blocks(Block),
    Floats(Float8),
}

/// What is encoded how, group and shape.
fn read_header(path: &str, header: &Tensor) -> Result<(Kind, usize, Vec<usize>)> {
    let numbers: Vec<i64> = header.bytes.as_chunks().0.iter().map(|&word| i64::from_le_bytes(word)).collect();
    let sizes: Option<Vec<usize>> = numbers.iter().map(|&n| usize::try_from(n).ok()).collect();
    let known = header.dtype == DType::I64 && header.shape.len() == 1;
    let kind = |&number: &usize| match number {
        2 | 4 | 6 | 8 => Some(Kind::Codes(number as u32)),
        FLOATS.. => Float8::from_id(number - FLOATS).map(Kind::Floats),
        _ => number.checked_sub(BLOCKS).and_then(|id| Block::from_id(id.try_into().ok()?)).map(Kind::Blocks),
    };
    let fits = |group: usize, shape: &[usize]| {
        let some = element_count(shape).is_some_and(|count| count > 0);
        known && group > 0 && some && (1..=MAX_RANK).contains(&shape.len())
    };
    let read = sizes.as_deref().and_then(|sizes| match sizes {
        [number, group, shape @ ..] if fits(*group, shape) => Some((kind(number)?, *group, shape.to_vec())),
        _ => None,
    });
    match read {
        Some(read) => Ok(read),
        None => fail!(Format, "{}: `{path}{ENCODING}` holds {numbers:?}, which no encoding has", header.file),
    }
}

impl Encoded<'_> {
    /// Bytes of a row of codes.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.packed.len() / self.encoding.shape[0]
    }

    /// The packed codes of a row.
    #[must_use]
    pub fn row(&self, index: usize) -> &[u8] {
        let length = self.row_bytes();
        &self.packed[index * length..][..length]
    }

    /// The codes, a byte each, with what makes numbers of them.
    #[must_use]
    pub fn unpacked(&self) -> Unpacked<'_> {
        let [rows, columns] = self.encoding.size();
        let packed = self.packed.chunks_exact(self.row_bytes());
        let Levels::Blocks(block) = self.encoding.levels else {
            let codes = packed.flat_map(|row| (0..columns).map(|index| code_at(row, self.encoding.bits, index)));
            let scales = Cow::Borrowed(&self.scales[..]);
            return Unpacked { codes: codes.collect(), scales, minima: vec![], units: vec![] };
        };
        let grid = block.grid();
        let (groups, blocks) = (columns / grid.group, columns / block.elements());
        let (mut codes, mut scales) = (vec![0; rows * columns], vec![0.0; rows * groups]);
        let (mut minima, mut units) = (scales.clone(), vec![[1.0; 2]; rows * blocks]);
        let numbers = scales.chunks_exact_mut(groups).zip(minima.chunks_exact_mut(groups));
        let numbers = numbers.zip(units.chunks_exact_mut(blocks));
        for ((row, codes), ((scales, minima), units)) in packed.zip(codes.chunks_exact_mut(columns)).zip(numbers) {
            block.read(row, codes, GroupNumbers { scales, minima, units });
        }
        Unpacked {
            codes,
            scales: Cow::Owned(scales),
            minima: if grid.minima { minima } else { vec![] },
            units: if grid.scales == Scales::Steps { units } else { vec![] },
        }
    }

    /// The numbers that the weight stands for.
    #[must_use]
    pub fn decode(&self) -> Vec<f32> {
        let [rows, columns] = self.encoding.size();
        let mut values = vec![0.0; rows * columns];
        for (row, out) in values.chunks_exact_mut(columns).enumerate() {
            self.decode_row(row, out);
        }
        values
    }

    /// The numbers of one row.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let &Encoding { bits, levels, group, rank, .. } = &self.encoding;
        let row_bytes = self.row_bytes();
        let codes = &self.packed[row * row_bytes..][..row_bytes];
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
            Levels::Blocks(block) => block.decode(codes, out),
            Levels::Floats { format, .. } => {
                let (numbers, scale) = (format.numbers(), self.scales.get(row / group).copied().unwrap_or(1.0));
                for (value, &code) in out.iter_mut().zip(codes) {
                    *value = numbers[usize::from(code)] * scale;
                }
            }
        }
        for (r, b) in self.b[row * rank..][..rank].iter().enumerate() {
            let a = &self.a[r * out.len()..][..out.len()];
            out.iter_mut().zip(a).for_each(|(value, a)| *value += b * a);
        }
    }
}
