//! Euler and Heun on rectified flow (SD3, Flux): the network predicts the velocity `n - x0` of the
//! straight path `(1 - sigma) x0 + sigma n`.

use super::heun::{FirstHalf, doubled};
use super::{NoiseLevel, Options, Sampler, check};
use crate::error::{Error, Result};
use crate::noise::NoiseSource;
use crate::schedule::{Levels, SchedulerConfig, linspace};

/// `x' = x + (sigma' - sigma) v`.
pub(super) struct FlowEuler {
    levels: Levels,
}

impl FlowEuler {
    pub(super) fn new(config: &SchedulerConfig, steps: usize, options: &Options) -> Result<Self> {
        Ok(Self { levels: flow_levels(config, steps, options)? })
    }
}

/// Heun's two calls a step, on velocities.
pub(super) struct FlowHeun {
    levels: Levels,
    first: Option<FirstHalf>,
}

impl FlowHeun {
    pub(super) fn new(config: &SchedulerConfig, steps: usize, options: &Options) -> Result<Self> {
        Ok(Self { levels: doubled(&flow_levels(config, steps, options)?), first: None })
    }
}

/// Noise levels from 1 down, shifted, and 0 at the end.
///
/// Without levels of the caller's own they run evenly between the ends of the training table, which
/// is shifted already, so that a static shift acts twice on the lower end, as it does in diffusers.
fn flow_levels(config: &SchedulerConfig, steps: usize, options: &Options) -> Result<Levels> {
    let total = config.train_timesteps as f64;
    let shift = match (config.flow.dynamic, options.mu) {
        (false, _) => config.flow.shift,
        (true, Some(mu)) if mu.is_finite() => mu.exp(),
        (true, _) => {
            return Err(Error::argument(
                "use_dynamic_shifting needs a finite mu, which follows from the picture's size",
            ));
        }
    };
    let unshifted = match &options.sigmas {
        Some(sigmas) if sigmas.len() == steps => sigmas.clone(),
        Some(sigmas) => {
            return Err(Error::argument(format!(
                "{} noise levels are given for {steps} steps; give one a step",
                sigmas.len()
            )));
        }
        None => {
            let static_shift = if config.flow.dynamic { 1.0 } else { config.flow.shift as f32 };
            let end = |t: f32| {
                let sigma = t / total as f32;
                f64::from(static_shift * sigma / (1.0 + (static_shift - 1.0) * sigma)) * total
            };
            let spaced = linspace(end(total as f32), end(1.0), steps);
            spaced.into_iter().map(|t| t / total).collect()
        }
    };
    let shifted = |s: f64| (shift * s / (1.0 + (shift - 1.0) * s)) as f32;
    let mut sigmas: Vec<f32> = unshifted.into_iter().map(shifted).collect();
    let timesteps = sigmas.iter().map(|sigma| sigma * total as f32).collect();
    sigmas.push(0.0);
    Ok(Levels { timesteps, sigmas })
}

fn mixture(levels: &Levels, call: usize) -> NoiseLevel {
    let sigma = levels.sigmas[call.min(levels.timesteps.len() - 1)];
    NoiseLevel { signal: 1.0 - sigma, noise: sigma }
}

impl Sampler for FlowEuler {
    fn timesteps(&self) -> &[f32] {
        &self.levels.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.levels.sigmas
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        mixture(&self.levels, call)
    }

    fn step(
        &mut self,
        call: usize,
        model_output: &[f32],
        sample: &mut [f32],
        _noise: &mut dyn NoiseSource,
    ) -> Result<()> {
        check(call, self.levels.timesteps.len(), model_output, sample)?;
        let dt = self.levels.sigmas[call + 1] - self.levels.sigmas[call];
        for (x, &velocity) in sample.iter_mut().zip(model_output) {
            *x += dt * velocity;
        }
        Ok(())
    }
}

impl Sampler for FlowHeun {
    fn timesteps(&self) -> &[f32] {
        &self.levels.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.levels.sigmas
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        mixture(&self.levels, call)
    }

    fn step(
        &mut self,
        call: usize,
        model_output: &[f32],
        sample: &mut [f32],
        _noise: &mut dyn NoiseSource,
    ) -> Result<()> {
        check(call, self.levels.timesteps.len(), model_output, sample)?;
        let sigma = self.levels.sigmas[call];
        // Through the clean latents and back, for diffusers' rounding.
        let slope = |x: f32, velocity: f32| (x - (x - velocity * sigma)) / sigma;
        if let Some(first) = self.first.take() {
            for (i, (x, &velocity)) in sample.iter_mut().zip(model_output).enumerate() {
                let mean = 0.5 * (first.slope[i] + slope(*x, velocity));
                *x = first.start[i] + mean * first.dt;
            }
            return Ok(());
        }
        let dt = self.levels.sigmas[call + 1] - sigma;
        let start = sample.to_vec();
        let slopes: Vec<f32> = sample.iter().zip(model_output).map(|(&x, &velocity)| slope(x, velocity)).collect();
        for (x, &slope) in sample.iter_mut().zip(&slopes) {
            *x += slope * dt;
        }
        self.first = Some(FirstHalf { start, slope: slopes, dt });
        Ok(())
    }
}
