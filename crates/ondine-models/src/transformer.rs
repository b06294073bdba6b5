//! Decoder-only transformers: the language models of transformers' `...ForCausalLM` classes and of GGUF files.
//!
//! One definition serves all: families differ in the properties that [`Config`] holds (norms and where they stand,
//! rotary positions, windows, biases, scales, soft caps) and in nothing else. Weights are named as in transformers.
//!
//! Every function takes `input_ids` I64 `[tokens]` and `past` (I64, one number): how many tokens the states hold
//! already. It appends the keys and values of its tokens to the states `keys.N` and `values.N`
//! `[context, kv_heads * head_dim]`, which are written where they lie. The next call may name a smaller `past`: what
//! lies behind it is then overwritten, which is how a conversation is rewound.

mod config;
mod families;
mod gguf;
mod properties;
mod rotary;

use ondine_graph::{
    Activation, Asset, Attention, Binary, Context, DType, Dim, Graph, Mask, NDArray, Op, Result, Scatter, Unary, Value,
    fail,
};

use crate::{
    architecture::{Architecture, Functions, GraphSizes, Role, TextFacts},
    blocks::{Module, embedding, linear, rms_norm},
    gguf::Gguf,
};

pub use config::{Config, Layer, Scales, SoftCaps};
pub use families::{FAMILIES, Family, Windows};
pub use properties::{Bias, Norms, QkNorm};
pub use rotary::Rotary;

/// What a function yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// `logits` `[vocab_size]` of the last token: all that is needed to go on.
    Next,
    /// `logits` `[tokens, vocab_size]` of every token.
    All,
    /// `last_hidden_state` `[tokens, hidden_size]`, after the final norm, and `hidden_states.N`
    /// `[tokens, hidden_size]`: what enters layer N.
    States,
}

/// What is asked of a graph.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most tokens that the states hold.
    pub context: usize,
    /// What the function yields.
    pub output: Output,
}

/// Builds a function of the model.
///
/// # Errors
/// If the config is absurd, or the context is longer than the model was made for.
pub fn build(config: &Config, options: Options) -> Result<Graph> {
    config.check()?;
    if options.context == 0 || options.context > config.max_positions {
        let most = config.max_positions;
        fail!(Argument, "a context of {} tokens; the model was made for 1 to {most}", options.context);
    }
    let mut graph = Graph::new();
    graph.expect("tokens", 1);
    graph.limit("tokens", 1, options.context);
    let root = &mut Module::root(&mut graph);
    let tokens = Dim::symbol("tokens");
    let ids = root.input("input_ids", DType::I64, [tokens.clone()]);
    let sequence = Sequence::new(root, config, tokens, options.context)?;

    let m = &mut root.at("model");
    let mut x = embedding(&mut m.at("embed_tokens"), ids, [config.vocab_size, config.hidden_size])?;
    x = scaled(m, x, config.scales.embedding)?;
    for (index, layer) in config.layers.iter().enumerate() {
        if options.output == Output::States {
            m.output(&format!("hidden_states.{index}"), x);
        }
        x = decoder_layer(&mut m.at(format_args!("layers.{index}")), x, config, layer, index, &sequence)?;
    }
    if options.output == Output::Next {
        x = m.slice(x, 0, &sequence.tokens - 1, sequence.tokens)?;
    }
    let x = norm(&mut m.at("norm"), x, config)?;
    if options.output == Output::States {
        root.output("last_hidden_state", x);
        return Ok(graph);
    }
    let mut logits = head(root, x, config)?;
    if options.output == Output::Next {
        logits = root.reshape(logits, [config.vocab_size])?;
    }
    root.output("logits", logits);
    Ok(graph)
}

/// What all layers share of a call.
struct Sequence {
    tokens: Dim,
    /// Tokens in the states, with those of this call.
    keys: Dim,
    context: usize,
    /// I64 `[tokens]`.
    positions: Value,
    /// Cosines and sines of each of [`Config::rotaries`].
    rotaries: Vec<[Value; 2]>,
    /// What is added to scores, by window: `[1, 1, tokens, keys]`.
    masks: Vec<(Option<usize>, Value)>,
}

impl Sequence {
    fn new(m: &mut Module<'_>, config: &Config, tokens: Dim, context: usize) -> Result<Self> {
        let count = m.input("past", DType::I64, Vec::<Dim>::new());
        let past = Dim::symbol("past_tokens");
        m.push(Op::Measure { size: past.clone(), most: &Dim::from(context) - &tokens }, &[count])?;
        let keys = &past + &tokens;
        let positions = m.push(Op::Range { start: past, step: 1, count: tokens.clone() }, &[])?;
        let rotaries = config.rotaries.iter().map(|rotary| rotary.tables(m, positions)).collect::<Result<_>>()?;
        let mut sequence = Self { tokens, keys, context, positions, rotaries, masks: Vec::new() };
        for layer in &config.layers {
            let seen = sequence.masks.iter().any(|(window, _)| *window == layer.window);
            if needs_mask(config, layer) && !seen {
                let mask = sequence.mask(m, layer.window)?;
                sequence.masks.push((layer.window, mask));
            }
        }
        Ok(sequence)
    }

