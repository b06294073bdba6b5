//! Choices of a specialization.

use serde::{Deserialize, Serialize};

use ondine_graph::{Error, Result, fail};

/// The type in which weights are packed and activations are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point, the reference.
    #[default]
    F32,
    /// The upper half of it: half the memory, products in twice the speed where the processor has them; sums, norms
    /// and softmax stay in 32 bits.
    BF16,
    /// Weights in 8 bits with a scale per output, and what they are multiplied with in 8 bits too, scaled at run
    /// time; no calibration. Layers with few channels, and everything between the products, are as in [`Self::BF16`].
    Int8,
    /// Weights that are stored as codes of 8, 6, 4 or 2 bits in groups stay so (W8A8, W6A8, W4A8, W2A8), and what they
    /// are multiplied with is rounded to 8 bits in blocks of 32 numbers, each with a scale of its own; so do those of
    /// convolutions in less than 8 bits, multiplied with maps of one scale. All else is as in [`Self::BF16`].
    A8,
}

impl Precision {
    /// Every precision, with the name that people give it.
    pub const ALL: [(&'static str, Self); 4] =
        [("f32", Self::F32), ("bf16", Self::BF16), ("int8", Self::Int8), ("a8", Self::A8)];
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::BF16 => "bf16",
            Self::Int8 => "int8",
            Self::A8 => "a8",
        })
    }
}

impl std::str::FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|(name, _)| *name == text) {
            Some((_, precision)) => Ok(precision),
            None => fail!(Unsupported, "there is no precision `{text}`; choose f32, bf16, int8 or a8"),
        }
    }
}

/// Choices of a specialization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The type of weights and activations.
    pub precision: Precision,
    /// True if no graph is rewritten: all values that [`Graph::named`](ondine_graph::Graph::named) names are computed,
    /// each on its own, to be compared with what another runtime yields. Slower, and larger in memory.
    pub as_written: bool,
}
