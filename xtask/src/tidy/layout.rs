//! Rules about files: how long, under which names, with what on top.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenTree};

use super::{
    finding::Finding,
    tokens::{group, punct, word},
    tree::{File, Tree},
};

/// The longest source file, its tests not counted.
const MAX_FILE: usize = 600;
const MAX_EXAMPLE: usize = 60;
const MAX_ARCHITECTURE: usize = 200;

/// Files that may be longer because they are tables, each with the reason why it is better in one piece.
const TABLES: &[(&str, &str)] = &[];

const SOURCE: &[&str] = &["c", "css", "h", "html", "js", "py", "rs", "sh", "wgsl"];

/// Source files stay readable in one sitting.
pub(super) fn long_files(tree: &Tree) -> Vec<Finding> {
    let tests = test_modules(tree);
    let is_test = |path: &str| path.contains("/tests/") || tests.iter().any(|module| in_module(path, module));
    let sources = tree.files().filter(|file| SOURCE.contains(&file.extension()) && !file.is_data());
    let sources = sources.filter(|file| !is_test(&file.path) && !TABLES.iter().any(|(path, _)| *path == file.path));
    sources
        .filter_map(|file| {
            let lines = lines_without_tests(file);
            let message = format!("{lines} lines without tests, the limit is {MAX_FILE}; split the file by meaning");
            (lines > MAX_FILE).then(|| Finding::new(&file.path, 1, message))
        })
        .collect()
}

/// A declared table is there, long, and has a reason.
pub(super) fn declared_tables(tree: &Tree) -> Vec<Finding> {
    stale_tables(tree, TABLES)
}

fn stale_tables(tree: &Tree, tables: &[(&str, &str)]) -> Vec<Finding> {
    let long = |path: &str| tree.get(path).is_some_and(|file| lines_without_tests(file) > MAX_FILE);
    let stale = tables.iter().filter(|(path, reason)| reason.is_empty() || !long(path));
    stale
        .map(|(path, _)| Finding::new(path, 1, "declared as a long table but is none; remove it from TABLES"))
        .collect()
}

fn lines_without_tests(file: &File) -> usize {
    let tests: usize = test_items(file).iter().map(|item| item.lines).sum();
    file.text.lines().count() - tests
}

/// A module that is only compiled for tests.
struct TestItem {
    name: String,
    /// The lines that it takes in its file: one if it is a file of its own.
    lines: usize,
}

/// The modules marked `#[cfg(test)]` at the top level of a file.
fn test_items(file: &File) -> Vec<TestItem> {
    let Ok(tokens) = &file.tokens else { return Vec::new() };
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let items = (0..tokens.len()).filter_map(|index| test_item(&tokens[index..]));
    items.collect()
}

fn test_item(tokens: &[TokenTree]) -> Option<TestItem> {
    let attribute = group(tokens, 1, Delimiter::Bracket).filter(|_| punct(tokens, 0, '#'))?;
    if attribute.to_string().replace(' ', "") != "cfg(test)" {
        return None;
    }
    let mut rest = &tokens[2..];
    while punct(rest, 0, '#') {
        rest = rest.get(2..)?;
    }
    let [_, TokenTree::Ident(name), end, ..] = rest else { return None };
    let lines = end.span().end().line + 1 - tokens[0].span().start().line;
    word(rest, 0, "mod").then(|| TestItem { name: name.to_string(), lines })
}

/// The paths, without `.rs`, of the files that hold only tests.
fn test_modules(tree: &Tree) -> BTreeSet<String> {
    let of = |file: &File| -> Vec<String> {
        let path = file.path.trim_end_matches(".rs");
        let folder = ["/lib", "/main", "/mod"].iter().find_map(|root| path.strip_suffix(root)).unwrap_or(path);
        test_items(file).into_iter().map(|item| format!("{folder}/{}", item.name)).collect()
    };
    tree.rust().flat_map(of).collect()
}

