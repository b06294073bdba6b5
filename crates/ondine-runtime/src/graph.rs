//! The graph of one function, and the methods that build it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    dim::{Bindings, Dim, Shape},
    dtype::DType,
    error::{Context, Result, fail},
    infer::{Signature, infer},
    ndarray::NDArray,
    op::{Activation, Attention, Binary, Conv2d, Epilogue, Op, Reduce, Resample, Unary, WeightId},
};

/// Expressions of sizes nest no deeper than this, so that walking them takes little stack.
const MAX_DEPTH: usize = 128;

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

/// A line of the program that a node was written in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// The source file.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u32,
    /// The function that the line is in.
    pub function: Arc<str>,
    /// The text of the line, if it was recorded.
    pub text: Arc<str>,
}

impl Frame {
    /// The file with its last folder, and the line: `models/resnet.py:150`.
    #[must_use]
    pub fn place(&self) -> String {
        let parts: Vec<&str> = self.file.rsplit(['/', '\\']).take(2).collect();
        format!("{}:{}", parts.into_iter().rev().collect::<Vec<_>>().join("/"), self.line)
    }

    fn is_torch(&self) -> bool {
        let file = self.file.replace('\\', "/");
        file.starts_with("torch/") || file.contains("-packages/torch/") || file.contains("/torch/nn/modules/")
    }
}

/// Where a node of an imported graph comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The operator that was imported, such as `aten.linear.default`.
    pub op: Arc<str>,
    /// The name of the imported node.
    pub node: Arc<str>,
    /// The calls that led to it, outermost first.
    pub stack: Vec<Frame>,
    /// The calls of modules that it is part of, outermost first: paths such as `layers.0`, and `layers.0@1` in the
    /// second call of the same module.
    pub modules: Vec<Arc<str>>,
    /// Other imported nodes that a pass has made part of this one, in the order in which they would run.
    pub fused: Vec<Arc<Origin>>,
}

impl Origin {
    /// The line to look at: the innermost one that is not PyTorch's own.
    #[must_use]
    pub fn line(&self) -> Option<&Frame> {
        self.stack.iter().rev().find(|frame| !frame.is_torch()).or(self.stack.last())
    }

    /// Names of the imported nodes, the fused ones joined with `+`.
    #[must_use]
    pub fn names(&self) -> String {
        let names: Vec<&str> =
            std::iter::once(self).chain(self.fused.iter().map(|fused| &**fused)).map(|o| &*o.node).collect();
        names.join("+")
    }

