//! The transformers of Stable Diffusion 3, `FLUX.1`, `FLUX.2`, `Z-Image` and Sana under the names of the programs that
//! trained them.

use ondine_graph::{Result, Weights, fail};
use serde_json::{Value, json};

use super::{
    sana,
    tensors::{Names, columns, count, rename_with, shape, size_of, sizes, split_rows, swap_halves},
    z_image,
};

/// Which of them it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `SD3Transformer2DModel`
    Sd3,
    /// `FluxTransformer2DModel`
    Flux,
    /// `Flux2Transformer2DModel`
    Flux2,
    /// `ZImageTransformer2DModel`
    ZImage,
    /// `SanaTransformer2DModel`
    Sana,
}

/// Tensors that only one kind has, under its first names and in diffusers; blocks of `FLUX.2` are called like those of
/// `FLUX.1`, so its marks come before.
const MARKS: [(&str, Kind); 10] = [
    (SHARED_MODULATION, Kind::Flux2),
    ("joint_blocks.0.x_block.attn.qkv.weight", Kind::Sd3),
    ("double_blocks.0.img_attn.qkv.weight", Kind::Flux),
    ("noise_refiner.0.attention.qkv.weight", Kind::ZImage),
    (sana::MARKS[0], Kind::Sana),
    ("double_stream_modulation_img.linear.weight", Kind::Flux2),
    ("noise_refiner.0.attention.to_q.weight", Kind::ZImage),
    ("pos_embed.pos_embed", Kind::Sd3),
    ("x_embedder.weight", Kind::Flux),
    (sana::MARKS[1], Kind::Sana),
];
/// Those of first names, which come before the others.
const ORIGINALS: usize = 5;

impl Kind {
    /// The kind of a part, if it is one of these.
    pub(super) fn of(weights: &Weights) -> Option<Self> {
        MARKS.iter().find(|(path, _)| weights.get(path).is_some()).map(|(_, kind)| *kind)
    }

    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Sd3 => "SD3Transformer2DModel",
            Self::Flux => "FluxTransformer2DModel",
            Self::Flux2 => "Flux2Transformer2DModel",
            Self::ZImage => "ZImageTransformer2DModel",
            Self::Sana => sana::CLASS,
        }
    }

    /// True if the tensors have their first names.
    pub(super) fn is_original(weights: &Weights) -> bool {
        MARKS[..ORIGINALS].iter().any(|(path, _)| weights.get(path).is_some())
    }
}

