//! The tiny autoencoder TAESD (Boer Bohan 2023), as in diffusers: `AutoencoderTiny`.
//!
//! A stack of plain convolutions, without norms or attention; its latents are those of diffusion, already scaled.

use ondine_graph::{Activation, Conv2d, Dim, Graph, Result, Value, fail};
use serde::Deserialize;

use super::options::{self, Options};
use crate::{
    architecture::{Architecture, Functions, GraphSizes, LatentSpace, Role},
    blocks::{Module, conv_same, conv2d, upsample},
    config::{self, MAX_DEPTH, MAX_WIDTH, activation, all_bounded, bounded, same_length, supported},
};

/// `config.json` of a tiny autoencoder; defaults are those of `AutoencoderTiny`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of the pictures that are encoded.
    pub in_channels: usize,
    /// Channels of the pictures that are decoded.
    pub out_channels: usize,
    /// Channels of each level of the encoder; all the same.
    pub encoder_block_out_channels: Vec<usize>,
    /// Channels of each level of the decoder; all the same.
    pub decoder_block_out_channels: Vec<usize>,
    /// Activation inside the blocks.
    pub act_fn: String,
    /// How maps are enlarged; only `nearest` is supported.
    pub upsample_fn: String,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// By how much each level of the decoder enlarges.
    pub upsampling_scaling_factor: usize,
    /// Blocks of each level of the encoder.
    pub num_encoder_blocks: Vec<usize>,
    /// Blocks of each level of the decoder.
    pub num_decoder_blocks: Vec<usize>,
    /// What latents are multiplied by before diffusion.
    pub scaling_factor: f32,
    /// What is subtracted from latents before they are multiplied.
    pub shift_factor: Option<f32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            encoder_block_out_channels: vec![64; 4],
            decoder_block_out_channels: vec![64; 4],
            act_fn: "relu".into(),
            upsample_fn: "nearest".into(),
            latent_channels: 4,
            upsampling_scaling_factor: 2,
            num_encoder_blocks: vec![1, 3, 3, 3],
            num_decoder_blocks: vec![3, 3, 3, 1],
            scaling_factor: 1.0,
            shift_factor: Some(0.0),
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
        self.upsampling_scaling_factor.saturating_pow(self.num_decoder_blocks.len().saturating_sub(1) as u32)
    }

    fn check(&self) -> Result<Activation> {
        let sides = [
            ("encoder_block_out_channels", &self.encoder_block_out_channels, &self.num_encoder_blocks),
            ("decoder_block_out_channels", &self.decoder_block_out_channels, &self.num_decoder_blocks),
        ];
        for (option, channels, blocks) in sides {
            same_length(option, channels, bounded(option, blocks.len(), 16)?)?;
            bounded(option, channels[0], MAX_WIDTH)?;
            if channels.iter().any(|&other| other != channels[0]) {
                fail!(Unsupported, "`{option}` = {channels:?} is not supported; the levels must agree");
            }
            if let Some(count) = blocks.iter().find(|&&count| count > MAX_DEPTH) {
                fail!(Shape, "a level of {count} blocks is not supported; the most are {MAX_DEPTH}");
            }
        }
        all_bounded([
            ("in_channels", self.in_channels, MAX_WIDTH),
            ("out_channels", self.out_channels, MAX_WIDTH),
            ("latent_channels", self.latent_channels, MAX_WIDTH),
            ("upsampling_scaling_factor", self.upsampling_scaling_factor, 16),
        ])?;
        supported("upsample_fn", &self.upsample_fn.as_str(), &["nearest"])?;
        activation("act_fn", &self.act_fn)
    }
}

/// How latents are kept as bytes, whether half precision is avoided, and what the decoder's channels say too.
const WITHOUT_EFFECT: &[&str] = &["latent_magnitude", "latent_shift", "force_upcast", "block_out_channels"];

