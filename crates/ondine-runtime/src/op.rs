//! The operators, as data.
//!
//! Every operator yields one value. Feature maps are channels-last: `[batch, height, width, channels]`; importers
//! and builders put a [`Op::Permute`] at the edge where a file or a caller thinks otherwise. Weights keep the
//! checkpoint's shape: linear `[out, in]`, convolution `[out, in / groups, kernel_h, kernel_w]`.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    dim::{Bindings, Dim, Shape},
    disk::names,
    dtype::DType,
    error::Result,
    infer::Signature,
    ndarray::NDArray,
};

pub use ondine_kernels::{Activation, Elementary as Function};

pub use crate::steps::{Cell, Loop};
pub use crate::window::{Fold, Interpolation, Kernel, Pooling, Window};

/// Index of a weight in [`crate::Graph::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub(crate) u32);

/// A function of one number, applied to every element.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Unary {
    /// One of the activation functions of neural networks.
    Activation(#[serde(with = "names::Activation")] Activation),
    /// `-x`
    Neg,
    /// `|x|`
    Abs,
    /// `e^x`
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// `1 / sqrt(x)`
    Rsqrt,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// `scale * x + offset`
    Affine {
        /// The factor.
        #[serde(with = "names::number")]
        scale: f32,
        /// What is added after.
        #[serde(with = "names::number")]
        offset: f32,
    },
    /// One of the functions that networks use rarely.
    Function(#[serde(with = "names::Function")] Function),
}

/// A function of two numbers, applied element by element with numpy's broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// The smaller.
    Min,
    /// The larger.
    Max,
    /// `a` to the power of `b`.
    Pow,
    /// `a == b`, a truth value.
    Equal,
    /// `a < b`, a truth value.
    Less,
    /// What is true, or the bits that are set, in both; of truth values and integers.
    And,
    /// What is true, or the bits that are set, in one at least; of truth values and integers.
    Or,
    /// What is true, or the bits that are set, in one only; of truth values and integers.
    Xor,
    /// `a - b * floor(a / b)`: the remainder with the sign of `b`.
    Remainder,
    /// The remainder with the sign of `a`.
    Fmod,
    /// `floor(a / b)`
    FloorDiv,
    /// The angle of the point `(b, a)`.
    Atan2,
}

impl Binary {
    /// True if the result is a truth value.
    #[must_use]
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::Less)
    }
}

/// How a dimension is folded away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reduce {
    /// The sum.
    Sum,
    /// The arithmetic mean.
    Mean,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// The product.
    Product,
}

/// What is accumulated along a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scan {
    /// The sum so far.
    Sum,
    /// The product so far.
    Product,
    /// The largest so far.
    Max,
    /// The smallest so far.
    Min,
}

/// How rows are combined into those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scatter {
    /// The new row; the last of several for one place.
    Replace,
    /// Their sum.
    Add,
    /// Their product.
    Multiply,
    /// The larger elements.
    Max,
    /// The smaller elements.
    Min,
}

/// How a feature map is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resample {
    /// The nearest source element, `floor(i * in / out)`.
    Nearest,
    /// Between the four nearest, pixel centres at halves (`align_corners = false`).
    Bilinear,
}

/// What keeps queries from attending to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mask {
    /// Nothing: every key is seen.
    None,
    /// A truth value per key, `[batch, keys]`; false hides the key.
    Keys,
    /// A number added to the scores, `[batch or 1, heads or 1, queries, keys]`.
    Additive,
}

/// Attributes of [`Op::Attention`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Number of query heads; queries are `[batch, queries, heads * head_dim]`.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// What the scores are multiplied by, usually `1 / sqrt(head_dim)`.
    #[serde(with = "names::number")]
    pub scale: f32,
    /// True if query `i` sees keys `0..=i + keys - queries` only.
    pub causal: bool,
    /// The mask input, if any.
    pub mask: Mask,
    /// True if queries and keys may be rounded to numbers of 8 bits; a pass decides.
    pub eight_bit: bool,
}

/// Attributes of [`Op::Conv2d`].
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
    /// True if it is computed by Winograd's algorithm, for which weights are packed in another form; a pass decides.
    pub winograd: bool,
}

impl Default for Conv2d {
    fn default() -> Self {
        Self { stride: [1; 2], padding: [0; 4], dilation: [1; 2], groups: 1, upsample: false, winograd: false }
    }
}

