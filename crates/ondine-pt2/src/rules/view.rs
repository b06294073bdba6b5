//! Views: operators whose result shares memory with their argument.

use ondine_graph::{Binary, Comparison, Condition, DType, Dim, DimPair, NDArray, Real, Result, Scatter, fail};

use super::{
    complex,
    rule::{Change, Rule, one},
    sharing,
};
use crate::{
    builder::{Builder, Tensor, check_list, elements, inverse},
    call::{Call, Item, wrap},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("view", viewed).shared().complex().back(viewed_back),
    Rule::new("reshape", same_elements).sharing(sharing::reshaped).complex().back(all_back),
    Rule::new("_unsafe_view", same_elements).complex(),
    Rule::new("flatten", same_elements).sharing(sharing::reshaped).complex().back(all_back),
    Rule::new("unflatten", same_elements).shared().complex().back(all_back),
    Rule::new("unsqueeze", same_elements).shared().complex().renames().back(all_back),
    Rule::new("squeeze", same_elements).shared().complex().renames().back(all_back),
    Rule::new("view_as", same_elements).shared().back(all_back),
    Rule::new("reshape_as", same_elements).sharing(sharing::reshaped).back(all_back),
    Rule::new("_reshape_copy", same_elements),
    Rule::new("view_copy", same_elements),
    Rule::new("unsqueeze_copy", same_elements),
    Rule::new("squeeze_copy", same_elements),
    Rule::new("_reshape_alias", same_elements).shared().back(all_back),
    Rule::new("ravel", same_elements).sharing(sharing::raveled).back(all_back),
    Rule::new("alias", identity).shared().complex().back(all_back),
    Rule::new("detach", identity).shared().complex().renames().back(all_back),
    Rule::new("contiguous", identity).sharing(sharing::converted).complex().back(all_back),
    Rule::new("clone", identity).complex(),
    Rule::new("lift_fresh_copy", identity).complex(),
    Rule::new("lift", identity),
    Rule::new("native_dropout", native_dropout),
    Rule::new("dropout", identity).shared().back(all_back),
    Rule::new("feature_dropout", identity).shared().back(all_back),
    Rule::new("alpha_dropout", identity).shared().back(all_back),
    Rule::new("feature_alpha_dropout", identity).shared().back(all_back),
    Rule::new("native_dropout_backward", dropped_gradient),
    Rule::new("resolve_conj", identity).shared().complex().back(all_back),
    Rule::new("resolve_neg", identity).shared().complex().back(all_back),
    Rule::new("alias_copy", identity),
    Rule::new("detach_copy", identity),
    Rule::new("lift_fresh", identity),
    Rule::new("positive", identity).shared().back(all_back),
    Rule::new("permute", permute).shared().complex().back(permuted_back),
    Rule::new("permute_copy", permute),
    Rule::new("transpose", transpose).shared().complex().renames().back(swapped_back),
    Rule::new("swapaxes", transpose).shared().complex().renames().back(swapped_back),
    Rule::new("swapdims", transpose).shared().renames().back(swapped_back),
    Rule::new("transpose_copy", transpose),
    Rule::new("t", matrix_transpose).shared().on_complex(complex::turned).renames().back(turned_back),
    Rule::new("mT", matrix_transpose).shared().on_complex(complex::turned).back(turned_back),
    Rule::new("numpy_T", matrix_transpose).shared().back(turned_back),
    Rule::new("adjoint", matrix_transpose).sharing(sharing::conjugated).on_complex(complex::turned),
    Rule::new("matrix_H", matrix_transpose).sharing(sharing::conjugated).on_complex(complex::turned),
    Rule::new("mH", matrix_transpose).sharing(sharing::conjugated).on_complex(complex::turned),
    Rule::new("t_copy", matrix_transpose),
    Rule::new("movedim", movedim).shared().complex(),
    Rule::new("moveaxis", movedim).shared(),
    Rule::new("expand", expand).shared().complex().back(expanded_back).repeats(always),
    Rule::new("expand_as", expand).shared().complex().back(expanded_back).repeats(always),
    Rule::new("broadcast_to", expand).shared().back(expanded_back).repeats(always),
    Rule::new("expand_copy", expand),
    Rule::new("slice", slice).shared().complex().back(slice_back),
    Rule::new("slice_copy", slice),
    Rule::new("narrow", narrow).shared().complex().back(narrow_back),
    Rule::new("narrow_copy", narrow),
    Rule::new("select", select).shared().complex().back(select_back),
    Rule::new("select_copy", select),
    Rule::new("split", split).shared().complex().back(part_back),
    Rule::new("split_with_sizes", split).shared().complex().back(part_back),
    Rule::new("chunk", split).shared().complex().back(part_back),
    Rule::new("tensor_split", split).shared().back(part_back),
    Rule::new("unsafe_split", split).shared(),
    Rule::new("unsafe_chunk", split).shared(),
    Rule::new("split_copy", split),
    Rule::new("split_with_sizes_copy", split),
    Rule::new("unsafe_split_with_sizes", split).shared(),
    Rule::new("hsplit", split).shared(),
    Rule::new("vsplit", split).shared(),
    Rule::new("dsplit", split).shared(),
    Rule::new("unbind", unbind).shared().complex().back(unbind_back),
    Rule::new("unbind_copy", unbind),
    Rule::new("diagonal", diagonal).shared(),
    Rule::new("unfold_copy", unfold).along(),
    Rule::new("unfold", unfold).shared().repeats(windows_overlap).along(),
    Rule::new("as_strided", as_strided).shared().renames().repeats(strides_overlap),
    Rule::new("as_strided_copy", as_strided),
    Rule::new("resize", resize).shared().renames(),
    Rule::new("broadcast_tensors", broadcast_tensors).sharing(sharing::of_a_list),
    Rule::new("atleast_1d", atleast_1d).sharing(sharing::unless_a_list).back(all_back),
    Rule::new("atleast_2d", atleast_1d).sharing(sharing::unless_a_list).back(all_back),
    Rule::new("atleast_3d", atleast_1d).sharing(sharing::unless_a_list).back(all_back),
];

