//! Any bytes as the files of an asset: an error or functions that run, in time and memory of the files.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ondine_fuzz::{bundle, call, folder, json};
use ondine_graph::Asset;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(bundle::folder);

fuzz_target!(|data: &[u8]| {
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
    let _ = fs::remove_dir_all(&*FOLDER);
});

// Most mutations replace one value of the graphs by another: what is left of them is still a graph.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let (whole, seed) = (seed % 4 != 0, seed as usize / 4);
    let mutated = if whole { folder::Files::mutated(&data[..size], seed, json::replace_value) } else { None };
    match mutated.filter(|mutated| mutated.len() <= max_size.min(data.len())) {
        Some(mutated) => {
            data[..mutated.len()].copy_from_slice(&mutated);
            mutated.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});
