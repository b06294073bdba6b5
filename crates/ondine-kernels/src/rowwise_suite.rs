//! Properties of the row-wise operations, checked for every tier, 1 to 3 threads, against oracles in `f64`.
//!
//! Tolerances are multiples of the unit roundoff, [`EPS`], of the sum of the magnitudes that go into a result.

use std::sync::OnceLock;

use half::{bf16, f16};

use crate::{
    Activation, Binary, Comparison, Float, GroupNorm, IndexError, Kernels, Pool, Reduce, RowScale, Scalar, Size,
    Strided, Unary, broadcast_strides, dense_strides,
};

/// Half the distance from 1 to the next `f32`.
const EPS: f64 = 6e-8;

/// Lengths that end in and around vectors of every size.
const LENGTHS: [usize; 12] = [1, 2, 3, 7, 16, 17, 31, 64, 127, 320, 1031, 70_001];

fn pools() -> &'static [Pool; 3] {
    static POOLS: OnceLock<[Pool; 3]> = OnceLock::new();
    POOLS.get_or_init(|| [1, 2, 3].map(Pool::new))
}

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

/// Runs an operation on every tier with every pool, from an output of `len` elements, and checks what it yields.
/// The number of threads must make no difference to any bit.
fn everywhere<T: Value>(len: usize, run: impl Fn(&Pool, &Kernels, &mut [T]), check: impl Fn(&[T])) {
    for kernels in Kernels::available() {
        let [first, others @ ..] = pools().each_ref().map(|pool| {
            let mut out = vec![T::new(77.0); len];
            run(pool, kernels, &mut out);
            out
        });
        for other in others {
            assert!(first.iter().zip(&other).all(|(a, b)| a.bits() == b.bits()), "threads matter to {}", kernels.tier);
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

/// Numbers around zero, the same on every run.
fn numbers<T: Value>(count: usize, scale: f64) -> Vec<T> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ count as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..count).map(|_| T::new(scale * (next() + next() + next() - 1.5))).collect()
}

fn values<T: Value>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.value()).collect()
}

fn erf(x: f64) -> f64 {
    let t = x.abs();
    if t < 3.0 {
        let (mut term, mut sum) = (t, t);
        for n in 1..100 {
            term *= -t * t / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return (sum * std::f64::consts::FRAC_2_SQRT_PI).copysign(x);
    }
    let tail = (1..100).rev().fold(t, |f, n| t + f64::from(n) / 2.0 / f);
    (1.0 - (-t * t).exp() / tail / std::f64::consts::PI.sqrt()).copysign(x)
}

const ACTIVATIONS: [Activation; 8] = [
    Activation::None,
    Activation::Silu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Sigmoid,
    Activation::Tanh,
];

fn activated(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::None => x,
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
    }
}

fn unary_oracle(op: Unary, x: f64) -> f64 {
    match op {
        Unary::Activation(activation) => activated(activation, x),
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Affine { scale, offset } => x * f64::from(scale) + f64::from(offset),
    }
}

fn check_unary<T: Value + Float>() {
    let others = [
        Unary::Neg,
        Unary::Abs,
        Unary::Exp,
        Unary::Log,
        Unary::Sqrt,
        Unary::Rsqrt,
        Unary::Affine { scale: 1.5, offset: -0.25 },
    ];
    for op in ACTIVATIONS.map(Unary::Activation).into_iter().chain(others) {
        for len in LENGTHS {
            let mut x: Vec<T> = numbers(len, 8.0);
            x[len / 2] = T::new(f64::NAN);
            let run = |pool: &Pool, kernels: &Kernels, out: &mut [T]| crate::unary(pool, kernels, op, &x, out);
            // A few roundings of the result, and of the input where it is added to something.
            everywhere(len, run, |out| {
                assert_close(out, |i| {
                    let want = unary_oracle(op, x[i].value());
                    (want, 6.0 * EPS * (want.abs() + x[i].value().abs().min(1.0)))
                });
            });
        }
    }
}

#[test]
fn unary_functions_are_close_to_their_oracles() {
    check_unary::<f32>();
    check_unary::<bf16>();
}

#[test]
fn sine_and_cosine_hold_for_large_angles() {
    let x: Vec<f32> = numbers(5000, 1e5 / 1.5);
    for op in [Unary::Sin, Unary::Cos] {
        let run = |pool: &Pool, kernels: &Kernels, out: &mut [f32]| crate::unary(pool, kernels, op, &x, out);
        everywhere(x.len(), run, |out| assert_close(out, |i| (unary_oracle(op, x[i].value()), EPS * 1e-2)));
    }
}

#[test]
fn limits_of_activations_hold() {
    let x = [f32::INFINITY, f32::NEG_INFINITY, 100.0, -100.0, 0.0];
    let expected = [
        (Unary::Activation(Activation::Relu), [f32::INFINITY, 0.0, 100.0, 0.0, 0.0]),
        (Unary::Activation(Activation::Tanh), [1.0, -1.0, 1.0, -1.0, 0.0]),
        (Unary::Exp, [f32::INFINITY, 0.0, f32::INFINITY, 3.783_506e-44, 1.0]),
        (Unary::Rsqrt, [0.0, f32::NAN, 0.1, f32::NAN, f32::INFINITY]),
    ];
    for (op, want) in expected {
        let run = |pool: &Pool, kernels: &Kernels, out: &mut [f32]| crate::unary(pool, kernels, op, &x, out);
        everywhere(5, run, |out| assert_close(out, |i| (f64::from(want[i]), 0.0)));
    }
}

