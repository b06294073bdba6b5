//! The transformer of `FLUX.2` (Black Forest Labs 2025), as in diffusers: `Flux2Transformer2DModel`. As in `FLUX.1`
//! text and picture have weights of their own in the first blocks and the same in the others; all blocks of a kind
//! are modulated alike, feed-forwards are gated, and no layer has a bias.

use ondine_graph::{Activation, DType, Dim, Graph, Result, Value};
use serde::Deserialize;

use crate::{
    architecture::{
        Architecture, DenoiserFacts, FlowFacts, Functions, GraphSizes, GuidanceInput, HiddenStates, LevelShift,
        References, Role, TextLayout,
    },
    blocks::{
        Axes, Heads, JointOptions, Modulation, Module, NORM_EPS, REFERENCES, TextPositions, continuous_norm, gated,
        linear, modulated, modulations, one_sequence, plain_layer_norm, sinusoid, timestep_embedding,
    },
    config::{self, MAX_DEPTH, MAX_WIDTH, all_bounded, supported},
};

/// `config.json` of a transformer; defaults are those of `Flux2Transformer2DModel`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Must be 1: latents come as squares already.
    pub patch_size: usize,
    /// Numbers of a token: the channels of the latents.
    pub in_channels: usize,
    /// Numbers that are predicted for a token, if not as many.
    pub out_channels: Option<usize>,
    /// Number of blocks with weights of their own for text and picture.
    pub num_layers: usize,
    /// Number of blocks with the same weights for both.
    pub num_single_layers: usize,
    /// Features of a head.
    pub attention_head_dim: usize,
    /// Number of heads.
    pub num_attention_heads: usize,
    /// Width of the states of the text.
    pub joint_attention_dim: usize,
    /// Sinusoids of the timestep and of the guidance scale.
    pub timestep_guidance_channels: usize,
    /// Width inside a feed-forward, in widths of the blocks.
    pub mlp_ratio: f64,
    /// Features of a head that are turned by each of four positions: of the picture among several, row, column, and of
    /// the token in the text.
    pub axes_dims_rope: [usize; 4],
    /// The base of the wavelengths of positions.
    pub rope_theta: f64,
    /// Added to variances and mean squares; must be 1e-6.
    pub eps: f64,
    /// True if it takes the guidance scale.
    pub guidance_embeds: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            patch_size: 1,
            in_channels: 128,
            out_channels: None,
            num_layers: 8,
            num_single_layers: 48,
            attention_head_dim: 128,
            num_attention_heads: 48,
            joint_attention_dim: 15360,
            timestep_guidance_channels: 256,
            mlp_ratio: 3.0,
            axes_dims_rope: [32; 4],
            rope_theta: 2000.0,
            eps: 1e-6,
            guidance_embeds: true,
        }
    }
}

/// What timesteps and guidance scales are multiplied by before they become waves.
const TIME_SCALE: f32 = 1000.0;

/// Side of the latents that the pipelines of these networks draw if nobody says otherwise: 1024 pixels.
const NATIVE: usize = 64;

/// What the text is of a language model, if its pipeline does not say otherwise.
const TEXT_LAYERS: HiddenStates = HiddenStates::three([9, 18, 27]);
/// Tokens of the text.
const TEXT_TOKENS: usize = 512;
/// What stands around the text: something said, and the beginning of an answer without thoughts, as in `Qwen3`.
const SAID: [&str; 2] = ["<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"];

/// How far apart the pictures that it looks at stand along the first axis.
const APART: i64 = 10;
/// The axis of positions in the text.
const TEXT_AXIS: usize = 3;

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

    fn width(&self) -> usize {
        self.num_attention_heads.saturating_mul(self.attention_head_dim)
    }

    fn out(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Width inside a feed-forward, rounded down.
    fn hidden(&self) -> usize {
        (self.width() as f64 * self.mlp_ratio) as usize
    }

    fn axes(&self) -> Axes {
        Axes { theta: self.rope_theta, features: self.axes_dims_rope.to_vec() }
    }

    fn check(&self) -> Result<()> {
        supported("patch_size", &self.patch_size, &[1])?;
        supported("eps", &self.eps, &[1e-6])?;
        config::positive("mlp_ratio", self.mlp_ratio)?;
        config::positive("rope_theta", self.rope_theta)?;
        all_bounded([
            ("in_channels", self.in_channels, MAX_WIDTH),
            ("out_channels", self.out(), MAX_WIDTH),
            ("num_layers + num_single_layers", self.num_layers.saturating_add(self.num_single_layers), MAX_DEPTH),
            ("num_attention_heads * attention_head_dim", self.width(), MAX_WIDTH / 4),
            ("mlp_ratio", self.hidden(), MAX_WIDTH),
            ("joint_attention_dim", self.joint_attention_dim, MAX_WIDTH),
            ("timestep_guidance_channels", self.timestep_guidance_channels, MAX_WIDTH),
        ])?;
        self.axes().check("axes_dims_rope", self.attention_head_dim)
    }

    /// What pipelines ask for.
    #[must_use]
    pub fn facts(&self) -> DenoiserFacts {
        let (guidance, distilled) =
            if self.guidance_embeds { (GuidanceInput::Number, None) } else { (GuidanceInput::Passes, Some((4, 1.0))) };
        DenoiserFacts {
            channels: self.in_channels,
            predicted: self.out(),
            classes: None,
            text_and_sizes: false,
            native: [NATIVE; 2],
            divisor: 1,
            patch: 1,
            most: None,
            guidance,
            text: TextLayout::Chat { states: TEXT_LAYERS, tokens: TEXT_TOKENS, padded: true, around: SAID },
            flow: Some(FlowFacts {
                time_divisor: TIME_SCALE,
                to_picture: false,
                even_levels: true,
                steps: 50,
                guidance: 4.0,
                unguided: 1.0,
                distilled,
                undistilled: None,
                shift: LevelShift::Empirical,
            }),
            references: References { most: REFERENCES.len(), sizes: &[] },
        }
    }
}

