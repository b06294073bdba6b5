//! What a model is: its properties, and how they follow from the `config.json` of a checkpoint.

use ondine_graph::{Activation, Result, fail};
use serde::Deserialize;
use serde_json::Value;

use super::{
    families::{Family, Windows, by_class},
    properties::{Bias, Clamp, Experts, Norms, QkNorm, SoftCaps},
    rotary::{RopeParameters, Rotary},
};
use crate::config::{MAX_DEPTH, MAX_ROWS, MAX_WIDTH, activation, all_bounded, class_of, divides, epsilon, parse};

/// What things are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// Embedded tokens.
    pub embedding: f32,
    /// Scores, usually the inverse root of the size of a head.
    pub attention: f32,
    /// What attention and feed-forward add.
    pub residual: f32,
    /// Logits.
    pub logits: f32,
}

/// What is particular to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// A token sees so many of the last ones, itself among them; all if there is none.
    pub window: Option<usize>,
    /// Which of [`Config::rotaries`] turns queries and keys; none if they know no positions.
    pub rotary: Option<usize>,
    /// The layer whose keys and values it reads; it has its own if there is none.
    pub keys_of: Option<usize>,
    /// True if its feed-forward is that of [`Config::experts`].
    pub sparse: bool,
}

/// A decoder-only transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward.
    pub intermediate_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// The longest sequence.
    pub max_positions: usize,
    /// Added to the mean square in norms.
    pub eps: f32,
    /// Added to the weights of norms.
    pub norm_offset: f32,
    /// Inside the feed-forward.
    pub activation: Activation,
    /// True if tokens are embedded by the matrix that makes logits.
    pub tied: bool,
    /// True if `qkv_proj` and `gate_up_proj` are one matrix each.
    pub fused: bool,
    /// Where norms stand.
    pub norms: Norms,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Layers with a bias.
    pub bias: Bias,
    /// The experts of layers that have some.
    pub experts: Option<Experts>,
    /// True if keys and values are kept in 8 bits, with one scale of each for a layer.
    pub coded_keys: bool,
    /// True if each head has a score that is given to no token.
    pub sinks: bool,
    /// The bounds of queries, keys and values, in both directions.
    pub clip: Option<f32>,
    /// What things are multiplied by.
    pub scales: Scales,
    /// What keeps numbers small.
    pub soft_caps: SoftCaps,
    /// The ways in which queries and keys are turned.
    pub rotaries: Vec<Rotary>,
    /// The layers, from the first.
    pub layers: Vec<Layer>,
}

/// `config.json` as transformers writes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) num_key_value_heads: Option<usize>,
    pub(super) head_dim: Option<usize>,
    pub(super) max_position_embeddings: Option<usize>,
    pub(super) original_max_position_embeddings: Option<usize>,
    pub(super) rms_norm_eps: Option<f32>,
    #[serde(alias = "hidden_activation")]
    pub(super) hidden_act: Option<String>,
    pub(super) tie_word_embeddings: Option<bool>,
    pub(super) attention_bias: Option<bool>,
    pub(super) mlp_bias: Option<bool>,
    pub(super) sliding_window: Option<usize>,
    pub(super) use_sliding_window: Option<bool>,
    pub(super) max_window_layers: Option<usize>,
    pub(super) sliding_window_pattern: Option<usize>,
    pub(super) layer_types: Option<Vec<String>>,
    pub(super) rope_theta: Option<f64>,
    pub(super) rope_local_base_freq: Option<f64>,
    pub(super) partial_rotary_factor: Option<f64>,
    pub(super) rope_scaling: Option<RopeParameters>,
    pub(super) rope_parameters: Option<Parameters>,
    pub(super) no_rope_layers: Option<Vec<u8>>,
    pub(super) query_pre_attn_scalar: Option<f32>,
    pub(super) attn_logit_softcapping: Option<f32>,
    pub(super) final_logit_softcapping: Option<f32>,
    pub(super) embedding_multiplier: Option<f32>,
    pub(super) attention_multiplier: Option<f32>,
    pub(super) residual_multiplier: Option<f32>,
    pub(super) logits_scaling: Option<f32>,
    pub(super) num_kv_reuse_layers: Option<usize>,
    pub(super) clip_qkv: Option<f32>,
    pub(super) num_experts: Option<usize>,
    pub(super) num_local_experts: Option<usize>,
    pub(super) num_experts_per_tok: Option<usize>,
    pub(super) moe_intermediate_size: Option<usize>,
    pub(super) shared_expert_intermediate_size: Option<usize>,
    pub(super) norm_topk_prob: Option<bool>,
    pub(super) decoder_sparse_step: Option<usize>,
    pub(super) mlp_only_layers: Option<Vec<usize>>,
    pub(super) swiglu_alpha: Option<f32>,
    pub(super) swiglu_limit: Option<f32>,
    pub(super) use_bidirectional_attention: Option<Value>,
}

