//! `ondine run`: calls a function of any model with tensors from files.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use ondine::model;
use ondine_runtime::{Function, NDArray, State, Weights, write_safetensors};
use serde_json::json;

use super::Running;
use crate::{interrupt, memory::resident};

/// Call a function of a model with tensors from files.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine run model.pt2 --inputs in.safetensors --outputs out.safetensors
  ondine run model.pt2 --input x=x.npy --input mask=other.safetensors:mask --outputs out.safetensors
  ondine run model.pt2 --inputs in.safetensors --repeat 20 --json
  ondine run genmoji/unet --input sample=x.npy --input timestep=t.npy --input encoder_hidden_states=e.npy")]
pub(super) struct Run {
    /// Model: an archive of torch.export.save, a folder of `ondine import` or of one network, a file of `ondine build`
    model: String,

    /// Function to call [default: the only one]
    #[arg(long, value_name = "NAME")]
    function: Option<String>,

    /// File whose tensors are the inputs of these names
    #[arg(long, value_name = "FILE")]
    inputs: Vec<PathBuf>,

    /// One input: a .npy file, or a .safetensors file with `:TENSOR` after it unless it holds one tensor
    #[arg(long, value_name = "NAME=FILE")]
    input: Vec<String>,

    /// Safetensors file to write the results to
    #[arg(long, visible_alias = "output", value_name = "FILE")]
    outputs: Option<PathBuf>,

    /// Call it so often, states carried on, and tell the time of each call
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: usize,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    running: Running,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let device = self.running.device(interrupt::listen()?)?;
        let start = Instant::now();
        let opened = model::open(&self.model, &device)?;
        let name = opened.choose(self.function.as_deref()).with_context(|| self.model.clone())?;
        let opened_after = start.elapsed();
        let specialized =
            opened.only(&name)?.specialize(self.running.precision, &device, self.running.cache().as_ref())?;
        let from_cache = specialized.from_cache();
        let function = specialized.load().function(&name)?;
        let ready = start.elapsed();
        let inputs = self.read_inputs(&function)?;
        let inputs: Vec<(&str, &NDArray)> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
        let (mut state, mut times, mut last) = (State::default(), Vec::new(), None);
        for _ in 0..self.repeat.max(1) {
            let start = Instant::now();
            last = Some(function.run(&inputs, &mut state)?);
            times.push(start.elapsed());
        }
        let outputs: Vec<(String, NDArray)> = last
            .iter()
            .flat_map(|outputs| outputs.iter())
            .map(|(name, array)| (name.to_string(), array.clone()))
            .collect();
        if let Some(path) = &self.outputs {
            write_safetensors(path, &outputs)?;
        }
        self.report(&outputs, &times, [opened_after, ready], from_cache);
        Ok(())
    }

    fn read_inputs(&self, function: &Function) -> anyhow::Result<Vec<(String, NDArray)>> {
        let graph = function.graph();
        let mut inputs = Vec::new();
        for path in &self.inputs {
            let weights = Weights::open(path)?;
            for name in weights.paths() {
                inputs.push((name.to_string(), weights.array(name)?));
            }
        }
        for given in &self.input {
            let Some((name, file)) = given.split_once('=') else {
                bail!("`--input {given}`: write NAME=FILE");
            };
            inputs.push((name.to_owned(), read_tensor(file)?));
        }
        // A number may come in another type than the program's where nothing is lost.
        for (name, array) in &mut inputs {
            let wanted = graph.inputs().iter().find(|(known, _)| **known == **name);
            if let Some((_, value)) = wanted {
                let signature = &graph.node(*value).signature;
                *array = array.convert(signature.dtype).with_context(|| format!("input `{name}`"))?;
            }
        }
        Ok(inputs)
    }

    fn report(&self, outputs: &[(String, NDArray)], times: &[Duration], [opened, ready]: [Duration; 2], cached: bool) {
        let seconds = |time: &Duration| time.as_secs_f64();
        if self.json {
            let outputs: serde_json::Map<_, _> = outputs
                .iter()
                .map(|(name, array)| (name.clone(), json!({"dtype": array.dtype().name(), "shape": array.shape()})))
                .collect();
            println!(
                "{}",
                json!({
                    "outputs": outputs,
                    "seconds": times.iter().map(seconds).collect::<Vec<_>>(),
                    "open_seconds": seconds(&opened),
                    "ready_seconds": seconds(&ready),
                    "from_cache": cached,
                    "resident_bytes": resident().map(|[anonymous, file]| json!({"anonymous": anonymous, "file": file})),
                })
            );
            return;
        }
        for (name, array) in outputs {
            println!("{name}: {} {:?}", array.dtype(), array.shape());
        }
        let mut sorted = times.to_vec();
        sorted.sort();
        let median = sorted[sorted.len() / 2];
        eprintln!("{:.2} ms a call, {:.0} ms to get ready", 1e3 * seconds(&median), 1e3 * seconds(&ready));
    }
}

/// A tensor of a file: `x.npy`, `x.safetensors` or `x.safetensors:name`.
fn read_tensor(file: &str) -> anyhow::Result<NDArray> {
    let path = Path::new(file);
    if path.extension().is_some_and(|extension| extension == "npy") {
        return Ok(NDArray::read_npy(path)?);
    }
    let (path, tensor) = match file.rsplit_once(':') {
        Some((path, tensor)) if !path.is_empty() && !Path::new(file).exists() => (Path::new(path), Some(tensor)),
        _ => (path, None),
    };
    let weights = Weights::open(path)?;
    let names: Vec<_> = weights.paths().cloned().collect();
    match (tensor, names.as_slice()) {
        (Some(tensor), _) => Ok(weights.array(tensor)?),
        (None, [only]) => Ok(weights.array(only)?),
        (None, names) => bail!("{file} holds {} tensors; choose one with {file}:NAME", names.len()),
    }
}
