//! `ondine eval perplexity`: how well a model knows a text.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use ondine_language::{Session, perplexity::perplexity};
use serde_json::json;

use super::super::{language::Opening, running::parse_count};
use crate::{output, progress::Progress};

#[derive(Args)]
pub(super) struct OfText {
    /// File with the text
    #[arg(value_name = "FILE")]
    text: PathBuf,

    /// Model: a GGUF file, a folder as transformers saves it, or a name from `ondine models list` [default:
    /// smollm2-135m]
    #[arg(short, long, value_name = "MODEL")]
    model: Option<String>,

    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = parse_count)]
    window: usize,

    /// Look at the first so many windows alone
    #[arg(long, value_name = "N", value_parser = parse_count)]
    windows: Option<usize>,

    /// Say how far the model is from this one, computed in f32: the mean divergence of Kullback and Leibler, and how
    /// often both expect the same token
    #[arg(long, value_name = "MODEL")]
    reference: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    opening: Opening,
}

impl OfText {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(&self.text).with_context(|| self.text.display().to_string())?;
        let model = self.opening.open(self.model.as_deref(), self.json)?;
        let progress = Progress::new(self.json);
        let mut session = Session::new(&model)?;
        let other = self.reference.as_deref().map(|name| self.opening.open_exact(name, self.json)).transpose()?;
        let mut other = other.as_ref().map(Session::new).transpose()?;
        let most = self.windows.unwrap_or(usize::MAX);
        let found = perplexity(&mut session, other.as_mut(), &text, self.window, most, &mut |found, count| {
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
                "divergence": found.divergence,
            }));
        } else {
            output::line(format_args!(
                "perplexity {:.4} ± {:.4} of {} tokens in {} windows of {}",
                found.value, found.error, found.tokens, found.windows, self.window
            ));
            if let Some(far) = found.divergence {
                output::line(format_args!(
                    "divergence {:.6} a token, at most {:.4}; the same token first {:.2} % of the time",
                    far.mean,
                    far.most,
                    100.0 * far.same_top
                ));
            }
        }
        Ok(())
    }
}
