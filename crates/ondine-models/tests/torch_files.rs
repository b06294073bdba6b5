//! Files that PyTorch's `torch.save` wrote (`python/golden/torch_files.py`).

use std::path::Path;

use ondine_graph::{Bytes, DType, Float8};
use ondine_models::{
    Source,
    torch_file::{self, TorchFile},
    weights,
};

fn bytes(name: &str) -> Bytes {
    Bytes::map(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch").join(name)).unwrap()
}

fn read(name: &str) -> TorchFile {
    assert!(torch_file::is_one(&bytes(name)), "{name}");
    torch_file::parse(name, &bytes(name)).unwrap()
}

#[test]
fn tensors_are_those_that_were_saved() {
    for name in ["zip.pt", "legacy.pt", "protocol4.pt"] {
        let TorchFile { weights, numbers } = read(name);
        let values = |path: &str| weights.to_f32(&format!("state_dict.{path}")).unwrap().into_owned();
        let table = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(values("plain"), table, "{name}");
        assert_eq!(values("shared"), table);
        assert_eq!(values("swapped"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(values("row"), [3.0, 4.0, 5.0]);
        assert_eq!(values("half"), table.map(|x| x / 4.0));
        assert_eq!(values("brain"), table.map(|x| x / 2.0));
        assert_eq!(values("parameter"), table.map(|x| x * 2.0));
        let tensor = |path: &str| weights.get(&format!("state_dict.{path}")).unwrap();
        assert_eq!((tensor("swapped").shape.as_slice(), tensor("whole").dtype), (&[3, 2][..], DType::I64));
        assert_eq!(tensor("none").shape, [0, 3]);
        assert_eq!(numbers.get("global_step"), Some(&470_000));
        assert_eq!(weights.paths().count(), 9, "{name}");
    }
}

#[test]
fn tensors_whose_storages_have_no_type_are_read() {
    for name in ["float8.pt", "float8_legacy.pt"] {
        let weights = read(name).weights;
        let values = |path: &str| weights.to_f32(path).unwrap().into_owned();
        assert_eq!(values("e4m3"), [1.0, -2.0, 0.5, 448.0, -0.001_953_125, 0.0], "{name}");
        assert_eq!(values("swapped"), [1.0, 448.0, -2.0, -0.001_953_125, 0.5, 0.0]);
        assert_eq!(values("e5m2"), [1.0, -2.0, 0.5, 448.0, -0.001_953_125, 0.0]);
        assert_eq!(values("parameter"), [448.0, -0.001_953_125, 0.0]);
        assert_eq!(values("whole"), [1.0, 65535.0]);
        assert_eq!(values("plain")[3], 448.0);
        assert_eq!((weights.floats("e5m2"), weights.floats("plain")), (Some(Float8::E5M2), None));
        assert_eq!(weights.get("swapped").unwrap().shape, [3, 2]);
        assert_eq!(weights.paths().count(), 6, "{name}");
    }
}

#[test]
fn what_would_run_is_refused_by_name() {
    let error = torch_file::parse("acts.pt", &bytes("acts.pt")).unwrap_err().to_string();
    assert!(error.contains("system`, which is no part of a model's weights; nothing of it was run"), "{error}");
}

#[test]
fn cut_files_are_errors() {
    for name in ["zip.pt", "legacy.pt"] {
        let whole = bytes(name);
        for len in (0..whole.len()).step_by(7) {
            assert!(torch_file::parse(name, &whole.slice(0, len).unwrap()).is_err(), "{name}: {len} bytes");
        }
    }
}

#[test]
fn folders_may_hold_such_files() {
    let folder = tempfile::tempdir().unwrap();
    let source = Source::folder(folder.path()).unwrap();
    std::fs::write(folder.path().join("pytorch_model.bin"), &*bytes("zip.pt")).unwrap();
    let whole = weights::load(&source, "").unwrap();
    assert_eq!(whole.to_f32("state_dict.row").unwrap().into_owned(), [3.0, 4.0, 5.0]);
    std::fs::write(folder.path().join("pytorch_model.bin"), &*bytes("acts.pt")).unwrap();
    let error = weights::load(&source, "").unwrap_err().to_string();
    assert!(error.contains("pytorch_model.bin") && error.contains("nothing of it was run"), "{error}");
}
