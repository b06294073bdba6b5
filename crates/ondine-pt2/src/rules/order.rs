//! Order statistics, and places among sorted numbers.

use ondine_graph::{Binary, DType, Reduce, Result};

use super::{
    index::ordered,
    reduce::{largest, reduce},
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, elements},
    call::{Call, Item, Operand},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("bucketize", bucketize),
    Rule::new("searchsorted", bucketize),
    Rule::new("median", rank_value).along(),
    Rule::new("kthvalue", rank_value).along(),
    Rule::new("isin", isin),
];

/// A tensor, or a number as one.
fn operand(builder: &mut Builder, call: &Call<'_>, name: &str) -> Result<Tensor> {
    match call.operand(builder, name)? {
        Operand::Tensor(tensor) => Ok(tensor),
        Operand::Number { integer, .. } => {
            call.operand_as(builder, name, if integer { DType::I64 } else { DType::F32 })
        }
    }
}

/// How many of the ascending boundaries are below each number.
fn bucketize(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, edges) = if call.op == "bucketize" {
        (operand(builder, call, "self")?, call.tensor("boundaries")?)
    } else {
        (operand(builder, call, "self")?, call.tensor("sorted_sequence")?)
    };
    let right = call.flag("right", false)? || call.text("side") == Some("right");
    let float = [&x, &edges].iter().any(|tensor| builder.dtype(tensor) == DType::F32);
    let dtype = if float { DType::F32 } else { DType::I64 };
    let (x, edges) = (builder.cast(&x, dtype)?, builder.cast(&edges, dtype)?);
    let mut shape = builder.shape(&x);
    shape.push(1.into());
    let x = builder.reshape(&x, &shape)?;
    let edges = if edges.rank() > 1 {
        let mut wide = builder.shape(&edges);
        wide.insert(edges.rank() - 1, 1.into());
        builder.reshape(&edges, &wide)?
    } else {
        edges
    };
    let passed = if right {
        let below = builder.binary(Binary::Less, &x, &edges)?;
        builder.not(&below)?
    } else {
        builder.binary(Binary::Less, &edges, &x)?
    };
    let passed = builder.cast(&passed, DType::I64)?;
    let last = passed.rank() - 1;
    let count = reduce(builder, Reduce::Sum, &passed, &[last], false)?;
    one(call.cast_out(builder, &count)?)
}

/// The element of a rank among those of a dimension, and where it is.
fn rank_value(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut x = call.tensor("self")?;
    let whole = call.op == "median" && !call.has("dim");
    if whole {
        let size = elements(&builder.shape(&x));
        x = builder.reshape(&x, &[size])?;
    }
    let axis = call.axis("dim", -1, x.rank())?;
    let size = builder.dim(&x, axis);
    let position = if call.op == "median" { (&size - 1).floor_div(2) } else { &call.dim("k")? - 1 };
    let [values, indices] = ordered(builder, &x, axis, false, size)?;
    let mut found = Vec::new();
    for tensor in [&values, &indices] {
        found.push(builder.slice(tensor, axis, &position, &(&position + 1))?);
    }
    if call.op == "median" && builder.dtype(&x).is_float() {
        // Among numbers and what is none, the middle is none.
        let most = largest(builder, &x, axis, false)?;
        let number = builder.binary(Binary::Equal, &most[0], &most[0])?;
        for (found, odd) in found.iter_mut().zip(&most) {
            *found = builder.select(&number, found, odd)?;
        }
    }
    found.truncate(if whole { 1 } else { 2 });
    let keep = call.flag("keepdim", false)?;
    let shown = |tensor| if keep { Ok(tensor) } else { builder.without(&tensor, axis) };
    found.into_iter().map(shown).map(|tensor| tensor.map(Item::Tensor)).collect()
}

fn isin(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let [x, among] = [["elements", "element"], ["test_elements", "test_element"]]
        .map(|[many, single]| operand(builder, call, if call.has(many) { many } else { single }));
    let (x, among) = (x?, among?);
    let float = [&x, &among].iter().any(|tensor| builder.dtype(tensor) == DType::F32);
    let dtype = if float { DType::F32 } else { DType::I64 };
    let (x, among) = (builder.cast(&x, dtype)?, builder.cast(&among, dtype)?);
    let size = elements(&builder.shape(&among));
    let among = builder.reshape(&among, &[size])?;
    let mut shape = builder.shape(&x);
    shape.push(1.into());
    let x = builder.reshape(&x, &shape)?;
    let equal = builder.binary(Binary::Equal, &x, &among)?;
    let equal = builder.cast(&equal, DType::I64)?;
    let found = reduce(builder, Reduce::Max, &equal, &[shape.len() - 1], false)?;
    let found = builder.cast(&found, DType::Bool)?;
    one(if call.flag("invert", false)? { builder.not(&found)? } else { found })
}
