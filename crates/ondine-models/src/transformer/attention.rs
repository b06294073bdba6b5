//! Attention to all tokens so far, whose keys and values are kept in states.

use ondine_graph::{Activation, Attention, Binary, DType, Dim, Mask, NDArray, Op, Result, Unary, Value, fail};

use super::{
    cache::{KvCache, States, cached},
    config::{Config, Layer},
    properties::QkNorm,
};
use crate::blocks::{Module, linear, rms_norm};

/// What the names of the states of several sequences begin with.
pub(super) const SEVERAL: &str = "batch.";

/// What all layers share of a call.
pub(super) struct Sequence {
    pub(super) tokens: Dim,
    /// Rows of a state that attention reads for a sequence: the tokens that it holds with those of this call, or room
    /// for as many as it can hold.
    pub(super) keys: Dim,
    /// I64 `[tokens]`.
    positions: Value,
    /// What keys and values are kept in, if they are.
    states: Option<States>,
    seen: Seen,
    /// Cosines and sines of each of [`Config::rotaries`].
    rotaries: Vec<[Value; 2]>,
    /// What is added to scores, by window: `[1, 1, tokens, keys]`.
    masks: Vec<(Option<usize>, Value)>,
}

/// Which keys a token sees, of those up to its own.
#[derive(Clone, Copy)]
enum Seen {
    /// All of them.
    All,
    /// Each token is one of a sequence of its own, which has so many tokens then: I64 `[tokens]`.
    Lengths(Value),
    /// Those of which this is true: `[1, tokens]`.
    Some(Value),
}

impl Sequence {
    pub(super) fn new(m: &mut Module<'_>, config: &Config, tokens: Dim, context: usize, kv: KvCache) -> Result<Self> {
        let count = m.input("past", DType::I64, Vec::<Dim>::new());
        let past = Dim::symbol("past_tokens");
        m.push(Op::Measure { size: past.clone(), most: &Dim::from(context) - &tokens }, &[count])?;
        let keys = &past + &tokens;
        let positions = m.push(Op::Range { start: past, step: 1, count: tokens.clone() }, &[])?;
        let states = Some(States { prefix: "", rows: context, places: positions, read: keys.clone(), kv });
        Self::at(m, config, tokens, keys, positions, states, Seen::All)?.with_masks(m, config)
    }

    /// With the masks that layers of a model add to scores which they compute as a matrix.
    fn with_masks(mut self, m: &mut Module<'_>, config: &Config) -> Result<Self> {
        for layer in config.layers.iter().filter(|_| config.scores()) {
            if !self.masks.iter().any(|(window, _)| *window == layer.window) {
                let mask = self.mask(m, layer.window)?;
                self.masks.push((layer.window, mask));
            }
        }
        Ok(self)
    }

    /// A whole text of which nothing is kept; tokens are not seen where `seen` `[1, tokens]` is false.
    pub(super) fn whole(m: &mut Module<'_>, config: &Config, tokens: Dim, seen: Value) -> Result<Self> {
        let positions = m.push(Op::Range { start: 0.into(), step: 1, count: tokens.clone() }, &[])?;
        Self::at(m, config, tokens.clone(), tokens, positions, None, Seen::Some(seen))?.with_masks(m, config)
    }

    /// One token each of several sequences, `context` rows of the states for each.
    pub(super) fn several(
        m: &mut Module<'_>,
        config: &Config,
        tokens: Dim,
        (context, most): (usize, usize),
        kv: KvCache,
    ) -> Result<Self> {
        let positions = m.input("past", DType::I64, [tokens.clone()]);
        let starts = m.push(Op::Range { start: 0.into(), step: context as i64, count: tokens.clone() }, &[])?;
        let places = m.add(starts, positions)?;
        let one = m.constant(NDArray::scalar(1_i64));
        let lengths = m.add(positions, one)?;
        let states =
            Some(States { prefix: SEVERAL, rows: most * context, places, read: &tokens * &Dim::from(context), kv });
        Self::at(m, config, tokens, context.into(), positions, states, Seen::Lengths(lengths))
    }

    fn at(
        m: &mut Module<'_>,
        config: &Config,
        tokens: Dim,
        keys: Dim,
        positions: Value,
        states: Option<States>,
        seen: Seen,
    ) -> Result<Self> {
        let rotaries = config.rotaries.iter().map(|rotary| rotary.tables(m, positions)).collect::<Result<_>>()?;
        Ok(Self { tokens, keys, positions, states, seen, rotaries, masks: Vec::new() })
    }

