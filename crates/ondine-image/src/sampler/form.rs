//! What samplers have in common: those of one form differ in nothing but their update.

use ondine_graph::{Result, fail};

use super::{level::NoiseLevel, run::Sampler};
use crate::noise::NoiseSource;

/// The levels that a run goes through, and how latents are written at each.
pub(super) trait Form: Send {
    /// As [`Sampler::timesteps`].
    fn timesteps(&self) -> &[f32];

    /// As [`Sampler::sigmas`].
    fn sigmas(&self) -> &[f32] {
        &[]
    }

    /// As [`Sampler::init_noise_sigma`].
    fn init_noise_sigma(&self) -> f32 {
        1.0
    }

    /// What latents are divided by before the network sees them.
    fn input_norm(&self, call: usize) -> Option<f32> {
        let _ = call;
        None
    }

    /// As [`Sampler::noise_level`].
    fn noise_level(&self, call: usize) -> NoiseLevel;

    /// As [`Sampler::denoised`], of one value.
    fn clean(&self, call: usize, x: f32, output: f32) -> f32;
}

/// A sampler of a form.
pub(super) trait Update: Send {
    /// Its form.
    type Form: Form;

    /// The form of this run.
    fn form(&self) -> &Self::Form;

    /// As [`Sampler::step`], for a call within the run and slices of one length.
    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], noise: &mut dyn NoiseSource);
}

impl<S: Update> Sampler for S {
    fn timesteps(&self) -> &[f32] {
        self.form().timesteps()
    }

    fn sigmas(&self) -> &[f32] {
        self.form().sigmas()
    }

    fn init_noise_sigma(&self) -> f32 {
        self.form().init_noise_sigma()
    }

    fn scale_model_input(&self, call: usize, sample: &[f32], out: &mut [f32]) {
        let norm = self.form().input_norm(call);
        for (out, &x) in out.iter_mut().zip(sample) {
            *out = norm.map_or(x, |norm| x / norm);
        }
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        self.form().noise_level(call)
    }

    fn denoised(&self, call: usize, model_output: &[f32], sample: &[f32]) -> Vec<f32> {
        sample.iter().zip(model_output).map(|(&x, &output)| self.form().clean(call, x, output)).collect()
    }

    fn step(
        &mut self,
        call: usize,
        model_output: &[f32],
        sample: &mut [f32],
        noise: &mut dyn NoiseSource,
    ) -> Result<()> {
        let calls = self.timesteps().len();
        if call >= calls {
            fail!(Argument, "call {call} is past the end of a run of {calls} calls; set up a new sampler");
        }
        let (outputs, latents) = (model_output.len(), sample.len());
        if outputs != latents {
            fail!(
                Shape,
                "the model output has {outputs} values and the latents have {latents}; give slices of one length"
            );
        }
        self.update(call, model_output, sample, noise);
        Ok(())
    }
}

/// `sample += scale * n` with a fresh draw of `n`.
pub(super) fn add_fresh_noise(sample: &mut [f32], scale: f32, noise: &mut dyn NoiseSource) {
    let mut draw = vec![0.0; sample.len()];
    noise.normal(&mut draw);
    for (x, n) in sample.iter_mut().zip(draw) {
        *x += n * scale;
    }
}
