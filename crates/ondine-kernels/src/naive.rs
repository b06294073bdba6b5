//! What the matrix kernels should compute, in f64 and in the plainest way: the oracle of the tests.

use crate::{AttentionMask, AttentionShape, ConvShape, math::Activation};

/// A sum of products and the sum of their absolute values, from which the error that rounding may cause follows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) value: f64,
    pub(crate) magnitude: f64,
}

impl Sum {
    fn add(&mut self, a: f64, b: f64) {
        self.value += a * b;
        self.magnitude += (a * b).abs();
    }
}

/// `[pixels, outputs]` of a convolution of `inputs`, each `[batch, height, width, channels]`, with weights
/// `[outputs, channels / groups, taps]`.
pub(crate) fn conv2d(shape: &ConvShape, inputs: &[Vec<f64>], weights: &[f64]) -> Vec<Sum> {
    let [out_height, out_width] = shape.out_size();
    let mut out = Vec::new();
    for image in 0..shape.batch {
        for y in 0..out_height {
            for x in 0..out_width {
                for output in 0..shape.outputs {
                    out.push(conv_at(shape, inputs, weights, [image, y, x, output]));
                }
            }
        }
    }
    out
}

fn conv_at(shape: &ConvShape, inputs: &[Vec<f64>], weights: &[f64], [image, y, x, output]: [usize; 4]) -> Sum {
    let [kernel_height, kernel_width] = shape.kernel;
    let channels = (shape.channels[0] + shape.channels[1]) / shape.groups;
    let group = output / (shape.outputs / shape.groups);
    let mut sum = Sum::default();
    for channel in 0..channels {
        for tap_y in 0..kernel_height {
            for tap_x in 0..kernel_width {
                let place =
                    [y * shape.stride[0] + tap_y * shape.dilation[0], x * shape.stride[1] + tap_x * shape.dilation[1]];
                let weight = weights[((output * channels + channel) * kernel_height + tap_y) * kernel_width + tap_x];
                if let Some(value) = pixel(shape, inputs, image, place, group * channels + channel) {
                    sum.add(value, weight);
                }
            }
        }
    }
    sum
}

/// A channel of the padded, doubled, concatenated input; `None` in the padding.
fn pixel(shape: &ConvShape, inputs: &[Vec<f64>], image: usize, [y, x]: [usize; 2], channel: usize) -> Option<f64> {
    let double = if shape.upsample { 2 } else { 1 };
    let y = y.checked_sub(shape.padding[0]).filter(|&y| y < double * shape.height)? / double;
    let x = x.checked_sub(shape.padding[2]).filter(|&x| x < double * shape.width)? / double;
    let (input, channel) = if channel < shape.channels[0] { (0, channel) } else { (1, channel - shape.channels[0]) };
    let pixel = (image * shape.height + y) * shape.width + x;
    Some(inputs[input][pixel * shape.channels[input] + channel])
}

/// `[batch, queries, heads, value_dim]` of an attention; operands as [`AttentionShape`] says.
pub(crate) fn attention(shape: &AttentionShape, [q, k, v]: [&[f64]; 3], mask: AttentionMask<'_>) -> Vec<f64> {
    let &AttentionShape { batch, heads, kv_heads, queries, keys, head_dim, value_dim, strides, scale, .. } = shape;
    let mut out = Vec::new();
    for (b, i, h) in (0..batch).flat_map(|b| (0..queries).flat_map(move |i| (0..heads).map(move |h| (b, i, h)))) {
        let kv = h / (heads / kv_heads);
        let (length, count) = match mask {
            AttentionMask::Lengths(lengths) => (lengths[b], keys),
            AttentionMask::Ring(lengths) => (lengths[b], lengths[b]),
            _ => (keys, keys),
        };
        let row = |j: usize| b * keys + if matches!(mask, AttentionMask::Ring(_)) { j % keys } else { j };
        let score = |j: usize| {
            let query = &q[(b * queries + i) * strides[0] + h * head_dim..][..head_dim];
            let key = &k[row(j) * strides[1] + kv * head_dim..][..head_dim];
            let score = f64::from(scale) * query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>();
            // The keys that the sequence has, and the place of the query among them.
            let place = (i + length) as isize - queries as isize;
            let early = shape.window.is_some_and(|window| j as isize <= place - window as isize);
            let hidden = j >= length || early || (shape.causal && j as isize > place);
            match mask {
                _ if hidden => f64::NEG_INFINITY,
                AttentionMask::None | AttentionMask::Lengths(_) | AttentionMask::Ring(_) => score,
                AttentionMask::Keys(seen) => {
                    if seen[b * keys + j] {
                        score
                    } else {
                        f64::NEG_INFINITY
                    }
                }
                AttentionMask::Additive { values, batch, heads: per_head } => {
                    let b = if batch { b } else { 0 };
                    let plane = if per_head { b * heads + h } else { b };
                    score + f64::from(values[(plane * queries + i) * keys + j])
                }
            }
        };
        let scores: Vec<f64> = (0..count).map(score).collect();
        let max = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let weights: Vec<f64> = scores.iter().map(|s| if max.is_finite() { (s - max).exp() } else { 0.0 }).collect();
        let total = weights.iter().sum::<f64>();
        for d in 0..value_dim {
            let value = |j: usize| v[row(j) * strides[2] + kv * value_dim + d];
            let sum: f64 = weights.iter().enumerate().map(|(j, w)| w * value(j)).sum();
            out.push(if total > 0.0 { sum / total } else { 0.0 });
        }
    }
    out
}

/// An activation.
pub(crate) fn activation(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::None => x,
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::GeluTanh => {
            x * 0.5 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Relu => x.max(0.0),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::HardSigmoid => (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
    }
}

/// The error function, by its series if `x` is small and by its continued fraction if not.
pub(crate) fn erf(x: f64) -> f64 {
    let t = x.abs();
    if t < 3.0 {
        let (mut term, mut sum) = (t, t);
        for n in 1..200 {
            term *= -t * t / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        (sum * std::f64::consts::FRAC_2_SQRT_PI).copysign(x)
    } else {
        let tail = (1..100).rev().fold(t, |f, n| t + f64::from(n) / 2.0 / f);
        (1.0 - (-t * t).exp() / tail / std::f64::consts::PI.sqrt()).copysign(x)
    }
}
