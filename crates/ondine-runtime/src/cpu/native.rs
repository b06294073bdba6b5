//! Operators of this backend alone: what its passes put in the place of portable ones.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use ondine_kernels::CodeGrid;

use ondine_graph::{
    Activation, Attention, Conv2d, DType, Epilogue, Error, ErrorKind, Native, Op, Result, Shape, Signature, fail,
};

/// What is done to rows before they are quantized, which then never are stored in full.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Prologue {
    /// Nothing; input `x`.
    None,
    /// As [`Op::LayerNorm`], with its inputs.
    LayerNorm { eps: f32 },
    /// As [`Op::RmsNorm`], with its inputs.
    RmsNorm { eps: f32 },
    /// As [`Op::GroupNorm`], with its inputs.
    GroupNorm { groups: usize, eps: f32, activation: Activation },
}

/// How numbers are quantized.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Rows {
    /// With one scale for each row, which spans it; see [`ondine_kernels::quantized_row_len`].
    Spanning,
    /// As before, with the scale that spans from the lowest to the highest number that there are.
    Within([f32; 2]),
    /// With a scale for each block of a row; see [`ondine_kernels::blocked_row_len`].
    Blocks,
}

/// An operator of this backend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CpuOp {
    /// `x` in 8 bits, after the prologue: rows of the last dimension, each with its scales behind it, as U8.
    QuantizeRows { prologue: Prologue, rows: Rows },
    /// [`Op::Linear`] of quantized rows with a weight of 8 bits.
    LinearRows(Epilogue),
    /// [`Op::Linear`] of rows quantized in blocks with the codes of a weight.
    LinearBlocks(Epilogue),
    /// [`Op::Linear`], of rows as they are or quantized, and of its columns those that the last input names, I64
    /// `[columns]`: [`Op::Take`] of the last dimension of all.
    LinearChosen { epilogue: Epilogue, rows: Option<Rows> },
    /// [`Op::Conv2d`] by Winograd's algorithm, for which weights are packed in another form.
    Winograd(Conv2d, Epilogue),
    /// [`Op::Attention`] whose queries and keys are rounded to numbers of 8 bits.
    Attention8(Attention),
    /// [`Op::Attention`] to keys and values in another type than its queries.
    CachedAttention(CachedAttention),
    /// `x`, `inverse`, `zero` (one number, or one for each row of the last dimension): the codes of `x` as I8 or U8,
    /// each plus `shift`; see [`ondine_kernels::encode_rows`].
    Encode { ends: [f32; 2], moved_first: bool, shift: f32 },
    /// `x`, `inverse`, `zero`, `scale`: what becomes of `x` by way of codes; see [`ondine_kernels::round_rows`].
    Round { ends: [f32; 2], moved_first: bool },
    /// `codes` (I8 or U8), `scale`, `zero` (a number each): `(code - zero) * scale`.
    Decode,
    /// [`Op::Linear`] of codes (U8) with the codes of a weight: its inputs, then `scale` and `zero` of the former, one
    /// number each or one for each row.
    LinearCodes(Epilogue, Finish),
    /// [`Op::Conv2d`] of codes, as before; scale and zero are one number each.
    ConvCodes(Conv2d, Epilogue, Finish),
}

/// How attention reads what is cached: `q`, `k` and `v` in bf16, or I8 and the scales of `k` and of `v` (one number, or
/// `[batch, keys, kv_heads]`), and what the mask says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CachedAttention {
    pub(crate) attention: Attention,
    /// True if queries and keys may be rounded to numbers of 8 bits.
    pub(crate) eight_bit: bool,
    /// True if keys and values are codes.
    pub(crate) coded: bool,
}

/// Steps that numbers are rounded to: their codes are as those of [`CpuOp::Encode`], and stand for `(code - zero) *
/// scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Steps {
    pub(crate) inverse: f32,
    pub(crate) zero: f32,
    pub(crate) scale: f32,
    pub(crate) ends: [f32; 2],
    pub(crate) moved_first: bool,
    pub(crate) shift: f32,
}

