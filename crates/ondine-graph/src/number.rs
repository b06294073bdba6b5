//! f32 of any bits in JSON, for `#[serde(with)]`: infinities and NaN, which JSON cannot write, as their bits in text.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    /// As f64, which reads back as the same f32 however the reader rounds.
    Finite(f64),
    Bits(String),
}

pub(crate) fn serialize<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    let number = match value.is_finite() {
        true => Number::Finite(f64::from(*value)),
        false => Number::Bits(format!("{:08x}", value.to_bits())),
    };
    number.serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    match Number::deserialize(deserializer)? {
        Number::Finite(value) => Ok(value as f32),
        Number::Bits(text) => u32::from_str_radix(&text, 16).map(f32::from_bits).map_err(D::Error::custom),
    }
}
