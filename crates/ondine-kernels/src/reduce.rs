//! Dimensions folded away: sums, means, extrema, and where a row is largest.

use std::ops::Range;

use crate::{
    arch::{enter::Kernel, isa::Isa},
    cpu::Cpu,
    number::{Float, Lane, Number, Total},
    rowwise::{GRAIN, LANES, RUN, for_pieces, for_rows, max, min, piece_rows, sum},
};

/// How a dimension is folded away.
///
/// Nothing sums to 0 and has the mean NaN (0 for integers), the largest element negative infinity and the smallest
/// positive infinity (the extreme integers). Integers wrap around; their mean is truncated toward zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// The sum.
    Sum,
    /// The arithmetic mean.
    Mean,
    /// The largest; NaN if any is NaN.
    Max,
    /// The smallest; NaN if any is NaN.
    Min,
}

/// Columns of a panel at most.
const COLUMNS: usize = 1024;

/// Rows of fewer elements are folded one element after the other.
const SHORT: usize = 16;

/// Folds the middle dimension of `x`, `[outer, reduced, inner]`, into `out`, `[outer, inner]`.
///
/// Floating-point numbers are added in `f32` a few dozen at a time, and these sums in `f64`.
///
/// # Panics
/// If the lengths are not those of the shapes.
pub fn reduce<T: Number>(cpu: &Cpu, how: Reduce, [outer, reduced, inner]: [usize; 3], x: &[T], out: &mut [T]) {
    assert_eq!(x.len(), outer * reduced * inner, "the input is not [{outer}, {reduced}, {inner}]");
    assert_eq!(out.len(), outer * inner, "the output is not [{outer}, {inner}]");
    if out.is_empty() {
        return;
    }
    let width = inner.min(COLUMNS);
    let rows = piece_rows(width).max(64).min(reduced.max(1));
    let panels = reduced.div_ceil(rows).max(1);
    let size = PanelSize { reduced, inner, rows, panels };
    if panels == 1 {
        for_pieces(cpu.pool(), size.pieces(out), |_, (first, column, out)| {
            cpu.enter(ReduceWhole { how, size, first, column, x, out });
        });
        return;
    }
    let mut partials = vec![<T::Lane as Lane>::Total::default(); outer * panels * inner];
    for_pieces(cpu.pool(), size.pieces(&mut partials), |_, (first, column, out)| {
        cpu.enter(ReducePanels { how, size, first, column, x, out });
    });
    for (out, partials) in out.chunks_exact_mut(inner).zip(partials.chunks_exact(panels * inner)) {
        for (column, out) in out.iter_mut().enumerate() {
            let column = partials[column..].iter().step_by(inner).copied();
            *out = match how {
                Reduce::Sum | Reduce::Mean => result(how, reduced, column.fold(Default::default(), Total::add)),
                Reduce::Max => T::narrow(column.map(Total::lane).fold(T::Lane::LOWEST, Lane::greatest)),
                Reduce::Min => T::narrow(column.map(Total::lane).fold(T::Lane::HIGHEST, Lane::least)),
            };
        }
    }
}

/// What all `reduced` elements of a column come to.
#[inline(always)]
fn result<T: Number>(how: Reduce, reduced: usize, total: <T::Lane as Lane>::Total) -> T {
    T::narrow(if how == Reduce::Mean { total.divide(reduced).lane() } else { total.lane() })
}

/// The index of the first largest element of each row of `width`; the first NaN counts as the largest.
///
/// # Panics
/// If `x` is not one row of `width` elements for each element of `out`, or `width` is 0.
pub fn argmax<T: Float>(cpu: &Cpu, width: usize, x: &[T], out: &mut [i64]) {
    assert!(width > 0 && x.len() == width * out.len(), "the input is not {} rows of {width} elements", out.len());
    for_rows(cpu.pool(), out, 1, piece_rows(width), |first, out| {
        let x = &x[first * width..][..out.len() * width];
        cpu.enter(ArgmaxRows { width, x, out });
    });
}

