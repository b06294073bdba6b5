//! The vocabulary of a folder as transformers saves it.

use std::collections::BTreeMap;

use ondine_graph::{Context, Error, ErrorKind, Result, fail};
use serde_json::{Map, Value};
use tokenizers::Tokenizer as Steps;

use super::{
    Controls, Cutter, DEFAULT_TEMPLATE, Stepped, Vocabulary, added,
    merges::check_merge,
    spelling::{Kind, Spellings, Writing},
};
use crate::{
    config,
    gguf::Gguf,
    weights::{Source, VOCABULARY, join},
};

const STEPS: &str = "tokenizer.json";
const PIECES: &str = "tokenizer.model";
/// The pieces of a T5, whose texts end with a token.
const PIECES_OF_T5: &str = "spiece.model";
const OPTIONS: &str = "tokenizer_config.json";
const ADDED: &str = "added_tokens.json";
/// Templates of chats, which newer checkpoints keep outside of the options.
const TEMPLATE: &str = "chat_template.jinja";
const TEMPLATES: &str = "additional_chat_templates";
/// Files that name the tokens after which nothing follows.
const WITH_ENDS: [&str; 2] = ["config.json", "generation_config.json"];

impl Vocabulary {
    /// The vocabulary in `folder`, with its templates of chats.
    ///
    /// # Errors
    /// If there is none, it is broken, or spells its tokens in a way that is not known here.
    pub fn open(source: &Source, folder: &str) -> Result<Self> {
        let exists = |name: &str| source.exists(&join(folder, name));
        if exists(VOCABULARY) {
            let name = join(folder, VOCABULARY);
            return Self::from_gguf(&Gguf::parse(&source.describe(&name), &source.open(&name)?)?);
        }
        let place = |name: &str| source.describe(&join(folder, name));
        let object = |name: &str| -> Result<Map<String, Value>> {
            if !exists(name) {
                return Ok(Map::new());
            }
            config::parse(&source.text(&join(folder, name))?).at(|| place(name))
        };
        let options = object(OPTIONS)?;
        let mut vocabulary = if exists(STEPS) {
            from_steps(&source.text(&join(folder, STEPS))?).at(|| place(STEPS))?
        } else if exists(PIECES) {
            let mut pieces = Self::from_sentencepiece(&place(PIECES), &source.open(&join(folder, PIECES))?)?;
            let wanted = |name: &str, default| options.get(name).and_then(Value::as_bool).unwrap_or(default);
            pieces.around[0].extend(pieces.begin.filter(|_| wanted("add_bos_token", true)));
            pieces.around[1].extend(pieces.end.filter(|_| wanted("add_eos_token", false)));
            pieces
        } else if exists(PIECES_OF_T5) {
            let mut pieces =
                Self::from_sentencepiece(&place(PIECES_OF_T5), &source.open(&join(folder, PIECES_OF_T5))?)?;
            pieces.around[1].extend(pieces.end);
            pieces
        } else {
            fail!(Missing, "{}: no vocabulary here; expected {STEPS} or {PIECES}", source.describe(folder))
        };
        let added = added::read(&options, &object(ADDED)?).at(|| source.describe(folder))?;
        added.into_iter().try_for_each(|added| vocabulary.add(added)).at(|| source.describe(folder))?;
        vocabulary.find_ends();
        vocabulary.name_marks(&options).at(|| place(OPTIONS))?;
        for name in WITH_ENDS {
            let ends = object(name)?.get("eos_token_id").map(ids_of).transpose().at(|| place(name))?;
            vocabulary.ends.extend(ends.into_iter().flatten());
        }
        if let Some(template) = options.get("chat_template") {
            vocabulary.templates.extend(templates_of(template).at(|| place(OPTIONS))?);
        }
        if exists(TEMPLATE) {
            let text = source.text(&join(folder, TEMPLATE))?;
            vocabulary.templates.insert(DEFAULT_TEMPLATE.to_owned(), text.into());
        }
        for file in source.list(&join(folder, TEMPLATES))? {
            if let Some(name) = file.strip_suffix(".jinja") {
                let text = source.text(&join(folder, &format!("{TEMPLATES}/{file}")))?;
                vocabulary.templates.insert(name.to_owned(), text.into());
            }
        }
        Ok(vocabulary)
    }

