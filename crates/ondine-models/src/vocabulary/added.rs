//! Tokens that a folder names beside its vocabulary, as fine-tuned chats do: in `added_tokens.json` and in the
//! options.

use std::collections::BTreeMap;

use ondine_graph::{Result, fail};
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::{Cutter, Vocabulary, spelling::Kind};
use crate::config::MAX_ROWS;

/// Options that name tokens which say something about the text.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// A token that is cut out of texts before anything else.
pub(super) struct Added {
    token: AddedToken,
    /// The next one, or that of the text in the vocabulary, if nobody says.
    id: Option<u32>,
}

/// The tokens that the options of a folder name, and those of its `added_tokens.json`.
pub(super) fn read(options: &Map<String, Value>, listed: &Map<String, Value>) -> Result<Vec<Added>> {
    let named = NAMES.iter().filter_map(|name| text_of(options.get(*name)?));
    let lists = LISTS.iter().filter_map(|name| options.get(*name)).flat_map(|list| match list {
        Value::Array(tokens) => tokens.iter().filter_map(text_of).collect(),
        Value::Object(tokens) => tokens.values().filter_map(text_of).collect(),
        _ => Vec::new(),
    });
    let lists: Vec<&str> = lists.collect();
    let special: Vec<&str> = named.chain(lists.iter().copied()).collect();
    let mut by_id = BTreeMap::new();
    for (text, id) in listed {
        let Some(id) = id.as_u64().and_then(id_of) else { fail!(Format, "{text:?} has the id {id}, which is none") };
        by_id.insert(id, AddedToken::from(text.as_str(), special.contains(&text.as_str()) || is_mark(text)));
    }
    for (id, token) in options.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten() {
        let (Some(id), Some(text)) = (id.parse().ok().and_then(id_of), text_of(token)) else {
            fail!(Format, "`added_tokens_decoder`: {id:?} is no token");
        };
        let is = |flag: &str| token.get(flag).and_then(Value::as_bool).unwrap_or(false);
        let added = AddedToken::from(text, is("special") || special.contains(&text)).normalized(is("normalized"));
        by_id.insert(id, added.lstrip(is("lstrip")).rstrip(is("rstrip")).single_word(is("single_word")));
    }
    let known = by_id.into_iter().map(|(id, token)| Added { token, id: Some(id) });
    let others = lists.iter().map(|text| Added { token: AddedToken::from(*text, true), id: None });
    Ok(known.chain(others).filter(|added| !added.token.content.is_empty()).collect())
}

fn id_of(id: u64) -> Option<u32> {
    u32::try_from(id).ok().filter(|&id| (id as usize) < MAX_ROWS)
}

/// A token's text, alone or among its properties.
fn text_of(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// True for texts that nobody writes who does not mean the token, whatever a list without properties says: what
/// somebody asks must not be taken for what a template says.
fn is_mark(text: &str) -> bool {
    [("<|", "|>"), ("<｜", "｜>")].iter().any(|(begin, end)| text.starts_with(begin) && text.ends_with(end))
}

impl Vocabulary {
    /// Adds a token, or makes one of the vocabulary be cut out first.
    ///
    /// # Errors
    /// If it cannot have the id that it is said to have.
    pub(super) fn add(&mut self, Added { token, id }: Added) -> Result<()> {
        let text = token.content.clone();
        let kind = if token.special { Kind::Control } else { Kind::Word };
        let count = u32::try_from(self.len()).unwrap_or(u32::MAX);
        let found = match &mut self.cutter {
            Cutter::Steps(steps) if steps.is_added(&text) => return Ok(()),
            Cutter::Steps(steps) => steps.add(token)?,
            Cutter::Pieces(pieces) => {
                if token.lstrip || token.rstrip || token.single_word {
                    fail!(Unsupported, "{text:?} takes the blanks beside it; save the vocabulary as `tokenizer.json`");
                }
                let found = self.spellings.find(&text).or(id).unwrap_or(count);
                if self.spellings.of(found).is_ok_and(|(_, kind)| kind != Kind::Text) {
                    return Ok(());
                }
                pieces.add_mark(text.clone(), found, token.special);
                found
            }
        };
        if let Some(id) = id.filter(|&id| id != found) {
            fail!(Unsupported, "{text:?} is said to be token {id}, and is {found} in the vocabulary");
        }
        self.spellings.set(found, &text, kind);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_from_lists_and_properties() {
        let map = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let options = map(r#"{"eos_token": {"content": "</s>"}, "extra_special_tokens": {"image": "[IMG]"},
            "added_tokens_decoder": {"7": {"content": "<a>", "special": true, "rstrip": true}}}"#);
        let listed = map(r#"{"<|x|>": 9, "word": 8, "</s>": 2}"#);
        let added = read(&options, &listed).unwrap();
        let told = added.iter().map(|Added { token, id }| (&*token.content, *id, token.special, token.rstrip));
        let wanted = [
            ("</s>", Some(2), true, false),
            ("<a>", Some(7), true, true),
            ("word", Some(8), false, false),
            ("<|x|>", Some(9), true, false),
            ("[IMG]", None, true, false),
        ];
        assert_eq!(told.collect::<Vec<_>>(), wanted);
        assert!(read(&options, &map(r#"{"x": -1}"#)).is_err());
        assert!(read(&map(r#"{"added_tokens_decoder": {"x": {"content": "a"}}}"#), &listed).is_err());
    }
}
