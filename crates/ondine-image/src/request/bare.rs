//! A request of nothing but a prompt.

use super::Request;
use crate::{noise::Generator, prompt::emphasis::Emphasis};

impl Request {
    /// A picture of `prompt`, everything else as the model likes it.
    #[must_use]
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            negative: None,
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
            timesteps: None,
            preset: None,
            like: None,
            emphasis: Emphasis::default(),
            clip_skip: None,
            prediction: None,
            zero_snr: None,
            generator: Generator::default(),
            init: None,
            strength: None,
            controls: Vec::new(),
            image_prompts: Vec::new(),
            references: Vec::new(),
            image_guidance: None,
            variation: None,
            noise: None,
            guidance_start: 0.0,
            guidance_end: 1.0,
            speedup: None,
            previews: false,
            keep_latents: false,
        }
    }
}
