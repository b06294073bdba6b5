//! Where and how networks run: options that several commands share.

use std::num::NonZeroUsize;

use anyhow::ensure;
use clap::Args;
use ondine::folders;
use ondine_runtime::{Cache, Cancel, Device, Precision};

use super::bytes::{megabytes, parse_bytes};

/// How and where networks run.
#[derive(Args)]
#[command(next_help_heading = "Running")]
pub(super) struct Running {
    /// Type of weights and activations: f32, bf16 or int8 [default: the model's own, else f32]
    #[arg(long, value_name = "TYPE", value_parser = str::parse::<Precision>)]
    pub(super) precision: Option<Precision>,

    /// Threads to use [default: one per core]
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<NonZeroUsize>,

    /// Most memory to use, such as 1.5GB: refuses at once what takes more; `draw` takes half precision if that fits
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(super) memory: Option<u64>,

    /// Device to run on
    #[arg(long, value_name = "NAME", default_value = "cpu", value_parser = ["cpu"])]
    pub(super) device: String,

    /// Neither read nor write the cache of packed weights
    #[arg(long)]
    pub(super) no_cache: bool,
}

impl Running {
    pub(super) fn device(&self, cancel: Cancel) -> anyhow::Result<Device> {
        Ok(Device::cpu(self.threads)?.with_cancel(cancel))
    }

    /// Refuses what takes more `bytes` than `--memory` allows; asks only if there is a limit.
    pub(super) fn allow(&self, what: &str, bytes: impl FnOnce() -> anyhow::Result<u64>) -> anyhow::Result<()> {
        let Some(limit) = self.memory else { return Ok(()) };
        let bytes = bytes()?;
        let hint = if self.precision.unwrap_or_default() == Precision::F32 { "--precision bf16 or " } else { "" };
        ensure!(
            bytes <= limit,
            "{what}: this takes {}, --memory allows {}; try {hint}smaller inputs",
            megabytes(bytes),
            megabytes(limit)
        );
        Ok(())
    }

    /// The cache of packed weights, unless it is unwanted or there is no home for it.
    pub(super) fn cache(&self) -> Option<Cache> {
        if self.no_cache { None } else { packed_weights() }
    }
}

/// The cache of packed weights, if there is a home for it.
pub(super) fn packed_weights() -> Option<Cache> {
    folders::caches().map(|folder| Cache::new(folder.join("specialized")))
}
