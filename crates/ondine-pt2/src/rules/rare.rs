//! Operators that few programs have: pieces of others, numbers taken apart.

use ondine_graph::{Binary, DType, Dim, Elementary, NDArray, Op, Reduce, Result, Scatter, Unary, fail};

use super::{
    index::indexed_of,
    reduce::{length, reduce},
    rule::{Rule, one},
    view,
};
use crate::{
    builder::{Builder, Tensor, check_list, elements},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("rand", random),
    Rule::new("randn", random),
    Rule::new("randint", random),
    Rule::new("randperm", random),
    Rule::new("rand_like", random),
    Rule::new("randn_like", random),
    Rule::new("randint_like", random),
    Rule::new("normal", random),
    Rule::new("bernoulli", random),
    Rule::new("multinomial", random),
    Rule::new("frexp", frexp),
    Rule::new("nextafter", nextafter),
    Rule::new("isreal", isreal),
    Rule::new("sum_to_size", sum_to_size),
    Rule::new("diagonal_copy", view::diagonal),
    Rule::new("block_diag", block_diag),
    Rule::new("cartesian_prod", cartesian_prod),
    Rule::new("combinations", combinations),
    Rule::new("pad_sequence", pad_sequence),
    Rule::new("_softmax_backward_data", softmax_backward),
    Rule::new("_unsafe_masked_index", masked_index),
    Rule::new("_unsafe_masked_index_put_accumulate", masked_index),
    Rule::new("nonzero_static", nonzero_static),
    Rule::new("_trilinear", trilinear),
    Rule::new("rrelu_with_noise", noisy_relu),
    Rule::new("rrelu_with_noise_functional", noisy_relu),
    Rule::new("renorm", renorm),
    Rule::new("allclose", allclose),
    Rule::new("equal", allclose),
    Rule::new("diagflat", diagflat),
    Rule::new("linalg_diagonal", view::diagonal),
    Rule::new("_chunk_cat", chunk_cat),
    Rule::new("pdist", pdist),
    Rule::new("_pdist_forward", pdist),
    Rule::new("linalg_vander", vander),
    Rule::new("hash_tensor", hash),
];

/// Random numbers: nothing that a program can be held to, so nothing reads them.
fn random(_: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    if call.node.target.contains(&format!("{}_.", call.op)) {
        fail!(Unsupported, "random numbers; give them to the program as an input");
    }
    Ok(vec![Item::Random])
}

/// Each number as a part between a half and one times a power of two.
fn frexp(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    // Numbers with fewer digits than others get theirs by a factor first.
    let (size, tiny) = (Formula::of(&x).abs(), f64::from(f32::MIN_POSITIVE));
    let small = size.less(tiny);
    let scaled = small.choose(&size * 2_f64.powi(64), &size).build(builder)?;
    let bits = builder.bits(&scaled, DType::I32)?;
    let step = builder.number(f64::from(1 << 23), DType::I32)?;
    let exponent = builder.binary(Binary::FloorDiv, &bits, &step)?;
    let exponent = builder.cast(&exponent, DType::F32)?;
    let exponent = Formula::of(&exponent) - small.choose(64.0 + 126.0, 126.0);
    let known = size.equals(0.0).or(size.less(f64::INFINITY).not());
    let exponent = known.choose(0.0, exponent);
    let (half, other) = ((&exponent * -0.5).function(Elementary::Trunc), &exponent * -1.0);
    let rest = &other - &half;
    let power = |power: &Formula| Formula::from(2.0).pow(power);
    let part = Formula::of(&x) * power(&half) * power(&rest);
    let mantissa = known.choose(Formula::of(&x), part).build(builder)?;
    Ok(vec![Item::Tensor(mantissa), Item::Tensor(exponent.build(builder)?)])
}

