//! Packed weights on the disk: the file, and the cache of such files.

pub(crate) mod cache;
pub(crate) mod packed;
