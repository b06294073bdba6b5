//! The processor that runs the kernels, and the wish to stop.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ondine_kernels::{Cpu, Tier, WeightType, probe};

use crate::{
    error::{Error, ErrorKind, Result, fail},
    specialize::Precision,
};

/// Asks running functions to stop; clones share the wish.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Makes functions that see it end with [`ErrorKind::Cancelled`] before their next operator.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once [`Cancel::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// With [`ErrorKind::Cancelled`] once [`Cancel::cancel`] was called.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            fail!(Cancelled, "stopped on request");
        }
        Ok(())
    }
}

/// The CPU: its kernels, and the threads that share their work. Cheap to clone.
#[derive(Clone)]
pub struct Device {
    pub(crate) cpu: Cpu,
    cancel: Cancel,
}

impl Device {
    /// The most threads that are accepted.
    pub const MAX_THREADS: usize = 1024;

    /// The CPU with this many threads, or one per available core.
    ///
    /// # Errors
    /// If the environment asks for kernels that this processor does not have, or the number of threads is absurd.
    pub fn cpu(threads: Option<NonZeroUsize>) -> Result<Self> {
        let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = threads.map_or_else(available, NonZeroUsize::get);
        if threads > Self::MAX_THREADS {
            fail!(Unsupported, "{threads} threads are too many; ask for at most {}", Self::MAX_THREADS);
        }
        let cpu = Cpu::new(threads).map_err(|error| Error::new(ErrorKind::Unsupported, error.to_string()))?;
        Ok(Self { cpu, cancel: Cancel::default() })
    }

    /// The same device with the kernels of a tier such as `avx2`.
    ///
    /// # Errors
    /// If there is no such tier, the processor lacks its instructions, or `ONDINE_CPU` forbids them.
    pub fn with_tier(&self, tier: &str) -> Result<Self> {
        let Some(known) = Tier::ALL.into_iter().find(|known| known.name() == tier) else {
            let names: Vec<_> = Tier::ALL.iter().map(|tier| tier.name()).collect();
            fail!(Unsupported, "there is no tier `{tier}`; there are {}", names.join(", "));
        };
        let at_most = self.tier();
        match self.cpu.with_tier(known).filter(|_| known <= at_most) {
            Some(cpu) => Ok(Self { cpu, ..self.clone() }),
            None => fail!(Unsupported, "made for processors with {tier}; this one has {at_most} at most"),
        }
    }

    /// The same device, whose functions stop when `cancel` asks for it.
    #[must_use]
    pub fn with_cancel(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }

    /// The wish to stop that its functions look at.
    #[must_use]
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// True if both stand for the same threads.
    pub(crate) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.cpu.pool(), other.cpu.pool())
    }

    /// The number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.cpu.threads()
    }

    /// Measures the operations per second of the instructions that multiply in a precision, operands in registers: what
    /// no network can exceed. Without instructions of its own, a precision is multiplied with those of f32.
    #[must_use]
    pub fn peak(&self, precision: Precision) -> f64 {
        let dtype = match precision {
            Precision::F32 => WeightType::F32,
            Precision::BF16 => WeightType::Bf16,
            Precision::Int8 => WeightType::S8,
        };
        probe::peak(&self.cpu, dtype)
    }

    /// Measures the bytes per second that all threads together read from memory.
    #[must_use]
    pub fn read_bandwidth(&self) -> f64 {
        probe::read_bandwidth(&self.cpu)
    }

    /// The set of instructions that its kernels use.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.cpu.tier()
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({:?}, {} threads)", self.tier(), self.threads())
    }
}
