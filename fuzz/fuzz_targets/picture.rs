//! Any bytes as a picture to begin with, and as a prompt.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ondine_fuzz::targets::picture(data));
