//! Pipelines: folders in the layout of diffusers, `model_index.json` and a folder per component, and files that hold
//! all.

use std::{collections::BTreeMap, path::Path};

use ondine_graph::{Context, Result, fail};
use serde_json::{Map, Value};

use crate::{
    checkpoint::{self, Checkpoint, Finding, Part},
    config, gguf,
    network::{CONFIG, Network},
    weights::{Source, plain_name},
};

/// One entry of a `model_index.json`, such as `unet: [diffusers, UNet2DConditionModel]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its name, which is also that of its folder.
    pub name: String,
    /// The library of its class.
    pub library: String,
    /// Its class.
    pub class: String,
}

/// The parts of a pipeline, none of which is checked before it is asked for.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Where the files are.
    pub source: Source,
    /// The class of the pipeline, if the file names it. Which parts there are says more.
    pub class: Option<String>,
    /// The components that are there.
    pub components: Vec<Component>,
    /// The other entries, such as `force_zeros_for_empty_prompt`.
    pub options: Map<String, Value>,
    /// What was found out about a checkpoint in one file, each with its reason.
    pub findings: Vec<Finding>,
    /// Where the weights of some networks are, in place of their own.
    replaced: BTreeMap<String, Source>,
    /// Networks that were read from files that hold several, or one without a config.
    given: BTreeMap<String, Part>,
}

const INDEX: &str = "model_index.json";

impl Pipeline {
    /// Reads the `model_index.json` of `source`.
    ///
    /// # Errors
    /// If it is missing or broken.
    pub fn open(source: Source) -> Result<Self> {
        let text = source.text(INDEX)?;
        let entries: Map<String, Value> = config::parse(&text).at(|| source.describe(INDEX))?;
        let (mut class, mut components, mut options) = (None, Vec::new(), Map::new());
        for (name, value) in entries {
            match value {
                Value::String(value) if name == "_class_name" => class = Some(value),
                // Entries of a component that was left out are null, or a list of nulls.
                Value::Null => {}
                Value::Array(list) if list.iter().all(Value::is_null) => {}
                Value::Array(list) if !name.starts_with('_') => {
                    components.push(component(&name, &list).at(|| source.describe(INDEX))?);
                }
                value => {
                    options.insert(name, value);
                }
            }
        }
        Ok(Self { source, class, components, options, ..Self::empty() })
    }

    fn empty() -> Self {
        Self {
            source: Source::Embedded(&[]),
            class: None,
            components: Vec::new(),
            options: Map::new(),
            findings: Vec::new(),
            replaced: BTreeMap::new(),
            given: BTreeMap::new(),
        }
    }

    /// Reads a model in one file: a checkpoint of latent diffusion (safetensors, `torch.save`, GGUF), or an archive of
    /// a folder (DDUF). Configs in `configs`, a folder as diffusers saves it, count in place of those that are found
    /// out.
    ///
    /// # Errors
    /// If the file is damaged, of another kind, or is not built like those that are known.
    pub fn open_file(path: &Path, configs: Option<&Source>) -> Result<Self> {
        if is_archive(path)
            && let source = Source::archive(path)?
            && source.exists(INDEX)
        {
            return Self::open(source);
        }
        let Checkpoint { findings, parts, files, options } = Checkpoint::open(path, configs)?;
        let component = |(name, part): (&&str, &Part)| Component {
            name: (*name).to_owned(),
            library: "checkpoint".to_owned(),
            class: part.class.clone(),
        };
        let mut components: Vec<_> = parts.iter().map(component).collect();
        let source = files.source(&path.display().to_string());
        let tokenizers = TOKENIZERS.map(|name| (name, format!("{name}/tokenizer_config.json")));
        let scheduler = ("scheduler", "scheduler/scheduler_config.json".to_owned());
        for (name, file) in tokenizers.into_iter().chain([scheduler]) {
            if source.exists(&file) {
                let (library, class) = ("checkpoint".to_owned(), name.to_owned());
                components.push(Component { name: name.to_owned(), library, class });
            }
        }
        let given = parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect();
        Ok(Self { source, components, options, findings, given, ..Self::empty() })
    }

