//! Memory that outlives calls.

use std::{any::Any, sync::Arc};

use ondine_graph::{AlignedBytes, Error, ErrorKind, Result};
use ondine_runtime::backend::Memory;

use super::health::Health;

/// A block of one of the device's memories.
#[derive(Debug)]
pub(super) struct Block {
    bytes: AlignedBytes,
    host: bool,
    health: Arc<Health>,
    since: u64,
}

impl Block {
    pub(super) fn new(len: usize, host: bool, health: Arc<Health>) -> Result<Self> {
        let since = health.now();
        Ok(Self { bytes: AlignedBytes::try_zeroed(len)?, host, health, since })
    }

    /// The bytes, for the device itself.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The bytes, for the device itself.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.as_mut_slice()
    }

    /// What was the program's before is its own even when the device is gone.
    fn check(&self) -> Result<()> {
        if self.host { Ok(()) } else { self.health.check(self.since) }
    }
}

fn outside(offset: usize, len: usize) -> Error {
    Error::new(ErrorKind::Internal, format!("bytes from {offset} on of {len}"))
}

impl Memory for Block {
    fn len(&self) -> usize {
        self.bytes().len()
    }

    fn host(&self) -> Option<&[u8]> {
        self.host.then(|| self.bytes())
    }

    fn host_mut(&mut self) -> Option<&mut [u8]> {
        self.host.then(|| self.bytes.as_mut_slice())
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let len = self.len();
        let end = offset.checked_add(bytes.len()).ok_or_else(|| outside(offset, len))?;
        self.bytes_mut().get_mut(offset..end).ok_or_else(|| outside(offset, len))?.copy_from_slice(bytes);
        Ok(())
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        self.check()?;
        let end = offset.checked_add(out.len()).ok_or_else(|| outside(offset, self.len()))?;
        out.copy_from_slice(self.bytes().get(offset..end).ok_or_else(|| outside(offset, self.len()))?);
        Ok(())
    }

    fn into_bytes(self: Box<Self>) -> Result<AlignedBytes> {
        self.check()?;
        Ok(self.bytes)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
