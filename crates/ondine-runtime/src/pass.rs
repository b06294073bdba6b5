//! Passes: named rewrites of a graph that know no machine, one file each. A backend lists those that it wants.

pub(crate) mod caches;
pub(crate) mod fold;
pub(crate) mod fuse;
pub(crate) mod low_rank;
pub(crate) mod materialize;
pub(crate) mod precision;
