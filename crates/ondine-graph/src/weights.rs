//! The tensors of a checkpoint by name, mapped, in whatever type the file holds.

pub mod encoded;
mod floats;
pub mod seal;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{
    bytes::Bytes,
    dtype::DType,
    encoding::{ENCODING, INPUT_RANGE, PARTS, SCALE},
    error::{Context, Error, ErrorKind, Result, fail},
    float8::Float8,
    ndarray::{NDArray, element_count},
};
use seal::Seal;

/// The largest header that is read; real ones stay below 1 MB.
const MAX_HEADER: usize = 100 << 20;

/// One tensor of a checkpoint.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its element type in the file.
    pub dtype: DType,
    /// Its sizes.
    pub shape: Vec<usize>,
    /// Its elements, row-major and little-endian, of any alignment.
    pub bytes: Bytes,
    /// The file that it comes from, for messages.
    pub file: Arc<str>,
}

/// All tensors of a checkpoint, by name.
///
/// A tensor of type I8 with a companion `NAME.scale` (F16, `[rows, 1]`) stands for `value * scale` of its row. One with
/// a companion `NAME.encoding` holds the codes of a weight in few bits: see [`encoding`](crate::encoding). So
/// are tensors of F8_E4M3 and F8_E5M2 kept, as the very bytes of the file.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<Arc<str>, Tensor>,
    seals: Vec<Seal>,
}

impl Tensor {
    /// True if `other` is of the same type and shape, and holds the same bytes.
    fn holds_same(&self, other: &Self) -> bool {
        (self.dtype, &self.shape, &*self.bytes) == (other.dtype, &other.shape, &*other.bytes)
    }
}

impl Weights {
    /// Reads a safetensors file; `name` stands for it in messages.
    ///
    /// # Errors
    /// If the bytes are not a whole, consistent safetensors file, or a tensor has an element type that is none of
    /// [`DType`]'s nor of [`Float8`].
    pub fn from_safetensors(name: &str, bytes: &Bytes) -> Result<Self> {
        Self::parse(name, bytes).at(|| name)
    }

