//! A whole graph, node by node.

use std::{collections::BTreeMap, sync::Arc};

use ondine_graph::{Bindings, Context, DType, Dim, Error, ErrorKind, Graph, Loop, Node, Op, Result, Value};
use ondine_runtime::{Precision, backend::Identity};

use crate::{
    evaluate::evaluate,
    index::rows,
    number::Real,
    tensor::{Tensor, misfit},
};

/// What a device may round beside the results of operations.
#[derive(Clone, Copy, Debug)]
pub struct Rounding {
    /// The type in which it may hold every floating-point number.
    pub held: DType,
    /// True if it may round to 8 bits what large layers and attention multiply.
    pub eight_bit: bool,
}

impl Default for Rounding {
    fn default() -> Self {
        Self { held: DType::F32, eight_bit: false }
    }
}

impl Rounding {
    /// What a device may round at a precision.
    #[must_use]
    pub fn new(identity: &Identity, precision: Precision) -> Self {
        Self { held: identity.dtype(precision), eight_bit: precision == Precision::Int8 }
    }
}

/// What a graph works on.
#[derive(Clone, Debug)]
pub struct Arguments<R> {
    /// Tensors of the checkpoint, by name.
    pub weights: BTreeMap<Arc<str>, Tensor<R>>,
    /// Arguments, by name.
    pub inputs: BTreeMap<Arc<str>, Tensor<R>>,
    /// States that are not zero, by name.
    pub states: BTreeMap<Arc<str>, Tensor<R>>,
}

impl<R> Default for Arguments<R> {
    fn default() -> Self {
        Self { weights: BTreeMap::new(), inputs: BTreeMap::new(), states: BTreeMap::new() }
    }
}

/// What a graph yields.
#[derive(Clone, Debug)]
pub struct Outcome<R> {
    /// Results, by name.
    pub outputs: BTreeMap<Arc<str>, Tensor<R>>,
    /// States that were updated, by name.
    pub states: BTreeMap<Arc<str>, Tensor<R>>,
}

/// Evaluates every node of `graph` in order; with [`crate::Bounded`] errors grow by what a device may round.
///
/// # Errors
/// If the arguments do not fit, or as [`evaluate`].
pub fn evaluate_graph<R: Real>(graph: &Graph, arguments: &Arguments<R>, rounding: Rounding) -> Result<Outcome<R>> {
    let bindings = bind(graph, arguments)?;
    graph.check(&bindings)?;
    let mut run = Run { graph, arguments, rounding, bindings, values: Vec::new() };
    for node in graph.nodes() {
        let value = run.node(node).at(|| format!("{} ({})", node.scope, node.op))?;
        run.values.push(value);
    }
    let value = |value: Value| run.values[value.index()].clone();
    Ok(Outcome {
        outputs: graph.outputs().iter().map(|(name, result)| (name.clone(), value(*result))).collect(),
        states: graph.states().iter().filter_map(|slot| Some((slot.name.clone(), value(slot.update?)))).collect(),
    })
}

/// What the sizes of the arguments bind.
fn bind<R: Real>(graph: &Graph, arguments: &Arguments<R>) -> Result<Bindings> {
    let mut bindings = Bindings::new();
    for (name, value) in graph.inputs() {
        let tensor = find(&arguments.inputs, name)?;
        for (dim, &size) in graph.shape(*value).0.iter().zip(tensor.shape()) {
            if let Some((symbol, size)) = dim.solve(size)? {
                bindings.entry(symbol.clone()).or_insert(size);
            }
        }
    }
    Ok(bindings)
}

fn find<'a, R>(tensors: &'a BTreeMap<Arc<str>, Tensor<R>>, name: &str) -> Result<&'a Tensor<R>> {
    tensors.get(name).ok_or_else(|| Error::new(ErrorKind::Missing, format!("there is no `{name}`")))
}

/// A graph under way.
struct Run<'a, R> {
    graph: &'a Graph,
    arguments: &'a Arguments<R>,
    rounding: Rounding,
    bindings: Bindings,
    values: Vec<Tensor<R>>,
}

