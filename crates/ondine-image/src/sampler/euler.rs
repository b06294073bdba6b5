//! Euler (Karras et al. 2022, algorithm 2 without churn) on the probability-flow ODE.

use ondine_graph::Result;

use super::{form::Update, rounded::ln, sigma::SigmaForm};
use crate::{
    noise::NoiseSource,
    schedule::{Prediction, SchedulerConfig},
};

/// `x' = x + (x - x0) / sigma (sigma' - sigma)`.
pub(super) struct Euler {
    form: SigmaForm,
}

impl Euler {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let mut form = SigmaForm::new(config, steps, false)?;
        if config.continuous_timesteps && config.prediction == Prediction::Velocity {
            let levels = &mut form.levels;
            levels.timesteps = levels.sigmas.iter().take(steps).map(|&sigma| 0.25 * ln(sigma)).collect();
        }
        Ok(Self { form })
    }
}

impl Update for Euler {
    type Form = SigmaForm;

    fn form(&self) -> &SigmaForm {
        &self.form
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], _noise: &mut dyn NoiseSource) {
        let sigma = self.form.sigma(call);
        let dt = self.form.sigma(call + 1) - sigma;
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let x0 = self.form.x0(sigma, *x, output);
            *x += (*x - x0) / sigma * dt;
        }
    }
}
