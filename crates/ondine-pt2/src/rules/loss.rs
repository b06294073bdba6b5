//! Losses, which networks that are exported with their targets yield.

use ondine_graph::{Binary, DType, Dim, Elementary, Real, RealPair, Reduce, Result, Unary, fail};

use super::{
    elementwise::between,
    function::log_sigmoid,
    product::linear_of,
    reduce::{log_share, reduce},
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, elements},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("mse_loss", pairwise),
    Rule::new("l1_loss", pairwise),
    Rule::new("smooth_l1_loss", pairwise),
    Rule::new("huber_loss", pairwise),
    Rule::new("soft_margin_loss", pairwise),
    Rule::new("poisson_nll_loss", pairwise),
    Rule::new("binary_cross_entropy", pairwise),
    Rule::new("binary_cross_entropy_with_logits", pairwise),
    Rule::new("kl_div", pairwise),
    Rule::new("hinge_embedding_loss", pairwise),
    Rule::new("margin_ranking_loss", margin_ranking_loss),
    Rule::new("cross_entropy_loss", cross_entropy),
    Rule::new("torch_nn._linear_cross_entropy_batch_chunked", linear_cross_entropy),
    Rule::new("torch_nn._linear_cross_entropy_batch_chunked_no_reduction", linear_cross_entropy),
    Rule::new("nll_loss", nll_loss),
    Rule::new("nll_loss_nd", nll_loss),
    Rule::new("nll_loss2d", nll_loss),
    Rule::new("nll_loss_forward", nll_loss),
    Rule::new("nll_loss2d_forward", nll_loss),
];

fn nll_loss(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let scores = call.float_tensor(builder, "self")?;
    likelihood(builder, call, &scores)
}

fn margin_ranking_loss(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "input1")?, call.float_tensor(builder, "input2")?);
    let target = call.float_tensor(builder, "target")?;
    let difference = builder.binary(Binary::Sub, &b, &a)?;
    let loss = builder.binary(Binary::Mul, &target, &difference)?;
    let loss = builder.affine(&loss, 1.0, call.float("margin", 0.0)?)?;
    let loss = between(builder, &loss, Some(0.0), None)?;
    one(reduced(builder, call, &loss)?)
}

/// 0 leaves the losses of elements, 1 asks for the mean, 2 for the sum.
fn reduction(call: &Call<'_>) -> Result<i64> {
    match call.text("reduction") {
        Some("none") => Ok(0),
        Some("mean") => Ok(1),
        Some("sum") => Ok(2),
        Some(other) => fail!(Unsupported, "a loss reduced by `{other}`"),
        None if call.op.ends_with("_no_reduction") => Ok(0),
        None => call.integer("reduction", 1),
    }
}

/// The loss of each element as the call wants it: 0 leaves it, 1 asks for the mean, 2 for the sum.
pub(super) fn reduced(builder: &mut Builder, call: &Call<'_>, loss: &Tensor) -> Result<Tensor> {
    let axes: Vec<usize> = (0..loss.rank()).collect();
    match reduction(call)? {
        0 => Ok(loss.clone()),
        1 => reduce(builder, Reduce::Mean, loss, &axes, false),
        _ => reduce(builder, Reduce::Sum, loss, &axes, false),
    }
}

fn weighted(builder: &mut Builder, call: &Call<'_>, loss: Tensor) -> Result<Tensor> {
    match call.try_tensor("weight")? {
        Some(weight) => builder.binary(Binary::Mul, &loss, &weight),
        None => Ok(loss),
    }
}

/// Losses that compare each element with its target.
fn pairwise(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let name = if call.has("self") { "self" } else { "input" };
    let (x, y) = (call.float_tensor(builder, name)?, call.float_tensor(builder, "target")?);
    let difference = builder.binary(Binary::Sub, &x, &y)?;
    let loss = match call.op {
        "mse_loss" => builder.binary(Binary::Mul, &difference, &difference)?,
        "l1_loss" => builder.unary(Unary::Abs, &difference)?,
        "smooth_l1_loss" | "huber_loss" => {
            let smooth = call.op == "smooth_l1_loss";
            let beta = if smooth { call.float("beta", 1.0)? } else { call.float("delta", 1.0)? };
            let size = builder.unary(Unary::Abs, &difference)?;
            if beta == 0.0 {
                size
            } else {
                let scale = if smooth { 1.0 } else { beta };
                let square = builder.binary(Binary::Mul, &size, &size)?;
                let near = builder.affine(&square, 0.5 * scale / beta, 0.0)?;
                let far = builder.affine(&size, scale, -0.5 * scale * beta)?;
                let limit = builder.number(beta, DType::F32)?;
                let is_near = builder.binary(Binary::Less, &size, &limit)?;
                builder.select(&is_near, &near, &far)?
            }
        }
        "soft_margin_loss" => {
            let product = builder.binary(Binary::Mul, &x, &y)?;
            let away = builder.unary(Unary::Neg, &product)?;
            builder.function(Elementary::Softplus, &away)?
        }
        "hinge_embedding_loss" => {
            let margin = builder.affine(&x, -1.0, call.float("margin", 1.0)?)?;
            let margin = between(builder, &margin, Some(0.0), None)?;
            let zero = builder.number(0.0, DType::F32)?;
            let positive = builder.binary(Binary::Less, &zero, &y)?;
            builder.select(&positive, &x, &margin)?
        }
        "poisson_nll_loss" => {
            let (rate, log) = if call.flag("log_input", true)? {
                (builder.unary(Unary::Exp, &x)?, x.clone())
            } else {
                let shifted = builder.affine(&x, 1.0, call.float("eps", 1e-8)?)?;
                (x.clone(), builder.unary(Unary::Log, &shifted)?)
            };
            let product = builder.binary(Binary::Mul, &y, &log)?;
            let loss = builder.binary(Binary::Sub, &rate, &product)?;
            if call.flag("full", false)? {
                // Stirling's approximation of the logarithm of the target's factorial.
                let y = Formula::of(&y);
                let term = &y * y.ln() - &y + (&y * std::f64::consts::TAU).ln() * 0.5;
                let term = y.more(1.0).choose(term, 0.0).build(builder)?;
                builder.binary(Binary::Add, &loss, &term)?
            } else {
                loss
            }
        }
        "kl_div" => divergence(builder, call, &x, &y)?,
        _ => cross_of_two(builder, call, &x, &y)?,
    };
    one(reduced(builder, call, &loss)?)
}

