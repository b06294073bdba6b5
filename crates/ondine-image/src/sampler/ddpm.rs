//! DDPM (Ho et al. 2020): the ancestral step of the training process itself.

use super::forms::{Alphas, as_floats, clipped, whole_timesteps};
use super::{NoiseLevel, Sampler, add_fresh_noise, check};
use crate::error::Result;
use crate::noise::NoiseSource;
use crate::schedule::{Prediction, SchedulerConfig, Variance};

/// `x' = sqrt(a') b / (1 - a) x0 + sqrt(1 - b) (1 - a') / (1 - a) x + sqrt(v) n`, `b = 1 - a / a'`,
/// `v` the posterior variance `(1 - a') / (1 - a) b`, or `b`.
pub(super) struct Ddpm {
    timesteps: Vec<f32>,
    alphas: Alphas,
    prediction: Prediction,
    clip: Option<f32>,
    variance: Variance,
}

impl Ddpm {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let alphas = Alphas::new(config);
        let timesteps = whole_timesteps(config, steps);
        alphas.check(config, &timesteps)?;
        Ok(Self {
            timesteps: as_floats(&timesteps),
            alphas,
            prediction: config.prediction,
            clip: config.clip,
            variance: config.variance,
        })
    }
}

impl Sampler for Ddpm {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        let t = self.timesteps.get(call).or(self.timesteps.last()).copied().unwrap_or_default();
        NoiseLevel::of_alpha(self.alphas.at(t as i64))
    }

    fn step(
        &mut self,
        call: usize,
        model_output: &[f32],
        sample: &mut [f32],
        noise: &mut dyn NoiseSource,
    ) -> Result<()> {
        check(call, self.timesteps.len(), model_output, sample)?;
        let t = self.timesteps[call] as i64;
        let next = self.timesteps.get(call + 1).map_or(-1, |&t| t as i64);
        let (alpha, previous) = (self.alphas.at(t), self.alphas.at(next));
        let level = NoiseLevel::of_alpha(alpha);
        let kept = alpha / previous;
        let beta = 1.0 - kept;
        let of_x0 = previous.sqrt() * beta / (1.0 - alpha);
        let of_x = kept.sqrt() * (1.0 - previous) / (1.0 - alpha);
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let x0 = clipped(self.clip, level.x0(self.prediction, *x, output));
            *x = of_x0 * x0 + of_x * *x;
        }
        if t > 0 {
            let variance = match self.variance {
                Variance::FixedSmall => ((1.0 - previous) / (1.0 - alpha) * beta).max(1e-20),
                Variance::FixedLarge => beta,
            };
            add_fresh_noise(sample, variance.sqrt(), noise);
        }
        Ok(())
    }
}
