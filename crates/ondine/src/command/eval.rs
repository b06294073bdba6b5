//! `ondine eval`: how good a language model is.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use ondine_language::{Session, perplexity::perplexity};
use serde_json::json;

use super::language::Opening;
use crate::{output, progress::Progress};

/// Measure how good a language model is.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine eval perplexity book.txt
  ondine eval perplexity book.txt --model model.gguf --window 1024 --json")]
pub(super) struct Eval {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Measure {
    /// How well a model knows a text: less is better. Windows do not overlap, and the second half of each counts, as in
    /// llama.cpp
    Perplexity(Box<OfText>),
}

#[derive(Args)]
struct OfText {
    /// File with the text
    #[arg(value_name = "FILE")]
    text: PathBuf,

    /// Model: a GGUF file, a folder as transformers saves it, or a name from `ondine models list` [default:
    /// smollm2-135m]
    #[arg(short, long, value_name = "MODEL")]
    model: Option<String>,

    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = super::running::parse_count)]
    window: usize,

    /// Look at the first so many windows alone
    #[arg(long, value_name = "N", value_parser = super::running::parse_count)]
    windows: Option<usize>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    opening: Opening,
}

impl Eval {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.measure {
            Measure::Perplexity(of) => of.run(),
        }
    }
}

impl OfText {
    fn run(self) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(&self.text).with_context(|| self.text.display().to_string())?;
        let model = self.opening.open(self.model.as_deref(), self.json)?;
        let progress = Progress::new(self.json);
        let mut session = Session::new(&model)?;
        let most = self.windows.unwrap_or(usize::MAX);
        let found = perplexity(&mut session, &text, self.window, most, &mut |found, count| {
            progress.work(&format!("perplexity {:.3}", found.value), found.windows, count);
        });
        progress.finish();
        let found = found?;
        if self.json {
            output::json(&json!({
                "model": model.name(),
                "text": self.text.display().to_string(),
                "perplexity": found.value,
                "error": found.error,
                "mean": found.mean,
                "tokens": found.tokens,
                "windows": found.windows,
                "window": self.window,
            }));
        } else {
            output::line(format_args!(
                "perplexity {:.4} ± {:.4} of {} tokens in {} windows of {}",
                found.value, found.error, found.tokens, found.windows, self.window
            ));
        }
        Ok(())
    }
}