fn in_module(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// A module with modules inside is `name.rs` beside `name/`: every file is called what it is.
pub(super) fn one_module_style(tree: &Tree) -> Vec<Finding> {
    let inside = tree.rust().filter(|file| file.name() == "mod.rs" && !file.path.contains("/tests/"));
    inside
        .map(|file| {
            let folder = file.path.trim_end_matches("/mod.rs");
            Finding::new(&file.path, 1, format!("a module that is called `mod`; move it to `{folder}.rs`"))
        })
        .collect()
}

/// A name says what is inside.
pub(super) fn vague_names(tree: &Tree) -> Vec<Finding> {
    let vague = ["common", "helper", "helpers", "misc", "util", "utils"];
    let part = |file: &File| file.path.split(['/', '.']).find(|part| vague.contains(part)).map(str::to_owned);
    tree.files()
        .filter_map(|file| {
            let part = part(file)?;
            Some(Finding::new(&file.path, 1, format!("`{part}` says nothing; name the file after what is inside")))
        })
        .collect()
}

/// The first thing that a crate says is what it is for.
pub(super) fn crate_docs(tree: &Tree) -> Vec<Finding> {
    let crates = tree.rust().filter(|file| file.path.ends_with("/src/lib.rs"));
    let silent = crates.filter(|file| !file.text.starts_with("//!"));
    silent.map(|file| Finding::new(&file.path, 1, "no crate documentation; begin with `//! What it is for.`")).collect()
}

/// An example is read, not studied: what takes longer belongs to the library.
pub(super) fn long_examples(tree: &Tree) -> Vec<Finding> {
    let examples = tree.rust().filter(|file| file.path.contains("/examples/"));
    examples
        .filter_map(|file| {
            let lines = file.text.lines().count();
            let message = format!("an example of {lines} lines, they stay under {MAX_EXAMPLE}; extend the library");
            (lines >= MAX_EXAMPLE).then(|| Finding::new(&file.path, 1, message))
        })
        .collect()
}

/// The newcomer's map is there and fits on a few screens.
pub(super) fn architecture(tree: &Tree) -> Vec<Finding> {
    let path = "ARCHITECTURE.md";
    let Some(file) = tree.get(path) else {
        return vec![Finding::new(path, 1, "missing; write the map of the repository, or add the file to git")];
    };
    let lines = file.text.lines().count();
    let message = format!("{lines} lines, the limit is {MAX_ARCHITECTURE}; leave out what the code says itself");
    if lines > MAX_ARCHITECTURE { vec![Finding::new(path, MAX_ARCHITECTURE + 1, message)] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::lines, *};

    fn long() -> String {
        "const A: u8 = 1;\n".repeat(MAX_FILE + 1)
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(lines(long_files, "crates/a/src/b.rs", &long()), [1]);
        assert_eq!(lines(long_files, "training/a.py", &long()), [1]);
        assert!(lines(long_files, "crates/a/tests/b.rs", &long()).is_empty());
        assert!(lines(long_files, "notes.md", &long()).is_empty());
    }

    #[test]
    fn tests_are_not_counted() {
        let inside = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", long());
        assert!(lines(long_files, "crates/a/src/b.rs", &inside).is_empty());
        let beside = |cfg| format!("{cfg}\n#[expect(dead_code, reason = \"x\")]\nmod suite;\n");
        let check = |root, cfg, module| long_files(&Tree::of(&[(root, &beside(cfg)), (module, &long())])).len();
        assert_eq!(check("crates/a/src/lib.rs", "#[cfg(test)]", "crates/a/src/suite.rs"), 0);
        assert_eq!(check("crates/a/src/lib.rs", "#[cfg(test)]", "crates/a/src/suite/gemm.rs"), 0);
        assert_eq!(check("crates/a/src/b.rs", "#[cfg(test)]", "crates/a/src/b/suite.rs"), 0);
        assert_eq!(check("crates/a/src/b.rs", "#[cfg(test)]", "crates/a/src/suite.rs"), 1);
        assert_eq!(check("crates/a/src/lib.rs", "#[cfg(unix)]", "crates/a/src/suite.rs"), 1);
    }

    #[test]
    fn tables_that_are_none_are_found() {
        let tree = Tree::of(&[("long.rs", &long()), ("short.rs", "fn a() {}\n")]);
        let check = |path, reason| stale_tables(&tree, &[(path, reason)]).len();
        assert_eq!(check("long.rs", "one row per processor"), 0);
        assert_eq!((check("long.rs", ""), check("short.rs", "why"), check("gone.rs", "why")), (1, 1, 1));
    }

    #[test]
    fn modules_are_named() {
        assert_eq!(lines(one_module_style, "crates/a/src/b/mod.rs", ""), [1]);
        assert!(lines(one_module_style, "crates/a/src/b.rs", "").is_empty());
        // Only so does a module that tests share make no test of its own.
        assert!(lines(one_module_style, "crates/a/tests/data/mod.rs", "").is_empty());
    }

    #[test]
    fn vague_names_are_found() {
        assert_eq!(lines(vague_names, "crates/a/src/utils.rs", ""), [1]);
        assert_eq!(lines(vague_names, "python/common/a.py", ""), [1]);
        assert!(lines(vague_names, "crates/a/src/utility.rs", "").is_empty());
    }

    #[test]
    fn crates_say_what_they_are_for() {
        assert_eq!(lines(crate_docs, "crates/a/src/lib.rs", "mod b;\n"), [1]);
        assert!(lines(crate_docs, "crates/a/src/lib.rs", "//! For b.\n").is_empty());
        assert!(lines(crate_docs, "crates/a/src/b.rs", "mod b;\n").is_empty());
    }

    #[test]
    fn long_examples_are_found() {
        let example = |lines: usize| "// a\n".repeat(lines);
        assert_eq!(lines(long_examples, "crates/a/examples/b.rs", &example(MAX_EXAMPLE)), [1]);
        assert!(lines(long_examples, "crates/a/examples/b.rs", &example(MAX_EXAMPLE - 1)).is_empty());
    }

    #[test]
    fn the_map_is_there_and_short() {
        let map = |lines: usize| "a\n".repeat(lines);
        assert_eq!(lines(architecture, "README.md", ""), [1]);
        assert_eq!(lines(architecture, "ARCHITECTURE.md", &map(MAX_ARCHITECTURE + 1)), [MAX_ARCHITECTURE + 1]);
        assert!(lines(architecture, "ARCHITECTURE.md", &map(MAX_ARCHITECTURE)).is_empty());
    }
}
