//! Factors of matrices, written out column by column or sweep by sweep: small matrices only.

use ondine_graph::{Binary, DType, Dim, NDArray, Op, Reduce, Result, fail};

use super::{
    index::pick,
    linalg::{linalg_solve, solve, unit},
    product::matmul,
    reduce::reduce,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("linalg_qr", qr),
    Rule::new("qr", qr),
    Rule::new("geqrf", geqrf),
    Rule::new("linalg_householder_product", householder_product),
    Rule::new("orgqr", householder_product),
    Rule::new("ormqr", ormqr),
    Rule::new("_lu_with_info", lu_factor),
    Rule::new("linalg_lu_factor", lu_factor),
    Rule::new("linalg_lu_factor_ex", lu_factor),
    Rule::new("linalg_lu", linalg_lu),
    Rule::new("lu_unpack", lu_unpack),
    Rule::new("lu_solve", lu_solve),
    Rule::new("linalg_lu_solve", lu_solve),
    Rule::new("_linalg_solve_ex", solve_and_factors),
    Rule::new("linalg_lstsq", least_squares),
    Rule::new("matrix_exp", matrix_exp),
    Rule::new("linalg_matrix_exp", matrix_exp),
    Rule::new("linalg_matrix_power", matrix_power),
    Rule::new("matrix_power", matrix_power),
];

/// The most columns that are written out.
const MOST: usize = 64;

/// Rows and columns of matrices that are small enough.
pub(super) fn sizes(builder: &Builder, a: &Tensor) -> Result<[usize; 2]> {
    let shape = builder.shape(a);
    let known = |axis: usize| shape.len().checked_sub(axis).and_then(|at| shape[at].fixed());
    match (known(2), known(1)) {
        (Some(rows), Some(columns)) if rows <= 16 * MOST && columns <= 16 * MOST && rows.min(columns) <= MOST => {
            Ok([rows, columns])
        }
        (Some(rows), Some(columns)) => fail!(Unsupported, "a factor of matrices of {rows} by {columns}"),
        _ => fail!(Unsupported, "a factor of matrices of unknown size"),
    }
}

/// Column `j`, with its dimension kept.
fn column(builder: &mut Builder, a: &Tensor, j: usize) -> Result<Tensor> {
    builder.slice(a, a.rank() - 1, &j.into(), &(j + 1).into())
}

/// The numbers 1 where a row of `count` is `from` or below, else 0: `[count, 1]`.
fn below(builder: &mut Builder, count: usize, from: usize) -> Result<Formula> {
    let numbers: Vec<f32> = (0..count).map(|i| f32::from(u8::from(i >= from))).collect();
    let value = builder.graph.constant(NDArray::new(&[count, 1], &numbers)?);
    Ok(Formula::of(&builder.plain(value)))
}

pub(super) fn total(builder: &mut Builder, x: &Formula) -> Result<Formula> {
    let x = x.build(builder)?;
    Ok(Formula::of(&reduce(builder, Reduce::Sum, &x, &[x.rank() - 2], true)?))
}

pub(super) fn turned(x: &Tensor) -> Tensor {
    Builder::swapped(x, x.rank() - 2, x.rank() - 1)
}

