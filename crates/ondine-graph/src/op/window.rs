//! Windows of pooling: which elements of a dimension each one folds.

use serde::{Deserialize, Serialize};

use crate::{
    dim::{Dim, DimPair},
    error::{Result, fail},
    signature::Signature,
};

use super::attribute::check_attributes;

/// How a window is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fold {
    /// The largest; NaN if any is NaN.
    Max,
    /// The sum over the windows' divisors.
    Average,
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

/// Windows along one dimension whose size is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedWindows {
    /// Distance between the elements of a window.
    pub dilation: usize,
    /// For each window its first element, the number of its elements inside the dimension, and what averages divide by.
    pub windows: Vec<(usize, usize, usize)>,
}

/// Attributes of [`crate::Op::Pool`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pooling {
    /// How a window is folded.
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
                if reach >= stride + padding {
                    return Ok(count);
                }
                let begin = &(&(size + *padding) - 1).floor_div(*stride) + 1;
                Ok(count.pair(DimPair::Min, &begin))
            }
        }
    }

    /// The windows over a dimension of `size`, `count` of them.
    #[must_use]
    pub fn place(&self, size: usize, count: usize) -> PlacedWindows {
        match *self {
            Self::Adaptive(_) => {
                let window = |i: usize| {
                    let (start, end) = (i * size / count, ((i + 1) * size).div_ceil(count));
                    (start, end - start, end - start)
                };
                PlacedWindows { dilation: 1, windows: (0..count).map(window).collect() }
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
                PlacedWindows { dilation, windows: (0..count).map(window).collect() }
            }
        }
    }
}

impl Pooling {
    pub(super) fn dims(&self) -> impl Iterator<Item = &Dim> {
        self.windows.iter().filter_map(|window| match window {
            Window::Adaptive(count) => Some(count),
            Window::Sliding { .. } => None,
        })
    }

    pub(super) fn map_dims(&self, change: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        let mut windows = self.windows.clone();
        for window in &mut windows {
            if let Window::Adaptive(count) = window {
                *count = change(count)?;
            }
        }
        Ok(Self { windows, ..*self })
    }

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
