//! Precision: which values are held in the faster type.
//!
//! Everything that comes out of weights is held in `precision`; what only depends on arguments and constants (the
//! angles of a timestep embedding, for instance, which lose their meaning in 8 bits of mantissa) stays F32, and so do
//! the results of the function and the parameters of norms and biases, which are small.
//!
//! The sums of residual connections stay F32 too: block after block adds to them, and rounding each time would cost
//! more digits than all the rest. Maps too large for a cache are the exception, where their memory would count.

use ondine_graph::{
    Binary, DType, Graph, Node, Op, Reduce, Result, Unary, Value, element_count,
    rewrite::{Rewrite, rewrite},
};

/// The pass.
pub(crate) fn precision(graph: &Graph, dtype: DType) -> Result<Graph> {
    if dtype == DType::F32 {
        return Ok(graph.clone());
    }
    let lowered = mark(graph);
    let wide = mark_sums(graph, &lowered);
    rewrite("precision", graph, |rewrite, value, node| {
        let is_result = graph.outputs().iter().any(|(_, result)| *result == value)
            || graph.states().iter().any(|slot| slot.update == Some(value));
        let new = if lowered[value.index()] {
            let held = if wide[value.index()] { DType::F32 } else { dtype };
            lower_node(rewrite, node, dtype, held)?
        } else {
            raise_node(rewrite, value, node, &lowered)?
        };
        // Results keep the type that the caller was promised.
        if is_result && lowered[value.index()] { rewrite.new.cast(new, DType::F32).map(Some) } else { Ok(Some(new)) }
    })
}

/// Which values are held in the faster type.
fn mark(graph: &Graph) -> Vec<bool> {
    let mut lowered = vec![false; graph.nodes().len()];
    for (i, node) in graph.nodes().iter().enumerate() {
        let float = node.signature.dtype == DType::F32;
        let weighted = match node.op {
            // Matrices that are no weight, or lie the other way round, are multiplied as they are.
            Op::GroupedMatMul { transposed } => transposed && matches!(graph.node(node.inputs[1]).op, Op::Weight(_)),
            Op::Linear(_) | Op::Conv2d(..) | Op::Gather => true,
            Op::GroupNorm { .. } | Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::Attention(_) => true,
            Op::Weight(_) | Op::Input | Op::Const(_) | Op::State(_) => false,
            Op::Unary(Unary::Sin | Unary::Cos | Unary::Exp | Unary::Log | Unary::Function(_)) => false,
            // Kernels of the generic tier compute in 32 bits.
            Op::Scatter(_) | Op::Scan { .. } | Op::ArgSort { .. } | Op::Pool(_) => false,
            Op::Interpolate { .. } | Op::Recurrent { .. } | Op::Range { .. } => false,
            Op::Binary(Binary::Remainder | Binary::Fmod | Binary::FloorDiv | Binary::Atan2) => false,
            Op::Reduce { how: Reduce::Product, .. } => false,
            Op::Measure { .. } | Op::Assert { .. } | Op::Loop(_) | Op::Unpack { .. } | Op::Bits(_) => false,
            // What a backend has put in already it has chosen the types of.
            Op::Native(_) => false,
            Op::Solve | Op::Cholesky | Op::Determinant | Op::Suppress { .. } | Op::Regions(_) => false,
            _ => node.inputs.iter().any(|input| lowered[input.index()]),
        };
        lowered[i] = float && weighted;
    }
    lowered
}

/// The most bytes of a sum that stays F32: about what a cache holds.
const WIDEST_SUM: usize = 16 << 20;

