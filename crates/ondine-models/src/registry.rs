//! The architectures by class name.

use std::sync::Arc;

use ondine_runtime::{Asset, Context, Graph, Result, Weights};
use serde::Deserialize;

use crate::{
    autoencoder_kl, autoencoder_tiny, bert, clip_text, fail, unet,
    weights::{self, Rename, Source, join},
};

/// The functions of a network by name.
pub type Functions = Vec<(&'static str, Graph)>;

/// What has to be known of a class to load its checkpoints.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// The name of the class in diffusers or transformers.
    pub class: &'static str,
    /// Builds all functions from the text of a `config.json`.
    pub functions: fn(&str, GraphSizes) -> Result<Functions>,
    /// Names that old or new versions of its checkpoints use.
    pub renames: &'static [Rename],
    /// Parts of the names of tensors that its checkpoints may hold and the functions do not need.
    pub ignored: &'static [&'static str],
    /// For autoencoders, reads the facts of their latents off a config.
    pub latent_space: Option<fn(&str) -> Result<LatentSpace>>,
}

/// What is known of the sizes of the inputs when a graph is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphSizes {
    /// What divides height and width of feature maps that come in: networks that halve maps and double them again
    /// need no detour then.
    pub multiple: usize,
    /// True if some text tokens are padding that must not be seen.
    pub mask: bool,
}

impl Default for GraphSizes {
    fn default() -> Self {
        Self { multiple: 1, mask: false }
    }
}

/// The latents of an autoencoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatentSpace {
    /// Pixels that a latent stands for, along each side.
    pub factor: usize,
    /// Channels.
    pub channels: usize,
    /// Diffusion works on `(latents - shift) * scaling`.
    pub scaling: f32,
    /// See `scaling`.
    pub shift: f32,
}

/// Every architecture.
#[rustfmt::skip]
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture { class: "CLIPTextModel", functions: clip_text::functions, renames: clip_text::RENAMES, ignored: &["text_projection."], latent_space: None },
    Architecture { class: "CLIPTextModelWithProjection", functions: clip_text::functions_with_projection, renames: clip_text::RENAMES, ignored: &[], latent_space: None },
    Architecture { class: "BertModel", functions: bert::functions, renames: bert::RENAMES, ignored: &["pooler.", "cls."], latent_space: None },
    Architecture { class: "UNet2DConditionModel", functions: unet::functions, renames: &[], ignored: &[], latent_space: None },
    Architecture { class: "AutoencoderKL", functions: autoencoder_kl::functions, renames: autoencoder_kl::RENAMES, ignored: &[], latent_space: Some(autoencoder_kl::latent_space) },
    Architecture { class: "AutoencoderTiny", functions: autoencoder_tiny::functions, renames: &[], ignored: &[], latent_space: Some(autoencoder_tiny::latent_space) },
];

/// The architecture of `class`.
///
/// # Errors
/// If it is none of [`ARCHITECTURES`].
pub fn find(class: &str) -> Result<&'static Architecture> {
    match ARCHITECTURES.iter().find(|architecture| architecture.class == class) {
        Some(architecture) => Ok(architecture),
        None => {
            let known: Vec<_> = ARCHITECTURES.iter().map(|architecture| architecture.class).collect();
            fail!(Unsupported, "class `{class}` is not supported; supported: {}", known.join(", "))
        }
    }
}

/// The class that a `config.json` names: `_class_name` in diffusers, the first of `architectures` in transformers.
///
/// # Errors
/// If the text is no config, or names none.
pub fn class_of(json: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Named {
        _class_name: Option<String>,
        architectures: Option<Vec<String>>,
    }
    let named: Named = crate::config::parse(json)?;
    let architecture = || named.architectures.and_then(|names| names.into_iter().next());
    match named._class_name.or_else(architecture) {
        Some(class) => Ok(class),
        None => fail!(Missing, "the config names no class; expected `_class_name` or `architectures`"),
    }
}

/// A network of a checkpoint: what it is, its config and its weights.
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
}

impl Network {
    /// Opens the network in `folder`, of the class that its config names or else `class`.
    ///
    /// # Errors
    /// If files are missing or broken, the class or an option is not supported, or the weights do not fit the config.
    pub fn open(source: &Source, folder: &str, class: Option<&str>) -> Result<Self> {
        let name = join(folder, "config.json");
        let place = || source.describe(&name);
        let given = class.map(find).transpose().at(|| source.describe(folder))?;
        let config = source.text(&name)?;
        let architecture = match given {
            Some(architecture) => architecture,
            None => class_of(&config).and_then(|class| find(&class)).at(place)?,
        };
        let functions = (architecture.functions)(&config, GraphSizes::default()).at(place)?;
        let mut weights = weights::load(source, folder)?;
        weights::rename(&mut weights, architecture.renames).at(|| source.describe(folder))?;
        weights::check(&weights, functions.iter().map(|(_, graph)| graph), architecture.ignored)?;
        Ok(Self { name: source.describe(folder), architecture, config, weights: Arc::new(weights) })
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
        Asset::new(self.name.as_str(), (self.architecture.functions)(&self.config, sizes)?, self.weights.clone())
    }

    /// The facts of its latents.
    ///
    /// # Errors
    /// If it is no autoencoder.
    pub fn latent_space(&self) -> Result<LatentSpace> {
        match self.architecture.latent_space {
            Some(latent_space) => latent_space(&self.config),
            None => fail!(Unsupported, "{}: a {} is no autoencoder", self.name, self.architecture.class),
        }
    }
}
