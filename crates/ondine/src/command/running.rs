//! Where and how networks run: options that several commands share.

use std::num::NonZeroUsize;

use anyhow::ensure;
use clap::Args;
use ondine::folders;
use ondine_runtime::{Cache, Cancel, Device, Precision};

use super::bytes::{megabytes, parse_bytes};
use crate::memory;

/// How and where networks run.
#[derive(Args, Clone)]
#[command(next_help_heading = "Running")]
pub(super) struct Running {
    /// Type of weights and activations: f32, bf16, int8 or a8 [default: the model's own, else f32]
    #[arg(long, value_name = "TYPE", value_parser = str::parse::<Precision>)]
    pub(super) precision: Option<Precision>,

    /// Threads to use [default: one per core]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub(super) threads: Option<NonZeroUsize>,

    /// Most memory to use, such as 1.5GB, all that the process takes: refuses at once what takes more; `draw` takes
    /// half precision if that fits [default: what is free]
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

    /// Refuses what takes more `bytes` of weights, workspace and the like than `--memory` allows, or than the system
    /// has left if that is not given.
    pub(super) fn allow(&self, what: &str, bytes: impl FnOnce() -> anyhow::Result<u64>) -> anyhow::Result<()> {
        self.allow_or("", what, bytes)
    }

    /// As [`Running::allow`]; the error says that `other` options may help, too.
    pub(super) fn allow_or(
        &self,
        other: &str,
        what: &str,
        bytes: impl FnOnce() -> anyhow::Result<u64>,
    ) -> anyhow::Result<()> {
        let hint = if self.precision.unwrap_or_default() == Precision::F32 { "--precision bf16 or " } else { "" };
        let besides = memory::besides();
        if let Some(limit) = self.memory {
            let bytes = bytes()?.saturating_add(besides);
            ensure!(
                bytes <= limit,
                "{what}: this takes {}, --memory allows {}; try {other}{hint}smaller inputs",
                megabytes(bytes),
                megabytes(limit)
            );
        } else if let (Some(free), Ok(bytes)) = (memory::available(), bytes()) {
            // Inputs that do not fit are the call's to refuse.
            ensure!(
                bytes <= free,
                "{what}: this takes {}, {} are free; try {other}{hint}smaller inputs, or --memory {} to try it all the same",
                megabytes(bytes),
                megabytes(free),
                megabytes(bytes.saturating_add(besides).saturating_add(bytes / 50)).replace(' ', "")
            );
        }
        Ok(())
    }

    /// The cache of packed weights, unless it is unwanted or there is no home for it.
    pub(super) fn cache(&self) -> Option<Cache> {
        if self.no_cache { None } else { packed_weights() }
    }
}

/// A number of threads, of which nobody has millions.
pub(super) fn parse_threads(text: &str) -> Result<NonZeroUsize, String> {
    const MOST: usize = 1024;
    match text.parse() {
        Ok(threads) if (1..=MOST).contains(&threads) => NonZeroUsize::new(threads).ok_or_else(String::new),
        _ => Err(format!("write a whole number from 1 to {MOST}")),
    }
}

/// How often something is done: at least once.
pub(super) fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("write a whole number above 0".to_owned()),
    }
}

/// The cache of packed weights, if there is a home for it.
pub(super) fn packed_weights() -> Option<Cache> {
    folders::caches().map(|folder| Cache::new(folder.join("specialized")))
}
