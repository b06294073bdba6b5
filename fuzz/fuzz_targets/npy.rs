//! Any bytes as a file of numpy.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ondine_fuzz::targets::npy(data));
