//! `ondine eval`: how good a language model is.

mod perplexity;
mod results;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use ondine_language::{
    Model, Session,
    eval::{Asked, Benchmark, ifeval::IfEval, mmlu, mmlu::Mmlu, numbers::Numbers},
};
use serde_json::{Map, Value, json};

use self::{perplexity::OfText, results::Results};
use super::{language::Opening, running::parse_count};
use crate::{output, progress::Progress};

/// Measure how good a language model is.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine eval perplexity book.txt
  ondine eval perplexity book.txt --model model.gguf --window 1024 --json
  ondine eval perplexity book.txt --model small-q4.gguf --reference small-f16.gguf
  ondine eval perplexity book.txt --model model.gguf --kv int8 --reference model.gguf
  ondine eval mmlu --data data/ --limit 5 --results mmlu.jsonl
  ondine eval gsm8k --data data/ --shots 0 --limit 100
  ondine eval mgsm de --data data/ --model model.gguf
  ondine eval ifeval --data data/ --json

Questions are asked as lm-evaluation-harness asks them, and nothing is downloaded: --data is the folder where they are.
With --results a run that was stopped is gone on with where it was.")]
pub(super) struct Eval {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Measure {
    /// How well a model knows a text: less is better. Windows do not overlap, and the second half of each counts, as in
    /// llama.cpp
    Perplexity(Box<OfText>),
    /// Questions of 57 subjects with four answers: the likeliest letter counts. --data holds `test/SUBJECT_test.csv`
    /// and `dev/SUBJECT_dev.csv`
    Mmlu(Box<OfSubjects>),
    /// Word problems of grade school. --data holds `gsm8k_test.jsonl`, and `gsm8k_train.jsonl` for examples
    Gsm8k(Box<OfProblems>),
    /// The same in eleven languages, without examples. --data holds `mgsm_LANGUAGE.tsv`
    Mgsm(Box<OfLanguage>),
    /// Instructions that a program can check. --data holds `ifeval_input_data.jsonl`
    Ifeval(Box<OfInstructions>),
}

/// What all benchmarks are told.
#[derive(Args)]
struct Asking {
    /// Folder with the questions
    #[arg(short, long, value_name = "FOLDER")]
    data: PathBuf,

    /// Model: a GGUF file, a folder as transformers saves it, or a name from `ondine models list` [default:
    /// smollm2-135m]
    #[arg(short, long, value_name = "MODEL")]
    model: Option<String>,

    /// File for what comes of each question; what is in it already is not asked again
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    opening: Opening,
}

#[derive(Args)]
struct OfSubjects {
    /// Examples before each question
    #[arg(long, value_name = "N", default_value_t = 5)]
    shots: usize,

    /// Ask the first so many questions of each subject alone
    #[arg(long, value_name = "N", value_parser = parse_count)]
    limit: Option<usize>,

    /// Subjects, such as anatomy; can be given several times [default: all]
    #[arg(long = "subject", value_name = "NAME")]
    subjects: Vec<String>,

    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
struct OfProblems {
    /// Examples before each problem, drawn as the harness draws them
    #[arg(long, value_name = "N", default_value_t = 5)]
    shots: usize,

    /// Ask the first so many problems alone
    #[arg(long, value_name = "N", value_parser = parse_count)]
    limit: Option<usize>,

    /// Ask as in a conversation, as the model's template writes it
    #[arg(long)]
    chat: bool,

    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
struct OfLanguage {
    /// Language: bn, de, en, es, fr, ja, ru, sw, te, th or zh
    #[arg(value_name = "LANGUAGE")]
    language: String,

    /// Ask the first so many problems alone
    #[arg(long, value_name = "N", value_parser = parse_count)]
    limit: Option<usize>,

    /// Ask as in a conversation, as the model's template writes it
    #[arg(long)]
    chat: bool,

    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
struct OfInstructions {
    /// Ask the first so many prompts alone
    #[arg(long, value_name = "N", value_parser = parse_count)]
    limit: Option<usize>,

    /// Let the model go on with the prompts as they are, and not answer them as in a conversation
    #[arg(long)]
    raw: bool,

    #[command(flatten)]
    asking: Asking,
}

impl Eval {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.measure {
            Measure::Perplexity(of) => of.run(),
            Measure::Mmlu(of) => {
                let choice = mmlu::Choice { shots: of.shots, limit: of.limit, subjects: of.subjects };
                let questions = Mmlu::read(&of.asking.data, &choice)?;
                of.asking.run(&questions, &json!({"shots": of.shots}), |_| false)
            }
            Measure::Gsm8k(of) => {
                let problems = Numbers::gsm8k(&of.asking.data, of.shots, of.limit)?;
                of.asking.run(&problems, &json!({"shots": of.shots, "chat": of.chat}), |_| of.chat)
            }
            Measure::Mgsm(of) => {
                let problems = Numbers::mgsm(&of.asking.data, &of.language, of.limit)?;
                of.asking.run(&problems, &json!({"chat": of.chat}), |_| of.chat)
            }
            Measure::Ifeval(of) => {
                let prompts = IfEval::read(&of.asking.data, of.limit)?;
                of.asking.run(&prompts, &json!({"raw": of.raw}), |model| !of.raw && model.answers())
            }
        }
    }
}

impl Asking {
    fn run(&self, benchmark: &dyn Benchmark, settings: &Value, is_chat: impl Fn(&Model) -> bool) -> anyhow::Result<()> {
        let model = self.opening.open(self.model.as_deref(), self.json)?;
        let about = json!({
            "benchmark": benchmark.name(),
            "model": model.name(),
            "precision": self.opening.running.precision.unwrap_or_default().to_string(),
            "settings": settings,
        });
        let mut results = match &self.results {
            Some(path) => Results::open(path, &about)?,
            None => Results::unkept(),
        };
        let ids: Vec<String> = (0..benchmark.len()).map(|index| benchmark.id(index)).collect();
        let mut session = Session::new(&model)?;
        let mut asked = Asked::new(&mut session, is_chat(&model));
        let progress = Progress::new(self.json);
        for (index, id) in ids.iter().enumerate() {
            if !results.has(id) {
                let line = benchmark.ask(index, &mut asked).with_context(|| format!("{} {id}", benchmark.name()))?;
                results.add(line)?;
            }
            progress.work(benchmark.name(), index + 1, ids.len());
        }
        progress.finish();
        // A file may hold more than was asked for now.
        results
            .lines
            .retain(|line| line.get("id").and_then(Value::as_str).is_some_and(|id| ids.iter().any(|i| i == id)));
        self.tell(benchmark, &about, &results);
        Ok(())
    }

    fn tell(&self, benchmark: &dyn Benchmark, about: &Value, results: &Results) {
        let scores = benchmark.scores(&results.lines);
        if self.json {
            let mut told = about.as_object().cloned().unwrap_or_else(Map::new);
            told.insert("questions".into(), results.lines.len().into());
            told.insert("scores".into(), json!(scores));
            output::json(&Value::Object(told));
            return;
        }
        for score in scores {
            output::line(format_args!(
                "{:44} {:6.2} % ± {:.2} of {}",
                score.name,
                score.value * 100.0,
                score.error * 100.0,
                score.count
            ));
        }
    }
}