/// Kullback and Leibler's divergence of each element; `x` is a logarithm.
fn divergence(builder: &mut Builder, call: &Call<'_>, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if call.flag("log_target", false)? {
        let power = builder.unary(Unary::Exp, y)?;
        let difference = builder.binary(Binary::Sub, y, x)?;
        return builder.binary(Binary::Mul, &power, &difference);
    }
    let log = builder.unary(Unary::Log, y)?;
    let entropy = builder.binary(Binary::Mul, y, &log)?;
    let zero = builder.number(0.0, DType::F32)?;
    let nothing = builder.binary(Binary::Equal, y, &zero)?;
    let entropy = builder.select(&nothing, &zero, &entropy)?;
    let cross = builder.binary(Binary::Mul, y, x)?;
    builder.binary(Binary::Sub, &entropy, &cross)
}

/// The cross entropy of probabilities, or of logits, with those of the target.
fn cross_of_two(builder: &mut Builder, call: &Call<'_>, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (yes, no) = if call.op == "binary_cross_entropy" {
        let least = builder.number(-100.0, DType::F32)?;
        let rest = builder.affine(x, -1.0, 1.0)?;
        let (yes, no) = (builder.unary(Unary::Log, x)?, builder.unary(Unary::Log, &rest)?);
        (builder.binary(Binary::Max, &yes, &least)?, builder.binary(Binary::Max, &no, &least)?)
    } else {
        let away = builder.unary(Unary::Neg, x)?;
        (log_sigmoid(builder, x)?, log_sigmoid(builder, &away)?)
    };
    let mut likely = builder.binary(Binary::Mul, y, &yes)?;
    if let Some(weight) = call.try_tensor("pos_weight")? {
        likely = builder.binary(Binary::Mul, &likely, &weight)?;
    }
    let rest = builder.affine(y, -1.0, 1.0)?;
    let unlikely = builder.binary(Binary::Mul, &rest, &no)?;
    let sum = builder.binary(Binary::Add, &likely, &unlikely)?;
    let loss = builder.unary(Unary::Neg, &sum)?;
    weighted(builder, call, loss)
}

/// Where the classes are among the dimensions of scores.
fn class_axis(scores: &Tensor) -> usize {
    usize::from(scores.rank() > 1)
}

/// `weight` of each class, to be multiplied with scores.
fn class_weight(builder: &mut Builder, call: &Call<'_>, scores: &Tensor) -> Result<Option<Tensor>> {
    let Some(weight) = call.try_tensor("weight")? else { return Ok(None) };
    let mut wide = vec![Dim::from(1); scores.rank() - class_axis(scores)];
    wide[0] = builder.dim(&weight, 0);
    builder.reshape(&weight, &wide).map(Some)
}

/// The cross entropy of what a linear layer yields. Gradients, which the same call finds, are of size 0 where nobody
/// learns; who asks for others is refused.
fn linear_cross_entropy(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, weight) = (call.float_tensor(builder, "input")?, call.float_tensor(builder, "linear_weight")?);
    let bias = call.try_tensor("linear_bias")?;
    let scores = linear_of(builder, &x, &weight, bias.as_ref())?;
    let mut items = cross_entropy_of(builder, call, &scores)?;
    items.truncate(1);
    for index in 1..call.output_names().len() {
        let shape = call.out_shape(index)?;
        if elements(&shape).fixed() != Some(0) {
            break;
        }
        let zero = builder.number(0.0, DType::F32)?;
        items.push(Item::Tensor(builder.expand(&zero, &shape)?));
    }
    Ok(items)
}

