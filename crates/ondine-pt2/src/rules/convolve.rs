//! Convolutions of one to three dimensions, plain and transposed, as two-dimensional ones.

use ondine_graph::{Binary, Conv2d, DType, Dim, Op, Result, fail};

use super::{
    norm::channels_last,
    product::matmul,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, check_list},
    call::{Call, Item},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("conv1d", convolution),
    Rule::new("conv2d", convolution),
    Rule::new("conv3d", convolution),
    Rule::new("convolution", convolution),
    Rule::new("conv_transpose1d", convolution),
    Rule::new("conv_transpose2d", convolution),
    Rule::new("conv_transpose3d", convolution),
    Rule::new("_convolution", convolution),
];

/// What a convolution is told about each dimension.
struct Spatial {
    stride: Vec<usize>,
    before: Vec<usize>,
    after: Vec<usize>,
    dilation: Vec<usize>,
    extra: Vec<Dim>,
    groups: usize,
}

impl Spatial {
    /// The same along a line as a map of height 1.
    fn with_height(&self) -> Self {
        let two = |list: &[usize], first: usize| vec![first, list[0]];
        Self {
            stride: two(&self.stride, 1),
            before: two(&self.before, 0),
            after: two(&self.after, 0),
            dilation: two(&self.dilation, 1),
            extra: vec![Dim::from(0), self.extra[0].clone()],
            groups: self.groups,
        }
    }
}

fn convolution(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut x = call.float_tensor(builder, "input")?;
    let weight = call.float_tensor(builder, "weight")?;
    let n = weight.rank().saturating_sub(2);
    let unbatched = x.rank() == n + 1;
    if unbatched {
        let shape: Vec<Dim> = std::iter::once(Dim::from(1)).chain(builder.shape(&x)).collect();
        x = builder.reshape(&x, &shape)?;
    }
    let mut spatial = Spatial {
        stride: call.sizes("stride", n, 1)?,
        before: vec![0; n],
        after: vec![0; n],
        dilation: call.sizes("dilation", n, 1)?,
        extra: match &call.dims("output_padding").unwrap_or_default()[..] {
            [] => vec![Dim::from(0); n],
            [one] => vec![one.clone(); n],
            list if list.len() == n => list.to_vec(),
            _ => fail!(Format, "argument `output_padding` does not fit {n} dimensions"),
        },
        groups: usize::try_from(call.integer("groups", 1)?).unwrap_or(0),
    };
    if let Some("same") = call.text("padding") {
        for i in 0..n {
            let kernel = builder.dim(&weight, 2 + i).fixed().unwrap_or(1);
            let total = spatial.dilation[i] * (kernel - 1);
            (spatial.before[i], spatial.after[i]) = (total / 2, total - total / 2);
        }
    } else if call.text("padding") != Some("valid") {
        spatial.before = call.sizes("padding", n, 0)?;
        spatial.after.clone_from(&spatial.before);
    }
    let bias = match call.try_tensor("bias")? {
        Some(bias) => Some(builder.cast(&bias, DType::F32)?),
        None => None,
    };
    let transposed = call.op.starts_with("conv_transpose") || call.flag("transposed", false)?;
    let fixed = builder.is_fixed(&weight);
    let result = match (transposed, n) {
        (true, 3) => opened(builder, &x, &weight, bias.as_ref(), &spatial)?,
        (true, 1 | 2) if !fixed => opened(builder, &x, &weight, bias.as_ref(), &spatial)?,
        (false, 1 | 2) if !fixed => computed(builder, &x, &weight, bias.as_ref(), &spatial)?,
        (false, 1 | 2) => flat(builder, &x, &weight, bias.as_ref(), &spatial)?,
        (false, 3) => deep(builder, &x, &weight, bias.as_ref(), &spatial)?,
        (true, 1 | 2) => spread(builder, &x, &weight, bias.as_ref(), &spatial)?,
        _ => fail!(Unsupported, "a convolution of {n} dimensions, transposed: {transposed}"),
    };
    if unbatched { one(builder.without(&result, 0)?) } else { one(result) }
}