#[test]
fn integers_are_negated() {
    let x = [3, -4, 0, i64::MIN, i64::MAX];
    let run = |op| {
        let mut out = [0; 5];
        crate::integer_unary(&pools()[1], op, &x, &mut out);
        out
    };
    assert_eq!(run(Unary::Neg), [-3, 4, 0, i64::MIN, -i64::MAX]);
    assert_eq!(run(Unary::Abs), [3, 4, 0, i64::MIN, i64::MAX]);
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

fn binary_oracle(op: Binary, a: f64, b: f64) -> f64 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Min if a.is_nan() || b.is_nan() => f64::NAN,
        Binary::Max if a.is_nan() || b.is_nan() => f64::NAN,
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::Pow => a.powf(b),
    }
}

fn check_binary<T: Value + crate::Number>(ops: &[Binary], scale: f64) {
    for [a_shape, b_shape, shape] in BROADCASTS {
        let [a_len, b_len, len] = [a_shape, b_shape, shape].map(|shape| shape.iter().product::<usize>());
        let (mut a, b) = (numbers::<T>(a_len, scale), numbers::<T>(b_len + 1, scale)[1..].to_vec());
        a[a_len / 2] = T::new(f64::NAN);
        let (a_strides, b_strides) = (broadcast_strides(a_shape, shape), broadcast_strides(b_shape, shape));
        let (a_all, b_all) = (values(&broadcast(&a, a_shape, shape)), values(&broadcast(&b, b_shape, shape)));
        let (left, right) = (Strided { data: &a, strides: &a_strides }, Strided { data: &b, strides: &b_strides });
        for &op in ops {
            let run = |pool: &Pool, kernels: &Kernels, out: &mut [T]| {
                crate::binary(pool, kernels, op, shape, left, right, out);
            };
            everywhere(len, run, |out| {
                assert_close(out, |i| {
                    let want = binary_oracle(op, a_all[i], b_all[i]);
                    (want, EPS * want.abs())
                });
            });
        }
        for op in [Comparison::Equal, Comparison::Less] {
            let run = |pool: &Pool, kernels: &Kernels, out: &mut [u8]| {
                crate::compare(pool, kernels, op, shape, left, right, out);
            };
            everywhere(len, run, |out| {
                for i in 0..len {
                    let want = if op == Comparison::Equal { a_all[i] == b_all[i] } else { a_all[i] < b_all[i] };
                    assert_eq!(out[i], u8::from(want));
                }
            });
        }
    }
}

#[test]
fn binary_functions_broadcast() {
    let arithmetic = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Min, Binary::Max];
    check_binary::<f32>(&[&arithmetic[..], &[Binary::Div, Binary::Pow]].concat(), 3.0);
    check_binary::<bf16>(&[&arithmetic[..], &[Binary::Div, Binary::Pow]].concat(), 3.0);
    check_binary::<i64>(&arithmetic, 1e6);
    check_binary::<i32>(&arithmetic, 1e4);
}

#[test]
fn integer_division_and_powers_are_total() {
    let a = [7, -7, 5, i32::MIN, 2, -1, 3];
    let b = [2, 2, 0, -1, 40, -3, -2];
    let run = |op| {
        let mut out = [0; 7];
        let (a, b) = (Strided { data: &a, strides: &[1] }, Strided { data: &b, strides: &[1] });
        crate::binary(&pools()[0], crate::kernels(), op, &[7], a, b, &mut out);
        out
    };
    assert_eq!(run(Binary::Div), [3, -3, 0, i32::MIN, 0, 0, -1]);
    assert_eq!(run(Binary::Pow), [49, 49, 1, 0, 0, -1, 0]);
}

#[test]
fn select_broadcasts() {
    let (condition, a, b) = ([1_u8, 0, 0, 2, 0, 1], [1.0_f32, 2.0, 3.0], [9.0_f32]);
    let bytes = |x: &[f32]| x.iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<u8>>();
    let (a, b) = (bytes(&a), bytes(&b));
    let run = |pool: &Pool, _: &Kernels, out: &mut [u8]| {
        let condition = Strided { data: &condition[..], strides: &[3, 1] };
        let (a, b) = (Strided { data: &a[..], strides: &[0, 1] }, Strided { data: &b[..], strides: &[0, 0] });
        crate::select(pool, 4, &[2, 3], condition, a, b, out);
    };
    everywhere(24, run, |out| assert_eq!(out, bytes(&[1.0, 9.0, 9.0, 1.0, 9.0, 3.0])));
    let len = 50_000;
    let condition: Vec<u8> = (0..len).map(|i| u8::from(i % 3 == 0)).collect();
    let (a, b) = (vec![1_u8; len * 2], vec![2_u8; len * 2]);
    let run = |pool: &Pool, _: &Kernels, out: &mut [u8]| {
        let [condition, a, b] = [&condition, &a, &b].map(|data| Strided { data, strides: &[1] });
        crate::select(pool, 2, &[len], condition, a, b, out);
    };
    everywhere(2 * len, run, |out| assert!(out.iter().enumerate().all(|(i, &x)| x == 1 + u8::from(i / 2 % 3 != 0))));
}

