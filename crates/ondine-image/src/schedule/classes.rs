//! The scheduler classes: what each reads from its config and assumes where that is silent.

use std::fmt;

use ondine_graph::{Result, fail};

/// A diffusers scheduler class that this crate runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SchedulerClass {
    /// Denoising diffusion implicit models.
    Ddim,
    /// Denoising diffusion probabilistic models.
    Ddpm,
    /// Pseudo numerical methods (PLMS, with or without the Runge-Kutta start).
    Pndm,
    /// Linear multistep.
    Lms,
    /// Euler.
    Euler,
    /// Euler with ancestral noise.
    EulerAncestral,
    /// Heun, second order.
    Heun,
    /// DPM2: the midpoint method in log sigma.
    Kdpm2,
    /// DPM2 with ancestral noise.
    Kdpm2Ancestral,
    /// DPM-Solver++ multistep, orders 1 to 3, ODE or SDE.
    DpmMultistep,
    /// DPM-Solver++ singlestep, orders 1 to 3, ODE or SDE.
    DpmSinglestep,
    /// Exponential integrator with polynomial extrapolation.
    Deis,
    /// Unified predictor-corrector, orders 1 to 3.
    UniPc,
    /// Latent consistency models.
    Lcm,
    /// Trajectory consistency distillation.
    Tcd,
    /// Euler on the noise levels of EDM.
    EdmEuler,
    /// DPM-Solver++ multistep on the noise levels of EDM.
    EdmDpmMultistep,
    /// Euler on rectified flow.
    FlowEuler,
    /// Heun on rectified flow.
    FlowHeun,
    /// Consistency models on rectified flow, which is written on a circle (Lu and Song 2024).
    Scm,
}

