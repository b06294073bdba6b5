//! `ondine inspect`: what a model is made of, without running it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use ondine::model::{self, Opened, find};
use ondine_models::{GraphSizes, Pipeline, open_tensors};
use ondine_runtime::{
    Asset, Bindings, Device, Graph, Options, Plan, Precision, Specialize, Specialized, Weights,
    encoding::{self, Levels},
    sample,
};
use serde_json::{Value, json};

use super::callee::{given, state_bytes, unknown};
use crate::output;

/// Show what a model is made of, without running it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine inspect genmoji
  ondine inspect stable-diffusion-v1-5/ --json
  ondine inspect flux1-dev-fp8.safetensors --precision int8
  ondine inspect adapter.safetensors
  ondine inspect model.pt2 --size s0=512 --precision bf16
  ondine inspect model.built")]
pub(super) struct Inspect {
    /// Model: a name, a diffusers folder, a folder of one network or of `ondine import`, a .pt2 archive, a file of
    /// `ondine build`, or a file of tensors: a checkpoint of a picture maker, an adapter (safetensors, .ckpt, GGUF)
    model: String,

    /// Size of a symbolic dimension for which compute and memory are predicted [default: what the model expects, a
    /// batch of 1, else 128 or what is allowed]
    #[arg(long, value_name = "NAME=N", visible_alias = "bind")]
    size: Vec<String>,

    /// Type of weights and activations for which memory is predicted: f32, bf16, int8 or a8
    #[arg(long, value_name = "TYPE", value_parser = str::parse::<Precision>, default_value = "f32")]
    precision: Precision,

    /// Configs of a checkpoint in one file that is not built like others: a folder as diffusers saves it
    #[arg(long, value_name = "FOLDER")]
    config: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let path = Path::new(&self.model);
        let facts = if path.is_file() && !ondine_pt2::is_archive(path) && !Specialized::is_file(path) {
            self.file(path)?
        } else if let Some(source) = find(&self.model).ok().filter(|source| source.exists("model_index.json")) {
            self.pipeline(&Pipeline::open(source)?)?
        } else {
            match model::open(&self.model, &Device::cpu(None)?)? {
                Opened::Asset(asset) => self.asset(&asset)?,
                Opened::Specialized(specialized) => self.specialized(specialized)?,
            }
        };
        if self.json {
            output::json(&facts);
        } else {
            print(&facts, 0);
        }
        Ok(())
    }

    /// The tensors of a file, and what they are together, if they are a checkpoint.
    fn file(&self, path: &Path) -> anyhow::Result<Value> {
        let weights = open_tensors(path)?;
        let mut facts = json!({"file": self.model, "weights": stored(&weights)});
        match model::pipeline(&self.model, self.config.as_deref()) {
            Ok(pipeline) => {
                let found = pipeline.findings.iter().map(ToString::to_string).collect::<Vec<_>>();
                facts["found"] = json!(found);
                match self.pipeline(&pipeline) {
                    Ok(mut parts) => facts["components"] = parts["components"].take(),
                    Err(error) => facts["components"] = json!(format!("{error:#}")),
                }
            }
            // Adapters and the like are no models by themselves: the reader says what they are.
            Err(error) => facts["found"] = json!([error.to_string()]),
        }
        facts["tensors"] = tensors(&weights);
        Ok(facts)
    }

    fn pipeline(&self, pipeline: &Pipeline) -> anyhow::Result<Value> {
        let mut components = serde_json::Map::new();
        for component in &pipeline.components {
            let mut facts = json!({"class": component.class});
            if ondine_models::registry::find(&component.class).is_ok() {
                let asset = pipeline.network(&component.name)?.asset(GraphSizes::default())?;
                let more = self.asset(&asset).with_context(|| component.name.clone())?;
                facts
                    .as_object_mut()
                    .into_iter()
                    .for_each(|map| map.extend(more.as_object().cloned().unwrap_or_default()));
            }
            components.insert(component.name.clone(), facts);
        }
        Ok(json!({"pipeline": pipeline.class, "components": components}))
    }

    /// What an asset holds, and what calls of its functions would take on this machine.
    fn asset(&self, asset: &Asset) -> anyhow::Result<Value> {
        let given = given(&self.size)?;
        let prepared =
            asset.prepare(&Options { precision: self.precision, ..Options::default() }, &Device::cpu(None)?)?;
        let mut functions = serde_json::Map::new();
        for (name, graph) in asset.functions() {
            let bindings = sizes(graph, &given);
            let (plan, flops) = (prepared.plan(name, &bindings)?, prepared.flops(name, &bindings)?);
            let facts = cost(function(graph), graph, &bindings, (&plan, flops), prepared.weight_bytes())?;
            functions.insert(name.to_string(), facts);
        }
        known(&given, asset.functions().values())?;
        Ok(json!({
            "name": &**asset.name(),
            "parameters": asset.parameters(),
            "weights": stored(asset.weights()),
            "precision": self.precision,
            "functions": functions,
        }))
    }

    /// What a file of `ondine build` holds, and what calls of its functions take.
    fn specialized(&self, specialized: Specialized) -> anyhow::Result<Value> {
        let given = given(&self.size)?;
        let (about, weights) = (specialized.about(), specialized.weight_bytes());
        let (model, mut functions, mut graphs) = (specialized.load()?, serde_json::Map::new(), Vec::new());
        for name in &about.functions {
            let callable = model.function(name)?;
            let graph = callable.graph();
            let bindings = sizes(graph, &given);
            let plan = callable.plan(&bindings)?;
            let flops = plan.cost().flops;
            functions.insert(name.clone(), cost(function(graph), graph, &bindings, (&plan, flops), weights)?);
            graphs.push(graph.clone());
        }
        known(&given, graphs.iter())?;
        Ok(json!({
            "name": about.model,
            "built_for": about.tier,
            "engine": about.engine,
            "precision": about.precision,
            "functions": functions,
        }))
    }
}

