//! Matrix products with packed weights, and with two operands known only when the network runs.

pub(crate) mod blocked;
pub(crate) mod coded;
pub(crate) mod decode;
pub(crate) mod drive;
pub(crate) mod epilogue;
pub(crate) mod grouped;
pub(crate) mod laid;
pub(crate) mod matmul;
pub(crate) mod micro;
pub(crate) mod narrow;
pub(crate) mod operand;
pub(crate) mod rows;
pub(crate) mod weights;
pub(crate) mod widen;

use crate::{
    cpu::Cpu,
    gemm::{
        drive::Gemm,
        operand::{Epilogue, Input, Output, check_columns, check_rows},
        rows::Dense,
        weights::PackedWeights,
    },
    quant::quantized_row_len,
};

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
pub fn gemm(cpu: &Cpu, problem: &GemmProblem<'_>, out: Output<'_>) {
    product(cpu, problem, None, out);
}

/// Computes those columns of a linear layer that are named, in rising order: what they are among all, to the bit. What
/// the result has at other columns may be left as it was, or be overwritten.
///
/// # Panics
/// As [`gemm`], if the weights are gated, or if a column is none or not behind the one before.
pub fn gemm_columns(cpu: &Cpu, problem: &GemmProblem<'_>, columns: &[usize], out: Output<'_>) {
    let shape = problem.weights.shape();
    check_columns(columns, shape.outputs, shape.glu);
    product(cpu, problem, Some(columns), out);
}

fn product(cpu: &Cpu, problem: &GemmProblem<'_>, columns: Option<&[usize]>, mut out: Output<'_>) {
    let &GemmProblem { rows, input, input_stride, weights, epilogue, out_stride } = problem;
    let shape = weights.shape();
    assert_eq!(input.weight_type(), shape.dtype, "type of the input");
    assert!(!matches!(input, Input::Blocks(_)), "rows in blocks for weights of 8 bits");
    assert!(shape.taps == 1 && shape.groups == 1 && shape.channels[1] == 0, "not a linear layer: {shape:?}");
    if let Input::Rows8(bytes) = input {
        let len = quantized_row_len(shape.channels[0]);
        assert!(input_stride == len && bytes.len() == rows * len, "the input is not {rows} rows of {len} bytes");
    }
    check_rows("input", input.len(), rows, shape.channels[0], input_stride);
    check_rows("output", out.len(), rows, shape.columns(), out_stride);
    weights.check(cpu);
    epilogue.check(&weights, rows);
    let bytes = shape.dtype.activation_bytes();
    let source = Dense { bytes: input.bytes(), width: shape.channels[0] * bytes, stride: input_stride * bytes };
    let gemm = Gemm {
        cpu,
        weights: weights.into(),
        rows,
        source,
        scales: input.scales(rows),
        epilogue: &epilogue,
        residual: epilogue.residual.map(|residual| residual.source()),
        columns,
        out: out.target(),
        out_stride,
    };
    // SAFETY: input, residual and output have been checked to hold the rows.
    unsafe { gemm.run() };
}

#[cfg(test)]
pub(crate) mod suite;