    /// The component `name`, if it is there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|component| component.name == name)
    }

    /// The component `name`.
    ///
    /// # Errors
    /// If it is not there.
    pub fn component(&self, name: &str) -> Result<&Component> {
        match self.get(name) {
            Some(component) => Ok(component),
            None => {
                let names: Vec<_> = self.components.iter().map(|component| component.name.as_str()).collect();
                if matches!(&self.source, Source::Inside(..)) && self.class.is_none() {
                    let place = self.source.describe("");
                    fail!(
                        Missing,
                        "{place}: holds no `{name}`, but {}; name a file or folder of one",
                        names.join(", ")
                    );
                }
                let (place, class) = (self.source.describe(INDEX), self.class.as_deref().unwrap_or("pipeline"));
                fail!(Missing, "{place}: the {class} has no component `{name}`; it has: {}", names.join(", "))
            }
        }
    }

    /// Takes the weights of the network `name` from another folder: a checkpoint of the same architecture, or an asset
    /// that was made of one, with weights in fewer bits perhaps. Its own config counts, if it has one.
    ///
    /// # Errors
    /// If there is no such component.
    pub fn replace(&mut self, name: &str, part: Source) -> Result<()> {
        if TOKENIZERS.contains(&name) && is_tokenizer(&part) {
            self.replaced.insert(name.to_owned(), part);
            return Ok(());
        }
        if self.get(name).is_none() && self.findings.is_empty() {
            self.component(name)?;
        }
        if self.get(name).is_none() {
            let class = config::class_of(&part.text(CONFIG)?).at(|| part.describe(CONFIG))?;
            self.components.push(Component { name: name.to_owned(), library: "folder".to_owned(), class });
        }
        self.replaced.insert(name.to_owned(), part);
        Ok(())
    }

    /// Where the files of the tokenizer `name` are, of the text encoder `encoder`: in its own folder, or beside the
    /// weights of an encoder that is taken from another folder.
    ///
    /// # Errors
    /// If there is none.
    pub fn tokenizer(&self, name: &str, encoder: &str) -> Result<(&Source, String)> {
        if let Some(source) = self.replaced.get(name) {
            return Ok((source, String::new()));
        }
        let beside = self.replaced.get(encoder).filter(|source| is_tokenizer(source));
        match (self.get(name), beside) {
            (None, Some(source)) => Ok((source, String::new())),
            (Some(_), _) => Ok((&self.source, name.to_owned())),
            (None, None) => {
                let place = self.source.describe(name);
                fail!(Missing, "{place}: the {encoder} has no tokenizer; give its folder with --part {name}=FOLDER")
            }
        }
    }

    /// Takes the network `name` from a file that holds it, alone or beside others; a pipeline without such a part gets
    /// it. A file without configs takes that of the part which it replaces, where shapes do not say enough.
    ///
    /// # Errors
    /// If the file holds no such part, is damaged or of another kind.
    pub fn replace_by_file(&mut self, name: &str, path: &Path) -> Result<()> {
        let config = match (self.given.get(name), self.get(name)) {
            (Some(part), _) => part.config.clone(),
            (None, Some(_)) => Some(self.source.text(&format!("{name}/{CONFIG}"))?),
            (None, None) => None,
        };
        let part = checkpoint::part(path, name, config.as_deref())?;
        if let Some(number) = ENCODERS.iter().position(|encoder| *encoder == name)
            && self.get(TOKENIZERS[number]).is_none()
            && gguf::is_one(path)
        {
            // A GGUF file has the vocabulary of its network.
            self.replaced.entry(TOKENIZERS[number].to_owned()).or_insert(Source::vocabulary(path)?);
        }
        if self.get(name).is_none() {
            let (library, class) = ("checkpoint".to_owned(), part.class.clone());
            self.components.push(Component { name: name.to_owned(), library, class });
        }
        self.replaced.remove(name);
        self.given.insert(name.to_owned(), part);
        Ok(())
    }

    /// Opens the network that is the component `name`.
    ///
    /// # Errors
    /// As [`Network::open`], and if there is no such component.
    pub fn network(&self, name: &str) -> Result<Network> {
        let Component { name, class, .. } = self.component(name)?;
        let replaced = self.replaced.get(name);
        if let (Some(part), None) = (self.given.get(name), replaced) {
            let Some(config) = part.config.clone() else {
                fail!(
                    Missing,
                    "{}: has the names of diffusers, and no config that says how it is built; give the configs with \
                     --config FOLDER",
                    part.name
                );
            };
            return Network::of(&part.name, &part.class, config, part.weights.clone());
        }
        let (source, class) = (&self.source, Some(&**class));
        match replaced {
            None => Network::open(source, name, class),
            Some(part) if part.exists(CONFIG) => {
                // Another class may stand in the place of this one, such as a small autoencoder.
                let own = config::named_class(&part.text(CONFIG)?).at(|| part.describe(CONFIG))?;
                Network::open(part, "", own.as_deref().or(class))
            }
            Some(part) => Network::open_with(source, name, class, part, ""),
        }
    }
}

