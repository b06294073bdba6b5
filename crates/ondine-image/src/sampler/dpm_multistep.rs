//! DPM-Solver++ multistep (Lu et al. 2022), orders 1 to 3, for the ODE and for the SDE: "DPM++ 2M",
//! "DPM++ 2M SDE", "DPM++ 3M".

use ondine_graph::Result;

use super::{dpm_factors::Factors, form::Update, multistep::Multistep};
use crate::{
    noise::NoiseSource,
    schedule::{Algorithm, FinalSigma, SchedulerConfig},
};

/// An exponential integrator in half-log-SNR `lambda`, on predictions of `x0` at the last steps: see [`Factors`].
pub(super) struct DpmMultistep {
    run: Multistep,
    end_first: bool,
}

impl DpmMultistep {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        Ok(Self::of(config, Multistep::new(config, steps, false)?))
    }

    /// On the noise levels of EDM.
    pub(super) fn edm(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        Ok(Self::of(config, Multistep::edm(config, steps)?))
    }

    fn of(config: &SchedulerConfig, run: Multistep) -> Self {
        let end_first = config.solver.euler_at_final || config.final_sigma == FinalSigma::Zero;
        Self { run, end_first }
    }

    fn advance(&self, call: usize, sample: &mut [f32], draw: Option<&[f32]>) {
        let order = self.run.order(call, self.end_first);
        let (from, to) = (self.run.level(call), self.run.level(call + 1));
        let h = to.lambda() - from.lambda();
        let factors = Factors::new(&self.run.options, from, to, order);
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
