//! Functions of one number that networks use rarely, from series and formulas that converge in f64.

use ondine_graph::Elementary;

use crate::number::{ELEMENTARY, Real, UNIT};

pub(super) fn map<R: Real>(function: Elementary, x: R) -> R {
    // What only moves to a neighbouring whole number is exact.
    match function {
        Elementary::Floor => x.map(0.0, f64::floor),
        Elementary::Ceil => x.map(0.0, f64::ceil),
        Elementary::Round => x.map(0.0, f64::round_ties_even),
        Elementary::Trunc => x.map(0.0, f64::trunc),
        Elementary::Sign => x.map(0.0, |x| {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                0.0
            }
        }),
        Elementary::Tan => x.map(ELEMENTARY, f64::tan),
        Elementary::Asin => x.map(ELEMENTARY, f64::asin),
        Elementary::Acos => x.map(ELEMENTARY, f64::acos),
        Elementary::Atan => x.map(ELEMENTARY, f64::atan),
        Elementary::Sinh => x.map(ELEMENTARY, f64::sinh),
        Elementary::Cosh => x.map(ELEMENTARY, f64::cosh),
        Elementary::Asinh => x.map(ELEMENTARY, f64::asinh),
        Elementary::Acosh => x.map(ELEMENTARY, f64::acosh),
        Elementary::Atanh => x.map(ELEMENTARY, f64::atanh),
        Elementary::Erf => x.map(ELEMENTARY, erf),
        Elementary::ExpM1 => x.map(ELEMENTARY, f64::exp_m1),
        Elementary::Log1p => x.map(ELEMENTARY, f64::ln_1p),
        Elementary::Log2 => x.map(ELEMENTARY, f64::log2),
        Elementary::Log10 => x.map(ELEMENTARY, f64::log10),
        Elementary::Exp2 => x.map(ELEMENTARY, f64::exp2),
        Elementary::Reciprocal => x.map(1.0, f64::recip),
        Elementary::Softplus => x.map(ELEMENTARY, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        // Where they cross zero they are the difference of larger numbers.
        Elementary::LogGamma => x.map(ELEMENTARY, log_gamma).off(ELEMENTARY * UNIT),
        Elementary::Digamma => x.map(ELEMENTARY, digamma).off(ELEMENTARY * UNIT),
        Elementary::ErfInv => x.map(ELEMENTARY, erf_inv),
    }
}

/// The error function: its series with positive terms, or its continued fraction.
pub(super) fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x.abs() > 2.0 { (1.0 - erfc(x.abs())).copysign(x) } else { series(x.abs()).copysign(x) }
}

/// `2 / sqrt(pi) e^(-x^2) (x + 2 x^3 / 3 + 4 x^5 / 15 + ..)`
fn series(x: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term > sum * 1e-18 {
        odd += 2.0;
        term *= 2.0 * x * x / odd;
        sum += term;
    }
    sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
}

/// What is missing of [`erf`] to 1, of numbers that are not negative.
fn erfc(x: f64) -> f64 {
    if x < 2.0 {
        return 1.0 - series(x);
    }
    let fraction = (1..200).rev().fold(x, |rest, n| x + f64::from(n) / 2.0 / rest);
    (-x * x).exp() / fraction / std::f64::consts::PI.sqrt()
}

/// The number whose error function is `y`, by halving the interval that holds it.
fn erf_inv(y: f64) -> f64 {
    if y.is_nan() || y.abs() > 1.0 {
        return f64::NAN;
    }
    if y.abs() == 1.0 {
        return y * f64::INFINITY;
    }
    if y == 0.0 {
        return y;
    }
    // Beyond the middle what is missing to 1 is known better than the number itself.
    let below = |x: f64| if y.abs() < 0.5 { series(x) < y.abs() } else { erfc(x) > 1.0 - y.abs() };
    let (mut low, mut high) = (0.0, 7.0);
    for _ in 0..120 {
        let middle = (low + high) / 2.0;
        if below(middle) { low = middle } else { high = middle }
    }
    low.copysign(y)
}

/// `ln |gamma(x)|` by Lanczos' approximation (g = 7, 9 terms).
fn log_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x.is_infinite() {
        return f64::INFINITY;
    }
    if x < 0.5 {
        let sine = (std::f64::consts::PI * (x - x.floor())).sin().abs();
        return (std::f64::consts::PI / sine).ln() - log_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let sum = TERMS[0] + (1..9).map(|i| TERMS[i] / (x + i as f64)).sum::<f64>();
    let shifted = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * shifted.ln() - shifted + sum.ln()
}

/// The derivative of [`log_gamma`]: the asymptotic series from 30 on, to which smaller numbers are brought.
fn digamma(x: f64) -> f64 {
    if x == 0.0 {
        return f64::INFINITY.copysign(-x);
    }
    if x <= 0.0 && x == x.floor() {
        return f64::NAN;
    }
    if x < 0.0 {
        let part = x - x.floor();
        return digamma(1.0 - x) - std::f64::consts::PI / (std::f64::consts::PI * part).tan();
    }
    let steps = (30.0 - x).max(0.0).ceil();
    let before: f64 = (0..steps as usize).map(|i| 1.0 / (x + i as f64)).sum();
    let far = x + steps;
    let square = 1.0 / (far * far);
    far.ln() - 0.5 / far - square / 12.0 + square * square / 120.0 - square * square * square / 252.0 - before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_those_of_the_tables() {
        // Abramowitz and Stegun 1964, tables 6.1 and 7.1.
        let near = |found: f64, wanted: f64| {
            assert!((found - wanted).abs() <= 1e-13 * wanted.abs().max(1.0), "{found} {wanted}");
        };
        near(erf(0.5), 0.520_499_877_813_046_5);
        near(erf(1.0), 0.842_700_792_949_714_9);
        near(erf(-3.0), -0.999_977_909_503_001_4);
        near(log_gamma(4.5), 2.453_736_570_842_442_3);
        near(log_gamma(-0.5), 1.265_512_123_484_645_4);
        near(digamma(1.0), -0.577_215_664_901_532_9);
        near(digamma(-0.5), 0.036_489_973_978_576_52);
        near(digamma(20.0), 2.970_523_992_242_149);
        for y in [-0.999_9, -0.3, 1e-6, 0.499, 0.501, 0.99] {
            near(erf(erf_inv(y)), y);
        }
    }
}
