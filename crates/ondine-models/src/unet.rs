//! The conditional U-Net of latent diffusion (Rombach et al. 2022), as in diffusers: `UNet2DConditionModel`.
//!
//! Stable Diffusion 1 and 2, `SDXL` (Podell et al. 2023) and LCM (Luo et al. 2023) are configs of this network.

mod config;
pub mod control;

pub use config::Config;

use ondine_graph::{Activation, DType, Dim, Graph, Result, Value, fail};

use crate::{
    architecture::{Architecture, DenoiserFacts, Functions, GraphSizes, Role},
    blocks::{
        ImageTokens, Module, ResnetSpec, Transformer2D, conv_same, downsample, embedding, group_norm, linear, resnet,
        sinusoid, timestep_embedding, transformer_2d, upsample,
    },
    config::activation,
};
use config::{Level, Plan};

/// What is asked of a graph.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of latents.
    pub batch: Dim,
    /// Number of text tokens.
    pub tokens: Dim,
    /// Height of the latents.
    pub height: Dim,
    /// Width of the latents.
    ///
    /// Maps are doubled inside convolutions where the sizes are known to double, as they are for numbers and for
    /// multiples of a symbol; for a plain symbol they are resized first, which any size allows.
    pub width: Dim,
    /// True if some text tokens are hidden: the graph takes `encoder_attention_mask`.
    pub mask: bool,
    /// Number of `time_ids`, for configs that take them: 6, or 5 for the `SDXL` refiner.
    pub time_ids: usize,
    /// True if networks steer it: the graph takes what they add to its maps ([`residual`]).
    pub control: bool,
    /// Pictures whose tokens it attends to beside the text ([`IMAGE_PROMPTS`]).
    pub image_prompts: usize,
    /// True if the maps before its last block are an output, `deep`, channels last.
    pub deep: bool,
}

/// What pictures say that a U-Net attends to beside the text (Ye et al. 2023): names of the inputs for their tokens and
/// for how much each counts.
pub const IMAGE_PROMPTS: [[&str; 2]; 4] = [
    ["image_prompt_0", "image_prompt_scale_0"],
    ["image_prompt_1", "image_prompt_scale_1"],
    ["image_prompt_2", "image_prompt_scale_2"],
    ["image_prompt_3", "image_prompt_scale_3"],
];

/// The name of the number of a picture's tokens.
#[must_use]
pub fn image_tokens(number: usize) -> String {
    format!("image_tokens_{number}")
}

/// The function that goes on from deep maps.
pub const SHALLOW: &str = "shallow";

impl Options {
    /// Those of a network that is asked for by its sizes.
    fn of(sizes: GraphSizes) -> Self {
        let side = |name: &str| &Dim::symbol(name) * sizes.multiple;
        let GraphSizes { mask, time_ids, control, image_prompts, deep, .. } = sizes;
        let (height, width) = (side("height"), side("width"));
        Self { height, width, mask, time_ids, control, image_prompts, deep, ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch: "batch".into(),
            tokens: "tokens".into(),
            height: "height".into(),
            width: "width".into(),
            mask: false,
            time_ids: 6,
            control: false,
            image_prompts: 0,
            deep: false,
        }
    }
}

/// Builds the network.
///
/// Inputs: `sample` `[batch, in_channels, height, width]`, `timestep` `[batch]`, `encoder_hidden_states`
/// `[batch, tokens, cross_attention_dim]`; by config also `class_labels` `[batch, width]` (I64 `[batch]` for a
/// table of classes), `text_embeds` `[batch, width]` and `time_ids` `[batch, ids]`, `timestep_cond`
/// `[batch, time_cond_proj_dim]`; by `options` also `encoder_attention_mask` I64 `[batch, tokens]`, 0 hiding a
/// token, what networks that steer it add to its maps ([`residual`]), channels last, and tokens of pictures `[batch,
/// image_tokens_0, cross_attention_dim]` with how much they count, `[1]` ([`IMAGE_PROMPTS`]). Output: `out_sample`
/// `[batch, out_channels, height, width]`.
///
/// # Errors
/// If the config is absurd or asks for something that is not supported.
pub fn build(config: &Config, options: &Options) -> Result<Graph> {
    let plan = config.plan()?;
    let mut graph = Graph::new();
    let m = &mut Module::root(&mut graph);
    let sample = sample(m, config, options);
    let time = time_embedding(m, config, &plan, options)?;
    let context = text(m, config, &plan, options)?;
    let net = Net { images: images(m, &plan, options)?, ..Net::new(config, &plan, time, context) };
    let x = conv_in(m, config, sample)?;
    let (mut skips, mut x) = net.way_down(m, config, &plan, x)?;
    if options.control {
        for (i, skip) in skips.iter_mut().enumerate() {
            *skip = steered(m, *skip, Some(i))?;
        }
        x = steered(m, x, None)?;
    }
    for (i, level) in plan.up.iter().enumerate() {
        let m = &mut m.at(format_args!("up_blocks.{i}"));
        for j in 0..level.resnets {
            let Some(skip) = skips.pop() else {
                fail!(Internal, "the way up has more blocks than the way down left maps");
            };
            if options.deep && skips.is_empty() {
                m.output("deep", x);
            }
            x = m.concat(&[x, skip], 3)?;
            x = net.block(m, x, level, j)?;
        }
        if let Some(&next) = skips.last() {
            let size = [1, 2].map(|axis| m.dim(next, axis));
            x = upsample(&mut m.at("upsamplers.0.conv"), x, size, true)?;
        }
    }
    out(m, config, &plan, x)?;
    Ok(graph)
}

