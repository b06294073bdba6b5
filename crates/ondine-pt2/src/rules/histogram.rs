//! How many elements fall into each part: of a range, of a space, of rows of unlike length.

use ondine_graph::{Binary, DType, Dim, NDArray, Op, Reduce, Result, Scan, fail};

use super::{
    reduce::reduce,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, elements},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("histc", histc),
    Rule::new("histogram", histogram),
    Rule::new("histogramdd", histogram_of_points),
    Rule::new("_histogramdd_bin_edges", edges_of_points),
    Rule::new("_histogramdd_from_bin_cts", histogram_of_points),
    Rule::new("_histogramdd_from_bin_tensors", histogram_of_points),
    Rule::new("segment_reduce", segment_reduce),
];

/// How many numbers fall into each of the equal parts of a range.
fn histc(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let bins = call.integer("bins", 100)?.max(1);
    let (least, most) = (call.float("min", 0.0)?, call.float("max", 0.0)?);
    let size = elements(&builder.shape(&x));
    let x = builder.reshape(&x, &[size, 1.into()])?;
    // A range of nothing is that of the data; of one number, a part to each side of it.
    let (low, high) = if least == most {
        let (low, high) =
            (reduce(builder, Reduce::Min, &x, &[0, 1], false)?, reduce(builder, Reduce::Max, &x, &[0, 1], false)?);
        let (low, high) = (Formula::of(&low), Formula::of(&high));
        let one_number = low.equals(&high);
        (one_number.choose(&low - 1.0, &low), one_number.choose(&high + 1.0, &high))
    } else {
        (least.into(), most.into())
    };
    let x = Formula::of(&x);
    let place = ((&x - &low) / (&high - &low) * bins as f64).floor();
    // The largest number belongs to the last part.
    let place = x.equals(&high).choose((bins - 1) as f64, place);
    let parts = builder.range(&0.into(), 1, &Dim::from_i64(bins))?;
    let parts = builder.cast(&parts, DType::F32)?;
    let inside = x.less(&low).or(x.more(&high)).not();
    let hits = place.equals(Formula::of(&parts)).and(inside).build(builder)?;
    let hits = builder.cast(&hits, DType::F32)?;
    let counts = reduce(builder, Reduce::Sum, &hits, &[0], false)?;
    one(call.cast_out(builder, &counts)?)
}

/// The edges of `bins` equal parts of a range, or of that of `column`: of one number, half a part to each side of it.
fn equal_parts(builder: &mut Builder, column: &Tensor, bins: i64, range: Option<[f64; 2]>) -> Result<Tensor> {
    let (low, high) = match range {
        Some([low, high]) => (Formula::from(low), Formula::from(high)),
        None => {
            let low = reduce(builder, Reduce::Min, column, &[0, 1], false)?;
            let high = reduce(builder, Reduce::Max, column, &[0, 1], false)?;
            (Formula::of(&low), Formula::of(&high))
        }
    };
    let alone = low.equals(&high);
    let (low, high) = (alone.choose(&low - 0.5, &low), alone.choose(&high + 0.5, &high));
    let count = usize::try_from(bins).unwrap_or(1).max(1);
    let numbers = |of: &dyn Fn(usize) -> f32| -> Vec<f32> { (0..=count).map(of).collect() };
    // From both ends, as PyTorch goes, so that the last edge is the end.
    let (front, back) = (numbers(&|at| at as f32), numbers(&|at| (count - at) as f32));
    let first = numbers(&|at| f32::from(u8::from(at < count.div_ceil(2))));
    let list = |builder: &mut Builder, numbers: &[f32]| -> Result<Formula> {
        let value = builder.graph.constant(NDArray::new(&[numbers.len()], numbers)?);
        Ok(Formula::of(&builder.plain(value)))
    };
    let (front, back, first) = (list(builder, &front)?, list(builder, &back)?, list(builder, &first)?);
    let step = (&high - &low) / count as f64;
    first.more(0.0).choose(&low + &step * front, &high - &step * back).build(builder)
}

/// 1 where a number of a column `[n, 1]` is in a part, the last edge belonging to the last: `[n, parts]`.
fn hits(builder: &mut Builder, column: &Tensor, edges: &Tensor) -> Result<Tensor> {
    let count = builder.dim(edges, 0);
    let last = &count - 1;
    let (low, high) = (builder.slice(edges, 0, &0.into(), &last)?, builder.slice(edges, 0, &1.into(), &count)?);
    let end = builder.slice(edges, 0, &last, &count)?;
    let (x, low, high, end) = (Formula::of(column), Formula::of(&low), Formula::of(&high), Formula::of(&end));
    let at_end = x.equals(&end).and(high.equals(&end));
    let hit = x.less(&low).not().and(x.less(&high).or(at_end)).build(builder)?;
    builder.cast(&hit, DType::F32)
}

