//! `ondine inspect`: what a model is made of, without running it.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use clap::Args;
use ondine_models::{GraphSizes, Network, Pipeline, Source};
use ondine_runtime::{Asset, Graph, Weights};
use serde_json::{Value, json};

use super::models::find;

/// Show what a model is made of, without running it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine inspect genmoji
  ondine inspect stable-diffusion-v1-5/ --json
  ondine inspect diffusion_pytorch_model.safetensors")]
pub(super) struct Inspect {
    /// Model: a name, a diffusers folder, a folder of one network, or a safetensors file
    model: String,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let path = Path::new(&self.model);
        let facts = if path.is_file() {
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
            println!("{facts}");
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
                println!("{indent}{key}: {}", pairs.join(", "));
            }
            Value::Object(_) => {
                println!("{indent}{key}:");
                print(value, depth + 1);
            }
            Value::Array(lines) => {
                println!("{indent}{key}:");
                lines.iter().filter_map(Value::as_str).for_each(|line| println!("{indent}  {line}"));
            }
            Value::String(text) => println!("{indent}{key}: {text}"),
            other => println!("{indent}{key}: {other}"),
        }
    }
}