    /// 0 where a token sees a key: itself and those before it, of which a window takes the last; else minus infinity.
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
        let mask = m.push(Op::Select, &[hidden, all, none])?;
        m.reshape(mask, vec![1.into(), 1.into(), self.tokens.clone(), self.keys.clone()])
    }

    fn mask_of(&self, window: Option<usize>) -> Option<Value> {
        self.masks.iter().find(|(known, _)| *known == window).map(|(_, mask)| *mask)
    }
}

/// True if the order of tokens alone does not say what a token sees, or scores are capped before they are masked.
fn needs_mask(config: &Config, layer: &Layer) -> bool {
    layer.window.is_some() || config.soft_caps.attention.is_some()
}

fn decoder_layer(
    m: &mut Module<'_>,
    x: Value,
    config: &Config,
    layer: &Layer,
    index: usize,
    sequence: &Sequence,
) -> Result<Value> {
    let names = config.norms.names();
    let h = normed(m, x, config, names.before_attention)?;
    let h = self_attention(&mut m.at("self_attn"), h, config, layer, index, sequence)?;
    let h = normed(m, h, config, names.after_attention)?;
    let h = scaled(m, h, config.scales.residual)?;
    let x = m.add(x, h)?;

    let h = normed(m, x, config, names.before_mlp)?;
    let h = mlp(&mut m.at("mlp"), h, config)?;
    let h = normed(m, h, config, names.after_mlp)?;
    let h = scaled(m, h, config.scales.residual)?;
    m.add(x, h)
}

/// The norm of this name, if there is one at that place.
fn normed(m: &mut Module<'_>, x: Value, config: &Config, name: Option<&str>) -> Result<Value> {
    name.map_or(Ok(x), |name| norm(&mut m.at(name), x, config))
}

fn norm(m: &mut Module<'_>, x: Value, config: &Config) -> Result<Value> {
    rms_norm(m, x, config.eps, config.norm_offset)
}

fn scaled(m: &mut Module<'_>, x: Value, scale: f32) -> Result<Value> {
    if scale == 1.0 { Ok(x) } else { m.affine(x, scale, 0.0) }
}

fn self_attention(
    m: &mut Module<'_>,
    x: Value,
    config: &Config,
    layer: &Layer,
    index: usize,
    sequence: &Sequence,
) -> Result<Value> {
    let &Config { heads, kv_heads, head_dim, .. } = config;
    let [q, k, v] = projections(m, x, config)?;
    let q = position_heads(&mut m.at("q_norm"), q, heads, config, layer, sequence)?;
    let k = position_heads(&mut m.at("k_norm"), k, kv_heads, config, layer, sequence)?;
    let keys = remembered(m, &format!("keys.{index}"), k, sequence)?;
    let values = remembered(m, &format!("values.{index}"), v, sequence)?;
    let mixed = match config.soft_caps.attention {
        Some(cap) => capped_attention(m, [q, keys, values], config, cap, sequence.mask_of(layer.window), sequence)?,
        None => {
            let mask = sequence.mask_of(layer.window);
            let attention = Attention {
                heads,
                kv_heads,
                scale: config.scales.attention,
                causal: mask.is_none(),
                mask: if mask.is_some() { Mask::Additive } else { Mask::None },
            };
            let batch = |m: &mut Module<'_>, x: Value, rows: &Dim, width: usize| {
                m.reshape(x, vec![1.into(), rows.clone(), width.into()])
            };
            let q = batch(m, q, &sequence.tokens, heads * head_dim)?;
            let keys = batch(m, keys, &sequence.keys, kv_heads * head_dim)?;
            let values = batch(m, values, &sequence.keys, kv_heads * head_dim)?;
            m.attention(attention, [q, keys, values], mask)?
        }
    };
    let mixed = m.reshape(mixed, vec![sequence.tokens.clone(), (heads * head_dim).into()])?;
    linear(&mut m.at("o_proj"), mixed, config.hidden_size, config.bias.out)
}

