//! The U-Net of a checkpoint of latent diffusion (Rombach et al. 2022): its blocks are numbered in the order in which
//! they run, and all that its config says but the heads can be read off their shapes.

use ondine_graph::{Result, Weights, fail};
use serde_json::{Map, Value, json};

use super::tensors::{Names, shape};

/// What a block is, by the names of its tensors.
enum Block {
    /// A residual block with so many channels at its end.
    Resnet(usize),
    /// So many transformer blocks.
    Transformer(usize),
    Downsample,
    Upsample,
}

/// A level of the network on one way.
#[derive(Debug, Default)]
struct Level {
    channels: usize,
    resnets: usize,
    /// Transformer blocks after each residual block that has some.
    transformers: Vec<usize>,
}

/// Gives the tensors the names that they have in diffusers, and yields the config; that it cannot be told is found out
/// after.
pub(super) fn convert(weights: &mut Weights, text_widths: &[usize]) -> Result<Value> {
    let mut reader = Reader { weights, names: Names::default() };
    let down = reader.down()?;
    let mid = reader.mid()?;
    let up = reader.up(down.len())?;
    reader.ends();
    let config = reader.config(&down, &mid, &up, text_widths);
    let mut names = reader.names;
    names.apply(weights)?;
    config
}

/// Gives the tensors of a network that steers a U-Net the names that they have in diffusers, if they have not.
pub(super) fn convert_control(weights: &mut Weights) -> Result<()> {
    if weights.get("input_hint_block.0.weight").is_none() {
        return Ok(());
    }
    let mut reader = Reader { weights, names: Names::default() };
    reader.down()?;
    reader.mid()?;
    reader.ends();
    // The convolutions over the picture, with an activation behind each but the last.
    let hints = (0..).take_while(|i| reader.has(&format!("input_hint_block.{}.weight", 2 * i))).count();
    for i in 0..hints {
        let to = match i {
            0 => "conv_in".to_owned(),
            i if i + 1 == hints => "conv_out".to_owned(),
            i => format!("blocks.{}", i - 1),
        };
        reader.names.prefix(format!("input_hint_block.{}.", 2 * i), format!("controlnet_cond_embedding.{to}."));
    }
    let maps = (0..).take_while(|i| reader.has(&format!("zero_convs.{i}.0.weight"))).count();
    for i in 0..maps {
        reader.names.prefix(format!("zero_convs.{i}.0."), format!("controlnet_down_blocks.{i}."));
    }
    reader.names.prefix("middle_block_out.0.".to_owned(), "controlnet_mid_block.".to_owned());
    let mut names = reader.names;
    names.apply(weights)
}

struct Reader<'w> {
    weights: &'w Weights,
    names: Names,
}

