//! Reading checkpoints: where their files lie, which of them hold the weights, and whether these fit a network.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use ondine_runtime::{Bytes, Context, Error, ErrorKind, Graph, Result, Weights};
use serde::Deserialize;

use crate::fail;

/// Where the files of a model come from. Names are relative and use `/`, such as `unet/config.json`.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder on the disk.
    Folder(PathBuf),
    /// Files that are part of the program, by name.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl Source {
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
            Self::Embedded(_) => format!("built-in {name}"),
        }
    }

    /// True if there is a file `name`.
    #[must_use]
    pub fn exists(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(name).is_file(),
            Self::Embedded(files) => files.iter().any(|(file, _)| *file == name),
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
            Self::Embedded(files) => {
                let inside = files.iter().filter_map(|(name, _)| match folder {
                    "" => Some(*name),
                    _ => name.strip_prefix(folder)?.strip_prefix('/'),
                });
                inside.filter(|name| !name.contains('/')).map(str::to_owned).collect()
            }
        };
        names.sort_unstable();
        Ok(names)
    }
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

/// What diffusers and transformers call the file of a network's weights.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];
const SAFETENSORS: &str = ".safetensors";
/// Files that only PyTorch can read, because they are programs for its unpickler.
const PICKLES: [&str; 4] = [".bin", ".ckpt", ".pt", ".pth"];

/// The names of the safetensors files in `folder` that make up one checkpoint: one file, or the shards that an index
/// lists. A plain file goes before a variant such as `fp16`, and that before others.
///
/// # Errors
/// If there are none, or an index is broken.
pub fn weight_files(source: &Source, folder: &str) -> Result<Vec<String>> {
    let names = source.list(folder)?;
    for stem in STEMS {
        let mut found: Vec<_> = names.iter().filter_map(|name| Some((rank(name, stem)?, name))).collect();
        found.sort();
        let Some((_, name)) = found.first() else { continue };
        if name.ends_with(SAFETENSORS) {
            return Ok(vec![join(folder, name)]);
        }
        let index = join(folder, name);
        let shards = shards(&source.text(&index)?).at(|| source.describe(&index))?;
        return Ok(shards.iter().map(|shard| join(folder, shard)).collect());
    }
    if let Some(name) = names.iter().find(|name| PICKLES.iter().any(|end| name.ends_with(end))) {
        let path = source.describe(&join(folder, name));
        fail!(
            Unsupported,
            "{path}: only safetensors files are read; convert it with `save_pretrained(..., safe_serialization=True)`"
        );
    }
    let place = source.describe(folder);
    fail!(Missing, "{place}: no weights here; expected `{}.safetensors` or `{}.safetensors`", STEMS[0], STEMS[1])
}

/// How much `name` is wanted as the weights of `stem`, least first; none if it is something else.
fn rank(name: &str, stem: &str) -> Option<(u8, bool)> {
    let rest = name.strip_prefix(stem)?.strip_prefix('.')?;
    // `safetensors`, `fp16.safetensors`, `safetensors.index.json`, `safetensors.index.fp16.json`
    let parts: Vec<_> = rest.split('.').collect();
    let (variant, sharded) = match parts[..] {
        ["safetensors"] => (None, false),
        [variant, "safetensors"] if !variant.contains("-of-") => (Some(variant), false),
        ["safetensors", "index", "json"] => (None, true),
        ["safetensors", "index", variant, "json"] => (Some(variant), true),
        _ => return None,
    };
    let preference = match variant {
        None => 0,
        Some("fp16") => 1,
        Some(_) => 2,
    };
    Some((preference, sharded))
}

/// The files that an index lists.
fn shards(index: &str) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let index: Index = crate::config::parse(index)?;
    if index.weight_map.is_empty() {
        fail!(Format, "the index lists no tensors");
    }
    index.weight_map.into_values().map(|shard| plain_name(&shard).map(str::to_owned)).collect()
}

/// The weights of the network in `folder`, mapped, as the files name them.
///
/// # Errors
/// As [`weight_files`], and if a file is missing or broken.
pub fn load(source: &Source, folder: &str) -> Result<Weights> {
    let mut weights = Weights::default();
    for name in weight_files(source, folder)? {
        weights.merge(Weights::from_safetensors(&source.describe(&name), &source.open(&name)?)?)?;
    }
    Ok(weights)
}

/// A part of tensor names that some versions of a checkpoint write otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Rename {
    /// What the file says; `^` at the beginning stands for the beginning of the name.
    pub from: &'static str,
    /// What it stands for.
    pub to: &'static str,
}

