//! The transformer of `Z-Image` (Alibaba 2025), as in diffusers: `ZImageTransformer2DModel`. Picture and text are one
//! sequence with the same weights, after a few blocks of their own; each is filled up to whole groups of tokens with
//! one that was learned.

use ondine_graph::{Activation, DType, Dim, Elementary, Graph, NDArray, Op, Reduce, Result, Unary, Value};
use serde::Deserialize;

use crate::{
    architecture::{
        Architecture, DenoiserFacts, FlowFacts, Functions, GraphSizes, GuidanceInput, HiddenStates, LevelShift,
        References, Role, TextLayout,
    },
    blocks::{Axes, Heads, JointOptions, Module, gated, linear, plain_layer_norm, rms_norm, sinusoid},
    config::{self, MAX_DEPTH, MAX_WIDTH, all_bounded, divides, epsilon, supported},
};

/// `config.json` of a transformer; defaults are those of `ZImageTransformer2DModel`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Must be 2 alone: the side of the squares of latents that are a token.
    pub all_patch_size: Vec<usize>,
    /// Must be 1 alone: pictures of a token.
    pub all_f_patch_size: Vec<usize>,
    /// Channels of the latents.
    pub in_channels: usize,
    /// Width of the blocks.
    pub dim: usize,
    /// Number of blocks for picture and text together.
    pub n_layers: usize,
    /// Number of blocks before, for each of them.
    pub n_refiner_layers: usize,
    /// Number of heads; divides `dim`.
    pub n_heads: usize,
    /// Must be `n_heads`.
    pub n_kv_heads: usize,
    /// Added to mean squares.
    pub norm_eps: f32,
    /// True if queries and keys are normed.
    pub qk_norm: bool,
    /// Width of the states of the text.
    pub cap_feat_dim: usize,
    /// Must be left out: the width of states of pictures.
    pub siglip_feat_dim: Option<usize>,
    /// The base of the wavelengths of positions.
    pub rope_theta: f64,
    /// What timesteps are multiplied by before they become waves.
    pub t_scale: f32,
    /// Features of a head that are turned by each of three positions: in the text and behind it, by row, and column.
    pub axes_dims: [usize; 3],
    /// How many positions there are of each kind.
    pub axes_lens: [usize; 3],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            all_patch_size: vec![SQUARE],
            all_f_patch_size: vec![1],
            in_channels: 16,
            dim: 3840,
            n_layers: 30,
            n_refiner_layers: 2,
            n_heads: 30,
            n_kv_heads: 30,
            norm_eps: 1e-5,
            qk_norm: true,
            cap_feat_dim: 2560,
            siglip_feat_dim: None,
            rope_theta: 256.0,
            t_scale: 1000.0,
            axes_dims: [32, 48, 48],
            axes_lens: [1024, 512, 512],
        }
    }
}

