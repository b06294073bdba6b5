//! Properties of the row-wise operations, checked for every tier, 1 to 3 threads, against oracles in `f64`.
//!
//! Tolerances are multiples of the unit roundoff, [`EPS`], of the sum of the magnitudes that go into a result.

use half::bf16;

use crate::{
    Activation, Cpu, Scalar, broadcast_strides, naive,
    suite::{Random, tiers},
};

mod convert;
mod elementwise;
mod layout;
mod norm;
mod quant;
mod recurrent;
mod reduce;

/// Half the distance from 1 to the next `f32`.
const EPS: f64 = 6e-8;

/// Lengths that end in and around vectors of every size.
const LENGTHS: [usize; 12] = [1, 2, 3, 7, 16, 17, 31, 64, 127, 320, 1031, 70_001];

/// A number that can be compared by its bits and by its value.
trait Value: Scalar {
    /// Unit roundoff.
    const ROUNDOFF: f64;
    fn bits(self) -> u64;
    fn value(self) -> f64;
    fn new(value: f64) -> Self;
}

macro_rules! value {
    ($($type:ident, $roundoff:expr, $bits:expr, $value:expr, $new:expr;)*) => {$(
        impl Value for $type {
            const ROUNDOFF: f64 = $roundoff;
            fn bits(self) -> u64 {
                $bits(self)
            }
            fn value(self) -> f64 {
                $value(self)
            }
            fn new(value: f64) -> Self {
                $new(value)
            }
        }
    )*};
}
value! {
    f32, EPS, |x: f32| u64::from(x.to_bits()), f64::from, |x| x as f32;
    bf16, 0.00391, |x: bf16| u64::from(x.to_bits()), f64::from, bf16::from_f64;
    i64, 0.0, |x: i64| x as u64, |x| x as f64, |x| x as i64;
    i32, 0.0, |x: i32| x as u64, f64::from, |x| x as i32;
    i8, 0.0, |x: i8| x as u64, f64::from, |x| x as i8;
    u8, 0.0, u64::from, f64::from, |x| x as u8;
}

/// Runs an operation on every tier with every number of threads, from an output of `len` elements, and checks what it
/// yields. The number of threads must make no difference to any bit.
fn everywhere<T: Value>(len: usize, run: impl Fn(&Cpu, &mut [T]), check: impl Fn(&[T])) {
    for cpus in tiers() {
        let [first, others @ ..] = cpus.each_ref().map(|cpu| {
            let mut out = vec![T::new(77.0); len];
            run(cpu, &mut out);
            out
        });
        for other in others {
            let same = first.iter().zip(&other).all(|(a, b)| a.bits() == b.bits());
            assert!(same, "threads matter to {}", cpus[0].tier());
        }
        check(&first);
    }
}

/// Asserts that every element is within a tolerance of what the oracle says, or NaN where that is NaN.
#[track_caller]
fn assert_close<T: Value>(got: &[T], oracle: impl Fn(usize) -> (f64, f64)) {
    for (i, got) in got.iter().map(|got| got.value()).enumerate() {
        let (want, tolerance) = oracle(i);
        let tolerance = tolerance + T::ROUNDOFF * want.abs();
        let close = (got - want).abs() <= tolerance || got == want || got.is_nan() && want.is_nan();
        assert!(close, "element {i}: {got}, want {want} within {tolerance}");
    }
}

/// Numbers around zero, within one and a half times `scale`, the same on every run.
fn numbers<T: Value>(count: usize, scale: f64) -> Vec<T> {
    let mut random = Random(count as u64);
    let mut next = || 0.5 * f64::from(random.number() + random.number() + random.number());
    (0..count).map(|_| T::new(scale * next())).collect()
}

fn values<T: Value>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.value()).collect()
}

/// Numbers around `mean` with about the given deviation.
fn around<T: Value>(count: usize, mean: f64, deviation: f64) -> Vec<T> {
    numbers::<f32>(count, 2.0 * deviation).into_iter().map(|x| T::new(f64::from(x) + mean)).collect()
}

const ACTIVATIONS: [Activation; 11] = [
    Activation::None,
    Activation::Silu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Relu6,
    Activation::HardSigmoid,
    Activation::HardSwish,
];

fn activated(activation: Activation, x: f64) -> f64 {
    if x.is_nan() { x } else { naive::activation(activation, x) }
}

/// Every element of an operand of shape `from`, broadcast to shape `to`.
fn broadcast<T: Copy>(x: &[T], from: &[usize], to: &[usize]) -> Vec<T> {
    let strides = broadcast_strides(from, to);
    view(x, to, &strides)
}

/// Every element of a strided view, one index at a time.
fn view<T: Copy>(x: &[T], shape: &[usize], strides: &[usize]) -> Vec<T> {
    let at = |mut index: usize| {
        let mut offset = 0;
        for (size, stride) in shape.iter().zip(strides).rev() {
            offset += index % size * stride;
            index /= size;
        }
        x[offset]
    };
    (0..shape.iter().product()).map(at).collect()
}

/// Shapes of `a`, `b` and the result.
const BROADCASTS: [[&[usize]; 3]; 10] = [
    [&[1], &[1], &[1]],
    [&[], &[3, 5], &[3, 5]],
    [&[67], &[67], &[67]],
    [&[3, 67], &[1], &[3, 67]],
    [&[9, 131], &[131], &[9, 131]],
    [&[2, 1, 33], &[2, 5, 33], &[2, 5, 33]],
    [&[2, 5, 1], &[2, 5, 33], &[2, 5, 33]],
    [&[7, 1], &[1, 6], &[7, 6]],
    [&[2, 1, 3, 1], &[5, 1, 4], &[2, 5, 3, 4]],
    [&[2, 160, 128], &[2, 1, 128], &[2, 160, 128]],
];
