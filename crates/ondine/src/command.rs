//! The commands and the options that they share.

mod bench;
mod build;
mod cache;
mod callee;
mod compare;
mod compress;
mod draw;
mod import;
mod inspect;
mod models;
mod profile;
mod run;

use std::num::NonZeroUsize;

use clap::{Args, Parser, Subcommand};
use ondine::folders;
use ondine_runtime::{Cache, Cancel, Device, Precision};

/// On-device inference: draws pictures and runs networks on this machine, offline.
#[derive(Parser)]
#[command(name = "ondine", version, after_help = "Nothing leaves this machine.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Draw pictures from a text
    Draw(Box<draw::Draw>),
    /// Time networks of well-known shapes on random weights
    Bench(bench::Bench),
    /// Show what a model is made of, without running it
    Inspect(inspect::Inspect),
    /// Keep a model as a folder that any machine opens at once
    Import(import::Import),
    /// Prepare a model ahead of time for one kind of processor
    Build(build::Build),
    /// Write a model with its weights in fewer bits
    Compress(Box<compress::Compress>),
    /// Show and limit the cache of packed weights
    Cache(cache::CacheCommand),
    /// Call a function of a model with tensors from files
    Run(Box<run::Run>),
    /// Show where the time of a call goes: by operator, node, module and Python line
    Profile(Box<profile::Profile>),
    /// Find the first node where values part from a reference, or stop being finite
    Compare(Box<compare::Compare>),
    /// List the models at hand, or say where they are
    Models(models::Models),
}

impl Cli {
    /// Does what the command line asks for.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Draw(draw) => draw.run(),
            Command::Bench(bench) => bench.run(),
            Command::Inspect(inspect) => inspect.run(),
            Command::Import(import) => import.run(),
            Command::Build(build) => build.run(),
            Command::Compress(compress) => compress.run(),
            Command::Cache(cache) => cache.run(),
            Command::Run(run) => run.run(),
            Command::Profile(profile) => profile.run(),
            Command::Compare(compare) => compare.run(),
            Command::Models(models) => models.run(),
        }
    }
}

/// How and where networks run.
#[derive(Args)]
#[command(next_help_heading = "Running")]
struct Running {
    /// Type of weights and activations: f32, bf16 or int8 [default: the model's own, else f32]
    #[arg(long, value_name = "TYPE", value_parser = str::parse::<Precision>)]
    precision: Option<Precision>,

    /// Threads to use [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Most memory to use, such as 1.5GB: takes half precision if that fits, else refuses at once
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    memory: Option<u64>,

    /// Device to run on
    #[arg(long, value_name = "NAME", default_value = "cpu", value_parser = ["cpu"])]
    device: String,

    /// Neither read nor write the cache of packed weights
    #[arg(long)]
    no_cache: bool,
}

impl Running {
    fn device(&self, cancel: Cancel) -> anyhow::Result<Device> {
        Ok(Device::cpu(self.threads)?.with_cancel(cancel))
    }

    /// The cache of packed weights, unless it is unwanted or there is no home for it.
    fn cache(&self) -> Option<Cache> {
        if self.no_cache { None } else { packed_weights() }
    }
}

/// The cache of packed weights, if there is a home for it.
fn packed_weights() -> Option<Cache> {
    folders::caches().map(|folder| Cache::new(folder.join("specialized")))
}

/// A number of bytes with an optional unit: `800MB`, `1.5GiB`.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("`{unit}` is no unit of memory; write 800MB or 1.5GB")),
    };
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 => Ok((number * factor) as u64),
        _ => Err("write a size such as 800MB or 1.5GB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("1.5GB"), Ok(1_500_000_000));
        assert_eq!(parse_bytes("512 MiB"), Ok(512 << 20));
        assert!(parse_bytes("many").is_err() && parse_bytes("0").is_err() && parse_bytes("3 apples").is_err());
    }
}
