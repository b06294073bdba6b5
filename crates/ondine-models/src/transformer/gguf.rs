//! Language models in GGUF files: the config from their metadata, and their names in the words of transformers.

use std::sync::Arc;

use ondine_graph::{DType, Result, Tensor, Weights, fail};

use super::{
    config::{Config, Raw},
    families::{Family, by_gguf},
    properties::Norms,
    rotary::RopeParameters,
};
use crate::gguf::{Gguf, Value};

/// Factors of rotary frequencies, which are data in a tensor.
const ROPE_FREQS: &str = "rope_freqs.weight";
/// Those of Phi-3 for short and long texts.
const ROPE_FACTORS: [&str; 2] = ["rope_factors_short.weight", "rope_factors_long.weight"];

/// Names outside the layers.
const OUTSIDE: [(&str, &str); 3] =
    [("token_embd.", "model.embed_tokens."), ("output_norm.", "model.norm."), ("output.", "lm_head.")];

/// Names inside a layer; those of norms depend on where they stand.
const INSIDE: [(&str, &str); 21] = [
    ("attn_q.", "self_attn.q_proj."),
    ("attn_k.", "self_attn.k_proj."),
    ("attn_v.", "self_attn.v_proj."),
    ("attn_qkv.", "self_attn.qkv_proj."),
    ("attn_output.", "self_attn.o_proj."),
    ("attn_q_norm.", "self_attn.q_norm."),
    ("attn_k_norm.", "self_attn.k_norm."),
    ("ffn_gate.", "mlp.gate_proj."),
    ("ffn_up.", "mlp.up_proj."),
    ("ffn_down.", "mlp.down_proj."),
    ("ffn_gate_inp.", "mlp.gate."),
    ("ffn_gate_exps.", "mlp.experts.gate_proj."),
    ("ffn_up_exps.", "mlp.experts.up_proj."),
    ("ffn_down_exps.", "mlp.experts.down_proj."),
    ("ffn_gate_inp_shexp.", "mlp.shared_expert_gate."),
    ("ffn_gate_shexp.", "mlp.shared_expert.gate_proj."),
    ("ffn_up_shexp.", "mlp.shared_expert.up_proj."),
    ("ffn_down_shexp.", "mlp.shared_expert.down_proj."),
    ("attn_sinks.weight", "self_attn.sinks"),
    ("attn_norm.", "input_layernorm."),
    ("post_ffw_norm.", "post_feedforward_layernorm."),
];

impl Config {
    /// Reads the config out of a GGUF file's metadata, and yields the file's weights under the names that graphs of
    /// the config ask for.
    ///
    /// # Errors
    /// If the file is of an unknown architecture, lacks what the config needs, or asks for something absurd.
    pub fn from_gguf(gguf: &Gguf) -> Result<(Self, Weights)> {
        let Names { family, .. } = gguf_names(gguf)?;
        let mut weights = gguf.weights.clone();
        let raw = raw(gguf, family, family.gguf)?;
        let mut config = Self::new(family, &raw, family.interleaved)?;
        // What transformers adds to the weights of norms has been added to them in the file.
        config.norm_offset = 0.0;
        weights.retain(|path| path != ROPE_FREQS && !ROPE_FACTORS.contains(&path));
        weights.rename(|path| Some(name(family, path)))?;
        as_matrices(&mut weights);
        Ok((config, weights))
    }
}

/// How a GGUF file names the tensors of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    family: &'static Family,
    /// True if rows of queries and keys are neighbours there that are turned together, and are not in transformers.
    pub(crate) neighbours: bool,
}

impl Names {
    /// The name of the tensor `path` in transformers.
    pub(crate) fn of(&self, path: &str) -> String {
        name(self.family, path)
    }
}

/// The names of a file, which may be an adapter.
///
/// # Errors
/// If its architecture is unknown.
pub(crate) fn gguf_names(gguf: &Gguf) -> Result<Names> {
    let Some(architecture) = gguf.text("general.architecture")? else {
        fail!(Missing, "{}: the file does not say its `general.architecture`", gguf.file);
    };
    let family = by_gguf(architecture)?;
    Ok(Names { family, neighbours: family.interleaved })
}

/// The name in transformers of the tensor `path` of a GGUF file of an architecture, if it is known.
pub(crate) fn name_in_transformers(architecture: &str, path: &str) -> Option<String> {
    by_gguf(architecture).ok().map(|family| name(family, path))
}

/// Gives matrices of one row two dimensions, of which files keep only the one that is not 1.
fn as_matrices(weights: &mut Weights) {
    let single = |(path, tensor): (&Arc<str>, &Tensor)| {
        let row = path.ends_with(".mlp.shared_expert_gate.weight") && tensor.shape.len() == 1;
        row.then(|| (path.clone(), Tensor { shape: vec![1, tensor.shape[0]], ..tensor.clone() }))
    };
    for (path, tensor) in weights.iter().filter_map(single).collect::<Vec<_>>() {
        weights.insert(&path, tensor);
    }
}

/// The name of a tensor in transformers.
fn name(family: &Family, path: &str) -> String {
    if let Some((from, to)) = OUTSIDE.iter().find(|(from, _)| path.starts_with(from)) {
        return format!("{to}{}", &path[from.len()..]);
    }
    let Some((layer, rest)) = path.strip_prefix("blk.").and_then(|path| path.split_once('.')) else {
        return path.to_owned();
    };
    let norms = match family.norms {
        Norms::Around => {
            [("post_attention_norm.", "post_attention_layernorm."), ("ffn_norm.", "pre_feedforward_layernorm.")]
        }
        Norms::Before | Norms::After => {
            [("post_attention_norm.", "post_attention_layernorm."), ("ffn_norm.", "post_attention_layernorm.")]
        }
    };
    let fused = [("ffn_up.", "mlp.gate_up_proj.")];
    let own = if family.fused { &fused[..] } else { &[] };
    let found = own.iter().chain(&norms).chain(&INSIDE).find(|(from, _)| rest.starts_with(from));
    match found {
        Some((from, to)) => format!("model.layers.{layer}.{to}{}", &rest[from.len()..]),
        None => format!("model.layers.{layer}.{rest}"),
    }
}

