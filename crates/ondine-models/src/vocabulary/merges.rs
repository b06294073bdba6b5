//! Merges of byte pairs, looked at before the library that applies them builds on them.

use ondine_graph::{Result, fail};

/// Checks what the library that merges byte pairs takes for granted: that none makes a token longer than the `longest`
/// of the vocabulary, and that what continues a word begins with its `prefix`.
///
/// # Errors
/// If the merge `left` and `right`, number `index`, is not like that.
pub(super) fn check_merge(index: usize, [left, right]: [&str; 2], prefix: &str, longest: usize) -> Result<()> {
    let Some(rest) = right.strip_prefix(prefix) else {
        fail!(Format, "merge {index}: {right:?} continues a word and does not begin with {prefix:?}")
    };
    if left.len() + rest.len() > longest {
        fail!(Format, "merge {index}, {left:?} and {right:?}, makes a token that is not in the vocabulary");
    }
    Ok(())
}
