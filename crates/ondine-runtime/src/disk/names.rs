//! What the kernels' types are called in files, and numbers that JSON has no word for.

use serde::{Deserialize, Serialize};

/// [`ondine_kernels::Activation`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "ondine_kernels::Activation")]
pub(crate) enum Activation {
    None,
    Silu,
    Gelu,
    GeluTanh,
    QuickGelu,
    Relu,
    Sigmoid,
    Tanh,
    Relu6,
    HardSigmoid,
    HardSwish,
}

/// [`ondine_kernels::Elementary`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "ondine_kernels::Elementary")]
pub(crate) enum Function {
    Floor,
    Ceil,
    Round,
    Trunc,
    Sign,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    ExpM1,
    Log1p,
    Log2,
    Log10,
    Exp2,
    Reciprocal,
    Softplus,
    LogGamma,
    Digamma,
    ErfInv,
}

/// [`ondine_kernels::Fold`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "ondine_kernels::Fold")]
pub(crate) enum Fold {
    Max,
    Average,
}

/// f32 of any bits: infinities and NaN, which JSON cannot write, as their bits in text.
pub(crate) mod number {
    use super::*;
    use serde::{Deserializer, Serializer, de::Error};

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
}
