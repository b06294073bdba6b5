//! Elements picked, spread, ordered and accumulated along a dimension.

use crate::{
    layout::IndexError,
    rowwise::{GRAIN, for_rows, piece_rows},
    threads::Pool,
};

/// Where `index`, the one at `position` of a list, points in a dimension of `rows`; negative ones count from its end.
fn row_of(position: usize, index: i64, rows: usize) -> Result<usize, IndexError> {
    let wrapped = if index < 0 { index.saturating_add(rows as i64) } else { index };
    match usize::try_from(wrapped) {
        Ok(row) if row < rows => Ok(row),
        _ => Err(IndexError { index, position, rows }),
    }
}

/// For each of `outer` blocks of `x`, `[outer, size, inner]`, the rows `indices`: `out` is
/// `[outer, indices.len(), inner]`. `inner` counts bytes; negative indices count from the end.
///
/// # Errors
/// If an index is outside the dimension.
///
/// # Panics
/// If a length does not fit.
pub fn take(
    pool: &Pool,
    [size, inner]: [usize; 2],
    x: &[u8],
    indices: &[i64],
    out: &mut [u8],
) -> Result<(), IndexError> {
    let rows = indices.iter().enumerate().map(|(at, &index)| row_of(at, index, size)).collect::<Result<Vec<_>, _>>()?;
    if out.is_empty() {
        return Ok(());
    }
    assert!(x.len().is_multiple_of(size * inner), "the input is not blocks of {size} rows of {inner} bytes");
    assert_eq!(out.len(), x.len() / size * rows.len(), "the output does not fit");
    for_rows(pool, out, inner, piece_rows(inner), |first, out| {
        for (row, out) in (first..).zip(out.chunks_exact_mut(inner)) {
            let source = row / rows.len() * size + rows[row % rows.len()];
            out.copy_from_slice(&x[source * inner..][..inner]);
        }
    });
    Ok(())
}

/// Combines row `i` of `values` into row `indices[i]` of `out`, in order; rows have `width` elements and negative
/// indices count from the end.
///
/// # Errors
/// If an index is outside `out`; earlier rows are combined then.
///
/// # Panics
/// If `values` has not one row per index, or `out` is not rows of `width`.
pub fn scatter_rows<T: Copy>(
    width: usize,
    indices: &[i64],
    values: &[T],
    out: &mut [T],
    combine: impl Fn(T, T) -> T,
) -> Result<(), IndexError> {
    assert_eq!(values.len(), indices.len() * width, "not one row of values per index");
    if width == 0 {
        return Ok(());
    }
    let rows = out.len() / width;
    for (at, (&index, values)) in indices.iter().zip(values.chunks_exact(width)).enumerate() {
        let row = row_of(at, index, rows)?;
        for (out, &value) in out[row * width..][..width].iter_mut().zip(values) {
            *out = combine(*out, value);
        }
    }
    Ok(())
}

/// The indices that bring each row of `width` elements in order, the first `keep` of them; equal elements stay in
/// their order, and NaN is larger than every number.
///
/// # Panics
/// If `keep` exceeds `width`, or a length does not fit.
pub fn argsort<T: Copy + PartialOrd + Sync>(
    pool: &Pool,
    [width, keep]: [usize; 2],
    descending: bool,
    x: &[T],
    out: &mut [i64],
) {
    assert!(keep <= width, "{keep} of {width} elements");
    if out.is_empty() {
        return;
    }
    assert_eq!(out.len() * width, x.len() * keep, "the output is not rows of {keep}");
    let order = |a: T, b: T| {
        // What does not compare is NaN.
        a.partial_cmp(&b).unwrap_or_else(|| (a.partial_cmp(&a).is_none()).cmp(&b.partial_cmp(&b).is_none()))
    };
    for_rows(pool, out, keep, piece_rows(width), |first, out| {
        let mut indices: Vec<usize> = Vec::with_capacity(width);
        for (row, out) in (first..).zip(out.chunks_exact_mut(keep)) {
            let x = &x[row * width..][..width];
            let compare = |&i: &usize, &j: &usize| {
                let ordering = order(x[i], x[j]);
                (if descending { ordering.reverse() } else { ordering }).then(i.cmp(&j))
            };
            indices.clear();
            indices.extend(0..width);
            if keep < width {
                indices.select_nth_unstable_by(keep, compare);
                indices.truncate(keep);
            }
            indices.sort_unstable_by(compare);
            for (out, &index) in out.iter_mut().zip(&indices) {
                *out = index as i64;
            }
        }
    });
}

