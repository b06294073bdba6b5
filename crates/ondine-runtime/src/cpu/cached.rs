//! Cached: attention reads keys and values as the states of a conversation hold them, in 8 bits with their scales or in
//! bf16, and no copy in another type is made of all of them for each token.
//!
//! A program says so by arithmetic: integers of 8 bits as numbers, times one scale for all or one for each head of a
//! row. What is not recognised runs as it is written.

use ondine_graph::{
    Attention, Binary, DType, Dim, Graph, Mask, Node, Op, Result, Shape, Value,
    rewrite::{Rewrite, rewrite},
};

use super::native::{CachedAttention, CpuOp};

/// The pass; `eight_bit` says whether queries and keys may be rounded.
pub(super) fn cached(graph: &Graph, eight_bit: bool) -> Result<Graph> {
    rewrite("cached keys and values", graph, |rewrite, _, node| {
        let Op::Attention(attention) = node.op else { return Ok(None) };
        let [keys, values] = [node.inputs[1], node.inputs[2]];
        let dim = |input: Value| graph.shape(input).0.last().and_then(Dim::fixed).map(|all| all / attention.kv_heads);
        let coded = |input: Value| coded(graph, input, dim(input)?);
        if let (Some(keys), Some(values)) = (coded(keys), coded(values)) {
            return of_codes(rewrite, node, attention, eight_bit, [keys, values]).map(Some);
        }
        if let (Some(keys), Some(values)) = (narrow(graph, keys), narrow(graph, values)) {
            let cached = CachedAttention { attention, eight_bit, coded: false };
            return push(rewrite, node, cached, [keys, values], &[]).map(Some);
        }
        Ok(None)
    })
}

/// Codes, and what they are multiplied by: one number, or one for each head of a row.
struct Coded {
    codes: Value,
    scales: Value,
}

/// The codes that keys or values with heads of `dim` elements come of.
fn coded(graph: &Graph, value: Value, dim: usize) -> Option<Coded> {
    let product = graph.node(unchanged(graph, value));
    let (Op::Binary(Binary::Mul), &[a, b]) = (&product.op, &product.inputs[..]) else { return None };
    let shape = &product.signature.shape;
    let scales = |scales: Value| {
        let own = graph.shape(scales);
        let last = |shape: &Shape| shape.0.last().and_then(Dim::fixed);
        let rows = |shape: &Shape| shape.0.split_last().map(|(_, rows)| rows.to_vec());
        let by_head = rows(own) == rows(shape) && last(own) == Some(1) && last(shape) == Some(dim);
        let single = own.elements().fixed() == Some(1);
        (graph.node(scales).signature.dtype == DType::F32 && (single || by_head)).then_some(scales)
    };
    let codes = |numbers: Value| {
        let node = graph.node(unchanged(graph, numbers));
        let whole = graph.shape(numbers) == shape;
        let (Op::Cast(DType::F32), &[codes]) = (&node.op, &node.inputs[..]) else { return None };
        (whole && graph.node(codes).signature.dtype == DType::I8).then_some(codes)
    };
    let pair = |x: Value, y: Value| Some(Coded { codes: codes(x)?, scales: scales(y)? });
    pair(a, b).or_else(|| pair(b, a))
}

/// Where the elements of `value` come from, one after the other as they are, or rounded to a narrower float.
fn unchanged(graph: &Graph, mut value: Value) -> Value {
    loop {
        let node = graph.node(value);
        let float = |value: Value| graph.node(value).signature.dtype.is_float();
        value = match node.op {
            Op::Reshape(_) => node.inputs[0],
            Op::Cast(DType::BF16) if float(node.inputs[0]) => node.inputs[0],
            _ => return value,
        };
    }
}

/// What was bf16 before it was widened to be `value`.
fn narrow(graph: &Graph, value: Value) -> Option<Value> {
    let node = graph.node(unchanged(graph, value));
    let widened = matches!(node.op, Op::Cast(DType::F32)).then(|| node.inputs[0])?;
    (graph.node(widened).signature.dtype == DType::BF16).then_some(widened)
}

