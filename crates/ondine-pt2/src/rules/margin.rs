//! Losses with margins: how far scores must lie apart.

use ondine_graph::{Binary, DType, Dim, Op, Reduce, Result, Scan, fail};

use super::{
    index::pick,
    loss::reduced,
    reduce::{length, reduce},
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, elements},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("multi_margin_loss", multi_margin_loss),
    Rule::new("multilabel_margin_loss", multilabel_margin_loss),
    Rule::new("multilabel_margin_loss_forward", multilabel_margin_loss),
    Rule::new("triplet_margin_loss", triplet_margin_loss),
    Rule::new("cosine_embedding_loss", cosine_embedding_loss),
];

/// Scores as rows, and targets as rows of classes.
fn rows_of(builder: &mut Builder, call: &Call<'_>) -> Result<[Tensor; 2]> {
    let (x, target) = (call.float_tensor(builder, "self")?, call.tensor("target")?);
    let shape = builder.shape(&x);
    let classes = shape.last().cloned().unwrap_or_else(|| 1.into());
    let count = elements(&shape[..shape.len().saturating_sub(1)]);
    let x = builder.reshape(&x, &[count.clone(), classes])?;
    let target = builder.cast(&target, DType::I64)?;
    let width = if call.op == "multi_margin_loss" { Dim::from(1) } else { builder.dim(&x, 1) };
    Ok([x, builder.reshape(&target, &[count, width])?])
}

/// How far the score of a class lies above others, beyond a margin.
fn multi_margin_loss(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let [x, target] = rows_of(builder, call)?;
    let classes = builder.dim(&x, 1);
    let Some(count) = classes.fixed() else { fail!(Unsupported, "an unknown number of classes") };
    let own = pick(builder, &x, 1, &target)?;
    let range = builder.range(&0.into(), 1, &classes)?;
    let is_own = builder.binary(Binary::Equal, &range, &target)?;
    let away = (Formula::of(&x) - Formula::of(&own) + call.float("margin", 1.0)?).max(0.0);
    let mut loss = if call.float("p", 1.0)? == 2.0 { &away * &away } else { away };
    if let Some(weight) = call.try_tensor("weight")? {
        let weight = builder.cast(&weight, DType::F32)?;
        loss = loss * Formula::of(&builder.take(&weight, 0, &target)?);
    }
    let loss = Formula::of(&is_own).choose(0.0, loss / count as f64).build(builder)?;
    let loss = reduce(builder, Reduce::Sum, &loss, &[1], false)?;
    one(reduced(builder, call, &loss)?)
}

/// The same for several classes of each row, of which the first negative one ends the list.
fn multilabel_margin_loss(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let [x, target] = rows_of(builder, call)?;
    let (rows, classes) = (builder.dim(&x, 0), builder.dim(&x, 1));
    let Some(count) = classes.fixed() else { fail!(Unsupported, "an unknown number of classes") };
    let zero = builder.number(0.0, DType::I64)?;
    let ended = builder.binary(Binary::Less, &target, &zero)?;
    let ended = builder.cast(&ended, DType::I64)?;
    let ended = builder.dense(&ended)?;
    let op = Op::Scan { axis: 1, how: Scan::Sum };
    let value = builder.graph.push(op, &[ended])?;
    let ended = builder.plain(value);
    let listed = builder.binary(Binary::Equal, &ended, &zero)?;
    let places = builder.binary(Binary::Max, &target, &zero)?;
    // [rows, listed, classes]: which class each entry of the list is.
    let range = builder.range(&0.into(), 1, &classes)?;
    let wide = [rows.clone(), classes.clone(), 1.into()];
    let (entry, there) = (builder.reshape(&places, &wide)?, builder.reshape(&listed, &wide)?);
    let hits = builder.binary(Binary::Equal, &entry, &range)?;
    let hits = builder.binary(Binary::And, &hits, &there)?;
    let counts = builder.cast(&hits, DType::I64)?;
    let counts = reduce(builder, Reduce::Sum, &counts, &[1], false)?;
    let is_target = builder.cast(&counts, DType::Bool)?;
    let own = pick(builder, &x, 1, &places)?;
    let own = builder.reshape(&own, &wide)?;
    let others = builder.reshape(&x, &[rows.clone(), 1.into(), classes.clone()])?;
    let out = builder.reshape(&is_target, &[rows, 1.into(), classes])?;
    let away = (1.0 - (Formula::of(&own) - Formula::of(&others))).max(0.0);
    let counted = Formula::of(&there).and(Formula::of(&out).not());
    let loss = counted.choose(away / count as f64, 0.0).build(builder)?;
    let loss = reduce(builder, Reduce::Sum, &loss, &[1, 2], false)?;
    let shape = call.out_shape(0)?;
    let loss = reduced(builder, call, &loss)?;
    let mut items = vec![Item::Tensor(builder.reshape(&loss, &shape)?)];
    if call.output_names().len() > 1 {
        let target = builder.cast(&is_target, call.out_dtype(1)?)?;
        items.push(Item::Tensor(builder.reshape(&target, &call.out_shape(1)?)?));
    }
    Ok(items)
}

/// How much nearer an example is to what is unlike it than to what is like it, beyond a margin.
fn triplet_margin_loss(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let [anchor, like, unlike] = ["anchor", "positive", "negative"].map(|name| call.float_tensor(builder, name));
    let (anchor, like, unlike) = (anchor?, like?, unlike?);
    let (p, eps) = (call.float("p", 2.0)?, call.float("eps", 1e-6)?);
    let distance = |builder: &mut Builder, a: &Tensor, b: &Tensor| -> Result<Tensor> {
        let difference = builder.binary(Binary::Sub, a, b)?;
        let difference = builder.affine(&difference, 1.0, eps)?;
        length(builder, &difference, p, &[difference.rank() - 1], false)
    };
    let near = distance(builder, &anchor, &like)?;
    let mut far = distance(builder, &anchor, &unlike)?;
    if call.flag("swap", false)? {
        let other = distance(builder, &like, &unlike)?;
        far = builder.binary(Binary::Min, &far, &other)?;
    }
    let loss = (Formula::of(&near) - Formula::of(&far) + call.float("margin", 1.0)?).max(0.0).build(builder)?;
    one(reduced(builder, call, &loss)?)
}

fn cosine_embedding_loss(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "input1")?, call.float_tensor(builder, "input2")?);
    let target = call.float_tensor(builder, "target")?;
    let sum = |builder: &mut Builder, x: &Tensor, y: &Tensor| -> Result<Formula> {
        let product = builder.binary(Binary::Mul, x, y)?;
        Ok(Formula::of(&reduce(builder, Reduce::Sum, &product, &[product.rank() - 1], false)?))
    };
    let (dot, x, y) = (sum(builder, &a, &b)?, sum(builder, &a, &a)? + 1e-12, sum(builder, &b, &b)? + 1e-12);
    let cosine = dot / (x * y).sqrt();
    let target = Formula::of(&target);
    let apart = (&cosine - call.float("margin", 0.0)?).max(0.0);
    let apart = target.equals(-1.0).choose(apart, 0.0);
    let loss = target.equals(1.0).choose(1.0 - cosine, apart).build(builder)?;
    one(reduced(builder, call, &loss)?)
}
