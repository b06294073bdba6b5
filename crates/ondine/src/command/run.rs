//! `ondine run`: calls a function of any model with tensors from files.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use ondine_runtime::{Graph, NDArray, State, file::check_writable, write_safetensors_with};
use serde_json::json;

use super::{
    callee::{Callee, Given, Inputs, Loaded, borrowed},
    running::{Running, parse_count},
};
use crate::{interrupt, memory::resident, output};

/// Call a function of a model with tensors from files.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine run model.pt2 --inputs in.safetensors --outputs out.safetensors
  ondine run model.pt2 --input x=x.npy --input mask=other.safetensors:mask --outputs out.safetensors
  ondine run model.pt2 --inputs in.safetensors --repeat 20 --json
  ondine run genmoji/unet --input sample=x.npy --input timestep=t.npy --input encoder_hidden_states=e.npy")]
pub(super) struct Run {
    #[command(flatten)]
    callee: Callee,

    #[command(flatten)]
    inputs: Inputs,

    /// Safetensors file to write the results to
    #[arg(long, visible_alias = "output", value_name = "FILE")]
    outputs: Option<PathBuf>,

    /// Call it so often, states carried on, and tell the time of each call
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_count)]
    repeat: usize,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    running: Running,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<()> {
        self.outputs.as_deref().map_or(Ok(()), check_writable)?;
        let device = self.running.device(interrupt::wish())?;
        let start = Instant::now();
        let opened = self.callee.open(&device)?;
        let opened_after = start.elapsed();
        let inputs = |graph: &Graph| self.inputs.read(graph).map(Given::Read);
        let Loaded { function, arguments, from_cache, reading, .. } =
            self.callee.load(opened, &self.running, inputs, &device)?;
        let ready = start.elapsed() - reading;
        let inputs = borrowed(&arguments);
        let (mut state, mut times, mut last) = (State::default(), Vec::new(), None);
        for _ in 0..self.repeat {
            let start = Instant::now();
            last = Some(function.run(&inputs, &mut state)?);
            times.push(start.elapsed());
        }
        let outputs: Vec<(String, NDArray)> = last
            .iter()
            .flat_map(|outputs| outputs.iter())
            .map(|(name, array)| (name.to_string(), array.clone()))
            .collect();
        let labels = function.graph().labels();
        if let Some(path) = &self.outputs {
            let notes = labels.iter().map(|(output, label)| (output.to_string(), label.to_string())).collect();
            write_safetensors_with(path, &outputs, (!labels.is_empty()).then_some(notes))?;
        }
        self.report(&outputs, labels, &times, [opened_after, ready], from_cache);
        Ok(())
    }

    fn report(
        &self,
        outputs: &[(String, NDArray)],
        labels: &BTreeMap<Arc<str>, Arc<str>>,
        times: &[Duration],
        [opened, ready]: [Duration; 2],
        cached: bool,
    ) {
        let seconds = |time: &Duration| time.as_secs_f64();
        if self.json {
            let outputs: serde_json::Map<_, _> = outputs
                .iter()
                .map(|(name, array)| {
                    let mut facts = json!({"dtype": array.dtype().name(), "shape": array.shape()});
                    if let Some(label) = labels.get(&**name) {
                        facts["label"] = (**label).into();
                    }
                    (name.clone(), facts)
                })
                .collect();
            output::json(&json!({
                "outputs": outputs,
                "seconds": times.iter().map(seconds).collect::<Vec<_>>(),
                "open_seconds": seconds(&opened),
                "ready_seconds": seconds(&ready),
                "from_cache": cached,
                "resident_bytes": resident().map(|[anonymous, file]| json!({"anonymous": anonymous, "file": file})),
            }));
            return;
        }
        for (name, array) in outputs {
            let label = labels.get(&**name).map(|label| format!(" ({label})")).unwrap_or_default();
            output::line(format_args!("{name}{label}: {} {:?}", array.dtype(), array.shape()));
        }
        let mut sorted = times.to_vec();
        sorted.sort();
        let median = sorted[sorted.len() / 2];
        output::remark(format_args!(
            "{:.2} ms a call, {:.0} ms to get ready",
            1e3 * seconds(&median),
            1e3 * seconds(&ready)
        ));
    }
}