/// Layers around the blocks of Stable Diffusion 3, and what they are in diffusers.
pub(crate) const SD3_ENDS: [(&str, &str); 6] = [
    ("x_embedder.proj.", "pos_embed.proj."),
    ("t_embedder.mlp.0.", "time_text_embed.timestep_embedder.linear_1."),
    ("t_embedder.mlp.2.", "time_text_embed.timestep_embedder.linear_2."),
    ("y_embedder.mlp.0.", "time_text_embed.text_embedder.linear_1."),
    ("y_embedder.mlp.2.", "time_text_embed.text_embedder.linear_2."),
    ("final_layer.linear.", "proj_out."),
];
/// Layers around the blocks of `FLUX`.
pub(crate) const FLUX_ENDS: [(&str, &str); 9] = [
    ("img_in.", "x_embedder."),
    ("txt_in.", "context_embedder."),
    ("time_in.in_layer.", "time_text_embed.timestep_embedder.linear_1."),
    ("time_in.out_layer.", "time_text_embed.timestep_embedder.linear_2."),
    ("vector_in.in_layer.", "time_text_embed.text_embedder.linear_1."),
    ("vector_in.out_layer.", "time_text_embed.text_embedder.linear_2."),
    ("guidance_in.in_layer.", "time_text_embed.guidance_embedder.linear_1."),
    ("guidance_in.out_layer.", "time_text_embed.guidance_embedder.linear_2."),
    ("final_layer.linear.", "proj_out."),
];
/// Layers around the blocks of `FLUX.2`.
pub(crate) const FLUX2_ENDS: [(&str, &str); 10] = [
    ("img_in.", "x_embedder."),
    ("txt_in.", "context_embedder."),
    ("time_in.in_layer.", "time_guidance_embed.timestep_embedder.linear_1."),
    ("time_in.out_layer.", "time_guidance_embed.timestep_embedder.linear_2."),
    ("guidance_in.in_layer.", "time_guidance_embed.guidance_embedder.linear_1."),
    ("guidance_in.out_layer.", "time_guidance_embed.guidance_embedder.linear_2."),
    ("double_stream_modulation_img.lin.", "double_stream_modulation_img.linear."),
    ("double_stream_modulation_txt.lin.", "double_stream_modulation_txt.linear."),
    ("single_stream_modulation.lin.", "single_stream_modulation.linear."),
    ("final_layer.linear.", "proj_out."),
];
/// Layers of a joint block of Stable Diffusion 3, and what they are in diffusers.
pub(crate) const SD3_LAYERS: [(&str, &str); 9] = [
    ("x_block.attn.proj.", "attn.to_out.0."),
    ("x_block.attn2.proj.", "attn2.to_out.0."),
    ("context_block.attn.proj.", "attn.to_add_out."),
    ("x_block.adaLN_modulation.1.", "norm1.linear."),
    ("context_block.adaLN_modulation.1.", "norm1_context.linear."),
    ("x_block.mlp.fc1.", "ff.net.0.proj."),
    ("x_block.mlp.fc2.", "ff.net.2."),
    ("context_block.mlp.fc1.", "ff_context.net.0.proj."),
    ("context_block.mlp.fc2.", "ff_context.net.2."),
];
const SD3_NORMS: [(&str, &str); 6] = [
    ("x_block.attn.ln_q.", "attn.norm_q."),
    ("x_block.attn.ln_k.", "attn.norm_k."),
    ("x_block.attn2.ln_q.", "attn2.norm_q."),
    ("x_block.attn2.ln_k.", "attn2.norm_k."),
    ("context_block.attn.ln_q.", "attn.norm_added_q."),
    ("context_block.attn.ln_k.", "attn.norm_added_k."),
];
/// Layers of a block of `FLUX` with weights of their own for text and picture.
pub(crate) const FLUX_LAYERS: [(&str, &str); 8] = [
    ("img_attn.proj.", "attn.to_out.0."),
    ("txt_attn.proj.", "attn.to_add_out."),
    ("img_mod.lin.", "norm1.linear."),
    ("txt_mod.lin.", "norm1_context.linear."),
    ("img_mlp.0.", "ff.net.0.proj."),
    ("img_mlp.2.", "ff.net.2."),
    ("txt_mlp.0.", "ff_context.net.0.proj."),
    ("txt_mlp.2.", "ff_context.net.2."),
];
const FLUX_NORMS: [(&str, &str); 4] = [
    ("img_attn.norm.query_norm.scale", "attn.norm_q.weight"),
    ("img_attn.norm.key_norm.scale", "attn.norm_k.weight"),
    ("txt_attn.norm.query_norm.scale", "attn.norm_added_q.weight"),
    ("txt_attn.norm.key_norm.scale", "attn.norm_added_k.weight"),
];
/// Layers of a block of `FLUX` with the same weights for both.
pub(crate) const SINGLE_LAYERS: [(&str, &str); 2] = [("modulation.lin.", "norm.linear."), ("linear2.", "proj_out.")];
const SINGLE_NORMS: [(&str, &str); 2] =
    [("norm.query_norm.scale", "attn.norm_q.weight"), ("norm.key_norm.scale", "attn.norm_k.weight")];

/// Layers of a block of `FLUX.2` with weights of their own for text and picture.
pub(crate) const FLUX2_LAYERS: [(&str, &str); 6] = [
    ("img_attn.proj.", "attn.to_out.0."),
    ("txt_attn.proj.", "attn.to_add_out."),
    ("img_mlp.0.", "ff.linear_in."),
    ("img_mlp.2.", "ff.linear_out."),
    ("txt_mlp.0.", "ff_context.linear_in."),
    ("txt_mlp.2.", "ff_context.linear_out."),
];
/// Layers of a block of `FLUX.2` with the same weights for both.
pub(crate) const FLUX2_SINGLE_LAYERS: [(&str, &str); 2] =
    [("linear1.", "attn.to_qkv_mlp_proj."), ("linear2.", "attn.to_out.")];

/// The layer from which all blocks of FLUX.2 take their modulation.
const SHARED_MODULATION: &str = "double_stream_modulation_img.lin.weight";

/// What sits behind the last dot of layers.
const ENDS: [&str; 2] = ["weight", "bias"];

/// Gives the tensors the names and forms that they have in diffusers, and yields the config; that it cannot be told is
/// found out after. What no tensor says is taken from `known`, the config of a transformer that it takes the place of.
///
/// # Errors
/// If the tensors do not fit each other.
pub(super) fn convert(weights: &mut Weights, kind: Kind, known: Option<&Value>) -> Result<Value> {
    let known = known.filter(|config| config.get("_class_name").and_then(Value::as_str) == Some(kind.class()));
    let config = match kind {
        Kind::Sd3 => sd3_config(weights, known),
        Kind::Flux => flux_config(weights, known),
        Kind::Flux2 => flux2_config(weights, known),
        Kind::ZImage => z_image::config(weights, known),
        Kind::Sana => sana::config(weights, known),
    };
    match kind {
        Kind::Sd3 => sd3(weights)?,
        Kind::Flux => flux(weights)?,
        Kind::Flux2 => flux2(weights)?,
        Kind::ZImage => z_image::convert(weights)?,
        Kind::Sana => sana::convert(weights)?,
    }
    config
}

