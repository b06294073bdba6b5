//! Any bytes as a file of numpy: an error or a whole array, in time and memory of the file.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use ondine_fuzz::bundle;
use ondine_graph::{DType, NDArray, element_count};

static FILE: LazyLock<PathBuf> = LazyLock::new(|| bundle::folder().join("array.npy"));

fuzz_target!(|data: &[u8]| {
    fs::write(&*FILE, data).expect("the temporary folder can be written");
    let Ok(array) = NDArray::read_npy(&FILE) else { return };
    assert_eq!(element_count(array.shape()), Some(array.len()));
    assert_eq!(array.bytes().len(), array.len() * array.dtype().size());
    for dtype in [DType::F32, DType::I64, DType::I32, DType::Bool] {
        if let Ok(converted) = array.convert(dtype) {
            assert_eq!((converted.shape(), converted.dtype()), (array.shape(), dtype));
        }
    }
});
