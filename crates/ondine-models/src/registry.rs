//! The architectures by class name.

use ondine_runtime::{Context, Graph, Result, Weights};
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
    /// Builds all functions, with all sizes symbolic, from the text of a `config.json`.
    pub functions: fn(&str) -> Result<Functions>,
    /// Names that old or new versions of its checkpoints use.
    pub renames: &'static [Rename],
    /// Parts of the names of tensors that its checkpoints may hold and the functions do not need.
    pub ignored: &'static [&'static str],
}

/// Every architecture.
#[rustfmt::skip]
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture { class: "CLIPTextModel", functions: clip_text::functions, renames: clip_text::RENAMES, ignored: &["text_projection."] },
    Architecture { class: "CLIPTextModelWithProjection", functions: clip_text::functions_with_projection, renames: clip_text::RENAMES, ignored: &[] },
    Architecture { class: "BertModel", functions: bert::functions, renames: bert::RENAMES, ignored: &["pooler.", "cls."] },
    Architecture { class: "UNet2DConditionModel", functions: unet::functions, renames: &[], ignored: &[] },
    Architecture { class: "AutoencoderKL", functions: autoencoder_kl::functions, renames: autoencoder_kl::RENAMES, ignored: &[] },
    Architecture { class: "AutoencoderTiny", functions: autoencoder_tiny::functions, renames: &[], ignored: &[] },
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
    /// What it is.
    pub architecture: &'static Architecture,
    /// The text of its `config.json`.
    pub config: String,
    /// Its weights, mapped, under the names that its graphs use.
    pub weights: Weights,
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
        let functions = (architecture.functions)(&config).at(place)?;
        let mut weights = weights::load(source, folder)?;
        weights::rename(&mut weights, architecture.renames);
        weights::check(&weights, functions.iter().map(|(_, graph)| graph), architecture.ignored)?;
        Ok(Self { architecture, config, weights })
    }

    /// All its functions, with all sizes symbolic.
    ///
    /// # Errors
    /// None that [`Network::open`] would not have met.
    pub fn functions(&self) -> Result<Functions> {
        (self.architecture.functions)(&self.config)
    }
}
