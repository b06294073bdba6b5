//! What can be asked of `ondine profile`.

use std::path::PathBuf;

use clap::Args;

use crate::command::{
    callee::{Callee, Inputs},
    running::{Running, parse_count},
};

/// Show where the time of a call goes: by operator, node, module and Python line.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine profile model.pt2
  ondine profile model.pt2 --inputs in.safetensors --precision bf16 --html report.html
  ondine profile model.pt2 --size s40=8 --repeat 20 --trace trace.json    open it at ui.perfetto.dev

Without inputs they are random, of a fixed seed. A node that the engine has fused with others keeps all their names; its time
counts for the Python line of the first. Speeds are told as fractions of what this machine can do at most, measured first.")]
pub(in crate::command) struct Profile {
    #[command(flatten)]
    pub(super) callee: Callee,

    #[command(flatten)]
    pub(super) inputs: Inputs,

    /// Size of a symbolic dimension of random inputs [default: the exporter's example, or the least allowed]
    #[arg(long, value_name = "NAME=N")]
    pub(super) size: Vec<String>,

    /// How often to call it, after one call that warms up; times are medians
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = parse_count)]
    pub(super) repeat: usize,

    /// Rows to print of each table; 0 for all
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub(super) rows: usize,

    /// Write all calls as a trace in Chrome's format, for ui.perfetto.dev
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,

    /// Write a report to look at: one file that needs no network
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) running: Running,
}