/// Builds what is left of the network if the maps before its last block are given: the first convolution and that block
/// (Ma et al. 2023). Inputs are those of the network and `deep` `[batch, height, width, channels]`, its output is that
/// of the network.
fn build_shallow(config: &Config, options: &Options) -> Result<Graph> {
    let plan = config.plan()?;
    let mut graph = Graph::new();
    let m = &mut Module::root(&mut graph);
    let sample = sample(m, config, options);
    let time = time_embedding(m, config, &plan, options)?;
    let context = text(m, config, &plan, options)?;
    let net = Net { images: images(m, &plan, options)?, ..Net::new(config, &plan, time, context) };
    let x = conv_in(m, config, sample)?;
    let (Some((i, level)), outer) = (plan.up.iter().enumerate().next_back(), plan.up.iter().nth_back(1)) else {
        fail!(Internal, "a network without a way up")
    };
    // The first block of a level takes the channels of the one before.
    let channels = if level.resnets > 1 { level.channels } else { outer.unwrap_or(level).channels };
    let Options { batch, height, width, .. } = options;
    let deep = m.input("deep", DType::F32, vec![batch.clone(), height.clone(), width.clone(), channels.into()]);
    let x = m.concat(&[deep, x], 3)?;
    let x = net.block(&mut m.at(format_args!("up_blocks.{i}")), x, level, level.resnets - 1)?;
    out(m, config, &plan, x)?;
    Ok(graph)
}

/// The last norm and convolution.
fn out(m: &mut Module<'_>, config: &Config, plan: &Plan, x: Value) -> Result<()> {
    let x = group_norm(&mut m.at("conv_norm_out"), x, plan.groups, config.norm_eps)?;
    let x = m.activation(plan.activation, x)?;
    let x = conv_same(&mut m.at("conv_out"), x, config.out_channels, config.conv_out_kernel)?;
    let x = m.channels_first(x)?;
    m.output("out_sample", x);
    Ok(())
}

/// The noisy latents.
fn sample(m: &mut Module<'_>, config: &Config, options: &Options) -> Value {
    let Options { batch, height, width, .. } = options;
    m.input("sample", DType::F32, vec![batch.clone(), config.in_channels.into(), height.clone(), width.clone()])
}

/// The first maps, channels last.
fn conv_in(m: &mut Module<'_>, config: &Config, sample: Value) -> Result<Value> {
    let x = if config.center_input_sample { m.affine(sample, 2.0, -1.0)? } else { sample };
    let x = m.channels_last(x)?;
    conv_same(&mut m.at("conv_in"), x, config.block_out_channels[0], config.conv_in_kernel)
}

/// The name of what is added to a map that the U-Net keeps, or to the one in its middle.
#[must_use]
pub fn residual(map: Option<usize>) -> String {
    map.map_or_else(|| "mid_block_residual".to_owned(), |i| format!("down_block_residual_{i}"))
}

/// A map with what networks that steer add to it.
fn steered(m: &mut Module<'_>, x: Value, map: Option<usize>) -> Result<Value> {
    let shape = m.shape(x).clone();
    let residual = m.input(&residual(map), DType::F32, shape);
    m.add(x, residual)
}

/// What all blocks share.
struct Net {
    resnet: ResnetSpec,
    linear_projection: bool,
    context: Value,
    context_mask: Option<Value>,
    images: Vec<ImageTokens>,
}

impl Net {
    fn new(config: &Config, plan: &Plan, time: Value, (context, context_mask): (Value, Option<Value>)) -> Self {
        let resnet = ResnetSpec {
            groups: plan.groups,
            eps: config.norm_eps,
            activation: plan.activation,
            time: Some(time),
            scale_shift: config.resnet_time_scale_shift == "scale_shift",
            output_scale: 1.0,
        };
        let linear_projection = config.use_linear_projection;
        Self { resnet, linear_projection, context, context_mask, images: Vec::new() }
    }

