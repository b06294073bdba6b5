//! The BERT encoder (Devlin et al. 2019) as in transformers' `BertModel`, without its pooler, and the sentence
//! embedding that models such as all-MiniLM make of it (Reimers and Gurevych 2019).

use ondine_graph::{Activation, Binary, DType, Dim, Graph, Reduce, Result, Value};
use serde::Deserialize;

use crate::{
    architecture::{Architecture, Functions, GraphSizes, Role, TextFacts},
    blocks::{AttentionSpec, Module, Projections, attention, embedding, feed_forward, layer_norm, positions},
    config::{
        self, MAX_DEPTH, MAX_ROWS, MAX_WIDTH, TRANSFORMERS_NOTES, activation, all_bounded, divides, epsilon, supported,
    },
    weights::Rename,
};

/// `config.json` of an encoder; defaults are those of `BertConfig`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Activation inside the feed-forward layers.
    pub hidden_act: String,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// Number of kinds of segments; all tokens here are of the first.
    pub type_vocab_size: usize,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f32,
    /// How positions enter; only `absolute` is supported.
    pub position_embedding_type: String,
    /// Must be false: the attention is not causal.
    pub is_decoder: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".into(),
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            position_embedding_type: "absolute".into(),
            is_decoder: false,
        }
    }
}

impl Config {
    /// Reads and checks the text of a `config.json`.
    ///
    /// # Errors
    /// If it is no valid config, or asks for something absurd or unknown.
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Self = config::options(json, TRANSFORMERS_NOTES)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<Activation> {
        all_bounded([
            ("vocab_size", self.vocab_size, MAX_ROWS),
            ("hidden_size", self.hidden_size, MAX_WIDTH),
            ("num_hidden_layers", self.num_hidden_layers, MAX_DEPTH),
            ("intermediate_size", self.intermediate_size, MAX_WIDTH),
            ("max_position_embeddings", self.max_position_embeddings, MAX_ROWS),
            ("type_vocab_size", self.type_vocab_size, MAX_ROWS),
        ])?;
        divides("num_attention_heads", self.num_attention_heads, "`hidden_size`", self.hidden_size)?;
        epsilon("layer_norm_eps", self.layer_norm_eps)?;
        supported("position_embedding_type", &self.position_embedding_type.as_str(), &["absolute"])?;
        supported("is_decoder", &self.is_decoder, &[false])?;
        activation("hidden_act", &self.hidden_act)
    }
}

/// What is asked of a graph.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of sequences.
    pub batch: Dim,
    /// Length of the sequences.
    pub tokens: Dim,
}

impl Default for Options {
    fn default() -> Self {
        Self { batch: "batch".into(), tokens: "tokens".into() }
    }
}

/// Builds the encoder.
///
/// Inputs: `input_ids` I64 `[batch, tokens]`, `attention_mask` I64 `[batch, tokens]` (0 hides a token, at least one
/// per sequence is seen). Outputs: `last_hidden_state` `[batch, tokens, hidden_size]`, `sentence_embedding`
/// `[batch, hidden_size]`: the mean of the states of the tokens that are seen.
///
/// # Errors
/// If the config is absurd.
pub fn build(config: &Config, options: &Options) -> Result<Graph> {
    let activation = config.check()?;
    let mut graph = Graph::new();
    // There are no positions for more.
    if options.tokens.fixed().is_none() {
        graph.limit("tokens", 1, config.max_position_embeddings);
    }
    let m = &mut Module::root(&mut graph);
    let shape = [options.batch.clone(), options.tokens.clone()];
    let ids = m.input("input_ids", DType::I64, shape.clone());
    let mask = m.input("attention_mask", DType::I64, shape);
    let seen = m.cast(mask, DType::Bool)?;
    let spec = AttentionSpec {
        names: Projections { q: "self.query", k: "self.key", v: "self.value", out: "output.dense" },
        heads: config.num_attention_heads,
        bias: true,
        causal: false,
        mask: Some(seen),
    };
    let mut x = embeddings(&mut m.at("embeddings"), ids, config)?;
    for i in 0..config.num_hidden_layers {
        x = layer(&mut m.at(format_args!("encoder.layer.{i}")), x, &spec, config, activation)?;
    }
    let mean = masked_mean(&mut m.at("sentence_embedding"), x, seen)?;
    m.output("last_hidden_state", x);
    m.output("sentence_embedding", mean);
    Ok(graph)
}

fn embeddings(m: &mut Module<'_>, ids: Value, config: &Config) -> Result<Value> {
    let width = config.hidden_size;
    let words = embedding(&mut m.at("word_embeddings"), ids, [config.vocab_size, width])?;
    let segments = positions(&mut m.at("token_type_embeddings"), 1.into(), [config.type_vocab_size, width])?;
    let length = m.dim(ids, 1);
    let table = [config.max_position_embeddings, width];
    let places = positions(&mut m.at("position_embeddings"), length, table)?;
    let x = m.add(words, segments)?;
    let x = m.add(x, places)?;
    layer_norm(&mut m.at("LayerNorm"), x, config.layer_norm_eps)
}

/// Attention and feed-forward, each followed by its residual and norm.
fn layer(m: &mut Module<'_>, x: Value, spec: &AttentionSpec, config: &Config, activation: Activation) -> Result<Value> {
    let h = attention(&mut m.at("attention"), x, None, spec)?;
    let x = m.add(h, x)?;
    let x = layer_norm(&mut m.at("attention.output.LayerNorm"), x, config.layer_norm_eps)?;
    let names = ["intermediate.dense", "output.dense"];
    let h = feed_forward(m, x, names, config.intermediate_size, activation)?;
    let x = m.add(h, x)?;
    layer_norm(&mut m.at("output.LayerNorm"), x, config.layer_norm_eps)
}

/// The mean over the tokens of `x` `[b, n, width]` whose `seen` `[b, n]` is true.
fn masked_mean(m: &mut Module<'_>, x: Value, seen: Value) -> Result<Value> {
    let mut shape = m.shape(seen).clone();
    shape.0.push(1.into());
    let weight = m.cast(seen, DType::F32)?;
    let weight = m.reshape(weight, shape)?;
    let x = m.mul(x, weight)?;
    let sum = m.reduce(Reduce::Sum, x, &[1], false)?;
    let count = m.reduce(Reduce::Sum, weight, &[1], false)?;
    m.binary(Binary::Div, sum, count)
}

/// Names under a head's module, and those of TensorFlow checkpoints.
const RENAMES: &[Rename] = &[
    Rename { from: "^bert.", to: "" },
    Rename { from: ".LayerNorm.gamma", to: ".LayerNorm.weight" },
    Rename { from: ".LayerNorm.beta", to: ".LayerNorm.bias" },
];

fn facts(json: &str) -> Result<TextFacts> {
    Ok(TextFacts { max_tokens: Config::from_json(json)?.max_position_embeddings })
}

fn functions(json: &str, _: GraphSizes) -> Result<Functions> {
    Ok(vec![("main", build(&Config::from_json(json)?, &Options::default())?)])
}

/// `BertModel`.
pub const ARCHITECTURE: Architecture = Architecture {
    class: "BertModel",
    role: Role::TextEncoder(facts),
    functions,
    renames: RENAMES,
    ignored: &["pooler.", "cls."],
};
