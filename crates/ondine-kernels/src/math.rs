//! Elementary functions without branches, so that loops over them become vector code on every tier.
//!
//! All are within 3.5 ulp of the true value, keep NaN, and have the right limits at the infinities.

use crate::arch::{isa::Isa, lane::Lane, vector::Vector};

/// 1.5 * 2^23: added to a number below 2^22, it leaves the nearest integer, ties to even, in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

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
    /// `x` no smaller than 0 and no larger than 6.
    Relu6,
    /// `x / 6 + 1/2` no smaller than 0 and no larger than 1.
    HardSigmoid,
    /// `x` times [`Activation::HardSigmoid`] of it.
    HardSwish,
}
/// A polynomial, the highest power first.
#[inline(always)]
fn horner<V: Vector, const N: usize>(coefficients: &[f32; N], x: V) -> V {
    let mut p = V::splat(coefficients[0]);
    for &c in &coefficients[1..] {
        p = p.mul_add(x, V::splat(c));
    }
    p
}

#[inline(always)]
fn at_most<V: Vector>(x: V, limit: f32) -> V {
    V::splat(limit).min(x)
}

#[inline(always)]
fn at_least<V: Vector>(x: V, limit: f32) -> V {
    V::splat(limit).max(x)
}

/// `e^x`; denormal results are kept.
#[inline(always)]
pub(crate) fn exp_lanes<V: Vector>(x: V) -> V {
    const COEFFICIENTS: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.500_000_1];
    let x = at_least(at_most(x, 89.0), -104.0);
    let n = x.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(ROUND)).sub(V::splat(ROUND));
    let r = n.mul_add(V::splat(-0.693_359_4), x);
    let r = n.mul_add(V::splat(2.121_944_4e-4), r);
    let p = horner(&COEFFICIENTS, r);
    p.mul_add(r.mul(r), r.add(V::splat(1.0))).scale(n)
}

/// `2^x` for `x` up to 1, at least `2^-126`.
#[inline(always)]
pub(crate) fn exp2<V: Vector>(x: V) -> V {
    power(&[1.535_336_2e-4, 1.339_887_4e-3, 9.618_437e-3, 5.550_332_5e-2, 2.402_264_8e-1, 6.931_472e-1, 1.0], x)
}

/// [`exp2`] with a relative error of `2^-13`.
#[inline(always)]
pub(crate) fn exp2_coarse<V: Vector>(x: V) -> V {
    power(&[5.517_167e-2, 2.426_111_2e-1, 6.932_61e-1, 9.999_281e-1], x)
}

/// `2^x` by a polynomial for the fraction, -0.5..=0.5, to whose exponent the integer is added.
#[inline(always)]
fn power<V: Vector, const N: usize>(coefficients: &[f32; N], x: V) -> V {
    let x = at_least(x, -126.0);
    let shifted = x.add(V::splat(ROUND));
    horner(coefficients, x.sub(shifted.sub(V::splat(ROUND)))).add_exponent(shifted)
}

/// The error function. Two minimax polynomials by N. Juffa.
#[inline(always)]
fn erf_lanes<V: Vector>(x: V) -> V {
    const NEAR: [f32; 6] =
        [-5.991_05e-4, 4.993_396e-3, -2.676_673_4e-2, 1.128_180_2e-1, -3.761_248_6e-1, 1.283_791_5e-1];
    const FAR: [f32; 7] =
        [1.729_489_3e-5, -3.832_086_8e-4, 3.883_934_4e-3, -2.425_456e-2, 1.067_778_5e-1, 0.634_846_7, 1.287_175_1e-1];
    let t = x.abs();
    let near = horner(&NEAR, x.mul(x)).mul_add(x, x);
    let capped = at_most(t, 4.0);
    let far = horner(&FAR, capped).mul_add(capped, capped);
    let far = V::splat(1.0).sub(exp_lanes(V::splat(0.0).sub(far))).copysign(x);
    t.if_greater(V::splat(0.927_734_4), far, near)
}

