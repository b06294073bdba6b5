//! Texts that are far longer than the windows of a model's layers, whose states keep the windows alone.

use std::path::{Path, PathBuf};

use ondine_language::{
    Batch, Event, Model, Session,
    model::{Plan, Settings},
    session::{Options, Reason},
};
use ondine_models::KvCache;
use ondine_runtime::{Cancel, Device};
use serde_json::{Map, Value, json};

/// A model of `ondine-models` with a vocabulary, made for long texts.
fn folder(name: &str) -> tempfile::TempDir {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ondine-models/tests/data/language").join(name);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(data.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(data.join("config.json")).unwrap()).unwrap();
    config["max_position_embeddings"] = 4096.into();
    let words: Map<String, Value> = (0..40).map(|id| (format!("t{id}"), id.into())).collect();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "t0"},
    });
    for (file, value) in [("config.json", config), ("tokenizer.json", tokenizer)] {
        std::fs::write(folder.path().join(file), value.to_string()).unwrap();
    }
    folder
}

fn settings(kv: KvCache) -> Settings {
    Settings { context: Some(1200), call: Some(32), texts: 3, kv, ..Settings::default() }
}

fn model(folder: &Path, kv: KvCache) -> Model {
    Model::open(folder, settings(kv), &Device::cpu(None).unwrap(), None).unwrap()
}

fn tokens(count: usize) -> Options {
    Options { max_tokens: Some(count), ..Options::default() }
}

fn text(seed: u32, count: u32) -> Vec<u32> {
    (0..count).map(|at| (at * at * seed + at * 3) % 40).collect()
}

#[test]
fn what_windows_no_longer_hold_is_read_again_and_said_so() {
    for (name, kv) in [("gemma3", KvCache::AsComputed), ("mistral", KvCache::Int8), ("gemma2", KvCache::Bf16)] {
        let folder = folder(name);
        let model = model(folder.path(), kv);
        let mut session = Session::new(&model).unwrap();
        let mut ask = |prompt: &[u32]| {
            let answer = session.answer(prompt, &tokens(4), &mut |_| {}).unwrap();
            let fresh = Session::new(&model).unwrap().answer(prompt, &tokens(4), &mut |_| {}).unwrap();
            assert_eq!(answer.tokens, fresh.tokens, "{name}: {} tokens", prompt.len());
            (answer.usage.cached_tokens, answer.tokens)
        };
        let first = text(7, 500);
        let (cached, answer) = ask(&first);
        assert_eq!(cached, 0);
        // The conversation goes on: only the last token of the answer is new.
        let second = [&first[..], &answer, &text(5, 60)].concat();
        assert_eq!(ask(&second).0, 503, "{name}");
        // The end is another one, less than a call before what was read.
        assert_eq!(ask(&[&second[..550], &[1, 2, 3]].concat()).0, 550, "{name}");
        // What lies before the tenth token is remembered, and what follows it cannot be read from the states.
        assert_eq!(ask(&[&second[..10], &text(3, 300)].concat()).0, 0, "{name}");
        assert_eq!(ask(&[&second[..10], &text(3, 300), &[5]].concat()).0, 310, "{name}");
    }
}

#[test]
fn a_session_that_is_taken_back_too_far_or_stopped_is_a_fresh_one() {
    let folder = folder("gemma3");
    let model = model(folder.path(), KvCache::AsComputed);
    let cancel = Cancel::default();
    let mut session = Session::new(&model).unwrap().with_cancel(cancel.clone());
    let prompt = text(11, 400);
    let wanted = session.answer(&prompt, &tokens(6), &mut |_| {}).unwrap().tokens;
    session.rewind(398);
    assert_eq!(session.remembered().len(), 398);
    session.rewind(100);
    assert!(session.remembered().is_empty());
    assert_eq!(session.answer(&prompt, &tokens(6), &mut |_| {}).unwrap().tokens, wanted);
    // Stopped while another prompt is read.
    let mut read = |event: Event<'_>| {
        if matches!(event, Event::Read(count, _) if count >= 300) {
            cancel.cancel();
        }
    };
    let stopped = session.answer(&text(2, 600), &tokens(6), &mut read).unwrap();
    assert_eq!(stopped.reason, Reason::Cancelled);
    let again = session.answer(&prompt, &tokens(6), &mut |_| {}).unwrap();
    assert_eq!((again.tokens, again.usage.cached_tokens), (wanted, 0));
}

#[test]
fn logits_of_a_text_longer_than_a_call_are_those_of_its_parts() {
    let folder = folder("gemma3");
    let model = model(folder.path(), KvCache::AsComputed);
    let ids = text(7, 300);
    let all = Session::new(&model).unwrap().logits(&ids).unwrap();
    let mut session = Session::new(&model).unwrap();
    let width = all.shape()[1];
    assert_eq!(all.shape(), [300, width]);
    for from in (0..300).step_by(32) {
        let to = 300.min(from + 32);
        let part = session.logits_after(&ids[..from], &ids[from..to]).unwrap();
        assert!(part.to_f32() == all.to_f32()[from * width..to * width], "from {from}");
    }
    // Of other continuations of an early part nothing is left, so all of it is read again.
    let other = session.logits_after(&ids[..40], &ids[40..60]).unwrap();
    assert!(other.to_f32() == Session::new(&model).unwrap().logits_after(&ids[..40], &ids[40..60]).unwrap().to_f32());
}

#[test]
fn long_texts_side_by_side_are_answered_as_alone() {
    let folder = folder("gemma3");
    let model = model(folder.path(), KvCache::Int8);
    let prompts: Vec<Vec<u32>> = [(3, 300), (5, 20), (7, 640), (9, 301), (11, 7)].map(|(seed, n)| text(seed, n)).into();
    let together = Batch::new(&model).unwrap().answer(&prompts, &tokens(20), &mut |_, _| {}).unwrap();
    for (prompt, answer) in prompts.iter().zip(together) {
        let alone = Session::new(&model).unwrap().answer(prompt, &tokens(20), &mut |_| {}).unwrap();
        assert_eq!(answer.tokens, alone.tokens, "{} tokens", prompt.len());
    }
}

#[test]
fn the_plan_knows_that_windows_do_not_grow_with_the_context() {
    let folder = folder("mistral");
    let device = Device::cpu(None).unwrap();
    let bytes = |context: usize| {
        let settings = Settings { context: Some(context), texts: 0, ..settings(KvCache::AsComputed) };
        Plan::new(folder.path(), settings, &device).unwrap().bytes().unwrap()
    };
    assert_eq!(bytes(1200), bytes(4000));
}
