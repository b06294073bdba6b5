//! Operators that look elements up, spread them, order and accumulate them.

use super::{Builder, Call, Item, Rule, Tensor, one, view::scatter_rows};
use crate::{
    dim::Dim,
    dtype::DType,
    error::{Result, fail},
    op::{Binary, Op, Scan, Scatter},
};

pub(super) fn rule(op: &str) -> Option<Rule> {
    Some(match op {
        "embedding" => |builder, call| {
            let (table, indices) = (call.tensor("weight")?, call.tensor("indices")?);
            let indices = builder.cast(&indices, DType::I64)?;
            let (table, indices) = (builder.dense(&table)?, builder.dense(&indices)?);
            let value = builder.graph.gather(table, indices)?;
            one(builder.plain(value))
        },
        "index_select" => |builder, call| {
            let (x, indices) = (call.tensor("self")?, call.tensor("index")?);
            let axis = call.axis("dim", 0, x.rank())?;
            one(builder.take(&x, axis, &indices)?)
        },
        "index" | "_unsafe_index" => index,
        "index_put" | "_unsafe_index_put" => index_put,
        "gather" | "take_along_dim" => |builder, call| {
            let x = call.tensor("self")?;
            let indices = call.tensor(if call.has("index") { "index" } else { "indices" })?;
            let axis = call.axis("dim", 0, x.rank())?;
            let indices = builder.cast(&indices, DType::I64)?;
            one(pick(builder, &x, axis, &indices)?)
        },
        "scatter" | "scatter_add" | "scatter_reduce" => scatter,
        "index_copy" | "index_add" | "index_fill" => index_rows,
        "slice_scatter" | "select_scatter" => slice_scatter,
        "topk" => topk,
        "sort" | "argsort" => sort,
        "cumsum" => |builder, call| scan(builder, call, Scan::Sum),
        "cumprod" => |builder, call| scan(builder, call, Scan::Product),
        "cummax" => |builder, call| scan(builder, call, Scan::Max),
        "cummin" => |builder, call| scan(builder, call, Scan::Min),
        _ => return None,
    })
}

/// Indices in one dimension for elements of a tensor of `shape` read row by row, given those along `axis`.
fn linear(builder: &mut Builder, shape: &[Dim], axis: usize, indices: &Tensor) -> Result<Tensor> {
    let strides = strides(shape);
    let own = builder.integer(&strides[axis])?;
    let mut index = wrapped(builder, indices, &shape[axis])?;
    index = builder.binary(Binary::Mul, &index, &own)?;
    for other in (0..shape.len()).filter(|&other| other != axis) {
        let size = builder.dim(indices, other);
        let Some(stride) = strides[other].constant() else { fail!(Unsupported, "indices into an unknown shape") };
        let range = builder.range(&0.into(), stride, &size)?;
        let mut wide = vec![Dim::from(1); shape.len()];
        wide[other] = size;
        let range = builder.reshape(&range, &wide)?;
        index = builder.binary(Binary::Add, &index, &range)?;
    }
    Ok(index)
}

fn strides(shape: &[Dim]) -> Vec<Dim> {
    let mut strides = vec![Dim::from(1); shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = &strides[axis] * &shape[axis];
    }
    strides
}

/// Indices of which negative ones count from the end, made positive.
fn wrapped(builder: &mut Builder, indices: &Tensor, size: &Dim) -> Result<Tensor> {
    let zero = builder.number(0.0, DType::I64)?;
    let negative = builder.binary(Binary::Less, indices, &zero)?;
    let size = builder.integer(size)?;
    let added = builder.binary(Binary::Add, indices, &size)?;
    builder.select(&negative, &added, indices)
}

fn elements(shape: &[Dim]) -> Dim {
    shape.iter().fold(Dim::from(1), |product, dim| &product * dim)
}

/// The elements of `x` at `indices` along `axis`, one by one.
fn pick(builder: &mut Builder, x: &Tensor, axis: usize, indices: &Tensor) -> Result<Tensor> {
    if x.rank() == 0 {
        return Ok(x.clone());
    }
    let shape = builder.shape(x);
    let x = builder.reshape(x, &[elements(&shape)])?;
    let index = linear(builder, &shape, axis, indices)?;
    builder.take(&x, 0, &index)
}

/// Which dimensions are indexed, with the indices of all in one.
struct Indexed {
    /// The indexed dimensions, neighbours.
    first: usize,
    count: usize,
    indices: Tensor,
    /// The indexed dimensions moved to the front, if they were not neighbours.
    moved: Option<Vec<usize>>,
}