/// Attention to codes.
fn of_codes(
    rewrite: &mut Rewrite<'_>,
    node: &Node,
    attention: Attention,
    eight_bit: bool,
    coded: [Coded; 2],
) -> Result<Value> {
    let graph = rewrite.old;
    let mut scales = Vec::with_capacity(2);
    for (coded, input) in coded.iter().zip(&node.inputs[1..]) {
        let (own, rows) = (rewrite.get(coded.scales), graph.shape(*input).0.split_last());
        let shape = match rows {
            _ if graph.shape(coded.scales).elements().fixed() == Some(1) => vec![1.into()],
            Some((_, rows)) => [rows, &[attention.kv_heads.into()]].concat(),
            None => Vec::new(),
        };
        scales.push(rewrite.new.reshape(own, shape)?);
    }
    let cached = CachedAttention { attention, eight_bit, coded: true };
    push(rewrite, node, cached, coded.map(|coded| coded.codes), &scales)
}

/// The operator in the place of `node`, with keys and values of the old graph and scales of the new one.
fn push(
    rewrite: &mut Rewrite<'_>,
    node: &Node,
    cached: CachedAttention,
    sources: [Value; 2],
    scales: &[Value],
) -> Result<Value> {
    let mut inputs = vec![rewrite.get(node.inputs[0])];
    for (source, input) in sources.into_iter().zip(&node.inputs[1..]) {
        let (source, shape) = (rewrite.get(source), rewrite.old.shape(*input).clone());
        inputs.push(rewrite.new.reshape(source, shape)?);
    }
    inputs.extend(scales);
    if cached.attention.mask != Mask::None {
        inputs.push(rewrite.get(node.inputs[3]));
    }
    let op = CpuOp::CachedAttention(cached).op(node.signature.clone())?;
    rewrite.new.push(op, &inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attention of 6 heads to 2 of keys and values, which `kept` makes of a name.
    fn attention(kept: impl Fn(&mut Graph, &str) -> Value) -> Graph {
        let mut graph = Graph::new();
        let q = graph.input("q", DType::F32, [1, 3, 24]);
        let [k, v] = ["k", "v"].map(|name| kept(&mut graph, name));
        let attention = Attention { heads: 6, kv_heads: 2, scale: 0.5, causal: true, window: None, mask: Mask::None };
        let y = graph.attention(attention, [q, k, v], None).unwrap();
        graph.output("y", y);
        cached(&graph, false).unwrap()
    }

    /// Codes times scales of a shape, which are multiplied as heads of `dim` elements.
    fn scaled(graph: &mut Graph, name: &str, dim: usize, scales: &[usize]) -> Value {
        let codes = graph.input(name, DType::I8, [5, 8]);
        let scales = graph.input(&format!("{name} scales"), DType::F32, scales);
        let numbers = graph.cast(codes, DType::F32).unwrap();
        let numbers = graph.reshape(numbers, [5, 8 / dim, dim]).unwrap();
        let numbers = graph.mul(scales, numbers).unwrap();
        graph.reshape(numbers, [1, 5, 8]).unwrap()
    }

    /// The operators that yield what the result is made of.
    fn names(graph: &Graph) -> Vec<String> {
        let swept = ondine_graph::rewrite::sweep(graph).unwrap();
        let computed = swept.nodes().iter().filter(|node| !node.inputs.is_empty());
        computed.map(|node| node.op.name().to_owned()).filter(|name| name != "reshape").collect()
    }

    #[test]
    fn codes_and_bf16_are_read_where_they_lie() {
        for scales in [&[5, 2, 1][..], &[1], &[1, 1, 1]] {
            let graph = attention(|graph, name| scaled(graph, name, 4, scales));
            assert_eq!(names(&graph), ["cached_attention"], "{scales:?}: {graph}");
        }
        let half = |graph: &mut Graph, name: &str| {
            let held = graph.input(name, DType::BF16, [5, 8]);
            let numbers = graph.cast(held, DType::F32).unwrap();
            graph.reshape(numbers, [1, 5, 8]).unwrap()
        };
        assert_eq!(names(&attention(half)), ["cached_attention"]);
    }

    #[test]
    fn what_has_other_scales_is_read_as_it_is_written() {
        // A scale for parts of a head, for each column, or for each row of all heads.
        for (dim, scales) in [(2, &[5, 4, 1][..]), (4, &[2, 4]), (8, &[5, 1, 1])] {
            let graph = attention(|graph, name| scaled(graph, name, dim, scales));
            assert!(names(&graph).contains(&"attention".to_owned()), "{scales:?}: {graph}");
        }
        let one = attention(|graph, name| match name {
            "k" => scaled(graph, name, 4, &[1]),
            _ => graph.input(name, DType::F32, [1, 5, 8]),
        });
        assert!(names(&one).contains(&"attention".to_owned()), "{one}");
    }
}
