//! A language model in the files that people have: what it computes, and its vocabulary.

use std::{path::Path, sync::Arc};

use ondine_graph::{Asset, Context, Result, Weights, fail};

use crate::{
    architecture::Role,
    gguf::{self, Gguf},
    network::Network,
    transformer::{self, Config},
    vocabulary::Vocabulary,
    weights::{self, Source},
};

/// A language model, opened: its weights are mapped, and nothing is built yet.
#[derive(Clone, Debug)]
pub struct Language {
    /// Where it comes from, for messages.
    pub name: String,
    /// Its tokens, with its templates of chats.
    pub vocabulary: Vocabulary,
    /// The longest text that it was made for, in tokens.
    pub max_tokens: usize,
    config: Config,
    weights: Arc<Weights>,
}

/// The functions that go on with a text: `next` and `logits` of [`transformer`].
const FUNCTIONS: [&str; 2] = ["next", "logits"];

impl Language {
    /// Opens a GGUF file, or a folder as transformers saves it.
    ///
    /// # Errors
    /// If it is neither, files are missing or broken, or it is no language model that is known here.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::from_folder(&Source::Folder(path.to_path_buf()));
        }
        let place = path.display();
        if !path.exists() {
            fail!(Missing, "{place}: there is no such model");
        }
        if !gguf::is_one(path) {
            fail!(Unsupported, "{place}: no language model; give a GGUF file, or the folder that transformers saves");
        }
        let gguf = Gguf::open(path)?;
        let (config, weights) = Config::from_gguf(&gguf).at(|| &gguf.file)?;
        let vocabulary = Vocabulary::from_gguf(&gguf)?;
        Self::new(gguf.file.to_string(), vocabulary, config, Arc::new(weights))
    }

    fn from_folder(source: &Source) -> Result<Self> {
        let network = Network::open(source, "", None)?;
        let Role::Language(_) = network.architecture.role else {
            fail!(Unsupported, "{}: a {} is no language model", network.name, network.architecture.class);
        };
        let config = Config::from_json(&network.config).at(|| &network.name)?;
        let vocabulary = Vocabulary::open(source, "")?;
        Self::new(network.name, vocabulary, config, network.weights)
    }

    fn new(name: String, vocabulary: Vocabulary, config: Config, weights: Arc<Weights>) -> Result<Self> {
        if vocabulary.is_empty() {
            fail!(Format, "{name}: its vocabulary has no tokens");
        }
        Ok(Self { name, vocabulary, max_tokens: config.max_positions, config, weights })
    }

    /// The functions that go on with a text of up to `context` tokens, ready to be specialized.
    ///
    /// # Errors
    /// If the context is longer than the model was made for, or weights are missing or of other shapes.
    pub fn asset(&self, context: usize) -> Result<Asset> {
        let mut functions = transformer::functions(&self.config, Some(context)).at(|| &self.name)?;
        functions.retain(|(name, _)| FUNCTIONS.contains(name));
        weights::check(&self.weights, functions.iter().map(|(_, graph)| graph), transformer::IGNORED)?;
        Asset::new(self.name.as_str(), functions, self.weights.clone())
    }
}
