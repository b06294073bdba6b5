//! The options of a U-Net, and what they come to for each level.

use ondine_graph::{Activation, Result, fail};
use serde::Deserialize;

use crate::{
    architecture::{DenoiserFacts, GuidanceInput, References, TextLayout},
    config::{
        self, MAX_DEPTH, MAX_ROWS, MAX_WIDTH, PerLevel, TYPICAL_LATENTS, activation, bounded, epsilon, same_length,
        supported,
    },
};

/// `config.json` of a U-Net; defaults are those of `UNet2DConditionModel`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "these are the file's options")]
pub struct Config {
    /// Side of the latents that the network was trained on, or height and width.
    pub sample_size: Option<PerLevel<usize>>,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// True if the input is first mapped from 0..1 to -1..1.
    pub center_input_sample: bool,
    /// True if the sinusoids of the timestep start with cosines.
    pub flip_sin_to_cos: bool,
    /// Shift in the frequencies of the sinusoids.
    pub freq_shift: f32,
    /// `DownBlock2D` or `CrossAttnDownBlock2D` for each level.
    pub down_block_types: Vec<String>,
    /// `UNetMidBlock2DCrossAttn`, `UNetMidBlock2D` or none.
    pub mid_block_type: Option<String>,
    /// `UpBlock2D` or `CrossAttnUpBlock2D` for each level, from the innermost.
    pub up_block_types: Vec<String>,
    /// True if the first attention of a transformer block is a cross-attention too.
    pub only_cross_attention: PerLevel<bool>,
    /// Channels of each level.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each level; one more on the way up.
    pub layers_per_block: PerLevel<usize>,
    /// Padding of the convolutions that halve the maps.
    pub downsample_padding: usize,
    /// What the residual blocks in the middle are divided by.
    pub mid_block_scale_factor: f32,
    /// Activation everywhere outside the transformers.
    pub act_fn: String,
    /// Groups of the group norms.
    pub norm_num_groups: Option<usize>,
    /// Added to the variance in group norms.
    pub norm_eps: f32,
    /// Width of what the cross-attentions attend to.
    pub cross_attention_dim: PerLevel<usize>,
    /// Transformer blocks after each residual block, by level; a list lists them block by block.
    pub transformer_layers_per_block: PerLevel<PerLevel<usize>>,
    /// The same on the way up, from the innermost level, if it is not the mirror image.
    pub reverse_transformer_layers_per_block: Option<Vec<PerLevel<usize>>>,
    /// Width of `encoder_hidden_states`, if it is first projected to `cross_attention_dim`.
    pub encoder_hid_dim: Option<usize>,
    /// How it is projected; only `text_proj` is supported.
    pub encoder_hid_dim_type: Option<String>,
    /// Despite its name the number of heads, as in diffusers.
    pub attention_head_dim: PerLevel<usize>,
    /// The number of heads, if the file names it so.
    pub num_attention_heads: Option<PerLevel<usize>>,
    /// Must be false.
    pub dual_cross_attention: bool,
    /// True if the projections around transformers are linear layers, not 1x1 convolutions.
    pub use_linear_projection: bool,
    /// How `class_labels` become an embedding that is added to the time's.
    pub class_embed_type: Option<String>,
    /// What else is added to the time's embedding: nothing or `text_time`.
    pub addition_embed_type: Option<String>,
    /// Sinusoids for each of `time_ids`.
    pub addition_time_embed_dim: Option<usize>,
    /// Number of classes, if labels are looked up in a table.
    pub num_class_embeds: Option<usize>,
    /// How the time enters a residual block: `default` (added) or `scale_shift`.
    pub resnet_time_scale_shift: String,
    /// How the time is embedded; only `positional` is supported.
    pub time_embedding_type: String,
    /// Width of the embedded time, if not four times the channels of the first level.
    pub time_embedding_dim: Option<usize>,
    /// Activation applied once to the finished embedding.
    pub time_embedding_act_fn: Option<String>,
    /// Activation after the time's two linear layers.
    pub timestep_post_act: Option<String>,
    /// Width of `timestep_cond`, the embedded guidance scale of LCM.
    pub time_cond_proj_dim: Option<usize>,
    /// Kernel of the first convolution.
    pub conv_in_kernel: usize,
    /// Kernel of the last convolution.
    pub conv_out_kernel: usize,
    /// Width of what is projected to the embedding of class or addition.
    pub projection_class_embeddings_input_dim: Option<usize>,
    /// Kind of attention; only `default` is supported.
    pub attention_type: String,
    /// True if the class embedding is appended to the time's instead of added.
    pub class_embeddings_concat: bool,
}