/// The number of the type that comes next on the way to another.
fn nextafter(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let told = call.out_told(0)?;
    let whole = match told {
        DType::F32 => DType::I32,
        DType::F16 | DType::BF16 => DType::I16,
        other => fail!(Unsupported, "the next number of type {other}"),
    };
    let (x, y) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "other")?);
    let shape = call.out_shape(0)?;
    let (x, y) = (builder.expand(&x, &shape)?, builder.expand(&y, &shape)?);
    let held = builder.cast(&x, told)?;
    let bits = builder.bits(&held, whole)?;
    let (fx, fy) = (Formula::of(&x), Formula::of(&y));
    // Towards a larger number from a positive one, or to a smaller from a negative one, there are more bits.
    let (rises, positive) = (fx.less(&fy).build(builder)?, fx.more(0.0).build(builder)?);
    let apart = builder.binary(Binary::Xor, &rises, &positive)?;
    let away = builder.not(&apart)?;
    let (up, down) = (builder.number(1.0, whole)?, builder.number(-1.0, whole)?);
    let step = builder.select(&away, &up, &down)?;
    let next = builder.binary(Binary::Add, &bits, &step)?;
    let next = builder.bits(&next, told)?;
    let next = builder.cast(&next, DType::F32)?;
    let least = builder.number(1.0, whole)?;
    let least = builder.reshape(&least, &[1.into()])?;
    let least = builder.bits(&least, told)?;
    let least = builder.cast(&least, DType::F32)?;
    let least = builder.reshape(&least, &[])?;
    let from_zero = fy.more(0.0).choose(Formula::of(&least), -Formula::of(&least));
    let next = fx.equals(0.0).choose(from_zero, Formula::of(&next));
    let next = fx.equals(&fy).choose(&fy, next);
    let odd = fx.equals(&fx).and(fy.equals(&fy));
    one(odd.choose(next, f64::NAN).build(builder)?)
}

fn isreal(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let yes = builder.number(1.0, DType::Bool)?;
    one(builder.expand(&yes, &call.out_shape(0)?)?)
}

/// The sum over the dimensions that a smaller shape has not, or has with size 1.
fn sum_to_size(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.wide_tensor(builder, "self")?;
    let target = call.out_shape(0)?;
    let missing = x.rank().saturating_sub(target.len());
    let shape = builder.shape(&x);
    let axes: Vec<usize> = (0..x.rank())
        .filter(|&axis| axis < missing || target[axis - missing].fixed() == Some(1) && shape[axis].fixed() != Some(1))
        .collect();
    let sum = reduce(builder, Reduce::Sum, &x, &axes, true)?;
    one(builder.reshape(&sum, &target)?)
}

fn block_diag(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut rows = Vec::new();
    let mut tensors = Vec::new();
    for tensor in call.tensors("tensors")? {
        let tensor = call.cast_out(builder, &tensor)?;
        let mut shape = builder.shape(&tensor);
        while shape.len() < 2 {
            shape.insert(0, 1.into());
        }
        tensors.push(builder.reshape(&tensor, &shape)?);
    }
    let wide = tensors.iter().map(|tensor| builder.dim(tensor, 1)).fold(Dim::from(0), |sum, size| &sum + &size);
    let mut before = Dim::from(0);
    for tensor in &tensors {
        let (height, width) = (builder.dim(tensor, 0), builder.dim(tensor, 1));
        let after = &(&wide - &before) - &width;
        let zero = builder.number(0.0, call.out_dtype(0)?)?;
        let mut parts = Vec::new();
        for (size, part) in [(before.clone(), None), (width.clone(), Some(tensor)), (after, None)] {
            match part {
                Some(tensor) => parts.push(tensor.clone()),
                None if size.fixed() == Some(0) => {}
                None => parts.push(builder.expand(&zero, &[height.clone(), size])?),
            }
        }
        rows.push(builder.concat(&parts.iter().collect::<Vec<_>>(), 1)?);
        before = &before + &width;
    }
    one(builder.concat(&rows.iter().collect::<Vec<_>>(), 0)?)
}

