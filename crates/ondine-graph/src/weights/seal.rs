//! What bytes must be, by a sum that was taken when they were written.

use std::sync::{Arc, OnceLock};

use crate::{
    bytes::Bytes,
    error::{Result, fail},
};

/// A sum over bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// As zip archives have it.
    Crc32(u32),
    /// Of BLAKE3.
    Blake3([u8; 32]),
}

impl Sum {
    /// True if the bytes have this sum.
    #[must_use]
    pub fn is_of(self, bytes: &[u8]) -> bool {
        match self {
            Self::Crc32(sum) => crc32fast::hash(bytes) == sum,
            Self::Blake3(sum) => *blake3::hash(bytes).as_bytes() == sum,
        }
    }
}

/// Bytes with the sum that they must have. They are read when that is asked for the first time: large files are mapped,
/// and opening them reads none of it.
#[derive(Clone, Debug)]
pub struct Seal {
    place: Arc<str>,
    bytes: Bytes,
    sum: Sum,
    unbroken: Arc<OnceLock<bool>>,
}

impl Seal {
    /// A seal on `bytes`, which messages call `place`.
    #[must_use]
    pub fn new(place: impl Into<Arc<str>>, bytes: Bytes, sum: Sum) -> Self {
        Self { place: place.into(), bytes, sum, unbroken: Arc::default() }
    }

    /// Reads the bytes, unless that was done before.
    ///
    /// # Errors
    /// If they are not those that were written.
    pub fn check(&self) -> Result<()> {
        let read = || {
            let unbroken = self.sum.is_of(&self.bytes);
            self.bytes.forget();
            unbroken
        };
        if !*self.unbroken.get_or_init(read) {
            fail!(Format, "{}: the bytes are not those that were written; copy or export it again", self.place);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_other_bit_breaks_a_seal() {
        let text = b"123456789";
        let sums = [Sum::Crc32(0xCBF4_3926), Sum::Blake3(*blake3::hash(text).as_bytes())];
        for sum in sums {
            Seal::new("x", Bytes::from(&text[..]), sum).check().unwrap();
            for bit in 0..8 * text.len() {
                let mut other = *text;
                other[bit / 8] ^= 1 << (bit % 8);
                let seal = Seal::new("the file", Bytes::from(&other[..]), sum);
                let error = seal.check().unwrap_err().to_string();
                assert!(error.starts_with("the file: the bytes are not"), "{error}");
                assert!(seal.clone().check().is_err());
            }
        }
    }
}
