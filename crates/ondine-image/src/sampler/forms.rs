//! The two ways latents are written, and how predictions turn into clean latents in each.
//!
//! Variance-preserving: `x = sqrt(a) x0 + sqrt(1 - a) n`. Sigma form: `x = x0 + sigma n`.

use super::{NoiseLevel, Sampler};
use crate::error::{Error, Result};
use crate::noise::NoiseSource;
use crate::schedule::{LevelRules, Levels, NoiseSchedule, Prediction, SchedulerConfig, Spacing, levels, timesteps};

impl NoiseLevel {
    /// The variance-preserving mixture with signal variance `alpha_bar`.
    pub(super) fn of_alpha(alpha_bar: f32) -> Self {
        Self { signal: alpha_bar.sqrt(), noise: (1.0 - alpha_bar).sqrt() }
    }

    /// The variance-preserving mixture whose noise is `sigma` times its signal.
    pub(super) fn of_sigma(sigma: f32) -> Self {
        let signal = 1.0 / (sigma * sigma + 1.0).sqrt();
        Self { signal, noise: sigma * signal }
    }

    /// Half the log signal-to-noise ratio, `ln(signal / noise)`.
    pub(super) fn lambda(self) -> f32 {
        ln(self.signal) - ln(self.noise)
    }

    /// The clean latents that a model output stands for, where the latents are `x`.
    pub(super) fn x0(self, prediction: Prediction, x: f32, output: f32) -> f32 {
        match prediction {
            Prediction::Epsilon => (x - self.noise * output) / self.signal,
            Prediction::Velocity => self.signal * x - self.noise * output,
            Prediction::Sample => output,
        }
    }

    /// The noise that a model output stands for.
    pub(super) fn epsilon(self, prediction: Prediction, x: f32, output: f32) -> f32 {
        match prediction {
            Prediction::Epsilon => output,
            Prediction::Velocity => self.signal * output + self.noise * x,
            Prediction::Sample => (x - self.signal * output) / self.noise,
        }
    }
}

/// The clean latents that a model output stands for, in sigma form.
pub(super) fn denoised(prediction: Prediction, sigma: f32, x: f32, output: f32) -> f32 {
    match prediction {
        Prediction::Epsilon => x - sigma * output,
        Prediction::Velocity => {
            let square = sigma * sigma + 1.0;
            output * (-sigma / square.sqrt()) + x / square
        }
        Prediction::Sample => output,
    }
}

/// Clamps predicted clean latents where the config asks for it.
pub(super) fn clipped(clip: Option<f32>, x0: f32) -> f32 {
    clip.map_or(x0, |range| x0.clamp(-range.abs(), range.abs()))
}

/// The natural logarithm, rounded once.
pub(super) fn ln(x: f32) -> f32 {
    f64::from(x).ln() as f32
}

/// The exponential, rounded once.
pub(super) fn exp(x: f32) -> f32 {
    f64::from(x).exp() as f32
}

/// `exp(x) - 1`, rounded once.
pub(super) fn expm1(x: f32) -> f32 {
    f64::from(x).exp_m1() as f32
}

/// Refuses a timestep past the last one of training.
pub(super) fn within_table(config: &SchedulerConfig, timestep: f64) -> Result<()> {
    let last = config.train_timesteps - 1;
    if timestep <= last as f64 {
        return Ok(());
    }
    Err(Error::argument(format!(
        "timestep {timestep} is past the last one, {last}; ask for fewer steps or a smaller steps_offset"
    )))
}

/// `alpha_bar` by whole timestep, for the variance-preserving samplers.
#[derive(Debug, Clone)]
pub(super) struct Alphas {
    table: Vec<f32>,
    before_first: f32,
}

impl Alphas {
    pub(super) fn new(config: &SchedulerConfig) -> Self {
        let table = NoiseSchedule::new(config).alphas_cumprod().to_vec();
        let first = table.first().copied().unwrap_or(1.0);
        Self { table, before_first: if config.alpha_one { 1.0 } else { first } }
    }

    /// `alpha_bar` at a timestep; before the first one it is the config's final value.
    pub(super) fn at(&self, timestep: i64) -> f32 {
        match usize::try_from(timestep) {
            Ok(index) => self.table[index.min(self.table.len() - 1)],
            Err(_) => self.before_first,
        }
    }

    /// Refuses timesteps outside the table, and noise predictions where there is no signal.
    pub(super) fn check(&self, config: &SchedulerConfig, timesteps: &[i64]) -> Result<()> {
        let highest = timesteps.iter().copied().max().unwrap_or_default();
        within_table(config, highest as f64)?;
        let silent = timesteps.iter().any(|&t| self.at(t) <= 0.0);
        if silent && config.prediction == Prediction::Epsilon {
            return Err(Error::config(
                "epsilon prediction says nothing at zero signal; set prediction_type to \
                 v_prediction, or rescale_betas_zero_snr to false",
            ));
        }
        Ok(())
    }
}

/// The whole timesteps of a variance-preserving run, falling.
pub(super) fn whole_timesteps(config: &SchedulerConfig, steps: usize) -> Vec<i64> {
    timesteps(config, steps).into_iter().map(|t| t.round_ties_even() as i64).collect()
}

/// Timesteps as the network takes them.
pub(super) fn as_floats(timesteps: &[i64]) -> Vec<f32> {
    timesteps.iter().map(|&t| t as f32).collect()
}

/// What the samplers in sigma form share.
#[derive(Debug, Clone)]
pub(super) struct SigmaForm {
    pub(super) levels: Levels,
    pub(super) init_noise_sigma: f32,
    pub(super) prediction: Prediction,
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

    pub(super) fn calls(&self) -> usize {
        self.levels.timesteps.len()
    }

    pub(super) fn noise_level(&self, call: usize) -> NoiseLevel {
        NoiseLevel { signal: 1.0, noise: self.sigma(call.min(self.calls() - 1)) }
    }
}

/// A sampler that differs from the others in sigma form by nothing but its step.
pub(super) trait InSigmaForm: Send {
    /// What it shares with them.
    fn form(&self) -> &SigmaForm;

    /// As [`Sampler::step`].
    fn advance(
        &mut self,
        call: usize,
        model_output: &[f32],
        sample: &mut [f32],
        noise: &mut dyn NoiseSource,
    ) -> Result<()>;
}

impl<S: InSigmaForm> Sampler for S {
    fn timesteps(&self) -> &[f32] {
        &self.form().levels.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.form().levels.sigmas
    }

    fn init_noise_sigma(&self) -> f32 {
        self.form().init_noise_sigma
    }

    fn scale_model_input(&self, call: usize, sample: &[f32], out: &mut [f32]) {
        scale_input(self.form().sigma(call), sample, out);
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        self.form().noise_level(call)
    }

    fn step(
        &mut self,
        call: usize,
        model_output: &[f32],
        sample: &mut [f32],
        noise: &mut dyn NoiseSource,
    ) -> Result<()> {
        self.advance(call, model_output, sample, noise)
    }
}

/// `x / sqrt(sigma^2 + 1)`: unit variance for the network.
pub(super) fn scale_input(sigma: f32, sample: &[f32], out: &mut [f32]) {
    let norm = (sigma * sigma + 1.0).sqrt();
    for (out, &x) in out.iter_mut().zip(sample) {
        *out = x / norm;
    }
}
