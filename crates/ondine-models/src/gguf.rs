//! GGUF files: metadata and tensors of one network in one file, as ggml writes them.
//!
//! A file says how long everything in it is; nothing of that is believed before it has been compared with what is
//! there. Tensors are mapped, in the blocks in which the file has them ([`Block`]).

mod reader;

use std::{collections::BTreeMap, io::Read, path::Path, sync::Arc};

use ondine_graph::{
    Bytes, Context, DType, NDArray, Result, Tensor, Weights,
    block::Block,
    encoding::{BLOCKS, ENCODING},
    fail,
};

use reader::Reader;

pub use reader::Value;

/// What a GGUF file begins with.
const MAGIC: [u8; 4] = *b"GGUF";
/// Where tensors begin, if the file does not say.
const ALIGNMENT: u64 = 32;
/// The most dimensions of a tensor.
const MAX_RANK: usize = 4;

/// An open GGUF file.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// How messages call it.
    pub file: Arc<str>,
    /// What it says of the network, by key, such as `general.architecture`.
    pub metadata: BTreeMap<String, Value>,
    /// Its tensors, under the names of the file, such as `blk.0.attn_q.weight`.
    pub weights: Weights,
}

/// True if a file begins as GGUF files do.
#[must_use]
pub fn is_one(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    std::fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok()) && start == MAGIC
}

impl Gguf {
    /// Maps a file and, if it is one of several parts (`NAME-00001-of-00003.gguf`), the others beside it.
    ///
    /// # Errors
    /// As [`Gguf::parse`], and if a part cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let mut first = Self::parse(&path.display().to_string(), &Bytes::map(path)?)?;
        let parts = first.integer("split.count")?.unwrap_or(1);
        if parts > 1 {
            first.merge_parts(path, parts)?;
        }
        Ok(first)
    }

    /// Reads the bytes of a file; `name` stands for it in messages.
    ///
    /// # Errors
    /// If they are not a whole, consistent GGUF file of version 2 or 3, or hold elements of an unknown type.
    pub fn parse(name: &str, bytes: &Bytes) -> Result<Self> {
        parse(name, bytes).at(|| name)
    }

    fn merge_parts(&mut self, path: &Path, parts: i64) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let split =
            name.rsplit_once("-00001-of-").filter(|(_, rest)| rest.trim_end_matches(".gguf").parse() == Ok(parts));
        let Some((stem, rest)) = split else {
            fail!(Missing, "{}: one of {parts} parts; name the first, `NAME-00001-of-{parts:05}.gguf`", self.file);
        };
        for part in 2..=parts {
            let path = path.with_file_name(format!("{stem}-{part:05}-of-{rest}"));
            let other = Self::parse(&path.display().to_string(), &Bytes::map(&path)?)?;
            self.weights.merge(other.weights)?;
        }
        Ok(())
    }

    /// The integer `key`, if it is there.
    ///
    /// # Errors
    /// If it is something else.
    pub fn integer(&self, key: &str) -> Result<Option<i64>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Integer(value)) => Ok(Some(*value)),
            Some(_) => fail!(Format, "{}: `{key}` is no integer", self.file),
        }
    }

    /// The integer `key` as a size, if it is there.
    ///
    /// # Errors
    /// If it is something else, or below zero.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        match self.integer(key)?.map(usize::try_from) {
            None => Ok(None),
            Some(Ok(size)) => Ok(Some(size)),
            Some(Err(_)) => fail!(Format, "{}: `{key}` is below zero", self.file),
        }
    }

    /// The size `key` of all layers, if it is there; some files list it for each.
    ///
    /// # Errors
    /// If it is something else, below zero, or not the same for all.
    pub fn size_of_all(&self, key: &str) -> Result<Option<usize>> {
        let Some(Value::List(list)) = self.metadata.get(key) else { return self.size(key) };
        let sizes = list.iter().map(|value| match value {
            Value::Integer(value) => usize::try_from(*value).ok(),
            _ => None,
        });
        match sizes.collect::<Option<Vec<_>>>().as_deref() {
            Some([first, rest @ ..]) if rest.iter().all(|size| size == first) => Ok(Some(*first)),
            Some([]) => Ok(None),
            _ => fail!(Unsupported, "{}: `{key}` differs from layer to layer", self.file),
        }
    }

    /// The number `key`, if it is there.
    ///
    /// # Errors
    /// If it is something else.
    pub fn number(&self, key: &str) -> Result<Option<f32>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value as f32)),
            Some(Value::Integer(value)) => Ok(Some(*value as f32)),
            Some(_) => fail!(Format, "{}: `{key}` is no number", self.file),
        }
    }

    /// The text `key`, if it is there.
    ///
    /// # Errors
    /// If it is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => fail!(Format, "{}: `{key}` is no text", self.file),
        }
    }

    /// The truth value `key`, if it is there.
    ///
    /// # Errors
    /// If it is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => fail!(Format, "{}: `{key}` is no truth value", self.file),
        }
    }

    /// The list `key`, if it is there.
    ///
    /// # Errors
    /// If it is something else.
    pub fn list(&self, key: &str) -> Result<Option<&[Value]>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(_) => fail!(Format, "{}: `{key}` is no list", self.file),
        }
    }
}

/// How the elements of a tensor lie in the file.
enum Stored {
    Plain(DType),
    Blocks(Block),
}