    /// The way down and the middle: the maps that the way up takes, and the last one.
    fn way_down(&self, m: &mut Module<'_>, config: &Config, plan: &Plan, mut x: Value) -> Result<(Vec<Value>, Value)> {
        let mut skips = vec![x];
        for (i, level) in plan.down.iter().enumerate() {
            let m = &mut m.at(format_args!("down_blocks.{i}"));
            for j in 0..level.resnets {
                x = self.block(m, x, level, j)?;
                skips.push(x);
            }
            if i + 1 < plan.down.len() {
                x = downsample(&mut m.at("downsamplers.0"), x, config.downsample_padding)?;
                skips.push(x);
            }
        }
        if let Some(level) = &plan.mid {
            x = self.middle(&mut m.at("mid_block"), x, level, config.mid_block_scale_factor)?;
        }
        Ok((skips, x))
    }

    /// Residual block `j` of a level and the transformer after it, if the level has one there.
    fn block(&self, m: &mut Module<'_>, x: Value, level: &Level, j: usize) -> Result<Value> {
        let x = resnet(&mut m.at(format_args!("resnets.{j}")), x, level.channels, &self.resnet)?;
        match level.transformers.get(j) {
            Some(&layers) => {
                transformer_2d(&mut m.at(format_args!("attentions.{j}")), x, &self.transformer(level, layers))
            }
            None => Ok(x),
        }
    }

    /// The blocks at the lowest resolution.
    fn middle(&self, m: &mut Module<'_>, x: Value, level: &Level, output_scale: f32) -> Result<Value> {
        let resnet = ResnetSpec { output_scale, ..self.resnet };
        let resnets = Self { resnet, images: self.images.clone(), ..*self };
        (0..level.resnets).try_fold(x, |x, j| resnets.block(m, x, level, j))
    }

    fn transformer(&self, level: &Level, layers: usize) -> Transformer2D<'_> {
        Transformer2D {
            heads: level.heads,
            layers,
            groups: self.resnet.groups,
            linear_projection: self.linear_projection,
            only_cross: level.only_cross,
            context: self.context,
            context_mask: self.context_mask,
            images: &self.images,
        }
    }
}

/// The tokens of pictures that cross-attentions attend to beside the text.
fn images(m: &mut Module<'_>, plan: &Plan, options: &Options) -> Result<Vec<ImageTokens>> {
    let mut images = Vec::new();
    for (number, [tokens, scale]) in IMAGE_PROMPTS.into_iter().enumerate().take(options.image_prompts) {
        let shape = [options.batch.clone(), Dim::symbol(&image_tokens(number)), plan.context.into()];
        let keys = m.input(tokens, DType::F32, shape);
        let scale = m.input(scale, DType::F32, [1]);
        // Values are linear in the tokens: so the scale of these is that of the mixture.
        images.push(ImageTokens { keys, values: m.mul(keys, scale)? });
    }
    Ok(images)
}

/// The text that cross-attentions attend to, `[batch, tokens, context]`, and which of its tokens are seen.
fn text(m: &mut Module<'_>, config: &Config, plan: &Plan, options: &Options) -> Result<(Value, Option<Value>)> {
    let shape = [options.batch.clone(), options.tokens.clone()];
    let [batch, tokens] = shape.clone();
    let given = config.encoder_hid_dim.unwrap_or(plan.context);
    let mut context = m.input("encoder_hidden_states", DType::F32, vec![batch, tokens, given.into()]);
    if config.encoder_hid_dim.is_some() {
        context = linear(&mut m.at("encoder_hid_proj"), context, plan.context, true)?;
    }
    if !options.mask {
        return Ok((context, None));
    }
    let mask = m.input("encoder_attention_mask", DType::I64, shape);
    Ok((context, Some(m.cast(mask, DType::Bool)?)))
}

/// The embedding of the timestep and of what is added to it, `[batch, time]`.
fn time_embedding(m: &mut Module<'_>, config: &Config, plan: &Plan, options: &Options) -> Result<Value> {
    let timestep = m.input("timestep", DType::F32, [options.batch.clone()]);
    let channels = config.block_out_channels[0];
    let mut waves = sinusoid(&mut m.at("time_proj"), timestep, channels, config.flip_sin_to_cos, config.freq_shift)?;
    if let Some(width) = config.time_cond_proj_dim {
        let cond = m.input("timestep_cond", DType::F32, [options.batch.clone(), width.into()]);
        let cond = linear(&mut m.at("time_embedding.cond_proj"), cond, channels, false)?;
        waves = m.add(waves, cond)?;
    }
    let mut time = timestep_embedding(&mut m.at("time_embedding"), waves, plan.time, plan.activation, true)?;
    if let Some(name) = &config.timestep_post_act {
        time = m.activation(activation("timestep_post_act", name)?, time)?;
    }
    if let Some(class) = class_embedding(&mut m.at("class_embedding"), config, plan, options)? {
        time = if config.class_embeddings_concat { m.concat(&[time, class], 1)? } else { m.add(time, class)? };
    }
    if config.addition_embed_type.is_some() {
        let addition = text_time_embedding(&mut m.at("add_embedding"), config, plan, options)?;
        time = m.add(time, addition)?;
    }
    match &config.time_embedding_act_fn {
        Some(name) => m.activation(activation("time_embedding_act_fn", name)?, time),
        None => Ok(time),
    }
}

