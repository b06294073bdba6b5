//! What somebody writes in a conversation: with an editor at a terminal, line by line from anything else.

use std::{
    io::{BufRead, IsTerminal},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rustyline::{
    Cmd, Context, Editor, EventHandler, Helper, KeyCode, KeyEvent, Modifiers, completion::Completer, config::Config,
    error::ReadlineError, highlight::Highlighter, hint::Hinter, history::FileHistory, validate::Validator,
};

use crate::output;

/// What can be asked for besides answers, and what it does.
pub(super) const COMMANDS: &[(&str, &str)] = &[
    ("/help", "list these"),
    ("/clear", "forget what was said"),
    ("/system [TEXT]", "show what the model is told to be, or tell it so and begin anew"),
    ("/undo", "forget the last question and its answer"),
    ("/again", "answer the last question once more"),
    ("/save FILE", "write the conversation to a file"),
    ("/load FILE", "go on with the conversation in a file"),
    ("/usage", "show how much of the context is used"),
    ("/quit", "leave"),
];

/// What begins and ends a text of several lines.
const QUOTE: &str = "\"\"\"";

/// What stands before a text, and before its further lines.
const MARKS: [&str; 2] = ["> ", "  "];

/// Texts that are remembered, at most.
const HISTORY: usize = 1000;

/// What somebody has written.
pub(super) enum Said {
    Question(String),
    /// A command and what stands behind it.
    Command(String, String),
    Nothing,
    Over,
}

/// A line, if there was one.
enum Line {
    Text(String),
    /// Ctrl-C: what has been written so far does not count.
    Dropped,
    Over,
}

/// Where texts come from.
pub(super) struct Listener {
    editor: Option<Editor<Commands, FileHistory>>,
    /// What was written in conversations before, if somebody wants that kept.
    history: Option<PathBuf>,
    /// True to show where a text begins.
    marked: bool,
}

impl Listener {
    /// An editor if somebody sits at a terminal; its texts are forgotten but for those that `history` keeps.
    ///
    /// # Errors
    /// If the file of the history cannot be read.
    pub(super) fn new(quiet: bool, history: Option<&Path>) -> anyhow::Result<Self> {
        let terminal = std::io::stdin().is_terminal();
        let editor = (terminal && std::io::stdout().is_terminal()).then(|| editor(history)).transpose()?;
        Ok(Self { editor, history: history.map(Path::to_path_buf), marked: terminal && !quiet })
    }

    /// True if somebody is shown where to write.
    pub(super) fn marked(&self) -> bool {
        self.marked
    }

    /// The next text: a line, or several.
    ///
    /// # Errors
    /// If the terminal fails, or the file of the history cannot be written.
    pub(super) fn listen(&mut self) -> anyhow::Result<Said> {
        let said = self.text()?;
        let text = match &said {
            Said::Question(text) => text.clone(),
            Said::Command(name, rest) => format!("{name} {rest}"),
            Said::Nothing | Said::Over => return Ok(said),
        };
        if let Some(editor) = &mut self.editor {
            editor.add_history_entry(text.trim_end())?;
            if let Some(path) = &self.history {
                editor.append_history(path).with_context(|| format!("{}", path.display()))?;
            }
        }
        Ok(said)
    }

    fn text(&mut self) -> anyhow::Result<Said> {
        let mut text = match self.line(MARKS[0])? {
            Line::Text(text) => text,
            Line::Dropped => return Ok(Said::Nothing),
            Line::Over => return Ok(Said::Over),
        };
        if let Some((name, rest)) = command(&text) {
            return Ok(Said::Command(name, rest));
        }
        if let Some(first) = text.trim_start().strip_prefix(QUOTE) {
            let mut block = first.to_owned();
            // A block may begin and end on one line.
            while !block.trim_end().ends_with(QUOTE) {
                match self.line(MARKS[1])? {
                    Line::Text(line) if block.is_empty() => block = line,
                    Line::Text(line) => block = format!("{block}\n{line}"),
                    Line::Dropped => return Ok(Said::Nothing),
                    Line::Over => break,
                }
            }
            let block = block.trim_end();
            text = block.strip_suffix(QUOTE).unwrap_or(block).to_owned();
        } else {
            while let Some(start) = text.strip_suffix('\\') {
                match self.line(MARKS[1])? {
                    Line::Text(line) => text = format!("{start}\n{line}"),
                    Line::Dropped => return Ok(Said::Nothing),
                    Line::Over => {
                        text = format!("{start}\n");
                        break;
                    }
                }
            }
        }
        Ok(if text.trim().is_empty() { Said::Nothing } else { Said::Question(text) })
    }

    fn line(&mut self, mark: &str) -> anyhow::Result<Line> {
        let mark = if self.marked { mark } else { "" };
        let Some(editor) = &mut self.editor else {
            output::piece(mark);
            let mut line = String::new();
            let len = std::io::stdin().lock().read_line(&mut line)?;
            let text = line.trim_end_matches(['\n', '\r']).to_owned();
            return Ok(if len > 0 { Line::Text(text) } else { Line::Over });
        };
        match editor.readline(mark) {
            Ok(text) => Ok(Line::Text(text)),
            Err(ReadlineError::Interrupted) => {
                output::remark("Ctrl-C stops answers and drops what is written; /quit or Ctrl-D leaves");
                Ok(Line::Dropped)
            }
            Err(ReadlineError::Eof) => Ok(Line::Over),
            Err(error) => Err(error.into()),
        }
    }
}

fn editor(history: Option<&Path>) -> anyhow::Result<Editor<Commands, FileHistory>> {
    let config = Config::builder().max_history_size(HISTORY)?.history_ignore_space(true).build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Commands));
    // As in other programs that people write in: Enter sends, Alt-Enter begins a line.
    let newline = EventHandler::Simple(Cmd::Newline);
    editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), newline);
    if let Some(path) = history.filter(|path| path.exists()) {
        editor.load_history(path).with_context(|| format!("{}", path.display()))?;
    }
    Ok(editor)
}

/// The command in a line, and what stands behind it.
fn command(line: &str) -> Option<(String, String)> {
    line.starts_with('/').then(|| {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        (name.to_owned(), rest.trim().to_owned())
    })
}

/// Completes the names of commands.
struct Commands;

impl Helper for Commands {}

impl Highlighter for Commands {}

impl Validator for Commands {}

impl Hinter for Commands {
    type Hint = String;
}

impl Completer for Commands {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let begun = line.get(..at).unwrap_or_default();
        let names = COMMANDS.iter().filter_map(|(usage, _)| usage.split_whitespace().next());
        let fitting = names.filter(|name| begun.starts_with('/') && name.starts_with(begun));
        Ok((0, fitting.map(str::to_owned).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_questions() {
        let told = command("/system You are  kind. ").unwrap();
        assert_eq!((told.0.as_str(), told.1.as_str()), ("/system", "You are  kind."));
        assert_eq!(command("/undo").unwrap(), ("/undo".to_owned(), String::new()));
        assert!(command(" /undo").is_none() && command("what is 1/2?").is_none());
    }

    #[test]
    fn names_of_commands_are_completed() {
        let history = FileHistory::new();
        let complete = |line: &str| Commands.complete(line, line.len(), &Context::new(&history)).unwrap().1;
        assert_eq!(complete("/s"), ["/system", "/save"]);
        assert_eq!(complete("/qu"), ["/quit"]);
        assert!(complete("s").is_empty() && complete("").is_empty() && complete("/system you").is_empty());
    }
}
