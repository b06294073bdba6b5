//! Windows of feature maps folded, and dimensions resampled; channels-last.

use std::ops::Range;

use crate::{
    arch::{enter::Kernel, isa::Isa},
    cpu::Cpu,
    rowwise::{for_rows, piece_rows},
    threads::Pool,
};

/// How a window is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fold {
    /// The largest; NaN if any is NaN.
    Max,
    /// The sum over the windows' divisors.
    Average,
}

/// The windows along one dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Size of the dimension.
    pub size: usize,
    /// Distance between the elements of a window.
    pub dilation: usize,
    /// For each output the first element, the number of elements, and what the sum is divided by.
    pub windows: Vec<(usize, usize, usize)>,
}

impl Windows {
    /// One window over a dimension of size 1: a dimension that is not there.
    #[must_use]
    pub fn one() -> Self {
        Self { size: 1, dilation: 1, windows: vec![(0, 1, 1)] }
    }
}

/// Folds windows of `x`, `[batch, axes[0].size, axes[1].size, axes[2].size, channels]`, into `out`, of the windows'
/// numbers instead of the sizes.
///
/// # Panics
/// If a length does not fit, or a window reaches out of its dimension.
pub fn pool_windows(cpu: &Cpu, how: Fold, axes: &[Windows; 3], channels: usize, x: &[f32], out: &mut [f32]) {
    let [depth, height, width] = axes;
    let volume = depth.size * height.size * width.size * channels;
    let [rows, columns] = [height.windows.len(), width.windows.len()];
    let row = columns * channels;
    assert_eq!(out.len() * volume, x.len() * depth.windows.len() * rows * row, "the output does not fit the input");
    for_rows(cpu.pool(), out, row, piece_rows(row * 4), |first, out| {
        cpu.enter(PoolRows { how, axes, channels, x, first, out });
    });
}

/// A piece of [`pool_windows`]: rows of the output from `first` on.
struct PoolRows<'a> {
    how: Fold,
    axes: &'a [Windows; 3],
    channels: usize,
    x: &'a [f32],
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for PoolRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        match self.how {
            Fold::Max => self.fold::<true>(),
            Fold::Average => self.fold::<false>(),
        }
    }
}

impl PoolRows<'_> {
    /// Folds to the largest, or else to the average.
    #[inline(always)]
    fn fold<const MAX: bool>(self) {
        let Self { axes: [depth, height, width], channels, x, first, out, .. } = self;
        let rows = height.windows.len();
        for (index, out) in (first..).zip(out.chunks_exact_mut(width.windows.len() * channels)) {
            let (image, plane) = (index / rows / depth.windows.len(), index / rows % depth.windows.len());
            let (plane, line) = (depth.windows[plane], height.windows[index % rows]);
            for (&column, out) in width.windows.iter().zip(out.chunks_exact_mut(channels)) {
                out.fill(if MAX { f32::NEG_INFINITY } else { 0.0 });
                for d in elements(plane, depth.dilation) {
                    for h in elements(line, height.dilation) {
                        let start = (image * depth.size + d) * height.size + h;
                        for w in elements(column, width.dilation) {
                            fold_into::<MAX>(&x[(start * width.size + w) * channels..][..channels], out);
                        }
                    }
                }
                if !MAX {
                    let divisor = (plane.2 * line.2 * column.2) as f32;
                    for sum in out {
                        *sum /= divisor;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn elements((first, count, _): (usize, usize, usize), dilation: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| first + i * dilation)
}

#[inline(always)]
fn fold_into<const MAX: bool>(x: &[f32], out: &mut [f32]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = match MAX {
            true if x > *out || x.is_nan() => x,
            true => *out,
            false => *out + x,
        };
    }
}

/// The sources of each output along a resampled dimension: a range of `weights`, each an index and its share.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// For each output the range of its sources.
    pub outputs: Vec<Range<usize>>,
    /// The index of a source, and what it is multiplied by.
    pub weights: Vec<(usize, f32)>,
}

/// Resamples the middle dimension of `x`, `[outer, size, inner]`, to `[outer, sources.outputs.len(), inner]`.
///
/// # Panics
/// If a length does not fit, or a source is outside the dimension.
pub fn resample(pool: &Pool, [size, inner]: [usize; 2], sources: &Sources, x: &[f32], out: &mut [f32]) {
    let count = sources.outputs.len();
    assert_eq!(out.len() * size, x.len() * count, "the output does not fit the input");
    for_rows(pool, out, inner, piece_rows(inner), |first, out| {
        for (row, out) in (first..).zip(out.chunks_exact_mut(inner)) {
            let block = &x[row / count * size * inner..][..size * inner];
            out.fill(0.0);
            for &(source, share) in &sources.weights[sources.outputs[row % count].clone()] {
                for (out, &x) in out.iter_mut().zip(&block[source * inner..][..inner]) {
                    *out += share * x;
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_folded_at_every_place() {
        let x: Vec<f32> = (0..2 * 5 * 4 * 3).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
        let height = Windows { size: 5, dilation: 2, windows: vec![(0, 2, 3), (1, 2, 2)] };
        let width = Windows { size: 4, dilation: 1, windows: vec![(0, 3, 3), (2, 2, 3), (3, 1, 1)] };
        let axes = [Windows::one(), height.clone(), width.clone()];
        for how in [Fold::Max, Fold::Average] {
            let mut out = vec![0.0; 2 * 2 * 3 * 3];
            pool_windows(&Cpu::new(2).unwrap(), how, &axes, 3, &x, &mut out);
            for (i, &found) in out.iter().enumerate() {
                let (c, w, h, n) = (i % 3, i / 3 % 3, i / 9 % 2, i / 18);
                let (h, w) = (height.windows[h], width.windows[w]);
                let values = elements(h, 2).flat_map(|h| elements(w, 1).map(move |w| ((n * 5 + h) * 4 + w) * 3 + c));
                let values: Vec<f64> = values.map(|at| f64::from(x[at])).collect();
                let wanted = match how {
                    Fold::Max => values.iter().copied().fold(f64::MIN, f64::max),
                    Fold::Average => values.iter().sum::<f64>() / (h.2 * w.2) as f64,
                };
                assert!((f64::from(found) - wanted).abs() < 1e-4, "{how:?} {i}: {found} {wanted}");
            }
        }
    }

    #[test]
    fn outputs_are_weighted_sums_of_sources() {
        let sources = Sources { outputs: vec![0..2, 2..3], weights: vec![(0, 0.25), (2, 0.75), (1, 2.0)] };
        let mut out = [0.0; 4];
        resample(&Pool::new(1), [3, 2], &sources, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut out);
        assert_eq!(out, [4.0, 5.0, 6.0, 8.0]);
    }
}