/// Cuts queries, keys and values that are one tensor.
fn split_qkv(weights: &mut Weights, from: &str, to: &str, names: [&str; 3]) -> Result<()> {
    for end in ENDS {
        let parts = names.map(|name| format!("{to}.{name}.{end}"));
        let path = format!("{from}.{end}");
        let rows = shape(weights, &path).map_or(0, |shape| shape[0]);
        if !rows.is_multiple_of(3) {
            fail!(Shape, "`{path}` of {rows} rows is not queries, keys and values");
        }
        let parts: Vec<_> = parts.into_iter().map(|name| (name, rows / 3)).collect();
        split_rows(weights, &path, &parts)?;
    }
    Ok(())
}

const OWN: [&str; 3] = ["to_q", "to_k", "to_v"];
const ADDED: [&str; 3] = ["add_q_proj", "add_k_proj", "add_v_proj"];

/// The layer of the last norm, which yields shift before scale, and what it is in diffusers: scale before shift.
pub(crate) const LAST_NORM: (&str, &str) = ("final_layer.adaLN_modulation.1", "norm_out.linear");

/// A norm that yields shift before scale, and scale before shift in diffusers.
fn swap(weights: &mut Weights, from: &str, to: &str) -> Result<()> {
    ENDS.iter().try_for_each(|end| swap_halves(weights, &format!("{from}.{end}"), &format!("{to}.{end}")))
}

fn sd3(weights: &mut Weights) -> Result<()> {
    let layers = count(weights, |i| format!("joint_blocks.{i}.x_block.attn.qkv.weight"));
    let mut names = Names::default();
    names.prefixes(&SD3_ENDS);
    rename_with(weights, "pos_embed", "pos_embed.pos_embed")?;
    swap(weights, LAST_NORM.0, LAST_NORM.1)?;
    for i in 0..layers {
        let (own, text) = (format!("joint_blocks.{i}.x_block"), format!("joint_blocks.{i}.context_block"));
        let to = format!("transformer_blocks.{i}");
        split_qkv(weights, &format!("{own}.attn.qkv"), &format!("{to}.attn"), OWN)?;
        split_qkv(weights, &format!("{own}.attn2.qkv"), &format!("{to}.attn2"), OWN)?;
        split_qkv(weights, &format!("{text}.attn.qkv"), &format!("{to}.attn"), ADDED)?;
        if i + 1 == layers {
            swap(weights, &format!("{text}.adaLN_modulation.1"), &format!("{to}.norm1_context.linear"))?;
        }
        for (from, layer) in SD3_LAYERS.iter().chain(&SD3_NORMS) {
            names.prefix(format!("joint_blocks.{i}.{from}"), format!("{to}.{layer}"));
        }
    }
    names.apply(weights)
}

fn flux(weights: &mut Weights) -> Result<()> {
    let mut names = Names::default();
    names.prefixes(&FLUX_ENDS);
    for i in 0..singles(weights) {
        single(weights, &format!("single_blocks.{i}"), &format!("single_transformer_blocks.{i}"))?;
    }
    streams(weights, names, &FLUX_LAYERS, &SINGLE_LAYERS)
}

fn flux2(weights: &mut Weights) -> Result<()> {
    let mut names = Names::default();
    names.prefixes(&FLUX2_ENDS);
    streams(weights, names, &FLUX2_LAYERS, &FLUX2_SINGLE_LAYERS)
}

/// Blocks of one stream.
fn singles(weights: &Weights) -> usize {
    count(weights, |i| format!("single_blocks.{i}.linear2.weight"))
}

/// The blocks of two streams and of one, and the last modulation, of FLUX and FLUX.2; `layers` and `single_layers` are
/// the names of layers whose weights stay as they are.
fn streams(
    weights: &mut Weights,
    mut names: Names,
    layers: &[(&str, &str)],
    single_layers: &[(&str, &str)],
) -> Result<()> {
    swap(weights, LAST_NORM.0, LAST_NORM.1)?;
    for i in 0..count(weights, |i| format!("double_blocks.{i}.img_attn.qkv.weight")) {
        let (from, to) = (format!("double_blocks.{i}"), format!("transformer_blocks.{i}"));
        split_qkv(weights, &format!("{from}.img_attn.qkv"), &format!("{to}.attn"), OWN)?;
        split_qkv(weights, &format!("{from}.txt_attn.qkv"), &format!("{to}.attn"), ADDED)?;
        for (layer, new) in layers.iter().chain(&FLUX_NORMS) {
            names.prefix(format!("{from}.{layer}"), format!("{to}.{new}"));
        }
    }
    for i in 0..singles(weights) {
        let (from, to) = (format!("single_blocks.{i}"), format!("single_transformer_blocks.{i}"));
        for (layer, new) in single_layers.iter().chain(&SINGLE_NORMS) {
            names.prefix(format!("{from}.{layer}"), format!("{to}.{new}"));
        }
    }
    names.apply(weights)
}

