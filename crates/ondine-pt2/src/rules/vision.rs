//! The operators of torchvision: overlapping boxes, regions of maps, convolutions whose taps are moved.

use ondine_graph::{Binary, DType, Dim, Elementary, Op, Region, Regions, Result, fail};

use super::{
    elementwise::between,
    positions::positions,
    product::linear_of,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, elements},
    call::{Call, Item},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("torchvision.nms", suppress),
    Rule::new("torchvision.roi_align", |builder, call| {
        let how = Region::Mean { samples: samples(call)?, edges: call.flag("aligned", false)?, apart: false };
        one(regions(builder, call, how)?)
    }),
    Rule::new("torchvision.roi_pool", |builder, call| {
        // Which elements were the largest only gradients ask.
        one(regions(builder, call, Region::Largest)?)
    }),
    Rule::new("torchvision.ps_roi_align", |builder, call| {
        let how = Region::Mean { samples: samples(call)?, edges: true, apart: true };
        with_channels(builder, call, how)
    }),
    Rule::new("torchvision.ps_roi_pool", |builder, call| with_channels(builder, call, Region::Touched)),
    Rule::new("torchvision.deform_conv2d", deformed),
];

/// The boxes that stay, the best first.
fn suppress(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (boxes, scores) = (call.float_tensor(builder, "dets")?, call.float_tensor(builder, "scores")?);
    let scores = builder.dense(&scores)?;
    let keep = builder.graph.dim(scores, 0);
    let value = builder.graph.push(Op::ArgSort { descending: true, keep }, &[scores])?;
    let order = builder.plain(value);
    let boxes = builder.take(&boxes, 0, &order)?;
    let boxes = builder.dense(&boxes)?;
    let value = builder.graph.push(Op::Suppress { most: call.float("iou_threshold", 0.5)? }, &[boxes])?;
    let kept = builder.plain(value);
    let places = positions(builder, &kept, call.out_shape(0)?.first())?;
    one(builder.take(&order, 0, &places)?)
}

/// Samples of a bin in each dimension; 0 for as many as it has elements.
fn samples(call: &Call<'_>) -> Result<usize> {
    Ok(usize::try_from(call.integer("sampling_ratio", -1)?).unwrap_or(0))
}

fn regions(builder: &mut Builder, call: &Call<'_>, how: Region) -> Result<Tensor> {
    let (x, boxes) = (call.float_tensor(builder, "input")?, call.float_tensor(builder, "rois")?);
    if x.rank() != 4 {
        fail!(Shape, "regions of a map of rank {}", x.rank());
    }
    let bins = [call.integer("pooled_height", 1)?, call.integer("pooled_width", 1)?].map(usize::try_from);
    let [Ok(rows), Ok(columns)] = bins else { fail!(Format, "a negative number of bins") };
    let scale = call.float("spatial_scale", 1.0)? as f32;
    let inputs = [builder.stored(&x, &[0, 2, 3, 1])?, builder.dense(&boxes)?];
    let value = builder.graph.push(Op::Regions(Regions { bins: [rows, columns], scale, how }), &inputs)?;
    Ok(Builder::ordered(value, &[0, 2, 3, 1]))
}

/// Regions whose bins read channels of their own, and which channels those are.
fn with_channels(builder: &mut Builder, call: &Call<'_>, how: Region) -> Result<Vec<Item>> {
    let result = regions(builder, call, how)?;
    let shape = builder.shape(&result);
    let count = elements(&shape[1..]);
    let own = builder.range(&0.into(), 1, &count)?;
    let own = builder.cast(&own, DType::I32)?;
    let own = builder.reshape(&own, &shape[1..])?;
    let own = builder.expand(&own, &shape)?;
    Ok(vec![Item::Tensor(result), Item::Tensor(own)])
}

/// The sizes of a convolution whose taps are moved.
struct Taps {
    /// Taps in each dimension, and of all.
    kernel: [usize; 2],
    stride: [i64; 2],
    padding: [i64; 2],
    dilation: [i64; 2],
    /// Sets of channels that are moved alike.
    sets: usize,
    /// Of the result, height and width.
    out: [Dim; 2],
}

