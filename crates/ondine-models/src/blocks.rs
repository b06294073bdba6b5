//! The layers and blocks that architectures are made of, each written once.
//!
//! A block takes its [`Module`] and its input, and yields its output. Input widths are read off the input; only what
//! the checkpoint adds is passed. Feature maps are channels-last, `[batch, height, width, channels]`; sequences are
//! `[batch, tokens, width]`.

mod attention;
mod clip_layer;
mod inverted;
mod joint;
mod layers;
mod linear_attention;
mod modulation;
mod module;
mod resnet;
mod rotary;
mod time;

pub use attention::{
    AttentionSpec, ImageTokens, Projections, Transformer2D, attention, feed_forward, geglu, transformer_2d,
};
pub use clip_layer::{ClipLayer, clip_layer};
pub use inverted::inverted_bottleneck;
pub use joint::{
    Heads, JointBlock, JointOptions, NORM_EPS, REFERENCES, gated, joint_block, one_sequence, single_block,
};
pub use layers::{
    conv_same, conv2d, embedding, group_norm, layer_norm, linear, positions, rms_norm, rms_norm_with_bias,
};
pub use linear_attention::linear_attention;
pub use modulation::{Modulation, continuous_norm, modulated, modulation_parts, modulations, plain_layer_norm};
pub use module::Module;
pub use resnet::{ResnetSpec, downsample, resnet, upsample};
pub use rotary::{Axes, TextPositions};
pub use time::{Conditions, sinusoid, time_text_embedding, timestep_embedding};
