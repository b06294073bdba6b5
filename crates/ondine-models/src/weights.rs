//! Reading checkpoints: where their files lie, which of them hold the weights, and whether these fit a network.

mod check;
mod files;
mod rename;
mod scaled;
mod source;

pub use check::check;
pub use files::{load, weight_files};
pub use rename::{Rename, rename};
pub(crate) use scaled::attach_scales;
pub use source::{Files, Source};
pub(crate) use source::{VOCABULARY, join, plain_name};