    /// 0 where a token sees a key: itself and those before it that are seen at all, of which a window takes the last;
    /// else minus infinity.
    fn mask(&self, m: &mut Module<'_>, window: Option<usize>) -> Result<Value> {
        let keys = m.push(Op::Range { start: 0.into(), step: 1, count: self.keys.clone() }, &[])?;
        let keys = m.reshape(keys, vec![1.into(), self.keys.clone()])?;
        let own = m.reshape(self.positions, vec![self.tokens.clone(), 1.into()])?;
        let mut hidden = m.binary(Binary::Less, own, keys)?;
        if let Some(window) = window {
            let width = m.constant(NDArray::scalar(window as i64 - 1));
            let end = m.add(keys, width)?;
            let past = m.binary(Binary::Less, end, own)?;
            hidden = m.binary(Binary::Or, hidden, past)?;
        }
        let (none, all) = (m.scalar(0.0), m.scalar(f32::NEG_INFINITY));
        let mut mask = m.push(Op::Select, &[hidden, all, none])?;
        if let Seen::Some(seen) = self.seen {
            mask = m.push(Op::Select, &[seen, mask, all])?;
        }
        m.reshape(mask, vec![1.into(), 1.into(), self.tokens.clone(), self.keys.clone()])
    }

    /// The last token alone, which sees what all of them see together.
    pub(super) fn last(&self, m: &mut Module<'_>) -> Result<Self> {
        let start = || &self.tokens - 1;
        let positions = m.slice(self.positions, 0, start(), self.tokens.clone())?;
        let row = |m: &mut Module<'_>, table: Value| m.slice(table, 0, start(), self.tokens.clone());
        let rotaries = self.rotaries.iter().map(|&[cos, sin]| Ok([row(m, cos)?, row(m, sin)?]));
        let rotaries = rotaries.collect::<Result<_>>()?;
        let masks =
            self.masks.iter().map(|&(window, mask)| Ok((window, m.slice(mask, 2, start(), self.tokens.clone())?)));
        let masks = masks.collect::<Result<_>>()?;
        let states = self.states.clone().map(|states| States { places: positions, ..states });
        Ok(Self { tokens: 1.into(), keys: self.keys.clone(), positions, states, seen: self.seen, rotaries, masks })
    }

    fn mask_of(&self, window: Option<usize>) -> Option<Value> {
        self.masks.iter().find(|(known, _)| *known == window).map(|(_, mask)| *mask)
    }
}

pub(super) fn norm(m: &mut Module<'_>, x: Value, config: &Config) -> Result<Value> {
    rms_norm(m, x, config.eps, config.norm_offset)
}

/// Appends the keys and values of a layer to its states, and yields all that these hold then: `[keys, width]` each.
pub(super) fn keys_and_values(
    m: &mut Module<'_>,
    x: Value,
    config: &Config,
    layer: &Layer,
    index: usize,
    sequence: &Sequence,
) -> Result<[Value; 2]> {
    let [k, v] = [Part::Keys, Part::Values].map(|part| projection(m, x, config, part));
    let k = position_heads(&mut m.at("k_norm"), k?, config.kv_heads, config, layer, sequence)?;
    let v = clipped(m, v?, config)?;
    let states = sequence.states.as_ref();
    Ok([cached(m, "keys", index, k, config, states)?, cached(m, "values", index, v, config, states)?])
}

/// What the tokens `x` of `sequence` take from keys and values: `[tokens, hidden_size]`.
pub(super) fn self_attention(
    m: &mut Module<'_>,
    x: Value,
    [keys, values]: [Value; 2],
    config: &Config,
    layer: &Layer,
    sequence: &Sequence,
) -> Result<Value> {
    let &Config { heads, kv_heads, head_dim, .. } = config;
    let q = projection(m, x, config, Part::Queries)?;
    let q = position_heads(&mut m.at("q_norm"), q, heads, config, layer, sequence)?;
    let mixed = match config.soft_caps.attention {
        cap if config.scores() => {
            scored_attention(m, [q, keys, values], config, cap, sequence.mask_of(layer.window), sequence)?
        }
        _ => {
            let (mask, given) = match sequence.seen {
                Seen::All => (Mask::None, None),
                Seen::Lengths(lengths) => (Mask::Lengths, Some(lengths)),
                Seen::Some(seen) => (Mask::Keys, Some(seen)),
            };
            let scale = config.scales.attention;
            let attention = Attention { heads, kv_heads, scale, causal: true, window: layer.window, mask };
            let (batch, queries) = match sequence.seen {
                Seen::Lengths(_) => (sequence.tokens.clone(), 1.into()),
                Seen::All | Seen::Some(_) => (1.into(), sequence.tokens.clone()),
            };
            let split = |m: &mut Module<'_>, x: Value, rows: &Dim, width: usize| {
                m.reshape(x, vec![batch.clone(), rows.clone(), width.into()])
            };
            let q = split(m, q, &queries, heads * head_dim)?;
            let keys = split(m, keys, &sequence.keys, kv_heads * head_dim)?;
            let values = split(m, values, &sequence.keys, kv_heads * head_dim)?;
            m.attention(attention, [q, keys, values], given)?
        }
    };
    let mixed = m.reshape(mixed, vec![sequence.tokens.clone(), (heads * head_dim).into()])?;
    linear(&mut m.at("o_proj"), mixed, config.hidden_size, config.bias.out)
}

/// What a token is turned into.
#[derive(Clone, Copy)]
enum Part {
    Queries,
    Keys,
    Values,
}

