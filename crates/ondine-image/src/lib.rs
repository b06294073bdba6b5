//! ondine-image

pub mod error;
pub mod noise;
pub mod sampler;
pub mod schedule;
pub use error::{Error, ErrorKind, Result};
