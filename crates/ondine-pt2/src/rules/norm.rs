//! Normalizations.

use ondine_graph::{Activation, Binary, DType, Dim, NDArray, Op, Reduce, Result, Unary, Value, element_count, fail};

use super::{
    reduce::reduce,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, check_list, elements},
    call::{Call, Item},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("layer_norm", layer_norm),
    Rule::new("native_layer_norm", layer_norm),
    Rule::new("rms_norm", rms_norm),
    Rule::new("_fused_rms_norm", rms_norm),
    Rule::new("group_norm", group_norm),
    Rule::new("native_group_norm", group_norm),
    Rule::new("batch_norm", batch_norm),
    Rule::new("_native_batch_norm_legit_no_training", batch_norm),
    Rule::new("native_batch_norm", batch_norm),
    Rule::new("cudnn_batch_norm", batch_norm),
    Rule::new("_native_batch_norm_legit", batch_norm),
    Rule::new("_native_batch_norm_legit_functional", batch_norm),
    Rule::new("_batch_norm_with_update", batch_norm),
    Rule::new("_batch_norm_with_update_functional", batch_norm),
    Rule::new("_batch_norm_no_update", batch_norm),
    Rule::new("_weight_norm", weight_norm),
    Rule::new("_weight_norm_interface", weight_norm),
    Rule::new("instance_norm", instance_norm),
];

fn rms_norm(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "input")?;
    let count = call.integers("normalized_shape", &[])?.len();
    let eps = call.float("eps", f64::from(f32::EPSILON))? as f32;
    let width = width(builder, &x, count)?;
    let weight = parameter(builder, call, "weight", width, 1.0)?;
    one(over_last(builder, &x, count, width, |builder, x| builder.graph.push(Op::RmsNorm { eps }, &[x, weight]))?)
}

fn layer_norm(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, if call.has("input") { "input" } else { "self" })?;
    let count = call.integers("normalized_shape", &[])?.len();
    let eps = call.float("eps", 1e-5)? as f32;
    let width = width(builder, &x, count)?;
    let weight = parameter(builder, call, "weight", width, 1.0)?;
    let bias = parameter(builder, call, "bias", width, 0.0)?;
    let result = over_last(builder, &x, count, width, |builder, x| builder.graph.layer_norm(x, weight, bias, eps))?;
    if call.op == "layer_norm" {
        return one(result);
    }
    let axes: Vec<usize> = (x.rank() - count.min(x.rank())..x.rank()).collect();
    let moments = moments(builder, &x, &axes, eps.into())?;
    Ok(std::iter::once(result).chain(moments).map(Item::Tensor).collect())
}

/// Elements of the last `count` dimensions.
fn width(builder: &Builder, x: &Tensor, count: usize) -> Result<usize> {
    let shape = builder.shape(x);
    let dims = shape.get(shape.len().saturating_sub(count)..).unwrap_or_default();
    let sizes: Option<Vec<usize>> = dims.iter().map(Dim::fixed).collect();
    let Some(sizes) = sizes else { fail!(Unsupported, "a norm over a dimension of unknown size") };
    match element_count(&sizes) {
        Some(width) => Ok(width),
        None => fail!(Shape, "a norm over {sizes:?} numbers"),
    }
}

/// A parameter as a vector, all `default` if there is none.
fn parameter(builder: &mut Builder, call: &Call<'_>, name: &str, width: usize, default: f32) -> Result<Value> {
    match call.try_tensor(name)? {
        Some(tensor) => {
            let tensor = builder.cast(&tensor, DType::F32)?;
            let tensor = builder.reshape(&tensor, &[width.into()])?;
            builder.dense(&tensor)
        }
        None => {
            check_list(&[width])?;
            Ok(builder.graph.constant(NDArray::new(&[width], &vec![default; width])?))
        }
    }
}

/// `norm` of the last `count` dimensions as one.
fn over_last(
    builder: &mut Builder,
    x: &Tensor,
    count: usize,
    width: usize,
    norm: impl FnOnce(&mut Builder, Value) -> Result<Value>,
) -> Result<Tensor> {
    if count == 1 {
        let last = builder.axis_last(x, x.rank() - 1)?;
        let value = norm(builder, last.value)?;
        return Ok(Tensor { value, axes: last.axes });
    }
    let shape = builder.shape(x);
    let mut flat = shape[..shape.len() - count].to_vec();
    flat.push(width.into());
    let x = builder.reshape(x, &flat)?;
    let value = builder.dense(&x)?;
    let value = norm(builder, value)?;
    let x = builder.plain(value);
    builder.reshape(&x, &shape)
}

