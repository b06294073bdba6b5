//! Operators that make, join, pad and reorder tensors.

use ondine_graph::{Binary, DType, Dim, DimPair, Op, Result, Unary, fail};

use super::{
    choice::repeated,
    complex,
    rule::{Rule, one},
    sharing, view,
};
use crate::{
    builder::{Builder, Tensor, check_list, elements, inverse},
    call::{Call, Item, Operand},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("cat", cat).complex(),
    Rule::new("concat", cat).complex(),
    Rule::new("concatenate", cat).complex(),
    Rule::new("stack", stack).complex(),
    Rule::new("hstack", stack).complex(),
    Rule::new("vstack", stack).complex(),
    Rule::new("dstack", stack).complex(),
    Rule::new("column_stack", stack).complex(),
    Rule::new("pad", pad),
    Rule::new("constant_pad_nd", pad).on_complex(pad_complex),
    Rule::new("reflection_pad1d", pad),
    Rule::new("reflection_pad2d", pad),
    Rule::new("reflection_pad3d", pad),
    Rule::new("replication_pad1d", pad),
    Rule::new("replication_pad2d", pad),
    Rule::new("replication_pad3d", pad),
    Rule::new("_pad_circular", pad),
    Rule::new("zeros", full).complex(),
    Rule::new("zeros_like", full).complex(),
    Rule::new("new_zeros", full).complex(),
    Rule::new("ones", full),
    Rule::new("ones_like", full),
    Rule::new("new_ones", full),
    Rule::new("full", full),
    Rule::new("full_like", full),
    Rule::new("new_full", full),
    Rule::new("fill", full),
    Rule::new("zero", full),
    Rule::new("empty", full),
    Rule::new("empty_like", full),
    Rule::new("new_empty", full),
    Rule::new("empty_permuted", full),
    Rule::new("empty_strided", full),
    Rule::new("new_empty_strided", full),
    Rule::new("scalar_tensor", full),
    Rule::new("eye", eye),
    Rule::new("tril", triangle),
    Rule::new("triu", triangle),
    Rule::new("flip", flip).complex().along(),
    Rule::new("roll", roll).complex(),
    Rule::new("repeat", repeat),
    Rule::new("tile", repeat),
    Rule::new("repeat_interleave", repeat_interleave),
    Rule::new("meshgrid", meshgrid).sharing(sharing::of_a_list),
    Rule::new("pixel_shuffle", |builder, call| shuffle(builder, call, "upscale_factor", true)),
    Rule::new("pixel_unshuffle", |builder, call| shuffle(builder, call, "downscale_factor", false)),
    Rule::new("channel_shuffle", channel_shuffle),
    Rule::new("one_hot", one_hot),
    Rule::new("complex", complex).complex(),
    Rule::new("polar", polar).complex(),
    Rule::new("view_as_complex", |_, call| one(call.tensor("self")?)).shared().complex().back(view::all_back),
    Rule::new("view_as_real", |_, call| one(call.tensor("self")?)).shared().complex().back(view::all_back),
    Rule::new("view_as_complex_copy", |_, call| one(call.tensor("self")?)).complex(),
    Rule::new("view_as_real_copy", |_, call| one(call.tensor("self")?)).complex(),
    Rule::new("real", real).shared().complex(),
    Rule::new("imag", real).shared().complex(),
    Rule::new("fliplr", fliplr),
    Rule::new("flipud", fliplr),
    Rule::new("rot90", rot90),
];

fn real(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    if !call.is_complex("self") {
        return one(x);
    }
    let index = usize::from(call.op == "imag");
    let part = builder.slice(&x, x.rank() - 1, &index.into(), &(index + 1).into())?;
    one(builder.without(&part, x.rank() - 1)?)
}

fn complex(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (real, imaginary) = (call.float_tensor(builder, "real")?, call.float_tensor(builder, "imag")?);
    let (a, b) = (builder.shape(&real).into(), builder.shape(&imaginary).into());
    let shape = builder.broadcast_shape(&a, &b)?.0;
    let (real, imaginary) = (builder.expand(&real, &shape)?, builder.expand(&imaginary, &shape)?);
    one(join(builder, &[&real, &imaginary])?)
}

