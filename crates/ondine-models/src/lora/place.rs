//! What of a change goes where.

use std::ops::Range;

/// A module, and which rows of a change are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: String,
    /// None if all are, as they come.
    pub(super) rows: Option<Rows>,
}

/// Rows of a change of several modules, or of one whose rows are in another order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    /// Those of the whole change.
    pub(super) all: usize,
    /// Those of the module, in its order.
    pub(super) own: Vec<Range<usize>>,
}

impl Place {
    pub(super) fn whole(path: &str) -> Vec<Self> {
        vec![Self { path: path.to_owned(), rows: None }]
    }
}
