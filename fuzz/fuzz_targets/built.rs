//! Any bytes as a built file: an error or functions that run, in time and memory of the file.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ondine_fuzz::{built, bundle, call, json};
use ondine_runtime::Specialized;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| bundle::folder().join("built.odn"));

fuzz_target!(|data: &[u8]| {
    fs::write(&*FILE, built::file(data)).expect("the temporary folder can be written");
    let Ok(specialized) = Specialized::open(&FILE, &call::DEVICE) else { return };
    let functions: Vec<_> = specialized.about().functions.iter().map(|name| name.as_str().into()).collect();
    if let Ok(model) = specialized.load() {
        call::model(&model, &functions);
    }
});

// Most mutations replace one value of the header by another: what is left of it is still one.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let (whole, seed) = (seed % 4 != 0, seed as usize / 4);
    let mutated = if whole { built::mutated(&data[..size], seed, json::replace_value) } else { None };
    match mutated.filter(|mutated| mutated.len() <= max_size.min(data.len())) {
        Some(mutated) => {
            data[..mutated.len()].copy_from_slice(&mutated);
            mutated.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});
