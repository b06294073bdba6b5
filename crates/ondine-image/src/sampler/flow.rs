//! Euler and Heun on rectified flow (SD3, Flux): the network predicts the velocity `n - x0` of the
//! straight path `(1 - sigma) x0 + sigma n`.

use ondine_graph::{Result, fail};

use super::{
    form::{Form, Update},
    heun::{Halves, doubled},
    level::NoiseLevel,
    run::Options,
};
use crate::{
    noise::NoiseSource,
    schedule::{Levels, SchedulerConfig, SigmaSchedule, linspace, remake},
};

/// What all of them share.
pub(super) struct FlowForm(pub(super) Levels);

impl Form for FlowForm {
    fn timesteps(&self) -> &[f32] {
        &self.0.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.0.sigmas
    }

    fn clean(&self, call: usize, x: f32, output: f32) -> f32 {
        x - self.noise_level(call).noise * output
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        NoiseLevel::of_flow(self.0.sigmas[call.min(self.0.timesteps.len() - 1)])
    }
}

/// `x' = x + (sigma' - sigma) v`.
pub(super) struct FlowEuler {
    form: FlowForm,
}

impl FlowEuler {
    pub(super) fn new(config: &SchedulerConfig, steps: usize, options: &Options) -> Result<Self> {
        Ok(Self { form: FlowForm(flow_levels(config, steps, options)?) })
    }
}

impl Update for FlowEuler {
    type Form = FlowForm;

    fn form(&self) -> &FlowForm {
        &self.form
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], _noise: &mut dyn NoiseSource) {
        let sigmas = self.form.sigmas();
        let dt = sigmas[call + 1] - sigmas[call];
        for (x, &velocity) in sample.iter_mut().zip(model_output) {
            *x += dt * velocity;
        }
    }
}

/// Heun's two calls a step, on velocities.
pub(super) struct FlowHeun {
    form: FlowForm,
    halves: Halves,
}

impl FlowHeun {
    pub(super) fn new(config: &SchedulerConfig, steps: usize, options: &Options) -> Result<Self> {
        let levels = doubled(&flow_levels(config, steps, options)?);
        Ok(Self { form: FlowForm(levels), halves: Halves::default() })
    }
}

impl Update for FlowHeun {
    type Form = FlowForm;

    fn form(&self) -> &FlowForm {
        &self.form
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], _noise: &mut dyn NoiseSource) {
        let sigmas = self.form.sigmas();
        let (sigma, dt) = (sigmas[call], sigmas[call + 1] - sigmas[call]);
        // Through the clean latents and back, for diffusers' rounding.
        let slope = |x: f32, velocity: f32| (x - (x - velocity * sigma)) / sigma;
        self.halves.go(dt, model_output, sample, slope);
    }
}

/// Noise levels from 1 down, shifted, spread anew between their ends if a curve is chosen, and 0 at the end.
///
/// Without levels of the caller's own they run evenly between the ends of the training table, which
/// is shifted already, so that a static shift acts twice on the lower end, as it does in diffusers.
fn flow_levels(config: &SchedulerConfig, steps: usize, options: &Options) -> Result<Levels> {
    let total = config.train_timesteps as f64;
    let flow = &config.flow;
    let shift = match (flow.dynamic, options.mu) {
        (false, _) => flow.shift,
        (true, Some(mu)) if mu.is_finite() && !flow.linear => mu.exp(),
        (true, Some(mu)) if mu.is_finite() && mu > 0.0 => mu,
        (true, _) => {
            fail!(Argument, "use_dynamic_shifting needs a finite mu, which follows from the picture's size");
        }
    };
    let shifted: Vec<f64> = match &options.sigmas {
        // Rounded like numpy, whose levels are f32 if they are given.
        Some(given) if given.len() == steps => {
            let of = |s: f64| f64::from(shifted_f32(s as f32, shift as f32, flow.dynamic));
            given.iter().copied().map(of).collect()
        }
        Some(given) => {
            fail!(Argument, "{} noise levels are given for {steps} steps; give one a step", given.len());
        }
        None => {
            let static_shift = if flow.dynamic { 1.0 } else { flow.shift as f32 };
            let end = |t: f32| {
                let sigma = t / total as f32;
                f64::from(static_shift * sigma / (1.0 + (static_shift - 1.0) * sigma)) * total
            };
            let spaced = linspace(end(total as f32), end(1.0), steps);
            spaced.into_iter().map(|t| t / total).map(|s| shift * s / (1.0 + (shift - 1.0) * s)).collect()
        }
    };
    let levels = match (config.sigma_schedule, shifted.first(), shifted.last()) {
        (SigmaSchedule::Table, ..) | (_, None, _) | (_, _, None) => shifted,
        (schedule, Some(&high), Some(&low)) => remake(schedule, low, high, steps),
    };
    let mut sigmas: Vec<f32> = levels.into_iter().map(|sigma| sigma as f32).collect();
    let timesteps = sigmas.iter().map(|sigma| sigma * total as f32).collect();
    sigmas.push(0.0);
    Ok(Levels { timesteps, sigmas })
}

/// A level shifted, in the order of operations of each kind of shift.
fn shifted_f32(s: f32, shift: f32, dynamic: bool) -> f32 {
    if dynamic { shift / (shift + (1.0 / s - 1.0)) } else { shift * s / (1.0 + (shift - 1.0) * s) }
}
