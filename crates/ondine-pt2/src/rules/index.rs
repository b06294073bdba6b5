//! Operators that look elements up, spread them, order and accumulate them.

use ondine_graph::{Binary, DType, Dim, NDArray, Op, Result, Scan, Scatter, fail};

use super::{
    positions::{coordinates, fill},
    rule::{Rule, one},
    view::{as_strided, diagonal},
};
use crate::{
    builder::{Builder, Tensor, check_list, elements, inverse, wide},
    call::{Call, Item},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("embedding", embedding),
    Rule::new("index_select", index_select).complex().along(),
    Rule::new("index", index).complex(),
    Rule::new("_unsafe_index", index),
    Rule::new("index_put", index_put).along(),
    Rule::new("_unsafe_index_put", index_put).along(),
    Rule::new("gather", gather).along(),
    Rule::new("take_along_dim", take_along_dim).along(),
    Rule::new("scatter", scatter).along(),
    Rule::new("scatter_add", scatter).along(),
    Rule::new("scatter_reduce", scatter).along(),
    Rule::new("index_copy", index_rows).along(),
    Rule::new("index_add", index_rows).along(),
    Rule::new("index_fill", index_rows).along(),
    Rule::new("index_reduce", index_rows).along(),
    Rule::new("put", put_flat).along(),
    Rule::new("diagonal_scatter", view_scatter),
    Rule::new("as_strided_scatter", view_scatter),
    Rule::new("fill_diagonal", fill_diagonal),
    Rule::new("slice_scatter", slice_scatter),
    Rule::new("select_scatter", slice_scatter),
    Rule::new("topk", topk).along(),
    Rule::new("sort", sort).along(),
    Rule::new("msort", sort).along(),
    Rule::new("argsort", sort).along(),
    Rule::new("cumsum", |builder, call| scan(builder, call, Scan::Sum)).along(),
    Rule::new("cumprod", |builder, call| scan(builder, call, Scan::Product)).along(),
    Rule::new("cummax", |builder, call| scan(builder, call, Scan::Max)).along(),
    Rule::new("cummin", |builder, call| scan(builder, call, Scan::Min)).along(),
    Rule::new("take", take).along(),
];

fn fill_diagonal(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let shape = builder.shape(&x);
    let [rows, columns] = &shape[..] else { fail!(Unsupported, "fill_diagonal of rank {}", shape.len()) };
    if call.flag("wrap", false)? {
        fail!(Unsupported, "fill_diagonal that begins anew below");
    }
    let row = builder.range(&0.into(), 1, rows)?;
    let row = builder.reshape(&row, &[rows.clone(), 1.into()])?;
    let column = builder.range(&0.into(), 1, columns)?;
    let there = builder.binary(Binary::Equal, &row, &column)?;
    let value = call.operand_as(builder, "fill_value", builder.dtype(&x))?;
    one(builder.select(&there, &value, &x)?)
}

fn gather(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let indices = call.tensor(if call.has("index") { "index" } else { "indices" })?;
    let axis = call.axis("dim", 0, x.rank())?;
    let indices = builder.cast(&indices, DType::I64)?;
    one(pick(builder, &x, axis, &indices)?)
}

/// As a gather, with dimensions of size 1 repeated; of all elements in a row if no dimension is named.
fn take_along_dim(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (mut x, mut indices) = (call.tensor("self")?, call.tensor("indices")?);
    if !call.has("dim") {
        let (all, places) = (elements(&builder.shape(&x)), elements(&builder.shape(&indices)));
        (x, indices) = (builder.reshape(&x, &[all])?, builder.reshape(&indices, &[places])?);
    }
    let axis = call.axis("dim", 0, x.rank())?;
    let (mut from, mut to) = (builder.shape(&x), builder.shape(&indices));
    let (size, count) = (std::mem::replace(&mut from[axis], 1.into()), std::mem::replace(&mut to[axis], 1.into()));
    let mut shape = builder.broadcast_shape(&from.into(), &to.into())?.0;
    shape[axis] = size;
    let x = builder.expand(&x, &shape)?;
    shape[axis] = count;
    let indices = builder.cast(&indices, DType::I64)?;
    let indices = builder.expand(&indices, &shape)?;
    one(pick(builder, &x, axis, &indices)?)
}

