//! One operator, run: the entry to all that kernels do.
//!
//! Shapes were checked when the graph was built and bound when the call was planned, so what is left to fail here is
//! data: an index outside its table.

use ondine_graph::{DType, NDArray, Node, Op, Result, fail};

use super::{
    attention,
    elementwise::{self, GroupNorm, RowsTo},
    general, integers,
    kernel::{CpuKernel, Table},
    movement,
    native::CpuOp,
    operand::{Operand, Target},
    processor::Processor,
    products, recurrent, regions,
};
use crate::backend::OperandShape;

/// Runs an operator: reads `inputs`, writes all of `out`. With `in_place`, the first input lies in `out`.
pub(super) fn run(
    op: &Op,
    kernel: &CpuKernel,
    inputs: &[Operand<'_>],
    in_place: bool,
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Processor,
) -> Result<()> {
    let to = RowsTo::Numbers;
    match op {
        Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_) | Op::Reshape(_) => {
            fail!(Unsupported, "{op} is a place, not something to run")
        }
        Op::Loop(_) => fail!(Unsupported, "a loop is run step by step"),
        Op::Unary(unary) => elementwise::unary(*unary, inputs[0], out, device),
        Op::Binary(binary) => elementwise::binary(*binary, inputs[0], inputs[1], out, device),
        Op::Select => elementwise::select(inputs, out, device),
        Op::Cast(_) => elementwise::cast(inputs[0], out, device),
        Op::Glu(activation) => elementwise::glu(*activation, inputs[0], out, device),
        Op::Softmax => elementwise::softmax(inputs[0], out, device),
        Op::Reduce { how, axes, .. } => elementwise::reduce(*how, axes, inputs[0], out, device),
        Op::ArgMax => elementwise::argmax(inputs[0], out, device),
        Op::LayerNorm { eps } => elementwise::layer_norm(*eps, inputs, to, out, device),
        Op::RmsNorm { eps } => elementwise::rms_norm(*eps, inputs, to, out, device),
        Op::GroupNorm { groups, eps, activation } => {
            let norm = GroupNorm { groups: *groups, eps: *eps, activation: *activation };
            elementwise::group_norm(norm, inputs, to, out, device)
        }
        Op::Permute(axes) => movement::permute(axes, inputs[0], out, device),
        Op::Expand(_) => movement::expand(inputs[0], out, device),
        Op::Slice { axis, start, .. } => movement::slice(*axis, start, inputs[0], out, device),
        Op::Concat { axis } => movement::concat(*axis, inputs, out, device),
        Op::Pad { amounts } => movement::pad(amounts, inputs[0], out, device),
        Op::Gather => movement::gather(inputs[0], inputs[1], out, scratch, device),
        Op::TakeRow => movement::take_row(inputs[0], inputs[1], out, device),
        Op::Resize { how, .. } => movement::resize(*how, inputs[0], out, device),
        Op::Range { start, step, .. } => general::range(start, *step, out),
        Op::Take { axis } => general::take(*axis, inputs[0], inputs[1], out, device),
        Op::Scatter(how) => general::scatter(*how, inputs, in_place, out),
        Op::Scan { axis, how } => general::scan(*axis, *how, inputs[0], out, device),
        Op::ArgSort { descending, .. } => general::argsort(*descending, inputs[0], out, device),
        Op::Pool(pooling) => match &kernel.table {
            Table::Windows(axes) => general::pool(pooling, axes, inputs[0], out, device),
            Table::None | Table::Sources(_) => fail!(Unsupported, "pooling without its windows"),
        },
        Op::Interpolate { axis, .. } => match &kernel.table {
            Table::Sources(sources) => general::interpolate(*axis, sources, inputs[0], out, device),
            Table::None | Table::Windows(_) => fail!(Unsupported, "resampling without its sources"),
        },
        Op::Rotate { interleaved } => elementwise::rotate(*interleaved, inputs, out, device),
        Op::GroupedMatMul { transposed } => products::grouped_matmul(*transposed, inputs, out, scratch, device),
        Op::Recurrent { cell, reverse } => recurrent::recurrent(*cell, *reverse, inputs, out, scratch, device),
        Op::Solve => general::solve(inputs, out, device),
        Op::Cholesky => general::cholesky(inputs[0], out, device),
        Op::Determinant => general::determinant(inputs[0], out, device),
        Op::Suppress { most } => regions::suppress(*most, inputs[0], out),
        Op::Regions(regions) => regions::read(regions, inputs[0], inputs[1], out, device),
        Op::Measure { .. } | Op::Bits(_) => movement::whole(inputs[0], out),
        Op::Assert { text } => {
            if inputs[0].bytes.contains(&0) {
                fail!(Shape, "it does not hold that {text}");
            }
            movement::whole(inputs[0], out)
        }
        Op::Unpack { offset, .. } => movement::unpack(offset, inputs[0], out),
        Op::Linear(epilogue) => products::linear(*epilogue, inputs, None, out, device),
        Op::Conv2d(conv, epilogue) => products::conv2d(*conv, *epilogue, inputs, out, scratch, device),
        Op::MatMul { transposed } if matches!(inputs[0].dtype, DType::I8 | DType::U8) => {
            integers::matmul(*transposed, inputs, out, device)
        }
        Op::MatMul { transposed } => products::matmul(*transposed, inputs, out, scratch, device),
        Op::Attention(attention) => attention::attention(attention, false, inputs, out, scratch, device),
        Op::Native(native) => match kernel.own {
            Some(own) => run_own(own, inputs, out, scratch, device),
            None => fail!(Unsupported, "`{}` is not prepared", native.name),
        },
    }
}

