//! The two ways latents are written, and how predictions turn into clean latents in each.
//!
//! Variance-preserving: `x = sqrt(a) x0 + sqrt(1 - a) n`. Sigma form: `x = x0 + sigma n`.

use super::rounded::ln;
use crate::schedule::Prediction;

/// How strongly clean latents and noise are mixed: `signal * x0 + noise * n`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseLevel {
    /// Factor of the clean latents.
    pub signal: f32,
    /// Factor of the noise.
    pub noise: f32,
}

impl NoiseLevel {
    /// The variance-preserving mixture with signal variance `alpha_bar`.
    pub(super) fn of_alpha(alpha_bar: f32) -> Self {
        Self { signal: alpha_bar.sqrt(), noise: (1.0 - alpha_bar).sqrt() }
    }

    /// The mixture of rectified flow, whose parts add up to 1.
    pub(super) fn of_flow(sigma: f32) -> Self {
        Self { signal: 1.0 - sigma, noise: sigma }
    }

    /// The variance-preserving mixture whose noise is `sigma` times its signal.
    pub(super) fn of_sigma(sigma: f32) -> Self {
        let signal = 1.0 / (sigma * sigma + 1.0).sqrt();
        Self { signal, noise: sigma * signal }
    }

    /// Half the log signal-to-noise ratio, `ln(signal / noise)`.
    pub(super) fn lambda(self) -> f32 {
        ln(self.signal) - ln(self.noise)
    }

    /// The clean latents that a model output stands for, where the latents are `x`.
    pub(super) fn x0(self, prediction: Prediction, x: f32, output: f32) -> f32 {
        match prediction {
            Prediction::Epsilon => (x - self.noise * output) / self.signal,
            Prediction::Velocity => self.signal * x - self.noise * output,
            Prediction::Sample => output,
            Prediction::Flow => x - self.noise * output,
        }
    }

    /// The noise that a model output stands for.
    pub(super) fn epsilon(self, prediction: Prediction, x: f32, output: f32) -> f32 {
        match prediction {
            Prediction::Epsilon => output,
            Prediction::Velocity => self.signal * output + self.noise * x,
            Prediction::Sample => (x - self.signal * output) / self.noise,
            Prediction::Flow => x + self.signal * output,
        }
    }
}

/// The clean latents that a model output stands for, in sigma form.
pub(super) fn denoised(prediction: Prediction, sigma: f32, x: f32, output: f32) -> f32 {
    match prediction {
        Prediction::Epsilon | Prediction::Flow => x - sigma * output,
        Prediction::Velocity => {
            let square = sigma * sigma + 1.0;
            output * (-sigma / square.sqrt()) + x / square
        }
        Prediction::Sample => output,
    }
}

/// Clamps predicted clean latents where the config asks for it.
pub(super) fn clipped(clip: Option<f32>, x0: f32) -> f32 {
    clip.map_or(x0, |range| x0.clamp(-range.abs(), range.abs()))
}
