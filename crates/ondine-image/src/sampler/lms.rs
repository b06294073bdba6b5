//! Linear multistep (Adams-Bashforth on unequal steps), order up to 4.

use std::collections::VecDeque;

use ondine_graph::Result;

use super::{form::Update, sigma::SigmaForm};
use crate::{noise::NoiseSource, schedule::SchedulerConfig};

const ORDER: usize = 4;

/// `x' = x + sum_k c_k d_k` over the last slopes `d_k`, `c_k` the integral from `sigma` to `sigma'` of
/// the Lagrange polynomial that is 1 at the `k`-th of their sigmas.
pub(super) struct Lms {
    form: SigmaForm,
    /// Slopes, newest first.
    slopes: VecDeque<Vec<f32>>,
}

impl Lms {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        Ok(Self { form: SigmaForm::new(config, steps, false)?, slopes: VecDeque::new() })
    }

    fn coefficients(&self, call: usize) -> Vec<f64> {
        let nodes: Vec<f64> = (0..self.slopes.len()).map(|k| f64::from(self.form.sigma(call - k))).collect();
        let (from, to) = (self.form.sigma(call).into(), self.form.sigma(call + 1).into());
        (0..nodes.len()).map(|k| integrate_basis(&nodes, k, from, to)).collect()
    }
}

/// Integrates the Lagrange basis polynomial of node `k` exactly: two Gauss points for cubics.
fn integrate_basis(nodes: &[f64], k: usize, from: f64, to: f64) -> f64 {
    let basis = |x: f64| -> f64 {
        let others = nodes.iter().enumerate().filter(|&(j, _)| j != k);
        others.map(|(_, node)| (x - node) / (nodes[k] - node)).product()
    };
    let (centre, half) = (0.5 * (from + to), 0.5 * (to - from));
    let offset = half / 3.0f64.sqrt();
    half * (basis(centre - offset) + basis(centre + offset))
}

impl Update for Lms {
    type Form = SigmaForm;

    fn form(&self) -> &SigmaForm {
        &self.form
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], _noise: &mut dyn NoiseSource) {
        let sigma = self.form.sigma(call);
        let slope = |(&x, &output)| (x - self.form.x0(sigma, x, output)) / sigma;
        self.slopes.push_front(sample.iter().zip(model_output).map(slope).collect());
        self.slopes.truncate(ORDER.min(call + 1));
        let coefficients = self.coefficients(call);
        for (i, x) in sample.iter_mut().enumerate() {
            let pairs = coefficients.iter().zip(&self.slopes);
            *x += pairs.map(|(&c, slope)| c as f32 * slope[i]).sum::<f32>();
        }
    }
}
