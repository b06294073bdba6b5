//! Positions of what the data chooses.

use ondine_graph::{Binary, DType, Dim, Op, Reduce, Result, Scan, fail};

use super::reduce::reduce;
use crate::builder::{Builder, Tensor, elements};

/// Where in row-major order the truth values are true; there are `size`, which the call finds.
pub(super) fn positions(builder: &mut Builder, mask: &Tensor, size: Option<&Dim>) -> Result<Tensor> {
    let Some(size) = size else { fail!(Format, "a choice of elements has no size") };
    let mask = builder.cast(mask, DType::Bool)?;
    let all = elements(&builder.shape(&mask));
    let mask = builder.reshape(&mask, std::slice::from_ref(&all))?;
    let ones = builder.cast(&mask, DType::I64)?;
    let count = reduce(builder, Reduce::Sum, &ones, &[0], false)?;
    builder.graph.push(Op::Measure { size: size.clone(), most: all }, &[count.value])?;
    // Ordering is stable, so those that are true come first and as they stood.
    let value = builder.graph.push(Op::ArgSort { descending: true, keep: size.clone() }, &[mask.value])?;
    Ok(builder.plain(value))
}

/// For each dimension where the elements are that are not zero.
pub(super) fn coordinates(builder: &mut Builder, x: &Tensor, size: Option<&Dim>) -> Result<Vec<Tensor>> {
    let shape = builder.shape(x);
    let places = positions(builder, x, size)?;
    let mut columns = Vec::new();
    for axis in 0..shape.len() {
        let mut column = places.clone();
        if axis + 1 < shape.len() {
            let stride = builder.integer(&elements(&shape[axis + 1..]))?;
            column = builder.binary(Binary::FloorDiv, &column, &stride)?;
        }
        if axis > 0 {
            let size = builder.integer(&shape[axis])?;
            column = builder.binary(Binary::Remainder, &column, &size)?;
        }
        columns.push(column);
    }
    Ok(columns)
}

/// `x` with the parts that `mask` chooses, along as many first dimensions as it has, replaced by `rows` in turn, or
/// with the rows added.
pub(super) fn fill(builder: &mut Builder, x: &Tensor, mask: &Tensor, rows: &Tensor, adds: bool) -> Result<Tensor> {
    let (shape, places) = (builder.shape(x), builder.shape(mask));
    let mask = builder.cast(mask, DType::Bool)?;
    let all = elements(&places);
    let flat = builder.reshape(&mask, &[all])?;
    let ones = builder.cast(&flat, DType::I64)?;
    let value = builder.graph.push(Op::Scan { axis: 0, how: Scan::Sum }, &[ones.value])?;
    let turn = builder.plain(value);
    let (one, zero) = (builder.number(1.0, DType::I64)?, builder.number(0.0, DType::I64)?);
    let turn = builder.binary(Binary::Sub, &turn, &one)?;
    let turn = builder.binary(Binary::Max, &turn, &zero)?;
    // What lies before the first chosen place reads a row that may not be there.
    let mut padding = builder.shape(rows);
    padding[0] = 1.into();
    let nothing = builder.number(0.0, builder.dtype(rows))?;
    let nothing = builder.expand(&nothing, &padding)?;
    let rows = builder.concat(&[rows, &nothing], 0)?;
    let new = builder.take(&rows, 0, &turn)?;
    let new = builder.reshape(&new, &shape)?;
    let new = builder.cast(&new, builder.dtype(x))?;
    let new = if adds { builder.binary(Binary::Add, x, &new)? } else { new };
    let mut wide = places;
    wide.resize(shape.len(), 1.into());
    let mask = builder.reshape(&mask, &wide)?;
    builder.select(&mask, &new, x)
}
