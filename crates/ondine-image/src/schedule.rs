//! The noise schedule: how much noise each training timestep carries, and which timesteps and noise
//! levels a run of `n` steps visits.
//!
//! Conventions, after diffusers. A training run has `T` timesteps (1000, as a rule). `beta[t]` is the
//! variance added at `t`, `alpha_bar[t]` the product of `1 - beta` up to `t`, so that noised latents
//! are `sqrt(alpha_bar) * x0 + sqrt(1 - alpha_bar) * noise`. The noise level in sigma form is
//! `sigma[t] = sqrt((1 - alpha_bar) / alpha_bar)`, for latents written `x0 + sigma * noise`.
//! Tables are float32 and made in the order torch makes them; what numpy computes in float64 is
//! float64 here.

mod array;
mod beta;
mod choices;
mod classes;
mod config;
mod keys;

pub use choices::{
    Algorithm, BetaSchedule, ConsistencyOptions, EdmOptions, FinalSigma, FlowOptions, Prediction, SigmaSchedule,
    SolverOptions, SolverType, Spacing, Variance, empirical_mu,
};
pub use classes::SchedulerClass;
pub use config::SchedulerConfig;

use ondine_graph::{Result, fail};

pub(crate) use array::linspace;
use array::{interpolate, linspace_f32};

/// The tables of one training schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSchedule {
    alphas_cumprod: Vec<f32>,
}

impl NoiseSchedule {
    /// The schedule a config describes, rescaled to zero terminal SNR where it says so.
    #[must_use]
    pub fn new(config: &SchedulerConfig) -> Self {
        let betas = betas(config);
        let betas = if config.zero_snr { rescale_zero_terminal_snr(&betas) } else { betas };
        Self { alphas_cumprod: cumulative_alphas(&betas) }
    }

    /// As [`NoiseSchedule::new`], for samplers that divide by the noise level: where the signal
    /// vanishes at the last timestep it is 2^-24 instead.
    pub(crate) fn for_sigmas(config: &SchedulerConfig) -> Self {
        let mut schedule = Self::new(config);
        if config.zero_snr
            && let Some(last) = schedule.alphas_cumprod.last_mut()
        {
            *last = 0.5f32.powi(24);
        }
        schedule
    }

    /// `alpha_bar`, one value for each training timestep, falling.
    #[must_use]
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// `sigma`, one value for each training timestep, rising.
    #[must_use]
    pub fn sigmas(&self) -> Vec<f32> {
        self.alphas_cumprod.iter().map(|&a| ((1.0 - a) / a).sqrt()).collect()
    }
}

/// The variances `beta[t]` before any rescaling.
fn betas(config: &SchedulerConfig) -> Vec<f32> {
    let (start, end, count) = (config.beta_start, config.beta_end, config.train_timesteps);
    match &config.betas {
        BetaSchedule::Trained(betas) => betas.clone(),
        BetaSchedule::Linear => linspace_f32(start as f32, end as f32, count),
        BetaSchedule::ScaledLinear => {
            let roots = linspace_f32(start.sqrt() as f32, end.sqrt() as f32, count);
            roots.into_iter().map(|root| root * root).collect()
        }
        BetaSchedule::SquaredCosine => {
            let alpha_bar = |t: f64| {
                let angle = (t + 0.008) / 1.008 * std::f64::consts::PI / 2.0;
                angle.cos() * angle.cos()
            };
            let at = |i: usize| alpha_bar(i as f64 / count as f64);
            (0..count).map(|i| (1.0 - at(i + 1) / at(i)).min(0.999) as f32).collect()
        }
    }
}

/// The running product of `1 - beta`, accumulated in float64 and stored as float32.
fn cumulative_alphas(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0f64;
    let multiply = |&beta: &f32| {
        product *= f64::from(1.0 - beta);
        product as f32
    };
    betas.iter().map(multiply).collect()
}

/// Shifts and scales `sqrt(alpha_bar)` so that it ends at zero and starts where it did (Lin et al.,
/// "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1).
fn rescale_zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumulative_alphas(betas).iter().map(|a| a.sqrt()).collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else { return Vec::new() };
    let scale = first / (first - last);
    let bars = roots.iter().map(|root| (root - last) * scale).map(|root| root * root);
    let mut previous = 1.0;
    let beta = |bar: f32| 1.0 - bar / std::mem::replace(&mut previous, bar);
    bars.map(beta).collect()
}

