//! Any text as each of the JSON files of a model folder: an error or a whole graph, in little time and memory.
#![no_main]

use std::{fs, num::NonZero, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ondine_image::{
    noise::Generator,
    sampler,
    schedule::{SchedulerClass, SchedulerConfig},
};
use ondine_models::{Functions, GraphSizes, Pipeline, Role, Source, Tokenizer, class_of, registry};
use ondine_runtime::{Asset, Bindings, Bytes, DType, Device, Options, Tensor, Weights, sample};

fuzz_target!(|text: &str| {
    network(text);
    scheduler(text);
    folder(text);
});

/// The config of a network: of the class that it names, or of one chosen by its length.
fn network(json: &str) {
    let any = &registry::ARCHITECTURES[json.len() % registry::ARCHITECTURES.len()];
    let architecture = class_of(json).and_then(|class| registry::find(&class)).unwrap_or(any);
    match architecture.role {
        Role::TextEncoder(facts) => drop(facts(json)),
        Role::Denoiser(facts) => drop(facts(json)),
        Role::Autoencoder(facts) => drop(facts(json)),
    }
    if let Ok(functions) = (architecture.functions)(json, GraphSizes::default()) {
        // Large graphs repeat the blocks of small ones, slowly.
        if functions.iter().all(|(_, graph)| graph.nodes().len() < 600) {
            plan(architecture.class, functions);
        }
    }
}

/// Everything that is known of a network before its weights are touched, which the config may make of any size.
fn plan(class: &str, functions: Functions) {
    static DEVICE: LazyLock<Device> = LazyLock::new(|| Device::cpu(NonZero::new(1)).expect("there is a processor"));
    let mut weights = Weights::default();
    for weight in functions.iter().flat_map(|(_, graph)| graph.weights()) {
        let (shape, bytes) = (weight.shape.clone(), Bytes::from_static(&[]));
        weights.insert(&weight.path, Tensor { dtype: DType::F16, shape, bytes, file: class.into() });
    }
    let asset = Asset::new(class, functions, weights).expect("the weights are those of the graphs");
    let Ok(prepared) = asset.prepare(&Options::default(), &DEVICE) else { return };
    let _ = (asset.parameters(), prepared.weight_bytes());
    for (name, graph) in asset.functions() {
        assert!(!graph.outputs().is_empty(), "{class}: {name}");
        let bindings: Bindings = sample::symbols(graph).into_iter().map(|symbol| (symbol, 8)).collect();
        let _ = prepared.plan(name, &bindings);
    }
}

/// The config of a scheduler, run for a few steps as it says, then with every other sampler.
fn scheduler(json: &str) {
    let Ok(config) = SchedulerConfig::from_json(json) else { return };
    for class in SchedulerClass::all() {
        let _ = config.with_class(class).map(|config| sample(&config, 3));
    }
    sample(&config, 7);
}

fn sample(config: &SchedulerConfig, steps: usize) {
    let Ok(mut sampler) = sampler::sampler(config, steps, &sampler::Options::default()) else { return };
    let mut noise = Generator::TorchCpu.seeded(1);
    let mut latents = [1.0, -1.0];
    for call in 0..sampler.timesteps().len() {
        let mut input = latents;
        sampler.scale_model_input(call, &latents, &mut input);
        let _ = sampler.step(call, &input, &mut latents, noise.as_mut());
    }
}

/// The files that are only read from a folder: the index of a pipeline, and each file of a tokenizer.
fn folder(text: &str) {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = std::env::temp_dir().join(format!("ondine-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        folder
    });
    let source = Source::Folder(FOLDER.clone());
    let with = |files: &[(&str, &str)], read: &dyn Fn()| {
        for (name, text) in files {
            fs::write(FOLDER.join(name), text).expect("the temporary folder can be written");
        }
        read();
        for (name, _) in files {
            fs::remove_file(FOLDER.join(name)).expect("the file was just written");
        }
    };
    let tokenize = || {
        if let Ok(tokenizer) = Tokenizer::open(&source, "", 16) {
            let _ = tokenizer.encode_padded("A café's  \u{1f431} <|endoftext|>[SEP]", 16);
        }
    };
    with(&[("model_index.json", text)], &|| drop(Pipeline::open(source.clone())));
    with(&[("tokenizer.json", text)], &tokenize);
    with(&[("vocab.json", text), ("merges.txt", "a b\n")], &tokenize);
    with(&[("vocab.txt", "[UNK]\n[CLS]\n[SEP]\n[PAD]\na\n"), ("tokenizer_config.json", text)], &tokenize);
}

/// Values that break careless arithmetic, and some of other types.
const ABSURD: &str = "0 1 -1 2 3 8 31 256 257 4096 65536 65537 16777216 2147483648 4294967295 9007199254740993 \
    9223372036854775807 18446744073709551615 18446744073709551616 0.5 1e-45 1e38 1e39 -1e308 1e999 null true false \
    \"\" [] [1,1] [1,[2,[3]]] {}";

// Every second mutation replaces one value of the file by an absurd one; the rest are the fuzzer's own.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let (absurd, seed) = (seed % 2 == 0, seed as usize / 2);
    let mutated = absurd.then(|| replace_value(&data[..size], seed)).flatten();
    match mutated.filter(|mutated| mutated.len() <= max_size.min(data.len())) {
        Some(mutated) => {
            data[..mutated.len()].copy_from_slice(&mutated);
            mutated.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});

/// The text with one of its numbers or words replaced.
fn replace_value(text: &[u8], seed: usize) -> Option<Vec<u8>> {
    let in_value = |i: usize| text.get(i).is_some_and(|c| c.is_ascii_alphanumeric() || b"+-.".contains(c));
    let starts: Vec<usize> = (1..text.len()).filter(|&i| in_value(i) && b" :[,".contains(&text[i - 1])).collect();
    let start = *starts.get(seed % starts.len().max(1))?;
    let end = (start..).find(|&i| !in_value(i))?;
    let values: Vec<&str> = ABSURD.split(' ').collect();
    let value = values[seed / starts.len() % values.len()];
    Some([&text[..start], value.as_bytes(), &text[end..]].concat())
}
