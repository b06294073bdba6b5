//! Floating-point numbers of 16 bits, as bits.

/// The bits of the nearest bf16, ties to even; a NaN stays a NaN.
#[inline(always)]
pub(crate) fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    (if x.is_nan() { quiet } else { rounded }) as u16
}

/// The value of a bf16.
#[inline(always)]
pub(crate) fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The value of an f16.
#[inline(always)]
pub(crate) fn f16_value(bits: u16) -> f32 {
    // Exponent and fraction in their places; the product sets the exponent right, also of denormals.
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | u32::from(bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_like_half() {
        for bits in (0..=u32::MAX).step_by(65_521) {
            let x = f32::from_bits(bits);
            let (got, want) = (bf16_value(bf16_bits(x)), half::bf16::from_f32(x).to_f32());
            assert!(got == want || (got.is_nan() && want.is_nan()), "{x}");
        }
    }

    #[test]
    fn f16_values_are_exact() {
        for bits in 0..=u16::MAX {
            let (got, want) = (f16_value(bits), half::f16::from_bits(bits).to_f32());
            assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{bits:#x}: {got} for {want}");
        }
    }
}
