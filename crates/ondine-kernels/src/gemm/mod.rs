//! Matrix products with packed weights, and with two operands known only when the network runs.

pub(crate) mod coded;
pub(crate) mod decode;
pub(crate) mod drive;
pub(crate) mod epilogue;
pub(crate) mod matmul;
pub(crate) mod micro;
pub(crate) mod weights;

use std::ops::Range;

use half::bf16;

use crate::{
    gemm::{
        drive::{Product, Rows, Scales, Table},
        epilogue::{Source, Target},
        weights::{PackedWeights, WeightType},
    },
    math::Activation,
    quant::{RowScale, quantized_row_len},
    table::Kernels,
    threads::Pool,
};

/// Activations to multiply.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// For weights of [`WeightType::F32`].
    F32(&'a [f32]),
    /// For weights of [`WeightType::Bf16`].
    Bf16(&'a [bf16]),
    /// For weights of [`WeightType::S8`]: `x = scale * (q - zero)`.
    U8 {
        /// The values `q`.
        values: &'a [u8],
        /// One scale for all rows, or as many as divide their number: each holds for so many consecutive rows.
        scales: &'a [RowScale],
    },
    /// For weights of [`WeightType::S8`] of a linear layer: rows of [`quantized_row_len`] bytes, each with its scale.
    Rows8(&'a [u8]),
}

impl<'a> Input<'a> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::U8 { values, .. } => values.len(),
            Self::Rows8(bytes) => bytes.len(),
        }
    }

    /// True if there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn weight_type(&self) -> WeightType {
        match self {
            Self::F32(_) => WeightType::F32,
            Self::Bf16(_) => WeightType::Bf16,
            Self::U8 { .. } | Self::Rows8(_) => WeightType::S8,
        }
    }

    pub(crate) fn pointer(&self) -> *const u8 {
        match self {
            Self::F32(values) => values.as_ptr().cast(),
            Self::Bf16(values) => values.as_ptr().cast(),
            Self::U8 { values, .. } => values.as_ptr(),
            Self::Rows8(bytes) => bytes.as_ptr(),
        }
    }

    /// The scales, checked to be right for `rows` rows.
    pub(crate) fn scales(&self, rows: usize) -> Option<Scales<'a>> {
        match *self {
            Self::F32(_) | Self::Bf16(_) => None,
            Self::U8 { scales, .. } => {
                let divides = rows == 0 || (!scales.is_empty() && rows.is_multiple_of(scales.len()));
                assert!(divides, "{} scales for {rows} rows", scales.len());
                let fit = scales.iter().all(|scale| (0..256).contains(&scale.zero));
                assert!(fit, "the zero of a scale is not in 0..=255");
                Some(Scales::Apart { scales, rows_per_scale: (rows / scales.len().max(1)).max(1) })
            }
            Self::Rows8(bytes) => Some(Scales::Beside { bytes, row_len: bytes.len() / rows.max(1) }),
        }
    }
}

/// Results to write.
#[derive(Debug)]
pub enum Output<'a> {
    /// Single precision.
    F32(&'a mut [f32]),
    /// Brain floating point, rounded to nearest.
    Bf16(&'a mut [bf16]),
}

impl Output<'_> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// True if there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn target(&mut self) -> Target {
        match self {
            Self::F32(values) => Target::F32(values.as_mut_ptr()),
            Self::Bf16(values) => Target::Bf16(values.as_mut_ptr()),
        }
    }
}

/// Numbers added to a result.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Brain floating point.
    Bf16(&'a [bf16]),
}

impl Values<'_> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// True if there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn source(&self) -> Source {
        match self {
            Self::F32(values) => Source::F32(values.as_ptr()),
            Self::Bf16(values) => Source::Bf16(values.as_ptr()),
        }
    }
}

/// What happens to a product before it is stored: `+ bias`, activation (or gate), `+ residual`, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One number per output, in the order of the weights.
    pub bias: Option<&'a [f32]>,
    /// Applied to the sum; if the weights are gated, to the second half, which multiplies the first.
    pub activation: Activation,
    /// Added at the end: rows of the columns of the result.
    pub residual: Option<Values<'a>>,
    /// Elements from one row of the residual to the next.
    pub residual_stride: usize,
}

