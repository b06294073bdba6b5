//! Which files of a folder hold the weights of a network.

use std::collections::{BTreeMap, BTreeSet};

use ondine_graph::{Asset, Context, Result, Weights, fail, weights::notes};
use serde::Deserialize;

use super::{
    scaled::attach_scales,
    source::{Source, join, plain_name},
};
use crate::config;

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
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = config::parse(index)?;
    if index.weight_map.is_empty() {
        fail!(Format, "the index lists no tensors");
    }
    index.weight_map.into_values().map(|shard| plain_name(&shard).map(str::to_owned)).collect()
}

/// The weights of the network in `folder`, mapped, as the files name them: those of a checkpoint, or of an
/// [`Asset::save`], which may be in fewer bits.
///
/// # Errors
/// As [`weight_files`], and if a file is missing or broken.
pub fn load(source: &Source, folder: &str) -> Result<Weights> {
    if let Source::Folder(root) = source {
        let folder = root.join(folder);
        if Asset::is_folder(&folder) {
            return Ok(Asset::open(&folder)?.weights().clone());
        }
    }
    let (mut weights, mut said) = (Weights::default(), BTreeMap::new());
    for name in weight_files(source, folder)? {
        let bytes = source.open(&name)?;
        weights.merge(Weights::from_safetensors(&source.describe(&name), &bytes)?)?;
        said.extend(notes(&bytes));
    }
    attach_scales(&mut weights, &said)?;
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use ondine_graph::ErrorKind;

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
}