/// A convolution of one or two dimensions.
fn flat(builder: &mut Builder, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, s: &Spatial) -> Result<Tensor> {
    if weight.rank() == 3 {
        let (x, weight) = (line(builder, x)?, line(builder, weight)?);
        let result = flat(builder, &x, &weight, bias, &s.with_height())?;
        return builder.without(&result, 2);
    }
    let (value, order) = channels_last(builder, x)?;
    let weight = builder.dense(weight)?;
    let bias = bias.map(|bias| builder.dense(bias)).transpose()?;
    let conv = Conv2d {
        stride: [s.stride[0], s.stride[1]],
        padding: [s.before[0], s.after[0], s.before[1], s.after[1]],
        dilation: [s.dilation[0], s.dilation[1]],
        groups: s.groups,
        ..Conv2d::default()
    };
    let value = builder.graph.conv2d(value, weight, bias, conv)?;
    Ok(Builder::ordered(value, &order))
}

/// A convolution whose weight the call computes: a product with the input's windows written out.
fn computed(builder: &mut Builder, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, s: &Spatial) -> Result<Tensor> {
    if weight.rank() == 3 {
        let (x, weight) = (line(builder, x)?, line(builder, weight)?);
        let result = computed(builder, &x, &weight, bias, &s.with_height())?;
        return builder.without(&result, 2);
    }
    let (x_shape, shape) = (builder.shape(x), builder.shape(weight));
    let [outputs, inputs, kernel_h, kernel_w] = &shape[..] else { fail!(Shape, "not a kernel of two dimensions") };
    let mut y = x.clone();
    let mut split = vec![x_shape[0].clone(), Dim::from(s.groups), inputs.clone()];
    let mut counts = Vec::new();
    for (i, kernel) in [kernel_h, kernel_w].into_iter().enumerate() {
        let Some(kernel) = kernel.fixed() else { fail!(Unsupported, "a computed kernel of unknown size") };
        let mut amounts = vec![[0; 2]; y.rank()];
        // The first dimension has become two.
        let at = 2 + 2 * i;
        amounts[y.axes[at]] = [s.before[i], s.after[i]];
        let value = builder.graph.push(Op::Pad { amounts }, &[y.value])?;
        y = Tensor { value, axes: y.axes };
        let reach = s.dilation[i] * (kernel.max(1) - 1) + 1;
        let padded = builder.dim(&y, at);
        if padded.fixed().is_some_and(|padded| padded < reach) || s.stride[i] == 0 {
            fail!(Shape, "a kernel that does not fit");
        }
        let count = &(&padded - reach).floor_div(s.stride[i]) + 1;
        check_list(&[kernel, count.fixed().unwrap_or(1)])?;
        let (apart, stride) = (s.dilation[i] as i64, s.stride[i] as i64);
        let places = builder.places(&0.into(), apart, &kernel.into(), stride, &count)?;
        y = builder.take_places(&y, at, &places)?;
        split.extend([Dim::from(kernel), count.clone()]);
        counts.push(count);
    }
    let y = builder.reshape(&y, &split)?;
    let y = Builder::permuted(&y, &[0, 1, 2, 3, 5, 4, 6]);
    let taps = &(inputs * kernel_h) * kernel_w;
    let y = builder.reshape(&y, &[x_shape[0].clone(), s.groups.into(), taps.clone(), &counts[0] * &counts[1]])?;
    let weight = builder.reshape(weight, &[s.groups.into(), outputs.floor_div(s.groups.max(1)), taps])?;
    let product = matmul(builder, &weight, &y)?;
    let out = [x_shape[0].clone(), outputs.clone(), counts[0].clone(), counts[1].clone()];
    let product = builder.reshape(&product, &out)?;
    match bias {
        Some(bias) => {
            let bias = builder.reshape(bias, &[outputs.clone(), 1.into(), 1.into()])?;
            builder.binary(Binary::Add, &product, &bias)
        }
        None => Ok(product),
    }
}

/// `[batch, channels, length]` with a height of 1.
fn line(builder: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let mut shape = builder.shape(x);
    shape.insert(2, 1.into());
    builder.reshape(x, &shape)
}

