//! Matrices: their diagonals and triangles, and products of them that are rare.

use ondine_graph::{Binary, DType, Dim, NDArray, Op, Reduce, Result, fail};

use super::{
    product::matmul,
    reduce::reduce,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, check_list, elements},
    call::{Call, Item},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("trace", trace),
    Rule::new("diag", diag),
    Rule::new("diag_embed", diag),
    Rule::new("cross", cross),
    Rule::new("linalg_cross", cross),
    Rule::new("tril_indices", triangle_indices),
    Rule::new("triu_indices", triangle_indices),
    Rule::new("kron", kron),
    Rule::new("tensordot", tensordot),
    Rule::new("addr", addr),
    Rule::new("bilinear", bilinear),
];

fn trace(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let identity = identity(builder, &builder.dim(&x, 0), &builder.dim(&x, 1))?;
    let zero = builder.number(0.0, builder.dtype(&x))?;
    let kept = builder.select(&identity, &x, &zero)?;
    one(reduce(builder, Reduce::Sum, &kept, &[0, 1], false)?)
}

/// For each place of a matrix whether it is on the diagonal.
fn identity(builder: &mut Builder, rows: &Dim, columns: &Dim) -> Result<Tensor> {
    let row = builder.range(&0.into(), 1, rows)?;
    let row = builder.reshape(&row, &[rows.clone(), 1.into()])?;
    let column = builder.range(&0.into(), 1, columns)?;
    builder.binary(Binary::Equal, &row, &column)
}

/// The diagonal of a matrix, or matrices with given diagonals.
fn diag(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let offset = call.integer("diagonal", 0)? + call.integer("offset", 0)?;
    let out = call.out_shape(0)?;
    if call.op == "diag" && x.rank() == 2 {
        let Some(width) = builder.dim(&x, 1).fixed() else { fail!(Unsupported, "a matrix of unknown width") };
        let size = elements(&builder.shape(&x));
        let flat = builder.reshape(&x, &[size])?;
        let start = if offset >= 0 { offset } else { -offset * width as i64 };
        let indices = builder.range(&Dim::from_i64(start), width as i64 + 1, &call.out_dim(0, 0)?)?;
        return one(builder.take(&flat, 0, &indices)?);
    }
    if x.rank() == 0 {
        fail!(Shape, "a diagonal of a number");
    }
    let rank = x.rank() + 1;
    let [rows, columns] = [call.axis("dim1", -2, rank)?, call.axis("dim2", -1, rank)?];
    let (Some(high), Some(wide), true) = (out.get(rows), out.get(columns), rows != columns) else {
        fail!(Format, "a matrix of rank {}", out.len())
    };
    // Zeros before it move the diagonal aside.
    let shift = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX).min(1 << 24);
    let mut amounts = vec![[0; 2]; x.rank()];
    amounts[x.axes[x.rank() - 1]] = [shift, 0];
    let value = builder.graph.push(Op::Pad { amounts }, &[x.value])?;
    let x = Tensor { value, axes: x.axes };
    let row = builder.range(&0.into(), 1, high)?;
    let row = builder.reshape(&row, &[high.clone(), 1.into()])?;
    let column = builder.range(&Dim::from_i64(-offset), 1, wide)?;
    let there = builder.binary(Binary::Equal, &row, &column)?;
    let mut shape = builder.shape(&x);
    // Along the columns for a diagonal above, along the rows for one below.
    shape.insert(if offset > 0 { rank - 2 } else { rank - 1 }, 1.into());
    let x = builder.reshape(&x, &shape)?;
    let zero = builder.number(0.0, builder.dtype(&x))?;
    let matrices = builder.select(&there, &x, &zero)?;
    let mut others = 0..rank - 2;
    let order: Vec<usize> = (0..rank)
        .map(|axis| match axis {
            axis if axis == rows => rank - 2,
            axis if axis == columns => rank - 1,
            _ => others.next().unwrap_or(0),
        })
        .collect();
    one(Builder::permuted(&matrices, &order))
}

fn cross(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.tensor("self")?, call.tensor("other")?);
    let rank = a.rank().max(b.rank());
    let axis = call.axis("dim", -1, rank)?;
    let mut turned = |x: &Tensor, order: [i64; 3]| -> Result<Tensor> {
        let indices = builder.graph.constant(NDArray::new(&[3], &order)?);
        let indices = builder.plain(indices);
        builder.take(x, axis, &indices)
    };
    let (a1, b1, a2, b2) =
        (turned(&a, [1, 2, 0])?, turned(&b, [2, 0, 1])?, turned(&a, [2, 0, 1])?, turned(&b, [1, 2, 0])?);
    let (left, right) = (builder.binary(Binary::Mul, &a1, &b1)?, builder.binary(Binary::Mul, &a2, &b2)?);
    one(builder.binary(Binary::Sub, &left, &right)?)
}

