//! The variational autoencoder of `FLUX.2` (Black Forest Labs 2025), as in diffusers: `AutoencoderKLFlux2`. Its latents
//! are taken in squares of 2x2, whose numbers have a mean and a variance each that the checkpoint holds as those of a
//! batch norm. To the outside a square is one latent, normed already.

use ondine_graph::{Dim, Graph, Result, Unary, Value};
use serde::Deserialize;

use super::{
    kl,
    options::{self, Options},
};
use crate::{
    architecture::{Architecture, Functions, GraphSizes, LatentSpace, Role},
    blocks::Module,
    config::{self, MAX_WIDTH, all_bounded, epsilon, same_length, supported},
};

/// `config.json` of an autoencoder; defaults are those of `AutoencoderKLFlux2`.
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
    /// Channels of each level of the decoder, if they are others.
    pub decoder_block_out_channels: Option<Vec<usize>>,
    /// Residual blocks of each level; one more in the decoder.
    pub layers_per_block: usize,
    /// Activation in residual blocks.
    pub act_fn: String,
    /// Channels of a latent, of which four are a square.
    pub latent_channels: usize,
    /// Groups of the group norms.
    pub norm_num_groups: usize,
    /// True if a 1x1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// True if a 1x1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
    /// True if there is an attention at the lowest resolution.
    pub mid_block_add_attention: bool,
    /// Added to the variances of the squares.
    pub batch_norm_eps: f32,
    /// Must be 2 and 2.
    pub patch_size: [usize; 2],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec!["DownEncoderBlock2D".into(); 4],
            up_block_types: vec!["UpDecoderBlock2D".into(); 4],
            block_out_channels: vec![128, 256, 512, 512],
            decoder_block_out_channels: None,
            layers_per_block: 2,
            act_fn: "silu".into(),
            latent_channels: 32,
            norm_num_groups: 32,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
            batch_norm_eps: 1e-4,
            patch_size: [SQUARE; 2],
        }
    }
}

/// The size of pictures that are cut into tiles, whether half precision is avoided, and what training takes.
const WITHOUT_EFFECT: &[&str] = &["sample_size", "force_upcast", "batch_norm_momentum"];

/// Side of the squares of latents.
const SQUARE: usize = 2;

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

    /// How many pixels a square of latents stands for, along each side.
    #[must_use]
    pub fn downscale(&self) -> usize {
        SQUARE << self.block_out_channels.len().saturating_sub(1)
    }

    /// Numbers of a square.
    fn numbers(&self) -> usize {
        self.latent_channels.saturating_mul(SQUARE * SQUARE)
    }

    /// The networks around the squares, with levels of so many channels.
    fn inner(&self, levels: &[usize]) -> kl::Config {
        kl::Config {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            down_block_types: self.down_block_types.clone(),
            up_block_types: self.up_block_types.clone(),
            block_out_channels: levels.to_vec(),
            layers_per_block: self.layers_per_block,
            act_fn: self.act_fn.clone(),
            latent_channels: self.latent_channels,
            norm_num_groups: self.norm_num_groups,
            use_quant_conv: self.use_quant_conv,
            use_post_quant_conv: self.use_post_quant_conv,
            mid_block_add_attention: self.mid_block_add_attention,
            ..kl::Config::default()
        }
    }

    fn of_encoder(&self) -> kl::Config {
        self.inner(&self.block_out_channels)
    }

    fn of_decoder(&self) -> kl::Config {
        self.inner(self.decoder_block_out_channels.as_ref().unwrap_or(&self.block_out_channels))
    }

    fn check(&self) -> Result<()> {
        supported("patch_size", &self.patch_size, &[[SQUARE; 2]])?;
        epsilon("batch_norm_eps", self.batch_norm_eps)?;
        self.of_encoder().check()?;
        if let Some(levels) = &self.decoder_block_out_channels {
            same_length("decoder_block_out_channels", levels, self.block_out_channels.len())?;
            self.of_decoder().check()?;
        }
        all_bounded([("4 * latent_channels", self.numbers(), MAX_WIDTH)])
    }
}

