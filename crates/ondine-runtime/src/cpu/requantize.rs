//! Requantize: products of codes do to their results, while these are at hand, what the program does to them next on
//! the way to other codes: rounding, an activation, adding, rounding again, storing as codes.

use ondine_graph::{
    Binary, DType, Graph, Node, Op, Origin, Result, Signature, Unary, Value,
    rewrite::{Rewrite, rewrite, share::share, sweep, uses},
};

use ondine_kernels::MOST_ZERO;

use super::native::{CpuOp, Finish, Steps};

/// The pass.
pub(super) fn requantize(graph: &Graph) -> Result<Graph> {
    let codes = |node: &Node| matches!(own(node), Some(CpuOp::LinearCodes(..) | CpuOp::ConvCodes(..)));
    if !graph.nodes().iter().any(codes) {
        return Ok(graph.clone());
    }
    let graph = sweep(&decode_twice(graph)?)?;
    let graph = sweep(&into_products(&graph, "round results", rounds)?)?;
    let graph = sweep(&into_products(&graph, "activate results", activates)?)?;
    let graph = sweep(&add_residuals(&graph)?)?;
    share(&sweep(&into_products(&graph, "store codes", stores)?)?)
}

fn own(node: &Node) -> Option<CpuOp> {
    match &node.op {
        Op::Native(native) => CpuOp::of(native).ok(),
        _ => None,
    }
}

/// The one number of a value that is known.
fn number(graph: &Graph, value: Value) -> Option<f32> {
    match &graph.node(value).op {
        Op::Const(array) if array.len() == 1 => array.to_f32().first().copied().filter(|number| number.is_finite()),
        _ => None,
    }
}

/// The steps that a node rounds to, whose numbers are its inputs from the second on.
fn steps(graph: &Graph, node: &Node) -> Option<Steps> {
    let (ends, moved_first, shift) = match own(node)? {
        CpuOp::Encode { ends, moved_first, shift } => (ends, moved_first, shift),
        CpuOp::Round { ends, moved_first } => (ends, moved_first, 0.0),
        _ => return None,
    };
    let [inverse, zero] = [number(graph, *node.inputs.get(1)?)?, number(graph, *node.inputs.get(2)?)?];
    let scale = node.inputs.get(3).map_or(Some(1.0), |&scale| number(graph, scale))?;
    let in_reach = zero.fract() == 0.0 && zero.abs() <= MOST_ZERO;
    in_reach.then_some(Steps { inverse, zero, scale, ends, moved_first, shift })
}

/// Numbers that are rounded both to codes and to what these stand for are read from the codes.
fn decode_twice(graph: &Graph) -> Result<Graph> {
    let encoded = |round: &Node| {
        let wanted = steps(graph, round)?;
        graph.values().map(|(value, _)| value).find(|&value| {
            let node = graph.node(value);
            let same = |steps: Steps| Steps { scale: wanted.scale, shift: 0.0, ..steps } == wanted;
            let fits = |steps: &Steps| {
                let ends = steps.ends.map(|end| end + steps.shift);
                let held = if node.signature.dtype == DType::U8 { [0.0, 255.0] } else { [-128.0, 127.0] };
                held[0] <= ends[0] && ends[1] <= held[1]
            };
            matches!(own(node), Some(CpuOp::Encode { .. }))
                && node.inputs[0] == round.inputs[0]
                && steps(graph, node).is_some_and(|steps| fits(&steps) && same(steps))
        })
    };
    rewrite("numbers of codes", graph, |rewrite, _, node| {
        if !matches!(own(node), Some(CpuOp::Round { .. })) {
            return Ok(None);
        }
        let (Some(codes), Some(wanted)) = (encoded(node), steps(graph, node)) else { return Ok(None) };
        // The codes may come later in the old graph than what is rounded: they are made here, and shared.
        let made = graph.node(codes);
        let shift = steps(graph, made).map_or(0.0, |steps| steps.shift);
        let inputs = [rewrite.get(node.inputs[0]), rewrite.new.scalar(wanted.inverse), rewrite.new.scalar(wanted.zero)];
        let made = rewrite.new.push(made.op.clone(), &inputs)?;
        let (scale, zero) = (rewrite.new.scalar(wanted.scale), rewrite.new.scalar(wanted.zero + shift));
        rewrite.new.push(CpuOp::Decode.op(node.signature.clone())?, &[made, scale, zero]).map(Some)
    })
    .and_then(|graph| share(&graph))
}

/// A product of codes that also does what a node after it does, if it can.
type Joined = fn(&Graph, CpuOp, &Node) -> Option<CpuOp>;