/// Queries `[tokens, heads * head_dim]`, or keys or values `[tokens, kv_heads * head_dim]`.
fn projection(m: &mut Module<'_>, x: Value, config: &Config, part: Part) -> Result<Value> {
    let (wide, narrow) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let (name, from, width) = match part {
        Part::Queries => ("q_proj", 0, wide),
        Part::Keys => ("k_proj", wide, narrow),
        Part::Values => ("v_proj", wide + narrow, narrow),
    };
    if !config.fused {
        return linear(&mut m.at(name), x, width, config.bias.qkv);
    }
    // Of what all parts compute alike, one remains.
    let all = linear(&mut m.at("qkv_proj"), x, wide + 2 * narrow, config.bias.qkv)?;
    m.slice(all, 1, from, from + width)
}

/// Queries or keys normed and turned to their positions, in the order that the config says; `m` is their norm.
fn position_heads(
    m: &mut Module<'_>,
    x: Value,
    heads: usize,
    config: &Config,
    layer: &Layer,
    sequence: &Sequence,
) -> Result<Value> {
    let flat = [sequence.tokens.clone(), (heads * config.head_dim).into()].to_vec();
    let x = if config.qk_norm == QkNorm::Whole { norm(m, x, config)? } else { x };
    let x = clipped(m, x, config)?;
    let mut x = m.reshape(x, vec![sequence.tokens.clone(), heads.into(), config.head_dim.into()])?;
    if config.qk_norm == QkNorm::BeforeRotary {
        x = norm(m, x, config)?;
    }
    if let Some(rotary) = layer.rotary {
        x = config.rotaries[rotary].turn(m, x, sequence.rotaries[rotary])?;
    }
    if config.qk_norm == QkNorm::AfterRotary {
        x = norm(m, x, config)?;
    }
    m.reshape(x, flat)
}

/// Queries, keys or values within the bounds of the config.
fn clipped(m: &mut Module<'_>, x: Value, config: &Config) -> Result<Value> {
    let Some(clip) = config.clip else { return Ok(x) };
    let (most, least) = (m.scalar(clip), m.scalar(-clip));
    let x = m.binary(Binary::Min, x, most)?;
    m.binary(Binary::Max, x, least)
}

/// Attention whose scores are `cap * tanh(score / cap)` (Gemma 2), or of which a part is given to no token: each head
/// has a sink, a score that takes part in the softmax (gpt-oss; Xiao et al. 2023).
fn scored_attention(
    m: &mut Module<'_>,
    [q, keys, values]: [Value; 3],
    config: &Config,
    cap: Option<f32>,
    mask: Option<Value>,
    sequence: &Sequence,
) -> Result<Value> {
    let Some(mask) = mask else { fail!(Internal, "scores without a mask") };
    let &Config { heads, kv_heads, head_dim, .. } = config;
    let group = heads / kv_heads;
    let (tokens, all) = (&sequence.tokens, &sequence.keys);
    // The heads that share a key head are rows of one product.
    let q = m.reshape(q, vec![tokens.clone(), kv_heads.into(), group.into(), head_dim.into()])?;
    let q = m.permute(q, &[1, 2, 0, 3])?;
    let rows = tokens * group;
    let q = m.reshape(q, vec![kv_heads.into(), rows.clone(), head_dim.into()])?;
    let split = |m: &mut Module<'_>, x: Value| {
        let x = m.reshape(x, vec![all.clone(), kv_heads.into(), head_dim.into()])?;
        m.permute(x, &[1, 0, 2])
    };
    let (keys, values) = (split(m, keys)?, split(m, values)?);
    let scores = m.push(Op::MatMul { transposed: true }, &[q, keys])?;
    let scores = match cap {
        Some(cap) => {
            let scores = m.affine(scores, config.scales.attention / cap, 0.0)?;
            let scores = m.unary(Unary::Activation(Activation::Tanh), scores)?;
            m.affine(scores, cap, 0.0)?
        }
        None => m.affine(scores, config.scales.attention, 0.0)?,
    };
    let scores = m.reshape(scores, vec![kv_heads.into(), group.into(), tokens.clone(), all.clone()])?;
    let scores = m.add(scores, mask)?;
    let weights = if config.sinks {
        let sinks = m.tensor("sinks", &[heads])?;
        let sinks = m.reshape(sinks, [kv_heads, group, 1, 1])?;
        let shape = vec![kv_heads.into(), group.into(), tokens.clone(), 1.into()];
        let sinks = m.push(Op::Expand(shape.into()), &[sinks])?;
        let scores = m.concat(&[scores, sinks], 3)?;
        let weights = m.softmax(scores)?;
        m.slice(weights, 3, 0, all.clone())?
    } else {
        m.softmax(scores)?
    };
    let weights = m.reshape(weights, vec![kv_heads.into(), rows, all.clone()])?;
    let mixed = m.push(Op::MatMul { transposed: false }, &[weights, values])?;
    let mixed = m.reshape(mixed, vec![kv_heads.into(), group.into(), tokens.clone(), head_dim.into()])?;
    m.permute(mixed, &[2, 0, 1, 3])
}