/// Householder's reflections that make a matrix upper triangular, as LAPACK has them: the triangle with the vectors
/// below it, each with a first element of 1 that is not written, and their factors.
fn reflect(builder: &mut Builder, a: &Tensor) -> Result<(Tensor, Vec<Tensor>, Vec<Tensor>)> {
    let [rows, columns] = sizes(builder, a)?;
    let (mut r, mut vectors, mut factors) = (a.clone(), Vec::new(), Vec::new());
    let mut held = Vec::new();
    for j in 0..columns {
        let x = column(builder, &r, j)?;
        if j >= rows {
            held.push(x);
            continue;
        }
        let (here, under) = (below(builder, rows, j)?, below(builder, rows, j + 1)?);
        let at = &here - &under;
        let x = Formula::of(&x);
        let head = total(builder, &(&x * &at))?;
        let rest = total(builder, &(&x * &x * &under))?;
        let length = (&head * &head + &rest).sqrt();
        let beta = head.less(0.0).choose(length.clone(), -length);
        // Nothing to reflect where nothing is below.
        let flat = rest.equals(0.0);
        let beta = flat.choose(&head, beta);
        let factor = flat.choose(0.0, (&beta - &head) / &beta);
        let v = &at + flat.choose(0.0, &x * &under / (&head - &beta));
        let v = v.build(builder)?;
        let factor = factor.build(builder)?;
        let done = (&x * (1.0 - here) + &at * &beta + Formula::of(&v) * &under).build(builder)?;
        held.push(done);
        r = reflected(builder, &r, &v, &factor)?;
        vectors.push(v);
        factors.push(factor);
    }
    let axis = a.rank() - 1;
    let packed = builder.concat(&held.iter().collect::<Vec<_>>(), axis)?;
    Ok((packed, vectors, factors))
}

/// `(1 - factor v v') a`
fn reflected(builder: &mut Builder, a: &Tensor, v: &Tensor, factor: &Tensor) -> Result<Tensor> {
    let (a, v) = (Formula::of(a), Formula::of(v));
    let shares = total(builder, &(&v * &a))?;
    (&a - v * (shares * Formula::of(factor))).build(builder)
}

/// The first columns of the product of reflections.
fn product_of(
    builder: &mut Builder,
    like: &Tensor,
    vectors: &[Tensor],
    factors: &[Tensor],
    wide: usize,
) -> Result<Tensor> {
    let [rows, _] = sizes(builder, like)?;
    let numbers: Vec<f32> = (0..rows * wide).map(|i| f32::from(u8::from(i / wide == i % wide))).collect();
    let value = builder.graph.constant(NDArray::new(&[rows, wide], &numbers)?);
    let start = builder.plain(value);
    let mut shape = builder.shape(like);
    let rank = shape.len();
    shape[rank - 2] = rows.into();
    shape[rank - 1] = wide.into();
    let mut q = builder.expand(&start, &shape)?;
    for (v, factor) in vectors.iter().zip(factors).rev() {
        q = reflected(builder, &q, v, factor)?;
    }
    Ok(q)
}

/// What is on and above the diagonal of the first rows.
fn upper(builder: &mut Builder, a: &Tensor, rows: usize) -> Result<Tensor> {
    let axis = a.rank() - 2;
    let a = builder.slice(a, axis, &0.into(), &rows.into())?;
    let [rows, columns] = sizes(builder, &a)?;
    let inside: Vec<f32> = (0..rows * columns).map(|i| f32::from(u8::from(i / columns <= i % columns))).collect();
    let value = builder.graph.constant(NDArray::new(&[rows, columns], &inside)?);
    (Formula::of(&a) * Formula::of(&builder.plain(value))).build(builder)
}

fn qr(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, if call.has("A") { "A" } else { "self" })?;
    let [rows, columns] = sizes(builder, &a)?;
    let mode = match call.text("mode") {
        Some(mode) => mode,
        None if call.flag("some", true)? => "reduced",
        None => "complete",
    };
    let (packed, vectors, factors) = reflect(builder, &a)?;
    let wide = if mode == "complete" { rows } else { rows.min(columns) };
    let r = upper(builder, &packed, wide)?;
    let q = if mode == "r" {
        let zero = builder.number(0.0, DType::F32)?;
        builder.expand(&zero, &call.out_shape(0)?)?
    } else {
        product_of(builder, &a, &vectors, &factors, wide)?
    };
    Ok(vec![Item::Tensor(q), Item::Tensor(r)])
}

