//! Shape and type inference: what an operator yields, or why it cannot take its inputs.

use crate::{
    dim::Dim,
    dtype::DType,
    error::{Result, fail},
    op::{Attention, Binary, Cell, Conv2d, Epilogue, Mask, Op, Regions, Unary, check_attributes},
    shape::Shape,
    signature::Signature,
};

/// The signature of `op`'s value.
///
/// # Errors
/// If the inputs do not fit the operator, in shape or in element type. The operators without inputs have no rule here:
/// the graph knows their signatures.
pub fn infer(op: &Op, inputs: &[&Signature]) -> Result<Signature> {
    if let Some(wanted) = arity(op)
        && inputs.len() != wanted
    {
        fail!(Shape, "takes {wanted} inputs, got {}", inputs.len());
    }
    match op {
        Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_) => fail!(Shape, "{op} has no inputs to infer from"),
        Op::Unary(op) => unary(*op, inputs[0]),
        Op::Binary(op) => binary(*op, inputs),
        Op::Select => select(inputs),
        Op::Cast(dtype) => cast(inputs[0], *dtype),
        Op::Bits(dtype) => bits(inputs[0], *dtype),
        Op::Reshape(shape) => reshape(inputs[0], shape),
        Op::Permute(axes) => permute(inputs[0], axes),
        Op::Expand(shape) => expand(inputs[0], shape),
        Op::Slice { axis, start, end } => slice(inputs[0], *axis, start, end),
        Op::Concat { axis } => concat(inputs, *axis),
        Op::Pad { amounts } => pad(inputs[0], amounts),
        Op::Gather => gather(inputs[0], inputs[1]),
        Op::TakeRow => take_row(inputs[0], inputs[1]),
        Op::ArgMax => {
            inputs[0].shape.last()?;
            let last = inputs[0].shape.rank() - 1;
            Ok(Signature::new(inputs[0].shape.0[..last].to_vec(), DType::I64))
        }
        Op::Reduce { axes, keep, .. } => reduce(inputs[0], axes, *keep),
        Op::Softmax => {
            inputs[0].shape.last()?;
            Ok(inputs[0].clone())
        }
        Op::LayerNorm { .. } | Op::RmsNorm { .. } => norm(inputs),
        Op::GroupNorm { groups, .. } => group_norm(inputs, *groups),
        Op::Linear(epilogue) => linear(*epilogue, inputs),
        Op::Conv2d(conv, epilogue) => conv2d(*conv, *epilogue, inputs),
        Op::MatMul { transposed } => matmul(inputs[0], inputs[1], *transposed),
        Op::Attention(attention) => self::attention(attention, inputs),
        Op::Glu(_) => glu(inputs[0]),
        Op::Resize { height, width, .. } => {
            let [batch, _, _, channels] = rank(inputs[0])?;
            Ok(Signature::new(vec![batch, height.clone(), width.clone(), channels], inputs[0].dtype))
        }
        Op::Range { count, .. } => Ok(Signature::new(vec![count.clone()], DType::I64)),
        Op::Take { axis } => take(inputs[0], inputs[1], *axis),
        Op::Scatter(_) => scatter(inputs),
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
        Op::GroupedMatMul { transposed } => grouped_matmul(inputs, *transposed),
        Op::Recurrent { cell, .. } => recurrent(*cell, inputs),
        Op::Solve => solve(inputs[0], inputs[1]),
        Op::Cholesky => {
            matrices(inputs[0])?;
            Ok(inputs[0].clone())
        }
        Op::Determinant => {
            matrices(inputs[0])?;
            let shape = &inputs[0].shape.0;
            Ok(Signature::new(shape[..shape.len() - 2].to_vec(), inputs[0].dtype))
        }
        Op::Suppress { .. } => suppress(inputs[0]),
        Op::Regions(regions) => self::regions(regions, inputs[0], inputs[1]),
        Op::Measure { .. } => match inputs[0] {
            Signature { shape, dtype: DType::I64 } if shape.rank() == 0 => Ok(inputs[0].clone()),
            Signature { shape, dtype } => fail!(Shape, "{dtype} {shape} is no number of elements"),
        },
        Op::Loop(_) => fail!(Shape, "what a loop yields its graph knows"),
        Op::Unpack { signature, .. } => Ok(signature.clone()),
        Op::Native(native) => Ok(native.result.clone()),
    }
}

