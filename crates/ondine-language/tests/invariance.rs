//! What comes of a token is the same bits whether it is read alone, among others of its text, or beside other texts.

use std::path::{Path, PathBuf};

use ondine_language::{
    Batch, Event, Model, Session,
    model::Settings,
    sample::Sampling,
    session::{Options, Reason},
};
use ondine_models::KvCache;
use ondine_runtime::{Cancel, Device, Precision};

/// How many tokens are read at once at most without that it changes a bit of what comes of each.
fn widest(path: &Path, precision: Precision, kv: KvCache) -> usize {
    let settings = Settings { context: Some(64), precision, kv, ..Settings::default() };
    let model = Model::open(path, settings, &Device::cpu(None).unwrap(), None).unwrap();
    let count = u32::try_from(model.vocabulary().len()).unwrap();
    let ids: Vec<u32> = (0..48).map(|at| (at * 7919 + 13) % count.min(30_000)).collect();
    let (before, rest) = ids.split_at(20);
    let mut alone = Session::new(&model).unwrap();
    let mut wanted = Vec::new();
    for at in 0..rest.len() {
        // What was read before is remembered, so that one token is read.
        wanted.push(alone.logits_after(&ids[..before.len() + at], &rest[at..=at]).unwrap().to_f32());
    }
    for width in 2..=rest.len() {
        let mut session = Session::new(&model).unwrap();
        let found = session.logits_after(before, &rest[..width]).unwrap().to_f32();
        let same = |(row, wanted): (&[f32], &Vec<f32>)| row.iter().zip(wanted).all(|(a, b)| a.to_bits() == b.to_bits());
        if !found.chunks_exact(wanted[0].len()).zip(&wanted).all(same) {
            return width - 1;
        }
    }
    rest.len()
}

/// A model of `ondine-models` with a vocabulary.
fn folder(name: &str) -> tempfile::TempDir {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ondine-models/tests/data/language").join(name);
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(data.join(file), folder.path().join(file)).unwrap();
    }
    let words: serde_json::Map<_, _> = (0..40).map(|id| (format!("t{id}"), id.into())).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "t0"},
    });
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    folder
}

/// As many tokens as guesses that are checked together.
const TOGETHER: usize = 8;

#[test]
fn layers_yield_the_same_bits_for_tokens_among_others() {
    for name in ["gemma2", "phi3", "llama", "qwen3", "smollm3"] {
        let folder = folder(name);
        for precision in [Precision::F32, Precision::BF16, Precision::Int8] {
            for kv in [KvCache::AsComputed, KvCache::Bf16, KvCache::Int8] {
                let together = widest(folder.path(), precision, kv);
                assert!(together >= TOGETHER, "{name} {precision} {kv:?}: {together} tokens at once");
            }
        }
    }
}

/// Prompts of several lengths; the first ones begin alike.
fn prompts() -> Vec<Vec<u32>> {
    let prompt = |index: u32| {
        let length = 1 + index * 5 % 23;
        let first = if index < 3 { 3 } else { index };
        (0..length).map(|at| if at < 2 { first + at } else { (at * 7 + index * 11) % 40 }).collect()
    };
    (0..21).map(prompt).collect()
}

#[test]
fn an_answer_is_the_same_alone_and_among_fifteen_others() {
    for name in ["llama", "gemma3", "mistral", "qwen3", "mixtral", "gemma2", "gpt-oss"] {
        let folder = folder(name);
        for precision in [Precision::F32, Precision::BF16, Precision::Int8, Precision::A8] {
            let settings = Settings { context: Some(48), precision, texts: 16, ..Settings::default() };
            let model = Model::open(folder.path(), settings, &Device::cpu(None).unwrap(), None).unwrap();
            let sampling = Sampling { temperature: 1.0, seed: 5, ..Sampling::default() };
            let options = Options { sampling, max_tokens: Some(30), ..Options::default() };
            let mut finished = Vec::new();
            let mut batch = Batch::new(&model).unwrap();
            let mut on = |index: usize, event: Event<'_>| {
                if let Event::Finished(..) = event {
                    finished.push(index);
                }
            };
            let together = batch.answer(&prompts(), &options, &mut on).unwrap();
            finished.sort_unstable();
            assert_eq!(finished, (0..21).collect::<Vec<_>>(), "{name} {precision}: each once");
            for (prompt, answer) in prompts().iter().zip(&together) {
                let alone = Session::new(&model).unwrap().answer(prompt, &options, &mut |_| {}).unwrap();
                assert_eq!(alone.tokens, answer.tokens, "{name} {precision}: after {prompt:?}");
                assert_eq!((&alone.text, alone.reason), (&answer.text, answer.reason));
                assert_eq!(answer.usage.prompt_tokens, prompt.len());
            }
        }
    }
}

#[test]
fn a_prompt_that_is_too_long_is_told_by_its_number_and_a_model_of_one_text_refuses() {
    let folder = folder("llama");
    let open = |texts| {
        let settings = Settings { context: Some(16), texts, ..Settings::default() };
        Model::open(folder.path(), settings, &Device::cpu(None).unwrap(), None)
    };
    let model = open(2).unwrap();
    let mut batch = Batch::new(&model).unwrap();
    let error = batch.answer(&[vec![1], vec![1; 16]], &Options::default(), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("prompt 2"), "{error}");
    assert!(Batch::new(&open(0).unwrap()).is_err());
    assert!(open(5000).is_err());
    // Answers end where the context does.
    let answers = batch.answer(&[vec![1], vec![2, 3], vec![4]], &Options::default(), &mut |_, _| {}).unwrap();
    assert!(answers.iter().all(|answer| answer.reason == Reason::ContextFull));
    let cancel = Cancel::default();
    let mut batch = Batch::new(&model).unwrap().with_cancel(cancel.clone());
    let mut heard = 0;
    let answers = batch
        .answer(&[vec![1], vec![2], vec![3]], &Options::default(), &mut |_, event| {
            heard += usize::from(matches!(event, Event::Text(_)));
            if heard == 4 {
                cancel.cancel();
            }
        })
        .unwrap();
    assert!(answers.iter().all(|answer| answer.reason == Reason::Cancelled), "{answers:?}");
}
