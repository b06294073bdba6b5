//! Heun (Karras et al. 2022): an Euler step, then again with the mean of both slopes.

use super::check;
use super::forms::{InSigmaForm, SigmaForm, clipped, denoised};
use crate::error::Result;
use crate::noise::NoiseSource;
use crate::schedule::{Levels, SchedulerConfig};

/// Two calls a step but for the last: at `sigma`, then at the `sigma'` the first one reached.
pub(super) struct Heun {
    form: SigmaForm,
    clip: Option<f32>,
    first: Option<FirstHalf>,
}

/// What the first call of a step leaves for the second.
pub(super) struct FirstHalf {
    pub(super) start: Vec<f32>,
    pub(super) slope: Vec<f32>,
    pub(super) dt: f32,
}

impl Heun {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let mut form = SigmaForm::new(config, steps, false)?;
        form.levels = doubled(&form.levels);
        Ok(Self { form, clip: config.clip, first: None })
    }
}

/// Repeats every level but the first and the last: t0, t1, t1, t2, t2, ...
pub(super) fn doubled(levels: &Levels) -> Levels {
    let twice = |values: &[f32]| values.iter().flat_map(|&v| [v, v]).skip(1).collect::<Vec<_>>();
    let mut sigmas = twice(&levels.sigmas);
    sigmas.pop();
    Levels { timesteps: twice(&levels.timesteps), sigmas }
}

impl InSigmaForm for Heun {
    fn form(&self) -> &SigmaForm {
        &self.form
    }

    fn advance(
        &mut self,
        call: usize,
        model_output: &[f32],
        sample: &mut [f32],
        _noise: &mut dyn NoiseSource,
    ) -> Result<()> {
        check(call, self.form.calls(), model_output, sample)?;
        let sigma = self.form.sigma(call);
        let (prediction, clip) = (self.form.prediction, self.clip);
        let slope = |x: f32, output: f32| (x - clipped(clip, denoised(prediction, sigma, x, output))) / sigma;
        if let Some(first) = self.first.take() {
            for (i, (x, &output)) in sample.iter_mut().zip(model_output).enumerate() {
                let mean = (first.slope[i] + slope(*x, output)) / 2.0;
                *x = first.start[i] + mean * first.dt;
            }
            return Ok(());
        }
        let dt = self.form.sigma(call + 1) - sigma;
        let start = sample.to_vec();
        let slopes: Vec<f32> = sample.iter().zip(model_output).map(|(&x, &output)| slope(x, output)).collect();
        for (x, &slope) in sample.iter_mut().zip(&slopes) {
            *x += slope * dt;
        }
        self.first = Some(FirstHalf { start, slope: slopes, dt });
        Ok(())
    }
}
