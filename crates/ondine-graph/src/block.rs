//! The block formats of GGUF files: some consecutive elements of a row with scales of their own.
//!
//! Names, layouts and the order of the arithmetic are those of ggml, whose `dequantize_row_*` yield the same bits.

use std::fmt;

use half::f16;
use serde::Serialize;

/// A block format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
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

    /// The numbers that a row of blocks stands for.
    ///
    /// # Panics
    /// If `out` has another length than the blocks have elements.
    pub fn decode(self, row: &[u8], out: &mut [f32]) {
        assert_eq!(self.row_bytes(out.len()), Some(row.len()), "a row of {self} blocks");
        for (block, out) in row.chunks_exact(self.bytes()).zip(out.chunks_exact_mut(self.elements())) {
            match self {
                Self::Q4_0 => short(block, out, |q, _| half_at(block, 0) * (f32::from(q) - 8.0)),
                Self::Q4_1 => short(block, out, |q, _| half_at(block, 0) * f32::from(q) + half_at(block, 2)),
                Self::Q5_0 => short(block, out, |q, i| half_at(block, 0) * (fifth(block, 2, q, i) - 16.0)),
                Self::Q5_1 => short(block, out, |q, i| half_at(block, 0) * fifth(block, 4, q, i) + half_at(block, 2)),
                Self::IQ4_NL => short(block, out, |q, _| half_at(block, 0) * f32::from(UNEVEN[usize::from(q)])),
                Self::MXFP4 => {
                    let scale = exponent(block[0]);
                    short(block, out, |q, _| scale * f32::from(E2M1[usize::from(q)]));
                }
                Self::Q8_0 => {
                    let d = half_at(block, 0);
                    out.iter_mut().zip(&block[2..]).for_each(|(x, &q)| *x = d * f32::from(q.cast_signed()));
                }
                Self::Q2_K => two_bits(block, out),
                Self::Q3_K => three_bits(block, out),
                Self::Q4_K => four_bits(block, out),
                Self::Q5_K => five_bits(block, out),
                Self::Q6_K => six_bits(block, out),
                Self::IQ4_XS => uneven(block, out),
            }
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

/// The elements of a block that ends with 16 bytes: the lower halves of all, then the upper ones.
fn short(block: &[u8], out: &mut [f32], number: impl Fn(u8, usize) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for (i, &byte) in block[block.len() - 16..].iter().enumerate() {
        low[i] = number(byte & 15, i);
        high[i] = number(byte >> 4, i + 16);
    }
}

/// Code `i` with its fifth bit, which is one of 32 from byte `at` on.
fn fifth(block: &[u8], at: usize, low: u8, i: usize) -> f32 {
    let bit = block[at + i / 8] >> (i % 8) & 1;
    f32::from(low | bit << 4)
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

fn two_bits(block: &[u8], out: &mut [f32]) {
    let (scales, codes) = (&block[..16], &block[16..80]);
    let (d, least) = (half_at(block, 80), half_at(block, 82));
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let (scale, minimum) = (d * f32::from(scales[group] & 15), least * f32::from(scales[group] >> 4));
        let from = &codes[group / 8 * 32 + group % 2 * 16..];
        let shift = group % 8 / 2 * 2;
        out.iter_mut().zip(from).for_each(|(x, &q)| *x = scale * f32::from(q >> shift & 3) - minimum);
    }
}

fn three_bits(block: &[u8], out: &mut [f32]) {
    let (high, codes, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half_at(block, 108);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let low = scales[group % 8] >> (group / 8 * 4) & 15;
        let scale = low | (scales[8 + group % 4] >> (group / 4 * 2) & 3) << 4;
        let scale = d * (f32::from(scale) - 32.0);
        let half = group % 2 * 16;
        let (from, shift, bit) = (&codes[group / 8 * 32 + half..], group % 8 / 2 * 2, group / 2);
        for (i, x) in out.iter_mut().enumerate() {
            let offset = if high[half + i] >> bit & 1 == 1 { 0.0 } else { 4.0 };
            *x = scale * (f32::from(from[i] >> shift & 3) - offset);
        }
    }
}

fn four_bits(block: &[u8], out: &mut [f32]) {
    let (d, least) = (half_at(block, 0), half_at(block, 2));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let [scale, minimum] = scale_and_minimum(&block[4..16], group);
        let (scale, minimum) = (d * scale, least * minimum);
        let (from, shift) = (&block[16 + group / 2 * 32..], group % 2 * 4);
        out.iter_mut().zip(from).for_each(|(x, &q)| *x = scale * f32::from(q >> shift & 15) - minimum);
    }
}

fn five_bits(block: &[u8], out: &mut [f32]) {
    let (d, least, high) = (half_at(block, 0), half_at(block, 2), &block[16..48]);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let [scale, minimum] = scale_and_minimum(&block[4..16], group);
        let (scale, minimum) = (d * scale, least * minimum);
        let (from, shift) = (&block[48 + group / 2 * 32..], group % 2 * 4);
        for (i, x) in out.iter_mut().enumerate() {
            let code = from[i] >> shift & 15 | (high[i] >> group & 1) << 4;
            *x = scale * f32::from(code) - minimum;
        }
    }
}

fn six_bits(block: &[u8], out: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(scales[group].cast_signed());
        // Of 128 elements the four quarters lie in two bits each of 32 bytes, and in the halves of 64.
        let (part, quarter, first) = (group / 8, group % 8 / 2, group % 2 * 16);
        let from = &low[part * 64 + quarter % 2 * 32 + first..];
        for (i, x) in out.iter_mut().enumerate() {
            let code = from[i] >> (quarter / 2 * 4) & 15;
            let code = code | (high[part * 32 + first + i] >> (quarter * 2) & 3) << 4;
            *x = scale * (f32::from(code) - 32.0);
        }
    }
}

fn uneven(block: &[u8], out: &mut [f32]) {
    let (d, high) = (half_at(block, 0), u16::from_le_bytes([block[2], block[3]]));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let low = block[4 + group / 2] >> (group % 2 * 4) & 15;
        let scale = u16::from(low) | (high >> (group * 2) & 3) << 4;
        let scale = d * (f32::from(scale) - 32.0);
        short(&block[8 + group * 16..][..16], out, |q, _| scale * f32::from(UNEVEN[usize::from(q)]));
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
