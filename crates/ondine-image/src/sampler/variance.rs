//! Variance-preserving form: `x = sqrt(a) x0 + sqrt(1 - a) n`, on whole timesteps of the training schedule.

use ondine_graph::{Result, fail};

use super::{
    form::Form,
    level::{NoiseLevel, clipped},
};
use crate::schedule::{NoiseSchedule, Prediction, SchedulerConfig, timesteps};

/// What the samplers in variance-preserving form share.
#[derive(Debug, Clone)]
pub(super) struct VarianceForm {
    timesteps: Vec<f32>,
    alphas: Alphas,
    prediction: Prediction,
    clip: Option<f32>,
}

impl VarianceForm {
    /// A run over `timesteps`.
    ///
    /// # Errors
    /// Timesteps outside the training schedule, or noise predictions where there is no signal.
    pub(super) fn new(config: &SchedulerConfig, timesteps: &[i64]) -> Result<Self> {
        let alphas = Alphas::new(config);
        alphas.check(config, timesteps)?;
        let timesteps = timesteps.iter().map(|&t| t as f32).collect();
        Ok(Self { timesteps, alphas, prediction: config.prediction, clip: config.clip })
    }

    /// The timestep of a call, that of the last for calls past the end.
    pub(super) fn timestep(&self, call: usize) -> i64 {
        self.timesteps.get(call).or(self.timesteps.last()).copied().unwrap_or_default() as i64
    }

    /// The timestep that a call leads to, if another call follows.
    pub(super) fn next(&self, call: usize) -> Option<i64> {
        self.timesteps.get(call + 1).map(|&t| t as i64)
    }

    /// `alpha_bar` at a timestep; before the first one it is the config's final value.
    pub(super) fn alpha(&self, timestep: i64) -> f32 {
        self.alphas.at(timestep)
    }

    /// The mixture at a timestep.
    pub(super) fn level(&self, timestep: i64) -> NoiseLevel {
        NoiseLevel::of_alpha(self.alpha(timestep))
    }

    /// The clean latents that a model output stands for, clamped if the config asks for it.
    pub(super) fn x0(&self, level: NoiseLevel, x: f32, output: f32) -> f32 {
        clipped(self.clip, level.x0(self.prediction, x, output))
    }

    /// The noise that a model output stands for.
    pub(super) fn epsilon(&self, level: NoiseLevel, x: f32, output: f32) -> f32 {
        level.epsilon(self.prediction, x, output)
    }
}

impl Form for VarianceForm {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn clean(&self, call: usize, x: f32, output: f32) -> f32 {
        self.x0(self.noise_level(call), x, output)
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        self.level(self.timestep(call))
    }
}

/// `alpha_bar` by whole timestep.
#[derive(Debug, Clone)]
struct Alphas {
    table: Vec<f32>,
    before_first: f32,
}

impl Alphas {
    fn new(config: &SchedulerConfig) -> Self {
        let table = NoiseSchedule::new(config).alphas_cumprod().to_vec();
        let first = table.first().copied().unwrap_or(1.0);
        Self { table, before_first: if config.alpha_one { 1.0 } else { first } }
    }

    fn at(&self, timestep: i64) -> f32 {
        match usize::try_from(timestep) {
            Ok(index) => self.table[index.min(self.table.len() - 1)],
            Err(_) => self.before_first,
        }
    }

    fn check(&self, config: &SchedulerConfig, timesteps: &[i64]) -> Result<()> {
        let highest = timesteps.iter().copied().max().unwrap_or_default();
        within_table(config, highest as f64)?;
        let silent = timesteps.iter().any(|&t| self.at(t) <= 0.0);
        if silent && config.prediction == Prediction::Epsilon {
            fail!(
                Format,
                "epsilon prediction says nothing at zero signal; set prediction_type to v_prediction, or \
                 rescale_betas_zero_snr to false"
            );
        }
        Ok(())
    }
}

/// Refuses a timestep past the last one of training.
pub(super) fn within_table(config: &SchedulerConfig, timestep: f64) -> Result<()> {
    let last = config.train_timesteps - 1;
    if timestep > last as f64 {
        fail!(
            Argument,
            "timestep {timestep} is past the last one, {last}; ask for fewer steps or a smaller steps_offset"
        );
    }
    Ok(())
}

/// The whole timesteps of a run, falling.
pub(super) fn whole_timesteps(config: &SchedulerConfig, steps: usize) -> Vec<i64> {
    timesteps(config, steps).into_iter().map(|t| t.round_ties_even() as i64).collect()
}
