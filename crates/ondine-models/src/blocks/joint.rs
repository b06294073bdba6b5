//! Blocks of multimodal diffusion transformers, in which text and picture attend to each other with weights of their
//! own (MMDiT, Esser et al. 2024), or are one sequence with the same (the single blocks of `FLUX`).

use ondine_graph::{Activation, Attention, Dim, Mask, Op, Result, Value};

use super::{
    attention::{Projections, feed_forward},
    layers::{linear, rms_norm},
    modulation::{Modulation, continuous_norm, modulated, modulation_parts, modulations, plain_layer_norm},
    module::Module,
};

/// The inputs for latents that a network looks at beside those that it denoises.
pub const REFERENCES: [&str; 4] = ["reference_0", "reference_1", "reference_2", "reference_3"];

/// What is asked of the graph of a network of such blocks.
#[derive(Clone, Debug)]
pub struct JointOptions {
    /// Number of latents.
    pub batch: Dim,
    /// Number of text tokens.
    pub tokens: Dim,
    /// Height of the latents, in tokens.
    pub rows: Dim,
    /// Width of the latents, in tokens.
    pub columns: Dim,
    /// Height and width of latents that it looks at, in tokens.
    pub references: Vec<[Dim; 2]>,
}

impl Default for JointOptions {
    fn default() -> Self {
        let [batch, tokens, rows, columns] = ["batch", "tokens", "height", "width"].map(Dim::symbol);
        Self { batch, tokens, rows, columns, references: Vec::new() }
    }
}

impl JointOptions {
    /// With sizes of so many latents to look at, called after their inputs.
    #[must_use]
    pub fn looking_at(references: usize) -> Self {
        let side = |name: &str, side: &str| Dim::symbol(&format!("{name}_{side}"));
        let names = REFERENCES.iter().take(references);
        let references = names.map(|name| ["height", "width"].map(|of| side(name, of))).collect();
        Self { references, ..Self::default() }
    }
}

/// Sequences `[b, n, any]` one after the other.
///
/// # Errors
/// If their widths differ.
pub fn one_sequence(m: &mut Module<'_>, parts: &[Value]) -> Result<Value> {
    match parts {
        [one] => Ok(*one),
        several => m.concat(several, 1),
    }
}

/// The facts of the attentions of a network.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Number of heads.
    pub count: usize,
    /// Features of a head.
    pub width: usize,
    /// What is added to the mean squares of queries and keys, which are normed head by head, if they are.
    pub normed: Option<f32>,
    /// True if the projections have biases.
    pub bias: bool,
    /// Cosines and sines `[b, text and picture, 1, pairs]` by which queries and keys are turned, neighbours being a
    /// pair.
    pub rotary: Option<[Value; 2]>,
    /// How many tokens of each sequence are seen, I64 `[b]`, if not all.
    pub lengths: Option<Value>,
}

/// What is added to mean squares when queries and keys are normed, in most of these networks.
pub const NORM_EPS: f32 = 1e-6;

/// What a checkpoint calls the projections of the text in a joint attention.
const TEXT: Projections = Projections { q: "add_q_proj", k: "add_k_proj", v: "add_v_proj", out: "to_add_out" };

impl Heads {
    fn inner(&self) -> usize {
        self.count * self.width
    }

    /// Queries or keys of a stream: projected, and normed if they are. `[b, n, heads, width]`
    fn projected(&self, m: &mut Module<'_>, x: Value, [name, norm]: [&str; 2]) -> Result<Value> {
        let heads = linear(&mut m.at(name), x, self.inner(), self.bias)?;
        self.split(m, heads, norm)
    }

    /// Projected queries or keys `[b, n, inner]` by heads, and normed if they are: `[b, n, heads, width]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn split(&self, m: &mut Module<'_>, heads: Value, norm: &str) -> Result<Value> {
        let [batch, tokens] = [0, 1].map(|axis| m.dim(heads, axis));
        let heads = m.reshape(heads, vec![batch, tokens, self.count.into(), self.width.into()])?;
        self.normed.map_or(Ok(heads), |eps| rms_norm(&mut m.at(norm), heads, eps, 0.0))
    }

    /// What every token takes from all, `[b, n, inner]`, of queries and keys `[b, n, heads, width]` and values
    /// `[b, n, inner]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn attend(&self, m: &mut Module<'_>, [q, k, v]: [Value; 3]) -> Result<Value> {
        let flat = m.shape(v).clone();
        let mut side = |x: Value| {
            let turned = match self.rotary {
                Some([cos, sin]) => m.push(Op::Rotate { interleaved: true }, &[x, cos, sin])?,
                None => x,
            };
            m.reshape(turned, flat.clone())
        };
        let (q, k) = (side(q)?, side(k)?);
        let attention = Attention {
            heads: self.count,
            kv_heads: self.count,
            scale: 1.0 / (self.width as f32).sqrt(),
            causal: false,
            window: None,
            mask: if self.lengths.is_some() { Mask::Lengths } else { Mask::None },
        };
        m.attention(attention, [q, k, v], self.lengths)
    }

    /// Queries, keys and values of one stream.
    fn stream(&self, m: &mut Module<'_>, x: Value, names: Projections, norms: [&str; 2]) -> Result<[Value; 3]> {
        let q = self.projected(m, x, [names.q, norms[0]])?;
        let k = self.projected(m, x, [names.k, norms[1]])?;
        Ok([q, k, linear(&mut m.at(names.v), x, self.inner(), self.bias)?])
    }

    /// Attention of a stream `[b, n, any]` to itself, `[b, n, inner]`, without the projection of the result.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn alone(&self, m: &mut Module<'_>, x: Value) -> Result<Value> {
        let qkv = self.stream(m, x, Projections::DIFFUSERS, ["norm_q", "norm_k"])?;
        self.attend(m, qkv)
    }

    /// Attention of text and picture to both: of the text, which comes first in the sequence, and of the picture. The
    /// text is left as it is mixed if it ends here.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn joint(&self, m: &mut Module<'_>, text: Value, x: Value, last: bool) -> Result<[Value; 2]> {
        let own = self.stream(m, x, Projections::DIFFUSERS, ["norm_q", "norm_k"])?;
        let added = self.stream(m, text, TEXT, ["norm_added_q", "norm_added_k"])?;
        let mut all = own;
        for (all, added) in all.iter_mut().zip(added) {
            *all = m.concat(&[added, *all], 1)?;
        }
        let mixed = self.attend(m, all)?;
        let (start, end) = (m.dim(text, 1), m.dim(mixed, 1));
        let mut of_text = m.slice(mixed, 1, 0, start.clone())?;
        if !last {
            of_text = linear(&mut m.at(TEXT.out), of_text, self.inner(), self.bias)?;
        }
        let of_picture = m.slice(mixed, 1, start, end)?;
        Ok([of_text, linear(&mut m.at(Projections::DIFFUSERS.out), of_picture, self.inner(), self.bias)?])
    }
}

