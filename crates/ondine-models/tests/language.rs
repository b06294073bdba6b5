//! Language models against tensors that transformers computed: `tests/data/language/*` hold small ones of random
//! weights, made by `python/golden/language.py`.

use std::path::{Path, PathBuf};

use ondine_graph::{ErrorKind, NDArray, Result, Weights};
use ondine_models::{KvCache, Network, Source, transformer, transformer::Room};
use ondine_runtime::{Device, Function, Model, Options, Precision, Specialize, State};

/// The largest error allowed, relative to the largest number of the golden tensor.
const TOLERANCE: f64 = 1e-5;

struct Golden {
    name: String,
    model: Model,
    ids: Vec<i64>,
    tensors: Weights,
}

/// The folders of goldens, and those that a variable names besides: others of the same kind.
fn folders() -> Vec<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/language");
    let others = std::env::var_os("ONDINE_LANGUAGE_GOLDENS").map(PathBuf::from);
    let mut folders = Vec::new();
    for place in others.into_iter().chain([own]) {
        folders.extend(std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()));
    }
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    folders
}

fn open(folder: &Path) -> Result<Golden> {
    open_with(folder, KvCache::default(), "golden.safetensors", "")
}

/// Opens a model whose keys and values are kept in `kv`, and the tensors of a golden file: its tokens are the tensor
/// `input_ids` with something behind its name.
fn open_with(folder: &Path, kv: KvCache, golden: &str, suffix: &str) -> Result<Golden> {
    let network = Network::open(&Source::folder(folder)?, "", None)?;
    let config = transformer::Config::from_json(&network.config)?;
    let asset = network
        .asset(Default::default())?
        .with_functions(transformer::functions(&config, Room::whole(64.min(config.max_positions), kv))?)?;
    let model = asset.specialize(&Options::default(), &Device::cpu(None)?, None)?.load()?;
    let tensors = Weights::open(&folder.join(golden))?;
    let ids = tensors.array(&format!("input_ids{suffix}"))?.view::<i64>()?.to_vec();
    Ok(Golden { name: folder.file_name().unwrap().to_string_lossy().into_owned(), model, ids, tensors })
}

/// Calls a function with tokens that follow `past` others.
fn call(function: &Function, ids: &[i64], past: usize, state: &mut State, output: &str) -> Result<NDArray> {
    let (ids, past) = (NDArray::new(&[ids.len()], ids)?, NDArray::scalar(past as i64));
    function.run(&[("input_ids", &ids), ("past", &past)], state)?.take(output)
}

fn error(values: &[f32], golden: &[f32]) -> f64 {
    assert_eq!(values.len(), golden.len());
    let largest = golden.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let error = values.iter().zip(golden).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    assert!(values.iter().all(|x| x.is_finite()));
    error / f64::from(largest)
}

#[test]
fn every_family_computes_what_transformers_computes() -> Result<()> {
    let mut families = 0;
    for folder in folders() {
        let golden = open(&folder)?;
        let logits = call(&golden.model.function("logits")?, &golden.ids, 0, &mut State::default(), "logits")?;
        let wrong = error(&logits.to_f32(), &golden.tensors.to_f32("logits")?);
        assert!(wrong < TOLERANCE, "{}: logits are {wrong:.1e} off", golden.name);
        let states = golden.model.function("states")?;
        for name in ["last_hidden_state", "hidden_states.1"] {
            let found = call(&states, &golden.ids, 0, &mut State::default(), name)?;
            let wrong = error(&found.to_f32(), &golden.tensors.to_f32(name)?);
            assert!(wrong < TOLERANCE, "{}: {name} is {wrong:.1e} off", golden.name);
        }
        families += 1;
    }
    assert!(families >= 22);
    Ok(())
}

