//! What texts mean, as vectors: texts that mean alike point the same way.

use ondine_graph::{NDArray, Result, fail};
use ondine_models::{Network, Source, Vocabulary, vocabulary::Controls};
use ondine_runtime::{Cache, Device, Function, Options, Precision, Specialize, State};

/// What the function of an encoder calls the mean of its states.
const EMBEDDING: &str = "sentence_embedding";

/// What it calls the tokens that are looked at.
const MASK: &str = "attention_mask";

/// Makes vectors of texts.
#[derive(Debug)]
pub struct Embedder {
    vocabulary: Vocabulary,
    function: Function,
    state: State,
    max_tokens: usize,
}

/// A vector, and the tokens that it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Of length 1: products of two are the cosine between them.
    pub vector: Vec<f32>,
    /// How many tokens the text has.
    pub tokens: usize,
}

impl Embedder {
    /// Opens a text encoder: its network in the folder `network` of `source`, its vocabulary in `vocabulary`.
    ///
    /// # Errors
    /// If it is broken, or makes no embedding of a whole text.
    pub fn open(
        source: &Source,
        [network, vocabulary]: [&str; 2],
        precision: Precision,
        device: &Device,
        cache: Option<&Cache>,
    ) -> Result<Self> {
        let vocabulary = Vocabulary::open(source, vocabulary)?;
        let network = Network::open(source, network, None)?;
        let max_tokens = network.text()?.max_tokens;
        let asset = network.asset(Default::default())?;
        let embeds = |name: &&std::sync::Arc<str>| {
            asset.function(name).is_ok_and(|graph| graph.outputs().iter().any(|(output, _)| **output == *EMBEDDING))
        };
        let Some(name) = asset.functions().keys().find(embeds).cloned() else {
            fail!(Unsupported, "{}: it makes no embedding of a whole text", network.name);
        };
        let options = Options { precision, ..Options::default() };
        let function = asset.only(&name)?.specialize(&options, device, cache)?.load()?.function(&name)?;
        Ok(Self { vocabulary, function, state: State::default(), max_tokens })
    }

    /// The vector of a text.
    ///
    /// # Errors
    /// If the text is longer than the encoder reads, or means nothing to it.
    pub fn embed(&mut self, text: &str) -> Result<Embedding> {
        let ids = self.vocabulary.encode_whole(text, Controls::Text)?;
        if ids.is_empty() || ids.len() > self.max_tokens {
            fail!(Argument, "a text of {} tokens; the encoder reads 1 to {}", ids.len(), self.max_tokens);
        }
        let numbers: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
        let (shape, seen) = ([1, ids.len()], vec![1_i64; ids.len()]);
        let (tokens, seen) = (NDArray::new(&shape, &numbers)?, NDArray::new(&shape, &seen)?);
        // Nothing is padding: encoders that ask what to look at are told all.
        let mut inputs = vec![("input_ids", &tokens)];
        if self.function.graph().inputs().iter().any(|(name, _)| **name == *MASK) {
            inputs.push((MASK, &seen));
        }
        let mut vector = self.function.run(&inputs, &mut self.state)?.take(EMBEDDING)?.to_f32();
        let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if !length.is_finite() || length == 0.0 {
            fail!(Internal, "the encoder yields no numbers; are its weights whole?");
        }
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        Ok(Embedding { vector, tokens: ids.len() })
    }
}
