//! The tensors of an archive: parameters, buffers and constants, read in place where they lie as they are needed.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::{
    schema::{Payloads, SymInt, TensorMeta},
    types::{BFLOAT16, DOUBLE, FLOAT8_E4M3, FLOAT8_E5M2, HALF, dtype_of},
};
use half::f16;
use ondine_graph::{
    AlignedBytes, Bytes, Context, DType, Error, ErrorKind, Float8, NDArray, Result, Tensor, Weights, archive::Archive,
    element_count, fail, weights::seal::Seal,
};

/// All tensors by the name that the signature gives them.
pub(super) struct Tensors {
    tensors: BTreeMap<String, Tensor>,
    places: BTreeMap<String, Place>,
    /// Those of the blocks of memory.
    seals: BTreeMap<String, Seal>,
    file: Arc<str>,
}

/// Where a tensor lies.
#[derive(Clone)]
pub(super) struct Place {
    /// The name of the block of memory, which several tensors may share.
    block: String,
    memory: Bytes,
    /// Which of its bytes.
    bytes: Range<usize>,
    /// The type of its elements as the archive codes it, how many bytes one has, and of how many numbers it is.
    dtype: u32,
    size: usize,
    parts: usize,
    /// In numbers, where it begins and how far apart they are.
    strided: Strided,
}

/// Elements of a block of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Strided {
    pub(super) sizes: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) offset: usize,
}

impl Strided {
    pub(super) fn count(&self) -> usize {
        self.sizes.iter().product()
    }

    /// The numbers that elements of `parts` numbers are made of, which become a last dimension if they are several.
    fn in_parts(mut self, parts: usize) -> Self {
        if parts > 1 {
            self.strides.iter_mut().for_each(|stride| *stride = stride.saturating_mul(parts));
            self.sizes.push(parts);
            self.strides.push(1);
            self.offset = self.offset.saturating_mul(parts);
        }
        self
    }

    /// True if the elements lie side by side in row-major order.
    pub(super) fn in_order(&self) -> bool {
        let mut dense = 1_usize;
        let in_order = self.sizes.iter().zip(&self.strides).rev().all(|(&size, &stride)| {
            let same = size == 1 || stride == dense;
            dense = dense.saturating_mul(size);
            same
        });
        self.count() <= 1 || in_order
    }

    /// Where in the block element `index` in row-major order is.
    pub(super) fn place(&self, index: usize) -> usize {
        let (mut rest, mut at) = (index, self.offset);
        for (&n, &stride) in self.sizes.iter().zip(&self.strides).rev() {
            at += rest % n * stride;
            rest /= n;
        }
        at
    }
}

/// Tensors of which a change of one can change the others, and the memory that holds them all.
pub(super) struct Common {
    /// The tensors, with their places from the start of the memory that is held.
    pub(super) members: Vec<(String, Strided)>,
    /// The member that is all of that memory, if one is.
    pub(super) whole: Option<String>,
}

/// Type codes of the elements that we do not compute with.
const COMPLEX_HALF: u32 = 9;
const COMPLEX: u32 = 10;
const COMPLEX_DOUBLE: u32 = 11;

impl Tensors {
    /// Reads the tables of weights and constants; `file` stands for the archive in messages.
    ///
    /// # Errors
    /// If a table does not fit its payloads, or a tensor is pickled.
    pub(super) fn read(archive: &Archive, model: &str, file: &Arc<str>) -> Result<Self> {
        let (mut tensors, mut places, mut seals) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (folder, table) in [("weights", "weights"), ("constants", "constants")] {
            let path = format!("data/{folder}/{model}_{table}_config.json");
            let Some(bytes) = archive.read_entry(&path)? else { continue };
            let payloads: Payloads = serde_json::from_slice(bytes)
                .map_err(|error| Error::new(ErrorKind::Format, error.to_string()))
                .at(|| &path)?;
            for (name, payload) in payloads.config {
                if payload.use_pickle {
                    fail!(
                        Unsupported,
                        "`{name}` is a tensor subclass, which is stored as a pickle, and pickles are never opened; \
                         call `torchao.utils.unwrap_tensor_subclass(model)` before `torch.export.export`"
                    );
                }
                let Some(meta) = payload.tensor_meta else { continue };
                let path = format!("data/{folder}/{}", payload.path_name);
                let bytes = archive.expect(&path)?;
                let block = format!("{folder}/{}", payload.path_name);
                if let Some(seal) = archive.seal(&path, &format!("{file}: {path}")) {
                    seals.entry(block.clone()).or_insert(seal);
                }
                let (tensor, place) = tensor(&meta, &block, bytes, file).at(|| format!("`{name}`"))?;
                places.insert(name.clone(), place);
                tensors.insert(name, tensor);
            }
        }
        Ok(Self { tensors, places, seals, file: file.clone() })
    }

