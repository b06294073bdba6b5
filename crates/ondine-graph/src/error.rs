//! The one error type of the crate.

use std::fmt;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a program may want to tell cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused: file missing, no permission, disk full.
    Io,
    /// A file's bytes are not what its format demands.
    Format,
    /// A shape, dtype or size does not fit.
    Shape,
    /// A setting of the caller is out of its range, or a name that nothing has.
    Argument,
    /// A tensor, file, function or input that is needed is absent.
    Missing,
    /// A tensor, file or input is present that nothing uses.
    Extra,
    /// Understood, but not something this engine can do.
    Unsupported,
    /// The memory plan does not fit the budget.
    Memory,
    /// The caller asked to stop.
    Cancelled,
    /// The device is gone, with all that it held.
    Lost,
    /// A defect of this engine.
    Internal,
}

/// An error with its kind and the chain of places it passed on the way up, outermost first.
///
/// It prints as one line: `file: node: what is wrong; what to do`.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    places: Vec<String>,
    /// What the operating system said, if it did.
    io: Option<std::io::ErrorKind>,
}

impl Error {
    /// An error of `kind`; `message` says what is wrong and what to do about it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), places: Vec::new(), io: None }))
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the operating system said, if it was that: a file that is not there, a full disk, a closed pipe.
    #[must_use]
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        self.0.io
    }

    /// The same error, seen from one place further out (a file, a node, a weight path).
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.places.push(place.to_string());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.0.places.iter().rev() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let mut own = Self::new(ErrorKind::Io, error.to_string());
        own.0.io = Some(error.kind());
        own
    }
}

/// Adds the place to an error on its way up.
pub trait Context<T> {
    /// Names the file, node or weight path where the error came from.
    fn at<P: fmt::Display>(self, place: impl FnOnce() -> P) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn at<P: fmt::Display>(self, place: impl FnOnce() -> P) -> Result<T> {
        self.map_err(|error| error.into().at(place()))
    }
}

/// Leaves the function with an error: `fail!(Shape, "{size} does not fit")` names the [`ErrorKind`] and formats the
/// message.
#[macro_export]
macro_rules! fail {
    ($kind:ident, $($message:tt)+) => {
        return Err($crate::Error::new($crate::ErrorKind::$kind, format!($($message)+)))
    };
}
pub(crate) use fail;
