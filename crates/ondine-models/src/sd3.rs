//! The multimodal diffusion transformer of Stable Diffusion 3 (Esser et al. 2024), as in diffusers:
//! `SD3Transformer2DModel`. Version 3.5 medium adds attentions of the picture to itself, and norms of queries and keys.

use ondine_graph::{Conv2d, DType, Dim, Graph, Result, Value, fail};
use serde::Deserialize;

use crate::{
    architecture::{
        Architecture, DenoiserFacts, FlowFacts, Functions, GraphSizes, GuidanceInput, LevelShift, References, Role,
        TextLayout,
    },
    blocks::{
        Conditions, Heads, JointBlock, JointOptions, Module, NORM_EPS, continuous_norm, conv2d, joint_block, linear,
        time_text_embedding,
    },
    config::{self, MAX_DEPTH, MAX_WIDTH, all_bounded, supported},
};

/// `config.json` of a transformer; defaults are those of `SD3Transformer2DModel`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Side of the latents that the network was trained on.
    pub sample_size: usize,
    /// Side of the squares of latents that are a token.
    pub patch_size: usize,
    /// Channels of the latents.
    pub in_channels: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Features of a head.
    pub attention_head_dim: usize,
    /// Number of heads.
    pub num_attention_heads: usize,
    /// Width of the states of the text.
    pub joint_attention_dim: usize,
    /// Width that they are projected to, which is that of the blocks.
    pub caption_projection_dim: usize,
    /// Width of the vector of the whole text.
    pub pooled_projection_dim: usize,
    /// Channels of the prediction, if not those of the latents.
    pub out_channels: Option<usize>,
    /// Side of the table of positions, in tokens.
    pub pos_embed_max_size: usize,
    /// Blocks in which the picture attends to itself besides.
    pub dual_attention_layers: Vec<usize>,
    /// How queries and keys are normed: not at all or `rms_norm`.
    pub qk_norm: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sample_size: 128,
            patch_size: 2,
            in_channels: 16,
            num_layers: 18,
            attention_head_dim: 64,
            num_attention_heads: 18,
            joint_attention_dim: 4096,
            caption_projection_dim: 1152,
            pooled_projection_dim: 2048,
            out_channels: Some(16),
            pos_embed_max_size: 96,
            dual_attention_layers: Vec::new(),
            qk_norm: None,
        }
    }
}

/// The largest side of a token.
const MAX_PATCH: usize = 64;
/// The largest side of the table of positions.
const MAX_POSITIONS: usize = 4096;

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

    fn check(&self) -> Result<()> {
        all_bounded([
            ("sample_size", self.sample_size, MAX_WIDTH),
            ("patch_size", self.patch_size, MAX_PATCH),
            ("in_channels", self.in_channels, MAX_WIDTH),
            ("out_channels", self.out(), MAX_WIDTH),
            ("num_layers", self.num_layers, MAX_DEPTH),
            ("num_attention_heads * attention_head_dim", self.width(), MAX_WIDTH),
            ("joint_attention_dim", self.joint_attention_dim, MAX_WIDTH),
            ("pooled_projection_dim", self.pooled_projection_dim, MAX_WIDTH),
            ("pos_embed_max_size", self.pos_embed_max_size, MAX_POSITIONS),
        ])?;
        supported("qk_norm", &self.qk_norm.as_deref(), &[None, Some("rms_norm")])?;
        if self.caption_projection_dim != self.width() {
            let (caption, width) = (self.caption_projection_dim, self.width());
            fail!(Shape, "`caption_projection_dim` is {caption}, the blocks are {width} wide; they must agree");
        }
        if let Some(layer) = self.dual_attention_layers.iter().find(|layer| **layer >= self.num_layers) {
            fail!(Shape, "`dual_attention_layers` names block {layer} of {}", self.num_layers);
        }
        Ok(())
    }

    /// What pipelines ask for.
    #[must_use]
    pub fn facts(&self) -> DenoiserFacts {
        DenoiserFacts {
            channels: self.in_channels,
            predicted: self.out(),
            classes: None,
            text_and_sizes: false,
            native: [self.sample_size; 2],
            divisor: self.patch_size,
            patch: self.patch_size,
            most: Some(self.pos_embed_max_size.saturating_mul(self.patch_size)),
            guidance: GuidanceInput::Passes,
            text: TextLayout::Joined { tokens: 256 },
            flow: Some(FlowFacts {
                time_divisor: 1.0,
                to_picture: false,
                even_levels: false,
                steps: 28,
                guidance: 7.0,
                unguided: 1.0,
                distilled: None,
                undistilled: None,
                shift: LevelShift::Line,
            }),
            references: References::default(),
        }
    }
}

