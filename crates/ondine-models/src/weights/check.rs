//! Whether the weights of a checkpoint are those that its network asks for.

use std::collections::BTreeSet;

use ondine_graph::{Graph, Result, Weights, fail, recipe::Recipes};

/// Buffers that checkpoints of any architecture may carry and no network reads.
const IGNORED: &[&str] = &["position_ids", "num_batches_tracked"];

/// Makes sure that `weights` hold what the functions of a network ask for, and nothing else.
///
/// Weights with a recipe are computed from others, which then must be there. Tensors whose name contains one of
/// `ignored` may be there.
///
/// # Errors
/// Names the first tensor that is missing or has another shape, and the first few that nothing uses.
pub fn check<'a>(
    weights: &Weights,
    recipes: &'a Recipes,
    graphs: impl Iterator<Item = &'a Graph>,
    ignored: &[&str],
) -> Result<()> {
    let mut used = BTreeSet::new();
    for weight in graphs.flat_map(Graph::weights) {
        match recipes.get(&weight.path) {
            Some(recipe) if recipe.shape() == weight.shape => {
                used.extend(recipe.weights().iter().map(|weight| &*weight.path));
            }
            _ => {
                weights.expect(&weight.path, &weight.shape)?;
                used.insert(&*weight.path);
            }
        }
    }
    let ignored = |path: &str| IGNORED.iter().chain(ignored).any(|part| path.contains(part));
    let extra: Vec<_> = weights.paths().filter(|path| !used.contains(&***path) && !ignored(path)).collect();
    let Some(tensor) = extra.first().and_then(|path| weights.get(path)) else { return Ok(()) };
    let names = extra.iter().take(3).map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
    let more = if extra.len() > 3 { format!(" and {} more", extra.len() - 3) } else { String::new() };
    fail!(Extra, "{}: nothing uses {names}{more}; is this the checkpoint of this config?", tensor.file)
}