fn check_glu<T: Value + Float>() {
    for (rows, width) in [(1, 1), (3, 5), (7, 64), (5, 1031), (40, 1280)] {
        let x: Vec<T> = numbers(2 * rows * width, 3.0);
        for activation in ACTIVATIONS {
            let run = |pool: &Pool, kernels: &Kernels, out: &mut [T]| {
                crate::glu(pool, kernels, activation, width, &x, out);
            };
            everywhere(rows * width, run, |out| {
                assert_close(out, |i| {
                    let value = x[i / width * 2 * width + i % width].value();
                    let gate = activated(activation, x[i / width * 2 * width + width + i % width].value());
                    (value * gate, 8.0 * EPS * value.abs() * (gate.abs() + 1.0))
                });
            });
        }
    }
}

#[test]
fn glu_multiplies_by_the_activated_half() {
    check_glu::<f32>();
    check_glu::<bf16>();
}

fn check_softmax<T: Value + Float>() {
    for (rows, width) in [(1, 1), (3, 2), (5, 77), (4, 129), (2, 4096), (300, 257)] {
        let mut x: Vec<T> = numbers(rows * width, 20.0);
        x[0] = T::new(f64::NEG_INFINITY);
        x[width * (rows - 1)..].fill(T::new(f64::NEG_INFINITY));
        let run = |pool: &Pool, kernels: &Kernels, out: &mut [T]| crate::softmax(pool, kernels, width, &x, out);
        let wide = values(&x);
        let (largest, sums): (Vec<f64>, Vec<f64>) = wide
            .chunks(width)
            .map(|row| {
                let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                (largest, row.iter().map(|x| (x - largest).exp()).sum::<f64>())
            })
            .unzip();
        everywhere(x.len(), run, |out| {
            assert_close(out, |i| {
                let row = i / width;
                let want = if row == rows - 1 { 0.0 } else { (wide[i] - largest[row]).exp() / sums[row] };
                // The difference is rounded before the power is taken; the sum is that of 39 additions.
                let tolerance = EPS * want * (45.0 + 2.0 * (wide[i] - largest[row]).abs().min(200.0));
                (want, if want == 0.0 { 0.0 } else { tolerance + 1e-43 })
            });
        });
    }
}

#[test]
fn softmax_rows_sum_to_one() {
    check_softmax::<f32>();
    check_softmax::<bf16>();
    for bad in [f32::NAN, f32::INFINITY] {
        let x = [0.0, bad, 1.0];
        let run = |pool: &Pool, kernels: &Kernels, out: &mut [f32]| crate::softmax(pool, kernels, 3, &x, out);
        everywhere(3, run, |out| assert!(out.iter().all(|out| out.is_nan())));
    }
}

#[test]
fn argmax_finds_the_first_largest() {
    for (rows, width) in [(1, 1), (4, 3), (3, 129), (2, 32_001), (90, 1000)] {
        let mut x: Vec<bf16> = numbers(rows * width, 4.0);
        x[0] = bf16::NEG_INFINITY;
        if width > 2 {
            x[width + 1] = bf16::NAN;
            x[width + 2] = bf16::NAN;
        }
        let f32s: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
        let want: Vec<i64> = f32s
            .chunks(width)
            .map(|row| {
                let nan = row.iter().position(|x| x.is_nan());
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                nan.or(row.iter().position(|&x| x == largest)).unwrap() as i64
            })
            .collect();
        everywhere(
            rows,
            |pool, kernels, out| crate::argmax(pool, kernels, width, &x, out),
            |out| {
                assert_eq!(out, want);
            },
        );
        everywhere(
            rows,
            |pool, kernels, out| crate::argmax(pool, kernels, width, &f32s, out),
            |out| {
                assert_eq!(out, want);
            },
        );
    }
}

const REDUCTIONS: [[usize; 3]; 10] = [
    [1, 1, 1],
    [3, 5, 1],
    [1, 100_003, 1],
    [37, 320, 1],
    [2, 77, 5],
    [1, 4096, 33],
    [3, 33, 129],
    [2, 3, 2049],
    [1, 70, 3000],
    [2, 0, 3],
];

