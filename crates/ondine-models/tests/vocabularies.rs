//! Vocabularies against the ids that tokenizers, SentencePiece and llama.cpp give.
//!
//! `tests/vocabularies/*` hold small ones of every kind, made by `python/golden/tokens.py`. Real ones are read from the
//! folder that `ONDINE_VOCABULARIES` names: `NAME.gguf` with `NAME.gguf.inp` and `NAME.gguf.out`, as in the folder
//! `models` of llama.cpp, and folders like the small ones.

use std::path::{Path, PathBuf};

use ondine_graph::Bytes;
use ondine_models::{Source, Vocabulary, gguf::Gguf, vocabulary::Controls};
use serde_json::Value;

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn open(folder: &Path) -> Vocabulary {
    let gguf = folder.join("vocabulary.gguf");
    let pieces = folder.join("pieces.model");
    if gguf.is_file() {
        Vocabulary::from_gguf(&Gguf::open(&gguf).unwrap()).unwrap()
    } else if pieces.is_file() {
        Vocabulary::from_sentencepiece("pieces.model", &Bytes::map(&pieces).unwrap()).unwrap()
    } else {
        Vocabulary::open(&Source::folder(folder).unwrap(), "").unwrap()
    }
}

/// Compares the vocabulary in a folder with its `cases.json`.
fn check(folder: &Path) {
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("cases.json")).unwrap()).unwrap();
    let vocabulary = open(folder);
    for (text, wanted) in texts(&cases["texts"]).iter().zip(cases["ids"].as_array().unwrap()) {
        let found = vocabulary.encode(text, Controls::Text).unwrap();
        assert_eq!(found, ids(wanted), "{name}: {text:?}");
        if cases["exact"] == true {
            assert_eq!(&vocabulary.decode(&found).unwrap(), text, "{name}");
        }
    }
    let text = cases["marked"]["text"].as_str().unwrap();
    let found = vocabulary.encode(text, Controls::Meant).unwrap();
    assert_eq!(found, ids(&cases["marked"]["ids"]), "{name}: {text:?}");
    assert_ne!(found, vocabulary.encode(text, Controls::Text).unwrap(), "{name}");
    let whole = vocabulary.encode_whole(&texts(&cases["texts"])[0], Controls::Text).unwrap();
    assert_eq!(whole, ids(&cases["whole"]), "{name}");
}

/// The folders with cases in a folder.
fn folders(root: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("cases.json").is_file());
    folders.sort();
    folders
}

