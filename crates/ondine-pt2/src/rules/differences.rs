//! How numbers change along dimensions and vary together: slopes, integrals, covariances.

use ondine_graph::{DType, Dim, Op, Reduce, Result, Scan, fail};

use super::{
    index::pick,
    product::matmul,
    reduce::reduce,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, elements},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("cov", cov),
    Rule::new("corrcoef", cov),
    Rule::new("gradient", gradient),
    Rule::new("trapezoid", trapezoid),
    Rule::new("trapz", trapezoid),
    Rule::new("cumulative_trapezoid", trapezoid),
];

/// How rows of observations vary together, perhaps by the lengths of their deviations.
fn cov(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let shape = builder.shape(&x);
    let rows = if shape.len() < 2 { vec![1.into(), elements(&shape)] } else { shape };
    let x = builder.reshape(&x, &rows)?;
    let weight = |builder: &mut Builder, name: &str| -> Result<Option<Formula>> {
        let Some(weight) = call.try_tensor(name)? else { return Ok(None) };
        let weight = builder.cast(&weight, DType::F32)?;
        Ok(Some(Formula::of(&weight)))
    };
    let (often, share) = (weight(builder, "fweights")?, weight(builder, "aweights")?);
    let unit = builder.number(1.0, DType::F32)?;
    let ones = builder.expand(&unit, &rows[1..])?;
    let often = often.unwrap_or_else(|| Formula::of(&ones));
    let weights = share.as_ref().map_or_else(|| often.clone(), |share| share * &often);
    let sum = |builder: &mut Builder, x: &Formula| -> Result<Formula> {
        let x = x.build(builder)?;
        Ok(Formula::of(&reduce(builder, Reduce::Sum, &x, &[x.rank() - 1], true)?))
    };
    let total = sum(builder, &weights)?;
    let mean = sum(builder, &(Formula::of(&x) * &weights))? / &total;
    let away = (Formula::of(&x) - mean).build(builder)?;
    let weighted = (Formula::of(&away) * &weights).build(builder)?;
    let product = matmul(builder, &weighted, &Builder::swapped(&away, 0, 1))?;
    let correction = call.integer("correction", 1)? as f64;
    let freedom = match &share {
        Some(share) if correction != 0.0 => &total - sum(builder, &(share * &weights))? / &total * correction,
        _ => &total - correction,
    };
    let mut result = Formula::of(&product) / freedom.max(0.0);
    if call.op == "corrcoef" {
        let matrix = result.build(builder)?;
        let size = builder.dim(&matrix, 0);
        let places = builder.range(&0.into(), 1, &size)?;
        let places = builder.reshape(&places, &[size.clone(), 1.into()])?;
        let own = Formula::of(&pick(builder, &matrix, 1, &places)?).sqrt().build(builder)?;
        let other = builder.reshape(&own, &[1.into(), size])?;
        result = (Formula::of(&matrix) / Formula::of(&own) / Formula::of(&other)).max(-1.0).min(1.0);
    }
    let result = result.build(builder)?;
    one(builder.reshape(&result, &call.out_shape(0)?)?)
}

/// Where the elements along `axis` lie: as given, or at equal steps.
fn places_along(builder: &mut Builder, x: &Tensor, axis: usize, given: Option<&Tensor>, step: f64) -> Result<Tensor> {
    let size = builder.dim(x, axis);
    let mut shape = vec![Dim::from(1); x.rank()];
    shape[axis] = size.clone();
    let places = match given {
        Some(list) => builder.cast(list, DType::F32)?,
        None => {
            let range = builder.range(&0.into(), 1, &size)?;
            let range = builder.cast(&range, DType::F32)?;
            builder.affine(&range, step, 0.0)?
        }
    };
    builder.reshape(&places, &shape)
}