/// The `steps` timesteps a single-step sampler visits, falling.
///
/// - leading: multiples of `T / steps` (rounded down), plus the offset
/// - linspace: even from `T - 1` to 0, not rounded
/// - trailing: `round(T - i * T / steps) - 1`
pub(crate) fn timesteps(config: &SchedulerConfig, steps: usize) -> Vec<f64> {
    if let Some(given) = &config.timesteps {
        return given.clone();
    }
    let total = config.train_timesteps;
    match config.spacing {
        Spacing::Leading => {
            let stride = total / steps;
            (0..steps).rev().map(|i| (i * stride + config.steps_offset) as f64).collect()
        }
        Spacing::Linspace => linspace(0.0, (total - 1) as f64, steps).into_iter().rev().collect(),
        Spacing::Trailing => trailing(total, total as f64 / steps as f64, steps),
    }
}

/// The timesteps a multistep solver visits: as [`timesteps`], but spaced for one step more, the last
/// of which is left out, and rounded. `last` is `T`, or fewer where `lambda_min_clipped` cuts off.
pub(crate) fn solver_timesteps(config: &SchedulerConfig, steps: usize, last: usize) -> Vec<f64> {
    match config.spacing {
        Spacing::Leading => {
            let stride = last / (steps + 1);
            (1..=steps).rev().map(|i| (i * stride + config.steps_offset) as f64).collect()
        }
        Spacing::Linspace => {
            let spaced = linspace(0.0, (last - 1) as f64, steps + 1);
            spaced.into_iter().skip(1).rev().map(f64::round_ties_even).collect()
        }
        Spacing::Trailing => trailing(last, config.train_timesteps as f64 / steps as f64, steps),
    }
}

/// At most `steps` timesteps down from `last`, `stride` apart.
fn trailing(last: usize, stride: f64, steps: usize) -> Vec<f64> {
    let start = last as f64;
    let delta = (start - stride) - start;
    (0..steps).map(|i| (start + i as f64 * delta).round_ties_even() - 1.0).take_while(|&t| t >= 0.0).collect()
}

/// Timesteps and sigmas of one run: `sigmas` has one entry more, the level after the last step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Levels {
    pub(crate) timesteps: Vec<f32>,
    pub(crate) sigmas: Vec<f32>,
}

/// How a sampler family turns a sigma schedule into [`Levels`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LevelRules {
    /// Karras and its kin run between the ends of the whole table, not of the spaced sigmas.
    pub(crate) whole_table: bool,
    /// Timesteps that belong to Karras sigmas are rounded.
    pub(crate) round_karras: bool,
    /// Every timestep is cut to a whole number.
    pub(crate) whole_timesteps: bool,
    /// With Karras and its kin, `FinalSigma::SigmaMin` repeats the last sigma instead of taking
    /// that of timestep 0.
    pub(crate) repeat_last: bool,
}

/// Sigmas for the given timesteps, replaced by the config's sigma schedule where it has one.
pub(crate) fn levels(
    config: &SchedulerConfig,
    schedule: &NoiseSchedule,
    mut timesteps: Vec<f64>,
    rules: LevelRules,
) -> Levels {
    let table = schedule.sigmas();
    let at = |&t: &f64| interpolate(f64::from(t as f32), &table);
    let mut sigmas: Vec<f64> = timesteps.iter().map(at).collect();
    let remade = config.sigma_schedule != SigmaSchedule::Table;
    if remade {
        let spaced = (sigmas.last().copied(), sigmas.first().copied());
        let whole = (table.first().map(|&s| s.into()), table.last().map(|&s| s.into()));
        let (low, high) = if rules.whole_table { whole } else { spaced };
        let low = config.sigma_min.or(low).unwrap_or_default();
        let high = config.sigma_max.or(high).unwrap_or_default();
        sigmas = remake(config.sigma_schedule, low, high, sigmas.len());
        let logs = log_table(&table);
        let karras = config.sigma_schedule == SigmaSchedule::Karras;
        let to_timestep = |&sigma: &f64| {
            let t = timestep_of(sigma, &logs);
            if karras && rules.round_karras { t.round_ties_even() } else { t }
        };
        timesteps = sigmas.iter().map(to_timestep).collect();
    }
    let last = match config.final_sigma {
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin if remade && rules.repeat_last => sigmas.last().copied().unwrap_or_default(),
        FinalSigma::SigmaMin => table.first().copied().unwrap_or_default().into(),
    };
    sigmas.push(last);
    let narrow = |t: f64| if rules.whole_timesteps { t.trunc() as f32 } else { t as f32 };
    Levels {
        timesteps: timesteps.into_iter().map(narrow).collect(),
        sigmas: sigmas.into_iter().map(|sigma| sigma as f32).collect(),
    }
}

