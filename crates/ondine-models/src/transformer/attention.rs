//! Attention to all tokens so far, whose keys and values are kept in states.

use ondine_graph::{Activation, Attention, Binary, DType, Dim, Mask, NDArray, Op, Result, Unary, Value, fail};

use super::{
    cache::{Read, States, cached},
    config::{Config, Layer},
    properties::QkNorm,
    room::{Room, Rows},
};
use crate::blocks::{Module, linear, rms_norm};

/// What the names of the states of several sequences begin with.
pub(super) const SEVERAL: &str = "batch.";

/// What all layers share of a call.
pub(super) struct Sequence {
    pub(super) tokens: Dim,
    /// The tokens that a sequence holds with those of this call, or room for as many as it can hold.
    pub(super) keys: Dim,
    /// I64 `[tokens]`.
    positions: Value,
    /// What keys and values of each layer are kept in, if they are.
    states: Vec<Option<States>>,
    seen: Seen,
    /// I64, one for each sequence: how many tokens it has with those of this call, if a layer asks.
    lengths: Option<Value>,
    /// Cosines and sines of each of [`Config::rotaries`].
    rotaries: Vec<[Value; 2]>,
    masks: Vec<Masked>,
}

/// What is added to the scores of layers that compute them as a matrix.
#[derive(Clone)]
struct Masked {
    window: Option<usize>,
    /// The first key that they read, and how many.
    first: Dim,
    keys: Dim,
    /// `[1, 1, tokens, keys]`
    mask: Value,
}

/// What attention reads of a layer.
#[derive(Clone)]
pub(super) struct KeysAndValues {
    /// `[keys, width]` each, of several sequences one after the other.
    rows: [Value; 2],
    /// Keys of a sequence.
    keys: Dim,
    /// True if they are a ring.
    ring: bool,
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
    pub(super) fn new(m: &mut Module<'_>, config: &Config, tokens: Dim, room: Room) -> Result<Self> {
        let count = m.input("past", DType::I64, Vec::<Dim>::new());
        let past = Dim::symbol("past_tokens");
        m.push(Op::Measure { size: past.clone(), most: &Dim::from(room.context) - &tokens }, &[count])?;
        let keys = &past + &tokens;
        let positions = m.push(Op::Range { start: past.clone(), step: 1, count: tokens.clone() }, &[])?;
        let mut sequence = Self::at(m, config, tokens, keys.clone(), positions, Seen::All)?;
        if config.scores() {
            sequence.add_masks(m, config, Some((count, &past)), room)?;
        }
        for (index, rows) in room.all_rows(config) {
            let places = in_ring(m, positions, rows)?;
            let read = match sequence.masked(config.layers[index].window).filter(|_| config.scores()) {
                Some(Masked { first, keys, .. }) if rows.are_ring() => {
                    let held = m.push(Op::Range { start: first.clone(), step: 1, count: keys.clone() }, &[])?;
                    Read::Rows { rows: in_ring(m, held, rows)?, count: keys.clone() }
                }
                Some(Masked { first, keys, .. }) => Read::Slice { start: first.clone(), count: keys.clone() },
                None if rows.are_ring() => Read::Slice { start: 0.into(), count: rows.count.into() },
                None => Read::Slice { start: 0.into(), count: keys.clone() },
            };
            let ring = rows.are_ring() && matches!(read, Read::Slice { .. });
            if ring && sequence.lengths.is_none() {
                sequence.lengths = Some(m.push(Op::Range { start: keys.clone(), step: 1, count: 1.into() }, &[])?);
            }
            let keys = read.count().clone();
            sequence.states[index] =
                Some(States { prefix: "", rows: rows.count, places, read, keys, ring, kv: room.kv });
        }
        Ok(sequence)
    }

