//! The graph of one function, and the methods that build it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use crate::{
    dim::{Bindings, Condition, Dim, Real},
    dtype::DType,
    error::{Context, Result, fail},
    guard::Guard,
    infer::{Supposed, infer},
    ndarray::NDArray,
    op::{LoopId, Op, WeightId},
    origin::Origin,
    shape::Shape,
    signature::Signature,
};

/// A value of a graph: the result of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(crate) u32);

impl Value {
    /// Position of the node in [`Graph::nodes`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A name of the imported program, and the value that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name, such as `linear_2`.
    pub name: Arc<str>,
    /// The module that computes it in the program, such as `layers.0.attention`.
    pub scope: Arc<str>,
    /// Where it comes from, if it was imported: not always that of the value, which it may be but a view of.
    pub origin: Option<Arc<Origin>>,
    /// The value.
    pub value: Value,
    /// The program's dimension `i` is dimension `axes[i]` of the value: importers leave out transpositions.
    pub axes: Vec<usize>,
}

/// One operator with its inputs and what it yields.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// What it works on; always earlier in the list.
    pub inputs: Vec<Value>,
    /// Shape and type of the value.
    pub signature: Signature,
    /// The module that it stands for, such as `down_blocks.0.resnets.1`.
    pub scope: Arc<str>,
    /// Where it comes from, if it was imported.
    pub origin: Option<Arc<Origin>>,
}

/// A tensor of the checkpoint that the graph uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Its name in the checkpoint.
    pub path: Arc<str>,
    /// Its sizes in the checkpoint.
    pub shape: Vec<usize>,
}

/// A buffer that outlives the calls, such as a key-value cache.
#[derive(Clone, Debug)]
pub struct StateSlot {
    /// Its name.
    pub name: Arc<str>,
    /// Its shape and type.
    pub signature: Signature,
    /// The value it takes at the end of a call; none leaves it as it was.
    pub update: Option<Value>,
    /// What it holds before the first call; zeros if there is none.
    pub initial: Option<Arc<NDArray>>,
}

/// A loop of [`crate::Op::Loop`].
#[derive(Clone, Debug)]
pub struct Loop {
    /// Whether there is another turn: arguments are those of the loop, the result a truth value.
    pub condition: Graph,
    /// A turn: arguments are those of the loop, results what is carried.
    pub body: Graph,
    /// How many of the arguments are carried.
    pub carried: usize,
}

impl Loop {
    /// Shapes and types of the arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &Signature> {
        self.body.inputs().iter().map(|(_, value)| &self.body.node(*value).signature)
    }

    /// Where each carried value lies, and behind them how many bytes there are.
    #[must_use]
    pub fn offsets(&self) -> Vec<Dim> {
        let mut offsets = vec![Dim::from(0)];
        for signature in self.arguments().take(self.carried) {
            let bytes = &signature.shape.elements() * signature.dtype.size();
            let lines = (&bytes + 63).floor_div(64);
            let end = &offsets[offsets.len() - 1] + &lines * 64;
            offsets.push(end);
        }
        offsets
    }

    fn infer(&self, inputs: &[&Signature]) -> Result<Signature> {
        for graph in [&self.condition, &self.body] {
            let own: Vec<_> = graph.inputs().iter().map(|(_, value)| &graph.node(*value).signature).collect();
            if own != inputs {
                fail!(Shape, "a loop takes {own:?}, got {inputs:?}");
            }
        }
        let outputs = self.body.outputs().iter().map(|(_, value)| &self.body.node(*value).signature);
        if self.condition.outputs().len() != 1 || !outputs.eq(self.arguments().take(self.carried)) {
            fail!(Shape, "a turn of a loop does not yield what the next one takes");
        }
        Ok(Signature::new(self.offsets().pop().into_iter().collect::<Vec<_>>(), DType::U8))
    }
}

