//! The tokens of a language model: from text to ids and back.
//!
//! | from | kinds |
//! |---|---|
//! | [`Vocabulary::from_gguf`] | pairs of bytes, SentencePiece by scores or likelihood, word pieces |
//! | [`Vocabulary::open`] | a folder's `tokenizer.json`, else its `tokenizer.model` |
//! | [`Vocabulary::from_sentencepiece`] | a file of SentencePiece |
//!
//! What a file does not say is not guessed: a way to cut text that is not known is an error.

mod added;
mod characters;
mod folder;
mod gguf;
mod merges;
mod pieces;
mod sentencepiece;
mod spelling;
mod table;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use ondine_graph::{Result, fail};
use tokenizers::{AddedToken, Tokenizer as Steps};

use crate::config::invalid;
use pieces::Pieces;
use spelling::{Kind, Spellings};

pub use spelling::Decoder;

/// What the texts of tokens that say something, such as `<|im_end|>`, are in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controls {
    /// Those tokens: the text is that of a template.
    Meant,
    /// Text as any other: somebody else wrote it.
    Text,
}

/// The tokens of a language model.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    cutter: Cutter,
    spellings: Spellings,
    /// What every text begins and ends with.
    around: [Vec<u32>; 2],
    /// The tokens after which nothing follows.
    ends: BTreeSet<u32>,
    begin: Option<u32>,
    end: Option<u32>,
    templates: BTreeMap<String, Arc<str>>,
}

/// What cuts text.
#[derive(Clone, Debug)]
enum Cutter {
    Steps(Box<Stepped>),
    Pieces(Box<Pieces>),
}

/// Steps as the files of transformers name them.
#[derive(Debug)]
struct Stepped {
    steps: Steps,
    /// The same with control tokens as text, made when it is first asked for.
    literal: OnceLock<Box<Steps>>,
}

impl Clone for Stepped {
    fn clone(&self) -> Self {
        Self::new(self.steps.clone())
    }
}

impl Stepped {
    fn new(steps: Steps) -> Self {
        Self { steps, literal: OnceLock::new() }
    }

    /// True if a text is cut out of others first.
    fn is_added(&self, text: &str) -> bool {
        self.steps.get_added_vocabulary().get_vocab().contains_key(text)
    }

    /// Adds a token that is, and yields its id.
    fn add(&mut self, token: AddedToken) -> Result<u32> {
        let text = token.content.clone();
        self.literal = OnceLock::new();
        let added = if token.special { self.steps.add_special_tokens([token]) } else { self.steps.add_tokens([token]) };
        added.map_err(invalid)?;
        let Some(id) = self.steps.token_to_id(&text) else { fail!(Format, "{text:?} cannot be a token") };
        Ok(id)
    }

    fn encode(&self, text: &str, controls: Controls) -> Result<Vec<u32>> {
        let steps = match controls {
            Controls::Meant => &self.steps,
            Controls::Text => self.literal.get_or_init(|| {
                let mut literal = self.steps.clone();
                literal.set_encode_special_tokens(true);
                Box::new(literal)
            }),
        };
        Ok(steps.encode_fast(text, false).map_err(invalid)?.get_ids().to_vec())
    }
}

/// The template of chats that is used if none is asked for.
const DEFAULT_TEMPLATE: &str = "default";

/// Texts of control tokens that end a turn, whatever else a file says: checkpoints name one, and have learned several.
const ENDS_OF_TURNS: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<turn|>",
    "<|tool_response>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "</s>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Ends a part of an answer, not the answer, where these begin parts of it.
const END_OF_PART: (&str, [&str; 2]) = ("<|end|>", ["<|channel|>", "<|message|>"]);

impl Vocabulary {
    fn new(cutter: Cutter, spellings: Spellings) -> Self {
        let mut vocabulary = Self {
            cutter,
            spellings,
            around: [Vec::new(), Vec::new()],
            ends: BTreeSet::new(),
            begin: None,
            end: None,
            templates: BTreeMap::new(),
        };
        vocabulary.find_ends();
        vocabulary
    }