/// A convolution of three dimensions: for each plane of the kernel a convolution of planes, added up.
fn deep(builder: &mut Builder, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, s: &Spatial) -> Result<Tensor> {
    let planes = builder.dim(weight, 2).fixed().unwrap_or(1);
    let (stride, dilation) = (s.stride[0], s.dilation[0]);
    let padded = {
        let mut amounts = vec![[0; 2]; 5];
        amounts[x.axes[2]] = [s.before[0], s.after[0]];
        let value = builder.graph.push(Op::Pad { amounts }, &[x.value])?;
        Tensor { value, axes: x.axes.clone() }
    };
    let depth = builder.dim(&padded, 2);
    let reach = dilation * (planes.max(1) - 1) + 1;
    if depth.fixed().is_some_and(|depth| depth < reach) || stride == 0 {
        fail!(Shape, "a kernel of depth {reach} does not fit a depth of {depth}");
    }
    let count = &(&depth - reach).floor_div(stride) + 1;
    let inner = Spatial {
        stride: s.stride[1..].to_vec(),
        before: s.before[1..].to_vec(),
        after: s.after[1..].to_vec(),
        dilation: s.dilation[1..].to_vec(),
        extra: vec![Dim::from(0); 2],
        groups: s.groups,
    };
    let mut total: Option<Tensor> = None;
    for plane in 0..planes {
        let indices = builder.range(&(plane * dilation).into(), stride as i64, &count)?;
        let part = builder.take(&padded, 2, &indices)?;
        // Depth joins the batch.
        let moved = Builder::permuted(&part, &[0, 2, 1, 3, 4]);
        let shape = builder.shape(&moved);
        let [batch, depth, channels, height, width] = &shape[..] else { fail!(Shape, "not a volume") };
        let flat_shape = [batch * depth, channels.clone(), height.clone(), width.clone()];
        let images = builder.reshape(&moved, &flat_shape)?;
        let kernel = builder.slice(weight, 2, &plane.into(), &(plane + 1).into())?;
        let kernel = builder.without(&kernel, 2)?;
        let bias = if plane == 0 { bias } else { None };
        let product = if builder.is_fixed(&kernel) {
            flat(builder, &images, &kernel, bias, &inner)?
        } else {
            computed(builder, &images, &kernel, bias, &inner)?
        };
        total = Some(match total {
            Some(total) => builder.binary(Binary::Add, &total, &product)?,
            None => product,
        });
    }
    let Some(total) = total else { fail!(Shape, "a kernel without depth") };
    let shape = builder.shape(&total);
    let batch = builder.dim(x, 0);
    let split = [batch, count, shape[1].clone(), shape[2].clone(), shape[3].clone()];
    let volume = builder.reshape(&total, &split)?;
    Ok(Builder::permuted(&volume, &[0, 2, 1, 3, 4]))
}

