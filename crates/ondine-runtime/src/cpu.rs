//! The CPU as a backend: how weights are packed for it, and what runs each operator.
//!
//! [`run`] is the one entry. Shapes were checked when the graph was built and bound when the call was planned, so
//! what is left to fail here is data: an index outside its table.

mod elementwise;
mod general;
mod loops;
mod movement;
mod products;
mod recurrent;
mod rows;
mod weights;

use bytemuck::{cast_slice, cast_slice_mut};

use crate::{device::Device, exec::{Operand, Target}, specialize::Options};
use ondine_graph::{fail, Element, Graph, NDArray, Node, Op, Result, Value};

pub(crate) use products::prefers_winograd;
pub(crate) use weights::{Coding, Format, Levels, format, pack, pack_codes, packed_bytes, reads_rows};

impl<'a> Operand<'a> {
    /// The elements.
    fn view<T: Element>(&self) -> &'a [T] {
        cast_slice(self.bytes)
    }
}

impl Target<'_> {
    /// The elements.
    fn view<T: Element>(&mut self) -> &mut [T] {
        cast_slice_mut(self.bytes)
    }
}

/// Bytes that an operator needs beside its inputs and result.
pub(crate) fn scratch_bytes(
    graph: &Graph,
    value: Value,
    shapes: &[Vec<usize>],
    options: Options,
    device: &Device,
) -> usize {
    let node = graph.node(value);
    let inputs: Vec<&[usize]> = node.inputs.iter().map(|input| shapes[input.index()].as_slice()).collect();
    if let Op::Loop(inner) = &node.op {
        return loops::scratch_bytes(inner, &inputs, device);
    }
    if let Op::Recurrent { cell, .. } = node.op {
        let computed = !matches!(graph.node(node.inputs[1]).op, Op::Weight(_));
        return recurrent::scratch_bytes(cell, &inputs, computed, device);
    }
    let dtype = node.inputs.first().map_or(node.signature.dtype, |&input| graph.node(input).signature.dtype);
    products::scratch_bytes(&node.op, dtype, &inputs, options, device)
}

/// Runs one node on constant inputs.
pub(crate) fn evaluate(node: &Node, inputs: &[&NDArray], device: &Device) -> Result<NDArray> {
    let Some(shape) = node.signature.shape.fixed() else { fail!(Shape, "{} has no fixed shape", node.op) };
    if matches!(node.op, Op::Reshape(_)) {
        return inputs[0].clone().reshape(&shape);
    }
    let mut result = NDArray::zeros(node.signature.dtype, &shape)?;
    let operands: Vec<_> = inputs
        .iter()
        .map(|array| Operand { dtype: array.dtype(), shape: array.shape(), bytes: array.bytes(), format: None })
        .collect();
    let shapes: Vec<&[usize]> = inputs.iter().map(|array| array.shape()).collect();
    let scratch = products::scratch_bytes(
        &node.op,
        operands.first().map_or(node.signature.dtype, |first| first.dtype),
        &shapes,
        Options::default(),
        device,
    );
    let mut scratch = ondine_graph::AlignedBytes::zeroed(scratch);
    let mut target = Target { dtype: node.signature.dtype, shape: &shape, bytes: result.bytes_mut(), scale: None };
    run(&node.op, &operands, &mut target, scratch.as_mut_slice(), device)?;
    Ok(result)
}

/// Runs an operator: reads `inputs`, writes all of `out`.
pub(crate) fn run(
    op: &Op,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Device,
) -> Result<()> {
    match op {
        Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_) | Op::Reshape(_) => {
            fail!(Unsupported, "{op} is a place, not something to run")
        }
        Op::Unary(unary) => elementwise::unary(*unary, inputs[0], out, device),
        Op::Binary(binary) => elementwise::binary(*binary, inputs[0], inputs[1], out, device),
        Op::Select => elementwise::select(inputs, out, device),
        Op::Cast(_) => elementwise::cast(inputs[0], out, device),
        Op::Glu(activation) => elementwise::glu(*activation, inputs[0], out, device),
        Op::Softmax => elementwise::softmax(inputs[0], out, device),
        Op::Reduce { how, axes, .. } => elementwise::reduce(*how, axes, inputs[0], out, device),
        Op::ArgMax => elementwise::argmax(inputs[0], out, device),
        Op::LayerNorm { eps } => elementwise::layer_norm(*eps, inputs, out, device),
        Op::RmsNorm { eps } => elementwise::rms_norm(*eps, inputs, out, device),
        Op::GroupNorm { groups, eps, activation } => {
            elementwise::group_norm(*groups, *eps, *activation, inputs, out, device)
        }
        Op::Quantize(prologue, range) => elementwise::quantize(*prologue, *range, inputs, out, device),
        Op::Permute(axes) => movement::permute(axes, inputs[0], out, device),
        Op::Expand(_) => movement::expand(inputs[0], out, device),
        Op::Slice { axis, start, .. } => movement::slice(*axis, start, inputs[0], out, device),
        Op::Concat { axis } => movement::concat(*axis, inputs, out, device),
        Op::Pad { amounts } => movement::pad(amounts, inputs[0], out, device),
        Op::Gather => movement::gather(inputs[0], inputs[1], out, device),
        Op::TakeRow => movement::take_row(inputs[0], inputs[1], out, device),
        Op::Resize { how, .. } => movement::resize(*how, inputs[0], out, device),
        Op::Linear(epilogue) => products::linear(*epilogue, inputs, out, device),
        Op::Range { start, step, .. } => general::range(start, *step, out),
        Op::Take { axis } => general::take(*axis, inputs[0], inputs[1], out, device),
        Op::Scatter(how) => general::scatter(*how, inputs, out),
        Op::Scan { axis, how } => general::scan(*axis, *how, inputs[0], out, device),
        Op::ArgSort { descending, .. } => general::argsort(*descending, inputs[0], out, device),
        Op::Pool(pooling) => general::pool(pooling, inputs[0], out, device),
        Op::Interpolate { axis, how, .. } => general::interpolate(*axis, *how, inputs[0], out, device),
        Op::GroupedMatMul { transposed } => products::grouped_matmul(*transposed, inputs, out, scratch, device),
        Op::Recurrent { cell, reverse } => recurrent::recurrent(*cell, *reverse, inputs, out, scratch, device),
        Op::Solve => general::solve(inputs, out, device),
        Op::Cholesky => general::cholesky(inputs[0], out, device),
        Op::Determinant => general::determinant(inputs[0], out, device),
        Op::Measure { .. } => movement::whole(inputs[0], out),
        Op::Loop(inner) => loops::run(inner, inputs, out, scratch, device),
        Op::Unpack { offset, .. } => movement::unpack(offset, inputs[0], out),
        Op::Conv2d(conv, epilogue) => products::conv2d(*conv, *epilogue, inputs, out, scratch, device),
        Op::MatMul { transposed } => products::matmul(*transposed, inputs, out, scratch, device),
        Op::Attention(attention) => products::attention(attention, inputs, out, scratch, device),
    }
}

/// Calls `$body` with `$T` being the Rust type of `$dtype`, which must be one of those listed.
macro_rules! dispatch {
    ($op:expr, $dtype:expr, [$($variant:ident => $rust:ty),+], $T:ident => $body:expr) => {
        match $dtype {
            $(ondine_graph::DType::$variant => { type $T = $rust; $body; Ok::<(), ondine_graph::Error>(()) })+
            other => ondine_graph::fail!(Unsupported, "{} of {other} numbers", $op),
        }
    };
}
pub(crate) use dispatch;
