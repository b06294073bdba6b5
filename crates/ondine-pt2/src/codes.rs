//! Codes: products of quantized exports in the form in which backends see that they are some.
//!
//! A quantizer leaves integers in the archive and arithmetic around them. Products of integers whose sums are scaled
//! become products of scaled numbers, and a weight that is computed from stored integers becomes an encoded one (see
//! [`encoding`](ondine_graph::encoding)), with the very scales and zeros of the program.

mod numbers;
mod weight;

use std::collections::HashMap;

use ondine_graph::{
    Binary, DType, Graph, Node, Op, Result, Unary, Value, Weights,
    rewrite::{Rewrite, rewrite, sweep, uses},
};

use self::{numbers::evaluate, weight::stored};

/// Products of bytes, scaled, as linear layers of scaled bytes.
pub(super) fn products(graph: &Graph, weights: &Weights) -> Result<Graph> {
    let integer = |node: &Node| matches!(node.op, Op::MatMul { .. }) && node.signature.dtype == DType::I32;
    if !graph.nodes().iter().any(integer) {
        return Ok(graph.clone());
    }
    let linear = rewrite("integer products", graph, |rewrite, _, node| match node.op {
        Op::Cast(DType::F32) => product(rewrite, node, weights),
        _ => Ok(None),
    })?;
    let graph = sweep(&linear)?;
    let uses = uses(&graph);
    let scaled = rewrite("scales of rows", &graph, |rewrite, _, node| match node.op {
        Op::Binary(Binary::Mul) => scale_rows(rewrite, node, &uses),
        _ => Ok(None),
    })?;
    sweep(&scaled)
}

/// The numbers of an integer product with fixed codes, less what comes of codes that do not stand for 0.
fn product(rewrite: &mut Rewrite<'_>, node: &Node, weights: &Weights) -> Result<Option<Value>> {
    let graph = rewrite.old;
    let sum = node.inputs[0];
    let (product, offset) = match (&graph.node(sum).op, &graph.node(sum).inputs[..]) {
        (Op::Binary(Binary::Sub), &[product, offset]) => (product, Some(offset)),
        _ => (sum, None),
    };
    let Op::MatMul { transposed } = graph.node(product).op else { return Ok(None) };
    let (&[x, codes], DType::I32) = (&graph.node(product).inputs[..], graph.node(product).signature.dtype) else {
        return Ok(None);
    };
    let (Some(matrix), 2) = (evaluate(graph, weights, codes), graph.shape(codes).rank()) else { return Ok(None) };
    let zero = match offset {
        None => 0.0,
        Some(offset) => {
            let sums = matrix.sums(usize::from(transposed));
            let Some(offsets) = evaluate(graph, weights, offset) else { return Ok(None) };
            match factor(&sums, &offsets.data) {
                Some(factor) => factor,
                None => return Ok(None),
            }
        }
    };
    let (x, codes) = (rewrite.get(x), rewrite.get(codes));
    let new = &mut rewrite.new;
    let mut x = new.cast(x, DType::F32)?;
    if zero != 0.0 {
        x = new.affine(x, 1.0, -zero as f32)?;
    }
    let codes = new.cast(codes, DType::F32)?;
    let codes = if transposed { codes } else { new.permute(codes, &[1, 0])? };
    new.linear(x, codes, None).map(Some)
}

/// What all of `sums` are multiplied with to yield `offsets`, if that is one number.
fn factor(sums: &[f64], offsets: &[f64]) -> Option<f64> {
    let factor = sums.iter().zip(offsets).find(|(sum, _)| **sum != 0.0).map_or(0.0, |(sum, offset)| offset / sum);
    let same = sums.len() == offsets.len() && sums.iter().zip(offsets).all(|(sum, offset)| sum * factor == *offset);
    same.then_some(factor)
}

/// A factor for each row of a product of bytes goes to its left operand.
fn scale_rows(rewrite: &mut Rewrite<'_>, node: &Node, uses: &[usize]) -> Result<Option<Value>> {
    let graph = rewrite.old;
    let [a, b] = node.inputs[..] else { return Ok(None) };
    for (product, factor) in [(a, b), (b, a)] {
        let inner = graph.node(product);
        let (Op::Linear(epilogue), 1) = (&inner.op, uses[product.index()]) else { continue };
        let plain = *epilogue == ondine_graph::Epilogue::default();
        let (rows, each) = (&graph.shape(product).0, &graph.shape(factor).0);
        let by_rows = each.len() == rows.len() && each.last().and_then(ondine_graph::Dim::fixed) == Some(1);
        if !(plain && by_rows && *graph.shape(product) == node.signature.shape && of_bytes(graph, inner.inputs[0])) {
            continue;
        }
        let [x, weight] = [inner.inputs[0], inner.inputs[1]].map(|input| rewrite.get(input));
        let factor = rewrite.get(factor);
        // Factors are computed after the product at times; then it moves behind them.
        let x = rewrite.new.mul(x, factor)?;
        return rewrite.new.linear(x, weight, None).map(Some);
    }
    Ok(None)
}

/// True for bytes as numbers, moved or not.
fn of_bytes(graph: &Graph, mut value: Value) -> bool {
    while let Op::Unary(Unary::Affine { .. }) = graph.node(value).op {
        value = graph.node(value).inputs[0];
    }
    let node = graph.node(value);
    let source = node.inputs.first().map(|&input| graph.node(input).signature.dtype);
    matches!(node.op, Op::Cast(DType::F32)) && matches!(source, Some(DType::I8 | DType::U8))
}

/// Weights of products that are computed from stored integers, as encoded weights.
pub(super) fn encode(graph: &Graph, weights: &mut Weights) -> Result<Graph> {
    let mut encoded: HashMap<Value, Option<std::sync::Arc<str>>> = HashMap::new();
    let named = rewrite("encoded weights", graph, |rewrite, _, node| {
        let (Op::Linear(_) | Op::Conv2d(..)) = node.op else { return Ok(None) };
        let weight = node.inputs[1];
        // A few numbers for each channel are multiplied as they are.
        let depthwise = matches!(node.op, Op::Conv2d(conv, _) if conv.groups > 1)
            && graph.shape(weight).0.get(1).and_then(ondine_graph::Dim::fixed) == Some(1);
        if depthwise || matches!(graph.node(weight).op, Op::Weight(_)) {
            return Ok(None);
        }
        let path = match encoded.get(&weight) {
            Some(path) => path.clone(),
            None => {
                let found = stored(graph, weights, weight);
                let path = found.map(|found| found.insert(&node.scope, weights));
                encoded.insert(weight, path.clone());
                path
            }
        };
        let (Some(path), Some(shape)) = (path, graph.shape(weight).fixed()) else { return Ok(None) };
        let mut inputs: Vec<Value> = node.inputs.iter().map(|&input| rewrite.get(input)).collect();
        rewrite.new.enter(node.scope.clone());
        rewrite.new.trace(node.origin.clone());
        inputs[1] = rewrite.new.weight(&path, &shape)?;
        rewrite.new.push_typed(node.op.clone(), &inputs, node.signature.dtype).map(Some)
    })?;
    sweep(&named)
}
