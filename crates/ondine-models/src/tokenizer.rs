//! From text to token ids: CLIP's byte-pair encoding, BERT's word pieces, T5's pieces and the chats of language models,
//! as in transformers.
//!
//! Only the vocabulary, the merges and the special tokens of the first two are read from files; the steps around them
//! are those of `CLIPTokenizer` and `BertTokenizer`, so a file cannot bring in anything else.

mod chat;
mod cutter;
mod instructed;
mod taught;
mod teach;
mod tokens;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
};

use ondine_graph::{Context, Error, ErrorKind, Result, fail};
use serde::Deserialize;
use serde_json::Value;
use tokenizers::{
    AddedToken, SplitDelimiterBehavior, Tokenizer as Inner,
    models::{
        bpe::{self, BPE},
        wordpiece::WordPiece,
    },
    normalizers::{self, bert::BertNormalizer, replace::ReplacePattern},
    pre_tokenizers::{self, bert::BertPreTokenizer, byte_level::ByteLevel, split::SplitPattern},
};

use crate::{
    config::{self, invalid},
    vocabulary::{Controls, Vocabulary as Pieces},
    weights::{Source, join},
};
use cutter::Cutter;
use taught::with_word;
use tokens::{Vocabulary, byte_pairs, word_pieces};

/// Text as a network takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// The token ids, with the special tokens at both ends and the padding.
    pub ids: Vec<i64>,
    /// How many of the ids are not padding; these come first.
    pub len: usize,
    /// How many tokens of the text did not fit and were dropped at its end.
    pub truncated: usize,
    /// True if the text has words and the vocabulary knows none of them.
    pub all_unknown: bool,
}

impl Encoding {
    /// 1 for each id that is not padding, 0 for each that is.
    #[must_use]
    pub fn attention_mask(&self) -> Vec<i64> {
        (0..self.ids.len()).map(|i| i64::from(i < self.len)).collect()
    }
}

/// What WordPiece puts for a word that it cannot spell; byte-level vocabularies can spell everything.
const UNKNOWN: &str = "[UNK]";

/// What WordPiece puts before a piece that goes on with a word.
const PIECE: &str = "##";

/// Words that say nothing alone.
const LITTLE_WORDS: &[&str] =
    &["an", "and", "at", "by", "for", "from", "in", "is", "of", "on", "or", "the", "to", "with"];

/// A tokenizer of one of the supported kinds.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    cutter: Cutter,
    start: Option<u32>,
    end: Option<u32>,
    pad: u32,
    /// What is written before and after a text.
    written: Option<[&'static str; 2]>,
    /// Tokens of an instruction that is written before, with the first one of the text; 0 if there is none.
    instruction: usize,
    max_length: usize,
    /// Words that several tokens stand for, and those tokens, with blanks between.
    expansions: Vec<(String, String)>,
    /// Words that were taught later, the longest first, and the tokens that they are written as.
    taught: Vec<(String, String)>,
}

impl Tokenizer {
    /// Reads the tokenizer in `folder`: `tokenizer.json`, or `vocab.json` with `merges.txt`, or `vocab.txt`, or
    /// `spiece.model`.
    ///
    /// Sequences have at most `limit` tokens, which is the network's longest, or fewer if the files say so.
    ///
    /// # Errors
    /// If files are missing or broken, or the tokenizer is of another kind.
    pub fn open(source: &Source, folder: &str, limit: usize) -> Result<Self> {
        if let Some(pieces) = cutter::pieces(source, folder)? {
            return Self::of_pieces(pieces, limit).at(|| source.describe(folder));
        }
        let files = Files::read(source, folder)?;
        files.build(limit).at(|| source.describe(folder))
    }

