//! `ondine embed`: what texts mean, as vectors.

use anyhow::Context;
use clap::Args;
use ondine::genmoji;
use ondine_language::embed::Embedder;
use ondine_models::Source;
use serde_json::{Value, json};

use super::{language::LONGEST, running::Running};
use crate::{interrupt, output, report::usage, standard_input};

/// Make vectors of texts: those that mean alike point the same way.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine embed \"a cat\" \"a kitten\" \"a lorry\"
  ondine embed --json - < lines.txt

The encoder is all-MiniLM-L6-v2, which is part of the built-in model: 384 numbers of length 1, texts of up to 512 tokens. Of
several texts, the cosines between the first and the others are shown.")]
pub(super) struct Embed {
    /// The texts; - reads one from each line of standard input
    #[arg(value_name = "TEXT", required = true)]
    texts: Vec<String>,

    /// Print one JSON object with all numbers
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    running: Running,
}

/// Where the built-in model has its text encoder and the vocabulary of it.
const PARTS: [&str; 2] = ["text_encoder", "tokenizer"];

impl Embed {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let texts = self.texts()?;
        let device = self.running.device(interrupt::wish())?;
        let source: Source = genmoji::source();
        let precision = self.running.precision.unwrap_or_default();
        let mut embedder = Embedder::open(&source, PARTS, precision, &device, self.running.cache().as_ref())?;
        let mut found = Vec::with_capacity(texts.len());
        for text in &texts {
            found.push(
                embedder.embed(text).with_context(|| format!("{:?}", text.chars().take(40).collect::<String>()))?,
            );
        }
        if self.json {
            let embeddings: Vec<Value> = texts
                .iter()
                .zip(&found)
                .map(|(text, found)| json!({"text": text, "tokens": found.tokens, "embedding": found.vector}))
                .collect();
            output::json(&json!({"model": "all-MiniLM-L6-v2", "embeddings": embeddings}));
            return Ok(());
        }
        match found.as_slice() {
            [only] => {
                let numbers: Vec<String> = only.vector.iter().map(f32::to_string).collect();
                output::line(numbers.join(" "));
            }
            [first, others @ ..] => {
                for (text, other) in texts.iter().skip(1).zip(others) {
                    let cosine: f32 = first.vector.iter().zip(&other.vector).map(|(a, b)| a * b).sum();
                    output::line(format_args!("{cosine:.4} {text}"));
                }
            }
            [] => {}
        }
        Ok(())
    }

    fn texts(&self) -> anyhow::Result<Vec<String>> {
        let texts = if self.texts == ["-"] {
            standard_input::read("the texts", LONGEST)?.lines().map(str::to_owned).collect()
        } else {
            self.texts.clone()
        };
        if texts.iter().any(|text| text.trim().is_empty()) || texts.is_empty() {
            usage!("a text is empty");
        }
        Ok(texts)
    }
}