impl Default for Config {
    fn default() -> Self {
        let cross = |prefix: &str| format!("CrossAttn{prefix}Block2D");
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            center_input_sample: false,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            down_block_types: vec![cross("Down"), cross("Down"), cross("Down"), "DownBlock2D".into()],
            mid_block_type: Some("UNetMidBlock2DCrossAttn".into()),
            up_block_types: vec!["UpBlock2D".into(), cross("Up"), cross("Up"), cross("Up")],
            only_cross_attention: PerLevel::All(false),
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: PerLevel::All(2),
            downsample_padding: 1,
            mid_block_scale_factor: 1.0,
            act_fn: "silu".into(),
            norm_num_groups: Some(32),
            norm_eps: 1e-5,
            cross_attention_dim: PerLevel::All(1280),
            transformer_layers_per_block: PerLevel::All(PerLevel::All(1)),
            reverse_transformer_layers_per_block: None,
            encoder_hid_dim: None,
            encoder_hid_dim_type: None,
            attention_head_dim: PerLevel::All(8),
            num_attention_heads: None,
            dual_cross_attention: false,
            use_linear_projection: false,
            class_embed_type: None,
            addition_embed_type: None,
            addition_time_embed_dim: None,
            num_class_embeds: None,
            resnet_time_scale_shift: "default".into(),
            time_embedding_type: "positional".into(),
            time_embedding_dim: None,
            time_embedding_act_fn: None,
            timestep_post_act: None,
            time_cond_proj_dim: None,
            conv_in_kernel: 3,
            conv_out_kernel: 3,
            projection_class_embeddings_input_dim: None,
            attention_type: "default".into(),
            class_embeddings_concat: false,
        }
    }
}

/// Blocks at one resolution.
#[derive(Clone, Debug)]
pub(super) struct Level {
    /// Channels of every block.
    pub channels: usize,
    /// Number of residual blocks.
    pub resnets: usize,
    /// For each of the first residual blocks, the number of transformer blocks after it.
    pub transformers: Vec<usize>,
    /// Number of attention heads.
    pub heads: usize,
    /// True if the first attention of a transformer block is a cross-attention too.
    pub only_cross: bool,
}

/// The checked options, level by level.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub down: Vec<Level>,
    pub mid: Option<Level>,
    pub up: Vec<Level>,
    pub activation: Activation,
    pub groups: usize,
    /// Width of `encoder_hidden_states` inside the network.
    pub context: usize,
    /// Width of the embedded time.
    pub time: usize,
}

/// Options that only concern training, precision, or blocks and embeddings that are refused by their names.
const WITHOUT_EFFECT: &[&str] = &[
    "addition_embed_type_num_heads",
    "cross_attention_norm",
    "dropout",
    "mid_block_only_cross_attention",
    "resnet_out_scale_factor",
    "resnet_skip_time_act",
    "upcast_attention",
    // Of the average over training that the weights are.
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
];

const MAX_LEVELS: usize = 16;
/// The most residual and transformer blocks of the whole network.
const MAX_BLOCKS: usize = 4096;
/// The largest kernel.
const MAX_KERNEL: usize = 31;

