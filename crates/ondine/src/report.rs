//! What a person reads when a command fails: one line that says what, where and what to do.

use std::{fmt, process::ExitCode};

use clap::{Command, error::ErrorKind};

use crate::{interrupt, output};

/// An error that the command line itself is the cause of: exit code 2, also where only a model can tell.
#[derive(Debug)]
pub(crate) struct BadUsage(String);

impl fmt::Display for BadUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadUsage {}

/// The same error, with the command line as its cause.
pub(crate) fn bad_usage(error: impl Into<anyhow::Error>) -> anyhow::Error {
    BadUsage(chain(&error.into())).into()
}

/// Leaves the function with a [`BadUsage`] of the formatted message.
macro_rules! usage {
    ($($message:tt)+) => {
        return Err(crate::report::bad_usage(anyhow::anyhow!($($message)+)))
    };
}
pub(crate) use usage;

/// Prints a failure as one line; exit code 1, 2 if the command line was wrong, or that of the signal that stopped it.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    if let Some(signal) = interrupt::stopped(error) {
        interrupt::say(signal);
        return ExitCode::from(signal.exit_code());
    }
    output::remark(format_args!("error: {}", one_line(&chain(error))));
    ExitCode::from(if error.is::<BadUsage>() { 2 } else { 1 })
}

fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Prints a usage error as one line, or the help that was asked for; exit code 2 or 0. `command` is the whole command
/// line as it can be, and `words` are those that were given.
pub(crate) fn rejected(error: &clap::Error, command: &Command, words: impl Iterator<Item = String>) -> ExitCode {
    if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let text = error.to_string();
        let mut lines = text.lines().map(str::trim);
        let what = lines.by_ref().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        let tips: String = lines.filter_map(|line| line.strip_prefix("tip: ")).map(|tip| format!("; {tip}")).collect();
        let help = asked(command, words);
        output::remark(format_args!("{}{tips}; see `{help} --help`", one_line(&what)));
    } else {
        // If standard output or error is closed there is nobody left to tell.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The command that the words ask for, with its subcommands: `ondine cache limit`.
fn asked(command: &Command, words: impl Iterator<Item = String>) -> String {
    let (mut name, mut command) = (command.get_name().to_owned(), command);
    for word in words {
        let Some(next) = command.find_subcommand(&word) else { continue };
        name = format!("{name} {}", next.get_name());
        command = next;
    }
    name
}

/// Messages can quote prompts and what files hold, which may be long.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 8000;
    let mut line: String = text.trim_end().chars().take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn messages_have_an_end() {
        assert_eq!(one_line(&"x".repeat(9000)).chars().count(), 8001);
        assert_eq!(one_line("x\n"), "x");
    }

    #[test]
    fn help_is_that_of_the_command_that_was_asked_for() {
        let command = Command::new("ondine")
            .subcommand(Command::new("cache").arg(Arg::new("json").long("json")).subcommand(Command::new("limit")));
        let asked = |words: &[&str]| asked(&command, words.iter().map(|&word| word.to_owned()));
        assert_eq!(asked(&["cache", "--json", "limit", "--x"]), "ondine cache limit");
        assert_eq!([asked(&["cach"]), asked(&["--x", "cache"])], ["ondine", "ondine cache"]);
    }

    #[test]
    fn bad_usage_stays_what_it_is() {
        let error = bad_usage(anyhow::anyhow!("inner").context("outer"));
        assert!(error.is::<BadUsage>() && error.to_string() == "outer: inner");
        assert!(error.context("further out").is::<BadUsage>());
    }
}
