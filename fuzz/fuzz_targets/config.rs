//! Any text as each of the JSON files of a model folder: an error or a whole graph, in little time and memory.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ondine_fuzz::{bundle, call, json};
use ondine_graph::{Asset, Bytes, DType, Tensor, Weights};
use ondine_image::{
    noise::Generator,
    sampler,
    schedule::{SchedulerClass, SchedulerConfig},
};
use ondine_models::{Functions, GraphSizes, Pipeline, Role, Source, Tokenizer, class_of, registry};
use ondine_runtime::{Options, Specialize};

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
        Role::Upscaler(facts) => drop(facts(json)),
        Role::Control(facts) => drop(facts(json)),
        Role::Language(facts, _) => drop(facts(json)),
        Role::PictureEncoder(facts) => drop(facts(json)),
        Role::PictureTokens(facts) => drop(facts(json)),
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
    let mut weights = Weights::default();
    for weight in functions.iter().flat_map(|(_, graph)| graph.weights()) {
        let (shape, bytes) = (weight.shape.clone(), Bytes::from_static(&[]));
        weights.insert(&weight.path, Tensor { dtype: DType::F16, shape, bytes, file: class.into() });
    }
    let asset = Asset::new(class, functions, weights).expect("the weights are those of the graphs");
    let Ok(prepared) = asset.prepare(&Options::default(), &call::DEVICE) else { return };
    let _ = (asset.parameters(), prepared.weight_bytes());
    for (name, graph) in asset.functions() {
        assert!(!graph.outputs().is_empty(), "{class}: {name}");
        for bindings in call::bindings(graph) {
            let _ = prepared.plan(name, &bindings);
        }
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
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(bundle::folder);
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

// Every second mutation replaces one value of the file by an absurd one; the rest are the fuzzer's own.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let (absurd, seed) = (seed % 2 == 0, seed as usize / 2);
    let mutated = absurd.then(|| json::replace_value(&data[..size], seed)).flatten();
    match mutated.filter(|mutated| mutated.len() <= max_size.min(data.len())) {
        Some(mutated) => {
            data[..mutated.len()].copy_from_slice(&mutated);
            mutated.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});