fn geqrf(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, "self")?;
    let (packed, _, factors) = reflect(builder, &a)?;
    let axis = a.rank() - 2;
    let factors = builder.concat(&factors.iter().collect::<Vec<_>>(), axis)?;
    Ok(vec![Item::Tensor(packed), Item::Tensor(builder.reshape(&factors, &call.out_shape(1)?)?)])
}

/// The reflections that are packed below the diagonal of `a`, with their factors.
fn unpacked(builder: &mut Builder, a: &Tensor, tau: &Tensor) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
    let [rows, _] = sizes(builder, a)?;
    let Some(count) = builder.dim(tau, tau.rank() - 1).fixed() else {
        fail!(Unsupported, "an unknown number of factors")
    };
    let (mut vectors, mut factors) = (Vec::new(), Vec::new());
    for j in 0..count {
        let (here, under) = (below(builder, rows, j)?, below(builder, rows, j + 1)?);
        let x = column(builder, a, j)?;
        vectors.push((&here - &under + Formula::of(&x) * &under).build(builder)?);
        let factor = builder.slice(tau, tau.rank() - 1, &j.into(), &(j + 1).into())?;
        let mut shape = builder.shape(&factor);
        shape.push(1.into());
        factors.push(builder.reshape(&factor, &shape)?);
    }
    Ok((vectors, factors))
}

fn householder_product(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, tau) = match call.op {
        "orgqr" => (call.float_tensor(builder, "self")?, call.float_tensor(builder, "input2")?),
        _ => (call.float_tensor(builder, "input")?, call.float_tensor(builder, "tau")?),
    };
    let [_, columns] = sizes(builder, &a)?;
    let (vectors, factors) = unpacked(builder, &a, &tau)?;
    one(product_of(builder, &a, &vectors, &factors, columns)?)
}

/// A matrix times the orthogonal one of reflections, from the left or right, perhaps transposed.
fn ormqr(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, tau) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "input2")?);
    let other = call.float_tensor(builder, "input3")?;
    let (left, transposed) = (call.flag("left", true)?, call.flag("transpose", false)?);
    let (vectors, factors) = unpacked(builder, &a, &tau)?;
    // Reflections are their own transposes: what is turned is their order.
    let mut pairs: Vec<(Tensor, Tensor)> = vectors.into_iter().zip(factors).collect();
    if left != transposed {
        pairs.reverse();
    }
    let mut x = if left { other } else { turned(&other) };
    for (v, factor) in &pairs {
        x = reflected(builder, &x, v, factor)?;
    }
    one(if left { x } else { turned(&x) })
}

