//! Autoencoders between pictures and the latents of diffusion.

pub mod deep;
pub mod kl;
mod options;
pub mod squares;
pub mod tiny;

pub use options::Options;