    /// Notes the tokens that options name as the first and the last of texts.
    fn name_marks(&mut self, options: &Map<String, Value>) -> Result<()> {
        let id = |option: &str| -> Result<Option<u32>> {
            let text = match options.get(option) {
                None | Some(Value::Null) => return Ok(None),
                Some(Value::String(text)) => text,
                Some(token) => match token.get("content").and_then(Value::as_str) {
                    Some(text) => text,
                    None => fail!(Format, "`{option}` is no token"),
                },
            };
            match self.encode(text, Controls::Meant)?.as_slice() {
                [id] => Ok(Some(*id)),
                _ => fail!(Format, "`{option}` {text:?} is no token of the vocabulary"),
            }
        };
        let (begin, end) = (id("bos_token")?, id("eos_token")?);
        self.begin = begin.or(self.begin);
        self.end = end.or(self.end);
        self.ends.extend(end);
        Ok(())
    }
}

/// One id or several.
fn ids_of(value: &Value) -> Result<Vec<u32>> {
    let list = match value {
        Value::Null => &[],
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match list.iter().map(id).collect() {
        Some(ids) => Ok(ids),
        None => fail!(Format, "`eos_token_id` = {value} is no token, nor a list of some"),
    }
}

/// A template, or several with names.
fn templates_of(value: &Value) -> Result<BTreeMap<String, std::sync::Arc<str>>> {
    let templates = match value {
        Value::Null => Some(BTreeMap::new()),
        Value::String(template) => Some([(DEFAULT_TEMPLATE.to_owned(), template.as_str().into())].into()),
        Value::Array(list) => list
            .iter()
            .map(|entry| Some((entry.get("name")?.as_str()?.to_owned(), entry.get("template")?.as_str()?.into())))
            .collect(),
        _ => None,
    };
    match templates {
        Some(templates) => Ok(templates),
        None => fail!(Format, "`chat_template` is neither a template nor a list of named ones"),
    }
}

/// What a `tokenizer.json` says besides how texts become ids: what is put around them and how ids become texts is read
/// here; cutting and padding are the caller's.
const NOT_STEPS: [&str; 4] = ["post_processor", "decoder", "padding", "truncation"];

fn from_steps(json: &str) -> Result<Vocabulary> {
    let broken = |error: serde_json::Error| Error::new(ErrorKind::Format, format!("not a valid tokenizer: {error}"));
    let mut whole: Map<String, Value> = serde_json::from_str(json).map_err(broken)?;
    let [around, decoder, ..] = NOT_STEPS.map(|name| whole.remove(name).unwrap_or_default());
    check_merges(whole.get("model").unwrap_or(&Value::Null))?;
    let steps: Steps = serde_json::from_value(Value::Object(whole)).map_err(broken)?;
    let decoder = Decoding::read(&decoder)?;
    let mut tokens: BTreeMap<u32, (String, Kind)> =
        steps.get_vocab(false).into_iter().map(|(text, id)| (id, (text, Kind::Text))).collect();
    for (id, token) in steps.get_added_tokens_decoder() {
        tokens.insert(id, (token.content, if token.special { Kind::Control } else { Kind::Word }));
    }
    let mut spellings = Spellings::default();
    let count = tokens.last_key_value().map_or(0, |(&last, _)| last.saturating_add(1));
    if count as usize > config::MAX_ROWS {
        fail!(Format, "token {} is beyond all vocabularies", count - 1);
    }
    for id in 0..count {
        // Vocabularies have holes: tokens of which nothing is known spell nothing.
        let (text, kind) = tokens.remove(&id).unwrap_or_else(|| (String::new(), Kind::Text));
        spellings.push(&text, kind, decoder.writing);
    }
    let around = ids_around(&around, count)?;
    let cutter = Cutter::Steps(Box::new(Stepped::new(steps)));
    let mut vocabulary = Vocabulary::new(cutter, spellings.with_leading_blank(decoder.leading_blank));
    vocabulary.around = around;
    Ok(vocabulary)
}

/// Checks the merges of byte pairs, if there are some, before the library builds on them; what is no merge it refuses.
fn check_merges(model: &Value) -> Result<()> {
    let merges = model.get("merges").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let vocab = model.get("vocab").and_then(Value::as_object);
    let longest = vocab.and_then(|vocab| vocab.keys().map(String::len).max()).unwrap_or_default();
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or_default();
    for (index, merge) in merges.iter().enumerate() {
        let pair = match (merge.as_str(), merge.as_array().map(Vec::as_slice)) {
            (Some(line), _) => line.split_once(' '),
            (_, Some([Value::String(left), Value::String(right)])) => Some((left.as_str(), right.as_str())),
            _ => None,
        };
        if let Some((left, right)) = pair {
            check_merge(index, [left, right], prefix, longest)?;
        }
    }
    Ok(())
}

/// What is put before and after every text, of `count` tokens.
fn ids_around(processor: &Value, count: u32) -> Result<[Vec<u32>; 2]> {
    let kind = processor.get("type").and_then(Value::as_str);
    let mut around = [Vec::new(), Vec::new()];
    match kind {
        None | Some("ByteLevel") => {}
        Some("Sequence") => {
            let steps = processor.get("processors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for step in steps {
                let [before, after] = ids_around(step, count)?;
                // The last one stands outside.
                around[0].splice(..0, before);
                around[1].extend(after);
            }
        }
        Some("TemplateProcessing") => {
            let parts = processor.get("single").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let mut behind = 0;
            for part in parts {
                if let Some(name) = part.pointer("/SpecialToken/id").and_then(Value::as_str) {
                    let token = processor.get("special_tokens").and_then(|tokens| tokens.get(name));
                    let ids = token.and_then(|token| token.get("ids")).and_then(Value::as_array);
                    let ids = ids.and_then(|ids| ids.iter().map(|id| id_of(id, count)).collect::<Option<Vec<u32>>>());
                    let Some(ids) = ids else { fail!(Format, "`post_processor`: {name:?} has no tokens") };
                    around[behind].extend(ids);
                } else {
                    behind = 1;
                }
            }
        }
        Some("BertProcessing" | "RobertaProcessing") => {
            for (place, name) in ["cls", "sep"].into_iter().enumerate() {
                match processor.get(name).and_then(|pair| pair.get(1)).and_then(|id| id_of(id, count)) {
                    Some(id) => around[place].push(id),
                    None => fail!(Format, "`post_processor`: `{name}` is no token"),
                }
            }
        }
        Some(other) => fail!(Unsupported, "`post_processor` of type {other:?} is not known here"),
    }
    Ok(around)
}

fn id_of(value: &Value, count: u32) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| id < count)
}

