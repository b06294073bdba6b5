//! The transformer of Sana (Xie et al. 2024) and of Sana-Sprint (Chen et al. 2025), as in diffusers:
//! `SanaTransformer2DModel`. Tokens attend to each other at a cost that grows with their number alone, so that a
//! picture may have many, and know their places by the convolutions in feed-forwards.

use ondine_graph::{Activation, Attention, Conv2d, DType, Dim, Graph, Mask, Result, Value};
use serde::Deserialize;

use crate::{
    architecture::{
        Architecture, DenoiserFacts, FlowFacts, Functions, GraphSizes, GuidanceInput, HiddenStates, LevelShift,
        References, Role, TextLayout,
    },
    blocks::{
        Module, Projections, conv2d, gated, inverted_bottleneck, layer_norm, linear, linear_attention, modulated,
        plain_layer_norm, rms_norm, sinusoid, timestep_embedding,
    },
    config::{self, MAX_DEPTH, MAX_WIDTH, all_bounded, supported},
};

/// `config.json` of a transformer; defaults are those of `SanaTransformer2DModel`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of the latents.
    pub in_channels: usize,
    /// Channels that are predicted, if not as many; must be as many.
    pub out_channels: Option<usize>,
    /// Heads of the attention of the picture to itself.
    pub num_attention_heads: usize,
    /// Features of such a head.
    pub attention_head_dim: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Heads of the attention to the text.
    pub num_cross_attention_heads: usize,
    /// Features of such a head.
    pub cross_attention_head_dim: usize,
    /// Width of the text inside; must be that of the blocks.
    pub cross_attention_dim: usize,
    /// Width of the states of the text.
    pub caption_channels: usize,
    /// Width inside a feed-forward, in widths of the blocks.
    pub mlp_ratio: f64,
    /// True if queries, keys and values of the picture have biases.
    pub attention_bias: bool,
    /// Side of the latents that it was trained on.
    pub sample_size: usize,
    /// Side of the squares of latents that are a token.
    pub patch_size: usize,
    /// True if the norm before the feed-forward has weights.
    pub norm_elementwise_affine: bool,
    /// Added to variances; must be 1e-6.
    pub norm_eps: f64,
    /// Scale of learned positions; must be null.
    pub interpolation_scale: Option<f64>,
    /// True if it takes the guidance scale: it was distilled to draw in a few steps.
    pub guidance_embeds: bool,
    /// What the guidance scale is multiplied by.
    pub guidance_embeds_scale: f32,
    /// `rms_norm_across_heads` if queries and keys are normed, all heads together.
    pub qk_norm: Option<String>,
    /// What timesteps up to 1000 are multiplied by, where it does not take the guidance scale.
    pub timestep_scale: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            in_channels: 32,
            out_channels: Some(32),
            num_attention_heads: 70,
            attention_head_dim: 32,
            num_layers: 20,
            num_cross_attention_heads: 20,
            cross_attention_head_dim: 112,
            cross_attention_dim: 2240,
            caption_channels: 2304,
            mlp_ratio: 2.5,
            attention_bias: false,
            sample_size: 32,
            patch_size: 1,
            norm_elementwise_affine: false,
            norm_eps: 1e-6,
            interpolation_scale: None,
            guidance_embeds: false,
            guidance_embeds_scale: 0.1,
            qk_norm: None,
            timestep_scale: 1.0,
        }
    }
}

/// What training takes.
const WITHOUT_EFFECT: &[&str] = &["dropout"];