fn run_own(
    op: CpuOp,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Processor,
) -> Result<()> {
    match op {
        CpuOp::QuantizeRows { prologue, rows } => elementwise::quantize(prologue, rows, inputs, out, device),
        CpuOp::LinearRows(epilogue) | CpuOp::LinearBlocks(epilogue) => {
            products::linear(epilogue, inputs, None, out, device)
        }
        CpuOp::LinearChosen { epilogue, .. } => products::chosen(epilogue, inputs, out, scratch, device),
        CpuOp::Winograd(conv, epilogue) => products::conv2d(conv, epilogue, inputs, out, scratch, device),
        CpuOp::Attention8(attention) => attention::attention(&attention, true, inputs, out, scratch, device),
        CpuOp::CachedAttention(cached) => attention::cached(&cached, inputs, out, scratch, device),
        CpuOp::Encode { ends, moved_first, shift } => integers::encode(ends, moved_first, shift, inputs, out, device),
        CpuOp::Round { ends, moved_first } => integers::round(ends, moved_first, inputs, out, device),
        CpuOp::Decode => integers::decode(inputs, out, device),
        CpuOp::LinearCodes(epilogue, finish) => integers::linear(epilogue, finish, inputs, out, device),
        CpuOp::ConvCodes(conv, epilogue, finish) => integers::conv2d(conv, (epilogue, finish), inputs, out, device),
    }
}

/// Runs one node on constant inputs.
///
/// # Errors
/// If its shape is not known, or its data do not fit.
pub(crate) fn evaluate(node: &Node, inputs: &[&NDArray], device: &Processor) -> Result<NDArray> {
    let Some(shape) = node.signature.shape.fixed() else { fail!(Shape, "{} has no fixed shape", node.op) };
    if matches!(node.op, Op::Reshape(_)) {
        return inputs[0].clone().reshape(&shape);
    }
    let mut result = NDArray::zeros(node.signature.dtype, &shape)?;
    let shapes: Vec<_> = inputs
        .iter()
        .map(|array| OperandShape { dtype: array.dtype(), shape: array.shape(), form: None, space: 0 })
        .collect();
    let of_result = OperandShape { dtype: node.signature.dtype, shape: &shape, form: None, space: 0 };
    let (kernel, prepared) = device.kernel(&node.op, &shapes, &of_result)?;
    let operands: Vec<_> = inputs
        .iter()
        .map(|array| Operand { dtype: array.dtype(), shape: array.shape(), bytes: array.bytes(), format: None })
        .collect();
    let mut scratch = ondine_graph::AlignedBytes::try_zeroed(prepared.scratch)?;
    let mut target = Target { dtype: node.signature.dtype, shape: &shape, bytes: result.bytes_mut() };
    run(&node.op, &kernel, &operands, false, &mut target, scratch.as_mut_slice(), device)?;
    Ok(result)
}
