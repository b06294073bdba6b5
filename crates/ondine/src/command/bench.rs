//! `ondine bench`: how fast networks and pictures of well-known shapes are here, beside what the processor can do.
//!
//! Networks are called as `draw` calls them; pictures are drawn by this very program, started anew for each. Their
//! weights are random, since speed does not depend on them.

pub(super) mod machine;
mod models;
mod network;
mod picture;
mod report;
pub(super) mod weights;
mod works;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use ondine_runtime::{Cancel, Precision};

use super::Running;
use crate::output;
use machine::Machine;
use works::{WORKS, What, Work};

/// Time networks and pictures of well-known shapes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine bench
  ondine bench unet-sd15 --precision bf16 --threads 2
  ondine bench unet-sd15 --precision int8 --profile
  ondine bench unet-sd15 --precision int8 --against f32
  ondine bench picture-sd15 --json

Networks: unet-sd15, unet-sdxl, vae-sd, taesd, clip-l; at f32 unless --precision says otherwise.
Pictures, process start to file: picture-default, picture-sd15 (2 GB on the disk for the model and as much for its
cache), picture-sdxl (7 GB and as much), start-sd15 (to the first step); at int8, the default model at its own precision.
Models for pictures are written once, into the cache folder; --clean removes them.")]
pub(super) struct Bench {
    /// Works, or `all` [default: those that need no model on the disk, without unet-sdxl, which takes 6 GB]
    #[arg(value_name = "WORK")]
    works: Vec<String>,

    /// How often to time a work after one time that warms up
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeat: usize,

    /// Show where the time of a network goes, by kind of operator
    #[arg(long)]
    profile: bool,

    /// With --profile, show each module of the network on its own
    #[arg(long, requires = "profile")]
    modules: bool,

    /// Show how far the results of a network are from those at this precision
    #[arg(long, value_name = "TYPE", value_parser = str::parse::<Precision>)]
    against: Option<Precision>,

    /// Print one JSON object per work
    #[arg(long)]
    json: bool,

    /// Remove the models that picture works have written, and stop
    #[arg(long)]
    clean: bool,

    #[command(flatten)]
    running: Running,
}

impl Bench {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.clean {
            return models::remove(&folder());
        }
        let works = self.works()?;
        let device = self.running.device(Cancel::default())?;
        let machine = Machine::measure(&device);
        if !self.json {
            output::line(&machine);
        }
        for work in works {
            let report = match &work.what {
                What::Network(network) => network::measure(&self, work.name, network, &device),
                What::Picture(picture) => picture::measure(&self, work.name, picture, &machine),
            };
            let report = report.with_context(|| work.name)?;
            if self.json {
                output::line(report.to_json(&machine));
            } else {
                report.print(&machine);
            }
        }
        Ok(())
    }

    fn works(&self) -> anyhow::Result<Vec<&'static Work>> {
        if self.works.is_empty() {
            return Ok(WORKS.iter().filter(|work| !work.large).collect());
        }
        if self.works == ["all"] {
            return Ok(WORKS.iter().collect());
        }
        let find = |name: &String| match WORKS.iter().find(|work| work.name == name) {
            Some(work) => Ok(work),
            None => bail!("there is no work `{name}`; choose {} or all", WORKS.map(|work| work.name).join(", ")),
        };
        self.works.iter().map(find).collect()
    }
}

/// Where picture works keep their models and the cache of those.
fn folder() -> PathBuf {
    folders::caches().unwrap_or_else(|| std::env::temp_dir().join("ondine")).join("bench")
}
