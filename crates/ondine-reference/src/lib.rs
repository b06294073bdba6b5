//! What operators mean, said a second time: plain loops in f64 over the operators of a graph, for tests only.
//!
//! - [`evaluate`]: one operator, on numbers that are as exact as f64 or that carry along what a device of 32 bits may
//!   be off by ([`Bounded`])
//! - [`evaluate_graph`]: a whole graph, node by node
//! - [`suite`]: every operator on a device against its meaning
//! - [`Tensor`]: what it takes and yields

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod device;
mod evaluate;
mod graph;
mod index;
mod number;
pub mod suite;
mod tensor;

pub use device::Reference;
pub use evaluate::evaluate;
pub use graph::{Arguments, Outcome, Rounding, evaluate_graph};
pub use number::{Bounded, ELEMENTARY, Real, UNIT};
pub use tensor::{Elements, Tensor};
