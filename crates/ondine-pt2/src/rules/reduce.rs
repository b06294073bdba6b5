//! Operators that fold dimensions.

use ondine_graph::{Binary, DType, Dim, Elementary, Op, Real, RealPair, Reduce, Result, Unary, fail};

use super::rule::{Rule, one};
use crate::{
    builder::{Builder, Tensor, inverse},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("sum", |builder, call| plain(builder, call, Reduce::Sum)).on_complex(complex_total),
    Rule::new("mean", |builder, call| plain(builder, call, Reduce::Mean)).on_complex(complex_total),
    Rule::new("prod", |builder, call| plain(builder, call, Reduce::Product)),
    Rule::new("amax", |builder, call| plain(builder, call, Reduce::Max)),
    Rule::new("amin", |builder, call| plain(builder, call, Reduce::Min)),
    Rule::new("any", any),
    Rule::new("_is_any_true", any),
    Rule::new("all", any),
    Rule::new("_is_all_true", any),
    Rule::new("max", extremum).along(),
    Rule::new("min", extremum).along(),
    Rule::new("aminmax", aminmax).along(),
    Rule::new("softmin", softmin).along(),
    Rule::new("argmax", argmax).along(),
    Rule::new("argmin", argmax).along(),
    Rule::new("var", variance),
    Rule::new("std", variance),
    Rule::new("var_mean", variance),
    Rule::new("std_mean", variance),
    Rule::new("logsumexp", logsumexp).along(),
    Rule::new("special_logsumexp", logsumexp).along(),
    Rule::new("linalg_vecdot", linalg_vecdot),
    Rule::new("linalg_vector_norm", norm),
    Rule::new("norm", norm),
    Rule::new("frobenius_norm", norm),
    Rule::new("softmax", softmax_along).along(),
    Rule::new("_softmax", softmax_along).along(),
    Rule::new("special_softmax", softmax_along).along(),
    Rule::new("_safe_softmax", softmax_along).along(),
    Rule::new("log_softmax", log_softmax).along(),
    Rule::new("_log_softmax", log_softmax).along(),
    Rule::new("special_log_softmax", log_softmax).along(),
    Rule::new("count_nonzero", count_nonzero),
    Rule::new("diff", diff),
];

fn count_nonzero(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let x = builder.cast(&x, DType::Bool)?;
    let x = builder.cast(&x, DType::I64)?;
    let (axes, keep) = axes(call, &x)?;
    one(reduce(builder, Reduce::Sum, &x, &axes, keep)?)
}

fn log_softmax(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let axis = call.axis("dim", -1, x.rank())?;
    one(log_share(builder, &x, axis)?)
}

fn softmax_along(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let axis = call.axis("dim", -1, x.rank())?;
    one(softmax(builder, &x, axis)?)
}

fn linalg_vecdot(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "x")?, call.float_tensor(builder, "y")?);
    let product = builder.binary(Binary::Mul, &a, &b)?;
    let axis = call.axis("dim", -1, product.rank())?;
    one(reduce(builder, Reduce::Sum, &product, &[axis], false)?)
}

fn logsumexp(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let (axes, keep) = axes(call, &x)?;
    let total = log_sum(builder, &x, &axes)?;
    one(if keep { total } else { squeeze(builder, &total, &axes)? })
}

fn argmax(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let (x, axis) = if call.has("dim") {
        let axis = call.axis("dim", 0, x.rank())?;
        (x, axis)
    } else {
        let elements = builder.shape(&x).iter().fold(Dim::from(1), |product, dim| &product * dim);
        (builder.reshape(&x, &[elements])?, 0)
    };
    let index = position(builder, &x, axis, call.op == "argmin")?;
    one(builder.reshape(&index, &call.out_shape(0)?)?)
}

fn softmin(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let axis = call.axis("dim", -1, x.rank())?;
    let x = builder.unary(Unary::Neg, &x)?;
    one(softmax(builder, &x, axis)?)
}

