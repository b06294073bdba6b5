//! The layer that the encoders of CLIP repeat, of text and of pictures.

use ondine_graph::{Activation, Result, Value};

use super::{
    attention::{AttentionSpec, Projections, attention, feed_forward},
    layers::layer_norm,
    module::Module,
};

/// The facts of a layer.
#[derive(Clone, Copy, Debug)]
pub struct ClipLayer {
    /// Number of attention heads; divides the width.
    pub heads: usize,
    /// Width inside the feed-forward layers.
    pub hidden: usize,
    /// Activation inside the feed-forward layers.
    pub activation: Activation,
    /// Added to the variance in layer norms.
    pub eps: f32,
    /// True if a token sees itself and those before it only.
    pub causal: bool,
}

/// `CLIPEncoderLayer` of transformers: `[b, tokens, width]` to the same.
///
/// # Errors
/// If the heads do not divide the width.
pub fn clip_layer(m: &mut Module<'_>, x: Value, layer: &ClipLayer) -> Result<Value> {
    let spec = AttentionSpec {
        names: Projections { q: "q_proj", k: "k_proj", v: "v_proj", out: "out_proj" },
        heads: layer.heads,
        bias: true,
        causal: layer.causal,
        mask: None,
    };
    let h = layer_norm(&mut m.at("layer_norm1"), x, layer.eps)?;
    let h = attention(&mut m.at("self_attn"), h, None, &spec)?;
    let x = m.add(x, h)?;
    let h = layer_norm(&mut m.at("layer_norm2"), x, layer.eps)?;
    let h = feed_forward(&mut m.at("mlp"), h, ["fc1", "fc2"], layer.hidden, layer.activation)?;
    m.add(x, h)
}
