//! Layout: removes changes of memory order that undo each other or change nothing.
//!
//! Feature maps are channels-last by definition of the operators; what is left to remove are the permutations that
//! importers and builders put at the edges of blocks.

use crate::{
    error::Result,
    graph::{Graph, Node, Value},
    op::Op,
    pass::{Rewrite, fold::sweep, rewrite},
};

/// The pass.
pub(crate) fn layout(graph: &Graph) -> Result<Graph> {
    let merged = rewrite("layout", graph, |rewrite, _, node| match &node.op {
        Op::Permute(axes) => permute(rewrite, node, axes),
        Op::Reshape(shape) => {
            let source = skip_reshapes(&rewrite.new, rewrite.get(node.inputs[0]));
            if rewrite.new.shape(source) == shape {
                return Ok(Some(source));
            }
            rewrite.new.push(Op::Reshape(shape.clone()), &[source]).map(Some)
        }
        _ => Ok(None),
    })?;
    sweep(&merged)
}

fn permute(rewrite: &mut Rewrite<'_>, node: &Node, axes: &[usize]) -> Result<Option<Value>> {
    let mut source = rewrite.get(node.inputs[0]);
    let mut axes = axes.to_vec();
    if let Op::Permute(first) = &rewrite.new.node(source).op {
        axes = axes.iter().map(|&axis| first[axis]).collect();
        source = rewrite.new.node(source).inputs[0];
    }
    if axes.iter().copied().eq(0..axes.len()) {
        return Ok(Some(source));
    }
    rewrite.new.push(Op::Permute(axes), &[source]).map(Some)
}

fn skip_reshapes(graph: &Graph, mut value: Value) -> Value {
    while let Op::Reshape(_) = graph.node(value).op {
        value = graph.node(value).inputs[0];
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;

    #[test]
    fn permutations_that_undo_each_other_vanish() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, ["b", "c", "h", "w"]);
        let y = graph.channels_last(x).unwrap();
        let y = graph.channels_first(y).unwrap();
        graph.output("y", y);
        let clean = layout(&graph).unwrap();
        assert_eq!(clean.outputs()[0].1, clean.inputs()[0].1);
    }

    #[test]
    fn reshapes_collapse_into_the_last() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [2, 3, 4]);
        let y = graph.reshape(x, [6, 4]).unwrap();
        let y = graph.reshape(y, [24]).unwrap();
        graph.output("y", y);
        assert_eq!(layout(&graph).unwrap().nodes().len(), 2);
    }
}
