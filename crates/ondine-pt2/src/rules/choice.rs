//! Choices of elements whose number the data decides: the size is measured, then everything follows from positions.

use ondine_graph::{Binary, DType, Dim, Op, Reduce, Result, Scan, Scatter, fail};

use super::{
    index::ordered,
    positions::{coordinates, fill, positions},
    reduce::reduce,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, elements},
    call::{Call, Item},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("nonzero", nonzero),
    Rule::new("argwhere", nonzero),
    Rule::new("nonzero_numpy", nonzero_numpy),
    Rule::new("masked_select", masked_select),
    Rule::new("masked_scatter", masked_scatter),
    Rule::new("_unique2", unique),
    Rule::new("unique_consecutive", unique),
    Rule::new("bincount", bincount),
];

fn masked_scatter(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, mask, source) = (call.tensor("self")?, call.tensor("mask")?, call.tensor("source")?);
    let shape = call.out_shape(0)?;
    let (x, mask) = (builder.expand(&x, &shape)?, builder.expand(&mask, &shape)?);
    let size = elements(&builder.shape(&source));
    let source = builder.reshape(&source, &[size])?;
    one(fill(builder, &x, &mask, &source, false)?)
}

fn masked_select(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, mask) = (call.tensor("self")?, call.tensor("mask")?);
    let like = builder.binary(Binary::Equal, &x, &x)?;
    let both = builder.binary(Binary::Or, &like, &mask)?;
    let shape = builder.shape(&both);
    let (x, mask) = (builder.expand(&x, &shape)?, builder.expand(&mask, &shape)?);
    let places = positions(builder, &mask, call.out_shape(0)?.first())?;
    let x = builder.reshape(&x, &[elements(&shape)])?;
    one(builder.take(&x, 0, &places)?)
}

fn nonzero_numpy(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut x = call.tensor("self")?;
    if x.rank() == 0 {
        x = builder.reshape(&x, &[1.into()])?;
    }
    let columns = coordinates(builder, &x, call.out_shape(0)?.first())?;
    Ok(columns.into_iter().map(Item::Tensor).collect())
}

fn nonzero(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let columns = coordinates(builder, &x, call.out_shape(0)?.first())?;
    let mut wide = Vec::new();
    if columns.is_empty() {
        // The place of a number without dimensions has no coordinates, but it counts.
        let nothing = builder.number(0.0, DType::I64)?;
        return one(builder.expand(&nothing, &call.out_shape(0)?)?);
    }
    for column in columns {
        let count = builder.dim(&column, 0);
        wide.push(builder.reshape(&column, &[count, 1.into()])?);
    }
    one(builder.concat(&wide.iter().collect::<Vec<_>>(), 1)?)
}

/// The different elements, ordered or as their runs come; which of them each element is, and how often each occurs.
fn unique(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    if call.has("dim") {
        fail!(Unsupported, "the different parts along a dimension");
    }
    let (shape, sorts) = (builder.shape(&x), call.op == "_unique2");
    let all = elements(&shape);
    if all.fixed() == Some(0) {
        fail!(Unsupported, "the different elements of nothing");
    }
    let mut x = builder.reshape(&x, std::slice::from_ref(&all))?;
    let mut order = None;
    if sorts {
        let [values, indices] = ordered(builder, &x, 0, false, all.clone())?;
        (x, order) = (values, Some(indices));
    }
    let rest = builder.slice(&x, 0, &1.into(), &all)?;
    let before = builder.slice(&x, 0, &0.into(), &(&all - 1))?;
    let same = builder.binary(Binary::Equal, &rest, &before)?;
    let new = builder.not(&same)?;
    let first = builder.number(1.0, DType::Bool)?;
    let first = builder.reshape(&first, &[1.into()])?;
    let new = builder.concat(&[&first, &new], 0)?;
    let size = call.out_shape(0)?;
    let places = positions(builder, &new, size.first())?;
    let values = builder.take(&x, 0, &places)?;
    let ones = builder.cast(&new, DType::I64)?;
    let value = builder.graph.push(Op::Scan { axis: 0, how: Scan::Sum }, &[ones.value])?;
    let (turn, one) = (builder.plain(value), builder.number(1.0, DType::I64)?);
    let mut inverse = builder.binary(Binary::Sub, &turn, &one)?;
    if let Some(order) = order {
        inverse = builder.scatter_rows(Scatter::Replace, &inverse, 0, &order, &inverse)?;
    }
    let inverse = builder.reshape(&inverse, &shape)?;
    // From the start of each run to that of the next.
    let end = builder.integer(&all)?;
    let end = builder.reshape(&end, &[1.into()])?;
    let count = builder.dim(&places, 0);
    let later = builder.slice(&places, 0, &1.into(), &count)?;
    let later = builder.concat(&[&later, &end], 0)?;
    let later = builder.reshape(&later, &[count])?;
    let counts = builder.binary(Binary::Sub, &later, &places)?;
    Ok([values, inverse, counts].into_iter().map(Item::Tensor).collect())
}

