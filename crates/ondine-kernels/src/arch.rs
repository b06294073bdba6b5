//! What tiers differ in: each is a file here that holds instructions, and nothing of any algorithm.
//!
//! An algorithm is written once, as a [`Kernel`](enter::Kernel) that is generic over [`Isa`](isa::Isa), and compiled
//! for each tier by [`Tier::enter`](tier::Tier::enter). The types of instruction sets, and of the vectors that they
//! compute with, are private to this folder: code elsewhere is handed them by being entered and in no other way. So it
//! may compute with vectors without `unsafe`; whoever enters has made sure that the processor has the instructions.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod dot;
pub(crate) mod enter;
mod generic;
pub(crate) mod half;
pub(crate) mod isa;
pub(crate) mod lane;
pub(crate) mod product;
pub(crate) mod tier;
pub(crate) mod vector;

pub(crate) use generic::Generic;
