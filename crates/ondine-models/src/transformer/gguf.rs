//! Language models in GGUF files: the config from their metadata, and their names in the words of transformers.

use std::sync::Arc;

use ondine_graph::{Result, Tensor, Weights, fail};

use super::{
    config::{Config, FULL, Raw, SLIDING},
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
    let size = |name: &str| gguf.size_of_all(&key(name));
    let number = |name: &str| gguf.number(&key(name));
    let needed = |name: &str| present(gguf, &key(name), size(name)?);
    let heads = needed("attention.head_count")?;
    let hidden_size = needed("embedding_length")?;
    let [key_length, value_length] = [size("attention.key_length")?, size("attention.value_length")?];
    if key_length != value_length {
        fail!(Unsupported, "{}: keys of {key_length:?} features, values of {value_length:?}", gguf.file);
    }
    let head_dim = key_length.unwrap_or(hidden_size / heads.max(1));
    let (layers, sliding_window) = (needed("block_count")?, size("attention.sliding_window")?.or(family.window));
    let sliding_window = sliding_window.filter(|&window| window > 0);
    let (pattern, layer_types) = match gguf.metadata.get(&key("attention.sliding_window_pattern")) {
        Some(Value::List(narrow)) => (None, sliding_window.map(|_| kinds_of_layers(narrow))),
        _ => (size("attention.sliding_window_pattern")?, None),
    };
    let wide = family.wide_at == Some(layers);
    let eps = "attention.layer_norm_rms_epsilon";
    let rope = RopeParameters { truncate: Some(family.whole_bounds), ..rope(gguf, architecture, head_dim)? };
    Ok(Raw {
        vocab_size: vocabulary(gguf)?,
        hidden_size,
        intermediate_size: needed("feed_forward_length")?,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: size("attention.head_count_kv")?,
        head_dim: Some(head_dim),
        max_position_embeddings: size("context_length")?,
        rms_norm_eps: Some(present(gguf, &key(eps), number(eps)?)?),
        tie_word_embeddings: Some(gguf.weights.get("output.weight").is_none()),
        attention_bias: Some(gguf.weights.get("blk.0.attn_output.bias").is_some()),
        mlp_bias: Some(gguf.weights.get("blk.0.ffn_up.bias").is_some()),
        sliding_window,
        sliding_window_pattern: pattern,
        layer_types,
        rope_local_base_freq: number("rope.freq_base_swa")?.map(f64::from).or(family.window_theta),
        rope_scaling: Some(rope),
        query_pre_attn_scalar: wide.then(|| (hidden_size / heads.max(1)) as f32),
        attn_logit_softcapping: number("attn_logit_softcapping")?.or(family.soft_caps.attention),
        final_logit_softcapping: number("final_logit_softcapping")?.or(family.soft_caps.logits),
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

/// What a model cannot be without.
fn present<T>(gguf: &Gguf, key: &str, value: Option<T>) -> Result<T> {
    match value {
        Some(value) => Ok(value),
        None => fail!(Missing, "{}: `{key}` is missing", gguf.file),
    }
}

/// The kinds of layers, of which a file says whether each has a window.
fn kinds_of_layers(narrow: &[Value]) -> Vec<String> {
    let kind = |narrow: &Value| if matches!(narrow, Value::Bool(false) | Value::Integer(0)) { FULL } else { SLIDING };
    narrow.iter().map(|narrow| kind(narrow).to_owned()).collect()
}

fn rope(gguf: &Gguf, architecture: &str, head_dim: usize) -> Result<RopeParameters> {
    let key = |name: &str| format!("{architecture}.rope.{name}");
    let number = |name: &str| Ok::<_, ondine_graph::Error>(gguf.number(&key(name))?.map(f64::from));
    let factors = |name: &str| gguf.weights.get(name).map(|_| gguf.weights.to_f32(name)).transpose();
    let wide = |factors: Option<std::borrow::Cow<'_, [f32]>>| {
        factors.map(|factors| factors.iter().copied().map(f64::from).collect::<Vec<_>>())
    };
    let short = wide(factors(ROPE_FACTORS[0])?);
    // Older files say by how much positions are scaled and not how: all of them alike.
    let factor = number("scaling.factor")?.or(number("scale_linear")?).filter(|&factor| factor != 0.0);
    let kind = gguf.text(&key("scaling.type"))?.or(factor.map(|_| "linear"));
    let kind = if short.is_some() { Some("longrope") } else { kind };
    Ok(RopeParameters {
        rope_type: kind.map(str::to_owned),
        rope_theta: number("freq_base")?,
        factor: factor.filter(|_| short.is_none()),
        beta_fast: number("scaling.yarn_beta_fast")?,
        beta_slow: number("scaling.yarn_beta_slow")?,
        original_max_position_embeddings: gguf.size(&key("scaling.original_context_length"))?,
        attention_factor: number("scaling.attn_factor")?.or(number("scaling.yarn_attn_factor")?),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transformer::SoftCaps;

    /// The config of a file of 6 layers and 8 heads of 4 features, with these metadata besides.
    fn config(architecture: &str, besides: &[(&str, Value)]) -> Result<Config> {
        let integers = [
            ("block_count", 6),
            ("embedding_length", 48),
            ("feed_forward_length", 64),
            ("attention.head_count", 8),
            ("attention.key_length", 4),
            ("attention.value_length", 4),
            ("context_length", 512),
        ];
        let own = integers.map(|(name, value)| (name, Value::Integer(value)));
        let own = own.into_iter().chain([("attention.layer_norm_rms_epsilon", Value::Float(1e-6))]);
        let named = |(name, value): (&str, Value)| (format!("{architecture}.{name}"), value);
        let mut metadata: std::collections::BTreeMap<_, _> = own.chain(besides.iter().cloned()).map(named).collect();
        metadata.retain(|_, value| *value != Value::Bool(false));
        metadata.insert("general.architecture".to_owned(), Value::Text(architecture.into()));
        metadata.insert("tokenizer.ggml.tokens".to_owned(), Value::List([Value::Text("a".into())].into()));
        Config::from_gguf(&Gguf { file: "file".into(), metadata, weights: Weights::default() })
            .map(|(config, _)| config)
    }

    fn windows(config: &Config) -> Vec<Option<usize>> {
        config.layers.iter().map(|layer| layer.window).collect()
    }

    #[test]
    fn what_files_of_a_family_do_not_say_is_known() {
        let gemma = config("gemma2", &[]).unwrap();
        assert_eq!(gemma.soft_caps, SoftCaps { attention: Some(50.0), logits: Some(30.0) });
        assert_eq!(windows(&gemma)[..2], [Some(4096), None]);
        assert_eq!(gemma.scales.attention, 0.5);
        let told = [("attn_logit_softcapping", Value::Float(3.0)), ("attention.sliding_window", Value::Integer(7))];
        let gemma = config("gemma2", &told).unwrap();
        assert_eq!((gemma.soft_caps.attention, windows(&gemma)[0]), (Some(3.0), Some(7)));
        for (architecture, depth) in [("gemma2", 46), ("gemma3", 62)] {
            let deep = config(architecture, &[("block_count", Value::Integer(depth))]).unwrap();
            assert_eq!(deep.scales.attention, 1.0 / 6.0_f32.sqrt(), "{architecture}");
        }
        assert_eq!(config("gemma3", &[]).unwrap().soft_caps, SoftCaps::default());
    }

    #[test]
    fn layers_with_a_window_may_be_listed_and_turn_as_they_did_before_scaling() {
        let narrow = [true, false, true, true, false, true];
        let listed = [
            ("attention.sliding_window", Value::Integer(5)),
            ("attention.sliding_window_pattern", Value::List(narrow.map(Value::Bool).into())),
            ("rope.scaling.type", Value::Text("linear".into())),
            ("rope.scaling.factor", Value::Float(4.0)),
        ];
        for architecture in ["olmo2", "gemma3"] {
            let config = config(architecture, &listed).unwrap();
            assert_eq!(windows(&config), narrow.map(|narrow| narrow.then_some(5)), "{architecture}");
            let first = |layer: usize| config.rotaries[config.layers[layer].rotary.unwrap()].inverse_frequencies[0];
            assert_eq!([first(0), first(1)], [1.0, 0.25], "{architecture}");
        }
        let olmo = config("olmo2", &listed[..1]).unwrap();
        assert_eq!(windows(&olmo), [Some(5), Some(5), Some(5), None, Some(5), Some(5)]);
        assert_eq!(windows(&config("olmo2", &listed[1..2]).unwrap()), [None; 6], "there is no window");
        let gemma = config("gemma3", &[listed[0].clone(), ("rope.freq_base_swa", Value::Float(4.0))]).unwrap();
        assert_eq!(gemma.rotaries[1].inverse_frequencies, [1.0, 0.5]);
    }

    #[test]
    fn angles_are_scaled_as_files_of_all_ages_say() {
        let factor = Value::Float(4.0);
        let plain = config("llama", &[]).unwrap().rotaries;
        for scaled in [
            &[("rope.scaling.factor", factor.clone())][..],
            &[("rope.scale_linear", factor.clone())],
            &[("rope.scaling.type", Value::Text("linear".into())), ("rope.scaling.factor", factor.clone())],
        ] {
            let found = &config("llama", scaled).unwrap().rotaries[0].inverse_frequencies;
            let wanted: Vec<f32> = plain[0].inverse_frequencies.iter().map(|angle| angle / 4.0).collect();
            assert_eq!(*found, wanted, "{scaled:?}");
        }
        let none = [("rope.scaling.type", Value::Text("none".into())), ("rope.scaling.factor", factor.clone())];
        assert_eq!(config("llama", &none).unwrap().rotaries, plain);
        let yarn = [("rope.scaling.type", Value::Text("yarn".into())), ("rope.scaling.factor", factor)];
        let told =
            [("rope.scaling.yarn_attn_factor", Value::Float(1.5)), ("rope.scaling.yarn_beta_fast", Value::Float(9.0))];
        let [without, with] =
            [&yarn[..], &[&yarn[..], &told].concat()].map(|told| config("llama", told).unwrap().rotaries.remove(0));
        assert_eq!(with.scale, 1.5);
        assert_ne!(without.scale, 1.5);
    }

    #[test]
    fn sizes_of_each_layer_are_read_if_they_are_the_same() {
        let list = |sizes: [i64; 6]| ("attention.head_count_kv", Value::List(sizes.map(Value::Integer).into()));
        assert_eq!(config("llama", &[list([2; 6])]).unwrap().kv_heads, 2);
        let differing = config("llama", &[list([2, 2, 4, 2, 2, 2])]).unwrap_err().to_string();
        assert!(differing.contains("`llama.attention.head_count_kv` differs"), "{differing}");
        let silent = config("llama", &[("attention.layer_norm_rms_epsilon", Value::Bool(false))]).unwrap_err();
        assert!(silent.to_string().contains("layer_norm_rms_epsilon` is missing"), "{silent}");
    }
}
