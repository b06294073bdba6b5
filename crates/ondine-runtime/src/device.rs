//! What functions run on, and the wish to stop.

use std::{fmt, sync::Arc};

use ondine_graph::Result;

use crate::{backend::Backend, cancel::Cancel};

/// A backend that functions run on. Cheap to clone.
#[derive(Clone)]
pub struct Device {
    backend: Arc<dyn Backend>,
    cancel: Cancel,
}

impl Device {
    /// A device that runs on this backend.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, cancel: Cancel::default() }
    }

    /// What runs its functions.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The same device, whose calls stop when `cancel` asks for it while they run.
    #[must_use]
    pub fn with_cancel(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }

    /// The same device, kept to what [`Identity::key`](crate::backend::Identity::key) names: to the instructions of the
    /// tier `avx2`, for instance.
    ///
    /// # Errors
    /// If it cannot run what was made for that.
    pub fn narrowed(&self, key: &str) -> Result<Self> {
        Ok(Self { backend: self.backend.narrowed(key)?, cancel: self.cancel.clone() })
    }

    /// The wish to stop that its functions look at.
    #[must_use]
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// True if both run on the same backend.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.backend, &other.backend)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({:?})", self.backend)
    }
}
