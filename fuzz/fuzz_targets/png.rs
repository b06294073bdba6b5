//! Any bytes as a PNG, and as the text of one.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ondine_fuzz::targets::png(data));