/// Queries, keys, values and what goes into the feed-forward are one tensor in a single block.
fn single(weights: &mut Weights, from: &str, to: &str) -> Result<()> {
    let width = shape(weights, &format!("{from}.linear2.weight")).map_or(0, |shape| shape[0]);
    for end in ENDS {
        let path = format!("{from}.linear1.{end}");
        let rows = shape(weights, &path).map_or(0, |shape| shape[0]);
        let Some(hidden) = rows.checked_sub(3 * width).filter(|hidden| *hidden > 0) else {
            fail!(Shape, "`{path}` of {rows} rows is not queries, keys and values of {width} and a feed-forward");
        };
        let mut parts: Vec<_> = OWN.iter().map(|name| (format!("{to}.attn.{name}.{end}"), width)).collect();
        parts.push((format!("{to}.proj_mlp.{end}"), hidden));
        split_rows(weights, &path, &parts)?;
    }
    Ok(())
}

/// Width of a head of Stable Diffusion 3, where no norm says it.
const HEAD: usize = 64;

fn sd3_config(weights: &Weights, known: Option<&Value>) -> Result<Value> {
    let patch = sizes(weights, "x_embedder.proj.weight")?;
    let [width, channels, side, _] = patch[..] else {
        fail!(Shape, "`x_embedder.proj.weight` {patch:?} is no convolution");
    };
    let layers = count(weights, |i| format!("joint_blocks.{i}.x_block.attn.qkv.weight"));
    let norm = shape(weights, "joint_blocks.0.x_block.attn.ln_q.weight");
    let said = size_of(known, "attention_head_dim").unwrap_or(HEAD);
    let head = norm.as_ref().map_or(said, |norm| norm[0]);
    if head == 0 || width % head != 0 {
        fail!(
            Unsupported,
            "heads of {head} do not fit a transformer of width {width}; give the configs with --config FOLDER, a folder \
             as diffusers saves"
        );
    }
    let positions = sizes(weights, "pos_embed")?.get(1).copied().unwrap_or(0);
    let dual: Vec<usize> =
        (0..layers).filter(|i| weights.get(&format!("joint_blocks.{i}.x_block.attn2.qkv.weight")).is_some()).collect();
    Ok(json!({
        "_class_name": Kind::Sd3.class(),
        "sample_size": size_of(known, "sample_size").unwrap_or(128),
        "patch_size": side,
        "in_channels": channels,
        "num_layers": layers,
        "attention_head_dim": head,
        "num_attention_heads": width / head,
        "joint_attention_dim": columns(weights, "context_embedder.weight")?,
        "caption_projection_dim": width,
        "pooled_projection_dim": columns(weights, "y_embedder.mlp.0.weight")?,
        "out_channels": sizes(weights, "final_layer.linear.weight")?[0] / (side * side).max(1),
        "pos_embed_max_size": positions.isqrt(),
        "dual_attention_layers": dual,
        "qk_norm": norm.map(|_| "rms_norm"),
    }))
}

fn flux_config(weights: &Weights, known: Option<&Value>) -> Result<Value> {
    let embedder = sizes(weights, "img_in.weight")?;
    let (width, taken) = (embedder[0], embedder.get(1).copied().unwrap_or(0));
    let head = sizes(weights, "double_blocks.0.img_attn.norm.query_norm.scale")?[0];
    // As those of 128, which all published ones have: 16, 56 and 56.
    let usual = || json!([head / 8, 7 * head / 16, 7 * head / 16]);
    let sum = |axes: &Value| axes.as_array().map(|axes| axes.iter().filter_map(Value::as_u64).sum::<u64>());
    let said = known.and_then(|config| config.get("axes_dims_rope").filter(|axes| sum(axes) == Some(head as u64)));
    if said.is_none() && head % 32 != 0 || head == 0 || width % head != 0 {
        fail!(
            Unsupported,
            "heads of {head} in a transformer of width {width} are turned in a way that no tensor says; give the configs \
             with --config FOLDER, a folder as diffusers saves"
        );
    }
    Ok(json!({
        "_class_name": Kind::Flux.class(),
        "patch_size": 1,
        "in_channels": taken,
        "out_channels": sizes(weights, "final_layer.linear.weight")?[0],
        "num_layers": count(weights, |i| format!("double_blocks.{i}.img_attn.qkv.weight")),
        "num_single_layers": count(weights, |i| format!("single_blocks.{i}.linear1.weight")),
        "attention_head_dim": head,
        "num_attention_heads": width / head,
        "joint_attention_dim": columns(weights, "txt_in.weight")?,
        "pooled_projection_dim": columns(weights, "vector_in.in_layer.weight")?,
        "guidance_embeds": weights.get("guidance_in.in_layer.weight").is_some(),
        "axes_dims_rope": said.cloned().unwrap_or_else(usual),
    }))
}

