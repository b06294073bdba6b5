//! The files of an asset's folder as one input. What the format computes from the files is made right when they are
//! written, so that it does not keep the fuzzer from what it wants to change.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use crate::bundle;

/// The files in the order in which they stand in an input.
pub const NAMES: [&str; 4] = ["manifest.json", "graph.json", "constants.safetensors", "weights.safetensors"];
/// Weights that are made for a graph take no more memory than this.
const MAX_WEIGHTS: usize = 1 << 20;

/// The files of an asset.
pub struct Files {
    manifest: Vec<u8>,
    graph: Vec<u8>,
    constants: Vec<u8>,
    weights: Vec<u8>,
}

impl Files {
    /// The files of an input. Weights that it has none of are made: zeros of every shape that the graph asks for.
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        let [manifest, graph, constants, weights] = bundle::split(data).map(<[u8]>::to_vec);
        let mut files = Self { manifest, graph, constants, weights };
        if files.weights.is_empty() {
            files.weights = zeros(&files.graph);
        }
        if files.constants.is_empty() {
            files.constants = safetensors(&Map::new(), 0);
        }
        files.sign();
        files
    }

    /// Writes hashes and lengths into the manifest, if that is one.
    fn sign(&mut self) {
        let (graph, constants) = (hash(&self.graph), hash(&self.constants));
        let weights = self.weights.len();
        self.edit_manifest(|manifest| {
            manifest.insert("graph".to_owned(), json!(graph));
            manifest.insert("constants".to_owned(), json!(constants));
            manifest.insert("weights_bytes".to_owned(), json!(weights));
        });
    }

    /// Takes over what an error says about a function; false if it says nothing.
    pub fn correct(&mut self, error: &str) -> bool {
        let Some((_, told)) = error.split_once("says otherwise than that function `") else { return false };
        let Some((name, face)) = told.split_once("` is ") else { return false };
        let Ok(face) = serde_json::from_str::<Value>(face) else { return false };
        let mut is_new = false;
        self.edit_manifest(|manifest| {
            let functions = manifest.entry("functions").or_insert_with(|| json!({}));
            if let Value::Object(functions) = functions {
                is_new = functions.insert(name.to_owned(), face.clone()).is_none_or(|old| old != face);
            }
        });
        is_new
    }

    fn edit_manifest(&mut self, edit: impl FnOnce(&mut Map<String, Value>)) {
        if let Ok(Value::Object(mut manifest)) = serde_json::from_slice(&self.manifest) {
            edit(&mut manifest);
            self.manifest = Value::Object(manifest).to_string().into_bytes();
        }
    }

    /// Writes the files into a folder.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) {
        let files = [&self.manifest, &self.graph, &self.constants, &self.weights];
        for (name, bytes) in NAMES.iter().zip(files) {
            fs::write(folder.join(name), bytes).expect("the folder can be written");
        }
    }
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// A safetensors file of the weights of a graph.
fn zeros(graph: &[u8]) -> Vec<u8> {
    let mut shapes = Map::new();
    if let Ok(graph) = serde_json::from_slice(graph) {
        weights(&graph, &mut shapes);
    }
    let (mut header, mut end) = (Map::new(), 0_usize);
    for (path, shape) in shapes {
        let sizes = shape.as_array().into_iter().flatten();
        let sizes: Option<Vec<usize>> = sizes.map(|size| usize::try_from(size.as_u64()?).ok()).collect();
        let bytes = sizes.and_then(|sizes| sizes.iter().try_fold(4_usize, |bytes, &size| bytes.checked_mul(size)));
        let Some(bytes) = bytes.filter(|&bytes| bytes <= MAX_WEIGHTS - end.min(MAX_WEIGHTS)) else { continue };
        header.insert(path, json!({"dtype": "F32", "shape": shape, "data_offsets": [end, end + bytes]}));
        end += bytes;
    }
    safetensors(&header, end)
}

fn safetensors(header: &Map<String, Value>, bytes: usize) -> Vec<u8> {
    let header = Value::Object(header.clone()).to_string();
    let mut file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    file.resize(file.len() + bytes, 0);
    file
}

/// Finds the nodes of weights, `{"weight": {"path": ..., "shape": ...}}`, anywhere.
fn weights(value: &Value, found: &mut Map<String, Value>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| weights(value, found)),
        Value::Object(object) => {
            let weight = object.get("weight").and_then(Value::as_object);
            if let Some((Some(path), Some(shape))) = weight.map(|weight| (weight.get("path"), weight.get("shape"))) {
                found.insert(path.as_str().unwrap_or_default().to_owned(), shape.clone());
            }
            object.values().for_each(|value| weights(value, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_get_their_weights() {
        let graph = br#"{"functions": {"main": {"nodes": [{"node": {"weight": {"path": "a.b", "shape": [2, 3]}}}]}}}"#;
        let file = zeros(graph);
        let weights = ondine_graph::Weights::from_safetensors("made", &ondine_graph::Bytes::from(&*file)).unwrap();
        assert_eq!(weights.get("a.b").unwrap().shape, [2, 3]);
        assert!(zeros(&graph.map(|byte| if byte == b'2' { b'9' } else { byte })).len() > file.len());
    }

    #[test]
    fn manifests_are_signed_and_corrected() {
        let mut files = Files::of(&bundle::join(&[b"{}", b"{}", b"", b""]));
        let told = "a: manifest.json says otherwise than that function `main` is {\"inputs\":[\"x: F32 [2]\"]}";
        assert!(files.correct(told) && !files.correct(told) && !files.correct("something else"));
        let manifest: Value = serde_json::from_slice(&files.manifest).unwrap();
        assert_eq!(manifest["functions"]["main"]["inputs"][0], "x: F32 [2]");
        assert_eq!(manifest["graph"], hash(b"{}"));
    }
}
