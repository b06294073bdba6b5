//! Sigma form: `x = x0 + sigma n`.

use ondine_graph::Result;

use super::{
    form::Form,
    level::{NoiseLevel, denoised},
    variance::within_table,
};
use crate::schedule::{LevelRules, Levels, NoiseSchedule, Prediction, SchedulerConfig, Spacing, levels, timesteps};

/// What the samplers in sigma form share.
#[derive(Debug, Clone)]
pub(super) struct SigmaForm {
    pub(super) levels: Levels,
    init_noise_sigma: f32,
    prediction: Prediction,
}

impl SigmaForm {
    /// Levels of a run whose timesteps stay fractional; `round_karras` as in [`LevelRules`].
    pub(super) fn new(config: &SchedulerConfig, steps: usize, round_karras: bool) -> Result<Self> {
        let rules = LevelRules { whole_table: false, round_karras, whole_timesteps: false, repeat_last: false };
        let schedule = NoiseSchedule::for_sigmas(config);
        let spaced = timesteps(config, steps);
        within_table(config, spaced.first().copied().unwrap_or_default())?;
        let levels = levels(config, &schedule, spaced, rules);
        let highest = levels.sigmas.iter().copied().fold(0.0, f32::max);
        let init_noise_sigma = match config.spacing {
            Spacing::Linspace | Spacing::Trailing => highest,
            Spacing::Leading => (highest * highest + 1.0).sqrt(),
        };
        Ok(Self { levels, init_noise_sigma, prediction: config.prediction })
    }

    /// The sigma of a call, that of the last for calls past the end.
    pub(super) fn sigma(&self, call: usize) -> f32 {
        let sigmas = &self.levels.sigmas;
        sigmas.get(call).or(sigmas.last()).copied().unwrap_or_default()
    }

    /// The clean latents that a model output stands for where the latents are `x`.
    pub(super) fn x0(&self, sigma: f32, x: f32, output: f32) -> f32 {
        denoised(self.prediction, sigma, x, output)
    }
}

impl Form for SigmaForm {
    fn timesteps(&self) -> &[f32] {
        &self.levels.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.levels.sigmas
    }

    fn init_noise_sigma(&self) -> f32 {
        self.init_noise_sigma
    }

    /// `sqrt(sigma^2 + 1)`: unit variance for the network.
    fn input_norm(&self, call: usize) -> Option<f32> {
        let sigma = self.sigma(call);
        Some((sigma * sigma + 1.0).sqrt())
    }

    fn clean(&self, call: usize, x: f32, output: f32) -> f32 {
        self.x0(self.sigma(call), x, output)
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        NoiseLevel { signal: 1.0, noise: self.sigma(call.min(self.levels.timesteps.len() - 1)) }
    }
}