fn flux2_config(weights: &Weights, known: Option<&Value>) -> Result<Value> {
    let embedder = sizes(weights, "img_in.weight")?;
    let (width, taken) = (embedder[0], embedder.get(1).copied().unwrap_or(0));
    let head = sizes(weights, "double_blocks.0.img_attn.norm.query_norm.scale")?[0];
    let said = known.filter(|config| size_of(Some(config), "attention_head_dim") == Some(head));
    let option = |name: &str| said.and_then(|config| config.get(name)).filter(|value| !value.is_null()).cloned();
    if head == 0 || width % head != 0 || option("axes_dims_rope").is_none() && head % 8 != 0 {
        fail!(
            Unsupported,
            "heads of {head} in a transformer of width {width} are turned in a way that no tensor says; give the configs \
             with --config FOLDER, a folder as diffusers saves"
        );
    }
    let hidden = columns(weights, "double_blocks.0.img_mlp.2.weight")? as f64;
    // A width is rounded down: a quotient that is rounded itself must not lose one.
    let ratio = hidden / width as f64;
    let ratio = if (ratio * width as f64).floor() == hidden { ratio } else { (hidden + 0.5) / width as f64 };
    Ok(json!({
        "_class_name": Kind::Flux2.class(),
        "patch_size": 1,
        "in_channels": taken,
        "out_channels": sizes(weights, "final_layer.linear.weight")?[0],
        "num_layers": count(weights, |i| format!("double_blocks.{i}.img_attn.qkv.weight")),
        "num_single_layers": count(weights, |i| format!("single_blocks.{i}.linear1.weight")),
        "attention_head_dim": head,
        "num_attention_heads": width / head,
        "joint_attention_dim": columns(weights, "txt_in.weight")?,
        "timestep_guidance_channels": columns(weights, "time_in.in_layer.weight")?,
        "mlp_ratio": ratio,
        "axes_dims_rope": option("axes_dims_rope").unwrap_or_else(|| json!(vec![head / 4; 4])),
        "rope_theta": option("rope_theta").unwrap_or_else(|| json!(2000)),
        "guidance_embeds": weights.get("guidance_in.in_layer.weight").is_some(),
    }))
}

/// True if a `FLUX` takes the guidance scale, under either names.
pub(super) fn takes_guidance(weights: &Weights) -> bool {
    ["guidance_in.in_layer.weight", "time_text_embed.guidance_embedder.linear_1.weight"]
        .iter()
        .any(|path| weights.get(path).is_some())
}

#[cfg(test)]
mod tests {
    use ondine_graph::{DType, Tensor};

    use super::*;
    use crate::{Network, lora::Adapter};

    fn weights(shapes: &[(&str, &[usize])]) -> Weights {
        let mut weights = Weights::default();
        for (path, shape) in shapes {
            let bytes = vec![0_u8; 4 * shape.iter().product::<usize>()];
            let tensor = Tensor {
                dtype: DType::F32,
                shape: shape.to_vec(),
                bytes: bytes.as_slice().into(),
                file: "memory".into(),
            };
            weights.insert(path, tensor);
        }
        weights
    }

    /// A linear layer with its bias.
    fn layers(shapes: &[(&str, usize, usize)]) -> Vec<(String, Vec<usize>)> {
        let of = |(path, rows, columns): &(&str, usize, usize)| {
            [(format!("{path}.weight"), vec![*rows, *columns]), (format!("{path}.bias"), vec![*rows])]
        };
        shapes.iter().flat_map(of).collect()
    }

    /// The two factors of a change of a layer.
    fn factors(module: &str, rows: usize, columns: usize) -> [(String, Vec<usize>); 2] {
        let name = |factor: &str| format!("diffusion_model.{module}.lora_{factor}.weight");
        [(name("A"), vec![2, columns]), (name("B"), vec![rows, 2])]
    }

    /// Changes every layer of a network by an adapter under the first names, with projections that are one layer.
    fn adapt(mut network: Network, first: &Weights) {
        let mut shapes = Vec::new();
        for path in first.paths() {
            let (Some(module), [rows, columns]) = (path.strip_suffix(".weight"), &first.get(path).unwrap().shape[..])
            else {
                continue;
            };
            shapes.extend(factors(module, *rows, *columns));
        }
        let adapter = Adapter::of("a".to_owned(), all(&shapes, &[])).unwrap();
        let applied = adapter.apply(&mut [("transformer", 1.0, &mut network)]).unwrap();
        assert_eq!((applied.applied, applied.left), (shapes.len() / 2, Vec::new()));
        network.asset(Default::default()).unwrap();
    }

    fn all(layers: &[(String, Vec<usize>)], others: &[(&str, &[usize])]) -> Weights {
        let mut shapes: Vec<(&str, &[usize])> =
            layers.iter().map(|(path, shape)| (path.as_str(), &shape[..])).collect();
        shapes.extend(others);
        weights(&shapes)
    }