fn cross_entropy(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    cross_entropy_of(builder, call, &x)
}

/// What each class has of a label that is smoothed.
fn smooth_share(builder: &mut Builder, smoothing: f64, classes: &Dim) -> Result<Tensor> {
    builder.real(&Real::constant(smoothing).pair(RealPair::Quotient, &Real::Of(classes.clone())))
}

/// The cross entropy of scores.
fn cross_entropy_of(builder: &mut Builder, call: &Call<'_>, x: &Tensor) -> Result<Vec<Item>> {
    let axis = class_axis(x);
    let scores = log_share(builder, x, axis)?;
    let target = call.tensor("target")?;
    let smoothing = call.float("label_smoothing", 0.0)?;
    let classes = builder.dim(x, axis);
    if builder.dtype(&target) != DType::F32 {
        return likelihood(builder, call, &scores);
    }
    let target = builder.affine(&target, 1.0 - smoothing, 0.0)?;
    let share = smooth_share(builder, smoothing, &classes)?;
    let target = builder.binary(Binary::Add, &target, &share)?;
    let product = builder.binary(Binary::Mul, &target, &scores)?;
    let product = match class_weight(builder, call, &scores)? {
        Some(weight) => builder.binary(Binary::Mul, &product, &weight)?,
        None => product,
    };
    let sum = reduce(builder, Reduce::Sum, &product, &[axis], false)?;
    let loss = builder.unary(Unary::Neg, &sum)?;
    one(reduced(builder, call, &loss)?)
}

/// 1 where the class is that of the target, else 0.
fn one_hot(builder: &mut Builder, target: &Tensor, axis: usize, classes: &Dim) -> Result<Tensor> {
    let target = builder.cast(target, DType::I64)?;
    let mut shape = builder.shape(&target);
    shape.insert(axis, 1.into());
    let target = builder.reshape(&target, &shape)?;
    let range = builder.range(&0.into(), 1, classes)?;
    let mut wide = vec![Dim::from(1); shape.len()];
    wide[axis] = classes.clone();
    let range = builder.reshape(&range, &wide)?;
    let hot = builder.binary(Binary::Equal, &target, &range)?;
    builder.cast(&hot, DType::F32)
}

/// The negative score of each target's class; means are by the weights of the classes. Of smoothed labels, each class
/// has a share, and the target's has the rest.
fn likelihood(builder: &mut Builder, call: &Call<'_>, scores: &Tensor) -> Result<Vec<Item>> {
    let axis = class_axis(scores);
    let target = call.tensor("target")?;
    // An index that is ignored is no class, so it picks nothing.
    let ignored = call.integer("ignore_index", -100)?;
    let (target, wanted) = (builder.cast(&target, DType::I64)?, builder.number(ignored as f64, DType::I64)?);
    let skipped = builder.binary(Binary::Equal, &target, &wanted)?;
    let nothing = builder.number(-1.0, DType::I64)?;
    let target = builder.select(&skipped, &nothing, &target)?;
    let classes = builder.dim(scores, axis);
    let mut hot = one_hot(builder, &target, axis, &classes)?;
    let zero = builder.number(0.0, DType::F32)?;
    let chosen = builder.binary(Binary::Less, &zero, &hot)?;
    let weight = class_weight(builder, call, scores)?;
    if let Some(weight) = &weight {
        hot = builder.binary(Binary::Mul, &hot, weight)?;
    }
    // Scores of impossible classes are infinite, which no zero cancels.
    let picked = builder.select(&chosen, scores, &zero)?;
    let product = builder.binary(Binary::Mul, &picked, &hot)?;
    let sum = reduce(builder, Reduce::Sum, &product, &[axis], false)?;
    let mut loss = builder.unary(Unary::Neg, &sum)?;
    let smoothing = call.float("label_smoothing", 0.0)?;
    if smoothing != 0.0 {
        let weighted = match &weight {
            Some(weight) => builder.binary(Binary::Mul, scores, weight)?,
            None => scores.clone(),
        };
        let sum = reduce(builder, Reduce::Sum, &weighted, &[axis], false)?;
        let all = builder.select(&skipped, &zero, &sum)?;
        let share = smooth_share(builder, smoothing, &classes)?;
        let all = builder.binary(Binary::Mul, &all, &share)?;
        let own = builder.affine(&loss, 1.0 - smoothing, 0.0)?;
        loss = builder.binary(Binary::Sub, &own, &all)?;
    }
    let all: Vec<usize> = (0..loss.rank()).collect();
    let count = reduce(builder, Reduce::Sum, &hot, &(0..hot.rank()).collect::<Vec<_>>(), false)?;
    Ok(match reduction(call)? {
        0 => vec![Item::Tensor(loss)],
        1 => {
            let total = reduce(builder, Reduce::Sum, &loss, &all, false)?;
            vec![Item::Tensor(builder.binary(Binary::Div, &total, &count)?), Item::Tensor(count)]
        }
        _ => vec![Item::Tensor(reduce(builder, Reduce::Sum, &loss, &all, false)?), Item::Tensor(count)],
    })
}
