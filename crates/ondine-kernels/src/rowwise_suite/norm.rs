//! Normalizations and resizing.

use half::bf16;

use super::{EPS, Value, activated, around, assert_close, everywhere, numbers};
use crate::{Activation, Cpu, Float, GroupNorm, Size};

/// Mean and variance of some numbers.
fn moments(x: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = x.clone().count() as f64;
    let mean = x.clone().sum::<f64>() / count;
    (mean, x.map(|x| (x - mean) * (x - mean)).sum::<f64>() / count)
}

fn check_row_norms<T: Value + Float>(mean: f64) {
    for (rows, width) in [(1, 1), (3, 2), (7, 77), (5, 768), (2, 10_007), (60, 1280)] {
        let mut x: Vec<T> = around(rows * width, mean, 1.0);
        // An outlier as the origin of the deviations.
        x[0] = T::new(mean + 50.0);
        let (weight, bias) = (numbers::<f32>(width, 2.0), numbers::<f32>(width + 1, 1.0)[1..].to_vec());
        let eps = 1e-5;
        let row = |i: usize| x[i / width * width..][..width].iter().map(|x| x.value());
        let run = |cpu: &Cpu, out: &mut [T]| {
            crate::layer_norm(cpu, eps, &weight, &bias, &x, out);
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
        let run = |cpu: &Cpu, out: &mut [T]| {
            crate::rms_norm(cpu, eps, &weight, &x, out);
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
        let run = |cpu: &Cpu, out: &mut [T]| crate::group_norm(cpu, &norm, &x, out);
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
    let run = |cpu: &Cpu, out: &mut [f32]| crate::group_norm(cpu, &norm, &x, out);
    everywhere(x.len(), run, |out| assert!(out.iter().all(|&out| out == 0.5)));
    let run = |cpu: &Cpu, out: &mut [f32]| {
        crate::layer_norm(cpu, 1e-6, &weight, &bias, &x, out);
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
            let run = |cpu: &Cpu, out: &mut [T]| {
                crate::resize_nearest(cpu.pool(), channels, from, to, &x, out);
            };
            everywhere(len, run, |out| {
                assert_close(out, |i| {
                    let (image, row, column, channel) = place(i);
                    let (row, column) = (row * from.height / to.height, column * from.width / to.width);
                    (at(image, row, column, channel), 0.0)
                });
            });
            let run = |cpu: &Cpu, out: &mut [T]| {
                crate::resize_bilinear(cpu, channels, from, to, &x, out);
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
