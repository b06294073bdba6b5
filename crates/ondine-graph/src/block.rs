//! The block formats of GGUF files: some consecutive elements of a row with scales of their own.
//!
//! Names, layouts and the order of the arithmetic are those of ggml, whose `dequantize_row_*` yield the same bits.

use std::fmt;

use half::f16;
use serde::{Deserialize, Serialize};

/// A block format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(non_camel_case_types, reason = "the names by which everybody knows them")]
pub enum Block {
    /// 32 codes of 4 bits, `d * (q - 8)`.
    Q4_0,
    /// 32 codes of 4 bits, `d * q + m`.
    Q4_1,
    /// 32 codes of 5 bits, `d * (q - 16)`.
    Q5_0,
    /// 32 codes of 5 bits, `d * q + m`.
    Q5_1,
    /// 32 integers of 8 bits, `d * q`.
    Q8_0,
    /// 256 codes of 2 bits; 16 of them share a scale and a minimum of 4 bits.
    Q2_K,
    /// 256 codes of 3 bits; 16 of them share a scale of 6 bits.
    Q3_K,
    /// 256 codes of 4 bits; 32 of them share a scale and a minimum of 6 bits.
    Q4_K,
    /// 256 codes of 5 bits; 32 of them share a scale and a minimum of 6 bits.
    Q5_K,
    /// 256 codes of 6 bits; 16 of them share a scale of 8 bits.
    Q6_K,
    /// 32 codes of 4 bits into a table.
    IQ4_NL,
    /// 256 codes of 4 bits into the same table; 32 of them share a scale of 6 bits.
    IQ4_XS,
    /// 32 floating-point numbers of 4 bits (E2M1) with a common exponent, as the Open Compute Project defines them.
    MXFP4,
}

/// Elements of the longer blocks.
const LONG: usize = 256;
/// Elements of the shorter blocks.
const SHORT: usize = 32;

/// The code of 8 bits that stands for 0.
const CENTRE: u8 = 128;
/// The code of 6 bits that does.
const SIX_BIT_CENTRE: u8 = 32;

/// The table of `IQ4_NL` and `IQ4_XS`.
const UNEVEN: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// The numbers of `MXFP4`, doubled.
const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

impl Block {
    /// Every block format.
    pub const ALL: [Self; 13] = {
        use Block::*;
        [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4]
    };

    /// Its number in GGUF files.
    #[must_use]
    pub fn id(self) -> u32 {
        match self {
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q2_K => 10,
            Self::Q3_K => 11,
            Self::Q4_K => 12,
            Self::Q5_K => 13,
            Self::Q6_K => 14,
            Self::IQ4_NL => 20,
            Self::IQ4_XS => 23,
            Self::MXFP4 => 39,
        }
    }