/// Builds the encoder.
///
/// Input: `sample` `[batch, in_channels, height, width]` in -1..1. Output: `latents`
/// `[batch, latent_channels, height', width']`, each level but the first halving the sides.
///
/// # Errors
/// If the config is absurd or asks for something that is not supported.
pub fn build_encoder(config: &Config, options: &Options) -> Result<Graph> {
    let activation = config.check()?;
    let mut graph = Graph::new();
    let root = &mut Module::root(&mut graph);
    let mut x = options.input(root, "sample", config.in_channels)?;
    let m = &mut root.at("encoder");
    x = m.affine(x, 0.5, 0.5)?;
    let layers = &mut Layers::of(m);
    for (i, (&blocks, &channels)) in
        config.num_encoder_blocks.iter().zip(&config.encoder_block_out_channels).enumerate()
    {
        let m = &mut layers.next();
        x = match i {
            0 => conv_same(m, x, channels, 3)?,
            _ => conv2d(m, x, [channels, 3], Conv2d { stride: [2; 2], ..Conv2d::same(3) }, false)?,
        };
        for _ in 0..blocks {
            x = block(&mut layers.next(), x, activation)?;
        }
    }
    x = conv_same(&mut layers.next(), x, config.latent_channels, 3)?;
    x = root.channels_first(x)?;
    root.output("latents", x);
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
    let activation = config.check()?;
    let mut graph = Graph::new();
    let root = &mut Module::root(&mut graph);
    let x = options.input(root, "latents", config.latent_channels)?;
    let m = &mut root.at("decoder");
    let x = clamp(m, x)?;
    let layers = &mut Layers::of(m);
    let mut x = conv_same(&mut layers.next(), x, config.decoder_block_out_channels[0], 3)?;
    x = layers.next().activation(activation, x)?;
    let last = config.num_decoder_blocks.len() - 1;
    for (i, &blocks) in config.num_decoder_blocks.iter().enumerate() {
        for _ in 0..blocks {
            x = block(&mut layers.next(), x, activation)?;
        }
        if i < last {
            layers.skip();
            let m = &mut layers.next();
            let factor = config.upsampling_scaling_factor;
            let size: [Dim; 2] = [1, 2].map(|axis| &m.dim(x, axis) * factor);
            x = upsample(m, x, size, false)?;
        }
    }
    x = conv_same(&mut layers.next(), x, config.out_channels, 3)?;
    x = m.affine(x, 2.0, -1.0)?;
    x = root.channels_first(x)?;
    root.output("sample", x);
    Ok(graph)
}

/// The numbered entries of a `torch.nn.Sequential`, some of which have no weights.
struct Layers<'m> {
    module: Module<'m>,
    count: usize,
}

impl<'m> Layers<'m> {
    fn of(m: &'m mut Module<'_>) -> Self {
        Self { module: m.at("layers"), count: 0 }
    }

    fn next(&mut self) -> Module<'_> {
        self.count += 1;
        self.module.at(self.count - 1)
    }

    /// Leaves out the upsampling, which is part of the convolution after it.
    fn skip(&mut self) {
        self.count += 1;
    }
}

/// `3 * tanh(x / 3)`: keeps outliers of a sampler within reach.
fn clamp(m: &mut Module<'_>, x: Value) -> Result<Value> {
    let x = m.affine(x, 1.0 / 3.0, 0.0)?;
    let x = m.activation(Activation::Tanh, x)?;
    m.affine(x, 3.0, 0.0)
}

/// `AutoencoderTinyBlock` of diffusers: three convolutions and a residual, ended by a `ReLU` whatever `act_fn` says.
fn block(m: &mut Module<'_>, x: Value, activation: Activation) -> Result<Value> {
    let channels = m.width(x)?;
    let h = conv_same(&mut m.at("conv.0"), x, channels, 3)?;
    let h = m.activation(activation, h)?;
    let h = conv_same(&mut m.at("conv.2"), h, channels, 3)?;
    let h = m.activation(activation, h)?;
    let h = conv_same(&mut m.at("conv.4"), h, channels, 3)?;
    let sum = m.add(h, x)?;
    m.activation(Activation::Relu, sum)
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
        mean: None,
        std: None,
    }
    .space()
}

fn functions(json: &str, _: GraphSizes) -> Result<Functions> {
    let (config, options) = (Config::from_json(json)?, Options::default());
    let (encode, decode) = (build_encoder(&config, &options)?, build_decoder(&config, &options)?);
    Ok(options::functions(encode, decode, config.downscale()))
}

/// `AutoencoderTiny`.
pub const ARCHITECTURE: Architecture = Architecture {
    class: "AutoencoderTiny",
    role: Role::Autoencoder(latent_space),
    functions,
    renames: &[],
    ignored: &[],
};
