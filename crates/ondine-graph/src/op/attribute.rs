//! Attributes of operators: what a convolution, an attention or a product is told beside its inputs.

use serde::{Deserialize, Serialize};

use crate::{
    dim::Dim,
    error::{Result, fail},
    number,
};

use super::function::Activation;

/// What keeps queries from attending to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mask {
    /// Nothing: every key is seen.
    None,
    /// A truth value per key, `[batch, keys]`; false hides the key.
    Keys,
    /// How many keys a sequence has, I64 `[batch]`, at least 0 and at most `keys`: what lies behind them is not seen,
    /// and for `causal` and `window` a sequence has no more.
    Lengths,
    /// How many keys a sequence has had, I64 `[batch]`, at least 0. They lie in a ring of `keys` rows, number `p` in
    /// row `p % keys`, so that later ones have taken the place of earlier ones; a call fails if one is gone that is
    /// seen. To `causal` and `window` a sequence has all that it has had.
    Ring,
    /// A number added to the scores, `[batch or 1, heads or 1, queries, keys]`.
    Additive,
}

/// Attributes of [`Op::Attention`](crate::Op::Attention).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Number of query heads; queries are `[batch, queries, heads * head_dim]`.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// What the scores are multiplied by, usually `1 / sqrt(head_dim)`.
    #[serde(with = "number")]
    pub scale: f32,
    /// True if query `i` sees keys `0..=i + keys - queries` only.
    pub causal: bool,
    /// How many of the keys up to `i + keys - queries` query `i` sees, the last ones, if not all: a sliding window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// The mask input, if any.
    pub mask: Mask,
}

/// Attributes of [`Op::Conv2d`](crate::Op::Conv2d).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conv2d {
    /// Step along height and width.
    pub stride: [usize; 2],
    /// Zeros around the input: top, bottom, left, right.
    pub padding: [usize; 4],
    /// Distance between the taps of the kernel.
    pub dilation: [usize; 2],
    /// Number of independent groups of channels.
    pub groups: usize,
    /// True if the input is first doubled in height and width by repetition.
    pub upsample: bool,
}

impl Default for Conv2d {
    fn default() -> Self {
        Self { stride: [1; 2], padding: [0; 4], dilation: [1; 2], groups: 1, upsample: false }
    }
}

/// The largest stride, padding, kernel or dilation: arithmetic on sizes bears sums and products of two.
const MAX_ATTRIBUTE: usize = 1 << 24;

/// Refuses attributes that arithmetic on sizes could not bear.
pub(crate) fn check_attributes(sizes: impl IntoIterator<Item = usize>) -> Result<()> {
    match sizes.into_iter().find(|&size| size > MAX_ATTRIBUTE) {
        Some(size) => fail!(Shape, "an attribute of {size}, the most is {MAX_ATTRIBUTE}"),
        None => Ok(()),
    }
}

impl Conv2d {
    /// Makes sure that a convolution with a kernel of this size is one that machines compute.
    pub(crate) fn check(self, kernel: [&Dim; 2]) -> Result<()> {
        let Self { stride, padding, dilation, groups, upsample } = self;
        let sizes = kernel.map(|size| size.fixed().unwrap_or_default());
        check_attributes(stride.into_iter().chain(padding).chain(dilation).chain(sizes))?;
        check_attributes([sizes[0] * sizes[1]])?;
        if stride.contains(&0) || dilation.contains(&0) {
            fail!(Shape, "stride and dilation must not be 0");
        }
        if upsample && (stride != [1; 2] || groups != 1) {
            fail!(Shape, "only maps in one group and with a stride of 1 are doubled");
        }
        Ok(())
    }

    /// A convolution that keeps height and width, for an odd `kernel`.
    #[must_use]
    pub fn same(kernel: usize) -> Self {
        Self { padding: [kernel / 2; 4], ..Self::default() }
    }
}

/// What a weighted operator does to its result before it is stored: optional inputs and an activation.
///
/// Order: product, `+ bias`, activation or gate, `+ residual`.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Epilogue {
    /// True if a bias `[out]` follows the weight among the inputs.
    pub bias: bool,
    /// Applied after the bias; with a gate, to the second half.
    pub activation: Activation,
    /// True if the result is the first half of the last dimension times the activated second half; only of
    /// [`Op::Linear`](crate::Op::Linear).
    pub gate: bool,
    /// True if the last input, of the result's shape, is added at the end.
    pub residual: bool,
}
