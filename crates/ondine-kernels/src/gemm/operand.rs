//! What products are made of besides weights: operands, results, and what happens in between.

use half::bf16;

use crate::{
    arch::dot::WeightType,
    gemm::{
        epilogue::{Source, Target},
        rows::Scales,
        weights::PackedWeights,
    },
    grid::{CodeGrid, Rounded},
    math::Activation,
    quant::RowScale,
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
    /// For weights of [`WeightType::S8`] of a linear layer: rows of [`quantized_row_len`](crate::quantized_row_len)
    /// bytes, each with its scale.
    Rows8(&'a [u8]),
    /// For weights in few bits ([`gemm_coded`](crate::gemm_coded)): rows of
    /// [`blocked_row_len`](crate::blocked_row_len) bytes.
    Blocks(&'a [u8]),
}

impl<'a> Input<'a> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::U8 { values, .. } => values.len(),
            Self::Rows8(bytes) | Self::Blocks(bytes) => bytes.len(),
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
            Self::U8 { .. } | Self::Rows8(_) | Self::Blocks(_) => WeightType::S8,
        }
    }

    /// The elements as bytes.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        match *self {
            Self::F32(values) => Values::F32(values).bytes(),
            Self::Bf16(values) => Values::Bf16(values).bytes(),
            Self::U8 { values, .. } => values,
            Self::Rows8(bytes) | Self::Blocks(bytes) => bytes,
        }
    }

    pub(crate) fn pointer(&self) -> *const u8 {
        match self {
            Self::F32(values) => values.as_ptr().cast(),
            Self::Bf16(values) => values.as_ptr().cast(),
            Self::U8 { values, .. } => values.as_ptr(),
            Self::Rows8(bytes) | Self::Blocks(bytes) => bytes.as_ptr(),
        }
    }

    /// The scales, checked to be right for `rows` rows.
    pub(crate) fn scales(&self, rows: usize) -> Option<Scales<'a>> {
        match *self {
            Self::F32(_) | Self::Bf16(_) | Self::Blocks(_) => None,
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
    /// bf16 (brain floating point), rounded to nearest.
    Bf16(&'a mut [bf16]),
    /// Codes of 8 bits.
    Codes(&'a mut [u8], CodeGrid),
}

impl Output<'_> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::Codes(codes, _) => codes.len(),
        }
    }

    /// True if there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements from this one on.
    pub(crate) fn from(&mut self, first: usize) -> Output<'_> {
        match self {
            Self::F32(values) => Output::F32(&mut values[first..]),
            Self::Bf16(values) => Output::Bf16(&mut values[first..]),
            Self::Codes(codes, grid) => Output::Codes(&mut codes[first..], *grid),
        }
    }

    pub(crate) fn target(&mut self) -> Target {
        match self {
            Self::F32(values) => Target::F32(values.as_mut_ptr()),
            Self::Bf16(values) => Target::Bf16(values.as_mut_ptr()),
            Self::Codes(codes, grid) => Target::Codes(codes.as_mut_ptr(), grid),
        }
    }
}

/// Numbers added to a result.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// bf16 (brain floating point).
    Bf16(&'a [bf16]),
}

impl<'a> Values<'a> {
    /// The elements from this one on.
    pub(crate) fn from(&self, first: usize) -> Self {
        match *self {
            Self::F32(values) => Self::F32(&values[first..]),
            Self::Bf16(values) => Self::Bf16(&values[first..]),
        }
    }

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

    pub(crate) fn weight_type(&self) -> WeightType {
        match self {
            Self::F32(_) => WeightType::F32,
            Self::Bf16(_) => WeightType::Bf16,
        }
    }

    pub(crate) fn pointer(&self) -> *const u8 {
        match self {
            Self::F32(values) => values.as_ptr().cast(),
            Self::Bf16(values) => values.as_ptr().cast(),
        }
    }

    /// The elements as bytes.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        let len = match self {
            Self::F32(values) => size_of_val(*values),
            Self::Bf16(values) => size_of_val(*values),
        };
        // SAFETY: both are numbers without padding, and a byte may have any bits.
        unsafe { std::slice::from_raw_parts(self.pointer(), len) }
    }

    pub(crate) fn slice(&self, first: usize, count: usize) -> Values<'a> {
        match self {
            Self::F32(values) => Values::F32(&values[first..first + count]),
            Self::Bf16(values) => Values::Bf16(&values[first..first + count]),
        }
    }

    pub(crate) fn source(&self) -> Source {
        match self {
            Self::F32(values) => Source::F32(values.as_ptr()),
            Self::Bf16(values) => Source::Bf16(values.as_ptr()),
        }
    }
}

/// What happens to a product before it is stored: `+ bias`, rounding, activation (or gate), `+ residual`, in this
/// order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One number per output, in the order of the weights.
    pub bias: Option<&'a [f32]>,
    /// What the sum is rounded to; only if the weights are not gated.
    pub rounded: Option<Rounded>,
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

/// Checks that columns of a product are some of all, in rising order.
pub(crate) fn check_columns(columns: &[usize], outputs: usize, gated: bool) {
    assert!(!gated, "single columns of gated weights");
    assert!(columns.is_sorted_by(|a, b| a < b), "columns are not in rising order");
    assert!(columns.last().is_none_or(|&last| last < outputs), "columns {columns:?} of {outputs}");
}

/// Checks that `len` elements hold `rows` rows of `columns` elements, `stride` apart.
pub(crate) fn check_rows(what: &str, len: usize, rows: usize, columns: usize, stride: usize) {
    let needed = if rows == 0 { 0 } else { (rows - 1) * stride + columns };
    assert!(rows <= 1 || stride >= columns, "{what}: rows of {columns} elements overlap at stride {stride}");
    assert!(len >= needed, "{what}: {len} elements, but {rows} rows of {columns} at stride {stride} are {needed}");
}
