//! Consistency models in continuous time (sCM, Lu and Song 2024), as Sana-Sprint is one: each call jumps to clean
//! latents, then is noised anew to the next level.
//!
//! The paper writes latents on a circle, `cos(t) x0 + sin(t) n`; divided by `cos(t) + sin(t)` these are those of
//! rectified flow at the level `sin(t) / (cos(t) + sin(t))`, on which the network was trained.

use ondine_graph::Result;

use super::{
    flow::FlowForm,
    form::{Form, Update, add_fresh_noise},
};
use crate::{
    noise::NoiseSource,
    schedule::{Levels, SchedulerConfig, linspace},
};

/// The angle of noise alone, as the pipelines round it.
#[expect(
    clippy::approx_constant,
    reason = "the pipelines round a quarter of a turn up, and their pictures depend on it"
)]
const NOISE: f64 = 1.570_80;
/// The second angle of drawings in two steps.
const BETWEEN: f64 = 1.3;

/// `x0 = x - sigma v`, then `x' = (1 - sigma') x0 + sigma' n`.
pub(super) struct Scm {
    form: FlowForm,
}

impl Scm {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let angles = if steps == 2 { vec![NOISE, BETWEEN] } else { linspace(NOISE, 0.0, steps + 1) };
        let level = |angle: &f64| {
            let (sin, cos) = (*angle as f32).sin_cos();
            sin / (cos + sin)
        };
        let mut sigmas: Vec<f32> = angles.iter().take(steps).map(level).collect();
        let timesteps = sigmas.iter().map(|sigma| sigma * config.train_timesteps as f32).collect();
        sigmas.push(0.0);
        Ok(Self { form: FlowForm(Levels { timesteps, sigmas }) })
    }
}

impl Update for Scm {
    type Form = FlowForm;

    fn form(&self) -> &FlowForm {
        &self.form
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], noise: &mut dyn NoiseSource) {
        let next = self.form.sigmas()[call + 1];
        for (x, &velocity) in sample.iter_mut().zip(model_output) {
            *x = (1.0 - next) * self.form.clean(call, *x, velocity);
        }
        if next > 0.0 {
            add_fresh_noise(sample, next, noise);
        }
    }
}