/// Lets products of codes, whose results nothing else reads, do what `joined` says of the node after them.
fn into_products(graph: &Graph, name: &'static str, joined: Joined) -> Result<Graph> {
    let uses = uses(graph);
    rewrite(name, graph, |rewrite, _, node| {
        let Some(&producer) = node.inputs.first().filter(|producer| uses[producer.index()] == 1) else {
            return Ok(None);
        };
        let Some(op) = own(graph.node(producer)).and_then(|product| joined(graph, product, node)) else {
            return Ok(None);
        };
        replace(rewrite, [graph.node(producer), node], op)
    })
}

/// Lets products of codes, whose results nothing else reads, add to these what the program adds to them.
fn add_residuals(graph: &Graph) -> Result<Graph> {
    let uses = uses(graph);
    rewrite("add to results", graph, |rewrite, _, node| {
        let (Op::Binary(Binary::Add), &[a, b]) = (&node.op, &node.inputs[..]) else { return Ok(None) };
        for (producer, residual) in [(a, b), (b, a)] {
            let product = graph.node(producer);
            let Some((op, (epilogue, end))) = own(product).and_then(|op| Some((op, finish(op)?))) else { continue };
            let free = !epilogue.residual && !epilogue.gate && end.stored.is_none() && uses[producer.index()] == 1;
            if !free || graph.node(residual).signature != product.signature || product.signature != node.signature {
                continue;
            }
            // Before scale and zero, which are the last.
            let mut inputs: Vec<_> = product.inputs.iter().map(|&input| rewrite.get(input)).collect();
            inputs.insert(inputs.len() - 2, rewrite.get(residual));
            let op = ending(op, ondine_graph::Epilogue { residual: true, ..epilogue }, end);
            rewrite.new.enter(product.scope.clone());
            rewrite.new.trace(Origin::fuse(product.origin.as_ref(), node.origin.as_ref()));
            return rewrite.new.push(op.op(node.signature.clone())?, &inputs).map(Some);
        }
        Ok(None)
    })
}

fn replace(rewrite: &mut Rewrite<'_>, [producer, node]: [&Node; 2], op: CpuOp) -> Result<Option<Value>> {
    let inputs: Vec<_> = producer.inputs.iter().map(|&input| rewrite.get(input)).collect();
    rewrite.new.enter(producer.scope.clone());
    rewrite.new.trace(Origin::fuse(producer.origin.as_ref(), node.origin.as_ref()));
    let result = Signature::new(producer.signature.shape.clone(), node.signature.dtype);
    rewrite.new.push(op.op(result)?, &inputs).map(Some)
}

/// How a product of codes ends.
fn finish(op: CpuOp) -> Option<(ondine_graph::Epilogue, Finish)> {
    match op {
        CpuOp::LinearCodes(epilogue, finish) | CpuOp::ConvCodes(_, epilogue, finish) => Some((epilogue, finish)),
        _ => None,
    }
}

/// The product with another end.
fn ending(op: CpuOp, epilogue: ondine_graph::Epilogue, finish: Finish) -> CpuOp {
    match op {
        CpuOp::LinearCodes(..) => CpuOp::LinearCodes(epilogue, finish),
        CpuOp::ConvCodes(conv, ..) => CpuOp::ConvCodes(conv, epilogue, finish),
        other => other,
    }
}

fn rounds(graph: &Graph, product: CpuOp, node: &Node) -> Option<CpuOp> {
    let (epilogue, end) = finish(product)?;
    let bare = epilogue.activation == ondine_graph::Activation::None && !epilogue.gate && !epilogue.residual;
    let rounds = matches!(own(node), Some(CpuOp::Round { .. })) && bare && end == Finish::default();
    let rounded = rounds.then(|| steps(graph, node)).flatten()?;
    Some(ending(product, epilogue, Finish { rounded: Some(rounded), ..end }))
}

fn activates(_: &Graph, product: CpuOp, node: &Node) -> Option<CpuOp> {
    let (epilogue, end) = finish(product)?;
    let Op::Unary(Unary::Activation(activation)) = node.op else { return None };
    let free = epilogue.activation == ondine_graph::Activation::None && !epilogue.gate && !epilogue.residual;
    let epilogue = ondine_graph::Epilogue { activation, ..epilogue };
    (free && end.stored.is_none()).then(|| ending(product, epilogue, end))
}

fn stores(graph: &Graph, product: CpuOp, node: &Node) -> Option<CpuOp> {
    let (epilogue, end) = finish(product)?;
    let stores = matches!(own(node), Some(CpuOp::Encode { .. })) && end.stored.is_none();
    let stored = stores.then(|| steps(graph, node)).flatten()?;
    Some(ending(product, epilogue, Finish { stored: Some(stored), ..end }))
}
