//! Ondine: on-device inference for generative models.
//!
//! This crate gathers the libraries under one name and holds the models that ship inside the program:
//!
//! - [`image`]: pictures from text
//! - [`runtime`]: graphs, and the functions they become
//! - [`models`]: architectures, checkpoints, tokenizers
//! - [`genmoji`]: the built-in picture model
//!
//! ```no_run
//! use ondine::image::pipeline::{Request, TextToImage};
//! use ondine::runtime::Device;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut pipeline = TextToImage::open(ondine::genmoji::source(), Device::cpu(None)?, None)?;
//! let pictures = pipeline.draw(&Request::new("a laughing cat"), &mut |_| {})?;
//! let (pixels, size) = pictures.pixels(0);
//! assert_eq!(pixels.len(), 3 * size.width * size.height);
//! # Ok(())
//! # }
//! ```

pub use ondine_image as image;
pub use ondine_models as models;
pub use ondine_runtime as runtime;

pub mod genmoji;
