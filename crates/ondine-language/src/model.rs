//! A language model, ready for conversations.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use ondine_graph::{Result, fail};
use ondine_models::{KvCache, Language, Rings, Room, Vocabulary};
use ondine_runtime::{Bindings, Cache, Device, Model as Loaded, Options, Precision, Prepared, Specialize};

use crate::{
    guide::Guides,
    network::{PIECE, width},
    template::Template,
};

/// The most tokens of a text if nobody says how many, as far as the model was made for them.
const TYPICAL_CONTEXT: usize = 4096;

/// How a model is made ready.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// The most tokens of a text, questions and answers together.
    pub context: Option<usize>,
    /// Type of weights and activations.
    pub precision: Precision,
    /// The most texts that are gone on with at once ([`batch`](crate::batch)), each of up to `context` tokens; 0 if it
    /// is one.
    pub texts: usize,
    /// The type in which keys and values of what was read are kept.
    pub kv: KvCache,
    /// The most tokens that go through the model in one call, 512 if nobody says: a longer text goes through in pieces,
    /// so that memory does not grow with it. Layers with a window keep as many tokens besides those in it.
    pub call: Option<usize>,
}

/// A language model of which nothing has been loaded: what it will take is known.
#[derive(Debug)]
pub struct Plan {
    language: Language,
    prepared: Prepared,
    room: Room,
    rings: Rings,
    texts: usize,
    template: Option<Result<Template>>,
}

impl Plan {
    /// Opens a GGUF file, or a folder as transformers saves it.
    ///
    /// # Errors
    /// If it is no language model that is known here, is broken, or is not made for such a context.
    pub fn new(path: &Path, settings: Settings, device: &Device) -> Result<Self> {
        Self::of(Language::open(path)?, settings, device)
    }

    /// As [`Plan::new`], for a model that is open, and may have been adapted.
    ///
    /// # Errors
    /// If the model is not made for such a context, or for keys and values of such a type.
    pub fn of(language: Language, settings: Settings, device: &Device) -> Result<Self> {
        let context = settings.context.unwrap_or_else(|| language.max_tokens.min(TYPICAL_CONTEXT));
        let options = Options { precision: settings.precision, ..Options::default() };
        let room = Room { context, call: settings.call.unwrap_or(PIECE), kv: settings.kv };
        let prepared = language.asset(room, settings.texts)?.prepare(&options, device)?;
        let rings = language.rings(room);
        // One that cannot be read is an error of those who ask for it.
        let template = language.vocabulary.template(None).map(|source| Template::new(source));
        Ok(Self { language, prepared, room, rings, texts: settings.texts, template })
    }

    /// Bytes that the model takes at most while it answers: weights, states and workspace.
    ///
    /// # Errors
    /// If sizes are beyond what can be counted.
    pub fn bytes(&self) -> Result<u64> {
        let tokens = ("tokens".into(), self.room.call.min(self.room.context));
        let sizes: Bindings = [tokens, ("chosen".into(), width(self.prepared.graph("next")?))].into();
        let arenas = ["next", "chosen"].map(|name| Ok(self.prepared.plan(name, &sizes)?.arena_bytes() as u64));
        let [next, chosen]: [Result<u64>; 2] = arenas;
        let mut bytes = (self.prepared.weight_bytes() as u64).saturating_add(next?.max(chosen?));
        // States of one text, and of several.
        for function in ["next", "batch"].into_iter().filter_map(|name| self.prepared.graph(name).ok()) {
            for slot in function.states() {
                let shape = slot.signature.shape.bind(&sizes)?;
                let elements =
                    shape.iter().fold(slot.signature.dtype.size() as u64, |all, &size| all.saturating_mul(size as u64));
                bytes = bytes.saturating_add(elements);
            }
        }
        Ok(bytes)
    }

    /// Packs the weights, or takes packed ones out of `cache`.
    ///
    /// # Errors
    /// If a weight cannot be read, or there is no memory for it.
    pub fn load(self, cache: Option<&Cache>) -> Result<Model> {
        let Self { language, prepared, room, rings, texts, template } = self;
        let network = prepared.specialize(cache)?.load()?;
        let Language { name, vocabulary, max_tokens, .. } = language;
        let vocabulary = Arc::new(vocabulary);
        let guides = OnceLock::new();
        let parts = Parts { name, vocabulary, max_tokens, room, rings, texts, template, guides, network };
        Ok(Model { parts: Arc::new(parts) })
    }
}

/// A language model, ready for conversations; clones are the same one.
#[derive(Clone, Debug)]
pub struct Model {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    name: String,
    vocabulary: Arc<Vocabulary>,
    max_tokens: usize,
    room: Room,
    rings: Rings,
    texts: usize,
    template: Option<Result<Template>>,
    /// Made when they are first asked for.
    guides: OnceLock<Result<Guides>>,
    network: Loaded,
}

impl Model {
    /// Opens and loads a model: [`Plan::new`] and [`Plan::load`].
    ///
    /// # Errors
    /// As these.
    pub fn open(path: &Path, settings: Settings, device: &Device, cache: Option<&Cache>) -> Result<Self> {
        Plan::new(path, settings, device)?.load(cache)
    }

    /// Where it comes from.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// Its tokens.
    #[must_use]
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.parts.vocabulary
    }

    /// The most tokens of a text, questions and answers together.
    #[must_use]
    pub fn context(&self) -> usize {
        self.parts.room.context
    }

    /// How many texts can be gone on with at once; 0 if nobody has asked for more than one.
    #[must_use]
    pub fn texts(&self) -> usize {
        self.parts.texts
    }

    /// The longest text that the model was made for, in tokens.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.parts.max_tokens
    }

    /// How it wants conversations written.
    ///
    /// # Errors
    /// If it has not learned any, or its template is broken.
    pub fn template(&self) -> Result<&Template> {
        match &self.parts.template {
            Some(Ok(template)) => Ok(template),
            Some(Err(error)) => fail!(Format, "{}: {error}", self.name()),
            None => fail!(
                Unsupported,
                "{}: the model has not learned to answer (it has no chat template); it can go on with a text",
                self.name()
            ),
        }
    }

    /// What grammars know of its tokens.
    ///
    /// # Errors
    /// If they cannot be known.
    pub fn guides(&self) -> Result<&Guides> {
        match self.parts.guides.get_or_init(|| Guides::new(&self.parts.vocabulary)) {
            Ok(guides) => Ok(guides),
            Err(error) => fail!(Unsupported, "{}: {error}", self.name()),
        }
    }

    /// True if it has learned to answer.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.parts.template.is_some()
    }

    pub(crate) fn network(&self) -> &Loaded {
        &self.parts.network
    }

    /// The most tokens of a call of its functions.
    pub(crate) fn call(&self) -> usize {
        self.parts.room.call
    }

    pub(crate) fn rings(&self) -> &Rings {
        &self.parts.rings
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    /// A folder of weights with a vocabulary of one word.
    pub(crate) fn with_one_word(data: &Path) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(data.join(file), folder.path().join(file)).unwrap();
        }
        let tokenizer = r#"{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}"#;
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
        folder
    }
}
