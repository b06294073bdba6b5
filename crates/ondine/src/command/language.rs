//! What `ask` and `chat` share: the model, and the options of an answer.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::Error, value_parser};
use ondine::{catalog, model::language};
use ondine_language::{
    Model,
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