    /// Those of the tensors `names` that lie in the memory of `name`, or in that of one that does, `name` first.
    ///
    /// # Errors
    /// If they read that memory as elements of different types.
    pub(super) fn common<'o>(&self, name: &'o str, names: &[&'o str]) -> Result<Common> {
        let Some(first) = self.places.get(name) else { fail!(Missing, "the archive has no tensor `{name}`") };
        let (mut bytes, mut members) = (first.bytes.clone(), vec![name]);
        loop {
            let meets = |place: &Place| place.bytes.start < bytes.end && bytes.start < place.bytes.end;
            let there = |other: &&&str| self.places.get(**other).is_some_and(|p| p.block == first.block && meets(p));
            let Some(next) = names.iter().filter(|other| !members.contains(other)).find(there) else { break };
            let place = &self.places[*next];
            if place.dtype != first.dtype {
                fail!(Unsupported, "`{next}` lies in the memory of `{name}`, which is changed, with another type");
            }
            bytes = bytes.start.min(place.bytes.start)..bytes.end.max(place.bytes.end);
            members.push(next);
        }
        let start = bytes.start / first.size * first.parts;
        let moved = |name: &&str| {
            let mut strided = self.places[*name].strided.clone();
            strided.offset = strided.offset.saturating_sub(start);
            ((*name).to_owned(), strided)
        };
        let is_whole = |name: &&&str| {
            let place = &self.places[**name];
            place.bytes == bytes && place.strided.in_order()
        };
        // The first of the names that there are to choose from is what the memory is called by.
        let whole = names.iter().filter(|name| members.contains(name)).find(is_whole).map(|name| (*name).to_owned());
        Ok(Common { members: members.iter().map(moved).collect(), whole })
    }

    /// The memory that holds all `members` of a group, one element after the other.
    pub(super) fn block(&self, members: &[(String, Strided)]) -> Result<NDArray> {
        let places = members.iter().filter_map(|(name, _)| self.places.get(name));
        let hull =
            places.clone().map(|place| place.bytes.clone()).reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
        let (Some(first), Some(bytes)) = (places.clone().next(), hull) else { fail!(Format, "memory of no tensor") };
        let int = |value: usize| SymInt::AsInt(value as i64);
        let meta = TensorMeta {
            dtype: first.dtype,
            sizes: vec![int(bytes.len() / first.size)],
            strides: vec![int(1)],
            storage_offset: Some(int(bytes.start / first.size)),
        };
        self.seals.get(&first.block).map_or(Ok(()), Seal::check)?;
        computed(&tensor(&meta, &first.block, &first.memory, &self.file)?.0)
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
        // What becomes a constant of the graph is read here and now.
        let seal = self.places.get(name).and_then(|place| self.seals.get(&place.block));
        seal.map_or(Ok(()), Seal::check)?;
        computed(self.get(name)?)
    }

    /// The tensors that are weights.
    pub(super) fn into_weights(self) -> Weights {
        let mut weights = Weights::default();
        self.seals.into_values().for_each(|seal| weights.seal(seal));
        for (name, tensor) in self.tensors {
            if tensor.dtype.is_float() {
                weights.insert(&name, tensor);
            }
        }
        weights
    }
}