fn select(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let cut = Cut::select(builder, call, &x)?;
    let part = cut.apply(builder, &x)?;
    one(builder.without(&part, cut.axis)?)
}

fn narrow(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let axis = call.axis("dim", 0, x.rank())?;
    let start = from_end(&call.dim("start")?, &builder.dim(&x, axis));
    let count = call.dim("length")?;
    one(Cut { axis, start, count, step: 1 }.apply(builder, &x)?)
}

fn slice(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let cut = Cut::slice(builder, call, &x)?;
    one(cut.apply(builder, &x)?)
}

fn expand(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    one(builder.expand(&x, &call.out_shape(0)?)?)
}

fn matrix_transpose(_builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    match x.rank() {
        0 | 1 => one(x),
        rank => one(Builder::swapped(&x, rank - 2, rank - 1)),
    }
}

fn transpose(_builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    if x.rank() == 0 {
        return one(x);
    }
    let [first, second] = swapped_names(call);
    let (a, b) = (call.axis(first, 0, x.rank())?, call.axis(second, 1, x.rank())?);
    one(Builder::swapped(&x, a, b))
}

fn identity(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let name = if call.has("self") { "self" } else { "input" };
    if call.flag("train", false)? && call.float("p", 0.5)? != 0.0 {
        fail!(Unsupported, "dropout while training; export the model after .eval()");
    }
    let x = call.tensor(name)?;
    let _ = builder;
    one(x)
}