fn triangle_indices(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (rows, columns) = (call.integer("row", 0)?.clamp(0, 1 << 14), call.integer("col", 0)?.clamp(0, 1 << 14));
    let offset = call.integer("offset", 0)?;
    let lower = call.op == "tril_indices";
    check_list(&[rows as usize, columns as usize])?;
    let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let places: Vec<_> =
        places.filter(|(row, column)| if lower { column - row <= offset } else { column - row >= offset }).collect();
    let values: Vec<i64> = places.iter().map(|place| place.0).chain(places.iter().map(|place| place.1)).collect();
    let array = builder.graph.constant(NDArray::new(&[2, places.len()], &values)?);
    one(builder.plain(array))
}

fn kron(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.tensor("self")?, call.tensor("other")?);
    let rank = a.rank().max(b.rank());
    let wide = |builder: &mut Builder, x: &Tensor, first: bool| -> Result<Tensor> {
        let mut shape = vec![Dim::from(1); rank - x.rank()];
        shape.extend(builder.shape(x));
        let pairs = shape.into_iter().flat_map(|dim| if first { [dim, 1.into()] } else { [1.into(), dim] });
        builder.reshape(x, &pairs.collect::<Vec<_>>())
    };
    let (a, b) = (wide(builder, &a, true)?, wide(builder, &b, false)?);
    let product = builder.binary(Binary::Mul, &a, &b)?;
    one(builder.reshape(&product, &call.out_shape(0)?)?)
}

fn tensordot(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.tensor("self")?, call.tensor("other")?);
    let (left, right) = (call.axes("dims_self", a.rank())?, call.axes("dims_other", b.rank())?);
    let rest = |rank: usize, axes: &[usize]| (0..rank).filter(|axis| !axes.contains(axis)).collect::<Vec<_>>();
    let (rows, columns) = (rest(a.rank(), &left), rest(b.rank(), &right));
    let a = Builder::permuted(&a, &rows.iter().chain(&left).copied().collect::<Vec<_>>());
    let b = Builder::permuted(&b, &right.iter().chain(&columns).copied().collect::<Vec<_>>());
    let (a_shape, b_shape) = (builder.shape(&a), builder.shape(&b));
    let (row_dims, inner) = a_shape.split_at(rows.len());
    let column_dims = &b_shape[right.len()..];
    let a = builder.reshape(&a, &[elements(row_dims), elements(inner)])?;
    let b = builder.reshape(&b, &[elements(inner), elements(column_dims)])?;
    let product = matmul(builder, &a, &b)?;
    let shape: Vec<Dim> = row_dims.iter().chain(column_dims).cloned().collect();
    one(builder.reshape(&product, &shape)?)
}

/// A matrix and the product of two vectors.
fn addr(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.wide_tensor(builder, "vec1")?, call.wide_tensor(builder, "vec2")?);
    let rows = builder.dim(&a, 0);
    let a = builder.reshape(&a, &[rows, 1.into()])?;
    let product = builder.binary(Binary::Mul, &a, &b)?;
    let product = Call::scale(builder, &product, call.float("alpha", 1.0)?)?;
    let beta = call.float("beta", 1.0)?;
    if beta == 0.0 {
        return one(product);
    }
    let x = call.wide_tensor(builder, "self")?;
    let x = builder.cast(&x, builder.dtype(&product))?;
    let x = Call::scale(builder, &x, beta)?;
    one(builder.binary(Binary::Add, &x, &product)?)
}

/// `a W b` for each output.
fn bilinear(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "input1")?, call.float_tensor(builder, "input2")?);
    let weight = call.float_tensor(builder, "weight")?;
    let shape = builder.shape(&weight);
    let (outputs, left, right) = (shape[0].clone(), shape[1].clone(), shape[2].clone());
    let head = builder.shape(&a)[..a.rank() - 1].to_vec();
    let flat = Builder::permuted(&weight, &[1, 0, 2]);
    let flat = builder.reshape(&flat, &[left, &outputs * &right])?;
    let product = matmul(builder, &a, &flat)?;
    let split: Vec<Dim> = head.iter().cloned().chain([outputs, right.clone()]).collect();
    let product = builder.reshape(&product, &split)?;
    let wide: Vec<Dim> = head.iter().cloned().chain([1.into(), right]).collect();
    let b = builder.reshape(&b, &wide)?;
    let product = builder.binary(Binary::Mul, &product, &b)?;
    let last = product.rank() - 1;
    let sum = reduce(builder, Reduce::Sum, &product, &[last], false)?;
    match call.try_tensor("bias")? {
        Some(bias) => {
            let bias = builder.cast(&bias, DType::F32)?;
            let sum = builder.binary(Binary::Add, &sum, &bias)?;
            one(call.cast_out(builder, &sum)?)
        }
        None => one(call.cast_out(builder, &sum)?),
    }
}
