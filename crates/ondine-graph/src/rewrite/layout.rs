//! Layout: removes changes of memory order that undo each other or change nothing, and sees the linear layer in a
//! convolution that looks at one pixel.
//!
//! Feature maps are channels-last by definition of the operators; what is left to remove are the permutations that
//! importers and builders put at the edges of blocks.

use crate::{
    dim::Dim,
    error::Result,
    graph::{Graph, Node, Value},
    op::{Conv2d, Epilogue, Op},
    rewrite::{Rewrite, rewrite, sweep},
};

/// The pass.
pub fn layout(graph: &Graph) -> Result<Graph> {
    let merged = rewrite("layout", graph, |rewrite, _, node| match &node.op {
        Op::Permute(axes) => permute(rewrite, node, axes),
        Op::Reshape(shape) => {
            let source = skip_reshapes(&rewrite.new, rewrite.get(node.inputs[0]));
            if rewrite.new.shape(source) == shape {
                return Ok(Some(source));
            }
            rewrite.new.push(Op::Reshape(shape.clone()), &[source]).map(Some)
        }
        Op::Conv2d(conv, epilogue) => pointwise(rewrite, node, *conv, *epilogue),
        _ => Ok(None),
    })?;
    sweep(&merged)
}

/// A convolution with a kernel of size 1 that skips nothing is a linear layer over the channels.
fn pointwise(rewrite: &mut Rewrite<'_>, node: &Node, conv: Conv2d, epilogue: Epilogue) -> Result<Option<Value>> {
    let inputs: Vec<_> = node.inputs.iter().map(|&input| rewrite.get(input)).collect();
    let kernel = &rewrite.new.shape(inputs[1]).0[2..];
    let alone = kernel.iter().all(|size| *size == Dim::from(1));
    let plain = Conv2d { dilation: [1; 2], ..conv } == Conv2d::default();
    if !(alone && plain) {
        return Ok(None);
    }
    rewrite.new.push_typed(Op::Linear(epilogue), &inputs, node.signature.dtype).map(Some)
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
    fn only_convolutions_of_single_pixels_are_linear() {
        let linear = |kernel: usize, conv: Conv2d| {
            let mut graph = Graph::new();
            let x = graph.input("x", DType::F32, [Dim::from(1), "h".into(), "w".into(), 4.into()]);
            let weight = graph.weight("w", &[8, 4 / conv.groups, kernel, kernel]).unwrap();
            let y = graph.conv2d(x, weight, None, conv).unwrap();
            graph.output("y", y);
            let shape = graph.shape(y).clone();
            let clean = layout(&graph).unwrap();
            let result = clean.node(clean.outputs()[0].1);
            assert_eq!(result.signature.shape, shape);
            matches!(result.op, Op::Linear(_))
        };
        assert!(linear(1, Conv2d::default()));
        assert!(!linear(3, Conv2d::same(3)));
        assert!(!linear(1, Conv2d { stride: [2; 2], ..Conv2d::default() }));
        assert!(!linear(1, Conv2d { groups: 2, ..Conv2d::default() }));
        assert!(!linear(1, Conv2d { upsample: true, ..Conv2d::default() }));
        assert!(!linear(1, Conv2d::same(3)));
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
