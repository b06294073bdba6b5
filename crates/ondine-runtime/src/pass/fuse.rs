//! Fuse: lets an operator do to its result, while it is at hand, what the next operators would read it again for.
//!
//! - activation after linear, convolution or group normalization
//! - gated linear unit after linear
//! - addition of a value of the same shape after linear or convolution (the residual connection)

use ondine_graph::{
    Activation, Binary, Epilogue, Graph, Node, Op, Origin, Result, Unary, Value,
    rewrite::{Rewrite, rewrite, uses},
};

/// The pass.
pub(crate) fn fuse(graph: &Graph) -> Result<Graph> {
    let activated = fuse_activations(graph)?;
    fuse_residuals(&activated)
}

fn fuse_activations(graph: &Graph) -> Result<Graph> {
    let uses = uses(graph);
    rewrite("fuse activations", graph, |rewrite, _, node| {
        let (activation, gate) = match node.op {
            Op::Unary(Unary::Activation(activation)) => (activation, false),
            Op::Glu(activation) => (activation, true),
            _ => return Ok(None),
        };
        let producer = node.inputs[0];
        if uses[producer.index()] != 1 {
            return Ok(None);
        }
        let op = match &graph.node(producer).op {
            Op::Linear(epilogue) => with_activation(*epilogue, activation, gate).map(Op::Linear),
            Op::Conv2d(conv, epilogue) if !gate => {
                with_activation(*epilogue, activation, gate).map(|epilogue| Op::Conv2d(*conv, epilogue))
            }
            Op::GroupNorm { groups, eps, activation: Activation::None } if !gate => {
                Some(Op::GroupNorm { groups: *groups, eps: *eps, activation })
            }
            _ => None,
        };
        replace(rewrite, [graph.node(producer), node], op, &[])
    })
}

fn with_activation(epilogue: Epilogue, activation: Activation, gate: bool) -> Option<Epilogue> {
    let free = epilogue.activation == Activation::None && !epilogue.gate && !epilogue.residual;
    free.then_some(Epilogue { activation, gate, ..epilogue })
}

fn fuse_residuals(graph: &Graph) -> Result<Graph> {
    let uses = uses(graph);
    rewrite("fuse residuals", graph, |rewrite, _, node| {
        if !matches!(node.op, Op::Binary(Binary::Add)) {
            return Ok(None);
        }
        // The later operand: what the earlier one holds must be there when the fused operator runs.
        let (earlier, later) = match node.inputs[..] {
            [a, b] if a < b => (a, b),
            [a, b] if a > b => (b, a),
            _ => return Ok(None),
        };
        let producer = graph.node(later);
        let same = graph.node(earlier).signature == producer.signature;
        if !same || uses[later.index()] != 1 {
            return Ok(None);
        }
        let op = match &producer.op {
            Op::Linear(epilogue) => with_residual(*epilogue).map(Op::Linear),
            Op::Conv2d(conv, epilogue) => with_residual(*epilogue).map(|e| Op::Conv2d(*conv, e)),
            _ => None,
        };
        replace(rewrite, [producer, node], op, &[earlier])
    })
}

fn with_residual(epilogue: Epilogue) -> Option<Epilogue> {
    (!epilogue.residual).then_some(Epilogue { residual: true, ..epilogue })
}