impl Epilogue<'_> {
    /// Checks the lengths for `rows` rows.
    pub(crate) fn check(&self, weights: &PackedWeights<'_>, rows: usize) {
        let shape = weights.shape();
        self.check_shape(shape.outputs, shape.columns(), rows);
    }

    /// Checks the lengths for `rows` rows of weights of this shape.
    pub(crate) fn check_shape(&self, outputs: usize, columns: usize, rows: usize) {
        if let Some(bias) = self.bias {
            assert_eq!(bias.len(), outputs, "bias");
        }
        if let Some(residual) = self.residual {
            check_rows("residual", residual.len(), rows, columns, self.residual_stride);
        }
    }
}

/// A linear layer to compute: `[rows, channels]` times the transposed weights `[outputs, channels]`.
#[derive(Clone, Copy, Debug)]
pub struct GemmProblem<'a> {
    /// Rows of the input and of the result.
    pub rows: usize,
    /// The input.
    pub input: Input<'a>,
    /// Elements from one row of the input to the next, at least the channels.
    pub input_stride: usize,
    /// Packed for the tier that computes.
    pub weights: PackedWeights<'a>,
    /// What happens to the product before it is stored.
    pub epilogue: Epilogue<'a>,
    /// Elements from one row of the result to the next, at least its columns.
    pub out_stride: usize,
}

/// Computes a linear layer.
///
/// # Panics
/// If the input's type is not that of the weights, if the weights have several taps, inputs or groups, or if a slice
/// is too short for its rows and stride.
pub fn gemm(pool: &Pool, kernels: &Kernels, problem: &GemmProblem<'_>, mut out: Output<'_>) {
    let &GemmProblem { rows, input, input_stride, weights, epilogue, out_stride } = problem;
    let shape = weights.shape();
    assert_eq!(input.weight_type(), shape.dtype, "type of the input");
    assert!(shape.taps == 1 && shape.groups == 1 && shape.channels[1] == 0, "not a linear layer: {shape:?}");
    if let Input::Rows8(bytes) = input {
        let len = quantized_row_len(shape.channels[0]);
        assert!(input_stride == len && bytes.len() == rows * len, "the input is not {rows} rows of {len} bytes");
    }
    check_rows("input", input.len(), rows, shape.channels[0], input_stride);
    check_rows("output", out.len(), rows, shape.columns(), out_stride);
    weights.check(kernels);
    epilogue.check(&weights, rows);
    let source = Dense { first: input.pointer(), stride: input_stride * shape.dtype.activation_bytes() };
    Product {
        kernels: &kernels.gemm,
        weights,
        rows,
        source,
        scales: input.scales(rows),
        epilogue: &epilogue,
        residual: epilogue.residual.map(|residual| residual.source()),
        out: out.target(),
        out_stride,
    }
    .run(pool);
}

/// Checks that `len` elements hold `rows` rows of `columns` elements, `stride` apart.
pub(crate) fn check_rows(what: &str, len: usize, rows: usize, columns: usize, stride: usize) {
    let needed = if rows == 0 { 0 } else { (rows - 1) * stride + columns };
    assert!(rows <= 1 || stride >= columns, "{what}: rows of {columns} elements overlap at stride {stride}");
    assert!(len >= needed, "{what}: {len} elements, but {rows} rows of {columns} at stride {stride} are {needed}");
}

/// Rows at equal distances.
pub(crate) struct Dense {
    pub(crate) first: *const u8,
    /// Bytes.
    pub(crate) stride: usize,
}

// SAFETY: the address is that of a slice that the caller of the product holds.
unsafe impl Sync for Dense {}

impl Rows for Dense {
    fn locate(&self, _group: usize, _input: usize, rows: Range<usize>, table: &mut Table<'_>) {
        for (index, row) in rows.enumerate() {
            table.row(index).set(0, self.first.wrapping_add(row * self.stride));
        }
    }
}