impl Taps {
    fn count(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Where the taps are along one dimension before they are moved: `[taps, height, width]`, F32.
    fn places(&self, builder: &mut Builder, axis: usize) -> Result<Tensor> {
        let start = Dim::from_i64(-self.padding[axis]);
        let out = builder.range(&start, self.stride[axis], &self.out[axis])?;
        let mut shape = vec![Dim::from(1), 1.into(), 1.into()];
        shape[1 + axis] = self.out[axis].clone();
        let out = builder.reshape(&out, &shape)?;
        let step = |tap: usize| if axis == 0 { tap / self.kernel[1] } else { tap % self.kernel[1] };
        let taps: Vec<i64> = (0..self.count()).map(|tap| step(tap) as i64 * self.dilation[axis]).collect();
        let taps = builder.graph.constant(ondine_graph::NDArray::new(&[taps.len(), 1, 1], &taps)?);
        let taps = builder.plain(taps);
        let sum = builder.binary(Binary::Add, &out, &taps)?;
        builder.cast(&sum, DType::F32)
    }
}

fn deformed(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, weight) = (call.float_tensor(builder, "input")?, call.float_tensor(builder, "weight")?);
    let out = call.out_shape(0)?;
    let kernel = [builder.dim(&weight, 2).fixed(), builder.dim(&weight, 3).fixed()];
    let ([Some(height), Some(width)], [_, _, rows, columns], 4) = (kernel, &out[..], x.rank()) else {
        fail!(Unsupported, "a convolution with moved taps of unknown size")
    };
    let pair = |a: &str, b: &str| Ok::<_, ondine_graph::Error>([call.integer(a, 1)?, call.integer(b, 1)?]);
    let Ok(sets) = usize::try_from(call.integer("offset_groups", 1)?) else { fail!(Format, "negative groups") };
    let taps = Taps {
        kernel: [height, width],
        stride: pair("stride_h", "stride_w")?,
        padding: pair("pad_h", "pad_w")?,
        dilation: pair("dilation_h", "dilation_w")?,
        sets: sets.max(1),
        out: [rows.clone(), columns.clone()],
    };
    let mut read = moved(builder, call, &x, &taps)?;
    if call.flag("use_mask", false)? {
        let mask = call.float_tensor(builder, "mask")?;
        let shape = [&[out[0].clone(), taps.sets.into(), taps.count().into()], &out[2..], &[1.into()]].concat();
        let mask = builder.reshape(&mask, &shape)?;
        read = builder.binary(Binary::Mul, &read, &mask)?;
    }
    // [batch, sets, taps, height, width, channels of a set] to [batch, height, width, channels, taps]
    let (batch, channels) = (out[0].clone(), builder.dim(&x, 1));
    let read = Builder::permuted(&read, &[0, 3, 4, 1, 5, 2]);
    let matrix = [batch, rows.clone(), columns.clone(), &channels * taps.count()];
    let read = builder.reshape(&read, &matrix)?;
    let y = grouped(builder, call, &read, &weight, taps.count())?;
    one(Builder::permuted(&y, &[0, 3, 1, 2]))
}

/// The products of what taps read, `[.., channels * taps]`, with weights, group by group.
fn grouped(builder: &mut Builder, call: &Call<'_>, read: &Tensor, weight: &Tensor, taps: usize) -> Result<Tensor> {
    let groups = usize::try_from(call.integer("groups", 1)?).unwrap_or(1).max(1);
    let sizes = [builder.dim(weight, 0).fixed(), builder.dim(weight, 1).fixed()];
    let [Some(outputs), Some(each)] = sizes else { fail!(Unsupported, "a weight of unknown size") };
    let (rows, width) = (outputs / groups, each * taps);
    let matrix = builder.reshape(weight, &[outputs.into(), width.into()])?;
    let mut parts = Vec::new();
    for group in 0..groups {
        let x = builder.slice(read, 3, &(group * width).into(), &((group + 1) * width).into())?;
        let weight = builder.slice(&matrix, 0, &(group * rows).into(), &((group + 1) * rows).into())?;
        parts.push(linear_of(builder, &x, &weight, None)?);
    }
    let y = builder.concat(&parts.iter().collect::<Vec<_>>(), 3)?;
    match call.try_tensor("bias")? {
        Some(bias) => builder.binary(Binary::Add, &y, &bias),
        None => Ok(y),
    }
}