/// Added to the mean squares of text, queries and keys.
const RMS_EPS: f32 = 1e-5;
/// Added to the variance where the norm has weights.
const EPS: f32 = 1e-6;
/// Sinusoids of timestep and guidance scale.
const WAVES: usize = 256;
/// Timesteps end there.
const TIMES: f32 = 1000.0;
/// The name that configs have for norms of all heads together.
const ACROSS_HEADS: &str = "rms_norm_across_heads";
/// Tokens of the text.
const TEXT_TOKENS: usize = 300;
/// What is asked of the language model before the prompt: the networks were trained with its states behind that.
const INSTRUCTION: &str = "\
    Given a user prompt, generate an 'Enhanced prompt' that provides detailed visual descriptions suitable for \
    image generation. Evaluate the level of detail in the user prompt:\n\
    - If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, and spatial \
    relationships to create vivid and concrete scenes.\n\
    - If the prompt is already detailed, refine and enhance the existing details slightly without \
    overcomplicating.\n\
    Here are examples of how to transform or refine prompts:\n\
    - User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round shape, sleeping \
    peacefully on a warm sunny windowsill, surrounded by pots of blooming red flowers.\n\
    - User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, featuring glowing \
    street lamps, a diverse crowd of people in colorful clothing, and a double-decker bus passing by towering \
    glass skyscrapers.\n\
    Please generate only the enhanced description for the prompt below and avoid including any additional \
    commentary or evaluations:\n\
    User Prompt: ";

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

    fn width(&self) -> usize {
        self.num_attention_heads.saturating_mul(self.attention_head_dim)
    }

    fn cross_width(&self) -> usize {
        self.num_cross_attention_heads.saturating_mul(self.cross_attention_head_dim)
    }

    /// Width inside a feed-forward, rounded down.
    fn hidden(&self) -> usize {
        (self.width() as f64 * self.mlp_ratio) as usize
    }

    fn check(&self) -> Result<()> {
        supported("out_channels", &self.out_channels.unwrap_or(self.in_channels), &[self.in_channels])?;
        supported("cross_attention_dim", &self.cross_attention_dim, &[self.width()])?;
        supported("norm_eps", &self.norm_eps, &[f64::from(1e-6_f32), 1e-6])?;
        supported("interpolation_scale", &self.interpolation_scale, &[None])?;
        supported("qk_norm", &self.qk_norm.as_deref(), &[None, Some(ACROSS_HEADS)])?;
        for (option, number) in [
            ("mlp_ratio", self.mlp_ratio),
            ("timestep_scale", f64::from(self.timestep_scale)),
            ("guidance_embeds_scale", f64::from(self.guidance_embeds_scale)),
        ] {
            config::positive(option, number)?;
        }
        all_bounded([
            ("in_channels", self.in_channels, MAX_WIDTH),
            ("num_layers", self.num_layers, MAX_DEPTH),
            ("num_attention_heads * attention_head_dim", self.width(), MAX_WIDTH / 6),
            ("num_cross_attention_heads * cross_attention_head_dim", self.cross_width(), MAX_WIDTH),
            ("caption_channels", self.caption_channels, MAX_WIDTH),
            ("mlp_ratio", self.hidden(), MAX_WIDTH / 2),
            ("sample_size", self.sample_size, MAX_WIDTH),
            ("patch_size", self.patch_size, 16),
        ])
    }

    /// What pipelines ask for.
    #[must_use]
    pub fn facts(&self) -> DenoiserFacts {
        let distilled = self.guidance_embeds;
        DenoiserFacts {
            channels: self.in_channels,
            predicted: self.in_channels,
            classes: None,
            text_and_sizes: false,
            native: [self.sample_size; 2],
            divisor: self.patch_size,
            patch: self.patch_size,
            most: None,
            guidance: if distilled { GuidanceInput::Number } else { GuidanceInput::Passes },
            text: TextLayout::Instructed {
                states: HiddenStates::one(-1),
                tokens: TEXT_TOKENS,
                instruction: INSTRUCTION,
            },
            flow: Some(FlowFacts {
                time_divisor: if distilled { TIMES } else { 1.0 / self.timestep_scale },
                to_picture: false,
                even_levels: false,
                steps: if distilled { 2 } else { 20 },
                guidance: 4.5,
                unguided: 1.0,
                distilled: None,
                undistilled: None,
                shift: LevelShift::Line,
            }),
            references: References::default(),
        }
    }
}

/// What is asked of a graph.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of latents.
    pub batch: Dim,
    /// Number of text tokens.
    pub tokens: Dim,
    /// Height of the latents, in tokens.
    pub rows: Dim,
    /// Width of the latents, in tokens.
    pub columns: Dim,
    /// True if texts have different lengths, which a mask says.
    pub mask: bool,
}

impl Options {
    /// With symbols as sizes.
    #[must_use]
    pub fn symbols(mask: bool) -> Self {
        let [batch, tokens, rows, columns] = ["batch", "tokens", "height", "width"].map(Dim::symbol);
        Self { batch, tokens, rows, columns, mask }
    }
}

/// What every block is told.
struct Call<'c> {
    config: &'c Config,
    rows: &'c Dim,
    columns: &'c Dim,
    /// What time and guidance say of shifts, scales and gates, `[batch, 6, width]`.
    modulation: Value,
    /// `[batch, tokens, width]`.
    text: Value,
    /// Which tokens of the text are seen, Bool `[batch, tokens]`, if not all.
    seen: Option<Value>,
}

