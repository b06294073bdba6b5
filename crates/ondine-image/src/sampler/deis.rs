//! DEIS (Zhang & Chen 2022): noise predictions extrapolated as polynomials in log rho, with the
//! integral taken exactly; `rho` is sigma.

use ondine_graph::Result;

use super::{
    form::Update,
    multistep::Multistep,
    rounded::{exp, ln},
};
use crate::{noise::NoiseSource, schedule::SchedulerConfig};

/// `x' = a' (x / a + sum_k c_k e_k)`, `c_k` the integral over rho of the `k`-th Lagrange polynomial in
/// `ln rho`; the first order is DPM-Solver's.
pub(super) struct Deis {
    run: Multistep,
}

impl Deis {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        Ok(Self { run: Multistep::new(config, steps, true)? })
    }

    /// Rho at a call.
    fn rho(&self, call: usize) -> f32 {
        let level = self.run.level(call);
        level.noise / level.signal
    }

    fn coefficients(&self, call: usize, order: usize) -> Vec<f32> {
        let nodes: Vec<f32> = (0..order).map(|k| self.rho(call - k)).collect();
        let (from, to) = (nodes[0], self.rho(call + 1));
        let integral = |k: usize| -> f32 {
            let others: Vec<f32> = (1..order).map(|j| nodes[(k + j) % order]).collect();
            match *others.as_slice() {
                [c] => linear(to, nodes[k], c) - linear(from, nodes[k], c),
                [c, d] => quadratic(to, nodes[k], c, d) - quadratic(from, nodes[k], c, d),
                _ => 0.0,
            }
        };
        (0..order).map(integral).collect()
    }

    fn first_order(&self, call: usize, sample: &mut [f32]) {
        let (from, to) = (self.run.level(call), self.run.level(call + 1));
        let h = to.lambda() - from.lambda();
        let of_x = to.signal / from.signal;
        let of_e = to.noise * (exp(h) - 1.0);
        for (x, &e) in sample.iter_mut().zip(&self.run.history[0]) {
            *x = of_x * *x - of_e * e;
        }
    }
}

/// Antiderivative at `t` of the polynomial in log rho that is 1 at `b` and 0 at `c`.
fn linear(t: f32, b: f32, c: f32) -> f32 {
    t * (-ln(c) + ln(t) - 1.0) / (ln(b) - ln(c))
}

/// Antiderivative at `t` of the polynomial in log rho that is 1 at `b` and 0 at `c` and `d`.
fn quadratic(t: f32, b: f32, c: f32, d: f32) -> f32 {
    let (lt, lb, lc, ld) = (ln(t), ln(b), ln(c), ln(d));
    let numerator = t * (lc * (ld - lt + 1.0) - ld * lt + ld + lt * lt - 2.0 * lt + 2.0);
    numerator / ((lb - lc) * (lb - ld))
}

impl Update for Deis {
    type Form = Multistep;

    fn form(&self) -> &Multistep {
        &self.run
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], _noise: &mut dyn NoiseSource) {
        let level = self.run.level(call);
        let x0 = self.run.x0(call, sample, model_output);
        let epsilon = |(&x, x0): (&f32, f32)| (x - level.signal * x0) / level.noise;
        self.run.remember(sample.iter().zip(x0).map(epsilon).collect());
        let order = self.run.order(call, false);
        if order == 1 {
            self.first_order(call, sample);
            return;
        }
        let coefficients = self.coefficients(call, order);
        let (from, to) = (level, self.run.level(call + 1));
        for (i, x) in sample.iter_mut().enumerate() {
            let terms = coefficients.iter().zip(&self.run.history);
            let sum = terms.fold(*x / from.signal, |sum, (&c, e)| sum + c * e[i]);
            *x = to.signal * sum;
        }
    }
}
