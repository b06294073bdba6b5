//! What inference leaves to the passes, asked of every node that a file claims to have: that it is of the stage which the
//! file is said to be of.

use crate::{
    cpu::{self, Format},
    dtype::DType,
    error::{Result, fail},
    graph::{Graph, Node, Value},
    infer::infer,
    ndarray::element_count,
    op::{Conv2d, Op},
    specialize::{Options, Precision},
};

/// The stage that a graph is of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    /// Of no machine: as builders and importers make it.
    Portable,
    /// As the passes leave it.
    Lowered(Options),
}

/// Makes sure that a node that shape inference let through is one that can run.
pub(crate) fn check(graph: &Graph, value: Value, level: Level) -> Result<()> {
    let node = graph.node(value);
    let dtypes: Vec<DType> = node.inputs.iter().map(|&input| graph.node(input).signature.dtype).collect();
    match level {
        Level::Portable => portable(graph, node, &dtypes),
        Level::Lowered(options) => lowered(graph, node, &dtypes, options),
    }
}

fn portable(graph: &Graph, node: &Node, dtypes: &[DType]) -> Result<()> {
    let made_by_passes = matches!(node.op, Op::Quantize(..) | Op::Conv2d(Conv2d { winograd: true, .. }, _))
        || node.signature.dtype != inferred(graph, node)?;
    let product = matches!(node.op, Op::Linear(_) | Op::Conv2d(..));
    if made_by_passes || product && (dtypes[0] != DType::F32 || is_empty(graph, node.inputs[1])) {
        fail!(Format, "no operator of a portable graph");
    }
    Ok(())
}

/// The type that inference yields.
fn inferred(graph: &Graph, node: &Node) -> Result<DType> {
    let inputs: Vec<_> = node.inputs.iter().map(|&input| &graph.node(input).signature).collect();
    Ok(infer(&node.op, &inputs)?.dtype)
}

fn is_empty(graph: &Graph, value: Value) -> bool {
    graph.shape(value).fixed().and_then(|shape| element_count(&shape)).is_none_or(|count| count == 0)
}

fn lowered(graph: &Graph, node: &Node, dtypes: &[DType], options: Options) -> Result<()> {
    let held = node.signature.dtype;
    let float = |dtype: DType| matches!(dtype, DType::F32 | DType::BF16);
    let fits = match node.op {
        Op::Linear(_) | Op::Conv2d(..) => float(held) && multiplies(graph, node, dtypes[0], options),
        Op::MatMul { .. } | Op::Attention(_) => float(held) && float(dtypes[0]),
        Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::GroupNorm { .. } => {
            held == dtypes[0] || held == DType::BF16 && dtypes[0] == DType::F32
        }
        Op::Gather => held == dtypes[0] || float(held) && dtypes[0] == DType::F32,
        Op::Cast(dtype) => held == dtype || float(held) && float(dtype),
        _ => held == inferred(graph, node)?,
    };
    if !fits {
        fail!(Format, "{held} from {dtypes:?}");
    }
    Ok(())
}

/// True if the packed weight of a product meets the type that it was packed for.
fn multiplies(graph: &Graph, node: &Node, dtype: DType, options: Options) -> bool {
    let Some(weight) = graph.shape(node.inputs[1]).fixed() else { return false };
    if is_empty(graph, node.inputs[1]) {
        return false;
    }
    let float = matches!(dtype, DType::F32 | DType::BF16);
    match (cpu::format(&node.op, 1, &weight, None, options), &node.op) {
        (Format::Winograd { precision, .. }, Op::Conv2d(conv, _)) => {
            let x = graph.shape(node.inputs[0]).bind(&graph.typical_sizes());
            let wanted = x.is_ok_and(|x| cpu::prefers_winograd(Conv2d { winograd: false, ..*conv }, &x, &weight));
            wanted && float && (precision != Precision::F32 || dtype == DType::F32)
        }
        // A weight may be of 8 bits whatever the precision: `Lowered::agrees` has the last word.
        (Format::Panels { precision: Precision::F32 | Precision::BF16, .. }, Op::Linear(_)) if dtype == DType::U8 => {
            true
        }
        (Format::Panels { precision: Precision::F32, .. }, _) => dtype == DType::F32,
        (Format::Panels { precision: Precision::BF16, .. }, _) => dtype == DType::BF16,
        (Format::Panels { precision: Precision::Int8, .. }, Op::Linear(_)) => dtype == DType::U8,
        (Format::Panels { precision: Precision::Int8, .. }, _) => float,
        _ => false,
    }
}