/// What moved taps read between the elements of `x`: `[batch, sets, taps, height, width, channels of a set]`.
fn moved(builder: &mut Builder, call: &Call<'_>, x: &Tensor, taps: &Taps) -> Result<Tensor> {
    let offset = call.float_tensor(builder, "offset")?;
    let shape = builder.shape(x);
    let [batch, channels, height, width] = &shape[..] else { fail!(Shape, "a map of rank {}", shape.len()) };
    let Some(each) = channels.fixed().map(|channels| channels / taps.sets) else {
        fail!(Unsupported, "an unknown number of channels");
    };
    let (sets, count) = (Dim::from(taps.sets), Dim::from(taps.count()));
    let [rows, columns] = &taps.out;
    let pairs = [batch.clone(), sets.clone(), count, 2.into(), rows.clone(), columns.clone()];
    let offset = builder.reshape(&offset, &pairs)?;
    let mut along = Vec::new();
    for (axis, size) in [height, width].into_iter().enumerate() {
        let part = builder.slice(&offset, 3, &axis.into(), &(axis + 1).into())?;
        let part = builder.without(&part, 3)?;
        let places = taps.places(builder, axis)?;
        let place = builder.binary(Binary::Add, &part, &places)?;
        along.push(sides(builder, &place, size)?);
    }
    // Elements as rows: picture, place, set.
    let stored = builder.stored(x, &[0, 2, 3, 1])?;
    let count = &elements(&[batch.clone(), height.clone(), width.clone()]) * taps.sets;
    let table = builder.graph.reshape(stored, vec![count, each.into()])?;
    let table = builder.plain(table);
    let picture = builder.range(&0.into(), 1, batch)?;
    let picture = builder.reshape(&picture, &[batch.clone(), 1.into(), 1.into(), 1.into(), 1.into()])?;
    let set = builder.range(&0.into(), 1, &sets)?;
    let set = builder.reshape(&set, &[sets, 1.into(), 1.into(), 1.into()])?;
    let mut sum: Option<Tensor> = None;
    for (y, from_row) in &along[0] {
        for (x, from_column) in &along[1] {
            let mut row = picture.clone();
            for (size, place) in [(height, y), (width, x), (&Dim::from(taps.sets), &set)] {
                let size = builder.integer(size)?;
                row = builder.binary(Binary::Mul, &row, &size)?;
                row = builder.binary(Binary::Add, &row, place)?;
            }
            let share = builder.binary(Binary::Mul, from_row, from_column)?;
            let mut wide = builder.shape(&share);
            wide.push(1.into());
            let share = builder.reshape(&share, &wide)?;
            let read = builder.take(&table, 0, &row)?;
            let part = builder.binary(Binary::Mul, &read, &share)?;
            sum = Some(match sum {
                Some(sum) => builder.binary(Binary::Add, &sum, &part)?,
                None => part,
            });
        }
    }
    match sum {
        Some(sum) => Ok(sum),
        None => fail!(Shape, "a convolution without taps"),
    }
}

/// The two elements that a place lies between, as positions that there are, each with its share: 0 outside.
fn sides(builder: &mut Builder, place: &Tensor, size: &Dim) -> Result<Vec<(Tensor, Tensor)>> {
    let low = builder.function(Elementary::Floor, place)?;
    let share = builder.binary(Binary::Sub, place, &low)?;
    let last = builder.integer(&(size - 1))?;
    let last = builder.cast(&last, DType::F32)?;
    let mut sides = Vec::new();
    for side in [0.0, 1.0] {
        let at = builder.affine(&low, 1.0, side)?;
        let inside = between(builder, &at, Some(0.0), None)?;
        let inside = builder.binary(Binary::Min, &inside, &last)?;
        let there = builder.binary(Binary::Equal, &inside, &at)?;
        let there = builder.cast(&there, DType::F32)?;
        let share = if side == 0.0 { builder.affine(&share, -1.0, 1.0)? } else { share.clone() };
        let share = builder.binary(Binary::Mul, &share, &there)?;
        sides.push((builder.cast(&inside, DType::I64)?, share));
    }
    Ok(sides)
}
