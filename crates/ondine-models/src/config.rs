//! What all configs share: reading them, and refusing absurd values before anything is built.

use std::fmt;

use ondine_graph::{Activation, Error, ErrorKind, Result, fail};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, Visitor, value},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

/// The most channels, features or units that a layer may have.
pub(crate) const MAX_WIDTH: usize = 1 << 16;
/// The most layers, blocks or levels that a network may repeat.
pub(crate) const MAX_DEPTH: usize = 256;
/// The most rows of an embedding table; token ids stay exact as f32.
pub(crate) const MAX_ROWS: usize = 1 << 24;

/// Side of the latents that networks are made fast for, if their config does not say.
pub(crate) const TYPICAL_LATENTS: usize = 64;

/// What is wrong with the files of a tokenizer, as the crate that reads them says it.
#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
pub(crate) fn invalid(error: tokenizers::Error) -> Error {
    Error::new(ErrorKind::Format, error.to_string())
}

/// Reads the text of a `config.json`.
pub(crate) fn parse<T: DeserializeOwned>(json: &str) -> Result<T> {
    // serde would also fill a struct from a list, and all of it by default from an empty one.
    if !json.trim_start().starts_with('{') {
        fail!(Format, "not a valid config: it must be a JSON object");
    }
    serde_json::from_str(json).map_err(|error| Error::new(ErrorKind::Format, format!("not a valid config: {error}")))
}

/// Reads the text of a `config.json` whose options are the fields of `T`, or among those `without_effect` on what the
/// network computes.
///
/// Any other may ask for another network than `T` can describe: it is refused, unless it is off.
pub(crate) fn options<T: DeserializeOwned>(json: &str, without_effect: &[&str]) -> Result<T> {
    let given: Map<String, Value> = parse(json)?;
    let fields = field_names::<T>();
    for (option, value) in &given {
        // Names that begin so are notes of the program that wrote the file.
        let known = option.starts_with('_') || [fields, without_effect].iter().any(|names| names.contains(&&**option));
        if !known && !is_off(value) {
            let shown: String = value.to_string().chars().take(40).collect();
            fail!(
                Unsupported,
                "`{option}` = {shown} is not known here; take it out if the network is the same without it"
            );
        }
    }
    parse(json)
}

/// True for values that ask for nothing.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// The names that the fields of a struct have in files.
fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    /// Hears what a struct asks for, and hands it nothing.
    struct Listener<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Listener<'_> {
        type Error = value::Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, value::Error> {
            *self.0 = fields;
            Err(value::Error::custom("only the names were asked for"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, value::Error> {
            Err(value::Error::custom("no struct"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut names: &[&str] = &[];
    // The failure is how the listener ends the reading.
    let _ = T::deserialize(Listener(&mut names));
    names
}

/// Options of every config of transformers that say how text is generated, how training went or what else was asked of
/// the model, but not what the network computes.
pub(crate) const TRANSFORMERS_NOTES: &[&str] = &[
    "add_cross_attention",
    "architectures",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cls_token_id",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
    // Shares of what is left out in training.
    "attention_dropout",
    "attention_probs_dropout_prob",
    "dropout",
    "hidden_dropout_prob",
];

/// The class that a `config.json` of diffusers names; transformers' may name one that holds the network.
pub(crate) fn named_class(json: &str) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Named {
        _class_name: Option<String>,
    }
    Ok(parse::<Named>(json)?._class_name)
}

/// The class that a `config.json` names: `_class_name` in diffusers, the first of `architectures` in transformers.
///
/// # Errors
/// If the text is no config, or names none.
pub fn class_of(json: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Named {
        _class_name: Option<String>,
        architectures: Option<Vec<String>>,
    }
    let named: Named = parse(json)?;
    let architecture = || named.architectures.and_then(|names| names.into_iter().next());
    match named._class_name.or_else(architecture) {
        Some(class) => Ok(class),
        None => fail!(Missing, "the config names no class; expected `_class_name` or `architectures`"),
    }
}

/// An option that is one value for all levels of a network, or a list with one per level.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected one value or a list of values")]
pub enum PerLevel<T> {
    /// One per level, from the outermost. Stands first because a value may be a list itself.
    Each(Vec<T>),
    /// The same everywhere.
    All(T),
}

impl<T: Clone> PerLevel<T> {
    /// The values of `levels` levels.
    ///
    /// # Errors
    /// If it is a list of another length; `option` names it.
    pub fn levels(&self, option: &str, levels: usize) -> Result<Vec<T>> {
        match self {
            Self::All(value) => Ok(vec![value.clone(); levels]),
            Self::Each(values) => {
                same_length(option, values, levels)?;
                Ok(values.clone())
            }
        }
    }
}

/// Refuses a list that has not one element per level.
pub(crate) fn same_length<T>(option: &str, values: &[T], levels: usize) -> Result<()> {
    if values.len() != levels {
        fail!(Shape, "`{option}` lists {} values for {levels} levels", values.len());
    }
    Ok(())
}

/// Refuses a size of zero or above `max`.
pub(crate) fn bounded(option: &str, value: usize, max: usize) -> Result<usize> {
    if value == 0 || value > max {
        fail!(Shape, "`{option}` is {value}, it must be between 1 and {max}");
    }
    Ok(value)
}

/// Refuses each size of zero or above its bound: option, value, bound.
pub(crate) fn all_bounded<const N: usize>(sizes: [(&str, usize, usize); N]) -> Result<()> {
    sizes.into_iter().try_for_each(|(option, value, max)| bounded(option, value, max).map(drop))
}

/// Refuses a `size` that does not split into `parts` equal parts.
pub(crate) fn divides(option: &str, parts: usize, what: &str, size: usize) -> Result<()> {
    if parts == 0 || !size.is_multiple_of(parts) {
        fail!(Shape, "`{option}` is {parts}, which does not divide {what} {size}");
    }
    Ok(())
}

/// Refuses a number that is not a usable epsilon.
pub(crate) fn epsilon(option: &str, value: f32) -> Result<f32> {
    if !(value.is_finite() && value >= 0.0) {
        fail!(Shape, "`{option}` is {value}, it must be a number from 0 up");
    }
    Ok(value)
}

/// Refuses a number that is not above 0.
pub(crate) fn positive(option: &str, value: f64) -> Result<()> {
    if !(value.is_finite() && value > 0.0) {
        fail!(Shape, "`{option}` is {value}; it must be a number above 0");
    }
    Ok(())
}

/// Refuses every value but those that this engine knows how to compute.
pub(crate) fn supported<T: PartialEq + fmt::Debug>(option: &str, value: &T, known: &[T]) -> Result<()> {
    if !known.contains(value) {
        fail!(Unsupported, "`{option}` = {value:?} is not supported; supported: {known:?}");
    }
    Ok(())
}

/// Names of activation functions in diffusers and transformers.
const ACTIVATIONS: &[(&str, Activation)] = &[
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("gelu", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("quick_gelu", Activation::QuickGelu),
    ("relu", Activation::Relu),
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
];

/// The activation function that `option` names.
pub(crate) fn activation(option: &str, name: &str) -> Result<Activation> {
    let lower = name.to_lowercase();
    match ACTIVATIONS.iter().find(|(known, _)| *known == lower) {
        Some(&(_, activation)) => Ok(activation),
        None => {
            let known: Vec<_> = ACTIVATIONS.iter().map(|(known, _)| *known).collect();
            fail!(Unsupported, "`{option}` = {name:?} is not supported; supported: {known:?}")
        }
    }
}
