//! The network that steers a U-Net by a picture (Zhang et al. 2023), as in diffusers: `ControlNetModel`.
//!
//! It is a copy of the U-Net's way down and middle, to whose first maps an embedding of the picture is added; each map
//! that the U-Net keeps for its way up, and the one in the middle, gets what a 1x1 convolution makes of the copy's.

use ondine_graph::{Activation, Conv2d, DType, Dim, Graph, Result, Value, Weights, fail};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::{Net, Options, config::Config as UnetConfig, conv_in, native, residual, text, time_embedding};
use crate::{
    architecture::{Architecture, ControlFacts, Functions, GraphSizes, Role},
    blocks::{Module, conv_same, conv2d},
    config::{self, MAX_WIDTH, bounded, supported},
};

/// `config.json` of a `ControlNetModel`: that of the U-Net's way down, and what follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The options that it shares with a U-Net.
    pub unet: UnetConfig,
    /// How the picture is embedded.
    pub picture: PictureConfig,
}

/// How the picture is embedded.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct PictureConfig {
    /// Channels of the picture.
    pub conditioning_channels: usize,
    /// `rgb` or `bgr`.
    pub controlnet_conditioning_channel_order: String,
    /// Channels of the convolutions over the picture; each but the first halves it.
    pub conditioning_embedding_out_channels: Vec<usize>,
    /// Must be false.
    pub global_pool_conditions: bool,
}

impl Default for PictureConfig {
    fn default() -> Self {
        Self {
            conditioning_channels: 3,
            controlnet_conditioning_channel_order: "rgb".into(),
            conditioning_embedding_out_channels: vec![16, 32, 96, 256],
            global_pool_conditions: false,
        }
    }
}

/// The options that a U-Net does not have.
const OF_PICTURE: [&str; 4] = [
    "conditioning_channels",
    "controlnet_conditioning_channel_order",
    "conditioning_embedding_out_channels",
    "global_pool_conditions",
];

/// The most convolutions that halve a picture.
const MAX_HALVINGS: usize = 6;

impl Config {
    /// Reads and checks the text of a `config.json`.
    ///
    /// # Errors
    /// If it is no valid config, or asks for something absurd or unknown.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut given: Map<String, Json> = config::parse(json)?;
        let mut of_picture = Map::new();
        for option in OF_PICTURE {
            of_picture
                .extend(given.remove(option).filter(|value| !value.is_null()).map(|value| (option.to_owned(), value)));
        }
        // There is no way up; one without attention fits any.
        let down = given.get("down_block_types").and_then(Json::as_array).cloned();
        if let Some(down) = down {
            given.insert("up_block_types".to_owned(), vec![json!("UpBlock2D"); down.len()].into());
        }
        let picture: PictureConfig = config::options(&Json::Object(of_picture).to_string(), &[])?;
        let order = picture.controlnet_conditioning_channel_order.as_str();
        supported("controlnet_conditioning_channel_order", &order, &["rgb", "bgr"])?;
        supported("global_pool_conditions", &picture.global_pool_conditions, &[false])?;
        bounded("conditioning_channels", picture.conditioning_channels, MAX_WIDTH)?;
        let widths = &picture.conditioning_embedding_out_channels;
        bounded("conditioning_embedding_out_channels", widths.len(), MAX_HALVINGS + 1)?;
        for &width in widths {
            bounded("conditioning_embedding_out_channels", width, MAX_WIDTH)?;
        }
        Ok(Self { unet: UnetConfig::from_json(&Json::Object(given).to_string())?, picture })
    }

    /// Pixels that a latent stands for, along each side.
    fn factor(&self) -> usize {
        1 << (self.picture.conditioning_embedding_out_channels.len() - 1)
    }
}

/// Builds what is done once for a picture.
///
/// Input: `controlnet_cond` `[batch, channels, height, width]` in 0..1. Output: `embedded`
/// `[batch, height / factor, width / factor, channels]`.
fn build_embedding(config: &Config, options: &Options) -> Result<Graph> {
    let mut graph = Graph::new();
    let root = &mut Module::root(&mut graph);
    let factor = config.factor();
    let [height, width] = [&options.height, &options.width].map(|side: &Dim| side * factor);
    let shape = vec![options.batch.clone(), config.picture.conditioning_channels.into(), height, width];
    let x = root.input("controlnet_cond", DType::F32, shape);
    let m = &mut root.at("controlnet_cond_embedding");
    let mut x = m.channels_last(x)?;
    let widths = &config.picture.conditioning_embedding_out_channels;
    let silu = |m: &mut Module<'_>, x| m.activation(Activation::Silu, x);
    x = conv_same(&mut m.at("conv_in"), x, widths[0], 3)?;
    x = silu(m, x)?;
    for (i, pair) in widths.windows(2).enumerate() {
        x = conv_same(&mut m.at(format_args!("blocks.{}", 2 * i)), x, pair[0], 3)?;
        x = silu(m, x)?;
        let halving = Conv2d { stride: [2, 2], ..Conv2d::same(3) };
        x = conv2d(&mut m.at(format_args!("blocks.{}", 2 * i + 1)), x, [pair[1], 3], halving, true)?;
        x = silu(m, x)?;
    }
    let x = conv_same(&mut m.at("conv_out"), x, config.unet.block_out_channels[0], 3)?;
    root.output("embedded", x);
    Ok(graph)
}

