//! Which codes of few bits kernels read as they are.

use ondine_kernels::{CodeLevels, CodedShape, GroupNumbers};
use serde::{Deserialize, Serialize};

use ondine_graph::{
    block::{Block, Grid, Scales},
    encoding::{self, Encoding},
};

use crate::options::Precision;

/// How the codes of a weight become numbers, of those that kernels read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Coding {
    /// Of a code.
    pub(crate) bits: u32,
    /// Consecutive elements of a row with one scale.
    pub(crate) group: usize,
    pub(crate) levels: Levels,
    pub(crate) numbers: Numbers,
}

impl Coding {
    /// Of weights whose activations have 8 bits, too.
    pub(crate) const ROWS8: Self = Self { bits: 8, group: 1, levels: Levels::Rows8, numbers: Numbers::F16 };

    /// What the kernels call a weight `[out, in]` of such codes.
    pub(crate) fn shape(self, gate: bool, shape: &[usize]) -> CodedShape {
        let levels = match self.levels {
            Levels::Symmetric => CodeLevels::Symmetric,
            Levels::Zeros => CodeLevels::Zeros,
            Levels::Minima => CodeLevels::Minima,
            Levels::Table | Levels::Rows8 => CodeLevels::Table,
        };
        let numbers = match self.numbers {
            Numbers::F16 => GroupNumbers::F16,
            Numbers::F32 => GroupNumbers::F32,
            Numbers::Steps { groups } => GroupNumbers::Steps { groups },
        };
        let Self { bits, group, .. } = self;
        CodedShape { outputs: shape[0], channels: shape[1], bits, group, levels, numbers, glu: gate }
    }

    /// True if kernels read such codes, which a file may not be believed.
    pub(crate) fn is_known(self) -> bool {
        let bits: &[u32] = match self.levels {
            Levels::Table => &[2, 4],
            Levels::Symmetric | Levels::Zeros | Levels::Minima => &[2, 4, 6, 8],
            Levels::Rows8 => &[],
        };
        let whole = match self.numbers {
            Numbers::F16 | Numbers::F32 => true,
            Numbers::Steps { groups } => groups.is_power_of_two(),
        };
        self.group > 0 && whole && bits.contains(&self.bits)
    }
}

/// The kernels' [`GroupNumbers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Numbers {
    F16,
    F32,
    Steps { groups: usize },
}

/// The kernels' [`CodeLevels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Levels {
    Symmetric,
    Zeros,
    Minima,
    Table,
    /// Not as they are: panels of 8 bits are made of them, for activations of 8 bits whatever the precision.
    Rows8,
}

/// How kernels for matrix products read codes, if they can: scales, zeros of F16, minima, or one table; no correction.
///
/// Scales of block formats that F16 does not hold are rounded to it where activations are of less than 32 bits.
pub(super) fn coding(encoding: &Encoding, precision: Precision) -> Option<Coding> {
    let &Encoding { bits, levels, group, half, rank, ref shape } = encoding;
    if shape.len() != 2 || rank != 0 {
        return None;
    }
    let columns = encoding.size()[1];
    let of_half = if half { Numbers::F16 } else { Numbers::F32 };
    let integers = |levels| Coding { bits, group: group.min(columns), levels, numbers: of_half };
    match levels {
        encoding::Levels::Palette => {
            let one = bits <= 4 && group >= shape[0];
            one.then_some(Coding { bits, group: columns, levels: Levels::Table, numbers: Numbers::F16 })
        }
        encoding::Levels::Integers { zeros: true } => Some(integers(Levels::Zeros)),
        encoding::Levels::Integers { zeros: false } => Some(integers(Levels::Symmetric)),
        encoding::Levels::Blocks(block) => {
            let Grid { bits, group, minima, scales } = block.grid();
            let levels = if minima { Levels::Minima } else { Levels::Symmetric };
            let numbers = match scales {
                Scales::F32 if precision == Precision::F32 => Numbers::F32,
                Scales::F32 | Scales::F16 => Numbers::F16,
                Scales::Steps => Numbers::Steps { groups: block.elements() / group },
            };
            Some(Coding { bits, group, levels, numbers })
        }
        // Panels of numbers are made of them, in the precision that is asked for.
        encoding::Levels::Floats { .. } => None,
    }
}

/// True if codes of this block format hold its numbers exactly at every precision, and take little more room than the
/// blocks: a table that is also multiplied with need not lie in memory twice.
pub(super) fn lies_as_codes(block: Block) -> bool {
    let Grid { bits, scales, .. } = block.grid();
    let bits_in_file = u8::BITS as usize * block.bytes() / block.elements();
    scales != Scales::F32 && bits as usize <= bits_in_file + 1
}

/// As [`coding`], of the matrices of a stack `[matrices, out, in]`: of block formats alone, whose blocks never reach
/// from one row of a matrix into the next.
pub(super) fn coding_of_stack(encoding: &Encoding, precision: Precision) -> Option<Coding> {
    let (encoding::Levels::Blocks(block), &[_, rows, columns]) = (encoding.levels, &encoding.shape[..]) else {
        return None;
    };
    let whole = columns.is_multiple_of(block.elements());
    whole.then(|| coding(&Encoding { shape: vec![rows, columns], ..encoding.clone() }, precision))?
}

/// Layers with fewer channels in or out than this are not quantized: they are at the border of a network, where
/// errors count most and there is little to gain.
pub(super) const FEWEST_CHANNELS: usize = 32;

/// How a convolution with so many groups of channels reads codes of less than 8 bits, which then stay so in memory,
/// and what they are widened to where they are multiplied; none where panels of numbers are made of them.
pub(super) fn coding_of_conv(encoding: &Encoding, groups: usize, precision: Precision) -> Option<(Coding, Precision)> {
    let widened = match precision {
        // Rounded to 8 bits when they are packed, as those of linear layers are.
        Precision::Int8 => return None,
        Precision::A8 => Precision::Int8,
        Precision::F32 | Precision::BF16 => precision,
    };
    let &[outputs, channels, ..] = &encoding.shape[..] else { return None };
    let [_, columns] = encoding.size();
    let large = encoding.shape.len() == 4 && groups == 1 && outputs.min(channels) >= FEWEST_CHANNELS;
    let matrix = Encoding { shape: vec![outputs, columns], ..encoding.clone() };
    let few = |coding: &Coding| coding.bits < u8::BITS && !matches!(coding.numbers, Numbers::Steps { .. });
    coding(&matrix, precision).filter(|coding| large && few(coding)).map(|coding| (coding, widened))
}

/// How a linear layer of codes reads codes that [`multiplies_codes`] does not tell of: with zeros or minima, or in
/// groups of whole words.
pub(super) fn multiplies_in_groups(encoding: &Encoding, precision: Precision) -> Option<Coding> {
    let words = |count: usize| count.is_multiple_of(4);
    let columns = encoding.size()[1];
    coding(encoding, precision).filter(|coding| {
        coding.levels != Levels::Table && words(columns) && (coding.group >= columns || words(coding.group))
    })
}

/// True if the codes are integers of 8 bits at most around 0 with one scale for each row: such codes are multiplied
/// with codes.
pub(super) fn multiplies_codes(encoding: &Encoding) -> bool {
    let &Encoding { bits, levels, group, rank, .. } = encoding;
    levels == encoding::Levels::Integers { zeros: false } && bits != 2 && rank == 0 && group >= encoding.size()[1]
}
