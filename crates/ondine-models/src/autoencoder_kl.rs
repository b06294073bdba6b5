//! The variational autoencoder of latent diffusion (Rombach et al. 2022), as in diffusers: `AutoencoderKL`.

use ondine_runtime::{Activation, DType, Dim, Graph, Result, Value};
use serde::Deserialize;

use crate::{
    blocks::{
        AttentionSpec, Path, Projections, ResnetSpec, attention, conv_same, downsample, group_norm, resnet, upsample,
        width,
    },
    config::{self, MAX_DEPTH, MAX_WIDTH, TYPICAL_LATENTS, activation, bounded, divides, same_length, supported},
    fail,
    registry::{Functions, GraphSizes, LatentSpace},
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
        let config: Self = config::parse(json)?;
        config.check()?;
        Ok(config)
    }

    /// How many pixels a latent stands for, along each side.
    #[must_use]
    pub fn downscale(&self) -> usize {
        1 << self.block_out_channels.len().saturating_sub(1)
    }

    fn check(&self) -> Result<ResnetSpec> {
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
        bounded("in_channels", self.in_channels, MAX_WIDTH)?;
        bounded("out_channels", self.out_channels, MAX_WIDTH)?;
        bounded("latent_channels", self.latent_channels, MAX_WIDTH)?;
        bounded("layers_per_block", self.layers_per_block, MAX_DEPTH)?;
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

const EPS: f32 = 1e-6;

/// What is asked of a graph.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of pictures or latents.
    pub batch: Dim,
    /// Height of what goes in.
    pub height: Dim,
    /// Width of what goes in.
    pub width: Dim,
}

impl Default for Options {
    fn default() -> Self {
        Self { batch: "batch".into(), height: "height".into(), width: "width".into() }
    }
}

impl Options {
    pub(crate) fn input(&self, g: &mut Graph, name: &str, channels: usize) -> Result<Value> {
        let shape = vec![self.batch.clone(), channels.into(), self.height.clone(), self.width.clone()];
        let x = g.input(name, DType::F32, shape);
        g.channels_last(x)
    }
}

/// Builds the encoder.
///
/// Input: `sample` `[batch, in_channels, height, width]` in -1..1. Output: `moments`
/// `[batch, 2 * latent_channels, height', width']`, each side divided by [`Config::downscale`] and rounded down: the
/// means of the latents, then the logarithms of their variances, neither shifted nor scaled.
///
/// # Errors
/// If the config is absurd or asks for something that is not supported.
pub fn build_encoder(config: &Config, options: &Options) -> Result<Graph> {
    let spec = config.check()?;
    let mut graph = Graph::new();
    let g = &mut graph;
    let w = &Path::root().at("encoder");
    let channels = &config.block_out_channels;
    let x = options.input(g, "sample", config.in_channels)?;
    let mut x = conv_same(g, &w.at("conv_in"), x, channels[0], 3)?;
    for (i, &channels) in channels.iter().enumerate() {
        let w = w.at("down_blocks").at(i);
        for j in 0..config.layers_per_block {
            x = resnet(g, &w.at("resnets").at(j), x, channels, &spec)?;
        }
        if i + 1 < config.block_out_channels.len() {
            x = downsample(g, &w.at("downsamplers.0"), x, 0)?;
        }
    }
    let x = middle(g, &w.at("mid_block"), x, config, &spec)?;
    let moments = 2 * config.latent_channels;
    let x = head(g, w, x, moments, &spec)?;
    let x = if config.use_quant_conv { conv_same(g, &Path::root().at("quant_conv"), x, moments, 1)? } else { x };
    let x = g.channels_first(x)?;
    g.output("moments", x);
    Ok(graph)
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
    let spec = config.check()?;
    let mut graph = Graph::new();
    let g = &mut graph;
    let w = &Path::root().at("decoder");
    let latents = config.latent_channels;
    let x = options.input(g, "latents", latents)?;
    let x =
        if config.use_post_quant_conv { conv_same(g, &Path::root().at("post_quant_conv"), x, latents, 1)? } else { x };
    let channels: Vec<_> = config.block_out_channels.iter().rev().copied().collect();
    let x = conv_same(g, &w.at("conv_in"), x, channels[0], 3)?;
    let mut x = middle(g, &w.at("mid_block"), x, config, &spec)?;
    for (i, &channels) in channels.iter().enumerate() {
        let w = w.at("up_blocks").at(i);
        for j in 0..=config.layers_per_block {
            x = resnet(g, &w.at("resnets").at(j), x, channels, &spec)?;
        }
        if i + 1 < config.block_out_channels.len() {
            let doubled = [1, 2].map(|axis| &g.dim(x, axis) * 2);
            x = upsample(g, &w.at("upsamplers.0.conv"), x, doubled, true)?;
        }
    }
    let x = head(g, w, x, config.out_channels, &spec)?;
    let x = g.channels_first(x)?;
    g.output("sample", x);
    Ok(graph)
}