impl Steps {
    /// As kernels know them.
    pub(crate) fn grid(self) -> CodeGrid {
        let Self { inverse, zero, ends, moved_first, shift, .. } = self;
        CodeGrid { inverse, zero, ends, moved_first, shift }
    }
}

/// How products of codes go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finish {
    /// What results are rounded to before the activation.
    pub(crate) rounded: Option<Steps>,
    /// The codes as which they are stored in the end.
    pub(crate) stored: Option<Steps>,
}

impl CpuOp {
    /// What it is called where operators are listed.
    fn name(self) -> &'static str {
        match self {
            Self::QuantizeRows { prologue, .. } => match prologue {
                Prologue::None => "quantize",
                Prologue::LayerNorm { .. } => "layer_norm_8",
                Prologue::RmsNorm { .. } => "rms_norm_8",
                Prologue::GroupNorm { .. } => "group_norm_8",
            },
            Self::LinearRows(_) | Self::LinearBlocks(_) => "linear",
            Self::LinearChosen { .. } => "linear_chosen",
            Self::LinearCodes(..) => "linear_codes",
            Self::ConvCodes(..) => "conv2d_codes",
            Self::Encode { .. } => "encode",
            Self::Round { .. } => "round_to_codes",
            Self::Decode => "decode",
            Self::Winograd(..) => "conv2d",
            Self::Attention8(_) => "attention",
            Self::CachedAttention(_) => "cached_attention",
        }
    }

    /// The operator in a graph, with what it yields.
    pub(crate) fn op(self, result: Signature) -> Result<Op> {
        let data = serde_json::to_vec(&self).map_err(|error| Error::new(ErrorKind::Format, error.to_string()))?;
        Ok(Op::Native(Arc::new(Native { name: self.name().into(), data: data.into(), dims: Vec::new(), result })))
    }

    /// What an operator of a graph is.
    ///
    /// # Errors
    /// If it is one of another backend.
    pub(crate) fn of(native: &Native) -> Result<Self> {
        match serde_json::from_slice(&native.data) {
            Ok(op) => Ok(op),
            Err(_) => fail!(Unsupported, "`{}` is no operator of the CPU", native.name),
        }
    }

    /// The portable operator that it stands for, where there is one of the same shapes.
    pub(crate) fn portable(self) -> Option<Op> {
        match self {
            Self::QuantizeRows { .. } | Self::LinearChosen { .. } => None,
            Self::Encode { .. } | Self::Round { .. } | Self::Decode => None,
            Self::LinearRows(epilogue) | Self::LinearBlocks(epilogue) | Self::LinearCodes(epilogue, _) => {
                Some(Op::Linear(epilogue))
            }
            Self::Winograd(conv, epilogue) | Self::ConvCodes(conv, epilogue, _) => Some(Op::Conv2d(conv, epilogue)),
            Self::Attention8(attention) | Self::CachedAttention(CachedAttention { attention, .. }) => {
                Some(Op::Attention(attention))
            }
        }
    }
}

/// Rows with their scales.
///
/// # Errors
/// If there are no rows of known length, or of whole blocks where they are needed.
pub(crate) fn quantized(normed: &Signature, rows: Rows) -> Result<Signature> {
    let Some(width) = normed.shape.last()?.fixed().filter(|_| normed.dtype.is_float()) else {
        fail!(Shape, "{} {} has no rows to quantize", normed.dtype, normed.shape);
    };
    let mut dims = normed.shape.0.clone();
    dims.pop();
    let Some(len) = quantized_len(width, rows) else {
        fail!(Shape, "rows of {width} numbers are not whole blocks of {}", ondine_kernels::BLOCK);
    };
    dims.push(len.into());
    Ok(Signature::new(Shape(dims), DType::U8))
}

/// Bytes of a quantized row of `width` numbers, if they can be quantized so.
pub(crate) fn quantized_len(width: usize, rows: Rows) -> Option<usize> {
    match rows {
        Rows::Spanning | Rows::Within(_) => Some(ondine_kernels::quantized_row_len(width)),
        Rows::Blocks => {
            let blocks = width > 0 && width.is_multiple_of(ondine_kernels::BLOCK);
            blocks.then(|| ondine_kernels::blocked_row_len(width))
        }
    }
}
