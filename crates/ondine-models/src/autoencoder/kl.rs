//! The variational autoencoder of latent diffusion (Rombach et al. 2022), as in diffusers: `AutoencoderKL`.

use ondine_graph::{Activation, Graph, Result, Value};
use serde::Deserialize;

use super::options::{self, Options};
use crate::{
    architecture::{Architecture, Functions, GraphSizes, LatentSpace, Role},
    blocks::{
        AttentionSpec, Module, Projections, ResnetSpec, attention, conv_same, downsample, group_norm, resnet, upsample,
    },
    config::{self, MAX_DEPTH, MAX_WIDTH, activation, all_bounded, bounded, divides, same_length, supported},
    weights::Rename,
};

/// `config.json` of an autoencoder; defaults are those of `AutoencoderKL`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of the pictures that are encoded.
    pub in_channels: usize,
    /// Channels of the pictures that are decoded.
    pub out_channels: usize,
    /// `DownEncoderBlock2D` for each level.
    pub down_block_types: Vec<String>,
    /// `UpDecoderBlock2D` for each level.
    pub up_block_types: Vec<String>,
    /// Channels of each level, from the pictures'.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each level; one more in the decoder.
    pub layers_per_block: usize,
    /// Activation in residual blocks.
    pub act_fn: String,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Groups of the group norms.
    pub norm_num_groups: usize,
    /// What latents are multiplied by before diffusion.
    pub scaling_factor: f32,
    /// What is subtracted from latents before they are multiplied.
    pub shift_factor: Option<f32>,
    /// Means of the latents' channels: what is subtracted, where it differs by channel.
    pub latents_mean: Option<Vec<f32>>,
    /// Standard deviations of the latents' channels: what they are divided by, besides being multiplied.
    pub latents_std: Option<Vec<f32>>,
    /// True if a 1x1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// True if a 1x1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
    /// True if there is an attention at the lowest resolution.
    pub mid_block_add_attention: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec!["DownEncoderBlock2D".into()],
            up_block_types: vec!["UpDecoderBlock2D".into()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: "silu".into(),
            latent_channels: 4,
            norm_num_groups: 32,
            scaling_factor: 0.18215,
            shift_factor: None,
            latents_mean: None,
            latents_std: None,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }
}

impl Config {
    /// Reads and checks the text of a `config.json`.
    ///
    /// # Errors
    /// If it is no valid config, or asks for something absurd or unknown.
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Self = config::options(json, WITHOUT_EFFECT)?;
        config.check()?;
        Ok(config)
    }

    /// How many pixels a latent stands for, along each side.
    #[must_use]
    pub fn downscale(&self) -> usize {
        1 << self.block_out_channels.len().saturating_sub(1)
    }

    pub(super) fn check(&self) -> Result<ResnetSpec> {
        let levels = bounded("block_out_channels", self.block_out_channels.len(), 16)?;
        same_length("down_block_types", &self.down_block_types, levels)?;
        same_length("up_block_types", &self.up_block_types, levels)?;
        for block in &self.down_block_types {
            supported("down_block_types", &block.as_str(), &["DownEncoderBlock2D"])?;
        }
        for block in &self.up_block_types {
            supported("up_block_types", &block.as_str(), &["UpDecoderBlock2D"])?;
        }
        for &channels in &self.block_out_channels {
            bounded("block_out_channels", channels, MAX_WIDTH)?;
            divides("norm_num_groups", self.norm_num_groups, "the channels", channels)?;
        }
        all_bounded([
            ("in_channels", self.in_channels, MAX_WIDTH),
            ("out_channels", self.out_channels, MAX_WIDTH),
            ("latent_channels", self.latent_channels, MAX_WIDTH),
            ("layers_per_block", self.layers_per_block, MAX_DEPTH),
        ])?;
        Ok(ResnetSpec {
            groups: self.norm_num_groups,
            eps: EPS,
            activation: activation("act_fn", &self.act_fn)?,
            time: None,
            scale_shift: false,
            output_scale: 1.0,
        })
    }
}

/// The size of pictures that are cut into tiles, and whether half precision is avoided.
const WITHOUT_EFFECT: &[&str] = &["sample_size", "force_upcast"];

const EPS: f32 = 1e-6;

/// Builds the encoder.
///
/// Input: `sample` `[batch, in_channels, height, width]` in -1..1. Output: `moments`
/// `[batch, 2 * latent_channels, height', width']`, each side divided by [`Config::downscale`] and rounded down: the
/// means of the latents, then the logarithms of their variances, neither shifted nor scaled.
///
/// # Errors
/// If the config is absurd or asks for something that is not supported.
pub fn build_encoder(config: &Config, options: &Options) -> Result<Graph> {
    let mut graph = Graph::new();
    let root = &mut Module::root(&mut graph);
    let x = options.input(root, "sample", config.in_channels)?;
    let x = encoded(root, x, config)?;
    let x = root.channels_first(x)?;
    root.output("moments", x);
    Ok(graph)
}

/// The moments of pictures `[b, h, w, in_channels]`, `[b, h', w', 2 * latent_channels]`.
pub(super) fn encoded(root: &mut Module<'_>, x: Value, config: &Config) -> Result<Value> {
    let spec = config.check()?;
    let channels = &config.block_out_channels;
    let m = &mut root.at("encoder");
    let mut x = conv_same(&mut m.at("conv_in"), x, channels[0], 3)?;
    for (i, &channels) in channels.iter().enumerate() {
        let m = &mut m.at(format_args!("down_blocks.{i}"));
        for j in 0..config.layers_per_block {
            x = resnet(&mut m.at(format_args!("resnets.{j}")), x, channels, &spec)?;
        }
        if i + 1 < config.block_out_channels.len() {
            x = downsample(&mut m.at("downsamplers.0"), x, 0)?;
        }
    }
    x = middle(&mut m.at("mid_block"), x, config, &spec)?;
    let moments = 2 * config.latent_channels;
    x = head(m, x, moments, &spec)?;
    if config.use_quant_conv {
        x = conv_same(&mut root.at("quant_conv"), x, moments, 1)?;
    }
    Ok(x)
}

