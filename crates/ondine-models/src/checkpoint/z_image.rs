//! The transformer of `Z-Image` under the names of the program that trained it.

use ondine_graph::{Result, Weights, fail};
use serde_json::{Value, json};

use super::tensors::{Names, columns, count, shape, size_of, sizes, split_rows};

/// Blocks by the places that they have.
pub(crate) const BLOCKS: [&str; 3] = ["layers", "noise_refiner", "context_refiner"];
/// Layers around the blocks, and what they are in diffusers.
pub(crate) const ENDS: [(&str, &str); 2] =
    [("x_embedder.", "all_x_embedder.2-1."), ("final_layer.", "all_final_layer.2-1.")];
/// Layers of a block.
pub(crate) const LAYERS: [(&str, &str); 3] = [
    ("attention.out.", "attention.to_out.0."),
    ("attention.q_norm.", "attention.norm_q."),
    ("attention.k_norm.", "attention.norm_k."),
];
/// Side of the squares of latents that are a token.
const SQUARE: usize = 2;

/// The blocks of a place.
fn blocks(weights: &Weights, place: &str) -> usize {
    count(weights, |i| format!("{place}.{i}.attention.qkv.weight"))
}

/// Gives the tensors the names and forms that they have in diffusers.
pub(super) fn convert(weights: &mut Weights) -> Result<()> {
    let mut names = Names::default();
    names.prefixes(&ENDS);
    for place in BLOCKS {
        for i in 0..blocks(weights, place) {
            let block = format!("{place}.{i}");
            for (from, to) in LAYERS {
                names.prefix(format!("{block}.{from}"), format!("{block}.{to}"));
            }
            let path = format!("{block}.attention.qkv.weight");
            let rows = shape(weights, &path).map_or(0, |shape| shape[0]);
            if !rows.is_multiple_of(3) {
                fail!(Shape, "`{path}` of {rows} rows is not queries, keys and values");
            }
            let parts = ["q", "k", "v"].map(|part| (format!("{block}.attention.to_{part}.weight"), rows / 3));
            split_rows(weights, &path, &parts)?;
        }
    }
    names.apply(weights)
}

/// What the config says, by the tensors under their first names; what none says comes from `known`, or is as in the
/// published networks.
pub(super) fn config(weights: &Weights, known: Option<&Value>) -> Result<Value> {
    let embedder = sizes(weights, "x_embedder.weight")?;
    let (width, numbers) = (embedder[0], embedder.get(1).copied().unwrap_or(0));
    let norm = shape(weights, "layers.0.attention.q_norm.weight");
    let by_heads = size_of(known, "n_heads").map(|heads| width / heads);
    let head = norm.as_ref().map(|norm| norm[0]).or(by_heads).unwrap_or(0);
    let said = known.filter(|_| by_heads == Some(head));
    let option = |name: &str| said.and_then(|config| config.get(name)).cloned();
    if head == 0 || !width.is_multiple_of(head) || option("axes_dims").is_none() && !head.is_multiple_of(16) {
        fail!(
            Unsupported,
            "heads of {head} in a transformer of width {width} are turned in a way that no tensor says; give the configs \
             with --config FOLDER, a folder as diffusers saves"
        );
    }
    Ok(json!({
        "_class_name": "ZImageTransformer2DModel",
        "in_channels": numbers / (SQUARE * SQUARE),
        "dim": width,
        "n_layers": blocks(weights, "layers"),
        "n_refiner_layers": blocks(weights, "noise_refiner"),
        "n_heads": width / head,
        "n_kv_heads": width / head,
        "qk_norm": norm.is_some(),
        "cap_feat_dim": columns(weights, "cap_embedder.1.weight")?,
        "norm_eps": option("norm_eps").unwrap_or_else(|| json!(1e-5)),
        "rope_theta": option("rope_theta").unwrap_or_else(|| json!(256.0)),
        "t_scale": option("t_scale").unwrap_or_else(|| json!(1000.0)),
        // As those of 128, which all published ones have: 32, 48 and 48.
        "axes_dims": option("axes_dims").unwrap_or_else(|| json!([head / 4, 3 * head / 8, 3 * head / 8])),
        "axes_lens": option("axes_lens").unwrap_or_else(|| json!([1024, 512, 512])),
    }))
}