fn check_reduce<T: Value + crate::Number>(scale: f64, offset: f64) {
    for shape @ [outer, reduced, inner] in REDUCTIONS {
        let x: Vec<T> =
            numbers::<T>(outer * reduced * inner, scale).into_iter().map(|x| T::new(x.value() + offset)).collect();
        let column = |i: usize| {
            let (outer, inner_index) = (i / inner, i % inner);
            x[outer * reduced * inner..][..reduced * inner].iter().skip(inner_index).step_by(inner).map(|x| x.value())
        };
        for how in [Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min] {
            if reduced == 0 && T::ROUNDOFF == 0.0 {
                continue;
            }
            let run = |pool: &Pool, kernels: &Kernels, out: &mut [T]| crate::reduce(pool, kernels, how, shape, &x, out);
            everywhere(outer * inner, run, |out| {
                assert_close(out, |i| {
                    let sum: f64 = column(i).sum();
                    // At most 39 additions in f32, each with the magnitude of a part of the sum.
                    let tolerance =
                        if T::ROUNDOFF == 0.0 { 0.0 } else { 40.0 * EPS * column(i).map(f64::abs).sum::<f64>() };
                    match how {
                        Reduce::Sum => (sum, tolerance),
                        Reduce::Mean if T::ROUNDOFF == 0.0 => ((sum / reduced as f64).trunc(), 0.0),
                        Reduce::Mean => (sum / reduced as f64, tolerance / reduced as f64),
                        Reduce::Max => (column(i).fold(f64::NEG_INFINITY, f64::max), 0.0),
                        Reduce::Min => (column(i).fold(f64::INFINITY, f64::min), 0.0),
                    }
                });
            });
        }
    }
}

#[test]
fn reductions_are_close_to_their_oracles() {
    check_reduce::<f32>(1.0, 0.0);
    check_reduce::<f32>(1.0, 1000.0);
    check_reduce::<bf16>(1.0, 0.5);
    check_reduce::<i64>(1e6, 0.0);
    check_reduce::<i32>(1e4, 0.0);
}

#[test]
fn extrema_pass_on_nan() {
    for shape in [[1, 200, 1], [1, 100, 2]] {
        let mut x = [1.0_f32; 200];
        x[150] = f32::NAN;
        for how in [Reduce::Max, Reduce::Min, Reduce::Sum] {
            let run =
                |pool: &Pool, kernels: &Kernels, out: &mut [f32]| crate::reduce(pool, kernels, how, shape, &x, out);
            everywhere(shape[2], run, |out| assert!(out[0].is_nan()));
        }
    }
}

/// Mean and variance of some numbers.
fn moments(x: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = x.clone().count() as f64;
    let mean = x.clone().sum::<f64>() / count;
    (mean, x.map(|x| (x - mean) * (x - mean)).sum::<f64>() / count)
}

/// Numbers around `mean` with about the given deviation.
fn around<T: Value>(count: usize, mean: f64, deviation: f64) -> Vec<T> {
    numbers::<f32>(count, 2.0 * deviation).into_iter().map(|x| T::new(f64::from(x) + mean)).collect()
}

fn check_row_norms<T: Value + Float>(mean: f64) {
    for (rows, width) in [(1, 1), (3, 2), (7, 77), (5, 768), (2, 10_007), (60, 1280)] {
        let mut x: Vec<T> = around(rows * width, mean, 1.0);
        // An outlier as the origin of the deviations.
        x[0] = T::new(mean + 50.0);
        let (weight, bias) = (numbers::<f32>(width, 2.0), numbers::<f32>(width + 1, 1.0)[1..].to_vec());
        let eps = 1e-5;
        let row = |i: usize| x[i / width * width..][..width].iter().map(|x| x.value());
        let run = |pool: &Pool, kernels: &Kernels, out: &mut [T]| {
            crate::layer_norm(pool, kernels, eps, &weight, &bias, &x, out);
        };
        let facts: Vec<(f64, f64)> = (0..rows).map(|index| moments(row(index * width))).collect();
        everywhere(x.len(), run, |out| {
            assert_close(out, |i| {
                let (mean, variance) = facts[i / width];
                let scale = f64::from(weight[i % width]) / (variance + f64::from(eps)).sqrt();
                let (normal, bias) = ((x[i].value() - mean) * scale, f64::from(bias[i % width]));
                // The mean lies within 39 roundings of the deviations, the variance of the squares.
                (normal + bias, EPS * (30.0 * normal.abs() + 4.0 * bias.abs() + 10.0 * scale.abs()))
            });
        });
        let run = |pool: &Pool, kernels: &Kernels, out: &mut [T]| {
            crate::rms_norm(pool, kernels, eps, &weight, &x, out);
        };
        let squares: Vec<f64> =
            (0..rows).map(|index| row(index * width).map(|x| x * x).sum::<f64>() / width as f64).collect();
        everywhere(x.len(), run, |out| {
            assert_close(out, |i| {
                let scale = f64::from(weight[i % width]) / (squares[i / width] + f64::from(eps)).sqrt();
                (x[i].value() * scale, 25.0 * EPS * (x[i].value() * scale).abs())
            });
        });
    }
}

#[test]
fn rows_are_normalized_wherever_their_mean_lies() {
    check_row_norms::<f32>(0.0);
    check_row_norms::<f32>(-3000.0);
    check_row_norms::<bf16>(0.0);
    check_row_norms::<bf16>(40.0);
}

