//! Any bytes as an archive of `torch.export.save`: an error or a function that runs, in time and memory of the file.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ondine_fuzz::{call, json};
use ondine_graph::Bytes;

fuzz_target!(|data: &[u8]| {
    if let Ok(asset) = ondine_pt2::read("fuzzed", &Bytes::from(data)) {
        call::asset(&asset);
    }
});

// Most mutations replace one value of the program by one of no more letters, so that the archive stays whole.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let (whole, seed) = (seed % 4 != 0, seed as usize / 4);
    if whole && program(&mut data[..size]).is_some_and(|text| json::replace_value_in_place(text, seed)) {
        return size;
    }
    fuzzer_mutate(data, size, max_size)
});

/// The JSON of the program within the file.
fn program(data: &mut [u8]) -> Option<&mut [u8]> {
    let begins = b"{\"graph_module\"";
    let start = data.windows(begins.len()).position(|window| window == begins)?;
    let end = data[start..].iter().position(|&byte| byte == 0).map_or(data.len(), |end| start + end);
    Some(&mut data[start..end])
}
