//! Special functions, in terms of others: series and fractions of the Cephes library (Moshier 1984) and others named
//! where they stand.

use ondine_graph::{Binary, DType, Dim, Elementary, NDArray, Op, Reduce, Result, Scan, fail};

use super::{
    reduce::{log_sum, reduce},
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("i0", |b, c| of(b, c, |_, x| Ok(bessel_i(x, 0) * x.abs().exp()))),
    Rule::new("special_i0", |b, c| of(b, c, |_, x| Ok(bessel_i(x, 0) * x.abs().exp()))),
    Rule::new("special_modified_bessel_i0", |b, c| of(b, c, |_, x| Ok(bessel_i(x, 0) * x.abs().exp()))),
    Rule::new("special_i0e", |b, c| of(b, c, |_, x| Ok(bessel_i(x, 0)))),
    Rule::new("special_i1", |b, c| of(b, c, |_, x| Ok(bessel_i(x, 1) * x.abs().exp()))),
    Rule::new("special_modified_bessel_i1", |b, c| of(b, c, |_, x| Ok(bessel_i(x, 1) * x.abs().exp()))),
    Rule::new("special_i1e", |b, c| of(b, c, |_, x| Ok(bessel_i(x, 1)))),
    Rule::new("special_modified_bessel_k0", |b, c| of(b, c, |b, x| Ok(bessel_k(b, x, 0)? * (-x.clone()).exp()))),
    Rule::new("special_modified_bessel_k1", |b, c| of(b, c, |b, x| Ok(bessel_k(b, x, 1)? * (-x.clone()).exp()))),
    Rule::new("special_scaled_modified_bessel_k0", |b, c| of(b, c, |b, x| bessel_k(b, x, 0))),
    Rule::new("special_scaled_modified_bessel_k1", |b, c| of(b, c, |b, x| bessel_k(b, x, 1))),
    Rule::new("special_bessel_j0", |b, c| of(b, c, |b, x| bessel(b, x, 0, false))),
    Rule::new("special_bessel_j1", |b, c| of(b, c, |b, x| bessel(b, x, 1, false))),
    Rule::new("special_bessel_y0", |b, c| of(b, c, |b, x| bessel(b, x, 0, true))),
    Rule::new("special_bessel_y1", |b, c| of(b, c, |b, x| bessel(b, x, 1, true))),
    Rule::new("special_spherical_bessel_j0", |b, c| of(b, c, |_, x| Ok(spherical(x)))),
    Rule::new("special_erfcx", |b, c| of(b, c, scaled_erfc)),
    Rule::new("special_ndtri", |b, c| of(b, c, |_, x| Ok(ndtri(x)))),
    Rule::new("special_log_ndtr", |b, c| of(b, c, log_ndtr)),
    Rule::new("special_xlog1py", xlog1py),
    Rule::new("special_zeta", zeta_of),
    Rule::new("polygamma", polygamma),
    Rule::new("special_polygamma", polygamma),
    Rule::new("mvlgamma", mvlgamma),
    Rule::new("special_multigammaln", mvlgamma),
    Rule::new("igamma", igamma),
    Rule::new("special_gammainc", igamma),
    Rule::new("igammac", igamma),
    Rule::new("special_gammaincc", igamma),
];

/// A function of each element, which has a last dimension of size 1 more for what is summed.
fn of(
    builder: &mut Builder,
    call: &Call<'_>,
    function: impl Fn(&mut Builder, &Formula) -> Result<Formula>,
) -> Result<Vec<Item>> {
    let name = ["self", "x", "input"].into_iter().find(|name| call.has(name)).unwrap_or("self");
    let x = call.float_tensor(builder, name)?;
    let shape = builder.shape(&x);
    let mut wide = shape.clone();
    wide.push(1.into());
    let x = builder.reshape(&x, &wide)?;
    let value = function(builder, &Formula::of(&x))?.build(builder)?;
    one(builder.reshape(&value, &shape)?)
}