/// Rotary positions: by kind of layer, or of all.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Parameters {
    PerKind { full_attention: Box<RopeParameters>, sliding_attention: Box<RopeParameters> },
    All(Box<RopeParameters>),
}

/// A layer that sees a window, and one that sees everything.
pub(super) const SLIDING: &str = "sliding_attention";
pub(super) const FULL: &str = "full_attention";

impl Config {
    /// Reads and checks the text of a `config.json`.
    ///
    /// # Errors
    /// If it is no valid config, of an unknown class, or asks for something absurd or unknown.
    pub fn from_json(json: &str) -> Result<Self> {
        let family = by_class(&class_of(json)?)?;
        Self::new(family, &parse(json)?, family.adjacent)
    }

    /// The model of a family; `interleaved` says how its heads are ordered.
    pub(super) fn new(family: &Family, raw: &Raw, interleaved: bool) -> Result<Self> {
        if let Some(which) = raw.use_bidirectional_attention.as_ref().filter(|which| **which != Value::Bool(false)) {
            fail!(Unsupported, "`use_bidirectional_attention` = {which}: tokens that see later ones are not supported");
        }
        let heads = raw.num_attention_heads;
        let head_dim = match raw.head_dim {
            Some(head_dim) => head_dim,
            None => {
                divides("num_attention_heads", heads, "`hidden_size`", raw.hidden_size)?;
                raw.hidden_size / heads
            }
        };
        all_bounded([("num_hidden_layers", raw.num_hidden_layers, MAX_DEPTH), ("head_dim", head_dim, MAX_WIDTH)])?;
        let windows = windows(family, raw)?;
        let (rotaries, layers, max_positions) = layers(family, raw, &windows, head_dim, interleaved)?;
        let bias = raw.attention_bias.unwrap_or(false);
        let out = family.bias.out || bias;
        let config = Self {
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            heads,
            kv_heads: raw.num_key_value_heads.unwrap_or(heads),
            head_dim,
            max_positions,
            eps: epsilon("rms_norm_eps", raw.rms_norm_eps.unwrap_or(1e-6))?,
            norm_offset: family.norm_offset,
            activation: activation("hidden_act", raw.hidden_act.as_deref().unwrap_or(family.activation))?,
            tied: raw.tie_word_embeddings.unwrap_or(family.tied),
            fused: family.fused,
            norms: family.norms,
            qk_norm: family.qk_norm,
            bias: Bias { qkv: family.bias.qkv || bias, out, mlp: family.bias.mlp || raw.mlp_bias.unwrap_or(false) },
            experts: experts(family, raw)?,
            coded_keys: family.coded_keys,
            sinks: family.sinks,
            clip: raw.clip_qkv,
            scales: scales(family, raw, head_dim),
            soft_caps: SoftCaps { attention: raw.attn_logit_softcapping, logits: raw.final_logit_softcapping },
            rotaries,
            layers,
        };
        config.check()?;
        Ok(config)
    }

    /// True if scores are changed before softmax: each layer computes them as a matrix then.
    #[must_use]
    pub fn scores(&self) -> bool {
        self.soft_caps.attention.is_some() || self.sinks
    }

    /// True if several texts can be gone on with in one call: attention reads keys and values of each where they lie.
    #[must_use]
    pub fn batches(&self) -> bool {
        !self.scores()
    }

