//! What somebody writes to standard input in the place of an argument.

use std::{io::Read, path::Path};

use anyhow::Context;

use crate::report::usage;

/// True if an argument stands for standard input.
pub(crate) fn is_meant(argument: impl AsRef<Path>) -> bool {
    argument.as_ref() == Path::new("-")
}

/// `what` is written to standard input, without the end of its last line; one of more than `longest` bytes is refused,
/// and not read to its end.
pub(crate) fn read(what: &str, longest: usize) -> anyhow::Result<String> {
    let place = || format!("{what} on standard input");
    let mut text = Vec::new();
    let limit = (longest as u64).saturating_add(1);
    std::io::stdin().lock().take(limit).read_to_end(&mut text).with_context(place)?;
    if text.len() > longest {
        usage!("{} has more than {longest} bytes; shorten it", place());
    }
    let text = String::from_utf8(text).with_context(place)?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}