/// Residual block, attention of one head, residual block, at the lowest resolution.
fn middle(g: &mut Graph, w: &Path, x: Value, config: &Config, spec: &ResnetSpec) -> Result<Value> {
    let channels = width(g, x)?;
    let mut x = resnet(g, &w.at("resnets.0"), x, channels, spec)?;
    if config.mid_block_add_attention {
        x = map_attention(g, &w.at("attentions.0"), x, spec.groups)?;
    }
    resnet(g, &w.at("resnets.1"), x, channels, spec)
}

/// Every pixel of `x` `[b, h, w, c]` attends to all.
fn map_attention(g: &mut Graph, w: &Path, x: Value, groups: usize) -> Result<Value> {
    let spec = AttentionSpec { names: Projections::DIFFUSERS, heads: 1, bias: true, causal: false, mask: None };
    let map = g.shape(x).clone();
    let [batch, height, columns, channels] = [0, 1, 2, 3].map(|axis| g.dim(x, axis));
    let h = group_norm(g, &w.at("group_norm"), x, groups, EPS)?;
    let h = g.reshape(h, vec![batch, &height * &columns, channels])?;
    let h = attention(g, w, h, None, &spec)?;
    let h = g.reshape(h, map)?;
    g.add(h, x)
}

/// What ends encoder and decoder; its activation is `SiLU` whatever `act_fn` says.
fn head(g: &mut Graph, w: &Path, x: Value, out: usize, spec: &ResnetSpec) -> Result<Value> {
    let x = group_norm(g, &w.at("conv_norm_out"), x, spec.groups, EPS)?;
    let x = g.activation(Activation::Silu, x)?;
    conv_same(g, &w.at("conv_out"), x, out, 3)
}

/// The registry's facts of the latents.
pub(crate) fn latent_space(json: &str) -> Result<LatentSpace> {
    let config = Config::from_json(json)?;
    if config.scaling_factor == 0.0 || !config.scaling_factor.is_finite() {
        fail!(
            Format,
            "`scaling_factor` of the autoencoder (vae) is {}; it must be a number other than 0",
            config.scaling_factor
        );
    }
    Ok(LatentSpace {
        factor: config.downscale(),
        channels: config.latent_channels,
        scaling: config.scaling_factor,
        shift: config.shift_factor.unwrap_or(0.0),
    })
}

/// The registry's entry.
pub(crate) fn functions(json: &str, _: GraphSizes) -> Result<Functions> {
    let (config, options) = (Config::from_json(json)?, Options::default());
    let (mut encode, mut decode) = (build_encoder(&config, &options)?, build_decoder(&config, &options)?);
    for symbol in ["height", "width"] {
        encode.expect(symbol, TYPICAL_LATENTS * config.downscale());
        decode.expect(symbol, TYPICAL_LATENTS);
    }
    Ok(vec![("encode", encode), ("decode", decode)])
}

/// Names that attentions had before diffusers 0.15.
pub(crate) const RENAMES: &[Rename] = &[
    Rename { from: ".attentions.0.query.", to: ".attentions.0.to_q." },
    Rename { from: ".attentions.0.key.", to: ".attentions.0.to_k." },
    Rename { from: ".attentions.0.value.", to: ".attentions.0.to_v." },
    Rename { from: ".attentions.0.proj_attn.", to: ".attentions.0.to_out.0." },
];
