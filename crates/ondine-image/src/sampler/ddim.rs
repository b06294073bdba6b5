//! DDIM (Song et al. 2020): a deterministic step through the predicted clean latents, or with
//! `eta` a share of fresh noise.

use ondine_graph::Result;

use super::{
    form::{Update, add_fresh_noise},
    variance::{VarianceForm, whole_timesteps},
};
use crate::{noise::NoiseSource, schedule::SchedulerConfig};

/// `x' = sqrt(a') x0 + sqrt(1 - a' - s^2) e + s n`, `s = eta sqrt((1 - a') / (1 - a) (1 - a / a'))`.
pub(super) struct Ddim {
    form: VarianceForm,
    /// Training timesteps between two calls.
    stride: i64,
    eta: f32,
}

impl Ddim {
    pub(super) fn new(config: &SchedulerConfig, steps: usize, eta: Option<f64>) -> Result<Self> {
        let form = VarianceForm::new(config, &whole_timesteps(config, steps))?;
        Ok(Self { form, stride: (config.train_timesteps / steps) as i64, eta: eta.unwrap_or(0.0) as f32 })
    }
}

impl Update for Ddim {
    type Form = VarianceForm;

    fn form(&self) -> &VarianceForm {
        &self.form
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], noise: &mut dyn NoiseSource) {
        let t = self.form.timestep(call);
        let (alpha, previous) = (self.form.alpha(t), self.form.alpha(t - self.stride));
        let level = self.form.level(t);
        let variance = (1.0 - previous) / (1.0 - alpha) * (1.0 - alpha / previous);
        let fresh = self.eta * variance.sqrt();
        let signal = previous.sqrt();
        // Rounding may leave less than nothing where eta is 1.
        let direction = (1.0 - previous - fresh * fresh).max(0.0).sqrt();
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let x0 = self.form.x0(level, *x, output);
            let epsilon = self.form.epsilon(level, *x, output);
            *x = signal * x0 + direction * epsilon;
        }
        if self.eta > 0.0 {
            add_fresh_noise(sample, fresh, noise);
        }
    }
}
