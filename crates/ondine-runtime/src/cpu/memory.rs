//! Memory that outlives calls: the program's own.

use std::any::Any;

use ondine_graph::{AlignedBytes, Result, fail};

use crate::backend::Memory;

/// Bytes of the program.
#[derive(Debug)]
pub(super) struct HostMemory(pub(super) AlignedBytes);

impl Memory for HostMemory {
    fn len(&self) -> usize {
        self.0.as_slice().len()
    }

    fn host(&self) -> Option<&[u8]> {
        Some(self.0.as_slice())
    }

    fn host_mut(&mut self) -> Option<&mut [u8]> {
        Some(self.0.as_mut_slice())
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<()> {
        let len = self.len();
        let end = offset.checked_add(bytes.len());
        match end.and_then(|end| self.0.as_mut_slice().get_mut(offset..end)) {
            Some(out) => out.copy_from_slice(bytes),
            None => fail!(Shape, "{} bytes from byte {offset} on do not fit {len}", bytes.len()),
        }
        Ok(())
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(out.len());
        match end.and_then(|end| self.0.as_slice().get(offset..end)) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => fail!(Shape, "{} bytes from byte {offset} on are more than there are", out.len()),
        }
        Ok(())
    }

    fn into_bytes(self: Box<Self>) -> Result<AlignedBytes> {
        Ok(self.0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
