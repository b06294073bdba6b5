//! What commands print: results on standard output, remarks on standard error.
//!
//! Whoever reads may have seen enough, as `head` has: then nothing is wrong, and the program ends quietly. Names and
//! texts come from files that anybody may have written, so what a terminal would obey is shown as it is written in
//! Rust, such as `\u{1b}`: nothing printed moves the cursor, changes colours or makes a line of its own. Answers keep
//! every character where no terminal reads them. Everything that is printed goes through here.

use std::{
    borrow::Cow,
    fmt,
    io::{self, ErrorKind, IsTerminal, Write},
    process,
};

use serde_json::Value;

/// Prints a line of the result.
pub(crate) fn line(text: impl fmt::Display) {
    write(shown(&text.to_string(), |c| c.escape_default().to_string()).as_bytes(), b"\n");
}

/// Prints a part of a text as it comes; ends of lines and tabs are its own. Programs and files are handed it as it is.
pub(crate) fn piece(text: &str) {
    if !is_terminal() {
        return write(text.as_bytes(), b"");
    }
    let spelled = |c: char| if matches!(c, '\n' | '\t') { c.to_string() } else { c.escape_default().to_string() };
    write(shown(text, spelled).as_bytes(), b"");
}

/// Prints a result for programs, as one line of JSON.
pub(crate) fn json(value: &Value) {
    // Whatever a terminal would obey stands in a string, where it has another spelling.
    let spelled = |c: char| {
        let mut units = [0; 2];
        c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
    };
    write(shown(&value.to_string(), spelled).as_bytes(), b"\n");
}

/// Writes the bytes of a file to standard output.
pub(crate) fn bytes(bytes: &[u8]) {
    write(bytes, b"");
}

/// True if a person reads standard output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Prints a line that is not part of the result. If nobody can read it, it is lost.
pub(crate) fn remark(text: impl fmt::Display) {
    let text = text.to_string();
    let _ = writeln!(io::stderr().lock(), "{}", shown(&text, |c| c.escape_default().to_string()));
}

fn write(bytes: &[u8], end: &[u8]) {
    let mut out = io::stdout().lock();
    let Err(error) = out.write_all(bytes).and_then(|()| out.write_all(end)).and_then(|()| out.flush()) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        process::exit(0);
    }
    remark(format_args!("error: standard output: {error}"));
    process::exit(1);
}

/// The text with another spelling of all that a terminal would obey.
fn shown(text: &str, spelled: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(commands) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if commands(c) { spelled(c) } else { c.to_string() }).collect())
}

/// True for what a terminal obeys instead of showing it: control characters, ends of lines, and turns of the direction
/// of writing, which show a text in another order than it has.
fn commands(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        let line = |text| shown(text, |c| c.escape_default().to_string()).into_owned();
        assert_eq!(line("a\u{1b}[31m\nb\r\tc\u{9b}2J\u{202e}x"), "a\\u{1b}[31m\\nb\\r\\tc\\u{9b}2J\\u{202e}x");
        assert_eq!(line("猫 é 🐈"), "猫 é 🐈");
    }
}
