//! The text encoder of CLIP (Radford et al. 2021), as in transformers: `CLIPTextModel` and
//! `CLIPTextModelWithProjection`.
//!
//! One definition serves CLIP-L (Stable Diffusion 1, `SDXL`), OpenCLIP-H (Stable Diffusion 2) and OpenCLIP-bigG
//! (`SDXL`): they differ in sizes, activation and in which output is used.

use ondine_graph::{Activation, Binary, DType, Dim, Graph, NDArray, Op, Result, Value, fail};
use serde::Deserialize;

use crate::{
    architecture::{Architecture, Functions, GraphSizes, Role, TextFacts},
    blocks::{ClipLayer, Module, clip_layer, embedding, layer_norm, linear, positions},
    config::{self, MAX_DEPTH, MAX_ROWS, MAX_WIDTH, TRANSFORMERS_NOTES, activation, all_bounded, divides, epsilon},
    weights::Rename,
};

/// `config.json` of a text encoder; defaults are those of `CLIPTextConfig`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Width of `text_embeds`.
    pub projection_dim: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// Activation inside the feed-forward layers.
    pub hidden_act: String,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f32,
    /// The token whose state is pooled; 2 stands for the token with the highest id, as in old configs.
    pub eos_token_id: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
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
            ("intermediate_size", self.intermediate_size, MAX_WIDTH),
            ("projection_dim", self.projection_dim, MAX_WIDTH),
            ("num_hidden_layers", self.num_hidden_layers, MAX_DEPTH),
            ("max_position_embeddings", self.max_position_embeddings, MAX_ROWS),
        ])?;
        divides("num_attention_heads", self.num_attention_heads, "`hidden_size`", self.hidden_size)?;
        epsilon("layer_norm_eps", self.layer_norm_eps)?;
        activation("hidden_act", &self.hidden_act)
    }
}

/// An output that a graph can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// `last_hidden_state` `[batch, tokens, hidden_size]`: the last layer's states after the final norm.
    LastHiddenState,
    /// `penultimate` `[batch, tokens, hidden_size]`: what enters the last layer, `hidden_states[-2]`, not normed.
    Penultimate,
    /// `pooler_output` `[batch, hidden_size]`: `last_hidden_state` at the end-of-text token.
    PoolerOutput,
    /// `text_embeds` `[batch, projection_dim]`: `pooler_output` after `text_projection`.
    TextEmbeds,
}

impl Output {
    /// The name of the output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LastHiddenState => "last_hidden_state",
            Self::Penultimate => "penultimate",
            Self::PoolerOutput => "pooler_output",
            Self::TextEmbeds => "text_embeds",
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
    /// What is computed, and nothing else.
    pub outputs: Vec<Output>,
    /// Layers that [`Output::LastHiddenState`] and [`Output::Penultimate`] leave out at the end ("clip skip",
    /// counted from 0). The pooled outputs always come from the last layer.
    pub skip: usize,
}

impl Default for Options {
    fn default() -> Self {
        let outputs = vec![Output::LastHiddenState, Output::Penultimate, Output::PoolerOutput];
        Self { batch: "batch".into(), tokens: "tokens".into(), outputs, skip: 0 }
    }
}