/// Builds the network.
///
/// Inputs: `sample` `[batch, in_channels, height, width]`, whose sides are multiples of `patch_size`, `timestep`
/// `[batch]` from 0 to 1000, `encoder_hidden_states` `[batch, tokens, joint_attention_dim]`, `pooled_projections`
/// `[batch, pooled_projection_dim]`. Output: `out_sample` `[batch, out_channels, height, width]`.
///
/// # Errors
/// If the config is absurd, or the picture is larger than the table of positions.
pub fn build(config: &Config, options: &JointOptions) -> Result<Graph> {
    config.check()?;
    let (width, patch) = (config.width(), config.patch_size);
    let JointOptions { batch, tokens, rows, columns, .. } = options;
    let mut graph = Graph::new();
    let m = &mut Module::root(&mut graph);
    let sides = [rows * patch, columns * patch];
    let [height, across] = sides.clone();
    let sample = m.input("sample", DType::F32, vec![batch.clone(), config.in_channels.into(), height, across]);
    let timestep = m.input("timestep", DType::F32, [batch.clone()]);
    let text = m.input(
        "encoder_hidden_states",
        DType::F32,
        vec![batch.clone(), tokens.clone(), config.joint_attention_dim.into()],
    );
    let pooled = m.input("pooled_projections", DType::F32, [batch.clone(), config.pooled_projection_dim.into()]);

    let conditions = Conditions { timestep, guidance: None, pooled };
    let cond = time_text_embedding(&mut m.at("time_text_embed"), &conditions, width)?;
    let cond = m.activation(ondine_graph::Activation::Silu, cond)?;
    let mut x = patches(&mut m.at("pos_embed"), sample, config, options)?;
    let mut text = linear(&mut m.at("context_embedder"), text, width, true)?;
    let (count, width) = (config.num_attention_heads, config.attention_head_dim);
    let normed = config.qk_norm.as_ref().map(|_| NORM_EPS);
    let heads = Heads { count, width, normed, bias: true, rotary: None, lengths: None };
    for layer in 0..config.num_layers {
        let dual = config.dual_attention_layers.contains(&layer);
        let block = JointBlock { dual, last: layer + 1 == config.num_layers };
        let m = &mut m.at(format_args!("transformer_blocks.{layer}"));
        [text, x] = joint_block(m, [text, x], cond, &heads, block)?;
    }
    let x = continuous_norm(&mut m.at("norm_out"), x, cond, true)?;
    let out = config.out();
    let x = linear(&mut m.at("proj_out"), x, patch * patch * out, true)?;
    let squares = [batch.clone(), rows.clone(), columns.clone(), patch.into(), patch.into(), out.into()];
    let x = m.reshape(x, squares.to_vec())?;
    let x = m.permute(x, &[0, 5, 1, 3, 2, 4])?;
    let [height, across] = sides;
    let x = m.reshape(x, vec![batch.clone(), out.into(), height, across])?;
    m.output("out_sample", x);
    Ok(graph)
}

/// Tokens of the latents with their positions, which are the middle of a table: `[batch, rows * columns, width]`.
fn patches(m: &mut Module<'_>, sample: Value, config: &Config, options: &JointOptions) -> Result<Value> {
    let (width, patch, most) = (config.width(), config.patch_size, config.pos_embed_max_size);
    let JointOptions { batch, rows, columns, .. } = options;
    let x = m.channels_last(sample)?;
    let conv = Conv2d { stride: [patch; 2], ..Conv2d::default() };
    let x = conv2d(&mut m.at("proj"), x, [width, patch], conv, true)?;
    let tokens = rows * columns;
    let x = m.reshape(x, vec![batch.clone(), tokens.clone(), width.into()])?;

    let table = m.tensor("pos_embed", &[1, most * most, width])?;
    let mut table = m.reshape(table, vec![most.into(), most.into(), width.into()])?;
    for (axis, size) in [rows, columns].into_iter().enumerate() {
        let start = (&Dim::from(most) - size).floor_div(2);
        let end = &start + size;
        table = m.slice(table, axis, start, end)?;
    }
    let table = m.reshape(table, vec![1.into(), tokens, width.into()])?;
    m.add(x, table)
}

fn facts(json: &str) -> Result<DenoiserFacts> {
    Ok(Config::from_json(json)?.facts())
}

fn functions(json: &str, _: GraphSizes) -> Result<Functions> {
    let config = Config::from_json(json)?;
    let mut graph = build(&config, &JointOptions::default())?;
    for symbol in ["height", "width"] {
        let most = config.pos_embed_max_size;
        graph.limit(symbol, 1, most);
        graph.expect(symbol, (config.sample_size / config.patch_size).clamp(1, most));
    }
    Ok(vec![("main", graph)])
}

/// `SD3Transformer2DModel`.
pub const ARCHITECTURE: Architecture =
    Architecture { class: "SD3Transformer2DModel", role: Role::Denoiser(facts), functions, renames: &[], ignored: &[] };
