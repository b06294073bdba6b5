//! Network architectures, the readers of their files, and tokenizers.
//!
//! An architecture is one module: a `Config` read from the checkpoint's `config.json` and a `build` function that
//! makes a [`Graph`](ondine_runtime::Graph) of it, written in the checkpoint's own names from top to bottom, out of
//! the [`blocks`] that all share. Inputs and outputs have the names, shapes and meaning that they have in diffusers
//! and transformers; pictures and latents are `[batch, channels, height, width]` at this border.
//!
//! | module | class |
//! |---|---|
//! | [`clip_text`] | `CLIPTextModel`, `CLIPTextModelWithProjection` |
//! | [`bert`] | `BertModel` |
//! | [`unet`] | `UNet2DConditionModel` |
//! | [`autoencoder_kl`] | `AutoencoderKL` |
//! | [`autoencoder_tiny`] | `AutoencoderTiny` |
//!
//! [`Pipeline`] reads a folder of such networks from the disk or from the program itself ([`Source`]),
//! [`registry`] knows the architectures by class name, [`Tokenizer`] turns text into token ids.
//!
//! ```
//! use ondine_models::unet;
//!
//! # fn main() -> ondine_runtime::Result<()> {
//! let config = unet::Config::from_json(r#"{"block_out_channels": [32, 64, 64, 64], "cross_attention_dim": 24}"#)?;
//! let graph = unet::build(&config, &unet::Options::default())?;
//! let names: Vec<_> = graph.inputs().iter().map(|(name, _)| &**name).collect();
//! assert_eq!(names, ["sample", "timestep", "encoder_hidden_states"]);
//! assert_eq!(&*graph.weights()[0].path, "time_embedding.linear_1.weight");
//!
//! let error = unet::Config::from_json(r#"{"act_fn": "mish"}"#).unwrap_err();
//! assert!(error.to_string().starts_with("`act_fn` = \"mish\" is not supported"));
//! # Ok(())
//! # }
//! ```

pub mod autoencoder_kl;
pub mod autoencoder_tiny;
pub mod bert;
pub mod blocks;
pub mod clip_text;
mod config;
mod folder;
pub mod registry;
mod tokenizer;
pub mod unet;
pub mod weights;

pub use config::PerLevel;
pub use folder::{Component, Pipeline};
pub use registry::{GraphSizes, LatentSpace, Network};
pub use tokenizer::{Encoding, Tokenizer};
pub use weights::Source;

/// Shorthand for `return Err(Error::new(ErrorKind::.., format!(..)))`.
macro_rules! fail {
    ($kind:ident, $($message:tt)+) => {
        return Err(ondine_runtime::Error::new(ondine_runtime::ErrorKind::$kind, format!($($message)+)))
    };
}
pub(crate) use fail;
