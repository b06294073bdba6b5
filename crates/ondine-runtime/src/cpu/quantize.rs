//! Quantize: makes 8-bit rows of what is multiplied with weights of 8 bits, once for all that read them and, where a
//! norm yields it, right there, so that its result is never stored in full. Attention may round its queries and keys.

use ondine_graph::{
    Epilogue, Graph, Node, Op, Result, Value, Weight,
    rewrite::{rewrite, share::share, sweep, uses},
};

use super::native::{CpuOp, Prologue, Rows, quantized};

/// The pass; `reads_rows` says whether and how an operator with this weight takes quantized rows, `scores` whether
/// attention may round what has no weights.
pub(crate) fn quantize(
    graph: &Graph,
    scores: bool,
    reads_rows: impl Fn(Epilogue, &Weight) -> Result<Option<Rows>>,
) -> Result<Graph> {
    let quantized = rewrite("quantize", graph, |rewrite, _, node| {
        if let Op::Attention(attention) = node.op {
            let inputs: Vec<_> = node.inputs.iter().map(|&input| rewrite.get(input)).collect();
            let op = match scores {
                true => CpuOp::Attention8(attention).op(node.signature.clone())?,
                false => node.op.clone(),
            };
            return rewrite.new.push_typed(op, &inputs, node.signature.dtype).map(Some);
        }
        let (Op::Linear(epilogue), [x, weight, ..]) = (&node.op, &node.inputs[..]) else { return Ok(None) };
        let Op::Weight(id) = graph.node(*weight).op else { return Ok(None) };
        let Some(rows) = reads_rows(*epilogue, graph.weight_info(id))? else { return Ok(None) };
        let mut inputs: Vec<_> = node.inputs.iter().map(|&input| rewrite.get(input)).collect();
        let quantize = CpuOp::QuantizeRows { prologue: Prologue::None, rows };
        let result = quantized(&rewrite.new.node(inputs[0]).signature, rows)?;
        inputs[0] = rewrite.new.push(quantize.op(result)?, &[rewrite.get(*x)])?;
        let linear = match rows {
            Rows::Spanning | Rows::Within(_) => CpuOp::LinearRows(*epilogue),
            Rows::Blocks => CpuOp::LinearBlocks(*epilogue),
        };
        rewrite.new.push(linear.op(node.signature.clone())?, &inputs).map(Some)
    })?;
    sweep(&fuse_norms(&share(&quantized)?)?)
}

fn fuse_norms(graph: &Graph) -> Result<Graph> {
    let uses = uses(graph);
    rewrite("quantize norms", graph, |rewrite, _, node| {
        let Op::Native(native) = &node.op else { return Ok(None) };
        let CpuOp::QuantizeRows { prologue: Prologue::None, rows } = CpuOp::of(native)? else { return Ok(None) };
        let Some(norm) = source(graph, &uses, node.inputs[0]) else { return Ok(None) };
        let prologue = match norm.op {
            Op::LayerNorm { eps } => Prologue::LayerNorm { eps },
            Op::RmsNorm { eps } => Prologue::RmsNorm { eps },
            Op::GroupNorm { groups, eps, activation } => Prologue::GroupNorm { groups, eps, activation },
            _ => return Ok(None),
        };
        let inputs: Vec<_> = norm.inputs.iter().map(|&input| rewrite.get(input)).collect();
        rewrite.new.enter(norm.scope.clone());
        rewrite.new.trace(norm.origin.clone());
        let result = quantized(&norm.signature, rows)?;
        let rows = rewrite.new.push(CpuOp::QuantizeRows { prologue, rows }.op(result)?, &inputs)?;
        let shape = &node.signature.shape;
        if rewrite.new.shape(rows) == shape {
            return Ok(Some(rows));
        }
        rewrite.new.reshape(rows, shape.clone()).map(Some)
    })
}

/// The norm that yields the rows of `value`, seen through reshapes that leave rows whole.
///
/// If others read its result too, a norm of rows is computed once more for them: rows are the same numbers then,
/// whoever else reads them. Statistics of whole maps cost too much for that.
fn source<'a>(graph: &'a Graph, uses: &[usize], mut value: Value) -> Option<&'a Node> {
    let width = graph.shape(value).0.last()?;
    let mut alone = true;
    loop {
        let node = graph.node(value);
        if node.signature.shape.0.last() != Some(width) {
            return None;
        }
        alone &= uses[value.index()] == 1;
        match node.op {
            Op::Reshape(_) => value = node.inputs[0],
            Op::GroupNorm { .. } => return alone.then_some(node),
            _ => return Some(node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondine_graph::DType;

    fn names(graph: &Graph) -> Vec<String> {
        let runs = |op: &Op| !matches!(op, Op::Input | Op::Weight(_));
        graph.nodes().iter().map(|node| &node.op).filter(|op| runs(op)).map(Op::name).map(str::to_owned).collect()
    }

    /// A norm of `x` `[2, 6, 8]`, whose result is reshaped and goes into two linear layers.
    fn normed(graph: &mut Graph) -> (Value, [Value; 2]) {
        let x = graph.input("x", DType::BF16, [2, 6, 8]);
        let (scale, shift) = (graph.weight("scale", &[8]).unwrap(), graph.weight("shift", &[8]).unwrap());
        let normed = graph.layer_norm(x, scale, shift, 1e-5).unwrap();
        let rows = graph.reshape(normed, [12, 8]).unwrap();
        let linears = ["q", "k"].map(|name| {
            let weight = graph.weight(name, &[5, 8]).unwrap();
            graph.linear(rows, weight, None).unwrap()
        });
        linears.iter().zip(["q", "k"]).for_each(|(&value, name)| graph.output(name, value));
        (normed, linears)
    }

    #[test]
    fn rows_are_quantized_once_and_by_the_norm() {
        let mut graph = Graph::new();
        normed(&mut graph);
        let quantized = quantize(&graph, true, |_, _| Ok(Some(Rows::Spanning))).unwrap();
        assert_eq!(names(&quantized), ["layer_norm_8", "reshape", "linear", "linear"], "{quantized}");
        let linear = quantized.node(quantized.outputs()[0].1);
        let (rows, _) = quantized.values().nth(5).unwrap();
        assert_eq!((linear.signature.dtype, linear.inputs[0]), (DType::BF16, rows), "{quantized}");
        assert_eq!(*quantized.shape(linear.inputs[0]), [12, 16].into());
    }

    #[test]
    fn a_norm_that_others_read_stays_for_them() {
        let mut graph = Graph::new();
        let (normed, _) = normed(&mut graph);
        graph.output("normed", normed);
        let quantized = quantize(&graph, true, |_, _| Ok(Some(Rows::Within([-1.0, 2.0])))).unwrap();
        assert_eq!(names(&quantized), ["layer_norm", "layer_norm_8", "reshape", "linear", "linear"], "{quantized}");
    }

    #[test]
    fn weights_that_are_not_of_8_bits_read_what_there_is() {
        let mut graph = Graph::new();
        normed(&mut graph);
        let quantized =
            quantize(&graph, true, |_, weight| Ok((weight.shape[0] == 6).then_some(Rows::Spanning))).unwrap();
        assert_eq!(names(&quantized), ["layer_norm", "reshape", "linear", "linear"], "{quantized}");
    }
}
