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
use ondine_models::{KvCache, Language, adapter::Applied};
use ondine_runtime::Device;

use super::running::Running;
use crate::{interrupt, output, progress::Progress, standard_input};

/// The model on the command line.
#[derive(Args, Clone)]
pub(super) struct Opening {
    /// The most tokens of a text, questions and answers together [default: 4096, or fewer if the model was made so]
    #[arg(long, value_name = "N", value_parser = super::running::parse_count)]
    context: Option<usize>,

    #[command(flatten)]
    kept: Kept,

    /// Adapter that changes the model (LoRA): a folder of peft or a GGUF file, times WEIGHT [default: 1]; can be given
    /// several times
    #[arg(long, value_name = "FILE[:WEIGHT]", value_parser = parse_lora)]
    lora: Vec<Lora>,

    #[command(flatten)]
    pub(super) running: Running,
}

/// What is kept of a text.
#[derive(Args, Clone, Copy)]
pub(super) struct Kept {
    /// Type in which keys and values of the tokens so far are kept: bf16, or int8 with a scale for each head of a
    /// token, which takes about a quarter of the memory of f32 [default: as they are computed, f32 or bf16]
    #[arg(long, value_name = "TYPE", value_parser = str::parse::<KvCache>)]
    kv: Option<KvCache>,
}

impl Kept {
    pub(super) fn kv(self) -> KvCache {
        self.kv.unwrap_or_default()
    }
}

/// An adapter on the command line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lora {
    pub(super) path: PathBuf,
    pub(super) weight: f32,
}

/// Reads `FILE[:WEIGHT]`; what follows a colon and is no number is part of the name.
pub(super) fn parse_lora(text: &str) -> Result<Lora, String> {
    let (path, weight) = match text.rsplit_once(':').map(|(path, weight)| (path, weight.parse::<f32>())) {
        Some((path, Ok(weight))) => (path, weight),
        _ => (text, 1.0),
    };
    if path.is_empty() || !weight.is_finite() {
        return Err("write FILE or FILE:WEIGHT, such as poet/:0.8".to_owned());
    }
    Ok(Lora { path: path.into(), weight })
}

/// Tells what became of an adapter, on the standard error.
pub(super) fn tell_applied(Applied { name, applied, total, unapplied }: &Applied) {
    let rest = match &unapplied[..] {
        [] => String::new(),
        names => format!("; the model has no place for {}", names.join(", ")),
    };
    output::remark(format_args!("{name}: applied {applied} of {total}{rest}"));
}

impl Opening {
    /// Loads the model of this name, or that which is fetched for `ask` and `chat`.
    pub(super) fn open(&self, name: Option<&str>, quiet: bool) -> anyhow::Result<Model> {
        self.open_for(name, 0, quiet)
    }

    /// The same, for so many texts at once, if they are not 0.
    pub(super) fn open_for(&self, name: Option<&str>, texts: usize, quiet: bool) -> anyhow::Result<Model> {
        let precision = self.running.precision.unwrap_or_default();
        self.load(name, Settings { context: self.context, precision, texts, kv: self.kept.kv(), call: None }, quiet)
    }

    /// The model of this name without adapters, computed in f32.
    pub(super) fn open_exact(&self, name: &str, quiet: bool) -> anyhow::Result<Model> {
        let settings = Settings { context: self.context, ..Settings::default() };
        Self { lora: Vec::new(), ..self.clone() }.load(Some(name), settings, quiet)
    }

    fn load(&self, name: Option<&str>, settings: Settings, quiet: bool) -> anyhow::Result<Model> {
        let device: Device = self.running.device(interrupt::wish())?;
        let name = name.unwrap_or(catalog::LANGUAGE);
        let progress = Progress::new(quiet);
        progress.stage("opening");
        let mut opened = Language::open(&language(name)?)?;
        for Lora { path, weight } in &self.lora {
            let applied = opened.adapt(path, *weight)?;
            if !quiet || !applied.unapplied.is_empty() {
                tell_applied(&applied);
            }
        }
        let plan = Plan::of(opened, settings, &device)?;
        let smaller =
            if settings.kv == KvCache::Int8 { "a smaller --context, " } else { "--kv int8, a smaller --context, " };
        self.running.allow_or(smaller, name, || Ok(plan.bytes()?))?;
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
    /// Answer with JSON that the schema in this file describes, on one line; - reads it from standard input
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,

    /// Answer with a text of the grammar in this file, written as Lark with the rule `start`; - as with --schema
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,

    /// Answer with a text that this regular expression matches as a whole
    #[arg(long, value_name = "EXPRESSION")]
    regex: Option<String>,
}

/// More bytes than the longest context has tokens for: texts of more are refused.
pub(super) const LONGEST: usize = 256 << 20;

impl Form {
    /// True if standard input tells the form.
    pub(super) fn is_on_standard_input(&self) -> bool {
        self.schema.iter().chain(&self.grammar).any(standard_input::is_meant)
    }

    /// Reads what the form is.
    pub(super) fn read(&self) -> anyhow::Result<Option<Arc<Grammar>>> {
        let text = |path: &PathBuf| match standard_input::is_meant(path) {
            true => standard_input::read("the form", LONGEST),
            false => std::fs::read_to_string(path).with_context(|| path.display().to_string()),
        };
        let grammar = if let Some(path) = &self.schema {
            Grammar::schema(&text(path)?).with_context(|| path.display().to_string())?
        } else if let Some(path) = &self.grammar {
            Grammar::lark(&text(path)?).with_context(|| path.display().to_string())?
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_colon_is_a_weight_if_it_is_a_number() {
        let lora = |path: &str, weight| Ok(Lora { path: path.into(), weight });
        assert_eq!(parse_lora("poet"), lora("poet", 1.0));
        assert_eq!(parse_lora("poet/:0.5"), lora("poet/", 0.5));
        assert_eq!(parse_lora("poet.gguf:-1"), lora("poet.gguf", -1.0));
        assert_eq!(parse_lora("C:\\poet"), lora("C:\\poet", 1.0));
        assert!(parse_lora(":0.5").is_err() && parse_lora("poet:inf").is_err());
    }
}
