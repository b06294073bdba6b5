//! The encoder of T5 (Raffel et al. 2020) in a checkpoint, under the names of transformers or of GGUF files.

use ondine_graph::{Result, Weights, fail};
use serde_json::{Value, json};

use super::tensors::{Names, rename_with, shape};

/// Its class.
pub(super) const CLASS: &str = "T5EncoderModel";

/// What a layer's tensors are called in GGUF files, and in transformers.
const LAYERS: [(&str, &str); 10] = [
    ("attn_q", "layer.0.SelfAttention.q"),
    ("attn_k", "layer.0.SelfAttention.k"),
    ("attn_v", "layer.0.SelfAttention.v"),
    ("attn_o", "layer.0.SelfAttention.o"),
    ("attn_rel_b", "layer.0.SelfAttention.relative_attention_bias"),
    ("attn_norm", "layer.0.layer_norm"),
    ("ffn_gate", "layer.1.DenseReluDense.wi_0"),
    ("ffn_up", "layer.1.DenseReluDense.wi_1"),
    ("ffn_down", "layer.1.DenseReluDense.wo"),
    ("ffn_norm", "layer.1.layer_norm"),
];

/// True for the tensors of a T5.
pub(super) fn is_one(weights: &Weights) -> bool {
    MARKS.iter().any(|mark| weights.get(mark).is_some())
}

/// Tensors that only a T5 has.
pub(super) const MARKS: [&str; 2] = ["encoder.block.0.layer.0.SelfAttention.q.weight", "enc.blk.0.attn_q.weight"];

/// Gives the tensors the names that they have in transformers, and yields the config.
pub(super) fn convert(weights: &mut Weights) -> Result<Value> {
    if weights.get(MARKS[1]).is_some() {
        let mut names = Names::default();
        names.prefix("token_embd.".to_owned(), "shared.".to_owned());
        names.prefix("enc.output_norm.".to_owned(), "encoder.final_layer_norm.".to_owned());
        for i in (0..).take_while(|i| weights.get(&format!("enc.blk.{i}.attn_q.weight")).is_some()) {
            for (old, new) in LAYERS {
                names.prefix(format!("enc.blk.{i}.{old}."), format!("encoder.block.{i}.{new}."));
            }
        }
        names.apply(weights)?;
    }
    if weights.get("shared.weight").is_none() {
        rename_with(weights, "encoder.embed_tokens.weight", "shared.weight")?;
    }
    weights.retain(|path| path != "spiece_model" && path != "logit_scale");
    let of = |path: &str| match shape(weights, path) {
        Some(shape) => Ok((shape[0], shape.get(1).copied().unwrap_or(0))),
        None => fail!(Missing, "the encoder of T5 has no `{path}`; is the file whole?"),
    };
    let block = "encoder.block.0.layer";
    let gated = weights.get(&format!("{block}.1.DenseReluDense.wi_0.weight")).is_some();
    let inner = if gated { "wi_0" } else { "wi" };
    let (vocabulary, width) = of("shared.weight")?;
    let (buckets, heads) = of(&format!("{block}.0.SelfAttention.relative_attention_bias.weight"))?;
    let (queries, _) = of(&format!("{block}.0.SelfAttention.q.weight"))?;
    let (hidden, _) = of(&format!("{block}.1.DenseReluDense.{inner}.weight"))?;
    let layer = |i: &usize| weights.get(&format!("encoder.block.{i}.layer.0.SelfAttention.q.weight")).is_some();
    Ok(json!({
        "architectures": [CLASS],
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": queries / heads.max(1),
        "d_ff": hidden,
        "num_layers": (0..).take_while(layer).count(),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": if gated { "gated-gelu" } else { "relu" },
    }))
}
