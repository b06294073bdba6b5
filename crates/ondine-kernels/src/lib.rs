//! The arithmetic of Ondine: matrix products, convolutions, attention and row-wise operations over plain slices.
//!
//! This crate knows no tensor, no graph and no model. Its functions take slices, shapes and strides; feature maps are
//! channels-last. Everything is written once and compiled for several instruction sets ([`Tier`]); the best one is
//! chosen when the program runs, so one binary serves every processor.
//!
//! - [`kernels()`] gives the table of functions for this processor; [`Kernels::for_tier`] any other that it can run.
//! - [`Pool`] holds the threads. Results have the same bits for any number of them.

#![expect(unsafe_code, reason = "SIMD intrinsics and disjoint writes from several threads")]

mod arch;
mod convert;
mod elementwise;
mod math;
mod norm;
mod quant;
mod resize;
mod rowwise;
mod softmax;
mod table;
mod threads;

pub use math::Activation;
pub use table::{Kernels, Tier, TierError, detect, kernels};
pub use threads::Pool;

#[cfg(test)]
mod rowwise_suite;