    /// The pieces of a T5, whose texts end with a token and begin with none.
    fn of_pieces(pieces: Pieces, limit: usize) -> Result<Self> {
        let Some(&end) = pieces.encode_whole("", Controls::Meant)?.last() else {
            fail!(Unsupported, "its texts do not end with a token of their own, as those of T5 do");
        };
        if limit < 2 {
            fail!(Format, "sequences of {limit} tokens leave no room for a text");
        }
        let cutter = Cutter::Pieces(Box::new(pieces));
        let pad = cutter.id_of("<pad>").unwrap_or(0);
        Ok(Self { end: Some(end), ..Self::of(cutter, pad, limit) })
    }

    /// One that writes nothing before or after a text.
    fn of(cutter: Cutter, pad: u32, max_length: usize) -> Self {
        let (start, end, written, instruction) = (None, None, None, 0);
        Self { cutter, start, end, pad, written, instruction, max_length, expansions: vec![], taught: vec![] }
    }

    /// The longest sequence.
    #[must_use]
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The most tokens of a text, which the special ones stand around.
    #[must_use]
    pub fn room(&self) -> usize {
        self.max_length - usize::from(self.end.is_some()) - self.lead()
    }

    /// How many special tokens stand before a text.
    #[must_use]
    pub fn lead(&self) -> usize {
        usize::from(self.start.is_some())
    }

    /// The ids of `text` between the special tokens or with what is written around it, not padded.
    ///
    /// # Errors
    /// If the vocabulary cannot express the text and has no token that stands for the unknown.
    pub fn encode(&self, text: &str) -> Result<Encoding> {
        let found = match self.written {
            Some([before, after]) if self.instructs() => self.ids(&format!("{before}{}{after}", small(text)))?,
            Some([before, after]) => self.ids(&format!("{before}{text}{after}"))?,
            None => self.ids(text)?,
        };
        let room = self.room();
        let ids: Vec<i64> = self.around(&found).collect();
        let unknown = self.cutter.id_of(UNKNOWN).map(i64::from);
        let all_unknown = !found.is_empty() && found.iter().all(|&id| Some(id) == unknown);
        Ok(Encoding { len: ids.len(), ids, truncated: found.len().saturating_sub(room), all_unknown })
    }

    /// The ids of a text without the instruction, not padded: as many at most as are kept of one with it.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_bare(&self, text: &str) -> Result<Encoding> {
        let limit = self.kept(self.max_length);
        let start = self.start.map(i64::from);
        let found = self.ids(&small(text))?;
        let room = limit.saturating_sub(self.lead());
        let ids: Vec<i64> = start.into_iter().chain(found.iter().copied().take(room)).collect();
        Ok(Encoding { len: ids.len(), ids, truncated: found.len().saturating_sub(room), all_unknown: false })
    }

    /// Ids between the special tokens; those that do not fit are dropped.
    fn around(&self, ids: &[i64]) -> impl Iterator<Item = i64> {
        let kept = ids.iter().copied().take(self.room());
        self.start.map(i64::from).into_iter().chain(kept).chain(self.end.map(i64::from))
    }

    /// The ids of `text` alone, all of them, without special tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn ids(&self, text: &str) -> Result<Vec<i64>> {
        Ok(self.cutter.ids(&self.expanded(text)?)?.into_iter().map(i64::from).collect())
    }

    /// Ids between the special tokens, padded to the longest sequence; those that do not fit are dropped.
    #[must_use]
    pub fn framed(&self, ids: &[i64]) -> Vec<i64> {
        let mut framed: Vec<i64> = self.around(ids).collect();
        framed.resize(self.max_length, self.pad.into());
        framed
    }

    /// True if it writes a text as what somebody said in a chat.
    #[must_use]
    pub fn chats(&self) -> bool {
        self.written.is_some()
    }

    /// True if the vocabulary can spell any text, byte by byte, as that of CLIP can.
    #[must_use]
    pub fn spells_everything(&self) -> bool {
        self.cutter.id_of(UNKNOWN).is_none()
    }

    /// True if a word of `text` that means something is a token of its own. A vocabulary of word pieces spells others
    /// by letters, which tell a network nothing.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn knows_a_word(&self, text: &str) -> Result<bool> {
        let tokens = self.cutter.tokens(text)?;
        let is_piece = |at: usize| tokens.get(at).is_some_and(|token| token.starts_with(PIECE));
        let means_something = |token: &str| {
            let letters = token.chars().filter(|c| c.is_alphabetic()).count();
            token != UNKNOWN && letters > 1 && !LITTLE_WORDS.contains(&token)
        };
        Ok(tokens.iter().enumerate().any(|(at, token)| !is_piece(at) && !is_piece(at + 1) && means_something(token)))
    }

    /// The ids of `text` between the special tokens, padded to `length` or at least to the end of the text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_padded(&self, text: &str, length: usize) -> Result<Encoding> {
        let mut encoding = self.encode(text)?;
        let length = length.min(self.max_length).max(encoding.len);
        encoding.ids.resize(length, i64::from(self.pad));
        Ok(encoding)
    }

    /// The text with all tokens of its words: a word that textual inversion taught as several vectors (Gal et al. 2022)
    /// is written as one, and stands for the added tokens `word`, `word_1`, `word_2`... as in diffusers.
    fn expanded<'t>(&self, text: &'t str) -> Result<Cow<'t, str>> {
        let mut text = Cow::Borrowed(text);
        for (word, tokens) in &self.taught {
            if let Some(written) = with_word(&text, word, tokens) {
                text = written.into();
            }
        }
        if self.expansions.is_empty() {
            return Ok(text);
        }
        let stand = self.cutter.used(&text, self.expansions.iter().map(|(word, _)| word.as_str()))?;
        let used = self.expansions.iter().filter(|(word, _)| stand.contains(word.as_str()));
        Ok(used.fold(text, |text: Cow<'_, str>, (word, tokens)| text.replace(word, tokens).into()))
    }
}