fn eye(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let [rows, columns] = matrix(&call.out_shape(0)?)?;
    let equal = compare_places(builder, [&rows, &columns], &0.into(), Places::Equal)?;
    one(call.cast_out(builder, &equal)?)
}

/// The tensors side by side in a new last dimension.
fn join(builder: &mut Builder, tensors: &[&Tensor]) -> Result<Tensor> {
    let mut longer = Vec::new();
    for tensor in tensors {
        let mut shape = builder.shape(tensor);
        shape.push(1.into());
        longer.push(builder.reshape(tensor, &shape)?);
    }
    let axis = longer.first().map_or(0, |tensor| tensor.rank() - 1);
    builder.concat(&longer.iter().collect::<Vec<_>>(), axis)
}

fn stack(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut tensors = complex::list(builder, call, "tensors")?;
    let rank = tensors.first().map_or(0, Tensor::rank);
    if call.op == "stack" {
        let axis = call.axis("dim", 0, rank + 1)?;
        for tensor in &mut tensors {
            let mut shape = builder.shape(tensor);
            shape.insert(axis, 1.into());
            *tensor = builder.reshape(tensor, &shape)?;
        }
        return one(builder.concat(&tensors.iter().collect::<Vec<_>>(), axis)?);
    }
    let parts = usize::from(call.is_complex("tensors"));
    // Each is brought to a least rank, by dimensions of size 1 before or behind.
    for tensor in &mut tensors {
        let mut shape = builder.shape(tensor);
        let kept = shape.split_off(shape.len() - parts);
        match (call.op, shape.len()) {
            ("hstack", 0) => shape.push(1.into()),
            ("vstack" | "dstack" | "column_stack", 0) => shape.extend([1.into(), 1.into()]),
            ("vstack" | "dstack", 1) => shape.insert(0, 1.into()),
            ("column_stack", 1) => shape.push(1.into()),
            _ => {}
        }
        if call.op == "dstack" && shape.len() == 2 {
            shape.push(1.into());
        }
        shape.extend(kept);
        *tensor = builder.reshape(tensor, &shape)?;
    }
    let axis = match call.op {
        "dstack" => 2,
        "vstack" => 0,
        "hstack" if tensors.first().is_none_or(|tensor| tensor.rank() == 1 + parts) => 0,
        _ => 1,
    };
    one(builder.concat(&tensors.iter().collect::<Vec<_>>(), axis)?)
}

/// Pads the last dimensions: the amounts come innermost first.
fn pad(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let name = if call.has("pad") { "pad" } else { "padding" };
    let amounts = call.dims(name)?;
    let mode = call.text("mode").unwrap_or(match call.op {
        op if op.starts_with("reflection") => "reflect",
        op if op.starts_with("replication") => "replicate",
        "_pad_circular" => "circular",
        _ => "constant",
    });
    let value = call.operand(builder, "value");
    let value = match value {
        Ok(Operand::Number { value, .. }) if !value.is_nan() => value,
        _ => 0.0,
    };
    let mut x = call.tensor("self")?;
    if mode != "constant" {
        for (i, pair) in amounts.chunks_exact(2).enumerate() {
            let Some(axis) = x.rank().checked_sub(i + 1) else { fail!(Shape, "more padding than dimensions") };
            if mode == "replicate" {
                // Of what a negative amount cuts off, the edge may still be repeated.
                x = repeated_edges(builder, &x, axis, pair)?;
                continue;
            }
            x = cut(builder, &x, axis, pair)?;
            x = mirrored(
                builder,
                &x,
                axis,
                [pair[0].pair(DimPair::Max, &0.into()), pair[1].pair(DimPair::Max, &0.into())],
                mode,
            )?;
        }
        return one(x);
    }
    let Some(known) = amounts.iter().map(Dim::constant).collect::<Option<Vec<i64>>>() else {
        return symbolic_pad(builder, x, &amounts, value).and_then(one);
    };
    for (i, pair) in amounts.chunks_exact(2).enumerate() {
        let Some(axis) = x.rank().checked_sub(i + 1) else { fail!(Shape, "more padding than dimensions") };
        x = cut(builder, &x, axis, pair)?;
    }
    constant_pad(builder, &x, &known, value).and_then(one)
}