impl Conv2d {
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
    #[serde(with = "names::Activation")]
    pub activation: Activation,
    /// True if the result is the first half of the last dimension times the activated second half; only of
    /// [`Op::Linear`].
    pub gate: bool,
    /// True if the last input, of the result's shape, is added at the end.
    pub residual: bool,
}

/// What is done to rows before they are quantized, which then never are stored in full.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Prologue {
    /// Nothing; input `x`.
    None,
    /// As [`Op::LayerNorm`], with its inputs.
    LayerNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// As [`Op::RmsNorm`], with its inputs.
    RmsNorm {
        /// Added to the mean square.
        eps: f32,
    },
    /// As [`Op::GroupNorm`], with its inputs.
    GroupNorm {
        /// Number of groups; divides the channels.
        groups: usize,
        /// Added to the variance.
        eps: f32,
        /// Applied to the result.
        #[serde(with = "names::Activation")]
        activation: Activation,
    },
}

/// One operator. Its inputs are listed in the order in which the variant's text names them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// An argument of the function.
    #[serde(skip)]
    Input,
    /// A tensor of the checkpoint.
    #[serde(skip)]
    Weight(WeightId),
    /// A tensor known when the graph was built.
    #[serde(skip)]
    Const(NDArray),
    /// The value that a state had when the call began, by its index in [`crate::Graph::states`].
    #[serde(skip)]
    State(usize),
    /// `x`
    Unary(Unary),
    /// `a`, `b`
    Binary(Binary),
    /// `condition`, `a`, `b`: `a` where the condition holds, else `b`; broadcast.
    Select,
    /// `x` as another element type.
    Cast(DType),
    /// `x` with the same elements under another shape.
    Reshape(Shape),
    /// `x` with output dimension `i` being input dimension `axes[i]`.
    Permute(Vec<usize>),
    /// `x` repeated along dimensions of size 1.
    Expand(Shape),
    /// `x[start..end]` along `axis`.
    Slice {
        /// The dimension that is cut.
        axis: usize,
        /// First index kept.
        start: Dim,
        /// First index dropped.
        end: Dim,
    },
    /// All inputs, one after the other along `axis`.
    Concat {
        /// The dimension that grows.
        axis: usize,
    },
    /// `x` with zeros around it.
    Pad {
        /// Zeros before and after, per dimension.
        amounts: Vec<[usize; 2]>,
    },
    /// `table`, `indices`: rows of the table along `axis` 0; an embedding. Indices out of range are an error.
    Gather,
    /// `x` (rank 3), `position` `[batch]`: `x[b, position[b]]`.
    TakeRow,
    /// `x`: the index of the first largest element along the last dimension, as I64.
    ArgMax,
    /// `x` folded along `axes`, which stay with size 1 if `keep`.
    Reduce {
        /// How.
        how: Reduce,
        /// Which dimensions, ascending.
        axes: Vec<usize>,
        /// True if folded dimensions stay with size 1.
        keep: bool,
    },
    /// `x`: `e^x` over its sum along the last dimension.
    Softmax,
    /// `x`, `weight`, `bias`: normalized over the last dimension (Ba et al. 2016).
    LayerNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// `x`, `weight`: divided by the root mean square of the last dimension (Zhang and Sennrich 2019).
    RmsNorm {
        /// Added to the mean square.
        eps: f32,
    },
    /// `x` (channels-last), `weight`, `bias`: normalized over groups of channels (Wu and He 2018), then activated.
    GroupNorm {
        /// Number of groups; divides the channels.
        groups: usize,
        /// Added to the variance.
        eps: f32,
        /// Applied to the result.
        #[serde(with = "names::Activation")]
        activation: Activation,
    },
    /// `x` `[.., in]`, `weight` `[out, in]` (or a convolution's, with a kernel of size 1), and what the epilogue says.
    /// `x` may be quantized.
    Linear(Epilogue),
    /// `x` `[b, h, w, in]`, `weight` `[out, in / groups, kh, kw]`, and what the epilogue says.
    Conv2d(Conv2d, Epilogue),
    /// `a` `[.., m, k]`, `b` `[.., k, n]` (or `[.., n, k]` if `transposed`); leading dimensions are equal.
    MatMul {
        /// True if `b` comes with its last two dimensions swapped.
        transposed: bool,
    },
    /// `q`, `k`, `v`, and what the mask says; see [`Attention`].
    Attention(Attention),
    /// `x` `[.., 2 n]`: the first half of the last dimension times the activated second half (Shazeer 2020).
    Glu(#[serde(with = "names::Activation")] Activation),
    /// `x` in 8 bits, after the prologue: rows of the last dimension, each with its scale at the end, as U8. Only for
    /// products with weights of 8 bits, which read them so. The scale is that of a range, if there is one: the lowest
    /// and the highest number; else that of the row.
    Quantize(Prologue, Option<[f32; 2]>),
    /// `x` (channels-last) resized to `height` x `width`.
    Resize {
        /// How.
        how: Resample,
        /// New height.
        height: Dim,
        /// New width.
        width: Dim,
    },
    /// The integers `start`, `start + step`, ..., `count` of them, as I64.
    Range {
        /// The first.
        start: Dim,
        /// The distance between neighbours.
        step: i64,
        /// How many.
        count: Dim,
    },
    /// `x`, `indices`: the parts of `x` along `axis` that the indices name, whose dimensions take the place of that
    /// one. Negative indices count from the end; those out of range are an error.
    Take {
        /// The dimension in which the indices count.
        axis: usize,
    },
    /// `x`, `indices` (rank 1), `rows`: `x` with rows, its parts along axis 0, replaced or combined. Indices as in
    /// [`Op::Take`].
    Scatter(Scatter),
    /// `x` accumulated along `axis`.
    Scan {
        /// The dimension.
        axis: usize,
        /// What is accumulated.
        how: Scan,
    },
    /// `x`: the indices that bring the last dimension in order, the first `keep` of them, as I64; stable.
    ArgSort {
        /// True if the largest comes first.
        descending: bool,
        /// How many are kept.
        keep: Dim,
    },
    /// `x` (channels-last, one to three dimensions between batch and channels): windows folded.
    Pool(Pooling),
    /// `x` with dimension `axis` resampled to `size`.
    Interpolate {
        /// The dimension.
        axis: usize,
        /// Its new size.
        size: Dim,
        /// By what rule.
        how: Interpolation,
    },
    /// `x` `[rows, k]`, `weight` `[groups, k, n]` (or `[groups, n, k]` if `transposed`), `ends` `[groups]`: rows up to
    /// `ends[0]` times the first matrix, from there up to `ends[1]` times the second, and so on; later rows are 0.
    GroupedMatMul {
        /// True if the matrices come transposed.
        transposed: bool,
    },
    /// `x` `[steps, batch, gates * hidden]` (what the input contributes, its bias added), `weight` `[gates * hidden,
    /// hidden]`, `bias` `[gates * hidden]`, `start` `[batch, carried * hidden]`: what each step carries, `[steps,
    /// batch, carried * hidden]`; see [`Cell`].
    Recurrent {
        /// The kind of layer.
        cell: Cell,
        /// True if it goes from the last step to the first.
        reverse: bool,
    },
    /// `a` `[.., n, n]`, `b` `[.., n, columns]`, leading dimensions equal: `x` with `a x = b`.
    Solve,
    /// `x` `[.., n, n]`: the lower triangular matrix whose product with its transpose it is.
    Cholesky,
    /// `x` `[.., n, n]`: its determinant, `[..]`.
    Determinant,
    /// `count` (rank 0, I64), handed on: the size is this number from here on, in every shape that speaks of it. A
    /// call fails if it is another than the size has already, or larger than `most`, for which memory is planned.
    Measure {
        /// A symbol, or what is known of the number.
        size: Dim,
        /// The largest number that it can be.
        most: Dim,
    },
    /// What the loop carries and what else it reads, in the order of its graphs' arguments: what it carries at the end,
    /// as bytes one after the other, each from a multiple of 64 on.
    #[serde(skip)]
    Loop(Arc<Loop>),
    /// `x` (bytes): the value that lies from byte `offset` on.
    Unpack {
        /// The first byte.
        offset: Dim,
        /// What lies there.
        signature: Signature,
    },
}

