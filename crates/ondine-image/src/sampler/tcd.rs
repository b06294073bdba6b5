//! TCD (Zheng et al. 2024): jumps along the trajectory to a timestep below the next one, then is
//! noised back up to it.

use super::forms::{Alphas, as_floats};
use super::lcm::distilled_timesteps;
use super::{NoiseLevel, Sampler, add_fresh_noise, check};
use crate::error::Result;
use crate::noise::NoiseSource;
use crate::schedule::{Prediction, SchedulerConfig};

/// `x_s = sqrt(a_s) x0 + sqrt(1 - a_s) e` at `s = floor((1 - eta) t')`, then
/// `x' = sqrt(a' / a_s) x_s + sqrt(1 - a' / a_s) n`; the last call ends at `x_s` with `t' = 0`.
pub(super) struct Tcd {
    timesteps: Vec<f32>,
    alphas: Alphas,
    prediction: Prediction,
    eta: f64,
}

impl Tcd {
    pub(super) fn new(config: &SchedulerConfig, steps: usize, eta: Option<f64>) -> Result<Self> {
        let alphas = Alphas::new(config);
        let timesteps = distilled_timesteps(config, steps)?;
        alphas.check(config, &timesteps)?;
        Ok(Self { timesteps: as_floats(&timesteps), alphas, prediction: config.prediction, eta: eta.unwrap_or(0.3) })
    }
}

impl Sampler for Tcd {
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
        let level = NoiseLevel::of_alpha(self.alphas.at(self.timesteps[call] as i64));
        let next = self.timesteps.get(call + 1).copied();
        let below = ((1.0 - self.eta) as f32 * next.unwrap_or(0.0)).floor();
        let alpha_below = self.alphas.at(below as i64);
        let target = NoiseLevel::of_alpha(alpha_below);
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let x0 = level.x0(self.prediction, *x, output);
            let epsilon = level.epsilon(self.prediction, *x, output);
            *x = target.signal * x0 + target.noise * epsilon;
        }
        if let Some(next) = next
            && self.eta > 0.0
        {
            let kept = self.alphas.at(next as i64) / alpha_below;
            sample.iter_mut().for_each(|x| *x *= kept.sqrt());
            add_fresh_noise(sample, (1.0 - kept).sqrt(), noise);
        }
        Ok(())
    }
}
