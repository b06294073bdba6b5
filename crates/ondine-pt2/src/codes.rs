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
        if matches!(graph.node(weight).op, Op::Weight(_)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use ondine_graph::{NDArray, encoding::Levels};

    /// A linear layer of `x` with the codes `(codes - zero) * scale` in groups of 8.
    fn layer(codes: &[i8], zeros: &[i8], scales: &[f32]) -> Graph {
        let mut graph = Graph::new();
        let rows = codes.len() / 16;
        let x = graph.input("x", DType::F32, [3, 16]);
        let codes = graph.constant(NDArray::new(&[rows, 2, 8], codes).unwrap());
        let zeros = graph.constant(NDArray::new(&[rows, 2, 1], zeros).unwrap());
        let scales = graph.constant(NDArray::new(&[rows, 2, 1], scales).unwrap());
        let (codes, zeros) = (graph.cast(codes, DType::F32).unwrap(), graph.cast(zeros, DType::F32).unwrap());
        let moved = graph.binary(Binary::Sub, codes, zeros).unwrap();
        let weight = graph.mul(moved, scales).unwrap();
        let weight = graph.reshape(weight, [rows, 16]).unwrap();
        graph.enter("layer");
        let y = graph.linear(x, weight, None).unwrap();
        graph.output("y", y);
        graph
    }

    fn encoded(graph: &Graph) -> (Graph, Weights) {
        let mut weights = Weights::default();
        let graph = encode(graph, &mut weights).unwrap();
        (graph, weights)
    }

    #[test]
    fn a_weight_of_stored_integers_stays_codes() {
        let codes: Vec<i8> = (0..32).map(|i| (i * 37 % 255 - 127) as i8).collect();
        let (graph, weights) = encoded(&layer(&codes, &[0; 4], &[0.5, 0.5, 0.25, 0.25]));
        assert_eq!(&*graph.weights()[0].path, "layer.weight#int8");
        let encoding = weights.encoding("layer.weight#int8").unwrap().unwrap();
        assert_eq!((encoding.bits, encoding.group, encoding.levels), (8, 16, Levels::Integers { zeros: false }));
        let wanted: Vec<f32> =
            codes.iter().enumerate().map(|(i, &code)| f32::from(code) * if i < 16 { 0.5 } else { 0.25 }).collect();
        assert_eq!(weights.to_f32("layer.weight#int8").unwrap(), wanted);
    }

    #[test]
    fn few_codes_take_few_bits_and_groups_stay() {
        let codes: Vec<i8> = (0..32).map(|i| (i % 16 - 8) as i8).collect();
        let scales = [0.5, 1.5, 0.25, 2.0];
        let (graph, weights) = encoded(&layer(&codes, &[1, 0, -2, 0], &scales));
        let path = &*graph.weights()[0].path;
        let encoding = weights.encoding(path).unwrap().unwrap();
        assert_eq!((path, encoding.bits, encoding.group), ("layer.weight#int4", 4, 8));
        assert_eq!(encoding.levels, Levels::Integers { zeros: true });
        let wanted = (0..32).map(|i| (f32::from(codes[i]) - [1.0, 0.0, -2.0, 0.0][i / 8]) * scales[i / 8]);
        assert_eq!(weights.to_f32(path).unwrap(), wanted.collect::<Vec<f32>>());
    }

    #[test]
    fn a_scale_for_each_element_is_no_encoding() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [3, 16]);
        let codes = graph.constant(NDArray::new(&[1, 16], &[3_i8; 16]).unwrap());
        let scales: Vec<f32> = (0..16).map(|i| i as f32 + 1.0).collect();
        let scales = graph.constant(NDArray::new(&[1, 16], &scales).unwrap());
        let codes = graph.cast(codes, DType::F32).unwrap();
        let weight = graph.mul(codes, scales).unwrap();
        let y = graph.linear(x, weight, None).unwrap();
        graph.output("y", y);
        assert!(encoded(&graph).0.weights().is_empty());
    }

    #[test]
    fn an_integer_product_with_its_scales_is_a_linear_layer() {
        let mut graph = Graph::new();
        let bytes = graph.input("bytes", DType::U8, [3, 4]);
        let scale = graph.input("scale", DType::F32, [3, 1]);
        let codes = [1_i8, -2, 3, 4, -5, 6, 7, 8];
        let weight = graph.constant(NDArray::new(&[4, 2], &codes).unwrap());
        let product = graph.push(Op::MatMul { transposed: false }, &[bytes, weight]).unwrap();
        let offset = graph.constant(NDArray::new(&[1, 2], &[6 * 128, 16 * 128]).unwrap());
        let sums = graph.binary(Binary::Sub, product, offset).unwrap();
        let numbers = graph.cast(sums, DType::F32).unwrap();
        let y = graph.mul(numbers, scale).unwrap();
        graph.output("y", y);
        let linear = products(&graph, &Weights::default()).unwrap();
        let result = linear.node(linear.outputs()[0].1);
        assert!(matches!(result.op, Op::Linear(_)), "{linear}");
        assert!(matches!(linear.node(result.inputs[0]).op, Op::Binary(Binary::Mul)), "{linear}");
    }
}
