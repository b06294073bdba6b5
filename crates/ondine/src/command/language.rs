//! What `ask` and `chat` share: the model, and the options of an answer.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::Error, value_parser};
use ondine::{catalog, model::language};
use ondine_language::{
    Answer, Model,
    guide::Grammar,
    model::{Plan, Settings},
    option::{Kind, OPTIONS, Setting},
    session::{Options, Reason, Usage},
};
use ondine_runtime::Device;

use super::running::Running;
use crate::{interrupt, progress::Progress};

/// The model on the command line.
#[derive(Args)]
pub(super) struct Opening {
    /// The most tokens of a text, questions and answers together [default: 4096, or fewer if the model was made so]
    #[arg(long, value_name = "N", value_parser = super::running::parse_count)]
    context: Option<usize>,

    #[command(flatten)]
    pub(super) running: Running,
}

impl Opening {
    /// Loads the model of this name, or that which is fetched for `ask` and `chat`.
    pub(super) fn open(&self, name: Option<&str>, quiet: bool) -> anyhow::Result<Model> {
        let device: Device = self.running.device(interrupt::wish())?;
        let name = name.unwrap_or(catalog::LANGUAGE);
        let settings = Settings { context: self.context, precision: self.running.precision.unwrap_or_default() };
        let progress = Progress::new(quiet);
        progress.stage("opening");
        let plan = Plan::new(&language(name)?, settings, &device)?;
        self.running.allow(name, || Ok(plan.bytes()?))?;
        progress.stage("loading");
        let model = plan.load(self.running.cache().as_ref());
        progress.finish();
        Ok(model?)
    }
}

/// The options of an answer: one flag for each row of [`OPTIONS`].
pub(super) struct Flags(pub(super) Options);

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(OPTIONS.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self(Options::default());
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for Setting { name, kind, .. } in OPTIONS {
            match kind {
                Kind::Whole { set, .. } => _ = matches.get_one(name).map(|&number| set(&mut self.0, number)),
                Kind::Number { set, .. } => _ = matches.get_one(name).map(|&number| set(&mut self.0, number)),
                Kind::Texts { set, .. } => {
                    let texts = matches.get_many::<String>(name).into_iter().flatten();
                    texts.for_each(|text| set(&mut self.0, text.clone()));
                }
            }
        }
        Ok(())
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let help = format!("{} [default: {}]", setting.help, setting.default());
    let flag = Arg::new(setting.name).long(setting.name).value_name(setting.value).help(help);
    match &setting.kind {
        Kind::Whole { range, .. } => flag.value_parser(value_parser!(u64).range(range.clone())),
        Kind::Number { range, .. } => {
            let range = range.clone();
            flag.allow_negative_numbers(true).value_parser(move |text: &str| match text.parse::<f32>() {
                Ok(number) if range.contains(&number) => Ok(number),
                _ => Err(format!("write a number from {} to {}", range.start(), range.end())),
            })
        }
        Kind::Texts { .. } => flag.action(ArgAction::Append),
    }
}

/// The form of answers.
#[derive(Args)]
#[group(multiple = false)]
pub(super) struct Form {
    /// Answer with JSON that the schema in this file describes, on one line
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,

    /// Answer with a text of the grammar in this file, written as Lark with the rule `start`
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,

    /// Answer with a text that this regular expression matches as a whole
    #[arg(long, value_name = "EXPRESSION")]
    regex: Option<String>,
}

impl Form {
    /// Reads what the form is.
    pub(super) fn read(&self) -> anyhow::Result<Option<Arc<Grammar>>> {
        let text = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
        let grammar = if let Some(path) = &self.schema {
            Grammar::schema(&text(path)?).with_context(|| path.display().to_string())?
        } else if let Some(path) = &self.grammar {
            Grammar::Lark(text(path)?)
        } else if let Some(expression) = &self.regex {
            Grammar::Regex(expression.clone())
        } else {
            return Ok(None);
        };
        Ok(Some(Arc::new(grammar)))
    }
}

/// Why an answer has not the form that was asked for, if it has not.
pub(super) fn cut(answer: &Answer) -> Option<String> {
    let why = match answer.reason {
        _ if answer.complete => return None,
        Reason::MaxTokens => "the most tokens came first; raise --max-tokens",
        Reason::ContextFull => "the context was full first; raise --context",
        Reason::Stop => "a text of --stop came first",
        Reason::End | Reason::Cancelled => return None,
    };
    Some(format!("the answer is cut after {} tokens and has not the form: {why}", answer.usage.output_tokens))
}

/// What an answer took, as people read it.
pub(super) fn told(usage: &Usage, reason: Reason) -> String {
    let seconds = |time: Duration| time.as_secs_f64();
    let over = match reason {
        Reason::End | Reason::Stop => "",
        Reason::MaxTokens => "; more was not asked for",
        Reason::ContextFull => "; the context is full",
        Reason::Cancelled => "; stopped",
    };
    format!(
        "{} tokens read in {:.2} s ({} remembered), {} written in {:.2} s, {:.1} a second{over}",
        usage.prompt_tokens,
        seconds(usage.prompt_time),
        usage.cached_tokens,
        usage.output_tokens,
        seconds(usage.output_time),
        usage.tokens_per_second()
    )
}