/// A transposed convolution by its definition: a plain one with the kernel turned around, over the input with zeros
/// between its elements.
fn opened(builder: &mut Builder, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, s: &Spatial) -> Result<Tensor> {
    let n = weight.rank() - 2;
    let shape: Option<Vec<usize>> = builder.shape(weight).iter().map(Dim::fixed).collect();
    let Some([inputs, outputs, taps @ ..]) = shape.as_deref() else { fail!(Unsupported, "a kernel of unknown size") };
    let mut y = x.clone();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (i, &tap) in taps.iter().enumerate() {
        y = dilated(builder, &y, 2 + i, s.stride[i])?;
        let reach = s.dilation[i] * (tap.max(1) - 1);
        // What is cut beyond what the kernel adds, the input does without.
        let (size, all) = (builder.dim(&y, 2 + i), reach + most_extra(s, i));
        let (first, last) = (s.before[i].saturating_sub(reach), s.before[i].saturating_sub(all));
        y = builder.slice(&y, 2 + i, &first.into(), &(&size - &Dim::from(last)))?;
        before.push(reach.saturating_sub(s.before[i]));
        after.push(all.saturating_sub(s.before[i]));
    }
    let groups = s.groups.max(1);
    let mut split = vec![Dim::from(groups), (inputs / groups).into(), (*outputs).into()];
    split.extend(taps.iter().map(|&tap| Dim::from(tap)));
    let mut kernel = builder.reshape(weight, &split)?;
    for axis in 0..n {
        let size = builder.dim(&kernel, 3 + axis);
        let indices = builder.range(&(&size - 1), -1, &size)?;
        kernel = builder.take(&kernel, 3 + axis, &indices)?;
    }
    kernel = Builder::swapped(&kernel, 1, 2);
    let mut merged = vec![Dim::from(groups * outputs), (inputs / groups).into()];
    merged.extend(taps.iter().map(|&tap| Dim::from(tap)));
    let kernel = builder.reshape(&kernel, &merged)?;
    let ones = vec![1; n];
    let inner =
        Spatial { stride: ones, before, after, dilation: s.dilation.clone(), extra: vec![Dim::from(0); n], groups };
    let mut y = match (n, builder.is_fixed(&kernel)) {
        (3, _) => deep(builder, &y, &kernel, bias, &inner)?,
        (_, true) => flat(builder, &y, &kernel, bias, &inner)?,
        _ => computed(builder, &y, &kernel, bias, &inner)?,
    };
    for (i, extra) in s.extra.iter().enumerate() {
        let end = &(&builder.dim(&y, 2 + i) - most_extra(s, i)) + extra;
        y = builder.slice(&y, 2 + i, &0.into(), &end)?;
    }
    Ok(y)
}

/// The most output padding that there can be.
fn most_extra(s: &Spatial, i: usize) -> usize {
    s.extra[i].fixed().unwrap_or(s.stride[i].max(s.dilation[i]).max(1) - 1)
}

/// A transposed convolution: one plain convolution yields the outputs between two neighbours of the input as
/// channels, which are then moved beside each other.
fn spread(builder: &mut Builder, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, s: &Spatial) -> Result<Tensor> {
    if weight.rank() == 3 {
        let (x, weight) = (line(builder, x)?, line(builder, weight)?);
        let result = spread(builder, &x, &weight, bias, &s.with_height())?;
        return builder.without(&result, 2);
    }
    let shape: Option<Vec<usize>> = builder.shape(weight).iter().map(Dim::fixed).collect();
    let Some([inputs, outputs, kernel_h, kernel_w]) =
        shape.as_deref().and_then(|shape| <[usize; 4]>::try_from(shape).ok())
    else {
        fail!(Shape, "not a kernel of two dimensions");
    };
    let groups = s.groups.max(1);
    let kernel = [kernel_h, kernel_w];
    let sizes = [0, 1].map(|i| (kernel[i] - 1) * s.dilation[i] + 1);
    let steps = [0, 1].map(|i| sizes[i].div_ceil(s.stride[i]));
    let kernel = spread_kernel(builder, weight, [inputs, outputs, kernel_h, kernel_w], [sizes, steps], s)?;
    let inner = Spatial {
        stride: vec![1; 2],
        before: steps.iter().map(|step| step - 1).collect(),
        after: steps.iter().map(|step| step - 1).collect(),
        dilation: vec![1; 2],
        extra: vec![Dim::from(0); 2],
        groups,
    };
    let y = flat(builder, x, &kernel, None, &inner)?;
    let shape = builder.shape(&y);
    let channels = Dim::from(groups * outputs);
    let split = [
        shape[0].clone(),
        channels.clone(),
        s.stride[0].into(),
        s.stride[1].into(),
        shape[2].clone(),
        shape[3].clone(),
    ];
    let y = builder.reshape(&y, &split)?;
    let y = Builder::permuted(&y, &[0, 1, 4, 2, 5, 3]);
    let merged = [shape[0].clone(), channels.clone(), &shape[2] * s.stride[0], &shape[3] * s.stride[1]];
    let mut y = builder.reshape(&y, &merged)?;
    for (i, size) in sizes.into_iter().enumerate() {
        y = crop(builder, &y, x, 2 + i, s, size)?;
    }
    match bias {
        Some(bias) => {
            let bias = builder.reshape(bias, &[channels, 1.into(), 1.into()])?;
            builder.binary(Binary::Add, &y, &bias)
        }
        None => Ok(y),
    }
}

