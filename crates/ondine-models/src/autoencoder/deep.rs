//! The deep compression autoencoder (Chen et al. 2024), as in diffusers: `AutoencoderDC`. Levels shrink pictures 32
//! times and more: what a level makes of its input is added to that input with places as channels, and the inner levels
//! look at the whole map by linear attention.

use ondine_graph::{Activation, Conv2d, Dim, Graph, Op, Reduce, Resample, Result, Value, fail};
use serde::Deserialize;

use super::options::{self, Options};
use crate::{
    architecture::{Architecture, Functions, GraphSizes, LatentSpace, Role},
    blocks::{Module, conv_same, conv2d, inverted_bottleneck, linear, linear_attention, rms_norm_with_bias},
    config::{self, MAX_DEPTH, MAX_WIDTH, PerLevel, activation, all_bounded, bounded, divides, same_length, supported},
};

/// `config.json` of an autoencoder; defaults are those of `AutoencoderDC`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of pictures.
    pub in_channels: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Features of a head.
    pub attention_head_dim: usize,
    /// `ResBlock` or `EfficientViTBlock` by level of the encoder.
    pub encoder_block_types: PerLevel<String>,
    /// The same of the decoder.
    pub decoder_block_types: PerLevel<String>,
    /// Channels of each level of the encoder, from the pictures'.
    pub encoder_block_out_channels: Vec<usize>,
    /// The same of the decoder.
    pub decoder_block_out_channels: Vec<usize>,
    /// Blocks of each level of the encoder; the first may have none.
    pub encoder_layers_per_block: Vec<usize>,
    /// The same of the decoder.
    pub decoder_layers_per_block: Vec<usize>,
    /// Kernels through which attentions of a level of the encoder look besides.
    pub encoder_qkv_multiscales: Vec<Vec<usize>>,
    /// The same of the decoder.
    pub decoder_qkv_multiscales: Vec<Vec<usize>>,
    /// `pixel_shuffle`: places come out of channels; `interpolate`: out of their neighbours.
    pub upsample_block_type: String,
    /// `pixel_unshuffle`: places go into channels; `Conv`: they are left out.
    pub downsample_block_type: String,
    /// Must be `rms_norm`.
    pub decoder_norm_types: PerLevel<String>,
    /// Activations of the residual blocks of the decoder, by level.
    pub decoder_act_fns: PerLevel<String>,
    /// True if means of the last channels of the encoder are added to the latents.
    pub encoder_out_shortcut: bool,
    /// True if copies of the latents are added to the first channels of the decoder.
    pub decoder_in_shortcut: bool,
    /// The last activation of the decoder.
    pub decoder_conv_act_fn: String,
    /// What latents are multiplied by before diffusion.
    pub scaling_factor: f32,
}

const RESIDUAL: &str = "ResBlock";
const ATTENTION: &str = "EfficientViTBlock";

impl Default for Config {
    fn default() -> Self {
        let channels = vec![128, 256, 512, 512, 1024, 1024];
        let scales = vec![vec![], vec![], vec![], vec![5], vec![5], vec![5]];
        let all = |word: &str| PerLevel::All(word.to_owned());
        Self {
            in_channels: 3,
            latent_channels: 32,
            attention_head_dim: 32,
            encoder_block_types: all(RESIDUAL),
            decoder_block_types: all(RESIDUAL),
            encoder_block_out_channels: channels.clone(),
            decoder_block_out_channels: channels,
            encoder_layers_per_block: vec![2, 2, 2, 3, 3, 3],
            decoder_layers_per_block: vec![3; 6],
            encoder_qkv_multiscales: scales.clone(),
            decoder_qkv_multiscales: scales,
            upsample_block_type: "pixel_shuffle".into(),
            downsample_block_type: "pixel_unshuffle".into(),
            decoder_norm_types: all("rms_norm"),
            decoder_act_fns: all("silu"),
            encoder_out_shortcut: true,
            decoder_in_shortcut: true,
            decoder_conv_act_fn: "relu".into(),
            scaling_factor: 1.0,
        }
    }
}

/// Added to mean squares.
const EPS: f32 = 1e-5;
/// By how much a level enlarges or shrinks.
const STEP: usize = 2;
/// Widths of maps inside of an attention block's feed-forward, in channels.
const EXPANSION: usize = 4;

/// One level of encoder or decoder.
struct Level {
    channels: usize,
    blocks: usize,
    kind: Kind,
}

/// The blocks of a level.
enum Kind {
    Residual(Activation),
    /// With kernels through which they look besides.
    Attention(Vec<usize>),
}

