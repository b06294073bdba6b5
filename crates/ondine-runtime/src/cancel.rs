//! The wish to stop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ondine_graph::{Result, fail};

/// Asks running functions to stop; clones share the wish.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Makes functions that see it end with [`ErrorKind::Cancelled`](ondine_graph::ErrorKind::Cancelled) before their
    /// next operator.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once [`Cancel::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// With [`ErrorKind::Cancelled`](ondine_graph::ErrorKind::Cancelled) once [`Cancel::cancel`] was called.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            fail!(Cancelled, "stopped on request");
        }
        Ok(())
    }
}