    /// Maps a safetensors file.
    ///
    /// # Errors
    /// As [`Weights::from_safetensors`], and if the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_safetensors(&path.display().to_string(), &Bytes::map(path)?)
    }

    fn parse(name: &str, bytes: &Bytes) -> Result<Self> {
        let header = bytes.first_chunk::<8>().map(|head| u64::from_le_bytes(*head));
        let Some(header) = header.and_then(|len| usize::try_from(len).ok()) else {
            fail!(Format, "no safetensors file: it has only {} bytes", bytes.len());
        };
        let start = header.saturating_add(8);
        if header > MAX_HEADER || start > bytes.len() {
            fail!(
                Format,
                "no whole safetensors file: the header should have {header} bytes, the file has {}; copy it again",
                bytes.len()
            );
        }
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| describe(&error, bytes.len()))?;
        let file: Arc<str> = name.into();
        let mut weights = Self::default();
        for (path, info) in metadata.tensors() {
            let Some(stored) = Stored::of(info.dtype) else {
                fail!(
                    Unsupported,
                    "tensor `{path}` has elements of type {:?}; convert it to F32 or to integers",
                    info.dtype
                );
            };
            let (from, to) = info.data_offsets;
            let expected = element_count(&info.shape).and_then(|n| n.checked_mul(stored.size()));
            let data = to.checked_sub(from).filter(|len| Some(*len) == expected);
            let Some(bytes) = data.and_then(|len| bytes.slice(start.checked_add(from)?, len)) else {
                fail!(Format, "tensor `{path}` of shape {:?} does not fit its bytes {from}..{to}", info.shape);
            };
            match stored {
                Stored::Plain(dtype) => {
                    let tensor = Tensor { dtype, shape: info.shape.clone(), bytes, file: file.clone() };
                    weights.insert(&path, tensor);
                }
                Stored::Floats(format) => weights.insert_floats(&path, format, &info.shape, bytes, &file)?,
            }
        }
        Ok(weights)
    }

    /// Puts a seal on bytes that tensors lie in.
    pub fn seal(&mut self, seal: Seal) {
        self.seals.push(seal);
    }

    /// True if there is something that [`Weights::check_seals`] compares the bytes with.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        !self.seals.is_empty()
    }

    /// Reads all bytes that are sealed, the first time that this is called.
    ///
    /// # Errors
    /// If some are not those that were written; the message names the first.
    pub fn check_seals(&self) -> Result<()> {
        self.seals.iter().try_for_each(Seal::check)
    }

    /// Adds the tensors of another file of the same checkpoint; what both hold alike is kept once.
    ///
    /// # Errors
    /// If both hold another tensor of the same name.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        self.seals.extend(other.seals);
        for (path, tensor) in other.tensors {
            match self.tensors.get(&path) {
                Some(first) if first.holds_same(&tensor) => {}
                Some(first) => fail!(Format, "tensor `{path}` is in {} and another in {}", first.file, tensor.file),
                None => drop(self.tensors.insert(path, tensor)),
            }
        }
        Ok(())
    }

    /// Adds or replaces one tensor.
    pub fn insert(&mut self, path: &str, tensor: Tensor) {
        self.tensors.insert(path.into(), tensor);
    }

    /// Renames every tensor for which `rename` yields another name; what belongs to it goes with it.
    ///
    /// # Errors
    /// If two tensors would have one name; nothing is renamed then.
    pub fn rename(&mut self, mut rename: impl FnMut(&str) -> Option<String>) -> Result<()> {
        let name = |path: &Arc<str>| -> Arc<str> {
            let part = if self.is_part(path) { PARTS.iter().find(|part| path.ends_with(*part)) } else { None };
            let part = part.copied().unwrap_or_default();
            let renamed = rename(&path[..path.len() - part.len()]);
            renamed.map_or_else(|| path.clone(), |renamed| format!("{renamed}{part}").into())
        };
        let names: Vec<_> = self.tensors.keys().map(name).collect();
        let mut first = BTreeMap::new();
        for (new, old) in names.iter().zip(self.tensors.keys()) {
            if let Some(other) = first.insert(new, old) {
                fail!(Format, "tensors `{other}` and `{old}` would both be called `{new}`");
            }
        }
        self.tensors = names.into_iter().zip(std::mem::take(&mut self.tensors).into_values()).collect();
        Ok(())
    }

    /// Drops what makes the tensor `path` codes.
    pub fn remove_encoding(&mut self, path: &str) {
        PARTS.iter().for_each(|part| drop(self.tensors.remove(&*format!("{path}{part}"))));
    }

    /// Drops every tensor whose name `keep` refuses.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.tensors.retain(|path, _| keep(path));
    }

    /// The tensor `path` as it is in the file.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Tensor> {
        self.tensors.get(path)
    }

    /// The names of all tensors, sorted; what belongs to weights of 8 bits or fewer is part of those and not listed.
    pub fn paths(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tensors.keys().filter(|path| !self.is_part(path))
    }

    /// True if the tensor is a scale or the like of another one.
    pub fn is_part(&self, path: &str) -> bool {
        PARTS.iter().filter_map(|part| Some((part, path.strip_suffix(part)?))).any(|(part, base)| {
            let scaled =
                [SCALE, INPUT_RANGE].contains(part) && self.get(base).is_some_and(|tensor| tensor.dtype == DType::I8);
            scaled || self.get(base).is_some() && self.is_encoded(base)
        })
    }

    /// True if the tensor is codes of few bits, which [`encoding`](crate::encoding) describes.
    #[must_use]
    pub fn is_encoded(&self, path: &str) -> bool {
        self.tensors.contains_key(&*format!("{path}{ENCODING}"))
    }

    /// All tensors with their names, sorted, those that belong to others among them.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Tensor)> {
        self.tensors.iter()
    }

    /// The tensor `path` of shape `shape`.
    ///
    /// # Errors
    /// If it is missing, has another shape, or holds integers that are not scaled.
    pub fn expect(&self, path: &str, shape: &[usize]) -> Result<&Tensor> {
        let Some(tensor) = self.get(path) else {
            let file = self.tensors.values().next().map_or("the checkpoint", |tensor| &*tensor.file);
            fail!(Missing, "{file}: tensor `{path}` {shape:?} is missing; is this the checkpoint of this config?");
        };
        let encoding = self.encoding(path)?;
        let found = encoding.as_ref().map_or(&tensor.shape, |encoding| &encoding.shape);
        if found != shape {
            let file = &tensor.file;
            fail!(Shape, "{file}: tensor `{path}` has shape {found:?}, the config asks for {shape:?}");
        }
        let scaled = tensor.dtype == DType::I8 && self.tensors.contains_key(&*format!("{path}{SCALE}"));
        let scaled = scaled || encoding.is_some();
        if !tensor.dtype.is_float() && !scaled {
            fail!(Format, "{}: tensor `{path}` holds {}, which are no weights", tensor.file, tensor.dtype);
        }
        Ok(tensor)
    }

    /// The elements of `path` as f32, borrowed where the file already holds them so.
    ///
    /// # Errors
    /// If it is missing, holds complex numbers, or is an int8 tensor without a fitting scale, or what belongs to it
    /// does not fit it.
    pub fn to_f32(&self, path: &str) -> Result<Cow<'_, [f32]>> {
        if let Some(encoded) = self.encoded(path)? {
            return Ok(Cow::Owned(encoded.decode()));
        }
        let Some(tensor) = self.get(path) else { fail!(Missing, "tensor `{path}` is missing") };
        let bytes = &*tensor.bytes;
        Ok(match tensor.dtype {
            DType::F32 => match bytemuck::try_cast_slice(bytes) {
                Ok(values) => Cow::Borrowed(values),
                Err(_) => Cow::Owned(decode(bytes, f32::from_le_bytes)),
            },
            DType::F16 => Cow::Owned(decode(bytes, |b| f16::from_le_bytes(b).to_f32())),
            DType::BF16 => Cow::Owned(decode(bytes, |b| bf16::from_le_bytes(b).to_f32())),
            DType::F64 => Cow::Owned(decode(bytes, |b| f64::from_le_bytes(b) as f32)),
            DType::C64 => fail!(Unsupported, "tensor `{path}` holds complex numbers, where real ones are expected"),
            DType::I64 => Cow::Owned(decode(bytes, |b| i64::from_le_bytes(b) as f32)),
            DType::U64 => Cow::Owned(decode(bytes, |b| u64::from_le_bytes(b) as f32)),
            DType::U32 => Cow::Owned(decode(bytes, |b| u32::from_le_bytes(b) as f32)),
            DType::I16 => Cow::Owned(decode(bytes, |b| i16::from_le_bytes(b).into())),
            DType::U16 => Cow::Owned(decode(bytes, |b| u16::from_le_bytes(b).into())),
            DType::I32 => Cow::Owned(decode(bytes, |b| i32::from_le_bytes(b) as f32)),
            DType::U8 | DType::Bool => Cow::Owned(bytes.iter().map(|&b| f32::from(b)).collect()),
            DType::I8 => Cow::Owned(self.dequantize(path, tensor)?),
        })
    }

    fn dequantize(&self, path: &str, tensor: &Tensor) -> Result<Vec<f32>> {
        let rows = tensor.shape.first().copied().unwrap_or(1);
        let Some(scale) = self.get(&format!("{path}{SCALE}")) else {
            fail!(Missing, "{}: int8 tensor `{path}` has no `{path}{SCALE}`", tensor.file);
        };
        if scale.dtype != DType::F16 || scale.bytes.len() != 2 * rows {
            fail!(Shape, "{}: `{path}{SCALE}` must be F16 with {rows} elements", scale.file);
        }
        let scales = decode(&scale.bytes, |b| f16::from_le_bytes(b).to_f32());
        let width = tensor.bytes.len().checked_div(rows).unwrap_or(0).max(1);
        let rows = tensor.bytes.chunks(width).zip(scales);
        Ok(rows.flat_map(|(row, scale)| row.iter().map(move |&b| f32::from(b.cast_signed()) * scale)).collect())
    }

    /// The tensor `path` as an array of its own type; floating-point numbers of 8 bits as F32.
    ///
    /// # Errors
    /// If it is missing.
    pub fn array(&self, path: &str) -> Result<NDArray> {
        let Some(tensor) = self.get(path) else { fail!(Missing, "tensor `{path}` is missing") };
        if self.floats(path).is_some() {
            return NDArray::new(&tensor.shape, &self.to_f32(path)?);
        }
        NDArray::from_bytes(tensor.dtype, &tensor.shape, &tensor.bytes)
    }
}

