//! A graph as data: its nodes in order, with where they come from.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    dim::Real,
    dtype::DType,
    error::{Context, Result, fail},
    folder::check::{Level, check},
    graph::{Graph, Loop, Named, Node, StateSlot, Value},
    guard::Guard,
    ndarray::{NDArray, element_count},
    op::Op,
    origin::{Frame, Origin},
    shape::Shape,
    signature::Signature,
};

/// More elements than a weight can have.
const MAX_WEIGHT: usize = 1 << 42;

/// The constants of graphs, equal ones once; files name them by their position.
#[derive(Default)]
pub struct Constants {
    arrays: Vec<Arc<NDArray>>,
    known: HashMap<blake3::Hash, usize>,
}

impl Constants {
    /// All of them, in the order of their numbers.
    #[must_use]
    pub fn arrays(&self) -> &[Arc<NDArray>] {
        &self.arrays
    }

    fn add(&mut self, array: &Arc<NDArray>) -> usize {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{} {:?}", array.dtype(), array.shape()).as_bytes());
        let hash = hasher.update(array.bytes()).finalize();
        *self.known.entry(hash).or_insert_with(|| {
            self.arrays.push(array.clone());
            self.arrays.len() - 1
        })
    }
}

/// One function in a file.
#[derive(Serialize, Deserialize)]
pub struct StoredGraph {
    states: Vec<StoredState>,
    nodes: Vec<StoredNode>,
    outputs: Vec<(Arc<str>, usize)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    expected: BTreeMap<Arc<str>, usize>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<Arc<str>, [usize; 2]>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<Arc<str>, Arc<str>>,
    /// What else is asked of sizes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    guards: Vec<Guard>,
    /// Arguments that always have the same value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    settled: BTreeMap<Arc<str>, Real>,
    /// Names of values in the imported program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    named: Vec<StoredName>,
    /// Where nodes come from: many share one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    origins: Vec<StoredOrigin>,
    /// Lines of programs: many origins share one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    frames: Vec<Frame>,
}

#[derive(Serialize, Deserialize)]
struct StoredState {
    name: Arc<str>,
    dtype: DType,
    shape: Shape,
    #[serde(skip_serializing_if = "Option::is_none")]
    update: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial: Option<usize>,
}

#[derive(Serialize, Deserialize)]
struct StoredNode {
    node: Kind,
    #[serde(rename = "in", default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<usize>,
    /// If the value is held in another type than inference yields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dtype: Option<DType>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    scope: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<usize>,
}

#[derive(Serialize, Deserialize)]
struct StoredName {
    name: Arc<str>,
    value: usize,
    /// If they are not those of the value in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    axes: Option<Vec<usize>>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    scope: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Input {
        name: Arc<str>,
        dtype: DType,
        shape: Shape,
    },
    Weight {
        path: Arc<str>,
        shape: Vec<usize>,
    },
    State(usize),
    Constant(usize),
    /// Both graphs take what the node takes.
    Loop {
        condition: Box<StoredGraph>,
        body: Box<StoredGraph>,
        carried: usize,
    },
    Op(Op),
}

impl Kind {
    fn takes_inputs(&self) -> bool {
        matches!(self, Self::Loop { .. } | Self::Op(_))
    }

