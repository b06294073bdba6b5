//! States of layers with a window that keep what the window holds, against states that keep the whole text: to the bit.

use std::path::Path;

use ondine_graph::{NDArray, Result};
use ondine_models::{
    KvCache, Network, Room, Source,
    transformer::{self, Config},
};
use ondine_runtime::{Device, Model, Options, Precision, Specialize, State};

const CONTEXT: usize = 1000;
const CALL: usize = 45;
const TEXTS: usize = 3;

/// A family of the goldens with windows of `window` tokens, in the layers `narrow` if its config does not say in which.
struct Family {
    network: Network,
    config: Config,
}

impl Family {
    fn new(name: &str, window: usize, narrow: &[bool]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/language").join(name);
        let network = Network::open(&Source::folder(&folder).unwrap(), "", None).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&network.config).unwrap();
        json["max_position_embeddings"] = 4096.into();
        json["sliding_window"] = window.into();
        if !narrow.is_empty() {
            let kinds = narrow.iter().map(|&narrow| if narrow { "sliding_attention" } else { "full_attention" });
            json["layer_types"] = kinds.collect();
        }
        Self { network, config: Config::from_json(&json.to_string()).unwrap() }
    }

    fn model(&self, room: Room, precision: Precision) -> Result<Model> {
        let mut functions = transformer::functions(&self.config, room)?;
        functions.extend(transformer::together(&self.config, room, TEXTS)?);
        let asset = self.network.asset(Default::default())?.with_functions(functions)?;
        asset.specialize(&Options { precision, ..Options::default() }, &Device::cpu(None)?, None)?.load()
    }

    /// Bytes of the states of one text.
    fn bytes(&self, room: Room) -> usize {
        let functions = transformer::functions(&self.config, room).unwrap();
        let count = |shape: &ondine_graph::Shape| shape.elements().fixed().unwrap();
        functions[0].1.states().iter().map(|slot| count(&slot.signature.shape) * slot.signature.dtype.size()).sum()
    }
}

fn ids(first: usize, count: usize) -> Vec<i64> {
    (first..first + count).map(|at| (at * at * 7 + at * 3) as i64 % 40).collect()
}

fn call(model: &Model, name: &str, past: usize, count: usize, state: &mut State) -> Result<Vec<u32>> {
    let (ids, past) = (NDArray::new(&[count], &ids(past, count))?, NDArray::scalar(past as i64));
    let function = model.function(name)?;
    let mut results = function.run(&[("input_ids", &ids), ("past", &past)], state)?;
    let result = results.take(if name == "extend" { "past" } else { "logits" })?;
    Ok(if name == "extend" { Vec::new() } else { result.to_f32().into_iter().map(f32::to_bits).collect() })
}

/// A text in calls of several lengths; what they yield.
fn read(model: &Model, state: &mut State) -> Result<Vec<Vec<u32>>> {
    let (mut past, mut results) = (0, Vec::new());
    for round in 0..8 {
        for (name, count) in [("extend", CALL), ("next", 1), ("next", 1), ("logits", 7), ("logits", CALL), ("next", 3)]
        {
            results.push(call(model, name, past, count, state)?);
            past += count;
            // Tokens are taken back, as guesses are that do not come true.
            past -= if name == "logits" { round.min(5) } else { 0 };
        }
    }
    Ok(results)
}

/// Texts of several lengths side by side, the last of which took the place of another.
fn together(model: &Model, state: &mut State) -> Result<Vec<Vec<u32>>> {
    let mut past = [700_usize, 3, 430];
    for (text, length) in [(0, past[0]), (2, 500), (1, past[1]), (2, past[2])] {
        for at in (0..length).step_by(CALL) {
            call(model, "extend", at, CALL.min(length - at), state)?;
        }
        let [text, count] = [text, length].map(|number| NDArray::scalar(number as i64));
        model.function("seat")?.run(&[("text", &text), ("count", &count)], state)?;
    }
    let mut results = Vec::new();
    for step in 0..110 {
        let held = NDArray::new(&[TEXTS], &past.map(|past| past as i64))?;
        let ids = NDArray::new(&[TEXTS], &ids(step, TEXTS))?;
        let logits = model.function("batch")?.run(&[("input_ids", &ids), ("past", &held)], state)?.take("logits")?;
        results.push(logits.to_f32().into_iter().map(f32::to_bits).collect());
        past = past.map(|past| past + 1);
    }
    Ok(results)
}

fn check(name: &str, window: usize, narrow: &[bool], kv: KvCache, precision: Precision) {
    let family = Family::new(name, window, narrow);
    let [whole, ring] = [Room::whole(CONTEXT, kv), Room { context: CONTEXT, call: CALL, kv }];
    assert!(family.bytes(ring) < family.bytes(whole), "{name} {window}");
    let [whole, ring] = [whole, ring].map(|room| family.model(room, precision).unwrap());
    let [wanted, found] = [&whole, &ring].map(|model| read(model, &mut State::default()).unwrap());
    for (step, (wanted, found)) in wanted.iter().zip(&found).enumerate() {
        assert!(wanted == found, "{name}, window {window}, {kv:?}, {precision}: call {step} differs");
    }
    if family.config.batches() {
        let [wanted, found] = [&whole, &ring].map(|model| together(model, &mut State::default()).unwrap());
        let step = wanted.iter().zip(&found).position(|(wanted, found)| wanted != found);
        assert_eq!(step, None, "{name}, window {window}, {kv:?}, {precision}: several texts");
    }
}

#[test]
fn a_ring_computes_what_the_whole_text_computes() {
    use KvCache::{AsComputed, Bf16, Int8};
    use Precision::F32;
    // One that a call exceeds, ones that end inside and at the end of a block of rows, and one of many blocks.
    for (window, kv) in [(6, AsComputed), (96, Bf16), (150, Int8), (301, AsComputed)] {
        check("gemma3", window, &[], kv, F32);
    }
    for kv in [AsComputed, Bf16, Int8] {
        check("mistral", 120, &[], kv, F32);
        check("gemma2", 60, &[], kv, F32);
    }
    check("phi3", 77, &[], Int8, F32);
    check("gpt-oss", 33, &[], AsComputed, F32);
    check("gemma2", 290, &[], AsComputed, F32);
    check("qwen2", 50, &[], AsComputed, F32);
    // Layers that read the keys of another one: all of them behind a window, and one that sees everything.
    check("afm", 64, &[true, false, true, false, true, true, true], AsComputed, F32);
    check("afm", 64, &[true, false, true, false, true, false, true], AsComputed, F32);
}

#[test]
fn a_ring_computes_the_same_in_every_precision() {
    for precision in [Precision::BF16, Precision::Int8, Precision::A8] {
        check("mistral", 200, &[], KvCache::AsComputed, precision);
        check("gemma3", 100, &[], KvCache::Int8, precision);
    }
    for precision in [Precision::BF16, Precision::Int8] {
        check("gpt-oss", 40, &[], KvCache::AsComputed, precision);
    }
}