#[test]
fn a_text_in_pieces_is_the_same_text_and_can_be_taken_back() -> Result<()> {
    for folder in folders() {
        let golden = open(&folder)?;
        let next = golden.model.function("next")?;
        let wanted = golden.tensors.to_f32("logits")?;
        let width = wanted.len() / golden.ids.len();
        let mut state = State::default();
        // What is overwritten later is other text.
        let other: Vec<i64> = golden.ids.iter().rev().copied().collect();
        call(&next, &other[..9], 0, &mut state, "logits")?;
        let mut past = 0;
        for piece in [1, 6, 1, 1, 9, 5] {
            let logits = call(&next, &golden.ids[past..past + piece], past, &mut state, "logits")?;
            past += piece;
            let wrong = error(&logits.to_f32(), &wanted[(past - 1) * width..][..width]);
            assert!(wrong < TOLERANCE, "{}: after {past} tokens {wrong:.1e} off", golden.name);
        }
    }
    Ok(())
}

#[test]
fn keys_and_values_in_fewer_bits_are_those_that_transformers_reads_back() -> Result<()> {
    let mut folders = folders();
    folders.retain(|folder| folder.join("golden_kv.safetensors").exists());
    assert!(folders.len() >= 5);
    for (folder, kv) in folders.iter().flat_map(|folder| ["bf16", "int8"].map(|kv| (folder, kv))) {
        let golden = open_with(folder, kv.parse()?, "golden_kv.safetensors", &format!(".{kv}"))?;
        let wanted = golden.tensors.to_f32(&format!("logits.{kv}"))?;
        let all = call(&golden.model.function("logits")?, &golden.ids, 0, &mut State::default(), "logits")?;
        let wrong = error(&all.to_f32(), &wanted);
        assert!(wrong < TOLERANCE, "{} in {kv}: logits are {wrong:.1e} off", golden.name);
        // In pieces, over what is left of another text.
        let (next, extend) = (golden.model.function("next")?, golden.model.function("extend")?);
        let width = wanted.len() / golden.ids.len();
        let mut state = State::default();
        let other: Vec<i64> = golden.ids.iter().rev().map(|id| id / 2).collect();
        call(&next, &other, 0, &mut state, "logits")?;
        call(&extend, &golden.ids[..5], 0, &mut state, "past")?;
        let mut past = 5;
        for piece in [1, 4, 1, 2] {
            let logits = call(&next, &golden.ids[past..past + piece], past, &mut state, "logits")?;
            past += piece;
            let wrong = error(&logits.to_f32(), &wanted[(past - 1) * width..][..width]);
            assert!(wrong < TOLERANCE, "{} in {kv}: after {past} tokens {wrong:.1e} off", golden.name);
        }
    }
    Ok(())
}

