//! Share: computes once what several nodes compute alike.

use std::collections::HashMap;

use crate::{
    dtype::DType,
    error::Result,
    graph::{Graph, Value},
    op::Op,
    rewrite::rewrite,
};

/// What nodes that compute alike have in common: name, inputs, element type and [`content`].
type Key = (String, Vec<Value>, DType, Option<blake3::Hash>);

/// A hash of the elements of a constant: constants have no inputs that would tell them apart, and comparing each with
/// all others would take the square of their number.
fn content(op: &Op) -> Option<blake3::Hash> {
    match op {
        Op::Const(array) => Some(blake3::hash(array.bytes())),
        _ => None,
    }
}

/// The pass.
pub fn share(graph: &Graph) -> Result<Graph> {
    let mut known = HashMap::<Key, Vec<Value>>::new();
    rewrite("share", graph, |rewrite, value, node| {
        if matches!(node.op, Op::Input | Op::Weight(_) | Op::State(_) | Op::Loop(_)) {
            return Ok(None);
        }
        let inputs = node.inputs.iter().map(|&input| rewrite.get(input)).collect();
        let key = (node.op.name().to_owned(), inputs, node.signature.dtype, content(&node.op));
        let alike = known.entry(key).or_default();
        let same = |other: &&Value| {
            let other = rewrite.new.node(**other);
            other.op == node.op && other.signature.shape == node.signature.shape
        };
        if let Some(&first) = alike.iter().find(same) {
            return Ok(Some(first));
        }
        let new = rewrite.keep(value)?;
        alike.push(new);
        Ok(Some(new))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ndarray::NDArray, op::Activation};

    #[test]
    fn equal_nodes_are_one_and_others_stay() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [2, 3]);
        let (a, b) = (graph.scalar(2.0), graph.scalar(2.0));
        let twice = [a, b].map(|two| graph.mul(x, two).unwrap());
        let y = twice.map(|twice| graph.activation(Activation::Silu, twice).unwrap());
        let z = graph.activation(Activation::Relu, twice[0]).unwrap();
        let sum = graph.add(y[0], y[1]).unwrap();
        let sum = graph.add(sum, z).unwrap();
        graph.output("sum", sum);
        let shared = share(&graph).unwrap();
        let count = |name: &str| shared.nodes().iter().filter(|node| node.op.name() == name).count();
        assert_eq!([count("const"), count("mul"), count("activation"), count("add")], [1, 1, 2, 2], "{shared}");
    }

    #[test]
    fn constants_are_told_apart_by_what_they_hold() {
        let array = |shape: &[usize], numbers: [f32; 2]| NDArray::new(shape, &numbers).unwrap();
        let arrays =
            [array(&[2], [1.0, 2.0]), array(&[2], [1.0, 2.0]), array(&[2], [2.0, 1.0]), array(&[1, 2], [1.0, 2.0])];
        let hash = |array: &NDArray| content(&Op::Const(array.clone().into()));
        assert_eq!(hash(&arrays[0]), hash(&arrays[1]));
        assert_ne!(hash(&arrays[0]), hash(&arrays[2]));
        let mut graph = Graph::new();
        for (i, array) in arrays.into_iter().enumerate() {
            let value = graph.constant(array);
            graph.output(&i.to_string(), value);
        }
        assert_eq!(share(&graph).unwrap().nodes().len(), 3);
    }

    #[test]
    fn what_differs_in_type_or_attributes_is_not_shared() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [4]);
        let parts = [0, 1].map(|start| graph.slice(x, 0, start, start + 2).unwrap());
        let casts = [DType::I32, DType::I64].map(|dtype| graph.cast(parts[0], dtype).unwrap());
        parts.iter().chain(&casts).enumerate().for_each(|(i, &value)| graph.output(&i.to_string(), value));
        assert_eq!(share(&graph).unwrap().nodes().len(), graph.nodes().len());
    }
}