/// Side of the squares of latents that are a token.
const SQUARE: usize = 2;
/// What numbers of tokens are filled up to multiples of.
const GROUP: usize = 32;
/// The most features of a timestep.
const TIME_WIDTH: usize = 256;
/// Sinusoids of a timestep, and the width of the layer behind them.
const WAVES: [usize; 2] = [256, 1024];
/// Added to mean squares of queries and keys.
const HEAD_EPS: f32 = 1e-5;
/// Side of the latents that the pipelines of these networks draw if nobody says otherwise.
const NATIVE: usize = 128;
/// Tokens of the text.
const TEXT_TOKENS: usize = 512;
/// What stands around the text: something said, and the beginning of an answer, as in `Qwen3`.
const SAID: [&str; 2] = ["<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"];

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

    fn axes(&self) -> Axes {
        Axes { theta: self.rope_theta, features: self.axes_dims.to_vec() }
    }

    /// Width inside a feed-forward, rounded down.
    fn hidden(&self) -> usize {
        (self.dim as f64 / 3.0 * 8.0) as usize
    }

    fn check(&self) -> Result<()> {
        supported("all_patch_size", &self.all_patch_size.as_slice(), &[&[SQUARE]])?;
        supported("all_f_patch_size", &self.all_f_patch_size.as_slice(), &[&[1]])?;
        supported("n_kv_heads", &self.n_kv_heads, &[self.n_heads])?;
        supported("siglip_feat_dim", &self.siglip_feat_dim, &[None])?;
        epsilon("norm_eps", self.norm_eps)?;
        config::positive("rope_theta", self.rope_theta)?;
        config::positive("t_scale", f64::from(self.t_scale))?;
        all_bounded([
            ("in_channels", self.in_channels, MAX_WIDTH),
            ("dim", self.dim, MAX_WIDTH / 4),
            ("n_layers", self.n_layers, MAX_DEPTH),
            ("n_refiner_layers + 1", self.n_refiner_layers.saturating_add(1), MAX_DEPTH),
            ("cap_feat_dim", self.cap_feat_dim, MAX_WIDTH),
            ("axes_lens", self.axes_lens[1].min(self.axes_lens[2]), MAX_WIDTH),
        ])?;
        divides("n_heads", self.n_heads, "`dim`", self.dim)?;
        self.axes().check("axes_dims", self.dim / self.n_heads)
    }

    /// What pipelines ask for.
    #[must_use]
    pub fn facts(&self) -> DenoiserFacts {
        DenoiserFacts {
            channels: self.in_channels,
            predicted: self.in_channels,
            classes: None,
            text_and_sizes: false,
            native: [NATIVE; 2],
            divisor: SQUARE,
            patch: SQUARE,
            most: Some(SQUARE * self.axes_lens[1].min(self.axes_lens[2])),
            guidance: GuidanceInput::Passes,
            text: TextLayout::Chat { states: HiddenStates::one(-2), tokens: TEXT_TOKENS, padded: false, around: SAID },
            flow: Some(FlowFacts {
                time_divisor: 1000.0,
                to_picture: true,
                even_levels: true,
                steps: 8,
                guidance: 0.0,
                unguided: 0.0,
                distilled: None,
                // The same config and classes are those of the model that Turbo was distilled from.
                undistilled: Some((50, 5.0)),
                shift: LevelShift::Line,
            }),
            references: References::default(),
        }
    }
}

/// What the parts of a sequence are.
struct Parts {
    batch: Dim,
    /// Tokens of the picture and of the text, and how many they are filled up to.
    picture: [Dim; 2],
    text: [Dim; 2],
    /// How many groups the text of each sequence fills, I64 `[batch, 1]`, in tokens, if they differ.
    filled: Option<Value>,
}

/// `count` rounded up to whole groups.
fn whole(count: &Dim) -> Dim {
    &(count + (GROUP - 1)).floor_div(GROUP) * GROUP
}

