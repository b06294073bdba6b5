//! Rows that are quantized as they are made, each with its scale beside.

use half::bf16;

use super::{Value, around, numbers};
use crate::{
    Activation, Cpu, Epilogue, Float, GemmProblem, GroupNorm, Input, Output, PackedWeights, RowScale, RowsOut,
    WeightShape, WeightSource, WeightType, pack, quantize_rows, quantized_row_len,
    suite::{Aligned, tiers},
};

const SHAPES: [(usize, usize); 6] = [(0, 4), (1, 4), (3, 5), (4, 320), (2, 4098), (250, 259)];

/// Values and scales of quantized rows; the bytes between them must be zero.
fn apart(width: usize, rows: &[u8]) -> (Vec<u8>, Vec<RowScale>) {
    let rows = rows.chunks_exact(quantized_row_len(width)).map(|row| {
        assert!(row[width..row.len() - 8].iter().all(|&filling| filling == 0));
        (&row[..width], RowScale::of_row(row))
    });
    let (values, scales): (Vec<_>, Vec<_>) = rows.unzip();
    (values.concat(), scales)
}

/// Checks that what `quantized` writes is exactly what `plain` writes in full precision, then quantized.
fn check_rows<T: Float>(
    (rows, width): (usize, usize),
    x: &[T],
    plain: impl Fn(&Cpu, &[f32], &mut [f32]),
    quantized: impl Fn(&Cpu, RowsOut<'_, T>),
) {
    let wide: Vec<f32> = x.iter().map(|x| x.widen()).collect();
    for cpus in tiers() {
        let cpu = &cpus[0];
        let mut between = vec![f32::NAN; x.len()];
        plain(cpu, &wide, &mut between);
        let (mut values, mut scales) = (vec![0; x.len()], vec![RowScale::default(); rows]);
        quantize_rows(cpu, width, &between, &mut values, &mut scales);
        for cpu in &cpus {
            let mut out = vec![0xee; rows * quantized_row_len(width)];
            quantized(cpu, RowsOut::Quantized(&mut out, None));
            assert_eq!(apart(width, &out), (values.clone(), scales.clone()), "{} {rows} x {width}", cpu.tier());
        }
    }
}

fn check_all<T: Value + Float>() {
    for (rows, width) in SHAPES {
        let x: Vec<T> = around(rows * width, 0.3, 1.0);
        let (weight, bias) = (numbers::<f32>(width, 2.0), numbers::<f32>(width + 1, 1.0)[1..].to_vec());
        let copy = |_: &Cpu, x: &[f32], out: &mut [f32]| out.copy_from_slice(x);
        check_rows((rows, width), &x, copy, |cpu, out| {
            let RowsOut::Quantized(out, scale) = out else { unreachable!("quantized rows were asked for") };
            crate::quantize_beside(cpu, width, &x, scale, out);
        });
        check_rows(
            (rows, width),
            &x,
            |cpu, x, out| crate::layer_norm(cpu, 1e-5, &weight, &bias, x, out),
            |cpu, out| crate::layer_norm(cpu, 1e-5, &weight, &bias, &x, out),
        );
        check_rows(
            (rows, width),
            &x,
            |cpu, x, out| crate::rms_norm(cpu, 1e-5, &weight, x, out),
            |cpu, out| crate::rms_norm(cpu, 1e-5, &weight, &x, out),
        );
        let (spatial, groups) = (rows.max(1), if width.is_multiple_of(4) { 4 } else { 1 });
        let norm = GroupNorm::<'_, f32> {
            spatial,
            groups,
            eps: 1e-5,
            weight: &weight,
            bias: &bias,
            modulation: None,
            activation: Activation::Silu,
        };
        let GroupNorm { eps, activation, .. } = norm;
        check_rows(
            (rows, width),
            &x,
            |cpu, x, out| crate::group_norm(cpu, &norm, x, out),
            |cpu, out| {
                let (weight, bias) = (&weight, &bias);
                let norm = GroupNorm { spatial, groups, eps, weight, bias, modulation: None, activation };
                crate::group_norm(cpu, &norm, &x, out);
            },
        );
    }
}

#[test]
fn norms_quantize_their_exact_results() {
    check_all::<f32>();
    check_all::<bf16>();
}

#[test]
fn products_read_the_scale_beside_a_row_as_they_do_one_apart() {
    for (rows, channels, outputs) in [(0, 4, 3), (1, 32, 64), (9, 33, 17), (200, 70, 130)] {
        let (x, weights) = (around::<f32>(rows * channels, 0.2, 1.0), numbers::<f32>(channels * outputs, 1.0));
        let shape = WeightShape::linear(WeightType::S8, outputs, channels);
        for cpus in tiers() {
            let cpu = &cpus[1];
            let mut packed = Aligned::new(shape.packed_size(cpu));
            pack(cpu, &shape, WeightSource::F32(&weights), packed.get_mut());
            let product = |input: Input<'_>, input_stride: usize| {
                let weights = PackedWeights::new(cpu, shape, packed.get());
                let epilogue = Epilogue::default();
                let problem = GemmProblem { rows, input, input_stride, weights, epilogue, out_stride: outputs };
                let mut out = vec![0.0; rows * outputs];
                crate::gemm(cpu, &problem, Output::F32(&mut out));
                out
            };
            let (mut values, mut scales) = (vec![0; x.len()], vec![RowScale::default(); rows]);
            quantize_rows(cpu, channels, &x, &mut values, &mut scales);
            let mut beside = vec![0xee; rows * quantized_row_len(channels)];
            crate::quantize_beside(cpu, channels, &x, None, &mut beside);
            let wanted = product(Input::U8 { values: &values, scales: &scales }, channels);
            assert_eq!(product(Input::Rows8(&beside), quantized_row_len(channels)), wanted, "{}", cpu.tier());
        }
    }
}

#[test]
fn rows_take_a_scale_that_was_chosen_before() {
    let (rows, width) = (5, 37);
    let mut x = around::<f32>(rows * width, 0.3, 1.0);
    x[40] = 100.0;
    x[80] = -100.0;
    x[width * 4] = f32::NAN;
    let scale = RowScale::spanning(-0.5, 1.5);
    for cpus in tiers() {
        let cpu = &cpus[0];
        let mut out = vec![0xee; rows * quantized_row_len(width)];
        crate::quantize_beside(&cpus[1], width, &x, Some(scale), &mut out);
        let (values, scales) = apart(width, &out);
        for (index, (q, x)) in values.iter().zip(&x).enumerate().take(4 * width) {
            let found = scale.scale * (i32::from(*q) - scale.zero) as f32;
            let wanted = x.clamp(scale.scale * -scale.zero as f32, scale.scale * (255 - scale.zero) as f32);
            assert!((found - wanted).abs() <= 0.501 * scale.scale, "{found} for {x} at {index}, {}", cpu.tier());
        }
        assert!(scales[..4].iter().all(|found| *found == scale) && scales[4].scale.is_nan(), "{}", cpu.tier());
    }
}
