//! Mapping files into memory: the one place of this crate that needs `unsafe`.
#![expect(unsafe_code, reason = "memmap2 cannot prove that nobody else changes the file")]

use std::{fs::File, path::Path};

use memmap2::{Mmap, UncheckedAdvice};

use crate::error::{Context, Result};

/// Maps a whole file for reading.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).at(|| path.display().to_string())?;
    // SAFETY: the mapping is read-only and is only ever seen as bytes, for which every pattern is valid. A process
    // that truncates the file meanwhile makes this one end with SIGBUS; model files and cache entries are replaced
    // by renaming, never changed in place.
    unsafe { Mmap::map(&file) }.at(|| path.display().to_string())
}

/// Gives the physical pages of `map[range]` back; they are read from the file again when touched.
pub(crate) fn forget(map: &Mmap, offset: usize, len: usize) {
    // SAFETY: the mapping is read-only and backed by a file, so dropped pages come back with the same bytes.
    // A refusal only means that the pages stay.
    let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
}