/// The kernel of the plain convolution that stands for a transposed one: `weight` cut into pieces a stride wide, one
/// per output between two neighbours of the input.
fn spread_kernel(
    builder: &mut Builder,
    weight: &Tensor,
    [inputs, outputs, kernel_h, kernel_w]: [usize; 4],
    [sizes, steps]: [[usize; 2]; 2],
    s: &Spatial,
) -> Result<Tensor> {
    let (groups, g) = (s.groups.max(1), Dim::from(s.groups.max(1)));
    // Dilated kernels get their zeros written out.
    let mut taps = builder
        .reshape(weight, &[g.clone(), (inputs / groups).into(), outputs.into(), kernel_h.into(), kernel_w.into()])?;
    for i in 0..2 {
        taps = dilated(builder, &taps, 3 + i, s.dilation[i])?;
    }
    let value = {
        let mut amounts = vec![[0; 2]; 5];
        for i in 0..2 {
            amounts[3 + i] = [0, steps[i] * s.stride[i] - sizes[i]];
        }
        let dense = builder.dense(&taps)?;
        builder.graph.push(Op::Pad { amounts }, &[dense])?
    };
    let padded = builder.plain(value);
    let split = [
        g,
        (inputs / groups).into(),
        outputs.into(),
        steps[0].into(),
        s.stride[0].into(),
        steps[1].into(),
        s.stride[1].into(),
    ];
    let mut taps = builder.reshape(&padded, &split)?;
    for axis in [3, 5] {
        let size = builder.dim(&taps, axis);
        let indices = builder.range(&(&size - 1), -1, &size)?;
        taps = builder.take(&taps, axis, &indices)?;
    }
    // [groups, outputs, stride, stride, inputs, steps, steps]
    let taps = Builder::permuted(&taps, &[0, 2, 4, 6, 1, 3, 5]);
    let all = groups * outputs * s.stride[0] * s.stride[1];
    let kernel = [all, inputs / groups, steps[0], steps[1]].map(Dim::from);
    builder.reshape(&taps, &kernel)
}

/// Cuts a spread dimension to what is asked for; where output padding reaches beyond it there are zeros.
fn crop(builder: &mut Builder, y: &Tensor, x: &Tensor, axis: usize, s: &Spatial, size: usize) -> Result<Tensor> {
    let i = axis - 2;
    let wanted = &(&(&(&(&builder.dim(x, axis) - 1) * s.stride[i]) + size) + &s.extra[i]) - 2 * s.before[i];
    let end = &wanted + s.before[i];
    let there = builder.dim(y, axis);
    let missing = match (&end - &there).constant() {
        Some(missing) => usize::try_from(missing).unwrap_or(0),
        None => most_extra(s, i),
    };
    let mut y = y.clone();
    if missing > 0 {
        let mut amounts = vec![[0; 2]; y.rank()];
        amounts[y.axes[axis]] = [0, missing];
        let value = builder.graph.push(Op::Pad { amounts }, &[y.value])?;
        y = Tensor { value, axes: y.axes };
    }
    builder.slice(&y, axis, &s.before[i].into(), &end)
}

/// `x` with zeros between neighbours along `axis`, so that they are `distance` apart.
fn dilated(builder: &mut Builder, x: &Tensor, axis: usize, distance: usize) -> Result<Tensor> {
    if distance <= 1 {
        return Ok(x.clone());
    }
    let mut shape = builder.shape(x);
    let size = shape[axis].clone();
    shape.insert(axis + 1, 1.into());
    let y = builder.reshape(x, &shape)?;
    let dense = builder.dense(&y)?;
    let mut amounts = vec![[0; 2]; shape.len()];
    amounts[axis + 1] = [0, distance - 1];
    let value = builder.graph.push(Op::Pad { amounts }, &[dense])?;
    let y = builder.plain(value);
    shape.remove(axis + 1);
    shape[axis] = &size * distance;
    let y = builder.reshape(&y, &shape)?;
    let end = &(&(&size - 1) * distance) + 1;
    builder.slice(&y, axis, &0.into(), &end)
}