/// How tokens spell text.
struct Decoding {
    writing: Writing,
    leading_blank: bool,
}

impl Decoding {
    fn read(decoder: &Value) -> Result<Self> {
        let kind = decoder.get("type").and_then(Value::as_str);
        let steps = match (kind, decoder.get("decoders").and_then(Value::as_array)) {
            (Some("Sequence"), Some(steps)) => steps.as_slice(),
            _ => std::slice::from_ref(decoder),
        };
        let mut decoding = Self { writing: Writing::Plain, leading_blank: false };
        for step in steps {
            let text = |name: &str| step.get(name).and_then(Value::as_str).unwrap_or_default();
            match step.get("type").and_then(Value::as_str) {
                None | Some("Fuse") => {}
                Some("ByteLevel") => decoding.writing = Writing::Bytes,
                Some("ByteFallback") => decoding.writing = Writing::Spaces,
                Some("Replace") if text("content") == " " => decoding.writing = Writing::Spaces,
                Some("Metaspace") => {
                    let old = step.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true);
                    let scheme = text("prepend_scheme");
                    let leading_blank = if scheme.is_empty() { old } else { scheme != "never" };
                    decoding = Self { writing: Writing::Spaces, leading_blank };
                }
                Some("Strip") => {
                    decoding.leading_blank = step.get("start").and_then(Value::as_u64).unwrap_or_default() > 0;
                }
                Some("WordPiece") => decoding = Self { writing: Writing::Pieces, leading_blank: true },
                Some(other) => fail!(Unsupported, "`decoder` of type {other:?} is not known here"),
            }
        }
        Ok(decoding)
    }
}
