//! Attention, the layers that follow it, and the transformer over feature maps.

use ondine_graph::{Activation, Attention, Mask, Result, Value};

use super::{
    layers::{conv_same, group_norm, layer_norm, linear},
    module::Module,
};
use crate::config::divides;

/// What a checkpoint calls the four projections of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Projections {
    /// Queries.
    pub q: &'static str,
    /// Keys.
    pub k: &'static str,
    /// Values.
    pub v: &'static str,
    /// The projection of the result.
    pub out: &'static str,
}

impl Projections {
    /// The names in diffusers.
    pub const DIFFUSERS: Self = Self { q: "to_q", k: "to_k", v: "to_v", out: "to_out.0" };
}

/// The facts of an attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSpec {
    /// The names of its projections.
    pub names: Projections,
    /// Number of heads; divides the width.
    pub heads: usize,
    /// True if the projections of queries, keys and values have a bias; that of the result always has.
    pub bias: bool,
    /// True if a token sees itself and those before it only.
    pub causal: bool,
    /// A truth value per key, `[batch, keys]`; false hides the key.
    pub mask: Option<Value>,
}

/// Multi-head attention (Vaswani et al. 2017) of `x` `[b, n, width]` to `context` `[b, keys, any]`, or to itself
/// if there is none. Yields `[b, n, width]`, without the residual.
///
/// # Errors
/// If the heads do not divide the width.
pub fn attention(m: &mut Module<'_>, x: Value, context: Option<Value>, spec: &AttentionSpec) -> Result<Value> {
    decoupled_attention(m, x, context, &[], spec)
}

/// Tokens of a picture that cross-attentions attend to beside the text (Ye et al. 2023).
#[derive(Clone, Copy, Debug)]
pub struct ImageTokens {
    /// What keys are made of, `[b, tokens, any]`.
    pub keys: Value,
    /// What values are made of, of the same shape.
    pub values: Value,
}

/// As [`attention`], to whose mixture those of the same queries with tokens of `images` are added, each with keys and
/// values of its own: `processor.to_k_ip.0`, `processor.to_v_ip.0` in the names of diffusers.
fn decoupled_attention(
    m: &mut Module<'_>,
    x: Value,
    context: Option<Value>,
    images: &[ImageTokens],
    spec: &AttentionSpec,
) -> Result<Value> {
    let width = m.width(x)?;
    divides("heads", spec.heads, "the width", width)?;
    let context = context.unwrap_or(x);
    let q = linear(&mut m.at(spec.names.q), x, width, spec.bias)?;
    let k = linear(&mut m.at(spec.names.k), context, width, spec.bias)?;
    let v = linear(&mut m.at(spec.names.v), context, width, spec.bias)?;
    let attention = Attention {
        heads: spec.heads,
        kv_heads: spec.heads,
        scale: 1.0 / ((width / spec.heads) as f32).sqrt(),
        causal: spec.causal,
        window: None,
        mask: if spec.mask.is_some() { Mask::Keys } else { Mask::None },
    };
    let mut mixed = m.attention(attention, [q, k, v], spec.mask)?;
    for (i, image) in images.iter().enumerate() {
        let k = linear(&mut m.at(format_args!("processor.to_k_ip.{i}")), image.keys, width, false)?;
        let v = linear(&mut m.at(format_args!("processor.to_v_ip.{i}")), image.values, width, false)?;
        let beside = m.attention(Attention { mask: Mask::None, ..attention }, [q, k, v], None)?;
        mixed = m.add(mixed, beside)?;
    }
    linear(&mut m.at(spec.names.out), mixed, width, true)
}

/// Two linear layers around an activation; `names` are theirs, `hidden` is the width between them.
///
/// # Errors
/// If the shapes do not fit.
pub fn feed_forward(
    m: &mut Module<'_>,
    x: Value,
    names: [&str; 2],
    hidden: usize,
    activation: Activation,
) -> Result<Value> {
    let out = m.width(x)?;
    let x = linear(&mut m.at(names[0]), x, hidden, true)?;
    let x = m.activation(activation, x)?;
    linear(&mut m.at(names[1]), x, out, true)
}

