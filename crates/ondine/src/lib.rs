//! Ondine: on-device inference for generative models.
//!
//! This crate gathers the libraries under one name and holds the models that ship inside the program:
//!
//! - [`image`]: pictures from text
//! - [`graph`]: what a network computes, of no machine: graphs, weights, assets
//! - [`language`]: text from text
//! - [`pt2`]: archives of `torch.export.save` as assets
//! - [`runtime`]: assets specialized for a machine, and run
//! - [`models`]: architectures, checkpoints, tokenizers
//! - [`genmoji`]: the built-in picture model
//! - [`realesrgan`]: the built-in network that makes pictures larger
//! - [`model`]: opens whatever a command takes as MODEL
//! - [`catalog`]: models that can be fetched
//! - [`folders`]: where caches and models of this user lie
//!
//! ```
//! use ondine::image::{pipeline::TextToImage, request::Request};
//! use ondine::runtime::Device;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = TextToImage::open(ondine::genmoji::source(), Device::cpu(None)?, None)?;
//! let request = Request { steps: Some(2), ..Request::new("a laughing cat") };
//! let pictures = model.draw(&request, &mut |_| {})?;
//! let picture = pictures.picture(0)?;
//! assert_eq!((picture.width, picture.height), (128, 128));
//! # Ok(())
//! # }
//! ```

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub use ondine_graph as graph;
pub use ondine_image as image;
pub use ondine_language as language;
pub use ondine_models as models;
pub use ondine_pt2 as pt2;
pub use ondine_runtime as runtime;

pub mod catalog;
mod embedded;
mod fetch;
pub mod folders;
pub mod genmoji;
pub mod model;
mod package;
pub mod realesrgan;
