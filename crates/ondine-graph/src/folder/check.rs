//! What shape inference leaves to the builders and passes, asked of every node that a file claims to have: the types
//! that kernels look for, and attributes of a size that arithmetic can bear.

use crate::{
    dtype::DType,
    error::{Result, fail},
    graph::{Graph, Node, Value},
    ndarray::element_count,
    op::{Mask, Op, Window},
};

/// The stage that a graph is of.
#[derive(Clone, Copy)]
pub enum Level<'a> {
    /// Of no machine: as builders and importers make it.
    Portable,
    /// As a backend left it, which says what can run.
    Lowered(&'a dyn Fn(&Graph, Value) -> Result<()>),
}

/// The largest stride, padding or kernel of a file.
const MAX_ATTRIBUTE: usize = 1 << 24;

/// Makes sure that a node that shape inference let through is one that can run.
///
/// # Errors
/// If it cannot, or is none of its level.
pub fn check(graph: &Graph, value: Value, level: Level<'_>) -> Result<()> {
    let node = graph.node(value);
    let dtypes: Vec<DType> = node.inputs.iter().map(|&input| graph.node(input).signature.dtype).collect();
    attributes(graph, node)?;
    operands(&node.op, &dtypes)?;
    match level {
        Level::Portable => portable(graph, node, &dtypes),
        Level::Lowered(runs) => runs(graph, value),
    }
}

fn attributes(graph: &Graph, node: &Node) -> Result<()> {
    let sizes: Vec<usize> = match &node.op {
        Op::Conv2d(conv, _) => conv.stride.iter().chain(&conv.padding).chain(&conv.dilation).copied().collect(),
        Op::Pad { amounts } => amounts.as_flattened().to_vec(),
        Op::Pool(pooling) => pooling.windows.iter().flat_map(sizes_of).chain(pooling.divisor).collect(),
        Op::Reduce { axes, .. } if !axes.is_sorted_by(|a, b| a < b) => {
            fail!(Format, "dimensions {axes:?} out of order")
        }
        _ => return Ok(()),
    };
    if let Some(size) = sizes.into_iter().find(|&size| size > MAX_ATTRIBUTE) {
        fail!(Format, "an attribute of {size}");
    }
    if let Op::Conv2d(conv, _) = node.op {
        let taps = element_count(&graph.shape(node.inputs[1]).fixed().unwrap_or_default()[2..]);
        if taps.is_none_or(|taps| taps > MAX_ATTRIBUTE) || conv.upsample && (conv.stride != [1; 2] || conv.groups != 1)
        {
            fail!(Format, "no convolution of this engine");
        }
    }
    Ok(())
}

fn sizes_of(window: &Window) -> Vec<usize> {
    match window {
        Window::Sliding { kernel, stride, padding, dilation, .. } => vec![*kernel, *stride, *padding, *dilation],
        Window::Adaptive(_) => Vec::new(),
    }
}

/// Inputs that kernels read as one type only.
fn operands(op: &Op, dtypes: &[DType]) -> Result<()> {
    let all = |from: usize, wanted: &[DType]| dtypes.iter().skip(from).all(|dtype| wanted.contains(dtype));
    let byte = [DType::Bool, DType::U8, DType::I8];
    let fits = match op {
        Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::GroupNorm { .. } => all(1, &[DType::F32]),
        Op::Linear(epilogue) | Op::Conv2d(_, epilogue) => {
            let parameters = 1 + usize::from(epilogue.bias);
            dtypes.iter().skip(1).take(parameters).all(|dtype| *dtype == DType::F32)
                && all(1 + parameters, &[DType::F32, DType::BF16])
        }
        Op::Select => byte.contains(&dtypes[0]),
        Op::TakeRow => all(1, &[DType::I64, DType::I32]),
        Op::MatMul { .. } => dtypes[0] == dtypes[1],
        Op::GroupedMatMul { .. } => dtypes[..2] == [DType::F32; 2],
        Op::Recurrent { .. } => all(0, &[DType::F32]),
        Op::Attention(attention) => {
            let mask = match attention.mask {
                Mask::None => true,
                Mask::Keys => all(3, &byte),
                Mask::Additive => all(3, &[DType::F32]),
            };
            mask && dtypes[..3].iter().all(|dtype| *dtype == dtypes[0])
        }
        _ => true,
    };
    if !fits {
        fail!(Format, "inputs of types {dtypes:?}");
    }
    Ok(())
}

fn portable(graph: &Graph, node: &Node, dtypes: &[DType]) -> Result<()> {
    let made_by_passes = matches!(node.op, Op::Native(_)) || node.signature.dtype != inferred(graph, node)?;
    let product = matches!(node.op, Op::Linear(_) | Op::Conv2d(..));
    if made_by_passes || product && (dtypes[0] != DType::F32 || is_empty(graph, node.inputs[1])) {
        fail!(Format, "no operator of a portable graph");
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
