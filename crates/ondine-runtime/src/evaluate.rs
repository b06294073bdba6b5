//! Weights that recipes compute, on the processor whatever the device is.

use std::{borrow::Cow, num::NonZeroUsize};

use ondine_graph::{Asset, Context, NDArray, Op, Result, Weights, fail, recipe::Recipe};

use crate::cpu::{Processor, evaluate};

/// The elements of the weight `path` of an asset, computed if it has a recipe.
///
/// # Errors
/// If it is missing or cannot be read or computed.
pub fn weight_numbers<'a>(asset: &'a Asset, path: &str) -> Result<Cow<'a, [f32]>> {
    match asset.recipes().get(path) {
        Some(recipe) => compute(asset.weights(), recipe).at(|| path).map(Cow::Owned),
        None => asset.weights().to_f32(path),
    }
}

/// The elements of a weight with a recipe.
fn compute(weights: &Weights, recipe: &Recipe) -> Result<Vec<f32>> {
    let processor = Processor::new(NonZeroUsize::new(1))?;
    let graph = recipe.graph();
    let mut arrays: Vec<Option<NDArray>> = Vec::with_capacity(graph.nodes().len());
    let mut last = vec![0; graph.nodes().len()];
    for (i, node) in graph.nodes().iter().enumerate() {
        node.inputs.iter().for_each(|input| last[input.index()] = i);
    }
    for (i, node) in graph.nodes().iter().enumerate() {
        let array = match &node.op {
            Op::Weight(id) => {
                let weight = graph.weight_info(*id);
                NDArray::new(&weight.shape, &weights.to_f32(&weight.path)?)?
            }
            Op::Const(array) => (**array).clone(),
            op => {
                let inputs: Vec<&NDArray> =
                    node.inputs.iter().filter_map(|input| arrays[input.index()].as_ref()).collect();
                evaluate(node, &inputs, &processor).at(|| op.name().to_owned())?
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
