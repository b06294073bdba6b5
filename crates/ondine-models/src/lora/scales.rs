//! What factors are multiplied by whose tensors do not say it: configs of peft in the header of a file, or beside it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ondine_graph::{Context, Error, ErrorKind, Result, fail};
use serde_json::{Map, Value};

use super::keys::Target;
use crate::{
    adapter::{PEFT_CONFIG, PEFT_WEIGHTS, PeftConfig},
    config::parse,
};

/// The note in the header of a file that holds the configs of all networks, their options behind the network's name.
const NOTE: &str = "lora_adapter_metadata";
/// The file of a folder that diffusers saves.
const DIFFUSERS_WEIGHTS: &str = "pytorch_lora_weights.safetensors";

/// Configs of an adapter.
#[derive(Debug, Default)]
pub(super) struct Scales {
    /// That of all networks without one of their own.
    whole: Option<PeftConfig>,
    by_network: BTreeMap<Target, PeftConfig>,
}

impl Scales {
    /// Those that a file at `path` has beside it, or in its notes.
    pub(super) fn of(path: &Path, notes: &BTreeMap<String, String>) -> Result<Self> {
        let beside = path.with_file_name(PEFT_CONFIG);
        let whole = if path.ends_with(PEFT_WEIGHTS) && beside.is_file() {
            let text = std::fs::read_to_string(&beside).at(|| PEFT_CONFIG)?;
            Some(parse(&text).and_then(checked).at(|| PEFT_CONFIG)?)
        } else {
            None
        };
        let by_network = match notes.get(NOTE) {
            Some(note) => of_note(note).at(|| format!("`{NOTE}` in the header"))?,
            None => BTreeMap::new(),
        };
        Ok(Self { whole, by_network })
    }

    /// What the factors of a module are multiplied by, whose rank is `rank`, if there is a config for it.
    pub(super) fn scale(&self, target: Target, module: &str, rank: usize) -> Result<Option<f32>> {
        let config = self.by_network.get(&target).or(self.whole.as_ref());
        config.map(|config| config.scale(module, rank)).transpose()
    }
}

/// The configs of a note: `unet.r`, `text_encoder.lora_alpha`.
fn of_note(note: &str) -> Result<BTreeMap<Target, PeftConfig>> {
    let options: Map<String, Value> = parse(note)?;
    let mut configs = BTreeMap::<Target, Map<String, Value>>::new();
    for (name, value) in options {
        let Some((network, option)) = name.split_once('.') else { continue };
        let target = match network {
            "unet" | "transformer" => Target::Unet,
            "text_encoder" => Target::Text(0),
            "text_encoder_2" => Target::Text(1),
            _ => continue,
        };
        configs.entry(target).or_default().insert(option.to_owned(), value);
    }
    let read = |options| {
        let config = serde_json::from_value(Value::Object(options));
        config.map_err(|error| Error::new(ErrorKind::Format, format!("not a valid config: {error}"))).and_then(checked)
    };
    configs.into_iter().map(|(target, options)| Ok((target, read(options)?))).collect()
}

fn checked(config: PeftConfig) -> Result<PeftConfig> {
    config.check_kind().map(|()| config)
}

/// The file of tensors that a path means, and the name of the adapter: a folder of peft or diffusers has one.
pub(super) fn file(path: &Path) -> Result<(PathBuf, String)> {
    let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if !path.is_dir() {
        return Ok((path.to_owned(), name(path)));
    }
    let known = [PEFT_WEIGHTS, DIFFUSERS_WEIGHTS];
    match known.iter().map(|file| path.join(file)).find(|file| file.is_file()) {
        Some(file) => Ok((file, path.file_name().unwrap_or_default().to_string_lossy().into_owned())),
        None => {
            fail!(Missing, "a folder without `{PEFT_WEIGHTS}` and `{DIFFUSERS_WEIGHTS}`; name a file of an adapter")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_in_a_header_are_of_networks() {
        let note = r#"{"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {"to_k": 16}, "unet.target_modules": ["x"],
            "unet.use_rslora": false, "unet.peft_type": "LORA", "text_encoder.r": 4, "text_encoder.lora_alpha": 4,
            "text_encoder.use_rslora": true, "other.r": 1}"#;
        let notes = BTreeMap::from([(NOTE.to_owned(), note.to_owned())]);
        let scales = Scales::of(Path::new("a.safetensors"), &notes).unwrap();
        let scale = |target, module, rank| scales.scale(target, module, rank);
        assert_eq!(scale(Target::Unet, "attn1.to_q", 4).unwrap(), Some(2.0));
        assert_eq!(scale(Target::Unet, "attn1.to_k", 4).unwrap(), Some(4.0));
        assert_eq!(scale(Target::Text(0), "layers.0.q_proj", 4).unwrap(), Some(2.0));
        assert_eq!(scale(Target::Text(1), "layers.0.q_proj", 4).unwrap(), None);
        assert!(scale(Target::Unet, "attn1.to_q", 8).unwrap_err().to_string().contains("`attn1.to_q`"));
        for (note, told) in
            [("[]", "header"), (r#"{"unet.peft_type": "LOHA"}"#, "LOHA"), (r#"{"unet.r": "x"}"#, "config")]
        {
            let notes = BTreeMap::from([(NOTE.to_owned(), note.to_owned())]);
            let error = Scales::of(Path::new("a.safetensors"), &notes).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