/// Numbers along the last dimension.
fn row(builder: &mut Builder, numbers: impl Iterator<Item = f64>) -> Result<Formula> {
    let numbers: Vec<f32> = numbers.map(|number| number as f32).collect();
    let value = builder.graph.constant(NDArray::new(&[numbers.len()], &numbers)?);
    Ok(Formula::of(&builder.plain(value)))
}

/// The sum along the last dimension.
fn total(builder: &mut Builder, terms: &Formula) -> Result<Formula> {
    let terms = terms.build(builder)?;
    let sum = reduce(builder, Reduce::Sum, &terms, &[terms.rank() - 1], true)?;
    Ok(Formula::of(&sum))
}

/// The modified Bessel function of the first kind of order 0 or 1, times `e^-|x|`.
fn bessel_i(x: &Formula, order: usize) -> Formula {
    const NEAR: [&[f64]; 2] = [
        &[
            9.380_227_155e-11,
            -5.184_934_455e-10,
            2.659_746_510e-9,
            -1.300_023_814e-8,
            6.046_994_834e-8,
            -2.670_793_850e-7,
            1.117_387_539e-6,
            -4.416_738_358e-6,
            1.644_844_807e-5,
            -5.754_195_010e-5,
            1.885_028_851e-4,
            -5.763_755_745e-4,
            1.639_475_617e-3,
            -4.324_309_995e-3,
            1.054_646_039e-2,
            -2.373_741_481e-2,
            4.930_528_424e-2,
            -9.490_109_705e-2,
            1.716_209_015e-1,
            -3.046_826_723e-1,
            6.767_952_744e-1,
        ],
        &[
            1.141_348_522e-11,
            -6.658_422_274e-11,
            3.625_512_518e-10,
            -1.887_248_528e-9,
            9.381_537_159e-9,
            -4.445_059_122e-8,
            2.003_294_753e-7,
            -8.568_720_264e-7,
            3.470_251_308e-6,
            -1.327_316_366e-5,
            4.781_565_108e-5,
            -1.617_608_158e-4,
            5.122_859_562e-4,
            -1.513_572_451e-3,
            4.156_422_944e-3,
            -1.056_408_489e-2,
            2.472_644_903e-2,
            -5.294_598_121e-2,
            1.026_436_587e-1,
            -1.764_165_184e-1,
            2.525_871_864e-1,
        ],
    ];
    const FAR: [&[f64]; 2] = [
        &[
            2.510_468_296e-11,
            4.958_544_199e-10,
            3.395_513_900e-9,
            2.266_630_460e-8,
            2.048_918_434e-7,
            2.891_370_562e-6,
            6.889_758_348e-5,
            3.369_116_478e-3,
            8.044_904_110e-1,
        ],
        &[
            -3.310_108_169e-11,
            -5.610_099_516e-10,
            -3.834_660_664e-9,
            -2.631_428_012e-8,
            -2.512_236_028e-7,
            -3.882_564_852e-6,
            -1.105_889_388e-4,
            -9.761_097_491e-3,
            7.785_762_350e-1,
        ],
    ];
    let size = x.abs();
    let near = (&size * 0.5 - 2.0).chebyshev(NEAR[order]);
    let near = if order == 1 { near * &size } else { near };
    let far = (32.0 / size.max(8.0) - 2.0).chebyshev(FAR[order]) / size.max(8.0).sqrt();
    let even = size.more(8.0).choose(far, near);
    if order == 1 { x.less(0.0).choose(-even.clone(), even) } else { even }
}

