//! Low rank: side branches of linear layers and convolutions, as adapters learn them (LoRA, Hu et al. 2021).
//!
//! A layer `y = W x` becomes `y = W x + scale * b (a x)`, whatever the format of `W`: its numbers are not touched. Of a
//! convolution `a` is one with the same window, and `b` one of single pixels.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    error::Result,
    graph::{Graph, Node, Value, Weight},
    op::{Conv2d, Epilogue, Op},
    rewrite::{Rewrite, rewrite},
};

/// What is added to the layers that a weight belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// The weight of the layer.
    pub weight: Arc<str>,
    /// The factor that `x` meets first; its shape is the first of [`factor_shapes`].
    pub a: Arc<str>,
    /// The other factor; its shape is the second of [`factor_shapes`].
    pub b: Arc<str>,
    /// Width between the two.
    pub rank: usize,
    /// What the branch is multiplied by.
    pub scale: f32,
}

/// The shapes of the factors of a branch beside a weight `[out, in, ..]`: `[rank, in, ..]` and `[out, rank, 1..]`.
#[must_use]
pub fn factor_shapes(weight: &[usize], rank: usize) -> [Vec<usize>; 2] {
    let (mut a, mut b) = (weight.to_vec(), vec![1; weight.len()]);
    if let ([first, ..], [out, between, ..]) = (&mut a[..], &mut b[..]) {
        *out = *first;
        *between = rank;
        *first = rank;
    }
    [a, b]
}

/// The weight of a layer that can have a branch: its bias is all that is added to the product.
fn weight_of<'a>(graph: &'a Graph, node: &Node) -> Option<&'a Weight> {
    let epilogue = match &node.op {
        Op::Linear(epilogue) => epilogue,
        Op::Conv2d(conv, epilogue) if conv.groups == 1 => epilogue,
        _ => return None,
    };
    let plain = *epilogue == Epilogue { bias: epilogue.bias, ..Epilogue::default() };
    match graph.node(*node.inputs.get(1)?).op {
        Op::Weight(id) if plain => Some(graph.weight_info(id)),
        _ => None,
    }
}

/// The weights of a graph that can have branches, by name.
#[must_use]
pub fn layers(graph: &Graph) -> BTreeSet<Arc<str>> {
    let weights = graph.nodes().iter().filter_map(|node| weight_of(graph, node));
    weights.map(|weight| weight.path.clone()).collect()
}

/// The graph with branches beside its layers, in their order; those beside no layer of it change nothing.
///
/// # Errors
/// If the graph has a weight of the name of a factor, and another shape.
pub fn low_rank(graph: &Graph, branches: &[Branch]) -> Result<Graph> {
    rewrite("low rank", graph, |rewrite, _, node| {
        let Some(weight) = weight_of(graph, node) else { return Ok(None) };
        let own: Vec<_> = branches.iter().filter(|branch| branch.weight == weight.path).collect();
        if own.is_empty() {
            return Ok(None);
        }
        let inputs: Vec<_> = node.inputs.iter().map(|&input| rewrite.get(input)).collect();
        let product = rewrite.new.push(node.op.clone(), &inputs)?;
        own.into_iter().try_fold(product, |sum, branch| add(rewrite, sum, inputs[0], node, weight, branch)).map(Some)
    })
}

/// `sum` and what a branch makes of `x`.
fn add(
    rewrite: &mut Rewrite<'_>,
    sum: Value,
    x: Value,
    node: &Node,
    weight: &Weight,
    branch: &Branch,
) -> Result<Value> {
    let new = &mut rewrite.new;
    let [a, b] = factor_shapes(&weight.shape, branch.rank);
    let (a, b) = (new.weight(&branch.a, &a)?, new.weight(&branch.b, &b)?);
    let mut between = match &node.op {
        Op::Conv2d(conv, _) => new.conv2d(x, a, None, *conv)?,
        _ => new.linear(x, a, None)?,
    };
    if branch.scale != 1.0 {
        between = new.affine(between, branch.scale, 0.0)?;
    }
    let change = match &node.op {
        Op::Conv2d(..) => new.conv2d(between, b, None, Conv2d::same(1))?,
        _ => new.linear(between, b, None)?,
    };
    new.add(sum, change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dtype::DType, op::Activation};

    fn branch(weight: &str, index: usize, scale: f32) -> Branch {
        let name = |part| format!("{weight}.{index}.{part}").into();
        Branch { weight: weight.into(), a: name("a"), b: name("b"), rank: 3, scale }
    }

    fn names(graph: &Graph) -> Vec<&str> {
        let computed = graph.nodes().iter().filter(|node| !node.inputs.is_empty());
        computed.map(|node| node.op.name()).collect()
    }

    #[test]
    fn each_branch_is_two_products_beside_its_layer() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [2, 4]);
        let (first, second) = (graph.weight("first", &[6, 4]).unwrap(), graph.weight("second", &[5, 6]).unwrap());
        let bias = graph.weight("bias", &[6]).unwrap();
        let h = graph.linear(x, first, Some(bias)).unwrap();
        let y = graph.linear(h, second, None).unwrap();
        graph.output("y", y);
        assert_eq!(layers(&graph).iter().map(|path| &**path).collect::<Vec<_>>(), ["first", "second"]);
        let changed = low_rank(&graph, &[branch("first", 0, 1.0), branch("first", 1, 0.5)]).unwrap();
        let one = ["linear", "linear", "add"];
        let two = ["linear", "affine", "linear", "add"];
        assert_eq!(names(&changed), [&["linear"][..], &one, &two, &["linear"]].concat(), "{changed}");
        let shape = |path: &str| &changed.weights().iter().find(|weight| &*weight.path == path).unwrap().shape;
        assert_eq!((shape("first.1.a"), shape("first.1.b")), (&vec![3, 4], &vec![6, 3]));
        assert_eq!(names(&low_rank(&graph, &[branch("third", 0, 1.0)]).unwrap()), ["linear", "linear"]);
    }

    #[test]
    fn a_branch_of_a_convolution_has_its_window_and_stride() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [1, 8, 8, 4]);
        let weight = graph.weight("conv", &[6, 4, 3, 3]).unwrap();
        let y = graph.conv2d(x, weight, None, Conv2d { stride: [2, 2], ..Conv2d::same(3) }).unwrap();
        let y = graph.activation(Activation::Silu, y).unwrap();
        graph.output("y", y);
        let changed = low_rank(&graph, &[branch("conv", 0, 1.0)]).unwrap();
        assert_eq!(names(&changed), ["conv2d", "conv2d", "conv2d", "add", "activation"], "{changed}");
        assert_eq!(factor_shapes(&[6, 4, 3, 3], 2), [vec![2, 4, 3, 3], vec![6, 2, 1, 1]]);
    }
}
