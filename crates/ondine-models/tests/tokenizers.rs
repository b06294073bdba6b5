//! Tokenizers against the ids that transformers gives; `tests/tokenizers/make.py` made the files.

use std::path::PathBuf;

use ondine_models::{Source, Tokenizer, Vocabulary, vocabulary::Controls};
use ondine_runtime::ErrorKind;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    text: String,
    ids: Vec<i64>,
    padded: Vec<i64>,
    truncated: usize,
}

const LENGTH: usize = 16;

fn source(name: &str) -> Source {
    Source::folder(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers").join(name)).unwrap()
}

fn check(name: &str) {
    check_files(name, &source(name));
}

fn check_files(name: &str, source: &Source) {
    let tokenizer = Tokenizer::open(source, "", 77).unwrap();
    assert_eq!(tokenizer.max_length(), LENGTH);
    check_with(name, source, &tokenizer);
}

fn check_with(name: &str, source: &Source, tokenizer: &Tokenizer) {
    let expected: Vec<Expected> = serde_json::from_str(&source.text("expected.json").unwrap()).unwrap();
    for Expected { text, ids, padded, truncated } in expected {
        let encoding = tokenizer.encode(&text).unwrap();
        assert_eq!((encoding.len, encoding.truncated), (ids.len(), truncated), "{name}: {text:?}");
        assert_eq!(encoding.ids, ids, "{name}: {text:?}");
        let encoding = tokenizer.encode_padded(&text, tokenizer.max_length()).unwrap();
        assert_eq!(encoding.ids, padded, "{name}: {text:?}");
        assert_eq!(encoding.attention_mask().iter().sum::<i64>() as usize, encoding.len);
    }
}

#[test]
fn byte_pairs_equal_transformers() {
    check("clip");
}

#[test]
fn a_word_as_padding_is_special_as_in_transformers() {
    check("clip_bang");
}

/// What pipelines of `Qwen3` write around a text.
const SAID: [&str; 2] = ["<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"];

#[test]
fn what_somebody_says_equals_transformers() {
    let tokenizer = Tokenizer::open_chat(&source("chat"), "", SAID, 64).unwrap();
    assert!(tokenizer.chats() && tokenizer.spells_everything());
    check_with("chat", &source("chat"), &tokenizer);
}

#[test]
fn instructions_stand_before_texts() {
    const SAID: &str = "Draw this: ";
    const KEPT: usize = 9;
    let source =
        Source::folder(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vocabularies/bytes-json")).unwrap();
    let whole = |text: &str| -> Vec<i64> {
        let vocabulary = Vocabulary::open(&source, "").unwrap();
        vocabulary.encode_whole(text, Controls::Meant).unwrap().into_iter().map(i64::from).collect()
    };
    let count = whole(SAID).len();
    let tokenizer = Tokenizer::open_instructed(&source, "", SAID, KEPT).unwrap();
    let read = tokenizer.encode("  A Quick fox ").unwrap();
    assert_eq!((read.ids.as_slice(), read.truncated), (whole("Draw this: a quick fox").as_slice(), 0));
    let rows = tokenizer.resumes()..read.len;
    assert_eq!((tokenizer.resumes(), 1 + rows.len()), (count - 1, tokenizer.kept(read.len)));
    let long = tokenizer.encode(&"fox ".repeat(40)).unwrap();
    assert_eq!((tokenizer.kept(long.len), long.len, long.truncated > 0), (KEPT, tokenizer.max_length(), true));
    assert_eq!(tokenizer.encode_bare("A Quick fox").unwrap().ids, whole("a quick fox"));
    assert_eq!(tokenizer.encode_bare(&"fox ".repeat(40)).unwrap().ids, whole(&"fox ".repeat(40))[..KEPT]);
    assert!(tokenizer.instructs() && tokenizer.chats());
}

#[test]
fn chats_of_another_kind_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let open = || Tokenizer::open_chat(&Source::folder(folder.path()).unwrap(), "", SAID, 64);
    write("tokenizer.json", &source("chat").text("tokenizer.json").unwrap());
    assert!(open().is_ok());
    write("chat_template.jinja", "<|user|>{{ messages[0].content }}");
    assert!(open().unwrap_err().to_string().contains("writes no <|im_start|>"));
    std::fs::remove_file(folder.path().join("chat_template.jinja")).unwrap();
    write("tokenizer_config.json", r#"{"padding_side": "left"}"#);
    assert!(open().unwrap_err().to_string().contains("padded on the left"));
    write("tokenizer_config.json", r#"{"pad_token": "<|pad|>"}"#);
    assert!(open().unwrap_err().to_string().contains("\"<|pad|>\" is no token"));
    write("tokenizer_config.json", r#"{"pad_token": 3}"#);
    assert_eq!(open().unwrap_err().kind(), ErrorKind::Format);
}

/// The files of `clip` with others added, in a folder that is removed at the end.
fn clip_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Source) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        std::fs::write(folder.path().join(name), source("clip").text(name).unwrap()).unwrap();
    }
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let source = Source::folder(folder.path()).unwrap();
    (folder, source)
}

#[test]
fn words_that_were_added_equal_transformers_and_diffusers() {
    let words = source("clip_words");
    let [added, expected] = ["added_tokens.json", "expected.json"].map(|name| words.text(name).unwrap());
    let (_folder, files) = clip_with(&[("added_tokens.json", &added), ("expected.json", &expected)]);
    check_files("clip_words", &files);
}

#[test]
fn added_words_whose_place_is_taken_are_errors() {
    let last = source("clip").text("vocab.json").unwrap().matches("\":").count();
    for (added, message) in [
        (format!("{{\"<toy>\": {}}}", last + 7), "\"<toy>\" has the id"),
        ("{\"<toy>\": 5}".to_owned(), "\"<toy>\" has the id 5"),
        ("{\"<toy>\": -1}".to_owned(), "added_tokens.json"),
        ("[]".to_owned(), "added_tokens.json"),
    ] {
        let (_folder, files) = clip_with(&[("added_tokens.json", &added)]);
        let error = Tokenizer::open(&files, "", 77).unwrap_err().to_string();
        assert!(error.contains(message), "{added}: {error}");
    }
}

#[test]
fn special_tokens_without_a_role_are_cut_out() {
    let (_folder, files) = clip_with(&[("special_tokens_map.json", r#"{"additional_special_tokens": ["<|cut|>"]}"#)]);
    let [with, without] = [&files, &source("clip")]
        .map(|files| Tokenizer::open(files, "", 77).unwrap().encode("a<|cut|>cat").unwrap().len);
    assert!(with < without, "{with} {without}");
}

#[test]
fn word_pieces_equal_transformers() {
    check("bert");
}

#[test]
fn hostile_files_are_errors() {
    let model = |model: &str| format!(r#"{{"model": {model}}}"#);
    let files = [
        String::new(),
        "[]".into(),
        "{}".into(),
        model("{}"),
        model(r#"{"type": "Unigram", "vocab": []}"#),
        model(r#"{"type": "WordPiece", "vocab": {}}"#),
        model(r#"{"type": "WordPiece", "vocab": {"[CLS]": -1}}"#),
        model(r#"{"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"], "end_of_word_suffix": "</w>"}"#),
        model(r#"{"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"], "end_of_word_suffix": "</w>"}"#),
        model(r#"{"type": "BPE", "vocab": {"a": 0}, "merges": ["a"], "end_of_word_suffix": "</w>"}"#),
        model(r#"{"type": "BPE", "vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "</w>"}"#),
        model(r#"{"type": "BPE", "vocab": {"a": 0}, "merges": [], "continuing_subword_prefix": "ab"}"#),
        r#"{"added_tokens": [{"id": 1}], "model": {"type": "WordPiece", "vocab": {"[CLS]": 1}}}"#.into(),
    ];
    for file in files {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), &file).unwrap();
        let error = Tokenizer::open(&Source::folder(folder.path()).unwrap(), "", 77);
        assert!(error.is_err(), "{file}");
    }
}

#[test]
fn limits_without_room_are_errors() {
    assert_eq!(Tokenizer::open(&source("clip"), "", 1).unwrap_err().kind(), ErrorKind::Format);
    assert_eq!(Tokenizer::open(&source("clip"), "absent", 77).unwrap_err().kind(), ErrorKind::Missing);
    let shortest = Tokenizer::open(&source("clip"), "", 2).unwrap().encode("a cat").unwrap();
    assert_eq!((shortest.ids.len(), shortest.truncated), (2, 3));
}

#[test]
fn long_texts_are_counted_not_refused() {
    let tokenizer = Tokenizer::open(&source("clip"), "", 77).unwrap();
    let encoding = tokenizer.encode(&"word ".repeat(20_000)).unwrap();
    assert_eq!(encoding.len, LENGTH);
    assert!(encoding.truncated >= 20_000 - LENGTH);
}

#[test]
fn it_is_known_whether_a_text_has_words_that_mean_something() {
    let bert = Tokenizer::open(&source("bert"), "", 77).unwrap();
    assert!(Tokenizer::open(&source("clip"), "", 77).unwrap().spells_everything() && !bert.spells_everything());
    for text in ["a red heart", "qzx heart!", "Red"] {
        assert!(bert.knows_a_word(text).unwrap(), "{text}");
    }
    // Spelled by letters, of single letters, unknown, or words that say nothing alone.
    for text in ["qzxv", "a b c", "猫", "the with of", "...", "", "redqzxv"] {
        assert!(!bert.knows_a_word(text).unwrap(), "{text}");
    }
}