impl Unary {
    fn name(self) -> &'static str {
        match self {
            Self::Activation(_) => "activation",
            Self::Neg => "neg",
            Self::Abs => "abs",
            Self::Exp => "exp",
            Self::Log => "log",
            Self::Sqrt => "sqrt",
            Self::Rsqrt => "rsqrt",
            Self::Sin => "sin",
            Self::Cos => "cos",
            Self::Affine { .. } => "affine",
            Self::Function(_) => "function",
        }
    }
}

impl Op {
    /// The same operator with all its sizes as numbers.
    ///
    /// # Errors
    /// As [`Dim::bind`].
    pub fn bind(&self, bindings: &Bindings) -> Result<Self> {
        let bind = |dim: &Dim| dim.bind(bindings).map(Dim::from);
        Ok(match self {
            Self::Slice { axis, start, end } => Self::Slice { axis: *axis, start: bind(start)?, end: bind(end)? },
            Self::Resize { how, height, width } => {
                Self::Resize { how: *how, height: bind(height)?, width: bind(width)? }
            }
            Self::Range { start, step, count } => {
                Self::Range { start: Dim::from_i64(start.number(bindings)?), step: *step, count: bind(count)? }
            }
            Self::ArgSort { descending, keep } => Self::ArgSort { descending: *descending, keep: bind(keep)? },
            Self::Interpolate { axis, size, how } => Self::Interpolate { axis: *axis, size: bind(size)?, how: *how },
            Self::Unpack { offset, signature } => Self::Unpack { offset: bind(offset)?, signature: signature.clone() },
            op => op.clone(),
        })
    }

