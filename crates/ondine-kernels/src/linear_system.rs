//! Systems of linear equations and factors of small matrices: in f64, one thread per matrix.

use crate::{rowwise::for_rows, threads::Pool};

/// The rows of a matrix in f64, and where each came from after the largest of each column was moved up.
struct Eliminated {
    rows: Vec<f64>,
    origin: Vec<usize>,
    determinant: f64,
}

/// Gaussian elimination with partial pivoting; what is left below the diagonal are the factors of the rows above.
fn eliminate(n: usize, a: &[f32]) -> Eliminated {
    let mut rows: Vec<f64> = a.iter().map(|&x| x.into()).collect();
    let mut origin: Vec<usize> = (0..n).collect();
    let mut determinant = 1.0;
    for k in 0..n {
        let size = |row: usize| rows[row * n + k].abs();
        let pivot = (k + 1..n).fold(k, |best, row| if size(row) > size(best) { row } else { best });
        if pivot != k {
            (0..n).for_each(|column| rows.swap(k * n + column, pivot * n + column));
            origin.swap(k, pivot);
            determinant = -determinant;
        }
        let top = rows[k * n + k];
        determinant *= top;
        if top == 0.0 {
            continue;
        }
        for row in k + 1..n {
            let factor = rows[row * n + k] / top;
            rows[row * n + k] = factor;
            (k + 1..n).for_each(|column| rows[row * n + column] -= factor * rows[k * n + column]);
        }
    }
    Eliminated { rows, origin, determinant }
}

/// For each of the matrices `a`, `[.., n, n]`, the solution `out` of `a out = b`, both `[.., n, columns]`. Singular
/// matrices yield what is no finite number.
///
/// # Panics
/// If a length does not fit.
pub fn solve(pool: &Pool, [n, columns]: [usize; 2], a: &[f32], b: &[f32], out: &mut [f32]) {
    assert!(
        a.len() * columns == b.len() * n && b.len() == out.len(),
        "matrices of {n} rows do not fit {columns} columns"
    );
    if out.is_empty() {
        return;
    }
    for_rows(pool, out, n * columns, 1, |first, out| {
        for (index, out) in (first..).zip(out.chunks_exact_mut(n * columns)) {
            let Eliminated { rows, origin, .. } = eliminate(n, &a[index * n * n..][..n * n]);
            let b = &b[index * n * columns..][..n * columns];
            let mut x = vec![0.0_f64; n];
            for column in 0..columns {
                for row in 0..n {
                    let known: f64 = (0..row).map(|k| rows[row * n + k] * x[k]).sum();
                    x[row] = f64::from(b[origin[row] * columns + column]) - known;
                }
                for row in (0..n).rev() {
                    let known: f64 = (row + 1..n).map(|k| rows[row * n + k] * x[k]).sum();
                    x[row] = (x[row] - known) / rows[row * n + row];
                }
                (0..n).for_each(|row| out[row * columns + column] = x[row] as f32);
            }
        }
    });
}

/// The determinants of the matrices `a`, `[.., n, n]`.
///
/// # Panics
/// If a length does not fit.
pub fn determinant(pool: &Pool, n: usize, a: &[f32], out: &mut [f32]) {
    assert_eq!(a.len(), out.len() * n * n, "the output does not fit matrices of {n} rows");
    for_rows(pool, out, 1, 1, |first, out| {
        for (index, out) in (first..).zip(out) {
            *out = eliminate(n, &a[index * n * n..][..n * n]).determinant as f32;
        }
    });
}

