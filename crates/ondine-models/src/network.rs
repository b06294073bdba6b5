//! A network of a checkpoint: what it is, its config and its weights.

use std::sync::Arc;

use ondine_graph::{Asset, Context, Result, Weights, fail, recipe::Recipes};

use crate::{
    architecture::{Architecture, DenoiserFacts, Functions, GraphSizes, LatentSpace, Role, TextFacts},
    config::class_of,
    registry::find,
    weights::{self, Source, join},
};

/// The file that says what a network is.
pub const CONFIG: &str = "config.json";

/// A network of a checkpoint.
#[derive(Clone, Debug)]
pub struct Network {
    /// Where it comes from, for messages.
    pub name: String,
    /// What it is.
    pub architecture: &'static Architecture,
    /// The text of its `config.json`.
    pub config: String,
    /// Its weights, mapped, under the names that its graphs use.
    pub weights: Arc<Weights>,
    /// How weights are computed that the checkpoint holds in another form.
    pub recipes: Recipes,
}

impl Network {
    /// Opens the network in `folder`, of the class that its config names or else `class`.
    ///
    /// # Errors
    /// If files are missing or broken, the class or an option is not supported, or the weights do not fit the config.
    pub fn open(source: &Source, folder: &str, class: Option<&str>) -> Result<Self> {
        Self::open_with(source, folder, class, source, folder)
    }

    /// As [`Network::open`], with the weights of another folder: of a checkpoint, or of an asset that was made of one.
    ///
    /// # Errors
    /// As [`Network::open`].
    pub fn open_with(
        source: &Source,
        folder: &str,
        class: Option<&str>,
        weights_source: &Source,
        weights_folder: &str,
    ) -> Result<Self> {
        let name = join(folder, CONFIG);
        let place = || source.describe(&name);
        let given = class.map(find).transpose().at(|| source.describe(folder))?;
        let config = source.text(&name)?;
        let architecture = match given {
            Some(architecture) => architecture,
            None => class_of(&config).and_then(|class| find(&class)).at(place)?,
        };
        let functions = (architecture.functions)(&config, GraphSizes::default()).at(place)?;
        let name = weights_source.describe(weights_folder);
        let mut weights = weights::load(weights_source, weights_folder)?;
        weights::rename(&mut weights, architecture.renames).at(|| &name)?;
        let recipes = match architecture.role {
            Role::Language(_, recipes) => recipes(&config, &mut weights).at(|| &name)?,
            Role::TextEncoder(_) | Role::Denoiser(_) | Role::Autoencoder(_) => Recipes::default(),
        };
        weights::check(&weights, &recipes, functions.iter().map(|(_, graph)| graph), architecture.ignored)?;
        Ok(Self { name, architecture, config, weights: Arc::new(weights), recipes })
    }

    /// All its functions, with all sizes symbolic.
    ///
    /// # Errors
    /// None that [`Network::open`] would not have met.
    pub fn functions(&self) -> Result<Functions> {
        (self.architecture.functions)(&self.config, GraphSizes::default())
    }

    /// Its functions and weights, ready to be specialized.
    ///
    /// # Errors
    /// None that [`Network::open`] would not have met.
    pub fn asset(&self, sizes: GraphSizes) -> Result<Asset> {
        let functions = (self.architecture.functions)(&self.config, sizes)?;
        Asset::with_recipes(self.name.as_str(), functions, self.weights.clone(), self.recipes.clone())
    }

    /// The facts of a text encoder.
    ///
    /// # Errors
    /// If it is none.
    pub fn text(&self) -> Result<TextFacts> {
        match self.architecture.role {
            Role::TextEncoder(facts) => self.facts(facts),
            _ => self.is_no("text encoder"),
        }
    }

    /// The facts of a denoiser.
    ///
    /// # Errors
    /// If it is none.
    pub fn denoiser(&self) -> Result<DenoiserFacts> {
        match self.architecture.role {
            Role::Denoiser(facts) => self.facts(facts),
            _ => self.is_no("denoiser"),
        }
    }

    /// The facts of an autoencoder's latents.
    ///
    /// # Errors
    /// If it is none, or scales its latents by nothing.
    pub fn latent_space(&self) -> Result<LatentSpace> {
        match self.architecture.role {
            Role::Autoencoder(facts) => self.facts(facts),
            _ => self.is_no("autoencoder"),
        }
    }

    fn facts<T>(&self, read: fn(&str) -> Result<T>) -> Result<T> {
        read(&self.config).at(|| &self.name)
    }

    fn is_no<T>(&self, role: &str) -> Result<T> {
        fail!(Unsupported, "{}: a {} is no {role}", self.name, self.architecture.class)
    }
}