fn index_select(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, indices) = (call.tensor("self")?, call.tensor("index")?);
    let axis = call.axis("dim", 0, x.rank())?;
    one(builder.take(&x, axis, &indices)?)
}

fn embedding(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (table, indices) = (call.tensor("weight")?, call.tensor("indices")?);
    let indices = builder.cast(&indices, DType::I64)?;
    let indices = builder.guarded(&indices)?;
    let (table, indices) = (builder.dense(&table)?, builder.dense(&indices)?);
    let value = builder.graph.gather(table, indices)?;
    one(builder.plain(value))
}

/// Indices in one dimension for elements of a tensor of `shape` read row by row, given those along `axis`.
fn linear(builder: &mut Builder, shape: &[Dim], axis: usize, indices: &Tensor) -> Result<Tensor> {
    let strides = strides(shape);
    let own = builder.integer(&strides[axis])?;
    let mut index = wrapped(builder, indices, &shape[axis])?;
    index = builder.binary(Binary::Mul, &index, &own)?;
    for other in (0..shape.len()).filter(|&other| other != axis) {
        let size = builder.dim(indices, other);
        let range = match strides[other].constant() {
            Some(stride) => builder.range(&0.into(), stride, &size)?,
            None => {
                let (count, stride) = (builder.range(&0.into(), 1, &size)?, builder.integer(&strides[other])?);
                builder.binary(Binary::Mul, &count, &stride)?
            }
        };
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

/// The elements of `x` at `indices` along `axis`, one by one.
pub(super) fn pick(builder: &mut Builder, x: &Tensor, axis: usize, indices: &Tensor) -> Result<Tensor> {
    if x.rank() == 0 {
        return Ok(x.clone());
    }
    let shape = builder.shape(x);
    let x = builder.reshape(x, &[elements(&shape)])?;
    let index = linear(builder, &shape, axis, indices)?;
    builder.take(&x, 0, &index)
}

/// Which dimensions are indexed, with the indices of all in one.
pub(super) struct Indexed {
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
    let tensors = call.try_tensors("indices")?;
    let is_mask = |builder: &Builder, tensor: &Tensor| matches!(builder.dtype(tensor), DType::Bool | DType::U8);
    let first = tensors.iter().position(Option::is_some).unwrap_or(0);
    let ranks = tensors.iter().flatten().map(|tensor| if is_mask(builder, tensor) { 1 } else { tensor.rank() });
    let last = first + ranks.max().unwrap_or(1).saturating_sub(1);
    let mut axis = 0;
    for tensor in tensors {
        match tensor {
            Some(mask) if is_mask(builder, &mask) => {
                if call.op.contains("put") {
                    fail!(Unsupported, "a change at places that truth values choose, beside other indices");
                }
                // Dimensions that lie apart come first in the result.
                let out = call.out_shape(0)?;
                let size = out.get(last).or(out.first()).cloned();
                for column in coordinates(builder, &mask, size.as_ref())? {
                    list.push((axis, column));
                    axis += 1;
                }
            }
            Some(tensor) => {
                list.push((axis, builder.cast(&tensor, DType::I64)?));
                axis += 1;
            }
            None => axis += 1,
        }
    }
    indexed_of(builder, x, list)
}

/// Joins the indices of several dimensions, each given with its own.
pub(super) fn indexed_of(builder: &mut Builder, x: &Tensor, list: Vec<(usize, Tensor)>) -> Result<Indexed> {
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
    one(indexed.read(builder, &x)?)
}

fn index_put(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let values = call.tensor("values")?;
    let values = builder.cast(&values, builder.dtype(&x))?;
    let masks = call.try_tensors("indices")?;
    if let [Some(mask)] = &masks[..]
        && builder.dtype(mask) == DType::Bool
    {
        let adds = call.flag("accumulate", false)?;
        let rest = x.rank() - mask.rank().min(x.rank());
        if values.rank() > rest && builder.dim(&values, 0).fixed() != Some(1) {
            return one(fill(builder, &x, mask, &values, adds)?);
        }
        // The same values for all chosen places need no list of them.
        let mut shape = builder.shape(mask);
        shape.resize(x.rank(), 1.into());
        let mask = builder.reshape(mask, &shape)?;
        let values = if values.rank() > rest { builder.without(&values, 0)? } else { values };
        let values = if adds { builder.binary(Binary::Add, &x, &values)? } else { values };
        return one(builder.select(&mask, &values, &x)?);
    }
    let indexed = indexed(builder, call, &x)?;
    let how = if call.flag("accumulate", false)? { Scatter::Add } else { Scatter::Replace };
    one(indexed.write(builder, &x, how, &values)?)
}

impl Indexed {
    /// The parts of `x` there.
    pub(super) fn read(&self, builder: &mut Builder, x: &Tensor) -> Result<Tensor> {
        let x = joined(builder, x, self)?;
        builder.take(&x, self.first, &self.indices)
    }

    /// `x` with its parts there replaced by `values`, or combined with them.
    pub(super) fn write(&self, builder: &mut Builder, x: &Tensor, how: Scatter, values: &Tensor) -> Result<Tensor> {
        let whole = joined(builder, x, self)?;
        let rest: Vec<Dim> = builder.shape(&whole);
        let places = builder.shape(&self.indices);
        let (head, tail) = (&rest[..self.first], &rest[self.first + 1..]);
        let full: Vec<Dim> = head.iter().chain(&places).chain(tail).cloned().collect();
        let values = builder.expand(values, &full)?;
        let merged: Vec<Dim> = head.iter().cloned().chain([elements(&places)]).chain(tail.iter().cloned()).collect();
        let values = builder.reshape(&values, &merged)?;
        let indices = builder.reshape(&self.indices, &[elements(&places)])?;
        let result = builder.scatter_rows(how, &whole, self.first, &indices, &values)?;
        let moved_shape = match &self.moved {
            Some(order) => order.iter().map(|&axis| builder.dim(x, axis)).collect(),
            None => builder.shape(x),
        };
        let result = builder.reshape(&result, &moved_shape)?;
        Ok(match &self.moved {
            Some(order) => Builder::permuted(&result, &inverse(order)),
            None => result,
        })
    }
}

fn scatter(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let dtype = builder.dtype(&x);
    let axis = call.axis("dim", 0, x.rank())?;
    let indices = call.tensor("index")?;
    let indices = builder.cast(&indices, DType::I64)?;
    let mean = call.text("reduce") == Some("mean");
    let how = scatter_kind(call)?;
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
    let own = call.flag("include_self", true)?;
    let start = if own {
        x.clone()
    } else {
        let nothing = neutral(builder, how, dtype)?;
        let nothing = builder.expand(&nothing, &places)?;
        put(builder, Scatter::Replace, &x, axis, &indices, &nothing)?
    };
    let result = put(builder, how, &start, axis, &indices, &source)?;
    if !mean {
        return one(result);
    }
    let (one_each, first) = (builder.number(1.0, dtype)?, builder.number(f64::from(u8::from(own)), dtype)?);
    let one_each = builder.expand(&one_each, &places)?;
    let counts = builder.expand(&first, &builder.shape(&x))?;
    let counts = put(builder, Scatter::Add, &counts, axis, &indices, &one_each)?;
    one(mean_of(builder, &result, &counts)?)
}

/// A sum divided by how many it is of, where there are any.
pub(super) fn mean_of(builder: &mut Builder, sum: &Tensor, counts: &Tensor) -> Result<Tensor> {
    let dtype = builder.dtype(sum);
    let one = builder.number(1.0, dtype)?;
    let counts = builder.binary(Binary::Max, counts, &one)?;
    builder.binary(if dtype == DType::F32 { Binary::Div } else { Binary::FloorDiv }, sum, &counts)
}

/// How the operator combines what is there with what comes; a mean begins as a sum.
fn scatter_kind(call: &Call<'_>) -> Result<Scatter> {
    Ok(match (call.op, call.text("reduce")) {
        ("scatter_add", _) | (_, Some("add" | "sum" | "mean")) => Scatter::Add,
        (_, None) => Scatter::Replace,
        (_, Some("multiply" | "prod")) => Scatter::Multiply,
        (_, Some("amax")) => Scatter::Max,
        (_, Some("amin")) => Scatter::Min,
        (_, Some(other)) => fail!(Unsupported, "scatter by `{other}`"),
    })
}

/// What changes nothing when it is combined.
pub(super) fn neutral(builder: &mut Builder, how: Scatter, dtype: DType) -> Result<Tensor> {
    let float = dtype == DType::F32;
    let value = match how {
        Scatter::Multiply => 1.0,
        Scatter::Max if float => f64::NEG_INFINITY,
        Scatter::Min if float => f64::INFINITY,
        Scatter::Max | Scatter::Min => {
            // The least or largest of the type, which is cut to its bits.
            let widest = if how == Scatter::Max { i64::MIN } else { i64::MAX };
            let number = match dtype {
                DType::I64 => widest,
                DType::U8 | DType::U16 | DType::U32 | DType::Bool if how == Scatter::Max => 0,
                DType::U8 | DType::U16 | DType::U32 | DType::Bool => i64::MAX,
                _ => widest >> (64 - 8 * dtype.size()),
            };
            let number = builder.graph.constant(NDArray::scalar(number));
            let number = builder.plain(number);
            return builder.cast(&number, dtype);
        }
        Scatter::Replace | Scatter::Add => 0.0,
    };
    builder.number(value, dtype)
}

/// `x` with elements at `indices` along `axis` combined with those of `source`, one by one.
pub(super) fn put(
    builder: &mut Builder,
    how: Scatter,
    x: &Tensor,
    axis: usize,
    indices: &Tensor,
    source: &Tensor,
) -> Result<Tensor> {
    if x.rank() != indices.rank() || axis >= x.rank() {
        fail!(Shape, "indices of rank {} into rank {}", indices.rank(), x.rank());
    }
    let (shape, places) = (builder.shape(x), builder.shape(indices));
    let index = linear(builder, &shape, axis, indices)?;
    let count = elements(&places);
    let index = builder.reshape(&index, std::slice::from_ref(&count))?;
    let source = builder.reshape(source, &[count])?;
    let flat = builder.reshape(x, &[elements(&shape)])?;
    let index = Tensor { value: builder.dense(&index)?, axes: vec![0] };
    let result = builder.scatter_rows(how, &flat, 0, &index, &source)?;
    builder.reshape(&result, &shape)
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
    let how = match call.op {
        "index_add" => Scatter::Add,
        "index_reduce" => scatter_kind(call)?,
        _ => Scatter::Replace,
    };
    let own = call.flag("include_self", true)?;
    let start = if own {
        x.clone()
    } else {
        let nothing = neutral(builder, how, dtype)?;
        let nothing = builder.expand(&nothing, &shape)?;
        builder.scatter_rows(Scatter::Replace, &x, axis, &indices, &nothing)?
    };
    let result = builder.scatter_rows(how, &start, axis, &indices, &rows)?;
    if call.text("reduce") != Some("mean") {
        return one(result);
    }
    let (one_each, first) = (builder.number(1.0, dtype)?, builder.number(f64::from(u8::from(own)), dtype)?);
    let one_each = builder.expand(&one_each, &shape)?;
    let counts = builder.expand(&first, &builder.shape(&x))?;
    let counts = builder.scatter_rows(Scatter::Add, &counts, axis, &indices, &one_each)?;
    one(mean_of(builder, &result, &counts)?)
}

/// Elements of a tensor read row by row, replaced or added to.
fn put_flat(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, indices, source) = (call.tensor("self")?, call.tensor("index")?, call.tensor("source")?);
    let indices = builder.cast(&indices, DType::I64)?;
    let (shape, count) = (builder.shape(&x), elements(&builder.shape(&indices)));
    let flat = builder.reshape(&x, &[elements(&shape)])?;
    let (indices, source) =
        (builder.reshape(&indices, std::slice::from_ref(&count))?, builder.reshape(&source, &[count])?);
    let how = if call.flag("accumulate", false)? { Scatter::Add } else { Scatter::Replace };
    let result = builder.scatter_rows(how, &flat, 0, &indices, &source)?;
    one(builder.reshape(&result, &shape)?)
}

/// A tensor with what a view of it would hold replaced.
fn view_scatter(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, source) = (call.tensor("self")?, call.tensor("src")?);
    let source = builder.cast(&source, builder.dtype(&x))?;
    let (shape, written) = (builder.shape(&x), elements(&builder.shape(&source)));
    let all = elements(&shape);
    let (Some(count), Some(first)) = (all.fixed(), call.first_name()) else {
        fail!(Unsupported, "a change of a tensor of unknown shape");
    };
    check_list(&[count])?;
    // The view of each element's own position says where every new one goes.
    let places = builder.range(&0.into(), 1, &all)?;
    let places = builder.reshape(&places, &shape)?;
    let mut items = call.items.clone();
    items.insert(first.clone(), Item::Tensor(places));
    let op = call.op.trim_end_matches("_scatter");
    let view = Call { op, items: &items, ..*call };
    let places = if op == "diagonal" { diagonal(builder, &view)? } else { as_strided(builder, &view)? };
    let Some(Item::Tensor(places)) = places.into_iter().next() else { fail!(Format, "a view that yields no tensor") };
    let places = builder.reshape(&places, std::slice::from_ref(&written))?;
    let (flat, source) = (builder.reshape(&x, &[all])?, builder.reshape(&source, &[written])?);
    let flat = builder.scatter_rows(Scatter::Replace, &flat, 0, &places, &source)?;
    one(builder.reshape(&flat, &shape)?)
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
    one(builder.scatter_rows(Scatter::Replace, &x, axis, &indices, &source)?)
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
    let dtype = builder.dtype(x);
    if matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::U32) {
        let wide = builder.cast(x, wide(dtype))?;
        let [values, indices] = ordered(builder, &wide, axis, descending, keep)?;
        return Ok([builder.cast(&values, dtype)?, indices]);
    }
    let value = builder.stored(x, &order)?;
    let indices = builder.graph.push(Op::ArgSort { descending, keep }, &[value])?;
    let (x, indices) = (builder.plain(value), builder.plain(indices));
    let values = pick(builder, &x, order.len() - 1, &indices)?;
    let back = inverse(&order);
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
    let axis = call.axis("dim", if call.op == "msort" { 0 } else { -1 }, x.rank())?;
    let keep = builder.dim(&x, axis);
    let [values, indices] = ordered(builder, &x, axis, call.flag("descending", false)?, keep)?;
    if call.op == "msort" {
        return one(values);
    }
    if call.op == "argsort" { one(indices) } else { Ok(vec![Item::Tensor(values), Item::Tensor(indices)]) }
}

