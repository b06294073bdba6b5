//! Shape and type inference: what an operator yields, or why it cannot take its inputs.

mod operand;
mod product;

use crate::{
    dim::Dim,
    dtype::DType,
    error::{Result, fail},
    op::{Binary, Op, Regions, Unary, check_attributes},
    shape::Shape,
    signature::Signature,
};
use operand::{BYTES, glu, rank, same_dtype, typed};

pub use operand::Supposed;

/// The signature of `op`'s value, if the sizes that it adds to `supposed` are equal.
///
/// # Errors
/// If the inputs do not fit the operator, in shape or in element type. The operators without inputs have no rule here:
/// the graph knows their signatures.
pub fn infer(op: &Op, inputs: &[&Signature], supposed: &mut Supposed) -> Result<Signature> {
    if let Some(wanted) = arity(op)
        && inputs.len() != wanted
    {
        fail!(Shape, "takes {wanted} inputs, got {}", inputs.len());
    }
    match op {
        Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_) => fail!(Shape, "{op} has no inputs to infer from"),
        Op::Unary(op) => unary(*op, inputs[0]),
        Op::Binary(op) => binary(*op, inputs, supposed),
        Op::Select => select(inputs, supposed),
        Op::Cast(dtype) => cast(inputs[0], *dtype),
        Op::Bits(dtype) => bits(inputs[0], *dtype),
        Op::Reshape(shape) => reshape(inputs[0], shape),
        Op::Permute(axes) => permute(inputs[0], axes),
        Op::Expand(shape) => expand(inputs[0], shape, supposed),
        Op::Slice { axis, start, end } => slice(inputs[0], *axis, start, end),
        Op::Concat { axis } => concat(inputs, *axis, supposed),
        Op::Pad { amounts } => pad(inputs[0], amounts),
        Op::Gather => gather(inputs[0], inputs[1]),
        Op::TakeRow => take_row(inputs[0], inputs[1], supposed),
        Op::ArgMax => {
            inputs[0].shape.last()?;
            let last = inputs[0].shape.rank() - 1;
            Ok(Signature::new(inputs[0].shape.0[..last].to_vec(), DType::I64))
        }
        Op::Reduce { axes, keep, .. } => reduce(inputs[0], axes, *keep),
        Op::Softmax => inputs[0].shape.last().map(|_| inputs[0].clone()),
        Op::LayerNorm { .. } | Op::RmsNorm { .. } => norm(inputs, supposed),
        Op::GroupNorm { groups, .. } => group_norm(inputs, *groups, supposed),
        Op::Linear(epilogue) => product::linear(*epilogue, inputs, supposed),
        Op::Conv2d(conv, epilogue) => product::conv2d(*conv, *epilogue, inputs, supposed),
        Op::MatMul { transposed } => product::matmul(inputs[0], inputs[1], *transposed, supposed),
        Op::Attention(attention) => product::attention(attention, inputs, supposed),
        Op::Glu(_) => glu(inputs[0]),
        Op::Resize { height, width, .. } => {
            let [batch, _, _, channels] = rank(inputs[0])?;
            Ok(Signature::new(vec![batch, height.clone(), width.clone(), channels], inputs[0].dtype))
        }
        Op::Range { count, .. } => Ok(Signature::new(vec![count.clone()], DType::I64)),
        Op::Take { axis } => take(inputs[0], inputs[1], *axis),
        Op::Scatter(_) => scatter(inputs, supposed),
        Op::Scan { axis, .. } => {
            dim_mut(&mut inputs[0].shape.clone(), *axis)?;
            Ok(inputs[0].clone())
        }
        Op::ArgSort { keep, .. } => argsort(inputs[0], keep),
        Op::Pool(pooling) => pooling.infer(inputs[0]),
        Op::Interpolate { axis, size, .. } => {
            let mut signature = inputs[0].clone();
            *dim_mut(&mut signature.shape, *axis)? = size.clone();
            Ok(signature)
        }
        Op::Rotate { .. } => rotate(inputs, supposed),
        Op::GroupedMatMul { transposed } => product::grouped_matmul(inputs, *transposed, supposed),
        Op::Recurrent { cell, .. } => product::recurrent(*cell, inputs, supposed),
        Op::Solve => product::solve(inputs[0], inputs[1], supposed),
        Op::Cholesky => product::matrices(inputs[0]).map(|()| inputs[0].clone()),
        Op::Determinant => {
            product::matrices(inputs[0])?;
            let shape = &inputs[0].shape.0;
            Ok(Signature::new(shape[..shape.len() - 2].to_vec(), inputs[0].dtype))
        }
        Op::Suppress { .. } => suppress(inputs[0]),
        Op::Regions(regions) => self::regions(regions, inputs[0], inputs[1]),
        Op::Measure { .. } => match inputs[0] {
            Signature { shape, dtype: DType::I64 } if shape.rank() == 0 => Ok(inputs[0].clone()),
            Signature { shape, dtype } => fail!(Shape, "{dtype} {shape} is no number of elements"),
        },
        Op::Assert { .. } => typed("what is true", inputs[0], &[DType::Bool]).map(|()| inputs[0].clone()),
        Op::Loop(_) => fail!(Shape, "what a loop yields its graph knows"),
        Op::Unpack { signature, .. } => Ok(signature.clone()),
        Op::Native(native) => Ok(native.result.clone()),
    }
}

