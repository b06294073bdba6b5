//! What a compression did.

use std::sync::Arc;

use serde::Serialize;

/// An error in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Loss {
    /// The root of the squared error over that of the squares.
    pub relative: f64,
    /// Peak signal-to-noise ratio in dB, the peak being the largest absolute value; none if there is no error.
    pub psnr: Option<f64>,
}

impl Loss {
    /// The loss of sums over `count` numbers.
    pub(super) fn new(noise: f64, signal: f64, peak: f64, count: usize) -> Self {
        let psnr = 10.0 * (peak * peak * count as f64 / noise).log10();
        Self { relative: if noise > 0.0 { (noise / signal).sqrt() } else { 0.0 }, psnr: (noise > 0.0).then_some(psnr) }
    }

    /// The loss of numbers that should have been others.
    pub(super) fn between(found: &[f32], wanted: &[f32]) -> Self {
        let pairs = || found.iter().zip(wanted).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        let noise = pairs().map(|(a, b)| (a - b).powi(2)).sum();
        let peak = wanted.iter().fold(0.0_f64, |most, &x| most.max(f64::from(x).abs()));
        Self::new(noise, pairs().map(|(_, b)| b * b).sum(), peak, found.len())
    }
}

/// What became of a layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// The path of its weight.
    pub path: Arc<str>,
    /// The sizes of its weight.
    pub shape: Vec<usize>,
    /// Its format, or `keep`.
    pub format: String,
    /// Bytes of its weight before.
    pub bytes_before: u64,
    /// Bytes of all tensors of its weight now.
    pub bytes_after: u64,
    /// The error of its weight.
    pub weight: Loss,
    /// The error of what it yields for its own inputs, if it was measured.
    pub output: Option<Loss>,
}

/// What a compression did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The layers, in the order of their paths.
    pub layers: Vec<LayerReport>,
    /// Bytes of all weights before.
    pub bytes_before: u64,
    /// Bytes of all weights now.
    pub bytes_after: u64,
    /// The error of the functions' results as the compressed asset runs, if it was measured: of the worst result of all
    /// calls, the one with the least [`Loss::psnr`].
    pub outputs: Option<Loss>,
}