/// Builds the encoder.
///
/// Input: `sample` `[batch, in_channels, height, width]` in -1..1. Output: `moments`
/// `[batch, 8 * latent_channels, height', width']`, each side divided by [`Config::downscale`] and rounded down: the
/// normed means of the squares of latents, channels before places in a square, then the logarithms of their variances.
///
/// # Errors
/// If the config is absurd or asks for something that is not supported.
pub fn build_encoder(config: &Config, options: &Options) -> Result<Graph> {
    config.check()?;
    let mut graph = Graph::new();
    let root = &mut Module::root(&mut graph);
    let x = options.input(root, "sample", config.in_channels)?;
    let x = kl::encoded(root, x, &config.of_encoder())?;
    let x = squares(root, x)?;
    let numbers = config.numbers();
    let [mean, variance] = statistics(&mut root.at("bn"), config)?;
    let means = root.slice(x, 3, 0, numbers)?;
    let negative = root.affine(mean, -1.0, 0.0)?;
    let means = root.add(means, negative)?;
    let inverse = root.unary(Unary::Rsqrt, variance)?;
    let means = root.mul(means, inverse)?;
    let logarithms = root.slice(x, 3, numbers, 2 * numbers)?;
    let spread = root.unary(Unary::Log, variance)?;
    let spread = root.affine(spread, -1.0, 0.0)?;
    let logarithms = root.add(logarithms, spread)?;
    let x = root.concat(&[means, logarithms], 3)?;
    let x = root.channels_first(x)?;
    root.output("moments", x);
    Ok(graph)
}

/// Builds the decoder.
///
/// Input: `latents` `[batch, 4 * latent_channels, height, width]`, normed squares. Output: `sample`
/// `[batch, out_channels, height', width']`, each side multiplied by [`Config::downscale`], about -1..1.
///
/// # Errors
/// If the config is absurd or asks for something that is not supported.
pub fn build_decoder(config: &Config, options: &Options) -> Result<Graph> {
    config.check()?;
    let mut graph = Graph::new();
    let root = &mut Module::root(&mut graph);
    let x = options.input(root, "latents", config.numbers())?;
    let [mean, variance] = statistics(&mut root.at("bn"), config)?;
    let deviation = root.unary(Unary::Sqrt, variance)?;
    let x = root.mul(x, deviation)?;
    let x = root.add(x, mean)?;
    let x = places(root, x, config.latent_channels)?;
    let x = kl::decoded(root, x, &config.of_decoder())?;
    let x = root.channels_first(x)?;
    root.output("sample", x);
    Ok(graph)
}

/// Mean and variance of each number of a square, `[numbers]`.
fn statistics(m: &mut Module<'_>, config: &Config) -> Result<[Value; 2]> {
    let mean = m.tensor("running_mean", &[config.numbers()])?;
    let variance = m.tensor("running_var", &[config.numbers()])?;
    Ok([mean, m.affine(variance, 1.0, config.batch_norm_eps)?])
}

/// Squares of a map `[b, h, w, c]` without what is no whole square: `[b, h / 2, w / 2, c * 4]`.
fn squares(m: &mut Module<'_>, x: Value) -> Result<Value> {
    let channels = m.width(x)?;
    let batch = m.dim(x, 0);
    let [rows, columns] = [1, 2].map(|axis| m.dim(x, axis).floor_div(SQUARE));
    let x = m.slice(x, 1, 0, &rows * SQUARE)?;
    let x = m.slice(x, 2, 0, &columns * SQUARE)?;
    let split: Vec<Dim> =
        vec![batch.clone(), rows.clone(), SQUARE.into(), columns.clone(), SQUARE.into(), channels.into()];
    let x = m.reshape(x, split)?;
    let x = m.permute(x, &[0, 1, 3, 5, 2, 4])?;
    m.reshape(x, vec![batch, rows, columns, (channels * SQUARE * SQUARE).into()])
}

/// The map of squares `[b, h, w, channels * 4]`: `[b, 2 * h, 2 * w, channels]`.
fn places(m: &mut Module<'_>, x: Value, channels: usize) -> Result<Value> {
    let [batch, rows, columns] = [0, 1, 2].map(|axis| m.dim(x, axis));
    let split: Vec<Dim> =
        vec![batch.clone(), rows.clone(), columns.clone(), channels.into(), SQUARE.into(), SQUARE.into()];
    let x = m.reshape(x, split)?;
    let x = m.permute(x, &[0, 1, 4, 2, 5, 3])?;
    m.reshape(x, vec![batch, &rows * SQUARE, &columns * SQUARE, channels.into()])
}

/// The facts of the latents: the functions norm them.
fn latent_space(json: &str) -> Result<LatentSpace> {
    let config = Config::from_json(json)?;
    options::Latents {
        factor: config.downscale(),
        channels: config.numbers(),
        colors: config.out_channels,
        scaling: 1.0,
        shift: None,
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

/// `AutoencoderKLFlux2`.
pub const ARCHITECTURE: Architecture = Architecture {
    class: "AutoencoderKLFlux2",
    role: Role::Autoencoder(latent_space),
    functions,
    renames: kl::RENAMES,
    ignored: &["bn.num_batches_tracked"],
};
