//! Scales of weights in numbers of 8 bits, as `ComfyUI` writes them beside the weights.
//!
//! A weight `X.weight` of F8_E4M3 or F8_E5M2 stands for its numbers times a scale. Files first had a tensor
//! `scaled_fp8` as a mark, behind the beginning that the names of a network have in common, `X.scale_weight`, and
//! `X.scale_input`, the scale of activations of 8 bits. Later ones have `X.weight_scale`, `X.input_scale`, and say what
//! a layer's format is in `X.comfy_quant`, bytes of a JSON object, or for all layers in the file's notes. Activations
//! are not rounded to 8 bits here, so their scales change nothing.

use std::collections::{BTreeMap, BTreeSet};

use ondine_graph::{DType, Float8, Result, Weights, fail};
use serde_json::Value;

/// The tensor that marks a file.
const MARK: &str = "scaled_fp8";
/// The ends of the names of a layer's scales, the first of its weight.
const SCALES: [[&str; 2]; 2] = [[".scale_weight", ".scale_input"], [".weight_scale", ".input_scale"]];
/// The end of the name of what says a layer's format.
const FORMAT: &str = ".comfy_quant";
/// The note that says the formats of layers.
const NOTE: &str = "_quantization_metadata";
/// Formats by their names.
const FORMATS: [(&str, Float8); 2] = [("float8_e4m3fn", Float8::E4M3), ("float8_e5m2", Float8::E5M2)];
/// Tables of vectors: what first made scaled files gave scales to linear layers alone.
const TABLES: [&str; 5] =
    ["shared", "embed_tokens", "token_embedding", "position_embedding", "relative_attention_bias"];

/// Gives weights in numbers of 8 bits the scales beside them, which are no tensors of their own then; `notes` are those
/// of the file.
///
/// # Errors
/// If a weight that should have a scale has none, a scale does not fit its weight, or a layer is in another format.
pub(crate) fn attach_scales(weights: &mut Weights, notes: &BTreeMap<String, String>) -> Result<()> {
    let marks = take_marks(weights);
    let formats = take_formats(weights, notes)?;
    let of_layers = |ends: [&'static str; 2]| -> Vec<(String, String, bool)> {
        let layer = |path: &str| {
            let found = ends.iter().position(|end| path.ends_with(end))?;
            let layer = path.strip_suffix(ends[found])?;
            weights.get(&weight_of(layer)).is_some().then(|| (layer.to_owned(), path.to_owned(), found == 0))
        };
        weights.paths().filter_map(|path| layer(path)).collect()
    };
    let scales: Vec<_> = SCALES.into_iter().flat_map(of_layers).collect();
    let mut expected: BTreeSet<String> = formats.into_keys().collect();
    for (layer, path, of_weight) in &scales {
        if *of_weight {
            attach(weights, &weight_of(layer), path)?;
        } else {
            expected.insert(layer.clone());
        }
    }
    let taken: BTreeSet<&str> = scales.iter().map(|(_, path, _)| &**path).collect();
    taken.iter().for_each(|path| weights.remove_encoding(path));
    weights.retain(|path| !taken.contains(path));
    for path in weights.paths().filter(|path| marks.iter().any(|mark| path.starts_with(mark))) {
        let layer = path.strip_suffix(".weight").filter(|_| weights.get(path).is_some_and(|w| w.shape.len() == 2));
        expected.extend(layer.filter(|layer| !TABLES.iter().any(|table| layer.ends_with(table))).map(str::to_owned));
    }
    for layer in expected {
        let path = weight_of(&layer);
        if weights.floats(&path).is_some() && weights.get(&format!("{path}.scale")).is_none() {
            let file = weights.get(&path).map_or("", |tensor| &*tensor.file);
            fail!(
                Missing,
                "{file}: `{path}` holds numbers of 8 bits of a scaled file, and its scale `{layer}{}` or `{layer}{}` is \
                 missing; fetch the file again",
                SCALES[0][0],
                SCALES[1][0]
            );
        }
    }
    Ok(())
}

fn weight_of(layer: &str) -> String {
    format!("{layer}.weight")
}

/// Takes the marks out; yields the beginnings of the names that they are for.
fn take_marks(weights: &mut Weights) -> Vec<String> {
    let is_mark = |path: &str| path.strip_suffix(MARK).is_some_and(|start| start.is_empty() || start.ends_with('.'));
    let marks: Vec<_> = weights.paths().filter(|path| is_mark(path)).map(|path| path.to_string()).collect();
    for mark in &marks {
        weights.remove_encoding(mark);
        weights.retain(|path| path != mark);
    }
    marks.into_iter().map(|mark| mark[..mark.len() - MARK.len()].to_owned()).collect()
}

