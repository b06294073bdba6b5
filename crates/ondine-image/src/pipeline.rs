//! Text to picture: encode the prompt, denoise latents under its guidance, decode them to pixels.
//!
//! [`TextToImage`] works for any diffusers folder of text encoders, a denoiser (U-Net or
//! transformer) and an autoencoder. It never asks which
//! model it is: what the networks take, and the facts that their architectures state, decide (Rombach et al. 2022).
//! [`TextToImage::prepare`] makes a [`Drawing`] of a request: every choice made, every graph fitted to this machine,
//! and the memory known, while no weight is loaded. [`Drawing::draw`] does the rest.

mod beside;
mod conditioning;
mod control;
mod decode;
mod denoise;
mod drawing;
mod edit;
mod encode;
mod event;
mod fit;
mod image_prompt;
mod memory;
mod model;
mod networks;
mod parameters;
mod part;
mod pictures;
mod predict;
mod preview;
mod prompter;
mod prompts;
mod text;

pub use drawing::Drawing;
pub use event::Event;
pub use memory::{MemoryPlan, StagePlan};
pub use model::TextToImage;
pub use parameters::Size;
pub use pictures::Pictures;