/// All choices of one element of each vector, row by row.
fn cartesian_prod(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let tensors = call.tensors("tensors")?;
    if let [only] = &tensors[..] {
        return one(only.clone());
    }
    let sizes: Vec<Dim> = tensors.iter().map(|tensor| builder.dim(tensor, 0)).collect();
    let mut columns = Vec::new();
    for (i, tensor) in tensors.iter().enumerate() {
        let mut shape = vec![Dim::from(1); sizes.len()];
        shape[i] = sizes[i].clone();
        let column = builder.reshape(tensor, &shape)?;
        let column = builder.expand(&column, &sizes)?;
        columns.push(builder.reshape(&column, &[elements(&sizes), 1.into()])?);
    }
    one(builder.concat(&columns.iter().collect::<Vec<_>>(), 1)?)
}

/// All choices of `r` elements, in order.
fn combinations(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let (r, again) = (call.integer("r", 2)?.clamp(0, 64) as usize, call.flag("with_replacement", false)?);
    let Some(size) = builder.dim(&x, 0).fixed() else { fail!(Unsupported, "combinations of an unknown number") };
    let mut chosen: Vec<Vec<i64>> = vec![Vec::new()];
    for _ in 0..r {
        let mut longer = Vec::new();
        for list in &chosen {
            let from = list.last().map_or(0, |&last| if again { last } else { last + 1 });
            longer.extend((from..size as i64).map(|next| [list.as_slice(), &[next]].concat()));
        }
        check_list(&[longer.len(), r])?;
        chosen = longer;
    }
    let places: Vec<i64> = chosen.concat();
    let places = builder.graph.constant(NDArray::new(&[places.len()], &places)?);
    let places = builder.plain(places);
    let taken = builder.take(&x, 0, &places)?;
    one(builder.reshape(&taken, &call.out_shape(0)?)?)
}

/// Sequences of unlike lengths side by side, the shorter ones filled up.
fn pad_sequence(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let tensors = call.tensors("sequences")?;
    let out = call.out_shape(0)?;
    let first = call.flag("batch_first", false)?;
    let Some(longest) = out.get(usize::from(first)).cloned() else { fail!(Format, "sequences without a length") };
    let filling = call.operand_as(builder, "padding_value", call.out_dtype(0)?);
    let filling = match filling {
        Ok(filling) if call.has("padding_value") => filling,
        _ => builder.number(0.0, call.out_dtype(0)?)?,
    };
    let before = call.text("padding_side") == Some("left");
    let mut rows = Vec::new();
    for tensor in &tensors {
        let tensor = call.cast_out(builder, tensor)?;
        let mut shape = builder.shape(&tensor);
        if shape.is_empty() {
            fail!(Shape, "a sequence without a length");
        }
        let missing = &longest - &shape[0];
        let mut parts = vec![tensor];
        if missing.fixed() != Some(0) {
            shape[0] = missing;
            let filled = builder.expand(&filling, &shape)?;
            parts.insert(usize::from(!before), filled);
        }
        let row = builder.concat(&parts.iter().collect::<Vec<_>>(), 0)?;
        let mut shape = builder.shape(&row);
        shape.insert(usize::from(!first), 1.into());
        rows.push(builder.reshape(&row, &shape)?);
    }
    one(builder.concat(&rows.iter().collect::<Vec<_>>(), usize::from(!first))?)
}

fn softmax_backward(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (slope, out) = (call.float_tensor(builder, "grad_output")?, call.float_tensor(builder, "output")?);
    let product = builder.binary(Binary::Mul, &slope, &out)?;
    if product.rank() == 0 {
        let zero = builder.affine(&product, 0.0, 0.0)?;
        return one(zero);
    }
    let axis = call.axis("dim", -1, product.rank())?;
    let sum = reduce(builder, Reduce::Sum, &product, &[axis], true)?;
    let part = builder.binary(Binary::Mul, &out, &sum)?;
    one(builder.binary(Binary::Sub, &product, &part)?)
}