fn aminmax(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let (axes, keep) = axes(call, &x)?;
    let least = reduce(builder, Reduce::Min, &x, &axes, keep)?;
    let most = reduce(builder, Reduce::Max, &x, &axes, keep)?;
    Ok(vec![Item::Tensor(least), Item::Tensor(most)])
}

/// The dimensions that are folded, all if none are named, and whether they stay with size 1.
fn axes(call: &Call<'_>, x: &Tensor) -> Result<(Vec<usize>, bool)> {
    let mut axes = if call.has("dim") { call.axes("dim", x.rank())? } else { Vec::new() };
    if axes.is_empty() || x.rank() == 0 {
        axes = (0..x.rank()).collect();
    }
    axes.sort_unstable();
    axes.dedup();
    Ok((axes, call.flag("keepdim", false)?))
}

/// Folds dimensions, moving those that are folded next to each other if they are not.
pub(super) fn reduce(builder: &mut Builder, how: Reduce, x: &Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
    if axes.is_empty() {
        return Ok(x.clone());
    }
    if let Some(axis) = axes.iter().find(|&&axis| axis >= x.rank()) {
        fail!(Shape, "dimension {axis} of {}", x.rank());
    }
    let dtype = builder.dtype(x);
    if !matches!(dtype, DType::F32 | DType::I64) {
        let wide = builder.cast(x, DType::I64)?;
        let folded = reduce(builder, how, &wide, axes, keep)?;
        return builder.cast(&folded, dtype);
    }
    let mut x = x.clone();
    let together = |x: &Tensor| {
        let mut stored: Vec<usize> = axes.iter().map(|&axis| x.axes[axis]).collect();
        stored.sort_unstable();
        let neighbours = stored.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        neighbours.then_some(stored)
    };
    let stored = match together(&x) {
        Some(stored) => stored,
        None => {
            let order: Vec<usize> = inverse(&x.axes);
            let rest = order.iter().filter(|axis| !axes.contains(axis)).chain(axes).copied().collect::<Vec<_>>();
            x = Builder::ordered(builder.stored(&x, &rest)?, &rest);
            (x.rank() - axes.len()..x.rank()).collect()
        }
    };
    let value = builder.graph.reduce(how, x.value, &stored, true)?;
    let folded = Tensor { value, axes: x.axes };
    if keep { Ok(folded) } else { squeeze(builder, &folded, axes) }
}

fn squeeze(builder: &mut Builder, x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let shape = builder.shape(x);
    let shape: Vec<Dim> =
        shape.into_iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, dim)| dim).collect();
    builder.reshape(x, &shape)
}

/// Whether any, or all, of what is folded is not zero: of nothing, none is and all are.
fn any(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let (axes, keep) = axes(call, &x)?;
    let truth = builder.cast(&x, DType::Bool)?;
    let all = matches!(call.op, "all" | "_is_all_true");
    // How many speak against `all`, or for `any`.
    let counted = if all { builder.not(&truth)? } else { truth };
    let ones = builder.cast(&counted, DType::I64)?;
    let count = reduce(builder, Reduce::Sum, &ones, &axes, keep)?;
    let found = builder.cast(&count, DType::Bool)?;
    one(if all { builder.not(&found)? } else { found })
}

/// A fold whose result has the type that the program says.
fn plain(builder: &mut Builder, call: &Call<'_>, how: Reduce) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let (axes, keep) = axes(call, &x)?;
    let dtype = call.out_dtype(0)?;
    // Truth values and small integers are folded as wide ones.
    let x = builder.cast(&x, if dtype == DType::F32 { DType::F32 } else { DType::I64 })?;
    let folded = reduce(builder, how, &x, &axes, keep)?;
    one(builder.cast(&folded, dtype)?)
}

