//! The matrices of experts in checkpoints: in stacks, fused, or one by one.
//!
//! Graphs ask for a stack of each kind, `mlp.experts.up_proj.weight` `[experts, out, in]`. Where a checkpoint holds the
//! matrices otherwise, a recipe says how the stack is made of them, when it is packed and not before.

use ondine_graph::{Dim, Graph, Result, Value, Weights, recipe::Recipe, recipe::Recipes};

use super::{config::Config, properties::Experts};
use crate::weights::Rename;

/// What checkpoints of some classes call router and experts.
pub(super) const RENAMES: &[Rename] = &[
    Rename { from: ".block_sparse_moe.input_linear.weight", to: ".mlp.experts.gate_up_proj" },
    Rename { from: ".block_sparse_moe.output_linear.weight", to: ".mlp.experts.down_proj" },
    Rename { from: ".block_sparse_moe.router.layer.", to: ".mlp.gate." },
    Rename { from: ".block_sparse_moe.", to: ".mlp." },
    Rename { from: ".mlp.router.", to: ".mlp.gate." },
    Rename { from: ".w1.weight", to: ".gate_proj.weight" },
    Rename { from: ".w2.weight", to: ".down_proj.weight" },
    Rename { from: ".w3.weight", to: ".up_proj.weight" },
];

/// The part of a stack's name that comes before that of the matrix.
fn place(layer: usize) -> String {
    format!("model.layers.{layer}.mlp.experts")
}

/// Recipes of the stacks that `weights` do not hold as they are; those that only have another name are renamed.
///
/// # Errors
/// If matrices are missing, or of another shape than the config says.
pub(crate) fn stacks(config: &Config, weights: &mut Weights) -> Result<Recipes> {
    let mut recipes = Recipes::default();
    let Some(experts) = &config.experts else { return Ok(recipes) };
    weights.rename(|path| {
        let whole = path.strip_suffix(".mlp.experts.down_proj").filter(|_| !experts.interleaved);
        let bias = || path.strip_suffix(".mlp.experts.down_proj_bias").map(|layer| (layer, "bias"));
        let (layer, kind) = whole.map(|layer| (layer, "weight")).or_else(bias)?;
        Some(format!("{layer}.mlp.experts.down_proj.{kind}"))
    })?;
    let (hidden, width) = (config.hidden_size, experts.width);
    let parts = [("gate_proj", [width, hidden]), ("up_proj", [width, hidden]), ("down_proj", [hidden, width])];
    for layer in (0..config.layers.len()).filter(|&layer| config.layers[layer].sparse) {
        let place = place(layer);
        for (part, size) in parts {
            let path = format!("{place}.{part}.weight");
            if weights.get(&path).is_some() {
                continue;
            }
            let mut graph = Graph::new();
            if let Some(stack) = stacked(&mut graph, weights, &place, part, size, experts)? {
                graph.output("stack", stack);
                recipes.insert(&path, Recipe::new(graph, weights)?);
            }
            let mut graph = Graph::new();
            let bias = format!("{place}.{part}.bias");
            if config.bias.mlp && weights.get(&bias).is_none() && part != "down_proj" {
                let all = graph.weight(&format!("{place}.gate_up_proj_bias"), &[experts.count, 2 * width])?;
                let own = alternate(&mut graph, all, part, &[experts.count], width)?;
                graph.output("stack", own);
                recipes.insert(&bias, Recipe::new(graph, weights)?);
            }
        }
    }
    Ok(recipes)
}

/// The stack of one kind of matrices of this size, if they are there in a form that is known.
fn stacked(
    graph: &mut Graph,
    weights: &Weights,
    place: &str,
    part: &str,
    [out, width]: [usize; 2],
    experts: &Experts,
) -> Result<Option<Value>> {
    let count = experts.count;
    if weights.get(&format!("{place}.0.{part}.weight")).is_some() {
        let matrices = (0..count).map(|index| {
            let matrix = graph.weight(&format!("{place}.{index}.{part}.weight"), &[out, width])?;
            graph.reshape(matrix, [1, out, width])
        });
        let matrices = matrices.collect::<Result<Vec<_>>>()?;
        return graph.concat(&matrices, 0).map(Some);
    }
    if part == "down_proj" {
        let path = format!("{place}.down_proj");
        if weights.get(&path).is_none() {
            return Ok(None);
        }
        let matrix = graph.weight(&path, &[count, width, out])?;
        return graph.permute(matrix, &[0, 2, 1]).map(Some);
    }
    let path = format!("{place}.gate_up_proj");
    if weights.get(&path).is_none() {
        return Ok(None);
    }
    if experts.interleaved {
        let both = graph.weight(&path, &[count, width, 2 * out])?;
        let own = alternate(graph, both, part, &[count, width], out)?;
        return graph.permute(own, &[0, 2, 1]).map(Some);
    }
    let both = graph.weight(&path, &[count, 2 * out, width])?;
    let first = if part == "gate_proj" { 0 } else { out };
    graph.slice(both, 1, first, first + out).map(Some)
}

/// Of `both` `[.., 2 * width]`, where elements of the gate and of the other take turns, those of one.
fn alternate(graph: &mut Graph, both: Value, part: &str, rows: &[usize], width: usize) -> Result<Value> {
    let dims = |last: &[usize]| rows.iter().chain(last).map(|&size| Dim::from(size)).collect::<Vec<_>>();
    let index = usize::from(part != "gate_proj");
    let split = graph.reshape(both, dims(&[width, 2]))?;
    let own = graph.slice(split, rows.len() + 1, index, index + 1)?;
    graph.reshape(own, dims(&[width]))
}
