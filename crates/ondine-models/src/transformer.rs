//! Decoder-only transformers: the language models of transformers' `...ForCausalLM` classes and of GGUF files.
//!
//! One definition serves all: families differ in the properties that [`Config`] holds (norms and where they stand,
//! rotary positions, windows, biases, scales, soft caps, experts, keys that layers share) and in nothing else. Weights
//! are named as in transformers.
//!
//! Every function of one text takes `input_ids` I64 `[tokens]` and `past` (I64, one number): how many tokens the states
//! hold already. It appends the keys and values of its tokens to the states `keys.N` and `values.N`
//! `[rows, kv_heads * head_dim]`, which are written where they lie; those in 8 bits have scales `keys.N.scale` and
//! `values.N.scale` `[rows, kv_heads]` beside them ([`KvCache`]). Rows are those of the whole context or, behind a
//! window, those of a ring ([`Room`]). Without rings the next call may name any smaller `past`: what
//! lies behind it is then overwritten, which is how a conversation is rewound. [`together`] goes on with several texts.

mod attention;
mod batch;
mod cache;
mod config;
pub mod encoder;
mod experts;
mod families;
mod gguf;
mod layer;
mod properties;
mod room;
mod rotary;
mod stacks;

use ondine_graph::{Activation, Asset, Context, DType, Dim, Graph, Op, Result, Unary, Value, Weights, recipe::Recipes};

use attention::{KeysAndValues, Sequence, keys_and_values, norm};
use layer::{decoder_layer, normed, scaled};
use stacks::{RENAMES, stacks};

use crate::{
    architecture::{Architecture, Functions, GraphSizes, Role, TextFacts},
    blocks::{Module, embedding, linear},
    gguf::Gguf,
    weights::Rename,
};

pub use cache::KvCache;
pub use config::{Config, Layer, Scales};
pub use families::{FAMILIES, Family, Windows};
pub use properties::{Bias, Clamp, Experts, Norms, QkNorm, SoftCaps};
pub use room::{Rings, Room};
pub use rotary::Rotary;

pub(crate) use gguf::{gguf_names, name_in_transformers};

/// What a function yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// `logits` `[vocab_size]` of the last token: all that is needed to go on.
    Next,
    /// `past`, I64 `[1]`: how many tokens the states hold then. Nothing is computed but what they keep: no logits, and
    /// of layers without keys of their own nothing at all.
    Extend,
    /// `logits` `[tokens, vocab_size]` of every token.
    All,
    /// `logits` `[texts, vocab_size]` of one token each of several texts: `input_ids` and `past` are I64 `[texts]`, and
    /// the states have room for the most of them.
    Batch(usize),
    /// `last_hidden_state` `[tokens, hidden_size]`, after the final norm, and `hidden_states.N`
    /// `[tokens, hidden_size]`: what enters layer N.
    States,
}

/// What is asked of a graph.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What the states hold.
    pub room: Room,
    /// What the function yields.
    pub output: Output,
    /// True if logits are those of the tokens of the vocabulary that one more input `chosen` names, I64 `[chosen]`, in
    /// its order: `logits` `[chosen]` or `[tokens, chosen]`. What the head has for others is not computed.
    pub chosen: bool,
}

