//! The processor: its kernels, and the threads that share their work.

use std::{fmt, num::NonZeroUsize, sync::Arc};

use ondine_graph::{DType, Error, ErrorKind, Result, fail};
use ondine_kernels::{Cpu, Tier, WeightType, probe};

use crate::{
    backend::{Identity, Space},
    options::Precision,
};

/// The most threads that are accepted.
pub(super) const MAX_THREADS: usize = 1024;

/// The CPU as a backend. Cheap to clone.
#[derive(Clone)]
pub struct Processor {
    pub(super) cpu: Cpu,
    pub(super) identity: Arc<Identity>,
}

impl Processor {
    /// The CPU with this many threads, or one per available core.
    ///
    /// # Errors
    /// If the environment asks for kernels that this processor does not have, or the number of threads is absurd.
    pub fn new(threads: Option<NonZeroUsize>) -> Result<Self> {
        let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = threads.map_or_else(available, NonZeroUsize::get);
        if threads > MAX_THREADS {
            fail!(Unsupported, "{threads} threads are too many; ask for at most {MAX_THREADS}");
        }
        let cpu = Cpu::new(threads).map_err(|error| Error::new(ErrorKind::Unsupported, error.to_string()))?;
        Ok(Self::of(cpu))
    }

    fn of(cpu: Cpu) -> Self {
        let quick_half = cpu.tier().has_bf16_products();
        let tier = cpu.tier().name();
        let host = Space { name: "host", align: 64, granule: 1, chunk: usize::MAX, host: true };
        let (name, key) = (format!("cpu {tier}").into(), tier.into());
        let identity = Identity { name, key, spaces: [host].into(), half: DType::BF16, quick_half };
        Self { cpu, identity: Arc::new(identity) }
    }

    /// The same processor with the kernels of a tier such as `avx2`.
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
            Some(cpu) => Ok(Self::of(cpu)),
            None => fail!(Unsupported, "made for processors with {tier}; this one has {at_most} at most"),
        }
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
            Precision::Int8 | Precision::A8 => WeightType::S8,
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

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Processor({:?}, {} threads)", self.tier(), self.threads())
    }
}