fn scan(builder: &mut Builder, call: &Call<'_>, how: Scan) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let x = call.cast_out(builder, &x)?;
    if x.rank() == 0 {
        return one(x);
    }
    let axis = call.axis("dim", 0, x.rank())?;
    let dtype = builder.dtype(&x);
    let narrow = !matches!(dtype, DType::F32 | DType::I64 | DType::I32);
    let x = if narrow { builder.cast(&x, DType::I64)? } else { x };
    let value = builder.graph.push(Op::Scan { axis: x.axes[axis], how }, &[x.value])?;
    let values = Tensor { value, axes: x.axes.clone() };
    if !matches!(how, Scan::Max | Scan::Min) {
        return one(builder.cast(&values, dtype)?);
    }
    // The last place whose element is the extremum so far.
    let here = builder.binary(Binary::Equal, &x, &values)?;
    let same = builder.binary(Binary::Equal, &x, &x)?;
    let odd = builder.not(&same)?;
    let here = builder.binary(Binary::Or, &here, &odd)?;
    let size = builder.dim(&x, axis);
    let places = builder.range(&0.into(), 1, &size)?;
    let mut wide = vec![Dim::from(1); x.rank()];
    wide[axis] = size;
    let places = builder.reshape(&places, &wide)?;
    let none = builder.number(0.0, DType::I64)?;
    let places = builder.select(&here, &places, &none)?;
    let value = builder.graph.push(Op::Scan { axis: places.axes[axis], how: Scan::Max }, &[places.value])?;
    let values = builder.cast(&values, dtype)?;
    Ok(vec![Item::Tensor(values), Item::Tensor(Tensor { value, axes: places.axes })])
}

fn take(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let size = elements(&builder.shape(&x));
    let flat = builder.reshape(&x, &[size])?;
    one(builder.take(&flat, 0, &call.tensor("index")?)?)
}
