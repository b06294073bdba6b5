//! Statistics of what lies along a dimension: quantiles, medians that skip what is no number, the most frequent.

use ondine_graph::{Binary, DType, Elementary, Op, Reduce, Result, Scan, fail};

use super::{
    index::{ordered, pick},
    reduce::reduce,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, elements},
    call::{Call, Item, Operand},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("quantile", quantile).along(),
    Rule::new("nanquantile", quantile).along(),
    Rule::new("nanmedian", nanmedian).along(),
    Rule::new("nanmean", nanmean),
    Rule::new("mode", mode).along(),
];

/// The tensor with the dimension that is folded last, and whether that is all of them in a row.
fn rows(builder: &mut Builder, call: &Call<'_>, x: &Tensor) -> Result<(Tensor, Option<usize>)> {
    if !call.has("dim") && call.op != "mode" {
        let all = elements(&builder.shape(x));
        return Ok((builder.reshape(x, &[all])?, None));
    }
    let axis = call.axis("dim", -1, x.rank())?;
    let order: Vec<usize> = (0..x.rank()).filter(|&other| other != axis).chain([axis]).collect();
    let value = builder.stored(x, &order)?;
    Ok((builder.plain(value), Some(axis)))
}

/// How many of a row are numbers, and the row in order, what is no number last.
fn sorted(builder: &mut Builder, x: &Tensor) -> Result<[Tensor; 3]> {
    let last = x.rank() - 1;
    let number = builder.binary(Binary::Equal, x, x)?;
    let number = builder.cast(&number, DType::I64)?;
    let count = reduce(builder, Reduce::Sum, &number, &[last], true)?;
    let size = builder.dim(x, last);
    let [values, indices] = ordered(builder, x, last, false, size)?;
    Ok([values, indices, count])
}

fn quantile(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let (x, axis) = rows(builder, call, &x)?;
    let last = x.rank() - 1;
    let shares = match call.operand(builder, "q")? {
        Operand::Tensor(q) => builder.cast(&q, DType::F32)?,
        Operand::Number { value, .. } => builder.number(value, DType::F32)?,
    };
    let shares = builder.reshape(&shares, &[elements(&builder.shape(&shares))])?;
    let [values, _, count] = sorted(builder, &x)?;
    let size = builder.integer(&builder.dim(&x, last))?;
    let skips = call.op == "nanquantile";
    let numbers = if skips { count.clone() } else { builder.expand(&size, &builder.shape(&count))? };
    let (numbers, count, size) =
        (builder.cast(&numbers, DType::F32)?, builder.cast(&count, DType::F32)?, builder.cast(&size, DType::F32)?);
    let place = Formula::of(&shares) * (Formula::of(&numbers) - 1.0).max(0.0);
    let (low, high) = (place.floor(), place.function(Elementary::Ceil));
    let [low, high] = match call.text("interpolation").unwrap_or("linear") {
        "linear" | "midpoint" => [low, high],
        "lower" => [low.clone(), low],
        "higher" => [high.clone(), high],
        "nearest" => {
            let nearest = place.function(Elementary::Round);
            [nearest.clone(), nearest]
        }
        other => fail!(Unsupported, "quantiles by `{other}`"),
    };
    let mut ends = Vec::new();
    for end in [&low, &high] {
        let places = end.build(builder)?;
        let places = builder.cast(&places, DType::I64)?;
        let found = pick(builder, &values, last, &places)?;
        ends.push(Formula::of(&found));
    }
    let share = match call.text("interpolation") {
        Some("midpoint") => low.equals(&high).choose(0.0, 0.5),
        _ => &place - low,
    };
    let between = &ends[0] + share * (&ends[1] - &ends[0]);
    // A row with what is no number has no quantile, unless such are skipped.
    let whole = if skips { Formula::of(&count).more(0.0) } else { Formula::of(&count).equals(Formula::of(&size)) };
    let result = whole.choose(between, f64::NAN).build(builder)?;
    // Several shares are a first dimension; what was folded comes back in its place if it is kept.
    let mut shape = builder.shape(&result);
    let order: Vec<usize> = std::iter::once(last).chain(0..last).collect();
    let front = Builder::permuted(&result, &order);
    let front = builder.reshape(&front, &order.iter().map(|&axis| shape[axis].clone()).collect::<Vec<_>>())?;
    if let (Some(axis), true) = (axis, call.flag("keepdim", false)?) {
        shape = builder.shape(&front);
        shape.insert(axis + 1, 1.into());
        let kept = builder.reshape(&front, &shape)?;
        return one(builder.reshape(&kept, &call.out_shape(0)?)?);
    }
    one(builder.reshape(&front, &call.out_shape(0)?)?)
}