    /// What a node comes from that does the work of two: of `first`, and of `second` upon its result.
    pub(crate) fn fuse(first: Option<&Arc<Self>>, second: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let (Some(first), Some(second)) = (first, second) else { return first.or(second).cloned() };
        let mut parts = vec![first.clone()];
        parts.extend(first.fused.iter().chain([second]).chain(&second.fused).cloned());
        let mut known = BTreeSet::new();
        parts.retain(|part| known.insert(part.node.clone()));
        let fused = parts.split_off(1).into_iter();
        let fused = fused.map(|part| Arc::new(Self { fused: Vec::new(), ..(*part).clone() })).collect();
        Some(Arc::new(Self { fused, ..(**first).clone() }))
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

/// One function: nodes in an order in which they can run.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    inputs: Vec<(Arc<str>, Value)>,
    outputs: Vec<(Arc<str>, Value)>,
    weights: Vec<Weight>,
    states: Vec<StateSlot>,
    weight_values: HashMap<Arc<str>, Value>,
    scope: Arc<str>,
    typical: Bindings,
    origin: Option<Arc<Origin>>,
    limits: BTreeMap<Arc<str>, [usize; 2]>,
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
    pub(crate) fn typical_sizes(&self) -> Bindings {
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

    /// Gives `value` a name in the scope last entered; dimension `i` of what is named is dimension `axes[i]` of the value.
    pub fn name(&mut self, name: impl Into<Arc<str>>, value: Value, axes: Vec<usize>) {
        let (scope, origin) = (self.scope.clone(), self.origin.clone());
        self.named.push(Named { name: name.into(), scope, origin, value, axes });
    }

    /// Carries a name over to `value` of this graph.
    pub(crate) fn rename(&mut self, named: &Named, value: Value) {
        self.named.push(Named { value, ..named.clone() });
    }

    /// Names what a call computes after the module and the operator, such as `mid.attn:linear_1`, if nothing has a name.
    pub(crate) fn name_all(&mut self) {
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

    fn insert(&mut self, op: Op, inputs: Vec<Value>, signature: Signature) -> Value {
        let value = Value(u32::try_from(self.nodes.len()).expect("a graph has fewer than 2^32 nodes"));
        let (scope, origin) = (self.scope.clone(), self.origin.clone());
        self.nodes.push(Node { op, inputs, signature, scope, origin });
        value
    }

    /// Adds a node, which takes the scope last entered.
    ///
    /// # Errors
    /// If the operator cannot take these inputs.
    pub fn push(&mut self, op: Op, inputs: &[Value]) -> Result<Value> {
        let signatures: Vec<_> = inputs.iter().map(|&input| &self.node(input).signature).collect();
        let signature = infer(&op, &signatures).at(|| format!("{} ({op})", self.scope))?;
        if signature.shape.0.iter().any(|dim| dim.depth() > MAX_DEPTH) {
            fail!(Unsupported, "{} ({op}): sizes that depend on each other more than {MAX_DEPTH} deep", self.scope);
        }
        Ok(self.insert(op, inputs.to_vec(), signature))
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
        let id = WeightId(u32::try_from(self.weights.len()).expect("a graph has fewer than 2^32 weights"));
        self.weights.push(Weight { path: path.clone(), shape: shape.to_vec() });
        let signature = Signature { shape: shape.into(), dtype: DType::F32 };
        let value = self.insert(Op::Weight(id), Vec::new(), signature);
        self.weight_values.insert(path, value);
        Ok(value)
    }

    /// A tensor known now.
    pub fn constant(&mut self, array: NDArray) -> Value {
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
    pub(crate) fn declare_state(&mut self, slot: &StateSlot) {
        self.states.push(StateSlot { update: None, ..slot.clone() });
    }

    /// The value that the state of this index has when a call begins.
    pub(crate) fn state_value(&mut self, index: usize) -> Value {
        let signature = self.states[index].signature.clone();
        self.insert(Op::State(index), Vec::new(), signature)
    }

    /// As [`Graph::push`], for an operator whose result is held in `dtype` whatever its inputs are.
    pub(crate) fn push_typed(&mut self, op: Op, inputs: &[Value], dtype: DType) -> Result<Value> {
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

/// One method per operator; see [`Op`] for what each computes. All fail if the shapes do not fit.
#[expect(clippy::missing_errors_doc, reason = "said once above")]
impl Graph {
    /// `a + b`, broadcast.
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value> {
        self.push(Op::Binary(Binary::Add), &[a, b])
    }

    /// `a * b`, broadcast.
    pub fn mul(&mut self, a: Value, b: Value) -> Result<Value> {
        self.push(Op::Binary(Binary::Mul), &[a, b])
    }

    /// Any operator of two numbers, broadcast.
    pub fn binary(&mut self, op: Binary, a: Value, b: Value) -> Result<Value> {
        self.push(Op::Binary(op), &[a, b])
    }

    /// Any operator of one number.
    pub fn unary(&mut self, op: Unary, x: Value) -> Result<Value> {
        self.push(Op::Unary(op), &[x])
    }

    /// An activation function.
    pub fn activation(&mut self, activation: Activation, x: Value) -> Result<Value> {
        match activation {
            Activation::None => Ok(x),
            _ => self.unary(Unary::Activation(activation), x),
        }
    }

    /// `scale * x + offset`
    pub fn affine(&mut self, x: Value, scale: f32, offset: f32) -> Result<Value> {
        self.unary(Unary::Affine { scale, offset }, x)
    }

    /// `x` as another element type.
    pub fn cast(&mut self, x: Value, dtype: DType) -> Result<Value> {
        if self.node(x).signature.dtype == dtype { Ok(x) } else { self.push(Op::Cast(dtype), &[x]) }
    }

    /// `x` under another shape.
    pub fn reshape(&mut self, x: Value, shape: impl Into<Shape>) -> Result<Value> {
        self.push(Op::Reshape(shape.into()), &[x])
    }

    /// `x` with its dimensions in another order.
    pub fn permute(&mut self, x: Value, axes: &[usize]) -> Result<Value> {
        self.push(Op::Permute(axes.to_vec()), &[x])
    }

    /// `x[start..end]` along `axis`.
    pub fn slice(&mut self, x: Value, axis: usize, start: impl Into<Dim>, end: impl Into<Dim>) -> Result<Value> {
        self.push(Op::Slice { axis, start: start.into(), end: end.into() }, &[x])
    }

    /// `parts`, one after the other along `axis`.
    pub fn concat(&mut self, parts: &[Value], axis: usize) -> Result<Value> {
        self.push(Op::Concat { axis }, parts)
    }

    /// Rows of `table` by integer `indices`.
    pub fn gather(&mut self, table: Value, indices: Value) -> Result<Value> {
        self.push(Op::Gather, &[table, indices])
    }

    /// `x` folded along `axes`.
    pub fn reduce(&mut self, how: Reduce, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
        self.push(Op::Reduce { how, axes: axes.to_vec(), keep }, &[x])
    }

    /// Softmax over the last dimension.
    pub fn softmax(&mut self, x: Value) -> Result<Value> {
        self.push(Op::Softmax, &[x])
    }

    /// Layer normalization over the last dimension.
    pub fn layer_norm(&mut self, x: Value, weight: Value, bias: Value, eps: f32) -> Result<Value> {
        self.push(Op::LayerNorm { eps }, &[x, weight, bias])
    }

    /// Group normalization, channels last.
    pub fn group_norm(&mut self, x: Value, weight: Value, bias: Value, groups: usize, eps: f32) -> Result<Value> {
        self.push(Op::GroupNorm { groups, eps, activation: Activation::None }, &[x, weight, bias])
    }

    /// `x` times the transposed `weight`, plus `bias`.
    pub fn linear(&mut self, x: Value, weight: Value, bias: Option<Value>) -> Result<Value> {
        let epilogue = Epilogue { bias: bias.is_some(), ..Epilogue::default() };
        let inputs: Vec<_> = [x, weight].into_iter().chain(bias).collect();
        self.push(Op::Linear(epilogue), &inputs)
    }

    /// Convolution, channels last.
    pub fn conv2d(&mut self, x: Value, weight: Value, bias: Option<Value>, conv: Conv2d) -> Result<Value> {
        let epilogue = Epilogue { bias: bias.is_some(), ..Epilogue::default() };
        let inputs: Vec<_> = [x, weight].into_iter().chain(bias).collect();
        self.push(Op::Conv2d(conv, epilogue), &inputs)
    }

    /// Scaled dot-product attention; `mask` must be there exactly if `attention.mask` asks for one.
    pub fn attention(&mut self, attention: Attention, qkv: [Value; 3], mask: Option<Value>) -> Result<Value> {
        let inputs: Vec<_> = qkv.into_iter().chain(mask).collect();
        self.push(Op::Attention(attention), &inputs)
    }

    /// The first half of the last dimension times the activated second half.
    pub fn glu(&mut self, x: Value, activation: Activation) -> Result<Value> {
        self.push(Op::Glu(activation), &[x])
    }

    /// `x` (channels last) at another height and width.
    pub fn resize(&mut self, x: Value, how: Resample, height: Dim, width: Dim) -> Result<Value> {
        self.push(Op::Resize { how, height, width }, &[x])
    }

    /// Feature maps `[batch, channels, height, width]` as this engine holds them, channels last.
    pub fn channels_last(&mut self, x: Value) -> Result<Value> {
        self.permute(x, &[0, 2, 3, 1])
    }

    /// The inverse of [`Graph::channels_last`].
    pub fn channels_first(&mut self, x: Value) -> Result<Value> {
        self.permute(x, &[0, 3, 1, 2])
    }
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