/// The modified Bessel function of the second kind of order 0 or 1, times `e^x`: the integral of
/// `e^(x - x cosh t) cosh(order t)` by the trapezoidal rule, which converges as fast as any here.
fn bessel_k(builder: &mut Builder, x: &Formula, order: usize) -> Result<Formula> {
    const STEP: f64 = 1.0 / 16.0;
    let nodes = || (0..=260).map(|i| f64::from(i) * STEP);
    let rate = row(builder, nodes().map(|t| 1.0 - t.cosh()))?;
    let weight = row(builder, nodes().map(|t| (order as f64 * t).cosh() * if t == 0.0 { STEP / 2.0 } else { STEP }))?;
    let integral = total(builder, &((x * rate).exp() * weight))?;
    // Where almost nothing decays, the first term of the series about 0.
    let log = -((x * 0.5).ln() + 0.577_215_664_901_532_9);
    let small = if order == 0 { log } else { 1.0 / x };
    let value = x.less(1e-3).choose(small, integral);
    let odd = x.equals(0.0).choose(f64::INFINITY, value);
    Ok(x.less(0.0).choose(f64::NAN, odd))
}

/// The Bessel function of the first kind of order 0 or 1, or of the second: their integrals over half a turn, and
/// Hankel's expansion from 25 on.
fn bessel(builder: &mut Builder, x: &Formula, order: usize, second: bool) -> Result<Formula> {
    use std::f64::consts::PI;
    const STEPS: u32 = 48;
    let (size, n) = (x.abs(), order as f64);
    let near = size.min(25.0);
    let inside = if second {
        let (rate, away) = (
            row(builder, gauss(STEPS).map(|(t, _)| (t * PI).sin()))?,
            row(builder, gauss(STEPS).map(|(t, _)| n * t * PI))?,
        );
        let weight = row(builder, gauss(STEPS).map(|(_, weight)| weight))?;
        let around = total(builder, &((&near * rate - away).sin() * weight))?;
        // What decays beyond it, over t = e^u.
        let nodes = || (-480..=90).map(|i| (f64::from(i) / 32.0).exp());
        let rate = row(builder, nodes().map(|t| -t.sinh()))?;
        let sign = if order == 1 { -1.0 } else { 1.0 };
        let weight = row(builder, nodes().map(|t| t / 32.0 / PI * ((n * t).exp() + sign * (-n * t).exp())))?;
        around - total(builder, &((&near * rate).exp() * weight))?
    } else {
        let angles = || (0..STEPS).map(|i| PI * (f64::from(i) + 0.5) / f64::from(STEPS));
        let (rate, away) = (row(builder, angles().map(f64::sin))?, row(builder, angles().map(|t| n * t))?);
        total(builder, &(away - &near * rate).cos())? / f64::from(STEPS)
    };
    let outside = hankel(&size.max(25.0), order, second);
    let even = size.less(25.0).choose(inside, outside);
    Ok(match (order, second) {
        (1, false) => x.less(0.0).choose(-even.clone(), even),
        (_, true) => {
            let whole = x.equals(0.0).choose(f64::NEG_INFINITY, even);
            x.less(0.0).choose(f64::NAN, whole)
        }
        _ => even,
    })
}

/// Nodes and weights over 0 to 1 of Gauss and Legendre's rule.
fn gauss(count: u32) -> impl Iterator<Item = (f64, f64)> {
    let n = f64::from(count);
    (0..count).map(move |i| {
        // Newton's method from Tricomi's estimate.
        let mut x = ((f64::from(i) + 0.75) / (n + 0.5) * std::f64::consts::PI).cos();
        let mut slope = 1.0;
        for _ in 0..12 {
            let (mut p, mut before) = (1.0, 0.0);
            for k in 1..=count {
                let k = f64::from(k);
                (p, before) = (((2.0 * k - 1.0) * x * p - (k - 1.0) * before) / k, p);
            }
            slope = n * (x * p - before) / (x * x - 1.0);
            x -= p / slope;
        }
        (0.5 * (1.0 - x), 1.0 / ((1.0 - x * x) * slope * slope))
    })
}

