//! Shared read-only bytes: a mapped file, a part of the program, or memory.

use std::{
    fmt,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    aligned::AlignedBytes,
    error::Result,
    mmap::{self, Mapping},
};

/// A range of read-only bytes that is cheap to clone and to cut.
#[derive(Clone)]
pub struct Bytes {
    owner: Owner,
    start: usize,
    len: usize,
}

#[derive(Clone)]
enum Owner {
    Mapped(Arc<(Mapping, PathBuf)>),
    Static(&'static [u8]),
    Memory(Arc<AlignedBytes>),
}

impl Bytes {
    /// The contents of a file, read when touched.
    ///
    /// # Errors
    /// If the file cannot be opened or mapped.
    pub fn map(path: &Path) -> Result<Self> {
        if path.metadata().is_ok_and(|meta| meta.len() == 0) {
            return Ok(Self::from_static(&[]));
        }
        let map = mmap::map(path)?;
        let len = map.len();
        Ok(Self { owner: Owner::Mapped(Arc::new((map, path.to_path_buf()))), start: 0, len })
    }

    /// Bytes that are part of the program.
    #[must_use]
    pub fn from_static(bytes: &'static [u8]) -> Self {
        Self { owner: Owner::Static(bytes), start: 0, len: bytes.len() }
    }

    /// The bytes from `start` on, `len` of them, without copying.
    ///
    /// Yields `None` if they are not all there.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> Option<Self> {
        let end = start.checked_add(len)?;
        (end <= self.len).then(|| Self { owner: self.owner.clone(), start: self.start + start, len })
    }

    /// Tells the system that the pages are not needed for now, which frees their memory if they are a file's.
    pub fn forget(&self) {
        if let Owner::Mapped(map) = &self.owner {
            // Whole pages only: the edges may belong to a neighbour that is in use.
            let page = 4096;
            let start = self.start.next_multiple_of(page);
            let end = (self.start + self.len) / page * page;
            if start < end {
                mmap::forget(&map.0, start, end - start);
            }
        }
    }

    /// The file whose bytes these are or are part of, if they are mapped.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.owner {
            Owner::Mapped(map) => Some(&map.1),
            Owner::Static(_) | Owner::Memory(_) => None,
        }
    }

    /// True if these are bytes of the program itself.
    #[must_use]
    pub fn is_static(&self) -> bool {
        matches!(self.owner, Owner::Static(_))
    }

    /// The whole file, program part or memory that these bytes are a range of.
    #[must_use]
    pub fn whole(&self) -> Self {
        let len = match &self.owner {
            Owner::Mapped(map) => map.0.len(),
            Owner::Static(bytes) => bytes.len(),
            Owner::Memory(bytes) => bytes.as_slice().len(),
        };
        Self { owner: self.owner.clone(), start: 0, len }
    }
}

impl From<AlignedBytes> for Bytes {
    fn from(bytes: AlignedBytes) -> Self {
        let len = bytes.as_slice().len();
        Self { owner: Owner::Memory(Arc::new(bytes)), start: 0, len }
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        let mut copy = AlignedBytes::zeroed(bytes.len());
        copy.as_mut_slice().copy_from_slice(bytes);
        copy.into()
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all = match &self.owner {
            Owner::Mapped(map) => &map.0[..],
            Owner::Static(bytes) => bytes,
            Owner::Memory(bytes) => bytes.as_slice(),
        };
        &all[self.start..self.start + self.len]
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.len)
    }
}
