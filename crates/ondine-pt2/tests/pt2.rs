//! Archives of `torch.export.save` against what PyTorch computed: `python/golden/archives.py` makes them.

use std::path::{Path, PathBuf};

use ondine_runtime::{Bytes, DType, Device, NDArray, Op, Options, Specialize, State, Weights};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pt2")
}

fn device() -> Device {
    Device::cpu(std::num::NonZeroUsize::new(2)).unwrap()
}

/// The arrays of a golden file whose names begin with `prefix`, without it.
fn arrays(weights: &Weights, prefix: &str) -> Vec<(String, NDArray)> {
    let names = weights.paths().filter_map(|path| Some((path.strip_prefix(prefix)?.to_owned(), path)));
    names.map(|(name, path)| (name, weights.array(path).unwrap())).collect()
}

/// What differs between a result and PyTorch's, if anything does.
fn difference(found: &NDArray, wanted: &NDArray) -> Option<String> {
    if found.shape() != wanted.shape() || found.dtype() != wanted.dtype() {
        return Some(format!("{found:?} instead of {wanted:?}"));
    }
    if !matches!(found.dtype(), DType::F32 | DType::F64 | DType::C64) {
        return (found.bytes() != wanted.bytes())
            .then(|| format!("{:?} instead of {:?}", found.to_f32(), wanted.to_f32()));
    }
    let (found, wanted) = (found.to_f32(), wanted.to_f32());
    let peak = wanted.iter().filter(|x| x.is_finite()).fold(1e-3_f32, |peak, x| peak.max(x.abs()));
    let parts = |(a, b): (&f32, &f32)| {
        let same = a == b || (a.is_nan() && b.is_nan());
        !same && ((a - b).abs() / peak).is_nan() || (a - b).abs() > 2e-5 * peak
    };
    found.iter().zip(&wanted).any(|(a, b)| parts((a, b))).then(|| format!("{found:?} instead of {wanted:?}"))
}

/// Runs one archive and names all results that differ.
fn check(archive: &str, golden: &str) {
    let golden = Weights::open(&data().join(format!("{golden}.golden.safetensors"))).unwrap();
    let asset = ondine_pt2::open(&data().join(format!("{archive}.pt2"))).unwrap_or_else(|error| panic!("{error}"));
    let model =
        asset.specialize(&Options::default(), &device(), None).unwrap_or_else(|e| panic!("{e}")).load().unwrap();
    let inputs = arrays(&golden, "in.");
    let inputs: Vec<(&str, &NDArray)> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
    let function = model.function("model").unwrap();
    let (mut state, mut wrong) = (State::default(), Vec::new());
    for prefix in ["out.", "again."] {
        let wanted = arrays(&golden, prefix);
        if wanted.is_empty() {
            break;
        }
        let mut outputs = function.run(&inputs, &mut state).unwrap_or_else(|error| panic!("{error}"));
        for (index, wanted) in wanted {
            let name = format!("output_{index}");
            let found = outputs.take(&name).unwrap();
            if let Some(difference) = difference(&found, &wanted) {
                let outputs = function.graph().outputs();
                let value = outputs.iter().find(|(known, _)| **known == *name).map(|(_, value)| *value);
                let origin = value.and_then(|value| function.graph().node(value).origin.clone());
                let op = origin.map_or_else(String::new, |origin| origin.node.to_string());
                wrong.push(format!("{prefix}{index} ({op}): {}", &difference[..difference.len().min(300)]));
            }
        }
    }
    assert!(wrong.is_empty(), "{archive}: {} differ\n{}", wrong.len(), wrong.join("\n"));
}

macro_rules! families {
    ($($family:ident),+) => { $(
        mod $family {
            #[test]
            fn as_exported() {
                super::check(stringify!($family), stringify!($family));
            }

            #[test]
            fn decomposed() {
                super::check(concat!(stringify!($family), ".decomposed"), stringify!($family));
            }
        }
    )+ };
}
families!(elementwise, shapes, reductions, indexing, products, convolutions, sequences, states, control);
families!(memory, loops, branches, choices, spectra, losses, sampling, sizes);
families!(quantized, vision, numbers, mapped, training, indefinite, extremes, complexes, associative);

#[test]
fn factors_statistics_and_special_functions_as_exported() {
    check("rare", "rare");
}

#[test]
fn histograms_segments_and_truths_as_exported() {
    check("counted", "counted");
}

#[test]
fn small_and_large_integers_as_exported() {
    check("narrow", "narrow");
}

