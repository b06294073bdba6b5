//! `ondine bench`: how fast networks of well-known shapes run here, on random weights.
//!
//! A work is a network as `draw` builds, specializes and calls it; its weights are random, since speed does not
//! depend on them.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use half::f16;
use ondine_models::{
    GraphSizes,
    registry::{Architecture, find},
};
use ondine_runtime::{
    Asset, Bindings, Bytes, Cancel, DType, Device, Function, Graph, NDArray, Options, State, Tensor, Weights,
    profile::{self, Profile},
};
use serde_json::{Value, json};

use super::Running;

/// Time networks of well-known shapes on random weights.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine bench
  ondine bench unet-sd15 --precision bf16 --threads 2
  ondine bench vae-sd --profile
  ondine bench clip-l --json")]
pub(super) struct Bench {
    /// Work: unet-sd15, unet-sdxl, vae-sd, taesd or clip-l [default: all but unet-sdxl, which takes 6 GB]
    work: Option<String>,

    /// Calls to time after one that warms up
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeat: usize,

    /// Show where the time of a call goes, by kind of operator
    #[arg(long)]
    profile: bool,

    /// Print one JSON object per work
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    running: Running,
}

/// A network with the sizes of its inputs.
struct Work {
    name: &'static str,
    class: &'static str,
    config: &'static str,
    function: &'static str,
    /// Values of the symbols; height and width are those of the latents.
    sizes: &'static [(&'static str, usize)],
    /// What divides height and width of the graph.
    multiple: usize,
}

/// The works, as data: shapes are those of the published networks.
const WORKS: [Work; 5] = [
    Work {
        name: "unet-sd15",
        class: "UNet2DConditionModel",
        config: r#"{"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768, "attention_head_dim": 8}"#,
        function: "main",
        sizes: &[("batch", 1), ("tokens", 77), ("height", 64), ("width", 64)],
        multiple: 8,
    },
    Work {
        name: "unet-sdxl",
        class: "UNet2DConditionModel",
        config: r#"{"block_out_channels": [320, 640, 1280], "transformer_layers_per_block": [1, 2, 10],
            "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048, "use_linear_projection": true,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816}"#,
        function: "main",
        sizes: &[("batch", 1), ("tokens", 77), ("height", 128), ("width", 128)],
        multiple: 4,
    },
    Work {
        name: "vae-sd",
        class: "AutoencoderKL",
        config: r#"{"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
            "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
            "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}"#,
        function: "decode",
        sizes: &[("batch", 1), ("height", 64), ("width", 64)],
        multiple: 1,
    },
    Work {
        name: "taesd",
        class: "AutoencoderTiny",
        config: "{}",
        function: "decode",
        sizes: &[("batch", 1), ("height", 64), ("width", 64)],
        multiple: 1,
    },
    Work {
        name: "clip-l",
        class: "CLIPTextModel",
        config: r#"{"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "max_position_embeddings": 77}"#,
        function: "main",
        sizes: &[("batch", 1), ("tokens", 77)],
        multiple: 1,
    },
];

/// What is not timed unless it is asked for: it takes many gigabytes.
const LARGE: &str = "unet-sdxl";

impl Bench {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let device = self.running.device(Cancel::default())?;
        let works: Vec<&Work> = match &self.work {
            None => WORKS.iter().filter(|work| work.name != LARGE).collect(),
            Some(name) => match WORKS.iter().find(|work| work.name == name) {
                Some(work) => vec![work],
                None => bail!("there is no work `{name}`; choose {}", WORKS.map(|work| work.name).join(", ")),
            },
        };
        for work in works {
            let result = self.measure(work, &device).with_context(|| work.name)?;
            if self.json {
                println!("{}", result.to_json(self.profile));
            } else {
                result.print(self.profile);
            }
        }
        Ok(())
    }

    fn measure(&self, work: &Work, device: &Device) -> anyhow::Result<Measured> {
        let asset = work.asset()?.only(work.function)?;
        let precision = self.running.precision.unwrap_or_default();
        let prepared = asset.prepare(&Options { precision }, device)?;
        let function = prepared.specialize(None)?.load().function(work.function)?;
        drop((prepared, asset));
        let bindings = work.bindings();
        let inputs = random_inputs(function.graph(), &bindings)?;
        let mut state = if self.profile { State::profiled() } else { State::default() };
        call(&function, &inputs, &mut state)?;
        state.take_profile();
        let mut times = Vec::new();
        for _ in 0..self.repeat.max(1) {
            let start = Instant::now();
            call(&function, &inputs, &mut state)?;
            times.push(start.elapsed());
        }
        times.sort();
        let plan = function.plan(&bindings)?;
        Ok(Measured {
            work: work.name,
            precision: precision.to_string(),
            threads: device.threads(),
            tier: device.tier().to_string(),
            median: times[times.len() / 2],
            fastest: times[0],
            flops: profile::flops(function.graph(), &plan),
            calls: times.len(),
            profile: state.take_profile().unwrap_or_default(),
        })
    }
}

impl Work {
    fn asset(&self) -> anyhow::Result<Asset> {
        let architecture: &Architecture = find(self.class)?;
        let sizes = GraphSizes { multiple: self.multiple, mask: false };
        let functions = (architecture.functions)(self.config, sizes)?;
        let weights = random_weights(functions.iter().map(|(_, graph)| graph))?;
        Ok(Asset::new(self.name, functions, weights)?)
    }