fn viewed(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    if call.overload != "dtype" {
        return same_elements(builder, call);
    }
    let (x, from, to) = (call.tensor("self")?, call.told("self")?, call.out_told(0)?);
    if from == DType::F64 || to == DType::F64 {
        fail!(Unsupported, "the bits of 64-bit floating-point numbers, which are computed in 32");
    }
    let x = if from == DType::C64 { x } else { builder.cast(&x, from)? };
    // Complex numbers are pairs of their parts already.
    let part = |dtype: DType| if dtype == DType::C64 { DType::F32 } else { dtype };
    let shape = builder.shape(&x);
    let x = if let (DType::C64, DType::F32, [rest @ .., last, pair]) = (from, to, &shape[..]) {
        builder.reshape(&x, &[rest, &[last * pair]].concat())?
    } else {
        builder.bits(&x, part(to))?
    };
    one(builder.reshape(&x, &call.out_shape(0)?)?)
}

/// As trained with a probability of 0, or not at all: what is kept is everything.
fn native_dropout(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = identity(builder, call)?;
    let kept = builder.number(1.0, DType::Bool)?;
    let kept = builder.expand(&kept, &call.out_shape(1)?)?;
    Ok(x.into_iter().chain([Item::Tensor(kept)]).collect())
}

/// What reaches the argument of a dropout.
fn dropped_gradient(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (gradient, mask) = (call.float_tensor(builder, "grad_output")?, call.float_tensor(builder, "mask")?);
    let kept = builder.binary(Binary::Mul, &gradient, &mask)?;
    one(builder.affine(&kept, call.float("scale", 1.0)?, 0.0)?)
}

fn same_elements(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    one(builder.reshape(&x, &call.out_shape(0)?)?)
}

fn movedim(_: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let (from, to) = (call.axes("source", x.rank())?, call.axes("destination", x.rank())?);
    let mut order = vec![None; x.rank()];
    from.iter().zip(&to).for_each(|(&from, &to)| order[to] = Some(from));
    let mut rest = (0..x.rank()).filter(|axis| !from.contains(axis));
    let order: Option<Vec<usize>> = order.into_iter().map(|axis| axis.or_else(|| rest.next())).collect();
    match order {
        Some(order) => one(Builder::permuted(&x, &order)),
        None => fail!(Format, "dimensions {from:?} cannot move to {to:?}"),
    }
}

/// A position counted from the end if it is negative.
fn from_end(position: &Dim, size: &Dim) -> Dim {
    let negative = Condition::compare(Comparison::Less, &Real::Of(position.clone()), &Real::Of(0.into()));
    Dim::choose(&negative, &(size + position), position)
}

/// Elements `start`, `start + step`, ..., `count` of them, along a dimension.
struct Cut {
    axis: usize,
    start: Dim,
    count: Dim,
    step: usize,
}

impl Cut {
    fn slice(builder: &Builder, call: &Call<'_>, x: &Tensor) -> Result<Self> {
        let axis = call.axis("dim", 0, x.rank())?;
        let size = builder.dim(x, axis);
        let step = usize::try_from(call.integer("step", 1)?).unwrap_or(0);
        let bound = |name: &str, default: Dim| -> Result<Dim> {
            let Some(position) = call.try_dim(name)? else { return Ok(default) };
            let position = from_end(&position, &size);
            Ok(match (position.constant(), size.constant()) {
                (Some(i64::MAX), _) => size.clone(),
                (Some(position), Some(size)) => Dim::from_i64(position.clamp(0, size)),
                _ => position,
            })
        };
        let (start, end) = (bound("start", Dim::from(0))?, bound("end", size.clone())?);
        // What the exporter found is the truth about symbolic bounds, which are clamped.
        let count = match (start.constant(), end.constant(), size.constant()) {
            _ if step == 0 => fail!(Shape, "a slice with step 0"),
            (Some(start), Some(end), Some(_)) => {
                let room = end.saturating_sub(start).max(0);
                Dim::from(usize::try_from(room).unwrap_or(usize::MAX).div_ceil(step))
            }
            _ => call.out_dim(0, axis)?,
        };
        Ok(Self { axis, start, count, step })
    }

    fn select(builder: &Builder, call: &Call<'_>, x: &Tensor) -> Result<Self> {
        let axis = call.axis("dim", 0, x.rank())?;
        let start = from_end(&call.dim("index")?, &builder.dim(x, axis));
        Ok(Self { axis, start, count: 1.into(), step: 1 })
    }

