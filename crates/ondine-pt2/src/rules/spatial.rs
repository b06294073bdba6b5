//! Pooling, resizing and sampling of feature maps.

use ondine_graph::{
    Binary, DType, Dim, DimPair, Fold, Interpolation, Kernel, Op, Pooling, Reduce, Resample, Result, Scatter, Unary,
    Window, fail,
};

use super::{
    elementwise::finish,
    norm::channels_last,
    reduce::reduce,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, check_list},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("max_pool1d", windows),
    Rule::new("max_pool2d", windows),
    Rule::new("max_pool3d", windows),
    Rule::new("max_pool1d_with_indices", windows),
    Rule::new("max_pool2d_with_indices", windows),
    Rule::new("max_pool3d_with_indices", windows),
    Rule::new("avg_pool1d", windows),
    Rule::new("avg_pool2d", windows),
    Rule::new("avg_pool3d", windows),
    Rule::new("adaptive_avg_pool1d", adaptive),
    Rule::new("adaptive_avg_pool2d", adaptive),
    Rule::new("adaptive_avg_pool3d", adaptive),
    Rule::new("_adaptive_avg_pool2d", adaptive),
    Rule::new("_adaptive_avg_pool3d", adaptive),
    Rule::new("adaptive_max_pool1d", adaptive),
    Rule::new("adaptive_max_pool2d", adaptive),
    Rule::new("adaptive_max_pool3d", adaptive),
    Rule::new("upsample_nearest1d", resize),
    Rule::new("upsample_nearest2d", resize),
    Rule::new("upsample_nearest3d", resize),
    Rule::new("_upsample_nearest_exact1d", resize),
    Rule::new("_upsample_nearest_exact2d", resize),
    Rule::new("_upsample_nearest_exact3d", resize),
    Rule::new("upsample_linear1d", resize),
    Rule::new("upsample_bilinear2d", resize),
    Rule::new("upsample_trilinear3d", resize),
    Rule::new("upsample_bicubic2d", resize),
    Rule::new("_upsample_bilinear2d_aa", resize),
    Rule::new("_upsample_bicubic2d_aa", resize),
    Rule::new("im2col", im2col),
    Rule::new("col2im", col2im),
];

/// `x` with a batch dimension, if it lacks one for `n` spatial dimensions.
fn batched(builder: &mut Builder, x: &Tensor, n: usize) -> Result<(Tensor, bool)> {
    if x.rank() != n + 1 {
        return Ok((x.clone(), false));
    }
    let shape: Vec<Dim> = std::iter::once(Dim::from(1)).chain(builder.shape(x)).collect();
    Ok((builder.reshape(x, &shape)?, true))
}

/// The number of spatial dimensions, which the operator's name holds.
fn dimensions(op: &str) -> usize {
    [1, 2, 3].into_iter().find(|n| op.contains(&format!("{n}d"))).unwrap_or(2)
}

fn pool(builder: &mut Builder, x: &Tensor, pooling: Pooling) -> Result<Tensor> {
    let x = builder.cast(x, DType::F32)?;
    let (x, unbatched) = batched(builder, &x, pooling.windows.len())?;
    let (value, order) = channels_last(builder, &x)?;
    let value = builder.graph.push(Op::Pool(pooling), &[value])?;
    let pooled = Builder::ordered(value, &order);
    if unbatched { builder.without(&pooled, 0) } else { Ok(pooled) }
}

fn windows(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let n = dimensions(call.op);
    let kernel = call.sizes("kernel_size", n, 1)?;
    let mut stride = call.sizes("stride", n, 0)?;
    if stride.iter().all(|&stride| stride == 0) {
        stride.clone_from(&kernel);
    }
    let (padding, dilation) = (call.sizes("padding", n, 0)?, call.sizes("dilation", n, 1)?);
    let (ceil, counted) = (call.flag("ceil_mode", false)?, call.flag("count_include_pad", true)?);
    let fold = if call.op.starts_with("max") { Fold::Max } else { Fold::Average };
    let window = |i: usize| Window::Sliding {
        kernel: kernel[i],
        stride: stride[i],
        padding: padding[i],
        dilation: dilation[i],
        ceil,
        counted: counted && fold == Fold::Average,
    };
    let given = call.integer("divisor_override", 0)?;
    let divisor = usize::try_from(given.unsigned_abs()).ok().filter(|&divisor| divisor > 0);
    let windows: Vec<Window> = (0..n).map(window).collect();
    let mut pooled = pool(builder, &x, Pooling { fold, windows: windows.clone(), divisor })?;
    if given < 0 {
        pooled = builder.unary(Unary::Neg, &pooled)?;
    }
    with_places(builder, call, &x, &windows, pooled)
}

