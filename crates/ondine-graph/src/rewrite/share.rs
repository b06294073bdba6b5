//! Share: computes once what several nodes compute alike.

use std::collections::HashMap;

use crate::{
    dtype::DType,
    error::Result,
    graph::{Graph, Value},
    op::Op,
    rewrite::rewrite,
};

/// The pass.
pub fn share(graph: &Graph) -> Result<Graph> {
    let mut known = HashMap::<(String, Vec<Value>, DType), Vec<Value>>::new();
    rewrite("share", graph, |rewrite, value, node| {
        if matches!(node.op, Op::Input | Op::Weight(_) | Op::State(_) | Op::Loop(_)) {
            return Ok(None);
        }
        let inputs = node.inputs.iter().map(|&input| rewrite.get(input)).collect();
        let alike = known.entry((node.op.name().to_owned(), inputs, node.signature.dtype)).or_default();
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
    use crate::op::Activation;

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
    fn what_differs_in_type_or_attributes_is_not_shared() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [4]);
        let parts = [0, 1].map(|start| graph.slice(x, 0, start, start + 2).unwrap());
        let casts = [DType::I32, DType::I64].map(|dtype| graph.cast(parts[0], dtype).unwrap());
        parts.iter().chain(&casts).enumerate().for_each(|(i, &value)| graph.output(&i.to_string(), value));
        assert_eq!(share(&graph).unwrap().nodes().len(), graph.nodes().len());
    }
}
