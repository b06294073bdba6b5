//! Attention whose cost grows with the number of tokens, not with its square (Katharopoulos et al. 2020): positive
//! features take the place of softmax.

use ondine_graph::{Activation, Binary, Dim, NDArray, Op, Result, Value};

use super::module::Module;

/// Added to what results are divided by, so that a token that sees nothing is no division by zero.
const EPS: f32 = 1e-15;

/// What each of `n` tokens takes from all: queries, keys and values `[b, heads, n, width]`, whose features are `ReLU`
/// of queries and keys (Xie et al. 2024); `[b, heads, n, width]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn linear_attention(m: &mut Module<'_>, [q, k, v]: [Value; 3]) -> Result<Value> {
    let width = m.width(v)?;
    let ones: Vec<Dim> = (0..3).map(|axis| m.dim(v, axis)).chain([1.into()]).collect();
    let (q, k) = (m.activation(Activation::Relu, q)?, m.activation(Activation::Relu, k)?);
    // A column of ones sums what results are divided by.
    let one = m.constant(NDArray::new(&[1, 1, 1, 1], &[1.0_f32])?);
    let ones = m.push(Op::Expand(ones.into()), &[one])?;
    let v = m.concat(&[v, ones], 3)?;
    let k = m.permute(k, &[0, 1, 3, 2])?;
    let sums = m.push(Op::MatMul { transposed: false }, &[k, v])?;
    let mixed = m.push(Op::MatMul { transposed: false }, &[q, sums])?;
    let weights = m.slice(mixed, 3, width, width + 1)?;
    let weights = m.affine(weights, 1.0, EPS)?;
    let mixed = m.slice(mixed, 3, 0, width)?;
    m.binary(Binary::Div, mixed, weights)
}
