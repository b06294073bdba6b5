//! What depends on weights alone becomes a weight: computed when weights are packed, and found in the cache after.
//!
//! Exporters leave transposed kernels, standardized weights and the statistics of batch normalization in the graph;
//! scales and offsets per channel after a convolution or linear layer go into its weight and bias.

use std::collections::HashSet;

use crate::codes;

use ondine_graph::{
    Activation, Binary, DType, Epilogue, Graph, Node, Op, Origin, Result, Value, Weights,
    recipe::{Recipes, is_evaluable},
    rewrite::{Rewrite, rewrite, sweep, uses},
};

/// What may go into the weights of an operator before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    /// Factors and summands per channel.
    Channels,
    /// Nothing.
    Nothing,
}

/// The graph with such values as weights, which `weights` then can compute.
pub(super) fn freeze(graph: &Graph, weights: &mut Weights, recipes: &mut Recipes, fold: Fold) -> Result<Graph> {
    let mut graph = sweep(graph)?;
    if fold == Fold::Channels {
        graph = codes::products(&graph, weights)?;
        graph = fold_channels(&graph, Binary::Mul)?;
        graph = fold_channels(&graph, Binary::Add)?;
        graph = codes::encode(&sweep(&graph)?, weights)?;
    }
    let fixed = fixed(&graph);
    let border = border(&graph, &fixed);
    let frozen = rewrite("freeze", &graph, |rewrite, value, node| {
        let Some(shape) = node.signature.shape.fixed().filter(|_| border.contains(&value)) else { return Ok(None) };
        let path = recipes.derive(weights, &graph, value)?;
        rewrite.new.weight(&path, &shape).map(Some)
    })?;
    sweep(&frozen)
}

/// For each value whether it depends on weights and constants alone.
fn fixed(graph: &Graph) -> Vec<bool> {
    let mut fixed: Vec<bool> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let inputs = node.inputs.iter().all(|input| fixed[input.index()]);
        fixed.push(inputs && is_evaluable(&node.op) && node.signature.shape.fixed().is_some());
    }
    fixed
}

/// The values that become weights: what others than fixed ones read, unless it is a weight or a constant already.
fn border(graph: &Graph, fixed: &[bool]) -> HashSet<Value> {
    let mut from_weights = vec![false; graph.nodes().len()];
    for (value, node) in graph.values() {
        from_weights[value.index()] =
            matches!(node.op, Op::Weight(_)) || node.inputs.iter().any(|input| from_weights[input.index()]);
    }
    let mut border = HashSet::new();
    for (_, node) in graph.values().filter(|(value, _)| !fixed[value.index()]) {
        for (position, &input) in node.inputs.iter().enumerate() {
            let op = &graph.node(input).op;
            let packed = position == 1 && matches!(node.op, Op::Linear(_) | Op::Conv2d(..));
            let float = graph.node(input).signature.dtype == DType::F32;
            let empty = graph.shape(input).elements().fixed() == Some(0);
            let derived = from_weights[input.index()] && !matches!(op, Op::Weight(_));
            if fixed[input.index()] && float && !empty && (derived || packed && !matches!(op, Op::Weight(_))) {
                border.insert(input);
            }
        }
    }
    border
}

/// A fixed factor or summand per channel that follows a product goes into its weight and bias.
fn fold_channels(graph: &Graph, kind: Binary) -> Result<Graph> {
    let (uses, fixed) = (uses(graph), fixed(graph));
    rewrite("fold channels", graph, |rewrite, _, node| {
        if !matches!(node.op, Op::Binary(op) if op == kind) {
            return Ok(None);
        }
        let [a, b] = node.inputs[..] else { return Ok(None) };
        for (result, vector) in [(a, b), (b, a)] {
            let product = rows_of(graph, &uses, result);
            let plain = match &graph.node(product).op {
                Op::Linear(epilogue) | Op::Conv2d(_, epilogue) => {
                    epilogue.activation == Activation::None && !epilogue.residual
                }
                _ => false,
            };
            let channels = graph.shape(product).0.last().and_then(ondine_graph::Dim::fixed);
            if plain
                && fixed[vector.index()]
                && uses[product.index()] == 1
                && graph.shape(result) == &node.signature.shape
                && is_vector(graph, vector, channels)
            {
                let folded = fold_into(rewrite, [graph.node(product), node], vector, kind)?;
                if *rewrite.new.shape(folded) == node.signature.shape {
                    return Ok(Some(folded));
                }
                return rewrite.new.reshape(folded, node.signature.shape.clone()).map(Some);
            }
        }
        Ok(None)
    })
}

/// What yields the rows of a value, seen through a reshape that leaves them whole and is read once.
fn rows_of(graph: &Graph, uses: &[usize], value: Value) -> Value {
    let node = graph.node(value);
    match node.op {
        Op::Reshape(_) if uses[value.index()] == 1 => {
            let inner = graph.shape(node.inputs[0]).0.last();
            if inner.is_some() && inner == node.signature.shape.0.last() { node.inputs[0] } else { value }
        }
        _ => value,
    }
}

/// True if the value has one number per channel, the last dimension.
fn is_vector(graph: &Graph, vector: Value, channels: Option<usize>) -> bool {
    let shape = &graph.shape(vector).0;
    channels.is_some()
        && shape.last().and_then(ondine_graph::Dim::fixed) == channels
        && shape[..shape.len() - 1].iter().all(|dim| dim.fixed() == Some(1))
}

fn fold_into(rewrite: &mut Rewrite<'_>, [node, after]: [&Node; 2], vector: Value, kind: Binary) -> Result<Value> {
    let inputs: Vec<Value> = node.inputs.iter().map(|&input| rewrite.get(input)).collect();
    let vector = rewrite.get(vector);
    let new = &mut rewrite.new;
    let mut shape = vec![1.into(); new.shape(inputs[1]).rank()];
    shape[0] = new.dim(inputs[1], 0);
    let column = new.reshape(vector, shape.clone())?;
    let vector = new.reshape(vector, shape[..1].to_vec())?;
    let bias = inputs.get(2).copied();
    let (weight, bias) = match (kind, bias) {
        (Binary::Mul, bias) => {
            let bias = bias.map(|bias| new.mul(bias, vector)).transpose()?;
            (new.mul(inputs[1], column)?, bias)
        }
        (_, Some(bias)) => (inputs[1], Some(new.add(bias, vector)?)),
        (_, None) => (inputs[1], Some(vector)),
    };
    let epilogue = |epilogue: &Epilogue| Epilogue { bias: bias.is_some(), ..*epilogue };
    let op = match &node.op {
        Op::Conv2d(conv, old) => Op::Conv2d(*conv, epilogue(old)),
        Op::Linear(old) => Op::Linear(epilogue(old)),
        other => other.clone(),
    };
    new.enter(node.scope.clone());
    new.trace(Origin::fuse(node.origin.as_ref(), after.origin.as_ref()));
    new.push(op, &[inputs[0], weight].into_iter().chain(bias).collect::<Vec<_>>())
}
