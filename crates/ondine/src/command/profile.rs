//! `ondine profile`: where the time of a call goes, by operator, node, module and Python line.

mod html;
mod measure;
mod table;
mod trace;

use std::path::{Path, PathBuf};

use clap::Args;
use ondine_runtime::file::write_whole;

use super::{
    Running,
    callee::{Callee, Inputs},
};
use crate::output;

/// Show where the time of a call goes: by operator, node, module and Python line.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine profile model.pt2
  ondine profile model.pt2 --inputs in.safetensors --precision bf16 --html report.html
  ondine profile model.pt2 --size s40=8 --repeat 20 --trace trace.json    open it at ui.perfetto.dev

Without inputs they are random, of a fixed seed. A node that the engine has fused with others keeps all their names; its time
counts for the Python line of the first. Speeds are told as fractions of what this machine can do at most, measured first.")]
pub(super) struct Profile {
    #[command(flatten)]
    callee: Callee,

    #[command(flatten)]
    inputs: Inputs,

    /// Size of a symbolic dimension of random inputs [default: the exporter's example, or the least allowed]
    #[arg(long, value_name = "NAME=N")]
    size: Vec<String>,

    /// How often to call it, after one call that warms up; times are medians
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeat: usize,

    /// Rows to print of each table; 0 for all
    #[arg(long, value_name = "N", default_value_t = 12)]
    rows: usize,

    /// Write all calls as a trace in Chrome's format, for ui.perfetto.dev
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Write a report to look at: one file that needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    running: Running,
}

impl Profile {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let measured = self.measure()?;
        let facts = measured.to_json();
        if let Some(path) = &self.trace {
            write(path, &trace::events(&measured).to_string())?;
        }
        if let Some(path) = &self.html {
            write(path, &html::page(&facts))?;
        }
        if self.json {
            output::line(facts);
        } else {
            let rows = if self.rows == 0 { usize::MAX } else { self.rows };
            table::lines(&measured, rows).iter().for_each(output::line);
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = |file: &mut std::io::BufWriter<std::fs::File>| Ok(std::io::Write::write_all(file, text.as_bytes())?);
    Ok(write_whole(path, write)?)
}