/// What a class reads from its config and what it assumes where the config is silent.
pub(super) struct ClassFacts {
    pub(super) class: SchedulerClass,
    pub(super) name: &'static str,
    pub(super) betas: (f64, f64, &'static str),
    pub(super) spacing: &'static str,
    pub(super) clip: bool,
    pub(super) alpha_one: bool,
    pub(super) lower_order_final: bool,
    pub(super) sample_prediction: bool,
    /// The keys that the class has in diffusers, besides those of all. Others in its config are left over from another
    /// class that the model once had, and mean nothing.
    keys: &'static [&'static [&'static str]],
}

impl ClassFacts {
    const fn new(class: SchedulerClass, name: &'static str, keys: &'static [&'static [&'static str]]) -> Self {
        Self {
            class,
            name,
            betas: (0.0001, 0.02, "linear"),
            spacing: "linspace",
            clip: false,
            alpha_one: false,
            lower_order_final: true,
            sample_prediction: true,
            keys,
        }
    }

    /// True if the class has the key.
    pub(super) fn takes(&self, key: &str) -> bool {
        self.keys.iter().copied().chain([ALL]).any(|keys| keys.contains(&key))
    }
}

const HEUN_BETAS: (f64, f64, &str) = (0.00085, 0.012, "linear");
const LCM_BETAS: (f64, f64, &str) = (0.00085, 0.012, "scaled_linear");

/// The keys of every class.
const ALL: &[&str] =
    &["num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type"];
const SPACED: &[&str] = &["timestep_spacing", "steps_offset"];
const ZERO_SNR: &[&str] = &["rescale_betas_zero_snr"];
const ALPHA: &[&str] = &["set_alpha_to_one"];
const CLIP: &[&str] = &["clip_sample", "clip_sample_range"];
const THRESHOLD: &[&str] = &["thresholding", "dynamic_thresholding_ratio", "sample_max_value"];
const SIGMAS: &[&str] = &["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"];
const FINAL: &[&str] = &["final_sigmas_type"];
const BOUNDS: &[&str] = &["sigma_min", "sigma_max"];
const SOLVER: &[&str] = &[
    "solver_order",
    "solver_type",
    "lower_order_final",
    "use_flow_sigmas",
    "flow_shift",
    "use_dynamic_shifting",
    "time_shift_type",
];
const ALGORITHM: &[&str] = &["algorithm_type", "lambda_min_clipped", "variance_type"];
const CONSISTENCY: &[&str] = &["original_inference_steps", "timestep_scaling"];
const EDM: &[&str] = &["sigma_data", "sigma_schedule", "rho"];

/// One row for each class, in the words of diffusers.
static CLASSES: [ClassFacts; 20] = {
    use SchedulerClass as C;
    const fn of(class: SchedulerClass, name: &'static str, keys: &'static [&'static [&'static str]]) -> ClassFacts {
        ClassFacts::new(class, name, keys)
    }
    [
        ClassFacts {
            spacing: "leading",
            clip: true,
            alpha_one: true,
            ..of(C::Ddim, "DDIMScheduler", &[SPACED, ZERO_SNR, ALPHA, CLIP, THRESHOLD])
        },
        ClassFacts {
            spacing: "leading",
            clip: true,
            ..of(C::Ddpm, "DDPMScheduler", &[SPACED, ZERO_SNR, CLIP, THRESHOLD, &["variance_type"]])
        },
        ClassFacts {
            spacing: "leading",
            sample_prediction: false,
            ..of(C::Pndm, "PNDMScheduler", &[SPACED, ALPHA, &["skip_prk_steps"]])
        },
        of(C::Lms, "LMSDiscreteScheduler", &[SPACED, SIGMAS]),
        of(
            C::Euler,
            "EulerDiscreteScheduler",
            &[SPACED, ZERO_SNR, SIGMAS, FINAL, BOUNDS, &["interpolation_type", "timestep_type"]],
        ),
        ClassFacts {
            sample_prediction: false,
            ..of(C::EulerAncestral, "EulerAncestralDiscreteScheduler", &[SPACED, ZERO_SNR])
        },
        ClassFacts { betas: HEUN_BETAS, ..of(C::Heun, "HeunDiscreteScheduler", &[SPACED, SIGMAS, CLIP]) },
        ClassFacts {
            betas: HEUN_BETAS,
            sample_prediction: false,
            ..of(C::Kdpm2, "KDPM2DiscreteScheduler", &[SPACED, SIGMAS])
        },
        ClassFacts {
            betas: HEUN_BETAS,
            sample_prediction: false,
            ..of(C::Kdpm2Ancestral, "KDPM2AncestralDiscreteScheduler", &[SPACED, SIGMAS])
        },
        of(
            C::DpmMultistep,
            "DPMSolverMultistepScheduler",
            &[SPACED, ZERO_SNR, THRESHOLD, SIGMAS, FINAL, SOLVER, ALGORITHM, &["euler_at_final", "use_lu_lambdas"]],
        ),
        ClassFacts {
            lower_order_final: false,
            ..of(C::DpmSinglestep, "DPMSolverSinglestepScheduler", &[THRESHOLD, SIGMAS, FINAL, SOLVER, ALGORITHM])
        },
        of(C::Deis, "DEISMultistepScheduler", &[SPACED, THRESHOLD, SIGMAS, SOLVER, &["algorithm_type"]]),
        of(
            C::UniPc,
            "UniPCMultistepScheduler",
            &[
                SPACED,
                ZERO_SNR,
                THRESHOLD,
                SIGMAS,
                FINAL,
                BOUNDS,
                SOLVER,
                &["predict_x0", "disable_corrector", "solver_p", "shift_terminal"],
            ],
        ),
        ClassFacts {
            betas: LCM_BETAS,
            spacing: "leading",
            alpha_one: true,
            ..of(C::Lcm, "LCMScheduler", &[SPACED, ZERO_SNR, ALPHA, CLIP, THRESHOLD, CONSISTENCY])
        },
        ClassFacts {
            betas: LCM_BETAS,
            spacing: "leading",
            alpha_one: true,
            ..of(C::Tcd, "TCDScheduler", &[SPACED, ZERO_SNR, ALPHA, THRESHOLD, CONSISTENCY])
        },
        ClassFacts { sample_prediction: false, ..of(C::EdmEuler, "EDMEulerScheduler", &[FINAL, BOUNDS, EDM]) },
        ClassFacts {
            sample_prediction: false,
            ..of(
                C::EdmDpmMultistep,
                "EDMDPMSolverMultistepScheduler",
                &[THRESHOLD, FINAL, BOUNDS, SOLVER, ALGORITHM, EDM, &["euler_at_final"]],
            )
        },
        of(
            C::FlowEuler,
            "FlowMatchEulerDiscreteScheduler",
            &[
                SIGMAS,
                &["shift", "use_dynamic_shifting", "time_shift_type", "base_shift", "max_shift", "base_image_seq_len"],
                &["max_image_seq_len", "invert_sigmas", "shift_terminal", "stochastic_sampling"],
            ],
        ),
        of(C::FlowHeun, "FlowMatchHeunDiscreteScheduler", &[&["shift"]]),
        // The spread of the data, `sigma_data`, cancels out.
        of(C::Scm, "SCMScheduler", &[]),
    ]
};

