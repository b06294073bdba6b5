//! DDPM (Ho et al. 2020): the ancestral step of the training process itself.

use ondine_graph::Result;

use super::{
    form::{Update, add_fresh_noise},
    variance::{VarianceForm, whole_timesteps},
};
use crate::{
    noise::NoiseSource,
    schedule::{SchedulerConfig, Variance},
};

/// `x' = sqrt(a') b / (1 - a) x0 + sqrt(1 - b) (1 - a') / (1 - a) x + sqrt(v) n`, `b = 1 - a / a'`,
/// `v` the posterior variance `(1 - a') / (1 - a) b`, or `b`.
pub(super) struct Ddpm {
    form: VarianceForm,
    variance: Variance,
}

impl Ddpm {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let form = VarianceForm::new(config, &whole_timesteps(config, steps))?;
        Ok(Self { form, variance: config.variance })
    }
}

impl Update for Ddpm {
    type Form = VarianceForm;

    fn form(&self) -> &VarianceForm {
        &self.form
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], noise: &mut dyn NoiseSource) {
        let t = self.form.timestep(call);
        let (alpha, previous) = (self.form.alpha(t), self.form.alpha(self.form.next(call).unwrap_or(-1)));
        let level = self.form.level(t);
        let kept = alpha / previous;
        let beta = 1.0 - kept;
        let of_x0 = previous.sqrt() * beta / (1.0 - alpha);
        let of_x = kept.sqrt() * (1.0 - previous) / (1.0 - alpha);
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let x0 = self.form.x0(level, *x, output);
            *x = of_x0 * x0 + of_x * *x;
        }
        if t > 0 {
            let variance = match self.variance {
                Variance::FixedSmall => ((1.0 - previous) / (1.0 - alpha) * beta).max(1e-20),
                Variance::FixedLarge => beta,
            };
            add_fresh_noise(sample, variance.sqrt(), noise);
        }
    }
}