    /// Adds the masks of layers that compute scores as a matrix. With the number of tokens that are held, a value and
    /// a size, those behind a window read no key before it.
    fn add_masks(
        &mut self,
        m: &mut Module<'_>,
        config: &Config,
        past: Option<(Value, &Dim)>,
        room: Room,
    ) -> Result<()> {
        for &Layer { window, .. } in &config.layers {
            if self.masked(window).is_some() {
                continue;
            }
            let (first, keys) = match (past, window) {
                (Some((count, past)), Some(window)) if window < room.context => {
                    let most = m.constant(NDArray::scalar(window as i64 - 1));
                    let held = m.binary(Binary::Min, count, most)?;
                    let size = Dim::symbol(&format!("tokens_held_of_{window}"));
                    m.push(Op::Measure { size: size.clone(), most: (window - 1).into() }, &[held])?;
                    (past - &size, &size + &self.tokens)
                }
                _ => (0.into(), self.keys.clone()),
            };
            let mask = self.mask(m, window, [&first, &keys])?;
            self.masks.push(Masked { window, first, keys, mask });
        }
        Ok(())
    }

    /// A whole text of which nothing is kept; tokens are not seen where `seen` `[1, tokens]` is false.
    pub(super) fn whole(m: &mut Module<'_>, config: &Config, tokens: Dim, seen: Value) -> Result<Self> {
        let positions = m.push(Op::Range { start: 0.into(), step: 1, count: tokens.clone() }, &[])?;
        let mut sequence = Self::at(m, config, tokens.clone(), tokens, positions, Seen::Some(seen))?;
        if config.scores() {
            sequence.add_masks(m, config, None, Room::whole(config.max_positions, Default::default()))?;
        }
        Ok(sequence)
    }

    /// One token each of up to `most` sequences, each of which has rows of its own in the states.
    pub(super) fn several(m: &mut Module<'_>, config: &Config, tokens: &Dim, room: Room, most: usize) -> Result<Self> {
        let positions = m.input("past", DType::I64, [tokens.clone()]);
        let one = m.constant(NDArray::scalar(1_i64));
        let lengths = m.add(positions, one)?;
        let seen = Seen::Lengths(lengths);
        let mut sequence = Self::at(m, config, tokens.clone(), room.context.into(), positions, seen)?;
        sequence.lengths = Some(lengths);
        for (index, rows) in room.all_rows(config) {
            let start = Op::Range { start: 0.into(), step: rows.count as i64, count: tokens.clone() };
            let starts = m.push(start, &[])?;
            let places = in_ring(m, positions, rows)?;
            let places = m.add(starts, places)?;
            let read = Read::Slice { start: 0.into(), count: tokens * &Dim::from(rows.count) };
            let (count, keys) = (most * rows.count, rows.count.into());
            let ring = rows.are_ring();
            sequence.states[index] =
                Some(States { prefix: SEVERAL, rows: count, places, read, keys, ring, kv: room.kv });
        }
        Ok(sequence)
    }

    fn at(m: &mut Module<'_>, config: &Config, tokens: Dim, keys: Dim, positions: Value, seen: Seen) -> Result<Self> {
        let rotaries = config.rotaries.iter().map(|rotary| rotary.tables(m, positions)).collect::<Result<_>>()?;
        let states = vec![None; config.layers.len()];
        Ok(Self { tokens, keys, positions, states, seen, lengths: None, rotaries, masks: Vec::new() })
    }

    /// 0 where a token sees a key: itself and those before it that are seen at all, of which a window takes the last;
    /// else minus infinity.
    fn mask(&self, m: &mut Module<'_>, window: Option<usize>, [first, count]: [&Dim; 2]) -> Result<Value> {
        let keys = m.push(Op::Range { start: first.clone(), step: 1, count: count.clone() }, &[])?;
        let keys = m.reshape(keys, vec![1.into(), count.clone()])?;
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
        m.reshape(mask, vec![1.into(), 1.into(), self.tokens.clone(), count.clone()])
    }