    #[test]
    fn tensors_of_flux_are_those_that_the_network_asks_for() {
        let mut weights = all(
            &layers(&[
                ("img_in", 32, 16),
                ("txt_in", 32, 20),
                ("time_in.in_layer", 32, 256),
                ("time_in.out_layer", 32, 32),
                ("vector_in.in_layer", 32, 12),
                ("vector_in.out_layer", 32, 32),
                ("guidance_in.in_layer", 32, 256),
                ("guidance_in.out_layer", 32, 32),
                ("double_blocks.0.img_attn.qkv", 96, 32),
                ("double_blocks.0.txt_attn.qkv", 96, 32),
                ("double_blocks.0.img_attn.proj", 32, 32),
                ("double_blocks.0.txt_attn.proj", 32, 32),
                ("double_blocks.0.img_mod.lin", 192, 32),
                ("double_blocks.0.txt_mod.lin", 192, 32),
                ("double_blocks.0.img_mlp.0", 128, 32),
                ("double_blocks.0.img_mlp.2", 32, 128),
                ("double_blocks.0.txt_mlp.0", 128, 32),
                ("double_blocks.0.txt_mlp.2", 32, 128),
                ("single_blocks.0.linear1", 224, 32),
                ("single_blocks.0.linear2", 32, 160),
                ("single_blocks.0.modulation.lin", 96, 32),
                ("final_layer.linear", 16, 32),
                ("final_layer.adaLN_modulation.1", 64, 32),
            ]),
            &[
                ("double_blocks.0.img_attn.norm.query_norm.scale", &[32]),
                ("double_blocks.0.img_attn.norm.key_norm.scale", &[32]),
                ("double_blocks.0.txt_attn.norm.query_norm.scale", &[32]),
                ("double_blocks.0.txt_attn.norm.key_norm.scale", &[32]),
                ("single_blocks.0.norm.query_norm.scale", &[32]),
                ("single_blocks.0.norm.key_norm.scale", &[32]),
            ],
        );
        assert_eq!(Kind::of(&weights), Some(Kind::Flux));
        assert!(takes_guidance(&weights) && Kind::is_original(&weights));
        let first = weights.clone();
        let config = convert(&mut weights, Kind::Flux, None).unwrap();
        assert_eq!(config["axes_dims_rope"], json!([4, 14, 14]));
        assert!(Kind::of(&weights) == Some(Kind::Flux) && takes_guidance(&weights));
        let network = Network::of("memory", Kind::Flux.class(), config.to_string(), weights).unwrap();
        adapt(network, &first);
    }

    #[test]
    fn tensors_of_flux_2_are_those_that_the_network_asks_for() {
        let own = |name: &str, out: usize, taken: usize| (format!("{name}.weight"), vec![out, taken]);
        let layers = [
            own("img_in", 32, 16),
            own("txt_in", 32, 12),
            own("time_in.in_layer", 32, 24),
            own("time_in.out_layer", 32, 32),
            own("double_stream_modulation_img.lin", 192, 32),
            own("double_stream_modulation_txt.lin", 192, 32),
            own("single_stream_modulation.lin", 96, 32),
            own("final_layer.linear", 16, 32),
            own("final_layer.adaLN_modulation.1", 64, 32),
            own("double_blocks.0.img_attn.qkv", 96, 32),
            own("double_blocks.0.img_attn.proj", 32, 32),
            own("double_blocks.0.img_mlp.0", 160, 32),
            own("double_blocks.0.img_mlp.2", 32, 80),
            own("double_blocks.0.txt_attn.qkv", 96, 32),
            own("double_blocks.0.txt_attn.proj", 32, 32),
            own("double_blocks.0.txt_mlp.0", 160, 32),
            own("double_blocks.0.txt_mlp.2", 32, 80),
            own("single_blocks.0.linear1", 256, 32),
            own("single_blocks.0.linear2", 32, 112),
        ];
        let norms = [
            "double_blocks.0.img_attn.norm.query_norm.scale",
            "double_blocks.0.img_attn.norm.key_norm.scale",
            "double_blocks.0.txt_attn.norm.query_norm.scale",
            "double_blocks.0.txt_attn.norm.key_norm.scale",
            "single_blocks.0.norm.query_norm.scale",
            "single_blocks.0.norm.key_norm.scale",
        ];
        let mut shapes: Vec<(&str, &[usize])> = norms.iter().map(|norm| (*norm, &[16_usize][..])).collect();
        shapes.extend(layers.iter().map(|(path, shape)| (path.as_str(), shape.as_slice())));
        let mut weights = weights(&shapes);
        assert_eq!(Kind::of(&weights), Some(Kind::Flux2));
        assert!(Kind::is_original(&weights));
        let first = weights.clone();
        let config = convert(&mut weights, Kind::Flux2, None).unwrap();
        assert_eq!((&config["axes_dims_rope"], &config["mlp_ratio"]), (&json!([4, 4, 4, 4]), &json!(2.5)));
        assert!(Kind::of(&weights) == Some(Kind::Flux2) && !Kind::is_original(&weights));
        let network = Network::of("memory", Kind::Flux2.class(), config.to_string(), weights).unwrap();
        adapt(network, &first);
    }