impl Reader<'_> {
    fn shape(&self, path: &str) -> Option<Vec<usize>> {
        shape(self.weights, path)
    }

    fn has(&self, path: &str) -> bool {
        self.weights.get(path).is_some()
    }

    /// What the block at `path` is, if there is one; it is called `name` from now on.
    fn block(&mut self, path: &str) -> Option<Block> {
        if let Some(shape) = self.shape(&format!("{path}.out_layers.3.weight")) {
            return Some(Block::Resnet(shape[0]));
        }
        if self.has(&format!("{path}.proj_in.weight")) {
            let depth = (0..).take_while(|i| self.has(&format!("{path}.transformer_blocks.{i}.norm1.weight"))).count();
            return Some(Block::Transformer(depth));
        }
        if self.has(&format!("{path}.op.weight")) {
            return Some(Block::Downsample);
        }
        self.has(&format!("{path}.conv.weight")).then_some(Block::Upsample)
    }

    fn resnet(&mut self, from: &str, to: &str) {
        for (old, new) in [
            ("in_layers.0", "norm1"),
            ("in_layers.2", "conv1"),
            ("emb_layers.1", "time_emb_proj"),
            ("out_layers.0", "norm2"),
            ("out_layers.3", "conv2"),
            ("skip_connection", "conv_shortcut"),
        ] {
            self.names.prefix(format!("{from}.{old}."), format!("{to}.{new}."));
        }
    }

    fn down(&mut self) -> Result<Vec<Level>> {
        let mut levels = vec![Level::default()];
        for i in 1.. {
            let Some(first) = self.block(&format!("input_blocks.{i}.0")) else { break };
            let number = levels.len() - 1;
            let Some(level) = levels.last_mut() else { break };
            match first {
                Block::Resnet(channels) => {
                    self.add(level, channels, &format!("input_blocks.{i}"), &format!("down_blocks.{number}"))?;
                }
                Block::Downsample => {
                    let name = format!("down_blocks.{number}.downsamplers.0.conv.");
                    self.names.prefix(format!("input_blocks.{i}.0.op."), name);
                    levels.push(Level::default());
                }
                Block::Transformer(_) | Block::Upsample => return odd(&format!("input_blocks.{i}")),
            }
        }
        Ok(levels)
    }

    /// Adds the residual block at `path`, and the transformer behind it if there is one, to a level.
    fn add(&mut self, level: &mut Level, channels: usize, path: &str, to: &str) -> Result<()> {
        if level.resnets > 0 && level.channels != channels {
            return odd(path);
        }
        level.channels = channels;
        let j = level.resnets;
        level.resnets += 1;
        self.resnet(&format!("{path}.0"), &format!("{to}.resnets.{j}"));
        if let Some(Block::Transformer(depth)) = self.block(&format!("{path}.1")) {
            if level.transformers.len() != j {
                return odd(path);
            }
            level.transformers.push(depth);
            self.names.prefix(format!("{path}.1."), format!("{to}.attentions.{j}."));
        }
        Ok(())
    }

    fn mid(&mut self) -> Result<Level> {
        let mut level = Level::default();
        for i in 0.. {
            let path = format!("middle_block.{i}");
            match self.block(&path) {
                None => break,
                Some(Block::Resnet(channels)) => {
                    level.channels = channels;
                    self.resnet(&path, &format!("mid_block.resnets.{}", level.resnets));
                    level.resnets += 1;
                }
                Some(Block::Transformer(depth)) => {
                    self.names
                        .prefix(format!("{path}."), format!("mid_block.attentions.{}.", level.transformers.len()));
                    level.transformers.push(depth);
                }
                Some(_) => return odd(&path),
            }
        }
        Ok(level)
    }

    fn up(&mut self, levels: usize) -> Result<Vec<Level>> {
        let mut up = vec![Level::default()];
        for i in 0.. {
            let path = format!("output_blocks.{i}");
            let Some(Block::Resnet(channels)) = self.block(&format!("{path}.0")) else { break };
            let number = up.len() - 1;
            let Some(level) = up.last_mut() else { break };
            self.add(level, channels, &path, &format!("up_blocks.{number}"))?;
            let upsample = (1..=2).find(|j| matches!(self.block(&format!("{path}.{j}")), Some(Block::Upsample)));
            if let Some(j) = upsample {
                self.names.prefix(format!("{path}.{j}.conv."), format!("up_blocks.{number}.upsamplers.0.conv."));
                up.push(Level::default());
            }
        }
        if up.len() != levels {
            fail!(Format, "the U-Net has {levels} levels on the way down and {} on the way up", up.len());
        }
        Ok(up)
    }

    /// What stands before and behind the blocks.
    fn ends(&mut self) {
        for (old, new) in [
            ("input_blocks.0.0.", "conv_in."),
            ("time_embed.0.", "time_embedding.linear_1."),
            ("time_embed.2.", "time_embedding.linear_2."),
            ("time_embed.cond_proj.", "time_embedding.cond_proj."),
            ("out.0.", "conv_norm_out."),
            ("out.2.", "conv_out."),
        ] {
            self.names.prefix(old.to_owned(), new.to_owned());
        }
        if self.has("label_emb.weight") {
            self.names.prefix("label_emb.".to_owned(), "class_embedding.".to_owned());
        } else {
            for (old, new) in [("0", "linear_1"), ("2", "linear_2")] {
                self.names.prefix(format!("label_emb.0.{old}."), format!("add_embedding.{new}."));
            }
        }
    }

    fn config(&self, down: &[Level], mid: &Level, up: &[Level], text_widths: &[usize]) -> Result<Value> {
        let (Some(first), Some(last)) = (self.shape("input_blocks.0.0.weight"), self.shape("out.2.weight")) else {
            fail!(Missing, "the U-Net has no `input_blocks.0.0.weight` or `out.2.weight`; is the file whole?");
        };
        let channels: Vec<_> = down.iter().map(|level| level.channels).collect();
        let transformers = || self.weights.paths().filter(|path| path.ends_with(".proj_in.weight"));
        let linear = transformers().any(|path| self.shape(path).is_some_and(|shape| shape.len() == 2));
        let attends = |path: &&std::sync::Arc<str>| path.ends_with(".attn2.to_k.weight");
        let context = self.weights.paths().find(attends).and_then(|path| self.shape(path)).map(|shape| shape[1]);
        let mut config = Map::new();
        let mut set = |option: &str, value: Value| drop(config.insert(option.to_owned(), value));
        set("_class_name", "UNet2DConditionModel".into());
        set("in_channels", first[1].into());
        set("conv_in_kernel", first.get(2).copied().unwrap_or(3).into());
        set("out_channels", last[0].into());
        set("conv_out_kernel", last.get(2).copied().unwrap_or(3).into());
        set("block_out_channels", json!(channels));
        set("norm_num_groups", groups(&channels)?.into());
        set("layers_per_block", json!(down.iter().map(|level| level.resnets).collect::<Vec<_>>()));
        set("down_block_types", down.iter().map(|level| kind(level, "Down")).collect::<Result<Vec<_>>>()?.into());
        set("up_block_types", up.iter().map(|level| kind(level, "Up")).collect::<Result<Vec<_>>>()?.into());
        set("mid_block_type", mid_kind(mid)?);
        set("use_linear_projection", linear.into());
        set("attention_head_dim", json!(heads(&channels, linear)?));
        if let Some(context) = context {
            set("cross_attention_dim", context.into());
        }
        let depths = depths(down, mid)?;
        set("transformer_layers_per_block", depths.clone().into());
        if let Some(reverse) = reverse(&depths, up) {
            set("reverse_transformer_layers_per_block", reverse);
        }
        for (option, value) in self.embeddings(channels[0], text_widths)? {
            set(option, value);
        }
        // The side that pictures of these networks were trained at, in latents of 8 pixels.
        let side = match (self.has("label_emb.0.0.weight"), context) {
            (true, _) => 128,
            (false, Some(1024)) => 96,
            (false, _) => 64,
        };
        set("sample_size", side.into());
        Ok(Value::Object(config))
    }

    /// The options of what is embedded with the time.
    fn embeddings(&self, channels: usize, text_widths: &[usize]) -> Result<Vec<(&'static str, Value)>> {
        let mut options = Vec::new();
        let time = self.shape("time_embed.0.weight").map_or(4 * channels, |shape| shape[0]);
        if time != 4 * channels {
            options.push(("time_embedding_dim", time.into()));
        }
        if let Some(shape) = self.shape("input_blocks.1.0.emb_layers.1.weight")
            && self.shape("input_blocks.1.0.out_layers.3.weight").is_some_and(|out| shape[0] == 2 * out[0])
        {
            options.push(("resnet_time_scale_shift", "scale_shift".into()));
        }
        if let Some(shape) = self.shape("time_embed.cond_proj.weight") {
            options.push(("time_cond_proj_dim", shape[1].into()));
        }
        if let Some(shape) = self.shape("label_emb.weight") {
            options.push(("num_class_embeds", shape[0].into()));
        }
        if let Some(shape) = self.shape("label_emb.0.0.weight") {
            let width = shape[1];
            options.push(("addition_embed_type", "text_time".into()));
            options.push(("projection_class_embeddings_input_dim", width.into()));
            options.push(("addition_time_embed_dim", sinusoids(width, text_widths)?.into()));
        }
        Ok(options)
    }
}

