//! Elementary and special functions that networks use rarely: plain loops over scalar code on every tier.

use crate::{
    arch::Generic,
    math,
    rowwise::{GRAIN, for_rows},
    strided::{Strided, Walk},
    threads::Pool,
};

/// A function of one `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the function of that name")]
pub enum Elementary {
    Floor,
    Ceil,
    /// The nearest integer, halves to the even one.
    Round,
    /// Without what follows the point.
    Trunc,
    /// -1, 0 or 1; 0 of what is no number.
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
    /// `e^x - 1`
    ExpM1,
    /// `ln(1 + x)`
    Log1p,
    Log2,
    Log10,
    Exp2,
    /// `1 / x`
    Reciprocal,
    /// `ln(1 + e^x)`
    Softplus,
    /// The logarithm of the size of the gamma function.
    LogGamma,
    /// The derivative of the gamma function's logarithm.
    Digamma,
    /// The inverse of [`Self::Erf`].
    ErfInv,
}

impl Elementary {
    /// The function itself.
    #[must_use]
    pub fn of(self) -> fn(f32) -> f32 {
        match self {
            Self::Floor => f32::floor,
            Self::Ceil => f32::ceil,
            Self::Round => f32::round_ties_even,
            Self::Trunc => f32::trunc,
            Self::Sign => |x| if x == 0.0 || x.is_nan() { 0.0 } else { x.signum() },
            Self::Tan => f32::tan,
            Self::Asin => f32::asin,
            Self::Acos => f32::acos,
            Self::Atan => f32::atan,
            Self::Sinh => f32::sinh,
            Self::Cosh => f32::cosh,
            Self::Asinh => f32::asinh,
            // In f32 they lose digits near 1, where they are the logarithm of what is nearly nothing.
            Self::Acosh => |x| f64::from(x).acosh() as f32,
            Self::Atanh => |x| f64::from(x).atanh() as f32,
            Self::Erf => math::erf::<Generic>,
            Self::ExpM1 => f32::exp_m1,
            Self::Log1p => f32::ln_1p,
            Self::Log2 => f32::log2,
            Self::Log10 => f32::log10,
            Self::Exp2 => f32::exp2,
            Self::Reciprocal => f32::recip,
            Self::Softplus => |x| x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Self::LogGamma => |x| log_gamma(x.into()) as f32,
            Self::Digamma => |x| digamma(x.into()) as f32,
            Self::ErfInv => |x| erf_inv(x.into()) as f32,
        }
    }
}

/// `ln |gamma(x)|`: Stirling's series from 10 on, to which smaller numbers are brought by `gamma(x + 1) = x gamma(x)`.
fn log_gamma(mut x: f64) -> f64 {
    if x.is_infinite() {
        return f64::INFINITY;
    }
    if x < 0.5 {
        // Euler's reflection.
        let sine = (std::f64::consts::PI * (x - x.floor())).sin().abs();
        return (std::f64::consts::PI / sine).ln() - log_gamma(1.0 - x);
    }
    let mut product = 1.0;
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse / 1680.0))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - product.ln()
}

/// The derivative of [`log_gamma`], in the same way.
fn digamma(mut x: f64) -> f64 {
    if x == 0.0 {
        return f64::INFINITY.copysign(-x);
    }
    if x < 0.5 {
        if x == x.floor() {
            return f64::NAN;
        }
        return digamma(1.0 - x) - std::f64::consts::PI / (std::f64::consts::PI * (x - x.floor())).tan();
    }
    let mut sum = 0.0;
    while x < 10.0 {
        sum += 1.0 / x;
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = inverse * (1.0 / 12.0 - inverse * (1.0 / 120.0 - inverse * (1.0 / 252.0 - inverse / 240.0)));
    x.ln() - 0.5 / x - series - sum
}

/// The number whose error function is `y`: Winitzki's formula (2008), made exact by Newton's steps.
fn erf_inv(y: f64) -> f64 {
    if y.abs() >= 1.0 {
        return if y.abs() == 1.0 { y * f64::INFINITY } else { f64::NAN };
    }
    let log = (1.0 - y * y).ln();
    let a = 0.147;
    let half = 2.0 / (std::f64::consts::PI * a) + log / 2.0;
    let mut x = ((half * half - log / a).sqrt() - half).max(0.0).sqrt();
    for _ in 0..4 {
        // Beyond the middle what is missing to 1 is known better than the number itself.
        let error = (1.0 - y.abs()) - erfc(x);
        x += error / (-2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp());
    }
    x.copysign(y)
}

/// `1 - erf(x)` of positive numbers: the series near zero, the continued fraction away from it.
fn erfc(x: f64) -> f64 {
    let scale = (-x * x).exp() / std::f64::consts::PI.sqrt();
    if x < 2.0 {
        let (mut term, mut sum) = (2.0 * x, 2.0 * x);
        for n in 1..60 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        return 1.0 - scale * sum;
    }
    let mut fraction = 0.0;
    for n in (1..60).rev() {
        fraction = f64::from(n) / 2.0 / (x + fraction);
    }
    scale / (x + fraction)
}

/// `out = function(x)` for every element.
///
/// # Panics
/// If `x` and `out` differ in length.
pub fn map<A: Copy + Sync, B: Send>(pool: &Pool, function: impl Fn(A) -> B + Sync, x: &[A], out: &mut [B]) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    for_rows(pool, out, 1, GRAIN, |first, out| {
        for (out, &x) in out.iter_mut().zip(&x[first..]) {
            *out = function(x);
        }
    });
}

