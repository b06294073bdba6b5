//! Pooling, resizing and sampling of feature maps.

use super::{Builder, Call, Item, Rule, Tensor, norm::channels_last, one};
use crate::{
    dim::Dim,
    dtype::DType,
    error::{Result, fail},
    op::{Binary, Fold, Function, Interpolation, Kernel, Op, Pooling, Reduce, Resample, Window},
};

pub(super) fn rule(op: &str) -> Option<Rule> {
    Some(match op {
        "max_pool1d"
        | "max_pool2d"
        | "max_pool3d"
        | "max_pool2d_with_indices"
        | "max_pool3d_with_indices"
        | "avg_pool1d"
        | "avg_pool2d"
        | "avg_pool3d" => windows,
        "adaptive_avg_pool1d"
        | "adaptive_avg_pool2d"
        | "adaptive_avg_pool3d"
        | "_adaptive_avg_pool2d"
        | "_adaptive_avg_pool3d"
        | "adaptive_max_pool1d"
        | "adaptive_max_pool2d"
        | "adaptive_max_pool3d" => adaptive,
        "upsample_nearest1d"
        | "upsample_nearest2d"
        | "upsample_nearest3d"
        | "_upsample_nearest_exact1d"
        | "_upsample_nearest_exact2d"
        | "_upsample_nearest_exact3d"
        | "upsample_linear1d"
        | "upsample_bilinear2d"
        | "upsample_trilinear3d"
        | "upsample_bicubic2d"
        | "_upsample_bilinear2d_aa"
        | "_upsample_bicubic2d_aa" => resize,
        "grid_sampler" | "grid_sampler_2d" => grid_sampler,
        "im2col" => im2col,
        "col2im" => col2im,
        _ => return None,
    })
}

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
    if unbatched { super::view::without(builder, &pooled, 0) } else { Ok(pooled) }
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
    let divisor = usize::try_from(call.integer("divisor_override", 0)?).ok().filter(|&divisor| divisor > 0);
    one(pool(builder, &x, Pooling { fold, windows: (0..n).map(window).collect(), divisor })?)
}

fn adaptive(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let n = dimensions(call.op);
    let out = call.out_shape(0)?;
    let sizes = &out[out.len() - n..];
    let largest = call.op.contains("max");
    if sizes.iter().all(|size| size.fixed() == Some(1)) {
        let axes: Vec<usize> = (x.rank() - n..x.rank()).collect();
        let x = builder.cast(&x, DType::F32)?;
        let how = if largest { Reduce::Max } else { Reduce::Mean };
        return one(super::reduce::reduce(builder, how, &x, &axes, true)?);
    }
    let fold = if largest { Fold::Max } else { Fold::Average };
    let windows = sizes.iter().cloned().map(Window::Adaptive).collect();
    one(pool(builder, &x, Pooling { fold, windows, divisor: None })?)
}

