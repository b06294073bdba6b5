//! Checkpoints of `torch.save` (`.ckpt`, `.pt`, `.pth`, `.bin`): a pickle that says which tensors there are, and their
//! bytes, which are read in place.
//!
//! The pickle is read as data (`torch_file/pickle.rs`): nothing of it runs, whatever it asks for.

mod pickle;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ondine_graph::{
    AlignedBytes, Bytes, DType, Float8, Result, Tensor, Weights, archive::Archive, element_count, fail,
};

use pickle::{Id, Pickle, Value};

/// What a file of `torch.save` holds.
#[derive(Clone, Debug, Default)]
pub struct TorchFile {
    /// Its tensors, by the names of all dictionaries that they lie in, joined by dots.
    pub weights: Weights,
    /// The whole numbers beside them, by name, such as `global_step`.
    pub numbers: BTreeMap<String, i64>,
}

/// What a zip file begins with.
const ZIP: &[u8; 4] = b"PK\x03\x04";
/// The pickled number that files of before PyTorch 1.6 begin with.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e";
/// The name of the pickle in a zip file.
const PICKLE: &str = "data.pkl";

/// True if bytes begin as files of `torch.save` do.
#[must_use]
pub fn is_one(bytes: &Bytes) -> bool {
    bytes.starts_with(LEGACY)
        || bytes.starts_with(ZIP) && Archive::read(bytes).is_ok_and(|zip| zip.get(PICKLE).is_some())
}

/// Reads the bytes of a file; `name` stands for it in messages.
///
/// # Errors
/// If they are no whole file of `torch.save`, or its pickle asks for more than tensors.
pub fn parse(name: &str, bytes: &Bytes) -> Result<TorchFile> {
    if bytes.starts_with(LEGACY) {
        return legacy(name, bytes);
    }
    let archive = Archive::read(bytes)?;
    let Some(text) = archive.read_entry(PICKLE)? else {
        fail!(Format, "no checkpoint of torch.save: the archive has no `{PICKLE}`");
    };
    if archive.get("byteorder").is_some_and(|order| !order.starts_with(b"little")) {
        fail!(Unsupported, "the file was written on a big-endian machine; write it again on another");
    }
    let pickle = Pickle::read(text)?;
    collect(name, &pickle, &|key| match archive.get(&format!("data/{key}")) {
        Some(bytes) => Ok(bytes.clone()),
        None => fail!(Format, "the archive has no `data/{key}`; copy the file again"),
    })
}

/// A file of before PyTorch 1.6: pickles of a number, a version and the machine, that of the tensors, one of the keys
/// of their storages, and these, each behind its length in elements.
fn legacy(name: &str, bytes: &Bytes) -> Result<TorchFile> {
    let mut at = LEGACY.len();
    let mut next = || -> Result<Pickle> {
        let pickle = Pickle::read(bytes.get(at..).unwrap_or_default())?;
        at += pickle.len;
        Ok(pickle)
    };
    let (_version, _machine) = (next()?, next()?);
    let (pickle, keys) = (next()?, next()?);
    let Some(listed) = keys.members(keys.root) else { fail!(Format, "the file lists no storages; copy it again") };
    let mut sizes = HashMap::new();
    for storage in storages(&pickle)? {
        // What has no type is counted in bytes.
        sizes.insert(storage.key, storage.elements.map_or(1, Elements::size));
    }
    let mut places = HashMap::new();
    for &key in listed {
        let Some(key) = keys.text(key) else { fail!(Format, "the file lists a storage without a name") };
        let count = bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|count| u64::from_le_bytes(*count));
        let Some(size) = sizes.get(key) else { fail!(Format, "storage `{key}` is of no known type") };
        let len = count.and_then(|count| usize::try_from(count).ok()).and_then(|count| count.checked_mul(*size));
        let Some(storage) = len.and_then(|len| bytes.slice(at.checked_add(8)?, len)) else {
            fail!(Format, "the file has {} bytes, and should have more: it was cut; copy it again", bytes.len());
        };
        at += 8 + storage.len();
        places.insert(key.to_owned(), storage);
    }
    collect(name, &pickle, &|key| match places.get(key) {
        Some(bytes) => Ok(bytes.clone()),
        None => fail!(Format, "the file has no storage `{key}`; copy it again"),
    })
}