    /// The format of this number.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|block| block.id() == id)
    }

    /// Elements of a block.
    #[must_use]
    pub fn elements(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::IQ4_NL | Self::MXFP4 => SHORT,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K | Self::IQ4_XS => LONG,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::MXFP4 => 17,
            Self::Q4_0 | Self::IQ4_NL => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2_K => 84,
            Self::Q3_K => 110,
            Self::IQ4_XS => 136,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// Bytes of a row of so many elements; none if it is not a number of whole blocks.
    #[must_use]
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let blocks = columns / self.elements();
        (blocks * self.elements() == columns).then(|| blocks.checked_mul(self.bytes()))?
    }

    /// How its codes become numbers, once they are a byte each.
    #[must_use]
    pub fn grid(self) -> Grid {
        let grid = |bits, group, minima, scales| Grid { bits, group, minima, scales };
        match self {
            Self::Q4_0 => grid(4, 32, false, Scales::F16),
            Self::Q4_1 => grid(4, 32, true, Scales::F16),
            Self::Q5_0 => grid(6, 32, false, Scales::F16),
            Self::Q5_1 => grid(6, 32, true, Scales::F16),
            Self::Q8_0 | Self::IQ4_NL => grid(8, 32, false, Scales::F16),
            Self::Q2_K => grid(2, 16, true, Scales::Steps),
            Self::Q3_K => grid(4, 16, false, Scales::Steps),
            Self::Q4_K => grid(4, 32, true, Scales::Steps),
            Self::Q5_K => grid(6, 32, true, Scales::Steps),
            Self::Q6_K => grid(6, 16, false, Scales::Steps),
            Self::IQ4_XS => grid(8, 32, false, Scales::Steps),
            Self::MXFP4 => grid(8, 32, false, Scales::F32),
        }
    }

    /// Reads a row of blocks: its codes, a byte each, and what makes numbers of them.
    ///
    /// # Panics
    /// If a slice has another length than the row says.
    pub fn read(self, row: &[u8], codes: &mut [u8], numbers: GroupNumbers<'_>) {
        let GroupNumbers { scales, minima, units } = numbers;
        assert_eq!(self.row_bytes(codes.len()), Some(row.len()), "a row of {self} blocks");
        let (elements, groups) = (self.elements(), self.elements() / self.grid().group);
        let numbers = scales.chunks_exact_mut(groups).zip(minima.chunks_exact_mut(groups)).zip(units);
        assert_eq!(numbers.len() * elements, codes.len(), "a scale and a minimum for each group");
        let blocks = row.chunks_exact(self.bytes()).zip(codes.chunks_exact_mut(elements));
        for ((block, codes), ((scales, minima), units)) in blocks.zip(numbers) {
            minima.fill(0.0);
            *units = self.units(block);
            let d = half_at(block, 0);
            match self {
                Self::Q4_0 => {
                    scales[0] = d;
                    short(block, codes, |q, _| q);
                }
                Self::Q4_1 => {
                    (scales[0], minima[0]) = (d, half_at(block, 2));
                    short(block, codes, |q, _| q);
                }
                Self::Q5_0 => {
                    scales[0] = d;
                    short(block, codes, |q, i| fifth(block, 2, q, i) + (SIX_BIT_CENTRE - 16));
                }
                Self::Q5_1 => {
                    (scales[0], minima[0]) = (d, half_at(block, 2));
                    short(block, codes, |q, i| fifth(block, 4, q, i));
                }
                Self::IQ4_NL => {
                    scales[0] = d;
                    short(block, codes, |q, _| centred(UNEVEN[usize::from(q)]));
                }
                Self::MXFP4 => {
                    scales[0] = exponent(block[0]);
                    short(block, codes, |q, _| centred(E2M1[usize::from(q)]));
                }
                Self::Q8_0 => {
                    scales[0] = d;
                    codes.iter_mut().zip(&block[2..]).for_each(|(code, &q)| *code = centred(q.cast_signed()));
                }
                Self::Q2_K => two_bits(block, codes, scales, minima),
                Self::Q3_K => three_bits(block, codes, scales),
                Self::Q4_K => four_bits(block, codes, scales, minima),
                Self::Q5_K => five_bits(block, codes, scales, minima),
                Self::Q6_K => six_bits(block, codes, scales),
                Self::IQ4_XS => uneven(block, codes, scales),
            }
        }
    }

    /// What the integers of a block's groups are multiplied with to be their scales, and their minima; 1 where those
    /// are numbers themselves.
    fn units(self, block: &[u8]) -> [f32; 2] {
        let both = |d: usize, least: usize| [half_at(block, d), -half_at(block, least)];
        match self {
            Self::Q2_K => both(80, 82),
            Self::Q3_K => [half_at(block, 108), 1.0],
            Self::Q4_K | Self::Q5_K => both(0, 2),
            Self::Q6_K => [half_at(block, 208), 1.0],
            Self::IQ4_XS => [half_at(block, 0), 1.0],
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::IQ4_NL | Self::MXFP4 => [1.0; 2],
        }
    }

    /// The numbers that a row of blocks stands for.
    ///
    /// # Panics
    /// If `out` has another length than the blocks have elements.
    pub fn decode(self, row: &[u8], out: &mut [f32]) {
        assert_eq!(self.row_bytes(out.len()), Some(row.len()), "a row of {self} blocks");
        let (grid, elements) = (self.grid(), self.elements());
        let (mut codes, mut scales, mut minima) = ([0; LONG], [0.0; LONG / 16], [0.0; LONG / 16]);
        let (codes, groups) = (&mut codes[..elements], elements / grid.group);
        let (scales, minima, mut units) = (&mut scales[..groups], &mut minima[..groups], [[1.0; 2]]);
        for (block, out) in row.chunks_exact(self.bytes()).zip(out.chunks_exact_mut(elements)) {
            self.read(block, codes, GroupNumbers { scales, minima, units: &mut units });
            let [of_scales, of_minima] = units[0];
            let numbers = scales.iter().zip(&*minima);
            let groups = out.chunks_exact_mut(grid.group).zip(codes.chunks_exact(grid.group));
            for ((out, codes), (&scale, &minimum)) in groups.zip(numbers) {
                let (scale, minimum) = (of_scales * scale, of_minima * minimum);
                out.iter_mut().zip(codes).for_each(|(x, &code)| *x = grid.number(code, scale, minimum));
            }
        }
    }
}

