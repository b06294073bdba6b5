//! Dimensions folded away or accumulated along.

use ondine_graph::{Reduce, Result, Scan};

use crate::{
    index::{around, count, map_indices, position, strides},
    number::Real,
    tensor::{Elements, Tensor},
};

/// Nothing sums to 0, multiplies to 1 and has no mean (that of integers is 0); its extrema are the ends of its type.
/// Integers wrap around, and their mean is truncated toward zero.
pub(super) fn reduce<R: Real>(how: Reduce, axes: &[usize], x: &Tensor<R>, shape: &[usize]) -> Result<Tensor<R>> {
    let own = strides(x.shape());
    let (folded, kept): (Vec<usize>, Vec<usize>) = (0..x.shape().len()).partition(|axis| axes.contains(axis));
    let part = |axes: &[usize]| {
        let sizes: Vec<usize> = axes.iter().map(|&axis| x.shape()[axis]).collect();
        let strides: Vec<usize> = axes.iter().map(|&axis| own[axis]).collect();
        map_indices(&sizes, |index| position(index, &strides))
    };
    let (starts, steps) = (part(&kept), part(&folded));
    let terms = |start: usize| steps.iter().map(move |step| start + step);
    match x.elements() {
        Elements::Real(numbers) => {
            let fold = |&start: &usize| fold_reals(how, terms(start).map(|at| numbers[at]), steps.len());
            Tensor::real(x.dtype(), shape, starts.iter().map(fold).collect())
        }
        Elements::Integer(numbers) => {
            let fold = |&start: &usize| fold_integers(how, terms(start).map(|at| numbers[at]), steps.len());
            Tensor::integer(x.dtype(), shape, starts.iter().map(fold).collect())
        }
    }
}

fn fold_reals<R: Real>(how: Reduce, terms: impl Iterator<Item = R>, count: usize) -> R {
    match how {
        Reduce::Sum => R::sum(terms),
        Reduce::Mean => R::sum(terms).over(R::exact(count as f64)),
        Reduce::Max => terms.fold(R::exact(f64::NEG_INFINITY), |most, x| x.larger(most)),
        Reduce::Min => terms.fold(R::exact(f64::INFINITY), |least, x| x.smaller(least)),
        Reduce::Product => terms.reduce(R::times).unwrap_or(R::exact(1.0)),
    }
}

fn fold_integers(how: Reduce, terms: impl Iterator<Item = i64>, count: usize) -> i64 {
    match how {
        Reduce::Sum => terms.fold(0, i64::wrapping_add),
        Reduce::Mean => terms.fold(0, i64::wrapping_add).checked_div(count as i64).unwrap_or(0),
        Reduce::Max => terms.fold(i64::MIN, i64::max),
        Reduce::Min => terms.fold(i64::MAX, i64::min),
        Reduce::Product => terms.fold(1, i64::wrapping_mul),
    }
}

pub(super) fn scan<R: Real>(axis: usize, how: Scan, x: &Tensor<R>) -> Result<Tensor<R>> {
    let [_, size, inner] = around(x.shape(), axis);
    // The elements up to this one in the dimension.
    let terms = |at: usize| {
        let (start, index) = (at / (size * inner) * size * inner + at % inner, at / inner % size);
        (0..=index).map(move |i| start + i * inner)
    };
    let all = 0..count(x.shape());
    match x.elements() {
        Elements::Real(numbers) => {
            let fold = |at: usize| {
                let terms = terms(at).map(|at| numbers[at]);
                match how {
                    Scan::Sum => R::sum(terms),
                    Scan::Product => terms.reduce(R::times).unwrap_or(R::exact(1.0)),
                    Scan::Max => terms.reduce(R::larger).unwrap_or(R::exact(f64::NEG_INFINITY)),
                    Scan::Min => terms.reduce(R::smaller).unwrap_or(R::exact(f64::INFINITY)),
                }
            };
            Tensor::real(x.dtype(), x.shape(), all.map(fold).collect())
        }
        Elements::Integer(numbers) => {
            let fold = |at: usize| {
                let terms = terms(at).map(|at| numbers[at]);
                match how {
                    Scan::Sum => terms.fold(0, i64::wrapping_add),
                    Scan::Product => terms.fold(1, i64::wrapping_mul),
                    Scan::Max => terms.fold(i64::MIN, i64::max),
                    Scan::Min => terms.fold(i64::MAX, i64::min),
                }
            };
            Tensor::integer(x.dtype(), x.shape(), all.map(fold).collect())
        }
    }
}
