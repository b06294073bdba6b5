//! What rules ask of operands: their types, their ranks, and sizes that must be equal.

use crate::{
    dim::Dim,
    dtype::DType,
    error::{Result, fail},
    shape::Shape,
    signature::Signature,
};

/// Sizes that are taken to be equal although they are written differently: the sizes of a call tell whether they are.
#[derive(Debug, Default)]
pub struct Supposed(Vec<[Dim; 2]>);

impl Supposed {
    /// The pairs.
    #[must_use]
    pub fn pairs(&self) -> &[[Dim; 2]] {
        &self.0
    }

    /// False if two sizes are never equal; notes them if they may be, but need not.
    pub(super) fn equal(&mut self, a: &Dim, b: &Dim) -> bool {
        let may = a.may_equal(b);
        if may && a != b {
            self.0.push([a.clone(), b.clone()]);
        }
        may
    }

    /// As [`Supposed::equal`], of dimension after dimension.
    pub(super) fn all_equal(&mut self, a: &[Dim], b: &[Dim]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.equal(a, b))
    }
}

/// Types of truth values and masks: a byte each.
pub(super) const BYTES: [DType; 3] = [DType::Bool, DType::U8, DType::I8];

/// Makes sure that `what` is of one of the types that machines read there.
pub(super) fn typed(what: &str, input: &Signature, wanted: &[DType]) -> Result<()> {
    if !wanted.contains(&input.dtype) {
        let wanted: Vec<_> = wanted.iter().map(DType::to_string).collect();
        fail!(Shape, "{what} is of type {}, got {}", wanted.join(" or "), input.dtype);
    }
    Ok(())
}

pub(super) fn same_dtype(inputs: &[&Signature]) -> Result<DType> {
    match inputs {
        [first, rest @ ..] if rest.iter().all(|s| s.dtype == first.dtype) => Ok(first.dtype),
        _ => fail!(Shape, "element types differ: {:?}", inputs.iter().map(|s| s.dtype).collect::<Vec<_>>()),
    }
}

pub(super) fn glu(x: &Signature) -> Result<Signature> {
    let mut signature = x.clone();
    let last = x.shape.rank().saturating_sub(1);
    let Some(size) = x.shape.last()?.fixed().filter(|size| size % 2 == 0) else {
        fail!(Shape, "glu needs an even last dimension, got {}", x.shape);
    };
    signature.shape.0[last] = (size / 2).into();
    Ok(signature)
}

pub(super) fn rank<const N: usize>(signature: &Signature) -> Result<[Dim; N]> {
    match <[Dim; N]>::try_from(signature.shape.0.clone()) {
        Ok(dims) => Ok(dims),
        Err(dims) => fail!(Shape, "needs {N} dimensions, got {}", Shape(dims)),
    }
}
