//! Euler (Karras et al. 2022, algorithm 2 without churn) on the probability-flow ODE.

use super::forms::{SigmaForm, denoised, ln, scale_input};
use super::{NoiseLevel, Sampler, check};
use crate::error::Result;
use crate::noise::NoiseSource;
use crate::schedule::{Prediction, SchedulerConfig};

/// `x' = x + (x - x0) / sigma (sigma' - sigma)`.
pub(super) struct Euler {
    form: SigmaForm,
}

impl Euler {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let mut form = SigmaForm::new(config, steps, false)?;
        if config.continuous_timesteps && config.prediction == Prediction::Velocity {
            let levels = &mut form.levels;
            levels.timesteps = levels.sigmas.iter().take(steps).map(|&sigma| 0.25 * ln(sigma)).collect();
        }
        Ok(Self { form })
    }
}

impl Sampler for Euler {
    fn timesteps(&self) -> &[f32] {
        &self.form.levels.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.form.levels.sigmas
    }

    fn init_noise_sigma(&self) -> f32 {
        self.form.init_noise_sigma
    }

    fn scale_model_input(&self, call: usize, sample: &[f32], out: &mut [f32]) {
        scale_input(self.form.sigma(call), sample, out);
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        self.form.noise_level(call)
    }

    fn step(
        &mut self,
        call: usize,
        model_output: &[f32],
        sample: &mut [f32],
        _noise: &mut dyn NoiseSource,
    ) -> Result<()> {
        check(call, self.form.calls(), model_output, sample)?;
        let sigma = self.form.sigma(call);
        let dt = self.form.sigma(call + 1) - sigma;
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let x0 = denoised(self.form.prediction, sigma, *x, output);
            *x += (*x - x0) / sigma * dt;
        }
        Ok(())
    }
}