/// Complex numbers with zeros around, or without as many: their parts are a dimension that stays.
fn pad_complex(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let amounts = call.integers("pad", &[])?;
    if call.has("value") && call.float("value", 0.0).ok() != Some(0.0) {
        fail!(Unsupported, "padding of complex numbers by others than 0");
    }
    let amounts = [&[0, 0], &amounts[..]].concat();
    let mut cut_off = x;
    for (i, pair) in amounts.chunks_exact(2).enumerate() {
        let Some(axis) = cut_off.rank().checked_sub(i + 1) else { fail!(Shape, "more padding than dimensions") };
        let pair: Vec<Dim> = pair.iter().map(|&amount| Dim::from_i64(amount)).collect();
        cut_off = cut(builder, &cut_off, axis, &pair)?;
    }
    constant_pad(builder, &cut_off, &amounts, 0.0).and_then(one)
}

/// `x` with its first and last element along `axis` repeated, or without as many elements as negative amounts say.
fn repeated_edges(builder: &mut Builder, x: &Tensor, axis: usize, pair: &[Dim]) -> Result<Tensor> {
    if pair.iter().all(|amount| amount.constant() == Some(0)) {
        return Ok(x.clone());
    }
    let size = builder.dim(x, axis);
    let whole = &(&size + &pair[0]) + &pair[1];
    check_list(&[whole.fixed().unwrap_or(1)])?;
    builder.at_most("padding by the edge", &1.into(), &size);
    let places = builder.range(&(&Dim::from(0) - &pair[0]), 1, &whole)?;
    let indices = builder.with_size(Binary::Max, &places, &0.into())?;
    let indices = builder.with_size(Binary::Min, &indices, &(&size - 1))?;
    builder.take(x, axis, &indices)
}

/// `x` without as many elements before and after along `axis` as negative amounts of padding say.
fn cut(builder: &mut Builder, x: &Tensor, axis: usize, pair: &[Dim]) -> Result<Tensor> {
    let size = builder.dim(x, axis);
    let negative = |amount: &Dim| (&Dim::from(0) - amount).pair(DimPair::Max, &0.into());
    builder.slice(x, axis, &negative(&pair[0]), &(&size - &negative(&pair[1])))
}

/// `x` with `value` around it, by amounts of which some depend on sizes.
fn symbolic_pad(builder: &mut Builder, mut x: Tensor, amounts: &[Dim], value: f64) -> Result<Tensor> {
    let value = builder.number(value, builder.dtype(&x))?;
    for (i, pair) in amounts.chunks_exact(2).enumerate() {
        let Some(axis) = x.rank().checked_sub(i + 1) else { fail!(Shape, "more padding than dimensions") };
        x = cut(builder, &x, axis, pair)?;
        let mut parts = vec![x.clone()];
        for (position, amount) in [0, 1].into_iter().zip(pair) {
            let mut shape = builder.shape(&x);
            shape[axis] = amount.pair(DimPair::Max, &0.into());
            if shape[axis].constant() != Some(0) {
                let filled = builder.expand(&value, &shape)?;
                parts.insert(position * parts.len(), filled);
            }
        }
        x = builder.concat(&parts.iter().collect::<Vec<_>>(), axis)?;
    }
    Ok(x)
}

