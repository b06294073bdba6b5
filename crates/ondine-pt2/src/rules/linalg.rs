//! Systems of linear equations, determinants, and norms of matrices.

use ondine_graph::{Binary, DType, Dim, Elementary, Op, Result, Unary, fail};

use super::{
    product::matmul,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, elements},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("linalg_inv", linalg_inv),
    Rule::new("inverse", linalg_inv),
    Rule::new("linalg_inv_ex", linalg_inv),
    Rule::new("linalg_solve", linalg_solve),
    Rule::new("linalg_solve_ex", linalg_solve),
    Rule::new("linalg_tensorinv", linalg_tensorinv),
    Rule::new("linalg_tensorsolve", linalg_tensorsolve),
    Rule::new("linalg_solve_triangular", linalg_solve_triangular),
    Rule::new("triangular_solve", triangular_solve),
    Rule::new("linalg_det", linalg_det),
    Rule::new("det", linalg_det),
    Rule::new("_linalg_det", linalg_det),
    Rule::new("linalg_slogdet", linalg_slogdet),
    Rule::new("slogdet", linalg_slogdet),
    Rule::new("_linalg_slogdet", linalg_slogdet),
    Rule::new("logdet", linalg_slogdet),
    Rule::new("linalg_cholesky", linalg_cholesky),
    Rule::new("cholesky", linalg_cholesky),
    Rule::new("linalg_cholesky_ex", linalg_cholesky),
    Rule::new("cholesky_solve", cholesky_solve),
    Rule::new("cholesky_inverse", cholesky_solve),
];

fn cholesky_solve(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let inverse = call.op == "cholesky_inverse";
    let factor = call.float_tensor(builder, if inverse { "self" } else { "input2" })?;
    let rank = factor.rank();
    let factor = triangle(builder, &factor, call.flag("upper", false)?)?;
    let turned = Builder::swapped(&factor, rank - 2, rank - 1);
    let a = if call.flag("upper", false)? {
        matmul(builder, &turned, &factor)?
    } else {
        matmul(builder, &factor, &turned)?
    };
    let b = if inverse { unit(builder, &a)? } else { call.float_tensor(builder, "self")? };
    one(solve(builder, &a, &b)?)
}

fn linalg_cholesky(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, "self")?;
    let value = builder.dense(&a)?;
    let value = builder.graph.push(Op::Cholesky, &[value])?;
    let factor = builder.plain(value);
    let (rank, upper) = (factor.rank(), call.flag("upper", false)?);
    let factor = if upper { Builder::swapped(&factor, rank - 2, rank - 1) } else { factor };
    with_info(builder, call, factor)
}

fn linalg_slogdet(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, if call.has("A") { "A" } else { "self" })?;
    let det = determinant(builder, &a)?;
    if call.op == "logdet" {
        return one(builder.unary(Unary::Log, &det)?);
    }
    let (sign, size) = (builder.function(Elementary::Sign, &det)?, builder.unary(Unary::Abs, &det)?);
    Ok(vec![Item::Tensor(sign), Item::Tensor(builder.unary(Unary::Log, &size)?)])
}

fn linalg_det(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, if call.has("A") { "A" } else { "self" })?;
    one(determinant(builder, &a)?)
}

fn linalg_solve_triangular(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "B")?);
    let a = read_triangle(builder, &a, call.flag("upper", false)?, call.flag("unitriangular", false)?)?;
    one(solve_beside(builder, &a, &b, call.flag("left", true)?)?)
}

/// The older form, which returns the matrix as well.
fn triangular_solve(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (whole, b) = (call.float_tensor(builder, "A")?, call.float_tensor(builder, "self")?);
    let a = read_triangle(builder, &whole, call.flag("upper", true)?, call.flag("unitriangular", false)?)?;
    let a = if call.flag("transpose", false)? { turned(&a) } else { a };
    let whole = builder.expand(&whole, &call.out_shape(1)?)?;
    Ok(vec![Item::Tensor(solve(builder, &a, &b)?), Item::Tensor(whole)])
}

/// The part of a matrix that a triangular solver reads, with ones on its diagonal if it takes them for granted.
fn read_triangle(builder: &mut Builder, a: &Tensor, upper: bool, ones: bool) -> Result<Tensor> {
    let part = triangle(builder, a, upper)?;
    if !ones {
        return Ok(part);
    }
    let unit = unit(builder, a)?;
    let on = Formula::of(&unit).more(0.0);
    on.choose(1.0, Formula::of(&part)).build(builder)
}

fn turned(x: &Tensor) -> Tensor {
    Builder::swapped(x, x.rank() - 2, x.rank() - 1)
}

/// `x` with `a x = b`, or `x a = b`.
fn solve_beside(builder: &mut Builder, a: &Tensor, b: &Tensor, left: bool) -> Result<Tensor> {
    if left {
        return solve(builder, a, b);
    }
    let x = solve(builder, &turned(a), &turned(b))?;
    Ok(turned(&x))
}

