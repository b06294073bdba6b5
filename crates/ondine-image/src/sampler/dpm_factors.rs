//! The exponential integrators of DPM-Solver++ (Lu et al. 2022): what one update multiplies by.

use super::{level::NoiseLevel, rounded::exp};
use crate::schedule::{Algorithm, SolverOptions, SolverType};

/// The factors of one update in half-log-SNR `lambda`, on predictions of `x0`.
///
/// With `h` the step in `lambda`, `g` the integral's weight (`1 - e^-h`, SDE `1 - e^-2h`), and
/// `D1`, `D2` the divided differences of the predictions `m`:
/// `x' = (s' / s) x + a' g m + ...` in the ODE, with `e^-h` on the first term and fresh noise
/// `s' sqrt(1 - e^-2h) n` in the SDE.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Factors {
    pub(super) of_x: f32,
    pub(super) of_m0: f32,
    pub(super) of_d1: f32,
    pub(super) of_d2: f32,
    pub(super) of_noise: f32,
}

impl Factors {
    /// Those of the step between two levels.
    pub(super) fn new(options: &SolverOptions, from: NoiseLevel, to: NoiseLevel, order: usize) -> Self {
        let h = to.lambda() - from.lambda();
        let alpha = to.signal;
        let ratio = to.noise / from.noise;
        let heun = options.solver_type == SolverType::Heun;
        if options.algorithm == Algorithm::SdeDpmSolverPlusPlus {
            let weight = 1.0 - exp(-2.0 * h);
            let heun_weight = alpha * (weight / (-2.0 * h) + 1.0);
            return Self {
                of_x: ratio * exp(-h),
                of_m0: alpha * weight,
                of_d1: match order {
                    2 if !heun => 0.5 * (alpha * weight),
                    _ => heun_weight,
                },
                of_d2: alpha * ((weight - 2.0 * h) / ((2.0 * h) * (2.0 * h)) - 0.5),
                of_noise: to.noise * weight.sqrt(),
            };
        }
        let weight = exp(-h) - 1.0;
        Self {
            of_x: ratio,
            of_m0: -(alpha * weight),
            of_d1: match order {
                2 if !heun => -(0.5 * (alpha * weight)),
                _ => alpha * (weight / h + 1.0),
            },
            of_d2: -(alpha * ((weight + h) / (h * h) - 0.5)),
            of_noise: 0.0,
        }
    }
}