    fn apply(&self, builder: &mut Builder, x: &Tensor) -> Result<Tensor> {
        if self.step == 1 {
            return builder.slice(x, self.axis, &self.start, &(&self.start + &self.count));
        }
        let indices = builder.range(&self.start, self.step as i64, &self.count)?;
        builder.take(x, self.axis, &indices)
    }

    /// `x` with these elements replaced by `part`.
    fn replace(&self, builder: &mut Builder, x: &Tensor, part: &Tensor) -> Result<Tensor> {
        let size = builder.dim(x, self.axis);
        if self.step == 1 {
            let end = &self.start + &self.count;
            let mut pieces = Vec::new();
            if self.start.constant() != Some(0) {
                pieces.push(builder.slice(x, self.axis, &Dim::from(0), &self.start)?);
            }
            pieces.push(part.clone());
            if end != size {
                pieces.push(builder.slice(x, self.axis, &end, &size)?);
            }
            return builder.concat(&pieces.iter().collect::<Vec<_>>(), self.axis);
        }
        let indices = builder.range(&self.start, self.step as i64, &self.count)?;
        builder.scatter_rows(Scatter::Replace, x, self.axis, &indices, part)
    }
}

/// The parts of a split, whose sizes the program says.
fn parts(call: &Call<'_>, axis: usize) -> Result<Vec<Cut>> {
    let mut start = Dim::from(0);
    let mut cuts = Vec::new();
    for index in 0..call.output_names().len() {
        let count = call.out_dim(index, axis)?;
        let end = &start + &count;
        cuts.push(Cut { axis, start, count, step: 1 });
        start = end;
    }
    Ok(cuts)
}

pub(super) fn diagonal(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let of_matrices = call.op == "linalg_diagonal";
    let (name, ends) = if of_matrices { ("A", [-2, -1]) } else { ("self", [0, 1]) };
    let x = call.tensor(name)?;
    let offset = call.integer("offset", 0)?;
    let (a, b) = (call.axis("dim1", ends[0], x.rank())?, call.axis("dim2", ends[1], x.rank())?);
    let rest: Vec<usize> = (0..x.rank()).filter(|&axis| axis != a && axis != b).collect();
    let order: Vec<usize> = rest.iter().copied().chain([a, b]).collect();
    let (rows, columns) = (builder.dim(&x, a), builder.dim(&x, b));
    let moved = Builder::permuted(&x, &order);
    let mut shape: Vec<Dim> = rest.iter().map(|&axis| builder.dim(&x, axis)).collect();
    shape.push(&rows * &columns);
    let flat = builder.reshape(&moved, &shape)?;
    let (right, down) = (Dim::from_i64(offset.max(0)), Dim::from_i64(offset.saturating_neg().max(0)));
    let room = (&rows - &down).pair(DimPair::Min, &(&columns - &right));
    let count = room.pair(DimPair::Max, &0.into());
    // Each one is a row and a column further.
    let steps = builder.range(&0.into(), 1, &count)?;
    let steps = builder.with_size(Binary::Mul, &steps, &(&columns + 1))?;
    let indices = builder.with_size(Binary::Add, &steps, &(&(&down * &columns) + &right))?;
    one(builder.take(&flat, rest.len(), &indices)?)
}

/// Overlapping windows of a dimension, as a new last dimension.
fn unfold(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let axis = call.axis("dimension", 0, x.rank())?;
    let (size, step) = (call.integer("size", 1)?, call.integer("step", 1)?);
    let count = call.out_dim(0, axis)?;
    let (Ok(taps), true) = (usize::try_from(size), step > 0) else { fail!(Shape, "windows of {size} by {step}") };
    check_list(&[count.fixed().unwrap_or(1), taps])?;
    let places = builder.places(&0.into(), step, &count, 1, &taps.into())?;
    let split = builder.take_places(&x, axis, &places)?;
    let order: Vec<usize> = (0..split.rank()).filter(|&i| i != axis + 1).chain([axis + 1]).collect();
    one(Builder::permuted(&split, &order))
}

