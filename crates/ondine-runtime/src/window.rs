//! Windows of pooling, and rules of resampling: what they make of sizes.

use ondine_kernels::{Sources, Windows};
use serde::{Deserialize, Serialize};

use crate::{
    dim::Dim,
    disk::names,
    error::{Result, fail},
    infer::Signature,
    op::Conv2d,
};

pub use ondine_kernels::Fold;

/// The largest stride, padding, kernel or dilation: arithmetic on sizes bears sums and products of two.
const MAX_ATTRIBUTE: usize = 1 << 24;

/// Refuses attributes that arithmetic on sizes could not bear.
pub(crate) fn check_attributes(sizes: impl IntoIterator<Item = usize>) -> Result<()> {
    match sizes.into_iter().find(|&size| size > MAX_ATTRIBUTE) {
        Some(size) => fail!(Shape, "an attribute of {size}, the most is {MAX_ATTRIBUTE}"),
        None => Ok(()),
    }
}

/// The windows along one dimension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Window {
    /// Windows of `kernel` elements, `dilation` apart, every `stride` elements.
    Sliding {
        /// Elements of a window.
        kernel: usize,
        /// Distance of windows.
        stride: usize,
        /// Elements that are not there before and after; they count for averages if `counted`.
        padding: usize,
        /// Distance of a window's elements.
        dilation: usize,
        /// True if a last window may reach over the padding.
        ceil: bool,
        /// True if padding counts in averages.
        counted: bool,
    },
    /// So many windows that share the dimension among them.
    Adaptive(Dim),
}

/// Attributes of [`crate::Op::Pool`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pooling {
    /// How a window is folded.
    #[serde(with = "names::Fold")]
    pub fold: Fold,
    /// The windows of each dimension between batch and channels.
    pub windows: Vec<Window>,
    /// What sums are divided by, if not by their number.
    pub divisor: Option<usize>,
}

impl Window {
    /// How many windows there are.
    fn count(&self, size: &Dim) -> Result<Dim> {
        match self {
            Self::Adaptive(count) => Ok(count.clone()),
            Self::Sliding { kernel, stride, padding, dilation, ceil, .. } => {
                if *kernel == 0 || *stride == 0 || *dilation == 0 {
                    fail!(Shape, "kernel, stride and dilation of a window must not be 0");
                }
                check_attributes([*kernel, *stride, *padding, *dilation])?;
                let reach = dilation * (kernel - 1) + 1;
                let padded = size + 2 * padding;
                if padded.fixed().is_some_and(|padded| padded < reach) {
                    fail!(Shape, "a window of {reach} does not fit a dimension of size {size}");
                }
                let room = &padded - reach;
                if !ceil {
                    return Ok(&room.floor_div(*stride) + 1);
                }
                let count = &(&room + (stride - 1)).floor_div(*stride) + 1;
                // The last window must begin inside the dimension or the padding before it.
                match (count.fixed(), size.fixed()) {
                    (Some(count), Some(size)) if (count - 1) * stride >= size + padding => Ok(Dim::from(count - 1)),
                    _ => Ok(count),
                }
            }
        }
    }

    /// The windows over a dimension of `size`, `count` of them.
    pub(crate) fn place(&self, size: usize, count: usize) -> Windows {
        match *self {
            Self::Adaptive(_) => {
                let window = |i: usize| {
                    let (start, end) = (i * size / count, ((i + 1) * size).div_ceil(count));
                    (start, end - start, end - start)
                };
                Windows { size, dilation: 1, windows: (0..count).map(window).collect() }
            }
            Self::Sliding { kernel, stride, padding, dilation, counted, .. } => {
                let window = |i: usize| {
                    // Positions are counted from the beginning of the padding.
                    let start = i * stride;
                    let skipped = padding.saturating_sub(start).div_ceil(dilation).min(kernel);
                    let first = start + skipped * dilation;
                    let inside = (size + padding).saturating_sub(first).div_ceil(dilation).min(kernel - skipped);
                    let divisor = if counted { (start + kernel).min(size + 2 * padding) - start } else { inside };
                    (first.saturating_sub(padding), inside, divisor.max(1))
                };
                Windows { size, dilation, windows: (0..count).map(window).collect() }
            }
        }
    }
}

impl Pooling {
    pub(crate) fn infer(&self, x: &Signature) -> Result<Signature> {
        let rank = x.shape.rank();
        if rank != self.windows.len() + 2 || self.windows.len() > 3 || self.windows.is_empty() {
            fail!(Shape, "{} windows do not fit an input of shape {}", self.windows.len(), x.shape);
        }
        check_attributes(self.divisor)?;
        let mut signature = x.clone();
        for (dim, window) in signature.shape.0[1..].iter_mut().zip(&self.windows) {
            *dim = window.count(dim)?;
        }
        Ok(signature)
    }
}

impl Conv2d {
    /// Makes sure that a convolution with a kernel of this size is one that kernels compute.
    pub(crate) fn check(self, kernel: [&Dim; 2]) -> Result<()> {
        let Conv2d { stride, padding, dilation, groups, upsample, winograd } = self;
        let sizes = kernel.map(|size| size.fixed().unwrap_or_default());
        check_attributes(stride.into_iter().chain(padding).chain(dilation).chain(sizes))?;
        check_attributes([sizes[0] * sizes[1]])?;
        if stride.contains(&0) || dilation.contains(&0) {
            fail!(Shape, "stride and dilation must not be 0");
        }
        if upsample && (stride != [1; 2] || groups != 1) {
            fail!(Shape, "only maps in one group and with a stride of 1 are doubled");
        }
        let aligned = !upsample || padding[0] % 2 == 1 && padding[2] % 2 == 1;
        if winograd && !(sizes == [3; 2] && stride == [1; 2] && dilation == [1; 2] && groups == 1 && aligned) {
            fail!(Shape, "Winograd's algorithm does not compute this convolution");
        }
        Ok(())
    }
}

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

impl Interpolation {
    /// The sources of each of `to` elements among `from`.
    pub(crate) fn sources(&self, from: usize, to: usize) -> Sources {
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