/// The gated feed-forward of diffusers (Shazeer 2020), four times as wide inside.
///
/// # Errors
/// If the shapes do not fit.
pub fn geglu(m: &mut Module<'_>, x: Value) -> Result<Value> {
    let out = m.width(x)?;
    let x = linear(&mut m.at("net.0.proj"), x, 8 * out, true)?;
    let x = m.glu(x, Activation::Gelu)?;
    linear(&mut m.at("net.2"), x, out, true)
}

/// The facts of a transformer over feature maps.
#[derive(Clone, Copy, Debug)]
pub struct Transformer2D<'a> {
    /// Number of heads; a head has `channels / heads` features, rounded down.
    pub heads: usize,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Groups of the norm before.
    pub groups: usize,
    /// True if the projections around the blocks are linear layers, not 1x1 convolutions.
    pub linear_projection: bool,
    /// True if the first attention of a block is a cross-attention too.
    pub only_cross: bool,
    /// What the cross-attentions attend to, `[b, tokens, any]`.
    pub context: Value,
    /// A truth value per token, `[b, tokens]`; false hides the token from the second attention.
    pub context_mask: Option<Value>,
    /// What the second attention attends to beside the context.
    pub images: &'a [ImageTokens],
}

/// `Transformer2DModel` of diffusers, the spatial transformer of latent diffusion (Rombach et al. 2022):
/// `[b, h, w, c]` to the same.
///
/// # Errors
/// If the groups do not divide the channels, or there are more heads than channels.
pub fn transformer_2d(m: &mut Module<'_>, x: Value, spec: &Transformer2D<'_>) -> Result<Value> {
    let map = m.shape(x).clone();
    let channels = m.width(x)?;
    let inner = channels / spec.heads.max(1) * spec.heads;
    let [batch, height, columns] = [0, 1, 2].map(|axis| m.dim(x, axis));
    let sequence = |width: usize| vec![batch.clone(), &height * &columns, width.into()];

    let mut h = group_norm(&mut m.at("norm"), x, spec.groups, 1e-6)?;
    if spec.linear_projection {
        h = m.reshape(h, sequence(channels))?;
        h = linear(&mut m.at("proj_in"), h, inner, true)?;
    } else {
        h = conv_same(&mut m.at("proj_in"), h, inner, 1)?;
        h = m.reshape(h, sequence(inner))?;
    }
    for i in 0..spec.layers {
        h = transformer_block(&mut m.at(format_args!("transformer_blocks.{i}")), h, spec)?;
    }
    if spec.linear_projection {
        h = linear(&mut m.at("proj_out"), h, channels, true)?;
        h = m.reshape(h, map)?;
    } else {
        h = m.reshape(h, vec![batch, height, columns, inner.into()])?;
        h = conv_same(&mut m.at("proj_out"), h, channels, 1)?;
    }
    m.add(h, x)
}

/// `BasicTransformerBlock` of diffusers: self-attention, cross-attention, gated feed-forward, each after a norm.
fn transformer_block(m: &mut Module<'_>, x: Value, spec: &Transformer2D<'_>) -> Result<Value> {
    let attend =
        AttentionSpec { names: Projections::DIFFUSERS, heads: spec.heads, bias: false, causal: false, mask: None };
    let eps = 1e-5;

    let h = layer_norm(&mut m.at("norm1"), x, eps)?;
    let h = attention(&mut m.at("attn1"), h, spec.only_cross.then_some(spec.context), &attend)?;
    let x = m.add(h, x)?;

    let h = layer_norm(&mut m.at("norm2"), x, eps)?;
    let masked = AttentionSpec { mask: spec.context_mask, ..attend };
    let h = decoupled_attention(&mut m.at("attn2"), h, Some(spec.context), spec.images, &masked)?;
    let x = m.add(h, x)?;

    let h = layer_norm(&mut m.at("norm3"), x, eps)?;
    let h = geglu(&mut m.at("ff"), h)?;
    m.add(h, x)
}
