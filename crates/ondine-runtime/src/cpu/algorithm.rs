//! Algorithm: which of several ways a backend has to compute an operator.
//!
//! Weights are packed for one of them before any call, so what decides must not change with the arguments of a call:
//! sizes are those that the graph expects.

use ondine_graph::{Graph, Op, Result, Value, rewrite::rewrite};

use super::{native::CpuOp, products::prefers_winograd};

/// The pass.
pub(crate) fn algorithm(graph: &Graph) -> Result<Graph> {
    let sizes = graph.typical_sizes();
    rewrite("algorithm", graph, |rewrite, _, node| {
        let Op::Conv2d(conv, epilogue) = node.op else { return Ok(None) };
        let typical = |value: Value| graph.shape(value).bind(&sizes).ok();
        let (Some(x), Some(weight)) = (typical(node.inputs[0]), typical(node.inputs[1])) else { return Ok(None) };
        if !prefers_winograd(conv, &x, &weight) {
            return Ok(None);
        }
        let inputs: Vec<_> = node.inputs.iter().map(|&input| rewrite.get(input)).collect();
        let op = CpuOp::Winograd(conv, epilogue).op(node.signature.clone())?;
        rewrite.new.push(op, &inputs).map(Some)
    })
}
