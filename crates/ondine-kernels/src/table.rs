//! The table of kernels, filled for the processor at hand.

use std::{env, error, fmt, sync::OnceLock};

use crate::{arch, gemm::micro::GemmKernels, probe::ProbeKernels, rowwise::RowwiseKernels};

/// The environment variable that forces a tier.
const VARIABLE: &str = "ONDINE_CPU";

/// A family of instruction sets, the least able first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// What every processor of the architecture can do.
    Generic,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ, VL, BF16 and VNNI.
    Avx512,
}

impl Tier {
    /// Every tier, the least able first.
    pub const ALL: [Self; 3] = [Self::Generic, Self::Avx2, Self::Avx512];

    /// The name in `ONDINE_CPU` and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// True if this processor has the instructions of the tier.
    #[must_use]
    pub fn is_available(self) -> bool {
        self <= detect()
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a tier asked for in `ONDINE_CPU` cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TierError {
    /// No tier has this name.
    Unknown(String),
    /// This processor lacks its instructions.
    Unsupported(Tier),
}

impl fmt::Display for TierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "{VARIABLE}: unknown tier `{name}` (one of: generic, avx2, avx512)"),
            Self::Unsupported(tier) => {
                write!(f, "{VARIABLE}: this processor cannot run tier `{tier}` (at most `{}`)", detect())
            }
        }
    }
}

impl error::Error for TierError {}

/// The functions of one tier.
#[derive(Debug)]
pub struct Kernels {
    /// What these functions are compiled for.
    pub tier: Tier,
    /// Matrix products, convolutions, attention.
    pub gemm: GemmKernels,
    /// Normalizations, activations, conversions: all that goes row by row.
    pub rowwise: RowwiseKernels,
    /// Measurements of the instructions.
    pub probe: ProbeKernels,
}

static GENERIC: Kernels = Kernels {
    tier: Tier::Generic,
    gemm: arch::generic::GEMM,
    rowwise: RowwiseKernels::GENERIC,
    probe: arch::generic::PROBE,
};
#[cfg(target_arch = "x86_64")]
static AVX2: Kernels =
    Kernels { tier: Tier::Avx2, gemm: arch::avx2::GEMM, rowwise: RowwiseKernels::AVX2, probe: arch::avx2::PROBE };
#[cfg(target_arch = "x86_64")]
static AVX512: Kernels = Kernels {
    tier: Tier::Avx512,
    gemm: arch::avx512::GEMM,
    rowwise: RowwiseKernels::AVX512,
    probe: arch::avx512::PROBE,
};

impl Kernels {
    /// The table of a tier, or `None` if this processor lacks its instructions.
    #[must_use]
    pub fn for_tier(tier: Tier) -> Option<&'static Self> {
        tier.is_available().then_some(match tier {
            Tier::Generic => &GENERIC,
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => &AVX2,
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 => &AVX512,
            #[cfg(not(target_arch = "x86_64"))]
            _ => return None,
        })
    }

    /// The tables that this processor can run, the least able first.
    pub fn available() -> impl Iterator<Item = &'static Self> {
        Tier::ALL.into_iter().filter_map(Self::for_tier)
    }

    /// The table of the tier named in the environment variable `ONDINE_CPU`, or the best one if that is not set.
    ///
    /// # Errors
    /// If the name is unknown or this processor lacks the tier's instructions.
    pub fn from_env() -> Result<&'static Self, TierError> {
        match env::var_os(VARIABLE) {
            None => Self::named(detect().name()),
            Some(name) => Self::named(&name.to_string_lossy()),
        }
    }

    fn named(name: &str) -> Result<&'static Self, TierError> {
        let tier = Tier::ALL.into_iter().find(|tier| tier.name() == name);
        let tier = tier.ok_or_else(|| TierError::Unknown(name.to_owned()))?;
        Self::for_tier(tier).ok_or(TierError::Unsupported(tier))
    }
}

/// The best tier of this processor, whatever the environment says.
#[must_use]
pub fn detect() -> Tier {
    static DETECTED: OnceLock<Tier> = OnceLock::new();
    *DETECTED.get_or_init(detect_now)
}

#[cfg(target_arch = "x86_64")]
fn detect_now() -> Tier {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512vnni");
    match (avx2, avx512) {
        (true, true) => Tier::Avx512,
        (true, false) => Tier::Avx2,
        _ => Tier::Generic,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect_now() -> Tier {
    Tier::Generic
}

/// The table for this process: what `ONDINE_CPU` asks for, else the best one.
///
/// A value that cannot be had is passed over here; [`Kernels::from_env`] says what is wrong with it.
#[must_use]
pub fn kernels() -> &'static Kernels {
    static CHOSEN: OnceLock<&'static Kernels> = OnceLock::new();
    CHOSEN.get_or_init(|| Kernels::from_env().ok().or_else(|| Kernels::for_tier(detect())).unwrap_or(&GENERIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_is_always_there_and_unknown_names_are_refused() {
        assert_eq!(Kernels::available().next().map(|kernels| kernels.tier), Some(Tier::Generic));
        let error = Kernels::named("mmx").unwrap_err();
        assert_eq!(error.to_string(), "ONDINE_CPU: unknown tier `mmx` (one of: generic, avx2, avx512)");
        for kernels in Kernels::available() {
            assert_eq!(Kernels::named(kernels.tier.name()).map(|found| found.tier), Ok(kernels.tier));
        }
    }
}
