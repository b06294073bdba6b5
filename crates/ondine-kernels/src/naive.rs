//! What the matrix kernels should compute, in f64 and in the plainest way: the oracle of the tests.

use crate::{conv::ConvShape, math::Activation};

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
                let place = [
                    y * shape.stride[0] + tap_y * shape.dilation[0],
                    x * shape.stride[1] + tap_x * shape.dilation[1],
                ];
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
