//! `ondine inspect`: what a model is made of, without running it.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail};
use clap::Args;
use ondine_models::{GraphSizes, Network, Pipeline, Source};
use ondine_runtime::{Asset, Bindings, Device, Graph, Options, Weights, pt2};
use serde_json::{Value, json};

use super::models::find;
use crate::output;

/// Show what a model is made of, without running it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine inspect genmoji
  ondine inspect stable-diffusion-v1-5/ --json
  ondine inspect diffusion_pytorch_model.safetensors
  ondine inspect model.pt2 --bind s0=512")]
pub(super) struct Inspect {
    /// Model: a name, a diffusers folder, a folder of one network, a safetensors file or a .pt2 archive
    model: String,

    /// Size of a symbolic dimension for which compute and memory are predicted [default: 128, or what is allowed]
    #[arg(long, value_name = "NAME=N")]
    bind: Vec<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let path = Path::new(&self.model);
        let facts = if path.is_file() && pt2::is_archive(path) {
            archive(path, &self.bind)?
        } else if path.is_file() {
            json!({"file": self.model, "tensors": tensors(&Weights::open(path)?)})
        } else {
            let source = find(&self.model)?;
            if source.exists("model_index.json") {
                pipeline(source)?
            } else {
                network(&Network::open(&source, "", None)?)?
            }
        };
        if self.json {
            output::line(facts);
        } else {
            print(&facts, 0);
        }
        Ok(())
    }
}

fn pipeline(source: Source) -> anyhow::Result<Value> {
    let pipeline = Pipeline::open(source)?;
    let mut components = serde_json::Map::new();
    for component in &pipeline.components {
        let known = ondine_models::registry::find(&component.class).is_ok();
        let facts = if known {
            network(&pipeline.network(&component.name)?).with_context(|| component.name.clone())?
        } else {
            json!({"class": component.class})
        };
        components.insert(component.name.clone(), facts);
    }
    Ok(json!({"pipeline": pipeline.class, "components": components}))
}

fn network(network: &Network) -> anyhow::Result<Value> {
    let asset = network.asset(GraphSizes::default())?;
    let functions: serde_json::Map<_, _> =
        asset.functions().iter().map(|(name, graph)| (name.to_string(), function(graph))).collect();
    Ok(json!({
        "class": network.architecture.class,
        "parameters": asset.parameters(),
        "weights": stored(&asset),
        "functions": functions,
    }))
}

/// What a .pt2 archive holds, and what a call of its functions takes.
fn archive(path: &Path, bind: &[String]) -> anyhow::Result<Value> {
    let asset = pt2::open(path)?;
    let mut given = Bindings::new();
    for pair in bind {
        let Some((name, size)) = pair.split_once('=') else { bail!("`--bind {pair}`: write NAME=N") };
        given.insert(name.into(), size.parse().with_context(|| format!("`--bind {pair}`"))?);
    }
    let prepared = asset.prepare(&Options::default(), &Device::cpu(None)?)?;
    let mut functions = serde_json::Map::new();
    for (name, graph) in asset.functions() {
        let bindings = sizes(graph, &given)?;
        let mut facts = function(graph);
        let (plan, flops) = (prepared.plan(name, &bindings)?, prepared.flops(name, &bindings)?);
        let states: u64 = state_bytes(graph, &bindings)?;
        facts["states"] = json!(states_of(graph));
        facts["sizes"] =
            json!(bindings.iter().map(|(name, size)| (name.to_string(), *size)).collect::<BTreeMap<_, _>>());
        facts["steps"] = json!(plan.steps());
        facts["multiply_add_operations"] = json!(flops / 2);
        facts["peak_bytes"] = json!({
            "weights": prepared.weight_bytes(),
            "workspace": plan.arena_bytes(),
            "states": states,
            "all": prepared.weight_bytes() as u64 + plan.arena_bytes() as u64 + states,
        });
        functions.insert(name.to_string(), facts);
    }
    Ok(json!({
        "archive": path.display().to_string(),
        "parameters": asset.parameters(),
        "weights": stored(&asset),
        "functions": functions,
    }))
}

