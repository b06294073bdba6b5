//! A language model in the files that people have: what it computes, and its vocabulary.

use std::{path::Path, sync::Arc};

use ondine_graph::{Asset, Context, Result, Weights, fail, recipe::Recipes};

use crate::{
    adapter::{Adapter, Applied, Rows},
    architecture::Role,
    gguf::{self, Gguf},
    network::Network,
    transformer::{self, Config, Rings, Room},
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
    recipes: Recipes,
    /// True if rows of queries and keys are neighbours that are turned together, and are not in transformers.
    neighbours: bool,
    adapters: Vec<(Adapter, f32)>,
}

/// The functions that go on with a text: `next`, `chosen`, `extend` and `logits` of [`transformer`].
const FUNCTIONS: [&str; 4] = ["next", "chosen", "extend", "logits"];

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
        let neighbours = config.rotaries.first().is_some_and(|rotary| rotary.interleaved);
        let opened = Self::new(gguf.file.to_string(), vocabulary, config, Arc::new(weights), Recipes::default())?;
        Ok(Self { neighbours, ..opened })
    }

    fn from_folder(source: &Source) -> Result<Self> {
        let network = Network::open(source, "", None)?;
        let Role::Language(..) = network.architecture.role else {
            fail!(Unsupported, "{}: a {} is no language model", network.name, network.architecture.class);
        };
        let config = Config::from_json(&network.config).at(|| &network.name)?;
        let vocabulary = Vocabulary::open(source, "")?;
        Self::new(network.name, vocabulary, config, network.weights, network.recipes)
    }

    fn new(
        name: String,
        vocabulary: Vocabulary,
        config: Config,
        weights: Arc<Weights>,
        recipes: Recipes,
    ) -> Result<Self> {
        if vocabulary.is_empty() {
            fail!(Format, "{name}: its vocabulary has no tokens");
        }
        Ok(Self {
            name,
            vocabulary,
            max_tokens: config.max_positions,
            config,
            weights,
            recipes,
            neighbours: false,
            adapters: vec![],
        })
    }

    /// Changes the model by an adapter, times `weight`; several add up.
    ///
    /// # Errors
    /// As [`Adapter::open`] and [`Adapter::apply`].
    pub fn adapt(&mut self, path: &Path, weight: f32) -> Result<Applied> {
        let adapter = Adapter::open(path)?;
        let (_, applied) = adapter.apply(&self.plain(Room::whole(1, Default::default()), 0)?, weight, self.rows())?;
        self.adapters.push((adapter, weight));
        Ok(applied)
    }

    /// The states of which later tokens take the rows of earlier ones.
    #[must_use]
    pub fn rings(&self, room: Room) -> Rings {
        room.rings(&self.config)
    }

    /// How rows lie in the model, as [`Adapter::apply`] asks.
    #[must_use]
    pub fn rows(&self) -> Rows {
        Rows::of(&self.config, self.neighbours)
    }

    /// The functions that go on with a text, ready to be specialized; and with up to `texts` of them together, if these
    /// are not 0 and the model can ([`transformer::together`]).
    ///
    /// # Errors
    /// As [`transformer::build`], or if weights are missing or of other shapes.
    pub fn asset(&self, room: Room, texts: usize) -> Result<Asset> {
        let rows = self.rows();
        self.adapters.iter().try_fold(self.plain(room, texts)?, |asset, (adapter, weight)| {
            adapter.apply(&asset, *weight, rows).map(|(adapted, _)| adapted)
        })
    }

    /// As [`Language::asset`], without adapters.
    fn plain(&self, room: Room, texts: usize) -> Result<Asset> {
        let mut functions = transformer::functions(&self.config, room).at(|| &self.name)?;
        functions.retain(|(name, _)| FUNCTIONS.contains(name));
        if texts > 0 {
            functions.extend(transformer::together(&self.config, room, texts).at(|| &self.name)?);
        }
        weights::check(&self.weights, &self.recipes, functions.iter().map(|(_, graph)| graph), transformer::IGNORED)?;
        Asset::with_recipes(self.name.as_str(), functions, self.weights.clone(), self.recipes.clone())
    }
}
