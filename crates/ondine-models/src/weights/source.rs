//! Where the files of a model come from.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use ondine_graph::{Bytes, Context, Result, archive::Archive, fail};

/// What a GGUF file is called that stands for the files of a tokenizer.
pub(crate) const VOCABULARY: &str = "vocabulary.gguf";

/// Where the files of a model come from. Names are relative and use `/`, such as `unet/config.json`.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder on the disk.
    Folder(PathBuf),
    /// Files that are part of the program, by name.
    Embedded(&'static [(&'static str, &'static [u8])]),
    /// Files inside another one, under its name.
    Inside(Arc<str>, Arc<Files>),
}

/// Files inside another one, by name.
#[derive(Clone, Debug, Default)]
pub struct Files(BTreeMap<String, Bytes>);

impl Files {
    /// Adds or replaces a text.
    pub(crate) fn insert(&mut self, name: &str, text: &str) {
        self.0.insert(name.to_owned(), Bytes::from(text.as_bytes()));
    }

    /// Adds or replaces a file.
    pub(crate) fn insert_bytes(&mut self, name: &str, bytes: Bytes) {
        self.0.insert(name.to_owned(), bytes);
    }

    /// The files as those of a model; `name` stands for the file that they are in.
    pub(crate) fn source(self, name: &str) -> Source {
        Source::Inside(name.into(), Arc::new(self))
    }
}

impl Source {
    /// The files of a model in a zip archive that stores them as they are, in the folders of diffusers: a DDUF file.
    ///
    /// # Errors
    /// If it is no such archive.
    pub fn archive(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let archive = Archive::read_whole(&Bytes::map(path)?).at(|| &name)?;
        let file = |path: &str| Some((path.to_owned(), archive.get(path)?.clone()));
        let files = archive.paths().filter_map(file).collect();
        Ok(Files(files).source(&name))
    }

    /// The vocabulary in the GGUF file `path`, in place of the files of a tokenizer.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) fn vocabulary(path: &Path) -> Result<Self> {
        let mut files = Files::default();
        files.insert_bytes(VOCABULARY, Bytes::map(path)?);
        Ok(files.source(&path.display().to_string()))
    }

    /// The files of the folder `path`.
    ///
    /// # Errors
    /// If it is no folder.
    pub fn folder(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            fail!(Missing, "{}: there is no such folder", path.display());
        }
        Ok(Self::Folder(path.to_path_buf()))
    }

    /// How messages call the file `name`.
    #[must_use]
    pub fn describe(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(name).display().to_string(),
            Self::Embedded(_) => format!("built-in {name}").trim_end().to_owned(),
            Self::Inside(file, _) if name.is_empty() => file.to_string(),
            Self::Inside(file, _) => format!("{file}: {name}"),
        }
    }

    /// True if there is a file `name`.
    #[must_use]
    pub fn exists(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(name).is_file(),
            Self::Embedded(files) => files.iter().any(|(file, _)| *file == name),
            Self::Inside(_, files) => files.0.contains_key(name),
        }
    }

    /// The bytes of the file `name`, mapped if it lies on the disk.
    ///
    /// # Errors
    /// If there is no such file, or it cannot be opened.
    pub fn open(&self, name: &str) -> Result<Bytes> {
        if !self.exists(name) {
            fail!(Missing, "{}: there is no such file", self.describe(name));
        }
        match self {
            Self::Folder(folder) => Bytes::map(&folder.join(name)),
            Self::Embedded(files) => Ok(files
                .iter()
                .find(|(file, _)| *file == name)
                .map_or_else(|| Bytes::from_static(&[]), |(_, bytes)| Bytes::from_static(bytes))),
            Self::Inside(_, files) => Ok(files.0.get(name).cloned().unwrap_or_else(|| Bytes::from_static(&[]))),
        }
    }

    /// The file `name` as text.
    ///
    /// # Errors
    /// As [`Source::open`], and if it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<String> {
        let bytes = self.open(name)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => fail!(Format, "{}: no UTF-8 text ({error})", self.describe(name)),
        }
    }

    /// The names of the files directly in `folder`, sorted; none if there is no such folder.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self, folder: &str) -> Result<Vec<String>> {
        let mut names = match self {
            Self::Folder(root) if root.join(folder).is_dir() => file_names(&root.join(folder))?,
            Self::Folder(_) => Vec::new(),
            Self::Embedded(files) => directly_in(folder, files.iter().map(|(name, _)| *name)),
            Self::Inside(_, files) => directly_in(folder, files.0.keys().map(String::as_str)),
        };
        names.sort_unstable();
        Ok(names)
    }
}

/// Of names with folders, those directly in one.
fn directly_in<'n>(folder: &str, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let inside = names.filter_map(|name| match folder {
        "" => Some(name),
        _ => name.strip_prefix(folder)?.strip_prefix('/'),
    });
    inside.filter(|name| !name.contains('/')).map(str::to_owned).collect()
}

fn file_names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).at(|| folder.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.at(|| folder.display().to_string())?;
        if entry.path().is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

/// The file `name` in `folder`, which may be the root itself.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Refuses names that a file took from elsewhere and that lead out of its folder.
pub(crate) fn plain_name(name: &str) -> Result<&str> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', ':', '\0']) {
        fail!(Format, "{name:?} is no plain file name");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_files_are_found_like_those_on_the_disk() {
        let source = Source::Embedded(&[("a.json", b"{}"), ("unet/b.json", b"[]"), ("unet/c/d", b"")]);
        assert_eq!(source.describe(""), "built-in");
        assert_eq!(source.list("").unwrap(), ["a.json"]);
        assert_eq!(source.list("unet").unwrap(), ["b.json"]);
        assert_eq!(source.text("unet/b.json").unwrap(), "[]");
        assert_eq!(source.open("unet").unwrap_err().to_string(), "built-in unet: there is no such file");
    }
}