/// What the elements of a tensor are.
#[derive(Clone, Copy)]
enum Elements {
    Plain(DType),
    Floats(Float8),
}

impl Elements {
    /// By the end of the name of a type of PyTorch, or of a storage of such.
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "FloatStorage" => Self::Plain(DType::F32),
            "HalfStorage" => Self::Plain(DType::F16),
            "BFloat16Storage" => Self::Plain(DType::BF16),
            "DoubleStorage" => Self::Plain(DType::F64),
            "LongStorage" => Self::Plain(DType::I64),
            "IntStorage" => Self::Plain(DType::I32),
            "ShortStorage" => Self::Plain(DType::I16),
            "CharStorage" => Self::Plain(DType::I8),
            "ByteStorage" => Self::Plain(DType::U8),
            "BoolStorage" => Self::Plain(DType::Bool),
            "uint16" => Self::Plain(DType::U16),
            "uint32" => Self::Plain(DType::U32),
            "uint64" => Self::Plain(DType::U64),
            "float8_e4m3fn" => Self::Floats(Float8::E4M3),
            "float8_e5m2" => Self::Floats(Float8::E5M2),
            _ => return None,
        })
    }

    /// Bytes of one.
    fn size(self) -> usize {
        match self {
            Self::Plain(dtype) => dtype.size(),
            Self::Floats(_) => 1,
        }
    }
}

/// A storage of bytes, whose tensors say what they are.
const UNTYPED: &str = "UntypedStorage";

/// A storage as a persistent id names it.
struct Storage {
    key: String,
    /// What its elements are, if it says so.
    elements: Option<Elements>,
}