/// `x` with channels stored last: the other dimensions in their order.
pub(super) fn channels_last(builder: &mut Builder, x: &Tensor) -> Result<(Value, Vec<usize>)> {
    let order: Vec<usize> = std::iter::once(0).chain(2..x.rank()).chain([1]).collect();
    Ok((builder.stored(x, &order)?, order))
}

fn group_norm(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "input")?;
    let groups = call.integer(if call.has("num_groups") { "num_groups" } else { "group" }, 1)?;
    let Some(channels) = builder.dim(&x, 1).fixed() else { fail!(Unsupported, "an unknown number of channels") };
    let weight = parameter(builder, call, "weight", channels, 1.0)?;
    let bias = parameter(builder, call, "bias", channels, 0.0)?;
    let eps = call.float("eps", 1e-5)? as f32;
    let groups = usize::try_from(groups).unwrap_or(0);
    let result = groups_of(builder, &x, [weight, bias], groups, eps)?;
    if call.op == "group_norm" || groups == 0 {
        return one(result);
    }
    let (batch, rest) = (builder.dim(&x, 0), &builder.shape(&x)[1..]);
    let rows = elements(rest).floor_div(groups);
    let parts = builder.reshape(&x, &[batch, groups.into(), rows])?;
    let mut items = vec![Item::Tensor(result)];
    for moment in moments(builder, &parts, &[2], eps.into())? {
        items.push(Item::Tensor(builder.without(&moment, 2)?));
    }
    Ok(items)
}

fn groups_of(builder: &mut Builder, x: &Tensor, [weight, bias]: [Value; 2], groups: usize, eps: f32) -> Result<Tensor> {
    let (value, order) = channels_last(builder, x)?;
    let op = Op::GroupNorm { groups, eps, activation: Activation::None };
    let value = builder.graph.push(op, &[value, weight, bias])?;
    Ok(Builder::ordered(value, &order))
}

/// A scale and an offset per channel, from tensors that are known when the weights are: they are folded then.
fn batch_norm(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "input")?;
    if call.flag("training", call.op.starts_with("_batch_norm_with_update"))? {
        return batch_norm_of_batch(builder, call, &x);
    }
    let (mean, variance) = (call.float_tensor(builder, "running_mean")?, call.float_tensor(builder, "running_var")?);
    let running = [mean.clone(), variance.clone()];
    let variance = builder.affine(&variance, 1.0, call.float("eps", 1e-5)?)?;
    let mut scale = builder.unary(Unary::Rsqrt, &variance)?;
    if let Some(weight) = call.try_tensor("weight")? {
        let weight = builder.cast(&weight, DType::F32)?;
        scale = builder.binary(Binary::Mul, &weight, &scale)?;
    }
    let shift = builder.binary(Binary::Mul, &mean, &scale)?;
    let shift = match call.try_tensor("bias")? {
        Some(bias) => {
            let bias = builder.cast(&bias, DType::F32)?;
            builder.binary(Binary::Sub, &bias, &shift)?
        }
        None => builder.unary(Unary::Neg, &shift)?,
    };
    let result = per_channel(builder, &x, &scale, &shift)?;
    // The moments of the batch are not found; the running ones stay as they are.
    let moments = running.clone();
    Ok(batch_results(call, result, moments, running))
}

/// `x * scale + shift`, both vectors over channels.
fn per_channel(builder: &mut Builder, x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let mut shape = vec![Dim::from(1); x.rank()];
    shape[1] = builder.dim(x, 1);
    let scale = builder.reshape(scale, &shape)?;
    let shift = builder.reshape(shift, &shape)?;
    let scaled = builder.binary(Binary::Mul, x, &scale)?;
    builder.binary(Binary::Add, &scaled, &shift)
}

/// The results of a batch normalization: what it yields, the moments of the batch, sometimes bytes for a kernel of its
/// own, and the running moments.
fn batch_results(call: &Call<'_>, result: Tensor, moments: [Tensor; 2], running: [Tensor; 2]) -> Vec<Item> {
    let mut results: Vec<Tensor> = std::iter::once(result).chain(moments).collect();
    if call.op.starts_with("_batch_norm_with_update") {
        results.push(results[1].clone());
    }
    results.extend(running);
    results.truncate(call.output_names().len());
    results.into_iter().map(Item::Tensor).collect()
}