    /// Adds every symbol that the operator itself speaks of to `names`; [`Op::Measure`] does not: it defines one.
    pub fn symbols(&self, names: &mut BTreeSet<Arc<str>>) {
        match self {
            Self::Slice { start, end, .. } => [start, end].into_iter().for_each(|dim| dim.symbols(names)),
            Self::Resize { height, width, .. } => [height, width].into_iter().for_each(|dim| dim.symbols(names)),
            Self::Range { start, count, .. } => [start, count].into_iter().for_each(|dim| dim.symbols(names)),
            Self::ArgSort { keep: dim, .. }
            | Self::Interpolate { size: dim, .. }
            | Self::Unpack { offset: dim, .. } => {
                dim.symbols(names);
            }
            Self::Loop(inner) => {
                for node in inner.condition.nodes().iter().chain(inner.body.nodes()) {
                    node.op.symbols(names);
                    node.signature.shape.0.iter().for_each(|dim| dim.symbols(names));
                }
            }
            _ => {}
        }
    }

    /// A short lower-case name, such as `conv2d`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Weight(_) => "weight",
            Self::Const(_) => "const",
            Self::State(_) => "state",
            Self::Unary(unary) => unary.name(),
            Self::Binary(binary) => match binary {
                Binary::Add => "add",
                Binary::Sub => "sub",
                Binary::Mul => "mul",
                Binary::Div => "div",
                Binary::Min => "min",
                Binary::Max => "max",
                Binary::Pow => "pow",
                Binary::Equal => "equal",
                Binary::Less => "less",
                Binary::And => "and",
                Binary::Or => "or",
                Binary::Xor => "xor",
                Binary::Remainder => "remainder",
                Binary::Fmod => "fmod",
                Binary::FloorDiv => "floor_div",
                Binary::Atan2 => "atan2",
            },
            Self::Select => "select",
            Self::Cast(_) => "cast",
            Self::Reshape(_) => "reshape",
            Self::Permute(_) => "permute",
            Self::Expand(_) => "expand",
            Self::Slice { .. } => "slice",
            Self::Concat { .. } => "concat",
            Self::Pad { .. } => "pad",
            Self::Gather => "gather",
            Self::TakeRow => "take_row",
            Self::ArgMax => "argmax",
            Self::Reduce { .. } => "reduce",
            Self::Softmax => "softmax",
            Self::LayerNorm { .. } => "layer_norm",
            Self::RmsNorm { .. } => "rms_norm",
            Self::GroupNorm { .. } => "group_norm",
            Self::Linear(_) => "linear",
            Self::Conv2d(..) => "conv2d",
            Self::MatMul { .. } => "matmul",
            Self::Attention(_) => "attention",
            Self::Glu(_) => "glu",
            Self::Quantize(prologue, _) => match prologue {
                Prologue::None => "quantize",
                Prologue::LayerNorm { .. } => "layer_norm_8",
                Prologue::RmsNorm { .. } => "rms_norm_8",
                Prologue::GroupNorm { .. } => "group_norm_8",
            },
            Self::Resize { .. } => "resize",
            Self::Range { .. } => "range",
            Self::Take { .. } => "take",
            Self::Scatter(_) => "scatter",
            Self::Scan { .. } => "scan",
            Self::ArgSort { .. } => "argsort",
            Self::Pool(_) => "pool",
            Self::Interpolate { .. } => "interpolate",
            Self::GroupedMatMul { .. } => "grouped_matmul",
            Self::Recurrent { .. } => "recurrent",
            Self::Solve => "solve",
            Self::Cholesky => "cholesky",
            Self::Determinant => "determinant",
            Self::Measure { .. } => "measure",
            Self::Loop(_) => "loop",
            Self::Unpack { .. } => "unpack",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
