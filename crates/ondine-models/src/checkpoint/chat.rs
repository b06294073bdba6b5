//! A language model as text encoder in a checkpoint: Qwen 3 under the names of transformers or of GGUF files.

use std::collections::BTreeMap;

use ondine_graph::{Result, Weights, fail};
use serde_json::{Value, json};

use super::tensors::{count, shape};
use crate::{transformer::name_in_transformers, weights::Rename};

/// Its class: what is read of it are its states, which need no head.
pub(super) const CLASS: &str = "Qwen3Model";

/// Tensors that a language model has under each way to name it.
pub(super) const MARKS: [&str; 3] =
    ["model.layers.0.self_attn.q_proj.weight", "layers.0.self_attn.q_proj.weight", GGUF_MARK];
const GGUF_MARK: &str = "blk.0.attn_q.weight";

/// True for the tensors of a language model.
pub(super) fn is_one(weights: &Weights) -> bool {
    MARKS.iter().any(|mark| weights.get(mark).is_some())
}

/// Gives the tensors the names that they have in transformers, and yields the config. What no tensor says is as
/// `notes`, the metadata of a GGUF file, have it, or `known`, the config of the encoder that it takes the place of, or
/// as it is in published models.
///
/// # Errors
/// If it is a language model of another kind.
pub(super) fn convert(weights: &mut Weights, notes: &BTreeMap<String, String>, known: Option<&Value>) -> Result<Value> {
    if weights.get(GGUF_MARK).is_some() {
        let architecture = notes.get("general.architecture").map_or("", String::as_str);
        if architecture != QWEN3 {
            fail!(
                Unsupported,
                "a language model `{architecture}` in a GGUF file; read are those of {QWEN3}: give the folder"
            );
        }
        weights.rename(|path| name_in_transformers(architecture, path))?;
    }
    let bare = Rename { from: "^model.", to: "" };
    crate::weights::rename(weights, &[bare])?;
    weights.retain(|path| path != "lm_head.weight");
    let of = |path: &str| match shape(weights, path) {
        Some(shape) => Ok([shape[0], shape.get(1).copied().unwrap_or(1)]),
        None => fail!(
            Unsupported,
            "the text encoder has no `{path}`, so it is no Qwen 3 as FLUX.2 and Z-Image have; give the folder of one"
        ),
    };
    let attention = "layers.0.self_attn";
    let [head, _] = of(&format!("{attention}.q_norm.weight"))?;
    let [queries, _] = of(&format!("{attention}.q_proj.weight"))?;
    let [keys, _] = of(&format!("{attention}.k_proj.weight"))?;
    let [vocabulary, width] = of("embed_tokens.weight")?;
    let [hidden, _] = of("layers.0.mlp.gate_proj.weight")?;
    let said = |of_config: &str, of_file: &str, usual: f64| {
        let noted = notes.get(&format!("{QWEN3}.{of_file}")).and_then(|note| note.parse().ok());
        let known = || known?.get(of_config)?.as_f64();
        noted.or_else(known).unwrap_or(usual)
    };
    Ok(json!({
        "architectures": [CLASS],
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_hidden_layers": count(weights, |i| format!("layers.{i}.self_attn.q_proj.weight")),
        "num_attention_heads": queries / head.max(1),
        "num_key_value_heads": keys / head.max(1),
        "head_dim": head,
        "max_position_embeddings": said("max_position_embeddings", "context_length", 40960.0) as u64,
        "rope_theta": theta(known).unwrap_or_else(|| said("rope_theta", "rope.freq_base", 1e6)),
        "rms_norm_eps": said("rms_norm_eps", "attention.layer_norm_rms_epsilon", 1e-6),
        "tie_word_embeddings": true,
    }))
}

/// What GGUF files call the architecture.
const QWEN3: &str = "qwen3";

/// The base of the rotary positions, as newer configs say it.
fn theta(known: Option<&Value>) -> Option<f64> {
    known?.get("rope_parameters")?.get("rope_theta")?.as_f64()
}

#[cfg(test)]
mod tests {
    use ondine_graph::{DType, Tensor};

    use super::*;

    /// Two layers of width 12 with 3 heads of 8 and one of keys, 20 wide inside, 30 words.
    fn weights(gguf: bool) -> Weights {
        let mut weights = Weights::default();
        let mut insert = |path: &str, shape: &[usize]| {
            let bytes = vec![0_u8; 4 * shape.iter().product::<usize>()];
            let tensor =
                Tensor { dtype: DType::F32, shape: shape.to_vec(), bytes: bytes.as_slice().into(), file: "x".into() };
            weights.insert(path, tensor);
        };
        insert(if gguf { "token_embd.weight" } else { "model.embed_tokens.weight" }, &[30, 12]);
        for i in 0..2 {
            for (own, of_gguf, shape) in [
                ("self_attn.q_proj", "attn_q", &[24, 12][..]),
                ("self_attn.k_proj", "attn_k", &[8, 12]),
                ("self_attn.q_norm", "attn_q_norm", &[8]),
                ("mlp.gate_proj", "ffn_gate", &[20, 12]),
            ] {
                match gguf {
                    true => insert(&format!("blk.{i}.{of_gguf}.weight"), shape),
                    false => insert(&format!("model.layers.{i}.{own}.weight"), shape),
                }
            }
        }
        weights
    }

    #[test]
    fn a_config_follows_from_shapes_notes_and_what_is_known() {
        let notes = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, note)| ((*key).to_owned(), (*note).to_owned())).collect()
        };
        let known = json!({"rms_norm_eps": 1e-5, "rope_parameters": {"rope_theta": 5e5}});
        let file = notes(&[("general.architecture", "qwen3"), ("qwen3.rope.freq_base", "250000")]);
        for (gguf, notes, known, theta, epsilon) in [
            (false, notes(&[]), None, 1e6, 1e-6),
            (false, notes(&[]), Some(&known), 5e5, 1e-5),
            (true, file, None, 250_000.0, 1e-6),
        ] {
            let mut weights = weights(gguf);
            assert!(is_one(&weights));
            let config = convert(&mut weights, &notes, known).unwrap();
            for (option, value) in [
                ("vocab_size", 30),
                ("hidden_size", 12),
                ("intermediate_size", 20),
                ("num_hidden_layers", 2),
                ("num_attention_heads", 3),
                ("num_key_value_heads", 1),
                ("head_dim", 8),
            ] {
                assert_eq!(config[option], value, "{option}");
            }
            assert_eq!((&config["rope_theta"], &config["rms_norm_eps"]), (&json!(theta), &json!(epsilon)));
            assert!(weights.get("layers.1.self_attn.q_norm.weight").is_some());
        }
        let llama = notes(&[("general.architecture", "llama")]);
        let error = convert(&mut weights(true), &llama, None).unwrap_err().to_string();
        assert!(error.contains("`llama`") && error.contains("give the folder"), "{error}");
        let mut bare = weights(false);
        bare.retain(|path| !path.contains("q_norm"));
        assert!(convert(&mut bare, &BTreeMap::new(), None).unwrap_err().to_string().contains("no Qwen 3"));
    }
}
