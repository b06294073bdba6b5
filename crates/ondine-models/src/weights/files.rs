//! Which files of a folder hold the weights of a network.

use std::collections::{BTreeMap, BTreeSet};

use ondine_graph::{Asset, Context, Result, Weights, fail, weights::notes};
use serde::Deserialize;

use super::{
    scaled::attach_scales,
    source::{Source, join, plain_name},
};
use crate::{config, torch_file};

/// What diffusers and transformers call the file of a network's weights, by what it ends with.
const NAMES: [(&str, [&str; 2]); 2] =
    [("safetensors", ["diffusion_pytorch_model", "model"]), (PICKLE, ["diffusion_pytorch_model", "pytorch_model"])];
/// What files of `torch.save` end with.
const PICKLE: &str = "bin";
/// Files that are checkpoints, and not of a folder of these.
const OTHERS: [&str; 4] = [".bin", ".ckpt", ".pt", ".pth"];

/// The names of the files in `folder` that make up one checkpoint: one file, or the shards that an index lists.
/// Safetensors go before files of PyTorch, a plain file before a variant such as `fp16`, and that before others.
///
/// # Errors
/// If there are none, or an index is broken.
pub fn weight_files(source: &Source, folder: &str) -> Result<Vec<String>> {
    let names = source.list(folder)?;
    for (end, stem) in NAMES.iter().flat_map(|(end, stems)| stems.map(|stem| (*end, stem))) {
        let mut found: Vec<_> = names.iter().filter_map(|name| Some((rank(name, stem, end)?, name))).collect();
        found.sort();
        let Some((_, name)) = found.first() else { continue };
        if name.ends_with(end) {
            return Ok(vec![join(folder, name)]);
        }
        let index = join(folder, name);
        let shards = shards(&source.text(&index)?).at(|| source.describe(&index))?;
        return Ok(shards.iter().map(|shard| join(folder, shard)).collect());
    }
    let [(end, [first, second]), (_, [_, old])] = NAMES;
    if let Some(name) = names.iter().find(|name| OTHERS.iter().any(|end| name.ends_with(end))) {
        let path = source.describe(&join(folder, name));
        fail!(
            Unsupported,
            "{path}: no name of a folder's weights; call it `{first}.{PICKLE}` or `{old}.{PICKLE}` if it holds them"
        );
    }
    let place = source.describe(folder);
    fail!(Missing, "{place}: no weights here; expected `{first}.{end}` or `{second}.{end}`")
}

/// How much `name` is wanted as the weights of `stem` that end with `kind`, least first; none if it is something else.
fn rank(name: &str, stem: &str, kind: &str) -> Option<(u8, bool)> {
    let rest = name.strip_prefix(stem)?.strip_prefix('.')?;
    // `safetensors`, `fp16.safetensors`, `safetensors.index.json`, `safetensors.index.fp16.json`
    let parts: Vec<_> = rest.split('.').collect();
    let (variant, sharded) = match parts[..] {
        [end] if end == kind => (None, false),
        [variant, end] if end == kind && !variant.contains("-of-") => (Some(variant), false),
        [end, "index", "json"] if end == kind => (None, true),
        [end, "index", variant, "json"] if end == kind => (Some(variant), true),
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
        let place = source.describe(&name);
        if name.ends_with(PICKLE) {
            weights.merge(torch_file::parse(&place, &bytes).at(|| &place)?.weights)?;
        } else {
            weights.merge(Weights::from_safetensors(&place, &bytes)?)?;
            said.extend(notes(&bytes));
        }
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
        write("weights.ckpt", "");
        assert_eq!(files(), Err(ErrorKind::Unsupported));
        write("pytorch_model.fp16.bin", "");
        assert_eq!(files().unwrap(), ["pytorch_model.fp16.bin"]);
        write("pytorch_model.bin.index.json", r#"{"weight_map": {"a": "pytorch_model-1-of-1.bin"}}"#);
        assert_eq!(files().unwrap(), ["pytorch_model-1-of-1.bin"]);
        write("pytorch_model.bin", "");
        assert_eq!(files().unwrap(), ["pytorch_model.bin"]);
        assert!(load(&source, "").unwrap_err().to_string().contains("pytorch_model.bin"), "it is empty");
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