/// Elements at indices that may lie outside where a mask says so: another number stands there, or nothing is added.
fn masked_index(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, mask) = (call.tensor("self")?, call.tensor("mask")?);
    let mut places = Vec::new();
    let shape = builder.shape(&x);
    for (axis, tensor) in call.try_tensors("indices")?.into_iter().enumerate() {
        places.push(match tensor {
            Some(tensor) => {
                let size = builder.integer(&shape[axis])?;
                let unit = builder.number(1.0, DType::I64)?;
                let most = builder.binary(Binary::Sub, &size, &unit)?;
                let least = builder.unary(Unary::Neg, &size)?;
                let tensor = builder.cast(&tensor, DType::I64)?;
                let tensor = builder.binary(Binary::Max, &tensor, &least)?;
                Some((axis, builder.binary(Binary::Min, &tensor, &most)?))
            }
            None => None,
        });
    }
    let indexed = indexed_of(builder, &x, places.into_iter().flatten().collect())?;
    let dtype = builder.dtype(&x);
    if call.op == "_unsafe_masked_index" {
        let found = indexed.read(builder, &x)?;
        let fill = call.operand_as(builder, "fill", dtype)?;
        return one(builder.select(&mask, &found, &fill)?);
    }
    let values = call.tensor("values")?;
    let zero = builder.number(0.0, dtype)?;
    let values = builder.cast(&values, dtype)?;
    let values = builder.select(&mask, &values, &zero)?;
    one(indexed.write(builder, &x, Scatter::Add, &values)?)
}

/// The first places of what is not zero, and a filling for those that are missing.
fn nonzero_static(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let shape = builder.shape(&x);
    let (size, fill) = (call.integer("size", 0)?.max(0) as usize, call.integer("fill_value", -1)?);
    let all = elements(&shape);
    let truth = builder.cast(&x, DType::Bool)?;
    let flat = builder.reshape(&truth, std::slice::from_ref(&all))?;
    let Some(count) = all.fixed() else { fail!(Unsupported, "places in a tensor of unknown size") };
    let keep = size.min(count);
    let order = positions_of(builder, &flat, keep)?;
    let chosen = builder.take(&flat, 0, &order)?;
    let mut columns = Vec::new();
    for axis in 0..shape.len() {
        let stride = builder.integer(&elements(&shape[axis + 1..]))?;
        let column = builder.binary(Binary::FloorDiv, &order, &stride)?;
        let wide = builder.integer(&shape[axis])?;
        let column = builder.binary(Binary::Remainder, &column, &wide)?;
        let nothing = builder.number(fill as f64, DType::I64)?;
        let column = builder.select(&chosen, &column, &nothing)?;
        let column = builder.reshape(&column, &[keep.into(), 1.into()])?;
        let mut parts = vec![column];
        if size > keep {
            parts.push(builder.expand(&nothing, &[(size - keep).into(), 1.into()])?);
        }
        columns.push(builder.concat(&parts.iter().collect::<Vec<_>>(), 0)?);
    }
    one(builder.concat(&columns.iter().collect::<Vec<_>>(), 1)?)
}

/// The first `keep` places in the order in which those that are true come first.
fn positions_of(builder: &mut Builder, flat: &Tensor, keep: usize) -> Result<Tensor> {
    let op = Op::ArgSort { descending: true, keep: keep.into() };
    let value = builder.graph.push(op, &[flat.value])?;
    Ok(builder.plain(value))
}

/// The sum of the products of three tensors, each with dimensions that it repeats along.
fn trilinear(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut product: Option<Tensor> = None;
    for (tensor, expanded) in [("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")] {
        let x = call.float_tensor(builder, tensor)?;
        let mut axes = call.integers(expanded, &[])?;
        axes.sort_unstable();
        let mut shape = builder.shape(&x);
        for axis in axes {
            let axis = usize::try_from(axis).unwrap_or(0).min(shape.len());
            shape.insert(axis, 1.into());
        }
        let x = builder.reshape(&x, &shape)?;
        product = Some(match product {
            Some(product) => builder.binary(Binary::Mul, &product, &x)?,
            None => x,
        });
    }
    let Some(product) = product else { fail!(Format, "a product of nothing") };
    let mut axes = call.axes("sumdim", product.rank())?;
    axes.sort_unstable();
    one(reduce(builder, Reduce::Sum, &product, &axes, false)?)
}

