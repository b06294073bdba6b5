//! What can be compressed: the weights that are multiplied, and tables.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    plain::plain_tensor,
    report::{LayerReport, Loss},
};
use crate::evaluate::weight_numbers;
use ondine_graph::{Asset, Op, Result, Value, Weights, encoding::PARTS, fail};

/// Weights of fewer elements stay as they are: they take no room, and are often the first or the last of a network.
const FEWEST_ELEMENTS: usize = 2048;

/// A weight, and where it is used.
pub(super) struct Layer {
    pub(super) path: Arc<str>,
    pub(super) shape: Vec<usize>,
    /// Bytes that it has in the asset.
    pub(super) bytes: u64,
    /// Bytes that it takes as it is: once computed, those of F32.
    pub(super) kept: u64,
    /// The function and the node, once for each use.
    pub(super) uses: Vec<(Arc<str>, Value)>,
}

impl Layer {
    /// The path without what the exporter added to the module's.
    pub(super) fn name(&self) -> &str {
        let path = self.path.split_once('#').map_or(&*self.path, |(path, _)| path);
        path.strip_suffix(".weight").unwrap_or(path)
    }

    pub(super) fn report(
        &self,
        format: String,
        bytes_after: u64,
        found: &[f32],
        wanted: &[f32],
        output: Option<Loss>,
    ) -> LayerReport {
        LayerReport {
            path: self.path.clone(),
            shape: self.shape.clone(),
            format,
            bytes_before: self.bytes,
            bytes_after,
            weight: Loss::between(found, wanted),
            output,
        }
    }
}

/// The position of the weight among the inputs of an operator that can be compressed.
pub(super) fn weight_position(op: &Op) -> Option<usize> {
    match op {
        Op::Linear(_) | Op::Conv2d(..) => Some(1),
        Op::Gather => Some(0),
        _ => None,
    }
}

/// The layers of all functions, by path.
pub(super) fn layers(asset: &Asset) -> Vec<Layer> {
    let mut layers = BTreeMap::<Arc<str>, Layer>::new();
    for (function, graph) in asset.functions() {
        for (value, node) in graph.values() {
            let Some(weight) = weight_position(&node.op).map(|position| graph.node(node.inputs[position])) else {
                continue;
            };
            let Op::Weight(id) = weight.op else { continue };
            let info = graph.weight_info(id);
            if info.shape.len() < 2 || info.shape.iter().product::<usize>() < FEWEST_ELEMENTS {
                continue;
            }
            let layer = layers.entry(info.path.clone()).or_insert_with(|| Layer {
                path: info.path.clone(),
                shape: info.shape.clone(),
                bytes: stored_bytes(asset, &info.path, &info.shape),
                kept: kept_bytes(asset, &info.path, &info.shape),
                uses: Vec::new(),
            });
            layer.uses.push((function.clone(), value));
        }
    }
    layers.into_values().collect()
}

/// Adds the tensors that a weight is read or computed from, with their bytes.
pub(super) fn sources(asset: &Asset, path: &str, found: &mut BTreeMap<Arc<str>, u64>) {
    if let Some(recipe) = asset.recipes().get(path) {
        recipe.weights().iter().for_each(|weight| sources(asset, &weight.path, found));
        return;
    }
    for part in PARTS.iter().copied().chain([""]) {
        let name = format!("{path}{part}");
        if let Some(tensor) = asset.weights().get(&name) {
            found.insert(name.into(), tensor.bytes.len() as u64);
        }
    }
}

/// Bytes that a weight of this shape has in the file: of one that is computed, those of the tensor that it is made
/// of.
fn stored_bytes(asset: &Asset, path: &str, shape: &[usize]) -> u64 {
    let count: usize = shape.iter().product();
    let Some(recipe) = asset.recipes().get(path) else {
        let mut found = BTreeMap::new();
        sources(asset, path, &mut found);
        return found.values().sum();
    };
    let same = recipe.weights().iter().find(|weight| weight.shape.iter().product::<usize>() == count);
    same.map_or((count * 4) as u64, |weight| stored_bytes(asset, &weight.path, &weight.shape))
}

/// Bytes that [`copy_to`] adds.
pub(super) fn kept_bytes(asset: &Asset, path: &str, shape: &[usize]) -> u64 {
    let computed = asset.recipes().get(path).is_some();
    if computed { 4 * shape.iter().map(|&n| n as u64).product::<u64>() } else { stored_bytes(asset, path, shape) }
}

/// Copies a weight to `other`, computed if it has to be.
///
/// # Errors
/// If it is missing or cannot be read.
pub(super) fn copy_to(asset: &Asset, path: &str, shape: &[usize], other: &mut Weights) -> Result<()> {
    if asset.recipes().get(path).is_some() {
        other.insert(path, plain_tensor(&weight_numbers(asset, path)?, shape));
        return Ok(());
    }
    let Some(tensor) = asset.weights().get(path) else { fail!(Missing, "tensor `{path}` is missing") };
    other.insert(path, tensor.clone());
    for part in PARTS {
        let name = format!("{path}{part}");
        if let Some(tensor) = asset.weights().get(&name).filter(|_| asset.weights().is_part(&name)) {
            other.insert(&name, tensor.clone());
        }
    }
    Ok(())
}