fn always(_: &Call<'_>) -> Result<bool> {
    Ok(true)
}

fn windows_overlap(call: &Call<'_>) -> Result<bool> {
    Ok(call.integer("size", 1)? > call.integer("step", 1)?)
}

fn strides_overlap(call: &Call<'_>) -> Result<bool> {
    let (sizes, strides) = (call.integers("size", &[])?, call.integers("stride", &[])?);
    Ok(overlaps(strides.into_iter().zip(sizes)))
}

/// True if elements with these strides and sizes can be in one place.
pub(crate) fn overlaps(dimensions: impl Iterator<Item = (i64, i64)>) -> bool {
    let mut steps: Vec<_> = dimensions.filter(|(_, size)| *size > 1).collect();
    steps.sort_unstable();
    let mut reach = 0_i64;
    steps.into_iter().any(|(stride, size)| {
        let meets = stride <= reach;
        reach = reach.saturating_add(stride.saturating_mul(size - 1));
        meets
    })
}

/// Of views whose elements are all of the argument's, in its order.
pub(super) fn all_back(builder: &mut Builder, _: &Call<'_>, change: &Change<'_>) -> Result<Option<Tensor>> {
    let shape = builder.shape(change.whole);
    builder.reshape(change.new, &shape).map(Some)
}

fn viewed_back(builder: &mut Builder, call: &Call<'_>, change: &Change<'_>) -> Result<Option<Tensor>> {
    if call.overload != "dtype" {
        return all_back(builder, call, change);
    }
    if call.told("self")? == DType::C64 || call.out_told(0)? == DType::C64 {
        fail!(Unsupported, "a change of the bits of complex numbers");
    }
    let new = builder.cast(change.new, call.out_told(0)?)?;
    let new = builder.bits(&new, call.told("self")?)?;
    let new = builder.reshape(&new, &builder.shape(change.whole))?;
    builder.cast(&new, builder.dtype(change.whole)).map(Some)
}

/// The names of two dimensions that change places.
fn swapped_names(call: &Call<'_>) -> [&'static str; 2] {
    if call.has("axis0") { ["axis0", "axis1"] } else { ["dim0", "dim1"] }
}

fn swapped_back(_: &mut Builder, call: &Call<'_>, change: &Change<'_>) -> Result<Option<Tensor>> {
    let (rank, [first, second]) = (change.whole.rank(), swapped_names(call));
    if rank == 0 {
        return Ok(Some(change.new.clone()));
    }
    Ok(Some(Builder::swapped(change.new, call.axis(first, 0, rank)?, call.axis(second, 1, rank)?)))
}

fn expanded_back(builder: &mut Builder, _: &Call<'_>, change: &Change<'_>) -> Result<Option<Tensor>> {
    Ok((builder.shape(change.whole) == builder.shape(change.new)).then(|| change.new.clone()))
}

fn turned_back(_: &mut Builder, _: &Call<'_>, change: &Change<'_>) -> Result<Option<Tensor>> {
    let rank = change.whole.rank();
    Ok((rank >= 2).then(|| Builder::swapped(change.new, rank - 2, rank - 1)))
}

fn permuted_back(_: &mut Builder, call: &Call<'_>, change: &Change<'_>) -> Result<Option<Tensor>> {
    let order = inverse(&call.axes("dims", change.whole.rank())?);
    Ok(Some(Builder::permuted(change.new, &order)))
}

fn slice_back(builder: &mut Builder, call: &Call<'_>, change: &Change<'_>) -> Result<Option<Tensor>> {
    Cut::slice(builder, call, change.whole)?.replace(builder, change.whole, change.new).map(Some)
}

fn narrow_back(builder: &mut Builder, call: &Call<'_>, change: &Change<'_>) -> Result<Option<Tensor>> {
    let axis = call.axis("dim", 0, change.whole.rank())?;
    let start = from_end(&call.dim("start")?, &builder.dim(change.whole, axis));
    let cut = Cut { axis, start, count: call.dim("length")?, step: 1 };
    cut.replace(builder, change.whole, change.new).map(Some)
}