/// Where along `axis` the largest, or the smallest, element is; `axis` goes away.
fn position(builder: &mut Builder, x: &Tensor, axis: usize, smallest: bool) -> Result<Tensor> {
    if !builder.dtype(x).is_float() {
        // The first of those in order.
        let wide = builder.cast(x, DType::I64)?;
        let last = builder.axis_last(&wide, axis)?;
        let value = builder.graph.push(Op::ArgSort { descending: !smallest, keep: 1.into() }, &[last.value])?;
        return builder.without(&Tensor { value, axes: last.axes }, axis);
    }
    let x = builder.cast(x, DType::F32)?;
    let x = if smallest { builder.unary(Unary::Neg, &x)? } else { x };
    let last = builder.axis_last(&x, axis)?;
    let value = builder.graph.push(Op::ArgMax, &[last.value])?;
    let mut axes = last.axes;
    axes.remove(axis);
    Ok(Tensor { value, axes })
}

/// The largest or smallest element along `axis`, which stays with size 1, and where it is; the first that is no number
/// is both.
pub(super) fn largest(builder: &mut Builder, x: &Tensor, axis: usize, smallest: bool) -> Result<[Tensor; 2]> {
    let how = if smallest { Reduce::Min } else { Reduce::Max };
    let value = reduce(builder, how, x, &[axis], true)?;
    let index = position(builder, x, axis, smallest)?;
    let shape = builder.shape(&value);
    Ok([value, builder.reshape(&index, &shape)?])
}

fn extremum(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let how = if call.op == "max" { Reduce::Max } else { Reduce::Min };
    match call.overload {
        "other" => {
            let op = if call.op == "max" { Binary::Max } else { Binary::Min };
            let dtype = call.out_dtype(0)?;
            let a = call.operand_as(builder, "self", dtype)?;
            let b = call.operand_as(builder, "other", dtype)?;
            one(builder.binary(op, &a, &b)?)
        }
        "dim" => {
            let x = call.tensor("self")?;
            let axis = call.axis("dim", 0, x.rank())?;
            let found = largest(builder, &x, axis, how == Reduce::Min)?;
            let keep = call.flag("keepdim", false)?;
            let shown = |tensor| if keep { Ok(tensor) } else { builder.without(&tensor, axis) };
            found.into_iter().map(shown).map(|tensor| tensor.map(Item::Tensor)).collect()
        }
        _ => plain(builder, call, how),
    }
}

fn variance(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let (axes, keep) = axes(call, &x)?;
    let correction = match call.overload {
        "dim" | "" | "default" => f64::from(u8::from(call.flag("unbiased", true)?)),
        _ => call.float("correction", 1.0)?,
    };
    let count = Real::Of(axes.iter().fold(Dim::from(1), |product, &axis| &product * &builder.dim(&x, axis)));
    let mean = reduce(builder, Reduce::Mean, &x, &axes, true)?;
    let difference = builder.binary(Binary::Sub, &x, &mean)?;
    let square = builder.binary(Binary::Mul, &difference, &difference)?;
    let mut result = reduce(builder, Reduce::Mean, &square, &axes, keep)?;
    if correction != 0.0 {
        let rest = count.pair(RealPair::Difference, &Real::constant(correction));
        let rest = rest.pair(RealPair::Max, &Real::constant(0.0));
        // Of nothing there is no variance, and not by nothing either.
        result = match (count.known(), rest.known()) {
            (Some(count), Some(rest)) => builder.affine(&result, count / rest, 0.0)?,
            _ => {
                let (count, rest) = (builder.real(&count)?, builder.real(&rest)?);
                let factor = builder.binary(Binary::Div, &count, &rest)?;
                builder.binary(Binary::Mul, &result, &factor)?
            }
        };
    }
    if call.op.starts_with("std") {
        result = builder.unary(Unary::Sqrt, &result)?;
    }
    if !call.op.ends_with("mean") {
        return one(result);
    }
    let mean = if keep { mean } else { squeeze(builder, &mean, &axes)? };
    Ok(vec![Item::Tensor(result), Item::Tensor(mean)])
}

/// The logarithm of the sum of exponentials, folded dimensions kept.
pub(super) fn log_sum(builder: &mut Builder, x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let most = Formula::of(&reduce(builder, Reduce::Max, x, axes, true)?);
    // An infinite maximum cannot be subtracted.
    let most = most.abs().equals(f64::INFINITY).choose(0.0, &most).build(builder)?;
    let shifted = builder.binary(Binary::Sub, x, &most)?;
    let powers = builder.unary(Unary::Exp, &shifted)?;
    let total = reduce(builder, Reduce::Sum, &powers, axes, true)?;
    let total = builder.unary(Unary::Log, &total)?;
    builder.binary(Binary::Add, &total, &most)
}