/// Builds the network.
///
/// Inputs: `sample` `[batch, in_channels, height, width]`, a token for each place, `timestep` `[batch]` from 0 to 1,
/// `encoder_hidden_states` `[batch, tokens, joint_attention_dim]`; by config also `guidance` `[batch]`, the scale,
/// and by options [`REFERENCES`] like `sample`, each of its size.
/// Output: `out_sample` `[batch, out_channels, height, width]`.
///
/// # Errors
/// If the config is absurd or asks for something that is not supported.
pub fn build(config: &Config, options: &JointOptions) -> Result<Graph> {
    config.check()?;
    let (width, hidden) = (config.width(), config.hidden());
    let JointOptions { batch, tokens, rows, columns, .. } = options;
    let mut graph = Graph::new();
    let m = &mut Module::root(&mut graph);
    let shape = vec![batch.clone(), config.in_channels.into(), rows.clone(), columns.clone()];
    let sample = m.input("sample", DType::F32, shape);
    let timestep = m.input("timestep", DType::F32, [batch.clone()]);
    let text = m.input(
        "encoder_hidden_states",
        DType::F32,
        vec![batch.clone(), tokens.clone(), config.joint_attention_dim.into()],
    );
    let guidance = if config.guidance_embeds { Some(m.input("guidance", DType::F32, [batch.clone()])) } else { None };

    let cond = condition(&mut m.at("time_guidance_embed"), timestep, guidance, config)?;
    let of_picture = modulations::<2>(&mut m.at("double_stream_modulation_img"), cond, width, false)?;
    let of_text = modulations::<2>(&mut m.at("double_stream_modulation_txt"), cond, width, false)?;
    let [of_both] = modulations::<1>(&mut m.at("single_stream_modulation"), cond, width, false)?;

    let mut pictures = vec![tokens_of(m, sample, [batch, rows, columns])?];
    for (name, [rows, columns]) in REFERENCES.iter().zip(&options.references) {
        let shape = vec![batch.clone(), config.in_channels.into(), rows.clone(), columns.clone()];
        let picture = m.input(name, DType::F32, shape);
        pictures.push(tokens_of(m, picture, [batch, rows, columns])?);
    }
    let x = one_sequence(m, &pictures)?;
    let mut x = linear(&mut m.at("x_embedder"), x, width, false)?;
    let mut text = linear(&mut m.at("context_embedder"), text, width, false)?;
    let rotary = config.axes().tables(&mut m.at("pos_embed"), options, TextPositions::Along(TEXT_AXIS), APART)?;
    let (count, head) = (config.num_attention_heads, config.attention_head_dim);
    let heads = Heads { count, width: head, normed: Some(NORM_EPS), bias: false, rotary: Some(rotary), lengths: None };
    for layer in 0..config.num_layers {
        let m = &mut m.at(format_args!("transformer_blocks.{layer}"));
        [text, x] = double_block(m, [text, x], [&of_text, &of_picture], &heads, hidden)?;
    }
    let mut both = m.concat(&[text, x], 1)?;
    for layer in 0..config.num_single_layers {
        both =
            single_block(&mut m.at(format_args!("single_transformer_blocks.{layer}")), both, of_both, &heads, hidden)?;
    }
    let x = m.slice(both, 1, tokens.clone(), tokens + &(rows * columns))?;
    let x = continuous_norm(&mut m.at("norm_out"), x, cond, false)?;
    let x = linear(&mut m.at("proj_out"), x, config.out(), false)?;
    let x = m.reshape(x, vec![batch.clone(), rows.clone(), columns.clone(), config.out().into()])?;
    let x = m.permute(x, &[0, 3, 1, 2])?;
    m.output("out_sample", x);
    Ok(graph)
}

/// A token for each place of a map `[batch, channels, rows, columns]`: `[batch, rows * columns, channels]`.
fn tokens_of(m: &mut Module<'_>, map: Value, [batch, rows, columns]: [&Dim; 3]) -> Result<Value> {
    let channels = m.dim(map, 1);
    let x = m.permute(map, &[0, 2, 3, 1])?;
    m.reshape(x, vec![batch.clone(), rows * columns, channels])
}

