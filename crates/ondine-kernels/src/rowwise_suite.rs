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