/// With the moments of the batch itself: in training, and what weight standardization makes of a kernel.
fn batch_norm_of_batch(builder: &mut Builder, call: &Call<'_>, x: &Tensor) -> Result<Vec<Item>> {
    let axes: Vec<usize> = (0..x.rank()).filter(|&axis| axis != 1).collect();
    let mean = reduce(builder, Reduce::Mean, x, &axes, true)?;
    let difference = builder.binary(Binary::Sub, x, &mean)?;
    let square = builder.binary(Binary::Mul, &difference, &difference)?;
    let variance = reduce(builder, Reduce::Mean, &square, &axes, true)?;
    let shifted = builder.affine(&variance, 1.0, call.float("eps", 1e-5)?)?;
    let scale = builder.unary(Unary::Rsqrt, &shifted)?;
    let mut result = builder.binary(Binary::Mul, &difference, &scale)?;
    let mut shape = vec![Dim::from(1); x.rank()];
    let channels = builder.dim(x, 1);
    shape[1] = channels.clone();
    for (name, op) in [("weight", Binary::Mul), ("bias", Binary::Add)] {
        if let Some(vector) = call.try_tensor(name)? {
            let vector = builder.cast(&vector, DType::F32)?;
            let vector = builder.reshape(&vector, &shape)?;
            result = builder.binary(op, &result, &vector)?;
        }
    }
    let mut flat = |x: &Tensor| builder.reshape(x, std::slice::from_ref(&channels));
    let (mean, variance, scale) = (flat(&mean)?, flat(&variance)?, flat(&scale)?);
    let running = running(builder, call, x, [&mean, &variance])?;
    Ok(batch_results(call, result, [mean, scale], running))
}

/// The running moments after a batch of these moments.
fn running(builder: &mut Builder, call: &Call<'_>, x: &Tensor, moments: [&Tensor; 2]) -> Result<[Tensor; 2]> {
    let mut updated = [moments[0].clone(), moments[1].clone()];
    let count: Option<usize> =
        (0..x.rank()).filter(|&axis| axis != 1).map(|axis| builder.dim(x, axis).fixed()).product();
    let momentum = call.float("momentum", 0.1)?;
    for (i, name) in ["running_mean", "running_var"].into_iter().enumerate() {
        let (Some(before), Some(count)) = (call.try_tensor(name)?, count) else { continue };
        // The variance that is kept is that of all, which a batch tells from one degree of freedom less.
        let whole = if i == 1 { count as f64 / (count as f64 - 1.0) } else { 1.0 };
        let (before, now) =
            (builder.affine(&before, 1.0 - momentum, 0.0)?, builder.affine(moments[i], momentum * whole, 0.0)?);
        updated[i] = builder.binary(Binary::Add, &before, &now)?;
    }
    Ok(updated)
}

/// The mean over `axes`, and the inverse of the standard deviation, their dimensions kept.
fn moments(builder: &mut Builder, x: &Tensor, axes: &[usize], eps: f64) -> Result<[Tensor; 2]> {
    let mean = reduce(builder, Reduce::Mean, x, axes, true)?;
    let difference = builder.binary(Binary::Sub, x, &mean)?;
    let square = builder.binary(Binary::Mul, &difference, &difference)?;
    let variance = reduce(builder, Reduce::Mean, &square, axes, true)?;
    let variance = builder.affine(&variance, 1.0, eps)?;
    Ok([mean, builder.unary(Unary::Rsqrt, &variance)?])
}

fn instance_norm(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    if !call.flag("use_input_stats", true)? {
        return batch_norm(builder, call);
    }
    let x = call.float_tensor(builder, "input")?;
    let Some(channels) = builder.dim(&x, 1).fixed() else { fail!(Unsupported, "an unknown number of channels") };
    let weight = parameter(builder, call, "weight", channels, 1.0)?;
    let bias = parameter(builder, call, "bias", channels, 0.0)?;
    one(groups_of(builder, &x, [weight, bias], channels, call.float("eps", 1e-5)? as f32)?)
}

/// `v` scaled so that its slices along `dim` have the lengths `g` (Salimans and Kingma 2016).
fn weight_norm(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (v, g) = (call.float_tensor(builder, "v")?, call.float_tensor(builder, "g")?);
    let dim = call.axis("dim", 0, v.rank())?;
    let axes: Vec<usize> = (0..v.rank()).filter(|&axis| axis != dim).collect();
    let square = builder.binary(Binary::Mul, &v, &v)?;
    let total = reduce(builder, Reduce::Sum, &square, &axes, true)?;
    let length = builder.unary(Unary::Sqrt, &total)?;
    let scale = builder.binary(Binary::Div, &g, &length)?;
    Ok(vec![Item::Tensor(builder.binary(Binary::Mul, &v, &scale)?), Item::Tensor(length)])
}
