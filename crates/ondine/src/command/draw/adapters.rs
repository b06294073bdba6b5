//! Adapters of a model (LoRA and its kin) and words that it is taught (textual inversion), by their files or by their
//! names in the prompt.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use ondine_image::{pipeline::TextToImage, prompt::compose, request::Request};
use ondine_models::{
    lora::{Adapter, Applied},
    textual_inversion::{Embedding, Taught},
};

use crate::report::{bad_usage, usage};

/// Adapters.
#[derive(Args, Debug)]
pub(super) struct Adapters {
    /// Change the model by this adapter (LoRA, LoCon, LoHa, LoKr, DoRA); a number behind a colon is how much
    #[arg(long = "lora", value_name = "FILE[:WEIGHT]", value_parser = parse_file)]
    files: Vec<(PathBuf, f32)>,

    /// Where adapters lie that the prompt names, as in <lora:name:0.8>
    #[arg(long = "lora-folder", value_name = "FOLDER", visible_alias = "lora-dir")]
    folder: Option<PathBuf>,

    /// Teach the model the word that this embedding (textual inversion) stands for: its file's name, or the one behind
    /// a colon; of a folder, all whose names the prompts have
    #[arg(long = "embedding", value_name = "FILE[:NAME]|FOLDER", visible_alias = "ti")]
    embeddings: Vec<String>,
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
        let (text, named) = compose::adapters(prompt).map_err(bad_usage)?;
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

impl Adapters {
    /// Teaches the model the embeddings that are asked for, those of a folder if a prompt names them.
    pub(super) fn teach(&self, request: &Request, model: &mut TextToImage) -> anyhow::Result<Vec<Taught>> {
        let prompts = [Some(&request.prompt), request.negative.as_ref()];
        let text = prompts.into_iter().flatten().map(|text| text.to_lowercase()).collect::<Vec<_>>().join(" ");
        let mut taught = Vec::new();
        for given in &self.embeddings {
            let path = Path::new(given);
            if path.is_dir() {
                let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
                let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                files.retain(|file| is_adapter(file) && text.contains(&stem(file).to_lowercase()));
                files.sort();
                for file in files {
                    taught.push(model.teach(&Embedding::open(&file, None)?)?);
                }
                continue;
            }
            let (path, name) = match given.rsplit_once(':') {
                // The colon of a drive, or one in the file's name, is not one of a word.
                Some((path, name)) if path.len() > 1 && !Path::new(given).exists() => (Path::new(path), Some(name)),
                _ => (path, None),
            };
            taught.push(model.teach(&Embedding::open(path, name)?)?);
        }
        Ok(taught)
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// True for a file that ends as those of adapters and embeddings do.
fn is_adapter(path: &Path) -> bool {
    path.extension().is_some_and(|end| ENDS.iter().any(|known| end.eq_ignore_ascii_case(known)))
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
            } else if is_adapter(&path) {
                if stem(&path) == name {
                    return Ok(path);
                }
                known.push(stem(&path));
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
