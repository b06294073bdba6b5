//! Recurrent layers.

use super::{Builder, Call, Item, Rule, Tensor, product::linear_of};
use crate::{
    dim::Dim,
    dtype::DType,
    error::{Result, fail},
    op::{Cell, Op},
};

pub(super) fn rule(op: &str) -> Option<Rule> {
    Some(match op {
        "lstm" => |builder, call| layers(builder, call, Cell::Lstm),
        "gru" => |builder, call| layers(builder, call, Cell::Gru),
        "rnn_tanh" => |builder, call| layers(builder, call, Cell::Tanh),
        "rnn_relu" => |builder, call| layers(builder, call, Cell::Relu),
        _ => return None,
    })
}

/// Weights of one direction of one layer.
struct Weights<'a> {
    input: &'a Tensor,
    hidden: &'a Tensor,
    biases: Option<[&'a Tensor; 2]>,
}

/// What one direction of one layer carries, step by step.
fn direction(
    builder: &mut Builder,
    cell: Cell,
    x: &Tensor,
    weights: &Weights<'_>,
    start: &[Tensor],
    reverse: bool,
) -> Result<Tensor> {
    let product = linear_of(builder, x, weights.input, weights.biases.map(|biases| biases[0]))?;
    let bias = match weights.biases {
        Some(biases) => biases[1].clone(),
        None => {
            let zero = builder.number(0.0, DType::F32)?;
            let size = builder.dim(weights.hidden, 0);
            builder.expand(&zero, &[size])?
        }
    };
    let start = builder.concat(&start.iter().collect::<Vec<_>>(), 1)?;
    let inputs = [&product, weights.hidden, &bias, &start];
    let inputs = inputs.into_iter().map(|x| builder.dense(x)).collect::<Result<Vec<_>>>()?;
    let value = builder.graph.push(Op::Recurrent { cell, reverse }, &inputs)?;
    Ok(builder.plain(value))
}

fn layers(builder: &mut Builder, call: &Call<'_>, cell: Cell) -> Result<Vec<Item>> {
    if call.overload != "input" {
        fail!(Unsupported, "recurrent layers over packed sequences");
    }
    let mut x = call.float_tensor(builder, "input")?;
    let parameters = call.tensors("params")?;
    let starts = if cell == Cell::Lstm { call.tensors("hx")? } else { vec![call.tensor("hx")?] };
    let (biases, both) = (call.flag("has_biases", true)?, call.flag("bidirectional", false)?);
    let batch_first = call.flag("batch_first", false)?;
    let count = call.integer("num_layers", 1)?;
    if batch_first {
        x = Builder::swapped(&x, 0, 1);
    }
    let directions = if both { 2 } else { 1 };
    let per = if biases { 4 } else { 2 };
    let expected = usize::try_from(count).unwrap_or(0) * directions * per;
    if parameters.len() != expected {
        fail!(Unsupported, "a recurrent layer with projections: {} parameters, wanted {expected}", parameters.len());
    }
    let hidden = builder.dim(&parameters[1], 1);
    let mut finals: Vec<Vec<Tensor>> = vec![Vec::new(); cell.carried()];
    for (layer, parameters) in parameters.chunks(per * directions).enumerate() {
        let mut outputs = Vec::new();
        for (side, parameters) in parameters.chunks(per).enumerate() {
            let weights = Weights {
                input: &parameters[0],
                hidden: &parameters[1],
                biases: biases.then(|| [&parameters[2], &parameters[3]]),
            };
            let index = layer * directions + side;
            let mut own = Vec::new();
            for start in &starts {
                let part = builder.slice(start, 0, &index.into(), &(index + 1).into())?;
                own.push(super::view::without(builder, &part, 0)?);
            }
            let carried = direction(builder, cell, &x, &weights, &own, side == 1)?;
            let steps = builder.dim(&carried, 0);
            let last = if side == 1 { Dim::from(0) } else { &steps - 1 };
            let end = builder.slice(&carried, 0, &last, &(&last + 1))?;
            for (part, finals) in finals.iter_mut().enumerate() {
                finals.push(builder.slice(&end, 2, &(&hidden * part), &(&hidden * (part + 1)))?);
            }
            outputs.push(builder.slice(&carried, 2, &0.into(), &hidden)?);
        }
        x = builder.concat(&outputs.iter().collect::<Vec<_>>(), 2)?;
    }
    let output = if batch_first { Builder::swapped(&x, 0, 1) } else { x };
    let mut items = vec![Item::Tensor(output)];
    for finals in &finals {
        items.push(Item::Tensor(builder.concat(&finals.iter().collect::<Vec<_>>(), 0)?));
    }
    Ok(items)
}
