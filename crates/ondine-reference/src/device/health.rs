//! Whether the device is still there.

use std::sync::atomic::{AtomicU64, Ordering};

use ondine_graph::{Error, ErrorKind, Result};

/// Whether the device is still there.
#[derive(Debug)]
pub(super) struct Health {
    /// How often it was lost.
    losses: AtomicU64,
    /// Steps that it runs before it is lost.
    steps: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self { losses: AtomicU64::new(0), steps: AtomicU64::new(u64::MAX) }
    }
}

impl Health {
    /// How often it was lost so far: what is made now lasts as long as this number does.
    pub(super) fn now(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// Loses it.
    pub(super) fn lose(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
        self.steps.store(u64::MAX, Ordering::Relaxed);
    }

    /// Loses it once so many steps have run.
    pub(super) fn lose_after(&self, steps: u64) {
        self.steps.store(steps, Ordering::Relaxed);
    }

    /// Makes sure that it was not lost since.
    pub(super) fn check(&self, since: u64) -> Result<()> {
        if self.now() == since {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Lost, "the device is gone; load the model again"))
    }

    /// Counts a step.
    pub(super) fn step(&self, since: u64) -> Result<()> {
        if self.steps.load(Ordering::Relaxed) == 0 {
            self.lose();
        }
        self.steps.fetch_sub(1, Ordering::Relaxed);
        self.check(since)
    }
}
