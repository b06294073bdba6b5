//! What commands print: results on standard output, remarks on standard error.
//!
//! Whoever reads may have seen enough, as `head` has: then nothing is wrong, and the program ends quietly. Everything
//! that is printed goes through here.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    process,
};

/// Prints a line of the result.
pub(crate) fn line(text: impl fmt::Display) {
    bytes(format!("{text}\n").as_bytes());
}

/// Prints a result as it is.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        process::exit(0);
    }
    remark(format_args!("error: standard output: {error}"));
    process::exit(1);
}

/// Prints a line that is not part of the result. If nobody can read it, it is lost.
pub(crate) fn remark(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
