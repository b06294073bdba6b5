//! What is kept on the disk of this machine's stage: entries of the cache, and functions built ahead of time.

pub(crate) mod built;
pub(crate) mod cache;
pub(crate) mod packed;