/// `out = function(a, b)` for every element of a dense array of the given shape.
///
/// # Panics
/// If `out` has not as many elements as `shape`, or an operand has not one stride per dimension or ends too early.
pub fn zip<A: Copy + Sync, B: Send>(
    pool: &Pool,
    function: impl Fn(A, A) -> B + Sync,
    shape: &[usize],
    a: Strided<'_, A>,
    b: Strided<'_, A>,
    out: &mut [B],
) {
    assert_eq!(out.len(), shape.iter().product::<usize>(), "the output is not of shape {shape:?}");
    if out.is_empty() {
        return;
    }
    let walk = Walk::new(shape, [a.strides, b.strides]);
    let (Some(&width), Some(&[a_step, b_step])) = (walk.sizes.last(), walk.strides.last()) else { return };
    let outer = walk.sizes.len() - 1;
    for_rows(pool, out, width, (GRAIN / width).max(1), |first, out| {
        for (row, out) in (first..).zip(out.chunks_exact_mut(width)) {
            let (mut rest, mut at) = (row, [0, 0]);
            for axis in (0..outer).rev() {
                let index = rest % walk.sizes[axis];
                rest /= walk.sizes[axis];
                at = [at[0] + index * walk.strides[axis][0], at[1] + index * walk.strides[axis][1]];
            }
            for (i, out) in out.iter_mut().enumerate() {
                *out = function(a.data[at[0] + i * a_step], b.data[at[1] + i * b_step]);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strided::broadcast_strides;

    #[test]
    fn rare_functions_are_those_of_the_tables() {
        let of = |function: Elementary, x: f32| f64::from(function.of()(x));
        // Abramowitz and Stegun 1964, tables 6.1 and 7.1.
        let table = [
            (Elementary::LogGamma, 0.5, 0.572_364_942_924_700_1),
            (Elementary::LogGamma, 1.0, 0.0),
            (Elementary::LogGamma, 4.5, 2.453_736_570_842_442_3),
            (Elementary::LogGamma, -0.5, 1.265_512_123_484_645_4),
            (Elementary::LogGamma, 100.0, 359.134_205_369_575_4),
            (Elementary::Digamma, 1.0, -0.577_215_664_901_532_9),
            (Elementary::Digamma, 0.5, -1.963_510_026_021_423_5),
            (Elementary::Digamma, -0.5, 0.036_489_973_978_576_52),
            (Elementary::Digamma, 20.0, 2.970_523_992_242_149),
            (Elementary::ErfInv, 0.5, 0.476_936_276_204_47),
            (Elementary::ErfInv, -0.5, -0.476_936_276_204_47),
            (Elementary::ErfInv, 0.842_700_8, 1.000_000_026_6),
            (Elementary::ErfInv, 0.0, 0.0),
        ];
        for (function, x, wanted) in table {
            let found = of(function, x);
            assert!((found - wanted).abs() <= 4e-7 * wanted.abs().max(1.0), "{function:?}({x}) = {found}");
        }
        for y in [-0.99, -0.3, 0.001, 0.7, 0.9999] {
            let back = of(Elementary::Erf, of(Elementary::ErfInv, y) as f32);
            assert!((back - f64::from(y)).abs() < 2e-6, "{y} {back}");
        }
        assert!(of(Elementary::ErfInv, 1.0).is_infinite() && of(Elementary::ErfInv, 1.5).is_nan());
        assert!(of(Elementary::LogGamma, 0.0).is_infinite());
    }

    #[test]
    fn functions_are_those_of_f64() {
        use Elementary::{Exp2, ExpM1, Log1p, Sinh, Softplus, Tan};
        let exact = |function, x: f64| match function {
            Tan => x.tan(),
            Log1p => x.ln_1p(),
            ExpM1 => x.exp_m1(),
            Softplus => x.exp().ln_1p(),
            Exp2 => x.exp2(),
            _ => x.sinh(),
        };
        for function in [Tan, Log1p, ExpM1, Softplus, Exp2, Sinh] {
            for i in 0..400 {
                let x = (i as f32 - 150.0) / 160.0;
                let (found, wanted) = (f64::from(function.of()(x)), exact(function, f64::from(x)));
                assert!((found - wanted).abs() <= 1e-6 * wanted.abs().max(0.1), "{function:?}({x}) = {found}");
            }
        }
        assert_eq!((Elementary::Round.of()(2.5), Elementary::Round.of()(-1.5)), (2.0, -2.0));
        assert!((Elementary::Erf.of()(0.5) - 0.520_499_9).abs() < 1e-6);
    }

    #[test]
    fn operands_are_repeated_along_missing_dimensions() {
        let pool = Pool::new(2);
        let (a, b) = ([1, 2, 3], [10, 20]);
        let shape = [2, 3];
        let (a_strides, b_strides) = (broadcast_strides(&[3], &shape), broadcast_strides(&[2, 1], &shape));
        let (a, b) = (Strided { data: &a, strides: &a_strides }, Strided { data: &b, strides: &b_strides });
        let mut out = [0; 6];
        zip(&pool, |a: i32, b| a + b, &shape, a, b, &mut out);
        assert_eq!(out, [11, 12, 13, 21, 22, 23]);
    }
}
