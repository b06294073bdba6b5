//! Pooling, resizing and sampling of feature maps.

use ondine_graph::{
    Binary, DType, Dim, Fold, Interpolation, Kernel, NDArray, Op, Pooling, Reduce, Resample, Result, Scatter, Unary,
    Window, fail,
};

use super::{
    index::put,
    norm::channels_last,
    reduce::reduce,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, check_list},
    call::{Call, Item},
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
    Rule::new("max_unpool2d", unpool),
    Rule::new("max_unpool3d", unpool),
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

fn resize(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let name = if call.has("input") { "input" } else { "self" };
    let x = call.float_tensor(builder, name)?;
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
    if n == 2 && (0..2).all(whole) && !align_corners && !antialias && matches!(kernel, Kernel::Nearest | Kernel::Linear)
    {
        let how = if kernel == Kernel::Nearest { Resample::Nearest } else { Resample::Bilinear };
        value = builder.graph.resize(value, how, sizes[0].clone(), sizes[1].clone())?;
        return one(Builder::ordered(value, &order));
    }
    for (i, size) in sizes.iter().enumerate() {
        let how = Interpolation { kernel, align_corners, scale: scales.get(i).copied(), antialias };
        if builder.graph.dim(value, 1 + i) == *size
            && (align_corners || scales.get(i).is_none_or(|&scale| scale == 1.0))
        {
            continue;
        }
        value = builder.graph.push(Op::Interpolate { axis: 1 + i, size: size.clone(), how }, &[value])?;
    }
    one(Builder::ordered(value, &order))
}

/// For each window along all dimensions the place of its largest element, row by row.
fn largest_places(builder: &mut Builder, x: &Tensor, windows: &[Window], out: &[Dim]) -> Result<Tensor> {
    let n = windows.len();
    let Some(head) = x.rank().checked_sub(n) else { fail!(Shape, "{n} windows in rank {}", x.rank()) };
    let mut y = builder.cast(x, DType::F32)?;
    let mut split = builder.shape(x)[..head].to_vec();
    // Of each dimension: for each window and tap the element; taps that are not there repeat the last.
    let mut elements: Vec<Vec<Vec<usize>>> = Vec::new();
    let mut sizes = Vec::new();
    for (i, window) in windows.iter().enumerate() {
        let there = out.get(head + i).and_then(Dim::fixed);
        let (Some(size), Some(count)) = (builder.dim(x, head + i).fixed(), there) else {
            fail!(Unsupported, "places in a map of unknown size");
        };
        check_list(&[size, count])?;
        let placed = window.place(size, count);
        let taps = placed.windows.iter().map(|window| window.1).max().unwrap_or(0);
        if taps == 0 || placed.windows.iter().any(|window| window.1 == 0) {
            fail!(Shape, "a window without elements");
        }
        let tap = |&(first, there, _): &(usize, usize, usize)| {
            (0..taps).map(move |tap| first + tap.min(there - 1) * placed.dilation).collect::<Vec<_>>()
        };
        let list: Vec<Vec<usize>> = placed.windows.iter().map(tap).collect();
        let flat: Vec<i64> = list.iter().flatten().map(|&place| place as i64).collect();
        let indices = builder.graph.constant(NDArray::new(&[flat.len()], &flat)?);
        let indices = builder.plain(indices);
        y = builder.take(&y, head + i, &indices)?;
        split.extend([Dim::from(count), taps.into()]);
        elements.push(list);
        sizes.push(size);
    }
    check_list(&elements.iter().flat_map(|list| [list.len(), list[0].len()]).collect::<Vec<_>>())?;
    let y = builder.reshape(&y, &split)?;
    let order: Vec<usize> =
        (0..head).chain((0..n).map(|i| head + 2 * i)).chain((0..n).map(|i| head + 2 * i + 1)).collect();
    let y = Builder::permuted(&y, &order);
    let (windows, taps): (usize, usize) =
        (elements.iter().map(Vec::len).product(), elements.iter().map(|list| list[0].len()).product());
    let mut shape = split[..head].to_vec();
    shape.extend([Dim::from(windows), taps.into()]);
    let y = builder.reshape(&y, &shape)?;
    let value = builder.dense(&y)?;
    let value = builder.graph.push(Op::ArgMax, &[value])?;
    let tap = builder.plain(value);
    // Which element of the map a tap of a window is.
    let mut table = Vec::with_capacity(windows * taps);
    for index in 0..windows * taps {
        let (mut window, mut tap, mut place, mut stride) = (index / taps, index % taps, 0, 1);
        for (list, size) in elements.iter().zip(&sizes).rev() {
            place += list[window % list.len()][tap % list[0].len()] * stride;
            window /= list.len();
            tap /= list[0].len();
            stride *= size;
        }
        table.push(place as i64);
    }
    let table = builder.graph.constant(NDArray::new(&[table.len()], &table)?);
    let table = builder.plain(table);
    let first = builder.range(&0.into(), taps as i64, &windows.into())?;
    let index = builder.binary(Binary::Add, &tap, &first)?;
    let places = builder.take(&table, 0, &index)?;
    builder.reshape(&places, out)
}

