//! Any bytes as a GGUF file of a language model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ondine_fuzz::targets::gguf(data));