/// Adds `op` with the inputs of `producer` and `more`, in the producer's scope; it also does what `node` did.
fn replace(
    rewrite: &mut Rewrite<'_>,
    [producer, node]: [&Node; 2],
    op: Option<Op>,
    more: &[Value],
) -> Result<Option<Value>> {
    let Some(op) = op else { return Ok(None) };
    let inputs: Vec<_> = producer.inputs.iter().chain(more).map(|&input| rewrite.get(input)).collect();
    rewrite.new.enter(producer.scope.clone());
    rewrite.new.trace(Origin::fuse(producer.origin.as_ref(), node.origin.as_ref()));
    rewrite.new.push(op, &inputs).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondine_graph::DType;

    fn linear(graph: &mut Graph) -> (Value, Value) {
        let x = graph.input("x", DType::F32, [2, 3]);
        let weight = graph.weight("w", &[3, 3]).unwrap();
        (x, graph.linear(x, weight, None).unwrap())
    }

    fn last(graph: &Graph) -> &Op {
        &graph.nodes().last().unwrap().op
    }

    #[test]
    fn activation_and_residual_become_an_epilogue() {
        let mut graph = Graph::new();
        let (x, y) = linear(&mut graph);
        let y = graph.activation(Activation::Silu, y).unwrap();
        let y = graph.add(y, x).unwrap();
        graph.output("y", y);
        let fused = ondine_graph::rewrite::sweep(&fuse(&graph).unwrap()).unwrap();
        let wanted = Epilogue { activation: Activation::Silu, residual: true, ..Epilogue::default() };
        assert!(matches!(last(&fused), Op::Linear(epilogue) if *epilogue == wanted), "{fused}");
        assert_eq!(fused.nodes().len(), 3);
    }

    #[test]
    fn names_and_origins_tell_what_is_left_and_what_it_does() {
        let origin = |name: &str| {
            let (op, node) = ("aten".into(), name.into());
            Some(std::sync::Arc::new(Origin { op, node, stack: Vec::new(), modules: Vec::new(), fused: Vec::new() }))
        };
        let mut graph = Graph::new();
        graph.trace(origin("linear"));
        let (x, y) = linear(&mut graph);
        graph.name("linear", y, vec![0, 1]);
        graph.trace(origin("silu"));
        let y = graph.activation(Activation::Silu, y).unwrap();
        graph.name("silu", y, vec![0, 1]);
        graph.name("t", y, vec![1, 0]);
        graph.trace(origin("add"));
        let y = graph.add(y, x).unwrap();
        graph.name("add", y, vec![0, 1]);
        graph.output("y", y);
        let fused = ondine_graph::rewrite::sweep(&fuse(&graph).unwrap()).unwrap();
        let names: Vec<_> = fused.named().iter().map(|named| (&*named.name, named.value)).collect();
        assert_eq!(names, [("add", fused.outputs()[0].1)], "{fused}");
        assert_eq!(fused.nodes().last().unwrap().origin.as_ref().unwrap().names(), "linear+silu+add");
    }

    #[test]
    fn a_gate_becomes_an_epilogue_but_an_activation_after_it_does_not() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [2, 3]);
        let (weight, bias) = (graph.weight("w", &[6, 3]).unwrap(), graph.weight("b", &[6]).unwrap());
        let y = graph.linear(x, weight, Some(bias)).unwrap();
        let y = graph.glu(y, Activation::Gelu).unwrap();
        let z = graph.activation(Activation::Silu, y).unwrap();
        graph.output("z", z);
        let fused = ondine_graph::rewrite::sweep(&fuse(&graph).unwrap()).unwrap();
        let gated = Epilogue { bias: true, activation: Activation::Gelu, gate: true, residual: false };
        assert!(fused.nodes().iter().any(|node| matches!(node.op, Op::Linear(e) if e == gated)), "{fused}");
        assert!(matches!(last(&fused), Op::Unary(_)), "{fused}");
    }

    #[test]
    fn a_value_that_is_used_twice_stays() {
        let mut graph = Graph::new();
        let (_, y) = linear(&mut graph);
        let z = graph.activation(Activation::Silu, y).unwrap();
        graph.output("y", y);
        graph.output("z", z);
        assert!(matches!(last(&fuse(&graph).unwrap()), Op::Unary(_)));
    }

    #[test]
    fn activation_after_a_residual_stays() {
        let mut graph = Graph::new();
        let (x, y) = linear(&mut graph);
        let y = graph.add(x, y).unwrap();
        let y = graph.activation(Activation::Relu, y).unwrap();
        graph.output("y", y);
        assert!(matches!(last(&fuse(&graph).unwrap()), Op::Unary(_)));
    }
}
