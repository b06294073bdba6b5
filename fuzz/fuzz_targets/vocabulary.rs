//! Any bytes as the vocabulary of a language model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ondine_fuzz::targets::vocabulary(data));
