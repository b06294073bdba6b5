//! The tokenizer that checkpoints in one file do without, because all have CLIP's (Radford et al. 2021).

use std::fmt::Write;

use ondine_graph::{Result, Weights};
use serde_json::json;

use super::chat;
use crate::weights::{Files, Source};

/// The pairs that become one token, in their order: OpenAI's vocabulary (MIT).
const MERGES: &str = include_str!("../../assets/clip_merges.txt");

const START: &str = "<|startoftext|>";
pub(super) const END: &str = "<|endoftext|>";

/// Adds the files of a tokenizer that fills texts up with `pad`, or those that `configs` has in the folder.
pub(super) fn add(files: &mut Files, folder: &str, pad: &str, configs: Option<&Source>) -> Result<()> {
    if copy(files, folder, configs)? {
        return Ok(());
    }
    files.insert(&format!("{folder}/vocab.json"), &vocabulary());
    files.insert(&format!("{folder}/merges.txt"), MERGES);
    let config = json!({
        "bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad, "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    });
    files.insert(&format!("{folder}/tokenizer_config.json"), &config.to_string());
    Ok(())
}

/// True for the tensors of a language model, whose tokenizer is that of `configs`, if there is one.
pub(super) fn is_chat(weights: &Weights, files: &mut Files, folder: &str, configs: Option<&Source>) -> Result<bool> {
    let one = chat::is_one(weights);
    if one {
        copy(files, folder, configs)?;
    }
    Ok(one)
}

/// Adds the files that `configs` has in the folder; false if there are none.
pub(super) fn copy(files: &mut Files, folder: &str, configs: Option<&Source>) -> Result<bool> {
    let Some(configs) = configs else { return Ok(false) };
    let names = configs.list(folder)?;
    for name in &names {
        let path = format!("{folder}/{name}");
        files.insert_bytes(&path, configs.open(&path)?);
    }
    Ok(!names.is_empty())
}

/// A `vocab.json`: the bytes, the bytes that end a word, what the merges yield, and two special tokens.
fn vocabulary() -> String {
    let letters: Vec<String> = bytes().map(String::from).collect();
    let ends = letters.iter().map(|letter| format!("{letter}</w>"));
    let merged = MERGES.lines().map(|pair| pair.replace(' ', ""));
    let words = letters.iter().cloned().chain(ends).chain(merged).chain([START.to_owned(), END.to_owned()]);
    let mut text = String::from("{");
    for (id, word) in words.enumerate() {
        let comma = if id == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{}:{id}", json!(word));
    }
    text.push('}');
    text
}

/// The letter that stands for each byte: itself if it can be seen, else one of those from 256 on; in the order of the
/// vocabulary, which begins with those that stand for themselves.
fn bytes() -> impl Iterator<Item = char> {
    let seen = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let plain = (0..256_u32).filter(seen);
    let others = (0..(256 - plain.clone().count() as u32)).map(|i| 256 + i);
    plain.chain(others).filter_map(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;

    #[test]
    fn the_vocabulary_is_clip_s() {
        let mut files = Files::default();
        add(&mut files, "tokenizer", "!", None).unwrap();
        let tokenizer = Tokenizer::open(&files.source("memory"), "tokenizer", 77).unwrap();
        // As transformers' CLIPTokenizer has them.
        let encoded = tokenizer.encode("a photo of a cat").unwrap();
        assert_eq!(encoded.ids, [49406, 320, 1125, 539, 320, 2368, 49407]);
        assert_eq!(tokenizer.encode_padded("", 4).unwrap().ids, [49406, 49407, 0, 0]);
    }
}
