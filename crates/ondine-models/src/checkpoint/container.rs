//! What a file is, by what it begins with: the tensors in it, or why there are none.

use std::{collections::BTreeMap, path::Path};

use ondine_graph::{Bytes, Context, Result, Weights, fail, weights::notes};

use crate::{
    gguf::{Gguf, Value},
    ncnn, torch_file,
    weights::attach_scales,
};

/// The tensors of a file, and what it says of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    /// What kind of file it is.
    pub(super) kind: &'static str,
    pub(super) weights: Weights,
    /// Texts beside the tensors, by key.
    pub(super) notes: BTreeMap<String, String>,
    /// Whole numbers beside the tensors, by name.
    pub(super) numbers: BTreeMap<String, i64>,
}

/// The dictionary of the weights in a checkpoint of training.
const STATE: &str = "state_dict.";

/// Reads a file of tensors of any kind.
pub(super) fn open(path: &Path) -> Result<Contents> {
    let name = path.display().to_string();
    let bytes = Bytes::map(path)?;
    // The length that such a file begins with may read like the beginning of any other.
    if is_safetensors(&bytes) {
        let (mut weights, notes) = (Weights::from_safetensors(&name, &bytes)?, notes(&bytes));
        attach_scales(&mut weights, &notes)?;
        return Ok(Contents { kind: "safetensors", notes, weights, ..Contents::default() });
    }
    if bytes.starts_with(b"GGUF") {
        let gguf = Gguf::open(path)?;
        let text = |(key, value): (&String, &Value)| match value {
            Value::Text(text) => Some((key.clone(), text.to_string())),
            Value::Integer(number) => Some((key.clone(), number.to_string())),
            Value::Float(number) => Some((key.clone(), number.to_string())),
            _ => None,
        };
        let notes = gguf.metadata.iter().filter_map(text).collect();
        return Ok(Contents { kind: "GGUF", weights: gguf.weights, notes, ..Contents::default() });
    }
    if ncnn::is_one(&bytes) {
        let beside = path.with_extension("bin");
        let numbers = if beside.is_file() { Some(Bytes::map(&beside)?) } else { None };
        let weights = ncnn::parse(&name, &bytes, numbers.as_ref()).at(|| &name)?;
        return Ok(Contents { kind: "ncnn", weights, ..Contents::default() });
    }
    read(&name, &bytes).at(|| &name)
}

fn read(name: &str, bytes: &Bytes) -> Result<Contents> {
    if let Some(what) = is_no_model(bytes) {
        fail!(Format, "{what}, no model: fetch the file again");
    }
    if torch_file::is_one(bytes) {
        let torch_file::TorchFile { mut weights, numbers } = torch_file::parse(name, bytes)?;
        // What training left beside the weights is not read.
        if weights.paths().any(|path| path.starts_with(STATE)) {
            weights.retain(|path| path.starts_with(STATE));
            weights.rename(|path| path.strip_prefix(STATE).map(str::to_owned))?;
        }
        attach_scales(&mut weights, &BTreeMap::new())?;
        return Ok(Contents { kind: "torch.save", weights, numbers, ..Contents::default() });
    }
    if ncnn::is_numbers(bytes) {
        fail!(Format, "the numbers of a network of ncnn; name the file with the ending .param beside it");
    }
    if bytes.starts_with(b"PK\x03\x04") {
        fail!(Format, "a zip archive that is no checkpoint of torch.save, or was cut; copy it again");
    }
    if bytes.starts_with(b"\x80\x02") || bytes.starts_with(b"\x80\x04") {
        fail!(Unsupported, "a pickle that is no checkpoint of torch.save; save the model as safetensors");
    }
    fail!(Format, "neither safetensors nor a checkpoint of torch.save nor GGUF; was it cut, or is it something else?");
}

/// True if a length and a JSON object behind it begin the file.
fn is_safetensors(bytes: &[u8]) -> bool {
    const LONGEST: u64 = 100 << 20;
    let length = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    length.is_some_and(|length| (2..=LONGEST).contains(&length)) && bytes.get(8) == Some(&b'{')
}

/// What bytes are that are often found in the place of a model.
fn is_no_model(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.get(..bytes.len().min(1024)).unwrap_or_default();
    let text: String = String::from_utf8_lossy(start).trim_start().chars().take(200).collect::<String>().to_lowercase();
    if bytes.is_empty() {
        return Some("an empty file");
    }
    if text.starts_with("version https://git-lfs") {
        return Some("a pointer of Git LFS, which stands for a file that was not fetched (`git lfs pull` fetches it)");
    }
    if text.starts_with("<!doctype html") || text.starts_with("<html") {
        return Some("a web page, such as a login or an error of the site that it was fetched from");
    }
    if text.starts_with("<?xml") {
        return Some("an XML text, such as an error of the site that it was fetched from");
    }
    if text.starts_with('{') || text.starts_with("[") {
        return Some("a JSON text");
    }
    if start.starts_with(b"\x89PNG") || start.starts_with(b"\xff\xd8\xff") {
        return Some("a picture");
    }
    if start.starts_with(b"\x1f\x8b") || start.starts_with(b"7z\xbc\xaf") || start.starts_with(b"Rar!") {
        return Some("a packed archive: unpack it");
    }
    bytes
        .iter()
        .take(4096)
        .all(|&byte| byte == 0)
        .then_some("nothing but zeros, as downloads leave that were broken off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_models_are_named() {
        for (bytes, what) in [
            (&b""[..], "an empty file"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a pointer of Git LFS"),
            (b"\n<!DOCTYPE HTML><html>", "a web page"),
            (b"{\"error\": \"not found\"}", "a JSON text"),
            (b"\x89PNG\r\n", "a picture"),
            (&[0; 64], "nothing but zeros"),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let error = open(file.path()).unwrap_err().to_string();
            assert!(error.contains(what) && error.starts_with(&file.path().display().to_string()), "{error}");
        }
        // Lengths whose bytes read `PK`, `{` and `[`.
        for length in [2_u64, 0x4b50, 0x7b, 0x5b] {
            let mut text = b"{}".to_vec();
            text.resize(length as usize, b' ');
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), [&length.to_le_bytes()[..], &text].concat()).unwrap();
            assert_eq!(open(file.path()).unwrap().kind, "safetensors", "{length:#x}");
        }
    }
}
