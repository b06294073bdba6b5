//! Texts as language models read what somebody says, for denoisers that are guided by one.

use ondine_graph::{Context, Result, fail};
use serde_json::{Map, Value};

use super::{Cutter, Special, Tokenizer, broken};
use crate::{
    config,
    vocabulary::{Controls, Vocabulary},
    weights::{Source, join},
};

const OPTIONS: &str = "tokenizer_config.json";

/// The token that fills up texts, where the options do not say.
const PAD: &str = "<|endoftext|>";

impl Tokenizer {
    /// Reads the vocabulary of a language model in `folder`. Texts are written with `around` before and after, which
    /// mean what they are; whole, they have at most `limit` tokens, and lose the last ones.
    ///
    /// # Errors
    /// If files are missing or broken, if texts are padded in front, or if the folder has a template of chats which
    /// writes other marks.
    pub fn open_chat(source: &Source, folder: &str, around: [&'static str; 2], limit: usize) -> Result<Self> {
        let vocabulary = Vocabulary::open(source, folder)?;
        let name = join(folder, OPTIONS);
        let options: Map<String, Value> = if source.exists(&name) {
            config::parse(&source.text(&name)?).at(|| source.describe(&name))?
        } else {
            Map::new()
        };
        if options.get("padding_side").and_then(Value::as_str) == Some("left") {
            fail!(Unsupported, "{}: texts that are padded on the left are not supported", source.describe(&name));
        }
        if let Some(template) = vocabulary.template(None) {
            for mark in around.iter().flat_map(|text| marks(text)) {
                if !template.contains(mark) {
                    let place = source.describe(folder);
                    fail!(
                        Unsupported,
                        "{place}: its template of chats writes no {mark}, with which the model was trained"
                    );
                }
            }
        }
        let pad = match options.get("pad_token") {
            None | Some(Value::Null) => PAD.to_owned(),
            Some(token) => {
                let token: Special =
                    serde_json::from_value(token.clone()).map_err(|error| broken(&error)).at(|| "pad_token")?;
                token.content().to_owned()
            }
        };
        let [pad] = vocabulary.encode(&pad, Controls::Meant)?[..] else {
            fail!(Missing, "{}: the padding {pad:?} is no token", source.describe(folder));
        };
        Ok(Self { written: Some(around), ..Self::of(Cutter::Pieces(Box::new(vocabulary)), pad, limit) })
    }
}

/// The marks in a text, such as `<|im_end|>`.
fn marks(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('>').filter_map(|part| part.find('<').map(|start| &part[start..]))
}

#[cfg(test)]
mod tests {
    use super::marks;

    #[test]
    fn marks_are_found() {
        assert_eq!(marks("<a>x\n<|b|>\n\n</c> d").collect::<Vec<_>>(), ["<a>", "<|b|>", "</c>"]);
        assert_eq!(marks("a > b").count(), 0);
    }
}