    /// The last token alone, which sees what all of them see together.
    pub(super) fn last(&self, m: &mut Module<'_>) -> Result<Self> {
        let start = || &self.tokens - 1;
        let positions = m.slice(self.positions, 0, start(), self.tokens.clone())?;
        let row = |m: &mut Module<'_>, table: Value| m.slice(table, 0, start(), self.tokens.clone());
        let rotaries = self.rotaries.iter().map(|&[cos, sin]| Ok([row(m, cos)?, row(m, sin)?]));
        let rotaries = rotaries.collect::<Result<_>>()?;
        let masks = self.masks.iter().map(|masked| {
            let mask = m.slice(masked.mask, 2, start(), self.tokens.clone())?;
            Ok(Masked { mask, ..masked.clone() })
        });
        let masks = masks.collect::<Result<_>>()?;
        // All keys have been written: no layer behind this one has keys of its own.
        let states = vec![None; self.states.len()];
        let (keys, lengths) = (self.keys.clone(), self.lengths);
        Ok(Self { tokens: 1.into(), keys, positions, states, seen: self.seen, lengths, rotaries, masks })
    }

    fn masked(&self, window: Option<usize>) -> Option<&Masked> {
        self.masks.iter().find(|masked| masked.window == window)
    }
}

/// The rows of positions, I64.
fn in_ring(m: &mut Module<'_>, positions: Value, rows: Rows) -> Result<Value> {
    if !rows.are_ring() {
        return Ok(positions);
    }
    let count = m.constant(NDArray::scalar(rows.count as i64));
    m.binary(Binary::Remainder, positions, count)
}

pub(super) fn norm(m: &mut Module<'_>, x: Value, config: &Config) -> Result<Value> {
    rms_norm(m, x, config.eps, config.norm_offset)
}

/// Appends the keys and values of a layer to its states, and yields what attention reads of these then.
pub(super) fn keys_and_values(
    m: &mut Module<'_>,
    x: Value,
    config: &Config,
    layer: &Layer,
    index: usize,
    sequence: &Sequence,
) -> Result<KeysAndValues> {
    let [k, v] = [Part::Keys, Part::Values].map(|part| projection(m, x, config, part));
    let k = position_heads(&mut m.at("k_norm"), k?, config.kv_heads, config, layer, sequence)?;
    let v = clipped(m, v?, config)?;
    let states = sequence.states[index].as_ref();
    let rows = [cached(m, "keys", index, k, config, states)?, cached(m, "values", index, v, config, states)?];
    let (keys, ring) = states.map_or((&sequence.keys, false), |states| (&states.keys, states.ring));
    Ok(KeysAndValues { rows, keys: keys.clone(), ring })
}

/// What the tokens `x` of `sequence` take from keys and values: `[tokens, hidden_size]`.
pub(super) fn self_attention(
    m: &mut Module<'_>,
    x: Value,
    kept: &KeysAndValues,
    config: &Config,
    layer: &Layer,
    sequence: &Sequence,
) -> Result<Value> {
    let &Config { heads, kv_heads, head_dim, .. } = config;
    let &KeysAndValues { rows: [keys, values], keys: ref count, ring } = kept;
    let q = projection(m, x, config, Part::Queries)?;
    let q = position_heads(&mut m.at("q_norm"), q, heads, config, layer, sequence)?;
    let mixed = match config.soft_caps.attention {
        cap if config.scores() => {
            scored_attention(m, [q, keys, values], config, cap, sequence.masked(layer.window), &sequence.tokens)?
        }
        _ => {
            let (mask, given) = match sequence.seen {
                _ if ring => (Mask::Ring, sequence.lengths),
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
            let keys = split(m, keys, count, kv_heads * head_dim)?;
            let values = split(m, values, count, kv_heads * head_dim)?;
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
    masked: Option<&Masked>,
    tokens: &Dim,
) -> Result<Value> {
    let Some(Masked { mask, keys: all, .. }) = masked else { fail!(Internal, "scores without a mask") };
    let &Config { heads, kv_heads, head_dim, .. } = config;
    let group = heads / kv_heads;
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
    let scores = m.add(scores, *mask)?;
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