/// The lower triangular `out` with `out out^T = a` for each of the matrices `a`, `[.., n, n]`, of which only the lower
/// triangle is read. What is not positive definite yields what is no number.
///
/// # Panics
/// If a length does not fit.
pub fn cholesky(pool: &Pool, n: usize, a: &[f32], out: &mut [f32]) {
    assert!(
        a.len() == out.len() && a.len().is_multiple_of((n * n).max(1)),
        "the output does not fit matrices of {n} rows"
    );
    if out.is_empty() {
        return;
    }
    for_rows(pool, out, n * n, 1, |first, out| {
        let mut factor = vec![0.0_f64; n * n];
        for (index, out) in (first..).zip(out.chunks_exact_mut(n * n)) {
            let a = &a[index * n * n..][..n * n];
            for row in 0..n {
                for column in 0..=row {
                    let known: f64 = (0..column).map(|k| factor[row * n + k] * factor[column * n + k]).sum();
                    let rest = f64::from(a[row * n + column]) - known;
                    factor[row * n + column] =
                        if row == column { rest.sqrt() } else { rest / factor[column * n + column] };
                }
            }
            out.iter_mut().zip(&factor).for_each(|(out, &x)| *out = x as f32);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `a b` of square and other matrices in f64.
    fn product(n: usize, inner: usize, columns: usize, a: &[f32], b: &[f32]) -> Vec<f64> {
        let cell = |row: usize, column: usize| -> f64 {
            (0..inner).map(|k| f64::from(a[row * inner + k]) * f64::from(b[k * columns + column])).sum()
        };
        (0..n).flat_map(|row| (0..columns).map(move |column| (row, column))).map(|(r, c)| cell(r, c)).collect()
    }

    fn near(found: &[f64], wanted: &[f32]) -> bool {
        found.iter().zip(wanted).all(|(a, &b)| (a - f64::from(b)).abs() < 1e-3)
    }

    proptest! {
        #[test]
        fn solutions_solve_and_factors_multiply_back(
            n in 1_usize..9, columns in 1_usize..5, batch in 1_usize..4, seed in prop::collection::vec(-1.0_f32..1.0, 400),
        ) {
            let pool = Pool::new(2);
            let mut a: Vec<f32> = (0..batch * n * n).map(|i| seed[i % 397]).collect();
            // Far enough from singular that the product tells what is wrong.
            (0..batch * n).for_each(|i| a[i / n * n * n + i % n * (n + 1)] += 4.0);
            let b: Vec<f32> = (0..batch * n * columns).map(|i| seed[(i * 7 + 3) % 400]).collect();
            let (mut x, mut det) = (vec![0.0; b.len()], vec![0.0; batch]);
            solve(&pool, [n, columns], &a, &b, &mut x);
            determinant(&pool, n, &a, &mut det);
            for i in 0..batch {
                let (a, x) = (&a[i * n * n..][..n * n], &x[i * n * columns..][..n * columns]);
                prop_assert!(near(&product(n, n, columns, a, x), &b[i * n * columns..][..n * columns]));
                let turned: Vec<f32> = (0..n * n).map(|k| a[k % n * n + k / n]).collect();
                let square: Vec<f32> = product(n, n, n, a, &turned).into_iter().map(|x| x as f32).collect();
                let mut factor = vec![0.0; n * n];
                cholesky(&pool, n, &square, &mut factor);
                let back: Vec<f32> = (0..n * n).map(|k| factor[k % n * n + k / n]).collect();
                prop_assert!(near(&product(n, n, n, &factor, &back), &square));
                let size: f64 = (0..n).map(|k| f64::from(factor[k * (n + 1)])).product();
                prop_assert!((size - f64::from(det[i].abs())).abs() < 1e-3 * size.max(1.0), "{} {}", size, det[i]);
            }
        }
    }

    #[test]
    fn rows_are_exchanged_where_a_pivot_is_zero() {
        let pool = Pool::new(1);
        let (mut x, mut det) = ([0.0; 2], [0.0]);
        solve(&pool, [2, 1], &[0.0, 2.0, 1.0, 0.0], &[6.0, 5.0], &mut x);
        determinant(&pool, 2, &[0.0, 2.0, 1.0, 0.0], &mut det);
        assert_eq!((x, det), ([5.0, 3.0], [-2.0]));
        determinant(&pool, 2, &[1.0, 2.0, 2.0, 4.0], &mut det);
        assert_eq!(det, [0.0]);
    }
}