fn check_group_norm<T: Value + Float>(mean: f64, modulated: bool, activation: Activation) {
    for (batch, spatial, channels, groups) in [
        (1, 1, 4, 2),
        (2, 1, 32, 8),
        (1, 7, 3, 1),
        (2, 33, 12, 4),
        (3, 400, 96, 32),
        (1, 700, 320, 32),
        (1, 5, 2560, 32),
    ] {
        let image = spatial * channels;
        let mut x: Vec<T> = around(batch * image, mean, 1.0);
        x[0] = T::new(mean + 30.0);
        let (weight, bias) = (numbers::<f32>(channels, 2.0), numbers::<f32>(channels + 1, 1.0)[1..].to_vec());
        let (scale, shift) =
            (numbers::<T>(batch * channels, 0.5), numbers::<T>(batch * channels + 1, 0.5)[1..].to_vec());
        let eps = 1e-5;
        let norm = GroupNorm {
            spatial,
            groups,
            eps,
            weight: &weight,
            bias: &bias,
            modulation: modulated.then_some((&scale, &shift)),
            activation,
        };
        let size = channels / groups;
        let facts: Vec<(f64, f64)> = (0..batch * groups)
            .map(|index| {
                let rows = x[index / groups * image..][..image].chunks(channels);
                moments(rows.flat_map(|row| &row[index % groups * size..][..size]).map(|x| x.value()))
            })
            .collect();
        let run = |pool: &Pool, kernels: &Kernels, out: &mut [T]| crate::group_norm(pool, kernels, &norm, &x, out);
        everywhere(x.len(), run, |out| {
            assert_close(out, |i| {
                let (image_index, channel) = (i / image, i % channels);
                let (mean, variance) = facts[image_index * groups + channel / size];
                let factor = f64::from(weight[channel]) / (variance + f64::from(eps)).sqrt();
                let (mut normal, mut rest) = ((x[i].value() - mean) * factor, f64::from(bias[channel]));
                if modulated {
                    let scale = 1.0 + scale[image_index * channels + channel].value();
                    (normal, rest) = (normal * scale, rest * scale + shift[image_index * channels + channel].value());
                }
                // Sums of squares are off by 32 roundings; the activation's slope is at most 1.2.
                let tolerance = EPS * (40.0 * normal.abs() + 8.0 * rest.abs() + 10.0 * factor.abs() + 1.0);
                (activated(activation, normal + rest), tolerance)
            });
        });
    }
}

#[test]
fn groups_are_normalized_wherever_their_mean_lies() {
    check_group_norm::<f32>(0.0, false, Activation::None);
    check_group_norm::<f32>(-2000.0, false, Activation::Silu);
    check_group_norm::<f32>(1.0, true, Activation::Silu);
    check_group_norm::<bf16>(0.0, false, Activation::Silu);
    check_group_norm::<bf16>(20.0, true, Activation::None);
}

#[test]
fn a_constant_is_normalized_to_the_bias() {
    let (x, weight, bias) = (vec![1234.5_f32; 40 * 8], [3.0_f32; 8], [0.5_f32; 8]);
    let (modulation, activation) = (None, Activation::None);
    let norm = GroupNorm { spatial: 40, groups: 2, eps: 1e-6, weight: &weight, bias: &bias, modulation, activation };
    let run = |pool: &Pool, kernels: &Kernels, out: &mut [f32]| crate::group_norm(pool, kernels, &norm, &x, out);
    everywhere(x.len(), run, |out| assert!(out.iter().all(|&out| out == 0.5)));
    let run = |pool: &Pool, kernels: &Kernels, out: &mut [f32]| {
        crate::layer_norm(pool, kernels, 1e-6, &weight, &bias, &x, out);
    };
    everywhere(x.len(), run, |out| assert!(out.iter().all(|&out| out == 0.5)));
}

const SIZES: [(Size, Size); 6] = [
    (Size { height: 1, width: 1 }, Size { height: 3, width: 2 }),
    (Size { height: 3, width: 5 }, Size { height: 6, width: 10 }),
    (Size { height: 7, width: 4 }, Size { height: 3, width: 9 }),
    (Size { height: 6, width: 6 }, Size { height: 6, width: 6 }),
    (Size { height: 9, width: 8 }, Size { height: 4, width: 4 }),
    (Size { height: 33, width: 20 }, Size { height: 70, width: 41 }),
];

fn check_resize<T: Value + Float>() {
    for channels in [1, 3, 32, 67] {
        for (from, to) in SIZES {
            let x: Vec<T> = numbers(2 * from.height * from.width * channels, 2.0);
            let len = 2 * to.height * to.width * channels;
            let at = |image: usize, row: usize, column: usize, channel: usize| {
                x[((image * from.height + row) * from.width + column) * channels + channel].value()
            };
            let place = |i: usize| {
                let (pixel, channel) = (i / channels, i % channels);
                (pixel / to.width / to.height, pixel / to.width % to.height, pixel % to.width, channel)
            };
            let run = |pool: &Pool, _: &Kernels, out: &mut [T]| {
                crate::resize_nearest(pool, channels, from, to, &x, out);
            };
            everywhere(len, run, |out| {
                assert_close(out, |i| {
                    let (image, row, column, channel) = place(i);
                    let (row, column) = (row * from.height / to.height, column * from.width / to.width);
                    (at(image, row, column, channel), 0.0)
                });
            });
            let run = |pool: &Pool, kernels: &Kernels, out: &mut [T]| {
                crate::resize_bilinear(pool, kernels, channels, from, to, &x, out);
            };
            let tap = |i: usize, from: usize, to: usize| {
                let position = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
                let low = position as usize;
                (low, (low + 1).min(from - 1), position - low as f64)
            };
            everywhere(len, run, |out| {
                assert_close(out, |i| {
                    let (image, row, column, channel) = place(i);
                    let (top, bottom, down) = tap(row, from.height, to.height);
                    let (left, right, along) = tap(column, from.width, to.width);
                    let upper = (1.0 - along) * at(image, top, left, channel) + along * at(image, top, right, channel);
                    let lower =
                        (1.0 - along) * at(image, bottom, left, channel) + along * at(image, bottom, right, channel);
                    // The position is rounded too: by that of the largest index.
                    ((1.0 - down) * upper + down * lower, EPS * 3.0 * (10.0 + 2.0 * from.height.max(from.width) as f64))
                });
            });
        }
    }
}