fn rotate(inputs: &[&Signature], supposed: &mut Supposed) -> Result<Signature> {
    let [x, cos, sin] = inputs else { fail!(Shape, "a rotation takes 3 inputs") };
    let fits = match (&x.shape.0[..], &cos.shape.0[..]) {
        ([before @ .., _, width], [tables @ .., one, pairs]) => {
            let enough = match (width.fixed(), pairs.fixed()) {
                (Some(width), Some(pairs)) => pairs.checked_mul(2).is_some_and(|turned| turned <= width),
                _ => false,
            };
            enough && *one == Dim::from(1) && supposed.all_equal(before, tables)
        }
        _ => false,
    };
    if !fits || !supposed.all_equal(&cos.shape.0, &sin.shape.0) {
        fail!(Shape, "heads {} are not turned by cosines {} and sines {}", x.shape, cos.shape, sin.shape);
    }
    typed("a head", x, &[DType::F32, DType::BF16, DType::F16])?;
    typed("a cosine", cos, &[DType::F32])?;
    typed("a sine", sin, &[DType::F32])?;
    Ok((*x).clone())
}

fn suppress(boxes: &Signature) -> Result<Signature> {
    match (&boxes.shape.0[..], boxes.dtype) {
        ([count, sides], DType::F32) if *sides == Dim::from(4) => Ok(Signature::new(vec![count.clone()], DType::Bool)),
        _ => fail!(Shape, "{} {} are no boxes", boxes.dtype, boxes.shape),
    }
}

fn regions(regions: &Regions, x: &Signature, boxes: &Signature) -> Result<Signature> {
    let ([_, _, _, channels], [count, sides]) = (rank(x)?, rank(boxes)?);
    let [rows, columns] = regions.bins;
    check_attributes([rows, columns])?;
    typed("a map", x, &[DType::F32])?;
    typed("a region", boxes, &[DType::F32])?;
    let bins = rows * columns;
    let own = match channels.fixed() {
        _ if !regions.how.is_apart() => Some(channels),
        Some(channels) if bins > 0 && channels % bins == 0 => Some((channels / bins).into()),
        _ => None,
    };
    match own {
        Some(channels) if bins > 0 && sides == Dim::from(5) => {
            Ok(Signature::new(vec![count, rows.into(), columns.into(), channels], DType::F32))
        }
        _ => fail!(Shape, "regions {} of {} in {rows} x {columns} bins", boxes.shape, x.shape),
    }
}

fn argsort(x: &Signature, keep: &Dim) -> Result<Signature> {
    x.shape.last()?;
    let mut shape = x.shape.clone();
    let last = shape.rank() - 1;
    shape.0[last] = keep.clone();
    Ok(Signature::new(shape, DType::I64))
}

