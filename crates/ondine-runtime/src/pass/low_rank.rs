//! Correct: a product with a weight that is codes and a correction of low rank becomes two, whose sum it is, so that
//! the codes are read as codes.

use ondine_graph::{
    Epilogue, Graph, Op, Result, Weight,
    encoding::{CODES, LOW_RANK_A, LOW_RANK_B},
    rewrite::rewrite,
};

/// The pass; `rank` yields that of the correction of weights whose codes kernels read.
pub(crate) fn low_rank(graph: &Graph, rank: impl Fn(&Weight) -> Result<Option<usize>>) -> Result<Graph> {
    rewrite("correct", graph, |rewrite, _, node| {
        let (Op::Linear(epilogue), [_, weight, ..]) = (&node.op, &node.inputs[..]) else { return Ok(None) };
        let Op::Weight(id) = graph.node(*weight).op else { return Ok(None) };
        let weight = graph.weight_info(id);
        let plain = Epilogue { bias: epilogue.bias, ..Epilogue::default() };
        let (Some(rank), true) = (rank(weight)?, *epilogue == plain) else { return Ok(None) };
        let mut inputs: Vec<_> = node.inputs.iter().map(|&input| rewrite.get(input)).collect();
        let (path, rows, columns) = (&weight.path, weight.shape[0], weight.shape[1]);
        let new = &mut rewrite.new;
        let a = new.weight(&format!("{path}{LOW_RANK_A}"), &[rank, columns])?;
        let b = new.weight(&format!("{path}{LOW_RANK_B}"), &[rows, rank])?;
        let projected = new.linear(inputs[0], a, None)?;
        let correction = new.linear(projected, b, None)?;
        inputs[1] = new.weight(&format!("{path}{CODES}"), &weight.shape)?;
        let product = new.push(node.op.clone(), &inputs)?;
        new.add(correction, product).map(Some)
    })
}
