//! Elements found by indices.

use ondine_graph::{Result, Scatter};

use crate::{
    index::{around, count},
    number::Real,
    tensor::{Elements, Tensor, misfit},
};

/// Where an index points in a dimension of `rows`.
fn row(index: i64, at: usize, rows: usize, wraps: bool) -> Result<usize> {
    let counted = if wraps && index < 0 { index.saturating_add_unsigned(rows as u64) } else { index };
    match usize::try_from(counted) {
        Ok(row) if row < rows => Ok(row),
        _ => Err(misfit(format!("index {index} at position {at} is outside {rows} rows"))),
    }
}

/// The rows that the elements of `indices` name.
fn named<R: Real>(indices: &Tensor<R>, rows: usize, wraps: bool) -> Result<Vec<usize>> {
    indices.integers()?.iter().enumerate().map(|(at, &index)| row(index, at, rows, wraps)).collect()
}

pub(super) fn gather<R: Real>([table, indices]: [&Tensor<R>; 2], shape: &[usize]) -> Result<Tensor<R>> {
    let [_, rows, width] = around(table.shape(), 0);
    let rows = named(indices, rows, false)?;
    Tensor::pick(&[table], shape, rows.into_iter().flat_map(|row| (0..width).map(move |i| Some((0, row * width + i)))))
}

pub(super) fn take_row<R: Real>([x, position]: [&Tensor<R>; 2], shape: &[usize]) -> Result<Tensor<R>> {
    let [_, rows, width] = around(x.shape(), 1);
    let taken = named(position, rows, false)?.into_iter().enumerate();
    let places = taken.flat_map(|(batch, row)| (0..width).map(move |i| Some((0, (batch * rows + row) * width + i))));
    Tensor::pick(&[x], shape, places)
}

pub(super) fn take<R: Real>(axis: usize, [x, indices]: [&Tensor<R>; 2], shape: &[usize]) -> Result<Tensor<R>> {
    let [outer, size, inner] = around(x.shape(), axis);
    let rows = named(indices, size, true)?;
    let places = (0..outer).flat_map(|block| {
        rows.iter().flat_map(move |row| (0..inner).map(move |i| Some((0, (block * size + row) * inner + i))))
    });
    Tensor::pick(&[x], shape, places)
}

pub(super) fn scatter<R: Real>(how: Scatter, [x, indices, values]: [&Tensor<R>; 3]) -> Result<Tensor<R>> {
    let [_, rows, width] = around(x.shape(), 0);
    let places = named(indices, rows, true)?;
    let pairs = places.into_iter().enumerate();
    let pairs = pairs.flat_map(|(from, to)| (0..width).map(move |i| (from * width + i, to * width + i)));
    debug_assert_eq!(count(values.shape()), count(indices.shape()) * width);
    if let (Elements::Real(old), Elements::Real(new)) = (x.elements(), values.elements()) {
        let mut numbers = old.clone();
        for (from, to) in pairs {
            numbers[to] = match how {
                Scatter::Replace => new[from],
                Scatter::Add => numbers[to].plus(new[from]),
                Scatter::Multiply => numbers[to].times(new[from]),
                Scatter::Max => numbers[to].larger(new[from]),
                Scatter::Min => numbers[to].smaller(new[from]),
            };
        }
        return Tensor::real(x.dtype(), x.shape(), numbers);
    }
    let (mut numbers, new) = (x.integers()?.to_vec(), values.integers()?);
    for (from, to) in pairs {
        numbers[to] = match how {
            Scatter::Replace => new[from],
            Scatter::Add => numbers[to].wrapping_add(new[from]),
            Scatter::Multiply => numbers[to].wrapping_mul(new[from]),
            Scatter::Max => numbers[to].max(new[from]),
            Scatter::Min => numbers[to].min(new[from]),
        };
    }
    Tensor::integer(x.dtype(), x.shape(), numbers)
}
