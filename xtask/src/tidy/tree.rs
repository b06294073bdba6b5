//! The files that the checks look at.

use std::{
    fs,
    io::{ErrorKind, Read},
    path::Path,
    process::Command,
};

use anyhow::Context;
use proc_macro2::{LexError, TokenStream};

/// Folders that are no part of the source, for trees that git does not know.
const NOT_SOURCE: &[&str] = &[".git", ".venv", "__pycache__", "artifacts", "corpus", "runs", "target"];

/// All text files of a repository.
pub(super) struct Tree {
    files: Vec<File>,
}

/// A text file.
pub(super) struct File {
    /// Where it is, from the root of the repository, with `/` on every system.
    pub(super) path: String,
    /// What it says.
    pub(super) text: String,
    /// Its tokens; none if it is not Rust.
    pub(super) tokens: Result<TokenStream, LexError>,
}

impl Tree {
    /// Reads the files that git tracks, or all files if there is no git repository (an unpacked archive).
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let paths = match tracked(root) {
            Some(paths) => paths,
            None => walk(root, "")?,
        };
        let mut files = Vec::new();
        for path in paths {
            if let Some(text) = read_text(&root.join(&path)).with_context(|| path.clone())? {
                files.push(File::new(&path, text));
            }
        }
        Ok(Self { files })
    }

    /// A tree of these paths and texts.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| File::new(path, (*text).to_owned())).collect() }
    }

    /// Every file.
    pub(super) fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    /// The Rust files.
    pub(super) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files().filter(|file| file.extension() == "rs")
    }

    /// The file at `path`, if there is one.
    pub(super) fn get(&self, path: &str) -> Option<&File> {
        self.files().find(|file| file.path == path)
    }
}

impl File {
    fn new(path: &str, text: String) -> Self {
        let tokens = if path.ends_with(".rs") { text.parse() } else { Ok(TokenStream::new()) };
        Self { path: path.to_owned(), text, tokens }
    }

    /// The last part of the path.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// What follows the last dot of the name.
    pub(super) fn extension(&self) -> &str {
        self.name().rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    /// The lines with their numbers, from one.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)))
    }

    /// True if the file holds data that another program wrote: weights, vocabularies, goldens, lock files.
    pub(super) fn is_data(&self) -> bool {
        let stored = ["/assets/", "/tests/"].iter().any(|folder| self.path.contains(folder));
        self.extension() == "lock" || (stored && !["rs", "py", "md"].contains(&self.extension()))
    }
}

/// The files that git tracks and that are there.
fn tracked(root: &Path) -> Option<Vec<String>> {
    if !root.join(".git").exists() {
        return None;
    }
    let output = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output().ok()?;
    let list = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(list.split_terminator('\0').map(str::to_owned).collect())
}

fn walk(root: &Path, folder: &str) -> anyhow::Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root.join(folder)).with_context(|| folder.to_owned())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() && !NOT_SOURCE.contains(&&*name) {
            paths.extend(walk(root, &path)?);
        } else if kind.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The text of a file; nothing if it is binary, a link, or was deleted since git saw it.
fn read_text(path: &Path) -> anyhow::Result<Option<String>> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        meta => meta?,
    };
    if !meta.is_file() {
        return Ok(None);
    }
    let mut file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.by_ref().take(8192).read_to_end(&mut bytes)?;
    if bytes.contains(&0) {
        return Ok(None);
    }
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_listing_see_a_manifest() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let manifest = "xtask/Cargo.toml".to_owned();
        assert!(walk(&root, "").unwrap().contains(&manifest));
        assert!(tracked(&root).is_none_or(|paths| paths.contains(&manifest)));
        assert!(tracked(&root.join("xtask")).is_none());
    }

    #[test]
    fn weights_are_not_text() {
        let folder = std::env::temp_dir().join(format!("ondine-tidy-{}", std::process::id()));
        fs::write(&folder, b"\x10\0\0\0\0\0\0\0{}").unwrap();
        assert_eq!(read_text(&folder).unwrap(), None);
        fs::remove_file(&folder).unwrap();
        assert_eq!(read_text(&folder).unwrap(), None);
    }

    #[test]
    fn data_is_what_programs_wrote() {
        let is_data = |path| File::new(path, String::new()).is_data();
        assert!(
            is_data("crates/a/tests/data/b/config.json") && is_data("crates/a/assets/b.json") && is_data("Cargo.lock")
        );
        assert!(!is_data("crates/a/tests/b.rs") && !is_data("crates/a/assets/README.md") && !is_data("src/b.json"));
    }

    #[test]
    fn names_and_lines() {
        let file = File::new("a/b.tar.gz", "one\r\ntwo".to_owned());
        assert_eq!((file.name(), file.extension()), ("b.tar.gz", "gz"));
        assert_eq!(file.lines().collect::<Vec<_>>(), [(1, "one"), (2, "two")]);
    }
}
