//! Any bytes as a checkpoint of torch.save.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ondine_fuzz::targets::torch(data));