/// Where what makes numbers of the codes of some blocks goes.
#[derive(Debug)]
pub struct GroupNumbers<'a> {
    /// Of each group of the [`Grid`].
    pub scales: &'a mut [f32],
    /// As the scales; 0 in formats without.
    pub minima: &'a mut [f32],
    /// Of each block, what its scales and its minima have to be multiplied with; 1 unless they are [`Scales::Steps`].
    pub units: &'a mut [[f32; 2]],
}

/// What the scales and minima of a block format are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scales {
    /// Numbers of f16.
    F16,
    /// Numbers that f16 does not hold.
    F32,
    /// Integers of 8 bits, to be multiplied with a number of f16 that their block has for all.
    Steps,
}

/// How codes of a block format become numbers: `scale * (code - middle)`, the middle being half of all codes, or with
/// minima `scale * code + minimum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Bits that hold a code: 2, 4, 6 or 8.
    pub bits: u32,
    /// Consecutive elements with one scale.
    pub group: usize,
    /// True if a minimum is added.
    pub minima: bool,
    /// What scales and minima are.
    pub scales: Scales,
}

impl Grid {
    fn number(self, code: u8, scale: f32, minimum: f32) -> f32 {
        match self.minima {
            true => scale * f32::from(code) + minimum,
            false => scale * (f32::from(code) - f32::from(1_u8 << (self.bits - 1))),
        }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Half of `2^(e - 127)`: what the doubled numbers of `MXFP4` are multiplied by.
fn exponent(e: u8) -> f32 {
    match e {
        // Below the least exponent of a normal number.
        0 | 1 => f32::from_bits(0x0020_0000 << e),
        _ => f32::from_bits((u32::from(e) - 1) << 23),
    }
}

/// A signed integer among codes of 8 bits.
fn centred(number: i8) -> u8 {
    number.cast_unsigned() ^ CENTRE
}

/// The codes of a block that ends with 16 bytes: the lower halves of all, then the upper ones.
fn short(block: &[u8], codes: &mut [u8], code: impl Fn(u8, usize) -> u8) {
    let (low, high) = codes.split_at_mut(16);
    for (i, &byte) in block[block.len() - 16..].iter().enumerate() {
        low[i] = code(byte & 15, i);
        high[i] = code(byte >> 4, i + 16);
    }
}

/// Code `i` with its fifth bit, which is one of 32 from byte `at` on.
fn fifth(block: &[u8], at: usize, low: u8, i: usize) -> u8 {
    low | (block[at + i / 8] >> (i % 8) & 1) << 4
}

/// Scale and minimum `i` of eight, of 6 bits each, in 12 bytes.
fn scale_and_minimum(packed: &[u8], i: usize) -> [f32; 2] {
    let (scale, minimum) = if i < 4 {
        (packed[i] & 63, packed[i + 4] & 63)
    } else {
        let both = packed[i + 4];
        (both & 15 | packed[i - 4] >> 6 << 4, both >> 4 | packed[i] >> 6 << 4)
    };
    [scale, minimum].map(f32::from)
}

fn two_bits(block: &[u8], codes: &mut [u8], scales: &mut [f32], minima: &mut [f32]) {
    let (packed, bits) = (&block[..16], &block[16..80]);
    for (group, codes) in codes.chunks_exact_mut(16).enumerate() {
        scales[group] = f32::from(packed[group] & 15);
        minima[group] = f32::from(packed[group] >> 4);
        let from = &bits[group / 8 * 32 + group % 2 * 16..];
        let shift = group % 8 / 2 * 2;
        codes.iter_mut().zip(from).for_each(|(code, &q)| *code = q >> shift & 3);
    }
}

fn three_bits(block: &[u8], codes: &mut [u8], scales: &mut [f32]) {
    let (high, bits, packed) = (&block[..32], &block[32..96], &block[96..108]);
    for (group, codes) in codes.chunks_exact_mut(16).enumerate() {
        let low = packed[group % 8] >> (group / 8 * 4) & 15;
        let scale = low | (packed[8 + group % 4] >> (group / 4 * 2) & 3) << 4;
        scales[group] = f32::from(scale) - 32.0;
        let half = group % 2 * 16;
        let (from, shift, bit) = (&bits[group / 8 * 32 + half..], group % 8 / 2 * 2, group / 2);
        for (i, code) in codes.iter_mut().enumerate() {
            // From -4 to 3, among codes of 4 bits.
            *code = (from[i] >> shift & 3) + (high[half + i] >> bit & 1) * 4 + 4;
        }
    }
}

fn four_bits(block: &[u8], codes: &mut [u8], scales: &mut [f32], minima: &mut [f32]) {
    for (group, codes) in codes.chunks_exact_mut(32).enumerate() {
        [scales[group], minima[group]] = scale_and_minimum(&block[4..16], group);
        let (from, shift) = (&block[16 + group / 2 * 32..], group % 2 * 4);
        codes.iter_mut().zip(from).for_each(|(code, &q)| *code = q >> shift & 15);
    }
}

fn five_bits(block: &[u8], codes: &mut [u8], scales: &mut [f32], minima: &mut [f32]) {
    let high = &block[16..48];
    for (group, codes) in codes.chunks_exact_mut(32).enumerate() {
        [scales[group], minima[group]] = scale_and_minimum(&block[4..16], group);
        let (from, shift) = (&block[48 + group / 2 * 32..], group % 2 * 4);
        for (i, code) in codes.iter_mut().enumerate() {
            *code = from[i] >> shift & 15 | (high[i] >> group & 1) << 4;
        }
    }
}

fn six_bits(block: &[u8], codes: &mut [u8], scales: &mut [f32]) {
    let (low, high, packed) = (&block[..128], &block[128..192], &block[192..208]);
    for (group, codes) in codes.chunks_exact_mut(16).enumerate() {
        scales[group] = f32::from(packed[group].cast_signed());
        // Of 128 elements the four quarters lie in two bits each of 32 bytes, and in the halves of 64.
        let (part, quarter, first) = (group / 8, group % 8 / 2, group % 2 * 16);
        let from = &low[part * 64 + quarter % 2 * 32 + first..];
        for (i, code) in codes.iter_mut().enumerate() {
            let q = from[i] >> (quarter / 2 * 4) & 15;
            *code = q | (high[part * 32 + first + i] >> (quarter * 2) & 3) << 4;
        }
    }
}

fn uneven(block: &[u8], codes: &mut [u8], scales: &mut [f32]) {
    let high = u16::from_le_bytes([block[2], block[3]]);
    for (group, codes) in codes.chunks_exact_mut(32).enumerate() {
        let low = block[4 + group / 2] >> (group % 2 * 4) & 15;
        let scale = u16::from(low) | (high >> (group * 2) & 3) << 4;
        scales[group] = f32::from(scale) - 32.0;
        short(&block[8 + group * 16..][..16], codes, |q, _| centred(UNEVEN[usize::from(q)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Weights;

    #[test]
    fn numbers_are_those_of_the_python_package_gguf() {
        let golden = crate::Bytes::from_static(include_bytes!("../tests/data/blocks.safetensors"));
        let golden = Weights::from_safetensors("blocks", &golden).unwrap();
        for block in Block::ALL {
            let bytes = golden.array(&format!("{block}.blocks")).unwrap();
            let wanted = golden.to_f32(&format!("{block}.values")).unwrap();
            let mut values = vec![0.0; wanted.len()];
            block.decode(bytes.bytes(), &mut values);
            assert!(block.grid().bits != 2 || block.grid().minima, "two bits have no middle");
            let same = values.iter().zip(&*wanted).filter(|(a, b)| a.to_bits() == b.to_bits()).count();
            assert_eq!(same, wanted.len(), "{block}: {values:?} {wanted:?}");
        }
    }

    #[test]
    fn a_row_has_whole_blocks() {
        assert_eq!(Block::Q4_K.row_bytes(512), Some(288));
        assert_eq!(Block::Q4_K.row_bytes(257), None);
        assert_eq!(Block::Q8_0.row_bytes(usize::MAX / 32 * 32), None);
    }
}