/// Accumulates along the middle dimension of `x`, `[outer, size, inner]`: element `i` of the result is
/// `step(.. step(start, x[0]) .., x[i])`, narrowed.
///
/// # Panics
/// If a length does not fit.
pub fn scan<T: Copy + Send + Sync, A: Copy + Send + Sync>(
    pool: &Pool,
    [size, inner]: [usize; 2],
    x: &[T],
    out: &mut [T],
    start: A,
    step: impl Fn(A, T) -> A + Sync,
    narrow: impl Fn(A) -> T + Sync,
) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    let block = size * inner;
    for_rows(pool, out, block, (GRAIN / block.max(1)).max(1), |first, out| {
        for (index, out) in (first..).zip(out.chunks_exact_mut(block.max(1))) {
            let x = &x[index * block..][..block];
            for column in 0..inner {
                let mut total = start;
                for row in 0..size {
                    total = step(total, x[row * inner + column]);
                    out[row * inner + column] = narrow(total);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_in_every_block() {
        let x = [1, 2, 3, 4, 5, 6, 7, 8_u8];
        let mut out = [0; 6];
        take(&Pool::new(2), [4, 1], &x, &[0, -1, 2], &mut out).unwrap();
        assert_eq!(out, [1, 4, 3, 5, 8, 7]);
        assert!(take(&Pool::new(1), [4, 1], &x, &[4], &mut [0; 2]).is_err());
        assert!(take(&Pool::new(1), [4, 1], &x, &[-5], &mut [0; 2]).is_err());
    }

    #[test]
    fn later_rows_win_or_are_added() {
        let mut out = [1.0, 1.0, 1.0, 1.0_f32];
        let values = [5.0, 6.0, 7.0, 8.0];
        scatter_rows(2, &[1, -1], &values, &mut out, |_, new| new).unwrap();
        assert_eq!(out, [1.0, 1.0, 7.0, 8.0]);
        scatter_rows(2, &[0, 0], &values, &mut out, |old, new| old + new).unwrap();
        assert_eq!(out, [13.0, 15.0, 7.0, 8.0]);
        assert!(scatter_rows(2, &[2], &values[..2], &mut out, |_, new| new).is_err());
    }

    #[test]
    fn sorting_is_stable_and_puts_nan_last() {
        let x = [2.0, f32::NAN, 1.0, 2.0, -3.0];
        let mut out = [0; 5];
        argsort(&Pool::new(1), [5, 5], false, &x, &mut out);
        assert_eq!(out, [4, 2, 0, 3, 1]);
        let mut top = [0; 3];
        argsort(&Pool::new(1), [5, 3], true, &x, &mut top);
        assert_eq!(top, [1, 0, 3]);
    }

    #[test]
    fn sums_run_along_the_middle() {
        let x: Vec<f32> = (1..=12).map(|i| i as f32).collect();
        let mut out = vec![0.0; 12];
        scan(&Pool::new(2), [3, 2], &x, &mut out, 0.0_f64, |sum, x| sum + f64::from(x), |sum| sum as f32);
        assert_eq!(out, [1.0, 2.0, 4.0, 6.0, 9.0, 12.0, 7.0, 8.0, 16.0, 18.0, 27.0, 30.0]);
    }
}
