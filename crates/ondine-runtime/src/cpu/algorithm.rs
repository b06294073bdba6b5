//! Algorithm: which of several ways a backend has to compute an operator.
//!
//! Weights are packed for one of them before any call, so what decides must not change with the arguments of a call:
//! sizes are those that the graph expects.

use ondine_graph::{Graph, Op, Result, Value, Weights, rewrite::rewrite};

use super::{coding::coding_of_conv, native::CpuOp, products::prefers_winograd};
use crate::options::Precision;

/// The pass.
pub(crate) fn algorithm(graph: &Graph, precision: Precision, weights: &Weights) -> Result<Graph> {
    let sizes = graph.typical_sizes();
    rewrite("algorithm", graph, |rewrite, _, node| {
        let Op::Conv2d(conv, epilogue) = node.op else { return Ok(None) };
        let typical = |value: Value| graph.shape(value).bind(&sizes).ok();
        let (Some(x), Some(weight)) = (typical(node.inputs[0]), typical(node.inputs[1])) else { return Ok(None) };
        if !prefers_winograd(conv, &x, &weight) {
            return Ok(None);
        }
        if let Op::Weight(id) = graph.node(node.inputs[1]).op
            && let Some(encoding) = weights.encoding(&graph.weight_info(id).path)?
            && coding_of_conv(&encoding, conv.groups, precision).is_some()
        {
            // Transformed weights are numbers, of which there are more.
            return Ok(None);
        }
        let inputs: Vec<_> = node.inputs.iter().map(|&input| rewrite.get(input)).collect();
        let op = CpuOp::Winograd(conv, epilogue).op(node.signature.clone())?;
        rewrite.new.push(op, &inputs).map(Some)
    })
}
