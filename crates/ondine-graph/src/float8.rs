//! Floating-point numbers of 8 bits (Micikevicius et al. 2022), in which weights are stored.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A type of floating-point numbers of 8 bits, a sign first in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Float8 {
    /// 4 bits of exponent, 3 of mantissa, no infinities: `torch.float8_e4m3fn`, up to 448.
    E4M3,
    /// 5 bits of exponent, 2 of mantissa, the upper half of binary16: `torch.float8_e5m2`, up to 57344.
    E5M2,
}

/// What all codes of each type stand for.
static NUMBERS: [[f32; 256]; 2] = [numbers(Float8::E4M3), numbers(Float8::E5M2)];

const fn numbers(format: Float8) -> [f32; 256] {
    let mut numbers = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        numbers[code] = number(format, code as u32);
        code += 1;
    }
    numbers
}

const fn number(format: Float8, code: u32) -> f32 {
    let (mantissa_bits, bias) = match format {
        Float8::E4M3 => (3, 7),
        Float8::E5M2 => (2, 15),
    };
    let (sign, magnitude) = (code >> 7, code & 0x7f);
    let (exponent, mantissa) = (magnitude >> mantissa_bits, magnitude & ((1 << mantissa_bits) - 1));
    let of_f32 = mantissa << (23 - mantissa_bits);
    let special = match format {
        Float8::E4M3 => magnitude == 0x7f,
        Float8::E5M2 => exponent == 31,
    };
    if exponent == 0 {
        // The last place is 2^(1 - bias - bits of the mantissa).
        let place = f32::from_bits((127 + 1 - bias - mantissa_bits) << 23);
        let size = mantissa as f32 * place;
        return if sign == 1 { -size } else { size };
    }
    let exponent = if special { 0xff } else { exponent + 127 - bias };
    f32::from_bits(sign << 31 | exponent << 23 | of_f32)
}

impl Float8 {
    /// Every type.
    pub const ALL: [Self; 2] = [Self::E4M3, Self::E5M2];

    /// The name in safetensors headers, such as `F8_E4M3`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::E4M3 => "F8_E4M3",
            Self::E5M2 => "F8_E5M2",
        }
    }

    /// The number of the type in the header of an encoded weight.
    #[must_use]
    pub const fn id(self) -> usize {
        match self {
            Self::E4M3 => 0,
            Self::E5M2 => 1,
        }
    }

    /// The type of this number.
    #[must_use]
    pub fn from_id(id: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.id() == id)
    }

    /// What a code stands for.
    #[must_use]
    pub fn number(self, code: u8) -> f32 {
        self.numbers()[usize::from(code)]
    }

    /// What all codes stand for.
    #[must_use]
    pub fn numbers(self) -> &'static [f32; 256] {
        &NUMBERS[self.id()]
    }
}

impl fmt::Display for Float8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use crate::{bytes::Bytes, weights::Weights};

    use super::*;

    #[test]
    fn all_codes_are_what_torch_makes_of_them() {
        let golden = Bytes::from(&include_bytes!("../tests/data/float8.safetensors")[..]);
        let golden = Weights::from_safetensors("float8", &golden).unwrap();
        for (format, name) in [(Float8::E4M3, "e4m3"), (Float8::E5M2, "e5m2")] {
            let wanted = golden.to_f32(&format!("{name}.numbers")).unwrap();
            let read = golden.to_f32(&format!("{name}.codes")).unwrap();
            for code in 0..=255 {
                let wanted = wanted[usize::from(code)];
                for number in [format.number(code), read[usize::from(code)]] {
                    let same = number.to_bits() == wanted.to_bits() || number.is_nan() && wanted.is_nan();
                    assert!(same, "{format} {code:#x}: {number}, torch has {wanted}");
                }
            }
        }
        let not_numbers = Float8::ALL.map(|format| format.numbers().iter().filter(|number| number.is_nan()).count());
        assert_eq!(not_numbers, [2, 6]);
    }
}
