//! Where elements are in the order of a row.

use std::cmp::Ordering;

use ondine_graph::{DType, Result};

use crate::{
    index::rows,
    number::Real,
    tensor::{Elements, Tensor, misfit},
};

/// The order of two elements; what is no number is larger than all.
fn order<R: Real>(x: &Tensor<R>, i: usize, j: usize) -> Ordering {
    match x.elements() {
        Elements::Integer(numbers) => numbers[i].cmp(&numbers[j]),
        Elements::Real(numbers) => {
            let (a, b) = (numbers[i].value(), numbers[j].value());
            a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        }
    }
}

pub(super) fn argmax<R: Real>(x: &Tensor<R>, shape: &[usize]) -> Result<Tensor<R>> {
    let (outer, width) = rows(x.shape());
    if width == 0 {
        return Err(misfit("the largest element of an empty row".into()));
    }
    let largest = |row: usize| {
        let first = row * width;
        (1..width).fold(0, |best, i| if order(x, first + i, first + best) == Ordering::Greater { i } else { best })
    };
    Tensor::integer(DType::I64, shape, (0..outer).map(|row| largest(row) as i64).collect())
}

pub(super) fn argsort<R: Real>(descending: bool, x: &Tensor<R>, shape: &[usize]) -> Result<Tensor<R>> {
    let ((outer, width), (_, keep)) = (rows(x.shape()), rows(shape));
    if keep > width {
        return Err(misfit(format!("the first {keep} of {width} elements")));
    }
    let sorted = |row: usize| {
        let mut indices: Vec<usize> = (0..width).collect();
        indices.sort_by(|&i, &j| {
            let ordering = order(x, row * width + i, row * width + j);
            if descending { ordering.reverse() } else { ordering }
        });
        indices.into_iter().take(keep).map(|index| index as i64)
    };
    Tensor::integer(DType::I64, shape, (0..outer).flat_map(sorted).collect())
}
