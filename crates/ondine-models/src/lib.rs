//! Network architectures, the readers of their files, and tokenizers.
//!
//! An architecture is one module: a `Config` read from the checkpoint's `config.json`, a `build` function that makes a
//! [`Graph`](ondine_graph::Graph) of it, written in the checkpoint's own names from top to bottom, out of the
//! [`blocks`] that all share, and the [`Architecture`] that tells what else is known of its class. Inputs and outputs
//! have the names, shapes and meaning that they have in diffusers and transformers; pictures and latents are
//! `[batch, channels, height, width]` at this border.
//!
//! | module | class |
//! |---|---|
//! | [`clip_text`] | `CLIPTextModel`, `CLIPTextModelWithProjection` |
//! | [`bert`] | `BertModel` |
//! | [`t5`] | `T5EncoderModel` |
//! | [`transformer`] | `LlamaForCausalLM` and other decoders |
//! | [`unet`] | `UNet2DConditionModel` |
//! | [`sd3`] | `SD3Transformer2DModel` |
//! | [`flux`] | `FluxTransformer2DModel` |
//! | [`flux2`] | `Flux2Transformer2DModel` |
//! | [`z_image`] | `ZImageTransformer2DModel` |
//! | [`sana`] | `SanaTransformer2DModel` |
//! | [`autoencoder::kl`] | `AutoencoderKL` |
//! | [`autoencoder::deep`] | `AutoencoderDC` |
//! | [`autoencoder::squares`] | `AutoencoderKLFlux2` |
//! | [`autoencoder::tiny`] | `AutoencoderTiny` |
//! | [`upscaler`] | `RRDBNet`, `SRVGGNetCompact` |
//!
//! [`Pipeline`] reads a folder of such networks from the disk or from the program itself ([`Source`]),
//! [`registry`] knows the architectures by class name, [`Tokenizer`] turns prompts of pictures into token ids,
//! [`Vocabulary`] text of language models into ids and back, [`gguf`] reads files of ggml, [`Adapter`] changes language
//! models by factors of low rank.
//!
//! ```
//! use ondine_models::unet;
//!
//! # fn main() -> ondine_graph::Result<()> {
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

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod adapter;
pub mod architecture;
pub mod autoencoder;
pub mod bert;
pub mod blocks;
mod checkpoint;
pub mod clip_text;
pub mod clip_vision;
mod config;
pub mod flux;
pub mod flux2;
mod folder;
pub mod gguf;
pub mod image_projection;
pub mod ip_adapter;
mod language;
pub mod lora;
pub mod ncnn;
mod network;
pub mod registry;
pub mod sana;
pub mod sd3;
pub mod t5;
pub mod textual_inversion;
mod tokenizer;
pub mod torch_file;
pub mod transformer;
pub mod unet;
pub mod upscaler;
pub mod vocabulary;
pub mod weights;
pub mod z_image;

pub use adapter::Adapter;
pub use architecture::{
    Architecture, ControlFacts, DenoiserFacts, FlowFacts, Functions, GraphSizes, GuidanceInput, HiddenStates,
    LatentSpace, LevelShift, PictureFacts, References, Role, TextFacts, TextLayout, TokenFacts, UpscalerFacts,
};
pub use blocks::REFERENCES;
pub use checkpoint::{Finding, open_control, open_tensors, open_upscaler, upscaler_of};
pub use config::{PerLevel, class_of};
pub use folder::{Component, Pipeline};
pub use language::Language;
pub use network::{CONFIG, Network};
pub use tokenizer::{Encoding, Tokenizer};
pub use transformer::{KvCache, Rings, Room};
pub use vocabulary::Vocabulary;
pub use weights::Source;