    /// Notes the tokens that end a turn by their texts.
    fn find_ends(&mut self) {
        let mut controls: BTreeMap<String, u32> = BTreeMap::new();
        for id in 0..u32::try_from(self.spellings.len()).unwrap_or(u32::MAX) {
            if let Ok((bytes, Kind::Control | Kind::Word)) = self.spellings.of(id) {
                controls.insert(String::from_utf8_lossy(bytes).into_owned(), id);
            }
        }
        let (part, begins) = END_OF_PART;
        let in_parts = begins.iter().all(|begin| controls.contains_key(*begin));
        let ends = ENDS_OF_TURNS.iter().filter(|end| !(in_parts && **end == part));
        self.ends.extend(ends.filter_map(|end| controls.get(*end)));
    }

    /// How many tokens there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spellings.len()
    }

    /// True if there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids of `text` and nothing else.
    ///
    /// # Errors
    /// If no token spells a part of it, and none stands for the unknown.
    pub fn encode(&self, text: &str, controls: Controls) -> Result<Vec<u32>> {
        match &self.cutter {
            Cutter::Steps(steps) => steps.encode(text, controls),
            Cutter::Pieces(pieces) => pieces.encode(text, controls == Controls::Meant),
        }
    }

    /// The ids of a whole text: with the tokens that every text of the model begins and ends with, once.
    ///
    /// # Errors
    /// As [`Vocabulary::encode`].
    pub fn encode_whole(&self, text: &str, controls: Controls) -> Result<Vec<u32>> {
        let ids = self.encode(text, controls)?;
        let [before, after] = &self.around;
        let before = if ids.starts_with(before) { &[] } else { before.as_slice() };
        let after = if ids.ends_with(after) { &[] } else { after.as_slice() };
        Ok([before, &ids, after].concat())
    }

    /// The text of `ids`, without tokens that say something about it.
    ///
    /// # Errors
    /// If one of them is no token.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut decoder = self.decoder();
        let mut text = ids.iter().map(|&id| decoder.push(id)).collect::<Result<String>>()?;
        text.push_str(&decoder.finish());
        Ok(text)
    }

    /// Makes text of ids as they come, without tokens that say something about it.
    #[must_use]
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder::new(&self.spellings, false)
    }

    /// As [`Vocabulary::decoder`], with the texts of all tokens.
    #[must_use]
    pub fn decoder_of_all(&self) -> Decoder<'_> {
        Decoder::new(&self.spellings, true)
    }

    /// What a token spells.
    ///
    /// # Errors
    /// If there is no such token.
    pub fn spelled(&self, id: u32) -> Result<&[u8]> {
        Ok(self.spellings.of(id)?.0)
    }

    /// True if a token says something about the text and is no part of it.
    ///
    /// # Errors
    /// If there is no such token.
    pub fn is_control(&self, id: u32) -> Result<bool> {
        Ok(self.spellings.of(id)?.1 == Kind::Control)
    }

    /// True if nothing follows after `id`: the answer is over.
    #[must_use]
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// The tokens after which nothing follows.
    #[must_use]
    pub fn ends(&self) -> &BTreeSet<u32> {
        &self.ends
    }

    /// What every text begins with.
    #[must_use]
    pub fn beginning(&self) -> &[u32] {
        &self.around[0]
    }

    /// The text of the token that texts begin with, as templates of chats write it; empty if there is none.
    #[must_use]
    pub fn begin_text(&self) -> String {
        self.text_of(self.begin)
    }

    /// The text of the token that texts end with, as templates of chats write it; empty if there is none.
    #[must_use]
    pub fn end_text(&self) -> String {
        self.text_of(self.end)
    }

    fn text_of(&self, id: Option<u32>) -> String {
        let bytes = id.and_then(|id| self.spelled(id).ok()).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// The template of chats that files name so, or that they use if nothing is said.
    #[must_use]
    pub fn template(&self, name: Option<&str>) -> Option<&Arc<str>> {
        self.templates.get(name.unwrap_or(DEFAULT_TEMPLATE))
    }

    /// The names of its templates of chats.
    pub fn template_names(&self) -> impl Iterator<Item = &str> {
        self.templates.keys().map(String::as_str)
    }
}