/// `count` sigmas from `high` down to `low`.
pub(crate) fn remake(schedule: SigmaSchedule, low: f64, high: f64, count: usize) -> Vec<f64> {
    match schedule {
        SigmaSchedule::Table => linspace(high, low, count),
        SigmaSchedule::Karras => {
            const RHO: f64 = 7.0;
            let (min, max) = (low.powf(1.0 / RHO), high.powf(1.0 / RHO));
            let ramp = linspace(0.0, 1.0, count);
            ramp.into_iter().map(|r| (max + r * (min - max)).powf(RHO)).collect()
        }
        SigmaSchedule::Exponential => linspace(high.ln(), low.ln(), count).into_iter().map(f64::exp).collect(),
        SigmaSchedule::Beta => {
            let ramp = linspace(0.0, 1.0, count);
            ramp.into_iter().map(|r| low + beta::quantile(1.0 - r, 0.6) * (high - low)).collect()
        }
    }
}

/// Natural logarithms of a sigma table, in float32.
pub(crate) fn log_table(sigmas: &[f32]) -> Vec<f32> {
    sigmas.iter().map(|&sigma| f64::from(sigma).ln() as f32).collect()
}

/// The timestep, not rounded, whose sigma this is: linear in log sigma, held at the table's ends.
pub(crate) fn timestep_of(sigma: f64, log_sigmas: &[f32]) -> f64 {
    let log = sigma.max(1e-10).ln();
    let below = log_sigmas.partition_point(|&entry| f64::from(entry) <= log);
    let low = below.saturating_sub(1).min(log_sigmas.len().saturating_sub(2));
    let (Some(&a), Some(&b)) = (log_sigmas.get(low), log_sigmas.get(low + 1)) else { return 0.0 };
    let weight = ((f64::from(a) - log) / f64::from(a - b)).clamp(0.0, 1.0);
    (1.0 - weight) * low as f64 + weight * (low + 1) as f64
}

/// Refuses a step count that the config cannot serve.
///
/// # Errors
/// Zero steps, or more than there are training timesteps.
pub(crate) fn check_steps(config: &SchedulerConfig, steps: usize) -> Result<()> {
    let most = config.train_timesteps;
    if (1..=most).contains(&steps) {
        return Ok(());
    }
    fail!(Argument, "{steps} steps cannot be drawn by {}; ask for 1 to {most}", config.class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stable_diffusion() -> SchedulerConfig {
        SchedulerConfig::from_json(
            r#"{"_class_name": "EulerDiscreteScheduler", "beta_start": 0.00085,
                "beta_end": 0.012, "beta_schedule": "scaled_linear"}"#,
        )
        .expect("a valid config")
    }

    #[test]
    fn tables_have_the_bits_of_torch() {
        let schedule = NoiseSchedule::new(&stable_diffusion());
        let alphas = schedule.alphas_cumprod();
        assert_eq!(alphas[0], 0.999_15);
        assert_eq!(alphas[500], 0.276_332_47);
        assert_eq!(alphas[999], 0.004_660_095);
        // Torch takes square roots through a library that may round the other way.
        let sigmas = schedule.sigmas();
        assert!((sigmas[0] - 0.029_167_535).abs() < 4e-9, "{}", sigmas[0]);
        assert_eq!(sigmas[999], 14.614_647);
    }

    #[test]
    fn trailing_never_leaves_the_table() {
        let mut config = stable_diffusion();
        config.spacing = Spacing::Trailing;
        for steps in 1..=1000 {
            let spaced = timesteps(&config, steps);
            assert_eq!(spaced.len(), steps, "{steps} steps");
            assert!(spaced.iter().all(|&t| (0.0..1000.0).contains(&t)), "{steps} steps");
        }
    }

    #[test]
    fn a_sigma_of_the_table_maps_back_to_its_timestep() {
        let table = NoiseSchedule::new(&stable_diffusion()).sigmas();
        let logs = log_table(&table);
        for t in [0usize, 1, 417, 998, 999] {
            assert!((timestep_of(table[t].into(), &logs) - t as f64).abs() < 1e-3);
        }
    }
}