#[test]
fn types_that_a_program_does_not_hold_are_refused() {
    let error = ondine_pt2::open(&data().join("autocast.pt2")).unwrap_err().to_string();
    assert!(error.contains("autocast") && error.contains("strict=False"), "{error}");
}

#[test]
fn weights_of_four_bits_that_a_processor_has_packed_for_itself_as_exported() {
    check("packed", "packed");
}

#[test]
fn a_region_that_is_compiled_once_runs_wherever_it_is_called() {
    check("regions", "regions");
}

#[test]
fn calls_of_other_sizes_yield_what_pytorch_yields_or_are_refused_as_there() {
    let golden = Weights::open(&data().join("sizes.golden.safetensors")).unwrap();
    for archive in ["sizes", "sizes.decomposed"] {
        let asset = ondine_pt2::open(&data().join(format!("{archive}.pt2"))).unwrap();
        let model = asset.specialize(&Options::default(), &device(), None).unwrap().load().unwrap();
        let function = model.function("model").unwrap();
        let call = |prefix: String| {
            let inputs = arrays(&golden, &prefix);
            let inputs: Vec<(&str, &NDArray)> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
            assert_eq!(inputs.len(), 4, "{prefix}");
            function.run(&inputs, &mut State::default())
        };
        for other in 0..2 {
            let mut outputs = call(format!("other_{other}.in.")).unwrap_or_else(|error| panic!("{error}"));
            for (index, wanted) in arrays(&golden, &format!("other_{other}.out.")) {
                let found = outputs.take(&format!("output_{index}")).unwrap();
                assert_eq!(difference(&found, &wanted), None, "{archive}, call {other}, result {index}");
            }
        }
        let refused = (0..3).map(|call_index| call(format!("refused_{call_index}.in.")).unwrap_err().to_string());
        let refused: Vec<String> = refused.collect();
        assert!(refused[0].contains("0.75") && refused[0].contains("== 9"), "{refused:?}");
        assert!(refused[1].contains("< 9") || refused[1].contains("<= 8"), "{refused:?}");
        assert!(refused.iter().all(|line| !line.contains('\n')), "{refused:?}");
    }
}

#[test]
fn buffers_that_share_memory_are_one_state() {
    check("aliases", "aliases");
    let asset = ondine_pt2::open(&data().join("aliases.pt2")).unwrap();
    let graph = asset.function("model").unwrap();
    let mut states: Vec<_> = graph.states().iter().map(|state| state.name.to_string()).collect();
    states.sort();
    assert_eq!(states, ["held", "left", "one", "whole"]);
}

#[test]
fn results_in_dictionaries_keep_their_names() {
    let golden = Weights::open(&data().join("named.golden.safetensors")).unwrap();
    let asset = ondine_pt2::open(&data().join("named.pt2")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    asset.save(&folder.path().join("named.ondine")).unwrap();
    let x = golden.array("in.x").unwrap();
    for asset in [asset, ondine_graph::Asset::open(&folder.path().join("named.ondine")).unwrap()] {
        let model = asset.specialize(&Options::default(), &device(), None).unwrap().load().unwrap();
        let mut outputs = model.function("model").unwrap().run(&[("x", &x)], &mut State::default()).unwrap();
        for (name, label, place) in
            [("output_0", "0.logits", 0), ("output_2", "0.hidden.1.0", 2), ("output_3", "0.3", 3)]
        {
            assert_eq!(outputs.label(name), Some(label));
            let wanted = golden.array(&format!("out.{place}")).unwrap();
            assert_eq!(difference(&outputs.take(label).unwrap(), &wanted), None);
        }
        assert_eq!(outputs.label("output_4"), None);
        assert!(outputs.take("output_4").is_ok() && outputs.take("0.logits").is_err());
    }
}

#[test]
fn states_are_carried_from_call_to_call_and_sizes_are_bound() {
    let golden = Weights::open(&data().join("states.golden.safetensors")).unwrap();
    let model = ondine_pt2::open(&data().join("states.pt2")).unwrap();
    let model = model.specialize(&Options::default(), &device(), None).unwrap().load().unwrap();
    let function = model.function("model").unwrap();
    let inputs = arrays(&golden, "in.");
    let inputs: Vec<(&str, &NDArray)> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
    let mut state = State::default();
    for call in 1..=3 {
        let mut outputs = function.run(&inputs, &mut state).unwrap();
        assert_eq!(outputs.take("output_1").unwrap().view::<i64>().unwrap(), [3 + 3 * call]);
    }
    assert_eq!(state.read("count").unwrap().view::<i64>().unwrap(), [12]);
    let names: Vec<_> = function.graph().inputs().iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["x", "at", "options_bias"]);
    let (x, at) = (NDArray::zeros(DType::F32, &[1, 9, 4]).unwrap(), NDArray::zeros(DType::I64, &[9]).unwrap());
    let bias = golden.array("in.options_bias").unwrap();
    let inputs = [("x", &x), ("at", &at), ("options_bias", &bias)];
    let error = function.run(&inputs, &mut state).unwrap_err().to_string();
    assert!(error.contains("0 to 8"), "{error}");
}

