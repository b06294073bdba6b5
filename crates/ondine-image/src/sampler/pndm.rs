//! PNDM (Liu et al. 2022): linear multistep on noise predictions (PLMS), started by one repeated
//! call, or by three Runge-Kutta steps.

use std::collections::VecDeque;

use ondine_graph::{Result, fail};

use super::{
    form::Update,
    level::NoiseLevel,
    variance::{VarianceForm, whole_timesteps},
};
use crate::{noise::NoiseSource, schedule::SchedulerConfig};

/// Calls of the Runge-Kutta start: three steps of four calls.
const PRK_CALLS: usize = 12;

/// Adams-Bashforth of order up to 4 on the noise, then the DDIM-like transfer between timesteps.
///
/// Calls after the start number from 0 within PLMS; the first two share a step: call 0 goes all the
/// way, call 1 goes again from the same latents with the mean of both predictions.
pub(super) struct Pndm {
    form: VarianceForm,
    stride: i64,
    prk_calls: usize,
    /// Calls made so far in this run.
    made: usize,
    /// Noise predictions, newest last, at most four.
    history: VecDeque<Vec<f32>>,
    /// Weighted sum of the predictions of one Runge-Kutta step.
    sum: Vec<f32>,
    /// Latents at the start of the step under way.
    start: Vec<f32>,
}

impl Pndm {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let stride = (config.train_timesteps / steps) as i64;
        let spaced = whole_timesteps(config, steps);
        let (prk_calls, timesteps) = if config.skip_prk_steps {
            (0, repeated_second(&spaced))
        } else if steps < 4 {
            fail!(
                Argument,
                "{steps} steps are too few for the Runge-Kutta start; ask for 4 or more, or set skip_prk_steps"
            );
        } else {
            (PRK_CALLS, with_runge_kutta(&spaced, stride / 2))
        };
        Ok(Self {
            form: VarianceForm::new(config, &timesteps)?,
            stride,
            prk_calls,
            made: 0,
            history: VecDeque::with_capacity(5),
            sum: Vec::new(),
            start: Vec::new(),
        })
    }

    /// One call of the Runge-Kutta start: weights 1/6, 1/3, 1/3, 1/6, all from the same latents.
    fn runge_kutta(&mut self, output: &[f32], sample: &mut [f32], t: i64) {
        let stage = self.made % 4;
        let halved = if self.made.is_multiple_of(2) { self.stride / 2 } else { 0 };
        let from = self.form.timestep(self.made / 4 * 4);
        let weight = if stage == 0 || stage == 3 { 1.0 / 6.0 } else { 1.0 / 3.0 };
        if stage == 0 {
            self.sum = vec![0.0; sample.len()];
            self.remember(output.to_vec());
            self.start = sample.to_vec();
        }
        for (sum, &e) in self.sum.iter_mut().zip(output) {
            *sum += weight * e;
        }
        let epsilon = if stage == 3 { self.sum.as_slice() } else { output };
        Transfer::new(&self.form, from, t - halved).apply(&self.start, epsilon, sample);
    }

    /// One call of the linear multistep method.
    fn multistep(&mut self, output: &[f32], sample: &mut [f32], t: i64) {
        let repeated = self.prk_calls == 0 && self.made == 1 && self.history.len() == 1;
        if repeated {
            let first = &self.history[0];
            let mean: Vec<f32> = output.iter().zip(first).map(|(e, e0)| (e + e0) / 2.0).collect();
            Transfer::new(&self.form, t + self.stride, t).apply(&self.start, &mean, sample);
            return;
        }
        self.remember(output.to_vec());
        let epsilon: Vec<f32> = (0..sample.len()).map(|i| self.extrapolate(i)).collect();
        self.start = sample.to_vec();
        Transfer::new(&self.form, t, t - self.stride).apply(&self.start, &epsilon, sample);
    }

    /// Adams-Bashforth on element `i` of as many predictions as there are.
    fn extrapolate(&self, i: usize) -> f32 {
        let back = |k: usize| self.history[self.history.len() - k][i];
        match self.history.len() {
            1 => back(1),
            2 => (3.0 * back(1) - back(2)) / 2.0,
            3 => (23.0 * back(1) - 16.0 * back(2) + 5.0 * back(3)) / 12.0,
            _ => {
                let sum = 55.0 * back(1) - 59.0 * back(2) + 37.0 * back(3) - 9.0 * back(4);
                (1.0 / 24.0) * sum
            }
        }
    }

    fn remember(&mut self, epsilon: Vec<f32>) {
        if self.history.len() == 4 {
            self.history.pop_front();
        }
        self.history.push_back(epsilon);
    }
}

/// Rising order, the last but one repeated, reversed: 951, 901, 901, 851, ..., 1.
fn repeated_second(spaced: &[i64]) -> Vec<i64> {
    let mut timesteps = spaced.to_vec();
    if let Some(&second) = spaced.get(1) {
        timesteps.insert(1, second);
    }
    timesteps
}

/// The twelve Runge-Kutta timesteps of the first three steps, then the rest.
fn with_runge_kutta(spaced: &[i64], half: i64) -> Vec<i64> {
    // Points and midpoints in falling order: t0, t1 + half, t1, t2 + half, t2, t3 + half, t3.
    let mut timesteps = Vec::with_capacity(PRK_CALLS + spaced.len());
    for pair in spaced.windows(2).take(3) {
        timesteps.extend([pair[0], pair[1] + half, pair[1] + half, pair[1]]);
    }
    timesteps.extend(&spaced[3..]);
    timesteps
}

/// `x' = sqrt(a' / a) x - (a' - a) e / (a sqrt(1 - a') + sqrt(a (1 - a) a'))`.
struct Transfer<'f> {
    form: &'f VarianceForm,
    level: NoiseLevel,
    of_x: f32,
    numerator: f32,
    denominator: f32,
}

impl<'f> Transfer<'f> {
    fn new(form: &'f VarianceForm, from: i64, to: i64) -> Self {
        let (a, next) = (form.alpha(from), form.alpha(to));
        Self {
            form,
            level: form.level(from),
            of_x: (next / a).sqrt(),
            numerator: next - a,
            denominator: a * (1.0 - next).sqrt() + (a * (1.0 - a) * next).sqrt(),
        }
    }

    fn apply(&self, from: &[f32], outputs: &[f32], sample: &mut [f32]) {
        for ((x, &start), &output) in sample.iter_mut().zip(from).zip(outputs) {
            let epsilon = self.form.epsilon(self.level, start, output);
            *x = self.of_x * start - self.numerator * epsilon / self.denominator;
        }
    }
}

impl Update for Pndm {
    type Form = VarianceForm;

    fn form(&self) -> &VarianceForm {
        &self.form
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], _noise: &mut dyn NoiseSource) {
        let t = self.form.timestep(call);
        if self.made < self.prk_calls {
            self.runge_kutta(model_output, sample, t);
        } else {
            self.multistep(model_output, sample, t);
        }
        self.made += 1;
    }
}
