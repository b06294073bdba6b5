//! The operators, as data.
//!
//! Every operator yields one value. Feature maps are channels-last: `[batch, height, width, channels]`; importers
//! and builders put a [`Op::Permute`] at the edge where a file or a caller thinks otherwise. Weights keep the
//! checkpoint's shape: linear `[out, in]`, convolution `[out, in / groups, kernel_h, kernel_w]`.
//!
//! No operator says how it is computed. What a backend wants to say of that it says in an [`Op::Native`] of its own.

mod attribute;
mod function;
mod native;
mod recurrent;
mod region;
mod resample;
mod window;

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    dim::{Bindings, Dim},
    dtype::DType,
    error::Result,
    ndarray::NDArray,
    shape::Shape,
    signature::Signature,
};

pub(crate) use attribute::check_attributes;
pub use attribute::{Attention, Conv2d, Epilogue, Mask};
pub use function::{Activation, Binary, Elementary, Reduce, Resample, Scan, Scatter, Unary};
pub use native::Native;
pub use recurrent::Cell;
pub use region::{Region, Regions};
pub use resample::{Interpolation, Kernel, Sources};
pub use window::{Fold, PlacedWindows, Pooling, Window};

/// Index of a weight in [`crate::Graph::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub(crate) u32);

/// Index of a loop in [`crate::Graph::loops`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoopId(pub(crate) u32);

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
    Const(Arc<NDArray>),
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
    /// `x`, its bytes read as elements of another type: if they are of another size, the last dimension is longer or
    /// shorter by as much.
    Bits(DType),
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
        activation: Activation,
    },
    /// `x` `[.., in]`, `weight` `[out, in]` (or a convolution's, with a kernel of size 1), and what the epilogue says.
    Linear(Epilogue),
    /// `x` `[b, h, w, in]`, `weight` `[out, in / groups, kh, kw]`, and what the epilogue says.
    Conv2d(Conv2d, Epilogue),
    /// `a` `[.., m, k]`, `b` `[.., k, n]` (or `[.., n, k]` if `transposed`); leading dimensions are equal.
    /// Bytes (I8 or U8 times I8) are multiplied exactly, to I32.
    MatMul {
        /// True if `b` comes with its last two dimensions swapped.
        transposed: bool,
    },
    /// `q`, `k`, `v`, and what the mask says; see [`Attention`].
    Attention(Attention),
    /// `x` `[.., 2 n]`: the first half of the last dimension times the activated second half (Shazeer 2020).
    Glu(Activation),
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
    /// `x` `[.., heads, width]`, `cos` and `sin` (F32) `[.., 1, pairs]`, `2 * pairs <= width`: pairs `(a, b)` of the
    /// features of each head become `(a cos - b sin, b cos + a sin)`; features beyond the pairs stay. Rotary positions
    /// (Su et al. 2021).
    Rotate {
        /// True if neighbours are a pair, false if a feature and the one `pairs` further are.
        interleaved: bool,
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
    /// `boxes` `[n, 4]` (left, top, right, bottom), the best first: whether each is kept, as Bool `[n]`. A box goes if
    /// its intersection with one that is kept before it is more than `most` of their union.
    Suppress {
        /// The largest share.
        most: f64,
    },
    /// `x` `[b, h, w, channels]`, `regions` `[n, 5]` (which of the batch, then left, top, right, bottom): `[n, rows,
    /// columns, channels]`, the channels being fewer if each bin has its own; see [`Regions`].
    Regions(Regions),
    /// `count` (rank 0, I64), handed on: the size is this number from here on, in every shape that speaks of it. A
    /// call fails if it is another than the size has already, or larger than `most`, for which memory is planned.
    Measure {
        /// A symbol, or what is known of the number.
        size: Dim,
        /// The largest number that it can be.
        most: Dim,
    },
    /// `x` (Bool), handed on: a call fails with the text if an element of it is false.
    Assert {
        /// What is true of what the call computes.
        text: Arc<str>,
    },
    /// What the loop carries and what else it reads, in the order of its graphs' arguments: what it carries at the end,
    /// as bytes one after the other, each from a multiple of 64 on.
    #[serde(skip)]
    Loop(LoopId),
    /// `x` (bytes): the value that lies from byte `offset` on.
    Unpack {
        /// The first byte.
        offset: Dim,
        /// What lies there.
        signature: Signature,
    },
    /// What only one backend knows, in the place of operators that it fused or computes by another algorithm; no
    /// portable graph holds one.
    Native(Arc<Native>),
}