/// The hyperbolic tangent.
#[inline(always)]
fn tanh_lanes<V: Vector>(x: V) -> V {
    const NEAR: [f32; 5] = [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1];
    let t = x.abs();
    let square = x.mul(x);
    let near = horner(&NEAR, square).mul(square).mul_add(x, x);
    let one = V::splat(1.0);
    let far = one.sub(V::splat(2.0).div(exp_lanes(t.add(t)).add(one))).copysign(x);
    t.if_greater(V::splat(0.625), far, near)
}

/// `1 / (1 + e^-x)`
#[inline(always)]
fn sigmoid_lanes<V: Vector>(x: V) -> V {
    let one = V::splat(1.0);
    one.div(one.add(exp_lanes(V::splat(0.0).sub(x))))
}

/// The sigmoid as three straight lines.
#[inline(always)]
fn hard_sigmoid_lanes<V: Vector>(x: V) -> V {
    at_most(at_least(x.mul_add(V::splat(1.0 / 6.0), V::splat(0.5)), 0.0), 1.0)
}

/// One activation of a vector; the match goes away if `activation` is constant.
#[inline(always)]
pub(crate) fn activate_lanes<V: Vector>(activation: Activation, x: V) -> V {
    let half = || V::splat(0.5).mul(x);
    match activation {
        Activation::None => x,
        Activation::Silu => x.mul(sigmoid_lanes(x)),
        Activation::Gelu => {
            let erf = erf_lanes(x.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2)));
            half().mul_add(erf, half())
        }
        Activation::GeluTanh => {
            let cubic = V::splat(0.044_715).mul(x).mul(x).mul_add(x, x);
            half().mul_add(tanh_lanes(V::splat(0.797_884_6).mul(cubic)), half())
        }
        Activation::QuickGelu => x.mul(sigmoid_lanes(V::splat(1.702).mul(x))),
        Activation::Relu => V::splat(0.0).max(x),
        Activation::Sigmoid => sigmoid_lanes(x),
        Activation::Tanh => tanh_lanes(x),
        Activation::Relu6 => at_most(at_least(x, 0.0), 6.0),
        Activation::HardSigmoid => hard_sigmoid_lanes(x),
        Activation::HardSwish => x.mul(hard_sigmoid_lanes(x)),
    }
}

/// Runs `$work` with `$name` a constant that is `$activation`, unless that is none: what is chosen once may be seen
/// through in loops. (A closure would be compiled on its own, without the features of the tier.)
macro_rules! chosen_once {
    ($activation:expr, $name:ident => $work:expr) => {
        chosen_once!(
            $activation, $name => $work;
            Silu, Gelu, GeluTanh, QuickGelu, Relu, Sigmoid, Tanh, Relu6, HardSigmoid, HardSwish
        )
    };
    ($activation:expr, $name:ident => $work:expr; $($each:ident),*) => {
        match $activation {
            Activation::None => {}
            $(Activation::$each => {
                const $name: Activation = Activation::$each;
                $work
            })*
        }
    };
}

/// One activation of all of some vectors.
#[inline(always)]
pub(crate) fn activate_all<V: Vector, const N: usize>(activation: Activation, values: &mut [V; N]) {
    chosen_once!(activation, CHOSEN => for x in values {
        *x = activate_lanes(CHOSEN, *x);
    });
}

/// `e^x` of one number, for loops that the compiler makes vectors of.
#[inline(always)]
pub(crate) fn exp<I: Isa>(x: f32) -> f32 {
    exp_lanes(Lane::<I>::new(x)).0
}

/// The error function of one number.
#[inline(always)]
pub(crate) fn erf<I: Isa>(x: f32) -> f32 {
    erf_lanes(Lane::<I>::new(x)).0
}

