//! LCM (Luo et al. 2023): each call jumps to clean latents, then is noised to the next timestep.

use super::forms::{Alphas, as_floats, clipped};
use super::{NoiseLevel, Sampler, add_fresh_noise, check};
use crate::error::{Error, Result};
use crate::noise::NoiseSource;
use crate::schedule::{Prediction, SchedulerConfig};

/// The standard deviation of the data in the boundary condition.
const SIGMA_DATA: f32 = 0.5;

/// `d = c_out x0 + c_skip x`; then `x' = sqrt(a') d + sqrt(1 - a') n`, and `d` itself at the end.
///
/// With `u = timestep_scaling * t`: `c_skip = 0.25 / (u^2 + 0.25)`, `c_out = u / sqrt(u^2 + 0.25)`.
pub(super) struct Lcm {
    timesteps: Vec<f32>,
    alphas: Alphas,
    prediction: Prediction,
    clip: Option<f32>,
    timestep_scaling: f32,
}

impl Lcm {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let alphas = Alphas::new(config);
        let timesteps = distilled_timesteps(config, steps)?;
        alphas.check(config, &timesteps)?;
        Ok(Self {
            timesteps: as_floats(&timesteps),
            alphas,
            prediction: config.prediction,
            clip: config.clip,
            timestep_scaling: config.consistency.timestep_scaling as f32,
        })
    }

    /// `(c_skip, c_out)`.
    fn boundary(&self, timestep: f32) -> (f32, f32) {
        let scaled = timestep * self.timestep_scaling;
        let square = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
        (SIGMA_DATA * SIGMA_DATA / square, scaled / square.sqrt())
    }
}

/// Evenly picked, falling, from the timesteps the model was distilled on.
pub(super) fn distilled_timesteps(config: &SchedulerConfig, steps: usize) -> Result<Vec<i64>> {
    let original = config.consistency.original_steps;
    if steps > original {
        return Err(Error::argument(format!(
            "{steps} steps are more than the {original} the model was distilled on; ask for 1 to \
             {original}"
        )));
    }
    let stride = config.train_timesteps / original;
    let gap = original as f64 / steps as f64;
    let pick = |i: usize| {
        let index = (i as f64 * gap) as usize;
        ((original - index) * stride) as i64 - 1
    };
    Ok((0..steps).map(pick).collect())
}

impl Sampler for Lcm {
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
        let timestep = self.timesteps[call];
        let level = NoiseLevel::of_alpha(self.alphas.at(timestep as i64));
        let (skip, out) = self.boundary(timestep);
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let x0 = clipped(self.clip, level.x0(self.prediction, *x, output));
            *x = out * x0 + skip * *x;
        }
        if let Some(&next) = self.timesteps.get(call + 1) {
            let level = NoiseLevel::of_alpha(self.alphas.at(next as i64));
            sample.iter_mut().for_each(|x| *x *= level.signal);
            add_fresh_noise(sample, level.noise, noise);
        }
        Ok(())
    }
}