/// What a number in an operator's attributes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A size or a position: never negative.
    Size,
    /// Any integer.
    Number,
}

impl Op {
    /// The same operator with each of its sizes replaced by what `change` makes of it.
    fn map_dims(&self, change: &mut dyn FnMut(&Dim, Part) -> Result<Dim>) -> Result<Self> {
        let mut size = |dim: &Dim| change(dim, Part::Size);
        Ok(match self {
            Self::Reshape(shape) => Self::Reshape(shape.map(&mut size)?),
            Self::Expand(shape) => Self::Expand(shape.map(&mut size)?),
            Self::Slice { axis, start, end } => Self::Slice { axis: *axis, start: size(start)?, end: size(end)? },
            Self::Resize { how, height, width } => {
                Self::Resize { how: *how, height: size(height)?, width: size(width)? }
            }
            Self::Range { start, step, count } => {
                Self::Range { count: size(count)?, start: change(start, Part::Number)?, step: *step }
            }
            Self::ArgSort { descending, keep } => Self::ArgSort { descending: *descending, keep: size(keep)? },
            Self::Pool(pooling) => Self::Pool(pooling.map_dims(&mut size)?),
            Self::Interpolate { axis, size: new, how } => {
                Self::Interpolate { axis: *axis, size: size(new)?, how: *how }
            }
            Self::Unpack { offset, signature } => {
                let shape = signature.shape.map(&mut size)?;
                Self::Unpack { offset: size(offset)?, signature: Signature { shape, dtype: signature.dtype } }
            }
            Self::Native(native) => Self::Native(Arc::new(native.map_dims(&mut size)?)),
            // What it measures it defines: a number takes its place where others speak of it.
            Self::Measure { .. } | Self::Assert { .. } => self.clone(),
            // What a loop speaks of is the business of its own graphs.
            Self::Loop(_) => self.clone(),
            Self::Input | Self::Weight(_) | Self::Const(_) | Self::State(_) => self.clone(),
            Self::Unary(_) | Self::Binary(_) | Self::Select | Self::Cast(_) | Self::Permute(_) => self.clone(),
            Self::Concat { .. } | Self::Pad { .. } | Self::Gather | Self::TakeRow | Self::ArgMax => self.clone(),
            Self::Reduce { .. } | Self::Softmax | Self::LayerNorm { .. } | Self::RmsNorm { .. } => self.clone(),
            Self::GroupNorm { .. } | Self::Linear(_) | Self::Conv2d(..) | Self::MatMul { .. } => self.clone(),
            Self::Attention(_) | Self::Glu(_) | Self::Take { .. } | Self::Scatter(_) | Self::Scan { .. } => {
                self.clone()
            }
            Self::GroupedMatMul { .. } | Self::Recurrent { .. } | Self::Rotate { .. } => self.clone(),
            Self::Solve | Self::Cholesky | Self::Determinant | Self::Bits(_) => self.clone(),
            Self::Suppress { .. } | Self::Regions(_) => self.clone(),
        })
    }

    /// The same operator with all its sizes as numbers.
    ///
    /// # Errors
    /// As [`Dim::bind`].
    pub fn bind(&self, bindings: &Bindings) -> Result<Self> {
        self.map_dims(&mut |dim, part| match part {
            Part::Size => dim.bind(bindings).map(Dim::from),
            Part::Number => dim.number(bindings).map(Dim::from_i64),
        })
    }

