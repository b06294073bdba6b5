//! The picture encoder of CLIP (Radford et al. 2021), a vision transformer (Dosovitskiy et al. 2020), as in
//! transformers: `CLIPVisionModelWithProjection`.

use ondine_graph::{Activation, Conv2d, DType, Dim, Graph, Op, Result, Value, fail};
use serde::Deserialize;

use crate::{
    architecture::{Architecture, Functions, GraphSizes, PictureFacts, Role},
    blocks::{ClipLayer, Module, clip_layer, conv2d, layer_norm, linear, positions},
    config::{self, MAX_DEPTH, MAX_ROWS, MAX_WIDTH, TRANSFORMERS_NOTES, activation, all_bounded, divides, epsilon},
};

/// `config.json` of a picture encoder; defaults are those of `CLIPVisionConfig`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Width of `image_embeds`.
    pub projection_dim: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Channels of the picture.
    pub num_channels: usize,
    /// Side of the picture in pixels.
    pub image_size: usize,
    /// Side of the squares of pixels that are a token.
    pub patch_size: usize,
    /// Activation inside the feed-forward layers.
    pub hidden_act: String,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

impl Config {
    /// Reads and checks the text of a `config.json`.
    ///
    /// # Errors
    /// If it is no valid config, or asks for something absurd or unknown.
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Self = config::options(json, TRANSFORMERS_NOTES)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<Activation> {
        all_bounded([
            ("hidden_size", self.hidden_size, MAX_WIDTH),
            ("intermediate_size", self.intermediate_size, MAX_WIDTH),
            ("projection_dim", self.projection_dim, MAX_WIDTH),
            ("num_hidden_layers", self.num_hidden_layers, MAX_DEPTH),
            ("num_channels", self.num_channels, MAX_WIDTH),
            ("image_size", self.image_size, MAX_SIDE),
            ("patch_size", self.patch_size, self.image_size),
        ])?;
        if self.tokens() > MAX_ROWS {
            fail!(Shape, "`image_size` {} in squares of {} are too many tokens", self.image_size, self.patch_size);
        }
        divides("num_attention_heads", self.num_attention_heads, "`hidden_size`", self.hidden_size)?;
        epsilon("layer_norm_eps", self.layer_norm_eps)?;
        activation("hidden_act", &self.hidden_act)
    }

    /// One for each whole square of the picture, and one for all of it.
    fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2) + 1
    }
}

/// The largest side of pictures.
const MAX_SIDE: usize = 1 << 12;

/// The function that yields one vector for the picture.
pub const EMBED: &str = "embed";
/// The function that yields the states of all squares.
pub const STATES: &str = "states";

/// Builds the encoder up to its vector for the whole picture.
///
/// Input: `pixel_values` `[batch, num_channels, image_size, image_size]`, normalized. Output: `image_embeds` `[batch,
/// projection_dim]`.
fn build_embed(config: &Config) -> Result<Graph> {
    let mut graph = Graph::new();
    let root = &mut Module::root(&mut graph);
    let x = states(root, config, config.num_hidden_layers)?;
    let batch = root.dim(x, 0);
    let pooled = root.slice(x, 1, 0, 1)?;
    let pooled = root.reshape(pooled, [batch, config.hidden_size.into()])?;
    let pooled = layer_norm(&mut root.at("vision_model.post_layernorm"), pooled, config.layer_norm_eps)?;
    let embeds = linear(&mut root.at("visual_projection"), pooled, config.projection_dim, false)?;
    root.output("image_embeds", embeds);
    Ok(graph)
}

/// Builds the encoder up to what enters its last layer, `hidden_states[-2]`.
///
/// Input: as [`build_embed`]. Output: `penultimate` `[batch, tokens, hidden_size]`.
fn build_states(config: &Config) -> Result<Graph> {
    let mut graph = Graph::new();
    let root = &mut Module::root(&mut graph);
    let x = states(root, config, config.num_hidden_layers - 1)?;
    root.output("penultimate", x);
    Ok(graph)
}

/// The states behind so many layers, `[batch, tokens, hidden_size]`.
fn states(root: &mut Module<'_>, config: &Config, layers: usize) -> Result<Value> {
    let activation = config.check()?;
    let side = Dim::from(config.image_size);
    let shape = [Dim::symbol("batch"), config.num_channels.into(), side.clone(), side];
    let pixels = root.input("pixel_values", DType::F32, shape);
    let m = &mut root.at("vision_model");
    let x = embeddings(&mut m.at("embeddings"), pixels, config)?;
    // So it is spelled in checkpoints.
    let mut x = layer_norm(&mut m.at("pre_layrnorm"), x, config.layer_norm_eps)?;
    let layer = ClipLayer {
        heads: config.num_attention_heads,
        hidden: config.intermediate_size,
        activation,
        eps: config.layer_norm_eps,
        causal: false,
    };
    for i in 0..layers {
        x = clip_layer(&mut m.at(format_args!("encoder.layers.{i}")), x, &layer)?;
    }
    Ok(x)
}

fn embeddings(m: &mut Module<'_>, pixels: Value, config: &Config) -> Result<Value> {
    let (batch, width, tokens) = (m.dim(pixels, 0), config.hidden_size, config.tokens());
    let x = m.channels_last(pixels)?;
    let squares = Conv2d { stride: [config.patch_size; 2], ..Conv2d::default() };
    let x = conv2d(&mut m.at("patch_embedding"), x, [width, config.patch_size], squares, false)?;
    let x = m.reshape(x, [batch.clone(), (tokens - 1).into(), width.into()])?;
    let class = m.tensor("class_embedding", &[width])?;
    let class = m.reshape(class, [1.into(), 1.into(), Dim::from(width)])?;
    let class = m.push(Op::Expand(vec![batch, 1.into(), width.into()].into()), &[class])?;
    let x = m.concat(&[class, x], 1)?;
    let positions = positions(&mut m.at("position_embedding"), tokens.into(), [tokens, width])?;
    m.add(x, positions)
}

fn facts(json: &str) -> Result<PictureFacts> {
    let config = Config::from_json(json)?;
    Ok(PictureFacts {
        side: config.image_size,
        channels: config.num_channels,
        embedding: config.projection_dim,
        states: config.hidden_size,
    })
}

fn functions(json: &str, _: GraphSizes) -> Result<Functions> {
    let config = Config::from_json(json)?;
    Ok(vec![(EMBED, build_embed(&config)?), (STATES, build_states(&config)?)])
}

/// `CLIPVisionModelWithProjection`.
pub const ARCHITECTURE: Architecture = Architecture {
    class: "CLIPVisionModelWithProjection",
    role: Role::PictureEncoder(facts),
    functions,
    renames: &[],
    ignored: &["position_ids"],
};
