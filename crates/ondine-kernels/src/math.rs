//! Elementary functions without branches, so that loops over them become vector code on every tier.
//!
//! All are within 3.5 ulp of the true value, keep NaN, and have the right limits at the infinities.

use crate::arch::Isa;

/// A function applied to each element of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `x * sigmoid(x)`
    Silu,
    /// `x * (1 + erf(x / sqrt 2)) / 2`
    Gelu,
    /// [`Activation::Gelu`] by its approximation with the hyperbolic tangent.
    GeluTanh,
    /// `x * sigmoid(1.702 x)`
    QuickGelu,
    /// `max(x, 0)`
    Relu,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
}

/// 1.5 * 2^23: adding it to a number leaves the nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `e^x`; denormal results are kept.
#[inline(always)]
pub(crate) fn exp<I: Isa>(x: f32) -> f32 {
    const COEFFICIENTS: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.000_000_1e-1];
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let shifted = I::mul_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = I::mul_add(n, -0.693_359_4, x);
    let r = I::mul_add(n, 2.121_944_4e-4, r);
    let p = horner::<I, 6>(&COEFFICIENTS, r);
    let p = I::mul_add(p, r * r, r + 1.0);
    // 2^n in two factors, since n may lie outside the range of exponents.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// `2^x` for `x` up to 1, at least `2^-126`.
#[inline(always)]
pub(crate) fn exp2<I: Isa>(x: f32) -> f32 {
    power::<I, 7>(
        &[1.535_336_2e-4, 1.339_887_4e-3, 9.618_437e-3, 5.550_332_5e-2, 2.402_264_8e-1, 6.931_472e-1, 1.0],
        x,
    )
}

/// [`exp2`] with a relative error of `2^-13`.
#[inline(always)]
pub(crate) fn exp2_coarse<I: Isa>(x: f32) -> f32 {
    power::<I, 4>(&[5.517_167e-2, 2.426_111_2e-1, 6.932_61e-1, 9.999_281e-1], x)
}

/// `2^x` by a polynomial for the fraction, -0.5..=0.5, to whose exponent the integer is added.
#[inline(always)]
fn power<I: Isa, const N: usize>(coefficients: &[f32; N], x: f32) -> f32 {
    let x = if x < -126.0 { -126.0 } else { x };
    let shifted = x + ROUND;
    let p = horner::<I, N>(coefficients, x - (shifted - ROUND));
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// A polynomial, the highest power first.
#[inline(always)]
fn horner<I: Isa, const N: usize>(coefficients: &[f32; N], x: f32) -> f32 {
    let mut p = coefficients[0];
    for &c in &coefficients[1..] {
        p = I::mul_add(p, x, c);
    }
    p
}

/// The error function. Two minimax polynomials by N. Juffa.
#[inline(always)]
pub(crate) fn erf<I: Isa>(x: f32) -> f32 {
    const NEAR: [f32; 6] =
        [-5.991_05e-4, 4.993_396e-3, -2.676_673_4e-2, 1.128_180_2e-1, -3.761_248_6e-1, 1.283_791_5e-1];
    const FAR: [f32; 7] = [
        1.729_489_3e-5,
        -3.832_086_8e-4,
        3.883_934_4e-3,
        -2.425_456e-2,
        1.067_778_5e-1,
        6.348_466_9e-1,
        1.287_175_1e-1,
    ];
    let t = x.abs();
    let near = I::mul_add(horner::<I, 6>(&NEAR, x * x), x, x);
    let capped = if t > 4.0 { 4.0 } else { t };
    let far = I::mul_add(horner::<I, 7>(&FAR, capped), capped, capped);
    let far = (1.0 - exp::<I>(-far)).copysign(x);
    if t > 0.927_734_4 { far } else { near }
}

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<I: Isa>(x: f32) -> f32 {
    const NEAR: [f32; 5] = [-5.704_988_7e-3, 2.063_908_9e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328_2e-1];
    let t = x.abs();
    let square = x * x;
    let near = I::mul_add(horner::<I, 5>(&NEAR, square) * square, x, x);
    let far = (1.0 - 2.0 / (exp::<I>(t + t) + 1.0)).copysign(x);
    if t > 0.625 { far } else { near }
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub(crate) fn sigmoid<I: Isa>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<I>(-x))
}

#[inline(always)]
fn gelu<I: Isa>(x: f32) -> f32 {
    let half = 0.5 * x;
    I::mul_add(half, erf::<I>(x * std::f32::consts::FRAC_1_SQRT_2), half)
}

