//! Rules of resampling: of which elements of a dimension, and of how much of each, a new one is made.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// By what rule a dimension is resampled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interpolation {
    /// What the elements are multiplied by.
    pub kernel: Kernel,
    /// True if the first and last elements stay where they are; false if the edges of the dimension do.
    pub align_corners: bool,
    /// New size by old size, where the caller said so; else it follows from the sizes.
    pub scale: Option<f64>,
    /// True if the kernel is widened where elements become fewer.
    pub antialias: bool,
}

/// The weight of an element by its distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kernel {
    /// The element below the place, `floor(i * scale)`.
    Nearest,
    /// The element nearest to the place.
    NearestExact,
    /// Linear between neighbours.
    Linear,
    /// Cubic convolution (Keys 1981) with `a = -0.75`, or -0.5 if antialiased.
    Cubic,
}

/// The sources of each element of a resampled dimension.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    /// For each new element the range of its sources in `weights`.
    pub outputs: Vec<Range<usize>>,
    /// The index of a source, and what it is multiplied by.
    pub weights: Vec<(usize, f32)>,
}

impl Interpolation {
    /// The sources of each of `to` elements among `from`.
    #[must_use]
    pub fn sources(&self, from: usize, to: usize) -> Sources {
        let mut sources = Sources::default();
        if from == 0 {
            return sources;
        }
        // PyTorch computes places in the type of the elements.
        let scale = match self.scale {
            _ if self.align_corners => {
                if to > 1 {
                    (from - 1) as f32 / (to - 1) as f32
                } else {
                    0.0
                }
            }
            Some(scale) if scale > 0.0 => (1.0 / scale) as f32,
            _ => from as f32 / to as f32,
        };
        for i in 0..to {
            let start = sources.weights.len();
            if self.antialias && matches!(self.kernel, Kernel::Linear | Kernel::Cubic) {
                self.antialiased(i, from, scale, &mut sources.weights);
            } else {
                self.plain(i, from, scale, &mut sources.weights);
            }
            sources.outputs.push(start..sources.weights.len());
        }
        sources
    }

    fn place(&self, i: usize, scale: f32) -> f32 {
        if self.align_corners { i as f32 * scale } else { (i as f32 + 0.5) * scale - 0.5 }
    }

    fn plain(&self, i: usize, from: usize, scale: f32, weights: &mut Vec<(usize, f32)>) {
        let clamp = |position: f32| (position.max(0.0) as usize).min(from - 1);
        match self.kernel {
            Kernel::Nearest => weights.push((clamp((i as f32 * scale).floor()), 1.0)),
            Kernel::NearestExact => weights.push((clamp(((i as f32 + 0.5) * scale).floor()), 1.0)),
            Kernel::Linear => {
                let place = self.place(i, scale).max(0.0);
                let low = (place as usize).min(from - 1);
                let share = (place - low as f32).min(1.0);
                weights.push((low, 1.0 - share));
                if low + 1 < from {
                    weights.push((low + 1, share));
                } else if let Some(last) = weights.last_mut() {
                    last.1 = 1.0;
                }
            }
            Kernel::Cubic => {
                let place = self.place(i, scale);
                let low = place.floor();
                for tap in -1..3_i8 {
                    let position = low + f32::from(tap);
                    weights.push((clamp(position), cubic((place - position).abs(), -0.75)));
                }
            }
        }
    }

    fn antialiased(&self, i: usize, from: usize, scale: f32, weights: &mut Vec<(usize, f32)>) {
        let reach = if self.kernel == Kernel::Cubic { 2.0 } else { 1.0 };
        let stretch = scale.max(1.0);
        let (support, center) = (reach * stretch, scale * (i as f32 + 0.5));
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let weight = |position: usize| {
            let distance = ((position as f32 - center + 0.5) / stretch).abs();
            if self.kernel == Kernel::Cubic { cubic(distance, -0.5) } else { (1.0 - distance).max(0.0) }
        };
        let total: f32 = (first..end).map(weight).sum();
        weights.extend((first..end).map(|position| (position, weight(position) / total)));
    }
}

/// The cubic convolution kernel.
fn cubic(distance: f32, a: f32) -> f32 {
    if distance <= 1.0 {
        ((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1.0
    } else if distance < 2.0 {
        ((distance - 5.0) * distance + 8.0) * distance * a - 4.0 * a
    } else {
        0.0
    }
}