/// Hankel's expansion, for large arguments.
fn hankel(x: &Formula, order: usize, second: bool) -> Formula {
    let mu = 4.0 * (order * order) as f64;
    let inverse = 1.0 / (x * 8.0);
    let (mut p, mut q) = (Formula::from(0.0), Formula::from(0.0));
    let (mut factor, mut power) = (1.0, Formula::from(1.0));
    for k in 0..8_u32 {
        let sign = if k % 4 < 2 { 1.0 } else { -1.0 };
        let term = &power * (sign * factor);
        if k % 2 == 0 {
            p = p + term;
        } else {
            q = q + term;
        }
        let odd = f64::from(2 * k + 1);
        factor *= (mu - odd * odd) / f64::from(k + 1);
        power = power * &inverse;
    }
    let phase = x - (0.5 * order as f64 + 0.25) * std::f64::consts::PI;
    let (c, s) = (phase.cos(), phase.sin());
    let wave = if second { s * p + c * q } else { c * p - s * q };
    (std::f64::consts::FRAC_2_PI / x.clone()).sqrt() * wave
}

fn spherical(x: &Formula) -> Formula {
    let square = x * x;
    let near = square.polynomial(&[1.0 / 362_880.0, -1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0, 1.0]);
    let far = x.abs().equals(f64::INFINITY).choose(0.0, x.sin() / x);
    x.abs().less(0.5).choose(near, far)
}

/// `e^(x²) erfc(x)`: of what is positive the integral of `e^(-t² - 2 x t)`.
fn scaled_erfc(builder: &mut Builder, x: &Formula) -> Result<Formula> {
    let size = x.abs();
    let nodes = || gauss(64).map(|(t, weight)| (6.0 * t * t, 12.0 * t * weight));
    let rate = row(builder, nodes().map(|(t, _)| -2.0 * t))?;
    let density = row(builder, nodes().map(|(t, _)| -t * t))?;
    let weight = row(builder, nodes().map(|(_, weight)| weight * std::f64::consts::FRAC_2_SQRT_PI))?;
    let near = total(builder, &((&size * rate + density).exp() * weight))?;
    let inverse = 1.0 / (&size * &size * 2.0);
    let tail = inverse.polynomial(&[105.0, -15.0, 3.0, -1.0, 1.0]) / (&size * std::f64::consts::PI.sqrt());
    let positive = size.more(8.0).choose(tail, near);
    // Of negative arguments, what is missing of twice the power.
    let negative = (x * x).exp() * 2.0 - &positive;
    Ok(x.less(0.0).choose(negative, positive))
}

/// The number that a normal variable is below with a given probability.
fn ndtri(p: &Formula) -> Formula {
    let middle = (p * 2.0 - 1.0).function(Elementary::ErfInv) * std::f64::consts::SQRT_2;
    // The tails: Wichura's algorithm AS 241 (1988).
    let lower = p.min(1.0 - p.clone());
    let r = (lower.ln() * -1.0).sqrt();
    let (near, far) = (&r - 1.6, &r - 5.0);
    let a = near.polynomial(&[
        7.745_450_142_783_414e-4,
        2.272_384_498_926_918_5e-2,
        2.417_807_251_774_506e-1,
        1.270_458_252_452_368_4,
        3.647_848_324_763_204_6,
        5.769_497_221_460_691,
        4.630_337_846_156_546,
        1.423_437_110_749_683_6,
    ]) / near.polynomial(&[
        1.050_750_071_644_416_8e-9,
        5.475_938_084_995_345e-4,
        1.519_866_656_361_645_8e-2,
        1.481_039_764_274_800_8e-1,
        6.897_673_349_851_001e-1,
        1.676_384_830_183_803_8,
        2.053_191_626_637_759,
        1.0,
    ]);
    let b = far.polynomial(&[
        2.010_334_399_292_288e-7,
        2.711_555_568_743_487_6e-5,
        1.242_660_947_388_078_4e-3,
        2.653_218_952_657_612_4e-2,
        2.965_605_718_285_049e-1,
        1.784_826_539_917_291_3,
        5.463_784_911_164_114,
        6.657_904_643_501_103,
    ]) / far.polynomial(&[
        2.044_263_103_389_939_8e-15,
        1.421_511_758_316_446e-7,
        1.846_318_317_510_054_8e-5,
        7.868_691_311_456_133e-4,
        1.487_536_129_085_061_5e-2,
        1.369_298_809_227_358e-1,
        5.998_322_065_558_88e-1,
        1.0,
    ]);
    let tail = r.more(5.0).choose(b, a);
    let tail = p.less(0.5).choose(-tail.clone(), tail);
    let inside = (p - 0.5).abs().less(0.425).choose(middle, tail);
    let low = p.equals(0.0).choose(f64::NEG_INFINITY, inside);
    let ends = p.equals(1.0).choose(f64::INFINITY, low);
    p.less(0.0).or(p.more(1.0)).choose(f64::NAN, ends)
}