/// `x` with `value` around it; the amounts are pairs for the last dimensions, innermost first.
fn constant_pad(builder: &mut Builder, x: &Tensor, amounts: &[i64], value: f64) -> Result<Tensor> {
    let mut list = vec![[0; 2]; x.rank()];
    for (i, pair) in amounts.chunks_exact(2).enumerate() {
        let sizes = [pair[0], pair[1]].map(|amount| usize::try_from(amount).unwrap_or(0));
        list[x.axes[x.rank() - 1 - i]] = sizes;
    }
    if list.iter().all(|amounts| *amounts == [0; 2]) {
        return Ok(x.clone());
    }
    let padded = |builder: &mut Builder, x: &Tensor| -> Result<Tensor> {
        let value = builder.graph.push(Op::Pad { amounts: list.clone() }, &[x.value])?;
        Ok(Tensor { value, axes: x.axes.clone() })
    };
    let result = padded(builder, x)?;
    if value == 0.0 {
        return Ok(result);
    }
    let shape = builder.shape(x);
    let inside = builder.number(1.0, DType::Bool)?;
    let inside = builder.expand(&inside, &shape)?;
    let inside = Tensor { value: builder.stored(&inside, &inverse(&x.axes))?, axes: x.axes.clone() };
    let inside = padded(builder, &inside)?;
    let value = builder.number(value, builder.dtype(x))?;
    builder.select(&inside, &result, &value)
}

/// `x` continued along `axis` by its own elements.
fn mirrored(builder: &mut Builder, x: &Tensor, axis: usize, [before, after]: [Dim; 2], mode: &str) -> Result<Tensor> {
    if before.constant() == Some(0) && after.constant() == Some(0) {
        return Ok(x.clone());
    }
    let size = builder.dim(x, axis);
    let whole = &(&size + &before) + &after;
    check_list(&[whole.fixed().unwrap_or(1)])?;
    let widest = before.pair(DimPair::Max, &after);
    // PyTorch refuses what would go round more than once.
    match mode {
        "reflect" => builder.at_most("padding by what is mirrored", &(&widest + 1), &size),
        "circular" => builder.at_most("padding by what comes round", &widest, &size),
        other => fail!(Unsupported, "padding by `{other}`"),
    }
    let places = builder.range(&(&Dim::from(0) - &before), 1, &whole)?;
    let indices = match mode {
        "circular" => builder.with_size(Binary::Remainder, &places, &size)?,
        _ => {
            let right = builder.unary(Unary::Abs, &places)?;
            let end = builder.integer(&(&size - 1))?;
            let left = builder.binary(Binary::Sub, &end, &right)?;
            let left = builder.unary(Unary::Abs, &left)?;
            builder.binary(Binary::Sub, &end, &left)?
        }
    };
    builder.take(x, axis, &indices)
}

fn full(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let dtype = call.out_dtype(0)?;
    let number = if call.op.contains("ones") {
        builder.number(1.0, dtype)?
    } else if call.op == "scalar_tensor" {
        call.operand_as(builder, "s", dtype)?
    } else if call.has("fill_value") {
        call.operand_as(builder, "fill_value", dtype)?
    } else if call.has("value") {
        call.operand_as(builder, "value", dtype)?
    } else {
        builder.number(0.0, dtype)?
    };
    one(builder.expand(&number, &call.out_shape(0)?)?)
}

