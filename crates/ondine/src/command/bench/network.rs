//! Networks as `draw` builds, specializes and calls them.

use std::time::Instant;

use anyhow::Context;
use ondine_models::{Architecture, GraphSizes, registry::find};
use ondine_runtime::{
    Asset, Bindings, Cache, DType, Device, Function, Graph, NDArray, Options, Outputs, Precision, Specialize, State,
    element_count,
};

use super::{
    options::{Bench, folder},
    report::{Report, Times},
    weights::{self, Normals},
    works::Network,
};
use crate::{
    command::callee::call_bytes,
    memory::{forget_peak, peak_rss},
};

/// Refuses a network that takes more than `--memory` allows.
pub(super) fn check_memory(
    bench: &Bench,
    name: &'static str,
    network: &Network,
    device: &Device,
) -> anyhow::Result<()> {
    bench.running.allow(name, || {
        let (asset, bindings) = (network.asset(name)?, network.bindings());
        let bytes = |precision: Precision| {
            let prepared = asset.prepare(&Options { precision, ..Options::default() }, device)?;
            let weights = match network.frugal && !bench.profile {
                true => prepared.largest_weight_bytes(network.function)?,
                false => prepared.weight_bytes(),
            };
            let plan = prepared.plan(network.function, &bindings)?;
            Ok(call_bytes(prepared.graph(network.function)?, &plan, &bindings)? + weights as u64)
        };
        let precisions = [Some(bench.running.precision.unwrap_or_default()), bench.against];
        precisions.into_iter().flatten().map(bytes).try_fold(0, |most, bytes: anyhow::Result<u64>| Ok(bytes?.max(most)))
    })
}

/// Times calls of a network.
pub(super) fn measure(bench: &Bench, name: &'static str, network: &Network, device: &Device) -> anyhow::Result<Report> {
    let precision = bench.running.precision.unwrap_or_default();
    let asset = network.asset(name)?;
    let bindings = network.bindings();
    let inputs = random_inputs(asset.function(network.function)?, &bindings)?;
    let reference = bench.against.map(|reference| {
        let function = specialize(&asset, network, reference, device)?;
        anyhow::Ok((reference, call(&function, &inputs, &mut State::default())?))
    });
    let reference = reference.transpose()?;
    let function = specialize(&asset, network, precision, device)?;
    drop(asset);
    forget_peak();
    let mut state = match (bench.profile, network.frugal) {
        (true, _) => State::profiled(),
        (false, true) => State::frugal(),
        (false, false) => State::default(),
    };
    let outputs = call(&function, &inputs, &mut state)?;
    state.take_profile();
    let error =
        reference.map(|(against, wanted)| anyhow::Ok((against, relative_error(&outputs, &wanted)?))).transpose()?;
    let times = Times::of(bench.repeat, || {
        let start = Instant::now();
        call(&function, &inputs, &mut state)?;
        Ok(start.elapsed().as_secs_f64())
    })?;
    let profile = state.take_profile().unwrap_or_default();
    let flops = function.plan(&bindings)?.cost().flops;
    Ok(Report {
        work: name,
        precision,
        threads: device.processor()?.threads(),
        gflop: Some(flops as f64 / 1e9),
        peak_rss: peak_rss(),
        profile: profile.by(|sample| match bench.modules {
            true => format!("{} {}", sample.op, sample.scope),
            false => sample.op.to_string(),
        }),
        error,
        drawn: None,
        times,
    })
}

impl Network {
    fn asset(&self, name: &str) -> anyhow::Result<Asset> {
        let architecture: &Architecture = find(self.class)?;
        let sizes = GraphSizes { multiple: self.multiple, ..GraphSizes::default() };
        let functions = (architecture.functions)(self.config, sizes)?;
        let weights = weights::shared(functions.iter().map(|(_, graph)| graph))?;
        Ok(Asset::new(name, functions, weights)?.only(self.function)?)
    }

    /// Symbols of height and width count multiples.
    fn bindings(&self) -> Bindings {
        let value =
            |name: &str, size: usize| if matches!(name, "height" | "width") { size / self.multiple } else { size };
        self.sizes.iter().map(|&(name, size)| (name.into(), value(name, size))).collect()
    }
}

fn specialize(asset: &Asset, network: &Network, precision: Precision, device: &Device) -> anyhow::Result<Function> {
    let prepared = asset.prepare(&Options { precision, ..Options::default() }, device)?;
    let cache = network.frugal.then(|| Cache::new(folder().join("cache")));
    Ok(prepared.specialize(cache.as_ref())?.load()?.function(network.function)?)
}

fn call(function: &Function, inputs: &[(String, NDArray)], state: &mut State) -> anyhow::Result<Outputs> {
    let inputs: Vec<_> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
    Ok(function.run(&inputs, state)?)
}

/// Normal numbers where floats are wanted, ids that every vocabulary has where integers are. A timestep is one in the
/// middle of the schedule.
fn random_inputs(graph: &Graph, bindings: &Bindings) -> anyhow::Result<Vec<(String, NDArray)>> {
    let mut normals = Normals::new(2);
    let mut inputs = Vec::new();
    for (name, value) in graph.inputs() {
        let signature = &graph.node(*value).signature;
        let shape = signature.shape.bind(bindings)?;
        let count = element_count(&shape).context("an input is too large")?;
        let array = match signature.dtype {
            DType::I64 => NDArray::new(&shape, &(0..count as i64).collect::<Vec<_>>())?,
            _ if &**name == "timestep" => NDArray::new(&shape, &vec![500.0_f32; count])?,
            _ => {
                let mut numbers = vec![0.0; count];
                normals.fill(&mut numbers);
                NDArray::new(&shape, &numbers)?
            }
        };
        inputs.push((name.to_string(), array));
    }
    Ok(inputs)
}

/// The length of the difference of all results, as a share of the length of those that are wanted.
fn relative_error(found: &Outputs, wanted: &Outputs) -> anyhow::Result<f64> {
    let (mut difference, mut length) = (0.0, 0.0);
    for ((_, found), (name, wanted)) in found.iter().zip(wanted.iter()) {
        for (x, y) in found.to_f32().iter().zip(&wanted.to_f32()) {
            difference += f64::from(x - y).powi(2);
            length += f64::from(*y).powi(2);
        }
        (length > 0.0 && difference.is_finite()).then_some(()).with_context(|| format!("`{name}` is no result"))?;
    }
    Ok((difference / length).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::bench::works::{WORKS, What};

    #[test]
    fn networks_are_called_with_what_they_take() {
        for work in &WORKS {
            let What::Network(network) = &work.what else { continue };
            let sizes = GraphSizes { multiple: network.multiple, ..GraphSizes::default() };
            let functions = (find(network.class).unwrap().functions)(network.config, sizes).unwrap();
            let (_, graph) = functions.iter().find(|(name, _)| *name == network.function).unwrap();
            let bindings = network.bindings();
            for ((_, value), (name, array)) in graph.inputs().iter().zip(random_inputs(graph, &bindings).unwrap()) {
                let signature = &graph.node(*value).signature;
                let wanted = (signature.dtype, signature.shape.bind(&bindings).unwrap());
                assert_eq!((array.dtype(), array.shape().to_vec()), wanted, "{}: {name}", work.name);
            }
        }
    }
}