/// Builds the encoder.
///
/// Input: `input_ids` I64 `[batch, tokens]`. Outputs: those of `options`, by [`Output::name`].
///
/// # Errors
/// If the config is absurd, or `options` skip more layers than there are.
pub fn build(config: &Config, options: &Options) -> Result<Graph> {
    let activation = config.check()?;
    let mut graph = Graph::new();
    // There are no positions for more.
    if options.tokens.fixed().is_none() {
        graph.limit("tokens", 1, config.max_position_embeddings);
    }
    let root = &mut Module::root(&mut graph);
    let ids = root.input("input_ids", DType::I64, [options.batch.clone(), options.tokens.clone()]);
    let wants = |output: Output| options.outputs.contains(&output);
    let pools = wants(Output::PoolerOutput) || wants(Output::TextEmbeds);

    // States by how many layers made them; only as many layers as some output needs.
    let skipped = |from: usize| match from.checked_sub(options.skip) {
        Some(layers) => Ok(layers),
        None => fail!(Shape, "cannot skip {} of {} layers", options.skip, config.num_hidden_layers),
    };
    let (last, penultimate) = (skipped(config.num_hidden_layers)?, skipped(config.num_hidden_layers - 1)?);
    let layers = match (pools, wants(Output::LastHiddenState)) {
        (true, _) => config.num_hidden_layers,
        (false, true) => last,
        (false, false) => penultimate,
    };
    let m = &mut root.at("text_model");
    let layer = ClipLayer {
        heads: config.num_attention_heads,
        hidden: config.intermediate_size,
        activation,
        eps: config.layer_norm_eps,
        causal: true,
    };
    let mut states = vec![embeddings(&mut m.at("embeddings"), ids, config)?];
    for i in 0..layers {
        let x = clip_layer(&mut m.at(format_args!("encoder.layers.{i}")), states[i], &layer)?;
        states.push(x);
    }

    let norm = |m: &mut Module<'_>, x| layer_norm(&mut m.at("final_layer_norm"), x, config.layer_norm_eps);
    if wants(Output::Penultimate) {
        m.output(Output::Penultimate.name(), states[penultimate]);
    }
    if wants(Output::LastHiddenState) {
        let x = norm(m, states[last])?;
        m.output(Output::LastHiddenState.name(), x);
    }
    if pools {
        let x = norm(m, states[config.num_hidden_layers])?;
        let pooled = pool(m, ids, x, config.eos_token_id)?;
        if wants(Output::PoolerOutput) {
            m.output(Output::PoolerOutput.name(), pooled);
        }
        if wants(Output::TextEmbeds) {
            let embeds = linear(&mut root.at("text_projection"), pooled, config.projection_dim, false)?;
            root.output(Output::TextEmbeds.name(), embeds);
        }
    }
    Ok(graph)
}

fn embeddings(m: &mut Module<'_>, ids: Value, config: &Config) -> Result<Value> {
    let tokens = embedding(&mut m.at("token_embedding"), ids, [config.vocab_size, config.hidden_size])?;
    let length = m.dim(ids, 1);
    let table = [config.max_position_embeddings, config.hidden_size];
    let positions = positions(&mut m.at("position_embedding"), length, table)?;
    m.add(tokens, positions)
}

/// The state at the first end-of-text token of each sequence.
fn pool(m: &mut Module<'_>, ids: Value, x: Value, eos_token_id: i64) -> Result<Value> {
    let score = if eos_token_id == 2 {
        ids
    } else {
        let eos = m.constant(NDArray::scalar(eos_token_id));
        m.binary(Binary::Equal, ids, eos)?
    };
    let score = m.cast(score, DType::F32)?;
    let position = m.push(Op::ArgMax, &[score])?;
    m.push(Op::TakeRow, &[x, position])
}

/// Names without the outer module, as newer versions of transformers save them.
const RENAMES: &[Rename] = &[
    Rename { from: "^embeddings.", to: "text_model.embeddings." },
    Rename { from: "^encoder.", to: "text_model.encoder." },
    Rename { from: "^final_layer_norm.", to: "text_model.final_layer_norm." },
];

fn facts(json: &str) -> Result<TextFacts> {
    Ok(TextFacts { max_tokens: Config::from_json(json)?.max_position_embeddings })
}

fn functions(json: &str, sizes: GraphSizes) -> Result<Functions> {
    let options = Options { skip: sizes.skip, ..Options::default() };
    Ok(vec![("main", build(&Config::from_json(json)?, &options)?)])
}

fn functions_with_projection(json: &str, sizes: GraphSizes) -> Result<Functions> {
    let outputs = vec![Output::LastHiddenState, Output::Penultimate, Output::TextEmbeds];
    Ok(vec![("main", build(&Config::from_json(json)?, &Options { outputs, skip: sizes.skip, ..Options::default() })?)])
}

/// `CLIPTextModel`.
pub const ARCHITECTURE: Architecture = Architecture {
    class: "CLIPTextModel",
    role: Role::TextEncoder(facts),
    functions,
    renames: RENAMES,
    ignored: &["text_projection."],
};

/// `CLIPTextModelWithProjection`.
pub const WITH_PROJECTION: Architecture = Architecture {
    class: "CLIPTextModelWithProjection",
    functions: functions_with_projection,
    ignored: &[],
    ..ARCHITECTURE
};
