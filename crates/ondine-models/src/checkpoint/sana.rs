//! The transformer of Sana and Sana-Sprint under the names of the program that trained them.

use ondine_graph::{Result, Weights, fail};
use serde_json::{Value, json};

use super::tensors::{Names, columns, count, shape, size_of, sizes, split_rows};

/// The class in diffusers.
pub(super) const CLASS: &str = "SanaTransformer2DModel";
/// A tensor that no other transformer has under its first names, and one in diffusers.
pub(super) const MARKS: [&str; 2] = ["attention_y_norm.weight", "caption_norm.weight"];

/// Layers around the blocks, and what they are in diffusers.
pub(crate) const ENDS: [(&str, &str); 8] = [
    ("x_embedder.proj.", "patch_embed.proj."),
    ("y_embedder.y_proj.fc1.", "caption_projection.linear_1."),
    ("y_embedder.y_proj.fc2.", "caption_projection.linear_2."),
    ("t_block.1.", "time_embed.linear."),
    ("attention_y_norm.", "caption_norm."),
    ("final_layer.linear.", "proj_out."),
    ("final_layer.scale_shift_table", "scale_shift_table"),
    ("cfg_embedder.mlp.0.", "time_embed.guidance_embedder.linear_1."),
];
/// The second layer that reads the guidance scale.
const GUIDANCE: (&str, &str) = ("cfg_embedder.mlp.2.", "time_embed.guidance_embedder.linear_2.");
/// Layers of a block, and what they are in diffusers.
pub(crate) const LAYERS: [(&str, &str); 11] = [
    ("attn.proj.", "attn1.to_out.0."),
    ("attn.q_norm.", "attn1.norm_q."),
    ("attn.k_norm.", "attn1.norm_k."),
    ("cross_attn.q_linear.", "attn2.to_q."),
    ("cross_attn.q_norm.", "attn2.norm_q."),
    ("cross_attn.k_norm.", "attn2.norm_k."),
    ("cross_attn.proj.", "attn2.to_out.0."),
    ("mlp.inverted_conv.conv.", "ff.conv_inverted."),
    ("mlp.depth_conv.conv.", "ff.conv_depth."),
    ("mlp.point_conv.conv.", "ff.conv_point."),
    ("scale_shift_table", "scale_shift_table"),
];
/// Layers of a block that are several in diffusers, one after the other.
pub(crate) const FUSED: [(&str, &[&str]); 2] = [
    ("attn.qkv", &["attn1.to_q", "attn1.to_k", "attn1.to_v"]),
    ("cross_attn.kv_linear", &["attn2.to_k", "attn2.to_v"]),
];

/// Tensors that training needs alone: the embedding of no text, positions that are not learned, variances.
const OF_TRAINING: [&str; 4] = ["y_embedder.y_embedding", "pos_embed", "logvar_linear.weight", "logvar_linear.bias"];

/// Features of a head of the attention of the picture to itself.
const HEAD: usize = 32;
/// Heads of the attention to the text by the width of the blocks, of published models.
const TEXT_HEADS: [(usize, usize); 2] = [(2240, 20), (1152, 16)];

/// True if the network was distilled to draw in a few steps, for it takes the guidance scale; under either names.
pub(super) fn takes_guidance(weights: &Weights) -> bool {
    [ENDS[7].0, ENDS[7].1].iter().any(|layer| weights.get(&format!("{layer}weight")).is_some())
}

/// Gives the tensors the names that they have in diffusers.
pub(super) fn convert(weights: &mut Weights) -> Result<()> {
    let mut names = Names::default();
    names.prefixes(&ENDS);
    names.prefixes(&[GUIDANCE]);
    let time = if takes_guidance(weights) { "time_embed" } else { "time_embed.emb" };
    for (old, new) in [("t_embedder.mlp.0.", "linear_1"), ("t_embedder.mlp.2.", "linear_2")] {
        names.prefix(old.to_owned(), format!("{time}.timestep_embedder.{new}."));
    }
    for i in 0..blocks(weights) {
        let (from, to) = (format!("blocks.{i}."), format!("transformer_blocks.{i}."));
        for (layer, parts) in FUSED {
            for end in ["weight", "bias"] {
                let path = format!("{from}{layer}.{end}");
                let rows = shape(weights, &path).map_or(0, |shape| shape[0]);
                if !rows.is_multiple_of(parts.len()) {
                    fail!(Shape, "`{path}` of {rows} rows is not {} projections", parts.len());
                }
                let part = |part: &&str| (format!("{to}{part}.{end}"), rows / parts.len());
                split_rows(weights, &path, &parts.iter().map(part).collect::<Vec<_>>())?;
            }
        }
        for (old, new) in LAYERS {
            names.prefix(format!("{from}{old}"), format!("{to}{new}"));
        }
    }
    for path in OF_TRAINING {
        weights.remove_encoding(path);
    }
    weights.retain(|path| !OF_TRAINING.contains(&path));
    names.apply(weights)
}

fn blocks(weights: &Weights) -> usize {
    count(weights, |i| format!("blocks.{i}.scale_shift_table"))
}

/// The config; what no tensor says is as in `known`, the config of the transformer that it takes the place of, or as in
/// published models.
pub(super) fn config(weights: &Weights, known: Option<&Value>) -> Result<Value> {
    let patch = sizes(weights, "x_embedder.proj.weight")?;
    let [width, channels, side, _] = patch[..] else {
        fail!(Shape, "`x_embedder.proj.weight` {patch:?} is no convolution");
    };
    let head = size_of(known, "attention_head_dim").unwrap_or(HEAD);
    let usual = TEXT_HEADS.iter().find(|(known, _)| *known == width).map(|(_, heads)| *heads);
    let Some(text_heads) = size_of(known, "num_cross_attention_heads").or(usual).filter(|heads| width % heads == 0)
    else {
        fail!(
            Unsupported,
            "the file does not say how many heads look at the text in blocks of width {width}; give the configs with \
             --config FOLDER, a folder as diffusers saves"
        );
    };
    let inner = sizes(weights, "blocks.0.mlp.inverted_conv.conv.weight")?[0];
    let has = |path: &str| weights.get(path).is_some();
    let mut config = json!({
        "_class_name": CLASS,
        "in_channels": channels,
        "out_channels": sizes(weights, "final_layer.linear.weight")?[0] / (side * side).max(1),
        "num_attention_heads": width / head,
        "attention_head_dim": head,
        "num_layers": blocks(weights),
        "num_cross_attention_heads": text_heads,
        "cross_attention_head_dim": width / text_heads,
        "cross_attention_dim": width,
        "caption_channels": columns(weights, "y_embedder.y_proj.fc1.weight")?,
        // Half of what goes in gates the other half.
        "mlp_ratio": inner as f64 / (2 * width.max(1)) as f64,
        "attention_bias": has("blocks.0.attn.qkv.bias"),
        "sample_size": size_of(known, "sample_size").unwrap_or(32),
        "patch_size": side,
        "guidance_embeds": takes_guidance(weights),
        "qk_norm": has("blocks.0.attn.q_norm.weight").then_some("rms_norm_across_heads"),
    });
    for option in ["guidance_embeds_scale", "timestep_scale"] {
        if let Some(value) = known.and_then(|known| known.get(option)) {
            config[option] = value.clone();
        }
    }
    Ok(config)
}
