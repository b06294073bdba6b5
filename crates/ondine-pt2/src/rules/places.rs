//! Windows whose largest elements are told by their places: undone, or laid where random numbers say.

use ondine_graph::{Binary, DType, Dim, Op, Result, Scatter, fail};

use super::{
    index::{pick, put},
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, elements},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("max_pool2d_with_indices_backward", pool_backward),
    Rule::new("fractional_max_pool2d", fractional_pool),
    Rule::new("fractional_max_pool3d", fractional_pool),
    Rule::new("max_unpool2d", unpool),
    Rule::new("max_unpool3d", unpool),
];

/// `x` with its last `count` dimensions as one, and the others as one before.
fn maps(builder: &mut Builder, x: &Tensor, count: usize) -> Result<Tensor> {
    let shape = builder.shape(x);
    let Some(head) = shape.len().checked_sub(count) else { fail!(Shape, "maps of rank {}", shape.len()) };
    builder.reshape(x, &[elements(&shape[..head]), elements(&shape[head..])])
}

/// What windows passed on, where their largest elements were.
fn pool_backward(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (slope, places) = (call.float_tensor(builder, "grad_output")?, call.tensor("indices")?);
    let out = call.out_shape(0)?;
    let (slope, places) = (maps(builder, &slope, 2)?, maps(builder, &places, 2)?);
    let places = builder.cast(&places, DType::I64)?;
    let head = out.len().saturating_sub(2);
    let zero = builder.number(0.0, DType::F32)?;
    let nothing = builder.expand(&zero, &[elements(&out[..head]), elements(&out[head..])])?;
    let sum = put(builder, Scatter::Add, &nothing, 1, &places, &slope)?;
    one(builder.reshape(&sum, &out)?)
}

/// Elements put back where they were the largest of their windows.
fn unpool(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let count = if call.op == "max_unpool2d" { 2 } else { 3 };
    let (x, places) = (call.float_tensor(builder, "self")?, call.tensor("indices")?);
    let out = call.out_shape(0)?;
    let (x, places) = (maps(builder, &x, count)?, maps(builder, &places, count)?);
    let places = builder.cast(&places, DType::I64)?;
    let head = out.len().saturating_sub(count);
    let zero = builder.number(0.0, DType::F32)?;
    let nothing = builder.expand(&zero, &[elements(&out[..head]), elements(&out[head..])])?;
    let filled = put(builder, Scatter::Replace, &nothing, 1, &places, &x)?;
    one(builder.reshape(&filled, &out)?)
}

/// The largest of windows whose places a random number shifts (Graham 2014).
fn fractional_pool(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let n = if call.op == "fractional_max_pool2d" { 2 } else { 3 };
    let (shape, out) = (builder.shape(&x), call.out_shape(0)?);
    let Some(head) = shape.len().checked_sub(n).filter(|_| out.len() == shape.len()) else {
        fail!(Shape, "windows over {n} of {} dimensions", shape.len());
    };
    let kernel = call.sizes("kernel_size", n, 1)?;
    let batch = elements(&shape[..head]);
    // The first and last windows lie where they lie: of two there is nothing to choose.
    let samples = if out[head..].iter().all(|count| count.fixed().is_some_and(|count| count <= 2)) {
        builder.number(0.0, DType::F32)?
    } else {
        call.float_tensor(builder, "random_samples")?
    };
    let samples = if samples.rank() == 0 {
        builder.expand(&samples, &[batch.clone(), n.into()])?
    } else {
        builder.reshape(&samples, &[batch.clone(), n.into()])?
    };
    let mut total: Option<Tensor> = None;
    for i in 0..n {
        let (Some(size), Some(count)) = (shape[head + i].fixed(), out[head + i].fixed()) else {
            fail!(Unsupported, "windows at random places in maps of unknown size");
        };
        // Pictures have their random numbers from the last dimension on, volumes from the first.
        let which = if n == 2 { 1 - i } else { i };
        let sample = builder.slice(&samples, 1, &which.into(), &(which + 1).into())?;
        let last = (size - kernel[i]) as f64;
        let step = if count > 1 { last / (count as f64 - 1.0) } else { 0.0 };
        let windows = builder.range(&0.into(), 1, &count.into())?;
        let windows = builder.cast(&windows, DType::F32)?;
        let (u, j) = (Formula::of(&sample), Formula::of(&windows));
        let start = ((&j + &u) * step).floor() - (&u * step).floor();
        let start = j.less(count as f64 - 1.0).choose(start, last).build(builder)?;
        let start = builder.cast(&start, DType::I64)?;
        let start = builder.reshape(&start, &[batch.clone(), count.into(), 1.into()])?;
        let taps = builder.range(&0.into(), 1, &kernel[i].into())?;
        let place = builder.binary(Binary::Add, &start, &taps)?;
        let mut spread = vec![Dim::from(1); 1 + 2 * n];
        (spread[0], spread[1 + i], spread[1 + n + i]) = (batch.clone(), count.into(), kernel[i].into());
        let place = builder.reshape(&place, &spread)?;
        total = Some(match total {
            Some(total) => {
                let size = builder.number(size as f64, DType::I64)?;
                let scaled = builder.binary(Binary::Mul, &total, &size)?;
                builder.binary(Binary::Add, &scaled, &place)?
            }
            None => place,
        });
    }
    let Some(places) = total else { fail!(Format, "windows without dimensions") };
    let (windows, taps) = (elements(&out[head..]), kernel.iter().product::<usize>());
    let places = builder.reshape(&places, &[batch.clone(), &windows * taps])?;
    let flat = maps(builder, &x, n)?;
    let found = pick(builder, &flat, 1, &places)?;
    let rows = [batch, windows, taps.into()];
    let (found, places) = (builder.reshape(&found, &rows)?, builder.reshape(&places, &rows)?);
    let dense = builder.dense(&found)?;
    let best = builder.graph.push(Op::ArgMax, &[dense])?;
    let best = builder.plain(best);
    let mut column = builder.shape(&best);
    column.push(1.into());
    let best = builder.reshape(&best, &column)?;
    let (value, place) = (pick(builder, &found, 2, &best)?, pick(builder, &places, 2, &best)?);
    Ok(vec![Item::Tensor(builder.reshape(&value, &out)?), Item::Tensor(builder.reshape(&place, &out)?)])
}
