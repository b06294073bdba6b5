//! The logits after a token are the same bits whether it is read alone or among others.

use std::path::{Path, PathBuf};

use ondine_language::{Model, Session, model::Settings};
use ondine_runtime::{Device, Precision};

/// How many tokens are read at once at most without that it changes a bit of what comes of each.
fn widest(path: &Path, precision: Precision) -> usize {
    let settings = Settings { context: Some(64), precision };
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

/// As many tokens as guesses that are checked together.
const TOGETHER: usize = 8;

#[test]
fn layers_yield_the_same_bits_for_tokens_among_others() {
    for name in ["gemma2", "phi3", "llama", "qwen3", "smollm3"] {
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
        for precision in [Precision::F32, Precision::BF16, Precision::Int8] {
            let together = widest(folder.path(), precision);
            assert!(together >= TOGETHER, "{name} {precision}: {together} tokens at once");
        }
    }
}
