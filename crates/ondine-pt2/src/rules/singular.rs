//! What follows from singular values: norms, ranks, condition, pseudo-inverses.

use ondine_graph::{Binary, DType, NDArray, Op, Reduce, Result, Unary, fail};

use super::{
    factor::{sizes, tall, total, turned},
    index::ordered,
    linalg::{mirrored, solve, unit},
    product::matmul,
    reduce::{self, length, reduce},
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("linalg_svdvals", svdvals),
    Rule::new("linalg_pinv", pseudo_inverse),
    Rule::new("pinverse", pseudo_inverse),
    Rule::new("linalg_matrix_rank", matrix_rank),
    Rule::new("linalg_cond", cond),
    Rule::new("linalg_matrix_norm", matrix_norm),
    Rule::new("linalg_norm", any_norm),
];

/// The columns of `a`, not fewer than rows, made orthogonal by rotations of pairs (Hestenes 1958), all pairs of a round
/// at once: `a v`, and `v`.
pub(super) fn orthogonal(builder: &mut Builder, a: &Tensor) -> Result<[Tensor; 2]> {
    const SWEEPS: usize = 10;
    let [_, columns] = sizes(builder, a)?;
    if columns < 2 {
        let unit = orthogonal_start(builder, a, columns)?;
        return Ok([a.clone(), unit]);
    }
    let even = columns + columns % 2;
    let rank = a.rank();
    let mut amounts = vec![[0; 2]; rank];
    amounts[rank - 1] = [0, even - columns];
    let dense = builder.dense(a)?;
    let padded = builder.graph.push(Op::Pad { amounts }, &[dense])?;
    let (mut x, half) = (builder.plain(padded), even / 2);
    let mut v = orthogonal_start(builder, a, even)?;
    // A tournament: the first stays, the others go around.
    let mut circle: Vec<usize> = (0..even).collect();
    for _ in 0..SWEEPS * (even - 1) {
        let pairs: Vec<[usize; 2]> = (0..half).map(|i| [circle[i], circle[even - 1 - i]]).collect();
        let ends = [0, 1].map(|end| pairs.iter().map(|pair| pair[end] as i64).collect::<Vec<_>>());
        let list = |builder: &mut Builder, ends: &[i64]| -> Result<Tensor> {
            let value = builder.graph.constant(NDArray::new(&[ends.len()], ends)?);
            Ok(builder.plain(value))
        };
        let (first, second) = (list(builder, &ends[0])?, list(builder, &ends[1])?);
        let (p, q) = (builder.take(&x, rank - 1, &first)?, builder.take(&x, rank - 1, &second)?);
        let (fp, fq) = (Formula::of(&p), Formula::of(&q));
        let (alpha, beta) = (total(builder, &(&fp * &fp))?, total(builder, &(&fq * &fq))?);
        let gamma = total(builder, &(&fp * &fq))?;
        let zeta = (&beta - &alpha) / (&gamma * 2.0);
        let slope = 1.0 / (zeta.abs() + (&zeta * &zeta + 1.0).sqrt());
        let slope = zeta.less(0.0).choose(-slope.clone(), slope);
        let slope = gamma.equals(0.0).or(slope.equals(&slope).not()).choose(0.0, slope);
        let cosine = 1.0 / (&slope * &slope + 1.0).sqrt();
        let sine = &cosine * &slope;
        // Back where they were.
        let back: Vec<i64> = {
            let order: Vec<usize> = pairs.iter().map(|pair| pair[0]).chain(pairs.iter().map(|pair| pair[1])).collect();
            let mut back = vec![0; even];
            order.iter().enumerate().for_each(|(at, &column)| back[column] = at as i64);
            back
        };
        let back = list(builder, &back)?;
        for matrix in [&mut x, &mut v] {
            let (p, q) = (builder.take(matrix, rank - 1, &first)?, builder.take(matrix, rank - 1, &second)?);
            let (p, q) = (Formula::of(&p), Formula::of(&q));
            let (new_p, new_q) =
                ((&cosine * &p - &sine * &q).build(builder)?, (&sine * &p + &cosine * &q).build(builder)?);
            let both = builder.concat(&[&new_p, &new_q], rank - 1)?;
            *matrix = builder.take(&both, rank - 1, &back)?;
        }
        circle[1..].rotate_right(1);
    }
    let x = builder.slice(&x, rank - 1, &0.into(), &columns.into())?;
    let v = builder.slice(&v, rank - 2, &0.into(), &columns.into())?;
    let v = builder.slice(&v, rank - 1, &0.into(), &columns.into())?;
    Ok([x, v])
}