/// Takes out what says the formats of layers; yields it by layer.
fn take_formats(weights: &mut Weights, notes: &BTreeMap<String, String>) -> Result<BTreeMap<String, Float8>> {
    let mut said = Vec::new();
    for (path, tensor) in weights.iter().filter(|(path, _)| path.ends_with(FORMAT)) {
        let text = if tensor.dtype == DType::U8 { std::str::from_utf8(&tensor.bytes).ok() } else { None };
        let Some(value) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
            fail!(Format, "{}: `{path}` is no JSON text that says a format; copy the file again", tensor.file);
        };
        said.push((path[..path.len() - FORMAT.len()].to_owned(), value));
    }
    weights.retain(|path| !path.ends_with(FORMAT));
    let note = notes.get(NOTE).and_then(|note| serde_json::from_str::<Value>(note).ok());
    if let Some(layers) = note.as_ref().and_then(|note| note.get("layers")).and_then(Value::as_object) {
        said.extend(layers.iter().map(|(layer, value)| (layer.clone(), value.clone())));
    }
    let mut formats = BTreeMap::new();
    for (layer, value) in said {
        let path = weight_of(&layer);
        let Some(tensor) = weights.get(&path) else { continue };
        let name = value.get("format").and_then(Value::as_str).unwrap_or_default();
        let known = FORMATS.iter().find(|(known, _)| *known == name);
        let Some((_, format)) = known else {
            let known = FORMATS.map(|(name, _)| name).join(" and ");
            fail!(Unsupported, "{}: `{path}` is in the format `{name}`; read are {known}", tensor.file);
        };
        if weights.floats(&path) != Some(*format) {
            let held = weights.floats(&path).map_or(tensor.dtype.name(), Float8::name);
            fail!(Format, "{}: `{path}` should be in the format `{name}`, and holds {held}", tensor.file);
        }
        formats.insert(layer, *format);
    }
    Ok(formats)
}

/// Gives a weight the scale that a tensor is.
fn attach(weights: &mut Weights, path: &str, scale: &str) -> Result<()> {
    let Some(tensor) = weights.get(path) else { return Ok(()) };
    let (file, dtype, shape) = (tensor.file.clone(), tensor.dtype, tensor.shape.clone());
    let numbers = weights.to_f32(scale)?.into_owned();
    if weights.floats(path).is_none() {
        // Of what is not in numbers of 8 bits a scale of 1 says nothing.
        if !dtype.is_float() || numbers.iter().any(|&number| number != 1.0) {
            fail!(
                Unsupported,
                "{file}: `{path}` holds {dtype}, and has a scale `{scale}`; read are scales of F8_E4M3 and F8_E5M2"
            );
        }
        return Ok(());
    }
    let given = weights.get(scale).map(|tensor| tensor.shape.clone()).unwrap_or_default();
    let rows = shape.first().copied().unwrap_or(0);
    if !(numbers.len() == 1 || numbers.len() == rows && given.first() == Some(&rows)) {
        fail!(
            Shape,
            "{file}: the scale `{scale}` of `{path}` {shape:?} has shape {given:?}; there is one for all of it, or one for \
             each row"
        );
    }
    weights.scale_floats(path, &numbers)
}

#[cfg(test)]
mod tests {
    use ondine_graph::Tensor;

    use super::*;

    /// A linear layer of 2 x 2 numbers 1, -2, 0.5, 4 under a beginning, and a table of the same.
    fn file(start: &str) -> Weights {
        let mut weights = Weights::default();
        for name in ["layer.weight", "shared.weight", "layer.bias"] {
            let shape = if name == "layer.bias" { &[4][..] } else { &[2, 2] };
            let codes = (&[0x38, 0xc0, 0x30, 0x48_u8][..]).into();
            weights.insert_floats(&format!("{start}{name}"), Float8::E4M3, shape, codes, &"file".into()).unwrap();
        }
        weights
    }

    fn insert(weights: &mut Weights, path: &str, dtype: DType, shape: &[usize], bytes: &[u8]) {
        weights.insert(path, Tensor { dtype, shape: shape.to_vec(), bytes: bytes.into(), file: "file".into() });
    }