/// Adds what a call takes to the facts of a function.
fn cost(
    mut facts: Value,
    graph: &Graph,
    bindings: &Bindings,
    (plan, flops): (&Plan, u64),
    weights: usize,
) -> anyhow::Result<Value> {
    let states: u64 = state_bytes(graph, bindings)?;
    facts["states"] = json!(states_of(graph));
    facts["sizes"] = json!(bindings.iter().map(|(name, size)| (name.to_string(), *size)).collect::<BTreeMap<_, _>>());
    facts["steps"] = json!(plan.steps());
    facts["multiply_add_operations"] = json!(flops / 2);
    facts["flops"] = json!(flops);
    facts["peak_bytes"] = json!({
        "weights": weights,
        "workspace": plan.arena_bytes(),
        "states": states,
        "all": weights as u64 + plan.arena_bytes() as u64 + states,
    });
    Ok(facts)
}

/// Makes sure that every size that is given is one of a function.
fn known<'a>(given: &Bindings, graphs: impl Iterator<Item = &'a Graph>) -> anyhow::Result<()> {
    let symbols: BTreeSet<Arc<str>> = graphs.flat_map(sample::symbols).collect();
    match given.keys().find(|name| !symbols.contains(*name)) {
        Some(name) => Err(unknown(name, symbols.iter())),
        None => Ok(()),
    }
}

/// A size for each symbol: as given, as the model expects, or a likely one within the limits.
fn sizes(graph: &Graph, given: &Bindings) -> Bindings {
    let mut sizes = sample::sizes(graph, |symbol| if symbol == "batch" { 1 } else { 128 });
    for (name, size) in &mut sizes {
        *size = given.get(name).copied().unwrap_or(*size);
    }
    sizes
}

fn states_of(graph: &Graph) -> Vec<String> {
    graph.states().iter().map(|s| format!("{}: {} {}", s.name, s.signature.dtype, s.signature.shape)).collect()
}

fn function(graph: &Graph) -> Value {
    let signature = |(name, value): &(Arc<str>, ondine_runtime::Value)| {
        let signature = &graph.node(*value).signature;
        format!("{name}: {} {}", signature.dtype, signature.shape)
    };
    let mut operators = BTreeMap::<&str, usize>::new();
    for node in graph.nodes() {
        *operators.entry(node.op.name()).or_default() += 1;
    }
    let mut facts = json!({
        "inputs": graph.inputs().iter().map(signature).collect::<Vec<_>>(),
        "outputs": graph.outputs().iter().map(signature).collect::<Vec<_>>(),
        "operators": operators,
    });
    if !graph.labels().is_empty() {
        facts["labels"] = json!(graph.labels());
    }
    facts
}

/// Bytes in the files by type of the elements; what is said of encoded ones beside them counts as its own type.
fn stored(weights: &Weights) -> Value {
    let mut bytes = BTreeMap::<String, usize>::new();
    for (path, tensor) in weights.iter() {
        let kind = encoded(weights, path).map_or_else(|| tensor.dtype.to_string(), |(kind, _)| kind);
        *bytes.entry(kind).or_default() += tensor.bytes.len();
    }
    json!(bytes)
}

/// In what the numbers of an encoded weight are, and its shape.
fn encoded(weights: &Weights, path: &str) -> Option<(String, Vec<usize>)> {
    let encoding = weights.encoding(path).ok().flatten()?;
    let kind = match encoding.levels {
        Levels::Blocks(block) => block.to_string(),
        Levels::Floats { format, .. } => format.to_string(),
        Levels::Integers { .. } => format!("{}-bit integers", encoding.bits),
        Levels::Palette => format!("{}-bit palette", encoding.bits),
    };
    Some((kind, encoding.shape))
}

fn tensors(weights: &Weights) -> Value {
    let row = |path: &Arc<str>| {
        let tensor = weights.get(path)?;
        let (kind, shape) = encoded(weights, path).unwrap_or_else(|| (tensor.dtype.to_string(), tensor.shape.clone()));
        let scales = weights.get(&format!("{path}{}", encoding::SCALE));
        let scales = match scales.map(|scales| scales.shape.iter().product()) {
            None => String::new(),
            Some(1_usize) => ", a scale".to_owned(),
            Some(count) => format!(", {count} scales"),
        };
        Some((path.to_string(), json!(format!("{kind} {shape:?}{scales}"))))
    };
    Value::Object(weights.paths().filter_map(row).collect())
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
