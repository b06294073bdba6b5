//! The layers of `torch.nn` that have weights.

use ondine_graph::{Conv2d, Dim, Op, Result, Value};

use super::module::Module;
use crate::config::divides;

/// `torch.nn.Linear`: `[.., in]` to `[.., out]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn linear(m: &mut Module<'_>, x: Value, out: usize, bias: bool) -> Result<Value> {
    let weight = m.tensor("weight", &[out, m.width(x)?])?;
    let bias = if bias { Some(m.tensor("bias", &[out])?) } else { None };
    m.linear(x, weight, bias)
}

/// `torch.nn.Conv2d` with a square `kernel`: `[b, h, w, in]` to `[b, h', w', out]`.
///
/// # Errors
/// If the shapes do not fit, or the groups do not divide the channels.
pub fn conv2d(m: &mut Module<'_>, x: Value, [out, kernel]: [usize; 2], conv: Conv2d, bias: bool) -> Result<Value> {
    let channels = m.width(x)?;
    divides("groups", conv.groups, "the channels", channels)?;
    let weight = m.tensor("weight", &[out, channels / conv.groups, kernel, kernel])?;
    let bias = if bias { Some(m.tensor("bias", &[out])?) } else { None };
    m.conv2d(x, weight, bias, conv)
}

/// A convolution with a bias that keeps height and width, for an odd `kernel`.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv_same(m: &mut Module<'_>, x: Value, out: usize, kernel: usize) -> Result<Value> {
    conv2d(m, x, [out, kernel], Conv2d::same(kernel), true)
}

/// `torch.nn.LayerNorm` over the last dimension (Ba et al. 2016).
///
/// # Errors
/// If the shapes do not fit.
pub fn layer_norm(m: &mut Module<'_>, x: Value, eps: f32) -> Result<Value> {
    let [weight, bias] = scale_and_shift(m, x)?;
    m.layer_norm(x, weight, bias, eps)
}

/// `torch.nn.GroupNorm` over groups of channels (Wu and He 2018).
///
/// # Errors
/// If `groups` does not divide the channels.
pub fn group_norm(m: &mut Module<'_>, x: Value, groups: usize, eps: f32) -> Result<Value> {
    let [weight, bias] = scale_and_shift(m, x)?;
    m.group_norm(x, weight, bias, groups, eps)
}

/// `torch.nn.RMSNorm` over the last dimension (Zhang and Sennrich 2019), its weight plus `offset`.
///
/// # Errors
/// If the shapes do not fit.
pub fn rms_norm(m: &mut Module<'_>, x: Value, eps: f32, offset: f32) -> Result<Value> {
    let width = m.width(x)?;
    let mut weight = m.tensor("weight", &[width])?;
    if offset != 0.0 {
        weight = m.affine(weight, 1.0, offset)?;
    }
    m.push(Op::RmsNorm { eps }, &[x, weight])
}

/// As [`rms_norm`], with a bias (`RMSNorm` of diffusers).
///
/// # Errors
/// If the shapes do not fit.
pub fn rms_norm_with_bias(m: &mut Module<'_>, x: Value, eps: f32) -> Result<Value> {
    let [weight, bias] = scale_and_shift(m, x)?;
    let x = m.push(Op::RmsNorm { eps }, &[x, weight])?;
    m.add(x, bias)
}

fn scale_and_shift(m: &mut Module<'_>, x: Value) -> Result<[Value; 2]> {
    let width = m.width(x)?;
    Ok([m.tensor("weight", &[width])?, m.tensor("bias", &[width])?])
}

/// `torch.nn.Embedding`: integer `indices` `[..]` to `[.., width]`, the rows of a table `[rows, width]`.
///
/// # Errors
/// If `indices` are no integers.
pub fn embedding(m: &mut Module<'_>, indices: Value, table: [usize; 2]) -> Result<Value> {
    let table = m.tensor("weight", &table)?;
    m.gather(table, indices)
}

/// A learned table of positions: its first `tokens` rows, `[tokens, width]`.
///
/// # Errors
/// If `tokens` is known to exceed the table.
pub fn positions(m: &mut Module<'_>, tokens: Dim, table: [usize; 2]) -> Result<Value> {
    let table = m.tensor("weight", &table)?;
    m.slice(table, 0, 0, tokens)
}