/// Keys of classes that are not run here, which stay in the config of a model that is given another class.
const OF_OTHERS: &[&str] = &[
    "correct_steps",
    "eta",
    "noise_sampler_seed",
    "s_churn",
    "s_max",
    "s_min",
    "s_noise",
    "sampling_eps",
    "snr",
    "tensor_format",
];

/// True if some class has the key.
pub(super) fn is_key(key: &str) -> bool {
    CLASSES.iter().any(|facts| facts.takes(key)) || OF_OTHERS.contains(&key)
}

impl SchedulerClass {
    /// Every class, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        CLASSES.iter().map(|facts| facts.class)
    }

    /// The class name in diffusers, such as `EulerDiscreteScheduler`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// Whether the class runs on noise levels (sigmas) that a schedule such as Karras may replace.
    #[must_use]
    pub fn takes_sigma_schedule(self) -> bool {
        self == Self::EulerAncestral || self.facts().takes("use_karras_sigmas")
    }

    /// Whether the class spreads timesteps as [`Spacing`](super::Spacing) says, rather than always linspace.
    #[must_use]
    pub fn takes_spacing(self) -> bool {
        self.facts().takes("timestep_spacing")
    }

    /// How often a step calls the network, but for the last: twice in methods of second order.
    #[must_use]
    pub fn calls_per_step(self) -> usize {
        match self {
            Self::Heun | Self::Kdpm2 | Self::Kdpm2Ancestral | Self::FlowHeun => 2,
            _ => 1,
        }
    }

    /// Whether the class is for models that were trained on the noise levels of EDM (Karras et al. 2022).
    #[must_use]
    pub fn is_edm(self) -> bool {
        self.facts().takes("sigma_data")
    }

    /// The class of the same method on the noise levels of EDM, if there is one.
    pub(crate) fn on_edm(self) -> Option<Self> {
        match self {
            Self::Euler | Self::EdmEuler => Some(Self::EdmEuler),
            Self::DpmMultistep | Self::EdmDpmMultistep => Some(Self::EdmDpmMultistep),
            _ => None,
        }
    }

    /// Whether the class is for models of rectified flow alone.
    #[must_use]
    pub fn is_flow(self) -> bool {
        matches!(self, Self::FlowEuler | Self::FlowHeun | Self::Scm)
    }

    /// The class of the same method on rectified flow, if there is one.
    pub(crate) fn on_flow(self) -> Option<Self> {
        match self {
            Self::Euler => Some(Self::FlowEuler),
            Self::Heun => Some(Self::FlowHeun),
            flow => flow.is_flow().then_some(flow),
        }
    }

    /// Whether the class can end at noise alone (zero terminal SNR).
    #[must_use]
    pub fn takes_zero_snr(self) -> bool {
        self.facts().takes("rescale_betas_zero_snr")
    }

    /// The class a `_class_name` stands for.
    ///
    /// # Errors
    /// A class this crate does not run; the message lists those it does.
    pub fn from_name(name: &str) -> Result<Self> {
        let flax = name.strip_prefix("Flax").unwrap_or(name);
        match CLASSES.iter().find(|facts| facts.name == flax) {
            Some(facts) => Ok(facts.class),
            None => {
                let known: Vec<_> = CLASSES.iter().map(|facts| facts.name).collect();
                fail!(Unsupported, "scheduler {name:?} is not known; known are {}", known.join(", "))
            }
        }
    }

    pub(super) fn facts(self) -> &'static ClassFacts {
        CLASSES.iter().find(|facts| facts.class == self).unwrap_or(&CLASSES[0])
    }
}

impl fmt::Display for SchedulerClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