/// Gauss's elimination with the largest pivot of each column: both triangles in one, and with what row each row is
/// exchanged in its turn, from 1 on.
fn eliminate(builder: &mut Builder, a: &Tensor, pivots: bool) -> Result<(Tensor, Tensor)> {
    let [rows, columns] = sizes(builder, a)?;
    let steps = rows.min(columns);
    let (mut x, mut exchanged) = (a.clone(), Vec::new());
    let rank = a.rank();
    let places: Vec<i64> = (0..rows as i64).collect();
    let places = builder.graph.constant(NDArray::new(&[rows, 1], &places)?);
    let places = builder.plain(places);
    for j in 0..steps {
        let (here, under) = (below(builder, rows, j)?, below(builder, rows, j + 1)?);
        let own = builder.number(j as f64, DType::I64)?;
        if pivots {
            let candidates = column(builder, &x, j)?;
            let size = here.more(0.0).choose(Formula::of(&candidates).abs(), -1.0).build(builder)?;
            let size = builder.axis_last(&size, rank - 2)?;
            let value = builder.graph.push(Op::ArgSort { descending: true, keep: 1.into() }, &[size.value])?;
            let pivot = Tensor { value, axes: size.axes };
            // Each row reads the one that it is exchanged with.
            let (is_own, is_pivot) =
                (builder.binary(Binary::Equal, &places, &own)?, builder.binary(Binary::Equal, &places, &pivot)?);
            let source = builder.select(&is_pivot, &own, &places)?;
            let source = builder.select(&is_own, &pivot, &source)?;
            let source = builder.expand(&source, &builder.shape(&x))?;
            x = pick(builder, &x, rank - 2, &source)?;
            exchanged.push(pivot);
        } else {
            let mut shape = builder.shape(&x);
            shape[rank - 1] = 1.into();
            shape[rank - 2] = 1.into();
            exchanged.push(builder.expand(&own, &shape)?);
        }
        let at = &here - &under;
        let row = total(builder, &(Formula::of(&x) * &at))?;
        let pivot_column = Formula::of(&column(builder, &x, j)?);
        let pivot = total(builder, &(&pivot_column * &at))?;
        let multiples = pivot.equals(0.0).choose(0.0, &pivot_column * &under / &pivot);
        let right: Vec<f32> = (0..columns).map(|i| f32::from(u8::from(i > j))).collect();
        let right = builder.graph.constant(NDArray::new(&[columns], &right)?);
        let right = Formula::of(&builder.plain(right));
        let there: Vec<f32> = (0..columns).map(|i| f32::from(u8::from(i == j))).collect();
        let there = builder.graph.constant(NDArray::new(&[columns], &there)?);
        let there = Formula::of(&builder.plain(there));
        let x0 = Formula::of(&x);
        let eliminated = &x0 - &multiples * row * right;
        let keep = (&under * &there).more(0.0);
        x = keep.choose(multiples, eliminated).build(builder)?;
    }
    let exchanged = builder.concat(&exchanged.iter().collect::<Vec<_>>(), rank - 1)?;
    let exchanged = builder.without(&exchanged, rank - 2)?;
    let first = builder.number(1.0, DType::I64)?;
    let exchanged = builder.binary(Binary::Add, &exchanged, &first)?;
    Ok((x, exchanged))
}

fn lu_factor(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, if call.has("A") { "A" } else { "self" })?;
    let (factors, exchanged) = eliminate(builder, &a, call.flag("pivot", true)?)?;
    let mut items = vec![Item::Tensor(factors), Item::Tensor(exchanged)];
    if call.output_names().len() == 3 {
        let zero = builder.number(0.0, DType::I32)?;
        items.push(Item::Tensor(builder.expand(&zero, &call.out_shape(2)?)?));
    }
    Ok(items)
}

/// The lower triangle with ones on its diagonal, and the upper one.
fn triangles(builder: &mut Builder, factors: &Tensor) -> Result<[Tensor; 2]> {
    let [rows, columns] = sizes(builder, factors)?;
    let k = rows.min(columns);
    let left = builder.slice(factors, factors.rank() - 1, &0.into(), &k.into())?;
    let mask = |inside: &dyn Fn(usize, usize) -> bool| -> Vec<f32> {
        (0..rows * k).map(|i| f32::from(u8::from(inside(i / k, i % k)))).collect()
    };
    let (under, on) = (mask(&|i, j| i > j), mask(&|i, j| i == j));
    let under = builder.graph.constant(NDArray::new(&[rows, k], &under)?);
    let on = builder.graph.constant(NDArray::new(&[rows, k], &on)?);
    let (under, on) = (builder.plain(under), builder.plain(on));
    let lower = (Formula::of(&left) * Formula::of(&under) + Formula::of(&on)).build(builder)?;
    Ok([lower, upper(builder, factors, k)?])
}