/// How the input of [`reduce`] is cut: panels of `rows` rows, `panels` for each outer index.
#[derive(Clone, Copy)]
struct PanelSize {
    reduced: usize,
    inner: usize,
    rows: usize,
    panels: usize,
}

impl PanelSize {
    /// Pieces of what panels yield, `[panel][inner]`, with the first panel and column of each: narrow panels go several
    /// to a piece, a wide one into pieces of some columns.
    fn pieces<A: Send>(self, out: &mut [A]) -> Vec<(usize, usize, &mut [A])> {
        let inner = self.inner;
        let grouped = if inner <= COLUMNS { inner * (GRAIN / (self.rows * inner)).max(1) } else { inner };
        let pieces = out.chunks_mut(grouped).enumerate().flat_map(|(index, piece)| {
            let first = index * grouped / inner;
            let width = if inner <= COLUMNS { piece.len() } else { self.wide_columns() };
            piece.chunks_mut(width).enumerate().map(move |(piece, out)| (first, piece * width, out))
        });
        pieces.collect()
    }

    /// Columns of a piece of a wide panel: those of several if it has few rows.
    fn wide_columns(self) -> usize {
        COLUMNS * (GRAIN / (self.rows * COLUMNS)).max(1)
    }
}

/// A piece of [`reduce`] where a panel is a whole column: see [`ReducePanels`].
pub(crate) struct ReduceWhole<'a, T> {
    how: Reduce,
    size: PanelSize,
    first: usize,
    column: usize,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Number> Kernel for ReduceWhole<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { how, size, x, .. } = self;
        let PanelSize { reduced, inner, .. } = size;
        if inner == 1 && reduced < SHORT {
            let x = &x[self.first * reduced..][..self.out.len() * reduced];
            return match reduced {
                2 => short_rows::<T, 2>(how, 2, x, self.out),
                3 => short_rows::<T, 3>(how, 3, x, self.out),
                4 => short_rows::<T, 4>(how, 4, x, self.out),
                _ => short_rows::<T, 0>(how, reduced, x, self.out),
            };
        }
        let mut totals = [<T::Lane as Lane>::Total::default(); COLUMNS];
        for (panel, out) in (self.first..).zip(self.out.chunks_mut(inner)) {
            let x = &x[panel * reduced * inner..(panel + 1) * reduced * inner];
            for (piece, out) in out.chunks_mut(COLUMNS).enumerate() {
                let totals = &mut totals[..out.len()];
                if inner == 1 {
                    totals[0] = reduce_run(how, x);
                } else {
                    reduce_columns(how, inner, self.column + piece * COLUMNS, x, totals);
                }
                for (out, &total) in out.iter_mut().zip(&*totals) {
                    *out = result(how, reduced, total);
                }
            }
        }
    }
}

/// A piece of [`reduce`]: whole panels from `first` on, or one panel from `column` on.
pub(crate) struct ReducePanels<'a, T: Number> {
    how: Reduce,
    size: PanelSize,
    first: usize,
    column: usize,
    x: &'a [T],
    out: &'a mut [<T::Lane as Lane>::Total],
}

impl<T: Number> Kernel for ReducePanels<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let PanelSize { reduced, inner, rows, panels } = self.size;
        for (panel, out) in (self.first..).zip(self.out.chunks_mut(inner)) {
            let (outer, start) = (panel / panels, panel % panels * rows);
            let end = reduced.min(start + rows);
            let x = &self.x[(outer * reduced + start) * inner..(outer * reduced + end) * inner];
            if inner == 1 {
                out[0] = reduce_run(self.how, x);
            } else {
                for (piece, out) in out.chunks_mut(COLUMNS).enumerate() {
                    reduce_columns(self.how, inner, self.column + piece * COLUMNS, x, out);
                }
            }
        }
    }
}