/// Joins the indices of several dimensions.
fn indexed(builder: &mut Builder, call: &Call<'_>, x: &Tensor) -> Result<Indexed> {
    let mut list = Vec::new();
    for (axis, tensor) in call.try_tensors("indices")?.into_iter().enumerate() {
        if let Some(tensor) = tensor {
            if builder.dtype(&tensor) == DType::Bool || builder.dtype(&tensor) == DType::U8 {
                fail!(Unsupported, "a choice of elements by truth values, whose number the data decides");
            }
            list.push((axis, builder.cast(&tensor, DType::I64)?));
        }
    }
    let (Some((first, _)), Some((last, _))) = (list.first(), list.last()) else { fail!(Format, "no indices") };
    let (first, together) = (*first, last - first + 1 == list.len());
    let moved = (!together).then(|| {
        let axes: Vec<usize> = list.iter().map(|(axis, _)| *axis).collect();
        axes.iter().copied().chain((0..x.rank()).filter(|axis| !axes.contains(axis))).collect()
    });
    let count = list.len();
    let mut total: Option<Tensor> = None;
    for (axis, tensor) in list {
        let size = builder.dim(x, axis);
        let index = if count > 1 { wrapped(builder, &tensor, &size)? } else { tensor };
        total = Some(match total {
            Some(total) => {
                let size = builder.integer(&size)?;
                let scaled = builder.binary(Binary::Mul, &total, &size)?;
                builder.binary(Binary::Add, &scaled, &index)?
            }
            None => index,
        });
    }
    match total {
        Some(indices) => Ok(Indexed { first: if moved.is_some() { 0 } else { first }, count, indices, moved }),
        None => fail!(Format, "no indices"),
    }
}

/// `x` with the indexed dimensions joined into one.
fn joined(builder: &mut Builder, x: &Tensor, indexed: &Indexed) -> Result<Tensor> {
    let x = match &indexed.moved {
        Some(order) => Builder::permuted(x, order),
        None => x.clone(),
    };
    let mut shape = builder.shape(&x);
    let range = indexed.first..indexed.first + indexed.count;
    let merged = elements(&shape[range.clone()]);
    shape.splice(range, [merged]);
    builder.reshape(&x, &shape)
}

/// `x` where a mask of truth values that the program knows is applied is not supported: sizes must be known.
fn index(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let indexed = indexed(builder, call, &x)?;
    let x = joined(builder, &x, &indexed)?;
    one(builder.take(&x, indexed.first, &indexed.indices)?)
}

fn index_put(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let values = call.tensor("values")?;
    let values = builder.cast(&values, builder.dtype(&x))?;
    let masks = call.try_tensors("indices")?;
    if let [Some(mask)] = &masks[..]
        && builder.dtype(mask) == DType::Bool
        && values.rank() == 0
        && !call.flag("accumulate", false)?
    {
        // One value for all chosen elements needs no list of them.
        let mut shape = builder.shape(mask);
        shape.resize(x.rank(), 1.into());
        let mask = builder.reshape(mask, &shape)?;
        return one(builder.select(&mask, &values, &x)?);
    }
    let indexed = indexed(builder, call, &x)?;
    let how = if call.flag("accumulate", false)? { Scatter::Add } else { Scatter::Replace };
    let whole = joined(builder, &x, &indexed)?;
    let rest: Vec<Dim> = builder.shape(&whole);
    let places = builder.shape(&indexed.indices);
    let (head, tail) = (&rest[..indexed.first], &rest[indexed.first + 1..]);
    let full: Vec<Dim> = head.iter().chain(&places).chain(tail).cloned().collect();
    let values = builder.expand(&values, &full)?;
    let merged: Vec<Dim> = head.iter().cloned().chain([elements(&places)]).chain(tail.iter().cloned()).collect();
    let values = builder.reshape(&values, &merged)?;
    let indices = builder.reshape(&indexed.indices, &[elements(&places)])?;
    let result = scatter_rows(builder, how, &whole, indexed.first, &indices, &values)?;
    let moved_shape = match &indexed.moved {
        Some(order) => order.iter().map(|&axis| builder.dim(&x, axis)).collect(),
        None => builder.shape(&x),
    };
    let result = builder.reshape(&result, &moved_shape)?;
    one(match &indexed.moved {
        Some(order) => Builder::permuted(&result, &super::super::builder::inverse(order)),
        None => result,
    })
}