/// Builds the network.
///
/// Inputs: `sample` `[batch, in_channels, height, width]`, whose sides are multiples of `patch_size`, `timestep`
/// `[batch]`, `encoder_hidden_states` `[batch, tokens, caption_channels]`; by config `guidance` `[batch]`, the scale;
/// if asked for `encoder_attention_mask` I64 `[batch, tokens]`, 0 for what is behind a text. Output: `out_sample` like
/// `sample`, the velocity from picture to noise.
///
/// # Errors
/// If the config is absurd or asks for something that is not supported.
pub fn build(config: &Config, options: &Options) -> Result<Graph> {
    config.check()?;
    let (width, patch) = (config.width(), config.patch_size);
    let Options { batch, tokens, rows, columns, mask } = options;
    let mut graph = Graph::new();
    let m = &mut Module::root(&mut graph);
    let shape = vec![batch.clone(), config.in_channels.into(), rows * patch, columns * patch];
    let sample = m.input("sample", DType::F32, shape);
    let timestep = m.input("timestep", DType::F32, [batch.clone()]);
    let shape = vec![batch.clone(), tokens.clone(), config.caption_channels.into()];
    let text = m.input("encoder_hidden_states", DType::F32, shape);
    let guidance = if config.guidance_embeds { Some(m.input("guidance", DType::F32, [batch.clone()])) } else { None };
    let seen = if *mask {
        let seen = m.input("encoder_attention_mask", DType::I64, [batch.clone(), tokens.clone()]);
        Some(m.cast(seen, DType::Bool)?)
    } else {
        None
    };

    let x = m.channels_last(sample)?;
    let squares = Conv2d { stride: [patch; 2], ..Conv2d::default() };
    let x = conv2d(&mut m.at("patch_embed.proj"), x, [width, patch], squares, true)?;
    let mut x = m.reshape(x, vec![batch.clone(), rows * columns, width.into()])?;
    let [cond, modulation] = condition(&mut m.at("time_embed"), timestep, guidance, config)?;
    let caption = &mut m.at("caption_projection");
    let text = linear(&mut caption.at("linear_1"), text, width, true)?;
    let text = caption.activation(Activation::GeluTanh, text)?;
    let text = linear(&mut caption.at("linear_2"), text, width, true)?;
    let text = rms_norm(&mut m.at("caption_norm"), text, RMS_EPS, 0.0)?;
    let call = Call { config, rows, columns, modulation, text, seen };
    for layer in 0..config.num_layers {
        x = block(&mut m.at(format_args!("transformer_blocks.{layer}")), x, &call)?;
    }
    let cond = m.reshape(cond, vec![batch.clone(), 1.into(), width.into()])?;
    let [shift, scale] = modulations(m, cond)?;
    let x = plain_layer_norm(&mut m.at("norm_out.norm"), x)?;
    let x = modulated(m, x, scale, shift)?;
    let x = linear(&mut m.at("proj_out"), x, patch * patch * config.in_channels, true)?;
    let [p, channels] = [patch, config.in_channels].map(Dim::from);
    let x = m.reshape(x, vec![batch.clone(), rows.clone(), columns.clone(), p.clone(), p, channels.clone()])?;
    let x = m.permute(x, &[0, 5, 1, 3, 2, 4])?;
    let x = m.reshape(x, vec![batch.clone(), channels, rows * patch, columns * patch])?;
    m.output("out_sample", x);
    Ok(graph)
}

/// The vector of time, and of guidance if there is one, `[batch, width]`, and what blocks are modulated by,
/// `[batch, 6, width]`.
fn condition(m: &mut Module<'_>, timestep: Value, guidance: Option<Value>, config: &Config) -> Result<[Value; 2]> {
    let width = config.width();
    let embedded = |m: &mut Module<'_>, name: &str, number: Value| {
        let waves = sinusoid(m, number, WAVES, true, 0.0)?;
        timestep_embedding(&mut m.at(name), waves, width, Activation::Silu, true)
    };
    let cond = match guidance {
        None => embedded(m, "emb.timestep_embedder", timestep)?,
        Some(guidance) => {
            let time = embedded(m, "timestep_embedder", timestep)?;
            let guidance = m.affine(guidance, config.guidance_embeds_scale, 0.0)?;
            let guidance = embedded(m, "guidance_embedder", guidance)?;
            m.add(time, guidance)?
        }
    };
    let active = m.activation(Activation::Silu, cond)?;
    let all = linear(&mut m.at("linear"), active, 6 * width, true)?;
    let batch = m.dim(all, 0);
    Ok([cond, m.reshape(all, vec![batch, 6.into(), width.into()])?])
}

/// `N` modulations `[batch, 1, width]` of a block: its table plus what time says, `[batch, 1 or N, width]`.
fn modulations<const N: usize>(m: &mut Module<'_>, said: Value) -> Result<[Value; N]> {
    let width = m.width(said)?;
    let table = m.tensor("scale_shift_table", &[N, width])?;
    let sum = m.add(said, table)?;
    let mut parts = [sum; N];
    for (i, part) in parts.iter_mut().enumerate() {
        *part = m.slice(sum, 1, i, i + 1)?;
    }
    Ok(parts)
}