/// Builds a function of the model.
///
/// # Errors
/// If the config is absurd, the context is longer than the model was made for, or keys and values that were trained in
/// 8 bits are asked for in others.
pub fn build(config: &Config, options: Options) -> Result<Graph> {
    config.check()?;
    let room = options.room;
    room.check(config)?;
    let mut graph = Graph::new();
    let tokens = sizes(&mut graph, config, options);
    let root = &mut Module::root(&mut graph);
    let ids = root.input("input_ids", DType::I64, [tokens.clone()]);
    let mut sequence = if let Output::Batch(texts) = options.output {
        batch::check(config, texts)?;
        Sequence::several(root, config, &tokens, room, texts)?
    } else {
        Sequence::new(root, config, tokens, room)?
    };

    let m = &mut root.at("model");
    let mut x = embedding(&mut m.at("embed_tokens"), ids, [config.vocab_size, config.hidden_size])?;
    x = scaled(m, x, config.scales.embedding)?;
    // What comes after the last layer with keys of its own is for a token what it is without those before it.
    let last_keys = config.layers.iter().rposition(|layer| layer.keys_of.is_none());
    let mut kept: Vec<KeysAndValues> = Vec::with_capacity(config.layers.len());
    for (index, layer) in config.layers.iter().enumerate() {
        if options.output == Output::States {
            m.output(&format!("hidden_states.{index}"), x);
        }
        let m = &mut m.at(format_args!("layers.{index}"));
        let h = normed(m, x, config, config.norms.names().before_attention)?;
        kept.push(match layer.keys_of {
            Some(other) => kept[other].clone(),
            None => keys_and_values(&mut m.at("self_attn"), h, config, layer, index, &sequence)?,
        });
        let mut h = h;
        if Some(index) == last_keys {
            match options.output {
                Output::Extend => break,
                Output::Next => {
                    let (start, end) = (&sequence.tokens - 1, sequence.tokens.clone());
                    x = m.slice(x, 0, start, end)?;
                    // Once more for this token: a norm that products alone read is rounded for these as it is computed.
                    h = normed(m, x, config, config.norms.names().before_attention)?;
                    sequence = sequence.last(m)?;
                }
                Output::All | Output::Batch(_) | Output::States => {}
            }
        }
        x = decoder_layer(m, [x, h], &kept[index], config, layer, &sequence)?;
    }
    if options.output == Output::Extend {
        let (start, count) = (sequence.keys, 1.into());
        let held = root.push(Op::Range { start, step: 1, count }, &[])?;
        root.output("past", held);
        return Ok(graph);
    }
    let x = norm(&mut m.at("norm"), x, config)?;
    if options.output == Output::States {
        root.output("last_hidden_state", x);
        return Ok(graph);
    }
    let count = if options.chosen { Dim::symbol(CHOSEN) } else { config.vocab_size.into() };
    let chosen = options.chosen.then(|| root.input(CHOSEN, DType::I64, [count.clone()]));
    let mut logits = head(root, x, config, chosen)?;
    if options.output == Output::Next {
        logits = root.reshape(logits, [count])?;
    }
    root.output("logits", logits);
    Ok(graph)
}

/// Input and size of the tokens whose logits are asked for.
const CHOSEN: &str = "chosen";

/// Says how large the sizes can be that a caller decides, and yields how many tokens come in.
fn sizes(graph: &mut Graph, config: &Config, Options { room, output, chosen }: Options) -> Dim {
    let ring = room.all_rows(config).any(|(_, rows)| rows.are_ring());
    let (symbol, most) = match output {
        Output::Batch(texts) => ("texts", texts),
        _ => ("tokens", if ring { room.call } else { room.context }),
    };
    let chosen = chosen.then_some((CHOSEN, config.vocab_size));
    for (symbol, most) in [(symbol, most)].into_iter().chain(chosen) {
        graph.expect(symbol, 1);
        graph.limit(symbol, 1, most);
    }
    Dim::symbol(symbol)
}

/// Logits `[tokens, vocab_size]`, or of the `chosen` tokens of the vocabulary alone.
fn head(root: &mut Module<'_>, x: Value, config: &Config, chosen: Option<Value>) -> Result<Value> {
    let place = if config.tied { "model.embed_tokens" } else { "lm_head" };
    let mut logits = linear(&mut root.at(place), x, config.vocab_size, false)?;
    if let Some(chosen) = chosen {
        logits = root.push(Op::Take { axis: 1 }, &[logits, chosen])?;
    }
    logits = scaled(root, logits, config.scales.logits)?;
    let Some(cap) = config.soft_caps.logits else { return Ok(logits) };
    let logits = root.affine(logits, 1.0 / cap, 0.0)?;
    let logits = root.unary(Unary::Activation(Activation::Tanh), logits)?;
    root.affine(logits, cap, 0.0)
}

/// The `config.json` of a foundation model for a device, as Apple's report of 2025 describes it (arXiv 2507.13575):
/// 3,111,368,064 parameters besides the scales of keys and values.
pub const ON_DEVICE: &str = r#"{
    "architectures": ["AfmForCausalLM"], "vocab_size": 153600, "hidden_size": 2048, "intermediate_size": 6656,
    "num_hidden_layers": 56, "num_kv_reuse_layers": 21, "num_attention_heads": 16, "num_key_value_heads": 2,
    "head_dim": 128, "max_position_embeddings": 65536, "rope_theta": 500000.0, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": true
}"#;

/// The most tokens that the states of functions hold whose caller does not say.
const TYPICAL_CONTEXT: usize = 4096;

