//! The `ondine` command: see `ondine --help`.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a closed pipe is no failure: print with `output`")]

mod command;
mod interrupt;
mod memory;
mod output;
mod progress;
mod report;

use std::process::ExitCode;

use clap::Parser;

use command::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return report::usage(&usage),
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::failure(&error),
    }
}