/// Applies `activation` to every element.
#[inline(always)]
pub(crate) fn activate<I: Isa>(activation: Activation, values: &mut [f32]) {
    chosen_once!(activation, CHOSEN => for value in values {
        *value = activate_lanes(CHOSEN, Lane::<I>::new(*value)).0;
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        arch::{Generic, enter::Kernel},
        cpu::Cpu,
        naive::erf as erf_f64,
    };

    fn one<I: Isa>(f: impl Fn(Lane<I>) -> Lane<I>) -> impl Fn(f32) -> f32 {
        move |x| f(Lane::new(x)).0
    }

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

    /// A function of this file.
    #[derive(Clone, Copy, Debug)]
    enum Function {
        Exp,
        Erf,
        Tanh,
        Sigmoid,
    }

    /// Applies a function to a number with the instructions of a tier.
    struct Apply(Function, f32);

    impl Kernel for Apply {
        /// The result, and if it took fused instructions.
        type Output = (f32, bool);

        #[inline(always)]
        fn run<I: Isa>(self) -> (f32, bool) {
            let Self(function, x) = self;
            let x = Lane::<I>::new(x);
            let result = match function {
                Function::Exp => exp_lanes(x),
                Function::Erf => erf_lanes(x),
                Function::Tanh => tanh_lanes(x),
                Function::Sigmoid => sigmoid_lanes(x),
            };
            (result.0, I::FMA)
        }
    }

    #[test]
    fn functions_are_close_to_f64() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        // With a rounding after each multiplication, and without.
        let functions = [
            (Function::Exp, 104.0, f64::exp as fn(f64) -> f64, [2.5, 2.0]),
            (Function::Erf, 6.0, erf_f64, [2.5, 2.0]),
            (Function::Tanh, 20.0, f64::tanh, [2.5, 2.0]),
            (Function::Sigmoid, 80.0, sigmoid, [3.5, 3.5]),
        ];
        for cpu in Cpu::new(1).unwrap().tiers() {
            for (function, range, oracle, ulps) in functions {
                let (_, fused) = cpu.enter(Apply(function, 0.0));
                let off = worst(range, |x| cpu.enter(Apply(function, x)).0, oracle);
                assert!(off < ulps[usize::from(fused)], "{function:?} is off by {off} ulps, {}", cpu.tier());
            }
        }
    }

    #[test]
    fn powers_of_two_are_close_to_f64() {
        // Arguments from -126 to 1, each exact in f32.
        let range = |x: f32| (63.5 * x * 256.0).round() / 256.0 - 62.5;
        let oracle = |x: f64| f64::from(range(x as f32)).exp2();
        assert!(worst(1.0, |x| one::<Generic>(exp2)(range(x)), oracle) < 2.5);
        assert!(worst(1.0, |x| one::<Generic>(exp2_coarse)(range(x)), oracle) < 1500.0);
        let exp2 = one::<Generic>(exp2);
        assert_eq!([exp2(0.0), exp2(-3.0)], [1.0, 0.125]);
        assert!(exp2(f32::NEG_INFINITY) < 1.2e-38);
        assert!(exp2(f32::NAN).is_nan());
    }

    #[test]
    fn limits_hold() {
        let inf = f32::INFINITY;
        let (exp, erf) = (one::<Generic>(exp_lanes), one::<Generic>(erf_lanes));
        let (tanh, sigmoid) = (one::<Generic>(tanh_lanes), one::<Generic>(sigmoid_lanes));
        assert_eq!([exp(inf), exp(-inf), exp(0.0), exp(1e30), exp(-1e30)], [inf, 0.0, 1.0, inf, 0.0]);
        assert_eq!([erf(inf), erf(-inf), erf(1e30)], [1.0, -1.0, 1.0]);
        assert_eq!([tanh(inf), tanh(-inf), tanh(1e30)], [1.0, -1.0, 1.0]);
        assert_eq!([sigmoid(inf), sigmoid(-inf)], [1.0, 0.0]);
        assert!([exp(f32::NAN), erf(f32::NAN), tanh(f32::NAN), sigmoid(f32::NAN)].iter().all(|x| x.is_nan()));
    }
}
