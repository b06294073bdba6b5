//! A run of a sampler, as those who call the network see it.

use ondine_graph::Result;

use super::level::NoiseLevel;
use crate::noise::NoiseSource;

/// A sampler set up for one run.
///
/// A run has [`timesteps`](Sampler::timesteps)`().len()` calls of the network, numbered from 0. Each
/// call is `scale_model_input`, the network, `step`, in that order. A run may begin at a later call
/// (image to image); calls are not skipped after that. Second-order samplers make two calls a step.
pub trait Sampler: Send {
    /// The timestep of each call, as the network takes it.
    fn timesteps(&self) -> &[f32];

    /// The noise level of each call and after the last one, in sigma form; empty for samplers that
    /// have none.
    fn sigmas(&self) -> &[f32];

    /// The factor of unit noise that makes the first latents.
    fn init_noise_sigma(&self) -> f32;

    /// Scales the latents to what the network was trained on. Slices of one length.
    fn scale_model_input(&self, call: usize, sample: &[f32], out: &mut [f32]);

    /// The mixture that latents entering this call are; calls past the end give the last one's.
    fn noise_level(&self, call: usize) -> NoiseLevel;

    /// The clean latents that a model output stands for, where `sample` enters a call. Slices of one length.
    fn denoised(&self, call: usize, model_output: &[f32], sample: &[f32]) -> Vec<f32>;

    /// Noises clean latents to the level of a call: the start of image to image.
    fn add_noise(&self, call: usize, original: &[f32], noise: &[f32], out: &mut [f32]) {
        let level = self.noise_level(call);
        for ((out, &x), &n) in out.iter_mut().zip(original).zip(noise) {
            *out = level.signal * x + level.noise * n;
        }
    }

    /// Moves the latents from this call's noise level to the next.
    ///
    /// `model_output` is the network's prediction (after guidance) for `sample`, of the kind the
    /// config names. Stochastic samplers take one draw of `sample.len()` values from `noise`.
    ///
    /// # Errors
    /// A call number past the end, or slices of different length; the latents are then untouched.
    fn step(
        &mut self,
        call: usize,
        model_output: &[f32],
        sample: &mut [f32],
        noise: &mut dyn NoiseSource,
    ) -> Result<()>;
}

/// Choices that belong to a run, not to the model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// Share of fresh noise in each step, 0 to 1, for DDIM (default 0), TCD (0.3), Euler a and
    /// DPM2 a (1). Other samplers take no notice.
    pub eta: Option<f64>,
    /// Log of the time shift of flow models with dynamic shifting.
    pub mu: Option<f64>,
    /// Noise levels of a flow model before its shift, one a step, where its pipeline has its own.
    pub sigmas: Option<Vec<f64>>,
}