/// How wide the parts between edges are.
fn widths(builder: &mut Builder, edges: &Tensor) -> Result<Tensor> {
    let count = builder.dim(edges, 0);
    let (low, high) = (builder.slice(edges, 0, &0.into(), &(&count - 1))?, builder.slice(edges, 0, &1.into(), &count)?);
    builder.binary(Binary::Sub, &high, &low)
}

/// Sums by parts as parts of the whole, a unit of length, area or volume each.
fn density(builder: &mut Builder, sums: &Tensor, edges: &[Tensor]) -> Result<Tensor> {
    let axes: Vec<usize> = (0..sums.rank()).collect();
    let whole = reduce(builder, Reduce::Sum, sums, &axes, false)?;
    let mut sums = builder.binary(Binary::Div, sums, &whole)?;
    for (axis, edges) in edges.iter().enumerate() {
        let width = widths(builder, edges)?;
        let mut shape = vec![Dim::from(1); sums.rank()];
        shape[axis] = builder.dim(&width, 0);
        let width = builder.reshape(&width, &shape)?;
        sums = builder.binary(Binary::Div, &sums, &width)?;
    }
    Ok(sums)
}

/// The range of dimension `axis` that the call names.
fn range_of(call: &Call<'_>, axis: usize) -> Result<Option<[f64; 2]>> {
    let ends = call.floats("range")?;
    Ok(ends.get(2 * axis..2 * axis + 2).map(|ends| [ends[0], ends[1]]))
}

/// Sums of points `[n, dimensions]`, each weighed, in the parts that edges cut each dimension into.
fn counted(builder: &mut Builder, call: &Call<'_>, points: &Tensor, edges: &[Tensor]) -> Result<Tensor> {
    let rows = builder.dim(points, 0);
    let mut sums: Option<Tensor> = match call.try_tensor("weight")? {
        Some(weight) => {
            let weight = builder.cast(&weight, DType::F32)?;
            Some(builder.reshape(&weight, &[rows.clone(), 1.into()])?)
        }
        None => None,
    };
    let mut shape = Vec::new();
    for (axis, edges) in edges.iter().enumerate() {
        let column = builder.slice(points, 1, &axis.into(), &(axis + 1).into())?;
        let hit = hits(builder, &column, edges)?;
        let parts = builder.dim(&hit, 1);
        shape.push(parts.clone());
        sums = Some(match sums {
            None => hit,
            Some(sums) => {
                let before = builder.dim(&sums, 1);
                let sums = builder.reshape(&sums, &[rows.clone(), before.clone(), 1.into()])?;
                let hit = builder.reshape(&hit, &[rows.clone(), 1.into(), parts.clone()])?;
                let product = builder.binary(Binary::Mul, &sums, &hit)?;
                builder.reshape(&product, &[rows.clone(), &before * &parts])?
            }
        });
    }
    let Some(sums) = sums else { fail!(Shape, "points of no dimensions") };
    let sums = reduce(builder, Reduce::Sum, &sums, &[0], false)?;
    let sums = builder.reshape(&sums, &shape)?;
    if call.flag("density", false)? { density(builder, &sums, edges) } else { Ok(sums) }
}

fn histogram(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let size = elements(&builder.shape(&x));
    let x = builder.reshape(&x, &[size, 1.into()])?;
    let edges = match call.try_tensor("bins")? {
        Some(edges) => builder.cast(&edges, DType::F32)?,
        None => equal_parts(builder, &x, call.integer("bins", 100)?, range_of(call, 0)?)?,
    };
    let sums = counted(builder, call, &x, std::slice::from_ref(&edges))?;
    Ok(vec![Item::Tensor(sums), Item::Tensor(edges)])
}

/// Points of the last dimension as rows, and the edges of the parts of each dimension.
fn points(builder: &mut Builder, call: &Call<'_>) -> Result<(Tensor, Vec<Tensor>)> {
    let x = call.float_tensor(builder, "self")?;
    let mut shape = builder.shape(&x);
    let Some(dimensions) = shape.pop().and_then(|size| size.fixed()) else {
        fail!(Unsupported, "points of an unknown number of dimensions");
    };
    let x = builder.reshape(&x, &[elements(&shape), dimensions.into()])?;
    let given = if call.op.ends_with("tensors") || call.overload.starts_with("TensorList") {
        call.tensors("bins")?
    } else {
        Vec::new()
    };
    let counts = if given.is_empty() { call.integers("bins", &[])? } else { Vec::new() };
    let mut edges = Vec::new();
    for axis in 0..dimensions {
        edges.push(match (given.get(axis), counts.get(axis).or(counts.first())) {
            (Some(edges), _) => builder.cast(edges, DType::F32)?,
            (None, Some(&bins)) => {
                let column = builder.slice(&x, 1, &axis.into(), &(axis + 1).into())?;
                equal_parts(builder, &column, bins, range_of(call, axis)?)?
            }
            (None, None) => fail!(Format, "no parts for dimension {axis}"),
        });
    }
    Ok((x, edges))
}

