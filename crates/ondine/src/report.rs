//! What a person reads when a command fails: one line that says what, where and what to do.

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::output;

/// Prints a failure as one line; exit code 1.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    let chain: Vec<_> = error.chain().map(ToString::to_string).collect();
    output::remark(format_args!("error: {}", one_line(&chain.join(": "))));
    ExitCode::from(1)
}

/// Prints a usage error as one line, or the help that was asked for; exit code 2 or 0.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let text = error.to_string();
        let what = text.lines().take_while(|line| !line.trim().is_empty()).collect::<Vec<_>>().join(" ");
        output::remark(format_args!("{}; see `ondine --help`", one_line(&what)));
    } else {
        // If standard output or error is closed there is nobody left to tell.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Messages can quote file contents and prompts: control characters must not reach the terminal, nor split the line.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 8000;
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn messages_stay_on_one_line() {
        assert_eq!(one_line("a\nb\u{1b}[31m"), "a b [31m");
        assert_eq!(one_line(&"x".repeat(9000)).chars().count(), 8001);
    }
}
