//! What can be asked of `ondine bench`.

use std::path::PathBuf;

use clap::Args;
use ondine::folders;
use ondine_runtime::Precision;

use super::quant::Quant;
use crate::command::{
    language::Kept,
    running::{Running, parse_count},
};

/// Time networks and pictures of well-known shapes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine bench
  ondine bench unet-sd15 --precision bf16 --threads 2
  ondine bench unet-sd15 --precision int8 --profile
  ondine bench unet-sd15 --precision int8 --against f32
  ondine bench picture-sd15 --json
  ondine bench llama-1b --quant Q4_K_M --depth 4096 --kv int8
  ondine bench smollm2 --quant Q4_1 --precision a8 --streams 8
  ondine bench --model model.gguf --precision a8
  ondine bench afm-3b --quant INT2 --precision a8 --depth 4096

Networks: unet-sd15, unet-sdxl, vae-sd, taesd, clip-l, flux-blocks and z-image-blocks (a few blocks at full width, 512x512),
upscaler and upscaler-dense (128x128, four times as large); at f32 unless --precision says otherwise.
Pictures, process start to file: picture-default, picture-sdxs (1 GB on the disk for the model and as much for its cache),
picture-sd15 (2 GB and as much), picture-sdxl (7 GB and as much), start-sd15 (to the first step); at int8, the default model at
its own precision.
Language models: smollm2, llama-1b, llama-3b, afm-3b, afm-3b-unshared: a prompt of 512 tokens, and an answer behind --depth tokens, with
weights as --quant says.
Models for pictures are written once, into the cache folder; --clean removes them.")]
pub(in crate::command) struct Bench {
    /// Works, or `all` [default: those that need neither a model on the disk nor gigabytes]
    #[arg(value_name = "WORK")]
    pub(super) works: Vec<String>,

    /// A language model of yours instead of works: a GGUF file, a folder as transformers saves it, or a name from
    /// `ondine models list`
    #[arg(short, long, value_name = "MODEL", conflicts_with_all = ["works", "quant"])]
    pub(super) model: Option<String>,

    /// How often to time a work after one time that warms up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = parse_count)]
    pub(super) repeat: usize,

    /// Show where the time of a network goes, by kind of operator
    #[arg(long)]
    pub(super) profile: bool,

    /// With --profile, show each module of the network on its own
    #[arg(long, requires = "profile")]
    pub(super) modules: bool,

    /// Show how far the results of a network are from those at this precision
    #[arg(long, value_name = "TYPE", value_parser = str::parse::<Precision>)]
    pub(super) against: Option<Precision>,

    /// How the weights of a language model are stored: F16, Q4_K_M, INT2 (2 bits with a scale for each row, embeddings
    /// of 4 bits), or a block format of GGUF files such as Q8_0
    #[arg(long, value_name = "FORMAT", default_value = "Q4_K_M")]
    pub(super) quant: Quant,

    /// Tokens that stand before the answer of a language model
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) depth: usize,

    #[command(flatten)]
    pub(super) kept: Kept,

    /// Answers of a language model that are written side by side
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_count)]
    pub(super) streams: usize,

    /// Print one JSON object per work
    #[arg(long)]
    pub(super) json: bool,

    /// Remove the models that picture works have written, and stop
    #[arg(long)]
    pub(super) clean: bool,

    #[command(flatten)]
    pub(super) running: Running,
}

/// Where picture works keep their models and the cache of those.
pub(super) fn folder() -> PathBuf {
    folders::caches().unwrap_or_else(|| std::env::temp_dir().join("ondine")).join("bench")
}