#[test]
fn feature_maps_are_resized() {
    check_resize::<f32>();
    check_resize::<bf16>();
}

fn bytes<const SIZE: usize>(elements: &[[u8; SIZE]]) -> &[u8] {
    elements.as_flattened()
}

/// Elements that tell where they come from.
fn marked<const SIZE: usize>(count: usize) -> Vec<[u8; SIZE]> {
    (1..=count as u64).map(|i| std::array::from_fn(|byte| (i.wrapping_mul(0x9e37_79b9) >> (8 * byte)) as u8)).collect()
}

fn check_views<const SIZE: usize>() {
    let permutations: [(&[usize], &[usize]); 11] = [
        (&[], &[]),
        (&[5], &[0]),
        (&[3, 4], &[1, 0]),
        (&[70, 133], &[1, 0]),
        (&[2, 3, 5, 7], &[0, 2, 3, 1]),
        (&[2, 64, 17, 33], &[0, 3, 1, 2]),
        (&[4, 33, 20], &[2, 1, 0]),
        (&[2, 3, 4, 5, 6], &[4, 2, 0, 3, 1]),
        (&[2, 77, 12, 64], &[0, 2, 1, 3]),
        (&[1, 320, 16, 16], &[0, 2, 3, 1]),
        (&[3, 0, 2], &[2, 0, 1]),
    ];
    for (shape, axes) in permutations {
        let x = marked::<SIZE>(shape.iter().product());
        let strides = dense_strides(shape);
        let permuted: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
        let want = view(&x, &permuted, &axes.iter().map(|&axis| strides[axis]).collect::<Vec<_>>());
        let run = |pool: &Pool, _: &Kernels, out: &mut [u8]| crate::permute(pool, SIZE, shape, axes, bytes(&x), out);
        everywhere(x.len() * SIZE, run, |out| assert!(out == bytes(&want), "{shape:?} by {axes:?}"));
    }
    for [from, _, to] in BROADCASTS {
        let x = marked::<SIZE>(from.iter().product());
        let want = broadcast(&x, from, to);
        let run = |pool: &Pool, _: &Kernels, out: &mut [u8]| crate::expand(pool, SIZE, from, to, bytes(&x), out);
        everywhere(want.len() * SIZE, run, |out| assert_eq!(out, bytes(&want)));
    }
    let shape = [6, 90, 131];
    let x = marked::<SIZE>(6 * 90 * 131);
    for (axis, range) in [(0, 2..5), (1, 0..90), (1, 89..90), (2, 1..130), (2, 7..8), (1, 90..90)] {
        let strides = dense_strides(&shape);
        let mut cut = shape;
        cut[axis] = range.len();
        let want = if range.is_empty() { vec![] } else { view(&x[range.start * strides[axis]..], &cut, &strides) };
        let run = |pool: &Pool, _: &Kernels, out: &mut [u8]| {
            crate::slice(pool, SIZE, &shape, axis, range.clone(), bytes(&x), out);
        };
        everywhere(want.len() * SIZE, run, |out| assert_eq!(out, bytes(&want)));
    }
}

#[test]
fn views_are_copied() {
    check_views::<1>();
    check_views::<2>();
    check_views::<4>();
    check_views::<8>();
}

#[test]
fn padding_surrounds_with_zeros() {
    let cases: [(&[usize], &[[usize; 2]]); 6] = [
        (&[], &[]),
        (&[3], &[[2, 1]]),
        (&[2, 3], &[[1, 0], [0, 2]]),
        (&[2, 5, 4, 3], &[[0, 0], [1, 1], [2, 0], [0, 0]]),
        (&[1, 64, 64, 16], &[[0, 0], [1, 1], [1, 1], [0, 0]]),
        (&[2, 0, 2], &[[0, 0], [1, 1], [0, 1]]),
    ];
    for (shape, amounts) in cases {
        let x = marked::<2>(shape.iter().product());
        let target: Vec<usize> =
            shape.iter().zip(amounts).map(|(size, [before, after])| before + size + after).collect();
        let mut want = vec![[0; 2]; target.iter().product()];
        let (from, to) = (dense_strides(shape), dense_strides(&target));
        for (i, x) in x.iter().enumerate() {
            let place = |axis: usize| (i / from[axis] % shape[axis] + amounts[axis][0]) * to[axis];
            want[(0..shape.len()).map(place).sum::<usize>()] = *x;
        }
        let run = |pool: &Pool, _: &Kernels, out: &mut [u8]| crate::pad(pool, 2, shape, amounts, bytes(&x), out);
        everywhere(want.len() * 2, run, |out| assert_eq!(out, bytes(&want), "{shape:?} padded by {amounts:?}"));
    }
}

