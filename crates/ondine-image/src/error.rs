//! The crate's one error type.

use std::fmt;

/// What sort of thing went wrong; callers branch on this, people read [`Error`]'s one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A `scheduler_config.json` that is not JSON, or holds a value outside what is known.
    Config,
    /// A valid request for something this crate does not do.
    Unsupported,
    /// An argument outside its range: step count, slice length, guidance scale.
    Argument,
    /// A picture that cannot be encoded or decoded.
    Codec,
    /// Reading or writing failed.
    Io,
    /// A network, its weights or its tokenizer: broken, missing or not fitting.
    Model,
    /// The caller asked to stop.
    Cancelled,
}

/// An error of this crate: a kind, one sentence (what, and what to do), and the places it passed through.
///
/// `Display` prints one line, the outermost place first:
/// `scheduler_config.json: beta_schedule is "cubic"; known are linear, scaled_linear, squaredcos_cap_v2`.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    context: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What sort of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Names the place this error passed through, such as a file; the last one added prints first.
    #[must_use]
    pub fn context(mut self, place: impl Into<String>) -> Self {
        self.context.push(place.into());
        self
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), context: Vec::new(), source: None }
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Argument, message)
    }

    pub(crate) fn codec(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Codec, message)
    }

    pub(crate) fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}

impl From<ondine_runtime::Error> for Error {
    fn from(error: ondine_runtime::Error) -> Self {
        let kind = match error.kind() {
            ondine_runtime::ErrorKind::Cancelled => ErrorKind::Cancelled,
            ondine_runtime::ErrorKind::Io => ErrorKind::Io,
            _ => ErrorKind::Model,
        };
        Self::new(kind, error.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.context.iter().rev() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outermost_place_prints_first() {
        let error = Error::config("steps_offset is \"x\"; give a number").context("scheduler").context("model/");
        assert_eq!(error.to_string(), "model/: scheduler: steps_offset is \"x\"; give a number");
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}