impl<R: Real> Run<'_, R> {
    fn node(&mut self, node: &Node) -> Result<Tensor<R>> {
        let shape = node.signature.shape.bind(&self.bindings)?;
        let tensor = match &node.op {
            Op::Input => self.argument()?,
            Op::Weight(id) => find(&self.arguments.weights, &self.graph.weight_info(*id).path)?.clone(),
            Op::Const(array) => Tensor::from_array(array),
            Op::State(slot) => self.state(*slot, node.signature.dtype, &shape)?,
            Op::Loop(id) => {
                let inputs: Vec<_> = node.inputs.iter().map(|input| &self.values[input.index()]).collect();
                run_loop(self.graph.loop_info(*id), &inputs)?
            }
            op => self.operator(&op.bind(&self.bindings)?, node, &shape)?,
        };
        if let Op::Measure { size, most } = &node.op {
            let most = most.bind(&self.bindings)?;
            let count = tensor.integers()?.first().copied().unwrap_or_default();
            self.measure(size, count, most)?;
        }
        if tensor.shape() != shape {
            return Err(misfit(format!("shape {:?}, wanted {shape:?}", tensor.shape())));
        }
        // Everything may be held in the faster type.
        Ok(tensor.held(self.rounding.held))
    }

    /// The argument that belongs to the node to come.
    fn argument(&self) -> Result<Tensor<R>> {
        let own = self.graph.inputs().iter().find(|(_, value)| value.index() == self.values.len());
        own.map_or_else(
            || Err(misfit("an argument without a name".into())),
            |(name, _)| find(&self.arguments.inputs, name),
        )
        .cloned()
    }

    fn state(&self, slot: usize, dtype: DType, shape: &[usize]) -> Result<Tensor<R>> {
        let slot = &self.graph.states()[slot];
        if let Some(state) = self.arguments.states.get(&slot.name) {
            return Ok(state.clone());
        }
        match &slot.initial {
            Some(array) => Ok(Tensor::from_array(array)),
            None => Ok(Tensor::from_bytes(dtype, shape, &vec![0; shape.iter().product::<usize>() * dtype.size()])),
        }
    }

    fn operator(&self, op: &Op, node: &Node, shape: &[usize]) -> Result<Tensor<R>> {
        let mut inputs: Vec<Tensor<R>> = node.inputs.iter().map(|input| self.values[input.index()].clone()).collect();
        if let (Op::Attention(_), true) = (op, self.rounding.held != DType::F32) {
            // What goes into the product of the weights and the values is of the values' type.
            inputs[2] = inputs[2].typed(self.rounding.held)?;
        }
        if self.rounding.eight_bit {
            quantize(op, &mut inputs)?;
        }
        evaluate(op, &inputs.iter().collect::<Vec<_>>(), (node.signature.dtype, shape))
    }

    /// Binds a size that the data decides.
    fn measure(&mut self, size: &Dim, count: i64, most: usize) -> Result<()> {
        let Ok(count) = usize::try_from(count) else { return Err(misfit(format!("{count} elements"))) };
        if count > most {
            let message = format!("{size} is {count}, but memory is planned for {most}");
            return Err(Error::new(ErrorKind::Memory, message));
        }
        if let Some((symbol, value)) = size.solve(count)? {
            self.bindings.entry(symbol.clone()).or_insert(value);
        }
        self.graph.check(&self.bindings)?;
        match size.bind(&self.bindings)? {
            known if known == count => Ok(()),
            known => Err(misfit(format!("{size} is {count}, was {known}"))),
        }
    }
}

/// The fewest channels in and out of a layer that is quantized.
const FEWEST_CHANNELS: usize = 32;

/// What a device of 8 bits makes of the operands of large layers and of attention: each number is off by half a step of
/// its row's scale; near the ends of the range by a whole one, because zero is a step, too.
fn quantize<R: Real>(op: &Op, inputs: &mut [Tensor<R>]) -> Result<()> {
    let large = |inputs: &[Tensor<R>]| inputs[1].shape()[..2].iter().all(|&channels| channels >= FEWEST_CHANNELS);
    match op {
        Op::Linear(_) if large(inputs) => weighted(inputs, rows(inputs[0].shape()).1),
        // One scale for all that taps of one product may come from.
        Op::Conv2d(conv, _) if conv.groups == 1 && large(inputs) => {
            let image = inputs[0].shape()[1..].iter().product();
            weighted(inputs, image)
        }
        Op::Attention(attention) => {
            let head = rows(inputs[0].shape()).1 / attention.heads;
            inputs[0] = stepped(&inputs[0], head, 254.0)?;
            // What is taken from all keys before is as large as they are.
            inputs[1] = stepped(&inputs[1], inputs[1].elements().len(), 127.0)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The operands of a layer whose input has a scale for each `width` elements.
fn weighted<R: Real>(inputs: &mut [Tensor<R>], width: usize) -> Result<()> {
    let channels: usize = inputs[1].shape().iter().skip(1).product();
    inputs[0] = stepped(&inputs[0], width, 255.0)?;
    // Scales of weights are rounded up to f16.
    inputs[1] = stepped(&inputs[1], channels, 254.0 / 1.001)?;
    Ok(())
}

/// Numbers that are off by a part of the range of each row with zero.
fn stepped<R: Real>(x: &Tensor<R>, width: usize, parts: f64) -> Result<Tensor<R>> {
    let range = |row: &[R]| {
        let size = |x: &R| (x.value().min(0.0) - x.error(), x.value().max(0.0) + x.error());
        let all = row.iter().map(size).fold((0.0_f64, 0.0_f64), |(a, b), (low, high)| (a.min(low), b.max(high)));
        (all.1 - all.0).max(all.1.max(-all.0))
    };
    let steps: Vec<f64> = x.reals()?.chunks(width.max(1)).map(|row| range(row) / parts).collect();
    Ok(x.off(|at| steps[at / width]))
}

/// Turns as long as the condition holds; what is carried at the end, as bytes, each value from a multiple of 64 on.
fn run_loop<R: Real>(inner: &Loop, inputs: &[&Tensor<R>]) -> Result<Tensor<R>> {
    let mut carried: Vec<Tensor<R>> = inputs.iter().map(|&input| input.clone()).collect();
    while turn(&inner.condition, &carried)?.first().is_some_and(|truth| truth.is_true(0)) {
        let next = turn(&inner.body, &carried)?;
        carried.splice(..inner.carried, next);
    }
    let mut bytes = Vec::new();
    for tensor in &carried[..inner.carried] {
        bytes.extend(tensor.to_bytes());
        bytes.resize(bytes.len().next_multiple_of(64), 0);
    }
    let bytes: Vec<i64> = bytes.into_iter().map(i64::from).collect();
    Tensor::integer(DType::U8, &[bytes.len()], bytes)
}

/// The results of a graph without weights and states, in order.
fn turn<R: Real>(graph: &Graph, inputs: &[Tensor<R>]) -> Result<Vec<Tensor<R>>> {
    let names = graph.inputs().iter().map(|(name, _)| name.clone());
    let arguments = Arguments { inputs: names.zip(inputs.iter().cloned()).collect(), ..Arguments::default() };
    let outcome = evaluate_graph(graph, &arguments, Rounding::default())?;
    graph.outputs().iter().map(|(name, _)| find(&outcome.outputs, name).cloned()).collect()
}
