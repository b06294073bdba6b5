//! Text to picture: encode the prompt, denoise latents under its guidance, decode them to pixels.
//!
//! [`TextToImage`] works for any diffusers folder of text encoders, a U-Net and an autoencoder. It never asks which
//! model it is: what the networks take and what their configs say decides (Rombach et al. 2022).

mod conditioning;
mod denoise;
mod plan;

use std::time::Duration;

use ondine_models::{Component, Folder, Source};
use ondine_runtime::{Cache, Cancel, Device, NDArray, Options, Precision, Prepared};

use crate::{
    codec::{self, Size},
    error::{Error, Result},
    infotext::Parameters,
    noise::Generator,
    sampler::{self, Sampler},
    schedule::SchedulerConfig,
};

pub use plan::{MemoryPlan, StagePlan};

use conditioning::{Conditioning, TextEncoder};

/// What to draw. `None` leaves a choice to the model.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the picture shows.
    pub prompt: String,
    /// What it does not show; only guidance looks at it.
    pub negative: String,
    /// Pixels, a multiple of the autoencoder's factor (8).
    pub width: Option<usize>,
    /// Pixels, a multiple of the autoencoder's factor (8).
    pub height: Option<usize>,
    /// Denoising steps.
    pub steps: Option<usize>,
    /// Classifier-free guidance scale (Ho and Salimans 2022); 1 and below is no guidance.
    pub guidance: Option<f32>,
    /// Share of the correction of overexposure by guidance (Lin et al. 2024), 0 to 1.
    pub guidance_rescale: f32,
    /// Picture `i` draws its noise from `seed + i`.
    pub seed: u64,
    /// Number of pictures.
    pub count: usize,
    /// Sampler by any of its names.
    pub sampler: Option<String>,
    /// Spacing of the noise levels by name.
    pub schedule: Option<String>,
    /// Share of fresh noise in each step, for samplers that have it.
    pub eta: Option<f32>,
    /// Where noise comes from.
    pub generator: Generator,
    /// Unit noise to start from, `[count, channels, height / 8, width / 8]`, instead of the seed's.
    pub noise: Option<NDArray>,
    /// True to keep the latents of every step for [`Pictures::dump`].
    pub keep_latents: bool,
}

impl Request {
    /// A picture of `prompt`, everything else as the model likes it.
    #[must_use]
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            negative: String::new(),
            width: None,
            height: None,
            steps: None,
            guidance: None,
            guidance_rescale: 0.0,
            seed: 42,
            count: 1,
            sampler: None,
            schedule: None,
            eta: None,
            generator: Generator::default(),
            noise: None,
            keep_latents: false,
        }
    }
}

/// What happens during [`TextToImage::draw`].
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A stage begins.
    Stage(&'a str),
    /// A denoising step is done.
    Step {
        /// How many are done.
        done: usize,
        /// How many there are.
        total: usize,
        /// How long it took.
        time: Duration,
    },
    /// Something the person should know.
    Warning(&'a str),
}

/// A request with every choice made.
struct Settings {
    size: Size,
    steps: usize,
    guidance: f32,
    scheduler: SchedulerConfig,
    sampler: Box<dyn Sampler>,
}

/// What the model likes when the request leaves it open.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(default)]
struct Defaults {
    steps: Option<usize>,
    guidance: Option<f32>,
    precision: Precision,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { steps: None, guidance: None, precision: Precision::F32 }
    }
}

/// The largest prompt, in bytes; encoders read a few hundred.
const MAX_PROMPT: usize = 16 << 10;
/// The largest side of a picture in pixels.
const MAX_SIDE: usize = 16 << 10;
/// The most pictures at once.
const MAX_COUNT: usize = 64;

/// Pictures from text. Networks are loaded when their stage begins and dropped when it ends.
#[derive(Debug)]
pub struct TextToImage {
    name: String,
    encoders: Vec<TextEncoder>,
    unet: Component,
    decoder: Component,
    scheduler: SchedulerConfig,
    defaults: Defaults,
    /// True if an empty negative prompt means embeddings of zeros.
    zero_empty_negative: bool,
    precision: Precision,
    device: Device,
    cache: Option<Cache>,
}