/// A text in small letters, as networks read it that take texts behind an instruction.
fn small(text: &str) -> String {
    text.to_lowercase().trim().to_owned()
}

/// The words of which `added` has tokens for further vectors, with all their tokens.
fn expansions<'t>(added: impl Iterator<Item = &'t Special>) -> Vec<(String, String)> {
    let added: Vec<_> = added.map(Special::content).collect();
    let known: HashSet<_> = added.iter().copied().collect();
    let all = |word: &&str| {
        let further = (1..).map(|i| format!("{word}_{i}")).take_while(|token| known.contains(&**token));
        let tokens: Vec<_> = std::iter::once((*word).to_owned()).chain(further).collect();
        (tokens.len() > 1).then(|| ((*word).to_owned(), tokens.join(" ")))
    };
    added.iter().filter_map(all).collect()
}

/// A special token as files write it: plain, or with its properties.
#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "expected a token")]
enum Special {
    Plain(String),
    Full {
        content: String,
        #[serde(default)]
        single_word: bool,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        #[serde(default)]
        normalized: bool,
        #[serde(default)]
        special: bool,
    },
}

impl Special {
    fn content(&self) -> &str {
        match self {
            Self::Plain(content) | Self::Full { content, .. } => content,
        }
    }

    /// A word that was added to the vocabulary; what is not special is looked for in the text as it is normalized.
    fn word(special: bool, content: String) -> Self {
        Self::Full { content, single_word: false, lstrip: false, rstrip: false, normalized: !special, special }
    }

    fn token(&self, named: bool) -> AddedToken {
        match self.clone() {
            Self::Plain(content) => AddedToken::from(content, true),
            Self::Full { content, single_word, lstrip, rstrip, normalized, special } => {
                AddedToken { content, single_word, lstrip, rstrip, normalized, special: special || named }
            }
        }
    }
}

/// The tokens that were added to a tokenizer by programs of before 2023, by id.
const ADDED_TOKENS: &str = "added_tokens.json";

