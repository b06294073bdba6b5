//! Products with what is no weight of the checkpoint: a matrix that is computed in the call cannot be packed before it.

use ondine_graph::{
    Binary, Epilogue, Graph, Node, Op, Result, Unary, Value, fail,
    rewrite::{Rewrite, rewrite},
};

/// The pass: such a linear layer becomes a matrix product and what its epilogue says.
///
/// # Errors
/// If it is a convolution.
pub(super) fn computed(graph: &Graph) -> Result<Graph> {
    let is_weight = |value: Value| matches!(graph.node(value).op, Op::Weight(_));
    let packed = |node: &Node| match node.op {
        Op::Linear(_) | Op::Conv2d(..) => node.inputs.get(1).is_none_or(|&weight| is_weight(weight)),
        _ => true,
    };
    if graph.nodes().iter().all(packed) {
        return Ok(graph.clone());
    }
    rewrite("computed weights", graph, |rewrite, _, node| match node.op {
        Op::Linear(epilogue) if !packed(node) => linear(rewrite, epilogue, node).map(Some),
        Op::Conv2d(..) if !packed(node) => {
            fail!(Unsupported, "a convolution with a kernel that is computed in the call")
        }
        _ => Ok(None),
    })
}

fn linear(rewrite: &mut Rewrite<'_>, epilogue: Epilogue, node: &Node) -> Result<Value> {
    let inputs: Vec<Value> = node.inputs.iter().map(|&input| rewrite.get(input)).collect();
    let new = &mut rewrite.new;
    let ([outputs, width, ..], Some((_, rows))) = (&new.shape(inputs[1]).0[..], new.shape(inputs[0]).0.split_last())
    else {
        fail!(Shape, "a linear layer of {} with {}", new.shape(inputs[0]), new.shape(inputs[1]));
    };
    let matrix = vec![outputs.clone(), width.clone()];
    let count = rows.iter().fold(ondine_graph::Dim::from(1), |product, dim| &product * dim);
    let (flat, result) = (vec![count, width.clone()], [rows, std::slice::from_ref(outputs)].concat());
    let x = new.reshape(inputs[0], flat)?;
    let weight = new.reshape(inputs[1], matrix)?;
    let product = new.push(Op::MatMul { transposed: true }, &[x, weight])?;
    let mut y = new.reshape(product, result)?;
    let mut more = inputs[2..].iter().copied();
    if let Some(bias) = epilogue.bias.then(|| more.next()).flatten() {
        y = new.push(Op::Binary(Binary::Add), &[y, bias])?;
    }
    y = match epilogue.gate {
        true => new.glu(y, epilogue.activation)?,
        false => match epilogue.activation {
            ondine_graph::Activation::None => y,
            activation => new.unary(Unary::Activation(activation), y)?,
        },
    };
    if let Some(residual) = epilogue.residual.then(|| more.next()).flatten() {
        y = new.push(Op::Binary(Binary::Add), &[y, residual])?;
    }
    Ok(y)
}