fn select_back(builder: &mut Builder, call: &Call<'_>, change: &Change<'_>) -> Result<Option<Tensor>> {
    let cut = Cut::select(builder, call, change.whole)?;
    let new = with_one(builder, change.new, cut.axis)?;
    cut.replace(builder, change.whole, &new).map(Some)
}

fn unbind_back(builder: &mut Builder, call: &Call<'_>, change: &Change<'_>) -> Result<Option<Tensor>> {
    let axis = wrap(call.integer("dim", 0)?, change.whole.rank())?;
    let new = with_one(builder, change.new, axis)?;
    let cut = Cut { axis, start: change.index.into(), count: 1.into(), step: 1 };
    cut.replace(builder, change.whole, &new).map(Some)
}

fn part_back(builder: &mut Builder, call: &Call<'_>, change: &Change<'_>) -> Result<Option<Tensor>> {
    let axis = call.axis("dim", 0, change.whole.rank())?;
    match parts(call, axis)?.into_iter().nth(change.index) {
        Some(cut) => cut.replace(builder, change.whole, change.new).map(Some),
        None => fail!(Format, "there is no part {}", change.index),
    }
}

fn with_one(builder: &mut Builder, x: &Tensor, axis: usize) -> Result<Tensor> {
    let mut shape = builder.shape(x);
    shape.insert(axis, 1.into());
    builder.reshape(x, &shape)
}

fn permute(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let _ = builder;
    let mut order = call.axes("dims", x.rank())?;
    // The parts of complex numbers stay last.
    order.extend(order.len()..x.rank());
    one(Builder::permuted(&x, &order))
}

fn split(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let axis = match call.op {
        "hsplit" => usize::from(x.rank() > 1),
        "vsplit" => 0,
        "dsplit" => 2,
        _ => call.axis("dim", 0, x.rank())?,
    };
    let cuts = parts(call, axis)?;
    cuts.iter().map(|cut| cut.apply(builder, &x).map(Item::Tensor)).collect()
}

fn unbind(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let axis = call.axis("dim", 0, x.rank())?;
    let mut items = Vec::new();
    for index in 0..call.output_names().len() {
        let cut = Cut { axis, start: index.into(), count: 1.into(), step: 1 };
        let part = cut.apply(builder, &x)?;
        items.push(Item::Tensor(builder.without(&part, axis)?));
    }
    Ok(items)
}

/// Elements by their place in memory, which is known for a tensor whose elements lie in order.
pub(super) fn as_strided(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
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

/// As many of the first elements in memory as another shape has. What is behind them nobody has filled.
fn resize(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let (shape, size) = (builder.shape(&x), call.dims("size")?);
    let (there, wanted) = (elements(&shape), elements(&size));
    let more = matches!((there.fixed(), wanted.fixed()), (Some(there), Some(wanted)) if there < wanted);
    if more || there.fixed().is_none() && there != wanted {
        fail!(Unsupported, "a tensor of {there} elements is made one of {wanted}, which nobody has filled");
    }
    let flat = builder.reshape(&x, &[there])?;
    let first = builder.slice(&flat, 0, &0.into(), &wanted)?;
    one(builder.reshape(&first, &size)?)
}

fn broadcast_tensors(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for (i, tensor) in call.tensors("tensors")?.iter().enumerate() {
        items.push(Item::Tensor(builder.expand(tensor, &call.out_shape(i)?)?));
    }
    Ok(items)
}

fn atleast_1d(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    if call.has("tensors") {
        let mut items = Vec::new();
        for (i, tensor) in call.tensors("tensors")?.iter().enumerate() {
            items.push(Item::Tensor(builder.reshape(tensor, &call.out_shape(i)?)?));
        }
        return Ok(items);
    }
    let x = call.tensor("self")?;
    one(builder.reshape(&x, &call.out_shape(0)?)?)
}