    /// Refuses what is absurd.
    ///
    /// # Errors
    /// Names the first option that is.
    pub(super) fn check(&self) -> Result<()> {
        all_bounded([
            ("vocab_size", self.vocab_size, MAX_ROWS),
            ("hidden_size", self.hidden_size, MAX_WIDTH),
            ("intermediate_size", self.intermediate_size, MAX_WIDTH),
            ("num_attention_heads", self.heads, MAX_WIDTH),
            ("head_dim * num_attention_heads", self.heads.saturating_mul(self.head_dim), 4 * MAX_WIDTH),
            ("num_hidden_layers", self.layers.len(), MAX_DEPTH),
            ("max_position_embeddings", self.max_positions, MAX_ROWS),
        ])?;
        divides("num_key_value_heads", self.kv_heads, "`num_attention_heads`", self.heads)?;
        let Scales { embedding, attention, residual, logits } = self.scales;
        let caps = [self.soft_caps.attention, self.soft_caps.logits].into_iter().flatten();
        if [embedding, attention, residual, logits].into_iter().any(|x| !x.is_finite()) {
            fail!(Shape, "a scale is no number: {:?}", self.scales);
        }
        if caps.into_iter().any(|cap| !(cap.is_finite() && cap > 0.0)) {
            fail!(Shape, "a soft cap is no number above 0: {:?}", self.soft_caps);
        }
        if let Some(experts) = &self.experts {
            experts.check()?;
        }
        if self.clip.is_some_and(|clip| !(clip.is_finite() && clip > 0.0)) {
            fail!(Shape, "`clip_qkv` is no number above 0: {:?}", self.clip);
        }
        let lent = |(index, layer): (usize, &Layer)| {
            layer.keys_of.is_some_and(|other| other >= index || self.layers[other].keys_of.is_some())
        };
        if self.layers.iter().enumerate().any(lent) {
            fail!(Shape, "a layer reads keys of one that has none before it");
        }
        if self.layers.iter().any(|layer| layer.window == Some(0)) {
            fail!(Shape, "`sliding_window` is 0");
        }
        Ok(())
    }
}

/// The experts, if there are some.
fn experts(family: &Family, raw: &Raw) -> Result<Option<Experts>> {
    let Some(count) = raw.num_local_experts.or(raw.num_experts).filter(|&count| count > 0) else { return Ok(None) };
    let Some(chosen) = raw.num_experts_per_tok else {
        fail!(Missing, "there are {count} experts, and no `num_experts_per_tok`");
    };
    let clamp = family.clamp.map(|Clamp { limit, slope }| Clamp {
        limit: raw.swiglu_limit.unwrap_or(limit),
        slope: raw.swiglu_alpha.unwrap_or(slope),
    });
    Ok(Some(Experts {
        count,
        chosen,
        width: raw.moe_intermediate_size.unwrap_or(raw.intermediate_size),
        normalized: raw.norm_topk_prob.unwrap_or(family.normalized),
        shared: raw.shared_expert_intermediate_size.filter(|&width| width > 0),
        clamp,
        interleaved: clamp.is_some(),
    }))
}

/// True for layers whose feed-forward is one of experts, if there are some.
fn is_sparse(raw: &Raw, index: usize) -> bool {
    let count = raw.num_local_experts.or(raw.num_experts).unwrap_or(0);
    let dense = raw.mlp_only_layers.as_ref().is_some_and(|layers| layers.contains(&index));
    count > 0 && !dense && (index + 1).is_multiple_of(raw.decoder_sparse_step.unwrap_or(1).max(1))
}

fn scales(family: &Family, raw: &Raw, head_dim: usize) -> Scales {
    let root = raw.query_pre_attn_scalar.unwrap_or(head_dim as f32).sqrt();
    let embedding = if family.scaled_embedding { (raw.hidden_size as f32).sqrt() } else { 1.0 };
    Scales {
        embedding: raw.embedding_multiplier.unwrap_or(embedding),
        attention: raw.attention_multiplier.unwrap_or(1.0 / root),
        residual: raw.residual_multiplier.unwrap_or(1.0),
        logits: raw.logits_scaling.map_or(1.0, |scale| 1.0 / scale),
    }
}