/// Queries `[tokens, heads * head_dim]`, keys and values `[tokens, kv_heads * head_dim]`.
fn projections(m: &mut Module<'_>, x: Value, config: &Config) -> Result<[Value; 3]> {
    let (wide, narrow) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    if config.fused {
        let all = linear(&mut m.at("qkv_proj"), x, wide + 2 * narrow, config.bias.qkv)?;
        let part = |m: &mut Module<'_>, from: usize, width: usize| m.slice(all, 1, from, from + width);
        return Ok([part(m, 0, wide)?, part(m, wide, narrow)?, part(m, wide + narrow, narrow)?]);
    }
    Ok([
        linear(&mut m.at("q_proj"), x, wide, config.bias.qkv)?,
        linear(&mut m.at("k_proj"), x, narrow, config.bias.qkv)?,
        linear(&mut m.at("v_proj"), x, narrow, config.bias.qkv)?,
    ])
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

/// Writes the rows of this call into a state, and yields all that it holds then: `[keys, width]`.
fn remembered(m: &mut Module<'_>, name: &str, rows: Value, sequence: &Sequence) -> Result<Value> {
    let width = m.width(rows)?;
    let state = m.state(name, DType::F32, [Dim::from(sequence.context), width.into()]);
    let state = m.push(Op::Scatter(Scatter::Replace), &[state, sequence.positions, rows])?;
    m.update_state(name, state)?;
    m.slice(state, 0, 0, sequence.keys.clone())
}

/// Attention whose scores are `cap * tanh(score / cap)` (Gemma 2).
fn capped_attention(
    m: &mut Module<'_>,
    [q, keys, values]: [Value; 3],
    config: &Config,
    cap: f32,
    mask: Option<Value>,
    sequence: &Sequence,
) -> Result<Value> {
    let Some(mask) = mask else { fail!(Internal, "capped scores without a mask") };
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
    let scores = m.affine(scores, config.scales.attention / cap, 0.0)?;
    let scores = m.unary(Unary::Activation(Activation::Tanh), scores)?;
    let scores = m.affine(scores, cap, 0.0)?;
    let scores = m.reshape(scores, vec![kv_heads.into(), group.into(), tokens.clone(), all.clone()])?;
    let scores = m.add(scores, mask)?;
    let weights = m.softmax(scores)?;
    let weights = m.reshape(weights, vec![kv_heads.into(), rows, all.clone()])?;
    let mixed = m.push(Op::MatMul { transposed: false }, &[weights, values])?;
    let mixed = m.reshape(mixed, vec![kv_heads.into(), group.into(), tokens.clone(), head_dim.into()])?;
    m.permute(mixed, &[2, 0, 1, 3])
}

/// The gated feed-forward (Shazeer 2020).
fn mlp(m: &mut Module<'_>, x: Value, config: &Config) -> Result<Value> {
    let (width, bias) = (config.intermediate_size, config.bias.mlp);
    let (gate, up) = if config.fused {
        let both = linear(&mut m.at("gate_up_proj"), x, 2 * width, bias)?;
        (m.slice(both, 1, 0, width)?, m.slice(both, 1, width, 2 * width)?)
    } else {
        (linear(&mut m.at("gate_proj"), x, width, bias)?, linear(&mut m.at("up_proj"), x, width, bias)?)
    };
    let gate = m.activation(config.activation, gate)?;
    let x = m.mul(gate, up)?;
    linear(&mut m.at("down_proj"), x, config.hidden_size, bias)
}

/// Logits `[tokens, vocab_size]`.
fn head(root: &mut Module<'_>, x: Value, config: &Config) -> Result<Value> {
    let place = if config.tied { "model.embed_tokens" } else { "lm_head" };
    let mut logits = linear(&mut root.at(place), x, config.vocab_size, false)?;
    logits = scaled(root, logits, config.scales.logits)?;
    let Some(cap) = config.soft_caps.logits else { return Ok(logits) };
    let logits = root.affine(logits, 1.0 / cap, 0.0)?;
    let logits = root.unary(Unary::Activation(Activation::Tanh), logits)?;
    root.affine(logits, cap, 0.0)
}

/// The most tokens that the states of functions hold whose caller does not say.
const TYPICAL_CONTEXT: usize = 4096;

/// The functions of a model: `next`, `logits` and `states`, by [`Output`].
///
/// # Errors
/// As [`build`].
pub fn functions(config: &Config, context: Option<usize>) -> Result<Functions> {
    let context = context.unwrap_or(config.max_positions.min(TYPICAL_CONTEXT));
    [("next", Output::Next), ("logits", Output::All), ("states", Output::States)]
        .into_iter()
        .map(|(name, output)| Ok((name, build(config, Options { context, output })?)))
        .collect()
}

/// A GGUF file of a language model, ready to be specialized.
///
/// # Errors
/// As [`Config::from_gguf`], and if tensors are missing, too many or of other shapes than the metadata say.
pub fn asset(gguf: &Gguf) -> Result<Asset> {
    let (config, weights) = Config::from_gguf(gguf).at(|| &gguf.file)?;
    let functions = functions(&config, None).at(|| &gguf.file)?;
    crate::weights::check(&weights, functions.iter().map(|(_, graph)| graph), &[])?;
    Asset::new(gguf.file.clone(), functions, weights)
}

fn facts(json: &str) -> Result<TextFacts> {
    Ok(TextFacts { max_tokens: Config::from_json(json)?.max_positions })
}

fn from_json(json: &str, _: GraphSizes) -> Result<Functions> {
    functions(&Config::from_json(json)?, None)
}

/// Parts of the names of tensors that checkpoints may hold and no function needs.
pub(crate) const IGNORED: &[&str] = &["rotary_emb.inv_freq", "lm_head.weight"];

const fn architecture(class: &'static str) -> Architecture {
    Architecture { class, role: Role::Language(facts), functions: from_json, renames: &[], ignored: IGNORED }
}

/// One for each of [`FAMILIES`].
pub const ARCHITECTURES: &[Architecture] = &{
    let mut all = [architecture(""); FAMILIES.len()];
    let mut index = 0;
    while index < all.len() {
        all[index] = architecture(FAMILIES[index].class);
        index += 1;
    }
    all
};
