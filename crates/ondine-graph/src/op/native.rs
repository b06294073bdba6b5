//! The one open door for machines: operators that a backend makes and runs itself.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{dim::Dim, error::Result, signature::Signature};

/// An operator of one backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Native {
    /// What it is called where operators are listed, such as `quantize_rows`.
    pub name: Arc<str>,
    /// All that the backend needs to know of it; nobody else reads it.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub data: Box<[u8]>,
    /// Sizes that the backend wants to know of each call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dims: Vec<Dim>,
    /// Shape and type of its value.
    pub result: Signature,
}

impl Native {
    pub(super) fn map_dims(&self, change: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        let dims = self.dims.iter().map(&mut *change).collect::<Result<_>>()?;
        let result = Signature { shape: self.result.shape.map(change)?, dtype: self.result.dtype };
        Ok(Self { name: self.name.clone(), data: self.data.clone(), dims, result })
    }
}

#[expect(clippy::borrowed_box, reason = "serde hands over the field as it is")]
fn to_hex<S: Serializer>(data: &Box<[u8]>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&Hex(data))
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Box<[u8]>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.len() == 2)?;
        u8::from_str_radix(digits, 16).ok()
    });
    pairs.collect::<Option<_>>().ok_or_else(|| D::Error::custom("no bytes in hexadecimal digits"))
}
