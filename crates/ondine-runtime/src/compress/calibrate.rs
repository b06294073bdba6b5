//! Inputs to measure with: those that are given, else random ones.

use std::sync::Arc;

use super::options::Options;
use ondine_graph::{
    Asset, Context, Graph, Result, Value, fail,
    sample::{Arguments, arguments, sizes},
};

/// A symbolic dimension of which nothing is known.
const SIZE: usize = 8;

/// The calls to measure: a function and its inputs.
///
/// # Errors
/// If none of the given inputs are those of a function.
pub(super) fn calls(asset: &Asset, options: &Options) -> Result<Vec<(Arc<str>, Arguments)>> {
    let mut calls = Vec::new();
    for (name, graph) in asset.functions() {
        if options.calibration.is_empty() {
            calls.push((name.clone(), arguments(graph, &sizes(graph, |_| SIZE), options.seed).at(|| name)?));
        }
        for sample in &options.calibration {
            let input = |(name, value): &(Arc<str>, Value)| {
                let array = sample.get(&**name)?.convert(graph.node(*value).signature.dtype).ok()?;
                Some((name.to_string(), array))
            };
            calls.extend(
                graph.inputs().iter().map(input).collect::<Option<Arguments>>().map(|inputs| (name.clone(), inputs)),
            );
        }
    }
    if calls.is_empty() {
        let wanted = |(name, graph): (&Arc<str>, &Graph)| {
            let inputs: Vec<_> = graph.inputs().iter().map(|(name, _)| &**name).collect();
            format!("{name} takes {}", inputs.join(", "))
        };
        let wanted: Vec<_> = asset.functions().iter().map(wanted).collect();
        fail!(Missing, "the calibration inputs are those of no function: {}", wanted.join("; "));
    }
    Ok(calls)
}