fn decode<const N: usize>(bytes: &[u8], element: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| element(chunk)).collect()
}

/// The notes that stand in the header of a safetensors file, by key; none if it is no such file.
#[must_use]
pub fn notes(bytes: &[u8]) -> BTreeMap<String, String> {
    let notes = SafeTensors::read_metadata(bytes).ok().and_then(|(_, metadata)| metadata.metadata().clone());
    notes.into_iter().flatten().collect()
}

/// What the elements of a tensor in a file are.
enum Stored {
    Plain(DType),
    Floats(Float8),
}

impl Stored {
    /// Of a type of the format, if it is one of ours.
    fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F8_E4M3 => Some(Self::Floats(Float8::E4M3)),
            Dtype::F8_E5M2 => Some(Self::Floats(Float8::E5M2)),
            _ => DType::ALL.into_iter().find(|&known| file_dtype(known) == dtype).map(Self::Plain),
        }
    }

    /// Bytes of an element.
    fn size(&self) -> usize {
        match self {
            Self::Plain(dtype) => dtype.size(),
            Self::Floats(_) => 1,
        }
    }
}

fn describe(error: &safetensors::SafeTensorError, len: usize) -> Error {
    if matches!(error, safetensors::SafeTensorError::MetadataIncompleteBuffer) {
        let words = "the tensors that its header lists do not end where the file does";
        let advice = "it was cut, as by a download that was broken off; fetch it again";
        return Error::new(ErrorKind::Format, format!("{words}, at {len} bytes: {advice}"));
    }
    Error::new(ErrorKind::Format, format!("no valid safetensors file ({error}, {len} bytes); copy or export it again"))
}