/// What is pooled and, if the call yields them, the places of it.
fn with_places(
    builder: &mut Builder,
    call: &Call<'_>,
    x: &Tensor,
    windows: &[Window],
    pooled: Tensor,
) -> Result<Vec<Item>> {
    let mut items = vec![Item::Tensor(pooled)];
    if call.output_names().get(1).is_some_and(Option::is_some) {
        items.push(Item::Tensor(largest_places(builder, x, windows, &call.out_shape(1)?)?));
    }
    Ok(items)
}

fn adaptive(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let n = dimensions(call.op);
    let sizes = &call.out_tail(0, n)?;
    let largest = call.op.contains("max");
    let windows: Vec<Window> = sizes.iter().cloned().map(Window::Adaptive).collect();
    if sizes.iter().all(|size| size.fixed() == Some(1)) {
        let axes: Vec<usize> = (x.rank() - n..x.rank()).collect();
        let x = builder.cast(&x, DType::F32)?;
        let how = if largest { Reduce::Max } else { Reduce::Mean };
        let pooled = reduce(builder, how, &x, &axes, true)?;
        return with_places(builder, call, &x, &windows, pooled);
    }
    let fold = if largest { Fold::Max } else { Fold::Average };
    let pooled = pool(builder, &x, Pooling { fold, windows: windows.clone(), divisor: None })?;
    with_places(builder, call, &x, &windows, pooled)
}

/// Feature maps of another size. Bytes are rounded, half a unit up, after each dimension, the last one first.
fn resize(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let name = if call.has("input") { "input" } else { "self" };
    let x = call.float_tensor(builder, name)?;
    let bytes = call.out_dtype(0)? == DType::U8;
    let n = dimensions(call.op);
    let sizes = &call.out_tail(0, n)?;
    let mut scales = call.floats("scale_factors")?;
    if scales.is_empty() {
        let each = if n == 1 { vec!["scales"] } else { vec!["scales_d", "scales_h", "scales_w"][3 - n..].to_vec() };
        for name in each {
            scales.extend(if call.has(name) { Some(call.float(name, 0.0)?) } else { None });
        }
    }
    let kernel = match call.op {
        op if op.contains("exact") => Kernel::NearestExact,
        op if op.contains("nearest") => Kernel::Nearest,
        op if op.contains("cubic") => Kernel::Cubic,
        _ => Kernel::Linear,
    };
    let (align_corners, antialias) = (call.flag("align_corners", false)?, call.op.ends_with("_aa"));
    let (mut value, order) = channels_last(builder, &x)?;
    let whole = |i: usize| {
        let (from, to) = (builder.dim(&x, x.rank() - n + i), &sizes[i]);
        scales.get(i).is_none_or(|scale| match (from.fixed(), to.fixed()) {
            (Some(from), Some(to)) => (from as f64 * scale - to as f64).abs() < 1e-6,
            _ => scale.fract() == 0.0,
        })
    };
    if n == 2
        && (0..2).all(whole)
        && !bytes
        && !align_corners
        && !antialias
        && matches!(kernel, Kernel::Nearest | Kernel::Linear)
    {
        let how = if kernel == Kernel::Nearest { Resample::Nearest } else { Resample::Bilinear };
        value = builder.graph.resize(value, how, sizes[0].clone(), sizes[1].clone())?;
        return one(Builder::ordered(value, &order));
    }
    let turns: Vec<usize> = if bytes { (0..n).rev().collect() } else { (0..n).collect() };
    for i in turns {
        let size = &sizes[i];
        let how = Interpolation { kernel, align_corners, scale: scales.get(i).copied(), antialias };
        if builder.graph.dim(value, 1 + i) == *size
            && (align_corners || scales.get(i).is_none_or(|&scale| scale == 1.0))
        {
            continue;
        }
        value = builder.graph.push(Op::Interpolate { axis: 1 + i, size: size.clone(), how }, &[value])?;
        if bytes {
            let near = (Formula::of(&builder.plain(value)) + 0.5).floor().max(0.0).min(255.0);
            value = near.build(builder)?.value;
        }
    }
    finish(builder, call, &Builder::ordered(value, &order))
}

