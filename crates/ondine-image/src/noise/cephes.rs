//! Single-precision log, sine and cosine after Cephes (Moshier), in the order of operations that
//! torch's AVX2 build runs.
//!
//! The order, and which products are fused into the addition after them, decide the last bit, so
//! nothing here may be rearranged. Arguments are those of Box-Muller: `ln` sees (0, 1], `sin_cos`
//! sees [0, 2 pi).

/// Evaluates a polynomial by Horner's rule, the highest coefficient first, every step fused.
fn horner(x: f32, coefficients: &[f32]) -> f32 {
    coefficients.iter().skip(1).fold(coefficients[0], |sum, &c| sum.mul_add(x, c))
}

/// The natural logarithm of a positive number.
pub(super) fn ln(x: f32) -> f32 {
    const P: [f32; 9] = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_84e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_7e-1,
        0.200_007_14,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;

    // x = 2^e * m with m in [sqrt(1/2), sqrt(2)), and from here on m - 1.
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let mut e = ((bits >> 23) as f32 - 127.0) + 1.0;
    let mut m = f32::from_bits((bits & 0x807f_ffff) | 0x3f00_0000);
    if m < std::f32::consts::FRAC_1_SQRT_2 {
        e -= 1.0;
        m = (m - 1.0) + m;
    } else {
        m -= 1.0;
    }

    let square = m * m;
    let tail = horner(m, &P) * m;
    let tail = tail.mul_add(square, e * LN2_LOW);
    let tail = (-square).mul_add(0.5, tail);
    e.mul_add(LN2_HIGH, m + tail)
}

/// Sine and cosine of an angle that is not negative.
pub(super) fn sin_cos(angle: f32) -> (f32, f32) {
    const COS: [f32; 3] = [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2];
    const SIN: [f32; 3] = [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1];
    // Pi / 4 in three parts, negated, for a reduction that loses no bits.
    const PI_4: [f32; 3] = [-0.785_156_25, -2.418_756_5e-4, -3.774_895e-8];

    let octant = ((angle * (4.0 / std::f32::consts::PI)) as i32 + 1) & !1;
    let x = PI_4.iter().fold(angle, |rest, &part| (octant as f32).mul_add(part, rest));
    let square = x * x;

    let cos = horner(square, &COS) * square;
    let cos = cos.mul_add(square, -(square * 0.5)) + 1.0;
    let sin = horner(square, &SIN) * square;
    let sin = sin.mul_add(x, x);

    let (sin, cos) = if octant & 2 == 0 { (sin, cos) } else { (cos, sin) };
    let sin = if octant & 4 == 0 { sin } else { -sin };
    let cos = if (octant - 2) & 4 == 0 { -cos } else { cos };
    (sin, cos)
}
