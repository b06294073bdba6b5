//! Normalizations, along rows and over groups of channels.

use ondine_graph::{Activation, Result};

use super::{elementwise::activate, inputs::some};
use crate::{
    index::rows,
    number::{ELEMENTARY, Real},
    tensor::{Tensor, misfit},
};

/// `e^x` over its sum. A row that is negative infinity throughout yields zeros; one that holds positive infinity, or
/// what is no number, yields what is none.
pub(super) fn softmax<R: Real>(x: &Tensor<R>) -> Result<Tensor<R>> {
    let (_, width) = rows(x.shape());
    let numbers = x.reals()?.chunks(width.max(1)).flat_map(|row| shares(row)).collect();
    Tensor::real(x.dtype(), x.shape(), numbers)
}

/// The softmax of scores.
pub(super) fn shares<R: Real>(scores: &[R]) -> Vec<R> {
    let most = scores.iter().fold(f64::NEG_INFINITY, |most, x| if x.value() > most { x.value() } else { most });
    if most == f64::NEG_INFINITY && !scores.iter().any(|x| x.value().is_nan()) {
        return vec![R::exact(0.0); scores.len()];
    }
    // Whatever is subtracted cancels: it need not be what a device takes for the largest.
    let powers: Vec<R> = scores.iter().map(|x| x.minus(R::exact(most)).map(ELEMENTARY, f64::exp)).collect();
    let total = R::sum(powers.iter().copied());
    powers.into_iter().map(|power| power.over(total)).collect()
}

/// Numbers less their mean, over the root of their variance.
fn standardize<R: Real>(numbers: &[R], eps: f32) -> Vec<R> {
    let count = R::exact(numbers.len() as f64);
    let mean = R::sum(numbers.iter().copied()).over(count);
    let apart: Vec<R> = numbers.iter().map(|x| x.minus(mean)).collect();
    let variance = R::sum(apart.iter().map(|x| x.times(*x))).over(count);
    let inverse = inverse_root(variance, eps);
    apart.into_iter().map(|x| x.times(inverse)).collect()
}

fn inverse_root<R: Real>(square: R, eps: f32) -> R {
    // No square is less than 0, whatever it is off by.
    square.plus(R::exact(eps.into())).map(ELEMENTARY, |x| 1.0 / x.max(eps.into()).sqrt())
}

pub(super) fn layer_norm<R: Real>(eps: f32, inputs: &[&Tensor<R>]) -> Result<Tensor<R>> {
    let [x, weight, bias] = some(inputs)?;
    let (weight, bias) = (weight.reals()?, bias.reals()?);
    let normed = x.reals()?.chunks(weight.len().max(1)).flat_map(|row| standardize(row, eps));
    let numbers = normed.zip(weight.iter().zip(bias).cycle()).map(|(x, (w, b))| x.times(*w).plus(*b)).collect();
    Tensor::real(x.dtype(), x.shape(), numbers)
}

pub(super) fn rms_norm<R: Real>(eps: f32, inputs: &[&Tensor<R>]) -> Result<Tensor<R>> {
    let [x, weight] = some(inputs)?;
    let weight = weight.reals()?;
    let normed = x.reals()?.chunks(weight.len().max(1)).flat_map(|row| {
        let square = R::sum(row.iter().map(|x| x.times(*x))).over(R::exact(row.len() as f64));
        let inverse = inverse_root(square, eps);
        row.iter().zip(weight).map(move |(x, w)| x.times(inverse).times(*w))
    });
    Tensor::real(x.dtype(), x.shape(), normed.collect())
}

pub(super) fn group_norm<R: Real>(
    groups: usize,
    eps: f32,
    activation: Activation,
    inputs: &[&Tensor<R>],
) -> Result<Tensor<R>> {
    let [x, weight, bias] = some(inputs)?;
    let (numbers, weight, bias) = (x.reals()?, weight.reals()?, bias.reals()?);
    let (channels, batch) = (weight.len(), x.shape()[0]);
    if groups == 0 || channels % groups != 0 {
        return Err(misfit(format!("{groups} groups do not divide {channels} channels")));
    }
    let (size, width) = (numbers.len() / batch.max(1), channels / groups);
    let mut out = numbers.to_vec();
    for (picture, group) in (0..batch).flat_map(|picture| (0..groups).map(move |group| (picture, group))) {
        let first = picture * size;
        let places: Vec<usize> = (first..first + size).filter(|at| at % channels / width == group).collect();
        let members: Vec<R> = places.iter().map(|&at| numbers[at]).collect();
        for (&at, x) in places.iter().zip(standardize(&members, eps)) {
            let channel = at % channels;
            out[at] = activate(activation, x.times(weight[channel]).plus(bias[channel]));
        }
    }
    Tensor::real(x.dtype(), x.shape(), out)
}