pub(super) fn linalg_solve(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "A")?, call.float_tensor(builder, "B")?);
    let vector = b.rank() == 1
        || b.rank() + 1 == a.rank() && b.rank() >= 1 && builder.shape(&b) == builder.shape(&a)[..b.rank()];
    let mut shape = builder.shape(&b);
    if vector {
        shape.push(1.into());
    }
    let b = builder.reshape(&b, &shape)?;
    let x = solve_beside(builder, &a, &b, vector || call.flag("left", true)?)?;
    let last = x.rank() - 1;
    let x = if vector { builder.without(&x, last)? } else { x };
    with_info(builder, call, x)
}

/// The inverse of a tensor whose first `ind` dimensions are as many elements as the others.
fn linalg_tensorinv(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, "self")?;
    let shape = builder.shape(&a);
    let first = usize::try_from(call.integer("ind", 2)?).unwrap_or(0).min(shape.len());
    let (rows, columns) = (elements(&shape[..first]), elements(&shape[first..]));
    let a = builder.reshape(&a, &[rows, columns])?;
    let unit = unit(builder, &a)?;
    let inverse = solve(builder, &a, &unit)?;
    one(builder.reshape(&inverse, &call.out_shape(0)?)?)
}

/// The tensor whose product with `self`, over all its dimensions, is `other`.
fn linalg_tensorsolve(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "other")?);
    let moved = call.axes("dims", a.rank())?;
    let order: Vec<usize> = (0..a.rank()).filter(|axis| !moved.contains(axis)).chain(moved.iter().copied()).collect();
    let a = Builder::permuted(&a, &order);
    let size = elements(&builder.shape(&b));
    let a = builder.reshape(&a, &[size.clone(), size.clone()])?;
    let b = builder.reshape(&b, &[size, 1.into()])?;
    let x = solve(builder, &a, &b)?;
    one(builder.reshape(&x, &call.out_shape(0)?)?)
}

fn linalg_inv(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let name = if call.has("A") { "A" } else { "self" };
    let a = call.float_tensor(builder, name)?;
    let unit = unit(builder, &a)?;
    let inverse = solve(builder, &a, &unit)?;
    with_info(builder, call, inverse)
}

/// The result, and that nothing went wrong, if the call asks for that.
fn with_info(builder: &mut Builder, call: &Call<'_>, x: Tensor) -> Result<Vec<Item>> {
    let mut items = vec![Item::Tensor(x)];
    let names = call.output_names();
    if names.len() == 2 && names[1].is_some() {
        let zero = builder.number(0.0, call.out_dtype(1)?)?;
        items.push(Item::Tensor(builder.expand(&zero, &call.out_shape(1)?)?));
    }
    Ok(items)
}

fn square(builder: &Builder, a: &Tensor) -> Result<Dim> {
    match a.rank() {
        rank @ 2.. if builder.dim(a, rank - 2) == builder.dim(a, rank - 1) => Ok(builder.dim(a, rank - 1)),
        _ => fail!(Shape, "not square matrices"),
    }
}

/// The matrices with ones on the diagonal, as many as `a` has.
pub(super) fn unit(builder: &mut Builder, a: &Tensor) -> Result<Tensor> {
    let size = square(builder, a)?;
    let column = builder.range(&0.into(), 1, &size)?;
    let row = builder.reshape(&column, &[size, 1.into()])?;
    let unit = builder.binary(Binary::Equal, &row, &column)?;
    let unit = builder.cast(&unit, DType::F32)?;
    builder.expand(&unit, &builder.shape(a))
}

/// What is above or below the diagonal, with it.
pub(super) fn triangle(builder: &mut Builder, a: &Tensor, upper: bool) -> Result<Tensor> {
    let size = square(builder, a)?;
    let column = builder.range(&0.into(), 1, &size)?;
    let row = builder.reshape(&column, &[size, 1.into()])?;
    let outside = if upper {
        builder.binary(Binary::Less, &column, &row)?
    } else {
        builder.binary(Binary::Less, &row, &column)?
    };
    let zero = builder.number(0.0, DType::F32)?;
    builder.select(&outside, &zero, a)
}

/// The symmetric matrix of which one triangle is read.
pub(super) fn mirrored(builder: &mut Builder, a: &Tensor, upper: bool) -> Result<Tensor> {
    let part = triangle(builder, a, upper)?;
    let unit = unit(builder, a)?;
    let other = Formula::of(&turned(&part)) * (1.0 - Formula::of(&unit));
    (Formula::of(&part) + other).build(builder)
}

pub(super) fn solve(builder: &mut Builder, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    square(builder, a)?;
    if b.rank() < 2 {
        fail!(Shape, "no columns to solve equations for");
    }
    let (mut left, mut right) = (builder.shape(a), builder.shape(b));
    let (square, columns) = (left.split_off(a.rank() - 2), right.split_off(b.rank() - 2));
    let head = builder.broadcast_shape(&left.into(), &right.into())?.0;
    let (a, b) =
        (builder.expand(a, &[&head[..], &square].concat())?, builder.expand(b, &[&head[..], &columns].concat())?);
    let inputs = [builder.dense(&a)?, builder.dense(&b)?];
    let value = builder.graph.push(Op::Solve, &inputs)?;
    Ok(builder.plain(value))
}

fn determinant(builder: &mut Builder, a: &Tensor) -> Result<Tensor> {
    square(builder, a)?;
    let value = builder.dense(a)?;
    let value = builder.graph.push(Op::Determinant, &[value])?;
    Ok(builder.plain(value))
}
