//! The `ondine` command: see `ondine --help`.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a closed pipe is no failure: print with `output`")]

mod allocator;
mod command;
mod interrupt;
mod memory;
mod output;
mod progress;
mod report;
mod standard_input;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use command::Cli;

#[global_allocator]
static MEMORY: allocator::Told = allocator::Told;

fn main() -> ExitCode {
    ondine_graph::say_what_was_cut();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
            return report::rejected(&usage, &Cli::command(), words);
        }
    };
    interrupt::wish();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::failure(&error),
    }
}