/// For each window along all dimensions the place of its largest element, row by row.
fn largest_places(builder: &mut Builder, x: &Tensor, windows: &[Window], out: &[Dim]) -> Result<Tensor> {
    let n = windows.len();
    let Some(head) = x.rank().checked_sub(n).filter(|_| out.len() == x.rank()) else {
        fail!(Shape, "{n} windows in rank {}", x.rank());
    };
    let shape = builder.shape(x);
    let mut y = builder.cast(x, DType::F32)?;
    let (mut elements, mut counts, mut taps) = (Vec::new(), Vec::new(), Vec::new());
    for (i, window) in windows.iter().enumerate() {
        let places = tapped(builder, window, &shape[head + i], &out[head + i])?;
        let both = builder.shape(&places);
        check_list(&[both[0].fixed().unwrap_or(1), both[1].fixed().unwrap_or(1)])?;
        // Dimensions before this one have become two.
        y = builder.take_places(&y, head + 2 * i, &places)?;
        counts.push(both[0].clone());
        taps.push(both[1].clone());
        elements.push(places);
    }
    let order: Vec<usize> =
        (0..head).chain((0..n).map(|i| head + 2 * i)).chain((0..n).map(|i| head + 2 * i + 1)).collect();
    let y = Builder::permuted(&y, &order);
    let (all, each) = (count_of(&counts), count_of(&taps));
    let y = builder.reshape(&y, &[&shape[..head], &[all.clone(), each.clone()]].concat())?;
    let value = builder.dense(&y)?;
    let value = builder.graph.push(Op::ArgMax, &[value])?;
    let tap = builder.plain(value);
    // Which element of the map a tap of a window is.
    let mut table: Option<Tensor> = None;
    for (i, places) in elements.iter().enumerate() {
        let mut wide = vec![Dim::from(1); 2 * n];
        (wide[i], wide[n + i]) = (counts[i].clone(), taps[i].clone());
        let places = builder.reshape(places, &wide)?;
        let places = builder.with_size(Binary::Mul, &places, &count_of(&shape[head + i + 1..]))?;
        table = Some(match table {
            Some(table) => builder.binary(Binary::Add, &table, &places)?,
            None => places,
        });
    }
    let Some(table) = table else { fail!(Shape, "a window of no dimension") };
    let table = builder.reshape(&table, &[&all * &each])?;
    let first = builder.range(&0.into(), 1, &all)?;
    let first = builder.with_size(Binary::Mul, &first, &each)?;
    let index = builder.binary(Binary::Add, &tap, &first)?;
    let places = builder.take(&table, 0, &index)?;
    builder.reshape(&places, out)
}

fn count_of(sizes: &[Dim]) -> Dim {
    sizes.iter().fold(Dim::from(1), |product, size| &product * size)
}

/// For each of `count` windows along a dimension of `size` its elements; taps that are not there repeat the nearest
/// that is.
fn tapped(builder: &mut Builder, window: &Window, size: &Dim, count: &Dim) -> Result<Tensor> {
    match *window {
        Window::Sliding { kernel, stride, padding, dilation, .. } => {
            let [Ok(stride), Ok(padding), Ok(apart)] = [stride, padding, dilation].map(i64::try_from) else {
                fail!(Shape, "a window that is too large");
            };
            let places = builder.places(&Dim::from_i64(-padding), stride, count, apart, &kernel.into())?;
            // The first and the last elements of a window that are there are as far from each other as all are.
            let first = builder.with_size(Binary::Remainder, &places, &Dim::from_i64(apart))?;
            let places = builder.binary(Binary::Max, &places, &first)?;
            let end = builder.integer(&(size - 1))?;
            let left = builder.binary(Binary::Sub, &end, &places)?;
            let left = builder.with_size(Binary::Remainder, &left, &Dim::from_i64(apart))?;
            let last = builder.binary(Binary::Sub, &end, &left)?;
            builder.binary(Binary::Min, &places, &last)
        }
        // From floor(i * size / count) up to before ceil((i + 1) * size / count).
        Window::Adaptive(_) => {
            let taps = match (size.fixed(), count.fixed()) {
                (Some(size), Some(count @ 1..)) if size.is_multiple_of(count) => Dim::from(size / count),
                _ => &(&(size + count) - 1).pair(DimPair::Quotient, count) + 1,
            };
            let window = builder.range(&0.into(), 1, count)?;
            let window = builder.reshape(&window, &[count.clone(), 1.into()])?;
            let start = builder.with_size(Binary::Mul, &window, size)?;
            let start = builder.with_size(Binary::FloorDiv, &start, count)?;
            let next = builder.with_size(Binary::Add, &window, &1.into())?;
            let end = builder.with_size(Binary::Mul, &next, size)?;
            let end = builder.with_size(Binary::Add, &end, &(count - 1))?;
            let end = builder.with_size(Binary::FloorDiv, &end, count)?;
            let last = builder.with_size(Binary::Sub, &end, &1.into())?;
            let tap = builder.range(&0.into(), 1, &taps)?;
            let places = builder.binary(Binary::Add, &start, &tap)?;
            builder.binary(Binary::Min, &places, &last)
        }
    }
}

/// Kernel, dilation, padding and stride of sliding blocks along height and width.
struct Blocks {
    kernel: Vec<usize>,
    dilation: Vec<usize>,
    padding: Vec<usize>,
    stride: Vec<usize>,
}

