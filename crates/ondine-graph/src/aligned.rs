//! Memory for numbers: aligned, zero, and not there before it is touched if it is large.

use std::{cell::Cell, fmt};

use bytemuck::{Pod, Zeroable};
use memmap2::MmapMut;

use crate::error::{Result, fail};

/// Bytes that begin at a cache line. Many are zeroed by the operating system, page by page when they are touched.
#[derive(Default)]
pub struct AlignedBytes {
    memory: Memory,
    pub(crate) len: usize,
}

/// From where on memory is asked of the operating system itself. The allocator would write zeros over what it aligns.
const MAPPED: usize = 1 << 20;

/// From where on large pages save more time than the rest of the last one is worth.
const LARGE: usize = 32 << 20;

enum Memory {
    Lines(Vec<Line>),
    Mapped(MmapMut),
}

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Default for Memory {
    fn default() -> Self {
        Self::Lines(Vec::new())
    }
}

impl Memory {
    /// `len` bytes of the operating system, if they are many and it gives them.
    fn mapped(len: usize) -> Option<Self> {
        if len < MAPPED {
            return None;
        }
        MmapMut::map_anon(len).ok().map(Self::Mapped)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Lines(lines) => bytemuck::cast_slice(lines),
            Self::Mapped(map) => map,
        }
    }
}

thread_local! {
    static MAY_BE_REFUSED: Cell<bool> = const { Cell::new(false) };
}

/// True while this thread asks for memory and can do without, as [`AlignedBytes::try_zeroed`] does: a program whose
/// allocator ends it when there is none must not do so then.
#[must_use]
pub fn memory_may_be_refused() -> bool {
    MAY_BE_REFUSED.get()
}

impl AlignedBytes {
    /// `len` zero bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let lines = || Memory::Lines(bytemuck::zeroed_vec(len.div_ceil(64)));
        Self { memory: Memory::mapped(len).unwrap_or_else(lines), len }
    }

    /// `len` zero bytes.
    ///
    /// # Errors
    /// If the system has no such memory.
    pub fn try_zeroed(len: usize) -> Result<Self> {
        if let Some(memory) = Memory::mapped(len) {
            return Ok(Self { memory, len });
        }
        MAY_BE_REFUSED.set(true);
        let lines = bytemuck::try_zeroed_vec(len.div_ceil(64));
        MAY_BE_REFUSED.set(false);
        match lines {
            Ok(lines) => Ok(Self { memory: Memory::Lines(lines), len }),
            Err(()) => fail!(Memory, "there is no memory for {len} bytes"),
        }
    }

    /// Asks the operating system for large pages: for memory that is used to its end, such as a workspace, where each
    /// small page would cost a fault.
    #[must_use]
    pub fn in_large_pages(self) -> Self {
        #[cfg(target_os = "linux")]
        if let (Memory::Mapped(map), LARGE..) = (&self.memory, self.len) {
            // Small ones do as well.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        self
    }

    /// Makes it `len` bytes long; what they hold is unspecified, but never uninitialized.
    pub fn resize(&mut self, len: usize) {
        if len > self.memory.bytes().len() {
            *self = Self::zeroed(len);
        }
        self.len = len;
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.memory.bytes()[..self.len]
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let bytes = match &mut self.memory {
            Memory::Lines(lines) => bytemuck::cast_slice_mut(lines),
            Memory::Mapped(map) => map,
        };
        &mut bytes[..self.len]
    }
}

impl Clone for AlignedBytes {
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len);
        copy.as_mut_slice().copy_from_slice(self.as_slice());
        copy
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBytes").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_bytes_are_alike() {
        for len in [0, 1, 64, 1000, MAPPED - 1, MAPPED, MAPPED + 1, LARGE + 5] {
            let mut bytes = AlignedBytes::try_zeroed(len).unwrap().in_large_pages();
            assert!(bytes.as_slice().len() == len && bytes.as_slice().iter().all(|byte| *byte == 0), "{len}");
            assert!((bytes.as_slice().as_ptr() as usize).is_multiple_of(64) || len == 0, "{len}");
            bytes.as_mut_slice().fill(7);
            let copy = bytes.clone();
            assert!(copy.as_slice() == bytes.as_slice(), "{len}");
            bytes.resize(len / 2);
            assert!(bytes.as_slice() == &copy.as_slice()[..len / 2], "{len}");
            bytes.resize(2 * len);
            assert_eq!(bytes.as_slice().len(), 2 * len);
        }
        assert!(AlignedBytes::try_zeroed(usize::MAX / 2).is_err());
    }
}