/// The storages of all tensors.
fn storages(pickle: &Pickle) -> Result<Vec<Storage>> {
    let mut found = Vec::new();
    walk(pickle, &mut |_, value| {
        if let Value::Tensor(tensor) = value {
            found.push(storage(pickle, tensor.storage)?);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The storage that a persistent id names: `("storage", type, key, device, elements)`.
fn storage(pickle: &Pickle, id: Id) -> Result<Storage> {
    let members = match pickle.value(id) {
        Value::Persistent(id) => pickle.members(*id).unwrap_or_default(),
        _ => &[],
    };
    let [_, kind, key, ..] = members else { fail!(Format, "the pickle holds a tensor without a storage") };
    let (Some(kind), Some(key)) = (pickle.text(*kind), pickle.text(*key)) else {
        fail!(Format, "the pickle holds a storage without type or name");
    };
    let key = key.to_owned();
    match kind.rsplit('.').next().unwrap_or_default() {
        UNTYPED => Ok(Storage { key, elements: None }),
        name => Ok(Storage { key, elements: Some(elements(name)?) }),
    }
}

/// The elements of a type.
fn elements(name: &str) -> Result<Elements> {
    match Elements::of(name) {
        Some(elements) => Ok(elements),
        None => fail!(Unsupported, "tensors of `{name}` are not read; save the model in half or single precision"),
    }
}

/// What the elements of a tensor are: as it says itself, or its storage.
fn elements_of(pickle: &Pickle, tensor: &pickle::Tensor, storage: &Storage) -> Result<Elements> {
    match (storage.elements, tensor.dtype.and_then(|dtype| pickle.text(dtype))) {
        (None, Some(name)) => elements(name.rsplit('.').next().unwrap_or_default()),
        (Some(elements), None) => Ok(elements),
        (None, None) | (Some(_), Some(_)) => fail!(Format, "the pickle holds a tensor of no or of two types"),
    }
}

/// The deepest nesting of dictionaries; checkpoints have three.
const MAX_DEPTH: usize = 16;
/// The longest name of a tensor.
const MAX_NAME: usize = 1024;

/// Visits what lies in the dictionaries of a pickle, by the keys that lead there.
fn walk(pickle: &Pickle, visit: &mut dyn FnMut(&str, &Value) -> Result<()>) -> Result<()> {
    /// Values that are shared count each time that they are met.
    const MOST: usize = 1 << 20;
    let mut open = vec![(String::new(), pickle.root, 0)];
    let mut visited = 0;
    while let Some((path, id, depth)) = open.pop() {
        visited += 1;
        if visited > MOST {
            fail!(Format, "the pickle holds more than {MOST} values; it is no checkpoint");
        }
        let value = pickle.value(id);
        let Value::Dict(members) = value else {
            visit(&path, value)?;
            continue;
        };
        if depth == MAX_DEPTH {
            fail!(Format, "the pickle holds dictionaries in dictionaries without end");
        }
        for &(key, member) in members.iter().rev() {
            let key = pickle.text(key).map(str::to_owned).or_else(|| pickle.int(key).map(|key| key.to_string()));
            let Some(key) = key.filter(|key| path.len() + key.len() < MAX_NAME) else { continue };
            let path = if path.is_empty() { key } else { format!("{path}.{key}") };
            open.push((path, member, depth + 1));
        }
    }
    Ok(())
}

fn collect(name: &str, pickle: &Pickle, bytes_of: &dyn Fn(&str) -> Result<Bytes>) -> Result<TorchFile> {
    let file: Arc<str> = name.into();
    let mut read = TorchFile::default();
    walk(pickle, &mut |path, value| {
        match value {
            Value::Int(number) => drop(read.numbers.insert(path.to_owned(), *number)),
            Value::Tensor(tensor) => {
                let storage = storage(pickle, tensor.storage)?;
                let elements = elements_of(pickle, tensor, &storage)?;
                let bytes = view(tensor, elements.size(), &bytes_of(&storage.key)?);
                let Some(bytes) = bytes else {
                    fail!(Format, "tensor `{path}` {:?} reaches beyond its storage; copy the file again", tensor.shape);
                };
                match elements {
                    Elements::Plain(dtype) => {
                        let (shape, file) = (tensor.shape.clone(), file.clone());
                        read.weights.insert(path, Tensor { dtype, shape, bytes, file });
                    }
                    Elements::Floats(format) => {
                        read.weights.insert_floats(path, format, &tensor.shape, bytes, &file)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(read)
}

/// The elements of a view, in its order: of a storage as they lie there, if they lie so.
fn view(tensor: &pickle::Tensor, size: usize, storage: &Bytes) -> Option<Bytes> {
    let count = element_count(&tensor.shape)?;
    let start = tensor.offset.checked_mul(size)?;
    let mut dense = 1_usize;
    let mut in_order = true;
    for (&length, &stride) in tensor.shape.iter().zip(&tensor.strides).rev() {
        in_order &= length == 1 || stride == dense;
        dense = dense.checked_mul(length.max(1))?;
    }
    if in_order || count == 0 {
        return storage.slice(start, count.checked_mul(size)?);
    }
    // What is repeated would not be in a checkpoint: no view is larger than what it is of.
    let storage = storage.get(start..)?;
    if count > storage.len() / size {
        return None;
    }
    let mut copy = AlignedBytes::zeroed(count * size);
    for (index, element) in copy.as_mut_slice().chunks_exact_mut(size).enumerate() {
        let (mut rest, mut at) = (index, 0_usize);
        for (&length, &stride) in tensor.shape.iter().zip(&tensor.strides).rev() {
            at = at.checked_add((rest % length).checked_mul(stride)?)?;
            rest /= length;
        }
        let from = at.checked_mul(size)?;
        element.copy_from_slice(storage.get(from..from.checked_add(size)?)?);
    }
    Some(copy.into())
}