    #[test]
    fn tensors_of_sana_are_those_that_the_network_asks_for() {
        for sprint in [false, true] {
            let mut named = layers(&[
                ("y_embedder.y_proj.fc1", 1152, 20),
                ("y_embedder.y_proj.fc2", 1152, 1152),
                ("t_embedder.mlp.0", 1152, 256),
                ("t_embedder.mlp.2", 1152, 1152),
                ("t_block.1", 6912, 1152),
                ("blocks.0.attn.proj", 1152, 1152),
                ("blocks.0.cross_attn.q_linear", 1152, 1152),
                ("blocks.0.cross_attn.kv_linear", 2304, 1152),
                ("blocks.0.cross_attn.proj", 1152, 1152),
                ("final_layer.linear", 3, 1152),
            ]);
            if sprint {
                named.extend(layers(&[("cfg_embedder.mlp.0", 1152, 256), ("cfg_embedder.mlp.2", 1152, 1152)]));
                for norm in ["attn.q_norm", "attn.k_norm", "cross_attn.q_norm", "cross_attn.k_norm"] {
                    named.push((format!("blocks.0.{norm}.weight"), vec![1152]));
                }
            }
            let mut weights = all(
                &named,
                &[
                    ("x_embedder.proj.weight", &[1152, 3, 1, 1]),
                    ("x_embedder.proj.bias", &[1152]),
                    ("attention_y_norm.weight", &[1152]),
                    ("final_layer.scale_shift_table", &[2, 1152]),
                    ("y_embedder.y_embedding", &[300, 20]),
                    ("pos_embed", &[1, 4, 1152]),
                    ("blocks.0.scale_shift_table", &[6, 1152]),
                    ("blocks.0.attn.qkv.weight", &[3456, 1152]),
                    ("blocks.0.mlp.inverted_conv.conv.weight", &[5760, 1152, 1, 1]),
                    ("blocks.0.mlp.inverted_conv.conv.bias", &[5760]),
                    ("blocks.0.mlp.depth_conv.conv.weight", &[5760, 1, 3, 3]),
                    ("blocks.0.mlp.depth_conv.conv.bias", &[5760]),
                    ("blocks.0.mlp.point_conv.conv.weight", &[1152, 2880, 1, 1]),
                ],
            );
            assert_eq!((Kind::of(&weights), Kind::is_original(&weights)), (Some(Kind::Sana), true));
            let mut first = weights.clone();
            first.retain(|path| path.starts_with("blocks."));
            let config = convert(&mut weights, Kind::Sana, None).unwrap();
            for (option, value) in [
                ("num_attention_heads", json!(36)),
                ("num_cross_attention_heads", json!(16)),
                ("cross_attention_head_dim", json!(72)),
                ("caption_channels", json!(20)),
                ("mlp_ratio", json!(2.5)),
                ("guidance_embeds", json!(sprint)),
                ("qk_norm", json!(sprint.then_some("rms_norm_across_heads"))),
            ] {
                assert_eq!(config[option], value, "{option}");
            }
            adapt(Network::of("memory", Kind::Sana.class(), config.to_string(), weights).unwrap(), &first);
        }
    }

    #[test]
    fn tensors_of_z_image_are_those_that_the_network_asks_for() {
        let mut shapes = vec![
            ("x_embedder.weight".to_owned(), vec![32_usize, 16]),
            ("x_embedder.bias".to_owned(), vec![32]),
            ("x_pad_token".to_owned(), vec![1, 32]),
            ("cap_pad_token".to_owned(), vec![1, 32]),
            ("cap_embedder.0.weight".to_owned(), vec![12]),
            ("norm_final.weight".to_owned(), vec![32]),
        ];
        shapes.extend(layers(&[
            ("t_embedder.mlp.0", 1024, 256),
            ("t_embedder.mlp.2", 32, 1024),
            ("cap_embedder.1", 32, 12),
            ("final_layer.linear", 16, 32),
            ("final_layer.adaLN_modulation.1", 32, 32),
            ("layers.0.adaLN_modulation.0", 128, 32),
            ("noise_refiner.0.adaLN_modulation.0", 128, 32),
        ]));
        for place in ["layers.0", "noise_refiner.0", "context_refiner.0"] {
            let matrices = [
                ("attention.qkv", 96, 32),
                ("attention.out", 32, 32),
                ("feed_forward.w1", 85, 32),
                ("feed_forward.w2", 32, 85),
                ("feed_forward.w3", 85, 32),
            ];
            shapes.extend(matrices.map(|(name, out, taken)| (format!("{place}.{name}.weight"), vec![out, taken])));
            let norms = ["attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"].map(|name| (name, 32));
            let heads = ["attention.q_norm", "attention.k_norm"].map(|name| (name, 16));
            shapes
                .extend(norms.into_iter().chain(heads).map(|(name, of)| (format!("{place}.{name}.weight"), vec![of])));
        }
        let shapes: Vec<(&str, &[usize])> = shapes.iter().map(|(path, shape)| (path.as_str(), &shape[..])).collect();
        let mut weights = weights(&shapes);
        assert!(Kind::of(&weights) == Some(Kind::ZImage) && Kind::is_original(&weights));
        let first = weights.clone();
        let config = convert(&mut weights, Kind::ZImage, None).unwrap();
        assert_eq!((&config["axes_dims"], &config["n_heads"]), (&json!([4, 6, 6]), &json!(2)));
        assert!(Kind::of(&weights) == Some(Kind::ZImage) && !Kind::is_original(&weights));
        let network = Network::of("memory", Kind::ZImage.class(), config.to_string(), weights).unwrap();
        let block = "layers.0.attention";
        let twice: Vec<_> = ["to_q", "to_k", "to_v"].map(|name| factors(&format!("{block}.{name}"), 32, 32)).concat();
        let twice = [twice, factors(&format!("{block}.qkv"), 96, 32).to_vec()].concat();
        let adapter = Adapter::of("twice".to_owned(), all(&twice, &[])).unwrap();
        let applied = adapter.apply(&mut [("transformer", 1.0, &mut network.clone())]).unwrap();
        assert_eq!((applied.applied, applied.total, applied.left.len()), (3, 4, 1));
        assert!(applied.left[0].contains("attention_qkv`: other tensors"), "{:?}", applied.left);
        adapt(network, &first);
    }

