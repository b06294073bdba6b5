//! What functions run on, and the wish to stop.

use std::{fmt, sync::Arc};

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

    /// The same device, whose functions stop when `cancel` asks for it.
    #[must_use]
    pub fn with_cancel(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }

    /// The same device on another backend.
    #[must_use]
    pub(crate) fn with_backend(&self, backend: Arc<dyn Backend>) -> Self {
        Self { backend, cancel: self.cancel.clone() }
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