/// Room for a caller who does not say.
fn typical(config: &Config) -> Room {
    Room::whole(config.max_positions.min(TYPICAL_CONTEXT), KvCache::default())
}

/// The functions of a model: `next`, `extend`, `logits` and `states`, by [`Output`], and `chosen`: as `next`, of chosen
/// tokens ([`Options::chosen`]).
///
/// # Errors
/// As [`build`].
pub fn functions(config: &Config, room: Room) -> Result<Functions> {
    [
        ("next", Output::Next, false),
        ("chosen", Output::Next, true),
        ("extend", Output::Extend, false),
        ("logits", Output::All, false),
        ("states", Output::States, false),
    ]
    .into_iter()
    .map(|(name, output, chosen)| Ok((name, build(config, Options { room, output, chosen })?)))
    .collect()
}

/// The functions that go on with up to `texts` texts together: `batch`, `batch_chosen` ([`Options::chosen`]) and
/// `seat`; none for a model that reads them one by one.
///
/// # Errors
/// As [`build`], and if `texts` is 0 or too many.
pub fn together(config: &Config, room: Room, texts: usize) -> Result<Functions> {
    if !config.batches() {
        return Ok(Vec::new());
    }
    let output = Output::Batch(texts);
    let [batch, chosen] = [false, true].map(|chosen| build(config, Options { room, output, chosen }));
    Ok(vec![("batch", batch?), ("batch_chosen", chosen?), ("seat", batch::seat(config, room, texts)?)])
}

/// A GGUF file of a language model, ready to be specialized.
///
/// # Errors
/// As [`Config::from_gguf`], and if tensors are missing, too many or of other shapes than the metadata say.
pub fn asset(gguf: &Gguf) -> Result<Asset> {
    let (config, weights) = Config::from_gguf(gguf).at(|| &gguf.file)?;
    let functions = functions(&config, typical(&config)).at(|| &gguf.file)?;
    crate::weights::check(&weights, &Recipes::default(), functions.iter().map(|(_, graph)| graph), &[])?;
    Asset::new(gguf.file.clone(), functions, weights)
}

fn facts(json: &str) -> Result<TextFacts> {
    Ok(TextFacts { max_tokens: Config::from_json(json)?.max_positions })
}

fn from_json(json: &str, sizes: GraphSizes) -> Result<Functions> {
    let config = Config::from_json(json)?;
    match sizes.states {
        Some(states) => Ok(vec![("main", encoder::build(&config, states)?)]),
        None => functions(&config, typical(&config)),
    }
}

/// Recipes of the weights that a checkpoint holds in another form than the functions ask for.
fn recipes(json: &str, weights: &mut Weights) -> Result<Recipes> {
    stacks(&Config::from_json(json)?, weights)
}

/// Parts of the names of tensors that checkpoints may hold and no function needs.
pub(crate) const IGNORED: &[&str] = &["rotary_emb.inv_freq", "lm_head.weight"];

const fn architecture(class: &'static str) -> Architecture {
    Architecture {
        class,
        role: Role::Language(facts, recipes),
        functions: from_json,
        renames: RENAMES,
        ignored: IGNORED,
    }
}

/// The functions of a model without a head: `states`, or the one that reads a text.
fn without_head(json: &str, sizes: GraphSizes) -> Result<Functions> {
    if sizes.states.is_some() {
        return from_json(json, sizes);
    }
    let config = Config::from_json(json)?;
    let options = Options { room: typical(&config), output: Output::States, chosen: false };
    Ok(vec![("states", build(&config, options)?)])
}

/// A model without its head, whose checkpoints may leave out that it is inside of one with it.
const fn headless(class: &'static str) -> Architecture {
    Architecture {
        class,
        role: Role::Language(facts, recipes),
        functions: without_head,
        renames: &[
            Rename { from: "^layers.", to: "model.layers." },
            Rename { from: "^embed_tokens.", to: "model.embed_tokens." },
            Rename { from: "^norm.", to: "model.norm." },
        ],
        ignored: IGNORED,
    }
}

/// `Qwen3Model`: a `Qwen3ForCausalLM` without its head.
pub const QWEN3: Architecture = headless("Qwen3Model");
/// `Gemma2Model`: a `Gemma2ForCausalLM` without its head.
pub const GEMMA2: Architecture = headless("Gemma2Model");

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
