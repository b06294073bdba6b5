//! Softmax, argmax and reductions.

use half::bf16;

use super::{EPS, Value, assert_close, everywhere, numbers, values};
use crate::{Cpu, Float, Reduce};

fn check_softmax<T: Value + Float>() {
    for (rows, width) in [(1, 1), (3, 2), (5, 77), (4, 129), (2, 4096), (300, 257)] {
        let mut x: Vec<T> = numbers(rows * width, 20.0);
        x[0] = T::new(f64::NEG_INFINITY);
        x[width * (rows - 1)..].fill(T::new(f64::NEG_INFINITY));
        let run = |cpu: &Cpu, out: &mut [T]| crate::softmax(cpu, width, &x, out);
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
        let run = |cpu: &Cpu, out: &mut [f32]| crate::softmax(cpu, 3, &x, out);
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
            |cpu, out| crate::argmax(cpu, width, &x, out),
            |out| {
                assert_eq!(out, want);
            },
        );
        everywhere(
            rows,
            |cpu, out| crate::argmax(cpu, width, &f32s, out),
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
            let run = |cpu: &Cpu, out: &mut [T]| crate::reduce(cpu, how, shape, &x, out);
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
            let run = |cpu: &Cpu, out: &mut [f32]| crate::reduce(cpu, how, shape, &x, out);
            everywhere(shape[2], run, |out| assert!(out[0].is_nan()));
        }
    }
}
