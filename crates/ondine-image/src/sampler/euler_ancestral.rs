//! Euler with ancestral noise ("Euler a"): each step goes below the next level and is noised back up.

use ondine_graph::Result;

use super::{
    form::{Update, add_fresh_noise},
    sigma::SigmaForm,
};
use crate::{noise::NoiseSource, schedule::SchedulerConfig};

/// `x' = x + (x - x0) / sigma (down - sigma) + up n`, with `up` and `down` from [`split`].
///
/// A draw is taken on every call, also on the last one, where `up` is 0.
pub(super) struct EulerAncestral {
    form: SigmaForm,
    eta: f32,
}

impl EulerAncestral {
    pub(super) fn new(config: &SchedulerConfig, steps: usize, eta: Option<f64>) -> Result<Self> {
        Ok(Self { form: SigmaForm::new(config, steps, false)?, eta: eta.unwrap_or(1.0) as f32 })
    }
}

/// The level `to` as fresh noise and what is left: `(up, down)`, `up^2 + down^2 = to^2`.
pub(super) fn split(from: f32, to: f32, eta: f32) -> (f32, f32) {
    let (from2, to2) = (from * from, to * to);
    let up = eta * (to2 * (from2 - to2) / from2).sqrt();
    (up, (to2 - up * up).sqrt())
}

impl Update for EulerAncestral {
    type Form = SigmaForm;

    fn form(&self) -> &SigmaForm {
        &self.form
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], noise: &mut dyn NoiseSource) {
        let sigma = self.form.sigma(call);
        let (up, down) = split(sigma, self.form.sigma(call + 1), self.eta);
        let dt = down - sigma;
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let x0 = self.form.x0(sigma, *x, output);
            *x += (*x - x0) / sigma * dt;
        }
        add_fresh_noise(sample, up, noise);
    }
}