/// A leaky activation whose slope is random in training only.
fn noisy_relu(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    if call.flag("training", false)? {
        fail!(Unsupported, "random slopes of training; export the model after .eval()");
    }
    let slope = (call.float("lower", 0.125)? + call.float("upper", 1.0 / 3.0)?) / 2.0;
    let x = Formula::of(&call.float_tensor(builder, "self")?);
    let result = x.less(0.0).choose(&x * slope, &x).build(builder)?;
    let noise = call.float_tensor(builder, "noise")?;
    let mut items = vec![Item::Tensor(result), Item::Tensor(noise)];
    items.truncate(call.output_names().len());
    Ok(items)
}

/// Parts along a dimension whose norms are larger than allowed, made as long as allowed.
fn renorm(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let (axis, most) = (call.axis("dim", 0, x.rank())?, call.float("maxnorm", 1.0)?);
    let axes: Vec<usize> = (0..x.rank()).filter(|&other| other != axis).collect();
    let size = Formula::of(&length(builder, &x, call.float("p", 2.0)?, &axes, true)?);
    let scale = size.more(most).choose(most / (&size + 1e-7), 1.0);
    one((Formula::of(&x) * scale).build(builder)?)
}

/// Whether two tensors are nearly, or wholly, the same: one truth.
fn allclose(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.tensor("self")?, call.tensor("other")?);
    let unlike = if call.op == "equal" {
        let float = builder.dtype(&a).is_float() || builder.dtype(&b).is_float();
        let dtype = if float { DType::F32 } else { DType::I64 };
        let (a, b) = (builder.cast(&a, dtype)?, builder.cast(&b, dtype)?);
        let same = builder.binary(Binary::Equal, &a, &b)?;
        builder.not(&same)?
    } else {
        let (a, b) = (builder.cast(&a, DType::F32)?, builder.cast(&b, DType::F32)?);
        let (a, b) = (Formula::of(&a), Formula::of(&b));
        let allowed = b.abs() * call.float("rtol", 1e-5)? + call.float("atol", 1e-8)?;
        let near = a.equals(&b).or((&a - &b).abs().more(allowed).or(a.abs().equals(f64::INFINITY)).not());
        let odd = a.equals(&a).not().or(b.equals(&b).not());
        let both = a.equals(&a).or(b.equals(&b)).not();
        let near = if call.flag("equal_nan", false)? { near.and(odd.not()).or(both) } else { near.and(odd.not()) };
        near.not().build(builder)?
    };
    let count = builder.cast(&unlike, DType::I64)?;
    let count = reduce(builder, Reduce::Sum, &count, &(0..count.rank()).collect::<Vec<_>>(), false)?;
    let any = builder.cast(&count, DType::Bool)?;
    Ok(vec![Item::Number(builder.not(&any)?)])
}

/// All elements on a diagonal of a matrix.
fn diagflat(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let size = elements(&builder.shape(&x));
    let flat = builder.reshape(&x, std::slice::from_ref(&size))?;
    let (out, offset) = (call.out_shape(0)?, call.integer("offset", 0)?);
    let [rows, columns] = &out[..] else { fail!(Format, "a matrix of rank {}", out.len()) };
    let (Some(count), Some(width)) = (size.fixed(), columns.fixed()) else {
        fail!(Unsupported, "a matrix of unknown size");
    };
    let start = if offset >= 0 { offset } else { offset.saturating_mul(-(width as i64)) };
    let places = builder.range(&Dim::from_i64(start), width as i64 + 1, &count.into())?;
    let zero = builder.number(0.0, builder.dtype(&x))?;
    let nothing = builder.expand(&zero, &[rows * columns])?;
    let filled = builder.scatter_rows(Scatter::Replace, &nothing, 0, &places, &flat)?;
    one(builder.reshape(&filled, &out)?)
}