impl Config {
    /// Reads and checks the text of a `config.json`.
    ///
    /// # Errors
    /// If it is no valid config, or asks for something absurd or unknown.
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Self = config::options(json, WITHOUT_EFFECT)?;
        config.plan()?;
        Ok(config)
    }

    /// What pipelines ask for.
    #[must_use]
    pub fn facts(&self) -> DenoiserFacts {
        let native = match self.sample_size.as_ref() {
            Some(PerLevel::All(side)) => [*side; 2],
            Some(PerLevel::Each(sides)) if sides.len() == 2 => [sides[0], sides[1]],
            _ => [TYPICAL_LATENTS; 2],
        };
        let halvings = self.block_out_channels.len().clamp(1, MAX_LEVELS) - 1;
        DenoiserFacts {
            channels: self.in_channels,
            predicted: self.out_channels,
            classes: self.num_class_embeds.filter(|_| self.class_embed_type.is_none()),
            text_and_sizes: self.addition_embed_type.is_some(),
            native,
            divisor: 1 << halvings,
            patch: 1,
            most: None,
            guidance: self.time_cond_proj_dim.map_or(GuidanceInput::Passes, GuidanceInput::Waves),
            text: TextLayout::SideBySide,
            flow: None,
            references: References::default(),
        }
    }

    /// Checks every option and resolves those that depend on each other.
    pub(super) fn plan(&self) -> Result<Plan> {
        self.check_choices()?;
        self.check_sizes()?;
        let Some(groups) = self.norm_num_groups else {
            fail!(Unsupported, "`norm_num_groups` = null is not supported; give the number of groups");
        };
        let levels = self.block_out_channels.len();
        let context = self.cross_attention_dim.levels("cross_attention_dim", levels)?;
        if context.iter().any(|&width| width != context[0]) {
            fail!(Unsupported, "`cross_attention_dim` = {context:?} is not supported; the levels must agree");
        }
        let down = self.levels_down()?;
        let plan = Plan {
            mid: self.level_mid(&down)?,
            up: self.levels_up(&down)?,
            down,
            activation: activation("act_fn", &self.act_fn)?,
            groups: bounded("norm_num_groups", groups, MAX_WIDTH)?,
            context: bounded("cross_attention_dim", context[0], MAX_WIDTH)?,
            time: self.time_embedding_dim.unwrap_or(4 * self.block_out_channels[0]),
        };
        let all = plan.down.iter().chain(&plan.mid).chain(&plan.up);
        let blocks = all.map(|level| level.resnets + level.transformers.iter().sum::<usize>()).sum();
        bounded("layers_per_block` and `transformer_layers_per_block` together", blocks, MAX_BLOCKS)?;
        Ok(plan)
    }

    fn check_choices(&self) -> Result<()> {
        supported("dual_cross_attention", &self.dual_cross_attention, &[false])?;
        supported("attention_type", &self.attention_type.as_str(), &["default"])?;
        supported("time_embedding_type", &self.time_embedding_type.as_str(), &["positional"])?;
        supported("resnet_time_scale_shift", &self.resnet_time_scale_shift.as_str(), &["default", "scale_shift"])?;
        supported("encoder_hid_dim_type", &self.encoder_hid_dim_type.as_deref(), &[None, Some("text_proj")])?;
        supported("addition_embed_type", &self.addition_embed_type.as_deref(), &[None, Some("text_time")])?;
        let classes = [None, Some("timestep"), Some("identity"), Some("projection"), Some("simple_projection")];
        supported("class_embed_type", &self.class_embed_type.as_deref(), &classes)
    }

    fn check_sizes(&self) -> Result<()> {
        let sides = match &self.sample_size {
            None => &[][..],
            Some(PerLevel::All(side)) => std::slice::from_ref(side),
            Some(PerLevel::Each(sides)) if sides.len() == 2 => sides,
            Some(PerLevel::Each(sides)) => {
                fail!(Shape, "`sample_size` is {sides:?}, it must be one side, or height and width")
            }
        };
        for &side in sides {
            bounded("sample_size", side, MAX_WIDTH)?;
        }
        let levels = bounded("block_out_channels", self.block_out_channels.len(), MAX_LEVELS)?;
        same_length("down_block_types", &self.down_block_types, levels)?;
        same_length("up_block_types", &self.up_block_types, levels)?;
        for &channels in &self.block_out_channels {
            bounded("block_out_channels", channels, MAX_WIDTH)?;
        }
        bounded("in_channels", self.in_channels, MAX_WIDTH)?;
        bounded("out_channels", self.out_channels, MAX_WIDTH)?;
        for (option, kernel) in [("conv_in_kernel", self.conv_in_kernel), ("conv_out_kernel", self.conv_out_kernel)] {
            if bounded(option, kernel, MAX_KERNEL)? % 2 == 0 {
                fail!(Unsupported, "`{option}` = {kernel} is not supported; it must be odd");
            }
        }
        supported("downsample_padding", &self.downsample_padding, &[0, 1])?;
        epsilon("norm_eps", self.norm_eps)?;
        if !self.mid_block_scale_factor.is_normal() {
            fail!(Shape, "`mid_block_scale_factor` is {}, it must not be 0", self.mid_block_scale_factor);
        }
        let widths = [
            ("encoder_hid_dim", self.encoder_hid_dim),
            ("addition_time_embed_dim", self.addition_time_embed_dim),
            ("time_embedding_dim", self.time_embedding_dim),
            ("time_cond_proj_dim", self.time_cond_proj_dim),
            ("projection_class_embeddings_input_dim", self.projection_class_embeddings_input_dim),
        ];
        for (option, width) in widths {
            width.map_or(Ok(1), |width| bounded(option, width, MAX_WIDTH))?;
        }
        self.num_class_embeds.map_or(Ok(1), |rows| bounded("num_class_embeds", rows, MAX_ROWS))?;
        Ok(())
    }

    fn levels_down(&self) -> Result<Vec<Level>> {
        let levels = self.block_out_channels.len();
        let resnets = self.layers_per_block.levels("layers_per_block", levels)?;
        let depths = self.transformer_layers_per_block.levels("transformer_layers_per_block", levels)?;
        let only_cross = self.only_cross_attention.levels("only_cross_attention", levels)?;
        let heads = match &self.num_attention_heads {
            Some(heads) => heads.levels("num_attention_heads", levels)?,
            None => self.attention_head_dim.levels("attention_head_dim", levels)?,
        };
        let level = |i: usize| {
            let resnets = bounded("layers_per_block", resnets[i], MAX_DEPTH)?;
            let channels = self.block_out_channels[i];
            let crosses = has_attention("down_block_types", &self.down_block_types[i], "Down")?;
            let transformers = if crosses { depth(&depths[i], resnets)? } else { Vec::new() };
            let heads = if crosses { bounded("attention_head_dim", heads[i], channels)? } else { heads[i] };
            Ok(Level { channels, resnets, transformers, heads, only_cross: only_cross[i] })
        };
        (0..levels).map(level).collect()
    }

    fn level_mid(&self, down: &[Level]) -> Result<Option<Level>> {
        let known = [None, Some("UNetMidBlock2DCrossAttn"), Some("UNetMidBlock2D")];
        supported("mid_block_type", &self.mid_block_type.as_deref(), &known)?;
        let levels = down.len();
        let depths = self.transformer_layers_per_block.levels("transformer_layers_per_block", levels)?;
        let innermost = &down[levels - 1];
        let level = |resnets, transformers| Level { resnets, transformers, only_cross: false, ..innermost.clone() };
        Ok(match self.mid_block_type.as_deref() {
            None => None,
            Some("UNetMidBlock2D") => Some(level(1, Vec::new())),
            Some(_) => {
                bounded("attention_head_dim", innermost.heads, innermost.channels)?;
                // It has one transformer: of a list that is meant for several blocks, the first counts.
                let first = match &depths[levels - 1] {
                    PerLevel::Each(listed) => PerLevel::Each(listed.iter().copied().take(1).collect()),
                    all => all.clone(),
                };
                Some(level(2, depth(&first, 1)?))
            }
        })
    }

    fn levels_up(&self, down: &[Level]) -> Result<Vec<Level>> {
        let levels = down.len();
        let mut depths = self.transformer_layers_per_block.levels("transformer_layers_per_block", levels)?;
        depths.reverse();
        if let Some(listed) = &self.reverse_transformer_layers_per_block {
            same_length("reverse_transformer_layers_per_block", listed, levels)?;
            depths.clone_from(listed);
        }
        let level = |(i, same): (usize, &Level)| {
            let resnets = same.resnets + 1;
            let crosses = has_attention("up_block_types", &self.up_block_types[i], "Up")?;
            if crosses {
                bounded("attention_head_dim", same.heads, same.channels)?;
            }
            let transformers = if crosses { depth(&depths[i], resnets)? } else { Vec::new() };
            Ok(Level { resnets, transformers, ..same.clone() })
        };
        down.iter().rev().enumerate().map(level).collect()
    }
}

/// True if the block type has transformers, false if it has none.
fn has_attention(option: &str, block: &str, direction: &str) -> Result<bool> {
    let [plain, cross] = [format!("{direction}Block2D"), format!("CrossAttn{direction}Block2D")];
    let block = block.strip_prefix("UNetRes").unwrap_or(block);
    supported(option, &block, &[&plain, &cross])?;
    Ok(block == cross)
}

/// Transformer blocks after each of `resnets` residual blocks.
fn depth(listed: &PerLevel<usize>, resnets: usize) -> Result<Vec<usize>> {
    let depths = listed.levels("transformer_layers_per_block", resnets)?;
    for &depth in &depths {
        bounded("transformer_layers_per_block", depth, MAX_DEPTH)?;
    }
    Ok(depths)
}