/// How many inputs an operator takes, unless its attributes decide.
fn arity(op: &Op) -> Option<usize> {
    match op {
        Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_) => Some(0),
        Op::Bits(_) => Some(1),
        Op::Unary(_) | Op::Cast(_) | Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) | Op::Slice { .. } => Some(1),
        Op::Pad { .. } | Op::ArgMax | Op::Reduce { .. } | Op::Softmax | Op::Glu(_) | Op::Resize { .. } => Some(1),
        Op::Binary(_) | Op::Gather | Op::TakeRow | Op::RmsNorm { .. } | Op::MatMul { .. } => Some(2),
        Op::Select | Op::LayerNorm { .. } | Op::GroupNorm { .. } => Some(3),
        Op::Range { .. } => Some(0),
        Op::Scan { .. } | Op::ArgSort { .. } | Op::Pool(_) | Op::Interpolate { .. } => Some(1),
        Op::Take { .. } => Some(2),
        Op::Scatter(_) | Op::GroupedMatMul { .. } | Op::Rotate { .. } => Some(3),
        Op::Recurrent { .. } => Some(4),
        Op::Measure { .. } | Op::Assert { .. } | Op::Unpack { .. } | Op::Cholesky | Op::Determinant => Some(1),
        Op::Solve | Op::Regions(_) => Some(2),
        Op::Suppress { .. } => Some(1),
        Op::Concat { .. } | Op::Linear(_) | Op::Conv2d(..) | Op::Attention(_) => None,
        Op::Loop(_) | Op::Native(_) => None,
    }
}

fn cast(x: &Signature, dtype: DType) -> Result<Signature> {
    if x.dtype != dtype && (x.dtype == DType::C64 || dtype == DType::C64) {
        fail!(Shape, "{} numbers cannot become {dtype}", x.dtype);
    }
    Ok(Signature::new(x.shape.clone(), dtype))
}

fn bits(x: &Signature, dtype: DType) -> Result<Signature> {
    let mut result = Signature::new(x.shape.clone(), dtype);
    let (from, to) = (x.dtype.size(), dtype.size());
    if from != to {
        let last = x.shape.last()?;
        let bytes = last * from;
        let size = bytes.floor_div(to);
        if size.fixed().is_some_and(|size| last.fixed() != Some(size * to / from) || size * to % from != 0) {
            fail!(Shape, "{last} elements of type {} are no whole number of type {dtype}", x.dtype);
        }
        let axis = x.shape.rank() - 1;
        result.shape.0[axis] = size;
    }
    Ok(result)
}

fn unary(op: Unary, x: &Signature) -> Result<Signature> {
    if !x.dtype.is_float() && !matches!(op, Unary::Neg | Unary::Abs) {
        fail!(Shape, "needs floating-point numbers, got {}", x.dtype);
    }
    Ok(x.clone())
}

fn binary(op: Binary, inputs: &[&Signature], supposed: &mut Supposed) -> Result<Signature> {
    let shape = broadcast(&inputs[0].shape, &inputs[1].shape, supposed)?;
    let dtype = same_dtype(inputs)?;
    Ok(Signature::new(shape, if op.is_comparison() { DType::Bool } else { dtype }))
}

fn select(inputs: &[&Signature], supposed: &mut Supposed) -> Result<Signature> {
    typed("a choice", inputs[0], &BYTES)?;
    let choice = broadcast(&inputs[1].shape, &inputs[2].shape, supposed)?;
    let shape = broadcast(&inputs[0].shape, &choice, supposed)?;
    Ok(Signature::new(shape, same_dtype(&inputs[1..])?))
}

fn reshape(x: &Signature, shape: &Shape) -> Result<Signature> {
    let (from, to) = (x.shape.elements(), shape.elements());
    if from.fixed().is_some() && to.fixed().is_some() && from != to {
        fail!(Shape, "{} cannot be reshaped to {shape}", x.shape);
    }
    Ok(Signature::new(shape.clone(), x.dtype))
}