/// Builds the decoder.
///
/// Input: `latents` `[batch, latent_channels, height, width]`, already divided by `scaling_factor` and shifted.
/// Output: `sample` `[batch, out_channels, height', width']`, each side multiplied by [`Config::downscale`], about
/// -1..1.
///
/// # Errors
/// If the config is absurd or asks for something that is not supported.
pub fn build_decoder(config: &Config, options: &Options) -> Result<Graph> {
    let mut graph = Graph::new();
    let root = &mut Module::root(&mut graph);
    let x = options.input(root, "latents", config.latent_channels)?;
    let x = decoded(root, x, config)?;
    let x = root.channels_first(x)?;
    root.output("sample", x);
    Ok(graph)
}

/// The pictures of latents `[b, h, w, latent_channels]`, `[b, h', w', out_channels]`.
pub(super) fn decoded(root: &mut Module<'_>, mut x: Value, config: &Config) -> Result<Value> {
    let spec = config.check()?;
    if config.use_post_quant_conv {
        x = conv_same(&mut root.at("post_quant_conv"), x, config.latent_channels, 1)?;
    }
    let m = &mut root.at("decoder");
    let channels: Vec<_> = config.block_out_channels.iter().rev().copied().collect();
    x = conv_same(&mut m.at("conv_in"), x, channels[0], 3)?;
    x = middle(&mut m.at("mid_block"), x, config, &spec)?;
    for (i, &channels) in channels.iter().enumerate() {
        let m = &mut m.at(format_args!("up_blocks.{i}"));
        for j in 0..=config.layers_per_block {
            x = resnet(&mut m.at(format_args!("resnets.{j}")), x, channels, &spec)?;
        }
        if i + 1 < config.block_out_channels.len() {
            let doubled = [1, 2].map(|axis| &m.dim(x, axis) * 2);
            x = upsample(&mut m.at("upsamplers.0.conv"), x, doubled, true)?;
        }
    }
    head(m, x, config.out_channels, &spec)
}

/// Residual block, attention of one head, residual block, at the lowest resolution.
fn middle(m: &mut Module<'_>, x: Value, config: &Config, spec: &ResnetSpec) -> Result<Value> {
    let channels = m.width(x)?;
    let mut x = resnet(&mut m.at("resnets.0"), x, channels, spec)?;
    if config.mid_block_add_attention {
        x = map_attention(&mut m.at("attentions.0"), x, spec.groups)?;
    }
    resnet(&mut m.at("resnets.1"), x, channels, spec)
}

/// Every pixel of `x` `[b, h, w, c]` attends to all.
fn map_attention(m: &mut Module<'_>, x: Value, groups: usize) -> Result<Value> {
    let spec = AttentionSpec { names: Projections::DIFFUSERS, heads: 1, bias: true, causal: false, mask: None };
    let map = m.shape(x).clone();
    let [batch, height, columns, channels] = [0, 1, 2, 3].map(|axis| m.dim(x, axis));
    let h = group_norm(&mut m.at("group_norm"), x, groups, EPS)?;
    let h = m.reshape(h, vec![batch, &height * &columns, channels])?;
    let h = attention(m, h, None, &spec)?;
    let h = m.reshape(h, map)?;
    m.add(h, x)
}

/// What ends encoder and decoder; its activation is `SiLU` whatever `act_fn` says.
fn head(m: &mut Module<'_>, x: Value, out: usize, spec: &ResnetSpec) -> Result<Value> {
    let x = group_norm(&mut m.at("conv_norm_out"), x, spec.groups, EPS)?;
    let x = m.activation(Activation::Silu, x)?;
    conv_same(&mut m.at("conv_out"), x, out, 3)
}

/// The facts of the latents.
fn latent_space(json: &str) -> Result<LatentSpace> {
    let config = Config::from_json(json)?;
    options::Latents {
        factor: config.downscale(),
        channels: config.latent_channels,
        colors: config.out_channels,
        scaling: config.scaling_factor,
        shift: config.shift_factor,
        mean: config.latents_mean,
        std: config.latents_std,
    }
    .space()
}

fn functions(json: &str, _: GraphSizes) -> Result<Functions> {
    let (config, options) = (Config::from_json(json)?, Options::default());
    let (encode, decode) = (build_encoder(&config, &options)?, build_decoder(&config, &options)?);
    Ok(options::functions(encode, decode, config.downscale()))
}

/// Names that attentions had before diffusers 0.15.
pub(super) const RENAMES: &[Rename] = &[
    Rename { from: ".attentions.0.query.", to: ".attentions.0.to_q." },
    Rename { from: ".attentions.0.key.", to: ".attentions.0.to_k." },
    Rename { from: ".attentions.0.value.", to: ".attentions.0.to_v." },
    Rename { from: ".attentions.0.proj_attn.", to: ".attentions.0.to_out.0." },
];

/// `AutoencoderKL`.
pub const ARCHITECTURE: Architecture = Architecture {
    class: "AutoencoderKL",
    role: Role::Autoencoder(latent_space),
    functions,
    renames: RENAMES,
    ignored: &[],
};
