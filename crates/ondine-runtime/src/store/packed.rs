//! Files of packed weights: entries of the cache, and what [`Specialized::save`](crate::Specialized::save) writes.
//!
//! Eight bytes of magic, the length of the header and its hash, the header in JSON; constants; at the next page the
//! packed weights; the hash of these. Header and constants are checked whenever the file is opened, the length too.
//! The weights are mapped and not read, so their hash is checked only on demand: what changes a byte in the middle of
//! a file on the disk does not come from here, and would do the same to any other file of weights.

use std::{collections::BTreeMap, io::Write, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    lowered::{Entry, StoredUse},
    options::Precision,
};
use ondine_graph::{
    Bytes, Result, fail,
    file::{json, parse},
    folder::graph::StoredGraph,
};

const MAGIC: &[u8; 8] = b"ONDPACK3";
const HASH: usize = blake3::OUT_LEN;
const PAGE: usize = 4096;
const LINE: usize = 64;
/// Everything before the header.
const HEAD: usize = MAGIC.len() + 8 + HASH;

/// What packed weights are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The name of the asset.
    pub model: String,
    /// Its functions.
    pub functions: Vec<String>,
    /// The type that the weights are packed to.
    pub precision: Precision,
    /// The tier of processors that they are packed for, such as `avx512`.
    pub tier: String,
    /// The version of the engine.
    pub engine: String,
}

/// What stands before the weights.
#[derive(Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) about: About,
    /// Their offsets count from the beginning of the packed weights.
    pub(crate) entries: Vec<Entry>,
    /// The functions, if the file is more than an entry of the cache.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) functions: BTreeMap<Arc<str>, StoredFunction>,
    constants_bytes: usize,
    constants_hash: String,
}

/// A function of a file.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredFunction {
    pub(crate) graph: StoredGraph,
    pub(crate) uses: Vec<StoredUse>,
    /// The spaces of values and of states, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) spaces: Vec<u8>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) states: Vec<u8>,
}

impl Header {
    pub(crate) fn new(about: About, entries: &[Entry]) -> Self {
        Self {
            about,
            entries: entries.to_vec(),
            functions: BTreeMap::new(),
            constants_bytes: 0,
            constants_hash: String::new(),
        }
    }

    /// Bytes of packed weights.
    pub(crate) fn packed_bytes(&self) -> Option<usize> {
        self.entries.last().map_or(Some(0), |last| last.offset.checked_add(last.len))
    }
}

/// Passes bytes on and hashes them.
pub(crate) struct Hashing<'a, W: Write> {
    out: &'a mut W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let len = self.out.write(bytes)?;
        self.hasher.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// A header as it goes to the disk, with all that stands before the weights.
pub(crate) struct Front(Vec<u8>);

impl Front {
    pub(crate) fn new(mut header: Header, constants: &[u8]) -> Result<Self> {
        header.constants_bytes = constants.len();
        header.constants_hash = blake3::hash(constants).to_hex().to_string();
        let text = json(&header)?;
        let mut front = Vec::with_capacity(HEAD + text.len() + constants.len() + LINE + PAGE);
        front.extend_from_slice(MAGIC);
        front.extend_from_slice(&(text.len() as u64).to_le_bytes());
        front.extend_from_slice(blake3::hash(&text).as_bytes());
        front.extend_from_slice(&text);
        front.resize(front.len().next_multiple_of(LINE), 0);
        front.extend_from_slice(constants);
        front.resize(front.len().next_multiple_of(PAGE), 0);
        Ok(Self(front))
    }

    /// Bytes of a file with so many bytes of packed weights.
    pub(crate) fn file_bytes(&self, packed: usize) -> u64 {
        (self.0.len() + packed + HASH) as u64
    }

    /// Writes a file whose packed weights `body` writes.
    pub(crate) fn write<W: Write>(
        &self,
        out: &mut W,
        body: impl FnOnce(&mut Hashing<'_, W>) -> Result<()>,
    ) -> Result<()> {
        out.write_all(&self.0)?;
        let mut hashing = Hashing { out, hasher: blake3::Hasher::new() };
        body(&mut hashing)?;
        let hash = hashing.hasher.finalize();
        Ok(out.write_all(hash.as_bytes())?)
    }
}

/// A file of packed weights whose front is as it was written and whose length is right.
pub(crate) struct PackedFile {
    pub(crate) header: Header,
    pub(crate) constants: Bytes,
    /// Where the packed weights begin.
    pub(crate) start: usize,
    hash: Bytes,
    packed: Bytes,
}

impl PackedFile {
    /// True if the bytes begin like those of such a file.
    pub(crate) fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    pub(crate) fn read(bytes: &Bytes) -> Result<Self> {
        if !Self::is_one(bytes) {
            fail!(Format, "no file of packed weights of this version; build it again");
        }
        let damaged = "the file is cut or altered; build it again";
        let Some(header) = header_text(bytes) else { fail!(Format, "{damaged}") };
        let header: Header = parse(header)?;
        let front = header_text(bytes).map_or(0, |text| HEAD + text.len()).next_multiple_of(LINE);
        let place = || {
            let constants = bytes.slice(front, header.constants_bytes)?;
            let start = (front + header.constants_bytes).next_multiple_of(PAGE);
            let packed = bytes.slice(start, header.packed_bytes()?)?;
            let hash = bytes.slice(start + packed.len(), HASH)?;
            (start + packed.len() + HASH == bytes.len()).then_some((constants, start, packed, hash))
        };
        let Some((constants, start, packed, hash)) = place() else { fail!(Format, "{damaged}") };
        if blake3::hash(&constants).to_hex().as_str() != header.constants_hash {
            fail!(Format, "{damaged}");
        }
        Ok(Self { header, constants, start, hash, packed })
    }

    /// Reads all packed weights and compares their hash.
    pub(crate) fn check(&self) -> Result<()> {
        if blake3::hash(&self.packed).as_bytes()[..] != self.hash[..] {
            fail!(Format, "the packed weights are not those that were written; build them again");
        }
        Ok(())
    }
}

/// The header, if it is whole and as it was written.
fn header_text(bytes: &[u8]) -> Option<&[u8]> {
    let len = u64::from_le_bytes(bytes.get(MAGIC.len()..)?.first_chunk().copied()?);
    let hash = bytes.get(MAGIC.len() + 8..HEAD)?;
    let text = bytes.get(HEAD..)?.get(..usize::try_from(len).ok()?)?;
    (blake3::hash(text).as_bytes()[..] == *hash).then_some(text)
}