/// The matrix that undoes the exchanges: `P` of `A = P L U`.
fn permutation(builder: &mut Builder, exchanged: &Tensor, rows: usize) -> Result<Tensor> {
    let shape = builder.shape(exchanged);
    let Some(steps) = shape.last().and_then(Dim::fixed) else { fail!(Unsupported, "an unknown number of exchanges") };
    let head = &shape[..shape.len() - 1];
    let full: Vec<Dim> = head.iter().cloned().chain([rows.into()]).collect();
    let places = builder.range(&0.into(), 1, &rows.into())?;
    let mut order = builder.expand(&places, &full)?;
    let exchanged = builder.cast(exchanged, DType::I64)?;
    let first = builder.number(1.0, DType::I64)?;
    let last = full.len() - 1;
    for j in 0..steps {
        let with = builder.slice(&exchanged, last, &j.into(), &(j + 1).into())?;
        let with = builder.binary(Binary::Sub, &with, &first)?;
        let own = builder.number(j as f64, DType::I64)?;
        let (is_own, is_other) =
            (builder.binary(Binary::Equal, &places, &own)?, builder.binary(Binary::Equal, &places, &with)?);
        let source = builder.select(&is_other, &own, &places)?;
        let source = builder.select(&is_own, &with, &source)?;
        let source = builder.expand(&source, &full)?;
        order = pick(builder, &order, last, &source)?;
    }
    // Row `order[i]` of P has its 1 in column i.
    let mut wide = full;
    wide.insert(last, 1.into());
    let order = builder.reshape(&order, &wide)?;
    let rows = builder.reshape(&places, &[rows.into(), 1.into()])?;
    let hits = builder.binary(Binary::Equal, &order, &rows)?;
    builder.cast(&hits, DType::F32)
}

fn linalg_lu(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, "A")?;
    let pivots = call.flag("pivot", true)?;
    let [rows, _] = sizes(builder, &a)?;
    let (factors, exchanged) = eliminate(builder, &a, pivots)?;
    let [lower, upper] = triangles(builder, &factors)?;
    let p = permutation(builder, &exchanged, rows)?;
    Ok([p, lower, upper].into_iter().map(Item::Tensor).collect())
}

fn lu_unpack(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (factors, exchanged) = (call.float_tensor(builder, "LU_data")?, call.tensor("LU_pivots")?);
    let [rows, _] = sizes(builder, &factors)?;
    let [lower, upper] = triangles(builder, &factors)?;
    let p = permutation(builder, &exchanged, rows)?;
    Ok([p, lower, upper].into_iter().map(Item::Tensor).collect())
}

/// The solution of equations with the factors that it is found by, and that nothing went wrong.
fn solve_and_factors(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, "A")?;
    let mut items = linalg_solve(builder, call)?;
    // Of large matrices there is the solution alone, which is what programs read.
    if sizes(builder, &a).is_err() {
        return Ok(items);
    }
    let (factors, exchanged) = eliminate(builder, &a, true)?;
    let zero = builder.number(0.0, call.out_dtype(3)?)?;
    let info = builder.expand(&zero, &call.out_shape(3)?)?;
    let exchanged = builder.cast(&exchanged, call.out_dtype(2)?)?;
    items.extend([factors, exchanged, info].map(Item::Tensor));
    Ok(items)
}

fn lu_solve(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let linalg = call.op == "linalg_lu_solve";
    let names = if linalg { ["LU", "pivots", "B"] } else { ["LU_data", "LU_pivots", "self"] };
    let (factors, exchanged) = (call.float_tensor(builder, names[0])?, call.tensor(names[1])?);
    let b = call.float_tensor(builder, names[2])?;
    let [rows, _] = sizes(builder, &factors)?;
    let [lower, upper] = triangles(builder, &factors)?;
    let p = permutation(builder, &exchanged, rows)?;
    let a = matmul(builder, &lower, &upper)?;
    let a = matmul(builder, &p, &a)?;
    let adjoint = linalg && call.flag("adjoint", false)?;
    let a = if adjoint { turned(&a) } else { a };
    if linalg && !call.flag("left", true)? {
        let x = solve(builder, &turned(&a), &turned(&b))?;
        return one(turned(&x));
    }
    one(solve(builder, &a, &b)?)
}

/// The matrix or its transpose, whichever has no more columns than rows, and whether it was turned.
pub(super) fn tall(builder: &Builder, a: &Tensor) -> Result<(Tensor, bool)> {
    let [rows, columns] = sizes(builder, a)?;
    Ok(if columns > rows { (turned(a), true) } else { (a.clone(), false) })
}

