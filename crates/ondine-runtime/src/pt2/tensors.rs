//! The tensors of an archive: parameters, buffers and constants, read in place where they lie as they are needed.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::{
    archive::Archive,
    call::dtype_of,
    schema::{Payloads, SymInt, TensorMeta},
};
use crate::{
    bytes::Bytes,
    dtype::DType,
    error::{Context, Error, ErrorKind, Result, fail},
    ndarray::{AlignedBytes, NDArray, element_count},
    weights::{Tensor, Weights},
};

/// All tensors by the name that the signature gives them.
pub(super) struct Tensors {
    tensors: BTreeMap<String, Tensor>,
    /// The block of memory that each lies in, and which of its bytes.
    places: BTreeMap<String, (String, Range<usize>)>,
}

/// Type codes of the elements that we do not compute with.
pub(super) const HALF: u32 = 6;
const DOUBLE: u32 = 8;
pub(super) const BFLOAT16: u32 = 13;
const SHORT: u32 = 3;

impl Tensors {
    /// Reads the tables of weights and constants; `file` stands for the archive in messages.
    ///
    /// # Errors
    /// If a table does not fit its payloads, or a tensor is pickled.
    pub(super) fn read(archive: &Archive, model: &str, file: &Arc<str>) -> Result<Self> {
        let (mut tensors, mut places) = (BTreeMap::new(), BTreeMap::new());
        for (folder, table) in [("weights", "weights"), ("constants", "constants")] {
            let path = format!("data/{folder}/{model}_{table}_config.json");
            let Some(bytes) = archive.get(&path) else { continue };
            let payloads: Payloads = serde_json::from_slice(bytes)
                .map_err(|error| Error::new(ErrorKind::Format, error.to_string()))
                .at(|| &path)?;
            for (name, payload) in payloads.config {
                if payload.use_pickle {
                    fail!(Unsupported, "`{name}` is pickled, and pickles are never opened");
                }
                let Some(meta) = payload.tensor_meta else { continue };
                let bytes = archive.expect(&format!("data/{folder}/{}", payload.path_name))?;
                let (tensor, place) = tensor(&meta, bytes, file).at(|| format!("`{name}`"))?;
                places.insert(name.clone(), (format!("{folder}/{}", payload.path_name), place));
                tensors.insert(name, tensor);
            }
        }
        Ok(Self { tensors, places })
    }

    /// Of the tensors `others` one whose memory `name` shares, and whether it is the same tensor altogether.
    pub(super) fn shared<'o>(&self, name: &str, others: impl Iterator<Item = &'o str>) -> Option<(&'o str, bool)> {
        let (block, range) = self.places.get(name)?;
        let same = |other: &str| match (self.places.get(other), self.tensors.get(other), self.tensors.get(name)) {
            (Some((theirs, place)), Some(a), Some(b)) if theirs == block => {
                let meets = place.start < range.end && range.start < place.end;
                meets.then_some(place == range && a.shape == b.shape && a.dtype == b.dtype)
            }
            _ => None,
        };
        others.filter(|other| *other != name).find_map(|other| Some((other, same(other)?)))
    }

    fn get(&self, name: &str) -> Result<&Tensor> {
        match self.tensors.get(name) {
            Some(tensor) => Ok(tensor),
            None => fail!(Missing, "the archive has no tensor `{name}`"),
        }
    }

    /// True if it can be a weight: floating-point numbers, and at least one.
    pub(super) fn is_weight(&self, name: &str) -> bool {
        self.tensors.get(name).is_some_and(|tensor| tensor.dtype.is_float() && !tensor.shape.contains(&0))
    }

    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.get(name)?.shape.clone())
    }

    /// A tensor in the type in which it is computed.
    pub(super) fn array(&self, name: &str) -> Result<NDArray> {
        let tensor = self.get(name)?;
        let array = NDArray::from_bytes(tensor.dtype, &tensor.shape, &tensor.bytes)?;
        if !array.dtype().is_float() || array.dtype() == DType::F32 {
            return Ok(array);
        }
        NDArray::new(&tensor.shape, &array.to_f32())
    }

    /// The tensors that are weights.
    pub(super) fn into_weights(self) -> Weights {
        let mut weights = Weights::default();
        for (name, tensor) in self.tensors {
            if tensor.dtype.is_float() {
                weights.insert(&name, tensor);
            }
        }
        weights
    }
}

