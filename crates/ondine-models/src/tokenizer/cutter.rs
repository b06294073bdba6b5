//! What cuts a text into tokens.

use std::collections::HashSet;

use ondine_graph::{Context, Result, fail};
use serde::Deserialize;
use tokenizers::{AddedToken, Tokenizer as Steps};

use crate::{
    config::{self, invalid},
    vocabulary::{Controls, Vocabulary},
    weights::{Source, VOCABULARY, join},
};

/// What cuts a text into tokens.
#[derive(Clone, Debug)]
pub(super) enum Cutter {
    /// The steps of `CLIPTokenizer` or `BertTokenizer`.
    Steps(Box<Steps>),
    /// The pieces of `T5Tokenizer`, or the vocabulary of a language model.
    Pieces(Box<Vocabulary>),
}

impl Cutter {
    /// The ids of a text alone.
    pub(super) fn ids(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            Self::Steps(steps) => Ok(steps.encode_fast(text, false).map_err(invalid)?.get_ids().to_vec()),
            Self::Pieces(vocabulary) => vocabulary.encode(text, Controls::Meant),
        }
    }

    /// How many tokens there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Steps(steps) => steps.get_vocab_size(true),
            Self::Pieces(vocabulary) => vocabulary.len(),
        }
    }

    /// Adds tokens that are found as they are written.
    pub(super) fn add(&mut self, names: &[String]) -> Result<()> {
        match self {
            Self::Steps(steps) => {
                let tokens = names.iter().map(|name| AddedToken::from(name.clone(), true).normalized(false));
                steps.add_special_tokens(tokens.collect::<Vec<_>>()).map_err(invalid).map(|_| ())
            }
            Self::Pieces(_) => fail!(Unsupported, "no word can be added to the vocabulary of a T5 or a language model"),
        }
    }

    /// The id of a token, if it is one.
    pub(super) fn id_of(&self, token: &str) -> Option<u32> {
        match self {
            Self::Steps(steps) => steps.token_to_id(token),
            Self::Pieces(vocabulary) => match vocabulary.encode(token, Controls::Meant).ok()?.as_slice() {
                [id] if vocabulary.spelled(*id).is_ok_and(|spelled| spelled == token.as_bytes()) => Some(*id),
                _ => None,
            },
        }
    }

    /// The tokens of a text as they are written, where there are steps.
    pub(super) fn tokens(&self, text: &str) -> Result<Vec<String>> {
        match self {
            Self::Steps(steps) => {
                let ids = self.ids(text)?;
                Ok(ids.into_iter().filter_map(|id| steps.id_to_token(id)).collect())
            }
            Self::Pieces(_) => Ok(Vec::new()),
        }
    }

    /// Those of `words` whose tokens stand in a text.
    pub(super) fn used<'w>(&self, text: &str, words: impl Iterator<Item = &'w str>) -> Result<HashSet<&'w str>> {
        let ids = self.ids(text)?;
        Ok(words.filter(|word| self.id_of(word).is_some_and(|id| ids.contains(&id))).collect())
    }
}

/// The pieces in `folder`, if it holds the tokenizer of a T5.
pub(super) fn pieces(source: &Source, folder: &str) -> Result<Option<Vocabulary>> {
    #[derive(Deserialize)]
    struct File {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    let (whole, model) = (join(folder, "tokenizer.json"), join(folder, "spiece.model"));
    let is_pieces = if source.exists(&whole) {
        let file: File = config::parse(&source.text(&whole)?).at(|| source.describe(&whole))?;
        file.model.kind.as_deref() == Some("Unigram")
    } else {
        source.exists(&model) || source.exists(&join(folder, VOCABULARY))
    };
    if is_pieces { Vocabulary::open(source, folder).map(Some) } else { Ok(None) }
}
