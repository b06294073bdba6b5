//! Any bytes as the parts of a built file; most mutations replace one value of its JSON by another, so that the rest
//! stays whole.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ondine_fuzz::{mutate, targets};

fuzz_target!(|data: &[u8]| targets::built(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mutated = (seed % 4 != 0).then(|| mutate::built(&data[..size], seed as usize / 4)).flatten();
    match mutated.filter(|mutated| mutated.len() <= max_size.min(data.len())) {
        Some(mutated) => {
            data[..mutated.len()].copy_from_slice(&mutated);
            mutated.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});