#[test]
fn shared_memory_is_read_where_it_lies() {
    let asset = ondine_pt2::open(&data().join("states.pt2")).unwrap();
    let whole = asset.weights().get("first.weight").unwrap();
    let part = asset.weights().get("part").unwrap();
    assert_eq!(part.bytes.as_ptr(), whole.bytes[16..].as_ptr());
    assert!(part.bytes.file().is_some());
}

#[test]
fn nodes_know_their_module_and_python_line() {
    let asset = ondine_pt2::open(&data().join("states.pt2")).unwrap();
    let graph = asset.function("model").unwrap();
    let linear = graph.nodes().iter().find(|node| matches!(node.op, Op::Linear(_))).unwrap();
    assert_eq!(&*linear.scope, "first");
    let origin = linear.origin.as_ref().unwrap();
    assert_eq!(&*origin.op, "aten.linear.default");
    let frame = &origin.stack[0];
    assert!(frame.file.ends_with("archives.py") && frame.line > 0 && frame.text.contains("self.first(x)"), "{frame:?}");
}

#[test]
fn all_unknown_operators_are_named_with_their_places() {
    let bytes = std::fs::read(data().join("states.pt2")).unwrap();
    let replaced = replace(
        &replace(&bytes, b"aten.linear.default", b"aten.unheard.deflt_"),
        b"aten.index_copy_",
        b"aten.index_cxpy_",
    );
    let replaced = resealed(&bytes, &replaced);
    let error = ondine_pt2::read("x.pt2", &Bytes::from(replaced.as_slice())).unwrap_err().to_string();
    assert!(error.contains("2 operators") && error.contains("aten.unheard.deflt_"), "{error}");
    assert!(error.contains("aten.index_cxpy_.default (index_copy_") && error.contains("archives.py:"), "{error}");
    assert!(error.contains("linear in first at "), "{error}");
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    bytes
}

/// An archive whose program was changed on purpose, with the sum that this has now.
fn resealed(original: &[u8], changed: &[u8]) -> Vec<u8> {
    let name = b"models/model.json";
    let entry = original.windows(4).enumerate().filter(|(_, part)| part == b"PK\x01\x02").map(|(at, _)| at);
    let short = |at: usize| usize::from(u16::from_le_bytes([original[at], original[at + 1]]));
    let long = |at: usize| short(at) | short(at + 2) << 16;
    let mut named = entry.filter(|&at| original[at + 46..][..short(at + 28)].ends_with(name));
    let entry = named.next().unwrap();
    let (size, header) = (long(entry + 24), long(entry + 42));
    let start = header + 30 + short(header + 26) + short(header + 28);
    let sum = |bytes: &[u8]| crc32fast::hash(&bytes[start..start + size]).to_le_bytes();
    let (before, after) = (sum(original), sum(changed));
    let mut bytes = changed.to_vec();
    for at in (0..bytes.len() - 4).filter(|&at| original[at..].starts_with(&before)) {
        bytes[at..at + 4].copy_from_slice(&after);
    }
    bytes
}

/// Flipped bytes and cut files: an error or a result, never a panic, never unbounded memory.
#[test]
fn damaged_archives_are_errors() {
    let bytes = std::fs::read(data().join("states.pt2")).unwrap();
    let mut seed = 1_u64;
    let mut random = |limit: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % limit
    };
    for _ in 0..200 {
        let cut = random(bytes.len());
        assert!(ondine_pt2::read("cut", &Bytes::from(&bytes[..cut])).is_err());
        let mut flipped = bytes.clone();
        for _ in 0..1 + random(8) {
            let at = random(flipped.len());
            flipped[at] ^= 1 << random(8);
        }
        if let Ok(asset) = ondine_pt2::read("flipped", &Bytes::from(flipped.as_slice())) {
            let _ = asset.prepare(&Options::default(), &device());
        }
    }
}
