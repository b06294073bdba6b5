//! UniPC (Zhao et al. 2023): a multistep predictor and a corrector that costs no extra call, on
//! predictions of `x0`.

use ondine_graph::{Result, fail};

use super::{form::Update, multistep::Multistep, rounded::expm1};
use crate::{
    noise::NoiseSource,
    schedule::{FinalSigma, SchedulerConfig, SolverType},
};

/// `x' = (s' / s) x - a' phi m0 - a' B sum_k rho_k D_k`, `phi = e^-h - 1`, `D_k = (m_k - m0) / r_k`.
///
/// The corrector takes the same step again once the prediction at its end is known.
pub(super) struct UniPc {
    run: Multistep,
    /// Latents the last step started from, and its order.
    last: Option<(Vec<f32>, usize)>,
}

/// The scalars of the step from one call to the next, at one order.
struct Terms {
    of_x: f32,
    alpha: f32,
    phi: f32,
    /// `B(h)`.
    scale: f32,
    /// Positions of the older predictions in lambda, in units of this step, then 1.
    nodes: Vec<f32>,
    /// Right-hand side of the order conditions.
    targets: Vec<f32>,
}

impl Terms {
    fn new(run: &Multistep, call: usize, order: usize) -> Self {
        let (from, to) = (run.level(call), run.level(call + 1));
        let h = to.lambda() - from.lambda();
        let back = |k: usize| (run.level(call - k).lambda() - from.lambda()) / h;
        let nodes = (1..order).map(back).chain([1.0]).collect();
        let phi = expm1(-h);
        let scale = if run.options.solver_type == SolverType::Bh1 { -h } else { phi };
        let mut factorial = 1.0;
        let mut phi_k = phi / -h - 1.0;
        let targets = (1..=order)
            .map(|i| {
                let target = phi_k * factorial / scale;
                factorial *= (i + 1) as f32;
                phi_k = phi_k / -h - 1.0 / factorial;
                target
            })
            .collect();
        Self { of_x: to.noise / from.noise, alpha: to.signal, phi, scale, nodes, targets }
    }

    /// Weights that satisfy the first `count` order conditions: `sum_k rho_k r_k^(i-1) = b_i`.
    fn weights(&self, count: usize) -> Vec<f32> {
        let row = |i: usize| self.nodes[..count].iter().map(|r| r.powi(i as i32)).collect();
        solve((0..count).map(row).collect(), self.targets[..count].to_vec())
    }
}

/// Solves a small linear system by elimination with row exchange.
fn solve(mut rows: Vec<Vec<f32>>, mut right: Vec<f32>) -> Vec<f32> {
    let n = right.len();
    for column in 0..n {
        let size = |row: &usize| rows[*row][column].abs();
        let pivot = (column..n).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap_or(column);
        rows.swap(column, pivot);
        right.swap(column, pivot);
        let (above, below) = rows.split_at_mut(column + 1);
        let top = &above[column];
        for (i, row) in below.iter_mut().enumerate() {
            let factor = row[column] / top[column];
            for (value, top) in row.iter_mut().zip(top) {
                *value -= factor * top;
            }
            right[column + 1 + i] -= factor * right[column];
        }
    }
    for row in (0..n).rev() {
        let known: f32 = (row + 1..n).map(|k| rows[row][k] * right[k]).sum();
        right[row] = (right[row] - known) / rows[row][row];
    }
    right
}

impl UniPc {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let ends_at_zero = config.final_sigma == FinalSigma::Zero;
        if ends_at_zero && !config.solver.lower_order_final && config.solver.order > 1 {
            fail!(
                Format,
                "a last step to zero noise must be first order; set lower_order_final to true or final_sigmas_type \
                 to \"sigma_min\""
            );
        }
        Ok(Self { run: Multistep::new(config, steps, true)?, last: None })
    }

    /// `sum_k rho_k D_k` at element `i`.
    fn differences(&self, terms: &Terms, weights: &[f32], i: usize) -> f32 {
        let history = &self.run.history;
        let pairs = weights.iter().zip(&terms.nodes).zip(history.iter().skip(1));
        pairs.map(|((rho, r), m)| rho * ((m[i] - history[0][i]) / r)).sum()
    }

    /// Takes the step that led to `call` again, now that the prediction at its end is known.
    fn correct(&self, call: usize, start: &[f32], order: usize, x0: &[f32], sample: &mut [f32]) {
        let terms = Terms::new(&self.run, call - 1, order);
        let weights = if order == 1 { vec![0.5] } else { terms.weights(order) };
        let (older, newest) = weights.split_at(order - 1);
        let m0 = &self.run.history[0];
        for (i, x) in sample.iter_mut().enumerate() {
            let base = terms.of_x * start[i] - terms.alpha * terms.phi * m0[i];
            let sum = self.differences(&terms, older, i) + newest[0] * (x0[i] - m0[i]);
            *x = base - terms.alpha * terms.scale * sum;
        }
    }

    fn predict(&self, call: usize, order: usize, sample: &mut [f32]) {
        let terms = Terms::new(&self.run, call, order);
        let weights = match order {
            1 => Vec::new(),
            2 => vec![0.5],
            _ => terms.weights(order - 1),
        };
        let m0 = &self.run.history[0];
        for (i, x) in sample.iter_mut().enumerate() {
            *x = terms.of_x * *x - terms.alpha * terms.phi * m0[i];
            // B(h) is infinite at zero noise, where the order is 1.
            if order > 1 {
                *x -= terms.alpha * terms.scale * self.differences(&terms, &weights, i);
            }
        }
    }

    fn order(&self, call: usize) -> usize {
        let options = &self.run.options;
        let left = self.run.calls() - call;
        let most = if options.lower_order_final { options.order.min(left) } else { options.order };
        most.min(self.run.history.len())
    }
}

impl Update for UniPc {
    type Form = Multistep;

    fn form(&self) -> &Multistep {
        &self.run
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], _noise: &mut dyn NoiseSource) {
        let x0 = self.run.x0(call, sample, model_output);
        if let Some((start, order)) = self.last.take()
            && call > 0
            && !self.run.options.disable_corrector.contains(&(call - 1))
        {
            self.correct(call, &start, order, &x0, sample);
        }
        self.run.remember(x0);
        let order = self.order(call);
        self.last = Some((sample.to_vec(), order));
        self.predict(call, order, sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_systems_are_solved() {
        let rows = vec![vec![0.0, 2.0, 1.0], vec![1.0, 1.0, 1.0], vec![2.0, 1.0, 0.0]];
        let x = solve(rows, vec![7.0, 6.0, 4.0]);
        for (x, expected) in x.iter().zip([1.0, 2.0, 3.0]) {
            assert!((x - expected).abs() < 1e-5, "{x}");
        }
    }
}
