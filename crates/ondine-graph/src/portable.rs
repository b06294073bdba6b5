//! What a portable graph holds, besides operators that fit their inputs: nothing that one machine has chosen for
//! itself.

use crate::{
    dtype::DType,
    error::{Context, Result, fail},
    graph::{Graph, Node, Value},
    ndarray::element_count,
    op::Op,
};

/// Makes sure that every node of a graph, those of its loops included, is one that any machine can run.
///
/// # Errors
/// Names the first node that is none.
pub fn check_graph(graph: &Graph) -> Result<()> {
    for (_, node) in graph.values() {
        if !matches!(node.op, Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_)) {
            check_node(graph, node).at(|| format!("{} ({})", node.scope, node.op))?;
        }
    }
    graph.loops().iter().flat_map(|inner| [&inner.condition, &inner.body]).try_for_each(check_graph)
}

/// Makes sure that a node is one that any machine can run.
///
/// # Errors
/// If it is made by passes, or is a product of what no weight is packed for.
pub(crate) fn check_node(graph: &Graph, node: &Node) -> Result<()> {
    if matches!(node.op, Op::Native(_)) || node.signature.dtype != inferred(graph, node)? {
        fail!(Format, "no operator of a portable graph");
    }
    let [x, weight, ..] = node.inputs[..] else { return Ok(()) };
    if !matches!(node.op, Op::Linear(_) | Op::Conv2d(..)) {
        return Ok(());
    }
    let dtype = graph.node(x).signature.dtype;
    if dtype != DType::F32 || is_empty(graph, weight) {
        let weight = graph.shape(weight);
        fail!(Format, "multiplies {dtype} numbers by a weight {weight}; a portable graph has f32 and whole weights");
    }
    Ok(())
}

/// The type that inference yields.
///
/// # Errors
/// If the operator cannot take its inputs.
pub fn inferred(graph: &Graph, node: &Node) -> Result<DType> {
    Ok(graph.infer(&node.op, &node.inputs)?.dtype)
}

/// True if a value has no elements, or it is not known whether it has.
#[must_use]
pub fn is_empty(graph: &Graph, value: Value) -> bool {
    graph.shape(value).fixed().and_then(|shape| element_count(&shape)).is_none_or(|count| count == 0)
}