#[test]
fn parts_are_joined() {
    let run = |pool: &Pool, _: &Kernels, out: &mut [u8]| crate::concat(pool, 2, &[&[1, 2], &[], &[3, 4, 5, 6]], out);
    everywhere(6, run, |out| assert_eq!(out, [1, 3, 4, 2, 5, 6]));
    let (a, b) = (vec![1; 300 * 128], vec![2; 300 * 256]);
    let run = |pool: &Pool, _: &Kernels, out: &mut [u8]| crate::concat(pool, 300, &[&a, &b], out);
    everywhere(300 * 384, run, |out| assert!(out.iter().enumerate().all(|(i, &x)| x == 1 + u8::from(i % 384 >= 128))));
}

#[test]
fn rows_are_looked_up() {
    let table = marked::<4>(1000);
    let indices: Vec<i64> = (0..20_000).map(|i| i * 7 % 500).collect();
    let run = |pool: &Pool, _: &Kernels, out: &mut [u8]| {
        crate::gather_rows(pool, 8, bytes(&table), &indices, out).unwrap();
    };
    everywhere(20_000 * 8, run, |out| {
        for (out, &index) in out.chunks(8).zip(&indices) {
            assert_eq!(out, bytes(&table[2 * index as usize..][..2]));
        }
    });
    for bad in [500, -1, i64::MIN] {
        let error = crate::gather_rows(&pools()[0], 8, bytes(&table), &[3, bad], &mut [0; 16]).unwrap_err();
        assert_eq!(error, IndexError { index: bad, position: 1, rows: 500 });
    }
    let mut out = [0; 4];
    crate::take_row(3, 2, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], &[2, 0], &mut out).unwrap();
    assert_eq!(out, [4, 5, 6, 7]);
    let error = crate::take_row(3, 2, &[0; 12], &[2, 3], &mut out).unwrap_err();
    assert_eq!(error.to_string(), "index 3 at position 1 is not in a table of 3 rows");
}

fn converted<A: Scalar, B: Scalar + PartialEq + std::fmt::Debug>(
    x: &[A],
    want: impl Fn(A) -> B,
    bits: impl Fn(B) -> u64,
) {
    for kernels in Kernels::available() {
        let mut out = vec![B::default(); x.len()];
        crate::convert(&pools()[2], kernels, x, &mut out);
        for (&x, &out) in x.iter().zip(&out) {
            assert_eq!(bits(out), bits(want(x)), "{} from {:?}, {out:?}", kernels.tier, x.to_f32());
        }
    }
}

#[test]
fn conversions_have_the_bits_of_half() {
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    let f16s: Vec<f16> = halves.iter().map(|&bits| f16::from_bits(bits)).collect();
    let bf16s: Vec<bf16> = halves.iter().map(|&bits| bf16::from_bits(bits)).collect();
    let f32_bits = |x: f32| u64::from(x.to_bits());
    converted(&f16s, f16::to_f32, f32_bits);
    // Widening only moves bits: a signalling NaN passes as it is.
    converted(&bf16s, |x| f32::from_bits(u32::from(x.to_bits()) << 16), f32_bits);
    converted(&f16s, |x| bf16::from_f32(x.to_f32()), |x| u64::from(x.to_bits()));
    converted(&bf16s, |x| f16::from_f32(x.to_f32()), |x| u64::from(x.to_bits()));
    // Every exponent, with mantissas around every tie.
    let f32s: Vec<f32> = (0..=0x1ff_u32)
        .flat_map(|top| (0..0x80_0000_u32).step_by(0x1000).map(move |low| (top << 23, low)))
        .flat_map(|(top, low)| [-1, 0, 1].map(|step| f32::from_bits(top | low.wrapping_add_signed(step) & 0x7f_ffff)))
        .collect();
    converted(&f32s, f16::from_f32, |x| u64::from(x.to_bits()));
    converted(&f32s, bf16::from_f32, |x| u64::from(x.to_bits()));
}

#[test]
fn integers_are_converted() {
    let x = [0_i64, 1, -1, 300, -129, i64::MAX, i64::MIN, (1 << 24) + 1];
    converted(&x, |x| x as f32, |x| u64::from(x.to_bits()));
    converted(&x, |x| bf16::from_f32(x as f32), |x| u64::from(x.to_bits()));
    converted(&x, |x| x as i32, |x| x as u64);
    converted(&x, |x| x as i8, |x| x as u64);
    converted(&x, |x| x as u8, u64::from);
    let x = [0.0_f32, -0.9, 1.9, 300.0, -300.0, f32::NAN, f32::INFINITY];
    converted(&x, |x| x as i64, |x| x as u64);
    converted(&x, |x| x as u8, u64::from);
    converted(&[-128_i8, 127, 0], f32::from, |x| u64::from(x.to_bits()));
    let run = |pool: &Pool, kernels: &Kernels, out: &mut [u8]| crate::truth(pool, kernels, &x, out);
    everywhere(7, run, |out| assert_eq!(out, [0, 1, 1, 1, 1, 1, 1]));
    let run = |pool: &Pool, kernels: &Kernels, out: &mut [u8]| crate::truth(pool, kernels, &[0_i64, 1 << 40], out);
    everywhere(2, run, |out| assert_eq!(out, [0, 1]));
}

