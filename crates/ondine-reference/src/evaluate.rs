//! What every operator computes, one file per kind.

mod algebra;
mod attention;
mod control;
mod convolution;
mod elementwise;
mod function;
mod inputs;
mod lookup;
mod movement;
mod norm;
mod order;
mod product;
mod recurrent;
mod reduce;
mod regions;
mod resample;

use ondine_graph::{DType, Error, ErrorKind, Op, Result};

use crate::{number::Real, tensor::Tensor};
use inputs::{one, some};

/// The result of an operator whose sizes are all bound, of this type and shape.
///
/// Numbers are not rounded to the type; with [`crate::Bounded`] their errors say by how much a device may round them.
///
/// # Errors
/// If an index is out of its table, the inputs are not what the operator takes, or it is no operator that computes from
/// tensors alone: an argument, a weight, a constant, a state or a loop.
pub fn evaluate<R: Real>(op: &Op, inputs: &[&Tensor<R>], (dtype, shape): (DType, &[usize])) -> Result<Tensor<R>> {
    let result = match op {
        Op::Native(_) => return Err(Error::new(ErrorKind::Unsupported, format!("{op} is an operator of one backend"))),
        Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_) | Op::Loop(_) => {
            return Err(Error::new(ErrorKind::Unsupported, format!("{op} has no value of its own")));
        }
        Op::Unary(op) => elementwise::unary(*op, one(inputs)?),
        Op::Binary(op) => elementwise::binary(*op, some(inputs)?, shape),
        Op::Select => elementwise::select(some(inputs)?, shape),
        Op::Cast(to) => elementwise::cast(*to, one(inputs)?),
        Op::Bits(to) => Ok(Tensor::from_bytes(*to, shape, &one(inputs)?.to_bytes())),
        Op::Glu(activation) => elementwise::glu(*activation, one(inputs)?, shape),
        Op::Reshape(_) => one(inputs)?.reshape(shape),
        Op::Permute(axes) => movement::permute(axes, one(inputs)?, shape),
        Op::Expand(_) => movement::expand(one(inputs)?, shape),
        Op::Slice { axis, start, .. } => movement::slice(*axis, start, one(inputs)?, shape),
        Op::Concat { axis } => movement::concat(*axis, inputs, shape),
        Op::Pad { amounts } => movement::pad(amounts, one(inputs)?, shape),
        Op::Range { start, step, .. } => movement::range(start, *step, shape),
        Op::Measure { .. } => Ok(one(inputs)?.clone()),
        Op::Assert { text } => control::assert(text, one(inputs)?),
        Op::Unpack { offset, .. } => movement::unpack(offset, one(inputs)?, (dtype, shape)),
        Op::Gather => lookup::gather(some(inputs)?, shape),
        Op::TakeRow => lookup::take_row(some(inputs)?, shape),
        Op::Take { axis } => lookup::take(*axis, some(inputs)?, shape),
        Op::Scatter(how) => lookup::scatter(*how, some(inputs)?),
        Op::ArgMax => order::argmax(one(inputs)?, shape),
        Op::ArgSort { descending, .. } => order::argsort(*descending, one(inputs)?, shape),
        Op::Reduce { how, axes, .. } => reduce::reduce(*how, axes, one(inputs)?, shape),
        Op::Scan { axis, how } => reduce::scan(*axis, *how, one(inputs)?),
        Op::Softmax => norm::softmax(one(inputs)?),
        Op::LayerNorm { eps } => norm::layer_norm(*eps, inputs),
        Op::RmsNorm { eps } => norm::rms_norm(*eps, inputs),
        Op::GroupNorm { groups, eps, activation } => norm::group_norm(*groups, *eps, *activation, inputs),
        Op::Linear(epilogue) => product::linear(*epilogue, inputs, shape),
        Op::MatMul { transposed } => product::matmul(*transposed, some(inputs)?, shape),
        Op::Rotate { interleaved } => elementwise::rotate(*interleaved, some(inputs)?),
        Op::GroupedMatMul { transposed } => product::grouped_matmul(*transposed, some(inputs)?, shape),
        Op::Conv2d(conv, epilogue) => convolution::conv2d(*conv, *epilogue, inputs, shape),
        Op::Attention(attention) => attention::attention(attention, inputs, shape),
        Op::Recurrent { cell, reverse } => recurrent::recurrent(*cell, *reverse, some(inputs)?, shape),
        Op::Resize { how, .. } => resample::resize(*how, one(inputs)?, shape),
        Op::Interpolate { axis, how, .. } => resample::interpolate(*axis, *how, one(inputs)?, shape),
        Op::Pool(pooling) => resample::pool(pooling, one(inputs)?, shape),
        Op::Suppress { most } => regions::suppress(*most, one(inputs)?, shape),
        Op::Regions(how) => regions::regions(how, some(inputs)?, shape),
        Op::Solve => algebra::solve(some(inputs)?),
        Op::Cholesky => algebra::cholesky(one(inputs)?),
        Op::Determinant => algebra::determinant(one(inputs)?, shape),
    }?;
    typed(result, dtype)
}

/// The result in the type that it is wanted in: floating-point numbers are held in it.
fn typed<R: Real>(result: Tensor<R>, dtype: DType) -> Result<Tensor<R>> {
    if result.dtype() == dtype { Ok(result) } else { result.typed(dtype) }
}
