//! Recurrent layers.

use ondine_graph::{Activation, Binary, Cell, DType, Dim, Op, Result, fail};

use super::{
    product::linear_of,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("lstm", |builder, call| layers(builder, call, Cell::Lstm)),
    Rule::new("gru", |builder, call| layers(builder, call, Cell::Gru)),
    Rule::new("rnn_tanh", |builder, call| layers(builder, call, Cell::Tanh)),
    Rule::new("rnn_relu", |builder, call| layers(builder, call, Cell::Relu)),
    Rule::new("lstm_cell", lstm_cell),
    Rule::new("gru_cell", gru_cell),
    Rule::new("rnn_tanh_cell", rnn_cell),
    Rule::new("rnn_relu_cell", rnn_cell),
];

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

/// The longest sequence whose steps are written out.
const MAX_STEPS: usize = 1024;

/// One direction of an LSTM whose hidden state is a projection (Sak et al. 2014), step by step: what it yields, and
/// its last states.
fn projection(
    builder: &mut Builder,
    x: &Tensor,
    weights: &Weights<'_>,
    project: &Tensor,
    start: &[Tensor],
    reverse: bool,
) -> Result<[Tensor; 3]> {
    let Some(steps) = builder.dim(x, 0).fixed().filter(|steps| (1..=MAX_STEPS).contains(steps)) else {
        fail!(Unsupported, "a projected LSTM over an unknown number of steps, or more than {MAX_STEPS}");
    };
    let [mut hidden, mut memory] = match start {
        [hidden, memory] => [hidden.clone(), memory.clone()],
        _ => fail!(Format, "an LSTM without two states"),
    };
    let product = linear_of(builder, x, weights.input, weights.biases.map(|biases| biases[0]))?;
    let size = builder.dim(&memory, 1);
    let mut rows = Vec::new();
    for step in 0..steps {
        let step = if reverse { steps - 1 - step } else { step };
        let input = builder.slice(&product, 0, &step.into(), &(step + 1).into())?;
        let input = builder.without(&input, 0)?;
        let own = linear_of(builder, &hidden, weights.hidden, weights.biases.map(|biases| biases[1]))?;
        let sum = builder.binary(Binary::Add, &input, &own)?;
        let mut gate = |index: usize, activation: Activation| -> Result<Tensor> {
            let part = builder.slice(&sum, 1, &(&size * index), &(&size * (index + 1)))?;
            builder.activation(activation, &part)
        };
        let (enter, forget) = (gate(0, Activation::Sigmoid)?, gate(1, Activation::Sigmoid)?);
        let (new, leave) = (gate(2, Activation::Tanh)?, gate(3, Activation::Sigmoid)?);
        let (kept, added) =
            (builder.binary(Binary::Mul, &forget, &memory)?, builder.binary(Binary::Mul, &enter, &new)?);
        memory = builder.binary(Binary::Add, &kept, &added)?;
        let seen = builder.activation(Activation::Tanh, &memory)?;
        let seen = builder.binary(Binary::Mul, &leave, &seen)?;
        hidden = linear_of(builder, &seen, project, None)?;
        let mut shape = builder.shape(&hidden);
        shape.insert(0, 1.into());
        rows.push(builder.reshape(&hidden, &shape)?);
    }
    if reverse {
        rows.reverse();
    }
    let output = builder.concat(&rows.iter().collect::<Vec<_>>(), 0)?;
    let mut lift = |x: &Tensor| -> Result<Tensor> {
        let mut shape = builder.shape(x);
        shape.insert(0, 1.into());
        builder.reshape(x, &shape)
    };
    let (hidden, memory) = (lift(&hidden)?, lift(&memory)?);
    Ok([output, hidden, memory])
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
    let plain = if biases { 4 } else { 2 };
    let expected = usize::try_from(count).unwrap_or(0).saturating_mul(directions);
    // With a projection there is one weight more.
    let per = if parameters.len() == expected.saturating_mul(plain) { plain } else { plain + 1 };
    if expected == 0 || parameters.len() != expected.saturating_mul(per) {
        fail!(
            Format,
            "a recurrent layer of {} parameters, wanted {}",
            parameters.len(),
            expected.saturating_mul(plain)
        );
    }
    let projected = per > plain;
    let hidden = builder.dim(&parameters[1], 1);
    if projected && cell != Cell::Lstm {
        fail!(Unsupported, "a projection of other layers than LSTM");
    }
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
                own.push(builder.without(&part, 0)?);
            }
            if projected {
                let [output, state, memory] = projection(builder, &x, &weights, &parameters[plain], &own, side == 1)?;
                outputs.push(output);
                finals[0].push(state);
                finals[1].push(memory);
                continue;
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

/// What input and hidden state contribute to the gates of a cell.
fn gates(builder: &mut Builder, call: &Call<'_>, hidden: &Tensor) -> Result<[Tensor; 2]> {
    let x = call.float_tensor(builder, "input")?;
    let mut sums = Vec::new();
    for (x, weight, bias) in [(&x, "w_ih", "b_ih"), (hidden, "w_hh", "b_hh")] {
        let (weight, bias) = (call.float_tensor(builder, weight)?, call.try_tensor(bias)?);
        sums.push(linear_of(builder, x, &weight, bias.as_ref())?);
    }
    match <[Tensor; 2]>::try_from(sums) {
        Ok(sums) => Ok(sums),
        Err(_) => fail!(Format, "a cell without gates"),
    }
}

/// Gate `index` of `count`.
fn gate(builder: &mut Builder, x: &Tensor, index: usize, count: usize) -> Result<Tensor> {
    let last = x.rank() - 1;
    let size = builder.dim(x, last).floor_div(count);
    builder.slice(x, last, &(&size * index), &(&size * (index + 1)))
}

fn lstm_cell(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let states = call.tensors("hx")?;
    let [hidden, memory] = &states[..] else { fail!(Format, "an LSTM cell without two states") };
    let [a, b] = gates(builder, call, hidden)?;
    let sum = builder.binary(Binary::Add, &a, &b)?;
    let mut part = |index: usize, activation: Activation| -> Result<Tensor> {
        let part = gate(builder, &sum, index, 4)?;
        builder.activation(activation, &part)
    };
    let (input, forget) = (part(0, Activation::Sigmoid)?, part(1, Activation::Sigmoid)?);
    let (new, output) = (part(2, Activation::Tanh)?, part(3, Activation::Sigmoid)?);
    let (kept, added) = (builder.binary(Binary::Mul, &forget, memory)?, builder.binary(Binary::Mul, &input, &new)?);
    let memory = builder.binary(Binary::Add, &kept, &added)?;
    let seen = builder.activation(Activation::Tanh, &memory)?;
    Ok(vec![Item::Tensor(builder.binary(Binary::Mul, &output, &seen)?), Item::Tensor(memory)])
}

fn gru_cell(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let hidden = call.float_tensor(builder, "hx")?;
    let [a, b] = gates(builder, call, &hidden)?;
    let mut sigmoid = |index: usize| -> Result<Tensor> {
        let (a, b) = (gate(builder, &a, index, 3)?, gate(builder, &b, index, 3)?);
        let sum = builder.binary(Binary::Add, &a, &b)?;
        builder.activation(Activation::Sigmoid, &sum)
    };
    let (reset, update) = (sigmoid(0)?, sigmoid(1)?);
    let (a, b) = (gate(builder, &a, 2, 3)?, gate(builder, &b, 2, 3)?);
    let part = builder.binary(Binary::Mul, &reset, &b)?;
    let sum = builder.binary(Binary::Add, &a, &part)?;
    let new = builder.activation(Activation::Tanh, &sum)?;
    let difference = builder.binary(Binary::Sub, &hidden, &new)?;
    let kept = builder.binary(Binary::Mul, &update, &difference)?;
    one(builder.binary(Binary::Add, &new, &kept)?)
}

fn rnn_cell(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let hidden = call.float_tensor(builder, "hx")?;
    let [a, b] = gates(builder, call, &hidden)?;
    let sum = builder.binary(Binary::Add, &a, &b)?;
    let activation = if call.op == "rnn_tanh_cell" { Activation::Tanh } else { Activation::Relu };
    one(builder.activation(activation, &sum)?)
}
