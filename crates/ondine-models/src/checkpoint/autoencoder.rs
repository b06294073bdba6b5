//! The autoencoder of a checkpoint of latent diffusion (Rombach et al. 2022).

use ondine_graph::{Result, Weights, fail};
use serde_json::{Value, json};

use super::{
    tensors::{Names, linear, shape, size_of},
    unet::groups,
};

/// What no tensor of an autoencoder says of its latents, as configs have it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Latents {
    /// What they are multiplied by.
    pub(super) scaling: f64,
    /// What is subtracted before.
    pub(super) shift: Option<f64>,
    /// Mean and standard deviation of each channel: what is subtracted, and divided by.
    pub(super) statistics: Option<[Value; 2]>,
}

impl Default for Latents {
    fn default() -> Self {
        Self { scaling: 0.18215, shift: None, statistics: None }
    }
}

impl Latents {
    /// What a config says.
    pub(super) fn of(config: &Value) -> Self {
        let number = |name: &str| config.get(name).and_then(Value::as_f64);
        let list = |name: &str| config.get(name).filter(|value| value.is_array()).cloned();
        Self {
            scaling: number("scaling_factor").unwrap_or(Self::default().scaling),
            shift: number("shift_factor"),
            statistics: list("latents_mean").zip(list("latents_std")).map(Into::into),
        }
    }
}

/// What a block's tensors are called, and are called in diffusers.
const RESNET: [(&str, &str); 5] =
    [("norm1", "norm1"), ("conv1", "conv1"), ("norm2", "norm2"), ("conv2", "conv2"), ("nin_shortcut", "conv_shortcut")];
const ATTENTION: [(&str, &str); 5] =
    [("norm", "group_norm"), ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")];

/// Convolutions around the latents, where they stand inside, and what they are in diffusers.
const INNER: [(&str, &str); 2] =
    [("encoder.quant_conv.", "quant_conv."), ("decoder.post_quant_conv.", "post_quant_conv.")];

/// Statistics of squares of latents, which the tensors of no other autoencoder than that of `FLUX.2` hold.
const SQUARES: &str = "bn.running_mean";

/// What is added to the variances of squares.
const EPSILON: &str = "batch_norm_eps";

/// The class of the autoencoder that tensors are.
pub(super) fn class_of(weights: &Weights) -> &'static str {
    if weights.get(SQUARES).is_some() { "AutoencoderKLFlux2" } else { "AutoencoderKL" }
}

/// Gives the tensors the names and shapes that they have in diffusers, and yields the config; that it
/// cannot be told is found out after. What no tensor says is as in `known`, the config of an autoencoder that it takes
/// the place of.
pub(super) fn convert(weights: &mut Weights, latents: &Latents, known: Option<&Value>) -> Result<Value> {
    let config = config(weights, latents, known);
    let mut names = Names::default();
    // The convolutions around the latents may stand inside of encoder and decoder.
    names.prefixes(&INNER);
    for (way, blocks) in [("encoder", "down"), ("decoder", "up")] {
        let levels = count(weights, |i| format!("{way}.{blocks}.{i}.block.0.conv1.weight"));
        for i in 0..levels {
            // The decoder counts its levels from the outside, and runs them from the inside.
            let number = if way == "encoder" { i } else { levels - 1 - i };
            let (from, to) = (format!("{way}.{blocks}.{i}"), format!("{way}.{blocks}_blocks.{number}"));
            for j in 0..count(weights, |j| format!("{from}.block.{j}.conv1.weight")) {
                block(&mut names, &format!("{from}.block.{j}"), &format!("{to}.resnets.{j}"), &RESNET);
            }
            names.prefix(format!("{from}.downsample.conv."), format!("{to}.downsamplers.0.conv."));
            names.prefix(format!("{from}.upsample.conv."), format!("{to}.upsamplers.0.conv."));
        }
        for (old, new) in [("block_1", "resnets.0"), ("block_2", "resnets.1")] {
            block(&mut names, &format!("{way}.mid.{old}"), &format!("{way}.mid_block.{new}"), &RESNET);
        }
        let attention = format!("{way}.mid.attn_1");
        for (layer, _) in &ATTENTION[1..] {
            linear(weights, &format!("{attention}.{layer}.weight"));
        }
        block(&mut names, &attention, &format!("{way}.mid_block.attentions.0"), &ATTENTION);
        names.prefix(format!("{way}.norm_out."), format!("{way}.conv_norm_out."));
    }
    names.apply(weights)?;
    config
}

fn block(names: &mut Names, from: &str, to: &str, layers: &[(&str, &str)]) {
    for (old, new) in layers {
        names.prefix(format!("{from}.{old}."), format!("{to}.{new}."));
    }
}

fn count(weights: &Weights, path: impl Fn(usize) -> String) -> usize {
    (0..).take_while(|&i| weights.get(&path(i)).is_some()).count()
}

fn config(weights: &Weights, latents: &Latents, known: Option<&Value>) -> Result<Value> {
    let first = |path: &str| shape(weights, path);
    let (Some(conv_in), Some(decoded), Some(conv_out)) =
        (first("encoder.conv_in.weight"), first("decoder.conv_in.weight"), first("decoder.conv_out.weight"))
    else {
        fail!(Missing, "the autoencoder (first_stage_model) has no encoder or no decoder; is the file whole?");
    };
    let levels = count(weights, |i| format!("encoder.down.{i}.block.0.conv1.weight"));
    let channels_of = |blocks: &str| -> Vec<usize> {
        let first = |i| first(&format!("{blocks}.{i}.block.0.conv1.weight"));
        (0..levels).filter_map(first).map(|shape| shape[0]).collect()
    };
    let channels = channels_of("encoder.down");
    let has = |path: &str| weights.get(path).is_some();
    let [encoded_by, decoded_by] =
        INNER.map(|(inner, outer)| [inner, outer].iter().any(|layer| has(&format!("{layer}weight"))));
    let mut config = json!({
        "_class_name": class_of(weights),
        "in_channels": conv_in.get(1),
        "out_channels": conv_out[0],
        "latent_channels": decoded.get(1),
        "block_out_channels": channels,
        "down_block_types": vec!["DownEncoderBlock2D"; levels],
        "up_block_types": vec!["UpDecoderBlock2D"; levels],
        "layers_per_block": count(weights, |j| format!("encoder.down.0.block.{j}.conv1.weight")),
        "norm_num_groups": size_of(known, "norm_num_groups").map_or_else(|| groups(&channels), Ok)?,
        "use_quant_conv": encoded_by,
        "use_post_quant_conv": decoded_by,
        "mid_block_add_attention": has("encoder.mid.attn_1.norm.weight"),
    });
    if has(SQUARES) {
        let decoder = channels_of("decoder.up");
        config["decoder_block_out_channels"] = if decoder == channels { Value::Null } else { json!(decoder) };
        if let Some(epsilon) = known.and_then(|config| config.get(EPSILON)) {
            config[EPSILON] = epsilon.clone();
        }
        return Ok(config);
    }
    let [mean, std] = latents.statistics.clone().unwrap_or_default();
    for (option, value) in [
        ("scaling_factor", json!(latents.scaling)),
        ("shift_factor", json!(latents.shift)),
        ("latents_mean", mean),
        ("latents_std", std),
    ] {
        config[option] = value;
    }
    Ok(config)
}
