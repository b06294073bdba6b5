//! Chosen: of a product whose columns are looked up, those are computed that are asked for, with their neighbours in
//! packed panels: as they are among all, to the bit.

use ondine_graph::{
    DType, Graph, Op, Result,
    portable::is_empty,
    rewrite::{rewrite, sweep, uses},
};

use super::native::{CpuOp, Rows};

/// The pass, over what [`quantize`](super::quantize::quantize) yields.
pub(super) fn chosen(graph: &Graph) -> Result<Graph> {
    if !graph.nodes().iter().any(|node| matches!(node.op, Op::Take { .. })) {
        return Ok(graph.clone());
    }
    let uses = uses(graph);
    let rewritten = rewrite("chosen columns", graph, |rewrite, _, node| {
        let (Op::Take { axis }, &[all, columns]) = (&node.op, &node.inputs[..]) else { return Ok(None) };
        let product = graph.node(all);
        let (epilogue, rows) = match &product.op {
            Op::Linear(epilogue) => (*epilogue, None),
            Op::Native(native) => match CpuOp::of(native)? {
                CpuOp::LinearRows(epilogue) => (epilogue, Some(Rows::Spanning)),
                CpuOp::LinearBlocks(epilogue) => (epilogue, Some(Rows::Blocks)),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let weight = product.inputs[1];
        let packed = matches!(graph.node(weight).op, Op::Weight(_)) && !is_empty(graph, weight);
        let names = &graph.node(columns).signature;
        let named = axis + 1 == product.signature.shape.rank() && names.shape.rank() == 1 && names.dtype == DType::I64;
        if !packed || !named || uses[all.index()] > 1 || epilogue.gate || epilogue.residual {
            return Ok(None);
        }
        let inputs: Vec<_> = product.inputs.iter().chain([&columns]).map(|&input| rewrite.get(input)).collect();
        let op = CpuOp::LinearChosen { epilogue, rows }.op(node.signature.clone())?;
        rewrite.new.push(op, &inputs).map(Some)
    })?;
    sweep(&rewritten)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns 3, 0 and 3 of a product; `axis` of the look-up, and whether somebody else reads the product.
    fn names(axis: usize, read: bool) -> Vec<String> {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [4, 8]);
        let ids = graph.input("ids", DType::I64, [3]);
        let weight = graph.weight("head", &[9, 8]).unwrap();
        let all = graph.linear(x, weight, None).unwrap();
        let some = graph.push(Op::Take { axis }, &[all, ids]).unwrap();
        graph.output("some", some);
        if read {
            graph.output("all", all);
        }
        let rewritten = chosen(&graph).unwrap();
        let runs = |op: &Op| !matches!(op, Op::Input | Op::Weight(_));
        rewritten.nodes().iter().map(|node| &node.op).filter(|op| runs(op)).map(|op| op.name().to_owned()).collect()
    }

    #[test]
    fn columns_that_nobody_asks_for_are_left_out() {
        assert_eq!(names(1, false), ["linear_chosen"]);
        assert_eq!(names(0, false), ["linear", "take"]);
        assert_eq!(names(1, true), ["linear", "take"]);
    }
}
