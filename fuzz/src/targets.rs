//! What the targets do with an input. What is not said to be an error here must not happen: a panic, an overflow, more
//! memory or time than the input is worth.

use std::{collections::BTreeMap, fs, io::Cursor, path::PathBuf, sync::LazyLock};

use ondine_graph::{Asset, Bytes, DType, NDArray, element_count};
use ondine_image::{
    codec::Picture,
    infotext::Infotext,
    prompt::{attention, compose, schedule},
};
use ondine_language::template::{Chat, Now, Template};
use ondine_models::{
    Source,
    gguf::Gguf,
    ncnn, torch_file, transformer,
    vocabulary::{Controls, Vocabulary},
};
use ondine_runtime::Specialized;
use serde_json::{Value, json};

use crate::{built, bundle, call, folder, mutate};

/// Changes a seed by chance.
type Change = fn(&[u8], usize) -> Option<Vec<u8>>;

/// Targets whose seeds can be changed without a fuzzer, with what does.
pub const CHANGED: [(&str, fn(&[u8]), Change); 11] = [
    ("archive", archive, mutate::archive),
    ("asset", asset, mutate::asset),
    ("built", built, mutate::built),
    ("gguf", gguf, mutate::bytes),
    ("ncnn", ncnn, mutate::bytes),
    ("npy", npy, mutate::bytes),
    ("picture", picture, mutate::bytes),
    ("png", png, mutate::bytes),
    ("template", template, mutate::bytes),
    ("torch", torch, mutate::bytes),
    ("vocabulary", vocabulary, mutate::bytes),
];

/// Where files lie that are read by their path.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(bundle::folder);

/// An archive of `torch.export.save`: an error or functions that run.
pub fn archive(data: &[u8]) {
    if let Ok(asset) = ondine_pt2::read("fuzzed", &Bytes::from(data)) {
        call::asset(&asset);
    }
}

/// The files of an asset: an error or functions that run.
pub fn asset(data: &[u8]) {
    let mut files = folder::Files::of(data);
    // The manifest tells the interface of each function, which the fuzzer cannot guess; the error does.
    for _ in 0..4 {
        files.write(&FOLDER);
        match Asset::open(&FOLDER) {
            Ok(asset) => return call::asset(&asset),
            Err(error) if files.correct(&error.to_string()) => {}
            Err(_) => return,
        }
    }
}

/// The parts of a built file: an error or functions that run.
///
/// # Panics
/// If the temporary folder cannot be written.
pub fn built(data: &[u8]) {
    let file = FOLDER.join("built.odn");
    fs::write(&file, built::file(data)).expect("the temporary folder can be written");
    let Ok(specialized) = Specialized::open(&file, &call::DEVICE) else { return };
    let functions: Vec<_> = specialized.about().functions.iter().map(|name| name.as_str().into()).collect();
    if let Ok(model) = specialized.load() {
        call::model(&model, &functions);
    }
}

/// A file of numpy: an error or a whole array.
///
/// # Panics
/// If the array is not whole, or the temporary folder cannot be written.
pub fn npy(data: &[u8]) {
    let file = FOLDER.join("array.npy");
    fs::write(&file, data).expect("the temporary folder can be written");
    let Ok(array) = NDArray::read_npy(&file) else { return };
    assert_eq!(element_count(array.shape()), Some(array.len()));
    assert_eq!(array.bytes().len(), array.len() * array.dtype().size());
    for dtype in [DType::F32, DType::I64, DType::I32, DType::Bool] {
        if let Ok(converted) = array.convert(dtype) {
            assert_eq!((converted.shape(), converted.dtype()), (array.shape(), dtype));
        }
    }
}

/// A PNG, and the text of one: an error or a whole picture.
///
/// # Panics
/// If the picture is not whole, or another one after it was written.
pub fn png(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        read_text(text);
    }
    let Ok(picture) = Picture::read_png(Cursor::new(data)) else { return };
    assert_eq!(picture.rgb.len(), 3 * picture.width as usize * picture.height as usize);
    picture.texts.iter().for_each(|(_, text)| read_text(text));
    let mut written = Vec::new();
    // A text that was read may hold what PNG cannot keep.
    if picture.write_png(&mut written).is_ok() {
        let again = Picture::read_png(Cursor::new(&written)).expect("what was written is a picture");
        assert_eq!((again.width, again.height, again.rgb), (picture.width, picture.height, picture.rgb));
    }
}