/// The logarithm of the probability that a normal variable is below a number.
fn log_ndtr(builder: &mut Builder, x: &Formula) -> Result<Formula> {
    let t = x * std::f64::consts::FRAC_1_SQRT_2;
    let low = (scaled_erfc(builder, &-t.min(0.0))? * 0.5).ln() - &t * &t;
    let high = (t.max(-1.0).function(Elementary::Erf) * 0.5 - 0.5).ln_1p();
    // Far above, what is missing to certainty is too small to be told from it.
    let far = scaled_erfc(builder, &t.max(0.0))? * (-(&t * &t)).exp() * -0.5;
    let high = x.more(2.0).choose(far, high);
    Ok(x.less(-1.0).choose(low, high))
}

fn xlog1py(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, y) = (call.operand_as(builder, "self", DType::F32)?, call.operand_as(builder, "other", DType::F32)?);
    let (x, y) = (Formula::of(&x), Formula::of(&y));
    let product = &x * y.ln_1p();
    let zero = x.equals(0.0).choose(0.0, product);
    one(y.equals(&y).choose(zero, f64::NAN).build(builder)?)
}

/// Hurwitz's zeta function by Euler and Maclaurin's formula: the first terms of the sum, and the rest as an integral.
fn zeta(s: &Formula, q: &Formula) -> Formula {
    const TERMS: u32 = 12;
    let power = |k: u32| (q + f64::from(k)).pow(-s.clone());
    let first = (0..TERMS).map(power).reduce(|sum, term| sum + term).unwrap_or_else(|| 0.0.into());
    let end = q + f64::from(TERMS);
    let last = end.pow(-s.clone());
    let mut rest = &last * &end / (s - 1.0) + &last * 0.5;
    // Bernoulli numbers over factorials.
    let ratios = [1.0 / 12.0, -1.0 / 720.0, 1.0 / 30_240.0, -1.0 / 1_209_600.0, 1.0 / 47_900_160.0];
    let mut rising = s * &last / &end;
    for (k, ratio) in ratios.into_iter().enumerate() {
        rest = rest + &rising * ratio;
        let k = 2.0 * k as f64;
        rising = rising * (s + (k + 1.0)) * (s + (k + 2.0)) / (&end * &end);
    }
    first + rest
}

fn zeta_of(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (s, q) = (call.operand_as(builder, "self", DType::F32)?, call.operand_as(builder, "other", DType::F32)?);
    let (s, q) = (Formula::of(&s), Formula::of(&q));
    let whole = q.equals(q.floor());
    let inside = zeta(&s, &q);
    let below = whole.choose(f64::INFINITY, s.equals(s.floor()).choose(&inside, f64::NAN));
    let pole = q.more(0.0).choose(inside, below);
    let one_pole = s.equals(1.0).choose(f64::INFINITY, pole);
    one(s.less(1.0).choose(f64::NAN, one_pole).build(builder)?)
}