fn expand(x: &Signature, shape: &Shape, supposed: &mut Supposed) -> Result<Signature> {
    if x.shape.rank() > shape.rank() || broadcast(shape, &x.shape, supposed)? != *shape {
        fail!(Shape, "{} cannot be expanded to {shape}", x.shape);
    }
    Ok(Signature::new(shape.clone(), x.dtype))
}

fn slice(x: &Signature, axis: usize, start: &Dim, end: &Dim) -> Result<Signature> {
    let mut signature = x.clone();
    let size = dim_mut(&mut signature.shape, axis)?;
    if let (Some(start), Some(end), Some(size)) = (start.fixed(), end.fixed(), size.fixed())
        && (start > end || end > size)
    {
        fail!(Shape, "slice {start}..{end} is outside dimension {axis} of size {size}");
    }
    *size = end - start;
    Ok(signature)
}

fn pad(x: &Signature, amounts: &[[usize; 2]]) -> Result<Signature> {
    if amounts.len() != x.shape.rank() {
        fail!(Shape, "pad lists {} dimensions, the input has {}", amounts.len(), x.shape.rank());
    }
    check_attributes(amounts.as_flattened().iter().copied())?;
    let dims = x.shape.0.iter().zip(amounts).map(|(dim, [before, after])| &(dim + *before) + *after);
    Ok(Signature::new(dims.collect::<Shape>(), x.dtype))
}

fn gather(table: &Signature, indices: &Signature) -> Result<Signature> {
    if table.shape.rank() == 0 || !matches!(indices.dtype, DType::I64 | DType::I32) {
        fail!(Shape, "gather takes a table and integer indices, got {} and {}", table.shape, indices.dtype);
    }
    let dims = indices.shape.0.iter().chain(&table.shape.0[1..]);
    Ok(Signature::new(dims.collect::<Shape>(), table.dtype))
}

fn take_row(x: &Signature, positions: &Signature, supposed: &mut Supposed) -> Result<Signature> {
    let [batch, _, width] = rank(x)?;
    let each = supposed.all_equal(&positions.shape.0, std::slice::from_ref(&batch));
    if !each || !matches!(positions.dtype, DType::I64 | DType::I32) {
        let Signature { shape, dtype } = positions;
        fail!(Shape, "needs an integer position for each of {batch} batches, got {dtype} {shape}");
    }
    Ok(Signature::new(vec![batch, width], x.dtype))
}

fn take(x: &Signature, indices: &Signature, axis: usize) -> Result<Signature> {
    if axis >= x.shape.rank() || indices.dtype != DType::I64 {
        fail!(Shape, "cannot take {} indices along dimension {axis} of {}", indices.dtype, x.shape);
    }
    let dims = x.shape.0[..axis].iter().chain(&indices.shape.0).chain(&x.shape.0[axis + 1..]);
    Ok(Signature::new(dims.collect::<Shape>(), x.dtype))
}

fn scatter(inputs: &[&Signature], supposed: &mut Supposed) -> Result<Signature> {
    let [x, indices, rows] = inputs else { fail!(Shape, "scatter takes 3 inputs") };
    let [count] = rank(indices)?;
    let fits = x.shape.rank() > 0
        && rows.shape.rank() > 0
        && supposed.all_equal(&rows.shape.0[1..], &x.shape.0[1..])
        && supposed.equal(&rows.shape.0[0], &count);
    if !fits || indices.dtype != DType::I64 || rows.dtype != x.dtype {
        let [(from, a), (at, b), (to, c)] = [rows, indices, x].map(|part| (&part.shape, part.dtype));
        fail!(Shape, "cannot scatter {a} {from} with indices {b} {at} into {c} {to}");
    }
    Ok((*x).clone())
}

fn group_norm(inputs: &[&Signature], groups: usize, supposed: &mut Supposed) -> Result<Signature> {
    if inputs[0].shape.rank() < 2 {
        fail!(Shape, "groups of channels need at least 2 dimensions, got {}", inputs[0].shape);
    }
    let channels = inputs[0].shape.last()?.fixed();
    if groups == 0 || channels.is_none_or(|channels| channels % groups != 0) {
        fail!(Shape, "{groups} groups do not divide {} channels", inputs[0].shape.last()?);
    }
    norm(inputs, supposed)
}

