//! DPM2 and DPM2 a (k-diffusion's DPM-Solver-2): the midpoint method in log sigma.

use ondine_graph::Result;

use super::{
    euler_ancestral::split,
    form::{Update, add_fresh_noise},
    rounded::{exp, ln},
    sigma::SigmaForm,
};
use crate::{
    noise::NoiseSource,
    schedule::{Levels, NoiseSchedule, SchedulerConfig, log_table, timestep_of},
};

/// Two calls a step but for the last: at `sigma`, then at the geometric mean of `sigma` and the
/// level the step goes to; the second slope carries the whole step.
pub(super) struct Kdpm2 {
    /// Levels of each call.
    form: SigmaForm,
    /// Sigma of each step, and after the last.
    steps: Vec<f32>,
    /// Share of ancestral noise; none for the deterministic sampler.
    eta: Option<f32>,
    /// Latents at the start of the step under way.
    start: Vec<f32>,
}

impl Kdpm2 {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        Self::build(config, steps, None)
    }

    pub(super) fn ancestral(config: &SchedulerConfig, steps: usize, eta: Option<f64>) -> Result<Self> {
        Self::build(config, steps, Some(eta.unwrap_or(1.0) as f32))
    }

    fn build(config: &SchedulerConfig, steps: usize, eta: Option<f32>) -> Result<Self> {
        let mut form = SigmaForm::new(config, steps, true)?;
        let logs = log_table(&NoiseSchedule::for_sigmas(config).sigmas());
        let mut timesteps = Vec::with_capacity(2 * steps);
        let mut sigmas = Vec::with_capacity(2 * steps);
        for (call, &t) in form.levels.timesteps.iter().enumerate() {
            let (from, to) = (form.sigma(call), form.sigma(call + 1));
            timesteps.push(t);
            sigmas.push(from);
            if call + 1 < steps {
                let (_, down) = eta.map_or((0.0, to), |eta| split(from, to, eta));
                let middle = midpoint(from, down, eta.is_some());
                timesteps.push(timestep_of(middle.into(), &logs) as f32);
                sigmas.push(middle);
            }
        }
        sigmas.push(0.0);
        let steps = std::mem::replace(&mut form.levels, Levels { timesteps, sigmas }).sigmas;
        Ok(Self { form, steps, eta, start: Vec::new() })
    }
}

/// `exp((ln from + ln to) / 2)`, interpolated from the end that diffusers starts at.
fn midpoint(from: f32, to: f32, ancestral: bool) -> f32 {
    let (a, b) = if ancestral { (ln(from), ln(to)) } else { (ln(to), ln(from)) };
    exp(b - (b - a) * 0.5)
}

impl Update for Kdpm2 {
    type Form = SigmaForm;

    fn form(&self) -> &SigmaForm {
        &self.form
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], noise: &mut dyn NoiseSource) {
        let form = &self.form;
        let sigma = form.sigma(call);
        let slope = |x: f32, output: f32| (x - form.x0(sigma, x, output)) / sigma;
        let step = call / 2;
        if call.is_multiple_of(2) {
            self.start = sample.to_vec();
            let dt = form.sigma(call + 1) - sigma;
            for (x, &output) in sample.iter_mut().zip(model_output) {
                *x += slope(*x, output) * dt;
            }
            return;
        }
        let (from, to) = (self.steps[step], self.steps[step + 1]);
        let (up, down) = self.eta.map_or((0.0, to), |eta| split(from, to, eta));
        let dt = down - from;
        for ((x, &start), &output) in sample.iter_mut().zip(&self.start).zip(model_output) {
            *x = start + slope(*x, output) * dt;
        }
        if self.eta.is_some() {
            add_fresh_noise(sample, up, noise);
        }
    }
}
