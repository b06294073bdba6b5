//! The encoder of T5 (Raffel et al. 2020) as in transformers' `T5EncoderModel`, which guides pictures.

use ondine_graph::{Activation, Attention, Binary, DType, Dim, Graph, Mask, NDArray, Op, Result, Unary, Value};
use serde::Deserialize;

use crate::{
    architecture::{Architecture, Functions, GraphSizes, Role, TextFacts},
    blocks::{Module, embedding, linear, rms_norm},
    config::{self, MAX_DEPTH, MAX_ROWS, MAX_WIDTH, TRANSFORMERS_NOTES, activation, all_bounded, epsilon},
};

/// `config.json` of an encoder; defaults are those of `T5Config`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub d_model: usize,
    /// Features of a head.
    pub d_kv: usize,
    /// Width inside the feed-forward layers.
    pub d_ff: usize,
    /// Number of layers.
    pub num_layers: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// In how many classes distances between tokens fall, those of both directions together.
    pub relative_attention_num_buckets: usize,
    /// Distances from this one on are of one class.
    pub relative_attention_max_distance: usize,
    /// Added to the mean square in norms.
    pub layer_norm_epsilon: f32,
    /// The activation inside the feed-forward layers, with `gated-` before it if it gates.
    pub feed_forward_proj: String,
    /// The longest sequence that it was trained on.
    pub n_positions: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 32128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "relu".into(),
            n_positions: 512,
        }
    }
}

/// Options that follow from others, or say how a decoder is built.
const WITHOUT_EFFECT: &[&str] = &[
    "dense_act_fn",
    "dropout_rate",
    "is_gated_act",
    "num_decoder_layers",
    "output_past",
    "scale_decoder_outputs",
    "classifier_dropout",
];

impl Config {
    /// Reads and checks the text of a `config.json`.
    ///
    /// # Errors
    /// If it is no valid config, or asks for something absurd or unknown.
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Self = config::options(json, &[TRANSFORMERS_NOTES, WITHOUT_EFFECT].concat())?;
        config.check()?;
        Ok(config)
    }

    /// The activation, and whether it gates.
    fn check(&self) -> Result<(Activation, bool)> {
        all_bounded([
            ("vocab_size", self.vocab_size, MAX_ROWS),
            ("d_model", self.d_model, MAX_WIDTH),
            ("d_ff", self.d_ff, MAX_WIDTH),
            ("num_layers", self.num_layers, MAX_DEPTH),
            ("num_heads", self.num_heads, MAX_WIDTH),
            ("d_kv * num_heads", self.d_kv.saturating_mul(self.num_heads), 4 * MAX_WIDTH),
            ("relative_attention_num_buckets / 4", self.relative_attention_num_buckets / 4, MAX_WIDTH),
            ("relative_attention_max_distance", self.relative_attention_max_distance, MAX_ROWS),
            ("n_positions", self.n_positions, MAX_ROWS),
        ])?;
        epsilon("layer_norm_epsilon", self.layer_norm_epsilon)?;
        match self.feed_forward_proj.strip_prefix("gated-") {
            // What gates by this name is the approximation by a hyperbolic tangent.
            Some("gelu") => Ok((Activation::GeluTanh, true)),
            Some(name) => Ok((activation("feed_forward_proj", name)?, true)),
            None => Ok((activation("feed_forward_proj", &self.feed_forward_proj)?, false)),
        }
    }
}

/// What is asked of a graph.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of sequences.
    pub batch: Dim,
    /// Length of the sequences.
    pub tokens: Dim,
    /// True if some tokens are padding that must not be seen.
    pub mask: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { batch: "batch".into(), tokens: "tokens".into(), mask: false }
    }
}

/// Builds the encoder.
///
/// Inputs: `input_ids` I64 `[batch, tokens]`, and if asked for `attention_mask` I64 `[batch, tokens]` (0 hides a token,
/// at least one per sequence is seen). Output: `last_hidden_state` `[batch, tokens, d_model]`.
///
/// # Errors
/// If the config is absurd.
pub fn build(config: &Config, options: &Options) -> Result<Graph> {
    let (activation, gated) = config.check()?;
    let mut graph = Graph::new();
    let m = &mut Module::root(&mut graph);
    let shape = [options.batch.clone(), options.tokens.clone()];
    let ids = m.input("input_ids", DType::I64, shape.clone());
    let mask = if options.mask { Some(m.input("attention_mask", DType::I64, shape)) } else { None };
    let bias = scores(m, config, options, mask)?;
    let mut x = embedding(&mut m.at("shared"), ids, [config.vocab_size, config.d_model])?;
    for i in 0..config.num_layers {
        let m = &mut m.at(format_args!("encoder.block.{i}"));
        let h = norm(&mut m.at("layer.0.layer_norm"), x, config)?;
        let h = attention(&mut m.at("layer.0.SelfAttention"), h, bias, config)?;
        x = m.add(x, h)?;
        let h = norm(&mut m.at("layer.1.layer_norm"), x, config)?;
        let h = feed_forward(&mut m.at("layer.1.DenseReluDense"), h, config, activation, gated)?;
        x = m.add(x, h)?;
    }
    let x = norm(&mut m.at("encoder.final_layer_norm"), x, config)?;
    m.output("last_hidden_state", x);
    Ok(graph)
}