    /// Symbols of height and width count multiples.
    fn bindings(&self) -> Bindings {
        let value =
            |name: &str, size: usize| if matches!(name, "height" | "width") { size / self.multiple } else { size };
        self.sizes.iter().map(|&(name, size)| (name.into(), value(name, size))).collect()
    }
}

fn call(function: &Function, inputs: &[(String, NDArray)], state: &mut State) -> anyhow::Result<()> {
    let inputs: Vec<_> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
    function.run(&inputs, state)?;
    Ok(())
}

/// Small numbers of either sign, by a multiplicative generator.
fn random_numbers(count: usize, scale: f32) -> impl Iterator<Item = f32> {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    (0..count).map(move |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 40) as f32 / 8_388_608.0 - 1.0) * scale
    })
}

/// Weights that all lie in one block of random numbers, so that they take its memory only.
fn random_weights<'a>(graphs: impl Iterator<Item = &'a Graph>) -> anyhow::Result<Weights> {
    let needed: Vec<_> = graphs.flat_map(Graph::weights).cloned().collect();
    let bytes = |shape: &[usize]| shape.iter().product::<usize>() * DType::F16.size();
    let largest = needed.iter().map(|weight| bytes(&weight.shape)).max().unwrap_or_default();
    let numbers: Vec<u8> = random_numbers(largest / 2, 0.03).flat_map(|x| f16::from_f32(x).to_le_bytes()).collect();
    let block = Bytes::from(numbers.as_slice());
    let mut weights = Weights::default();
    for weight in needed {
        let bytes = block.slice(0, bytes(&weight.shape)).context("a weight is larger than the largest")?;
        let tensor = Tensor { dtype: DType::F16, shape: weight.shape.clone(), bytes, file: "random".into() };
        weights.insert(&weight.path, tensor);
    }
    Ok(weights)
}

fn random_inputs(graph: &Graph, bindings: &Bindings) -> anyhow::Result<Vec<(String, NDArray)>> {
    let mut inputs = Vec::new();
    for (name, value) in graph.inputs() {
        let signature = &graph.node(*value).signature;
        let shape = signature.shape.bind(bindings)?;
        let count = shape.iter().product();
        let array = match signature.dtype {
            DType::I64 => NDArray::new(&shape, &(0..count as i64).collect::<Vec<_>>())?,
            _ => NDArray::new(&shape, &random_numbers(count, 1.0).collect::<Vec<_>>())?,
        };
        inputs.push((name.to_string(), array));
    }
    Ok(inputs)
}

/// The result of one work.
struct Measured {
    work: &'static str,
    precision: String,
    threads: usize,
    tier: String,
    median: Duration,
    fastest: Duration,
    flops: u64,
    calls: usize,
    profile: Profile,
}

impl Measured {
    fn gflops(&self) -> f64 {
        self.flops as f64 / self.median.as_secs_f64() / 1e9
    }

    fn to_json(&self, with_profile: bool) -> Value {
        let mut facts = json!({
            "work": self.work,
            "precision": self.precision,
            "threads": self.threads,
            "tier": self.tier,
            "median_s": self.median.as_secs_f64(),
            "fastest_s": self.fastest.as_secs_f64(),
            "gflop": self.flops as f64 / 1e9,
            "gflops": self.gflops(),
            "peak_rss_bytes": peak_rss(),
        });
        if with_profile {
            let rows = self.profile.by(|sample| sample.op);
            let row = |(op, share): &(&str, profile::Share)| {
                json!({
                    "op": op,
                    "count": share.count / self.calls,
                    "seconds": share.time.as_secs_f64() / self.calls as f64,
                    "gflops": share.flops as f64 / share.time.as_secs_f64() / 1e9,
                    "gbytes_per_second": share.bytes as f64 / share.time.as_secs_f64() / 1e9,
                })
            };
            facts["profile"] = rows.iter().map(row).collect();
        }
        facts
    }

    fn print(&self, with_profile: bool) {
        let (median, gflops) = (self.median.as_secs_f64(), self.gflops());
        let Self { work, precision, threads, tier, .. } = self;
        println!("{work:10} {precision:4}  {median:8.4} s  {gflops:6.0} GFLOP/s  {threads} threads, {tier}");
        if with_profile {
            let total: Duration = self.profile.samples.iter().map(|sample| sample.time).sum();
            if std::env::var_os("SCOPES").is_some() {
                for ((op, scope), share) in self.profile.by(|sample| (sample.op, sample.scope.clone())) {
                    let seconds = share.time.as_secs_f64();
                    println!(
                        "  {op:12} {scope:60} {:8.3} ms {:6.0} GFLOP/s",
                        1e3 * seconds / self.calls as f64,
                        share.flops as f64 / seconds / 1e9
                    );
                }
            }
            for (op, share) in self.profile.by(|sample| sample.op) {
                let seconds = share.time.as_secs_f64();
                println!(
                    "  {op:12} {:5.1} %  {:8.4} s  {:4} calls  {:6.0} GFLOP/s  {:5.1} GB/s",
                    100.0 * seconds / total.as_secs_f64(),
                    seconds / self.calls as f64,
                    share.count / self.calls,
                    share.flops as f64 / seconds / 1e9,
                    share.bytes as f64 / seconds / 1e9,
                );
            }
        }
    }
}

/// The most memory that the process has had, where the system tells.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}
