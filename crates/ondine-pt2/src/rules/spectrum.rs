//! Singular values and eigenvalues with their vectors, whose signs are free.

use ondine_graph::{Reduce, Result, fail};

use super::{
    factor::{sizes, tall, total, turned},
    index::{ordered, pick},
    linalg::{mirrored, unit},
    product::matmul,
    reduce::reduce,
    rule::{Rule, one},
    singular::orthogonal,
};
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("svd", svd),
    Rule::new("linalg_svd", svd),
    Rule::new("_linalg_svd", svd),
    Rule::new("linalg_eigh", eigh),
    Rule::new("_linalg_eigh", eigh),
    Rule::new("linalg_eigvalsh", eigh),
    Rule::new("linalg_matrix_sqrth", matrix_root),
    Rule::new("linalg_polar", polar),
];

/// Columns of matrices in the order of `values`, which are brought in that order.
fn in_order(builder: &mut Builder, values: &Tensor, matrices: &mut [Tensor], descending: bool) -> Result<Tensor> {
    let last = values.rank() - 1;
    let size = builder.dim(values, last);
    let [sorted, order] = ordered(builder, values, last, descending, size)?;
    for matrix in matrices {
        let mut shape = builder.shape(&order);
        shape.insert(last, 1.into());
        let places = builder.reshape(&order, &shape)?;
        let places = builder.expand(&places, &builder.shape(matrix))?;
        *matrix = pick(builder, matrix, matrix.rank() - 1, &places)?;
    }
    Ok(sorted)
}

/// `u`, singular values and `v` (or its transpose, as the newer operators have it).
fn svd(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let old = call.op == "svd";
    let a = call.float_tensor(builder, if old { "self" } else { "A" })?;
    let [rows, columns] = sizes(builder, &a)?;
    let full = if old { !call.flag("some", true)? } else { call.flag("full_matrices", call.op == "linalg_svd")? };
    if full && rows != columns && call.flag("compute_uv", true)? {
        fail!(Unsupported, "all singular vectors of matrices that are not square; ask for `full_matrices=False`");
    }
    let (high, flipped) = tall(builder, &a)?;
    let [columns, v] = orthogonal(builder, &high)?;
    let f = Formula::of(&columns);
    let lengths = total(builder, &(&f * &f))?.sqrt();
    let u = lengths.equals(0.0).choose(0.0, f / &lengths).build(builder)?;
    let lengths = lengths.build(builder)?;
    let lengths = builder.without(&lengths, lengths.rank() - 2)?;
    let mut pair = [u, v];
    let values = in_order(builder, &lengths, &mut pair, true)?;
    let [u, v] = pair;
    let (u, v) = if flipped { (v, u) } else { (u, v) };
    let v = if old { v } else { turned(&v) };
    Ok([u, values, v].into_iter().map(Item::Tensor).collect())
}

fn eigh(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, if call.has("A") { "A" } else { "self" })?;
    let upper = call.text("UPLO").is_some_and(|side| side.starts_with(['U', 'u']));
    let [values, vectors] = symmetric(builder, &a, upper)?;
    if call.op == "linalg_eigvalsh" {
        return one(values);
    }
    Ok(vec![Item::Tensor(values), Item::Tensor(vectors)])
}

/// The matrix whose square is a symmetric one.
fn matrix_root(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, "self")?;
    let [values, vectors] = symmetric(builder, &a, false)?;
    let mut shape = builder.shape(&values);
    shape.insert(shape.len() - 1, 1.into());
    let values = builder.reshape(&values, &shape)?;
    let scaled = (Formula::of(&vectors) * Formula::of(&values).max(0.0).sqrt()).build(builder)?;
    one(matmul(builder, &scaled, &turned(&vectors))?)
}

/// An orthogonal matrix and a symmetric one whose product is the matrix.
fn polar(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, "A")?;
    let [rows, columns] = sizes(builder, &a)?;
    if rows < columns {
        fail!(Unsupported, "a polar form of a matrix of {rows} by {columns}");
    }
    let [scaled, v] = orthogonal(builder, &a)?;
    let f = Formula::of(&scaled);
    let lengths = total(builder, &(&f * &f))?.sqrt();
    let u = lengths.equals(0.0).choose(0.0, f / &lengths).build(builder)?;
    let stretched = (Formula::of(&v) * lengths).build(builder)?;
    let turn = matmul(builder, &u, &turned(&v))?;
    Ok(vec![Item::Tensor(turn), Item::Tensor(matmul(builder, &stretched, &turned(&v))?)])
}

/// Eigenvalues in ascending order and eigenvectors of symmetric matrices, of which one triangle is read: made definite
/// by a multiple of the unit matrix, their singular values are eigenvalues.
fn symmetric(builder: &mut Builder, a: &Tensor, upper: bool) -> Result<[Tensor; 2]> {
    let [rows, columns] = sizes(builder, a)?;
    if rows != columns {
        fail!(Shape, "eigenvalues of matrices of {rows} by {columns}");
    }
    let whole = mirrored(builder, a, upper)?;
    let unit = unit(builder, a)?;
    let (whole, unit) = (Formula::of(&whole), Formula::of(&unit));
    let squares = (&whole * &whole).build(builder)?;
    let rank = a.rank();
    let size = Formula::of(&reduce(builder, Reduce::Sum, &squares, &[rank - 2, rank - 1], true)?).sqrt();
    let size = size.build(builder)?;
    let size = Formula::of(&size);
    let shifted = (&whole + unit * &size).build(builder)?;
    let [columns, v] = orthogonal(builder, &shifted)?;
    let f = Formula::of(&columns);
    let values = (total(builder, &(&f * &f))?.sqrt() - size).build(builder)?;
    let values = builder.without(&values, rank - 2)?;
    let mut vectors = [v];
    let values = in_order(builder, &values, &mut vectors, false)?;
    let [v] = vectors;
    Ok([values, v])
}