fn resize(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let name = if call.has("input") { "input" } else { "self" };
    let x = call.float_tensor(builder, name)?;
    let n = dimensions(call.op);
    let out = call.out_shape(0)?;
    let sizes = &out[out.len() - n..];
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

/// Samples at places that a tensor says, `[batch, height, width, (x, y)]`, each between -1 and 1.
fn grid_sampler(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, grid) = (call.float_tensor(builder, "input")?, call.float_tensor(builder, "grid")?);
    let (mode, padding) = (call.integer("interpolation_mode", 0)?, call.integer("padding_mode", 0)?);
    let aligned = call.flag("align_corners", false)?;
    if x.rank() != 4 || mode > 1 || padding > 1 {
        fail!(Unsupported, "grid_sampler of rank {} with mode {mode} and padding {padding}", x.rank());
    }
    let shape = builder.shape(&x);
    let sizes: Option<Vec<usize>> = shape.iter().map(Dim::fixed).collect();
    let Some([batch, channels, height, width]) = sizes.as_deref().and_then(|sizes| <[usize; 4]>::try_from(sizes).ok())
    else {
        fail!(Unsupported, "grid_sampler of a map of unknown size");
    };
    let places = builder.shape(&grid)[..3].to_vec();
    let mut coordinates = Vec::new();
    for (index, size) in [width, height].into_iter().enumerate() {
        let part = builder.slice(&grid, 3, &index.into(), &(index + 1).into())?;
        let part = super::view::without(builder, &part, 3)?;
        let (n, half) = (size as f64, size as f64 / 2.0);
        let place = if aligned {
            builder.affine(&part, (n - 1.0) / 2.0, (n - 1.0) / 2.0)?
        } else {
            builder.affine(&part, half, half - 0.5)?
        };
        let place =
            if padding == 1 { super::elementwise::between(builder, &place, Some(0.0), Some(n - 1.0))? } else { place };
        coordinates.push(place);
    }
    // One row per pixel, batch by batch.
    let (value, _) = channels_last(builder, &x)?;
    let value = builder.graph.reshape(value, [batch * height * width, channels])?;
    let table = builder.plain(value);
    let first = builder.range(&0.into(), (height * width) as i64, &batch.into())?;
    let first = builder.reshape(&first, &[batch.into(), 1.into(), 1.into()])?;
    let low = if mode == 0 {
        [builder.function(Function::Floor, &coordinates[0])?, builder.function(Function::Floor, &coordinates[1])?]
    } else {
        [builder.function(Function::Round, &coordinates[0])?, builder.function(Function::Round, &coordinates[1])?]
    };
    let corners: &[[f64; 2]] = if mode == 0 { &[[0., 0.], [1., 0.], [0., 1.], [1., 1.]] } else { &[[0., 0.]] };
    let mut total: Option<Tensor> = None;
    for corner in corners {
        let mut weight = builder.number(1.0, DType::F32)?;
        let mut index = first.clone();
        for (axis, (size, stride)) in [(width, 1), (height, width)].into_iter().enumerate() {
            let place = builder.affine(&low[axis], 1.0, corner[axis])?;
            if mode == 0 {
                let distance = builder.binary(Binary::Sub, &coordinates[axis], &place)?;
                let distance = builder.unary(crate::Unary::Abs, &distance)?;
                let share = builder.affine(&distance, -1.0, 1.0)?;
                weight = builder.binary(Binary::Mul, &share, &weight)?;
            }
            let inside = super::elementwise::between(builder, &place, Some(0.0), Some(size as f64 - 1.0))?;
            let valid = builder.binary(Binary::Equal, &place, &inside)?;
            let valid = builder.cast(&valid, DType::F32)?;
            weight = builder.binary(Binary::Mul, &valid, &weight)?;
            let position = builder.cast(&inside, DType::I64)?;
            let stride = builder.number(stride as f64, DType::I64)?;
            let position = builder.binary(Binary::Mul, &position, &stride)?;
            index = builder.binary(Binary::Add, &position, &index)?;
        }
        let samples = builder.take(&table, 0, &index)?;
        let mut wide = places.clone();
        wide.push(1.into());
        let weight = builder.reshape(&weight, &wide)?;
        let part = builder.binary(Binary::Mul, &samples, &weight)?;
        total = Some(match total {
            Some(total) => builder.binary(Binary::Add, &total, &part)?,
            None => part,
        });
    }
    let Some(total) = total else { fail!(Shape, "a sample of nothing") };
    one(Builder::permuted(&total, &[0, 3, 1, 2]))
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
        let reach = self.dilation[axis] * (self.kernel[axis].max(1) - 1) + 1;
        match (size + 2 * self.padding[axis]).checked_sub(reach) {
            Some(room) if self.stride[axis] > 0 => Ok(room / self.stride[axis] + 1),
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
        let indices = builder.graph.constant(crate::NDArray::new(&[positions.len()], &positions)?);
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
    let indices = builder.graph.constant(crate::NDArray::new(&[places.len()], &places)?);
    let indices = builder.plain(indices);
    let zero = builder.number(0.0, DType::F32)?;
    let base = builder.expand(&zero, &[(padded[0] * padded[1]).into(), batch.clone(), channels.clone()])?;
    let summed = super::view::scatter_rows(builder, crate::Scatter::Add, &base, 0, &indices, &y)?;
    let image = builder.reshape(&summed, &[padded[0].into(), padded[1].into(), batch, channels])?;
    let mut image = Builder::permuted(&image, &[2, 3, 0, 1]);
    for (axis, size) in size.into_iter().enumerate() {
        let start = blocks.padding[axis];
        image = builder.slice(&image, 2 + axis, &start.into(), &(start + size).into())?;
    }
    one(image)
}
