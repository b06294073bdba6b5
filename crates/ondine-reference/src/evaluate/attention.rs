//! Attention.

use ondine_graph::{Attention, Mask, Result};

use crate::{
    index::{count, rows},
    number::{ELEMENTARY, Real},
    tensor::{Tensor, misfit},
};

/// Sizes of an attention.
struct Sizes {
    heads: usize,
    /// Query heads for each head of keys.
    sharing: usize,
    queries: usize,
    keys: usize,
    /// Elements of a row of queries, keys and values, all heads together.
    widths: [usize; 3],
    /// Elements of a head of queries or keys.
    head: usize,
}

/// A query that sees no key yields zeros.
pub(super) fn attention<R: Real>(attention: &Attention, inputs: &[&Tensor<R>], shape: &[usize]) -> Result<Tensor<R>> {
    let [q, k, v, mask @ ..] = inputs else { return Err(misfit("attention takes 3 inputs and a mask".into())) };
    let &Attention { heads, kv_heads, .. } = attention;
    let widths = [q, k, v].map(|x| rows(x.shape()).1);
    let (queries, keys) = (q.shape()[1], k.shape()[1]);
    let (sharing, head, value) = (heads / kv_heads, widths[0] / heads, widths[2] / kv_heads);
    let sizes = Sizes { heads, sharing, queries, keys, widths, head };
    let mask = mask.first().copied();
    check_mask(attention, &sizes, q.shape()[0], mask)?;
    // What goes into a product of the weights and the values is of the values' type.
    let [queries, keys, values] = [q, k, v].map(|x| x.reals());
    let (queries, keys, values) = (queries?, keys?, values?);
    let mut out = Vec::with_capacity(count(shape));
    for row in 0..q.shape()[0] * sizes.queries {
        for head in 0..heads {
            let scores = scores(attention, &sizes, [queries, keys], (row, head), mask)?;
            let weights = weights(&scores).into_iter().map(|weight| weight.held(v.dtype())).collect::<Vec<_>>();
            let total = R::sum(weights.iter().copied());
            let first = row / sizes.queries * sizes.keys;
            let at = |key: usize, i: usize| (first + key) * widths[2] + head / sharing * value + i;
            out.extend((0..value).map(|i| {
                let sum = R::sum(weights.iter().enumerate().map(|(key, weight)| weight.times(values[at(key, i)])));
                if total.value() > 0.0 || total.value().is_nan() { sum.over(total) } else { R::exact(0.0) }
            }));
        }
    }
    Tensor::real(v.dtype(), shape, out)
}

/// An additive mask has the scores' shape, or 1 in place of batch and heads.
fn check_mask<R: Real>(attention: &Attention, sizes: &Sizes, batch: usize, mask: Option<&Tensor<R>>) -> Result<()> {
    let wanted = [batch, sizes.heads, sizes.queries, sizes.keys];
    match (attention.mask, mask) {
        (Mask::None, None) => Ok(()),
        (Mask::Keys, Some(mask)) if mask.shape() == [batch, sizes.keys] => Ok(()),
        (Mask::Lengths | Mask::Ring, Some(mask)) if mask.shape() == [batch] => Ok(()),
        (Mask::Additive, Some(mask))
            if mask.shape().len() == 4
                && (0..4).all(|i| mask.shape()[i] == wanted[i] || i < 2 && mask.shape()[i] == 1) =>
        {
            Ok(())
        }
        (kind, mask) => {
            let shape = mask.map(Tensor::shape);
            Err(misfit(format!("a mask of kind {kind:?} and shape {shape:?} does not fit scores of shape {wanted:?}")))
        }
    }
}

/// What a query of a head thinks of each key; negative infinity of those that it does not see.
fn scores<R: Real>(
    attention: &Attention,
    sizes: &Sizes,
    [queries, keys]: [&[R]; 2],
    (row, head): (usize, usize),
    mask: Option<&Tensor<R>>,
) -> Result<Vec<R>> {
    let (batch, query) = (row / sizes.queries, row % sizes.queries);
    let own = &queries[row * sizes.widths[0] + head * sizes.head..][..sizes.head];
    let hidden = R::exact(f64::NEG_INFINITY);
    let length = match (attention.mask, mask) {
        (Mask::Lengths, Some(mask)) => mask.integers()?[batch].clamp(0, sizes.keys as i64) as usize,
        (Mask::Ring, Some(mask)) => mask.integers()?[batch].max(0) as usize,
        _ => sizes.keys,
    };
    let ring = attention.mask == Mask::Ring;
    let first = attention.window.map_or(0, |window| (length + 1).saturating_sub(sizes.queries + window));
    if ring && length > first + sizes.keys {
        return Err(misfit(format!("{} rows no longer hold the keys from {first} to {length}", sizes.keys)));
    }
    (0..sizes.keys)
        .map(|row| {
            // Of all keys that have been in a row, the last one is there.
            let rounds = if ring { length.saturating_sub(row + 1) / sizes.keys } else { 0 };
            let key = row + rounds * sizes.keys;
            let start = (batch * sizes.keys + row) * sizes.widths[1] + head / sizes.sharing * sizes.head;
            let score = R::dot(own, &keys[start..][..sizes.head]).times(R::exact(attention.scale.into()));
            let late = key >= length || (attention.causal && key + sizes.queries > query + length);
            let early = attention.window.is_some_and(|window| key + window + sizes.queries <= query + length);
            if late || early {
                return Ok(hidden);
            }
            Ok(match (attention.mask, mask) {
                (Mask::Keys, Some(mask)) if !mask.is_true(batch * sizes.keys + key) => hidden,
                (Mask::Additive, Some(mask)) => {
                    let part = |axis: usize, index: usize| if mask.shape()[axis] == 1 { 0 } else { index };
                    let plane = part(0, batch) * mask.shape()[1] + part(1, head);
                    score.plus(mask.reals()?[(plane * sizes.queries + query) * sizes.keys + key])
                }
                _ => score,
            })
        })
        .collect()
}

/// The powers of scores less the largest, which cancels in what is divided by their sum.
fn weights<R: Real>(scores: &[R]) -> Vec<R> {
    let most = scores.iter().fold(f64::NEG_INFINITY, |most, score| most.max(score.value()));
    if most == f64::NEG_INFINITY {
        return vec![R::exact(0.0); scores.len()];
    }
    scores.iter().map(|score| score.minus(R::exact(most)).map(ELEMENTARY, f64::exp)).collect()
}