/// Which of the lowered values are sums of residual connections, or what such sums begin with.
fn mark_sums(graph: &Graph, lowered: &[bool]) -> Vec<bool> {
    let mut wide = vec![false; lowered.len()];
    let sizes = graph.typical_sizes();
    let fits = |value: Value| {
        let shape = graph.shape(value).bind(&sizes).ok();
        shape.and_then(|shape| element_count(&shape)).is_some_and(|count| count <= WIDEST_SUM / size_of::<f32>())
    };
    for (value, node) in graph.values() {
        let (Op::Linear(epilogue) | Op::Conv2d(_, epilogue)) = node.op else { continue };
        let Some(&(mut start)) = node.inputs.last().filter(|_| epilogue.residual && fits(value)) else { continue };
        while is_part(&graph.node(start).op) {
            start = graph.node(start).inputs[0];
        }
        let begins = matches!(graph.node(start).op, Op::Linear(_) | Op::Conv2d(..));
        wide[value.index()] = lowered[value.index()];
        wide[start.index()] |= begins && lowered[start.index()];
    }
    for (value, node) in graph.values() {
        if is_part(&node.op) {
            wide[value.index()] = wide[node.inputs[0].index()];
        }
    }
    wide
}

/// True for what a sum goes through as it is: a row of it is the same number whichever others are asked for.
fn is_part(op: &Op) -> bool {
    matches!(op, Op::Reshape(_) | Op::Slice { .. })
}

/// The node with its big operands in `dtype` and its result in `held`; parameters of norms, biases and masks stay as
/// they are, and so do sums where the operator takes them.
fn lower_node(rewrite: &mut Rewrite<'_>, node: &Node, dtype: DType, held: DType) -> Result<Value> {
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for (position, &input) in node.inputs.iter().enumerate() {
        let new = rewrite.get(input);
        let is_float = rewrite.old.node(input).signature.dtype == DType::F32;
        inputs.push(match is_float {
            true if takes_sums(&node.op, position) => new,
            true if is_activation(&node.op, position) => lowered_value(rewrite, new, dtype)?,
            true => rewrite.new.cast(new, DType::F32)?,
            false => new,
        });
    }
    rewrite.new.push_typed(node.op.clone(), &inputs, held)
}

/// True if input `position` of `op` may be of another type than its result.
fn takes_sums(op: &Op, position: usize) -> bool {
    match op {
        Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::GroupNorm { .. } => position == 0,
        op if is_part(op) => position == 0,
        Op::Linear(epilogue) | Op::Conv2d(_, epilogue) => position > 1 + usize::from(epilogue.bias),
        _ => false,
    }
}

/// `value` in `dtype`. Results of the function were cast back; their lowered users want what was there before.
fn lowered_value(rewrite: &mut Rewrite<'_>, value: Value, dtype: DType) -> Result<Value> {
    let node = rewrite.new.node(value);
    match node.op {
        Op::Cast(DType::F32) if rewrite.new.node(node.inputs[0]).signature.dtype == dtype => Ok(node.inputs[0]),
        _ => rewrite.new.cast(value, dtype),
    }
}

/// The node as it is, its lowered inputs widened again.
fn raise_node(rewrite: &mut Rewrite<'_>, value: Value, node: &Node, lowered: &[bool]) -> Result<Value> {
    if !node.inputs.iter().any(|input| lowered[input.index()]) {
        return rewrite.keep(value);
    }
    if let (Op::Cast(dtype), [input]) = (&node.op, &node.inputs[..])
        && rewrite.new.node(rewrite.get(*input)).signature.dtype == *dtype
    {
        // It is held so already.
        return Ok(rewrite.get(*input));
    }
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for &input in &node.inputs {
        let new = rewrite.get(input);
        inputs.push(if lowered[input.index()] { rewrite.new.cast(new, DType::F32)? } else { new });
    }
    rewrite.new.push(node.op.clone(), &inputs)
}

/// True if input `position` of `op` is data rather than a parameter or a mask.
fn is_activation(op: &Op, position: usize) -> bool {
    match op {
        // Weights are packed in the precision of their operator; a residual is data.
        Op::Linear(epilogue) | Op::Conv2d(_, epilogue) => position == 0 || position > 1 + usize::from(epilogue.bias),
        Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::GroupNorm { .. } => position == 0,
        Op::Attention(_) => position < 3,
        Op::Rotate { .. } | Op::GroupedMatMul { .. } => position == 0,
        Op::Gather => false,
        _ => true,
    }
}
