//! Functions of one, two and three operands.

use half::bf16;

use super::{
    ACTIVATIONS, BROADCASTS, EPS, LENGTHS, Value, activated, assert_close, broadcast, everywhere, numbers, values,
};
use crate::{Activation, Binary, Comparison, Cpu, Float, Strided, Unary, broadcast_strides, suite::cpus};

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
            let run = |cpu: &Cpu, out: &mut [T]| crate::unary(cpu, op, &x, out);
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
        let run = |cpu: &Cpu, out: &mut [f32]| crate::unary(cpu, op, &x, out);
        everywhere(x.len(), run, |out| assert_close(out, |i| (unary_oracle(op, x[i].value()), EPS * 1e-2)));
    }
}

#[test]
fn limits_of_activations_hold() {
    let x = [f32::INFINITY, f32::NEG_INFINITY, 100.0, -100.0, 0.0];
    let expected = [
        (Unary::Activation(Activation::Relu), [f32::INFINITY, 0.0, 100.0, 0.0, 0.0]),
        (Unary::Activation(Activation::Tanh), [1.0, -1.0, 1.0, -1.0, 0.0]),
        (Unary::Exp, [f32::INFINITY, 0.0, f32::INFINITY, 3.783_5e-44, 1.0]),
        (Unary::Rsqrt, [0.0, f32::NAN, 0.1, f32::NAN, f32::INFINITY]),
    ];
    for (op, want) in expected {
        let run = |cpu: &Cpu, out: &mut [f32]| crate::unary(cpu, op, &x, out);
        everywhere(5, run, |out| assert_close(out, |i| (f64::from(want[i]), 0.0)));
    }
}

#[test]
fn integers_are_negated() {
    let x = [3, -4, 0, i64::MIN, i64::MAX];
    let run = |op| {
        let mut out = [0; 5];
        crate::integer_unary(cpus()[1].pool(), op, &x, &mut out);
        out
    };
    assert_eq!(run(Unary::Neg), [-3, 4, 0, i64::MIN, -i64::MAX]);
    assert_eq!(run(Unary::Abs), [3, 4, 0, i64::MIN, i64::MAX]);
}

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
        Binary::Prelu if a > 0.0 => a,
        Binary::Prelu => a * b,
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
            let run = |cpu: &Cpu, out: &mut [T]| {
                crate::binary(cpu, op, shape, left, right, out);
            };
            everywhere(len, run, |out| {
                assert_close(out, |i| {
                    let want = binary_oracle(op, a_all[i], b_all[i]);
                    (want, EPS * want.abs())
                });
            });
        }
        for op in [Comparison::Equal, Comparison::Less] {
            let run = |cpu: &Cpu, out: &mut [u8]| {
                crate::compare(cpu, op, shape, left, right, out);
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
    let arithmetic = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Min, Binary::Max, Binary::Prelu];
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
        crate::binary(&cpus()[0], op, &[7], a, b, &mut out);
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
    let run = |cpu: &Cpu, out: &mut [u8]| {
        let condition = Strided { data: &condition[..], strides: &[3, 1] };
        let (a, b) = (Strided { data: &a[..], strides: &[0, 1] }, Strided { data: &b[..], strides: &[0, 0] });
        crate::select(cpu.pool(), 4, &[2, 3], condition, a, b, out);
    };
    everywhere(24, run, |out| assert_eq!(out, bytes(&[1.0, 9.0, 9.0, 1.0, 9.0, 3.0])));
    let len = 50_000;
    let condition: Vec<u8> = (0..len).map(|i| u8::from(i % 3 == 0)).collect();
    let (a, b) = (vec![1_u8; len * 2], vec![2_u8; len * 2]);
    let run = |cpu: &Cpu, out: &mut [u8]| {
        let [condition, a, b] = [&condition, &a, &b].map(|data| Strided { data, strides: &[1] });
        crate::select(cpu.pool(), 2, &[len], condition, a, b, out);
    };
    everywhere(2 * len, run, |out| assert!(out.iter().enumerate().all(|(i, &x)| x == 1 + u8::from(i / 2 % 3 != 0))));
}

fn check_glu<T: Value + Float>() {
    for (rows, width) in [(1, 1), (3, 5), (7, 64), (5, 1031), (40, 1280)] {
        let x: Vec<T> = numbers(2 * rows * width, 3.0);
        for activation in ACTIVATIONS {
            let run = |cpu: &Cpu, out: &mut [T]| {
                crate::glu(cpu, activation, width, &x, out);
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