fn matrix(shape: &[Dim]) -> Result<[Dim; 2]> {
    match shape {
        [.., rows, columns] => Ok([rows.clone(), columns.clone()]),
        _ => fail!(Shape, "not a matrix"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Places {
    Equal,
    AtMost,
    AtLeast,
}

/// For each place of a matrix whether its column compares so to its row plus `offset`.
fn compare_places(builder: &mut Builder, [rows, columns]: [&Dim; 2], offset: &Dim, how: Places) -> Result<Tensor> {
    let row = builder.range(offset, 1, rows)?;
    let row = builder.reshape(&row, &[rows.clone(), 1.into()])?;
    let column = builder.range(&0.into(), 1, columns)?;
    let column = builder.reshape(&column, &[1.into(), columns.clone()])?;
    match how {
        Places::Equal => builder.binary(Binary::Equal, &column, &row),
        Places::AtMost => {
            let above = builder.binary(Binary::Less, &row, &column)?;
            builder.not(&above)
        }
        Places::AtLeast => {
            let below = builder.binary(Binary::Less, &column, &row)?;
            builder.not(&below)
        }
    }
}

/// Where a query may look at a key: places on and below the diagonal.
pub(super) fn lower_triangle(builder: &mut Builder, rows: &Dim, columns: &Dim) -> Result<Tensor> {
    compare_places(builder, [rows, columns], &0.into(), Places::AtMost)
}

fn triangle(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let [rows, columns] = matrix(&builder.shape(&x))?;
    let how = if call.op == "tril" { Places::AtMost } else { Places::AtLeast };
    let diagonal = call.try_dim("diagonal")?.unwrap_or_else(|| 0.into());
    let inside = compare_places(builder, [&rows, &columns], &diagonal, how)?;
    let zero = builder.number(0.0, builder.dtype(&x))?;
    one(builder.select(&inside, &x, &zero)?)
}

fn roll(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut x = call.tensor("self")?;
    let shape = builder.shape(&x);
    let shifts = call.dims("shifts")?;
    let mut axes = call.axes("dims", x.rank())?;
    if axes.is_empty() {
        // The parts of complex numbers stay together.
        let rank = shape.len() - usize::from(call.is_complex("self"));
        let flat: Vec<Dim> = std::iter::once(elements(&shape[..rank])).chain(shape[rank..].iter().cloned()).collect();
        x = builder.reshape(&x, &flat)?;
        axes = vec![0];
    }
    for (axis, shift) in axes.into_iter().zip(shifts) {
        let size = builder.dim(&x, axis);
        // What is left of minus the shift by whole rounds, of which there are none through nothing.
        let (back, round) = (&Dim::from(0) - &shift, size.pair(DimPair::Max, &1.into()));
        let cut = &back - &(&back.pair(DimPair::Quotient, &round) * &round);
        if cut.constant() == Some(0) {
            continue;
        }
        let head = builder.slice(&x, axis, &0.into(), &cut)?;
        let tail = builder.slice(&x, axis, &cut, &size)?;
        x = builder.concat(&[&tail, &head], axis)?;
    }
    one(builder.reshape(&x, &shape)?)
}

/// Repeats along each dimension: through a new dimension of size 1 before it.
fn repeat(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let mut times = call.dims(if call.op == "tile" { "dims" } else { "repeats" })?;
    let mut shape = builder.shape(&x);
    while shape.len() < times.len() {
        shape.insert(0, 1.into());
    }
    while times.len() < shape.len() {
        times.insert(0, 1.into());
    }
    let (mut split, mut repeated, mut result) = (Vec::new(), Vec::new(), Vec::new());
    for (size, times) in shape.iter().zip(&times) {
        if times.fixed() == Some(1) {
            split.push(size.clone());
            repeated.push(size.clone());
        } else {
            split.extend([Dim::from(1), size.clone()]);
            repeated.extend([times.clone(), size.clone()]);
        }
        result.push(size * times);
    }
    let x = builder.reshape(&x, &split)?;
    let x = builder.expand(&x, &repeated)?;
    one(builder.reshape(&x, &result)?)
}

fn repeat_interleave(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    if call.try_tensor("repeats")?.is_some() {
        return repeated(builder, call);
    }
    let x = call.tensor("self")?;
    let times = call.dim("repeats")?;
    let (x, axis) = if call.has("dim") {
        let axis = call.axis("dim", 0, x.rank())?;
        (x, axis)
    } else {
        let elements = builder.shape(&x).iter().fold(Dim::from(1), |product, dim| &product * dim);
        (builder.reshape(&x, &[elements])?, 0)
    };
    let mut shape = builder.shape(&x);
    let mut result = shape.clone();
    result[axis] = &shape[axis] * &times;
    shape.insert(axis + 1, 1.into());
    let x = builder.reshape(&x, &shape)?;
    shape[axis + 1] = times;
    let x = builder.expand(&x, &shape)?;
    one(builder.reshape(&x, &result)?)
}

fn meshgrid(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let tensors = call.tensors("tensors")?;
    let by_columns = call.text("indexing") == Some("xy") && tensors.len() >= 2;
    let mut items = Vec::new();
    for (i, tensor) in tensors.iter().enumerate() {
        let axis = match i {
            0 | 1 if by_columns => 1 - i,
            i => i,
        };
        let mut shape = vec![Dim::from(1); tensors.len()];
        shape[axis] = builder.shape(tensor).first().cloned().unwrap_or_else(|| 1.into());
        let tensor = builder.reshape(tensor, &shape)?;
        items.push(Item::Tensor(builder.expand(&tensor, &call.out_shape(i)?)?));
    }
    Ok(items)
}

/// Blocks of pixels to channels or back.
fn shuffle(builder: &mut Builder, call: &Call<'_>, factor: &str, up: bool) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let shape = builder.shape(&x);
    let [head @ .., channels, height, width] = &shape[..] else { fail!(Shape, "not feature maps") };
    let Some(r) = usize::try_from(call.integer(factor, 1)?).ok().filter(|&r| r > 0) else { fail!(Shape, "factor 0") };
    let side = Dim::from(r);
    let (n, mut split) = (head.len(), head.to_vec());
    let (order, merged) = if up {
        let channels = channels.floor_div(r * r);
        split.extend([channels.clone(), side.clone(), side, height.clone(), width.clone()]);
        ([0, 3, 1, 4, 2], [channels, height * r, width * r])
    } else {
        let (height, width) = (height.floor_div(r), width.floor_div(r));
        split.extend([channels.clone(), height.clone(), side.clone(), width.clone(), side]);
        ([0, 2, 4, 1, 3], [channels * (r * r), height, width])
    };
    let x = builder.reshape(&x, &split)?;
    let order: Vec<usize> = (0..n).chain(order.iter().map(|axis| axis + n)).collect();
    let x = Builder::permuted(&x, &order);
    let merged: Vec<Dim> = head.iter().cloned().chain(merged).collect();
    one(builder.reshape(&x, &merged)?)
}

fn cat(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut tensors = complex::list(builder, call, "tensors")?;
    let line = 1 + usize::from(call.is_complex("tensors"));
    // PyTorch lets empty vectors pass among anything.
    tensors.retain(|tensor| tensor.rank() != line || builder.dim(tensor, 0).fixed() != Some(0));
    let rank = tensors.first().map_or(1, Tensor::rank);
    let axis = call.axis("dim", 0, rank)?;
    one(builder.concat(&tensors.iter().collect::<Vec<_>>(), axis)?)
}

fn flip(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut x = call.tensor("self")?;
    for axis in call.axes("dims", x.rank())? {
        let size = builder.dim(&x, axis);
        let indices = builder.range(&(&size - 1), -1, &size)?;
        x = builder.take(&x, axis, &indices)?;
    }
    one(x)
}

fn channel_shuffle(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let Some(groups) = usize::try_from(call.integer("groups", 1)?).ok() else { fail!(Shape, "groups") };
    let shape = builder.shape(&x);
    let mut split = shape.clone();
    split.splice(1..2, [Dim::from(groups), shape[1].floor_div(groups.max(1))]);
    let y = builder.reshape(&x, &split)?;
    let y = Builder::swapped(&y, 1, 2);
    one(builder.reshape(&y, &shape)?)
}

fn one_hot(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let out = call.out_shape(0)?;
    let Some(classes) = out.last() else { fail!(Format, "one_hot without classes") };
    let range = builder.range(&0.into(), 1, classes)?;
    let mut shape = builder.shape(&x);
    shape.push(1.into());
    let x = builder.reshape(&x, &shape)?;
    let hot = builder.binary(Binary::Equal, &x, &range)?;
    one(builder.cast(&hot, DType::I64)?)
}

fn polar(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (size, angle) = (call.tensor("abs")?, call.tensor("angle")?);
    let mut parts = Vec::new();
    for unary in [Unary::Cos, Unary::Sin] {
        let part = builder.unary(unary, &angle)?;
        parts.push(builder.binary(Binary::Mul, &size, &part)?);
    }
    one(join(builder, &[&parts[0], &parts[1]])?)
}

fn fliplr(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    one(reversed(builder, &x, usize::from(call.op == "fliplr"))?)
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
