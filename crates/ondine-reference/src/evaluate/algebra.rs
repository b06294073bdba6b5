//! Systems of linear equations and factors of matrices.

use ondine_graph::Result;

use crate::{
    index::count,
    number::{Real, UNIT},
    tensor::{Tensor, misfit},
};

/// The size of the matrices of a tensor, and how many there are.
fn matrices<R: Real>(x: &Tensor<R>) -> Result<(usize, usize)> {
    match x.shape() {
        [outer @ .., rows, columns] if rows == columns => Ok((*rows, count(outer))),
        shape => Err(misfit(format!("{shape:?} are no square matrices"))),
    }
}

fn values<R: Real>(x: &Tensor<R>) -> Result<Vec<f64>> {
    Ok(x.reals()?.iter().map(|x| x.value()).collect())
}

/// The inverse of a matrix by elimination of all other rows (Gauss and Jordan), with its determinant; what is singular
/// has none.
fn invert(n: usize, a: &[f64]) -> (Vec<f64>, f64) {
    let mut rows: Vec<f64> = a.to_vec();
    let mut inverse: Vec<f64> = (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect();
    let mut determinant = 1.0;
    for k in 0..n {
        let pivot =
            (k..n).fold(k, |best, row| if rows[row * n + k].abs() > rows[best * n + k].abs() { row } else { best });
        if pivot != k {
            (0..n).for_each(|i| rows.swap(k * n + i, pivot * n + i));
            (0..n).for_each(|i| inverse.swap(k * n + i, pivot * n + i));
            determinant = -determinant;
        }
        let top = rows[k * n + k];
        determinant *= top;
        if top == 0.0 {
            return (vec![f64::NAN; n * n], 0.0);
        }
        for row in (0..n).filter(|&row| row != k) {
            let factor = rows[row * n + k] / top;
            (0..n).for_each(|i| rows[row * n + i] -= factor * rows[k * n + i]);
            (0..n).for_each(|i| inverse[row * n + i] -= factor * inverse[k * n + i]);
        }
        (0..n).for_each(|i| rows[k * n + i] /= top);
        (0..n).for_each(|i| inverse[k * n + i] /= top);
    }
    (inverse, determinant)
}

/// The sum of the largest, row by row: no product with the matrix makes a vector larger by more.
fn norm(n: usize, a: &[f64]) -> f64 {
    a.chunks(n.max(1)).fold(0.0, |most, row| most.max(row.iter().map(|x| x.abs()).sum()))
}

/// Elimination in f32 is off as if the matrix were by so much, relative to its norm (Higham 2002, 9.3, with the growth
/// of pivots that occur in practice).
fn backward(n: usize) -> f64 {
    UNIT * (n * n * n).max(4) as f64
}

pub(super) fn solve<R: Real>([a, b]: [&Tensor<R>; 2]) -> Result<Tensor<R>> {
    let ((n, outer), (from, right)) = (matrices(a)?, (values(a)?, values(b)?));
    let columns = b.shape().last().copied().unwrap_or(1);
    let mut out = Vec::with_capacity(right.len());
    for of in 0..outer {
        let matrix = &from[of * n * n..][..n * n];
        let (inverse, _) = invert(n, matrix);
        let right = &right[of * n * columns..][..n * columns];
        let at = |row: usize, column: usize| (0..n).map(|k| inverse[row * n + k] * right[k * columns + column]).sum();
        let solution: Vec<f64> = (0..n * columns).map(|i| at(i / columns, i % columns)).collect();
        let condition = norm(n, matrix) * norm(n, &inverse);
        let largest =
            |column: usize| (0..n).fold(0.0, |most: f64, row| most.max(solution[row * columns + column].abs()));
        let error = |i: usize| backward(n) * condition * largest(i % columns);
        out.extend(solution.iter().enumerate().map(|(i, &x)| R::exact(x).off(error(i))));
    }
    Tensor::real(b.dtype(), b.shape(), out)
}

pub(super) fn cholesky<R: Real>(x: &Tensor<R>) -> Result<Tensor<R>> {
    let (n, outer) = matrices(x)?;
    let from = values(x)?;
    let mut out = Vec::with_capacity(from.len());
    for of in 0..outer {
        let matrix = &from[of * n * n..][..n * n];
        let mut factor = vec![0.0; n * n];
        for (row, column) in (0..n).flat_map(|row| (0..=row).map(move |column| (row, column))) {
            let known: f64 = (0..column).map(|k| factor[row * n + k] * factor[column * n + k]).sum();
            let rest = matrix[row * n + column] - known;
            factor[row * n + column] = if row == column { rest.sqrt() } else { rest / factor[column * n + column] };
        }
        let (inverse, _) = invert(n, &factor);
        let condition = norm(n, &factor) * norm(n, &inverse);
        // The factor follows the matrix by its condition, squared of what it multiplies back to (Higham 2002, 10.1).
        let error = backward(n) * condition * condition * norm(n, &factor);
        out.extend(factor.iter().map(|&x| if x == 0.0 { R::exact(x) } else { R::exact(x).off(error) }));
    }
    Tensor::real(x.dtype(), x.shape(), out)
}

pub(super) fn determinant<R: Real>(x: &Tensor<R>, shape: &[usize]) -> Result<Tensor<R>> {
    let (n, outer) = matrices(x)?;
    let from = values(x)?;
    let of = |of: usize| {
        let matrix = &from[of * n * n..][..n * n];
        let (inverse, determinant) = invert(n, matrix);
        let condition = norm(n, matrix) * norm(n, &inverse);
        let error = backward(n) * n as f64 * condition * determinant.abs();
        if error.is_nan() { R::exact(determinant) } else { R::exact(determinant).off(error) }
    };
    Tensor::real(x.dtype(), shape, (0..outer).map(of).collect())
}