/// What a side of the network says of its levels.
struct Side<'c> {
    name: &'static str,
    types: &'c PerLevel<String>,
    channels: &'c [usize],
    blocks: &'c [usize],
    scales: &'c [Vec<usize>],
    activations: PerLevel<String>,
}

impl Side<'_> {
    /// The levels, if they can be built for heads of so many features.
    fn levels(self, head: usize) -> Result<Vec<Level>> {
        let Self { name, types, channels, blocks, scales, activations } = self;
        let count = bounded(&format!("{name}_block_out_channels"), channels.len(), 12)?;
        same_length(&format!("{name}_layers_per_block"), blocks, count)?;
        same_length(&format!("{name}_qkv_multiscales"), scales, count)?;
        let types = types.levels(&format!("{name}_block_types"), count)?;
        let activations = activations.levels(&format!("{name}_act_fns"), count)?;
        let mut levels = Vec::new();
        for (i, ((word, activated), scales)) in types.iter().zip(&activations).zip(scales).enumerate() {
            bounded(&format!("{name}_block_out_channels"), channels[i], MAX_WIDTH / (2 * EXPANSION))?;
            // Only what comes first may be a step alone.
            if blocks[i] > MAX_DEPTH || (blocks[i] == 0 && (i > 0 || count == 1)) {
                fail!(Shape, "`{name}_layers_per_block` = {blocks:?} is not supported: 1 to {MAX_DEPTH} but the first");
            }
            supported(&format!("{name}_block_types"), &word.as_str(), &[RESIDUAL, ATTENTION])?;
            let kind = if word == RESIDUAL {
                Kind::Residual(activation(&format!("{name}_act_fns"), activated)?)
            } else {
                divides("attention_head_dim", head, "the channels", channels[i])?;
                if scales.len() > 4 || scales.iter().any(|kernel| kernel % 2 == 0 || *kernel > 31) {
                    fail!(
                        Unsupported,
                        "`{name}_qkv_multiscales` has {scales:?}; known are up to 4 odd kernels up to 31"
                    );
                }
                Kind::Attention(scales.clone())
            };
            levels.push(Level { channels: channels[i], blocks: blocks[i], kind });
        }
        Ok(levels)
    }
}

impl Config {
    /// Reads and checks the text of a `config.json`.
    ///
    /// # Errors
    /// If it is no valid config, or asks for something absurd or unknown.
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Self = config::options(json, &[])?;
        config.check()?;
        Ok(config)
    }

    /// How many pixels a latent stands for, along each side.
    #[must_use]
    pub fn downscale(&self) -> usize {
        1 << self.encoder_block_out_channels.len().saturating_sub(1)
    }

    fn of_encoder(&self) -> Result<Vec<Level>> {
        let side = Side {
            name: "encoder",
            types: &self.encoder_block_types,
            channels: &self.encoder_block_out_channels,
            blocks: &self.encoder_layers_per_block,
            scales: &self.encoder_qkv_multiscales,
            activations: PerLevel::All("silu".to_owned()),
        };
        side.levels(self.attention_head_dim)
    }

    fn of_decoder(&self) -> Result<Vec<Level>> {
        let side = Side {
            name: "decoder",
            types: &self.decoder_block_types,
            channels: &self.decoder_block_out_channels,
            blocks: &self.decoder_layers_per_block,
            scales: &self.decoder_qkv_multiscales,
            activations: self.decoder_act_fns.clone(),
        };
        side.levels(self.attention_head_dim)
    }

    fn check(&self) -> Result<()> {
        supported("upsample_block_type", &self.upsample_block_type.as_str(), &["pixel_shuffle", "interpolate"])?;
        supported("downsample_block_type", &self.downsample_block_type.as_str(), &["pixel_unshuffle", "Conv"])?;
        all_bounded([
            ("in_channels", self.in_channels, MAX_WIDTH),
            ("latent_channels", self.latent_channels, MAX_WIDTH),
            ("attention_head_dim", self.attention_head_dim, MAX_WIDTH),
        ])?;
        let (down, up) = (self.of_encoder()?, self.of_decoder()?);
        if down.len() != up.len() {
            fail!(Shape, "the encoder has {} levels, the decoder {}", down.len(), up.len());
        }
        for norm in self.decoder_norm_types.levels("decoder_norm_types", up.len())? {
            supported("decoder_norm_types", &norm.as_str(), &["rms_norm"])?;
        }
        activation("decoder_conv_act_fn", &self.decoder_conv_act_fn)?;
        for pair in down.windows(2).filter(|pair| pair[0].blocks > 0) {
            let [from, to] = [pair[0].channels, pair[1].channels];
            divides("encoder_block_out_channels", to, "four times those before", STEP * STEP * from)?;
            divides("channels of a place", STEP * STEP, "the channels", to)?;
        }
        for pair in up.windows(2).filter(|pair| pair[0].blocks > 0) {
            let [to, from] = [pair[0].channels, pair[1].channels];
            divides("decoder_block_out_channels", from, "four times those after", STEP * STEP * to)?;
        }
        for (used, levels) in [(self.encoder_out_shortcut, &down), (self.decoder_in_shortcut, &up)] {
            if let Some(last) = levels.last().filter(|_| used) {
                divides("latent_channels", self.latent_channels, "the innermost channels", last.channels)?;
            }
        }
        Ok(())
    }

    fn unshuffles(&self) -> bool {
        self.downsample_block_type == "pixel_unshuffle"
    }

    fn interpolates(&self) -> bool {
        self.upsample_block_type == "interpolate"
    }
}