/// A tensor in the type in which it is computed.
fn computed(tensor: &Tensor) -> Result<NDArray> {
    let array = NDArray::from_bytes(tensor.dtype, &tensor.shape, &tensor.bytes)?;
    if !array.dtype().is_float() || array.dtype() == DType::F32 {
        return Ok(array);
    }
    NDArray::new(&tensor.shape, &array.to_f32())
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
fn tensor(meta: &TensorMeta, name: &str, block: &Bytes, file: &Arc<str>) -> Result<(Tensor, Place)> {
    let (shape, strides) = (known(&meta.sizes)?, known(&meta.strides)?);
    let offset =
        meta.storage_offset.as_ref().map_or(Ok(0), |offset| known(std::slice::from_ref(offset)).map(|o| o[0]))?;
    if strides.len() != shape.len() {
        fail!(Format, "shape {shape:?} has strides {strides:?}");
    }
    let (size, parts) = match meta.dtype {
        DOUBLE => (8, 1),
        FLOAT8_E4M3 | FLOAT8_E5M2 => (1, 1),
        HALF | BFLOAT16 => (2, 1),
        COMPLEX_HALF => (4, 2),
        COMPLEX => (8, 2),
        COMPLEX_DOUBLE => (16, 2),
        code => (dtype_of(code)?.size(), 1),
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
    let strided = Strided { sizes: shape.clone(), strides, offset };
    let bytes = if count == 0 {
        Bytes::from_static(&[])
    } else if strided.in_order() {
        match block.slice(offset * size, count * size) {
            Some(bytes) => bytes,
            None => fail!(Format, "shape {shape:?} reaches beyond its {} bytes", block.len()),
        }
    } else {
        // A repeated dimension could make a huge tensor of a small block.
        if count > block.len().saturating_mul(1024).max(1 << 20) {
            fail!(Format, "shape {shape:?} repeats {} bytes too often", block.len());
        }
        gather(block, size, &strided).into()
    };
    let narrow = |b: [u8; 8]| (f64::from_le_bytes(b) as f32).to_le_bytes();
    let (dtype, bytes) = match meta.dtype {
        DOUBLE | COMPLEX_DOUBLE => (DType::F32, convert(&bytes, narrow)),
        // F16 holds all of their numbers.
        FLOAT8_E4M3 => {
            (DType::F16, convert(&bytes, |[byte]: [u8; 1]| f16::from_f32(Float8::E4M3.number(byte)).to_le_bytes()))
        }
        FLOAT8_E5M2 => (DType::F16, convert(&bytes, |[byte]: [u8; 1]| [0, byte])),
        HALF | COMPLEX_HALF => (DType::F16, bytes),
        BFLOAT16 => (DType::BF16, bytes),
        code => (dtype_of(code)?, bytes),
    };
    let start = offset.saturating_mul(size);
    let end = if count == 0 { start } else { reach.map_or(start, |last| (last + 1).saturating_mul(size)) };
    let strided = strided.in_parts(parts);
    let shape = strided.sizes.clone();
    let (block, memory) = (name.to_owned(), block.clone());
    let place = Place { block, memory, bytes: start..end, dtype: meta.dtype, size, parts, strided };
    Ok((Tensor { dtype, shape, bytes, file: file.clone() }, place))
}

fn convert<const A: usize, const B: usize>(bytes: &[u8], element: impl Fn([u8; A]) -> [u8; B]) -> Bytes {
    let converted: Vec<u8> = bytes.as_chunks::<A>().0.iter().flat_map(|&chunk| element(chunk)).collect();
    Bytes::from(converted.as_slice())
}

/// The elements in row-major order.
fn gather(block: &[u8], size: usize, strided: &Strided) -> AlignedBytes {
    let mut bytes = AlignedBytes::zeroed(strided.count() * size);
    for (index, out) in bytes.as_mut_slice().chunks_exact_mut(size).enumerate() {
        out.copy_from_slice(&block[strided.place(index) * size..][..size]);
    }
    bytes
}
