//! The transformer of `FLUX.1` (Black Forest Labs 2024), as in diffusers: `FluxTransformer2DModel`. Text and picture
//! have weights of their own in the first blocks and the same in the others; positions turn queries and keys.

use ondine_graph::{Activation, DType, Dim, Graph, Result, Value, fail};
use serde::Deserialize;

use crate::{
    architecture::{
        Architecture, DenoiserFacts, FlowFacts, Functions, GraphSizes, GuidanceInput, LevelShift, References, Role,
        TextLayout,
    },
    blocks::{
        Axes, Conditions, Heads, JointBlock, JointOptions, Module, NORM_EPS, REFERENCES, TextPositions,
        continuous_norm, joint_block, linear, one_sequence, single_block, time_text_embedding,
    },
    config::{self, MAX_DEPTH, MAX_WIDTH, all_bounded, supported},
};

/// `config.json` of a transformer; defaults are those of `FluxTransformer2DModel`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Must be 1: latents come as squares already.
    pub patch_size: usize,
    /// Numbers of a token: the channels of a square of latents.
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
    /// Width of the vector of the whole text.
    pub pooled_projection_dim: usize,
    /// True if it takes the guidance scale.
    pub guidance_embeds: bool,
    /// Features of a head that are turned by each of three positions.
    pub axes_dims_rope: [usize; 3],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            patch_size: 1,
            in_channels: 64,
            out_channels: None,
            num_layers: 19,
            num_single_layers: 38,
            attention_head_dim: 128,
            num_attention_heads: 24,
            joint_attention_dim: 4096,
            pooled_projection_dim: 768,
            guidance_embeds: false,
            axes_dims_rope: [16, 56, 56],
        }
    }
}

/// Side of the squares of latents that are a token.
const SQUARE: usize = 2;

/// What timesteps and guidance scales are multiplied by before they become waves.
const TIME_SCALE: f32 = 1000.0;

/// Side of the latents that the pipelines of these networks draw if nobody says otherwise.
const NATIVE: usize = 128;

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

    fn axes(&self) -> Axes {
        Axes { theta: 10_000.0, features: self.axes_dims_rope.to_vec() }
    }

    fn check(&self) -> Result<()> {
        supported("patch_size", &self.patch_size, &[1])?;
        all_bounded([
            ("in_channels", self.in_channels, MAX_WIDTH),
            ("out_channels", self.out(), MAX_WIDTH),
            ("num_layers + num_single_layers", self.num_layers.saturating_add(self.num_single_layers), MAX_DEPTH),
            ("num_attention_heads * attention_head_dim", self.width(), MAX_WIDTH / 4),
            ("joint_attention_dim", self.joint_attention_dim, MAX_WIDTH),
            ("pooled_projection_dim", self.pooled_projection_dim, MAX_WIDTH),
        ])?;
        for (option, numbers) in [("in_channels", self.in_channels), ("out_channels", self.out())] {
            if numbers % (SQUARE * SQUARE) != 0 {
                fail!(Shape, "`{option}` is {numbers}, no squares of {SQUARE}x{SQUARE} latents");
            }
        }
        self.axes().check("axes_dims_rope", self.attention_head_dim)
    }

    /// What pipelines ask for.
    #[must_use]
    pub fn facts(&self) -> DenoiserFacts {
        let fills = self.in_channels != self.out();
        let (guidance, steps, scale) = match self.guidance_embeds {
            true if fills => (GuidanceInput::Number, 50, 30.0),
            true => (GuidanceInput::Number, 28, 3.5),
            false => (GuidanceInput::Passes, 4, 1.0),
        };
        DenoiserFacts {
            channels: self.in_channels / (SQUARE * SQUARE),
            predicted: self.out() / (SQUARE * SQUARE),
            classes: None,
            text_and_sizes: false,
            native: [NATIVE; 2],
            divisor: SQUARE,
            patch: SQUARE,
            most: None,
            guidance,
            text: TextLayout::Last { tokens: 512 },
            flow: Some(FlowFacts {
                time_divisor: TIME_SCALE,
                to_picture: false,
                even_levels: true,
                steps,
                guidance: scale,
                unguided: 1.0,
                distilled: None,
                undistilled: None,
                shift: LevelShift::Line,
            }),
            references: References { most: usize::from(!fills), sizes: &SIZES },
        }
    }
}

/// Sizes of the pictures that `Kontext` was trained to look at: width and height.
const SIZES: [[usize; 2]; 17] = [
    [672, 1568],
    [688, 1504],
    [720, 1456],
    [752, 1392],
    [800, 1328],
    [832, 1248],
    [880, 1184],
    [944, 1104],
    [1024, 1024],
    [1104, 944],
    [1184, 880],
    [1248, 832],
    [1328, 800],
    [1392, 752],
    [1456, 720],
    [1504, 688],
    [1568, 672],
];