/// The special tokens that options list without a role.
fn extra_tokens(options: &serde_json::Map<String, Value>) -> Result<Vec<Special>> {
    let mut tokens = Vec::new();
    for option in ["additional_special_tokens", "extra_special_tokens"] {
        let listed = match options.get(option) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(by_name)) => by_name.values().cloned().collect(),
            Some(listed) => listed.clone(),
        };
        let listed: Vec<Special> = serde_json::from_value(listed).map_err(|error| broken(&error)).at(|| option)?;
        tokens.extend(listed);
    }
    Ok(tokens)
}

/// Options that name special tokens, and the tokens if they do not: start, end, padding, unknown, masked.
type Kind = [(&'static str, &'static str); 5];

const CLIP: Kind = [
    ("bos_token", "<|startoftext|>"),
    ("eos_token", "<|endoftext|>"),
    ("pad_token", "<|endoftext|>"),
    ("unk_token", "<|endoftext|>"),
    ("mask_token", "<|endoftext|>"),
];

const BERT: Kind = [
    ("cls_token", "[CLS]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("unk_token", "[UNK]"),
    ("mask_token", "[MASK]"),
];

/// The special token that `option` names.
fn special(options: &serde_json::Map<String, Value>, option: &str, default: &str) -> Result<Special> {
    match options.get(option) {
        None | Some(Value::Null) => Ok(Special::Plain(default.to_owned())),
        Some(value) => serde_json::from_value(value.clone()).map_err(|error| broken(&error)).at(|| option.to_owned()),
    }
}

/// What the files of a tokenizer say.
struct Files {
    vocabulary: Vocabulary,
    /// Tokens that are cut out of the text before anything else, by id.
    added: BTreeMap<u32, Special>,
    /// Special tokens without a role, which are cut out too; their ids follow if the vocabulary does not hold them.
    extra: Vec<Special>,
    /// `tokenizer_config.json`, completed by `special_tokens_map.json`.
    options: serde_json::Map<String, Value>,
}

impl Files {
    fn read(source: &Source, folder: &str) -> Result<Self> {
        let exists = |name: &str| source.exists(&join(folder, name));
        let place = |name: &str| source.describe(&join(folder, name));
        let text = |name: &str| source.text(&join(folder, name));
        let mut options = serde_json::Map::new();
        for name in ["special_tokens_map.json", "tokenizer_config.json"] {
            if exists(name) {
                let read: serde_json::Map<_, _> = config::parse(&text(name)?).at(|| place(name))?;
                options.extend(read);
            }
        }
        let extra = extra_tokens(&options).at(|| place("tokenizer_config.json"))?;
        let mut added: BTreeMap<u32, Special> = match options.get("added_tokens_decoder") {
            Some(listed) => serde_json::from_value(listed.clone())
                .map_err(|error| broken(&error))
                .at(|| place("tokenizer_config.json"))?,
            None if exists(ADDED_TOKENS) => {
                let ids: HashMap<String, u32> = config::parse(&text(ADDED_TOKENS)?).at(|| place(ADDED_TOKENS))?;
                let roles = CLIP.iter().chain(&BERT).map(|&(option, default)| special(&options, option, default));
                let roles = roles.collect::<Result<Vec<_>>>().at(|| place("tokenizer_config.json"))?;
                let special: HashSet<_> = roles.iter().chain(&extra).map(Special::content).collect();
                ids.into_iter().map(|(word, id)| (id, Special::word(special.contains(&*word), word))).collect()
            }
            None => BTreeMap::new(),
        };
        let vocabulary = if exists("tokenizer.json") {
            let whole = Whole::read(&text("tokenizer.json")?).at(|| place("tokenizer.json"))?;
            for (id, token) in whole.added {
                added.entry(id).or_insert(token);
            }
            for (option, value) in whole.options {
                options.entry(option).or_insert(value);
            }
            whole.vocabulary
        } else if exists("vocab.json") {
            let vocab = config::parse(&text("vocab.json")?).at(|| place("vocab.json"))?;
            byte_pairs(vocab, &text("merges.txt")?)
        } else if exists("vocab.txt") {
            word_pieces(&text("vocab.txt")?)
        } else {
            let place = source.describe(folder);
            fail!(
                Missing,
                "{place}: no tokenizer here; expected tokenizer.json, or vocab.json and merges.txt, or vocab.txt"
            )
        };
        Ok(Self { vocabulary, added, extra, options })
    }

    fn build(&self, limit: usize) -> Result<Tokenizer> {
        let kind = self.kind();
        let mut inner = if self.vocabulary.merges.is_some() { self.clip()? } else { self.bert()? };
        let mut tokens: Vec<_> = self.added.values().map(|token| token.token(false)).collect();
        for (option, default) in kind {
            let token = self.special(option, default)?;
            if inner.token_to_id(token.content()).is_some() || self.options.contains_key(option) {
                tokens.push(token.token(true));
            }
        }
        tokens.extend(self.extra.iter().map(|token| token.token(true)));
        inner.add_special_tokens(tokens).map_err(invalid)?;
        for (&id, token) in &self.added {
            let (word, own) = (token.content(), inner.token_to_id(token.content()));
            if own.is_some_and(|own| own != id) {
                fail!(Format, "the added token {word:?} has the id {id}, its place after the vocabulary is {own:?}");
            }
        }
        let id = |(option, default): (&str, &str)| {
            let token = self.special(option, default)?;
            match inner.token_to_id(token.content()) {
                Some(id) => Ok(id),
                None => fail!(Missing, "`{option}` {:?} is not in the vocabulary", token.content()),
            }
        };
        let [start, end, pad, ..] = kind;
        let (start, end, pad) = (id(start)?, id(end)?, id(pad)?);
        Ok(Tokenizer {
            start: Some(start),
            end: Some(end),
            pad,
            written: None,
            instruction: 0,
            max_length: self.max_length(limit)?,
            expansions: expansions(self.added.values().chain(&self.extra)),
            taught: Vec::new(),
            cutter: Cutter::Steps(Box::new(inner)),
        })
    }

    /// The special tokens.
    fn kind(&self) -> Kind {
        if self.vocabulary.merges.is_some() { CLIP } else { BERT }
    }

    /// The special token that `option` names.
    fn special(&self, option: &str, default: &str) -> Result<Special> {
        special(&self.options, option, default)
    }

    fn unknown(&self) -> Result<Special> {
        let [_, _, _, (option, default), _] = self.kind();
        self.special(option, default)
    }

    fn max_length(&self, limit: usize) -> Result<usize> {
        // Files without a limit hold 1e30 here.
        let stated = self.options.get("model_max_length").and_then(Value::as_f64).unwrap_or(f64::INFINITY);
        let length = if stated < limit as f64 { stated as usize } else { limit };
        if length < 2 {
            fail!(Format, "`model_max_length` is {stated}, which leaves no room for the special tokens");
        }
        Ok(length)
    }

    /// The vocabulary in the library's own kind of table.
    fn table(&self) -> bpe::Vocab {
        self.vocabulary.vocab.iter().map(|(token, &id)| (token.clone(), id)).collect()
    }

    /// The steps of `CLIPTokenizer`.
    fn clip(&self) -> Result<Inner> {
        let unknown = self.unknown()?;
        let mut inner = Inner::new(self.byte_pair_model(unknown.content())?);
        let spaces = normalizers::Replace::new(ReplacePattern::Regex(r"\s+".into()), " ").map_err(invalid)?;
        let steps = vec![normalizers::NFC.into(), spaces.into(), normalizers::Lowercase.into()];
        inner.with_normalizer(Some(normalizers::Sequence::new(steps))).map_err(invalid)?;
        let words = SplitPattern::Regex(CLIP_WORDS.into());
        let words = pre_tokenizers::split::Split::new(words, SplitDelimiterBehavior::Removed, true).map_err(invalid)?;
        let steps = vec![words.into(), ByteLevel::new(false, true, true).into()];
        inner.with_pre_tokenizer(Some(pre_tokenizers::sequence::Sequence::new(steps)));
        Ok(inner)
    }

    /// The merges, each checked: the library indexes out of bounds if the result of one is not a token.
    fn byte_pair_model(&self, unknown: &str) -> Result<BPE> {
        let Vocabulary { vocab, merges, end_of_word_suffix, continuing_subword_prefix, .. } = &self.vocabulary;
        if end_of_word_suffix.as_deref() != Some("</w>")
            || continuing_subword_prefix.as_deref().is_some_and(|p| !p.is_empty())
        {
            fail!(Unsupported, "byte pairs without the word ending `</w>` are not supported; only CLIP's are");
        }
        let mut pairs = Vec::new();
        for (i, merge) in merges.iter().flatten().enumerate() {
            let Some((a, b)) = merge.parts() else { fail!(Format, "merge {i} is not two tokens") };
            for token in [a, b, &format!("{a}{b}")] {
                if !vocab.contains_key(token) {
                    fail!(Format, "merge {i} needs the token {token:?}, which is not in the vocabulary");
                }
            }
            pairs.push((a.to_owned(), b.to_owned()));
        }
        let builder = BPE::builder().vocab_and_merges(self.table(), pairs).unk_token(unknown.to_owned());
        builder.end_of_word_suffix("</w>".into()).build().map_err(invalid)
    }

    /// The steps of `BertTokenizer`.
    fn bert(&self) -> Result<Inner> {
        let unknown = self.unknown()?;
        let Vocabulary { continuing_subword_prefix, max_input_chars_per_word, .. } = &self.vocabulary;
        let builder = WordPiece::builder().vocab(self.table()).unk_token(unknown.content().to_owned());
        let builder = builder.continuing_subword_prefix(continuing_subword_prefix.clone().unwrap_or("##".into()));
        let model = builder.max_input_chars_per_word(max_input_chars_per_word.unwrap_or(100)).build();
        let mut inner = Inner::new(model.map_err(invalid)?);
        let flag = |name: &str| self.options.get(name).and_then(Value::as_bool);
        let normalizer = BertNormalizer::new(
            true,
            flag("tokenize_chinese_chars").unwrap_or(true),
            flag("strip_accents"),
            flag("do_lower_case").unwrap_or(true),
        );
        inner.with_normalizer(Some(normalizer)).map_err(invalid)?;
        inner.with_pre_tokenizer(Some(BertPreTokenizer));
        Ok(inner)
    }
}

/// What CLIP takes for a word.
const CLIP_WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

fn broken(error: &serde_json::Error) -> Error {
    Error::new(ErrorKind::Format, format!("not a valid tokenizer: {error}"))
}

/// What is read of a `tokenizer.json`.
struct Whole {
    vocabulary: Vocabulary,
    added: Vec<(u32, Special)>,
    options: Vec<(&'static str, Value)>,
}

impl Whole {
    fn read(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Added {
            id: u32,
            #[serde(flatten)]
            token: Special,
        }
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            added_tokens: Vec<Added>,
            normalizer: Option<Value>,
            model: Value,
        }
        let file: File = serde_json::from_str(text).map_err(|error| broken(&error))?;
        if let Some(kind) = file.model.get("type").and_then(Value::as_str) {
            config::supported("model.type", &kind, &["BPE", "WordPiece"])?;
        }
        let vocabulary = serde_json::from_value(file.model).map_err(|error| broken(&error))?;
        let normalizer =
            |(option, name): (&'static str, &str)| Some((option, file.normalizer.as_ref()?.get(name)?.clone()));
        let options = BERT_OPTIONS.into_iter().filter_map(normalizer).collect();
        let added = file.added_tokens.into_iter().map(|added| (added.id, added.token)).collect();
        Ok(Self { vocabulary, added, options })
    }
}

/// Options of `BertTokenizer`, and what its normalizer in a `tokenizer.json` calls them.
const BERT_OPTIONS: [(&str, &str); 3] = [
    ("do_lower_case", "lowercase"),
    ("tokenize_chinese_chars", "handle_chinese_chars"),
    ("strip_accents", "strip_accents"),
];
