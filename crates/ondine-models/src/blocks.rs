//! The layers and blocks that architectures are made of, each written once.
//!
//! A block takes its [`Module`] and its input, and yields its output. Input widths are read off the input; only what
//! the checkpoint adds is passed. Feature maps are channels-last, `[batch, height, width, channels]`; sequences are
//! `[batch, tokens, width]`.

mod attention;
mod layers;
mod module;
mod resnet;
mod time;

pub use attention::{AttentionSpec, Projections, Transformer2D, attention, feed_forward, geglu, transformer_2d};
pub use layers::{conv_same, conv2d, embedding, group_norm, layer_norm, linear, positions, rms_norm};
pub use module::Module;
pub use resnet::{ResnetSpec, downsample, resnet, upsample};
pub use time::{sinusoid, timestep_embedding};
