//! Recipes: weights that are computed from those of a checkpoint before they are packed, as data.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    dtype::DType,
    error::{Result, fail},
    graph::{Graph, Node, Value, Weight},
    op::Op,
    signature::Signature,
    weights::{Tensor, Weights},
};

/// True if an operator can run before weights are packed.
#[must_use]
pub fn is_evaluable(op: &Op) -> bool {
    match op {
        Op::Input
        | Op::State(_)
        | Op::Range { .. }
        | Op::Loop(_)
        | Op::Measure { .. }
        | Op::Assert { .. }
        | Op::Native(_) => false,
        // Their weights are packed.
        Op::Linear(_) | Op::Conv2d(..) | Op::Attention(_) => false,
        Op::Weight(_) | Op::Const(_) | Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Cast(_) | Op::Bits(_) => true,
        Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) | Op::Slice { .. } | Op::Concat { .. } | Op::Pad { .. } => true,
        Op::Rotate { .. }
        | Op::Gather
        | Op::TakeRow
        | Op::Take { .. }
        | Op::Scatter(_)
        | Op::ArgMax
        | Op::ArgSort { .. } => true,
        Op::Reduce { .. } | Op::Softmax | Op::Scan { .. } | Op::Glu(_) | Op::Unpack { .. } => true,
        Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::GroupNorm { .. } | Op::Recurrent { .. } => true,
        Op::MatMul { .. } | Op::GroupedMatMul { .. } | Op::Solve | Op::Cholesky | Op::Determinant => true,
        Op::Resize { .. } | Op::Interpolate { .. } | Op::Pool(_) | Op::Suppress { .. } | Op::Regions(_) => true,
    }
}

/// How a weight is computed.
#[derive(Clone, Debug)]
pub struct Recipe {
    shape: Vec<usize>,
    /// A graph without arguments and with one result.
    graph: Arc<Graph>,
}

impl Recipe {
    /// The recipe that a graph is.
    ///
    /// # Errors
    /// If the graph is no recipe, or takes tensors that `weights` do not hold.
    pub fn new(graph: Graph, weights: &Weights) -> Result<Self> {
        let runs = |node: &Node| is_evaluable(&node.op) && node.signature.shape.fixed().is_some();
        let [(_, result)] = graph.outputs() else { fail!(Format, "a derived weight has one result") };
        let Signature { shape, dtype } = &graph.node(*result).signature;
        let shape = shape.fixed().filter(|_| *dtype == DType::F32 && graph.nodes().iter().all(runs));
        let Some(shape) = shape else { fail!(Format, "a derived weight that cannot be computed") };
        for weight in graph.weights() {
            weights.expect(&weight.path, &weight.shape)?;
        }
        Ok(Self { shape, graph: Arc::new(graph) })
    }

    /// The shape of the weight.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// What computes it: a graph without arguments and with one result.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// A hash of everything that the result depends on but the checkpoint: operators with their attributes, constants,
    /// names.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.graph)
    }

    /// The weights that it is computed from.
    #[must_use]
    pub fn weights(&self) -> &[Weight] {
        self.graph.weights()
    }
}

/// The recipes of an asset, by the name of the weight that each computes.
#[derive(Clone, Debug, Default)]
pub struct Recipes(BTreeMap<Arc<str>, Recipe>);

impl Recipes {
    /// The recipe of the weight `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Recipe> {
        self.0.get(path)
    }

    /// All recipes with the names of their weights, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Recipe)> {
        self.0.iter()
    }

    /// Adds or replaces the recipe of a weight.
    pub fn insert(&mut self, path: &str, recipe: Recipe) {
        self.0.insert(path.into(), recipe);
    }

    /// Adds the recipes of others.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Makes `value`, which must depend on weights and constants alone, a weight of its own, and yields its name. One
    /// that only has another shape than a tensor goes into `weights`.
    ///
    /// # Errors
    /// If its shape is not known.
    pub fn derive(&mut self, weights: &mut Weights, graph: &Graph, value: Value) -> Result<Arc<str>> {
        let Some(shape) = graph.shape(value).fixed() else { fail!(Shape, "a weight of unknown shape") };
        let recipe = extract(graph, value)?;
        let source = recipe.weights().first().map_or("constant", |weight| &*weight.path);
        let path: Arc<str> = format!("{source}#{}", &fingerprint(&recipe)[..16]).into();
        if let Some(tensor) = reshaped(weights, graph, value, &shape) {
            weights.insert(&path, tensor);
        } else {
            self.0.insert(path.clone(), Recipe { shape, graph: Arc::new(recipe) });
        }
        Ok(path)
    }
}

/// The tensor behind a chain of reshapes, which needs no computation.
fn reshaped(weights: &Weights, graph: &Graph, mut value: Value, shape: &[usize]) -> Option<Tensor> {
    loop {
        let node = graph.node(value);
        match node.op {
            Op::Reshape(_) => value = node.inputs[0],
            Op::Weight(id) => {
                let path = &graph.weight_info(id).path;
                let tensor = weights.get(path).filter(|_| !weights.is_encoded(path))?;
                return Some(Tensor { shape: shape.to_vec(), ..tensor.clone() });
            }
            _ => return None,
        }
    }
}

/// The part of a graph that `value` depends on.
fn extract(graph: &Graph, value: Value) -> Result<Graph> {
    let mut needed = vec![false; value.index() + 1];
    needed[value.index()] = true;
    for i in (0..=value.index()).rev().filter(|&i| i < graph.nodes().len()) {
        if needed[i] {
            graph.nodes()[i].inputs.iter().for_each(|input| needed[input.index()] = true);
        }
    }
    let (mut recipe, mut map) = (Graph::new(), HashMap::new());
    for (i, node) in graph.nodes().iter().enumerate().take(value.index() + 1).filter(|(i, _)| needed[*i]) {
        let new = match &node.op {
            Op::Weight(id) => {
                let weight = graph.weight_info(*id);
                recipe.weight(&weight.path, &weight.shape)?
            }
            Op::Const(array) => recipe.constant(array.clone()),
            op => {
                let inputs: Vec<Value> = node.inputs.iter().map(|input| map[&input.index()]).collect();
                recipe.push_typed(op.clone(), &inputs, node.signature.dtype)?
            }
        };
        map.insert(i, new);
    }
    recipe.output("weight", map[&value.index()]);
    Ok(recipe)
}

/// A hash of everything that the result depends on but the checkpoint.
fn fingerprint(recipe: &Graph) -> String {
    let mut hasher = blake3::Hasher::new();
    for node in recipe.nodes() {
        hasher.update(format!("{:?} {:?} {:?}", node.inputs, node.signature, node.op).as_bytes());
        match &node.op {
            Op::Const(array) => {
                hasher.update(array.bytes());
            }
            Op::Weight(id) => {
                hasher.update(recipe.weight_info(*id).path.as_bytes());
            }
            _ => {}
        }
    }
    hasher.finalize().to_hex().to_string()
}
