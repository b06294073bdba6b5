//! What a scheduler can be told: how it predicts, spaces, curves and steps.

use std::str::FromStr;

use ondine_graph::{Error, Result, fail};

/// What the network predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// The velocity `sqrt(alpha_bar) * noise - sqrt(1 - alpha_bar) * x0` (Salimans & Ho).
    Velocity,
    /// The clean latents `x0`.
    Sample,
    /// The way `noise - x0` along `(1 - sigma) * x0 + sigma * noise` (Liu et al. 2023), of solvers on its levels.
    Flow,
}

impl Prediction {
    /// The name of [`Prediction::Flow`] in diffusers.
    pub(crate) const FLOW: &'static str = "flow_prediction";

    /// Those that may be asked for, by their names in diffusers.
    pub const NAMES: [(&'static str, Self); 3] =
        [("epsilon", Self::Epsilon), ("v_prediction", Self::Velocity), ("sample", Self::Sample)];

    /// Its name in diffusers.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, prediction)| *prediction == self).map_or(Self::FLOW, |(name, _)| name)
    }
}

impl FromStr for Prediction {
    type Err = Error;

    /// Reads a name of diffusers, or one of the short names that other tools have.
    fn from_str(name: &str) -> Result<Self> {
        let full = match name {
            "eps" | "noise" => "epsilon",
            "v" | "velocity" | "v-prediction" => "v_prediction",
            "x0" => "sample",
            name => name,
        };
        match Self::NAMES.iter().find(|(known, _)| *known == full) {
            Some((_, prediction)) => Ok(*prediction),
            None => fail!(Argument, "prediction {name:?} is not known; known are epsilon, v_prediction, sample"),
        }
    }
}

/// How the timesteps of a run are spread over the training schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Even multiples from 0 up, plus an offset.
    Leading,
    /// Even from the first timestep to the last.
    Linspace,
    /// Even multiples down from the last timestep.
    Trailing,
}

/// The variances of the training schedule.
#[derive(Debug, Clone, PartialEq)]
pub enum BetaSchedule {
    /// Even from `beta_start` to `beta_end`.
    Linear,
    /// Square roots even from `sqrt(beta_start)` to `sqrt(beta_end)`: Stable Diffusion's.
    ScaledLinear,
    /// `alpha_bar(t) = cos^2((t + 0.008) / 1.008 * pi / 2)` (Nichol & Dhariwal).
    SquaredCosine,
    /// Given one by one.
    Trained(Vec<f32>),
}

/// The curve of noise levels from the highest to the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigmaSchedule {
    /// Those of the spaced timesteps.
    Table,
    /// Even in `sigma^(1/7)` (Karras et al. 2022).
    Karras,
    /// Even in `log sigma`.
    Exponential,
    /// Quantiles of Beta(0.6, 0.6).
    Beta,
}

/// The noise level after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalSigma {
    /// No noise.
    Zero,
    /// The lowest level of training.
    SigmaMin,
}

/// Which equation a DPM solver integrates, and in which variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// The ODE in predictions of `x0`.
    DpmSolverPlusPlus,
    /// The SDE in predictions of `x0`.
    SdeDpmSolverPlusPlus,
}

/// The second-order term of a solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SolverType {
    /// DPM-Solver++: midpoint.
    Midpoint,
    /// DPM-Solver++: Heun.
    Heun,
    /// UniPC: `B(h) = h`.
    Bh1,
    /// UniPC: `B(h) = exp(h) - 1`.
    Bh2,
}

/// The variance of DDPM's reverse step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variance {
    /// The posterior variance.
    FixedSmall,
    /// `beta` itself.
    FixedLarge,
}

/// Options of the multistep solvers (DPM-Solver++, DEIS, UniPC).
#[derive(Debug, Clone, PartialEq)]
pub struct SolverOptions {
    /// Highest order, 1 to 3.
    pub order: usize,
    /// Equation, for DPM-Solver++.
    pub algorithm: Algorithm,
    /// Second-order term.
    pub solver_type: SolverType,
    /// Lower orders for the last steps of a short run.
    pub lower_order_final: bool,
    /// First order for the last step.
    pub euler_at_final: bool,
    /// Timesteps whose log signal-to-noise ratio lies below this are not visited.
    pub lambda_min_clipped: f64,
    /// UniPC calls after which no correction is made.
    pub disable_corrector: Vec<usize>,
}

/// Options of the consistency samplers (LCM, TCD).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConsistencyOptions {
    /// Steps of the schedule the model was distilled on.
    pub original_steps: usize,
    /// Scale of the timestep in LCM's boundary condition.
    pub timestep_scaling: f64,
}

/// Options of models that were trained on the noise levels of EDM (Karras et al. 2022).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdmOptions {
    /// Standard deviation of the data.
    pub sigma_data: f64,
    /// Noise levels are even in `sigma^(1 / rho)`.
    pub rho: f64,
}

/// Options of the rectified-flow samplers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlowOptions {
    /// `sigma -> shift * sigma / (1 + (shift - 1) * sigma)`.
    pub shift: f64,
    /// A solver for other models runs on the levels of rectified flow.
    pub solver: bool,
    /// The shift follows from a `mu` that the caller gives, from the picture's size.
    pub dynamic: bool,
    /// The shift is `mu` itself, not `exp(mu)`.
    pub linear: bool,
    /// `mu` of a picture of so many tokens, and of one of so many: `[tokens, mu]`.
    pub by_size: [(f64, f64); 2],
}

impl FlowOptions {
    /// `mu` of a picture of so many tokens: on the line through both sizes.
    #[must_use]
    pub fn mu(&self, tokens: usize) -> f64 {
        let [(few, low), (many, high)] = self.by_size;
        let slope = (high - low) / (many - few);
        tokens as f64 * slope + (low - slope * few)
    }
}

/// `mu` of a picture of so many tokens, drawn in so many steps: found by trying (`compute_empirical_mu` of the
/// pipelines of `FLUX.2`).
#[must_use]
pub fn empirical_mu(tokens: usize, steps: usize) -> f64 {
    /// Slope and offset by tokens of drawings in 10 steps, and in 200.
    const IN_10: (f64, f64) = (8.738_095_24e-5, 1.898_333_33);
    const IN_200: (f64, f64) = (0.000_169_27, 0.456_666_66);
    /// From more tokens on the number of steps has no say.
    const LARGE: usize = 4300;
    let of = |(slope, offset): (f64, f64)| slope * tokens as f64 + offset;
    let (few, many) = (of(IN_10), of(IN_200));
    if tokens > LARGE {
        return many;
    }
    let slope = (many - few) / 190.0;
    slope * steps as f64 + (many - 200.0 * slope)
}

#[cfg(test)]
mod tests {
    use super::empirical_mu;

    #[test]
    fn shifts_of_flux_2_are_those_of_diffusers() {
        for (tokens, steps, mu) in [
            (4096, 4, 2.291_179_894_115_571),
            (4096, 50, 2.023_351_157_129_263),
            (1024, 4, 2.030_689_707_949_945_5),
            (15, 1, 1.967_875_333_804_830_5),
            (4301, 4, 1.184_696_93),
            (65536, 4, 11.549_945_38),
        ] {
            assert!(
                (empirical_mu(tokens, steps) - mu).abs() < 1e-12,
                "{tokens} {steps}: {}",
                empirical_mu(tokens, steps)
            );
        }
    }
}
