//! Any text as a template of chats.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ondine_fuzz::targets::template(data));
