//! Bags of rows of a table.

use ondine_graph::{Binary, DType, Dim, Reduce, Result, Scatter};

use super::{
    index::{mean_of, neutral},
    reduce::reduce,
    rule::{Rule, one},
};
use crate::{
    builder::Builder,
    call::{Call, Item},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("embedding_bag", embedding_bag),
    Rule::new("_embedding_bag", embedding_bag),
    Rule::new("_embedding_bag_forward_only", embedding_bag),
];

/// Sums, means or maxima of the rows of a table, bag by bag.
fn embedding_bag(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let table = call.float_tensor(builder, "weight")?;
    let (indices, offsets) = (call.tensor("indices")?, call.tensor("offsets")?);
    let (indices, offsets) = (builder.cast(&indices, DType::I64)?, builder.cast(&offsets, DType::I64)?);
    let (bags, width) = (call.out_dim(0, 0)?, builder.dim(&table, 1));
    let count = builder.dim(&indices, 0);
    let mut rows = builder.take(&table, 0, &indices)?;
    if let Some(weights) = call.try_tensor("per_sample_weights")? {
        let weights = builder.reshape(&weights, &[count.clone(), 1.into()])?;
        rows = builder.binary(Binary::Mul, &rows, &weights)?;
    }
    // The bag of an index is the last that begins before it.
    let starts = builder.slice(&offsets, 0, &0.into(), &bags)?;
    let starts = builder.reshape(&starts, &[1.into(), bags.clone()])?;
    let places = builder.range(&0.into(), 1, &count)?;
    let places = builder.reshape(&places, &[count.clone(), 1.into()])?;
    let later = builder.binary(Binary::Less, &places, &starts)?;
    let begun = builder.not(&later)?;
    let begun = builder.cast(&begun, DType::I64)?;
    let bag = reduce(builder, Reduce::Sum, &begun, &[1], false)?;
    let first = builder.number(1.0, DType::I64)?;
    let mut bag = builder.binary(Binary::Sub, &bag, &first)?;
    let out = call.integer("padding_idx", -1)?;
    let whole = if out >= 0 { &bags + 1 } else { bags.clone() };
    if out >= 0 {
        // What is left out is in a bag behind all others.
        let out = builder.integer(&Dim::from_i64(out))?;
        let left = builder.binary(Binary::Equal, &indices, &out)?;
        let last = builder.integer(&bags)?;
        bag = builder.select(&left, &last, &bag)?;
    }
    let mode = call.integer("mode", 0)?;
    let how = if mode == 2 { Scatter::Max } else { Scatter::Add };
    let start = neutral(builder, how, DType::F32)?;
    let start = builder.expand(&start, &[whole.clone(), width])?;
    let mut result = builder.scatter_rows(how, &start, 0, &bag, &rows)?;
    if mode != 0 {
        let ones = builder.number(1.0, DType::F32)?;
        let ones = builder.expand(&ones, &[count, 1.into()])?;
        let zero = builder.number(0.0, DType::F32)?;
        let none = builder.expand(&zero, &[whole, 1.into()])?;
        let counts = builder.scatter_rows(Scatter::Add, &none, 0, &bag, &ones)?;
        if mode == 1 {
            result = mean_of(builder, &result, &counts)?;
        } else {
            let empty = builder.binary(Binary::Equal, &counts, &zero)?;
            result = builder.select(&empty, &zero, &result)?;
        }
    }
    one(builder.slice(&result, 0, &0.into(), &bags)?)
}