    /// The operator of a node that takes inputs.
    fn op(&self, graph: &mut Graph, constants: &[Arc<NDArray>]) -> Result<Op> {
        // Loops run as they are imported: no pass reaches into them.
        let inner = |graph: &StoredGraph| {
            let graph = graph.build(constants, Level::Portable)?;
            if !graph.weights().is_empty() || !graph.states().is_empty() {
                fail!(Format, "a loop with weights or states of its own");
            }
            Ok(graph)
        };
        match self {
            Self::Op(op) => Ok(op.clone()),
            Self::Loop { condition, body, carried } => {
                let (condition, body) = (inner(condition).at(|| "condition")?, inner(body).at(|| "turn")?);
                Ok(Op::Loop(graph.add_loop(Arc::new(Loop { condition, body, carried: *carried }))))
            }
            _ => fail!(Format, "inputs where there can be none"),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StoredOrigin {
    op: Arc<str>,
    node: Arc<str>,
    stack: Vec<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    modules: Vec<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fused: Vec<StoredOrigin>,
}

/// Gives equal things one number.
struct Numbers<T>(HashMap<T, usize>);

impl<T: std::hash::Hash + Eq> Numbers<T> {
    /// The number of `key`, which is new if the second is true.
    fn of(&mut self, key: T) -> (usize, bool) {
        let next = self.0.len();
        let number = *self.0.entry(key).or_insert(next);
        (number, number == next)
    }
}

impl StoredGraph {
    /// What a file holds of `graph`, whose constants join the others of the file.
    ///
    /// # Errors
    /// If an argument has no name.
    pub fn new(graph: &Graph, constants: &mut Constants) -> Result<Self> {
        let mut stored = Self {
            states: Vec::new(),
            nodes: Vec::with_capacity(graph.nodes().len()),
            outputs: graph.outputs().iter().map(|(name, value)| (name.clone(), value.index())).collect(),
            expected: graph.typical().clone(),
            limits: graph.limits().clone(),
            labels: graph.labels().clone(),
            guards: graph.guards().to_vec(),
            settled: graph.settled_inputs().clone(),
            named: Vec::new(),
            origins: Vec::new(),
            frames: Vec::new(),
        };
        for slot in graph.states() {
            let Signature { shape, dtype } = slot.signature.clone();
            let initial = slot.initial.as_ref().map(|array| constants.add(array));
            let update = slot.update.map(Value::index);
            stored.states.push(StoredState { name: slot.name.clone(), dtype, shape, update, initial });
        }
        let mut frames = Numbers(HashMap::new());
        let mut origins = Numbers(HashMap::new());
        let names: HashMap<Value, &Arc<str>> = graph.inputs().iter().map(|(name, value)| (*value, name)).collect();
        for (value, node) in graph.values() {
            let origin = stored.origin(node.origin.as_ref(), &mut origins, &mut frames);
            let Signature { shape, dtype } = node.signature.clone();
            let kind = match &node.op {
                Op::Input => {
                    let Some(name) = names.get(&value) else { fail!(Unsupported, "an argument without a name") };
                    Kind::Input { name: (*name).clone(), dtype, shape }
                }
                Op::Weight(id) => {
                    let weight = graph.weight_info(*id);
                    Kind::Weight { path: weight.path.clone(), shape: weight.shape.clone() }
                }
                Op::State(slot) => Kind::State(*slot),
                Op::Const(array) => Kind::Constant(constants.add(array)),
                Op::Loop(id) => {
                    let inner = graph.loop_info(*id);
                    let graph = |graph: &Graph, constants: &mut Constants| Self::new(graph, constants).map(Box::new);
                    let (condition, body) = (graph(&inner.condition, constants)?, graph(&inner.body, constants)?);
                    Kind::Loop { condition, body, carried: inner.carried }
                }
                op => Kind::Op(op.clone()),
            };
            let dtype = kind.takes_inputs().then(|| held(graph, node)).transpose()?.flatten();
            let inputs = node.inputs.iter().map(|input| input.index()).collect();
            stored.nodes.push(StoredNode { node: kind, inputs, dtype, scope: node.scope.clone(), origin });
        }
        for Named { name, scope, origin, value, axes } in graph.named() {
            let origin = stored.origin(origin.as_ref(), &mut origins, &mut frames);
            let axes = Some(axes.clone()).filter(|axes| !axes.iter().copied().eq(0..axes.len()));
            let (name, scope) = (name.clone(), scope.clone());
            stored.named.push(StoredName { name, value: value.index(), axes, scope, origin });
        }
        Ok(stored)
    }

    /// The number of an origin, which is stored if it is new.
    fn origin(
        &mut self,
        origin: Option<&Arc<Origin>>,
        known: &mut Numbers<*const Origin>,
        frames: &mut Numbers<Frame>,
    ) -> Option<usize> {
        let origin = origin?;
        let (number, new) = known.of(Arc::as_ptr(origin));
        if new {
            self.origins.push(store_origin(origin, frames, &mut self.frames));
        }
        Some(number)
    }

    /// Builds the graph again; `constants` are those of its file.
    ///
    /// # Errors
    /// Names the first node that no builder could have made.
    pub fn build(&self, constants: &[Arc<NDArray>], level: Level<'_>) -> Result<Graph> {
        let mut graph = Graph::new();
        for slot in &self.states {
            graph.declare_state(&slot.build(constants).at(|| format!("state `{}`", slot.name))?);
        }
        unique("state", self.states.iter().map(|slot| &slot.name))?;
        let origins = self.origins()?;
        for (symbol, &size) in &self.expected {
            graph.expect(symbol, size);
        }
        for (symbol, &[least, most]) in &self.limits {
            graph.limit(symbol, least, most);
        }
        for (output, label) in &self.labels {
            graph.label(output, label);
        }
        for guard in &self.guards {
            if !guard.condition.is_small() {
                fail!(Format, "the guard `{}` is too long", guard.text);
            }
            graph.guard(guard.clone());
        }
        for (index, node) in self.nodes.iter().enumerate() {
            graph.enter(node.scope.clone());
            graph.trace(origin(&origins, node.origin).at(|| format!("node {index}"))?);
            node.build(&mut graph, constants, level).at(|| format!("node {index}"))?;
        }
        for named in &self.named {
            named.build(&mut graph, &origins).at(|| format!("name `{}`", named.name))?;
        }
        unique("input", graph.inputs().iter().map(|(name, _)| name))?;
        unique("result", self.outputs.iter().map(|(name, _)| name))?;
        for (name, index) in &self.outputs {
            let value = value(&graph, *index).at(|| format!("result `{name}`"))?;
            graph.output(name, value);
        }
        for slot in &self.states {
            if let Some(index) = slot.update {
                let value = value(&graph, index).at(|| format!("state `{}`", slot.name))?;
                graph.update_state(&slot.name, value)?;
            }
        }
        Ok(graph)
    }

    fn origins(&self) -> Result<Vec<Arc<Origin>>> {
        self.origins.iter().map(|origin| origin.build(&self.frames)).collect()
    }
}

impl StoredName {
    fn build(&self, graph: &mut Graph, origins: &[Arc<Origin>]) -> Result<()> {
        let value = value(graph, self.value)?;
        let rank = graph.shape(value).rank();
        let axes = self.axes.clone().unwrap_or_else(|| (0..rank).collect());
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..rank) {
            fail!(Format, "{axes:?} is no order of {rank} dimensions");
        }
        graph.enter(self.scope.clone());
        graph.trace(origin(origins, self.origin)?);
        graph.name(self.name.clone(), value, axes);
        Ok(())
    }
}

/// The origin of a number.
fn origin(origins: &[Arc<Origin>], number: Option<usize>) -> Result<Option<Arc<Origin>>> {
    match number.map(|number| origins.get(number)) {
        Some(None) => fail!(Format, "an origin that is not listed"),
        origin => Ok(origin.flatten().cloned()),
    }
}

impl StoredOrigin {
    fn build(&self, frames: &[Frame]) -> Result<Arc<Origin>> {
        let frame = |&index: &usize| match frames.get(index) {
            Some(frame) => Ok(frame.clone()),
            None => fail!(Format, "`{}` comes from a line that is not listed", self.node),
        };
        let stack = self.stack.iter().map(frame).collect::<Result<_>>()?;
        let fused = self.fused.iter().map(|origin| origin.build(frames)).collect::<Result<_>>()?;
        let (op, node, modules) = (self.op.clone(), self.node.clone(), self.modules.clone());
        Ok(Arc::new(Origin { op, node, stack, modules, fused }))
    }
}

fn store_origin(origin: &Origin, numbers: &mut Numbers<Frame>, frames: &mut Vec<Frame>) -> StoredOrigin {
    let stack = origin.stack.iter().map(|frame| {
        let (number, new) = numbers.of(frame.clone());
        if new {
            frames.push(frame.clone());
        }
        number
    });
    let stack = stack.collect();
    let fused = origin.fused.iter().map(|origin| store_origin(origin, numbers, frames)).collect();
    let (op, node, modules) = (origin.op.clone(), origin.node.clone(), origin.modules.clone());
    StoredOrigin { op, node, stack, modules, fused }
}

/// The type that a value is held in, if it is not what inference yields.
fn held(graph: &Graph, node: &Node) -> Result<Option<DType>> {
    let inferred = graph.infer(&node.op, &node.inputs)?;
    Ok(Some(node.signature.dtype).filter(|&dtype| dtype != inferred.dtype))
}

fn value(graph: &Graph, index: usize) -> Result<Value> {
    match u32::try_from(index) {
        Ok(number) if index < graph.nodes().len() => Ok(Value(number)),
        _ => fail!(Format, "value {index} does not come before"),
    }
}

fn unique<'a>(what: &str, mut names: impl Iterator<Item = &'a Arc<str>>) -> Result<()> {
    let mut seen = HashSet::new();
    match names.find(|name| !seen.insert(*name)) {
        Some(name) => fail!(Format, "there are two of {what} `{name}`"),
        None => Ok(()),
    }
}

fn constant(constants: &[Arc<NDArray>], index: usize) -> Result<&Arc<NDArray>> {
    match constants.get(index) {
        Some(array) => Ok(array),
        None => fail!(Format, "constant {index} is missing"),
    }
}

impl StoredState {
    fn build(&self, constants: &[Arc<NDArray>]) -> Result<StateSlot> {
        let signature = Signature { shape: self.shape.clone(), dtype: self.dtype };
        let initial = self.initial.map(|index| constant(constants, index)).transpose()?;
        if let Some(array) = initial
            && signature != Signature::new(array.shape(), array.dtype())
        {
            fail!(Shape, "shape {} does not fit its first value {array:?}", self.shape);
        }
        let initial = initial.cloned();
        Ok(StateSlot { name: self.name.clone(), signature, update: None, initial })
    }
}

impl StoredNode {
    fn build(&self, graph: &mut Graph, constants: &[Arc<NDArray>], level: Level<'_>) -> Result<()> {
        let next = graph.nodes().len();
        let new = match &self.node {
            Kind::Input { name, dtype, shape } => graph.input(name, *dtype, shape.clone()),
            Kind::Weight { path, shape } if element_count(shape).is_some_and(|count| count < MAX_WEIGHT) => {
                graph.weight(path, shape)?
            }
            Kind::Weight { path, shape } => fail!(Format, "weight `{path}` of shape {shape:?} is too large"),
            Kind::State(slot) if *slot < graph.states().len() => graph.state_value(*slot),
            Kind::State(slot) => fail!(Format, "state {slot} is not listed"),
            Kind::Constant(index) => graph.constant(constant(constants, *index)?.clone()),
            Kind::Loop { .. } | Kind::Op(_) => {
                let op = self.node.op(graph, constants)?;
                let inputs = self.inputs.iter().map(|&input| value(graph, input)).collect::<Result<Vec<_>>>()?;
                let new = match self.dtype {
                    Some(dtype) => graph.push_typed(op.clone(), &inputs, dtype)?,
                    None => graph.push(op.clone(), &inputs)?,
                };
                check(graph, new, level).at(|| format!("{} ({op})", self.scope))?;
                new
            }
        };
        if new.index() != next || !self.inputs.is_empty() && !self.node.takes_inputs() {
            fail!(Format, "the same weight twice, or inputs where there can be none");
        }
        Ok(())
    }
}