fn scatter(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let dtype = builder.dtype(&x);
    let axis = call.axis("dim", 0, x.rank())?;
    let indices = call.tensor("index")?;
    let indices = builder.cast(&indices, DType::I64)?;
    let how = match (call.op, call.text("reduce")) {
        ("scatter_add", _) | (_, Some("add" | "sum")) => Scatter::Add,
        (_, None) => Scatter::Replace,
        (_, Some("multiply" | "prod")) => Scatter::Multiply,
        (_, Some("amax")) => Scatter::Max,
        (_, Some("amin")) => Scatter::Min,
        (_, Some(other)) => fail!(Unsupported, "scatter by `{other}`"),
    };
    if call.op == "scatter_reduce" && !call.flag("include_self", true)? {
        fail!(Unsupported, "scatter_reduce without the elements that are there");
    }
    let places = builder.shape(&indices);
    let source = if call.has("src") {
        let mut source = call.tensor("src")?;
        for (axis, size) in places.iter().enumerate() {
            source = builder.slice(&source, axis, &0.into(), size)?;
        }
        builder.cast(&source, dtype)?
    } else {
        let value = call.operand_as(builder, "value", dtype)?;
        builder.expand(&value, &places)?
    };
    let shape = builder.shape(&x);
    let index = linear(builder, &shape, axis, &indices)?;
    let count = elements(&places);
    let index = builder.reshape(&index, std::slice::from_ref(&count))?;
    let source = builder.reshape(&source, &[count])?;
    let flat = builder.reshape(&x, &[elements(&shape)])?;
    let index = Tensor { value: builder.dense(&index)?, axes: vec![0] };
    let result = scatter_rows(builder, how, &flat, 0, &index, &source)?;
    one(builder.reshape(&result, &shape)?)
}

fn index_rows(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let axis = call.axis("dim", 0, x.rank())?;
    let indices = call.tensor("index")?;
    let mut indices = builder.cast(&indices, DType::I64)?;
    if indices.rank() == 0 {
        indices = builder.reshape(&indices, &[1.into()])?;
    }
    let mut shape = builder.shape(&x);
    shape[axis] = builder.dim(&indices, 0);
    let dtype = builder.dtype(&x);
    let mut rows = call.operand_as(builder, if call.op == "index_fill" { "value" } else { "source" }, dtype)?;
    let alpha = call.float("alpha", 1.0)?;
    if alpha != 1.0 {
        let alpha = builder.number(alpha, dtype)?;
        rows = builder.binary(Binary::Mul, &rows, &alpha)?;
    }
    let rows = builder.expand(&rows, &shape)?;
    let how = if call.op == "index_add" { Scatter::Add } else { Scatter::Replace };
    one(scatter_rows(builder, how, &x, axis, &indices, &rows)?)
}

fn slice_scatter(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, source) = (call.tensor("self")?, call.tensor("src")?);
    let source = builder.cast(&source, builder.dtype(&x))?;
    let axis = call.axis("dim", 0, x.rank())?;
    let selects = call.op == "select_scatter";
    let source = if selects {
        let mut shape = builder.shape(&source);
        shape.insert(axis, 1.into());
        builder.reshape(&source, &shape)?
    } else {
        source
    };
    let size = builder.dim(&x, axis);
    let start = call.try_dim(if selects { "index" } else { "start" })?.unwrap_or_else(|| 0.into());
    let start = if start.constant().is_some_and(|start| start < 0) { &size + &start } else { start };
    let count = builder.dim(&source, axis);
    let indices = builder.range(&start, call.integer("step", 1)?, &count)?;
    one(scatter_rows(builder, Scatter::Replace, &x, axis, &indices, &source)?)
}

/// The indices that order `x` along `axis`, and the elements in that order.
pub(super) fn ordered(
    builder: &mut Builder,
    x: &Tensor,
    axis: usize,
    descending: bool,
    keep: Dim,
) -> Result<[Tensor; 2]> {
    let order: Vec<usize> = (0..x.rank()).filter(|&other| other != axis).chain([axis]).collect();
    let value = builder.stored(x, &order)?;
    let indices = builder.graph.push(Op::ArgSort { descending, keep }, &[value])?;
    let (x, indices) = (builder.plain(value), builder.plain(indices));
    let values = pick(builder, &x, order.len() - 1, &indices)?;
    let back = super::super::builder::inverse(&order);
    Ok([Builder::permuted(&values, &back), Builder::permuted(&indices, &back)])
}

fn topk(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let axis = call.axis("dim", -1, x.rank())?;
    let largest = call.flag("largest", true)?;
    let results = ordered(builder, &x, axis, largest, call.dim("k")?)?;
    Ok(results.into_iter().map(Item::Tensor).collect())
}

fn sort(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let axis = call.axis("dim", -1, x.rank())?;
    let keep = builder.dim(&x, axis);
    let [values, indices] = ordered(builder, &x, axis, call.flag("descending", false)?, keep)?;
    if call.op == "argsort" { one(indices) } else { Ok(vec![Item::Tensor(values), Item::Tensor(indices)]) }
}

fn scan(builder: &mut Builder, call: &Call<'_>, how: Scan) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let x = call.cast_out(builder, &x)?;
    if x.rank() == 0 {
        return one(x);
    }
    let axis = call.axis("dim", 0, x.rank())?;
    let value = builder.graph.push(Op::Scan { axis: x.axes[axis], how }, &[x.value])?;
    one(Tensor { value, axes: x.axes })
}
