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
//!
//! Or `W` is U8 `[rows, bytes of a row]` in one of the block formats of GGUF files ([`Block`]), which say all
//! themselves; `W.encoding` holds in place of the bits [`BLOCKS`] plus the number of the format, and as the size of a
//! group the elements of a block.
//!
//! Or `W` is U8 of the weight's own shape, floating-point numbers of 8 bits ([`Float8`]); `W.encoding` holds in place
//! of the bits [`FLOATS`] plus the number of the type, and as the size of a group the rows that share a scale. If there
//! is `W.scale`, F32 `[groups, 1]`, numbers are multiplied by it.

use serde::Serialize;

use crate::{block::Block, float8::Float8};

/// Names, after that of the weight, of the tensors that belong to it. Of the header: bits, size of a group, shape.
pub const ENCODING: &str = ".encoding";
/// Of the scales.
pub const SCALE: &str = ".scale";
/// Of the codes that stand for 0.
pub const ZERO: &str = ".zero";
/// Of the palettes.
pub const LUT: &str = ".lut";
/// Of the right factor of the correction.
pub const LOW_RANK_A: &str = ".low_rank.a";
/// Of the left factor of the correction.
pub const LOW_RANK_B: &str = ".low_rank.b";

/// Beside weights of type I8 with a scale: F32, the lowest and the highest number that they are multiplied with. Such
/// products have activations of 8 bits, whose scale follows from that.
pub const INPUT_RANGE: &str = ".input_range";

/// What the name of a weight ends with that stands for the codes alone, without their correction. No file has it.
pub const CODES: &str = "#codes";

/// All of them.
pub const PARTS: [&str; 7] = [ENCODING, SCALE, ZERO, LUT, LOW_RANK_A, LOW_RANK_B, INPUT_RANGE];

/// How codes become numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Levels {
    /// At equal distances.
    Integers {
        /// True if the code that stands for 0 is stored for each group.
        zeros: bool,
    },
    /// From a table.
    Palette,
    /// As a block format says.
    Blocks(Block),
    /// Floating-point numbers.
    Floats {
        /// Their type.
        format: Float8,
        /// True if there are scales for groups of rows.
        scaled: bool,
    },
}

/// What is added to the number of a block format in a header.
pub const BLOCKS: usize = 256;
/// What is added to the number of a type of [`Float8`] in a header.
pub const FLOATS: usize = 512;

/// How a weight is encoded: all but the numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Encoding {
    /// Of a code; 8 of blocks, which are bytes, and of floating-point numbers.
    pub bits: u32,
    /// How codes become numbers.
    pub levels: Levels,
    /// Elements of a row with one scale or in one block, or rows with one table, or with one scale of floating-point
    /// numbers.
    pub group: usize,
    /// True if scales or tables are F16.
    pub half: bool,
    /// Rank of the correction; 0 if there is none.
    pub rank: usize,
    /// Of the weight.
    pub shape: Vec<usize>,
}

/// The code that stands for 0 in symmetric integers: the middle, which with 2 bits lies between two codes, since four
/// levels on both sides of 0 are worth more than three and a zero.
pub fn symmetric_zero(bits: u32) -> f32 {
    if bits == 2 { 1.5 } else { f32::from(1_u8 << (bits - 1)) }
}

/// Bytes of `count` codes.
pub fn code_bytes(count: usize, bits: u32) -> Option<usize> {
    Some(count.checked_mul(bits as usize)?.div_ceil(8))
}

/// Writes codes one after the other, the first in the lowest bits.
pub fn pack_codes(codes: &[u8], bits: u32, out: &mut [u8]) {
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
pub fn code_at(packed: &[u8], bits: u32, index: usize) -> u8 {
    let (byte, shift) = (index * bits as usize / 8, index * bits as usize % 8);
    let next = packed.get(byte + 1).copied().unwrap_or(0);
    let word = u16::from_le_bytes([packed[byte], next]) >> shift;
    (word & ((1 << bits) - 1)) as u8
}

impl Encoding {
    /// Rows and elements of a row.
    pub fn size(&self) -> [usize; 2] {
        let rows = self.shape[0];
        [rows, self.shape[1..].iter().product()]
    }

    /// Bytes of a row of codes; none if there are too many, or no whole blocks.
    pub fn row_bytes(&self) -> Option<usize> {
        let columns = self.size()[1];
        match self.levels {
            Levels::Blocks(block) => block.row_bytes(columns),
            Levels::Integers { .. } | Levels::Palette | Levels::Floats { .. } => code_bytes(columns, self.bits),
        }
    }

    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.size()[1].div_ceil(self.group)
    }
}
