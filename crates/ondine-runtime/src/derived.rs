//! Weights that are computed from those of a checkpoint, when they are packed.

use std::{collections::HashMap, sync::Arc};

use crate::{
    cpu,
    device::Device,
    dtype::DType,
    error::{Context, Result, fail},
    graph::{Graph, Node, Value, Weight},
    infer::Signature,
    ndarray::NDArray,
    op::Op,
    pt2::is_evaluable,
    weights::{Tensor, Weights},
};

/// How a weight is computed.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) shape: Vec<usize>,
    /// A graph without arguments and with one result.
    graph: Arc<Graph>,
}

impl Recipe {
    /// The recipe of a file.
    ///
    /// # Errors
    /// If the graph is no recipe, or takes tensors that `weights` do not hold.
    pub(crate) fn new(graph: Graph, weights: &Weights) -> Result<Self> {
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

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The weights that it is computed from.
    pub(crate) fn weights(&self) -> &[Weight] {
        self.graph.weights()
    }
}

impl Weights {
    /// Makes `value`, which must depend on weights and constants alone, a weight of its own, and yields its name.
    ///
    /// # Errors
    /// If its shape is not known.
    pub(crate) fn derive(&mut self, graph: &Graph, value: Value) -> Result<Arc<str>> {
        let Some(shape) = graph.shape(value).fixed() else { fail!(Shape, "a weight of unknown shape") };
        let recipe = extract(graph, value)?;
        let source = recipe.weights().first().map_or("constant", |weight| &*weight.path);
        let path: Arc<str> = format!("{source}#{}", &fingerprint(&recipe)[..16]).into();
        if let Some(tensor) = self.reshaped(graph, value, &shape) {
            self.insert(&path, tensor);
        } else {
            self.derived.insert(path.clone(), Recipe { shape, graph: Arc::new(recipe) });
        }
        Ok(path)
    }

    /// The tensor behind a chain of reshapes, which needs no computation.
    fn reshaped(&self, graph: &Graph, mut value: Value, shape: &[usize]) -> Option<Tensor> {
        loop {
            let node = graph.node(value);
            match node.op {
                Op::Reshape(_) => value = node.inputs[0],
                Op::Weight(id) => {
                    let path = &graph.weight_info(id).path;
                    let tensor = self.get(path).filter(|_| !self.is_encoded(path))?;
                    return Some(Tensor { shape: shape.to_vec(), ..tensor.clone() });
                }
                _ => return None,
            }
        }
    }

    /// The elements of a derived weight.
    pub(crate) fn compute(&self, recipe: &Recipe) -> Result<Vec<f32>> {
        let device = Device::cpu(std::num::NonZeroUsize::new(1))?;
        let graph = &recipe.graph;
        let mut arrays: Vec<Option<NDArray>> = Vec::with_capacity(graph.nodes().len());
        let mut last = vec![0; graph.nodes().len()];
        for (i, node) in graph.nodes().iter().enumerate() {
            node.inputs.iter().for_each(|input| last[input.index()] = i);
        }
        for (i, node) in graph.nodes().iter().enumerate() {
            let array = match &node.op {
                Op::Weight(id) => {
                    let weight = graph.weight_info(*id);
                    let values = self.to_f32(&weight.path)?;
                    NDArray::new(&weight.shape, &values)?
                }
                Op::Const(array) => array.clone(),
                op => {
                    let inputs: Vec<&NDArray> =
                        node.inputs.iter().filter_map(|input| arrays[input.index()].as_ref()).collect();
                    cpu::evaluate(node, &inputs, &device).at(|| op.name())?
                }
            };
            arrays.push(Some(array));
            // What nobody reads any more goes at once: recipes run over large tensors.
            for input in &node.inputs {
                if last[input.index()] == i {
                    arrays[input.index()] = None;
                }
            }
        }
        match graph.outputs().first().and_then(|(_, value)| arrays[value.index()].take()) {
            Some(array) => Ok(array.view::<f32>()?.to_vec()),
            None => fail!(Missing, "a derived weight without a result"),
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
