//! Operators that occur now and then, in terms of others.

use super::{
    super::builder::{check_list, elements},
    Builder, Call, Item, Rule, Tensor, one,
    product::matmul,
    reduce::reduce,
};
use ondine_graph::{Activation, Binary, DType, Dim, Elementary, NDArray, Op, Reduce, Result, Unary, fail};

pub(super) fn rule(op: &str) -> Option<Rule> {
    Some(match op {
        "diff" => diff,
        "tensordot" => tensordot,
        "kron" => kron,
        "fliplr" | "flipud" => |builder, call| {
            let x = call.tensor("self")?;
            one(reversed(builder, &x, usize::from(call.op == "fliplr"))?)
        },
        "rot90" => rot90,
        "trace" => |builder, call| {
            let x = call.tensor("self")?;
            let identity = identity(builder, &builder.dim(&x, 0), &builder.dim(&x, 1))?;
            let zero = builder.number(0.0, builder.dtype(&x))?;
            let kept = builder.select(&identity, &x, &zero)?;
            one(reduce(builder, Reduce::Sum, &kept, &[0, 1], false)?)
        },
        "diag" | "diag_embed" => diag,
        "cross" | "linalg_cross" => cross,
        "bucketize" | "searchsorted" => bucketize,
        "tril_indices" | "triu_indices" => triangle_indices,
        "median" | "kthvalue" => rank_value,
        "isin" => isin,
        "histc" => histc,
        "_grouped_mm" => grouped,
        // A library's operator for the same, where PyTorch's own has no kernel.
        op if op.ends_with(".grouped_mm_fallback.default") => grouped,
        "as_strided" | "as_strided_copy" => as_strided,
        "take" => |builder, call| {
            let x = call.tensor("self")?;
            let size = elements(&builder.shape(&x));
            let flat = builder.reshape(&x, &[size])?;
            one(builder.take(&flat, 0, &call.tensor("index")?)?)
        },
        "broadcast_tensors" => |builder, call| {
            let mut items = Vec::new();
            for (i, tensor) in call.tensors("tensors")?.iter().enumerate() {
                items.push(Item::Tensor(builder.expand(tensor, &call.out_shape(i)?)?));
            }
            Ok(items)
        },
        "atleast_1d" | "atleast_2d" | "atleast_3d" => |builder, call| {
            if call.has("tensors") {
                let mut items = Vec::new();
                for (i, tensor) in call.tensors("tensors")?.iter().enumerate() {
                    items.push(Item::Tensor(builder.reshape(tensor, &call.out_shape(i)?)?));
                }
                return Ok(items);
            }
            let x = call.tensor("self")?;
            one(builder.reshape(&x, &call.out_shape(0)?)?)
        },
        "hann_window" | "hamming_window" | "blackman_window" => window,
        "bilinear" => bilinear,
        "pairwise_distance" => |builder, call| {
            let (a, b) = (call.float_tensor(builder, "x1")?, call.float_tensor(builder, "x2")?);
            let difference = builder.binary(Binary::Sub, &a, &b)?;
            let difference = builder.affine(&difference, 1.0, call.float("eps", 1e-6)?)?;
            one(euclidean(builder, call, &difference)?)
        },
        "dist" => |builder, call| {
            let (a, b) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "other")?);
            let difference = builder.binary(Binary::Sub, &a, &b)?;
            let size = elements(&builder.shape(&difference));
            let flat = builder.reshape(&difference, &[size])?;
            one(euclidean(builder, call, &flat)?)
        },
        "lstm_cell" => lstm_cell,
        "gru_cell" => gru_cell,
        "rnn_tanh_cell" | "rnn_relu_cell" => rnn_cell,
        "angle" | "conj" | "_conj" | "conj_physical" | "_conj_physical" => complex,
        "addr" => addr,
        "lerp" => lerp,
        _ => return None,
    })
}

/// The way from one operand to another, in parts.
fn lerp(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "end")?);
    let weight = call.operand_as(builder, "weight", DType::F32)?;
    let difference = builder.binary(Binary::Sub, &b, &a)?;
    let part = builder.binary(Binary::Mul, &difference, &weight)?;
    one(builder.binary(Binary::Add, &a, &part)?)
}