/// Builds the network.
///
/// Inputs: `sample` `[batch, in_channels / 4, height, width]`, whose sides are even, `timestep` `[batch]` from 0 to 1,
/// `encoder_hidden_states` `[batch, tokens, joint_attention_dim]`, `pooled_projections`
/// `[batch, pooled_projection_dim]`; by config also `guidance` `[batch]`, the scale, and by options
/// [`REFERENCES`] like `sample`, each of its size. Output: `out_sample`
/// `[batch, out_channels / 4, height, width]`.
///
/// # Errors
/// If the config is absurd or asks for something that is not supported.
pub fn build(config: &Config, options: &JointOptions) -> Result<Graph> {
    config.check()?;
    let width = config.width();
    let JointOptions { batch, tokens, rows, columns, .. } = options;
    let mut graph = Graph::new();
    let m = &mut Module::root(&mut graph);
    let (taken, predicted) = (config.in_channels / (SQUARE * SQUARE), config.out() / (SQUARE * SQUARE));
    let shape = vec![batch.clone(), taken.into(), rows * SQUARE, columns * SQUARE];
    let sample = m.input("sample", DType::F32, shape);
    let timestep = m.input("timestep", DType::F32, [batch.clone()]);
    let text = m.input(
        "encoder_hidden_states",
        DType::F32,
        vec![batch.clone(), tokens.clone(), config.joint_attention_dim.into()],
    );
    let pooled = m.input("pooled_projections", DType::F32, [batch.clone(), config.pooled_projection_dim.into()]);
    let guidance = if config.guidance_embeds { Some(m.input("guidance", DType::F32, [batch.clone()])) } else { None };

    let timestep = m.affine(timestep, TIME_SCALE, 0.0)?;
    let guidance = guidance.map(|scale| m.affine(scale, TIME_SCALE, 0.0)).transpose()?;
    let cond = time_text_embedding(&mut m.at("time_text_embed"), &Conditions { timestep, guidance, pooled }, width)?;
    let cond = m.activation(Activation::Silu, cond)?;
    let mut pictures = vec![packed(m, sample, [batch, rows, columns])?];
    for (name, [rows, columns]) in REFERENCES.iter().zip(&options.references) {
        let shape = vec![batch.clone(), taken.into(), rows * SQUARE, columns * SQUARE];
        let picture = m.input(name, DType::F32, shape);
        pictures.push(packed(m, picture, [batch, rows, columns])?);
    }
    let x = one_sequence(m, &pictures)?;
    let mut x = linear(&mut m.at("x_embedder"), x, width, true)?;
    let mut text = linear(&mut m.at("context_embedder"), text, width, true)?;
    let rotary = config.axes().tables(&mut m.at("pos_embed"), options, TextPositions::Origin, 1)?;
    let (count, head) = (config.num_attention_heads, config.attention_head_dim);
    let heads = Heads { count, width: head, normed: Some(NORM_EPS), bias: true, rotary: Some(rotary), lengths: None };
    for layer in 0..config.num_layers {
        let m = &mut m.at(format_args!("transformer_blocks.{layer}"));
        [text, x] = joint_block(m, [text, x], cond, &heads, JointBlock::default())?;
    }
    let mut both = m.concat(&[text, x], 1)?;
    for layer in 0..config.num_single_layers {
        let m = &mut m.at(format_args!("single_transformer_blocks.{layer}"));
        both = single_block(m, both, cond, &heads, 4 * width)?;
    }
    let x = m.slice(both, 1, tokens.clone(), tokens + &(rows * columns))?;
    let x = continuous_norm(&mut m.at("norm_out"), x, cond, true)?;
    let x = linear(&mut m.at("proj_out"), x, config.out(), true)?;
    let squares = vec![batch.clone(), rows.clone(), columns.clone(), predicted.into(), SQUARE.into(), SQUARE.into()];
    let x = m.reshape(x, squares)?;
    let x = m.permute(x, &[0, 3, 1, 4, 2, 5])?;
    let x = m.reshape(x, vec![batch.clone(), predicted.into(), rows * SQUARE, columns * SQUARE])?;
    m.output("out_sample", x);
    Ok(graph)
}

/// Squares of latents as tokens, channels before places: `[batch, rows * columns, channels * 4]`.
fn packed(m: &mut Module<'_>, sample: Value, [batch, rows, columns]: [&Dim; 3]) -> Result<Value> {
    let channels = m.dim(sample, 1);
    let squares = vec![batch.clone(), channels.clone(), rows.clone(), SQUARE.into(), columns.clone(), SQUARE.into()];
    let x = m.reshape(sample, squares)?;
    let x = m.permute(x, &[0, 2, 4, 1, 3, 5])?;
    m.reshape(x, vec![batch.clone(), rows * columns, &channels * (SQUARE * SQUARE)])
}

fn facts(json: &str) -> Result<DenoiserFacts> {
    Ok(Config::from_json(json)?.facts())
}

fn functions(json: &str, sizes: GraphSizes) -> Result<Functions> {
    let mut graph = build(&Config::from_json(json)?, &JointOptions::looking_at(sizes.references))?;
    for symbol in ["height", "width"] {
        graph.expect(symbol, NATIVE / SQUARE);
    }
    Ok(vec![("main", graph)])
}

/// `FluxTransformer2DModel`.
pub const ARCHITECTURE: Architecture = Architecture {
    class: "FluxTransformer2DModel",
    role: Role::Denoiser(facts),
    functions,
    renames: &[],
    ignored: &[],
};
