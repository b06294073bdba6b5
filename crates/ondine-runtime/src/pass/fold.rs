//! Fold: evaluates what depends on constants only, and drops what no result needs.

use ondine_graph::{
    Graph, NDArray, Node, Op, Result, element_count,
    rewrite::{rewrite, sweep},
};

/// Constants above this many bytes are computed at run time rather than stored.
const MAX_CONSTANT: usize = 1 << 20;

/// The pass; `evaluate` runs one node on constant inputs.
pub(crate) fn fold(graph: &Graph, evaluate: impl Fn(&Node, &[&NDArray]) -> Result<NDArray>) -> Result<Graph> {
    let folded = rewrite("fold", graph, |rewrite, _, node| {
        // A shape may hold a symbol although a size of 0 leaves it no elements.
        let count = node.signature.shape.fixed().and_then(|shape| element_count(&shape));
        let small = count.is_some_and(|n| n * 8 <= MAX_CONSTANT);
        let inputs: Option<Vec<_>> =
            node.inputs.iter().map(|&input| constant(&rewrite.new, rewrite.get(input))).collect();
        match inputs {
            Some(inputs) if small && !inputs.is_empty() && !belongs_to_calls(&node.op) => {
                let array = evaluate(node, &inputs)?;
                Ok(Some(rewrite.new.constant(array)))
            }
            _ => Ok(None),
        }
    })?;
    sweep(&folded)
}

/// True for what a loop does, and what a number decides or is held to.
fn belongs_to_calls(op: &Op) -> bool {
    matches!(op, Op::Loop(_) | Op::Measure { .. } | Op::Assert { .. })
}

fn constant(graph: &Graph, value: ondine_graph::Value) -> Option<&NDArray> {
    match &graph.node(value).op {
        Op::Const(array) => Some(array),
        _ => None,
    }
}
