//! DDIM (Song et al. 2020): a deterministic step through the predicted clean latents, or with
//! `eta` a share of fresh noise.

use super::forms::{Alphas, as_floats, clipped, whole_timesteps};
use super::{NoiseLevel, Sampler, add_fresh_noise, check};
use crate::error::Result;
use crate::noise::NoiseSource;
use crate::schedule::{Prediction, SchedulerConfig};

/// `x' = sqrt(a') x0 + sqrt(1 - a' - s^2) e + s n`, `s = eta sqrt((1 - a') / (1 - a) (1 - a / a'))`.
pub(super) struct Ddim {
    timesteps: Vec<f32>,
    alphas: Alphas,
    /// Training timesteps between two calls.
    stride: i64,
    prediction: Prediction,
    clip: Option<f32>,
    eta: f32,
}

impl Ddim {
    pub(super) fn new(config: &SchedulerConfig, steps: usize, eta: Option<f64>) -> Result<Self> {
        let alphas = Alphas::new(config);
        let timesteps = whole_timesteps(config, steps);
        alphas.check(config, &timesteps)?;
        Ok(Self {
            timesteps: as_floats(&timesteps),
            alphas,
            stride: (config.train_timesteps / steps) as i64,
            prediction: config.prediction,
            clip: config.clip,
            eta: eta.unwrap_or(0.0) as f32,
        })
    }

    fn timestep(&self, call: usize) -> i64 {
        self.timesteps.get(call).or(self.timesteps.last()).copied().unwrap_or_default() as i64
    }
}

impl Sampler for Ddim {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        NoiseLevel::of_alpha(self.alphas.at(self.timestep(call)))
    }

    fn step(
        &mut self,
        call: usize,
        model_output: &[f32],
        sample: &mut [f32],
        noise: &mut dyn NoiseSource,
    ) -> Result<()> {
        check(call, self.timesteps.len(), model_output, sample)?;
        let t = self.timestep(call);
        let (alpha, previous) = (self.alphas.at(t), self.alphas.at(t - self.stride));
        let level = NoiseLevel::of_alpha(alpha);
        let variance = (1.0 - previous) / (1.0 - alpha) * (1.0 - alpha / previous);
        let fresh = self.eta * variance.sqrt();
        let signal = previous.sqrt();
        // Rounding may leave less than nothing where eta is 1.
        let direction = (1.0 - previous - fresh * fresh).max(0.0).sqrt();
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let x0 = clipped(self.clip, level.x0(self.prediction, *x, output));
            let epsilon = level.epsilon(self.prediction, *x, output);
            *x = signal * x0 + direction * epsilon;
        }
        if self.eta > 0.0 {
            add_fresh_noise(sample, fresh, noise);
        }
        Ok(())
    }
}