/// A matrix and the product of two vectors.
fn addr(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.tensor("vec1")?, call.tensor("vec2")?);
    let rows = builder.dim(&a, 0);
    let a = builder.reshape(&a, &[rows, 1.into()])?;
    let product = builder.binary(Binary::Mul, &a, &b)?;
    let product = Call::scale(builder, &product, call.float("alpha", 1.0)?)?;
    let x = call.float_tensor(builder, "self")?;
    let x = Call::scale(builder, &x, call.float("beta", 1.0)?)?;
    one(builder.binary(Binary::Add, &x, &product)?)
}

fn reversed(builder: &mut Builder, x: &Tensor, axis: usize) -> Result<Tensor> {
    let size = builder.dim(x, axis);
    let indices = builder.range(&(&size - 1), -1, &size)?;
    builder.take(x, axis, &indices)
}

fn rot90(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let axes = if call.has("dims") { call.axes("dims", x.rank())? } else { vec![0, 1] };
    let [a, b] = axes[..] else { fail!(Format, "rot90 in {} dimensions", axes.len()) };
    one(match call.integer("k", 1)?.rem_euclid(4) {
        1 => {
            let flipped = reversed(builder, &x, b)?;
            Builder::swapped(&flipped, a, b)
        }
        2 => {
            let flipped = reversed(builder, &x, a)?;
            reversed(builder, &flipped, b)?
        }
        3 => {
            let flipped = reversed(builder, &x, a)?;
            Builder::swapped(&flipped, a, b)
        }
        _ => x,
    })
}

fn diff(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut x = call.tensor("self")?;
    let axis = call.axis("dim", -1, x.rank())?;
    let mut parts = Vec::new();
    parts.extend(call.try_tensor("prepend")?);
    parts.push(x.clone());
    parts.extend(call.try_tensor("append")?);
    x = builder.concat(&parts.iter().collect::<Vec<_>>(), axis)?;
    for _ in 0..call.integer("n", 1)? {
        let size = builder.dim(&x, axis);
        let high = builder.slice(&x, axis, &1.into(), &size)?;
        let low = builder.slice(&x, axis, &0.into(), &(&size - 1))?;
        let op = if builder.dtype(&x) == DType::Bool { Binary::Xor } else { Binary::Sub };
        x = builder.binary(op, &high, &low)?;
    }
    one(x)
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
    let rank = x.rank() + 1;
    let [.., high, wide] = &out[..] else { fail!(Format, "a matrix of rank {}", out.len()) };
    if call.has("dim1") && [call.axis("dim1", -2, rank)?, call.axis("dim2", -1, rank)?] != [rank - 2, rank - 1] {
        fail!(Unsupported, "diagonals of other dimensions than the last");
    }
    // Zeros before and after move the diagonal aside.
    let shift = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX).min(1 << 24);
    let mut amounts = vec![[0; 2]; x.rank()];
    amounts[x.axes[x.rank() - 1]] = if offset > 0 { [shift, 0] } else { [0, shift] };
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
    one(builder.select(&there, &x, &zero)?)
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

/// How many of the ascending boundaries are below each number.
fn bucketize(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, edges) = if call.op == "bucketize" {
        (call.tensor("self")?, call.tensor("boundaries")?)
    } else {
        (call.tensor("self")?, call.tensor("sorted_sequence")?)
    };
    let right = call.flag("right", false)? || call.text("side") == Some("right");
    let float = [&x, &edges].iter().any(|tensor| builder.dtype(tensor) == DType::F32);
    let dtype = if float { DType::F32 } else { DType::I64 };
    let (x, edges) = (builder.cast(&x, dtype)?, builder.cast(&edges, dtype)?);
    let mut shape = builder.shape(&x);
    shape.push(1.into());
    let x = builder.reshape(&x, &shape)?;
    let edges = if edges.rank() > 1 {
        let mut wide = builder.shape(&edges);
        wide.insert(edges.rank() - 1, 1.into());
        builder.reshape(&edges, &wide)?
    } else {
        edges
    };
    let passed = if right {
        let below = builder.binary(Binary::Less, &x, &edges)?;
        builder.not(&below)?
    } else {
        builder.binary(Binary::Less, &edges, &x)?
    };
    let passed = builder.cast(&passed, DType::I64)?;
    let last = passed.rank() - 1;
    let count = reduce(builder, Reduce::Sum, &passed, &[last], false)?;
    one(call.cast_out(builder, &count)?)
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