    #[test]
    fn tensors_of_stable_diffusion_3_are_those_that_the_network_asks_for() {
        let block = |i: usize, last: bool| {
            let mut shapes = vec![
                ("x_block.attn.qkv", 48, 16),
                ("x_block.attn.proj", 16, 16),
                ("x_block.mlp.fc1", 64, 16),
                ("x_block.mlp.fc2", 16, 64),
                ("context_block.attn.qkv", 48, 16),
                ("context_block.adaLN_modulation.1", if last { 32 } else { 96 }, 16),
                ("x_block.adaLN_modulation.1", if last { 96 } else { 144 }, 16),
            ];
            if !last {
                shapes.extend([
                    ("x_block.attn2.qkv", 48, 16),
                    ("x_block.attn2.proj", 16, 16),
                    ("context_block.attn.proj", 16, 16),
                    ("context_block.mlp.fc1", 64, 16),
                    ("context_block.mlp.fc2", 16, 64),
                ]);
            }
            layers(&shapes).into_iter().map(move |(path, shape)| (format!("joint_blocks.{i}.{path}"), shape))
        };
        let ends = layers(&[
            ("t_embedder.mlp.0", 16, 256),
            ("t_embedder.mlp.2", 16, 16),
            ("y_embedder.mlp.0", 16, 10),
            ("y_embedder.mlp.2", 16, 16),
            ("context_embedder", 16, 12),
            ("final_layer.linear", 16, 16),
            ("final_layer.adaLN_modulation.1", 32, 16),
        ]);
        let norms: Vec<String> = ["x_block.attn", "context_block.attn", "x_block.attn2"]
            .iter()
            .flat_map(|part| ["ln_q", "ln_k"].map(|norm| format!("{part}.{norm}.weight")))
            .flat_map(|norm| [0, 1].map(|i| format!("joint_blocks.{i}.{norm}")))
            .filter(|norm| !norm.starts_with("joint_blocks.1.x_block.attn2"))
            .collect();
        let mut others: Vec<(&str, &[usize])> = norms.iter().map(|norm| (norm.as_str(), &[8_usize][..])).collect();
        others.extend([
            ("pos_embed", &[1_usize, 25, 16][..]),
            ("x_embedder.proj.weight", &[16, 4, 2, 2]),
            ("x_embedder.proj.bias", &[16]),
        ]);
        let mut weights = all(&block(0, false).chain(block(1, true)).chain(ends).collect::<Vec<_>>(), &others);
        let first = weights.clone();
        let config = convert(&mut weights, Kind::Sd3, None).unwrap();
        assert_eq!((&config["dual_attention_layers"], &config["pos_embed_max_size"]), (&json!([0]), &json!(5)));
        let network = Network::of("memory", Kind::Sd3.class(), config.to_string(), weights).unwrap();
        adapt(network, &first);
    }

    #[test]
    fn what_no_tensor_says_comes_from_a_config_that_is_known() {
        let known = json!({"_class_name": "SD3Transformer2DModel", "attention_head_dim": 4, "sample_size": 64});
        assert_eq!(size_of(Some(&known), "attention_head_dim"), Some(4));
        assert_eq!((size_of(Some(&known), "num_layers"), size_of(None, "sample_size")), (None, None));
        let mut weights =
            weights(&[("double_blocks.0.img_attn.norm.query_norm.scale", &[8]), ("img_in.weight", &[8, 4])]);
        let error = convert(&mut weights, Kind::Flux, Some(&known)).unwrap_err().to_string();
        assert!(error.contains("heads of 8") && error.contains("--config FOLDER"), "{error}");
    }
}
