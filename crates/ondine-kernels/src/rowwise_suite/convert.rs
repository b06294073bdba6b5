//! Conversions and quantization.

use half::{bf16, f16};

use super::{Value, around, everywhere, numbers};
use crate::{
    Cpu, Float, RowScale, Scalar,
    suite::{cpus, tiers},
};

fn converted<A: Scalar, B: Scalar + PartialEq + std::fmt::Debug>(
    x: &[A],
    want: impl Fn(A) -> B,
    bits: impl Fn(B) -> u64,
) {
    for cpus in tiers() {
        let cpu = &cpus[0];
        let mut out = vec![B::default(); x.len()];
        crate::convert(&cpus[2], x, &mut out);
        for (&x, &out) in x.iter().zip(&out) {
            assert_eq!(bits(out), bits(want(x)), "{} from {:?}, {out:?}", cpu.tier(), x.to_f32());
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
    let run = |cpu: &Cpu, out: &mut [u8]| crate::truth(cpu, &x, out);
    everywhere(7, run, |out| assert_eq!(out, [0, 1, 1, 1, 1, 1, 1]));
    let run = |cpu: &Cpu, out: &mut [u8]| crate::truth(cpu, &[0_i64, 1 << 40], out);
    everywhere(2, run, |out| assert_eq!(out, [0, 1]));
}

fn check_quantization<T: Value + Float>() {
    for (rows, width) in [(1, 1), (3, 5), (4, 320), (2, 4097), (200, 257)] {
        let mut x: Vec<T> = around(rows * width, 0.5, 1.0);
        x[0] = T::new(0.0);
        for cpus in tiers() {
            let mut results = cpus.each_ref().map(|cpu| {
                let (mut q, mut scales) = (vec![0; x.len()], vec![RowScale::default(); rows]);
                crate::quantize_rows(cpu, width, &x, &mut q, &mut scales);
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
    for cpus in tiers() {
        let cpu = &cpus[0];
        let (mut q, mut scales) = ([9; 10], [RowScale::default(); 5]);
        crate::quantize_rows(cpu, 2, &x, &mut q, &mut scales);
        assert_eq!((scales[0], [q[0], q[1]]), (RowScale { scale: 1.0, zero: 0 }, [0, 0]));
        assert!(scales[1..4].iter().all(|scale| scale.scale.is_nan()) && q[2..8] == [0; 6]);
        assert_eq!((scales[4], [q[8], q[9]]), (RowScale { scale: 1.0, zero: 0 }, [0, 0]));
    }
}

fn check_weights<T: Value + Float>(scale: f64) {
    for (rows, width) in [(1, 1), (3, 5), (4, 320), (200, 257)] {
        let x: Vec<T> = numbers(rows * width, scale);
        for cpus in tiers() {
            let results = cpus.each_ref().map(|cpu| {
                let (mut q, mut scales, mut sums) = (vec![0; x.len()], vec![f16::ZERO; rows], vec![0; rows]);
                crate::quantize_weights(cpu, width, &x, &mut q, &mut scales, &mut sums);
                let mut back = vec![T::new(0.0); x.len()];
                crate::dequantize_rows(cpu, width, &q, &scales, &mut back);
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
    crate::quantize_weights(&cpus()[0], 2, &x, &mut q, &mut scales, &mut sums);
    assert_eq!((q, sums, scales[0]), ([0, 0, 0, 0, 0, 0], [0, 0, 0], f16::ZERO));
    assert!(scales[1].is_nan());
}