/// The activated vector of timestep and guidance scale, `[batch, width]`.
fn condition(m: &mut Module<'_>, timestep: Value, guidance: Option<Value>, config: &Config) -> Result<Value> {
    let mut embedded = |name: &str, number: Value| {
        let number = m.affine(number, TIME_SCALE, 0.0)?;
        let waves = sinusoid(m, number, config.timestep_guidance_channels, true, 0.0)?;
        timestep_embedding(&mut m.at(name), waves, config.width(), Activation::Silu, false)
    };
    let mut sum = embedded("timestep_embedder", timestep)?;
    if let Some(guidance) = guidance {
        let guidance = embedded("guidance_embedder", guidance)?;
        sum = m.add(sum, guidance)?;
    }
    m.activation(Activation::Silu, sum)
}

/// A block with weights of their own for text `[b, tokens, width]` and picture `[b, n, width]`.
fn double_block(
    m: &mut Module<'_>,
    [text, x]: [Value; 2],
    [of_text, of_picture]: [&[Modulation; 2]; 2],
    heads: &Heads,
    hidden: usize,
) -> Result<[Value; 2]> {
    let normed = normed(&mut m.at("norm1"), x, of_picture[0])?;
    let normed_text = self::normed(&mut m.at("norm1_context"), text, of_text[0])?;
    let [mixed_text, mixed] = heads.joint(&mut m.at("attn"), normed_text, normed, false)?;
    let x = gated(m, x, mixed, of_picture[0].gate)?;
    let text = gated(m, text, mixed_text, of_text[0].gate)?;
    Ok([
        feed(m, text, ["norm2_context", "ff_context"], of_text[1], hidden)?,
        feed(m, x, ["norm2", "ff"], of_picture[1], hidden)?,
    ])
}

/// The layer norm of a stream, scaled and shifted.
fn normed(m: &mut Module<'_>, x: Value, by: Modulation) -> Result<Value> {
    let plain = plain_layer_norm(m, x)?;
    modulated(m, plain, by.scale, by.shift)
}

/// The gated feed-forward of a stream with its norm; `names` are theirs.
fn feed(m: &mut Module<'_>, x: Value, names: [&str; 2], by: Modulation, hidden: usize) -> Result<Value> {
    let width = m.width(x)?;
    let h = normed(&mut m.at(names[0]), x, by)?;
    let feed = &mut m.at(names[1]);
    let h = linear(&mut feed.at("linear_in"), h, 2 * hidden, false)?;
    let h = swiglu(feed, h)?;
    let h = linear(&mut feed.at("linear_out"), h, width, false)?;
    gated(m, x, h, by.gate)
}

/// The first half of the features of `x` `[b, n, 2 * hidden]`, activated, times the second.
fn swiglu(m: &mut Module<'_>, x: Value) -> Result<Value> {
    let hidden = m.width(x)? / 2;
    let gate = m.slice(x, 2, 0, hidden)?;
    let value = m.slice(x, 2, hidden, 2 * hidden)?;
    let gate = m.activation(Activation::Silu, gate)?;
    m.mul(gate, value)
}

/// A block with the same weights for all of a sequence `[b, n, width]`, whose attention and feed-forward stand side by
/// side and share their projections.
fn single_block(m: &mut Module<'_>, x: Value, by: Modulation, heads: &Heads, hidden: usize) -> Result<Value> {
    let width = m.width(x)?;
    let normed = normed(&mut m.at("norm"), x, by)?;
    let attn = &mut m.at("attn");
    let all = linear(&mut attn.at("to_qkv_mlp_proj"), normed, 3 * width + 2 * hidden, false)?;
    let q = attn.slice(all, 2, 0, width)?;
    let k = attn.slice(all, 2, width, 2 * width)?;
    let v = attn.slice(all, 2, 2 * width, 3 * width)?;
    let mlp = attn.slice(all, 2, 3 * width, 3 * width + 2 * hidden)?;
    let (q, k) = (heads.split(attn, q, "norm_q")?, heads.split(attn, k, "norm_k")?);
    let mixed = heads.attend(attn, [q, k, v])?;
    let mlp = swiglu(attn, mlp)?;
    let both = attn.concat(&[mixed, mlp], 2)?;
    let change = linear(&mut attn.at("to_out"), both, width, false)?;
    gated(m, x, change, by.gate)
}

fn facts(json: &str) -> Result<DenoiserFacts> {
    Ok(Config::from_json(json)?.facts())
}

fn functions(json: &str, sizes: GraphSizes) -> Result<Functions> {
    let mut graph = build(&Config::from_json(json)?, &JointOptions::looking_at(sizes.references))?;
    for symbol in ["height", "width"] {
        graph.expect(symbol, NATIVE);
    }
    Ok(vec![("main", graph)])
}

/// `Flux2Transformer2DModel`.
pub const ARCHITECTURE: Architecture = Architecture {
    class: "Flux2Transformer2DModel",
    role: Role::Denoiser(facts),
    functions,
    renames: &[],
    ignored: &[],
};
