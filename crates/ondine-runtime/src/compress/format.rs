//! What a weight is compressed to, and how that is written.

use std::{fmt, str::FromStr};

use ondine_graph::{Error, Result, fail};

/// How the elements of a weight become codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// At equal distances.
    Integer {
        /// Of a code: 8, 6, 4 or 2.
        bits: u32,
        /// True if the middle code stands for 0; else a group has a code that does.
        symmetric: bool,
    },
    /// Indices of a table.
    Palette {
        /// Of a code: 8, 6, 4 or 2.
        bits: u32,
    },
    /// Integers of 8 bits that are multiplied with activations of 8 bits.
    Rows8,
}

/// What a weight is compressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// How elements become codes.
    pub kind: Kind,
    /// Of integers, consecutive elements of a row with one scale; of palettes, rows with one table. By default a row
    /// with 8 bits, 64 elements with 6 and 4, 32 with 2, and one table.
    pub group: Option<usize>,
    /// The rank of the correction that is kept beside the codes; 0 for none.
    pub low_rank: usize,
}

impl Format {
    /// A kind with its default groups and no correction.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { kind, group: None, low_rank: 0 }
    }

    /// Bits of a code.
    #[must_use]
    pub fn bits(&self) -> u32 {
        match self.kind {
            Kind::Integer { bits, .. } | Kind::Palette { bits } => bits,
            Kind::Rows8 => 8,
        }
    }

    /// Elements with one scale in rows of `columns`.
    pub(super) fn group_of(&self, columns: usize) -> usize {
        let default = match self.bits() {
            2 => 32,
            4 | 6 => 64,
            _ => columns,
        };
        self.group.unwrap_or(default).clamp(1, columns.max(1))
    }
}

impl FromStr for Kind {
    type Err = Error;

    /// The kind of a name; integers have a zero point.
    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "int8" => Self::Integer { bits: 8, symmetric: false },
            "int6" => Self::Integer { bits: 6, symmetric: false },
            "int4" => Self::Integer { bits: 4, symmetric: false },
            "int2" => Self::Integer { bits: 2, symmetric: false },
            "palette8" => Self::Palette { bits: 8 },
            "palette6" => Self::Palette { bits: 6 },
            "palette4" => Self::Palette { bits: 4 },
            "palette2" => Self::Palette { bits: 2 },
            "w8a8" => Self::Rows8,
            _ => fail!(
                Unsupported,
                "there is no format `{text}`; choose int8, int6, int4, int2, palette8, palette6, palette4, palette2 or \
                 w8a8"
            ),
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Integer { bits, symmetric } => write!(f, "int{bits}{}", if symmetric { "s" } else { "" })?,
            Kind::Palette { bits } => write!(f, "palette{bits}")?,
            Kind::Rows8 => write!(f, "w8a8")?,
        }
        if let Some(group) = self.group {
            write!(f, "/{group}")?;
        }
        if self.low_rank > 0 {
            write!(f, "+rank{}", self.low_rank)?;
        }
        Ok(())
    }
}