/// Builds the encoder.
///
/// Input: `sample` `[batch, in_channels, height, width]` in -1..1, whose sides are cut to multiples of
/// [`Config::downscale`]. Output: `latents` `[batch, latent_channels, height', width']`, each side divided by that.
///
/// # Errors
/// If the config is absurd or asks for something that is not supported.
pub fn build_encoder(config: &Config, options: &Options) -> Result<Graph> {
    config.check()?;
    let (levels, factor) = (config.of_encoder()?, config.downscale());
    let mut graph = Graph::new();
    let root = &mut Module::root(&mut graph);
    let x = options.input(root, "sample", config.in_channels)?;
    let sides = [1, 2].map(|axis| root.dim(x, axis).floor_div(factor));
    let x = root.slice(x, 1, 0, &sides[0] * factor)?;
    let x = root.slice(x, 2, 0, &sides[1] * factor)?;
    let step = |level: usize| sides.clone().map(|side| &side * (factor >> level));
    let m = &mut root.at("encoder");
    let mut x = if levels[0].blocks > 0 {
        conv_same(&mut m.at("conv_in"), x, levels[0].channels, 3)?
    } else {
        shrunk(&mut m.at("conv_in"), x, levels[1].channels, step(1), config.unshuffles(), false)?
    };
    for (i, level) in levels.iter().enumerate() {
        let m = &mut m.at(format_args!("down_blocks.{i}"));
        for j in 0..level.blocks {
            x = block(&mut m.at(j), x, level, config.attention_head_dim)?;
        }
        if let Some(next) = levels.get(i + 1).filter(|_| level.blocks > 0) {
            x = shrunk(&mut m.at(level.blocks), x, next.channels, step(i + 1), config.unshuffles(), true)?;
        }
    }
    let mut latents = conv_same(&mut m.at("conv_out"), x, config.latent_channels, 3)?;
    if config.encoder_out_shortcut {
        let means = means(m, x, config.latent_channels)?;
        latents = m.add(latents, means)?;
    }
    let x = root.channels_first(latents)?;
    root.output("latents", x);
    Ok(graph)
}

/// Builds the decoder.
///
/// Input: `latents` `[batch, latent_channels, height, width]`, already divided by `scaling_factor`. Output: `sample`
/// `[batch, in_channels, height', width']`, each side multiplied by [`Config::downscale`], about -1..1.
///
/// # Errors
/// If the config is absurd or asks for something that is not supported.
pub fn build_decoder(config: &Config, options: &Options) -> Result<Graph> {
    config.check()?;
    let levels = config.of_decoder()?;
    let Some(inner) = levels.last() else { fail!(Internal, "a decoder without levels") };
    let mut graph = Graph::new();
    let root = &mut Module::root(&mut graph);
    let latents = options.input(root, "latents", config.latent_channels)?;
    let m = &mut root.at("decoder");
    let mut x = conv_same(&mut m.at("conv_in"), latents, inner.channels, 3)?;
    if config.decoder_in_shortcut {
        let copies = copies(m, latents, inner.channels)?;
        x = m.add(x, copies)?;
    }
    for (i, level) in levels.iter().enumerate().rev() {
        let m = &mut m.at(format_args!("up_blocks.{i}"));
        let grows = i + 1 < levels.len() && level.blocks > 0;
        if grows {
            x = grown(&mut m.at(0), x, level.channels, config.interpolates(), true)?;
        }
        for j in 0..level.blocks {
            x = block(&mut m.at(j + usize::from(grows)), x, level, config.attention_head_dim)?;
        }
    }
    x = rms_norm_with_bias(&mut m.at("norm_out"), x, EPS)?;
    x = m.activation(activation("decoder_conv_act_fn", &config.decoder_conv_act_fn)?, x)?;
    let m = &mut m.at("conv_out");
    x = if levels[0].blocks > 0 {
        conv_same(m, x, config.in_channels, 3)?
    } else {
        grown(m, x, config.in_channels, config.interpolates(), false)?
    };
    let x = root.channels_first(x)?;
    root.output("sample", x);
    Ok(graph)
}

