//! LCM (Luo et al. 2023): each call jumps to clean latents, then is noised to the next timestep.

use ondine_graph::{Result, fail};

use super::{
    form::{Update, add_fresh_noise},
    variance::VarianceForm,
};
use crate::{noise::NoiseSource, schedule::SchedulerConfig};

/// The standard deviation of the data in the boundary condition.
const SIGMA_DATA: f32 = 0.5;

/// `d = c_out x0 + c_skip x`; then `x' = sqrt(a') d + sqrt(1 - a') n`, and `d` itself at the end.
///
/// With `u = timestep_scaling * t`: `c_skip = 0.25 / (u^2 + 0.25)`, `c_out = u / sqrt(u^2 + 0.25)`.
pub(super) struct Lcm {
    form: VarianceForm,
    timestep_scaling: f32,
}

impl Lcm {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let form = VarianceForm::new(config, &distilled_timesteps(config, steps)?)?;
        Ok(Self { form, timestep_scaling: config.consistency.timestep_scaling as f32 })
    }

    /// `(c_skip, c_out)`.
    fn boundary(&self, timestep: i64) -> (f32, f32) {
        let scaled = timestep as f32 * self.timestep_scaling;
        let square = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
        (SIGMA_DATA * SIGMA_DATA / square, scaled / square.sqrt())
    }
}

/// Evenly picked, falling, from the timesteps the model was distilled on.
pub(super) fn distilled_timesteps(config: &SchedulerConfig, steps: usize) -> Result<Vec<i64>> {
    if let Some(given) = &config.timesteps {
        return Ok(given.iter().map(|&t| t as i64).collect());
    }
    let original = config.consistency.original_steps;
    if steps > original {
        fail!(
            Argument,
            "{steps} steps are more than the {original} the model was distilled on; ask for 1 to {original}"
        );
    }
    let stride = config.train_timesteps / original;
    let gap = original as f64 / steps as f64;
    let pick = |i: usize| {
        let index = (i as f64 * gap) as usize;
        ((original - index) * stride) as i64 - 1
    };
    Ok((0..steps).map(pick).collect())
}

impl Update for Lcm {
    type Form = VarianceForm;

    fn form(&self) -> &VarianceForm {
        &self.form
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], noise: &mut dyn NoiseSource) {
        let t = self.form.timestep(call);
        let level = self.form.level(t);
        let (skip, out) = self.boundary(t);
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let x0 = self.form.x0(level, *x, output);
            *x = out * x0 + skip * *x;
        }
        if let Some(next) = self.form.next(call) {
            let level = self.form.level(next);
            sample.iter_mut().for_each(|x| *x *= level.signal);
            add_fresh_noise(sample, level.noise, noise);
        }
    }
}
