//! `ondine build`: a model prepared ahead of time, as one file for one tier of processors.

use std::{path::PathBuf, time::Instant};

use anyhow::bail;
use clap::Args;
use ondine::model::{self, Opened};
use ondine_runtime::{Device, Options, Precision, Specialize};
use serde_json::json;

use super::bytes::megabytes;
use crate::{output, report::bad_usage};

/// Prepare a model ahead of time for one kind of processor.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine build model.pt2 -o model.built
  ondine build model.ondine --cpu avx2 --precision int8 -o model-avx2.built
  ondine run model.built --inputs in.safetensors")]
pub(super) struct Build {
    /// Model: an archive of torch.export.save, a folder of `ondine import` or of one network
    model: String,

    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Kind of processor: generic, avx2, avx2-vnni, avx512-vnni or avx512, which this one must be
    /// able to run too [default: the best]
    #[arg(long, value_name = "TIER")]
    cpu: Option<String>,

    /// Type of weights and activations: f32, bf16, int8 or a8
    #[arg(long, value_name = "TYPE", value_parser = str::parse::<Precision>, default_value = "f32")]
    precision: Precision,

    /// Only this function [default: all]
    #[arg(long, value_name = "NAME")]
    function: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Build {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut device = Device::cpu(None)?;
        if let Some(tier) = &self.cpu {
            device = device.narrowed(tier).map_err(bad_usage)?;
        }
        let mut opened = model::open(&self.model, &device)?;
        if let Some(function) = &self.function {
            opened = opened.only(function).map_err(|error| bad_usage(error.at(&self.model)))?;
        }
        let Opened::Asset(asset) = opened else {
            bail!("{}: is built already; build it from what it was built from", self.model);
        };
        let prepared = asset.prepare(&Options { precision: self.precision, ..Options::default() }, &device)?;
        prepared.build(&self.output)?;
        let (about, file) = (prepared.about(), self.output.display().to_string());
        let (bytes, seconds) = (self.output.metadata()?.len(), start.elapsed().as_secs_f64());
        if self.json {
            output::json(&json!({"file": file, "bytes": bytes, "seconds": seconds, "about": about}));
        } else {
            output::line(file);
            output::remark(format_args!(
                "{} for {} at {}, {seconds:.1} s",
                megabytes(bytes),
                about.tier,
                about.precision
            ));
        }
        Ok(())
    }
}