/// Builds the network. `mask` says that texts have different lengths.
///
/// Inputs: `sample` `[batch, in_channels, height, width]`, whose sides are even, `timestep` `[batch]` from 0, for
/// noise, to 1, `encoder_hidden_states` `[batch, tokens, cap_feat_dim]`; if asked for `encoder_attention_mask` I64
/// `[batch, tokens]`, 0 for what is behind a text. Output: `out_sample` `[batch, in_channels, height, width]`, which
/// leads to the picture.
///
/// # Errors
/// If the config is absurd or asks for something that is not supported.
pub fn build(config: &Config, options: &JointOptions, mask: bool) -> Result<Graph> {
    config.check()?;
    let JointOptions { batch, tokens, rows, columns, .. } = options;
    let mut graph = Graph::new();
    let m = &mut Module::root(&mut graph);
    let shape = vec![batch.clone(), config.in_channels.into(), rows * SQUARE, columns * SQUARE];
    let sample = m.input("sample", DType::F32, shape);
    let timestep = m.input("timestep", DType::F32, [batch.clone()]);
    let shape = vec![batch.clone(), tokens.clone(), config.cap_feat_dim.into()];
    let text = m.input("encoder_hidden_states", DType::F32, shape);
    let seen =
        if mask { Some(m.input("encoder_attention_mask", DType::I64, [batch.clone(), tokens.clone()])) } else { None };

    let filled = seen.map(|seen| filled(m, seen)).transpose()?;
    let count = rows * columns;
    let parts = Parts {
        batch: batch.clone(),
        picture: [count.clone(), whole(&count)],
        text: [tokens.clone(), whole(tokens)],
        filled,
    };
    let cond = condition(&mut m.at("t_embedder.mlp"), timestep, config)?;
    let [of_picture, of_text] = angles(&mut m.at("rope_embedder"), config, options, &parts)?;

    let x = packed(m, sample, options)?;
    let x = linear(&mut m.at(format_args!("all_x_embedder.{SQUARE}-1")), x, config.dim, true)?;
    let mut x = padded(m, x, "x_pad_token", &parts.picture)?;
    let heads = Heads {
        count: config.n_heads,
        width: config.dim / config.n_heads,
        normed: config.qk_norm.then_some(HEAD_EPS),
        bias: false,
        rotary: None,
        lengths: None,
    };
    let turned = Heads { rotary: Some(turns(m, of_picture)?), ..heads };
    for layer in 0..config.n_refiner_layers {
        x = block(&mut m.at(format_args!("noise_refiner.{layer}")), x, Some(cond), &turned, config)?;
    }

    let h = rms_norm(&mut m.at("cap_embedder.0"), text, config.norm_eps, 0.0)?;
    let mut text = linear(&mut m.at("cap_embedder.1"), h, config.dim, true)?;
    if let Some(seen) = seen {
        let pad = m.tensor("cap_pad_token", &[1, config.dim])?;
        let seen = m.cast(seen, DType::Bool)?;
        let seen = m.reshape(seen, vec![batch.clone(), tokens.clone(), 1.into()])?;
        text = m.push(Op::Select, &[seen, text, pad])?;
    }
    text = padded(m, text, "cap_pad_token", &parts.text)?;
    let turned = Heads { rotary: Some(turns(m, of_text)?), lengths: lengths(m, &parts, 0.into())?, ..heads };
    for layer in 0..config.n_refiner_layers {
        text = block(&mut m.at(format_args!("context_refiner.{layer}")), text, None, &turned, config)?;
    }

    let mut both = m.concat(&[x, text], 1)?;
    let angles = m.concat(&[of_picture, of_text], 1)?;
    let lengths = lengths(m, &parts, parts.picture[1].clone())?;
    let turned = Heads { rotary: Some(turns(m, angles)?), lengths, ..heads };
    for layer in 0..config.n_layers {
        both = block(&mut m.at(format_args!("layers.{layer}")), both, Some(cond), &turned, config)?;
    }
    let x = m.slice(both, 1, 0, count)?;
    let x = last(&mut m.at(format_args!("all_final_layer.{SQUARE}-1")), x, cond, config)?;
    let squares: Vec<Dim> =
        vec![batch.clone(), rows.clone(), columns.clone(), SQUARE.into(), SQUARE.into(), config.in_channels.into()];
    let x = m.reshape(x, squares)?;
    let x = m.permute(x, &[0, 5, 1, 3, 2, 4])?;
    let x = m.reshape(x, vec![batch.clone(), config.in_channels.into(), rows * SQUARE, columns * SQUARE])?;
    m.output("out_sample", x);
    Ok(graph)
}

/// Tokens of whole groups that the text of each sequence fills, I64 `[batch, 1]`, of a mask `[batch, tokens]`.
fn filled(m: &mut Module<'_>, seen: Value) -> Result<Value> {
    let seen = m.cast(seen, DType::F32)?;
    let count = m.reduce(Reduce::Sum, seen, &[1], true)?;
    let groups = m.affine(count, 1.0 / GROUP as f32, (GROUP - 1) as f32 / GROUP as f32)?;
    let groups = m.unary(Unary::Function(Elementary::Floor), groups)?;
    let filled = m.affine(groups, GROUP as f32, 0.0)?;
    m.cast(filled, DType::I64)
}

/// How many tokens are seen, I64 `[batch]`, of a text with so many tokens before it; all if texts are of one length.
fn lengths(m: &mut Module<'_>, parts: &Parts, before: Dim) -> Result<Option<Value>> {
    let Some(filled) = parts.filled else { return Ok(None) };
    let before = m.push(Op::Range { start: before, step: 1, count: 1.into() }, &[])?;
    let all = m.add(filled, before)?;
    m.reshape(all, [parts.batch.clone()]).map(Some)
}