/// The text encoders that a pipeline may have, in the order of [`TOKENIZERS`].
const ENCODERS: [&str; 3] = ["text_encoder", "text_encoder_2", "text_encoder_3"];
/// The tokenizers that a pipeline may have.
const TOKENIZERS: [&str; 3] = ["tokenizer", "tokenizer_2", "tokenizer_3"];

/// True for a folder with the files of a tokenizer.
fn is_tokenizer(source: &Source) -> bool {
    ["tokenizer.json", "vocab.json", "vocab.txt", "spiece.model"].iter().any(|file| source.exists(file))
}

/// True for a zip archive.
fn is_archive(path: &Path) -> bool {
    let mut start = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
    read.is_ok() && start == *b"PK\x03\x04"
}

fn component(name: &str, list: &[Value]) -> Result<Component> {
    match list {
        [Value::String(library), Value::String(class)] => {
            Ok(Component { name: plain_name(name)?.to_owned(), library: library.clone(), class: class.clone() })
        }
        _ => fail!(Format, "component `{name}` must be a list of library and class"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(index: &'static str) -> Result<Pipeline> {
        let file: &'static [(&str, &[u8])] = Box::leak(Box::new([(INDEX, index.as_bytes())]));
        Pipeline::open(Source::Embedded(file))
    }

    #[test]
    fn components_options_and_gaps_are_told_apart() {
        let pipeline = open(
            r#"{"_class_name": "X", "_diffusers_version": "0.1", "unet": ["diffusers", "UNet2DConditionModel"],
                "safety_checker": [null, null], "image_encoder": null, "requires_safety_checker": false}"#,
        )
        .unwrap();
        assert_eq!(pipeline.class.as_deref(), Some("X"));
        assert_eq!(pipeline.components.len(), 1);
        assert_eq!(pipeline.component("unet").unwrap().class, "UNet2DConditionModel");
        assert!(pipeline.options.contains_key("requires_safety_checker"));
        let error = pipeline.component("vae").unwrap_err().to_string();
        assert_eq!(error, "built-in model_index.json: the X has no component `vae`; it has: unet");
    }

    #[test]
    fn hostile_entries_are_refused() {
        for index in ["", "[]", r#"{"unet": [1, 2]}"#, r#"{"../unet": ["a", "b"]}"#, r#"{"unet": ["a"]}"#] {
            assert!(open(index).is_err(), "{index}");
        }
    }

    #[test]
    fn unknown_classes_are_named() {
        let pipeline = open(r#"{"transformer": ["diffusers", "LatteTransformer3DModel"]}"#).unwrap();
        let error = pipeline.network("transformer").unwrap_err().to_string();
        assert!(error.starts_with("built-in transformer: class `LatteTransformer3DModel`"), "{error}");
    }
}