fn orthogonal_start(builder: &mut Builder, a: &Tensor, size: usize) -> Result<Tensor> {
    let numbers: Vec<f32> = (0..size * size).map(|i| f32::from(u8::from(i / size.max(1) == i % size.max(1)))).collect();
    let value = builder.graph.constant(NDArray::new(&[size, size], &numbers)?);
    let unit = builder.plain(value);
    let mut shape = builder.shape(a);
    let rank = shape.len();
    shape[rank - 2] = size.into();
    shape[rank - 1] = size.into();
    builder.expand(&unit, &shape)
}

/// The matrix as it is read: of one that the call says is symmetric, the lower triangle.
fn read(builder: &mut Builder, call: &Call<'_>, a: Tensor) -> Result<Tensor> {
    if call.flag("hermitian", false)? { mirrored(builder, &a, false) } else { Ok(a) }
}

/// The singular values in descending order.
fn singular(builder: &mut Builder, a: &Tensor) -> Result<Tensor> {
    let (a, _) = tall(builder, a)?;
    let [columns, _] = orthogonal(builder, &a)?;
    let columns = Formula::of(&columns);
    let lengths = total(builder, &(&columns * &columns))?.sqrt().build(builder)?;
    let lengths = builder.without(&lengths, lengths.rank() - 2)?;
    let last = lengths.rank() - 1;
    let size = builder.dim(&lengths, last);
    let [values, _] = ordered(builder, &lengths, last, true, size)?;
    Ok(values)
}

fn svdvals(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, "A")?;
    one(singular(builder, &a)?)
}

/// What a singular value must exceed to count: the largest of an absolute limit and a part of the largest value.
fn limit(builder: &mut Builder, call: &Call<'_>, a: &Tensor, most: &Formula) -> Result<Formula> {
    let [rows, columns] = sizes(builder, a)?;
    let number = |builder: &mut Builder, name: &str| -> Result<Option<Formula>> {
        if !call.has(name) {
            return Ok(None);
        }
        let x = call.operand_as(builder, name, DType::F32)?;
        let mut shape = builder.shape(&x);
        shape.push(1.into());
        let x = if shape.len() == 1 { x } else { builder.reshape(&x, &shape)? };
        Ok(Some(Formula::of(&x)))
    };
    let absolute = match number(builder, "atol")? {
        Some(limit) => Some(limit),
        None => number(builder, "tol")?,
    };
    let relative = match number(builder, "rtol")? {
        Some(part) => Some(part),
        None => number(builder, "rcond")?,
    };
    let usual = rows.max(columns) as f64 * f64::from(f32::EPSILON);
    Ok(match (absolute, relative) {
        (Some(absolute), Some(relative)) => absolute.max(most * relative),
        (Some(absolute), None) => {
            let part = absolute.more(0.0).choose(0.0, usual);
            absolute.max(most * part)
        }
        (None, Some(relative)) => most * relative,
        (None, None) => most * usual,
    })
}

fn matrix_rank(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, if call.has("input") { "input" } else { "self" })?;
    let a = read(builder, call, a)?;
    if sizes(builder, &a)?.contains(&0) {
        let none = builder.number(0.0, DType::I64)?;
        return one(builder.expand(&none, &call.out_shape(0)?)?);
    }
    let values = singular(builder, &a)?;
    let last = values.rank() - 1;
    let most = builder.slice(&values, last, &0.into(), &1.into())?;
    let limit = limit(builder, call, &a, &Formula::of(&most))?;
    let counts = Formula::of(&values).more(limit).build(builder)?;
    let counts = builder.cast(&counts, DType::I64)?;
    one(reduce(builder, Reduce::Sum, &counts, &[last], false)?)
}