/// Says that result 0 has as many parts along `axis` as `count`, which the call finds.
fn measured(builder: &mut Builder, call: &Call<'_>, count: &Tensor, axis: usize) -> Result<Dim> {
    let out = call.out_shape(0)?;
    let Some(size) = out.get(axis) else { fail!(Format, "a result of {} dimensions", out.len()) };
    let mut symbols = std::collections::BTreeSet::new();
    size.symbols(&mut symbols);
    let limit = symbols.first().and_then(|symbol| builder.graph.limits().get(symbol)).map(|limits| limits[1]);
    builder.graph.push(Op::Measure { size: size.clone(), most: limit.unwrap_or(usize::MAX).into() }, &[count.value])?;
    Ok(size.clone())
}

/// Each part along a dimension as often as a tensor says.
pub(super) fn repeated(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    // The form of one argument yields places.
    let places_only = !call.has("self");
    let times = call.tensor("repeats")?;
    let times = builder.cast(&times, DType::I64)?;
    let count = elements(&builder.shape(&times));
    let times = builder.reshape(&times, std::slice::from_ref(&count))?;
    let (mut x, mut axis) = (times.clone(), 0);
    if !places_only {
        x = call.tensor("self")?;
        if call.has("dim") {
            axis = call.axis("dim", 0, x.rank())?;
        } else {
            let size = elements(&builder.shape(&x));
            x = builder.reshape(&x, &[size])?;
        }
    }
    let length = if places_only { count.clone() } else { builder.dim(&x, axis) };
    let times = builder.expand(&times, std::slice::from_ref(&length))?;
    let total = reduce(builder, Reduce::Sum, &times, &[0], false)?;
    let size = measured(builder, call, &total, axis)?;
    let value = builder.graph.push(Op::Scan { axis: 0, how: Scan::Sum }, &[times.value])?;
    let ends = builder.plain(value);
    // A part is behind all those that end before it.
    let ends = builder.reshape(&ends, &[1.into(), length])?;
    let place = builder.range(&0.into(), 1, &size)?;
    let place = builder.reshape(&place, &[size, 1.into()])?;
    let before = builder.binary(Binary::Less, &place, &ends)?;
    let passed = builder.not(&before)?;
    let passed = builder.cast(&passed, DType::I64)?;
    let source = reduce(builder, Reduce::Sum, &passed, &[1], false)?;
    one(if places_only { source } else { builder.take(&x, axis, &source)? })
}

/// How often each number from 0 on occurs.
fn bincount(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let x = builder.cast(&x, DType::I64)?;
    let rows = builder.dim(&x, 0);
    let most = reduce(builder, Reduce::Max, &x, &[0], false)?;
    let unit = builder.number(1.0, DType::I64)?;
    let most = builder.binary(Binary::Add, &most, &unit)?;
    let least = builder.number(call.float("minlength", 0.0)?, DType::I64)?;
    let count = builder.binary(Binary::Max, &most, &least)?;
    let size = measured(builder, call, &count, 0)?;
    let places = builder.range(&0.into(), 1, &size)?;
    let x = builder.reshape(&x, &[rows.clone(), 1.into()])?;
    let hits = builder.binary(Binary::Equal, &x, &places)?;
    if let Some(weights) = call.try_tensor("weights")? {
        let weights = builder.cast(&weights, DType::F32)?;
        let weights = builder.reshape(&weights, &[rows, 1.into()])?;
        let hits = builder.cast(&hits, DType::F32)?;
        let weighted = builder.binary(Binary::Mul, &hits, &weights)?;
        return one(reduce(builder, Reduce::Sum, &weighted, &[0], false)?);
    }
    let hits = builder.cast(&hits, DType::I64)?;
    one(reduce(builder, Reduce::Sum, &hits, &[0], false)?)
}
