//! The noise levels and preconditioning of EDM (Karras et al. 2022), for models that were trained on them, and Euler on
//! these. The multistep solver on them is that of [`DpmMultistep`](super::dpm_multistep::DpmMultistep).
//!
//! Latents are `x = x0 + sigma n`; the network sees `x / sqrt(sigma^2 + d^2)` and `ln(sigma) / 4`, with `d` the
//! standard deviation of the data, and the clean latents are
//! `d^2 / (sigma^2 + d^2) x + sigma d / sqrt(sigma^2 + d^2) f`.

use ondine_graph::{Result, fail};

use super::{
    form::{Form, Update},
    level::NoiseLevel,
    rounded::ln,
};
use crate::{
    noise::NoiseSource,
    schedule::{FinalSigma, Levels, Prediction, SchedulerConfig, SigmaSchedule, linspace},
};

/// A run on the levels of EDM.
#[derive(Debug, Clone)]
pub(super) struct EdmForm {
    pub(super) levels: Levels,
    sigma_data: f32,
    sigma_max: f32,
    prediction: Prediction,
}

impl EdmForm {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let low = config.sigma_min.unwrap_or(0.002);
        let high = config.sigma_max.unwrap_or(80.0);
        if low >= high {
            fail!(Argument, "sigma_min is {low} and sigma_max {high}; give a range of noise levels");
        }
        let mut sigmas: Vec<f32> = if config.sigma_schedule == SigmaSchedule::Exponential {
            linspace(high.ln(), low.ln(), steps).into_iter().map(|log| log.exp() as f32).collect()
        } else {
            let rho = config.edm.rho;
            let (min, max) = (low.powf(1.0 / rho), high.powf(1.0 / rho));
            linspace(0.0, 1.0, steps).into_iter().map(|r| (max + r * (min - max)).powf(rho) as f32).collect()
        };
        let timesteps = sigmas.iter().map(|&sigma| 0.25 * ln(sigma)).collect();
        sigmas.push(match config.final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => sigmas.last().copied().unwrap_or_default(),
        });
        Ok(Self {
            levels: Levels { timesteps, sigmas },
            sigma_data: config.edm.sigma_data as f32,
            sigma_max: high as f32,
            prediction: config.prediction,
        })
    }

    /// The sigma of a call, that of the last for calls past the end.
    pub(super) fn sigma(&self, call: usize) -> f32 {
        let sigmas = &self.levels.sigmas;
        sigmas.get(call).or(sigmas.last()).copied().unwrap_or_default()
    }

    /// The clean latents that a model output stands for where the latents are `x`.
    pub(super) fn x0(&self, sigma: f32, x: f32, output: f32) -> f32 {
        let (data, square) = (self.sigma_data, sigma * sigma + self.sigma_data * self.sigma_data);
        let out = sigma * data / square.sqrt();
        match self.prediction {
            Prediction::Epsilon => data * data / square * x + out * output,
            Prediction::Velocity | Prediction::Flow => data * data / square * x - out * output,
            Prediction::Sample => output,
        }
    }
}

impl Form for EdmForm {
    fn timesteps(&self) -> &[f32] {
        &self.levels.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.levels.sigmas
    }

    fn init_noise_sigma(&self) -> f32 {
        (self.sigma_max * self.sigma_max + 1.0).sqrt()
    }

    /// `sqrt(sigma^2 + d^2)`.
    fn input_norm(&self, call: usize) -> Option<f32> {
        let sigma = self.sigma(call);
        Some((sigma * sigma + self.sigma_data * self.sigma_data).sqrt())
    }

    fn clean(&self, call: usize, x: f32, output: f32) -> f32 {
        self.x0(self.sigma(call), x, output)
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        NoiseLevel { signal: 1.0, noise: self.sigma(call.min(self.levels.timesteps.len() - 1)) }
    }
}

/// `x' = x + (x - x0) / sigma (sigma' - sigma)`.
pub(super) struct EdmEuler {
    form: EdmForm,
}

impl EdmEuler {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        Ok(Self { form: EdmForm::new(config, steps)? })
    }
}

impl Update for EdmEuler {
    type Form = EdmForm;

    fn form(&self) -> &EdmForm {
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