/// The pseudo-inverse, by singular values that count.
fn pseudo_inverse(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, "self")?;
    let a = read(builder, call, a)?;
    let (high, flipped) = tall(builder, &a)?;
    let [columns, v] = orthogonal(builder, &high)?;
    let f = Formula::of(&columns);
    let squares = total(builder, &(&f * &f))?;
    let lengths = squares.sqrt().build(builder)?;
    let most = reduce(builder, Reduce::Max, &lengths, &[lengths.rank() - 1], true)?;
    let limit = limit(builder, call, &a, &Formula::of(&most))?;
    let counts = Formula::of(&lengths).more(limit);
    let scale = counts.choose(1.0 / squares, 0.0);
    // V S^-1 U', where the columns are U S.
    let scaled = (f * scale).build(builder)?;
    let inverse = matmul(builder, &v, &turned(&scaled))?;
    one(if flipped { turned(&inverse) } else { inverse })
}

fn cond(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, "self")?;
    let order = match call.text("p") {
        Some(text) => text.to_owned(),
        None => call.float("p", 2.0)?.to_string(),
    };
    if matches!(order.as_str(), "2" | "-2") {
        let values = singular(builder, &a)?;
        let last = values.rank() - 1;
        let size = builder.dim(&values, last);
        let most = builder.slice(&values, last, &0.into(), &1.into())?;
        let least = builder.slice(&values, last, &(&size - 1), &size)?;
        let ratio = if order == "2" { (most, least) } else { (least, most) };
        let ratio = builder.binary(Binary::Div, &ratio.0, &ratio.1)?;
        return one(builder.without(&ratio, last)?);
    }
    let unit = unit(builder, &a)?;
    let inverse = solve(builder, &a, &unit)?;
    let (x, y) = (norm(builder, &a, &order)?, norm(builder, &inverse, &order)?);
    one(builder.binary(Binary::Mul, &x, &y)?)
}

/// A norm of matrices.
fn norm(builder: &mut Builder, a: &Tensor, order: &str) -> Result<Tensor> {
    let (rows, columns) = (a.rank() - 2, a.rank() - 1);
    if order == "fro" {
        return length(builder, a, 2.0, &[rows, columns], false);
    }
    if matches!(order, "nuc" | "2" | "-2") {
        let values = singular(builder, a)?;
        let how = match order {
            "nuc" => Reduce::Sum,
            "2" => Reduce::Max,
            _ => Reduce::Min,
        };
        return reduce(builder, how, &values, &[values.rank() - 1], false);
    }
    let size = builder.unary(Unary::Abs, a)?;
    let (inner, how) = match order {
        "1" => (rows, Reduce::Max),
        "-1" => (rows, Reduce::Min),
        "inf" => (columns, Reduce::Max),
        "-inf" => (columns, Reduce::Min),
        other => fail!(Unsupported, "a matrix norm of order {other}"),
    };
    let sums = reduce(builder, Reduce::Sum, &size, &[inner], false)?;
    reduce(builder, how, &sums, &[rows], false)
}

/// A norm of matrices where an order is named and two dimensions are folded, else one of vectors.
fn any_norm(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let rank = call.tensor("self")?.rank();
    let folded = if call.has("dim") { call.axes("dim", rank)?.len() } else { rank };
    if call.has("ord") && folded == 2 { matrix_norm(builder, call) } else { reduce::norm(builder, call) }
}

fn matrix_norm(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let axes = if call.has("dim") { call.axes("dim", x.rank())? } else { vec![x.rank() - 2, x.rank() - 1] };
    let [rows, columns] = axes[..] else { fail!(Format, "a matrix of {} dimensions", axes.len()) };
    let order = match call.text("ord") {
        Some(text) => text.to_owned(),
        None if call.has("ord") => call.float("ord", 2.0)?.to_string(),
        None => "fro".to_owned(),
    };
    let stored: Vec<usize> =
        (0..x.rank()).filter(|&axis| axis != rows && axis != columns).chain([rows, columns]).collect();
    let value = builder.stored(&x, &stored)?;
    let matrices = builder.plain(value);
    let norm = norm(builder, &matrices, &order)?;
    // What stays has size 1.
    one(builder.reshape(&norm, &call.out_shape(0)?)?)
}
