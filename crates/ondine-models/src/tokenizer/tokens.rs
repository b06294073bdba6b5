//! The tokens of a vocabulary and how they merge, as files list them.

use std::collections::HashMap;

use serde::Deserialize;

/// The model part of a `tokenizer.json`, or what stands in its place.
#[derive(Deserialize)]
pub(super) struct Vocabulary {
    pub(super) vocab: HashMap<String, u32>,
    #[serde(default)]
    pub(super) merges: Option<Vec<Merge>>,
    #[serde(default)]
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub(super) max_input_chars_per_word: Option<usize>,
}

/// Two tokens that become one.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a merge of two tokens")]
pub(super) enum Merge {
    Pair(String, String),
    Line(String),
}

impl Merge {
    pub(super) fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::Pair(a, b) => Some((a, b)),
            Self::Line(line) => line.split_once(' '),
        }
    }
}

/// A `vocab.json` with a `merges.txt`.
pub(super) fn byte_pairs(vocab: HashMap<String, u32>, merges: &str) -> Vocabulary {
    let lines = merges.lines().filter(|line| !line.starts_with("#version") && !line.trim().is_empty());
    Vocabulary {
        vocab,
        merges: Some(lines.map(|line| Merge::Line(line.to_owned())).collect()),
        end_of_word_suffix: Some("</w>".into()),
        continuing_subword_prefix: None,
        max_input_chars_per_word: None,
    }
}

/// A `vocab.txt`: one token per line.
pub(super) fn word_pieces(lines: &str) -> Vocabulary {
    Vocabulary {
        vocab: lines.lines().map(|line| line.trim_end().to_owned()).zip(0..).collect(),
        merges: None,
        end_of_word_suffix: None,
        continuing_subword_prefix: None,
        max_input_chars_per_word: None,
    }
}