/// The vector of the timestep, `[batch, 1, any]`.
fn condition(m: &mut Module<'_>, timestep: Value, config: &Config) -> Result<Value> {
    let [waves, inner] = WAVES;
    let t = m.affine(timestep, config.t_scale, 0.0)?;
    let t = sinusoid(m, t, waves, true, 0.0)?;
    let t = linear(&mut m.at("0"), t, inner, true)?;
    let t = m.activation(Activation::Silu, t)?;
    let width = config.dim.min(TIME_WIDTH);
    let t = linear(&mut m.at("2"), t, width, true)?;
    let batch = m.dim(t, 0);
    m.reshape(t, vec![batch, 1.into(), width.into()])
}

/// The angles of the picture, which stands behind the text, and of the text, which begins at 1:
/// `[batch, tokens, pairs]` each. What fills up the picture is at the origin.
fn angles(m: &mut Module<'_>, config: &Config, options: &JointOptions, parts: &Parts) -> Result<[Value; 2]> {
    let (axes, pairs) = (config.axes(), config.axes().pairs());
    let spread = |m: &mut Module<'_>, x: Value, count: &Dim| {
        m.push(Op::Expand(vec![parts.batch.clone(), count.clone(), pairs.into()].into()), &[x])
    };
    let [count, all] = &parts.picture;
    let grid = axes.picture(m, [&options.rows, &options.columns])?;
    let grid = m.reshape(grid, vec![1.into(), count.clone(), pairs.into()])?;
    let behind = match parts.filled {
        Some(filled) => {
            let one = m.constant(NDArray::scalar(1_i64));
            m.add(filled, one)?
        }
        None => {
            let behind = m.push(Op::Range { start: &parts.text[1] + 1, step: 1, count: 1.into() }, &[])?;
            m.reshape(behind, [1, 1])?
        }
    };
    let behind = axes.angles(m, behind, 0)?;
    let picture = m.add(grid, behind)?;
    let picture = spread(m, picture, count)?;
    let origin = m.constant(NDArray::new(&[1, 1, pairs], &vec![0.0_f32; pairs])?);
    let rest = spread(m, origin, &(all - count))?;
    let picture = m.concat(&[picture, rest], 1)?;

    let along = m.push(Op::Range { start: 1.into(), step: 1, count: parts.text[1].clone() }, &[])?;
    let text = axes.angles(m, along, 0)?;
    let text = m.reshape(text, vec![1.into(), parts.text[1].clone(), pairs.into()])?;
    Ok([picture, spread(m, text, &parts.text[1])?])
}

/// Cosines and sines of angles `[batch, tokens, pairs]`.
fn turns(m: &mut Module<'_>, angles: Value) -> Result<[Value; 2]> {
    let [batch, tokens, pairs] = [0, 1, 2].map(|axis| m.dim(angles, axis));
    let angles = m.reshape(angles, vec![batch, tokens, 1.into(), pairs])?;
    Ok([m.unary(Unary::Cos, angles)?, m.unary(Unary::Sin, angles)?])
}

/// Tokens `[batch, count, dim]`, filled up with the learned one: `[batch, whole, dim]`.
fn padded(m: &mut Module<'_>, x: Value, token: &str, [count, whole]: &[Dim; 2]) -> Result<Value> {
    let width = m.width(x)?;
    let batch = m.dim(x, 0);
    let token = m.tensor(token, &[1, width])?;
    let rest = m.push(Op::Expand(vec![batch, whole - count, width.into()].into()), &[token])?;
    m.concat(&[x, rest], 1)
}

/// Squares of latents as tokens, places before channels: `[batch, rows * columns, 4 * channels]`.
fn packed(m: &mut Module<'_>, sample: Value, options: &JointOptions) -> Result<Value> {
    let JointOptions { batch, rows, columns, .. } = options;
    let channels = m.dim(sample, 1);
    let squares = vec![batch.clone(), channels.clone(), rows.clone(), SQUARE.into(), columns.clone(), SQUARE.into()];
    let x = m.reshape(sample, squares)?;
    let x = m.permute(x, &[0, 2, 4, 3, 5, 1])?;
    m.reshape(x, vec![batch.clone(), rows * columns, &channels * (SQUARE * SQUARE)])
}