/// A block over tokens `[batch, n, width]`.
fn block(m: &mut Module<'_>, x: Value, call: &Call<'_>) -> Result<Value> {
    let [shift, scale, gate, shift_feed, scale_feed, gate_feed] = modulations(m, call.modulation)?;
    let h = plain_layer_norm(&mut m.at("norm1"), x)?;
    let h = modulated(m, h, scale, shift)?;
    let h = to_itself(&mut m.at("attn1"), h, call.config)?;
    let x = gated(m, x, h, gate)?;
    let h = to_text(&mut m.at("attn2"), x, call)?;
    let x = m.add(x, h)?;
    let norm = &mut m.at("norm2");
    let h = if call.config.norm_elementwise_affine { layer_norm(norm, x, EPS)? } else { plain_layer_norm(norm, x)? };
    let h = modulated(m, h, scale_feed, shift_feed)?;
    let flat = m.shape(h).clone();
    let [batch, width] = [0, 2].map(|axis| m.dim(h, axis));
    let h = m.reshape(h, vec![batch, call.rows.clone(), call.columns.clone(), width])?;
    let h = inverted_bottleneck(&mut m.at("ff"), h, call.config.hidden())?;
    let h = m.reshape(h, flat)?;
    gated(m, x, h, gate_feed)
}

/// Queries or keys, normed if they are.
fn projected(
    m: &mut Module<'_>,
    x: Value,
    [name, norm]: [&str; 2],
    (width, bias): (usize, bool),
    config: &Config,
) -> Result<Value> {
    let x = linear(&mut m.at(name), x, width, bias)?;
    if config.qk_norm.is_some() { rms_norm(&mut m.at(norm), x, RMS_EPS, 0.0) } else { Ok(x) }
}

/// What each token takes from all of the picture.
fn to_itself(m: &mut Module<'_>, x: Value, config: &Config) -> Result<Value> {
    let (width, bias) = (config.width(), config.attention_bias);
    let flat = m.shape(x).clone();
    let [batch, count] = [0, 1].map(|axis| m.dim(x, axis));
    let q = projected(m, x, ["to_q", "norm_q"], (width, bias), config)?;
    let k = projected(m, x, ["to_k", "norm_k"], (width, bias), config)?;
    let v = linear(&mut m.at("to_v"), x, width, bias)?;
    let heads = [config.num_attention_heads, config.attention_head_dim].map(Dim::from);
    let mut split = |x: Value| {
        let x = m.reshape(x, vec![batch.clone(), count.clone(), heads[0].clone(), heads[1].clone()])?;
        m.permute(x, &[0, 2, 1, 3])
    };
    let qkv = [split(q)?, split(k)?, split(v)?];
    let mixed = linear_attention(m, qkv)?;
    let mixed = m.permute(mixed, &[0, 2, 1, 3])?;
    let mixed = m.reshape(mixed, flat)?;
    linear(&mut m.at(Projections::DIFFUSERS.out), mixed, width, true)
}

/// What each token takes from the text.
fn to_text(m: &mut Module<'_>, x: Value, call: &Call<'_>) -> Result<Value> {
    let Call { config, text, seen, .. } = call;
    let width = config.cross_width();
    let q = projected(m, x, ["to_q", "norm_q"], (width, true), config)?;
    let k = projected(m, *text, ["to_k", "norm_k"], (width, true), config)?;
    let v = linear(&mut m.at("to_v"), *text, width, true)?;
    let attention = Attention {
        heads: config.num_cross_attention_heads,
        kv_heads: config.num_cross_attention_heads,
        scale: 1.0 / (config.cross_attention_head_dim as f32).sqrt(),
        causal: false,
        window: None,
        mask: if seen.is_some() { Mask::Keys } else { Mask::None },
    };
    let mixed = m.attention(attention, [q, k, v], *seen)?;
    linear(&mut m.at(Projections::DIFFUSERS.out), mixed, config.width(), true)
}

fn facts(json: &str) -> Result<DenoiserFacts> {
    Ok(Config::from_json(json)?.facts())
}

fn functions(json: &str, sizes: GraphSizes) -> Result<Functions> {
    let config = Config::from_json(json)?;
    let mut graph = build(&config, &Options::symbols(sizes.mask))?;
    for symbol in ["height", "width"] {
        graph.expect(symbol, config.sample_size / config.patch_size.max(1));
    }
    Ok(vec![("main", graph)])
}

/// `SanaTransformer2DModel`.
pub const ARCHITECTURE: Architecture = Architecture {
    class: "SanaTransformer2DModel",
    role: Role::Denoiser(facts),
    functions,
    renames: &[],
    ignored: &[],
};