/// What differs from one joint block to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct JointBlock {
    /// True if the picture attends to itself besides (MMDiT-X).
    pub dual: bool,
    /// True if the text ends here: nothing after it asks for it.
    pub last: bool,
}

/// A block with weights of their own for text `[b, tokens, inner]` and picture `[b, n, inner]` (`JointTransformerBlock`
/// and `FluxTransformerBlock` of diffusers), led by the activated vector `cond`. Yields text and picture; the text is
/// as it was if it ends here.
///
/// # Errors
/// If the shapes do not fit.
pub fn joint_block(
    m: &mut Module<'_>,
    [text, x]: [Value; 2],
    cond: Value,
    heads: &Heads,
    block: JointBlock,
) -> Result<[Value; 2]> {
    let width = heads.inner();
    let (own, second) = if block.dual {
        let [first, mlp, second] = modulations::<3>(&mut m.at("norm1"), cond, width, true)?;
        ([first, mlp], Some(second))
    } else {
        (modulations::<2>(&mut m.at("norm1"), cond, width, true)?, None)
    };
    let plain = plain_layer_norm(&mut m.at("norm1.norm"), x)?;
    let normed = modulated(m, plain, own[0].scale, own[0].shift)?;

    let of_text =
        if block.last { None } else { Some(modulations::<2>(&mut m.at("norm1_context"), cond, width, true)?) };
    let normed_text = match &of_text {
        None => continuous_norm(&mut m.at("norm1_context"), text, cond, true)?,
        Some([first, _]) => {
            let plain = plain_layer_norm(&mut m.at("norm1_context.norm"), text)?;
            modulated(m, plain, first.scale, first.shift)?
        }
    };
    let [mixed_text, mixed] = heads.joint(&mut m.at("attn"), normed_text, normed, block.last)?;

    let mut x = gated(m, x, mixed, own[0].gate)?;
    if let Some(second) = second {
        let normed = modulated(m, plain, second.scale, second.shift)?;
        let m = &mut m.at("attn2");
        let mixed = Heads { rotary: None, ..*heads }.alone(m, normed)?;
        let mixed = linear(&mut m.at(Projections::DIFFUSERS.out), mixed, width, true)?;
        x = gated(m, x, mixed, second.gate)?;
    }
    let x = feed(m, x, ["norm2", "ff"], own[1])?;
    let Some([first, second]) = of_text else { return Ok([text, x]) };
    let text = gated(m, text, mixed_text, first.gate)?;
    Ok([feed(m, text, ["norm2_context", "ff_context"], second)?, x])
}

/// The feed-forward of a stream with its norm; `names` are theirs.
fn feed(m: &mut Module<'_>, x: Value, names: [&str; 2], by: Modulation) -> Result<Value> {
    let width = m.width(x)?;
    let h = plain_layer_norm(&mut m.at(names[0]), x)?;
    let h = modulated(m, h, by.scale, by.shift)?;
    let h = feed_forward(&mut m.at(names[1]), h, ["net.0.proj", "net.2"], 4 * width, Activation::GeluTanh)?;
    gated(m, x, h, by.gate)
}

/// `x` plus `change` times `gate` `[b, 1, width]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn gated(m: &mut Module<'_>, x: Value, change: Value, gate: Value) -> Result<Value> {
    let change = m.mul(change, gate)?;
    m.add(x, change)
}

/// A block with the same weights for all of a sequence `[b, n, inner]`, whose attention and feed-forward, `hidden` wide
/// inside, stand side by side (`FluxSingleTransformerBlock` of diffusers).
///
/// # Errors
/// If the shapes do not fit.
pub fn single_block(m: &mut Module<'_>, x: Value, cond: Value, heads: &Heads, hidden: usize) -> Result<Value> {
    let width = heads.inner();
    let parts = modulation_parts(&mut m.at("norm"), cond, width, 3, true)?;
    let plain = plain_layer_norm(&mut m.at("norm.norm"), x)?;
    let normed = modulated(m, plain, parts[1], parts[0])?;
    let mixed = heads.alone(&mut m.at("attn"), normed)?;
    let mlp = linear(&mut m.at("proj_mlp"), normed, hidden, true)?;
    let mlp = m.activation(Activation::GeluTanh, mlp)?;
    let both = m.concat(&[mixed, mlp], 2)?;
    let change = linear(&mut m.at("proj_out"), both, width, true)?;
    gated(m, x, change, parts[2])
}