fn block(m: &mut Module<'_>, x: Value, level: &Level, head: usize) -> Result<Value> {
    match &level.kind {
        Kind::Residual(activation) => residual(m, x, *activation),
        Kind::Attention(scales) => {
            let h = attention(&mut m.at("attn"), x, head, scales)?;
            let x = m.add(x, h)?;
            let m = &mut m.at("conv_out");
            let h = inverted_bottleneck(m, x, EXPANSION * level.channels)?;
            let h = rms_norm_with_bias(&mut m.at("norm"), h, EPS)?;
            m.add(x, h)
        }
    }
}

/// `ResBlock`: two convolutions around an activation, and a norm.
fn residual(m: &mut Module<'_>, x: Value, activation: Activation) -> Result<Value> {
    let channels = m.width(x)?;
    let h = conv_same(&mut m.at("conv1"), x, channels, 3)?;
    let h = m.activation(activation, h)?;
    let h = conv2d(&mut m.at("conv2"), h, [channels, 3], Conv2d::same(3), false)?;
    let h = rms_norm_with_bias(&mut m.at("norm"), h, EPS)?;
    m.add(h, x)
}

/// `SanaMultiscaleLinearAttention` without its residual: places `[b, h, w, c]` attend to all, as they are and mixed
/// with their neighbours by each of the kernels.
fn attention(m: &mut Module<'_>, x: Value, head: usize, scales: &[usize]) -> Result<Value> {
    let channels = m.width(x)?;
    let [batch, rows, columns] = [0, 1, 2].map(|axis| m.dim(x, axis));
    let parts = ["to_q", "to_k", "to_v"].map(|name| linear(&mut m.at(name), x, channels, false));
    let [q, k, v] = parts;
    let qkv = m.concat(&[q?, k?, v?], 3)?;
    let all = 3 * channels;
    let mut seen = vec![qkv];
    for (i, &kernel) in scales.iter().enumerate() {
        let m = &mut m.at(format_args!("to_qkv_multiscale.{i}"));
        let depthwise = Conv2d { groups: all, ..Conv2d::same(kernel) };
        let h = conv2d(&mut m.at("proj_in"), qkv, [all, kernel], depthwise, false)?;
        let by_heads = Conv2d { groups: all / head, ..Conv2d::same(1) };
        seen.push(conv2d(&mut m.at("proj_out"), h, [all, 1], by_heads, false)?);
    }
    let seen = if scales.is_empty() { qkv } else { m.concat(&seen, 3)? };
    // Three heads in turn are queries, keys and values.
    let heads = channels / head * (1 + scales.len());
    let count = &rows * &columns;
    let seen = m.reshape(seen, vec![batch.clone(), count, heads.into(), (3 * head).into()])?;
    let seen = m.permute(seen, &[0, 2, 1, 3])?;
    let mut part = |i: usize| m.slice(seen, 3, i * head, (i + 1) * head);
    let qkv = [part(0)?, part(1)?, part(2)?];
    let mixed = linear_attention(m, qkv)?;
    let mixed = m.permute(mixed, &[0, 2, 1, 3])?;
    let mixed = m.reshape(mixed, vec![batch, rows, columns, (heads * head).into()])?;
    let mixed = linear(&mut m.at("to_out"), mixed, channels, false)?;
    rms_norm_with_bias(&mut m.at("norm_out"), mixed, EPS)
}

/// `DCDownBlock2d`: half as high and wide, to these sides; `shortcut` adds means of the squares that become a place.
fn shrunk(
    m: &mut Module<'_>,
    x: Value,
    out: usize,
    sides: [Dim; 2],
    unshuffles: bool,
    shortcut: bool,
) -> Result<Value> {
    let conv = &mut m.at("conv");
    let h = if unshuffles {
        divides("channels of a place", STEP * STEP, "the channels", out)?;
        let h = conv_same(conv, x, out / (STEP * STEP), 3)?;
        unshuffled(conv, h, sides.clone())?
    } else {
        conv2d(conv, x, [out, 3], Conv2d { stride: [STEP; 2], ..Conv2d::same(3) }, true)?
    };
    if !shortcut {
        return Ok(h);
    }
    let squares = unshuffled(m, x, sides)?;
    let means = means(m, squares, out)?;
    m.add(h, means)
}