#[test]
fn small_vocabularies_of_every_kind_give_the_ids_of_others() {
    let folders = folders(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vocabularies"));
    folders.iter().for_each(|folder| check(folder));
    assert_eq!(folders.len(), 9);
}

#[test]
fn tokens_that_a_folder_names_beside_its_vocabulary_are_cut_out_first() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vocabularies");
    for (from, to) in [("bpe-model/pieces.model", "tokenizer.model"), ("bytes-json/tokenizer.json", "tokenizer.json")] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(root.join(from), folder.path().join(to)).unwrap();
        let opened = || Vocabulary::open(&Source::folder(folder.path()).unwrap(), "");
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        let count = u32::try_from(opened().unwrap().len()).unwrap();
        write("added_tokens.json", format!(r#"{{"<sep>": {}, "<|im_end|>": {count}}}"#, count + 1));
        let decoder = format!(r#"{{"{}": {{"content": "<think>", "special": false}}}}"#, count + 2);
        write("tokenizer_config.json", format!(r#"{{"eos_token": "<|im_end|>", "added_tokens_decoder": {decoder}}}"#));
        let vocabulary = opened().unwrap();
        assert_eq!(vocabulary.len() as u32, count + 3, "{from}");
        assert!(vocabulary.is_end(count), "{from}");
        let meant = vocabulary.encode("a<|im_end|>b<sep><think>", Controls::Meant).unwrap();
        assert_eq!(meant.iter().filter(|&&id| id >= count).collect::<Vec<_>>(), [&count, &(count + 1), &(count + 2)]);
        let text = vocabulary.encode("a<|im_end|>b<sep>", Controls::Text).unwrap();
        assert_eq!(text.iter().filter(|&&id| id >= count).collect::<Vec<_>>(), [&(count + 1)], "{from}");
        assert_eq!(vocabulary.decode(&[count + 2, count, count + 1]).unwrap(), "<think><sep>", "{from}");
        if to == "tokenizer.json" {
            write("added_tokens.json", format!(r#"{{"<sep>": {}}}"#, count + 7));
            let refused = opened().unwrap_err().to_string();
            assert!(refused.contains("is said to be token"), "{refused}");
        }
    }
}

/// What an altered file makes of a text, if it can be read at all.
fn try_altered(name: &str, bytes: &[u8], text: &str) {
    let read = match name {
        "vocabulary.gguf" => Gguf::parse(name, &Bytes::from(bytes)).and_then(|gguf| Vocabulary::from_gguf(&gguf)),
        "pieces.model" => Vocabulary::from_sentencepiece(name, &Bytes::from(bytes)),
        _ => {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(name), bytes).unwrap();
            Vocabulary::open(&Source::folder(folder.path()).unwrap(), "")
        }
    };
    let Ok(vocabulary) = read else { return };
    for controls in [Controls::Text, Controls::Meant] {
        if let Ok(ids) = vocabulary.encode_whole(text, controls) {
            let _ = vocabulary.decode(&ids);
        }
    }
}

#[test]
fn altered_files_are_errors_or_other_vocabularies() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vocabularies");
    let times = std::env::var("ONDINE_ALTERED").map_or(40, |times| times.parse().unwrap());
    let mut random = 1_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    for entry in std::fs::read_dir(root).unwrap() {
        let folder = entry.unwrap().path();
        for name in ["vocabulary.gguf", "pieces.model", "tokenizer.json"] {
            let Ok(bytes) = std::fs::read(folder.join(name)) else { continue };
            for _ in 0..times {
                let mut altered = bytes.clone();
                match next(4) {
                    0 => altered.truncate(next(bytes.len())),
                    1 => altered[next(bytes.len())] ^= 1 << next(8),
                    2 => {
                        let (from, len) = (next(bytes.len() - 40), 1 + next(40));
                        altered.drain(from..from + len);
                    }
                    _ => {
                        for _ in 0..20 {
                            altered[next(bytes.len())] = next(256) as u8;
                        }
                    }
                }
                try_altered(name, &altered, "The quick <|turn|> déjà 12345 猫 \u{fb01}ne\n\n  u\u{308}");
            }
        }
    }
}

#[test]
fn merges_that_make_no_token_are_errors() {
    let open = |merge: &str, more: &str| {
        let folder = tempfile::tempdir().unwrap();
        let model =
            format!(r#""type": "BPE", "vocab": {{"a": 0, "b": 1, "é": 2, "ab": 3}}, "merges": [{merge}]{more}"#);
        std::fs::write(folder.path().join("tokenizer.json"), format!(r#"{{"model": {{{model}}}}}"#)).unwrap();
        Vocabulary::open(&Source::folder(folder.path()).unwrap(), "").map_err(|error| error.to_string())
    };
    open(r#""a b""#, "").unwrap();
    for (merge, more) in [
        (r#""ab b""#, ""),
        (r#"["ab", "b"]"#, ""),
        (r#""a b""#, r#", "continuing_subword_prefix": "@@""#),
        (r#""a é""#, r#", "continuing_subword_prefix": "@""#),
    ] {
        let error = open(merge, more).unwrap_err();
        assert!(error.contains("merge 0") && error.contains("tokenizer.json"), "{error}");
    }
}

/// The inputs and ids of a vocabulary of llama.cpp.
fn vectors(gguf: &Path) -> Option<(Vec<String>, Vec<Vec<u32>>)> {
    let beside = |ending: &str| std::fs::read_to_string(format!("{}{ending}", gguf.display())).ok();
    let (inputs, outputs) = (beside(".inp")?, beside(".out")?);
    let inputs = inputs.split("\n__ggml_vocab_test__\n").map(str::to_owned).collect();
    let numbers = |line: &str| line.split_whitespace().map(|id| id.parse().unwrap()).collect();
    Some((inputs, outputs.lines().map(numbers).collect()))
}

#[test]
fn real_vocabularies_give_the_ids_of_llama_cpp() {
    let Some(folder) = std::env::var_os("ONDINE_VOCABULARIES") else {
        eprintln!("skipped: ONDINE_VOCABULARIES names no folder");
        return;
    };
    folders(Path::new(&folder)).iter().for_each(|folder| check(folder));
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    paths.sort();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for path in paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let vocabulary = Vocabulary::from_gguf(&Gguf::open(&path).unwrap());
        let Some((inputs, outputs)) = vectors(&path) else { continue };
        let vocabulary = vocabulary.unwrap();
        checked += 1;
        // The last input ends with the end of its file.
        for (text, wanted) in inputs.iter().zip(&outputs) {
            let found = vocabulary.encode(text, Controls::Text).unwrap();
            if &found != wanted {
                wrong.push(format!("{name}: {text:?}\n  found {found:?}\n wanted {wanted:?}"));
                continue;
            }
            let back = vocabulary.decode(&found).unwrap();
            // Word pieces keep neither capitals nor blanks, and nothing of what is unknown to them.
            let known = !found.contains(&100);
            let same = || vocabulary.encode(&back, Controls::Text).unwrap() == found;
            if &back != text && !(name.contains("bert") && (!known || same())) {
                wrong.push(format!("{name}: {text:?} comes back as {back:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {checked} vocabularies' texts:\n{}", wrong.len(), wrong.join("\n"));
    eprintln!("{checked} vocabularies");
}
