//! Adapters of a model (LoRA and its kin), by their files or by their names in the prompt.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use ondine_image::{pipeline::TextToImage, prompt::compose};
use ondine_models::lora::{Adapter, Applied};

use crate::report::usage;

/// Adapters.
#[derive(Args, Debug)]
pub(super) struct Adapters {
    /// Change the model by this adapter (LoRA, LoCon, LoHa, LoKr, DoRA); a number behind a colon is how much
    #[arg(long = "lora", value_name = "FILE[:WEIGHT]", value_parser = parse_file)]
    files: Vec<(PathBuf, f32)>,

    /// Where adapters lie that the prompt names, as in <lora:name:0.8>
    #[arg(long = "lora-folder", value_name = "FOLDER", visible_alias = "lora-dir")]
    folder: Option<PathBuf>,
}

fn parse_file(text: &str) -> Result<(PathBuf, f32), String> {
    match text.rsplit_once(':') {
        // The colon of a drive is not one of a weight.
        Some((path, weight)) if path.len() > 1 && weight.parse::<f32>().is_ok_and(f32::is_finite) => {
            Ok((path.into(), weight.parse().unwrap_or(1.0)))
        }
        _ if text.is_empty() => Err("name a file".to_owned()),
        _ => Ok((text.into(), 1.0)),
    }
}

/// What files of adapters end with.
const ENDS: [&str; 4] = ["safetensors", "pt", "ckpt", "bin"];

impl Adapters {
    /// Takes the names of adapters out of a prompt and changes the model by all that are asked for; tells what became
    /// of each.
    pub(super) fn apply(&self, prompt: &mut String, model: &mut TextToImage) -> anyhow::Result<Vec<Applied>> {
        let (text, named) = compose::adapters(prompt);
        let mut reports = Vec::new();
        for (path, weight) in &self.files {
            reports.push(model.adapt(&Adapter::open(path)?, *weight, *weight)?);
        }
        for compose::Named { name, unet, text } in &named {
            let Some(folder) = &self.folder else {
                usage!("the prompt names the adapter `{name}`: say where it lies with --lora-folder FOLDER");
            };
            reports.push(model.adapt(&Adapter::open(&find(folder, name)?)?, *unet, *text)?);
        }
        if !named.is_empty() {
            *prompt = text.trim().trim_end_matches(',').trim_end().to_owned();
        }
        Ok(reports)
    }
}

/// The file of an adapter in a folder, or in one of the folders in it.
fn find(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let mut known = Vec::new();
    let mut open = vec![(folder.to_path_buf(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| anyhow::anyhow!("{}: {error}", folder.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() && depth < 4 {
                open.push((path, depth + 1));
            } else if path.extension().is_some_and(|end| ENDS.iter().any(|known| end.eq_ignore_ascii_case(known))) {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                if stem == name {
                    return Ok(path);
                }
                known.push(stem);
            }
        }
    }
    known.sort();
    known.truncate(8);
    bail!("{}: there is no adapter `{name}`; there are {}", folder.display(), known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_may_have_weights() {
        for (text, path, weight) in [
            ("a.safetensors", "a.safetensors", 1.0),
            ("ink:0.8", "ink", 0.8),
            ("C:/x:-1", "C:/x", -1.0),
            ("C:5", "C:5", 1.0),
        ] {
            assert_eq!(parse_file(text).unwrap(), (path.into(), weight), "{text}");
        }
        assert!(parse_file("").is_err());
    }
}
