//! DPM-Solver++ multistep (Lu et al. 2022), orders 1 to 3, for the ODE and for the SDE: "DPM++ 2M",
//! "DPM++ 2M SDE", "DPM++ 3M".

use ondine_graph::Result;

use super::{form::Update, level::NoiseLevel, multistep::Multistep, rounded::exp};
use crate::{
    noise::NoiseSource,
    schedule::{Algorithm, FinalSigma, SchedulerConfig, SolverType},
};

/// An exponential integrator in half-log-SNR `lambda`, on predictions of `x0`.
///
/// With `h` the step in `lambda`, `g` the integral's weight (`1 - e^-h`, SDE `1 - e^-2h`), and
/// `D1`, `D2` the divided differences of the predictions `m`:
/// `x' = (s' / s) x + a' g m + ...` in the ODE, with `e^-h` on the first term and fresh noise
/// `s' sqrt(1 - e^-2h) n` in the SDE.
pub(super) struct DpmMultistep {
    run: Multistep,
    end_first: bool,
}

/// The factors of one update.
#[derive(Debug, Clone, Copy, Default)]
struct Factors {
    of_x: f32,
    of_m0: f32,
    of_d1: f32,
    of_d2: f32,
    of_noise: f32,
}

impl DpmMultistep {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let run = Multistep::new(config, steps, false)?;
        let end_first = config.solver.euler_at_final || config.final_sigma == FinalSigma::Zero;
        Ok(Self { run, end_first })
    }

    fn factors(&self, from: NoiseLevel, to: NoiseLevel, h: f32, order: usize) -> Factors {
        let alpha = to.signal;
        let ratio = to.noise / from.noise;
        let heun = self.run.options.solver_type == SolverType::Heun;
        if self.run.options.algorithm == Algorithm::SdeDpmSolverPlusPlus {
            let weight = 1.0 - exp(-2.0 * h);
            let heun_weight = alpha * (weight / (-2.0 * h) + 1.0);
            return Factors {
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
        Factors {
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

    fn advance(&self, call: usize, sample: &mut [f32], draw: Option<&[f32]>) {
        let order = self.run.order(call, self.end_first);
        let (from, to) = (self.run.level(call), self.run.level(call + 1));
        let h = to.lambda() - from.lambda();
        let factors = self.factors(from, to, h, order);
        // Earlier steps in lambda, relative to this one.
        let lambda_back = |k: usize| self.run.level(call - k).lambda();
        let r0 = if order > 1 { (from.lambda() - lambda_back(1)) / h } else { 1.0 };
        let r1 = if order > 2 { (lambda_back(1) - lambda_back(2)) / h } else { 1.0 };
        let m = |k: usize, i: usize| self.run.history[k][i];
        for (i, x) in sample.iter_mut().enumerate() {
            let mut next = factors.of_x * *x + factors.of_m0 * m(0, i);
            if order == 2 {
                next += factors.of_d1 * ((1.0 / r0) * (m(0, i) - m(1, i)));
            } else if order == 3 {
                let near = (1.0 / r0) * (m(0, i) - m(1, i));
                let far = (1.0 / r1) * (m(1, i) - m(2, i));
                let d1 = near + r0 / (r0 + r1) * (near - far);
                let d2 = 1.0 / (r0 + r1) * (near - far);
                next = next + factors.of_d1 * d1 + factors.of_d2 * d2;
            }
            if let Some(draw) = draw {
                next += factors.of_noise * draw[i];
            }
            *x = next;
        }
    }
}

impl Update for DpmMultistep {
    type Form = Multistep;

    fn form(&self) -> &Multistep {
        &self.run
    }

    fn update(&mut self, call: usize, model_output: &[f32], sample: &mut [f32], noise: &mut dyn NoiseSource) {
        self.run.remember(self.run.x0(call, sample, model_output));
        let stochastic = self.run.options.algorithm == Algorithm::SdeDpmSolverPlusPlus;
        let draw = stochastic.then(|| {
            let mut draw = vec![0.0; sample.len()];
            noise.normal(&mut draw);
            draw
        });
        self.advance(call, sample, draw.as_deref());
    }
}