/// The metadata in the words of transformers.
fn raw(gguf: &Gguf, family: &Family, architecture: &str) -> Result<Raw> {
    let key = |name: &str| format!("{architecture}.{name}");
    let size = |name: &str| gguf.size(&key(name));
    let number = |name: &str| gguf.number(&key(name));
    let needed = |name: &str| match gguf.size(&key(name))? {
        Some(size) => Ok(size),
        None => fail!(Missing, "{}: `{}` is missing", gguf.file, key(name)),
    };
    let heads = needed("attention.head_count")?;
    let hidden_size = needed("embedding_length")?;
    let [key_length, value_length] = [size("attention.key_length")?, size("attention.value_length")?];
    if key_length != value_length {
        fail!(Unsupported, "{}: keys of {key_length:?} features, values of {value_length:?}", gguf.file);
    }
    let head_dim = key_length.unwrap_or(hidden_size / heads.max(1));
    let rope = RopeParameters { truncate: Some(family.whole_bounds), ..rope(gguf, architecture, head_dim)? };
    Ok(Raw {
        vocab_size: vocabulary(gguf)?,
        hidden_size,
        intermediate_size: needed("feed_forward_length")?,
        num_hidden_layers: needed("block_count")?,
        num_attention_heads: heads,
        num_key_value_heads: size("attention.head_count_kv")?,
        head_dim: Some(head_dim),
        max_position_embeddings: size("context_length")?,
        rms_norm_eps: number("attention.layer_norm_rms_epsilon")?,
        tie_word_embeddings: Some(gguf.weights.get("output.weight").is_none()),
        attention_bias: Some(gguf.weights.get("blk.0.attn_output.bias").is_some()),
        mlp_bias: Some(gguf.weights.get("blk.0.ffn_up.bias").is_some()),
        sliding_window: size("attention.sliding_window")?.filter(|&window| window > 0),
        // Some files list the layers instead; the family's pattern is the same then.
        sliding_window_pattern: size("attention.sliding_window_pattern").unwrap_or_default(),
        rope_local_base_freq: family.window_theta,
        rope_scaling: Some(rope),
        attn_logit_softcapping: number("attn_logit_softcapping")?,
        final_logit_softcapping: number("final_logit_softcapping")?,
        embedding_multiplier: number("embedding_scale")?.filter(|&scale| scale != 0.0),
        attention_multiplier: number("attention.scale")?.filter(|&scale| scale != 0.0),
        residual_multiplier: number("residual_scale")?.filter(|&scale| scale != 0.0),
        logits_scaling: number("logit_scale")?.filter(|&scale| scale != 0.0),
        clip_qkv: number("attention.clamp_kqv")?.filter(|&clip| clip != 0.0),
        num_experts: size("expert_count")?,
        num_experts_per_tok: size("expert_used_count")?,
        moe_intermediate_size: size("expert_feed_forward_length")?,
        shared_expert_intermediate_size: size("expert_shared_feed_forward_length")?,
        norm_topk_prob: gguf.flag(&key("expert_weights_norm"))?,
        ..Raw::default()
    })
}

fn rope(gguf: &Gguf, architecture: &str, head_dim: usize) -> Result<RopeParameters> {
    let key = |name: &str| format!("{architecture}.rope.{name}");
    let number = |name: &str| Ok::<_, ondine_graph::Error>(gguf.number(&key(name))?.map(f64::from));
    let factors = |name: &str| {
        let there = gguf.weights.get(name).filter(|tensor| tensor.dtype == DType::F32);
        there.map(|_| gguf.weights.to_f32(name)).transpose()
    };
    let wide = |factors: Option<std::borrow::Cow<'_, [f32]>>| {
        factors.map(|factors| factors.iter().copied().map(f64::from).collect::<Vec<_>>())
    };
    let short = wide(factors(ROPE_FACTORS[0])?);
    let kind = gguf.text(&key("scaling.type"))?.map(str::to_owned);
    Ok(RopeParameters {
        rope_type: if short.is_some() { Some("longrope".to_owned()) } else { kind },
        rope_theta: number("freq_base")?,
        factor: number("scaling.factor")?.filter(|_| short.is_none()),
        original_max_position_embeddings: gguf.size(&key("scaling.original_context_length"))?,
        attention_factor: number("scaling.attn_factor")?,
        partial_rotary_factor: gguf.size(&key("dimension_count"))?.map(|dims| dims as f64 / head_dim.max(1) as f64),
        short_factor: short,
        divisors: wide(factors(ROPE_FREQS)?),
        ..RopeParameters::default()
    })
}

/// Rows of the table of tokens.
fn vocabulary(gguf: &Gguf) -> Result<usize> {
    let tokens = gguf.metadata.get("tokenizer.ggml.tokens");
    match (gguf.weights.encoding("token_embd.weight")?, gguf.weights.get("token_embd.weight"), tokens) {
        (Some(encoding), ..) => Ok(encoding.shape[0]),
        (None, Some(tensor), _) if tensor.shape.len() == 2 => Ok(tensor.shape[0]),
        (None, _, Some(Value::List(tokens))) => Ok(tokens.len()),
        _ => fail!(Missing, "{}: tensor `token_embd.weight` is missing", gguf.file),
    }
}