impl Rename {
    fn apply(&self, name: &str) -> Option<String> {
        match self.from.strip_prefix('^') {
            Some(prefix) => name.strip_prefix(prefix).map(|rest| format!("{}{rest}", self.to)),
            None => name.contains(self.from).then(|| name.replacen(self.from, self.to, 1)),
        }
    }
}

/// Gives every tensor the name that the network uses.
///
/// # Errors
/// If two tensors would have one name.
pub fn rename(weights: &mut Weights, renames: &[Rename]) -> Result<()> {
    weights.rename(|name| {
        let renamed = renames
            .iter()
            .fold(None::<String>, |renamed, rename| rename.apply(renamed.as_deref().unwrap_or(name)).or(renamed));
        renamed.filter(|renamed| renamed != name)
    })
}

/// Buffers that checkpoints of any architecture may carry and no network reads.
const IGNORED: &[&str] = &["position_ids", "num_batches_tracked"];

/// Makes sure that `weights` hold what the functions of a network ask for, and nothing else.
///
/// Tensors whose name contains one of `ignored` may be there.
///
/// # Errors
/// Names the first tensor that is missing or has another shape, and the first few that nothing uses.
pub fn check<'a>(weights: &Weights, graphs: impl Iterator<Item = &'a Graph>, ignored: &[&str]) -> Result<()> {
    let mut used = BTreeSet::new();
    for weight in graphs.flat_map(Graph::weights) {
        weights.expect(&weight.path, &weight.shape)?;
        used.insert(&*weight.path);
    }
    let ignored = |path: &str| IGNORED.iter().chain(ignored).any(|part| path.contains(part));
    let extra: Vec<_> = weights.paths().filter(|path| !used.contains(&***path) && !ignored(path)).collect();
    let Some(tensor) = extra.first().and_then(|path| weights.get(path)) else { return Ok(()) };
    let names = extra.iter().take(3).map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
    let more = if extra.len() > 3 { format!(" and {} more", extra.len() - 3) } else { String::new() };
    Err(Error::new(
        ErrorKind::Extra,
        format!("{}: nothing uses {names}{more}; is this the checkpoint of this config?", tensor.file),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_files_go_before_variants_and_shards_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::folder(folder.path()).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let files = || weight_files(&source, "").map_err(|error| error.kind());

        assert_eq!(files(), Err(ErrorKind::Missing));
        write("pytorch_model.bin", "");
        assert_eq!(files(), Err(ErrorKind::Unsupported));
        let map = r#"{"weight_map": {"a": "model-2-of-2.safetensors", "b": "model-1-of-2.safetensors"}}"#;
        write("model.safetensors.index.json", map);
        write("model-1-of-2.safetensors", "");
        assert_eq!(files().unwrap(), ["model-1-of-2.safetensors", "model-2-of-2.safetensors"]);
        write("model.safetensors.index.json", r#"{"weight_map": {"a": "../secret"}}"#);
        assert_eq!(files(), Err(ErrorKind::Format));
        write("diffusion_pytorch_model.non_ema.safetensors", "");
        assert_eq!(files().unwrap(), ["diffusion_pytorch_model.non_ema.safetensors"]);
        write("diffusion_pytorch_model.fp16.safetensors", "");
        assert_eq!(files().unwrap(), ["diffusion_pytorch_model.fp16.safetensors"]);
        write("diffusion_pytorch_model.safetensors", "");
        assert_eq!(files().unwrap(), ["diffusion_pytorch_model.safetensors"]);
    }

    #[test]
    fn embedded_files_are_found_like_those_on_the_disk() {
        let source = Source::Embedded(&[("a.json", b"{}"), ("unet/b.json", b"[]"), ("unet/c/d", b"")]);
        assert_eq!(source.list("").unwrap(), ["a.json"]);
        assert_eq!(source.list("unet").unwrap(), ["b.json"]);
        assert_eq!(source.text("unet/b.json").unwrap(), "[]");
        assert_eq!(source.open("unet").unwrap_err().to_string(), "built-in unet: there is no such file");
    }

    #[test]
    fn renames_are_anchored_only_where_they_say_so() {
        let strip = Rename { from: "^bert.", to: "" };
        assert_eq!(strip.apply("bert.encoder.bert.x"), Some("encoder.bert.x".to_owned()));
        assert_eq!(strip.apply("x.bert.y"), None);
        let inner = Rename { from: ".query.", to: ".to_q." };
        assert_eq!(inner.apply("mid.query.weight"), Some("mid.to_q.weight".to_owned()));
    }
}
