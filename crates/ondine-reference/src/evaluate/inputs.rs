//! The inputs of an operator, by number.

use ondine_graph::Result;

use crate::{
    number::Real,
    tensor::{Tensor, misfit},
};

/// The only input.
pub(super) fn one<'a, R: Real>(inputs: &[&'a Tensor<R>]) -> Result<&'a Tensor<R>> {
    some::<R, 1>(inputs).map(|[x]| x)
}

/// So many inputs.
pub(super) fn some<'a, R: Real, const N: usize>(inputs: &[&'a Tensor<R>]) -> Result<[&'a Tensor<R>; N]> {
    inputs.try_into().map_err(|_| misfit(format!("takes {N} inputs, got {}", inputs.len())))
}
