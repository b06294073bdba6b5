//! What the multistep solvers (DPM-Solver++, DEIS, UniPC) share: levels, history, order rules.

use std::collections::VecDeque;

use ondine_graph::{Result, fail};

use super::{edm::EdmForm, form::Form, level::NoiseLevel, rounded::ln};
use crate::schedule::{
    BetaSchedule, LevelRules, Levels, NoiseSchedule, Prediction, SchedulerConfig, SigmaSchedule, SolverOptions, levels,
    solver_timesteps,
};

/// A multistep run: levels fixed at the start, predictions gathered on the way.
pub(super) struct Multistep {
    levels: Levels,
    prediction: Prediction,
    /// How latents are written, if not so that their variance stays.
    edm: Option<EdmForm>,
    pub(super) options: SolverOptions,
    /// Converted predictions, newest first, at most `options.order`.
    pub(super) history: VecDeque<Vec<f32>>,
}

impl Multistep {
    /// `repeat_last` as in [`LevelRules`].
    pub(super) fn new(config: &SchedulerConfig, steps: usize, repeat_last: bool) -> Result<Self> {
        if config.flow.solver {
            return Self::flow(config, steps);
        }
        let schedule = NoiseSchedule::for_sigmas(config);
        let last = last_timestep(&schedule, config.solver.lambda_min_clipped);
        let rules = LevelRules {
            whole_table: true,
            round_karras: config.betas != BetaSchedule::SquaredCosine || repeat_last,
            whole_timesteps: true,
            repeat_last,
        };
        let levels = levels(config, &schedule, solver_timesteps(config, steps, last), rules);
        let spaced = &levels.sigmas[..levels.sigmas.len() - 1];
        if spaced.windows(2).any(|pair| pair[0] <= pair[1]) {
            fail!(
                Argument,
                "{steps} steps are too many for this spacing: two of them fall on one timestep; ask for fewer"
            );
        }
        Ok(Self {
            levels,
            prediction: config.prediction,
            edm: None,
            options: config.solver.clone(),
            history: VecDeque::with_capacity(config.solver.order + 1),
        })
    }

    /// On the levels of rectified flow: even from 1 down to that of one timestep, then shifted, the lowest left out.
    fn flow(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        if config.sigma_schedule != SigmaSchedule::Table {
            fail!(Argument, "the levels of rectified flow follow no curve in {}; leave the schedule out", config.class);
        }
        let (total, shift) = (config.train_timesteps as f64, config.flow.shift);
        let level = |i: usize| {
            let sigma = 1.0 - 1.0 / total;
            let sigma = sigma * (steps - i) as f64 / steps as f64;
            shift * sigma / (1.0 + (shift - 1.0) * sigma)
        };
        let sigmas: Vec<f64> = (0..steps).map(level).collect();
        let timesteps = sigmas.iter().map(|sigma| (sigma * total).trunc() as f32).collect();
        let sigmas = sigmas.into_iter().chain([0.0]).map(|sigma| sigma as f32).collect();
        Ok(Self {
            levels: Levels { timesteps, sigmas },
            prediction: config.prediction,
            edm: None,
            options: config.solver.clone(),
            history: VecDeque::with_capacity(config.solver.order + 1),
        })
    }

    /// On the noise levels of EDM.
    pub(super) fn edm(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let form = EdmForm::new(config, steps)?;
        Ok(Self {
            levels: form.levels.clone(),
            prediction: config.prediction,
            edm: Some(form),
            options: config.solver.clone(),
            history: VecDeque::with_capacity(config.solver.order + 1),
        })
    }

    pub(super) fn calls(&self) -> usize {
        self.levels.timesteps.len()
    }

    /// The mixture at a call; `call + 1` for the level the call steps to.
    pub(super) fn level(&self, call: usize) -> NoiseLevel {
        let sigmas = &self.levels.sigmas;
        let sigma = sigmas.get(call).or(sigmas.last()).copied().unwrap_or_default();
        match self.edm {
            Some(_) => NoiseLevel { signal: 1.0, noise: sigma },
            None if self.prediction == Prediction::Flow => NoiseLevel::of_flow(sigma),
            None => NoiseLevel::of_sigma(sigma),
        }
    }

    /// The clean latents that the outputs of a call stand for.
    pub(super) fn x0(&self, call: usize, sample: &[f32], model_output: &[f32]) -> Vec<f32> {
        sample.iter().zip(model_output).map(|(&x, &output)| self.x0_of(call, x, output)).collect()
    }

    fn x0_of(&self, call: usize, x: f32, output: f32) -> f32 {
        let level = self.level(call);
        match &self.edm {
            Some(edm) => edm.x0(level.noise, x, output),
            None => level.x0(self.prediction, x, output),
        }
    }

    pub(super) fn remember(&mut self, prediction: Vec<f32>) {
        self.history.push_front(prediction);
        self.history.truncate(self.options.order);
    }

    /// The order of a call's update: as many predictions as there are, and the last calls lower.
    /// `always_end_first` makes the last one first order however long the run.
    pub(super) fn order(&self, call: usize, always_end_first: bool) -> usize {
        let left = self.calls() - call;
        let short = self.options.lower_order_final && self.calls() < 15;
        let most = match left {
            1 if short || always_end_first => 1,
            2 if short => 2,
            _ => self.options.order,
        };
        most.min(self.history.len())
    }
}

impl Form for Multistep {
    fn timesteps(&self) -> &[f32] {
        &self.levels.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.levels.sigmas
    }

    fn init_noise_sigma(&self) -> f32 {
        self.edm.as_ref().map_or(1.0, Form::init_noise_sigma)
    }

    fn input_norm(&self, call: usize) -> Option<f32> {
        self.edm.as_ref().and_then(|edm| edm.input_norm(call))
    }

    fn clean(&self, call: usize, x: f32, output: f32) -> f32 {
        self.x0_of(call, x, output)
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        self.level(call.min(self.calls() - 1))
    }
}

/// One past the last timestep whose log signal-to-noise ratio reaches `lambda_min`.
fn last_timestep(schedule: &NoiseSchedule, lambda_min: f64) -> usize {
    let lambda = |alpha: f32| ln(alpha.sqrt()) - ln((1.0 - alpha).sqrt());
    let alphas = schedule.alphas_cumprod();
    let below = alphas.iter().rev().take_while(|&&a| f64::from(lambda(a)) < lambda_min).count();
    (alphas.len() - below).max(1)
}
