//! Any bytes as a safetensors file: a reader that yields an error or whole tensors, in time and memory of the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondine_graph::{Bytes, Weights, element_count};

fuzz_target!(|data: &[u8]| {
    read(data);
    if let Some(file) = framed(data) {
        read(&file);
    }
});

/// The same bytes with a length in front that leaves the header and the data in the file.
///
/// Without it most mutations of a length would end at the first check.
fn framed(data: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = data.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    Some([&(length as u64).to_le_bytes(), rest].concat())
}

fn read(file: &[u8]) {
    let Ok(weights) = Weights::from_safetensors("fuzzed", &Bytes::from(file)) else { return };
    for (path, tensor) in weights.iter() {
        assert!(tensor.bytes.len() <= file.len());
        let encoded = weights.is_encoded(path);
        let expected = weights.expect(path, &tensor.shape);
        assert!(expected.is_ok() || encoded || !tensor.dtype.is_float(), "{path} {tensor:?}");
        if let Ok(values) = weights.to_f32(path) {
            assert!(encoded || Some(values.len()) == element_count(&tensor.shape), "{path} {tensor:?}");
        }
        if let Ok(array) = weights.array(path) {
            assert_eq!(array.shape(), tensor.shape);
        }
    }
}
