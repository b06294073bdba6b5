//! What operators cost: multiply-adds of products, bytes read and written.

use ondine_graph::{DType, Op, element_count};

use crate::{backend::OperandShape, step::Cost};

/// The cost of a portable operator with bound shapes; time is not known.
#[must_use]
pub fn cost(op: &Op, operands: &[OperandShape<'_>], result: &OperandShape<'_>) -> Cost {
    Cost { flops: flops(op, operands, result.shape), bytes: bytes(op, operands, result), seconds: 0.0 }
}

/// Floating-point operations of an operator's products: two for each multiply-add; 0 for operators without products.
fn flops(op: &Op, operands: &[OperandShape<'_>], result: &[usize]) -> u64 {
    let shape = |position: usize| operands.get(position).map_or(&[][..], |operand| operand.shape);
    let product = |shape: &[usize]| shape.iter().fold(1_u64, |product, &n| product.saturating_mul(n as u64));
    let size = |position: usize, axis: usize| shape(position).get(axis).map_or(0, |&n| n as u64);
    let last = |position: usize| shape(position).last().map_or(0, |&n| n as u64);
    let multiply_adds = match op {
        Op::Linear(epilogue) => product(result) * size(1, 1) * if epilogue.gate { 2 } else { 1 },
        Op::Conv2d(..) => product(result) * product(shape(1).get(1..).unwrap_or_default()),
        Op::GroupedMatMul { .. } => product(result) * size(0, 1),
        Op::Recurrent { .. } => product(shape(0)) * size(1, 1),
        Op::MatMul { .. } => product(result) * last(0),
        Op::Attention(attention) => {
            let pairs = size(0, 0) * size(0, 1) * size(1, 1) * attention.heads as u64;
            pairs * (size(0, 2) / attention.heads.max(1) as u64 + size(2, 2) / attention.kv_heads.max(1) as u64)
        }
        Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_) | Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) => 0,
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Select
        | Op::Cast(_)
        | Op::Bits(_)
        | Op::Slice { .. }
        | Op::Concat { .. } => 0,
        Op::Rotate { .. } => product(result),
        Op::Pad { .. } | Op::Gather | Op::TakeRow | Op::Take { .. } | Op::Scatter(_) | Op::ArgMax => 0,
        Op::Reduce { .. } | Op::Softmax | Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::GroupNorm { .. } => 0,
        Op::Glu(_) | Op::Resize { .. } | Op::Range { .. } | Op::Scan { .. } | Op::ArgSort { .. } | Op::Pool(_) => 0,
        Op::Interpolate { .. } | Op::Solve | Op::Cholesky | Op::Determinant | Op::Measure { .. } => 0,
        Op::Assert { .. } | Op::Loop(_) | Op::Unpack { .. } => 0,
        Op::Suppress { .. } | Op::Regions(_) | Op::Native(_) => 0,
    };
    2 * multiply_adds
}

/// Bytes that one operator reads and writes, of its inputs those that it looks at.
fn bytes(op: &Op, operands: &[OperandShape<'_>], result: &OperandShape<'_>) -> u64 {
    let size = |dtype: DType, shape: &[usize]| {
        element_count(shape).map_or(u64::MAX, |count| (count as u64).saturating_mul(dtype.size() as u64))
    };
    let written = size(result.dtype, result.shape);
    match op {
        // They read of their first input what becomes the result.
        Op::Gather | Op::TakeRow | Op::Slice { .. } => written.saturating_mul(2),
        _ => operands.iter().map(|operand| size(operand.dtype, operand.shape)).fold(written, u64::saturating_add),
    }
}