/// The element of a rank among those of a dimension, and where it is.
fn rank_value(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut x = call.tensor("self")?;
    let whole = call.op == "median" && !call.has("dim");
    if whole {
        let size = elements(&builder.shape(&x));
        x = builder.reshape(&x, &[size])?;
    }
    let axis = call.axis("dim", -1, x.rank())?;
    let size = builder.dim(&x, axis);
    let position = if call.op == "median" { (&size - 1).floor_div(2) } else { &call.dim("k")? - 1 };
    let [values, indices] = super::index::ordered(builder, &x, axis, false, size)?;
    let mut items = Vec::new();
    for tensor in [&values, &indices] {
        let part = builder.slice(tensor, axis, &position, &(&position + 1))?;
        let keep = call.flag("keepdim", false)?;
        items.push(Item::Tensor(if keep { part } else { super::view::without(builder, &part, axis)? }));
    }
    items.truncate(if whole { 1 } else { 2 });
    Ok(items)
}

fn isin(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, among) = (call.tensor("elements")?, call.tensor("test_elements")?);
    let float = [&x, &among].iter().any(|tensor| builder.dtype(tensor) == DType::F32);
    let dtype = if float { DType::F32 } else { DType::I64 };
    let (x, among) = (builder.cast(&x, dtype)?, builder.cast(&among, dtype)?);
    let size = elements(&builder.shape(&among));
    let among = builder.reshape(&among, &[size])?;
    let mut shape = builder.shape(&x);
    shape.push(1.into());
    let x = builder.reshape(&x, &shape)?;
    let equal = builder.binary(Binary::Equal, &x, &among)?;
    let equal = builder.cast(&equal, DType::I64)?;
    let found = reduce(builder, Reduce::Max, &equal, &[shape.len() - 1], false)?;
    let found = builder.cast(&found, DType::Bool)?;
    one(if call.flag("invert", false)? { builder.not(&found)? } else { found })
}

/// Elements by their place in memory, which is known for a tensor whose elements lie in order.
fn as_strided(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let shape: Option<Vec<i64>> = builder.shape(&x).iter().map(Dim::constant).collect();
    let (Some(shape), Some(own)) = (shape, call.strides("self")) else {
        fail!(Unsupported, "the memory of a tensor of unknown shape");
    };
    let (sizes, strides) = (call.integers("size", &[])?, call.integers("stride", &[])?);
    // Offsets count from the start of the memory, which the tensor may begin behind.
    let first = call.offset("self");
    let start = call.integer("storage_offset", first)? - first;
    let same = |a: &[i64], b: &[i64]| shape.iter().zip(a.iter().zip(b)).all(|(&n, (a, b))| n == 1 || a == b);
    if sizes == shape && start == 0 && same(&own, &strides) {
        return one(x);
    }
    let Some(elements_there) = shape.iter().try_fold(1_i64, |product, &size| product.checked_mul(size)) else {
        fail!(Shape, "a tensor of {shape:?} is too large");
    };
    let dense: Vec<i64> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
    let count = sizes.iter().try_fold(1_i64, |product, &size| product.checked_mul(size));
    let Some(count) = count.filter(|count| (0..=1 << 24).contains(count) && same(&own, &dense)) else {
        fail!(Unsupported, "the memory of a tensor whose elements do not lie in order");
    };
    let place = |index: i64| {
        let (mut rest, mut place) = (index, start);
        for (&size, &stride) in sizes.iter().zip(&strides).rev() {
            place += rest % size * stride;
            rest /= size;
        }
        place
    };
    let indices: Vec<i64> = (0..count).map(place).collect();
    if indices.iter().any(|place| !(0..elements_there).contains(place)) {
        fail!(Unsupported, "memory before or behind the tensor that it is asked of");
    }
    let indices = builder.graph.constant(NDArray::new(&[indices.len()], &indices)?);
    let indices = builder.plain(indices);
    let all = elements(&builder.shape(&x));
    let flat = builder.reshape(&x, &[all])?;
    let taken = builder.take(&flat, 0, &indices)?;
    one(builder.reshape(&taken, &sizes.iter().map(|&size| Dim::from_i64(size)).collect::<Vec<_>>())?)
}