/// Sinusoids for each size of the picture: with the sizes, six or five of them, they fill what the vector of the whole
/// text leaves.
fn sinusoids(width: usize, text_widths: &[usize]) -> Result<usize> {
    const USUAL: usize = 256;
    let Some(&text) = text_widths.last() else { return Ok(USUAL) };
    let rest = width.saturating_sub(text);
    let sizes = if text_widths.len() > 1 { 6 } else { 5 };
    if rest > 0 && rest.is_multiple_of(sizes) {
        return Ok(rest / sizes);
    }
    fail!(
        Unsupported,
        "the U-Net takes {width} numbers of text and sizes, the text encoder yields {text}: the rest is not that of \
         {sizes} sizes; say what it is with --config FOLDER"
    )
}

fn odd<T>(path: &str) -> Result<T> {
    fail!(Unsupported, "the block `{path}` is none that a U-Net of latent diffusion has there")
}

/// Groups of the norms: no file says how many, and all such networks have 32.
pub(super) fn groups(channels: &[usize]) -> Result<usize> {
    const GROUPS: usize = 32;
    if channels.iter().any(|channels| *channels == 0 || !channels.is_multiple_of(GROUPS)) {
        fail!(
            Unsupported,
            "norms over {channels:?} channels are not of {GROUPS} groups, and the file does not say of how many; \
             give the configs with --config FOLDER, a folder as diffusers saves"
        );
    }
    Ok(GROUPS)
}