#[test]
fn what_a_model_was_trained_to_keep_is_not_kept_in_another_type() -> Result<()> {
    let config = transformer::Config::from_json(transformer::ON_DEVICE)?;
    let error = transformer::functions(&config, Room::whole(64, KvCache::Bf16)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
    let states = |kv| -> Result<Vec<String>> {
        let functions = transformer::functions(&config, Room::whole(64, kv))?;
        Ok(functions[0].1.states().iter().map(|slot| format!("{slot:?}")).collect())
    };
    assert_eq!(states(KvCache::Int8)?, states(KvCache::AsComputed)?);
    assert!("int4".parse::<KvCache>().is_err_and(|error| error.to_string().contains("bf16 or int8")));
    Ok(())
}

#[test]
fn chosen_tokens_have_the_logits_that_they_have_among_all() -> Result<()> {
    for folder in folders() {
        let network = Network::open(&Source::folder(&folder)?, "", None)?;
        let config = transformer::Config::from_json(&network.config)?;
        let functions = transformer::functions(&config, Room::whole(32, KvCache::default()))?;
        let asset = network.asset(Default::default())?.with_functions(functions)?;
        for precision in [Precision::F32, Precision::BF16, Precision::Int8, Precision::A8] {
            let options = Options { precision, ..Options::default() };
            let model = asset.clone().specialize(&options, &Device::cpu(None)?, None)?.load()?;
            let last = config.vocab_size as i64 - 1;
            let all = call(&model.function("next")?, &[3, 1, 4, 1, 5], 0, &mut State::default(), "logits")?.to_f32();
            // One, some in any order and twice, the first and the last, all.
            let every: Vec<i64> = (0..=last).collect();
            for names in [&[last / 2][..], &[7, 3, 3, last, 20], &[0, last], &every] {
                let [ids, past] = [NDArray::new(&[5], &[3_i64, 1, 4, 1, 5])?, NDArray::scalar(0_i64)];
                let chosen = NDArray::new(&[names.len()], names)?;
                let inputs = [("input_ids", &ids), ("past", &past), ("chosen", &chosen)];
                let some = model.function("chosen")?.run(&inputs, &mut State::default())?.take("logits")?.to_f32();
                let wanted: Vec<u32> = names.iter().map(|&name| all[name as usize].to_bits()).collect();
                let found: Vec<u32> = some.iter().map(|logit| logit.to_bits()).collect();
                assert_eq!(found, wanted, "{} {precision}: {names:?}", folder.display());
            }
        }
    }
    Ok(())
}

#[test]
fn states_that_were_extended_go_on_as_if_every_token_had_been_asked_for() -> Result<()> {
    for folder in folders() {
        let golden = open(&folder)?;
        let (extend, next) = (golden.model.function("extend")?, golden.model.function("next")?);
        let wanted = golden.tensors.to_f32("logits")?;
        let (count, width) = (golden.ids.len(), wanted.len() / golden.ids.len());
        let mut state = State::default();
        let mut past = 0;
        for piece in [1, 13, count - 16] {
            let held = call(&extend, &golden.ids[past..past + piece], past, &mut state, "past")?;
            past += piece;
            assert_eq!(held.view::<i64>()?, [past as i64]);
        }
        let logits = call(&next, &golden.ids[past..], past, &mut state, "logits")?;
        let wrong = error(&logits.to_f32(), &wanted[(count - 1) * width..]);
        assert!(wrong < TOLERANCE, "{}: {wrong:.1e} off", golden.name);
    }
    Ok(())
}

#[test]
fn the_foundation_model_is_as_large_as_reported_and_extends_its_first_block_alone() -> Result<()> {
    let config = transformer::Config::from_json(transformer::ON_DEVICE)?;
    let functions = transformer::functions(&config, Room::whole(4096, KvCache::default()))?;
    let graph = |name: &str| &functions.iter().find(|(known, _)| *known == name).unwrap().1;
    let count = |shape: &[usize]| shape.iter().product::<usize>();
    let scales = |path: &str| path.ends_with("_scale");
    let weights = graph("next").weights().iter().filter(|weight| !scales(&weight.path));
    assert_eq!(weights.map(|weight| count(&weight.shape)).sum::<usize>(), 3_111_368_064);
    let read = |name: &str, layer: usize| {
        let place = format!("model.layers.{layer}.");
        graph(name).weights().iter().any(|weight| weight.path.starts_with(&place))
    };
    assert!(read("next", 55) && read("extend", 34) && !read("extend", 35));
    let bytes = graph("extend").states().iter().map(|slot| slot.signature.dtype.size() * 2 * 128).sum::<usize>();
    assert_eq!(bytes, 17_920, "of keys and values a token");
    Ok(())
}

#[test]
fn more_than_the_states_hold_is_refused() -> Result<()> {
    let golden = open(&folders().remove(0))?;
    let next = golden.model.function("next")?;
    let error = call(&next, &golden.ids, 60, &mut State::default(), "logits").unwrap_err();
    assert!([ErrorKind::Memory, ErrorKind::Shape].contains(&error.kind()), "{error}");
    Ok(())
}
