//! The numbers, texts and lists of a GGUF header, one after the other.

use std::sync::Arc;

use ondine_graph::{Result, fail};

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// An integer of any width.
    Integer(i64),
    /// A floating-point number of any width.
    Float(f64),
    /// A text; what is no UTF-8 has been replaced.
    Text(Arc<str>),
    /// Several values of one kind.
    List(Vec<Value>),
}

/// Lists in lists nest no deeper than this.
const MAX_NESTING: usize = 4;

/// Reads from the front of a file.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The first byte that has not been read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        match self.bytes.get(self.at..).and_then(|rest| rest.get(..len)) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => {
                fail!(
                    Format,
                    "no whole GGUF file: it ends after {} bytes, in its header; copy it again",
                    self.bytes.len()
                )
            }
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The number of things to come, of which each takes at least `least` bytes.
    pub(super) fn count(&mut self, least: usize) -> Result<usize> {
        let count = self.u64()?;
        let rest = (self.bytes.len() - self.at) / least;
        match usize::try_from(count) {
            Ok(count) if count <= rest => Ok(count),
            _ => fail!(
                Format,
                "no whole GGUF file: {count} entries are announced, there is room for {rest}; copy it again"
            ),
        }
    }

    pub(super) fn text(&mut self) -> Result<Arc<str>> {
        let len = self.count(1)?;
        Ok(String::from_utf8_lossy(self.take(len)?).into())
    }

    /// A value of the kind that the format gives this number.
    pub(super) fn value(&mut self, kind: u32, nesting: usize) -> Result<Value> {
        Ok(match kind {
            0 => Value::Integer(self.array().map(|[byte]| byte.into())?),
            1 => Value::Integer(self.array().map(|[byte]| byte.cast_signed().into())?),
            2 => Value::Integer(self.array().map(u16::from_le_bytes)?.into()),
            3 => Value::Integer(self.array().map(i16::from_le_bytes)?.into()),
            4 => Value::Integer(self.u32()?.into()),
            5 => Value::Integer(self.array().map(i32::from_le_bytes)?.into()),
            6 => Value::Float(self.array().map(f32::from_le_bytes)?.into()),
            7 => Value::Bool(self.array::<1>()? != [0]),
            8 => Value::Text(self.text()?),
            9 => {
                let kind = self.u32()?;
                if nesting == MAX_NESTING {
                    fail!(Format, "lists in lists, more than {MAX_NESTING} deep");
                }
                let count = self.count(least_bytes(kind)?)?;
                Value::List((0..count).map(|_| self.value(kind, nesting + 1)).collect::<Result<_>>()?)
            }
            10 => match i64::try_from(self.u64()?) {
                Ok(value) => Value::Integer(value),
                Err(_) => fail!(Format, "an integer above 2^63"),
            },
            11 => Value::Integer(self.array().map(i64::from_le_bytes)?),
            12 => Value::Float(self.array().map(f64::from_le_bytes)?),
            kind => fail!(Format, "a value of the unknown kind {kind}"),
        })
    }
}

/// The least bytes of a value of a kind.
fn least_bytes(kind: u32) -> Result<usize> {
    Ok(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => 12,
        kind => fail!(Format, "a list of the unknown kind {kind}"),
    })
}
