//! The rules of the repository's shape that no compiler and no linter knows.
//!
//! A check is a function from the tree of files to findings; it stands in [`CHECKS`] and has a test that sees it fail.

mod finding;
mod floors;
mod layout;
mod manifest;
mod matches;
mod modules;
mod rust;
mod text;
mod tokens;
mod tree;
mod walls;

use std::path::Path;

use finding::Finding;
use tree::Tree;

/// Every rule, in the order in which their findings are printed.
const CHECKS: &[fn(&Tree) -> Vec<Finding>] = &[
    walls::arrows,
    walls::reserved_dependencies,
    walls::workspace_lints,
    walls::words,
    floors::listed,
    floors::names_lower_only,
    floors::walled_rooms,
    floors::no_circles,
    rust::lexes,
    rust::unsafe_only_where_allowed,
    rust::unsafe_has_a_reason,
    rust::unfinished,
    rust::lint_exceptions,
    rust::long_functions,
    rust::no_panics,
    matches::no_catch_all_on_op,
    layout::long_files,
    layout::declared_tables,
    layout::one_module_style,
    layout::vague_names,
    layout::crate_docs,
    layout::long_examples,
    layout::architecture,
    text::trailing_whitespace,
    text::final_newline,
    text::long_lines,
    text::machine_paths,
    text::private_hosts,
];

/// Checks the repository that begins at `root`.
///
/// # Errors
/// If its files cannot be listed or read.
pub(crate) fn repository(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    Ok(CHECKS.iter().flat_map(|check| check(&tree)).collect())
}

/// The lowest floors on which the rooms of each crate can stand.
///
/// # Errors
/// If the files cannot be listed or read.
pub(crate) fn lowest_floors(root: &Path) -> anyhow::Result<String> {
    Ok(floors::lowest(&Tree::read(root)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that `check` finds in a tree of one file.
    pub(super) fn lines(check: fn(&Tree) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn the_repository_is_tidy() {
        let findings = repository(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
        let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "{} to repair:\n{}", list.len(), list.join("\n"));
    }
}