fn norm(m: &mut Module<'_>, x: Value, config: &Config) -> Result<Value> {
    rms_norm(m, x, config.layer_norm_epsilon, 0.0)
}

/// What is added to all scores: a number of each head for the distance of two tokens, `[1 or batch, heads, tokens,
/// tokens]`, and minus infinity for tokens that are not seen.
fn scores(m: &mut Module<'_>, config: &Config, options: &Options, mask: Option<Value>) -> Result<Value> {
    let (batch, tokens) = (&options.batch, &options.tokens);
    let buckets = buckets(m, config, tokens)?;
    let table = [config.relative_attention_num_buckets, config.num_heads];
    let place = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias";
    let bias = embedding(&mut m.at(place), buckets, table)?;
    let bias = m.permute(bias, &[2, 0, 1])?;
    let bias = m.reshape(bias, vec![1.into(), config.num_heads.into(), tokens.clone(), tokens.clone()])?;
    let Some(mask) = mask else { return Ok(bias) };
    let seen = m.cast(mask, DType::Bool)?;
    let seen = m.reshape(seen, vec![batch.clone(), 1.into(), 1.into(), tokens.clone()])?;
    let (none, all) = (m.scalar(0.0), m.scalar(f32::NEG_INFINITY));
    let hidden = m.push(Op::Select, &[seen, none, all])?;
    m.add(bias, hidden)
}

/// The class of the distance from each token to each other: I64 `[tokens, tokens]`. Those behind a token and those
/// before it have half of the classes each, one for each of the small distances and the rest on a logarithmic scale.
fn buckets(m: &mut Module<'_>, config: &Config, tokens: &Dim) -> Result<Value> {
    let half = config.relative_attention_num_buckets / 2;
    let (exact, most) = (half / 2, config.relative_attention_max_distance);
    let class = |distance: usize| {
        if distance < exact {
            return distance as i64;
        }
        let share = (distance as f32 / exact as f32).ln() / (most as f64 / exact as f64).ln() as f32;
        (exact as i64 + (share * (half - exact) as f32) as i64).min(half as i64 - 1)
    };
    let classes: Vec<i64> = (0..=most).map(class).collect();
    let classes = m.constant(NDArray::new(&[classes.len()], &classes)?);
    let line = m.push(Op::Range { start: 0.into(), step: 1, count: tokens.clone() }, &[])?;
    let keys = m.reshape(line, vec![1.into(), tokens.clone()])?;
    let own = m.reshape(line, vec![tokens.clone(), 1.into()])?;
    let distance = m.binary(Binary::Sub, keys, own)?;
    let behind = m.binary(Binary::Less, own, keys)?;
    let opposite = m.binary(Binary::Sub, own, keys)?;
    let distance = m.binary(Binary::Max, distance, opposite)?;
    let last = m.constant(NDArray::scalar(most as i64));
    let distance = m.binary(Binary::Min, distance, last)?;
    let class = m.push(Op::Take { axis: 0 }, &[classes, distance])?;
    let behind = m.cast(behind, DType::I64)?;
    let second = m.constant(NDArray::scalar(half as i64));
    let second = m.mul(behind, second)?;
    m.add(class, second)
}

fn attention(m: &mut Module<'_>, x: Value, bias: Value, config: &Config) -> Result<Value> {
    let width = config.num_heads * config.d_kv;
    let q = linear(&mut m.at("q"), x, width, false)?;
    let k = linear(&mut m.at("k"), x, width, false)?;
    let v = linear(&mut m.at("v"), x, width, false)?;
    // The scale is part of what queries are initialized with.
    let (heads, kv_heads) = (config.num_heads, config.num_heads);
    let attention = Attention { heads, kv_heads, scale: 1.0, causal: false, window: None, mask: Mask::Additive };
    let mixed = m.attention(attention, [q, k, v], Some(bias))?;
    linear(&mut m.at("o"), mixed, config.d_model, false)
}

fn feed_forward(m: &mut Module<'_>, x: Value, config: &Config, activation: Activation, gated: bool) -> Result<Value> {
    let hidden = if gated {
        let gate = linear(&mut m.at("wi_0"), x, config.d_ff, false)?;
        let gate = m.unary(Unary::Activation(activation), gate)?;
        let up = linear(&mut m.at("wi_1"), x, config.d_ff, false)?;
        m.mul(gate, up)?
    } else {
        let hidden = linear(&mut m.at("wi"), x, config.d_ff, false)?;
        m.unary(Unary::Activation(activation), hidden)?
    };
    linear(&mut m.at("wo"), hidden, config.d_model, false)
}

fn facts(json: &str) -> Result<TextFacts> {
    Ok(TextFacts { max_tokens: Config::from_json(json)?.n_positions })
}

fn functions(json: &str, sizes: GraphSizes) -> Result<Functions> {
    let options = Options { mask: sizes.mask, ..Options::default() };
    Ok(vec![("main", build(&Config::from_json(json)?, &options)?)])
}

/// `T5EncoderModel`.
pub const ARCHITECTURE: Architecture = Architecture {
    class: "T5EncoderModel",
    role: Role::TextEncoder(facts),
    functions,
    renames: &[],
    ignored: &["encoder.embed_tokens.", "decoder.", "lm_head."],
};
