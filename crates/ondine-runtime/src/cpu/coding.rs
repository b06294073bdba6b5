//! Which codes of few bits kernels read as they are.

use serde::{Deserialize, Serialize};

use ondine_graph::encoding::{self, Encoding};

/// How the codes of a weight become numbers, of those that kernels read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Coding {
    /// Of a code.
    pub(crate) bits: u32,
    /// Consecutive elements of a row with one scale.
    pub(crate) group: usize,
    pub(crate) levels: Levels,
    /// True if scales are F32, not F16.
    pub(crate) wide: bool,
}

impl Coding {
    /// Of weights whose activations have 8 bits, too.
    pub(crate) const ROWS8: Self = Self { bits: 8, group: 1, levels: Levels::Rows8, wide: false };

    /// True if kernels read such codes, which a file may not be believed.
    pub(crate) fn is_known(self) -> bool {
        let bits: &[u32] = match self.levels {
            Levels::Table => &[2, 4],
            Levels::Symmetric | Levels::Zeros => &[2, 4, 8],
            Levels::Rows8 => &[],
        };
        self.group > 0 && bits.contains(&self.bits)
    }
}

/// The kernels' [`CodeLevels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Levels {
    Symmetric,
    Zeros,
    Table,
    /// Not as they are: panels of 8 bits are made of them, for activations of 8 bits whatever the precision.
    Rows8,
}

/// How kernels for matrix products read codes, if they can: scales, zeros of F16, or one table; no correction.
pub(super) fn coding(encoding: &Encoding) -> Option<Coding> {
    let &Encoding { bits, levels, group, half, rank, ref shape } = encoding;
    let levels = match levels {
        encoding::Levels::Palette if bits <= 4 && group >= shape[0] => Levels::Table,
        encoding::Levels::Integers { zeros: true } if bits != 6 => Levels::Zeros,
        encoding::Levels::Integers { zeros: false } if bits != 6 => Levels::Symmetric,
        _ => return None,
    };
    let columns = encoding.size()[1];
    let group = if levels == Levels::Table { columns } else { group.min(columns) };
    (shape.len() == 2 && rank == 0).then_some(Coding { bits, group, levels, wide: levels != Levels::Table && !half })
}

/// How a linear layer of codes reads codes that [`multiplies_codes`] does not tell of: with zeros, or in groups of
/// whole words.
pub(super) fn multiplies_in_groups(encoding: &Encoding) -> Option<Coding> {
    let words = |count: usize| count.is_multiple_of(4);
    let columns = encoding.size()[1];
    coding(encoding).filter(|coding| {
        coding.levels != Levels::Table && words(columns) && (coding.group >= columns || words(coding.group))
    })
}

/// True if the codes are integers of 8 bits at most around 0 with one scale for each row: such codes are multiplied
/// with codes.
pub(super) fn multiplies_codes(encoding: &Encoding) -> bool {
    let &Encoding { bits, levels, group, rank, .. } = encoding;
    levels == encoding::Levels::Integers { zeros: false } && bits != 2 && rank == 0 && group >= encoding.size()[1]
}
