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
    /// Exponential integrator with polynomial extrapolation.
    Deis,
    /// Unified predictor-corrector, orders 1 to 3.
    UniPc,
    /// Latent consistency models.
    Lcm,
    /// Trajectory consistency distillation.
    Tcd,
    /// Euler on rectified flow.
    FlowEuler,
    /// Heun on rectified flow.
    FlowHeun,
}

/// What a class reads from its config and what it assumes where the config is silent.
pub(super) struct ClassFacts {
    pub(super) class: SchedulerClass,
    pub(super) name: &'static str,
    pub(super) betas: (f64, f64, &'static str),
    pub(super) spacing: &'static str,
    pub(super) clip: bool,
    pub(super) alpha_one: bool,
    pub(super) zero_snr: bool,
    pub(super) sigma_schedules: bool,
    pub(super) final_sigma: bool,
    pub(super) sample_prediction: bool,
}

impl ClassFacts {
    const fn new(class: SchedulerClass, name: &'static str) -> Self {
        Self {
            class,
            name,
            betas: (0.0001, 0.02, "linear"),
            spacing: "linspace",
            clip: false,
            alpha_one: false,
            zero_snr: false,
            sigma_schedules: false,
            final_sigma: false,
            sample_prediction: true,
        }
    }
}

const HEUN_BETAS: (f64, f64, &str) = (0.00085, 0.012, "linear");
const LCM_BETAS: (f64, f64, &str) = (0.00085, 0.012, "scaled_linear");

/// One row for each class, in the words of diffusers.
static CLASSES: [ClassFacts; 16] = {
    use SchedulerClass as C;
    const fn of(class: SchedulerClass, name: &'static str) -> ClassFacts {
        ClassFacts::new(class, name)
    }
    [
        ClassFacts { spacing: "leading", clip: true, alpha_one: true, zero_snr: true, ..of(C::Ddim, "DDIMScheduler") },
        ClassFacts { spacing: "leading", clip: true, zero_snr: true, ..of(C::Ddpm, "DDPMScheduler") },
        ClassFacts { spacing: "leading", sample_prediction: false, ..of(C::Pndm, "PNDMScheduler") },
        ClassFacts { sigma_schedules: true, ..of(C::Lms, "LMSDiscreteScheduler") },
        ClassFacts {
            zero_snr: true,
            sigma_schedules: true,
            final_sigma: true,
            ..of(C::Euler, "EulerDiscreteScheduler")
        },
        ClassFacts {
            zero_snr: true,
            sample_prediction: false,
            ..of(C::EulerAncestral, "EulerAncestralDiscreteScheduler")
        },
        ClassFacts { betas: HEUN_BETAS, sigma_schedules: true, ..of(C::Heun, "HeunDiscreteScheduler") },
        ClassFacts {
            betas: HEUN_BETAS,
            sigma_schedules: true,
            sample_prediction: false,
            ..of(C::Kdpm2, "KDPM2DiscreteScheduler")
        },
        ClassFacts {
            betas: HEUN_BETAS,
            sigma_schedules: true,
            sample_prediction: false,
            ..of(C::Kdpm2Ancestral, "KDPM2AncestralDiscreteScheduler")
        },
        ClassFacts {
            zero_snr: true,
            sigma_schedules: true,
            final_sigma: true,
            ..of(C::DpmMultistep, "DPMSolverMultistepScheduler")
        },
        ClassFacts { sigma_schedules: true, ..of(C::Deis, "DEISMultistepScheduler") },
        ClassFacts {
            zero_snr: true,
            sigma_schedules: true,
            final_sigma: true,
            ..of(C::UniPc, "UniPCMultistepScheduler")
        },
        ClassFacts {
            betas: LCM_BETAS,
            spacing: "leading",
            alpha_one: true,
            zero_snr: true,
            ..of(C::Lcm, "LCMScheduler")
        },
        ClassFacts {
            betas: LCM_BETAS,
            spacing: "leading",
            alpha_one: true,
            zero_snr: true,
            ..of(C::Tcd, "TCDScheduler")
        },
        of(C::FlowEuler, "FlowMatchEulerDiscreteScheduler"),
        of(C::FlowHeun, "FlowMatchHeunDiscreteScheduler"),
    ]
};

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
        self.facts().sigma_schedules || self == Self::EulerAncestral
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
