//! Distances between vectors.

use ondine_graph::{Binary, DType, Reduce, Result, Unary};

use super::{
    reduce,
    reduce::length,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, elements},
    call::{Call, Item},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("pairwise_distance", pairwise_distance),
    Rule::new("dist", dist),
    Rule::new("cdist", cdist),
    Rule::new("_cdist_forward", cdist),
    Rule::new("cosine_similarity", cosine_similarity),
];

fn pairwise_distance(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "x1")?, call.float_tensor(builder, "x2")?);
    let difference = builder.binary(Binary::Sub, &a, &b)?;
    let difference = builder.affine(&difference, 1.0, call.float("eps", 1e-6)?)?;
    one(euclidean(builder, call, &difference)?)
}

fn dist(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "other")?);
    let difference = builder.binary(Binary::Sub, &a, &b)?;
    let size = elements(&builder.shape(&difference));
    let flat = builder.reshape(&difference, &[size])?;
    one(euclidean(builder, call, &flat)?)
}

/// The length of vectors along the last dimension.
fn euclidean(builder: &mut Builder, call: &Call<'_>, x: &Tensor) -> Result<Tensor> {
    length(builder, x, call.float("p", 2.0)?, &[x.rank() - 1], call.flag("keepdim", false)?)
}

/// Euclidean distances of all pairs of rows.
fn cdist(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "x1")?, call.float_tensor(builder, "x2")?);
    let widen = |builder: &mut Builder, x: &Tensor, at: usize| -> Result<Tensor> {
        let mut shape = builder.shape(x);
        shape.insert(at, 1.into());
        builder.reshape(x, &shape)
    };
    let (a, b) = (widen(builder, &a, a.rank() - 1)?, widen(builder, &b, b.rank() - 2)?);
    let difference = builder.binary(Binary::Sub, &a, &b)?;
    let last = difference.rank() - 1;
    one(length(builder, &difference, call.float("p", 2.0)?, &[last], false)?)
}

fn cosine_similarity(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "x1")?, call.float_tensor(builder, "x2")?);
    let (left, right) = (builder.shape(&a).into(), builder.shape(&b).into());
    let mut shape = builder.broadcast_shape(&left, &right)?.0;
    if shape.is_empty() {
        // A number is a vector of one.
        shape.push(1.into());
    }
    let (a, b) = (builder.expand(&a, &shape)?, builder.expand(&b, &shape)?);
    let rank = shape.len();
    let (axis, eps) = (call.axis("dim", 1, rank)?, call.float("eps", 1e-8)?);
    let sum = |builder: &mut Builder, a: &Tensor, b: &Tensor| -> Result<Tensor> {
        let product = builder.binary(Binary::Mul, a, b)?;
        reduce::reduce(builder, Reduce::Sum, &product, &[axis], false)
    };
    let (dot, a, b) = (sum(builder, &a, &b)?, sum(builder, &a, &a)?, sum(builder, &b, &b)?);
    let least = builder.number(eps * eps, DType::F32)?;
    let (a, b) = (builder.binary(Binary::Max, &a, &least)?, builder.binary(Binary::Max, &b, &least)?);
    let size = builder.binary(Binary::Mul, &a, &b)?;
    let size = builder.unary(Unary::Rsqrt, &size)?;
    one(builder.binary(Binary::Mul, &dot, &size)?)
}
