//! Heun (Karras et al. 2022): an Euler step, then again with the mean of both slopes.

use ondine_graph::Result;

use super::{form::Update, level::clipped, sigma::SigmaForm};
use crate::{
    noise::NoiseSource,
    schedule::{Levels, SchedulerConfig},
};

/// Two calls a step but for the last: at `sigma`, then at the `sigma'` the first one reached.
pub(super) struct Heun {
    form: SigmaForm,
    clip: Option<f32>,
    halves: Halves,
}

/// What the first call of a step leaves for the second.
#[derive(Default)]
pub(super) struct Halves(Option<FirstHalf>);

struct FirstHalf {
    start: Vec<f32>,
    slope: Vec<f32>,
    dt: f32,
}

impl Halves {
    /// One call: the first goes the whole way, `dt`; the second goes it again from the start, with the mean of both
    /// slopes. `slope` is that of a latent and a model output.
    pub(super) fn go(&mut self, dt: f32, model_output: &[f32], sample: &mut [f32], slope: impl Fn(f32, f32) -> f32) {
        if let Some(first) = self.0.take() {
            for (i, (x, &output)) in sample.iter_mut().zip(model_output).enumerate() {
                let mean = (first.slope[i] + slope(*x, output)) / 2.0;
                *x = first.start[i] + mean * first.dt;
            }
            return;
        }
        let start = sample.to_vec();
        let slopes: Vec<f32> = sample.iter().zip(model_output).map(|(&x, &output)| slope(x, output)).collect();
        for (x, &slope) in sample.iter_mut().zip(&slopes) {
            *x += slope * dt;
        }
        self.0 = Some(FirstHalf { start, slope: slopes, dt });
    }
}

impl Heun {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let mut form = SigmaForm::new(config, steps, false)?;
        form.levels = doubled(&form.levels);
        Ok(Self { form, clip: config.clip, halves: Halves::default() })
    }
}

/// Repeats every level but the first and the last: t0, t1, t1, t2, t2, ...
pub(super) fn doubled(levels: &Levels) -> Levels {
    let twice = |values: &[f32]| values.iter().flat_map(|&v| [v, v]).skip(1).collect::<Vec<_>>();
    let mut sigmas = twice(&levels.sigmas);
    sigmas.pop();
    Levels { timesteps: twice(&levels.timesteps), sigmas }
}

impl Update for Heun {
    type Form = SigmaForm;

    fn form(&self) -> &SigmaForm {
        &self.form
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], _noise: &mut dyn NoiseSource) {
        let (form, clip) = (&self.form, self.clip);
        let sigma = form.sigma(call);
        let slope = |x: f32, output: f32| (x - clipped(clip, form.x0(sigma, x, output))) / sigma;
        self.halves.go(form.sigma(call + 1) - sigma, model_output, sample, slope);
    }
}
