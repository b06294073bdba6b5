//! Integers: codes at equal distances, with a scale and, if asked, a zero for each group of a row.

use half::f16;
use ondine_graph::encoding::symmetric_zero;

use super::codes::{Codes, LEAST_HALF, Levels, half_above};
use crate::cpu::{Processor, share::map};

/// How integers are fitted.
pub(super) struct Integers {
    pub(super) bits: u32,
    /// Elements with one scale; at least one.
    pub(super) group: usize,
    pub(super) symmetric: bool,
    /// True if they are to be multiplied with integers: -127..=127, and scales of F16 whatever their size.
    pub(super) rows8: bool,
}

/// The numbers of a group: `scale * (code - zero)`.
#[derive(Clone, Copy)]
struct Grid {
    scale: f32,
    zero: f32,
}

impl Grid {
    /// Of the scale; 0 if all numbers are 0, or next to it.
    fn inverse(self) -> f32 {
        let inverse = 1.0 / self.scale;
        if inverse.is_finite() { inverse } else { 0.0 }
    }
}

pub(super) fn integers(values: &[f32], columns: usize, how: &Integers, processor: &Processor) -> Codes {
    let group = how.group.min(columns);
    let largest =
        values.chunks(columns).flat_map(|row| row.chunks(group)).map(|values| how.covering(range(values), 1.0).scale);
    let largest = largest.fold(0.0, f32::max);
    let half = how.rows8 || (LEAST_HALF..f16::MAX.to_f32()).contains(&largest) || largest == 0.0;
    let rows = values.len() / columns;
    let coded = map(processor, rows, |row| {
        let (mut codes, mut grids, mut values_of) = (Vec::new(), Vec::new(), Vec::new());
        for values in values[row * columns..][..columns].chunks(group) {
            let grid = how.fit(values, half);
            let inverse = grid.inverse();
            for &value in values {
                let code = how.code(grid, inverse, value);
                codes.push(code as u8);
                values_of.push(grid.scale * (code - grid.zero));
            }
            grids.push(grid);
        }
        (codes, grids, values_of)
    });
    let (mut codes, mut grids, mut decoded) =
        (Vec::with_capacity(values.len()), vec![], Vec::with_capacity(values.len()));
    for (row, of_row, values) in coded {
        codes.extend(row);
        grids.extend(of_row);
        decoded.extend(values);
    }
    let scales = grids.iter().map(|grid| grid.scale).collect();
    let zeros = (!how.symmetric).then(|| grids.iter().map(|grid| grid.zero).collect());
    Codes { codes, levels: Levels::Integers { scales, zeros }, group, half, values: decoded }
}

impl Integers {
    fn top(&self) -> f32 {
        f32::from((1_u16 << self.bits) - 1)
    }

    /// The nearest code, as a number; `inverse` is that of the scale.
    #[inline(always)]
    fn code(&self, grid: Grid, inverse: f32, value: f32) -> f32 {
        // Adding 1.5 * 2^23 rounds to integers, in any lane of a vector.
        const ROUND: f32 = 12_582_912.0;
        ((value * inverse + grid.zero).clamp(0.0, self.top()) + ROUND) - ROUND
    }

    /// The grid that reaches `share` of the way to both ends of a range.
    fn covering(&self, (low, high): (f32, f32), share: f32) -> Grid {
        let (low, high) = (low * share, high * share);
        if self.rows8 {
            return Grid { scale: high.max(-low) / 127.0, zero: 128.0 };
        }
        if self.symmetric {
            let zero = symmetric_zero(self.bits);
            return Grid { scale: (high / (self.top() - zero)).max(-low / zero), zero };
        }
        let scale = high / self.top() - low / self.top();
        let zero = if scale > 0.0 { -low / scale } else { 0.0 };
        // Two bits leave no code to spare for an exact 0.
        Grid { scale, zero: if self.bits == 2 { f16::from_f32(zero).to_f32() } else { zero.round_ties_even() } }
    }

    /// The grid of least squared error: with few codes, it is better to cut off what is rare.
    fn fit(&self, values: &[f32], half: bool) -> Grid {
        let rounded = |grid: Grid| Grid { scale: if half { half_above(grid.scale) } else { grid.scale }, ..grid };
        let range = range(values);
        let (step, least) = match self.bits {
            2 => (0.04, 18),
            4 => (0.04, 10),
            _ => return rounded(self.covering(range, 1.0)),
        };
        let error = |grid: Grid| -> f64 {
            let inverse = grid.inverse();
            let squared = |&value: &f32| {
                let off = self.code(grid, inverse, value) - grid.zero - value * inverse;
                off * off
            };
            let mut sums = [0.0_f32; 16];
            let (chunks, rest) = values.as_chunks::<16>();
            for chunk in chunks {
                sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += squared(value));
            }
            let steps = sums.iter().sum::<f32>() + rest.iter().map(squared).sum::<f32>();
            f64::from(grid.scale).powi(2) * f64::from(steps)
        };
        let grids = (0..=least).map(|i| rounded(self.covering(range, 1.0 - step * i as f32)));
        let mut best = (f64::INFINITY, rounded(self.covering(range, 1.0)));
        for grid in grids {
            let error = error(grid);
            if error < best.0 {
                best = (error, grid);
            }
        }
        best.1
    }
}

/// The smallest and the largest of the values and zero.
fn range(values: &[f32]) -> (f32, f32) {
    values.iter().fold((0.0, 0.0), |(low, high), &x| (low.min(x), high.max(x)))
}