/// A size for each symbol: as given, or 128 within the limits.
fn sizes(graph: &Graph, given: &Bindings) -> anyhow::Result<Bindings> {
    let mut symbols = std::collections::BTreeSet::new();
    for (_, value) in graph.inputs() {
        graph.shape(*value).0.iter().for_each(|dim| dim.symbols(&mut symbols));
    }
    let size = |name: &std::sync::Arc<str>| {
        let [least, most] = graph.limits().get(name).copied().unwrap_or([1, usize::MAX]);
        given.get(name).copied().unwrap_or_else(|| 128.clamp(least, most.max(least)))
    };
    if let Some(name) = given.keys().find(|name| !symbols.contains(*name)) {
        let known = symbols.iter().map(|name| &**name).collect::<Vec<_>>().join(", ");
        bail!("there is no symbolic dimension `{name}`; there are: {known}");
    }
    Ok(symbols.iter().map(|name| (name.clone(), size(name))).collect())
}

fn states_of(graph: &Graph) -> Vec<String> {
    graph.states().iter().map(|s| format!("{}: {} {}", s.name, s.signature.dtype, s.signature.shape)).collect()
}

fn state_bytes(graph: &Graph, bindings: &Bindings) -> anyhow::Result<u64> {
    let mut total = 0;
    for slot in graph.states() {
        let elements: u64 = slot.signature.shape.bind(bindings)?.iter().map(|&n| n as u64).product();
        total += elements * slot.signature.dtype.size() as u64;
    }
    Ok(total)
}

fn function(graph: &Graph) -> Value {
    let signature = |(name, value): &(std::sync::Arc<str>, ondine_runtime::Value)| {
        let signature = &graph.node(*value).signature;
        format!("{name}: {} {}", signature.dtype, signature.shape)
    };
    let mut operators = BTreeMap::<&str, usize>::new();
    for node in graph.nodes() {
        *operators.entry(node.op.name()).or_default() += 1;
    }
    json!({
        "inputs": graph.inputs().iter().map(signature).collect::<Vec<_>>(),
        "outputs": graph.outputs().iter().map(signature).collect::<Vec<_>>(),
        "operators": operators,
    })
}

/// Bytes in the files by element type.
fn stored(asset: &Asset) -> Value {
    let mut bytes = BTreeMap::<&str, usize>::new();
    for (_, tensor) in asset.weights().iter() {
        *bytes.entry(tensor.dtype.name()).or_default() += tensor.bytes.len();
    }
    json!(bytes)
}

fn tensors(weights: &Weights) -> Value {
    let row = |(path, tensor): (&std::sync::Arc<str>, &ondine_runtime::Tensor)| {
        (path.to_string(), json!(format!("{} {:?}", tensor.dtype, tensor.shape)))
    };
    Value::Object(weights.iter().map(row).collect())
}

/// Prints an object as indented lines, the way people read them.
fn print(value: &Value, depth: usize) {
    let Value::Object(map) = value else { return };
    for (key, value) in map {
        let indent = "  ".repeat(depth);
        match value {
            Value::Object(inner) if inner.values().all(Value::is_number) => {
                let pairs: Vec<_> = inner.iter().map(|(key, value)| format!("{key} {value}")).collect();
                output::line(format_args!("{indent}{key}: {}", pairs.join(", ")));
            }
            Value::Object(_) => {
                output::line(format_args!("{indent}{key}:"));
                print(value, depth + 1);
            }
            Value::Array(lines) => {
                output::line(format_args!("{indent}{key}:"));
                lines.iter().filter_map(Value::as_str).for_each(|line| output::line(format_args!("{indent}  {line}")));
            }
            Value::String(text) => output::line(format_args!("{indent}{key}: {text}")),
            other => output::line(format_args!("{indent}{key}: {other}")),
        }
    }
}
