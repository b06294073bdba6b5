//! Model folders with random weights, as diffusers writes them, so that `ondine draw` draws with them.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use ondine_models::{Functions, GraphSizes, registry};
use serde_json::{Value, json};

use crate::output;

use super::{
    super::bytes::megabytes,
    weights,
    works::{Model, Part},
};

/// The folder of a model below `folder`; it is written if it is not there, or holds something else.
pub(super) fn write(folder: &Path, model: &Model) -> anyhow::Result<PathBuf> {
    let path = folder.join(model.name);
    let texts = texts(model)?;
    let is = |(name, text): &(String, String)| fs::read_to_string(path.join(name)).is_ok_and(|found| found == *text);
    if texts.iter().all(is) {
        return Ok(path);
    }
    let aside = folder.join(format!("{}.part", model.name));
    for old in [&path, &aside] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| old.display().to_string())?;
        }
    }
    fs::create_dir_all(&aside).with_context(|| aside.display().to_string())?;
    let written = check_room(folder, model).and_then(|()| fill(&aside, model, &texts));
    if let Err(error) = written {
        // What went wrong says more than that nothing could be removed.
        let _ = fs::remove_dir_all(&aside);
        return Err(error.context(path.display().to_string()));
    }
    fs::rename(&aside, &path).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Removes all models and their cache.
pub(super) fn remove(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

/// Weights are written once in the model, and once packed in the cache, at most in twice the size.
fn check_room(folder: &Path, model: &Model) -> anyhow::Result<()> {
    let sizes = model.parts.iter().map(|part| Ok(weights::bytes(part.functions()?.iter().map(|(_, graph)| graph))));
    let size: u64 = sizes.sum::<anyhow::Result<u64>>()?;
    let free = fs4::available_space(folder)?;
    ensure!(
        free > 3 * size,
        "the model and its cache take up to {}, the disk has {}; make room, or set ONDINE_CACHE to a folder elsewhere",
        megabytes(3 * size),
        megabytes(free)
    );
    Ok(())
}

impl Part {
    fn functions(&self) -> anyhow::Result<Functions> {
        Ok((registry::find(self.class)?.functions)(self.config, GraphSizes::default())?)
    }

    fn weight_file(&self) -> &'static str {
        if self.library == "transformers" { "model.safetensors" } else { "diffusion_pytorch_model.safetensors" }
    }
}

fn fill(folder: &Path, model: &Model, texts: &[(String, String)]) -> anyhow::Result<()> {
    output::remark(format_args!("writing {} into {}", model.name, folder.display()));
    for (name, text) in texts {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    for (seed, part) in (1..).zip(model.parts) {
        let path = folder.join(part.name).join(part.weight_file());
        let mut file = BufWriter::new(File::create(&path).with_context(|| path.display().to_string())?);
        weights::write(part.functions()?.iter().map(|(_, graph)| graph), seed, &mut file)?;
        file.flush()?;
    }
    Ok(())
}

/// The small files of a folder, by name.
fn texts(model: &Model) -> anyhow::Result<Vec<(String, String)>> {
    let mut index = json!({"_class_name": model.pipeline, "scheduler": ["diffusers", "LCMScheduler"]});
    let mut texts = vec![("scheduler/scheduler_config.json".to_owned(), SCHEDULER.to_owned())];
    for part in model.parts {
        index[part.name] = json!([part.library, part.class]);
        texts.push((format!("{}/config.json", part.name), config(part)?.to_string()));
        if let Some(suffix) = part.name.strip_prefix("text_encoder") {
            let folder = format!("tokenizer{suffix}");
            index[&folder] = json!(["transformers", "CLIPTokenizer"]);
            texts.extend(tokenizer(&folder));
        }
    }
    texts.push(("model_index.json".to_owned(), index.to_string()));
    Ok(texts)
}

fn config(part: &Part) -> anyhow::Result<Value> {
    let mut config: Value = serde_json::from_str(part.config)?;
    if part.library == "transformers" {
        config["architectures"] = json!([part.class]);
    } else {
        config["_class_name"] = part.class.into();
    }
    Ok(config)
}

/// As latent consistency models have it.
const SCHEDULER: &str = r#"{"_class_name": "LCMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085,
    "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "epsilon"}"#;

/// A tokenizer as CLIP's: the letters that stand for bytes, each also as the end of a word, no merges.
fn tokenizer(folder: &str) -> Vec<(String, String)> {
    let plain = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..256).filter(|byte| !plain(byte)).count() as u32;
    let letters: Vec<char> = (0..256).filter(plain).chain(256..256 + others).filter_map(char::from_u32).collect();
    let words = letters.iter().map(char::to_string).chain(letters.iter().map(|letter| format!("{letter}</w>")));
    let mut vocabulary: serde_json::Map<_, _> = words.zip((0..).map(Value::from)).collect();
    vocabulary.insert("<|startoftext|>".into(), 49406.into());
    vocabulary.insert("<|endoftext|>".into(), 49407.into());
    vec![
        (format!("{folder}/vocab.json"), Value::Object(vocabulary).to_string()),
        (format!("{folder}/merges.txt"), "#version: 0.2\n".to_owned()),
        (format!("{folder}/tokenizer_config.json"), r#"{"model_max_length": 77}"#.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondine_models::{Pipeline, Source, Tokenizer};

    const SMALL: Model = Model {
        name: "small",
        pipeline: "StableDiffusionPipeline",
        parts: &[
            Part {
                name: "text_encoder",
                library: "transformers",
                class: "CLIPTextModel",
                config: r#"{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                    "num_attention_heads": 2, "max_position_embeddings": 77}"#,
            },
            Part { name: "vae", library: "diffusers", class: "AutoencoderTiny", config: "{}" },
        ],
    };

    #[test]
    fn folders_are_opened_like_any_other_and_written_once() {
        let home = tempfile::tempdir().unwrap();
        let folder = write(home.path(), &SMALL).unwrap();
        let source = Source::folder(&folder).unwrap();
        let pipeline = Pipeline::open(source.clone()).unwrap();
        for part in ["text_encoder", "vae"] {
            pipeline.network(part).unwrap();
        }
        let tokens = Tokenizer::open(&source, "tokenizer", 77).unwrap().encode("a cat").unwrap();
        assert_eq!((tokens.ids.len(), tokens.ids[0], tokens.all_unknown), (6, 49406, false));

        let weights = folder.join("vae/diffusion_pytorch_model.safetensors");
        let written = || fs::metadata(&weights).unwrap().modified().unwrap();
        let first = written();
        write(home.path(), &SMALL).unwrap();
        assert_eq!(written(), first);
        fs::write(folder.join("vae/config.json"), "{}").unwrap();
        write(home.path(), &SMALL).unwrap();
        assert_ne!(written(), first);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
