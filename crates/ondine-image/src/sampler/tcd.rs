//! TCD (Zheng et al. 2024): jumps along the trajectory to a timestep below the next one, then is
//! noised back up to it.

use ondine_graph::Result;

use super::{
    form::{Update, add_fresh_noise},
    lcm::distilled_timesteps,
    variance::VarianceForm,
};
use crate::{noise::NoiseSource, schedule::SchedulerConfig};

/// `x_s = sqrt(a_s) x0 + sqrt(1 - a_s) e` at `s = floor((1 - eta) t')`, then
/// `x' = sqrt(a' / a_s) x_s + sqrt(1 - a' / a_s) n`; the last call ends at `x_s` with `t' = 0`.
pub(super) struct Tcd {
    form: VarianceForm,
    eta: f64,
}

impl Tcd {
    pub(super) fn new(config: &SchedulerConfig, steps: usize, eta: Option<f64>) -> Result<Self> {
        let form = VarianceForm::new(config, &distilled_timesteps(config, steps)?)?;
        Ok(Self { form, eta: eta.unwrap_or(0.3) })
    }
}

impl Update for Tcd {
    type Form = VarianceForm;

    fn form(&self) -> &VarianceForm {
        &self.form
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], noise: &mut dyn NoiseSource) {
        let level = self.form.level(self.form.timestep(call));
        let next = self.form.next(call);
        let below = ((1.0 - self.eta) as f32 * next.unwrap_or(0) as f32).floor() as i64;
        let target = self.form.level(below);
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let x0 = self.form.x0(level, *x, output);
            let epsilon = self.form.epsilon(level, *x, output);
            *x = target.signal * x0 + target.noise * epsilon;
        }
        if let Some(next) = next
            && self.eta > 0.0
        {
            let kept = self.form.alpha(next) / self.form.alpha(below);
            sample.iter_mut().for_each(|x| *x *= kept.sqrt());
            add_fresh_noise(sample, (1.0 - kept).sqrt(), noise);
        }
    }
}
