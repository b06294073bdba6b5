//! A network of a drawing: prepared for it, and loaded when its turn comes, unless an earlier drawing left it loaded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ondine_graph::Result;
use ondine_models::{ControlFacts, GraphSizes, TokenFacts, clip_vision};
use ondine_runtime::{Cache, Function, Model, Precision, Prepared, Wish};

/// Which network it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The text encoder of this number.
    Encoder(usize),
    Denoiser,
    /// Pictures to what the network of this number is steered by.
    ControlEmbedding(usize),
    /// The network of this number that steers.
    Control(usize),
    /// What the picture for the IP-Adapter of this number shows: the states of its squares, or one vector.
    PictureEncoder {
        number: usize,
        states: bool,
    },
    /// That as tokens.
    PictureTokens(usize),
    /// Pictures to latents.
    ImageEncoder,
    Decoder,
}

impl Which {
    /// The name of the function that is called.
    pub(super) fn function(self) -> &'static str {
        match self {
            Self::Encoder(_) | Self::Denoiser | Self::Control(_) | Self::PictureTokens(_) => "main",
            Self::PictureEncoder { states: false, .. } => clip_vision::EMBED,
            Self::PictureEncoder { states: true, .. } => clip_vision::STATES,
            Self::ControlEmbedding(_) => "embed",
            Self::ImageEncoder => "encode",
            Self::Decoder => "decode",
        }
    }
}

/// What a network is prepared for: drawings that agree in that can share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Purpose {
    pub(super) which: Which,
    pub(super) precision: Precision,
    pub(super) sizes: GraphSizes,
}

/// A network with one function that is called.
#[derive(Debug)]
pub(super) struct Part {
    purpose: Purpose,
    pub(super) prepared: Prepared,
    loaded: Mutex<Option<Model>>,
}

impl Part {
    /// The name of the function that is called.
    pub(super) fn name(&self) -> &'static str {
        self.purpose.which.function()
    }

    /// The function, loaded if it is not yet, and left so if the terms say that.
    pub(super) fn function(&self, terms: &Terms<'_>) -> Result<Function> {
        self.load(terms)?.function(self.name())
    }

    /// The network with all its functions, loaded if it is not yet, and left so if the terms say that.
    pub(super) fn load(&self, terms: &Terms<'_>) -> Result<Model> {
        let mut loaded = lock(&self.loaded);
        if let Some(model) = &*loaded {
            return Ok(model.clone());
        }
        let model = self.prepared.specialize(terms.cache)?.load()?;
        if terms.keep {
            *loaded = Some(model.clone());
        }
        Ok(model)
    }
}

/// A network that steers the U-Net.
pub(super) struct ControlParts {
    pub(super) embed: Arc<Part>,
    pub(super) main: Arc<Part>,
    pub(super) facts: ControlFacts,
}

/// What makes tokens of a picture.
pub(super) struct PromptParts {
    pub(super) encoder: Arc<Part>,
    pub(super) projection: Arc<Part>,
    pub(super) facts: TokenFacts,
}

/// What holds for all parts of a drawing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) cache: Option<&'a Cache>,
    /// True if they stay loaded.
    pub(super) keep: bool,
    pub(super) wish: &'a Wish,
}

/// The parts that stay from one drawing to the next.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Vec<Arc<Part>>>);

impl Kept {
    /// The part for a purpose: the one that stayed, or a new one.
    pub(super) fn part(&self, purpose: Purpose, prepare: impl FnOnce() -> Result<Prepared>) -> Result<Arc<Part>> {
        if let Some(part) = lock(&self.0).iter().find(|part| part.purpose == purpose) {
            return Ok(part.clone());
        }
        Ok(Arc::new(Part { purpose, prepared: prepare()?, loaded: Mutex::default() }))
    }

    /// Keeps these parts and no others, or none.
    pub(super) fn only(&self, parts: &[Arc<Part>], keep: bool) {
        if !keep {
            parts.iter().for_each(|part| *lock(&part.loaded) = None);
        }
        *lock(&self.0) = if keep { parts.to_vec() } else { Vec::new() };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