/// How many numbers fall into each of the equal parts of a range.
fn histc(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let bins = call.integer("bins", 100)?.max(1);
    let (least, most) = (call.float("min", 0.0)?, call.float("max", 0.0)?);
    if least >= most {
        fail!(Unsupported, "histc over a range that the data decides");
    }
    let scale = bins as f64 / (most - least);
    let place = builder.affine(&x, scale, -least * scale)?;
    let place = builder.function(Elementary::Floor, &place)?;
    // The largest number belongs to the last part.
    let (last, largest) = (builder.number((bins - 1) as f64, DType::F32)?, builder.number(most, DType::F32)?);
    let at_end = builder.binary(Binary::Equal, &x, &largest)?;
    let place = builder.select(&at_end, &last, &place)?;
    let size = elements(&builder.shape(&place));
    let place = builder.reshape(&place, &[size, 1.into()])?;
    let parts = builder.range(&0.into(), 1, &Dim::from_i64(bins))?;
    let parts = builder.cast(&parts, DType::F32)?;
    let hits = builder.binary(Binary::Equal, &place, &parts)?;
    let hits = builder.cast(&hits, DType::F32)?;
    let counts = reduce(builder, Reduce::Sum, &hits, &[0], false)?;
    one(call.cast_out(builder, &counts)?)
}

/// Rows in groups, each multiplied with a matrix of its own.
fn grouped(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let named = call.has("input");
    let x = call.float_tensor(builder, if named { "input" } else { "self" })?;
    let weight = call.float_tensor(builder, if named { "weight" } else { "mat2" })?;
    let ends = call.tensor("offs")?;
    if x.rank() != 2 || weight.rank() != 3 || call.has("bias") {
        fail!(Unsupported, "a grouped product of ranks {} and {}", x.rank(), weight.rank());
    }
    let ends = builder.cast(&ends, DType::I64)?;
    let transposed = weight.axes[1] > weight.axes[2];
    let weight = if transposed { Builder::swapped(&weight, 1, 2) } else { weight };
    let inputs = [builder.dense(&x)?, builder.dense(&weight)?, builder.dense(&ends)?];
    let value = builder.graph.push(Op::GroupedMatMul { transposed }, &inputs)?;
    one(builder.plain(value))
}

fn window(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let length = usize::try_from(call.integer("window_length", 1)?).unwrap_or(0).min(1 << 24);
    let periodic = call.flag("periodic", true)?;
    let span = if periodic { length } else { length.saturating_sub(1) }.max(1) as f64;
    let shares = match call.op {
        "hann_window" => [0.5, 0.5, 0.0],
        "hamming_window" => {
            let alpha = call.float("alpha", 0.54)?;
            [alpha, call.float("beta", 0.46)?, 0.0]
        }
        _ => [0.42, 0.5, 0.08],
    };
    let value = |i: usize| {
        let angle = 2.0 * std::f64::consts::PI * i as f64 / span;
        (shares[0] - shares[1] * angle.cos() + shares[2] * (2.0 * angle).cos()) as f32
    };
    let values: Vec<f32> = (0..length).map(value).collect();
    let array = builder.graph.constant(NDArray::new(&[length], &values)?);
    one(builder.plain(array))
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
        Some(bias) => one(builder.binary(Binary::Add, &sum, &bias)?),
        None => one(sum),
    }
}

/// The length of vectors along the last dimension.
fn euclidean(builder: &mut Builder, call: &Call<'_>, x: &Tensor) -> Result<Tensor> {
    super::reduce::length(builder, x, call.float("p", 2.0)?, &[x.rank() - 1], call.flag("keepdim", false)?)
}