/// Slopes along dimensions: differences over distances, to second order inside and to first or second at the ends.
fn gradient(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let axes = if call.has("dim") { call.axes("dim", x.rank())? } else { (0..x.rank()).collect() };
    let order = call.integer("edge_order", 1)?;
    let places = call.tensors("spacing").ok();
    let steps = match (&places, call.floats("spacing")) {
        (Some(_), _) => Vec::new(),
        (None, Ok(list)) => list,
        (None, Err(_)) => vec![call.float("spacing", 1.0)?],
    };
    let mut items = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        let size = builder.dim(&x, axis);
        let Some(size) = size.fixed() else { fail!(Unsupported, "slopes along an unknown number") };
        let at = |builder: &mut Builder, x: &Tensor, axis: usize, from: usize, to: usize| -> Result<Formula> {
            Ok(Formula::of(&builder.slice(x, axis, &from.into(), &to.into())?))
        };
        let step = steps.get(i).or(steps.first()).copied().unwrap_or(1.0);
        let place = places_along(builder, &x, axis, places.as_ref().and_then(|list| list.get(i)), step)?;
        let n = size;
        if n < 2 + usize::from(order == 2) {
            fail!(Shape, "slopes of {n} elements");
        }
        let mut parts = Vec::new();
        let ends = [[0, 1, 2], [n - 1, n.saturating_sub(2), n.saturating_sub(3)]];
        let mut end_slopes = Vec::new();
        for [a, b, c] in ends {
            let one_at = |place: usize| (place, place + 1);
            let [(a0, a1), (b0, b1), (c0, c1)] = [one_at(a), one_at(b), one_at(if order == 2 { c } else { b })];
            let (fa, fb, fc) =
                (at(builder, &x, axis, a0, a1)?, at(builder, &x, axis, b0, b1)?, at(builder, &x, axis, c0, c1)?);
            let (pa, pb, pc) = (
                at(builder, &place, axis, a0, a1)?,
                at(builder, &place, axis, b0, b1)?,
                at(builder, &place, axis, c0, c1)?,
            );
            let slope = if order == 2 {
                let (h, k) = (&pb - &pa, &pc - &pb);
                let sum = &h + &k;
                let first = (&h * 2.0 + &k) / (&h * &sum) * -1.0;
                first * fa + &sum / (&h * &k) * fb - &h / (&k * sum) * fc
            } else {
                (fb - fa) / (pb - pa)
            };
            end_slopes.push(slope.build(builder)?);
        }
        parts.push(end_slopes[0].clone());
        if n > 2 {
            let (low, here, high) =
                (at(builder, &x, axis, 0, n - 2)?, at(builder, &x, axis, 1, n - 1)?, at(builder, &x, axis, 2, n)?);
            let (p, q, r) = (
                at(builder, &place, axis, 0, n - 2)?,
                at(builder, &place, axis, 1, n - 1)?,
                at(builder, &place, axis, 2, n)?,
            );
            let (h, k) = (&q - p, r - &q);
            let sum = &h + &k;
            let inside = (&k * -1.0) / (&h * &sum) * low + (&k - &h) / (&h * &k) * here + &h / (&k * sum) * high;
            parts.push(inside.build(builder)?);
        }
        parts.push(end_slopes[1].clone());
        items.push(Item::Tensor(builder.concat(&parts.iter().collect::<Vec<_>>(), axis)?));
    }
    Ok(items)
}

/// The integral of straight lines between neighbours.
fn trapezoid(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let y = call.float_tensor(builder, "y")?;
    let axis = call.axis("dim", -1, y.rank())?;
    let size = builder.dim(&y, axis);
    let pair = |builder: &mut Builder, x: &Tensor, axis: usize| -> Result<[Formula; 2]> {
        let size = builder.dim(x, axis);
        let (low, high) = (builder.slice(x, axis, &0.into(), &(&size - 1))?, builder.slice(x, axis, &1.into(), &size)?);
        Ok([Formula::of(&low), Formula::of(&high)])
    };
    let [low, high] = pair(builder, &y, axis)?;
    let width = match call.try_tensor("x")? {
        Some(x) => {
            let x = builder.cast(&x, DType::F32)?;
            let x = if x.rank() == 1 && y.rank() > 1 {
                let mut shape = vec![Dim::from(1); y.rank()];
                shape[axis] = size;
                builder.reshape(&x, &shape)?
            } else {
                x
            };
            let along = (x.rank() + axis).saturating_sub(y.rank());
            let [from, to] = pair(builder, &x, along)?;
            to - from
        }
        None => call.float("dx", 1.0)?.into(),
    };
    let parts = ((low + high) * 0.5 * width).build(builder)?;
    let axis = (parts.rank() + axis).saturating_sub(y.rank());
    if call.op == "cumulative_trapezoid" {
        let op = Op::Scan { axis: parts.axes[axis], how: Scan::Sum };
        let value = builder.graph.push(op, &[parts.value])?;
        return one(Tensor { value, axes: parts.axes });
    }
    one(reduce(builder, Reduce::Sum, &parts, &[axis], false)?)
}
