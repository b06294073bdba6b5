//! The commands and the options that they share.

mod ask;
mod bench;
mod build;
mod bytes;
mod cache;
mod callee;
mod chat;
mod check;
mod compare;
mod completions;
mod compress;
mod destination;
mod draw;
mod embed;
mod eval;
mod import;
mod inspect;
mod language;
mod licenses;
mod man;
mod models;
mod profile;
mod run;
mod running;
mod upscale;

use clap::{CommandFactory, Parser, Subcommand};

/// On-device inference: draws pictures, answers questions and runs networks on this machine, offline.
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
    /// Make a picture larger
    Upscale(Box<upscale::Upscale>),
    /// Answer a question
    Ask(Box<ask::Ask>),
    /// Hold a conversation
    Chat(Box<chat::ChatCommand>),
    /// Make vectors of texts, which say how alike they are
    Embed(embed::Embed),
    /// Measure how good a language model is
    Eval(eval::Eval),
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
    /// Compare the files of models with the sums that were written with them
    Check(check::Check),
    /// Show and limit the cache of packed weights
    Cache(cache::CacheCommand),
    /// Call a function of a model with tensors from files
    Run(Box<run::Run>),
    /// Show where the time of a call goes: by operator, node, module and Python line
    Profile(Box<profile::Profile>),
    /// Find the first node where values part from a reference, or stop being finite
    Compare(Box<compare::Compare>),
    /// List, fetch and remove models, or say where they are
    Models(models::Models),
    /// Write the manual pages
    Man(man::Manual),
    /// Print the completions of a shell
    Completions(completions::Completions),
    /// Print the licences of the program, of the built-in model and of all packages inside
    Licenses(licenses::Licenses),
}

impl Cli {
    /// Does what the command line asks for.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Draw(draw) => draw.run(),
            Command::Upscale(upscale) => upscale.run(),
            Command::Ask(ask) => ask.run(),
            Command::Chat(chat) => chat.run(),
            Command::Embed(embed) => embed.run(),
            Command::Eval(eval) => eval.run(),
            Command::Bench(bench) => bench.run(),
            Command::Inspect(inspect) => inspect.run(),
            Command::Import(import) => import.run(),
            Command::Build(build) => build.run(),
            Command::Compress(compress) => compress.run(),
            Command::Check(check) => check.run(),
            Command::Cache(cache) => cache.run(),
            Command::Run(run) => run.run(),
            Command::Profile(profile) => profile.run(),
            Command::Compare(compare) => compare.run(),
            Command::Models(models) => models.run(),
            Command::Man(manual) => manual.run(Self::command()),
            Command::Completions(completions) => {
                completions.run(Self::command());
                Ok(())
            }
            Command::Licenses(licenses) => {
                licenses.run();
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