/// Heads of each level, which no file says: 8 where convolutions project (Stable Diffusion 1), one for every 64
/// channels where linear layers do (2 and XL).
fn heads(channels: &[usize], linear: bool) -> Result<Vec<usize>> {
    const WIDTH: usize = 64;
    if !linear {
        return Ok(vec![8; channels.len()]);
    }
    if channels.iter().any(|channels| !channels.is_multiple_of(WIDTH)) {
        fail!(
            Unsupported,
            "heads of {WIDTH} channels do not fit levels of {channels:?}, and the file does not say how many there are; \
             give the configs with --config FOLDER, a folder as diffusers saves"
        );
    }
    Ok(channels.iter().map(|channels| channels / WIDTH).collect())
}

fn kind(level: &Level, direction: &str) -> Result<Value> {
    match level.transformers.len() {
        0 => Ok(format!("{direction}Block2D").into()),
        transformers if transformers == level.resnets => Ok(format!("CrossAttn{direction}Block2D").into()),
        transformers => {
            fail!(Unsupported, "a level of {} residual blocks and {transformers} transformers", level.resnets)
        }
    }
}

fn mid_kind(mid: &Level) -> Result<Value> {
    match (mid.resnets, mid.transformers.len()) {
        (0, 0) => Ok(Value::Null),
        (1, 0) => Ok("UNetMidBlock2D".into()),
        (2, 1) => Ok("UNetMidBlock2DCrossAttn".into()),
        (resnets, transformers) => {
            fail!(Unsupported, "a middle of {resnets} residual blocks and {transformers} transformers")
        }
    }
}

/// Transformer blocks by level: one number where all are alike. The last level's is that of the middle, too.
fn depths(down: &[Level], mid: &Level) -> Result<Vec<Value>> {
    let mut depths: Vec<Value> = down.iter().map(|level| alike(&level.transformers)).collect();
    let (Some(last), Some(&middle)) = (down.last(), mid.transformers.first()) else { return Ok(depths) };
    match last.transformers.first() {
        None => drop(depths.last_mut().map(|depth| *depth = middle.into())),
        Some(&first) if first == middle => {}
        Some(first) => fail!(Unsupported, "a middle of {middle} transformer blocks behind a level of {first}"),
    }
    Ok(depths)
}

fn alike(depths: &[usize]) -> Value {
    match depths {
        [] => 1.into(),
        [first, rest @ ..] if rest.iter().all(|depth| depth == first) => (*first).into(),
        depths => json!(depths),
    }
}

/// The same on the way up, if it is not the mirror image.
fn reverse(depths: &[Value], up: &[Level]) -> Option<Value> {
    let listed: Vec<Value> = up.iter().map(|level| alike(&level.transformers)).collect();
    let mirrored = listed
        .iter()
        .zip(depths.iter().rev())
        .zip(up)
        .all(|((up, down), level)| level.transformers.is_empty() || up == down && down.is_number());
    (!mirrored).then(|| listed.into())
}