/// The embedding of `class_labels`, `[batch, time]`, if the config has one.
fn class_embedding(m: &mut Module<'_>, config: &Config, plan: &Plan, options: &Options) -> Result<Option<Value>> {
    let batch = &options.batch;
    let vectors = |m: &mut Module<'_>, width: usize| m.input("class_labels", DType::F32, [batch.clone(), width.into()]);
    Ok(Some(match (config.class_embed_type.as_deref(), config.num_class_embeds) {
        (None, None) => return Ok(None),
        (None, Some(classes)) => {
            let labels = m.input("class_labels", DType::I64, [batch.clone()]);
            embedding(m, labels, [classes, plan.time])?
        }
        (Some("timestep"), _) => {
            let labels = m.input("class_labels", DType::F32, [batch.clone()]);
            let channels = config.block_out_channels[0];
            let waves = sinusoid(m, labels, channels, config.flip_sin_to_cos, config.freq_shift)?;
            timestep_embedding(m, waves, plan.time, plan.activation, true)?
        }
        (Some("identity"), _) => vectors(m, plan.time),
        (Some("projection"), _) => {
            let labels = vectors(m, needed(config)?);
            timestep_embedding(m, labels, plan.time, Activation::Silu, true)?
        }
        (Some(_), _) => {
            let labels = vectors(m, needed(config)?);
            linear(m, labels, plan.time, true)?
        }
    }))
}

/// The embedding of the pooled text and the picture's sizes (Podell et al. 2023), `[batch, time]`.
fn text_time_embedding(m: &mut Module<'_>, config: &Config, plan: &Plan, options: &Options) -> Result<Value> {
    let Some(dim) = config.addition_time_embed_dim else {
        fail!(Missing, "`addition_time_embed_dim` is missing; `addition_embed_type` needs it");
    };
    let (total, ids) = (needed(config)?, options.time_ids);
    let Some(text) = dim.checked_mul(ids).and_then(|sizes| total.checked_sub(sizes)).filter(|&text| text > 0) else {
        fail!(
            Shape,
            "`projection_class_embeddings_input_dim` is {total}, which leaves nothing for the text beside {ids} sizes \
             of `addition_time_embed_dim` {dim}"
        );
    };
    let batch = &options.batch;
    let text = m.input("text_embeds", DType::F32, [batch.clone(), text.into()]);
    let sizes = m.input("time_ids", DType::F32, [batch.clone(), ids.into()]);
    let sizes = sinusoid(m, sizes, dim, config.flip_sin_to_cos, config.freq_shift)?;
    let sizes = m.reshape(sizes, [batch.clone(), (ids * dim).into()])?;
    let both = m.concat(&[text, sizes], 1)?;
    timestep_embedding(m, both, plan.time, Activation::Silu, true)
}

fn needed(config: &Config) -> Result<usize> {
    match config.projection_class_embeddings_input_dim {
        Some(width) => Ok(width),
        None => fail!(Missing, "`projection_class_embeddings_input_dim` is missing; the embeddings need it"),
    }
}

fn facts(json: &str) -> Result<DenoiserFacts> {
    Ok(Config::from_json(json)?.facts())
}

fn functions(json: &str, sizes: GraphSizes) -> Result<Functions> {
    let config = Config::from_json(json)?;
    let options = Options::of(sizes);
    let mut functions = vec![("main", build(&config, &options)?)];
    if sizes.deep {
        functions.push((SHALLOW, build_shallow(&config, &options)?));
    }
    functions.iter_mut().for_each(|(_, graph)| native(graph, &config, sizes));
    Ok(functions)
}

/// Tells a graph the sizes that are usual.
fn native(graph: &mut Graph, config: &Config, sizes: GraphSizes) {
    for (symbol, side) in ["height", "width"].into_iter().zip(config.facts().native) {
        graph.expect(symbol, side / sizes.multiple);
    }
}

/// `UNet2DConditionModel`.
pub const ARCHITECTURE: Architecture =
    Architecture { class: "UNet2DConditionModel", role: Role::Denoiser(facts), functions, renames: &[], ignored: &[] };