/// Each of the rows of `x`, of `width` elements, which is `N` unless that is 0.
#[inline(always)]
fn short_rows<T: Number, const N: usize>(how: Reduce, width: usize, x: &[T], out: &mut [T]) {
    let width = if N == 0 { width } else { N };
    for (row, out) in out.iter_mut().enumerate() {
        let row = &x[row * width..][..width];
        *out = match how {
            Reduce::Sum | Reduce::Mean => {
                let mut sum = T::Lane::default();
                for x in row {
                    sum = sum.add(x.widen());
                }
                result(how, width, sum.total())
            }
            Reduce::Max => {
                let mut rank = T::Lane::LOWEST.rank_nan_high();
                for x in row {
                    rank = rank.max(x.widen().rank_nan_high());
                }
                T::narrow(T::Lane::ranked(rank))
            }
            Reduce::Min => {
                let mut rank = T::Lane::HIGHEST.rank_nan_low();
                for x in row {
                    rank = rank.min(x.widen().rank_nan_low());
                }
                T::narrow(T::Lane::ranked(rank))
            }
        };
    }
}

/// All of `x`.
#[inline(always)]
fn reduce_run<T: Number>(how: Reduce, x: &[T]) -> <T::Lane as Lane>::Total {
    match how {
        Reduce::Sum | Reduce::Mean => sum(x, |x| x),
        Reduce::Max => max(x).total(),
        Reduce::Min => min(x).total(),
    }
}

/// Each of the columns from `first` on, as many as `out` has, of rows of `inner` elements.
#[inline(always)]
fn reduce_columns<T: Number>(how: Reduce, inner: usize, first: usize, x: &[T], out: &mut [<T::Lane as Lane>::Total]) {
    let columns = first..first + out.len();
    match how {
        Reduce::Sum | Reduce::Mean => {
            let mut lanes = [T::Lane::default(); COLUMNS];
            let lanes = &mut lanes[..out.len()];
            out.fill(Default::default());
            for run in x.chunks(RUN * inner) {
                lanes.fill(T::Lane::default());
                fold_columns(inner, columns.clone(), run, lanes, T::Lane::add, |x| x);
                for (out, lane) in out.iter_mut().zip(&*lanes) {
                    *out = out.add(lane.total());
                }
            }
        }
        Reduce::Max => {
            let mut ranks = [T::Lane::LOWEST.rank_nan_high(); COLUMNS];
            fold_columns(inner, columns, x, &mut ranks[..out.len()], Ord::max, T::Lane::rank_nan_high);
            out.iter_mut().zip(ranks).for_each(|(out, rank)| *out = T::Lane::ranked(rank).total());
        }
        Reduce::Min => {
            let mut ranks = [T::Lane::HIGHEST.rank_nan_low(); COLUMNS];
            fold_columns(inner, columns, x, &mut ranks[..out.len()], Ord::min, T::Lane::rank_nan_low);
            out.iter_mut().zip(ranks).for_each(|(out, rank)| *out = T::Lane::ranked(rank).total());
        }
    }
}

#[inline(always)]
fn fold_columns<T: Number, A: Copy>(
    inner: usize,
    columns: Range<usize>,
    x: &[T],
    lanes: &mut [A],
    combine: impl Fn(A, A) -> A,
    map: impl Fn(T::Lane) -> A,
) {
    for row in x.chunks_exact(inner) {
        for (lane, x) in lanes.iter_mut().zip(&row[columns.clone()]) {
            *lane = combine(*lane, map(x.widen()));
        }
    }
}

/// A piece of [`argmax`].
pub(crate) struct ArgmaxRows<'a, T> {
    width: usize,
    x: &'a [T],
    out: &'a mut [i64],
}

impl<T: Float> Kernel for ArgmaxRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        for (x, out) in self.x.chunks_exact(self.width).zip(self.out) {
            let largest = max(x);
            let found = |value: &T| value.widen() == largest || value.widen().is_nan();
            let hit = |x: &[T]| x.iter().fold(false, |any, value| any | found(value));
            let chunk = x.chunks(LANES).position(hit).unwrap_or(0);
            let offset = x[chunk * LANES..].iter().position(found).unwrap_or(0);
            *out = (chunk * LANES + offset) as i64;
        }
    }
}