/// The window of each layer.
fn windows(family: &Family, raw: &Raw) -> Result<Vec<Option<usize>>> {
    let count = raw.num_hidden_layers;
    let used = raw.use_sliding_window.unwrap_or(family.windows != Windows::Upper);
    let window = raw.sliding_window.filter(|_| used);
    if let Some(types) = &raw.layer_types {
        if types.len() != count {
            fail!(Shape, "`layer_types` lists {} layers of {count}", types.len());
        }
        let of = |kind: &String| match kind.as_str() {
            FULL => Ok(None),
            SLIDING if raw.sliding_window.is_some() => Ok(raw.sliding_window),
            SLIDING => fail!(Missing, "`layer_types` has windows, and there is no `sliding_window`"),
            other => fail!(Unsupported, "layers of type {other:?} are not supported"),
        };
        return types.iter().map(of).collect();
    }
    let narrow = |index: usize| match family.windows {
        Windows::All => true,
        Windows::Upper => index >= raw.max_window_layers.unwrap_or(28),
        Windows::AllBut(pattern) => !(index + 1).is_multiple_of(raw.sliding_window_pattern.unwrap_or(pattern).max(1)),
    };
    Ok((0..count).map(|index| window.filter(|_| narrow(index))).collect())
}

/// The rotations, the layers that use them, and the most positions that they are good for.
fn layers(
    family: &Family,
    raw: &Raw,
    windows: &[Option<usize>],
    head_dim: usize,
    interleaved: bool,
) -> Result<(Vec<Rotary>, Vec<Layer>, usize)> {
    let (full, sliding) = parameters(family, raw, windows.iter().any(Option::is_some));
    let positions = raw.max_position_embeddings.unwrap_or(family.positions);
    let (first, mut most) = full.rotary(head_dim, positions, interleaved)?;
    let mut rotaries = vec![first];
    if let Some(sliding) = sliding {
        let (second, positions) = sliding.rotary(head_dim, positions, interleaved)?;
        most = most.min(positions);
        rotaries.push(second);
    }
    if let Some(list) = raw.no_rope_layers.as_ref().filter(|list| list.len() != windows.len()) {
        fail!(Shape, "`no_rope_layers` lists {} layers of {}", list.len(), windows.len());
    }
    let own_keys = windows.len().checked_sub(raw.num_kv_reuse_layers.unwrap_or(0)).filter(|&own| own > 0);
    let Some(own) = own_keys else {
        fail!(Shape, "`num_kv_reuse_layers` is {:?} of {} layers", raw.num_kv_reuse_layers, windows.len());
    };
    let turns = |index: usize| match (&raw.no_rope_layers, family.nope_interval) {
        (Some(list), _) => list[index] != 0,
        (None, 0) => true,
        (None, interval) => !(index + 1).is_multiple_of(interval),
    };
    let rotation = |window: Option<usize>| if window.is_some() { rotaries.len() - 1 } else { 0 };
    let layer = |(index, &window): (usize, _)| Layer {
        window,
        rotary: turns(index).then(|| rotation(window)),
        keys_of: (index >= own).then(|| own - 1),
        sparse: is_sparse(raw, index),
    };
    let layers = windows.iter().enumerate().map(layer).collect();
    Ok((rotaries, layers, most))
}

/// The rotary positions of layers that see everything, and of those with a window if theirs are others.
fn parameters(family: &Family, raw: &Raw, windowed: bool) -> (RopeParameters, Option<RopeParameters>) {
    let (mut full, mut sliding) = match raw.rope_parameters.clone() {
        Some(Parameters::PerKind { full_attention, sliding_attention }) => (*full_attention, Some(*sliding_attention)),
        Some(Parameters::All(all)) => (*all, None),
        None => (raw.rope_scaling.clone().unwrap_or_default(), None),
    };
    let plain = windowed && family.plain_windows && full.is_scaled();
    if sliding.is_none() && (plain || raw.rope_local_base_freq.is_some()) {
        let theta = raw.rope_local_base_freq.or(full.rope_theta);
        sliding = Some(RopeParameters { rope_theta: theta, ..RopeParameters::default() });
    }
    for parameters in [Some(&mut full), sliding.as_mut()].into_iter().flatten() {
        parameters.rope_theta = parameters.rope_theta.or(raw.rope_theta);
        parameters.partial_rotary_factor = parameters.partial_rotary_factor.or(raw.partial_rotary_factor);
        parameters.original_max_position_embeddings =
            parameters.original_max_position_embeddings.or(raw.original_max_position_embeddings);
    }
    (full, sliding)
}