/// A picture of any format, as one to begin with: an error or a whole picture.
///
/// # Panics
/// If the picture is not whole.
pub fn picture(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        read_prompt(text);
    }
    let Ok(opened) = Picture::read(data) else { return };
    let picture = opened.picture;
    assert_eq!(picture.rgb.len(), 3 * picture.width as usize * picture.height as usize);
    picture.texts.iter().for_each(|(_, text)| read_text(text));
}

/// Reads a text as a prompt with marks.
fn read_prompt(text: &str) {
    let text = compose::chosen(text, 7);
    let text = compose::adapters(&text).map_or(text, |(text, _)| text);
    for (part, _) in compose::composed(&text) {
        for (_, text) in schedule::texts(&part, 3) {
            let _ = attention::spans(&text);
        }
    }
}

/// A checkpoint of `torch.save`: an error or tensors that can be read.
pub fn torch(data: &[u8]) {
    let Ok(read) = torch_file::parse("fuzzed", &Bytes::from(data)) else { return };
    for path in read.weights.paths() {
        let _ = read.weights.to_f32(path);
    }
}

/// The layers of a network of ncnn and their numbers, and every tensor of it as f32.
pub fn ncnn(data: &[u8]) {
    let Ok(weights) = ncnn::parse("fuzzed", &Bytes::from(data), None) else { return };
    for path in weights.paths() {
        let _ = weights.to_f32(path);
    }
}

/// Reads a text as what a picture was made by, and what is written of that.
fn read_text(text: &str) {
    let found = Infotext::parse(text);
    let _ = Infotext::parse(&found.to_string());
}

/// A GGUF file: an error, or a vocabulary that spells and functions that run.
pub fn gguf(data: &[u8]) {
    let Ok(gguf) = Gguf::parse("fuzzed", &Bytes::from(data)) else { return };
    if let Ok(vocabulary) = Vocabulary::from_gguf(&gguf) {
        spell(&vocabulary);
    }
    if let Ok(asset) = transformer::asset(&gguf) {
        call::asset(&asset);
    }
}

/// A vocabulary, as `tokenizer.json` or as pieces: an error, or one that spells.
///
/// # Panics
/// If the temporary folder cannot be written.
pub fn vocabulary(data: &[u8]) {
    if let Ok(pieces) = Vocabulary::from_sentencepiece("fuzzed", &Bytes::from(data)) {
        spell(&pieces);
    }
    let folder = FOLDER.join("vocabulary");
    let files = bundle::split::<3>(data);
    fs::create_dir_all(&folder).expect("the temporary folder can be written");
    for (name, text) in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"].into_iter().zip(files) {
        fs::write(folder.join(name), text).expect("the temporary folder can be written");
    }
    let source = Source::folder(&folder).expect("the temporary folder is there");
    if let Ok(vocabulary) = Vocabulary::open(&source, "") {
        spell(&vocabulary);
    }
}

/// Writes texts in tokens and back, and every token alone.
fn spell(vocabulary: &Vocabulary) {
    for text in ["", " a  b\n\n12345", "na\u{ef}ve \u{1f431}\u{200d}\u{1f680} \u{4f60}\u{597d}", "<s></s><|im_end|>"] {
        for controls in [Controls::Text, Controls::Meant] {
            for ids in
                [vocabulary.encode(text, controls), vocabulary.encode_whole(text, controls)].into_iter().flatten()
            {
                let _ = vocabulary.decode(&ids);
            }
        }
    }
    let mut decoder = vocabulary.decoder();
    for id in (0..vocabulary.len().min(4096) as u32).chain([u32::MAX]) {
        let _ = (vocabulary.spelled(id), decoder.push(id));
    }
    decoder.finish();
}

/// A template of chats and the messages that it writes: an error or a text.
pub fn template(data: &[u8]) {
    let [source, messages] = bundle::split::<2>(data);
    let Ok(Ok(template)) = str::from_utf8(source).map(Template::new) else { return };
    let messages: Vec<Value> = serde_json::from_slice(messages).unwrap_or_default();
    let few = [json!({"role": "user", "content": "a"}), json!({"role": "assistant", "content": "b"})];
    let options = BTreeMap::new();
    for messages in [&messages[..], &few] {
        for answer in [false, true] {
            let now = Now::midday(2026, 11, 27);
            let chat = Chat { messages, tools: &few[..1], answer, begin: "<s>", end: "</s>", options: &options, now };
            let _ = template.render(&chat);
        }
    }
}