/// Tensors cut into as many parts each along a dimension, the last filled up with zeros, side by side.
fn chunk_cat(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (tensors, count) = (call.tensors("tensors")?, call.integer("num_chunks", 1)?.max(1) as usize);
    let rank = tensors.first().map_or(1, Tensor::rank);
    let axis = call.axis("dim", 0, rank)?;
    let mut rows = Vec::new();
    for tensor in &tensors {
        let tensor = call.cast_out(builder, tensor)?;
        let Some(size) = builder.dim(&tensor, axis).fixed() else { fail!(Unsupported, "parts of an unknown size") };
        let each = size.div_ceil(count);
        let mut shape = builder.shape(&tensor);
        let head = shape[..axis].to_vec();
        shape[axis] = (each * count - size).into();
        let zero = builder.number(0.0, builder.dtype(&tensor))?;
        let filled = if each * count > size {
            let rest = builder.expand(&zero, &shape)?;
            builder.concat(&[&tensor, &rest], axis)?
        } else {
            tensor
        };
        let width = &elements(&shape[axis + 1..]) * each;
        rows.push(builder.reshape(&filled, &[&head[..], &[count.into(), width]].concat())?);
    }
    one(builder.concat(&rows.iter().collect::<Vec<_>>(), axis + 1)?)
}

/// The distances of all pairs of rows, the first with all later ones first.
fn pdist(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let Some(rows) = builder.dim(&x, 0).fixed() else { fail!(Unsupported, "pairs of an unknown number of rows") };
    check_list(&[rows, rows])?;
    let pairs: Vec<[i64; 2]> = (0..rows as i64).flat_map(|i| (i + 1..rows as i64).map(move |j| [i, j])).collect();
    let mut ends = Vec::new();
    for end in [0, 1] {
        let list: Vec<i64> = pairs.iter().map(|pair| pair[end]).collect();
        let list = builder.graph.constant(NDArray::new(&[list.len()], &list)?);
        let list = builder.plain(list);
        ends.push(builder.take(&x, 0, &list)?);
    }
    let difference = builder.binary(Binary::Sub, &ends[0], &ends[1])?;
    one(length(builder, &difference, call.float("p", 2.0)?, &[1], false)?)
}

/// The powers of numbers along a last dimension, from the zeroth on.
fn vander(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.wide_tensor(builder, "x")?;
    let shape = call.out_shape(0)?;
    let Some(count) = shape.last().and_then(Dim::fixed) else { fail!(Unsupported, "an unknown number of powers") };
    let mut wide = builder.shape(&x);
    wide.push(1.into());
    let x = builder.reshape(&x, &wide)?;
    let unit = builder.number(1.0, builder.dtype(&x))?;
    let mut power = builder.expand(&unit, &wide)?;
    let mut powers = vec![power.clone()];
    for _ in 1..count {
        let next = builder.binary(Binary::Mul, &power, &x)?;
        power = next.clone();
        powers.push(next);
    }
    one(builder.concat(&powers.iter().collect::<Vec<_>>(), wide.len() - 1)?)
}