/// What input and hidden state contribute to the gates of a cell.
fn gates(builder: &mut Builder, call: &Call<'_>, hidden: &Tensor) -> Result<[Tensor; 2]> {
    let x = call.float_tensor(builder, "input")?;
    let mut sums = Vec::new();
    for (x, weight, bias) in [(&x, "w_ih", "b_ih"), (hidden, "w_hh", "b_hh")] {
        let (weight, bias) = (call.float_tensor(builder, weight)?, call.try_tensor(bias)?);
        sums.push(super::product::linear_of(builder, x, &weight, bias.as_ref())?);
    }
    match <[Tensor; 2]>::try_from(sums) {
        Ok(sums) => Ok(sums),
        Err(_) => fail!(Format, "a cell without gates"),
    }
}

/// Gate `index` of `count`.
fn gate(builder: &mut Builder, x: &Tensor, index: usize, count: usize) -> Result<Tensor> {
    let last = x.rank() - 1;
    let size = builder.dim(x, last).floor_div(count);
    builder.slice(x, last, &(&size * index), &(&size * (index + 1)))
}

fn lstm_cell(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let states = call.tensors("hx")?;
    let [hidden, memory] = &states[..] else { fail!(Format, "an LSTM cell without two states") };
    let [a, b] = gates(builder, call, hidden)?;
    let sum = builder.binary(Binary::Add, &a, &b)?;
    let mut part = |index: usize, activation: Activation| -> Result<Tensor> {
        let part = gate(builder, &sum, index, 4)?;
        builder.activation(activation, &part)
    };
    let (input, forget) = (part(0, Activation::Sigmoid)?, part(1, Activation::Sigmoid)?);
    let (new, output) = (part(2, Activation::Tanh)?, part(3, Activation::Sigmoid)?);
    let (kept, added) = (builder.binary(Binary::Mul, &forget, memory)?, builder.binary(Binary::Mul, &input, &new)?);
    let memory = builder.binary(Binary::Add, &kept, &added)?;
    let seen = builder.activation(Activation::Tanh, &memory)?;
    Ok(vec![Item::Tensor(builder.binary(Binary::Mul, &output, &seen)?), Item::Tensor(memory)])
}

fn gru_cell(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let hidden = call.float_tensor(builder, "hx")?;
    let [a, b] = gates(builder, call, &hidden)?;
    let mut sigmoid = |index: usize| -> Result<Tensor> {
        let (a, b) = (gate(builder, &a, index, 3)?, gate(builder, &b, index, 3)?);
        let sum = builder.binary(Binary::Add, &a, &b)?;
        builder.activation(Activation::Sigmoid, &sum)
    };
    let (reset, update) = (sigmoid(0)?, sigmoid(1)?);
    let (a, b) = (gate(builder, &a, 2, 3)?, gate(builder, &b, 2, 3)?);
    let part = builder.binary(Binary::Mul, &reset, &b)?;
    let sum = builder.binary(Binary::Add, &a, &part)?;
    let new = builder.activation(Activation::Tanh, &sum)?;
    let difference = builder.binary(Binary::Sub, &hidden, &new)?;
    let kept = builder.binary(Binary::Mul, &update, &difference)?;
    one(builder.binary(Binary::Add, &new, &kept)?)
}

fn rnn_cell(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let hidden = call.float_tensor(builder, "hx")?;
    let [a, b] = gates(builder, call, &hidden)?;
    let sum = builder.binary(Binary::Add, &a, &b)?;
    let activation = if call.op == "rnn_tanh_cell" { Activation::Tanh } else { Activation::Relu };
    one(builder.activation(activation, &sum)?)
}

fn complex(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    if !call.is_complex("self") {
        if call.op == "angle" {
            fail!(Unsupported, "the angle of real numbers");
        }
        return one(x);
    }
    let last = x.rank() - 1;
    let (real, imaginary) =
        (builder.slice(&x, last, &0.into(), &1.into())?, builder.slice(&x, last, &1.into(), &2.into())?);
    if call.op == "angle" {
        let angle = builder.binary(Binary::Atan2, &imaginary, &real)?;
        return one(super::view::without(builder, &angle, last)?);
    }
    let turned = builder.unary(Unary::Neg, &imaginary)?;
    one(builder.concat(&[&real, &turned], last)?)
}