fn histogram_of_points(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, edges) = points(builder, call)?;
    let sums = counted(builder, call, &x, &edges)?;
    Ok(std::iter::once(sums).chain(edges).map(Item::Tensor).collect())
}

fn edges_of_points(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    Ok(points(builder, call)?.1.into_iter().map(Item::Tensor).collect())
}

/// The first places of segments along the last dimension, and those behind their last.
fn segments(builder: &mut Builder, call: &Call<'_>) -> Result<[Tensor; 2]> {
    if let Some(offsets) = call.try_tensor("offsets")? {
        let offsets = builder.cast(&offsets, DType::I64)?;
        let last = offsets.rank() - 1;
        let count = builder.dim(&offsets, last);
        let starts = builder.slice(&offsets, last, &0.into(), &(&count - 1))?;
        return Ok([starts, builder.slice(&offsets, last, &1.into(), &count)?]);
    }
    let lengths = call.tensor("lengths")?;
    let lengths = builder.cast(&lengths, DType::I64)?;
    let value = builder.dense(&lengths)?;
    let value = builder.graph.push(Op::Scan { axis: lengths.rank() - 1, how: Scan::Sum }, &[value])?;
    let ends = builder.plain(value);
    Ok([builder.binary(Binary::Sub, &ends, &lengths)?, ends])
}

/// What the elements of each segment of a dimension come to.
fn segment_reduce(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "data")?;
    let axis = call.axis("axis", 0, x.rank())?;
    let [starts, ends] = segments(builder, call)?;
    let (shape, count) = (builder.shape(&x), builder.dim(&starts, axis));
    // `[before, segments, places, behind]`
    let wide = |middle: [Dim; 2], behind: &[Dim]| [&shape[..axis], &middle[..], behind].concat();
    let ones = vec![Dim::from(1); shape.len() - axis - 1];
    let place = builder.range(&0.into(), 1, &shape[axis])?;
    let mut line = vec![Dim::from(1); axis + 1];
    line.push(shape[axis].clone());
    let place = builder.reshape(&place, &[&line[..], &ones].concat())?;
    let [starts, ends] = [starts, ends].map(|edge| builder.reshape(&edge, &wide([count.clone(), 1.into()], &ones)));
    let (starts, ends) = (starts?, ends?);
    let before = builder.binary(Binary::Less, &place, &starts)?;
    let within = builder.binary(Binary::Less, &place, &ends)?;
    let after = builder.not(&before)?;
    let within = builder.binary(Binary::And, &within, &after)?;
    let x = builder.reshape(&x, &wide([1.into(), shape[axis].clone()], &shape[axis + 1..]))?;
    let how = call.text("reduce").unwrap_or("sum");
    let (fold, neutral) = match how {
        "max" => (Reduce::Max, f64::NEG_INFINITY),
        "min" => (Reduce::Min, f64::INFINITY),
        "prod" => (Reduce::Product, 1.0),
        "sum" | "mean" => (Reduce::Sum, 0.0),
        other => fail!(Unsupported, "segments by `{other}`"),
    };
    let initial = if call.has("initial") { Some(call.float("initial", 0.0)?) } else { None };
    let neutral = builder.number(neutral, DType::F32)?;
    let kept = builder.select(&within, &x, &neutral)?;
    let folded = reduce(builder, fold, &kept, &[axis + 1], false)?;
    let folded = Formula::of(&folded);
    let result = match (how, initial) {
        ("max", Some(initial)) => folded.max(initial),
        ("min", Some(initial)) => folded.min(initial),
        ("prod", Some(initial)) => folded * initial,
        ("sum", Some(initial)) => folded + initial,
        ("mean", initial) => {
            let ones = builder.cast(&within, DType::F32)?;
            let length = Formula::of(&reduce(builder, Reduce::Sum, &ones, &[axis + 1], false)?);
            let none = length.equals(0.0);
            none.choose(initial.unwrap_or(f64::NAN), (folded + initial.unwrap_or(0.0)) / length)
        }
        (_, None) => folded,
        (other, Some(_)) => fail!(Unsupported, "segments by `{other}` with a start"),
    };
    let result = result.build(builder)?;
    one(builder.expand(&result, &call.out_shape(0)?)?)
}