fn nanmedian(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.wide_tensor(builder, "self")?;
    let (x, _) = rows(builder, call, &x)?;
    let last = x.rank() - 1;
    let [values, indices, count] = sorted(builder, &x)?;
    let (unit, zero, two) =
        (builder.number(1.0, DType::I64)?, builder.number(0.0, DType::I64)?, builder.number(2.0, DType::I64)?);
    let place = builder.binary(Binary::Sub, &count, &unit)?;
    let place = builder.binary(Binary::FloorDiv, &place, &two)?;
    let place = builder.binary(Binary::Max, &place, &zero)?;
    let mut items = Vec::new();
    for tensor in [&values, &indices] {
        let found = pick(builder, tensor, last, &place)?;
        items.push(Item::Tensor(builder.reshape(&found, &call.out_shape(0)?)?));
    }
    items.truncate(call.output_names().len());
    Ok(items)
}

fn nanmean(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let axes = call.axes("dim", x.rank())?;
    let mut axes = if axes.is_empty() || x.rank() == 0 { (0..x.rank()).collect() } else { axes };
    axes.sort_unstable();
    let keep = call.flag("keepdim", false)?;
    let number = builder.binary(Binary::Equal, &x, &x)?;
    let zero = builder.number(0.0, DType::F32)?;
    let (kept, ones) = (builder.select(&number, &x, &zero)?, builder.cast(&number, DType::F32)?);
    let (sum, count) =
        (reduce(builder, Reduce::Sum, &kept, &axes, keep)?, reduce(builder, Reduce::Sum, &ones, &axes, keep)?);
    one(builder.binary(Binary::Div, &sum, &count)?)
}

/// The most frequent of each row, the least of several, and the last place where it is.
fn mode(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.wide_tensor(builder, "self")?;
    let (x, _) = rows(builder, call, &x)?;
    let last = x.rank() - 1;
    let size = builder.dim(&x, last);
    let [values, indices] = ordered(builder, &x, last, false, size.clone())?;
    // How long the run of equal ones is that ends at each place: the distance from its start.
    let places = builder.range(&0.into(), 1, &size)?;
    let before = builder.slice(&values, last, &0.into(), &(&size - 1))?;
    let after = builder.slice(&values, last, &1.into(), &size)?;
    let same = builder.binary(Binary::Equal, &before, &after)?;
    let new = builder.not(&same)?;
    let mut first = builder.shape(&x);
    first[last] = 1.into();
    let begins = builder.number(1.0, DType::Bool)?;
    let begins = builder.expand(&begins, &first)?;
    let new = builder.concat(&[&begins, &new], last)?;
    let zero = builder.number(0.0, DType::I64)?;
    let starts = builder.select(&new, &places, &zero)?;
    let starts = builder.dense(&starts)?;
    let starts = builder.graph.push(Op::Scan { axis: last, how: Scan::Max }, &[starts])?;
    let starts = builder.plain(starts);
    let length = builder.binary(Binary::Sub, &places, &starts)?;
    let length = builder.cast(&length, DType::I64)?;
    // The first longest run is that of the least value.
    let length = builder.dense(&length)?;
    let longest = builder.graph.push(Op::ArgSort { descending: true, keep: 1.into() }, &[length])?;
    let longest = builder.plain(longest);
    let (value, index) = (pick(builder, &values, last, &longest)?, pick(builder, &indices, last, &longest)?);
    let shape = call.out_shape(0)?;
    Ok(vec![Item::Tensor(builder.reshape(&value, &shape)?), Item::Tensor(builder.reshape(&index, &shape)?)])
}