/// Derivatives of the gamma function's logarithm: the first is a function of its own, others are zeta functions.
fn polygamma(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let n = call.integer("n", 0)?;
    if n == 0 {
        return one(builder.function(Elementary::Digamma, &x)?);
    }
    if !(1..=30).contains(&n) {
        fail!(Unsupported, "derivative {n} of the gamma function's logarithm");
    }
    let factorial: f64 = (1..=n).map(|k| k as f64).product();
    let sign = if n % 2 == 1 { 1.0 } else { -1.0 };
    let x = Formula::of(&x);
    // Arguments below 0 are brought above by the recurrence.
    let shifted = x.less(0.0).choose(&x + 20.0, &x);
    let order = (n + 1) as f64;
    let mut value = zeta(&order.into(), &shifted);
    let mut below = Formula::from(0.0);
    for k in 0..20 {
        below = below + whole_power(&(1.0 / (&x + f64::from(k))), n + 1);
    }
    value = value + x.less(0.0).choose(below, 0.0);
    one((value * (sign * factorial)).build(builder)?)
}

/// A power with a whole exponent, also of negative numbers.
fn whole_power(x: &Formula, exponent: i64) -> Formula {
    (1..exponent).fold(x.clone(), |power, _| power * x)
}

fn mvlgamma(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = Formula::of(&call.float_tensor(builder, "self")?);
    let p = call.integer("p", 1)?.clamp(1, 64);
    let constant = (p * (p - 1)) as f64 / 4.0 * std::f64::consts::PI.ln();
    let terms = (0..p).map(|j| (&x - j as f64 / 2.0).function(Elementary::LogGamma));
    let sum = terms.reduce(|sum, term| sum + term).unwrap_or_else(|| 0.0.into());
    one((sum + constant).build(builder)?)
}

/// The regularized incomplete gamma function: its series, as a sum of powers whose logarithms are accumulated along a
/// dimension of their own; the upper one is what is missing to 1.
fn igamma(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    const TERMS: usize = 256;
    let (a, x) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "other")?);
    let difference = builder.binary(Binary::Add, &a, &x)?;
    let shape = builder.shape(&difference);
    let (a, x) = (builder.expand(&a, &shape)?, builder.expand(&x, &shape)?);
    let mut wide = shape.clone();
    wide.push(1.into());
    let (a, x) = (builder.reshape(&a, &wide)?, builder.reshape(&x, &wide)?);
    let numbers = builder.range(&Dim::from(1), 1, &TERMS.into())?;
    let numbers = builder.cast(&numbers, DType::F32)?;
    let (a, x, n) = (Formula::of(&a), Formula::of(&x), Formula::of(&numbers));
    // log of x^n / ((a + 1) ... (a + n)), and of the first term, 1.
    let ratios = (x.ln() - (&a + n).ln()).build(builder)?;
    let last = ratios.rank() - 1;
    let value = builder.dense(&ratios)?;
    let value = builder.graph.push(Op::Scan { axis: last, how: Scan::Sum }, &[value])?;
    let logs = builder.plain(value);
    let series = log_sum(builder, &logs, &[last])?;
    let series = (Formula::of(&series).exp().ln_1p()).build(builder)?;
    let series = Formula::of(&series);
    let lower = (series + &a * x.ln() - &x - (&a + 1.0).function(Elementary::LogGamma)).exp().min(1.0);
    let far = x.more(&a + 100.0).choose(1.0, lower);
    let lower = x.equals(0.0).choose(0.0, far);
    let lower = a.equals(0.0).choose(x.equals(0.0).choose(f64::NAN, 1.0), lower);
    let lower = a.less(0.0).or(x.less(0.0)).choose(f64::NAN, lower);
    let upper = matches!(call.op, "igammac" | "special_gammaincc");
    let value = if upper { 1.0 - lower } else { lower };
    let value = value.build(builder)?;
    let kept: Tensor = reduce(builder, Reduce::Sum, &value, &[last], false)?;
    one(kept)
}