fn check_quantization<T: Value + Float>() {
    for (rows, width) in [(1, 1), (3, 5), (4, 320), (2, 4097), (200, 257)] {
        let mut x: Vec<T> = around(rows * width, 0.5, 1.0);
        x[0] = T::new(0.0);
        for kernels in Kernels::available() {
            let mut results = pools().each_ref().map(|pool| {
                let (mut q, mut scales) = (vec![0; x.len()], vec![RowScale::default(); rows]);
                crate::quantize_rows(pool, kernels, width, &x, &mut q, &mut scales);
                (q, scales)
            });
            assert!(results[0] == results[1] && results[0] == results[2]);
            let (q, scales) = std::mem::take(&mut results[0]);
            for ((x, q), scale) in x.chunks(width).zip(q.chunks(width)).zip(scales) {
                let (low, high) = x.iter().fold((0.0_f64, 0.0_f64), |(l, h), x| (l.min(x.value()), h.max(x.value())));
                assert!((f64::from(scale.scale) - (high - low) / 255.0).abs() < 1e-6 || high == low);
                for (x, &q) in x.iter().zip(q) {
                    let error = x.value() - f64::from(scale.scale) * f64::from(i32::from(q) - scale.zero);
                    // Zero is rounded as well: the ends may lie half a step outside.
                    assert!(
                        error.abs() <= f64::from(scale.scale) * 0.5001 * if q == 0 || q == 255 { 2.0 } else { 1.0 }
                    );
                    assert!(x.value() != 0.0 || i32::from(q) == scale.zero);
                }
            }
        }
    }
}

#[test]
fn quantized_rows_are_within_half_a_step() {
    check_quantization::<f32>();
    check_quantization::<bf16>();
    let x = [0.0_f32, 0.0, 1.0, f32::NAN, f32::INFINITY, 2.0, 3e38, -3e38, 1e-40, 0.0];
    for kernels in Kernels::available() {
        let (mut q, mut scales) = ([9; 10], [RowScale::default(); 5]);
        crate::quantize_rows(&pools()[0], kernels, 2, &x, &mut q, &mut scales);
        assert_eq!((scales[0], [q[0], q[1]]), (RowScale { scale: 1.0, zero: 0 }, [0, 0]));
        assert!(scales[1..4].iter().all(|scale| scale.scale.is_nan()) && q[2..8] == [0; 6]);
        assert_eq!((scales[4], [q[8], q[9]]), (RowScale { scale: 1.0, zero: 0 }, [0, 0]));
    }
}

fn check_weights<T: Value + Float>(scale: f64) {
    for (rows, width) in [(1, 1), (3, 5), (4, 320), (200, 257)] {
        let x: Vec<T> = numbers(rows * width, scale);
        for kernels in Kernels::available() {
            let results = pools().each_ref().map(|pool| {
                let (mut q, mut scales, mut sums) = (vec![0; x.len()], vec![f16::ZERO; rows], vec![0; rows]);
                crate::quantize_weights(pool, kernels, width, &x, &mut q, &mut scales, &mut sums);
                let mut back = vec![T::new(0.0); x.len()];
                crate::dequantize_rows(pool, kernels, width, &q, &scales, &mut back);
                (q, scales, sums, back.iter().map(|x| x.bits()).collect::<Vec<_>>(), back)
            });
            assert!(
                results
                    .iter()
                    .all(|r| (&r.0, &r.1, &r.2, &r.3) == (&results[0].0, &results[0].1, &results[0].2, &results[0].3))
            );
            let (q, scales, sums, _, back) = &results[0];
            for (row, scale) in scales.iter().enumerate() {
                let range = row * width..(row + 1) * width;
                assert_eq!(sums[row], q[range.clone()].iter().map(|&q| i32::from(q)).sum::<i32>());
                assert!(q[range.clone()].iter().all(|&q| q >= -127));
                for i in range {
                    let exact = scale.to_f64() * f64::from(q[i]);
                    assert!((x[i].value() - exact).abs() <= scale.to_f64() * 0.5001, "{} {exact}", x[i].value());
                    assert!((back[i].value() - exact).abs() <= T::ROUNDOFF * exact.abs());
                }
            }
        }
    }
}

#[test]
fn quantized_weights_are_within_half_a_step() {
    check_weights::<f32>(0.1);
    check_weights::<f32>(1e-5);
    check_weights::<bf16>(0.1);
    let (mut q, mut scales, mut sums) = ([9; 6], [f16::ZERO; 3], [9; 3]);
    let x = [0.0_f32, 0.0, 1.0, f32::NAN, 1e-12, -1e-12];
    crate::quantize_weights(&pools()[0], crate::kernels(), 2, &x, &mut q, &mut scales, &mut sums);
    assert_eq!((q, sums, scales[0]), ([0, 0, 0, 0, 0, 0], [0, 0, 0], f16::ZERO));
    assert!(scales[1].is_nan());
}
