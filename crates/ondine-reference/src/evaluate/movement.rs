//! Elements that move, unchanged, and numbers that follow from sizes.

use ondine_graph::{DType, Dim, Result};

use crate::{
    index::{around, map_indices, position, repeated, strides},
    number::Real,
    tensor::{Tensor, misfit},
};

pub(super) fn permute<R: Real>(axes: &[usize], x: &Tensor<R>, shape: &[usize]) -> Result<Tensor<R>> {
    let own = strides(x.shape());
    let strides: Vec<usize> = axes.iter().map(|&axis| own[axis]).collect();
    Tensor::pick(&[x], shape, map_indices(shape, |index| Some((0, position(index, &strides)))))
}

pub(super) fn expand<R: Real>(x: &Tensor<R>, shape: &[usize]) -> Result<Tensor<R>> {
    Tensor::pick(&[x], shape, repeated(x.shape(), shape).into_iter().map(|at| Some((0, at))))
}

pub(super) fn slice<R: Real>(axis: usize, start: &Dim, x: &Tensor<R>, shape: &[usize]) -> Result<Tensor<R>> {
    let size = x.shape()[axis];
    let Some(start) = start.fixed().filter(|start| start.saturating_add(shape[axis]) <= size) else {
        return Err(misfit(format!("a slice of {} elements from {start} on of {size}", shape[axis])));
    };
    let strides = strides(x.shape());
    let first = start * strides[axis];
    Tensor::pick(&[x], shape, map_indices(shape, |index| Some((0, first + position(index, &strides)))))
}

pub(super) fn concat<R: Real>(axis: usize, parts: &[&Tensor<R>], shape: &[usize]) -> Result<Tensor<R>> {
    let [outer, _, inner] = around(shape, axis);
    let places = (0..outer).flat_map(|block| {
        parts.iter().enumerate().flat_map(move |(source, part)| {
            let block_size = part.shape()[axis] * inner;
            (0..block_size).map(move |at| Some((source, block * block_size + at)))
        })
    });
    Tensor::pick(parts, shape, places)
}

pub(super) fn pad<R: Real>(amounts: &[[usize; 2]], x: &Tensor<R>, shape: &[usize]) -> Result<Tensor<R>> {
    let strides = strides(x.shape());
    let place = |index: &[usize]| {
        let inside = |axis: usize| index[axis].checked_sub(amounts[axis][0]).filter(|&i| i < x.shape()[axis]);
        let own = (0..index.len()).map(inside).collect::<Option<Vec<usize>>>()?;
        Some((0, position(&own, &strides)))
    };
    Tensor::pick(&[x], shape, map_indices(shape, place))
}

pub(super) fn range<R: Real>(start: &Dim, step: i64, shape: &[usize]) -> Result<Tensor<R>> {
    let Some(start) = start.constant() else { return Err(misfit(format!("a range from {start}, which is not bound"))) };
    let numbers = (0..shape[0] as i64).map(|i| start.wrapping_add(i.wrapping_mul(step)));
    Tensor::integer(DType::I64, shape, numbers.collect())
}

/// What lies among bytes from `offset` on.
pub(super) fn unpack<R: Real>(offset: &Dim, x: &Tensor<R>, (dtype, shape): (DType, &[usize])) -> Result<Tensor<R>> {
    let bytes = x.to_bytes();
    let len = shape.iter().product::<usize>() * dtype.size();
    let part = offset.fixed().and_then(|offset| bytes.get(offset..offset.checked_add(len)?));
    match part {
        Some(part) => Ok(Tensor::from_bytes(dtype, shape, part)),
        None => Err(misfit(format!("{len} bytes from {offset} on of {}", bytes.len()))),
    }
}