/// One function: nodes in an order in which they can run.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    inputs: Vec<(Arc<str>, Value)>,
    outputs: Vec<(Arc<str>, Value)>,
    weights: Vec<Weight>,
    states: Vec<StateSlot>,
    loops: Vec<Arc<Loop>>,
    weight_values: HashMap<Arc<str>, Value>,
    scope: Arc<str>,
    typical: Bindings,
    origin: Option<Arc<Origin>>,
    limits: BTreeMap<Arc<str>, [usize; 2]>,
    labels: BTreeMap<Arc<str>, Arc<str>>,
    guards: Vec<Guard>,
    settled: BTreeMap<Arc<str>, Real>,
    named: Vec<Named>,
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The nodes, in an order in which they can run.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The values with the nodes that yield them, in an order in which they can run.
    pub fn values(&self) -> impl Iterator<Item = (Value, &Node)> {
        (0..).map(Value).zip(&self.nodes)
    }

    /// The node that yields `value`.
    #[must_use]
    pub fn node(&self, value: Value) -> &Node {
        &self.nodes[value.index()]
    }

    /// The arguments, by name.
    #[must_use]
    pub fn inputs(&self) -> &[(Arc<str>, Value)] {
        &self.inputs
    }

    /// The results, by name.
    #[must_use]
    pub fn outputs(&self) -> &[(Arc<str>, Value)] {
        &self.outputs
    }

    /// The tensors of the checkpoint that are used.
    #[must_use]
    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// The states.
    #[must_use]
    pub fn states(&self) -> &[StateSlot] {
        &self.states
    }

    /// The weight behind `id`.
    #[must_use]
    pub fn weight_info(&self, id: WeightId) -> &Weight {
        &self.weights[id.0 as usize]
    }

    /// The loops that nodes run.
    #[must_use]
    pub fn loops(&self) -> &[Arc<Loop>] {
        &self.loops
    }

    /// The loop behind `id`.
    #[must_use]
    pub fn loop_info(&self, id: LoopId) -> &Arc<Loop> {
        &self.loops[id.0 as usize]
    }

    /// Adds every symbol that an operator of this graph speaks of to `names`, the graphs of its loops included.
    pub fn symbols(&self, op: &Op, names: &mut BTreeSet<Arc<str>>) {
        op.symbols(names);
        let Op::Loop(id) = op else { return };
        let inner = self.loop_info(*id);
        for graph in [&inner.condition, &inner.body] {
            for node in graph.nodes() {
                graph.symbols(&node.op, names);
                node.signature.shape.0.iter().for_each(|dim| dim.symbols(names));
            }
        }
    }

    /// The shape of `value`.
    #[must_use]
    pub fn shape(&self, value: Value) -> &Shape {
        &self.node(value).signature.shape
    }

    /// Dimension `axis` of `value`.
    ///
    /// # Panics
    /// If it has no such dimension.
    #[must_use]
    pub fn dim(&self, value: Value, axis: usize) -> Dim {
        self.shape(value).0[axis].clone()
    }

    /// Says which value of a symbol to expect: it decides nothing but what calls are made fast for.
    pub fn expect(&mut self, symbol: &str, size: usize) {
        self.typical.insert(symbol.into(), size);
    }

    /// The values of symbols that calls are likely to have.
    #[must_use]
    pub fn typical(&self) -> &Bindings {
        &self.typical
    }

    /// Expected sizes of all symbols; 1 for those of which nothing is known, such as a batch.
    #[must_use]
    pub fn typical_sizes(&self) -> Bindings {
        let mut symbols = BTreeSet::new();
        for (_, input) in &self.inputs {
            self.shape(*input).0.iter().for_each(|dim| dim.symbols(&mut symbols));
        }
        symbols.into_iter().map(|symbol| (symbol.clone(), self.typical.get(&symbol).copied().unwrap_or(1))).collect()
    }

    /// Names the module that the nodes to come stand for.
    pub fn enter(&mut self, scope: impl Into<Arc<str>>) {
        self.scope = scope.into();
    }

    /// Says where the nodes to come are imported from.
    pub fn trace(&mut self, origin: Option<Arc<Origin>>) {
        self.origin = origin;
    }

    /// Names of values in the program that the graph was imported from, in its order; a value may have several.
    ///
    /// Rewritten graphs keep the names of values that they still compute.
    #[must_use]
    pub fn named(&self) -> &[Named] {
        &self.named
    }

    /// Gives `value` a name in the scope last entered; dimension `i` of what is named is dimension `axes[i]` of the
    /// value.
    pub fn name(&mut self, name: impl Into<Arc<str>>, value: Value, axes: Vec<usize>) {
        let (scope, origin) = (self.scope.clone(), self.origin.clone());
        self.named.push(Named { name: name.into(), scope, origin, value, axes });
    }

    /// Carries a name over to `value` of this graph.
    pub fn rename(&mut self, named: &Named, value: Value) {
        self.named.push(Named { value, ..named.clone() });
    }

    /// Names what a call computes after the module and the operator, such as `mid.attn:linear_1`, if nothing has a
    /// name.
    pub fn name_all(&mut self) {
        if !self.named.is_empty() {
            return;
        }
        let mut counts = HashMap::<String, usize>::new();
        for (index, node) in (0..).zip(&self.nodes) {
            if matches!(node.op, Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_)) {
                continue;
            }
            let name = format!("{}:{}", node.scope, node.op.name());
            let count = counts.entry(name.clone()).or_default();
            let name = if *count == 0 { name } else { format!("{name}_{count}") };
            *count += 1;
            let (scope, origin) = (node.scope.clone(), node.origin.clone());
            let axes = (0..node.signature.shape.rank()).collect();
            self.named.push(Named { name: name.into(), scope, origin, value: Value(index), axes });
        }
    }

    /// The smallest and the largest value of symbols that have one.
    #[must_use]
    pub fn limits(&self) -> &BTreeMap<Arc<str>, [usize; 2]> {
        &self.limits
    }

    /// Refuses calls that bind `symbol` to less than `least` or more than `most`.
    pub fn limit(&mut self, symbol: &str, least: usize, most: usize) {
        self.limits.insert(symbol.into(), [least, most]);
    }

    /// What the imported program calls outputs, by their names here: `logits`, of a result that is a dictionary.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<Arc<str>, Arc<str>> {
        &self.labels
    }

    /// Says what the imported program calls an output.
    pub fn label(&mut self, output: &str, label: &str) {
        self.labels.insert(output.into(), label.into());
    }

    /// Arguments that always have the same value, which calls may leave out.
    #[must_use]
    pub fn settled_inputs(&self) -> &BTreeMap<Arc<str>, Real> {
        &self.settled
    }

    /// Names an argument that always has the same value: calls may leave it out, or hand in that number.
    pub fn settle_input(&mut self, name: &str, value: Real) {
        self.settled.insert(name.into(), value);
    }

    /// What else is asked of the sizes of a call.
    #[must_use]
    pub fn guards(&self) -> &[Guard] {
        &self.guards
    }

    /// Refuses calls with sizes for which the guard does not hold.
    pub fn guard(&mut self, guard: Guard) {
        let known = self.guards.iter().any(|known| known.condition == guard.condition);
        if !known && guard.condition != Condition::Known(true) {
            self.guards.push(guard);
        }
    }

    /// Makes sure that sizes are within the limits, and that the guards hold that speak of them alone.
    ///
    /// # Errors
    /// Names the first size or guard that is not.
    pub fn check(&self, bindings: &Bindings) -> Result<()> {
        for (symbol, &[least, most]) in &self.limits {
            match bindings.get(symbol) {
                Some(&size) if size < least || size > most => {
                    let to = if most == usize::MAX { "on".to_owned() } else { format!("to {most}") };
                    fail!(Shape, "the dimension `{symbol}` is {size}; the model was made for {least} {to}")
                }
                _ => {}
            }
        }
        self.guards.iter().try_for_each(|guard| guard.check(bindings))
    }

    fn insert(&mut self, op: Op, inputs: Vec<Value>, signature: Signature) -> Value {
        let value = Value(number(self.nodes.len()));
        let (scope, origin) = (self.scope.clone(), self.origin.clone());
        self.nodes.push(Node { op, inputs, signature, scope, origin });
        value
    }

    /// Adds a node, which takes the scope last entered.
    ///
    /// # Errors
    /// If the operator cannot take these inputs.
    pub fn push(&mut self, op: Op, inputs: &[Value]) -> Result<Value> {
        let mut supposed = Supposed::default();
        let signature = self.inferred(&op, inputs, &mut supposed).at(|| format!("{} ({op})", self.scope))?;
        if signature.shape.0.iter().any(|dim| !dim.is_small()) {
            fail!(Unsupported, "{} ({op}): sizes that depend on each other in too many ways", self.scope);
        }
        for [a, b] in supposed.pairs() {
            self.guard(Guard::equal(&format!("{}, {op}", self.scope), a, b));
        }
        Ok(self.insert(op, inputs.to_vec(), signature))
    }

    /// Shape and type of what an operator would make of these values.
    ///
    /// # Errors
    /// If the operator cannot take them.
    pub fn infer(&self, op: &Op, inputs: &[Value]) -> Result<Signature> {
        self.inferred(op, inputs, &mut Supposed::default())
    }

    fn inferred(&self, op: &Op, inputs: &[Value], supposed: &mut Supposed) -> Result<Signature> {
        let signatures: Vec<_> = inputs.iter().map(|&input| &self.node(input).signature).collect();
        match op {
            Op::Loop(id) => self.loop_info(*id).infer(&signatures),
            op => infer(op, &signatures, supposed),
        }
    }

    /// Adds a loop, which takes and yields what its graphs say.
    ///
    /// # Errors
    /// If the inputs are not the arguments of its graphs, or a turn does not yield what the next one takes.
    pub fn push_loop(&mut self, inner: Arc<Loop>, inputs: &[Value]) -> Result<Value> {
        let id = self.add_loop(inner);
        self.push(Op::Loop(id), inputs)
    }

    /// Lists a loop, which a node may then run.
    pub fn add_loop(&mut self, inner: Arc<Loop>) -> LoopId {
        let id = LoopId(number(self.loops.len()));
        // Its sizes are those around it.
        let guards = [&inner.condition, &inner.body].into_iter().flat_map(|graph| graph.guards.iter().cloned());
        guards.collect::<Vec<_>>().into_iter().for_each(|guard| self.guard(guard));
        self.loops.push(inner);
        id
    }

    /// Adds an argument.
    pub fn input(&mut self, name: &str, dtype: DType, shape: impl Into<Shape>) -> Value {
        let value = self.insert(Op::Input, Vec::new(), Signature { shape: shape.into(), dtype });
        self.inputs.push((name.into(), value));
        value
    }

    /// Names `value` a result.
    pub fn output(&mut self, name: &str, value: Value) {
        self.outputs.push((name.into(), value));
    }

    /// The tensor `path` of the checkpoint, as numbers of type F32 whatever the file holds.
    ///
    /// # Errors
    /// If the path was used before with another shape.
    pub fn weight(&mut self, path: &str, shape: &[usize]) -> Result<Value> {
        if let Some(&value) = self.weight_values.get(path) {
            if *self.shape(value) != Shape::from(shape) {
                fail!(Shape, "weight `{path}` is used with shapes {} and {shape:?}", self.shape(value));
            }
            return Ok(value);
        }
        let path: Arc<str> = path.into();
        let id = WeightId(number(self.weights.len()));
        self.weights.push(Weight { path: path.clone(), shape: shape.to_vec() });
        let signature = Signature { shape: shape.into(), dtype: DType::F32 };
        let value = self.insert(Op::Weight(id), Vec::new(), signature);
        self.weight_values.insert(path, value);
        Ok(value)
    }

    /// A tensor known now.
    pub fn constant(&mut self, array: impl Into<Arc<NDArray>>) -> Value {
        let array = array.into();
        let signature = Signature { shape: array.shape().into(), dtype: array.dtype() };
        self.insert(Op::Const(array), Vec::new(), signature)
    }

    /// A number known now, as a rank-0 F32.
    pub fn scalar(&mut self, value: f32) -> Value {
        self.constant(NDArray::scalar(value))
    }

    /// Adds a state and yields the value that it has when a call begins.
    pub fn state(&mut self, name: &str, dtype: DType, shape: impl Into<Shape>) -> Value {
        let signature = Signature { shape: shape.into(), dtype };
        let (name, signature_kept) = (name.into(), signature.clone());
        self.states.push(StateSlot { name, signature: signature_kept, update: None, initial: None });
        self.insert(Op::State(self.states.len() - 1), Vec::new(), signature)
    }

    /// Says what the state `name` holds before the first call.
    ///
    /// # Errors
    /// If there is no such state, or its shape or type differs.
    pub fn start_state(&mut self, name: &str, array: NDArray) -> Result<()> {
        let Some(slot) = self.states.iter_mut().find(|slot| &*slot.name == name) else {
            fail!(Missing, "there is no state `{name}`");
        };
        if slot.signature != (Signature { shape: array.shape().into(), dtype: array.dtype() }) {
            fail!(Shape, "state `{name}` has shape {}, its first value {:?}", slot.signature.shape, array.shape());
        }
        slot.initial = Some(Arc::new(array));
        Ok(())
    }

    /// Adds a state that nothing reads yet; passes carry states over with it.
    pub fn declare_state(&mut self, slot: &StateSlot) {
        self.states.push(StateSlot { update: None, ..slot.clone() });
    }

    /// The value that the state of this index has when a call begins.
    pub fn state_value(&mut self, index: usize) -> Value {
        let signature = self.states[index].signature.clone();
        self.insert(Op::State(index), Vec::new(), signature)
    }

    /// As [`Graph::push`], for an operator whose result is held in `dtype` whatever its inputs are.
    pub fn push_typed(&mut self, op: Op, inputs: &[Value], dtype: DType) -> Result<Value> {
        let value = self.push(op, inputs)?;
        self.nodes[value.index()].signature.dtype = dtype;
        Ok(value)
    }

    /// Makes `value` what the state `name` holds after a call.
    ///
    /// # Errors
    /// If there is no such state, or its shape or type differs.
    pub fn update_state(&mut self, name: &str, value: Value) -> Result<()> {
        let signature = self.node(value).signature.clone();
        let Some(slot) = self.states.iter_mut().find(|slot| &*slot.name == name) else {
            fail!(Missing, "there is no state `{name}`");
        };
        if slot.signature != signature {
            fail!(Shape, "state `{name}` has shape {}, its update {}", slot.signature.shape, signature.shape);
        }
        slot.update = Some(value);
        Ok(())
    }
}

/// The number of what is added to a list of `len` things.
#[expect(clippy::expect_used, reason = "memory ends before as many nodes, weights or loops are in it")]
fn number(len: usize) -> u32 {
    u32::try_from(len).expect("a graph has fewer than 2^32 nodes, weights and loops")
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, node) in self.nodes.iter().enumerate() {
            write!(f, "%{i}: {} {} = {}(", node.signature.dtype, node.signature.shape, node.op)?;
            for (j, input) in node.inputs.iter().enumerate() {
                write!(f, "{}%{}", if j == 0 { "" } else { ", " }, input.0)?;
            }
            write!(f, ")")?;
            if let Op::Weight(id) = node.op {
                write!(f, " {}", self.weight_info(id).path)?;
            }
            writeln!(f, "  # {}", node.scope)?;
        }
        for (name, value) in &self.outputs {
            writeln!(f, "return {name} = %{}", value.0)?;
        }
        Ok(())
    }
}
