//! Checkpoints that do not fit their config are refused with the tensor's name; old names are understood.

use std::path::{Path, PathBuf};

use ondine_graph::{Error, ErrorKind, NDArray, Weights, write_safetensors};
use ondine_models::{Network, Source, ip_adapter::IpAdapter};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Opens a copy of the folder `name` whose tensors went through `change`.
fn open(name: &str, file: &str, change: impl Fn(&mut Vec<(String, NDArray)>)) -> Result<Network, Error> {
    let (from, to) = (golden(name), tempfile::tempdir().unwrap());
    std::fs::copy(from.join("config.json"), to.path().join("config.json")).unwrap();
    let weights = Weights::open(&from.join(file)).unwrap();
    let mut tensors: Vec<_> = weights.paths().map(|path| (path.to_string(), weights.array(path).unwrap())).collect();
    change(&mut tensors);
    write_safetensors(&to.path().join(file), &tensors).unwrap();
    Network::open(&Source::folder(to.path()).unwrap(), "", None)
}

fn refused(change: impl Fn(&mut Vec<(String, NDArray)>), kind: ErrorKind, message: &str) {
    let error = open("vae_tiny", "diffusion_pytorch_model.safetensors", change).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(message), "{error}");
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let zero = || NDArray::new(&[1], &[0.0_f32]).unwrap();
    let last = |tensors: &mut Vec<(String, NDArray)>| tensors.pop().unwrap().0;
    refused(|tensors| drop(last(tensors)), ErrorKind::Missing, "tensor `encoder.layers.");
    refused(|tensors| tensors.push(("a.b".into(), zero())), ErrorKind::Extra, "nothing uses `a.b`;");
    let reshape = |tensors: &mut Vec<(String, NDArray)>| {
        let name = last(tensors);
        tensors.push((name, zero()));
    };
    refused(reshape, ErrorKind::Shape, "the config asks for");
    let many = |tensors: &mut Vec<(String, NDArray)>| tensors.extend((0..5).map(|i| (format!("x{i}"), zero())));
    refused(many, ErrorKind::Extra, "`x0`, `x1`, `x2` and 2 more");
}

#[test]
fn names_of_other_versions_are_understood() {
    let attention = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
    let old = |tensors: &mut Vec<(String, NDArray)>| {
        for (name, _) in tensors {
            for (new, old) in attention {
                *name = name.replace(new, old);
            }
        }
    };
    open("vae_kl", "diffusion_pytorch_model.safetensors", old).unwrap();
    let strip = |tensors: &mut Vec<(String, NDArray)>| {
        for (name, _) in tensors {
            *name = name.trim_start_matches("text_model.").to_owned();
        }
    };
    let buffer = |tensors: &mut Vec<(String, NDArray)>| {
        tensors.push(("text_model.embeddings.position_ids".into(), NDArray::new(&[1], &[0_i64]).unwrap()));
    };
    let prefix = |tensors: &mut Vec<(String, NDArray)>| {
        strip(tensors);
        tensors.iter_mut().for_each(|(name, _)| name.insert_str(0, "text_model."));
        buffer(tensors);
    };
    open("clip_gelu", "model.safetensors", strip).unwrap();
    open("clip_gelu", "model.safetensors", prefix).unwrap();
    let head = |tensors: &mut Vec<(String, NDArray)>| {
        for (name, _) in tensors {
            *name = format!("bert.{name}").replace("LayerNorm.weight", "LayerNorm.gamma");
        }
    };
    open("bert", "model.safetensors", head).unwrap();
}

#[test]
fn folders_without_weights_say_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("bert").join("config.json"), folder.path().join("config.json")).unwrap();
    let open = |folder: &Path| Network::open(&Source::folder(folder).unwrap(), "", None).unwrap_err();
    assert_eq!(open(folder.path()).kind(), ErrorKind::Missing);
    std::fs::write(folder.path().join("weights.pth"), "").unwrap();
    let error = open(folder.path());
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("weights.pth: no name of a folder's weights"), "{error}");
}

#[test]
fn a_folder_in_the_place_of_a_file_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    for error in [Weights::open(folder.path()).unwrap_err(), IpAdapter::open(folder.path()).unwrap_err()] {
        assert!(error.to_string().ends_with(": is a folder; name a file in it"), "{error}");
    }
}