fn known(sizes: &[SymInt]) -> Result<Vec<usize>> {
    let size = |size: &SymInt| match size {
        SymInt::AsInt(value) => usize::try_from(*value).ok(),
        SymInt::AsExpr(_) => None,
    };
    match sizes.iter().map(size).collect() {
        Some(sizes) => Ok(sizes),
        None => fail!(Format, "a stored tensor has no fixed shape"),
    }
}

/// The tensor that `meta` describes in a stored block of memory, which several tensors may share, and where it lies.
fn tensor(meta: &TensorMeta, block: &Bytes, file: &Arc<str>) -> Result<(Tensor, Range<usize>)> {
    let (shape, strides) = (known(&meta.sizes)?, known(&meta.strides)?);
    let offset =
        meta.storage_offset.as_ref().map_or(Ok(0), |offset| known(std::slice::from_ref(offset)).map(|o| o[0]))?;
    if strides.len() != shape.len() {
        fail!(Format, "shape {shape:?} has strides {strides:?}");
    }
    let size = match meta.dtype {
        DOUBLE => 8,
        SHORT => 2,
        HALF | BFLOAT16 => 2,
        9..=11 => fail!(Unsupported, "stored complex numbers"),
        code => dtype_of(code)?.size(),
    };
    let Some(count) = element_count(&shape).filter(|count| count.checked_mul(size).is_some()) else {
        fail!(Format, "a tensor of shape {shape:?} is too large");
    };
    // The last element that is read must be there.
    let reach = shape.iter().zip(&strides).try_fold(offset, |reach: usize, (&size, &stride)| {
        reach.checked_add(size.saturating_sub(1).checked_mul(stride)?)
    });
    if count > 0 && reach.and_then(|last| last.checked_add(1)?.checked_mul(size)).is_none_or(|end| end > block.len()) {
        fail!(Format, "shape {shape:?} with strides {strides:?} reaches beyond its {} bytes", block.len());
    }
    let dense = ondine_kernels::dense_strides(&shape);
    let in_order = count <= 1 || shape.iter().zip(strides.iter().zip(&dense)).all(|(&n, (a, b))| n == 1 || a == b);
    let bytes = if count == 0 {
        Bytes::from_static(&[])
    } else if in_order {
        match block.slice(offset * size, count * size) {
            Some(bytes) => bytes,
            None => fail!(Format, "shape {shape:?} reaches beyond its {} bytes", block.len()),
        }
    } else {
        // A repeated dimension could make a huge tensor of a small block.
        if count > block.len().saturating_mul(1024).max(1 << 20) {
            fail!(Format, "shape {shape:?} repeats {} bytes too often", block.len());
        }
        gather(block, size, &shape, &strides, offset).into()
    };
    let (dtype, bytes) = match meta.dtype {
        DOUBLE => (DType::F32, convert(&bytes, |b: [u8; 8]| (f64::from_le_bytes(b) as f32).to_le_bytes())),
        SHORT => (DType::I32, convert(&bytes, |b: [u8; 2]| i32::from(i16::from_le_bytes(b)).to_le_bytes())),
        HALF => (DType::F16, bytes),
        BFLOAT16 => (DType::BF16, bytes),
        code => (dtype_of(code)?, bytes),
    };
    let place = offset.saturating_mul(size)..reach.map_or(0, |last| (last + 1).saturating_mul(size));
    Ok((Tensor { dtype, shape, bytes, file: file.clone() }, place))
}

fn convert<const A: usize, const B: usize>(bytes: &[u8], element: impl Fn([u8; A]) -> [u8; B]) -> Bytes {
    let converted: Vec<u8> = bytes.as_chunks::<A>().0.iter().flat_map(|&chunk| element(chunk)).collect();
    Bytes::from(converted.as_slice())
}

/// The elements in row-major order.
fn gather(block: &[u8], size: usize, shape: &[usize], strides: &[usize], offset: usize) -> AlignedBytes {
    let count: usize = shape.iter().product();
    let mut bytes = AlignedBytes::zeroed(count * size);
    for (index, out) in bytes.as_mut_slice().chunks_exact_mut(size).enumerate() {
        let (mut rest, mut at) = (index, offset);
        for (&n, &stride) in shape.iter().zip(strides).rev() {
            at += rest % n * stride;
            rest /= n;
        }
        out.copy_from_slice(&block[at * size..][..size]);
    }
    bytes
}