/// Builds the network.
///
/// Inputs: those of the U-Net, and `embedded` `[1, height, width, channels]`. Outputs: what is added to the maps of the
/// U-Net, channels last, under the names of its inputs (see [`residual`]).
fn build(config: &Config, options: &Options) -> Result<Graph> {
    let plan = config.unet.plan()?;
    let mut graph = Graph::new();
    let m = &mut Module::root(&mut graph);
    let sample = super::sample(m, &config.unet, options);
    let time = time_embedding(m, &config.unet, &plan, options)?;
    let context = text(m, &config.unet, &plan, options)?;
    let net = Net::new(&config.unet, &plan, time, context);
    let x = conv_in(m, &config.unet, sample)?;
    let channels = m.width(x)?;
    let shape = vec![1.into(), options.height.clone(), options.width.clone(), channels.into()];
    let embedded = m.input("embedded", DType::F32, shape);
    let x = m.add(x, embedded)?;
    let (maps, middle) = net.way_down(m, &config.unet, &plan, x)?;
    for (i, map) in maps.iter().enumerate() {
        let changed = pointwise(&mut m.at(format_args!("controlnet_down_blocks.{i}")), *map)?;
        m.output(&residual(Some(i)), changed);
    }
    let changed = pointwise(&mut m.at("controlnet_mid_block"), middle)?;
    m.output(&residual(None), changed);
    Ok(graph)
}

fn pointwise(m: &mut Module<'_>, x: Value) -> Result<Value> {
    let channels = m.width(x)?;
    conv_same(m, x, channels, 1)
}

fn facts(json: &str) -> Result<ControlFacts> {
    let config = Config::from_json(json)?;
    Ok(ControlFacts {
        channels: config.unet.in_channels,
        colors: config.picture.conditioning_channels,
        factor: config.factor(),
        reversed: config.picture.controlnet_conditioning_channel_order == "bgr",
    })
}

fn functions(json: &str, sizes: GraphSizes) -> Result<Functions> {
    let config = Config::from_json(json)?;
    let options = Options::of(sizes);
    let (mut embedding, mut network) = (build_embedding(&config, &options)?, build(&config, &options)?);
    for graph in [&mut embedding, &mut network] {
        native(graph, &config.unet, sizes);
    }
    Ok(vec![("embed", embedding), ("main", network)])
}

/// `ControlNetModel`.
pub const ARCHITECTURE: Architecture =
    Architecture { class: "ControlNetModel", role: Role::Control(facts), functions, renames: &[], ignored: &[] };

/// The config of a network whose tensors have the names of diffusers, beside a U-Net of which it is a copy: what the
/// shapes do not say is the U-Net's.
///
/// # Errors
/// If the tensors are those of none.
pub(crate) fn config_like(weights: &Weights, unet: &str) -> Result<String> {
    let mut config: Map<String, Json> = config::parse(unet)?;
    let shape = |path: &str| weights.get(path).map(|tensor| tensor.shape.clone());
    let (Some(first), Some(picture)) = (shape("conv_in.weight"), shape("controlnet_cond_embedding.conv_in.weight"))
    else {
        fail!(Unsupported, "no ControlNet: there is no `controlnet_cond_embedding.conv_in.weight`");
    };
    let count = |path: &dyn Fn(usize) -> String| (0..64).take_while(|&i| shape(&path(i)).is_some()).count();
    let levels = count(&|i| format!("down_blocks.{i}.resnets.0.conv1.weight"));
    let (mut kinds, mut depths) = (Vec::new(), Vec::new());
    for i in 0..levels {
        let crosses = count(&|j| format!("down_blocks.{i}.attentions.{j}.norm.weight"));
        let of = |j: usize| count(&|k| format!("down_blocks.{i}.attentions.{j}.transformer_blocks.{k}.norm1.weight"));
        kinds.push(json!(if crosses > 0 { "CrossAttnDownBlock2D" } else { "DownBlock2D" }));
        depths.push((0..crosses).map(of).collect::<Vec<usize>>());
    }
    let middle = count(&|j| format!("mid_block.attentions.0.transformer_blocks.{j}.norm1.weight"));
    // A level without attention is not asked for its depth, but for that of the middle behind it.
    depths.iter_mut().filter(|depths| depths.is_empty()).for_each(|depths| depths.push(middle.max(1)));
    let kind = if middle > 0 { "UNetMidBlock2DCrossAttn" } else { "UNetMidBlock2D" };
    let halvings = count(&|i| format!("controlnet_cond_embedding.blocks.{}.weight", 2 * i + 1));
    let halving = |i: usize| shape(&format!("controlnet_cond_embedding.blocks.{}.weight", 2 * i + 1));
    let widths = std::iter::once(picture[0]).chain((0..halvings).filter_map(halving).map(|shape| shape[0]));
    // What only a way up has, or a whole U-Net.
    for option in
        ["up_block_types", "out_channels", "sample_size", "conv_out_kernel", "reverse_transformer_layers_per_block"]
    {
        config.remove(option);
    }
    let alike = |depths: Vec<usize>| {
        let same = depths.iter().all(|depth| *depth == depths[0]);
        if same { json!(depths[0]) } else { json!(depths) }
    };
    let depths: Vec<Json> = depths.into_iter().map(alike).collect();
    config.extend([
        ("_class_name".to_owned(), json!("ControlNetModel")),
        ("in_channels".to_owned(), json!(first.get(1))),
        ("down_block_types".to_owned(), kinds.into()),
        ("transformer_layers_per_block".to_owned(), depths.into()),
        ("mid_block_type".to_owned(), json!(kind)),
        ("conditioning_channels".to_owned(), json!(picture.get(1))),
        ("conditioning_embedding_out_channels".to_owned(), json!(widths.collect::<Vec<_>>())),
    ]);
    Ok(Json::Object(config).to_string())
}
