//! The processor at hand: which instructions kernels use, and on which threads.

use std::{env, error, fmt, sync::Arc};

use crate::{
    arch::{
        dot::Tile,
        enter::{Kernel, RawKernel},
        tier::Tier,
    },
    threads::Pool,
};

/// The environment variable that forces a tier.
const VARIABLE: &str = "ONDINE_CPU";

/// What every kernel call needs: a tier that this processor has, and threads. Cheap to clone; clones share the threads.
#[derive(Clone)]
pub struct Cpu {
    /// One that is available: the right to enter it.
    tier: Tier,
    pool: Arc<Pool>,
}

impl Cpu {
    /// The tier named in the environment variable `ONDINE_CPU`, or the best one if that is not set, on `threads`
    /// threads, counting the one that calls; 0 is taken as 1.
    ///
    /// # Errors
    /// If the name is unknown or this processor lacks the tier's instructions.
    pub fn new(threads: usize) -> Result<Self, TierError> {
        let tier = match env::var_os(VARIABLE) {
            None => Tier::best(),
            Some(name) => named(&name.to_string_lossy())?,
        };
        Ok(Self { tier, pool: Arc::new(Pool::new(threads)) })
    }

    /// The same threads with the instructions of another tier, or `None` if this processor lacks them.
    #[must_use]
    pub fn with_tier(&self, tier: Tier) -> Option<Self> {
        tier.is_available().then(|| Self { tier, pool: Arc::clone(&self.pool) })
    }

    /// The same threads with every tier that this processor has, the least able first.
    pub fn tiers(&self) -> impl Iterator<Item = Self> {
        Tier::ALL.into_iter().filter_map(|tier| self.with_tier(tier))
    }

    /// The instructions that kernels use.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The threads that share the work of kernels.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// How products with packed operands are cut.
    pub(crate) fn tile(&self) -> Tile {
        self.tier.tile()
    }

    /// Runs a kernel with the instructions of the tier, on the calling thread.
    #[inline(always)]
    pub(crate) fn enter<K: Kernel>(&self, kernel: K) -> K::Output {
        // SAFETY: a `Cpu` is made of a tier that is available only; such a kernel demands nothing.
        unsafe { self.tier.enter(kernel) }
    }

    /// Runs a kernel over addresses.
    ///
    /// # Safety
    /// See the kernel.
    #[inline(always)]
    pub(crate) unsafe fn enter_raw<K: RawKernel>(&self, kernel: K) -> K::Output {
        // SAFETY: a `Cpu` is made of a tier that is available only; the caller vouches for the kernel.
        unsafe { self.tier.enter(kernel) }
    }
}

/// Two are equal if they have the same threads and the same tier.
impl PartialEq for Cpu {
    fn eq(&self, other: &Self) -> bool {
        self.tier == other.tier && Arc::ptr_eq(&self.pool, &other.pool)
    }
}

impl Eq for Cpu {}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cpu({}, {} threads)", self.tier, self.threads())
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
            Self::Unknown(name) => {
                let names = Tier::ALL.map(Tier::name).join(", ");
                write!(f, "{VARIABLE}: unknown tier `{name}` (one of: {names})")
            }
            Self::Unsupported(tier) => {
                let best = Tier::best();
                write!(f, "{VARIABLE}: this processor cannot run tier `{tier}` (at most `{best}`)")
            }
        }
    }
}

impl error::Error for TierError {}

/// The tier of that name, if this processor has it.
fn named(name: &str) -> Result<Tier, TierError> {
    let tier = Tier::ALL.into_iter().find(|tier| tier.name() == name);
    let tier = tier.ok_or_else(|| TierError::Unknown(name.to_owned()))?;
    if tier.is_available() { Ok(tier) } else { Err(TierError::Unsupported(tier)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_refused_with_those_there_are() {
        let error = named("mmx").unwrap_err().to_string();
        assert!(error.starts_with("ONDINE_CPU: unknown tier `mmx` (one of: generic"), "{error}");
        for tier in Tier::ALL {
            let found = named(tier.name());
            assert!(found == if tier.is_available() { Ok(tier) } else { Err(TierError::Unsupported(tier)) });
        }
    }

    #[test]
    fn tiers_share_the_threads() {
        let cpu = Cpu::new(2).unwrap();
        assert!(
            cpu.tiers().any(|other| other == cpu) && cpu.tiers().next().is_some_and(|cpu| cpu.tier() == Tier::Generic)
        );
        assert!(cpu.tiers().all(|other| std::ptr::eq(other.pool(), cpu.pool())));
        assert!(Cpu::new(2).unwrap() != cpu);
    }
}