/// Writes named arrays as a safetensors file: aside first, then renamed.
///
/// # Errors
/// If the file cannot be written; nothing is left then.
pub fn write_safetensors(path: &Path, tensors: &[(String, NDArray)]) -> Result<()> {
    write_safetensors_with(path, tensors, None)
}

/// As [`write_safetensors`], with notes in the file's metadata.
///
/// # Errors
/// As [`write_safetensors`].
pub fn write_safetensors_with(
    path: &Path,
    tensors: &[(String, NDArray)],
    notes: Option<HashMap<String, String>>,
) -> Result<()> {
    let views = tensors.iter().map(|(name, array)| {
        let view = TensorView::new(file_dtype(array.dtype()), array.shape().to_vec(), array.bytes());
        view.map(|view| (name.as_str(), view)).map_err(|error| describe(&error, array.bytes().len()))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(views, notes).map_err(|error| describe(&error, 0))?;
    crate::file::write_whole(path, |file| Ok(std::io::Write::write_all(file, &bytes)?))
}

fn file_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I8 => Dtype::I8,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
        DType::F64 => Dtype::F64,
        DType::I16 => Dtype::I16,
        DType::U16 => Dtype::U16,
        DType::U32 => Dtype::U32,
        DType::U64 => Dtype::U64,
        DType::C64 => Dtype::C64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Bytes {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        Bytes::from(&*bytes)
    }

    #[test]
    fn complex_numbers_are_no_weights() {
        let mut weights = Weights::default();
        let bytes = Bytes::from(&[0; 16][..]);
        weights.insert("z", Tensor { dtype: DType::C64, shape: vec![2], bytes, file: "file".into() });
        assert!(weights.to_f32("z").unwrap_err().to_string().contains("complex"));
    }

    #[test]
    fn int8_rows_are_scaled() {
        let scale = f16::from_f32(0.5).to_le_bytes();
        let header = r#"{"w":{"dtype":"I8","shape":[1,2],"data_offsets":[0,2]},
            "w.scale":{"dtype":"F16","shape":[1,1],"data_offsets":[2,4]}}"#;
        let weights = Weights::from_safetensors("x", &file(header, &[2, 0xff, scale[0], scale[1]])).unwrap();
        assert_eq!(*weights.to_f32("w").unwrap(), [1.0, -0.5]);
        assert_eq!(weights.paths().count(), 1);
    }

    #[test]
    fn what_two_files_hold_alike_is_kept_once() {
        let weights = |name: &str, shape: &str, data: &[u8]| {
            let header = format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[0,8]}}}}"#);
            Weights::from_safetensors(name, &file(&header, data)).unwrap()
        };
        let mut prefill = weights("prefill", "[2]", &[1; 8]);
        prefill.merge(weights("decode", "[2]", &[1; 8])).unwrap();
        assert_eq!(&*prefill.get("w").unwrap().file, "prefill");
        for other in [weights("decode", "[2]", &[2; 8]), weights("decode", "[1,2]", &[1; 8])] {
            let error = prefill.merge(other).unwrap_err().to_string();
            assert!(error.contains("`w` is in prefill and another in decode"), "{error}");
        }
    }

    #[test]
    fn broken_files_are_described() {
        let good = file(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]);
        assert!(Weights::from_safetensors("x", &good).is_ok());
        for len in 0..good.len() {
            let cut = good.slice(0, len).unwrap();
            let error = Weights::from_safetensors("f.safetensors", &cut).unwrap_err().to_string();
            let described = error.starts_with("f.safetensors: no ") || error.contains("it was cut");
            assert!(error.starts_with("f.safetensors: ") && described, "{error}");
        }
        let overflow = r#"{"w":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,4]}}"#;
        assert!(Weights::from_safetensors("x", &file(overflow, &[0; 4])).is_err());
    }
}