    /// Adds every symbol that the operator itself speaks of to `names`; [`Op::Measure`] does not: it defines one. Of a
    /// loop [`crate::Graph::symbols`] knows more.
    pub fn symbols(&self, names: &mut BTreeSet<Arc<str>>) {
        self.dims().into_iter().for_each(|dim| dim.symbols(names));
    }

    /// The sizes that [`Op::map_dims`] replaces.
    fn dims(&self) -> Vec<&Dim> {
        match self {
            Self::Reshape(shape) | Self::Expand(shape) => shape.0.iter().collect(),
            Self::Slice { start, end, .. } => vec![start, end],
            Self::Resize { height, width, .. } => vec![height, width],
            Self::Range { start, count, .. } => vec![start, count],
            Self::ArgSort { keep: size, .. } | Self::Interpolate { size, .. } => vec![size],
            Self::Pool(pooling) => pooling.dims().collect(),
            Self::Unpack { offset, signature } => signature.shape.0.iter().chain([offset]).collect(),
            Self::Native(native) => native.dims.iter().chain(&native.result.shape.0).collect(),
            Self::Measure { .. } | Self::Assert { .. } | Self::Loop(_) => Vec::new(),
            Self::Input | Self::Weight(_) | Self::Const(_) | Self::State(_) => Vec::new(),
            Self::Unary(_) | Self::Binary(_) | Self::Select | Self::Cast(_) | Self::Permute(_) => Vec::new(),
            Self::Bits(_) => Vec::new(),
            Self::Concat { .. } | Self::Pad { .. } | Self::Gather | Self::TakeRow | Self::ArgMax => Vec::new(),
            Self::Reduce { .. } | Self::Softmax | Self::LayerNorm { .. } | Self::RmsNorm { .. } => Vec::new(),
            Self::GroupNorm { .. } | Self::Linear(_) | Self::Conv2d(..) | Self::MatMul { .. } => Vec::new(),
            Self::Attention(_) | Self::Glu(_) | Self::Take { .. } | Self::Scatter(_) | Self::Scan { .. } => Vec::new(),
            Self::GroupedMatMul { .. } | Self::Recurrent { .. } | Self::Rotate { .. } => Vec::new(),
            Self::Solve | Self::Cholesky | Self::Determinant => Vec::new(),
            Self::Suppress { .. } | Self::Regions(_) => Vec::new(),
        }
    }

    /// A short lower-case name, such as `conv2d`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Input => "input",
            Self::Weight(_) => "weight",
            Self::Const(_) => "const",
            Self::State(_) => "state",
            Self::Unary(unary) => unary.name(),
            Self::Binary(binary) => binary.name(),
            Self::Select => "select",
            Self::Cast(_) => "cast",
            Self::Bits(_) => "bits",
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
            Self::Resize { .. } => "resize",
            Self::Range { .. } => "range",
            Self::Take { .. } => "take",
            Self::Scatter(_) => "scatter",
            Self::Scan { .. } => "scan",
            Self::ArgSort { .. } => "argsort",
            Self::Pool(_) => "pool",
            Self::Interpolate { .. } => "interpolate",
            Self::Rotate { .. } => "rotate",
            Self::GroupedMatMul { .. } => "grouped_matmul",
            Self::Recurrent { .. } => "recurrent",
            Self::Solve => "solve",
            Self::Cholesky => "cholesky",
            Self::Determinant => "determinant",
            Self::Suppress { .. } => "suppress",
            Self::Regions(_) => "regions",
            Self::Measure { .. } => "measure",
            Self::Assert { .. } => "assert",
            Self::Loop(_) => "loop",
            Self::Unpack { .. } => "unpack",
            Self::Native(native) => &native.name,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