/// Elements back at the places where a pooling found them; zeros elsewhere.
fn unpool(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, indices) = (call.float_tensor(builder, "self")?, call.tensor("indices")?);
    let out = call.out_shape(0)?;
    let n = dimensions(call.op);
    let Some(head) = x.rank().checked_sub(n).filter(|_| out.len() == x.rank()) else {
        fail!(Shape, "max_unpool of rank {}", x.rank());
    };
    let flat = |shape: &[Dim]| {
        let last = shape[head..].iter().fold(Dim::from(1), |product, dim| &product * dim);
        [&shape[..head], &[last]].concat()
    };
    let shape = flat(&builder.shape(&x));
    let (x, indices) = (builder.reshape(&x, &shape)?, builder.reshape(&indices, &shape)?);
    let zero = builder.number(0.0, DType::F32)?;
    let whole = builder.expand(&zero, &flat(&out))?;
    let whole = put(builder, Scatter::Replace, &whole, head, &indices, &x)?;
    one(builder.reshape(&whole, &out)?)
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

    /// Blocks along a dimension.
    fn count(&self, axis: usize, size: usize) -> Result<usize> {
        let reach = self.dilation[axis].saturating_mul(self.kernel[axis].max(1) - 1).saturating_add(1);
        match size.saturating_add(self.padding[axis].saturating_mul(2)).checked_sub(reach) {
            Some(room) if self.stride[axis] > 0 => {
                let count = room / self.stride[axis] + 1;
                check_list(&[self.kernel[axis], count])?;
                Ok(count)
            }
            _ => fail!(Shape, "a block of {reach} does not fit a dimension of {size}"),
        }
    }

    /// For each tap and block of a dimension the padded position it reads.
    fn positions(&self, axis: usize, count: usize) -> Vec<i64> {
        let taps = 0..self.kernel[axis];
        taps.flat_map(|tap| (0..count).map(move |block| (tap, block)))
            .map(|(tap, block)| (block * self.stride[axis] + tap * self.dilation[axis]) as i64)
            .collect()
    }
}

fn im2col(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let blocks = Blocks::new(call)?;
    let mut y = x.clone();
    let mut split = builder.shape(&x)[..2].to_vec();
    for axis in 0..2 {
        let Some(size) = builder.dim(&x, 2 + axis).fixed() else { fail!(Unsupported, "im2col of an unknown size") };
        let count = blocks.count(axis, size)?;
        let mut amounts = vec![[0; 2]; 4];
        amounts[y.axes[2 + axis]] = [blocks.padding[axis]; 2];
        let value = builder.graph.push(Op::Pad { amounts }, &[y.value])?;
        y = Tensor { value, axes: y.axes };
        let positions = blocks.positions(axis, count);
        let indices = builder.graph.constant(NDArray::new(&[positions.len()], &positions)?);
        let indices = builder.plain(indices);
        y = builder.take(&y, 2 + axis, &indices)?;
        split.extend([Dim::from(blocks.kernel[axis]), count.into()]);
    }
    let y = builder.reshape(&y, &split)?;
    let y = Builder::permuted(&y, &[0, 1, 2, 4, 3, 5]);
    one(builder.reshape(&y, &call.out_shape(0)?)?)
}

/// Adds blocks where they overlap: rows of a matrix scattered into those of the padded image.
fn col2im(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let blocks = Blocks::new(call)?;
    let size = call.sizes("output_size", 2, 1)?;
    let count = [blocks.count(0, size[0])?, blocks.count(1, size[1])?];
    let padded = [0, 1].map(|axis| size[axis] + 2 * blocks.padding[axis]);
    let (rows, columns) = (blocks.positions(0, count[0]), blocks.positions(1, count[1]));
    let places: Vec<i64> =
        rows.iter().flat_map(|row| columns.iter().map(move |column| row * padded[1] as i64 + column)).collect();
    let shape = call.out_shape(0)?;
    let [batch, channels] = [shape[0].clone(), shape[1].clone()];
    let [kh, kw, ch, cw] = [blocks.kernel[0], blocks.kernel[1], count[0], count[1]].map(Dim::from);
    let y = builder.reshape(&x, &[batch.clone(), channels.clone(), kh, kw, ch, cw])?;
    // Taps and blocks in the order of the places, then whatever moves together.
    let y = Builder::permuted(&y, &[2, 4, 3, 5, 0, 1]);
    let y = builder.reshape(&y, &[places.len().into(), batch.clone(), channels.clone()])?;
    let indices = builder.graph.constant(NDArray::new(&[places.len()], &places)?);
    let indices = builder.plain(indices);
    let zero = builder.number(0.0, DType::F32)?;
    let base = builder.expand(&zero, &[(padded[0] * padded[1]).into(), batch.clone(), channels.clone()])?;
    let summed = builder.scatter_rows(Scatter::Add, &base, 0, &indices, &y)?;
    let image = builder.reshape(&summed, &[padded[0].into(), padded[1].into(), batch, channels])?;
    let mut image = Builder::permuted(&image, &[2, 3, 0, 1]);
    for (axis, size) in size.into_iter().enumerate() {
        let start = blocks.padding[axis];
        image = builder.slice(&image, 2 + axis, &start.into(), &(start + size).into())?;
    }
    one(image)
}