fn dim_mut(shape: &mut Shape, axis: usize) -> Result<&mut Dim> {
    let rank = shape.rank();
    match shape.0.get_mut(axis) {
        Some(dim) => Ok(dim),
        None => fail!(Shape, "dimension {axis} does not exist in rank {rank}"),
    }
}

/// The shape of an element-by-element operation on `a` and `b`, by numpy's rules.
pub fn broadcast(a: &Shape, b: &Shape, supposed: &mut Supposed) -> Result<Shape> {
    let (long, short) = if a.rank() >= b.rank() { (a, b) } else { (b, a) };
    let mut dims = long.0.clone();
    let one = Dim::from(1);
    let offset = long.rank() - short.rank();
    for (dim, other) in dims[offset..].iter_mut().zip(&short.0) {
        if *dim == one {
            *dim = other.clone();
        } else if *other != one {
            if !supposed.equal(dim, other) {
                fail!(Shape, "shapes {a} and {b} do not broadcast");
            }
            // What is known of one is known of both.
            if other.constant().is_some() {
                *dim = other.clone();
            }
        }
    }
    Ok(Shape(dims))
}

fn permute(input: &Signature, axes: &[usize]) -> Result<Signature> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if sorted.into_iter().ne(0..input.shape.rank()) {
        fail!(Shape, "{axes:?} is no permutation of the dimensions of {}", input.shape);
    }
    Ok(Signature::new(axes.iter().map(|&axis| &input.shape.0[axis]).collect::<Shape>(), input.dtype))
}

fn concat(inputs: &[&Signature], axis: usize, supposed: &mut Supposed) -> Result<Signature> {
    let [first, rest @ ..] = inputs else { fail!(Shape, "concat needs an input") };
    let mut result = (*first).clone();
    same_dtype(inputs)?;
    dim_mut(&mut result.shape, axis)?;
    for input in rest {
        let mut other = input.shape.clone();
        let added = dim_mut(&mut other, axis)?.clone();
        let size = dim_mut(&mut result.shape, axis)?;
        *dim_mut(&mut other, axis)? = size.clone();
        if !supposed.all_equal(&result.shape.0, &other.0) {
            fail!(Shape, "{} and {} differ outside dimension {axis}", first.shape, input.shape);
        }
        let sum = &other.0[axis] + &added;
        *dim_mut(&mut result.shape, axis)? = sum;
    }
    Ok(result)
}

fn reduce(input: &Signature, axes: &[usize], keep: bool) -> Result<Signature> {
    if let Some(axis) = axes.iter().find(|&&axis| axis >= input.shape.rank()) {
        fail!(Shape, "dimension {axis} does not exist in {}", input.shape);
    }
    if !axes.is_sorted_by(|a, b| a < b) {
        fail!(Shape, "dimensions {axes:?} are to be folded; name each once, in ascending order");
    }
    let one = Dim::from(1);
    let dims = input.shape.0.iter().enumerate().filter_map(|(i, dim)| match (axes.contains(&i), keep) {
        (false, _) => Some(dim),
        (true, true) => Some(&one),
        (true, false) => None,
    });
    Ok(Signature::new(dims.collect::<Shape>(), input.dtype))
}

fn norm(inputs: &[&Signature], supposed: &mut Supposed) -> Result<Signature> {
    let width = inputs[0].shape.last()?;
    if !inputs[0].dtype.is_float() {
        fail!(Shape, "needs floating-point numbers, got {}", inputs[0].dtype);
    }
    for vector in &inputs[1..] {
        typed("a weight or bias", vector, &[DType::F32])?;
        if !supposed.all_equal(&vector.shape.0, std::slice::from_ref(width)) {
            fail!(Shape, "the last dimension is {width}, its weight or bias {}", vector.shape);
        }
    }
    Ok(inputs[0].clone())
}
