//! `ondine ask`: one question, one answer.

use std::{
    fs::read_to_string,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::Context;
use clap::{Args, value_parser};
use ondine_language::{
    Answer, Batch, Chat, Event, Model, Session,
    draft_model::DraftModel,
    guide::Grammar,
    session::{Options, Reason},
};
use ondine_models::vocabulary::Controls;
use ondine_runtime::{NDArray, file::check_writable, write_safetensors};
use serde_json::json;

use super::language::{Flags, Form, LONGEST, Opening, cut, told};
use crate::{interrupt, output, progress::Progress, report::usage, standard_input};

/// Answer a question.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine ask \"What is the capital of France?\"
  ondine ask \"Name three animals.\" --system \"You are a poet.\" --temperature 0.7 --seed 7
  ondine ask \"Once upon a time\" --raw --model stories.gguf --max-tokens 100
  ondine ask \"Sum this up.\" --model qwen3/ --json --tokens
  ondine ask \"Describe a cat.\" --schema animal.json
  jq .animal schemas.json | ondine ask \"Describe a cat.\" --schema -
  ondine ask \"Is water wet?\" --regex \"yes|no\"
  cat letter.txt | ondine ask - --stop END
  cat book.txt | ondine ask - --context 8192 --kv int8
  ondine ask \"Write a line.\" --model qwen3/ --lora poet/ --lora short.gguf:0.5
  ondine ask --prompts questions.txt --at-once 8 --json > answers.jsonl

Without --model it takes smollm2-135m, which `ondine models pull smollm2-135m` fetches. At temperature 0 the answer is
the same every time. With --schema, --grammar or --regex the answer has that form as a whole, or the command fails.
Ctrl-C stops it. With --prompts each line of a file is a question: as many as --at-once says are answered side by side,
and each answer is the one that the question has alone.")]
pub(super) struct Ask {
    /// The question; - reads it from standard input
    #[arg(required_unless_present = "prompts")]
    prompt: Option<String>,

    /// Answer each line of this file; - reads standard input. With --json one object a line, in the order of the file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "draft", "logits"])]
    prompts: Option<PathBuf>,

    /// The most questions of --prompts that are answered at once, each with a context of its own in memory
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u16).range(1..=1024))]
    at_once: u16,

    /// Model: a GGUF file, a folder as transformers saves it, or a name from `ondine models list`
    #[arg(short, long, value_name = "MODEL")]
    model: Option<String>,

    /// What the model is told to be before the question
    #[arg(short, long, value_name = "TEXT")]
    system: Option<String>,

    #[command(flatten)]
    flags: Flags,

    #[command(flatten)]
    form: Form,

    /// Go on with the text as it is, without the model's template of chats
    #[arg(long, conflicts_with = "system")]
    raw: bool,

    /// A smaller model with the same tokens, which guesses what this one will say; --draft-tokens says how many at once
    /// [default: 4]
    #[arg(long, value_name = "MODEL")]
    draft: Option<String>,

    /// Go on after tokens that end answers
    #[arg(long, conflicts_with_all = ["schema", "grammar", "regex"])]
    ignore_end: bool,

    /// Print the ids of the prompt and of the answer, too
    #[arg(long)]
    tokens: bool,

    /// Write the logits after each token of the prompt to this safetensors file: `logits`, [tokens, vocabulary]
    #[arg(long, value_name = "FILE")]
    logits: Option<PathBuf>,

    /// Print one JSON object with the answer and what it took
    #[arg(long)]
    json: bool,

    /// Print nothing but the answer
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    opening: Opening,
}

/// Tokens that a smaller model guesses at once if nobody says.
const TYPICAL_DRAFT: usize = 4;