    fn scale(weights: &mut Weights, path: &str, shape: &[usize], numbers: &[f32]) {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        insert(weights, path, DType::F32, shape, &bytes);
    }

    fn attached(weights: &mut Weights, notes: &[(&str, &str)]) -> Result<()> {
        attach_scales(weights, &notes.iter().map(|(key, note)| ((*key).to_owned(), (*note).to_owned())).collect())
    }

    #[test]
    fn scales_of_both_ways_to_write_them_become_parts_of_weights() {
        const JSON: &[u8] = br#"{"format": "float8_e4m3fn", "full_precision_matrix_mult": true}"#;
        for ([weight, input], start) in
            SCALES.into_iter().flat_map(|ends| [(ends, ""), (ends, "model.diffusion_model.")])
        {
            let mut weights = file(start);
            let layer = format!("{start}layer");
            scale(&mut weights, &format!("{layer}{weight}"), &[], &[0.5]);
            scale(&mut weights, &format!("{layer}{input}"), &[1], &[3.0]);
            if weight == ".scale_weight" {
                weights
                    .insert_floats(&format!("{start}{MARK}"), Float8::E4M3, &[2], (&[0, 0][..]).into(), &"file".into())
                    .unwrap();
            } else {
                insert(&mut weights, &format!("{layer}{FORMAT}"), DType::U8, &[JSON.len()], JSON);
            }
            attached(&mut weights, &[]).unwrap();
            assert_eq!(*weights.to_f32(&weight_of(&layer)).unwrap(), [0.5, -1.0, 0.25, 2.0]);
            for plain in ["shared.weight", "layer.bias"] {
                assert_eq!(*weights.to_f32(&format!("{start}{plain}")).unwrap(), [1.0, -2.0, 0.5, 4.0]);
            }
            assert_eq!(weights.paths().count(), 3, "{weight} {start}");
        }
    }

    #[test]
    fn what_is_missing_or_does_not_fit_is_named() {
        let mark = |weights: &mut Weights| insert(weights, MARK, DType::F32, &[0], &[]);
        let format = |weights: &mut Weights, name: &str| {
            let text = format!(r#"{{"format": "{name}"}}"#);
            insert(weights, "layer.comfy_quant", DType::U8, &[text.len()], text.as_bytes());
        };
        type Case<'c> = (&'c dyn Fn(&mut Weights), &'c str);
        let cases: [Case<'_>; 8] = [
            (&mark, "its scale `layer.scale_weight` or `layer.weight_scale` is missing"),
            (&|weights| scale(weights, "layer.scale_input", &[], &[1.0]), "is missing"),
            (&|weights| format(weights, "float8_e4m3fn"), "is missing"),
            (&|weights| format(weights, "nvfp4"), "`layer.weight` is in the format `nvfp4`; read are float8_e4m3fn"),
            (&|weights| format(weights, "float8_e5m2"), "should be in the format `float8_e5m2`, and holds F8_E4M3"),
            (&|weights| scale(weights, "layer.scale_weight", &[3], &[1.0; 3]), "has shape [3]; there is one"),
            (&|weights| scale(weights, "layer.scale_weight", &[1, 2], &[1.0; 2]), "has shape [1, 2]; there is one"),
            (&|weights| scale(weights, "layer.weight_scale", &[], &[f32::INFINITY]), "no finite number"),
        ];
        for (change, words) in cases {
            let mut weights = file("");
            change(&mut weights);
            let error = attached(&mut weights, &[]).unwrap_err().to_string();
            assert!(error.starts_with("file: ") && error.contains(words), "{error}");
        }
        let note = r#"{"layers": {"layer": {"format": "float8_e4m3fn"}, "elsewhere": {"format": "nvfp4"}}}"#;
        let error = attached(&mut file(""), &[(NOTE, note)]).unwrap_err().to_string();
        assert!(error.contains("is missing"), "{error}");
    }

    #[test]
    fn a_scale_of_what_has_more_bits_is_refused_unless_it_is_one() {
        for (number, fits) in [(1.0, true), (2.0, false)] {
            let mut weights = Weights::default();
            insert(&mut weights, "layer.weight", DType::F16, &[1, 1], &[0, 0x3c]);
            scale(&mut weights, "layer.scale_weight", &[], &[number]);
            scale(&mut weights, "other.weight_scale", &[], &[number]);
            assert_eq!(attached(&mut weights, &[]).is_ok(), fits, "{number}");
            assert!(weights.get("other.weight_scale").is_some());
        }
    }
}
