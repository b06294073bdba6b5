//! Any bytes as a network of ncnn.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ondine_fuzz::targets::ncnn(data));