/// A block over a sequence `[b, n, dim]`, led by the vector of time `[b, 1, any]`, if it is led.
fn block(m: &mut Module<'_>, x: Value, cond: Option<Value>, heads: &Heads, config: &Config) -> Result<Value> {
    let width = config.dim;
    let led = match cond {
        Some(cond) => {
            let all = linear(&mut m.at("adaLN_modulation.0"), cond, 4 * width, true)?;
            let part = |m: &mut Module<'_>, i: usize| m.slice(all, 2, i * width, (i + 1) * width);
            let scale = |m: &mut Module<'_>, i: usize| part(m, i).and_then(|scale| m.affine(scale, 1.0, 1.0));
            let gate = |m: &mut Module<'_>, i: usize| part(m, i).and_then(|gate| m.activation(Activation::Tanh, gate));
            Some([[scale(m, 0)?, gate(m, 1)?], [scale(m, 2)?, gate(m, 3)?]])
        }
        None => None,
    };
    let norm = |m: &mut Module<'_>, name: &str, x: Value| rms_norm(&mut m.at(name), x, config.norm_eps, 0.0);
    let before = |m: &mut Module<'_>, name: &str, x: Value, which: usize| {
        let h = norm(m, name, x)?;
        led.map_or(Ok(h), |led| m.mul(h, led[which][0]))
    };
    let after = |m: &mut Module<'_>, x: Value, name: &str, h: Value, which: usize| {
        let h = norm(m, name, h)?;
        match led {
            Some(led) => gated(m, x, h, led[which][1]),
            None => m.add(x, h),
        }
    };
    let h = before(m, "attention_norm1", x, 0)?;
    let h = heads.alone(&mut m.at("attention"), h)?;
    let h = linear(&mut m.at("attention.to_out.0"), h, width, false)?;
    let x = after(m, x, "attention_norm2", h, 0)?;
    let h = before(m, "ffn_norm1", x, 1)?;
    let h = feed(&mut m.at("feed_forward"), h, config.hidden())?;
    after(m, x, "ffn_norm2", h, 1)
}

/// The gated feed-forward.
fn feed(m: &mut Module<'_>, x: Value, hidden: usize) -> Result<Value> {
    let width = m.width(x)?;
    let gate = linear(&mut m.at("w1"), x, hidden, false)?;
    let gate = m.activation(Activation::Silu, gate)?;
    let value = linear(&mut m.at("w3"), x, hidden, false)?;
    let h = m.mul(gate, value)?;
    linear(&mut m.at("w2"), h, width, false)
}

/// What becomes of the tokens in the end: `[b, n, 4 * in_channels]`.
fn last(m: &mut Module<'_>, x: Value, cond: Value, config: &Config) -> Result<Value> {
    let cond = m.activation(Activation::Silu, cond)?;
    let scale = linear(&mut m.at("adaLN_modulation.1"), cond, config.dim, true)?;
    let scale = m.affine(scale, 1.0, 1.0)?;
    let x = plain_layer_norm(&mut m.at("norm_final"), x)?;
    let x = m.mul(x, scale)?;
    linear(&mut m.at("linear"), x, SQUARE * SQUARE * config.in_channels, true)
}

fn facts(json: &str) -> Result<DenoiserFacts> {
    Ok(Config::from_json(json)?.facts())
}

fn functions(json: &str, sizes: GraphSizes) -> Result<Functions> {
    let mut graph = build(&Config::from_json(json)?, &JointOptions::default(), sizes.mask)?;
    for symbol in ["height", "width"] {
        graph.expect(symbol, NATIVE / SQUARE);
    }
    Ok(vec![("main", graph)])
}

/// `ZImageTransformer2DModel`.
pub const ARCHITECTURE: Architecture = Architecture {
    class: "ZImageTransformer2DModel",
    role: Role::Denoiser(facts),
    functions,
    renames: &[],
    // A norm that files of the program that trained it hold, and nothing uses.
    ignored: &["norm_final.weight"],
};