/// Numbers as the bits of 64-bit ones: floating-point numbers in double precision, integers with their sign.
fn wide_bits(builder: &mut Builder, x: &Tensor) -> Result<Tensor> {
    if builder.dtype(x) == DType::U64 {
        return builder.bits(x, DType::I64);
    }
    if !builder.dtype(x).is_float() {
        return builder.cast(x, DType::I64);
    }
    let x = builder.cast(x, DType::F32)?;
    let bits = builder.bits(&x, DType::I32)?;
    let bits = builder.cast(&bits, DType::I64)?;
    let whole = |builder: &mut Builder, number: f64| builder.number(number, DType::I64);
    let zero = whole(builder, 0.0)?;
    let negative = builder.binary(Binary::Less, &bits, &zero)?;
    let rest = whole(builder, f64::from(i32::MAX))?;
    let size = builder.binary(Binary::And, &bits, &rest)?;
    // Numbers with fewer digits than others are whole multiples of the least: read as such, they are ordinary ones.
    let (normal, infinite) = (whole(builder, f64::from(1 << 23))?, whole(builder, f64::from(255 << 23))?);
    let small = builder.binary(Binary::Less, &size, &normal)?;
    let ordinary = builder.binary(Binary::Less, &size, &infinite)?;
    let multiple = builder.cast(&size, DType::F32)?;
    let multiple = builder.bits(&multiple, DType::I32)?;
    let multiple = builder.cast(&multiple, DType::I64)?;
    let read = builder.select(&small, &multiple, &size)?;
    // Exponents count from -1023 instead of -127; those of infinity and of no number are the largest there are.
    let exponent = |builder: &mut Builder, by: f64| builder.number(by * 2_f64.powi(52), DType::I64);
    let (usual, least, most) = (exponent(builder, 896.0)?, exponent(builder, 747.0)?, exponent(builder, 1792.0)?);
    let shift = builder.select(&ordinary, &usual, &most)?;
    let shift = builder.select(&small, &least, &shift)?;
    let digits = whole(builder, f64::from(1 << 29))?;
    let moved = builder.binary(Binary::Mul, &read, &digits)?;
    let wide = builder.binary(Binary::Add, &moved, &shift)?;
    let nothing = builder.binary(Binary::Equal, &size, &zero)?;
    let wide = builder.select(&nothing, &zero, &wide)?;
    let sign = whole(builder, i64::MIN as f64)?;
    let signed = builder.binary(Binary::Or, &wide, &sign)?;
    builder.select(&negative, &signed, &wide)
}

/// The bits of all elements, as 64-bit numbers, each in as many of them as is odd or even.
fn hash(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    if call.integer("mode", 0)? != 0 {
        fail!(Unsupported, "a hash of mode {}", call.integer("mode", 0)?);
    }
    let x = call.tensor("self")?;
    if call.told("self")? == DType::F64 {
        fail!(Unsupported, "a hash of 64-bit numbers, which are computed in 32 bits; convert them to float32");
    }
    let mut axes = call.axes("dim", x.rank())?;
    // A number has no dimension, though one may be named.
    axes.retain(|&axis| axis < x.rank());
    if axes.is_empty() {
        axes = (0..x.rank()).collect();
    }
    let kept: Vec<usize> = (0..x.rank()).filter(|axis| !axes.contains(axis)).collect();
    let order: Vec<usize> = kept.iter().chain(&axes).copied().collect();
    let shape = builder.shape(&x);
    let count = elements(&axes.iter().map(|&axis| shape[axis].clone()).collect::<Vec<_>>());
    let Some(mut count) = count.fixed() else { fail!(Unsupported, "a hash of an unknown number of elements") };
    if count == 0 {
        fail!(Shape, "a hash of nothing");
    }
    let moved = Builder::permuted(&x, &order);
    let mut flat: Vec<Dim> = kept.iter().map(|&axis| shape[axis].clone()).collect();
    let last = flat.len();
    flat.push(count.into());
    let moved = builder.reshape(&moved, &flat)?;
    let mut bits = wide_bits(builder, &moved)?;
    while count > 1 {
        let half = count.div_ceil(2);
        let first = builder.slice(&bits, last, &0.into(), &(count - half).into())?;
        let second = builder.slice(&bits, last, &half.into(), &count.into())?;
        let both = builder.binary(Binary::Xor, &first, &second)?;
        let between = builder.slice(&bits, last, &(count - half).into(), &half.into())?;
        bits = if count % 2 == 0 { both } else { builder.concat(&[&both, &between], last)? };
        count = half;
    }
    let bits = builder.reshape(&bits, &call.out_shape(0)?)?;
    one(builder.bits(&bits, DType::U64)?)
}