/// The solution of least squares; of full rank, as the usual drivers take for granted.
fn least_squares(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "b")?);
    let [rows, columns] = sizes(builder, &a)?;
    let vector = b.rank() == 1 || b.rank() + 1 == a.rank();
    let mut shape = builder.shape(&b);
    if vector {
        shape.push(1.into());
    }
    let b = builder.reshape(&b, &shape)?;
    let (high, flipped) = tall(builder, &a)?;
    let (packed, vectors, factors) = reflect(builder, &high)?;
    let small = rows.min(columns);
    let r = upper(builder, &packed, small)?;
    let q = product_of(builder, &high, &vectors, &factors, small)?;
    let x = if flipped {
        let y = solve(builder, &turned(&r), &b)?;
        matmul(builder, &q, &y)?
    } else {
        let y = matmul(builder, &turned(&q), &b)?;
        solve(builder, &r, &y)?
    };
    let x = if vector { builder.without(&x, x.rank() - 1)? } else { x };
    let mut items = vec![Item::Tensor(x.clone())];
    for index in 1..call.output_names().len() {
        let (shape, dtype) = (call.out_shape(index)?, call.out_dtype(index)?);
        let tensor = match index {
            1 if shape.iter().all(|dim| dim.fixed() != Some(0)) => {
                let mut column = builder.shape(&x);
                if vector {
                    column.push(1.into());
                }
                let x = builder.reshape(&x, &column)?;
                let there = matmul(builder, &a, &x)?;
                let away = Formula::of(&there) - Formula::of(&b);
                let sum = total(builder, &(&away * &away))?.build(builder)?;
                builder.reshape(&sum, &shape)?
            }
            2 => {
                let rank = builder.number(small as f64, dtype)?;
                builder.expand(&rank, &shape)?
            }
            _ => {
                let zero = builder.number(0.0, dtype)?;
                builder.expand(&zero, &shape)?
            }
        };
        items.push(Item::Tensor(tensor));
    }
    Ok(items)
}

/// The exponential of a matrix: Taylor's series of a part that is small, squared as often as it was halved.
fn matrix_exp(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    const HALVINGS: i32 = 10;
    const TERMS: u32 = 8;
    let a = call.float_tensor(builder, "self")?;
    let unit = unit(builder, &a)?;
    let part = builder.affine(&a, 2_f64.powi(-HALVINGS), 0.0)?;
    // Without the unit matrix, whose digits would hide those of the rest: e^x - 1 = y, and twice that is y² + 2 y.
    let mut sum = builder.affine(&part, 1.0 / f64::from(TERMS), 0.0)?;
    for term in (1..TERMS).rev() {
        let longer = builder.binary(Binary::Add, &sum, &unit)?;
        let product = matmul(builder, &part, &longer)?;
        sum = builder.affine(&product, 1.0 / f64::from(term), 0.0)?;
    }
    for _ in 0..HALVINGS {
        let square = matmul(builder, &sum, &sum)?;
        let double = builder.affine(&sum, 2.0, 0.0)?;
        sum = builder.binary(Binary::Add, &square, &double)?;
    }
    one(builder.binary(Binary::Add, &sum, &unit)?)
}

fn matrix_power(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut a = call.float_tensor(builder, "self")?;
    let exponent = call.integer("n", 1)?;
    let start = unit(builder, &a)?;
    if exponent < 0 {
        a = solve(builder, &a, &start)?;
    }
    let mut rest = exponent.unsigned_abs();
    let (mut result, mut square) = (None, a);
    while rest > 0 {
        if rest % 2 == 1 {
            result = Some(match result {
                Some(result) => matmul(builder, &result, &square)?,
                None => square.clone(),
            });
        }
        rest /= 2;
        if rest > 0 {
            square = matmul(builder, &square, &square)?;
        }
    }
    one(result.unwrap_or(start))
}
