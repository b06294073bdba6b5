//! Steps without the network: its output forecast from what it said before ("Spectrum", arXiv 2603.01623).
//!
//! What the network predicts changes smoothly from step to step. Polynomials of Chebyshev, fitted with a penalty to the
//! last outputs, and the straight line through the last two are mixed; forecasts become more frequent as the run goes
//! on, and the first and the last steps are always computed.

use std::collections::VecDeque;

/// Outputs that are remembered.
const MEMORY: usize = 6;
/// Polynomials of degree 0 to 3.
const BASIS: usize = 4;
/// The penalty on their coefficients.
const PENALTY: f64 = 1.0;
/// The share of the polynomials in a forecast.
const SHARE: f64 = 0.4;
/// Steps at the beginning that are computed.
const WARM_UP: usize = 4;
/// The share of the steps at the end that are computed.
const END: f64 = 0.1;
/// Every second step is computed at first, and this much less often after each.
const WINDOW: f64 = 2.0;
const GROWTH: f64 = 0.5;

/// The run of a network whose outputs are forecast in some steps.
#[derive(Clone, Debug)]
pub struct Forecast {
    steps: usize,
    /// The last outputs with their steps, the oldest first.
    outputs: VecDeque<(usize, Vec<f32>)>,
    /// Outputs since the last change of what guides.
    computed: usize,
    /// Forecasts since the last output.
    forecasts: usize,
    window: f64,
}

impl Forecast {
    /// Of a run of so many steps.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        Self { steps, outputs: VecDeque::new(), computed: 0, forecasts: 0, window: WINDOW }
    }

    /// Forgets all: what follows does not go on from it.
    pub fn reset(&mut self) {
        *self = Self::new(self.steps);
    }

    /// True if the output of a step is to be forecast.
    #[must_use]
    pub fn forecasts(&self, step: usize) -> bool {
        let last = self.steps - ((self.steps as f64 * END).ceil() as usize).min(self.steps);
        let every = (self.window.floor() as usize).max(1);
        self.computed >= WARM_UP && step < last && !(self.forecasts + 1).is_multiple_of(every)
    }

    /// Takes the output that the network gave in a step.
    pub fn learn(&mut self, step: usize, output: &[f32]) {
        if self.computed >= WARM_UP {
            self.window += GROWTH;
        }
        self.computed += 1;
        self.forecasts = 0;
        if self.outputs.len() == MEMORY {
            self.outputs.pop_front();
        }
        self.outputs.push_back((step, output.to_vec()));
    }

    /// The output of a step as it may be; nothing if nothing was learned.
    pub fn forecast(&mut self, step: usize) -> Vec<f32> {
        self.forecasts += 1;
        let weights = self.weights(step);
        let mut sum = vec![0.0; self.outputs.back().map_or(0, |(_, output)| output.len())];
        for ((_, output), weight) in self.outputs.iter().zip(weights) {
            sum.iter_mut().zip(output).for_each(|(sum, x)| *sum += weight as f32 * x);
        }
        sum
    }

    /// The weight of each remembered output in the forecast; they sum to 1.
    fn weights(&self, step: usize) -> Vec<f64> {
        let place = |step: usize| 2.0 * step as f64 / (self.steps.max(2) - 1) as f64 - 1.0;
        let count = self.outputs.len();
        let mut weights = vec![0.0; count];
        if count == 0 {
            return weights;
        }
        weights[count - 1] = 1.0;
        if count < 2 {
            return weights;
        }
        let steps: Vec<usize> = self.outputs.iter().map(|(step, _)| *step).collect();
        // Differences from the last output are fitted, so that the penalty pulls towards that and not towards nothing.
        let rows: Vec<[f64; BASIS]> = steps.iter().map(|&step| chebyshev(place(step))).collect();
        let mut matrix = [[0.0; BASIS]; BASIS];
        for (i, line) in matrix.iter_mut().enumerate() {
            for (j, entry) in line.iter_mut().enumerate() {
                *entry = rows.iter().map(|row| row[i] * row[j]).sum::<f64>() + if i == j { PENALTY } else { 0.0 };
            }
        }
        let solved = solve(matrix, chebyshev(place(step)));
        for (k, row) in rows.iter().enumerate() {
            let weight = SHARE * row.iter().zip(solved).map(|(a, b)| a * b).sum::<f64>();
            weights[k] += weight;
            weights[count - 1] -= weight;
        }
        let (before, last) = (steps[count - 2] as f64, steps[count - 1] as f64);
        let slope = (1.0 - SHARE) * (step as f64 - last) / (last - before).max(1.0);
        weights[count - 1] += slope;
        weights[count - 2] -= slope;
        weights
    }
}

/// The polynomials of Chebyshev at a place in -1..1.
fn chebyshev(x: f64) -> [f64; BASIS] {
    let mut values = [1.0; BASIS];
    values[1] = x;
    for i in 2..BASIS {
        values[i] = 2.0 * x * values[i - 1] - values[i - 2];
    }
    values
}

/// Solves a system whose matrix is symmetric and positive, by elimination.
fn solve(mut matrix: [[f64; BASIS]; BASIS], mut right: [f64; BASIS]) -> [f64; BASIS] {
    for i in 0..BASIS {
        let pivot = matrix[i];
        for j in i + 1..BASIS {
            let factor = matrix[j][i] / pivot[i];
            for (x, above) in matrix[j].iter_mut().zip(pivot).skip(i) {
                *x -= factor * above;
            }
            right[j] -= factor * right[i];
        }
    }
    for i in (0..BASIS).rev() {
        let rest: f64 = (i + 1..BASIS).map(|k| matrix[i][k] * right[k]).sum();
        right[i] = (right[i] - rest) / matrix[i][i];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(steps: usize, output: impl Fn(f64) -> f64) -> (usize, f64) {
        let mut forecast = Forecast::new(steps);
        let (mut computed, mut worst) = (0, 0.0_f64);
        for step in 0..steps {
            let true_value = output(step as f64 / steps as f64);
            if forecast.forecasts(step) {
                worst = worst.max((f64::from(forecast.forecast(step)[0]) - true_value).abs());
            } else {
                forecast.learn(step, &[true_value as f32]);
                computed += 1;
            }
        }
        (computed, worst)
    }

    #[test]
    fn about_half_of_twenty_steps_are_computed() {
        assert_eq!(run(20, |_| 1.0).0, 11);
        assert!(run(30, |_| 1.0).0 <= 15);
    }

    #[test]
    fn what_stays_is_forecast_exactly_and_what_bends_closely() {
        assert!(run(20, |_| 3.0).1 < 1e-6);
        let (_, straight) = run(20, |x| 2.0 * x - 1.0);
        let (_, bent) = run(20, |x| (2.0 * x).sin());
        assert!(straight < 0.25 && bent < 0.25, "{straight} {bent}");
    }

    #[test]
    fn a_run_may_begin_anew() {
        let mut forecast = Forecast::new(20);
        (0..6).for_each(|step| forecast.learn(step, &[step as f32]));
        assert!(forecast.forecasts(6));
        forecast.reset();
        assert!(!forecast.forecasts(7) && forecast.forecast(7).is_empty());
    }
}