fn matrices(x: &Signature) -> Result<()> {
    match &x.shape.0[..] {
        [.., rows, columns] if rows == columns && x.dtype == DType::F32 => Ok(()),
        _ => fail!(Shape, "{} {} are no square matrices", x.dtype, x.shape),
    }
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

fn solve(a: &Signature, b: &Signature) -> Result<Signature> {
    matrices(a)?;
    same_dtype(&[a, b])?;
    let rank = a.shape.rank();
    if b.shape.rank() != rank || b.shape.0[..rank - 1] != a.shape.0[..rank - 1] {
        fail!(Shape, "equations of {} do not fit {}", a.shape, b.shape);
    }
    Ok(b.clone())
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
        Op::Scatter(_) | Op::GroupedMatMul { .. } => Some(3),
        Op::Recurrent { .. } => Some(4),
        Op::Measure { .. } | Op::Unpack { .. } | Op::Cholesky | Op::Determinant => Some(1),
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

fn binary(op: Binary, inputs: &[&Signature]) -> Result<Signature> {
    let shape = broadcast(&inputs[0].shape, &inputs[1].shape)?;
    let dtype = same_dtype(inputs)?;
    Ok(Signature::new(shape, if op.is_comparison() { DType::Bool } else { dtype }))
}

fn select(inputs: &[&Signature]) -> Result<Signature> {
    typed("a choice", inputs[0], &BYTES)?;
    let shape = broadcast(&inputs[0].shape, &broadcast(&inputs[1].shape, &inputs[2].shape)?)?;
    Ok(Signature::new(shape, same_dtype(&inputs[1..])?))
}

fn reshape(x: &Signature, shape: &Shape) -> Result<Signature> {
    let (from, to) = (x.shape.elements(), shape.elements());
    if from.fixed().is_some() && to.fixed().is_some() && from != to {
        fail!(Shape, "{} cannot be reshaped to {shape}", x.shape);
    }
    Ok(Signature::new(shape.clone(), x.dtype))
}

fn expand(x: &Signature, shape: &Shape) -> Result<Signature> {
    if broadcast(&x.shape, shape)? != *shape {
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

fn take_row(x: &Signature, positions: &Signature) -> Result<Signature> {
    let [batch, _, width] = rank(x)?;
    if positions.shape.0 != std::slice::from_ref(&batch) || !matches!(positions.dtype, DType::I64 | DType::I32) {
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

fn scatter(inputs: &[&Signature]) -> Result<Signature> {
    let [x, indices, rows] = inputs else { fail!(Shape, "scatter takes 3 inputs") };
    let [count] = rank(indices)?;
    let fits = x.shape.rank() > 0 && rows.shape.rank() > 0 && rows.shape.0[1..] == x.shape.0[1..];
    if !fits || rows.shape.0[0] != count || indices.dtype != DType::I64 || rows.dtype != x.dtype {
        fail!(Shape, "cannot scatter {} with indices {} into {}", rows.shape, indices.shape, x.shape);
    }
    Ok((*x).clone())
}

fn grouped_matmul(inputs: &[&Signature], transposed: bool) -> Result<Signature> {
    let [x, weight, ends] = inputs else { fail!(Shape, "a grouped product takes 3 inputs") };
    let ([rows, inner], [groups, a, b], [count]) = (rank(x)?, rank(weight)?, rank(ends)?);
    let (k, columns) = if transposed { (b, a) } else { (a, b) };
    if k != inner || groups != count || ends.dtype != DType::I64 {
        fail!(Shape, "cannot multiply {} by {} in groups that end at {}", x.shape, weight.shape, ends.shape);
    }
    typed("a factor", x, &[DType::F32])?;
    typed("a factor", weight, &[DType::F32])?;
    Ok(Signature::new(vec![rows, columns], x.dtype))
}

fn recurrent(cell: Cell, inputs: &[&Signature]) -> Result<Signature> {
    let [x, weight, bias, start] = inputs else { fail!(Shape, "a recurrent layer takes 4 inputs") };
    let ([steps, batch, width], [gates, hidden]) = (rank(x)?, rank(weight)?);
    let carried = &hidden * cell.carried();
    let fits = width == gates && gates == &hidden * cell.gates() && bias.shape.0 == [gates];
    if !fits || start.shape.0 != [batch.clone(), carried.clone()] {
        fail!(
            Shape,
            "a recurrent layer of weight {} does not fit an input of shape {} and a state of shape {}",
            weight.shape,
            x.shape,
            start.shape
        );
    }
    inputs.iter().try_for_each(|input| typed("an input", input, &[DType::F32]))?;
    Ok(Signature::new(vec![steps, batch, carried], x.dtype))
}

fn group_norm(inputs: &[&Signature], groups: usize) -> Result<Signature> {
    if inputs[0].shape.rank() < 2 {
        fail!(Shape, "groups of channels need at least 2 dimensions, got {}", inputs[0].shape);
    }
    let channels = inputs[0].shape.last()?.fixed();
    if groups == 0 || channels.is_none_or(|channels| channels % groups != 0) {
        fail!(Shape, "{groups} groups do not divide {} channels", inputs[0].shape.last()?);
    }
    norm(inputs)
}

fn glu(x: &Signature) -> Result<Signature> {
    let mut signature = x.clone();
    let last = x.shape.rank().saturating_sub(1);
    let Some(size) = x.shape.last()?.fixed().filter(|size| size % 2 == 0) else {
        fail!(Shape, "glu needs an even last dimension, got {}", x.shape);
    };
    signature.shape.0[last] = (size / 2).into();
    Ok(signature)
}

/// Types of truth values and masks: a byte each.
const BYTES: [DType; 3] = [DType::Bool, DType::U8, DType::I8];

/// Makes sure that `what` is of one of the types that machines read there.
fn typed(what: &str, input: &Signature, wanted: &[DType]) -> Result<()> {
    if !wanted.contains(&input.dtype) {
        let wanted: Vec<_> = wanted.iter().map(DType::to_string).collect();
        fail!(Shape, "{what} is of type {}, got {}", wanted.join(" or "), input.dtype);
    }
    Ok(())
}

fn same_dtype(inputs: &[&Signature]) -> Result<DType> {
    match inputs {
        [first, rest @ ..] if rest.iter().all(|s| s.dtype == first.dtype) => Ok(first.dtype),
        _ => fail!(Shape, "element types differ: {:?}", inputs.iter().map(|s| s.dtype).collect::<Vec<_>>()),
    }
}

fn dim_mut(shape: &mut Shape, axis: usize) -> Result<&mut Dim> {
    let rank = shape.rank();
    match shape.0.get_mut(axis) {
        Some(dim) => Ok(dim),
        None => fail!(Shape, "dimension {axis} does not exist in rank {rank}"),
    }
}

fn rank<const N: usize>(signature: &Signature) -> Result<[Dim; N]> {
    match <[Dim; N]>::try_from(signature.shape.0.clone()) {
        Ok(dims) => Ok(dims),
        Err(dims) => fail!(Shape, "needs {N} dimensions, got {}", Shape(dims)),
    }
}

/// The shape of an element-by-element operation on `a` and `b`, by numpy's rules.
pub fn broadcast(a: &Shape, b: &Shape) -> Result<Shape> {
    let (long, short) = if a.rank() >= b.rank() { (a, b) } else { (b, a) };
    let mut dims = long.0.clone();
    let one = Dim::from(1);
    let offset = long.rank() - short.rank();
    for (dim, other) in dims[offset..].iter_mut().zip(&short.0) {
        if *dim == one {
            *dim = other.clone();
        } else if *other != one && dim != other {
            fail!(Shape, "shapes {a} and {b} do not broadcast");
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

fn concat(inputs: &[&Signature], axis: usize) -> Result<Signature> {
    let [first, rest @ ..] = inputs else { fail!(Shape, "concat needs an input") };
    let mut result = (*first).clone();
    same_dtype(inputs)?;
    dim_mut(&mut result.shape, axis)?;
    for input in rest {
        let mut other = input.shape.clone();
        let added = dim_mut(&mut other, axis)?.clone();
        let size = dim_mut(&mut result.shape, axis)?;
        *dim_mut(&mut other, axis)? = size.clone();
        if other != result.shape {
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

fn norm(inputs: &[&Signature]) -> Result<Signature> {
    let width = inputs[0].shape.last()?;
    if !inputs[0].dtype.is_float() {
        fail!(Shape, "needs floating-point numbers, got {}", inputs[0].dtype);
    }
    for vector in &inputs[1..] {
        typed("a weight or bias", vector, &[DType::F32])?;
        if vector.shape.0 != std::slice::from_ref(width) {
            fail!(Shape, "the last dimension is {width}, its weight or bias {}", vector.shape);
        }
    }
    Ok(inputs[0].clone())
}

/// Checks the optional inputs that follow the weight, of `outputs` rows, and that there are no more.
fn check_epilogue(epilogue: Epilogue, inputs: &[&Signature], outputs: &Dim, result: &Signature) -> Result<()> {
    let wanted = 2 + usize::from(epilogue.bias) + usize::from(epilogue.residual);
    if inputs.len() != wanted {
        fail!(Shape, "takes {wanted} inputs, got {}", inputs.len());
    }
    let [x, weight, parameters @ ..] = inputs else { fail!(Shape, "needs an input and a weight") };
    typed("what is multiplied", x, &[DType::F32, DType::BF16])?;
    typed("a weight", weight, &[DType::F32])?;
    let (bias, residual) = parameters.split_at(usize::from(epilogue.bias));
    bias.iter().try_for_each(|bias| typed("a bias", bias, &[DType::F32]))?;
    residual.iter().try_for_each(|residual| typed("what is added", residual, &[DType::F32, DType::BF16]))?;
    if epilogue.bias && inputs[2].shape.0 != std::slice::from_ref(outputs) {
        fail!(Shape, "a bias of shape {} does not fit {outputs} outputs", inputs[2].shape);
    }
    match inputs.last() {
        Some(residual) if epilogue.residual && residual.shape != result.shape => {
            fail!(Shape, "cannot add {} to a result of shape {}", residual.shape, result.shape)
        }
        _ => Ok(()),
    }
}

fn linear(epilogue: Epilogue, inputs: &[&Signature]) -> Result<Signature> {
    let [x, weight, ..] = inputs else { fail!(Shape, "linear needs an input and a weight") };
    let [out, width, kernel @ ..] = weight.shape.0.as_slice() else {
        fail!(Shape, "a weight of shape {} is no matrix", weight.shape);
    };
    let last = x.shape.last()?;
    if last != width || kernel.iter().any(|size| *size != Dim::from(1)) {
        fail!(Shape, "a weight of shape {} does not fit an input of shape {}", weight.shape, x.shape);
    }
    let mut result = (*x).clone();
    result.shape.0.pop();
    result.shape.0.push(out.clone());
    if epilogue.gate {
        result = glu(&result)?;
    }
    check_epilogue(epilogue, inputs, out, &result)?;
    Ok(result)
}

fn conv2d(conv: Conv2d, epilogue: Epilogue, inputs: &[&Signature]) -> Result<Signature> {
    let [x, weight, ..] = inputs else { fail!(Shape, "conv2d needs an input and a weight") };
    let [batch, height, width, channels] = rank(x)?;
    let [out, group_channels, kernel_h, kernel_w] = rank(weight)?;
    let divides = out.fixed().is_some_and(|out| conv.groups > 0 && out % conv.groups == 0);
    if !divides || &group_channels * conv.groups != channels {
        fail!(
            Shape,
            "a weight of shape {} in {} groups does not fit an input of shape {} (channels last)",
            weight.shape,
            conv.groups,
            x.shape
        );
    }
    conv.check([&kernel_h, &kernel_w])?;
    let [top, bottom, left, right] = conv.padding;
    let scale = if conv.upsample { 2 } else { 1 };
    let along = |size: &Dim, before: usize, after: usize, kernel: &Dim, axis: usize| -> Result<Dim> {
        let Some(kernel) = kernel.fixed().filter(|&kernel| kernel > 0) else { fail!(Shape, "the kernel has no size") };
        let padded = &(&(size * scale) + before) + after;
        let reach = (kernel - 1) * conv.dilation[axis] + 1;
        let room = &padded - reach;
        if padded.fixed().is_some_and(|padded| padded < reach) {
            fail!(Shape, "a kernel of size {kernel} does not fit an input of shape {}", x.shape);
        }
        Ok(&room.floor_div(conv.stride[axis]) + 1)
    };
    let height = along(&height, top, bottom, &kernel_h, 0)?;
    let width = along(&width, left, right, &kernel_w, 1)?;
    if epilogue.gate {
        fail!(Unsupported, "convolutions are not gated");
    }
    let result = Signature::new(vec![batch, height, width, out.clone()], x.dtype);
    check_epilogue(epilogue, inputs, &out, &result)?;
    Ok(result)
}

fn matmul(a: &Signature, b: &Signature, transposed: bool) -> Result<Signature> {
    let (Some((a_head, [m, k])), Some((b_head, [b0, b1]))) =
        (a.shape.0.split_last_chunk::<2>(), b.shape.0.split_last_chunk::<2>())
    else {
        fail!(Shape, "matmul needs matrices, got {} and {}", a.shape, b.shape);
    };
    let dtype = match (a.dtype, b.dtype) {
        (DType::I8 | DType::U8, DType::I8) => DType::I32,
        _ => same_dtype(&[a, b])?,
    };
    let (inner, n) = if transposed { (b1, b0) } else { (b0, b1) };
    if inner != k || a_head != b_head {
        fail!(Shape, "cannot multiply {} by {}{}", a.shape, b.shape, if transposed { " transposed" } else { "" });
    }
    Ok(Signature::new(a_head.iter().chain([m, n]).collect::<Shape>(), dtype))
}

fn attention(attention: &Attention, inputs: &[&Signature]) -> Result<Signature> {
    let wanted = if attention.mask == Mask::None { 3 } else { 4 };
    if inputs.len() != wanted {
        fail!(Shape, "attention takes {wanted} inputs, got {}", inputs.len());
    }
    let [batch, queries, width] = rank(inputs[0])?;
    let [k_batch, keys, k_width] = rank(inputs[1])?;
    let [v_batch, values, v_width] = rank(inputs[2])?;
    let Attention { heads, kv_heads, mask, .. } = *attention;
    same_dtype(&inputs[..3])?;
    let split = |width: &Dim, heads: usize| width.fixed().filter(|w| heads > 0 && w % heads == 0).map(|w| w / heads);
    let (head_dim, k_dim, v_dim) = (split(&width, heads), split(&k_width, kv_heads), split(&v_width, kv_heads));
    let Some(v_dim) = v_dim.filter(|_| head_dim.is_some() && head_dim == k_dim && heads % kv_heads == 0) else {
        fail!(Shape, "{heads} heads ({kv_heads} for keys) do not fit widths {width}, {k_width} and {v_width}");
    };
    if k_batch != batch || v_batch != batch || values != keys {
        fail!(Shape, "queries {}, keys {} and values {} differ", inputs[0].shape, inputs[1].shape, inputs[2].shape);
    }
    match mask {
        Mask::None => {}
        Mask::Keys => typed("a mask of keys", inputs[3], &BYTES)?,
        Mask::Additive => typed("an additive mask", inputs[3], &[DType::F32])?,
    }
    if mask == Mask::Keys && inputs[3].shape != Shape(vec![batch.clone(), keys]) {
        fail!(Shape, "a key mask of shape {} does not fit keys of shape {}", inputs[3].shape, inputs[1].shape);
    }
    if mask == Mask::Additive && inputs[3].shape.rank() != 4 {
        fail!(Shape, "an additive mask has 4 dimensions, got {}", inputs[3].shape);
    }
    Ok(Signature::new(vec![batch, queries, (heads * v_dim).into()], inputs[0].dtype))
}