/// The logarithm of the share that each exponential has of their sum; none of infinite ones is a number.
pub(super) fn log_share(builder: &mut Builder, x: &Tensor, axis: usize) -> Result<Tensor> {
    let most = reduce(builder, Reduce::Max, x, &[axis], true)?;
    let shifted = builder.binary(Binary::Sub, x, &most)?;
    let powers = builder.unary(Unary::Exp, &shifted)?;
    let total = reduce(builder, Reduce::Sum, &powers, &[axis], true)?;
    let total = builder.unary(Unary::Log, &total)?;
    builder.binary(Binary::Sub, &shifted, &total)
}

pub(super) fn softmax(builder: &mut Builder, x: &Tensor, axis: usize) -> Result<Tensor> {
    if x.rank() == 0 {
        return builder.number(1.0, DType::F32);
    }
    let last = builder.axis_last(x, axis)?;
    let value = builder.graph.softmax(last.value)?;
    Ok(Tensor { value, axes: last.axes })
}

pub(super) fn norm(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let (axes, keep) = axes(call, &x)?;
    let order = if call.has("p") { call.float("p", 2.0)? } else { call.float("ord", 2.0)? };
    one(length(builder, &x, order, &axes, keep)?)
}

/// The norm of vectors of this order.
pub(super) fn length(builder: &mut Builder, x: &Tensor, order: f64, axes: &[usize], keep: bool) -> Result<Tensor> {
    Ok(if order == 2.0 {
        let square = builder.binary(Binary::Mul, x, x)?;
        let total = reduce(builder, Reduce::Sum, &square, axes, keep)?;
        builder.unary(Unary::Sqrt, &total)?
    } else {
        let size = builder.unary(Unary::Abs, x)?;
        if order == f64::INFINITY {
            reduce(builder, Reduce::Max, &size, axes, keep)?
        } else if order == f64::NEG_INFINITY {
            reduce(builder, Reduce::Min, &size, axes, keep)?
        } else if order == 1.0 {
            reduce(builder, Reduce::Sum, &size, axes, keep)?
        } else if order == 0.0 {
            let sign = builder.function(Elementary::Sign, &size)?;
            reduce(builder, Reduce::Sum, &sign, axes, keep)?
        } else {
            let exponent = builder.number(order, DType::F32)?;
            let powers = builder.binary(Binary::Pow, &size, &exponent)?;
            let total = reduce(builder, Reduce::Sum, &powers, axes, keep)?;
            let exponent = builder.number(1.0 / order, DType::F32)?;
            builder.binary(Binary::Pow, &total, &exponent)?
        }
    })
}

fn complex_total(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let mut axes = call.axes("dim", x.rank())?;
    if axes.is_empty() {
        axes = (0..x.rank() - 1).collect();
    }
    axes.sort_unstable();
    let how = if call.op == "sum" { Reduce::Sum } else { Reduce::Mean };
    one(reduce(builder, how, &x, &axes, call.flag("keepdim", false)?)?)
}

fn diff(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut x = call.tensor("self")?;
    let axis = call.axis("dim", -1, x.rank())?;
    let mut parts = Vec::new();
    parts.extend(call.try_tensor("prepend")?);
    parts.push(x.clone());
    parts.extend(call.try_tensor("append")?);
    x = builder.concat(&parts.iter().collect::<Vec<_>>(), axis)?;
    for _ in 0..call.integer("n", 1)? {
        let size = builder.dim(&x, axis);
        let high = builder.slice(&x, axis, &1.into(), &size)?;
        let low = builder.slice(&x, axis, &0.into(), &(&size - 1))?;
        let op = if builder.dtype(&x) == DType::Bool { Binary::Xor } else { Binary::Sub };
        x = builder.binary(op, &high, &low)?;
    }
    one(x)
}