#[inline(always)]
fn gelu_tanh<I: Isa>(x: f32) -> f32 {
    let half = 0.5 * x;
    let inner = 0.797_884_6 * I::mul_add(0.044_715 * x * x, x, x);
    I::mul_add(half, tanh::<I>(inner), half)
}

/// Applies `activation` to every element.
#[inline(always)]
pub(crate) fn activate<I: Isa>(activation: Activation, values: &mut [f32]) {
    #[inline(always)]
    fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
        for value in values {
            *value = f(*value);
        }
    }
    match activation {
        Activation::None => {}
        Activation::Silu => each(values, |x| x * sigmoid::<I>(x)),
        Activation::Gelu => each(values, gelu::<I>),
        Activation::GeluTanh => each(values, gelu_tanh::<I>),
        Activation::QuickGelu => each(values, |x| x * sigmoid::<I>(1.702 * x)),
        Activation::Relu => each(values, |x| if x < 0.0 { 0.0 } else { x }),
        Activation::Sigmoid => each(values, sigmoid::<I>),
        Activation::Tanh => each(values, tanh::<I>),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{arch::Generic, naive::erf as erf_f64};

    /// Distance in units of the last place of `want`.
    fn ulps(got: f32, want: f64) -> f64 {
        let ulp = f64::from((want as f32).abs().next_up()) - f64::from((want as f32).abs());
        (f64::from(got) - want).abs() / ulp
    }

    fn worst(range: f32, f: impl Fn(f32) -> f32, oracle: impl Fn(f64) -> f64) -> f64 {
        let count = 200_000;
        (-count..=count)
            .map(|i| range * (i as f32 / count as f32))
            .map(|x| ulps(f(x), oracle(f64::from(x))))
            .fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_close_to_f64() {
        assert!(worst(104.0, exp::<Generic>, f64::exp) < 2.5);
        assert!(worst(6.0, erf::<Generic>, erf_f64) < 2.5);
        assert!(worst(20.0, tanh::<Generic>, f64::tanh) < 2.5);
        assert!(worst(80.0, sigmoid::<Generic>, |x| 1.0 / (1.0 + (-x).exp())) < 3.5);
        #[cfg(target_arch = "x86_64")]
        {
            use crate::arch::Avx2;
            assert!(worst(104.0, exp::<Avx2>, f64::exp) < 2.0);
            assert!(worst(6.0, erf::<Avx2>, erf_f64) < 2.0);
            assert!(worst(20.0, tanh::<Avx2>, f64::tanh) < 2.0);
            assert!(worst(80.0, sigmoid::<Avx2>, |x| 1.0 / (1.0 + (-x).exp())) < 3.5);
        }
    }

    #[test]
    fn powers_of_two_are_close_to_f64() {
        assert!(worst(1.0, |x| exp2::<Generic>(63.5 * x - 62.5), |x| ((63.5 * x as f32 - 62.5) as f64).exp2()) < 2.5);
        assert!(worst(1.0, |x| exp2_coarse::<Generic>(63.5 * x - 62.5), |x| ((63.5 * x as f32 - 62.5) as f64).exp2()) < 2048.0);
        assert_eq!([exp2::<Generic>(0.0), exp2::<Generic>(-3.0)], [1.0, 0.125]);
        assert!(exp2::<Generic>(f32::NEG_INFINITY) < 1.2e-38);
        assert!(exp2::<Generic>(f32::NAN).is_nan());
    }

    #[test]
    fn limits_hold() {
        let inf = f32::INFINITY;
        assert_eq!([exp::<Generic>(inf), exp::<Generic>(-inf), exp::<Generic>(0.0)], [inf, 0.0, 1.0]);
        assert_eq!([exp::<Generic>(1e30), exp::<Generic>(-1e30)], [inf, 0.0]);
        assert_eq!([erf::<Generic>(inf), erf::<Generic>(-inf), erf::<Generic>(1e30)], [1.0, -1.0, 1.0]);
        assert_eq!([tanh::<Generic>(inf), tanh::<Generic>(-inf), tanh::<Generic>(1e30)], [1.0, -1.0, 1.0]);
        assert_eq!([sigmoid::<Generic>(inf), sigmoid::<Generic>(-inf)], [1.0, 0.0]);
        for f in [exp::<Generic>, erf::<Generic>, tanh::<Generic>, sigmoid::<Generic>] {
            assert!(f(f32::NAN).is_nan());
        }
    }

    #[test]
    fn bf16_rounds_like_half() {
        for bits in (0..=u32::MAX).step_by(65_521) {
            let x = f32::from_bits(bits);
            let (got, want) = (bf16_value(bf16_bits(x)), half::bf16::from_f32(x).to_f32());
            assert!(got == want || (got.is_nan() && want.is_nan()), "{x}");
        }
    }
}