impl Blocks {
    fn new(call: &Call<'_>) -> Result<Self> {
        Ok(Self {
            kernel: call.sizes("kernel_size", 2, 1)?,
            dilation: call.sizes("dilation", 2, 1)?,
            padding: call.sizes("padding", 2, 0)?,
            stride: call.sizes("stride", 2, 1)?,
        })
    }

    /// How many blocks there are along a dimension.
    fn count(&self, axis: usize, size: &Dim) -> Result<Dim> {
        let reach = self.dilation[axis].saturating_mul(self.kernel[axis].max(1) - 1).saturating_add(1);
        let padded = size + self.padding[axis].saturating_mul(2);
        if self.stride[axis] == 0 || padded.fixed().is_some_and(|padded| padded < reach) {
            fail!(Shape, "a block of {reach} does not fit a dimension of {size}");
        }
        let count = &(&padded - reach).floor_div(self.stride[axis]) + 1;
        check_list(&[self.kernel[axis], count.fixed().unwrap_or(1)])?;
        Ok(count)
    }

    /// For each tap and block of a dimension the padded position it reads: `[taps, blocks]`.
    fn positions(&self, builder: &mut Builder, axis: usize, count: &Dim) -> Result<Tensor> {
        let [Ok(apart), Ok(stride)] = [self.dilation[axis], self.stride[axis]].map(i64::try_from) else {
            fail!(Shape, "blocks that are too far from each other");
        };
        builder.places(&0.into(), apart, &self.kernel[axis].into(), stride, count)
    }
}

fn im2col(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let blocks = Blocks::new(call)?;
    let mut y = x.clone();
    for axis in 0..2 {
        let count = blocks.count(axis, &builder.dim(&x, 2 + axis))?;
        // The first dimension has become two.
        let at = 2 + 2 * axis;
        let mut amounts = vec![[0; 2]; y.rank()];
        amounts[y.axes[at]] = [blocks.padding[axis]; 2];
        let value = builder.graph.push(Op::Pad { amounts }, &[y.value])?;
        y = Tensor { value, axes: y.axes };
        let positions = blocks.positions(builder, axis, &count)?;
        y = builder.take_places(&y, at, &positions)?;
    }
    let y = Builder::permuted(&y, &[0, 1, 2, 4, 3, 5]);
    one(builder.reshape(&y, &call.out_shape(0)?)?)
}

/// Adds blocks where they overlap: rows of a matrix scattered into those of the padded image.
fn col2im(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let blocks = Blocks::new(call)?;
    let size = call.dims("output_size")?;
    let [height, width] = &size[..] else { fail!(Shape, "an image of {} dimensions", size.len()) };
    let count = [blocks.count(0, height)?, blocks.count(1, width)?];
    let padded = [height + 2 * blocks.padding[0], width + 2 * blocks.padding[1]];
    let (rows, columns) = (blocks.positions(builder, 0, &count[0])?, blocks.positions(builder, 1, &count[1])?);
    let (down, across) = (builder.shape(&rows), builder.shape(&columns));
    let rows = builder.with_size(Binary::Mul, &rows, &padded[1])?;
    let rows = builder.reshape(&rows, &[count_of(&down), 1.into()])?;
    let columns = builder.reshape(&columns, &[1.into(), count_of(&across)])?;
    let places = builder.binary(Binary::Add, &rows, &columns)?;
    let all = &count_of(&down) * &count_of(&across);
    let indices = builder.reshape(&places, std::slice::from_ref(&all))?;
    let shape = call.out_shape(0)?;
    let [batch, channels] = [shape[0].clone(), shape[1].clone()];
    let [kh, kw, ch, cw] = [blocks.kernel[0].into(), blocks.kernel[1].into(), count[0].clone(), count[1].clone()];
    let y = builder.reshape(&x, &[batch.clone(), channels.clone(), kh, kw, ch, cw])?;
    // Taps and blocks in the order of the places, then whatever moves together.
    let y = Builder::permuted(&y, &[2, 4, 3, 5, 0, 1]);
    let y = builder.reshape(&y, &[all, batch.clone(), channels.clone()])?;
    let zero = builder.number(0.0, DType::F32)?;
    let base = builder.expand(&zero, &[&padded[0] * &padded[1], batch.clone(), channels.clone()])?;
    let summed = builder.scatter_rows(Scatter::Add, &base, 0, &indices, &y)?;
    let image = builder.reshape(&summed, &[padded[0].clone(), padded[1].clone(), batch, channels])?;
    let mut image = Builder::permuted(&image, &[2, 3, 0, 1]);
    for (axis, size) in size.iter().enumerate() {
        let start = blocks.padding[axis];
        image = builder.slice(&image, 2 + axis, &start.into(), &(size + start))?;
    }
    one(image)
}
