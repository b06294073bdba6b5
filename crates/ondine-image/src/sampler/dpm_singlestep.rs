//! DPM-Solver++ singlestep (Lu et al. 2022), orders 1 to 3, for the ODE and for the SDE: "DPM++ 2S", "DPM++ SDE".

use ondine_graph::Result;

use super::{dpm_factors::Factors, form::Update, multistep::Multistep};
use crate::{
    noise::NoiseSource,
    schedule::{Algorithm, FinalSigma, SchedulerConfig, SolverType},
};

/// An exponential integrator as multistep has it, see [`Factors`], but in groups: the calls of a group raise the order
/// from 1, and each goes from where the group began.
pub(super) struct DpmSinglestep {
    run: Multistep,
    /// The order of each call.
    orders: Vec<usize>,
    /// The latents at the begin of the group.
    start: Vec<f32>,
}

impl DpmSinglestep {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let run = Multistep::new(config, steps, false)?;
        let orders = orders(config, steps);
        Ok(Self { run, orders, start: Vec::new() })
    }

    fn advance(&self, order: usize, call: usize, sample: &mut [f32], draw: Option<&[f32]>) {
        let first = call + 1 - order;
        let (from, to) = (self.run.level(first), self.run.level(call + 1));
        let factors = Factors::new(&self.run.options, from, to, order);
        let h = to.lambda() - from.lambda();
        let share = |call: usize| (self.run.level(call).lambda() - from.lambda()) / h;
        let heun = self.run.options.solver_type == SolverType::Heun;
        let (r0, r1) = (share(call), share(call.saturating_sub(1)));
        let m = |k: usize, i: usize| self.run.history[k][i];
        for (i, x) in sample.iter_mut().enumerate() {
            let mut next = factors.of_x * self.start[i] + factors.of_m0 * m(order - 1, i);
            if order > 1 {
                let slope = (1.0 / r0) * (m(0, i) - m(order - 1, i));
                if order == 3 && heun {
                    let near = (1.0 / r1) * (m(1, i) - m(2, i));
                    let d1 = (r0 * near - r1 * slope) / (r0 - r1);
                    let d2 = 2.0 * (slope - near) / (r0 - r1);
                    next = next + factors.of_d1 * d1 + factors.of_d2 * d2;
                } else {
                    next += factors.of_d1 * slope;
                }
            }
            if let Some(draw) = draw {
                next += factors.of_noise * draw[i];
            }
            *x = next;
        }
    }
}

/// The orders of all calls. The last call is of the first order if it ends without noise, where no other has a meaning,
/// or if a whole last group would end in a high order that the config does not want.
fn orders(config: &SchedulerConfig, steps: usize) -> Vec<usize> {
    let order = config.solver.order;
    let mut orders: Vec<usize> = (0..steps).map(|call| call % order + 1).collect();
    let low = config.solver.lower_order_final && steps.is_multiple_of(order);
    if (low || config.final_sigma == FinalSigma::Zero)
        && let Some(last) = orders.last_mut()
    {
        *last = 1;
    }
    orders
}

impl Update for DpmSinglestep {
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
        // A run that begins late has fewer predictions than its order asks for.
        let order = self.orders.get(call).copied().unwrap_or(1).clamp(1, self.run.history.len());
        if order == 1 {
            self.start = sample.to_vec();
        }
        self.advance(order, call, sample, draw.as_deref());
    }
}