/// `DCUpBlock2d`: twice as high and wide; `shortcut` adds copies of the channels as places.
fn grown(m: &mut Module<'_>, x: Value, out: usize, interpolates: bool, shortcut: bool) -> Result<Value> {
    let conv = &mut m.at("conv");
    let h = if interpolates {
        let doubled = [1, 2].map(|axis| &conv.dim(x, axis) * STEP);
        let x = conv.resize(x, Resample::Nearest, doubled[0].clone(), doubled[1].clone())?;
        conv_same(conv, x, out, 3)?
    } else {
        let h = conv_same(conv, x, out * STEP * STEP, 3)?;
        shuffled(conv, h, out)?
    };
    if !shortcut {
        return Ok(h);
    }
    let copies = copies(m, x, out * STEP * STEP)?;
    let places = shuffled(m, copies, out)?;
    m.add(h, places)
}

/// The means of neighbouring channels, so that `out` are left.
fn means(m: &mut Module<'_>, x: Value, out: usize) -> Result<Value> {
    let channels = m.width(x)?;
    divides("the channels of a mean", out, "the channels", channels)?;
    if channels == out {
        return Ok(x);
    }
    let [batch, rows, columns] = [0, 1, 2].map(|axis| m.dim(x, axis));
    let x = m.reshape(x, vec![batch, rows, columns, out.into(), (channels / out).into()])?;
    m.reduce(Reduce::Mean, x, &[4], false)
}

/// Each channel several times in turn, so that there are `out`.
fn copies(m: &mut Module<'_>, x: Value, out: usize) -> Result<Value> {
    let channels = m.width(x)?;
    divides("the copied channels", channels, "the channels", out)?;
    if channels == out {
        return Ok(x);
    }
    let [batch, rows, columns] = [0, 1, 2].map(|axis| m.dim(x, axis));
    let shape = vec![batch.clone(), rows.clone(), columns.clone(), channels.into(), 1.into()];
    let x = m.reshape(x, shape)?;
    let times: Dim = (out / channels).into();
    let shape = vec![batch.clone(), rows.clone(), columns.clone(), channels.into(), times];
    let x = m.push(Op::Expand(shape.into()), &[x])?;
    m.reshape(x, vec![batch, rows, columns, out.into()])
}

/// Squares of places as channels: `[b, 2 * h, 2 * w, c]` to `[b, h, w, c * 4]`.
fn unshuffled(m: &mut Module<'_>, x: Value, [rows, columns]: [Dim; 2]) -> Result<Value> {
    let channels = m.width(x)?;
    let batch = m.dim(x, 0);
    let split: Vec<Dim> = vec![batch.clone(), rows.clone(), STEP.into(), columns.clone(), STEP.into(), channels.into()];
    let x = m.reshape(x, split)?;
    let x = m.permute(x, &[0, 1, 3, 5, 2, 4])?;
    m.reshape(x, vec![batch, rows, columns, (channels * STEP * STEP).into()])
}

/// Channels as squares of places: `[b, h, w, out * 4]` to `[b, 2 * h, 2 * w, out]`.
fn shuffled(m: &mut Module<'_>, x: Value, out: usize) -> Result<Value> {
    let [batch, rows, columns] = [0, 1, 2].map(|axis| m.dim(x, axis));
    let split: Vec<Dim> = vec![batch.clone(), rows.clone(), columns.clone(), out.into(), STEP.into(), STEP.into()];
    let x = m.reshape(x, split)?;
    let x = m.permute(x, &[0, 1, 4, 2, 5, 3])?;
    m.reshape(x, vec![batch, &rows * STEP, &columns * STEP, out.into()])
}

/// The facts of the latents.
fn latent_space(json: &str) -> Result<LatentSpace> {
    let config = Config::from_json(json)?;
    options::Latents {
        factor: config.downscale(),
        channels: config.latent_channels,
        colors: config.in_channels,
        scaling: config.scaling_factor,
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

/// `AutoencoderDC`.
pub const ARCHITECTURE: Architecture = Architecture {
    class: "AutoencoderDC",
    role: Role::Autoencoder(latent_space),
    functions,
    renames: &[],
    ignored: &[],
};