impl Stored {
    fn of(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::Plain(DType::F32),
            1 => Self::Plain(DType::F16),
            24 => Self::Plain(DType::I8),
            25 => Self::Plain(DType::I16),
            26 => Self::Plain(DType::I32),
            27 => Self::Plain(DType::I64),
            28 => Self::Plain(DType::F64),
            30 => Self::Plain(DType::BF16),
            _ => Self::Blocks(Block::from_id(id)?),
        })
    }

    /// Bytes of a row of so many elements.
    fn row_bytes(&self, columns: usize) -> Option<usize> {
        match self {
            Self::Plain(dtype) => columns.checked_mul(dtype.size()),
            Self::Blocks(block) => block.row_bytes(columns),
        }
    }
}

/// What the file says of a tensor.
struct Info {
    name: String,
    shape: Vec<usize>,
    id: u32,
    offset: u64,
}

fn parse(name: &str, bytes: &Bytes) -> Result<Gguf> {
    let mut reader = Reader::new(bytes);
    if reader.array::<4>()? != MAGIC {
        fail!(Format, "no GGUF file: it does not begin with `GGUF`");
    }
    match reader.u32()? {
        2 | 3 => {}
        version if matches!(version.swap_bytes(), 2 | 3) => {
            fail!(Unsupported, "a GGUF file of a big-endian machine; convert it on a little-endian one")
        }
        version => fail!(Unsupported, "GGUF version {version}; 2 and 3 are read: convert the model again"),
    }
    let (tensors, pairs) = (reader.count(24)?, reader.count(13)?);
    let mut metadata = BTreeMap::new();
    for _ in 0..pairs {
        let key = reader.text()?.to_string();
        let kind = reader.u32()?;
        let value = reader.value(kind, 0).at(|| format!("`{key}`"))?;
        if metadata.insert(key.clone(), value).is_some() {
            fail!(Format, "`{key}` is there twice");
        }
    }
    let infos = (0..tensors).map(|_| read_info(&mut reader)).collect::<Result<Vec<_>>>()?;
    let mut gguf = Gguf { file: name.into(), metadata, weights: Weights::default() };
    let alignment = match gguf.integer("general.alignment")?.map(u64::try_from) {
        None => ALIGNMENT,
        Some(Ok(alignment)) if alignment.is_power_of_two() && alignment <= 1 << 20 => alignment,
        Some(_) => fail!(Format, "`general.alignment` is no power of two up to 2^20"),
    };
    let start = (reader.position() as u64).next_multiple_of(alignment);
    for info in infos {
        let place = info.name.clone();
        insert(&mut gguf, info, start, bytes).at(|| format!("tensor `{place}`"))?;
    }
    Ok(gguf)
}

fn read_info(reader: &mut Reader<'_>) -> Result<Info> {
    let name = reader.text()?.to_string();
    let rank = reader.u32()? as usize;
    if rank > MAX_RANK {
        fail!(Format, "tensor `{name}` has {rank} dimensions, the most is {MAX_RANK}");
    }
    let mut shape = Vec::with_capacity(rank);
    for _ in 0..rank {
        match usize::try_from(reader.u64()?) {
            Ok(size) => shape.push(size),
            Err(_) => fail!(Format, "tensor `{name}` is too large"),
        }
    }
    // The file names the dimension first in which neighbours lie next to each other.
    shape.reverse();
    Ok(Info { name, shape, id: reader.u32()?, offset: reader.u64()? })
}

/// Adds a tensor, its bytes being part of `bytes`.
fn insert(gguf: &mut Gguf, info: Info, start: u64, bytes: &Bytes) -> Result<()> {
    let Info { name, shape, id, offset } = info;
    let Some(stored) = Stored::of(id) else {
        let known: Vec<_> = Block::ALL.iter().map(Block::to_string).collect();
        fail!(Unsupported, "elements of type {id} of ggml; read are F32, F16, BF16, {}", known.join(", "));
    };
    let columns = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().rev().skip(1).try_fold(1_usize, |rows, &size| rows.checked_mul(size));
    let Some((rows, row_bytes)) = rows.zip(stored.row_bytes(columns)) else {
        fail!(Format, "shape {shape:?} does not consist of whole blocks");
    };
    let from = start.checked_add(offset).and_then(|from| usize::try_from(from).ok());
    let data = from.zip(rows.checked_mul(row_bytes)).and_then(|(from, len)| bytes.slice(from, len));
    let Some(data) = data else {
        fail!(
            Format,
            "{shape:?} from byte {offset} of the tensors on is not whole: the file has {} bytes; copy it again",
            bytes.len()
        );
    };
    if gguf.weights.get(&name).is_some() {
        fail!(Format, "it is there twice");
    }
    let file = gguf.file.clone();
    let tensor = |dtype, shape: Vec<usize>, bytes| Tensor { dtype, shape, bytes, file: file.clone() };
    let tensor = match stored {
        Stored::Plain(dtype) => tensor(dtype, shape, data),
        Stored::Blocks(block) => {
            let sizes: Vec<i64> = [BLOCKS + block.id() as usize, block.elements()]
                .into_iter()
                .chain(shape.iter().copied())
                .map(|size| size as i64)
                .collect();
            let header = NDArray::new(&[sizes.len()], &sizes)?;
            gguf.weights.insert(
                &format!("{name}{ENCODING}"),
                tensor(DType::I64, vec![sizes.len()], Bytes::from(header.bytes())),
            );
            tensor(DType::U8, vec![rows, row_bytes], data)
        }
    };
    gguf.weights.insert(&name, tensor);
    Ok(())
}

#[cfg(test)]
mod tests;
