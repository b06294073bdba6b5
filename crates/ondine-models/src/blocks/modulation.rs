//! Norms that a vector of time and text shifts, scales and gates: adaptive layer norms (Peebles and Xie 2023).

use ondine_graph::{NDArray, Result, Value, fail};

use super::{layers::linear, module::Module};

/// Added to the variance in all of them.
const EPS: f32 = 1e-6;

/// What a vector makes of a stream before, and of what is added to it after.
#[derive(Clone, Copy, Debug)]
pub struct Modulation {
    /// Added to the scaled norm, `[b, 1, width]`.
    pub shift: Value,
    /// The norm is multiplied by one more than that, `[b, 1, width]`.
    pub scale: Value,
    /// What is added to the stream is multiplied by that, `[b, 1, width]`.
    pub gate: Value,
}

/// The linear layer `linear` of an adaptive norm over the activated vector `cond` `[b, any]`, cut into `parts` values
/// `[b, 1, width]`; the layer has a bias if `bias` says so.
///
/// # Errors
/// If the shapes do not fit.
pub fn modulation_parts(m: &mut Module<'_>, cond: Value, width: usize, parts: usize, bias: bool) -> Result<Vec<Value>> {
    let all = linear(&mut m.at("linear"), cond, parts * width, bias)?;
    let batch = m.dim(all, 0);
    let all = m.reshape(all, vec![batch, 1.into(), (parts * width).into()])?;
    (0..parts).map(|part| m.slice(all, 2, part * width, (part + 1) * width)).collect()
}

/// `N` modulations of a stream of this width, each shift, scale and gate (adaLN-Zero).
///
/// # Errors
/// If the shapes do not fit.
pub fn modulations<const N: usize>(
    m: &mut Module<'_>,
    cond: Value,
    width: usize,
    bias: bool,
) -> Result<[Modulation; N]> {
    let parts = modulation_parts(m, cond, width, 3 * N, bias)?;
    let all: Vec<_> =
        parts.as_chunks().0.iter().map(|&[shift, scale, gate]| Modulation { shift, scale, gate }).collect();
    match all.try_into() {
        Ok(all) => Ok(all),
        Err(_) => fail!(Internal, "a modulation in other parts"),
    }
}

/// Layer norm over the last dimension, without weights.
///
/// # Errors
/// If the width is not known.
pub fn plain_layer_norm(m: &mut Module<'_>, x: Value) -> Result<Value> {
    let width = m.width(x)?;
    let weight = m.constant(NDArray::new(&[width], &vec![1.0_f32; width])?);
    let bias = m.constant(NDArray::new(&[width], &vec![0.0_f32; width])?);
    m.layer_norm(x, weight, bias, EPS)
}

/// `x` `[b, n, width]` times one more than `scale`, plus `shift`, both `[b, 1, width]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn modulated(m: &mut Module<'_>, x: Value, scale: Value, shift: Value) -> Result<Value> {
    let scale = m.affine(scale, 1.0, 1.0)?;
    let x = m.mul(x, scale)?;
    m.add(x, shift)
}

/// The norm of a stream that ends in a projection, whose layer yields scale before shift
/// (`AdaLayerNormContinuous` of diffusers).
///
/// # Errors
/// If the shapes do not fit.
pub fn continuous_norm(m: &mut Module<'_>, x: Value, cond: Value, bias: bool) -> Result<Value> {
    let width = m.width(x)?;
    let parts = modulation_parts(m, cond, width, 2, bias)?;
    let x = plain_layer_norm(m, x)?;
    modulated(m, x, parts[0], parts[1])
}