impl Ask {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let questions = self.prompt.iter().map(Path::new).chain(self.prompts.as_deref());
        if questions.clone().any(standard_input::is_meant) && self.form.is_on_standard_input() {
            usage!("standard input cannot be the question and its form; write one of them to a file");
        }
        if let Some(path) = &self.prompts {
            return self.answer_all(path);
        }
        let question = match self.prompt.as_deref() {
            Some("-") | None => standard_input::read("the question", LONGEST)?,
            Some(question) => question.to_owned(),
        };
        if question.is_empty() {
            usage!("the question is empty");
        }
        self.logits.as_deref().map_or(Ok(()), check_writable)?;
        let grammar = self.form.read()?;
        let model = self.opening.open(self.model.as_deref(), self.quiet)?;
        if !self.raw && !model.answers() && self.system.is_none() && !self.quiet {
            output::remark("the model has not learned to answer (it has no chat template): it goes on with the text");
        }
        let prompt = self.prompt_tokens(&model, &question)?;
        let mut session = Session::new(&model)?;
        if let Some(draft) = &self.draft {
            let small = self.opening.open(Some(draft), self.quiet)?;
            session = session.with_drafter(Box::new(DraftModel::new(&small, &model)?));
        }
        if let Some(path) = &self.logits {
            let ids: Vec<i64> = prompt.iter().map(|&id| id.into()).collect();
            let logits = session.logits(&prompt)?;
            let ids = NDArray::new(&[ids.len()], &ids)?;
            write_safetensors(path, &[("logits".to_owned(), logits), ("input_ids".to_owned(), ids)])?;
        }
        let options = self.options(&model, grammar);
        let progress = Progress::new(self.quiet || self.json);
        let answer = session.answer(&prompt, &options, &mut |event| match event {
            Event::Read(done, total) => progress.work("reading", done, total),
            Event::Text(text) => {
                progress.finish();
                if !self.json {
                    output::piece(text);
                }
            }
            Event::Finished(..) => progress.finish(),
        })?;
        self.tell(&model, &prompt, &answer);
        if let Some(why) = cut(&answer) {
            anyhow::bail!(why);
        }
        if answer.reason == Reason::Cancelled { Err(interrupt::cancelled()) } else { Ok(()) }
    }

    /// Answers each line of a file.
    fn answer_all(&self, path: &Path) -> anyhow::Result<()> {
        let text = if standard_input::is_meant(path) {
            standard_input::read("the questions", LONGEST)?
        } else {
            read_to_string(path).with_context(|| path.display().to_string())?
        };
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let questions: Vec<(usize, &str)> = lines.filter(|(_, line)| !line.trim().is_empty()).collect();
        if questions.is_empty() {
            usage!("{}: there is no question in it; write one a line", path.display());
        }
        let grammar = self.form.read()?;
        let texts = usize::from(self.at_once).min(questions.len());
        let model = self.opening.open_for(self.model.as_deref(), texts, self.quiet)?;
        let prompts = questions.iter().map(|(_, question)| self.prompt_tokens(&model, question));
        let prompts = prompts.collect::<anyhow::Result<Vec<_>>>()?;
        let options = self.options(&model, grammar);
        let progress = Progress::new(self.quiet);
        let (begun, mut finished) = (Instant::now(), 0);
        let answers =
            Batch::new(&model)?.with_cancel(interrupt::wish()).answer(&prompts, &options, &mut |_, event| {
                if let Event::Finished(..) = event {
                    finished += 1;
                    progress.work("answering", finished, prompts.len());
                }
            })?;
        progress.finish();
        let seconds = begun.elapsed().as_secs_f64();
        for (((line, question), prompt), answer) in questions.iter().zip(&prompts).zip(&answers) {
            if self.json {
                let mut told = self.object(&model, prompt, answer);
                told["question"] = (*question).into();
                told["line"] = (*line).into();
                output::json(&told);
            } else {
                output::line(format_args!("> {question}"));
                output::piece(answer.text.trim_end());
                output::piece("\n\n");
            }
        }
        if !self.quiet {
            let tokens: usize = answers.iter().map(|answer| answer.usage.output_tokens).sum();
            let (count, speed) = (answers.len(), tokens as f64 / seconds.max(1e-9));
            output::remark(format_args!(
                "{count} answers, {texts} at once: {tokens} tokens in {seconds:.1} s, questions included: {speed:.1} a second"
            ));
        }
        if let Some(why) = answers.iter().find_map(cut) {
            anyhow::bail!(why);
        }
        let stopped = answers.iter().any(|answer| answer.reason == Reason::Cancelled);
        if stopped { Err(interrupt::cancelled()) } else { Ok(()) }
    }

    /// How answers are made.
    fn options(&self, model: &Model, grammar: Option<Arc<Grammar>>) -> Options {
        let mut options = Options { ignore_end: self.ignore_end, grammar, ..self.flags.0.clone() };
        if self.draft.is_some() && options.draft_tokens == 0 {
            options.draft_tokens = TYPICAL_DRAFT;
        }
        options.continues = self.raw || !model.answers();
        options
    }

    /// The question as the model wants it; as it is, if the model has learned no chats.
    fn prompt_tokens(&self, model: &Model, question: &str) -> anyhow::Result<Vec<u32>> {
        if self.raw || (self.system.is_none() && !model.answers()) {
            return model.vocabulary().encode_whole(question, Controls::Meant).context("the question").map(
                |mut ids| {
                    // What is gone on with has not ended.
                    while ids.len() > 1 && ids.last().is_some_and(|&id| model.vocabulary().is_end(id)) {
                        ids.pop();
                    }
                    ids
                },
            );
        }
        let mut chat = Chat::new(model, self.system.as_deref())?;
        chat.transcript.say(ondine_language::transcript::Role::User, question);
        Ok(chat.prompt_tokens()?)
    }

    fn tell(&self, model: &Model, prompt: &[u32], answer: &Answer) {
        if self.json {
            output::json(&self.object(model, prompt, answer));
            return;
        }
        if !answer.text.ends_with('\n') {
            output::piece("\n");
        }
        if self.tokens {
            let ids = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            output::line(format_args!("prompt tokens: {}", ids(prompt)));
            output::line(format_args!("output tokens: {}", ids(&answer.tokens)));
        }
        if !self.quiet {
            output::remark(told(&answer.usage, answer.reason));
        }
    }

    /// An answer, for programs.
    fn object(&self, model: &Model, prompt: &[u32], answer: &Answer) -> serde_json::Value {
        let usage = &answer.usage;
        let mut told = json!({
            "text": answer.text,
            "reason": answer.reason,
            "complete": answer.complete,
            "model": model.name(),
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "cached_tokens": usage.cached_tokens,
                "output_tokens": usage.output_tokens,
                "forced_tokens": usage.forced_tokens,
                "drafted_tokens": usage.drafted_tokens,
                "accepted_tokens": usage.accepted_tokens,
                "context": model.context(),
                "prompt_seconds": usage.prompt_time.as_secs_f64(),
                "output_seconds": usage.output_time.as_secs_f64(),
            },
            "seed": self.flags.0.sampling.seed,
        });
        if self.tokens {
            told["prompt_tokens"] = prompt.into();
            told["output_tokens"] = answer.tokens.as_slice().into();
        }
        told
    }
}
