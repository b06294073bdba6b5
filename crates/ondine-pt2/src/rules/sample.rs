//! Sampling of maps and volumes at places that a tensor says.

use ondine_graph::{Binary, DType, Dim, Elementary, NDArray, Result, Unary, element_count, fail};

use super::{
    elementwise::between,
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
    Rule::new("grid_sampler", grid_sampler),
    Rule::new("grid_sampler_2d", grid_sampler),
    Rule::new("grid_sampler_3d", grid_sampler),
    Rule::new("affine_grid_generator", affine_grid),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Linear,
    Nearest,
    Cubic,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// A dimension that is sampled.
struct Axis {
    size: usize,
    padding: Padding,
    aligned: bool,
}

impl Axis {
    /// Places between -1 and 1 as positions of elements.
    fn position(&self, builder: &mut Builder, place: &Tensor) -> Result<Tensor> {
        let n = self.size as f64;
        if self.aligned {
            builder.affine(place, (n - 1.0) / 2.0, (n - 1.0) / 2.0)
        } else {
            builder.affine(place, n / 2.0, n / 2.0 - 0.5)
        }
    }

    /// Positions moved into the dimension, as the padding says.
    fn inside(&self, builder: &mut Builder, position: &Tensor) -> Result<Tensor> {
        let last = self.size as f64 - 1.0;
        match self.padding {
            Padding::Zeros => Ok(position.clone()),
            Padding::Border => between(builder, position, Some(0.0), Some(last)),
            Padding::Reflection => {
                let (least, span) = if self.aligned { (0.0, last) } else { (-0.5, self.size as f64) };
                if span <= 0.0 {
                    return builder.affine(position, 0.0, 0.0);
                }
                // There and back again takes two spans.
                let shifted = builder.affine(position, 1.0, -least)?;
                let away = builder.unary(Unary::Abs, &shifted)?;
                let period = builder.number(2.0 * span, DType::F32)?;
                let rest = builder.binary(Binary::Fmod, &away, &period)?;
                let back = builder.affine(&rest, -1.0, 2.0 * span)?;
                let folded = builder.binary(Binary::Min, &rest, &back)?;
                let folded = builder.affine(&folded, 1.0, least)?;
                between(builder, &folded, Some(0.0), Some(last))
            }
        }
    }
}

/// Where a sample reads along one dimension: whole positions, each with its share.
type Taps = Vec<(Tensor, Option<Tensor>)>;

fn taps(builder: &mut Builder, axis: &Axis, mode: Mode, place: &Tensor) -> Result<Taps> {
    let position = axis.position(builder, place)?;
    if mode == Mode::Nearest {
        let position = axis.inside(builder, &position)?;
        return Ok(vec![(builder.function(Elementary::Round, &position)?, None)]);
    }
    let position = if mode == Mode::Linear { axis.inside(builder, &position)? } else { position };
    let low = builder.function(Elementary::Floor, &position)?;
    let part = builder.binary(Binary::Sub, &position, &low)?;
    if mode == Mode::Linear {
        let rest = builder.affine(&part, -1.0, 1.0)?;
        let high = builder.affine(&low, 1.0, 1.0)?;
        return Ok(vec![(low, Some(rest)), (high, Some(part))]);
    }
    let mut taps = Vec::new();
    for tap in -1..=2 {
        let at = builder.affine(&low, 1.0, f64::from(tap))?;
        let at = axis.inside(builder, &at)?;
        let distance = builder.affine(&part, 1.0, -f64::from(tap))?;
        let distance = builder.unary(Unary::Abs, &distance)?;
        taps.push((at, Some(cubic(builder, &distance, tap == 0 || tap == 1)?)));
    }
    Ok(taps)
}

/// Keys' cubic convolution with a = -3/4 at a distance within one element, or between one and two.
fn cubic(builder: &mut Builder, distance: &Tensor, near: bool) -> Result<Tensor> {
    let a = -0.75;
    let factors = if near { [a + 2.0, -(a + 3.0), 0.0, 1.0] } else { [a, -5.0 * a, 8.0 * a, -4.0 * a] };
    let mut value = builder.affine(distance, factors[0], factors[1])?;
    for offset in &factors[2..] {
        value = builder.binary(Binary::Mul, &value, distance)?;
        value = builder.affine(&value, 1.0, *offset)?;
    }
    Ok(value)
}

/// Samples of `x` at places between -1 and 1, whose last dimension names the innermost dimension first.
fn grid_sampler(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, grid) = (call.float_tensor(builder, "input")?, call.float_tensor(builder, "grid")?);
    let mode = match call.integer("interpolation_mode", 0)? {
        0 => Mode::Linear,
        1 => Mode::Nearest,
        _ => Mode::Cubic,
    };
    let padding = match call.integer("padding_mode", 0)? {
        0 => Padding::Zeros,
        1 => Padding::Border,
        _ => Padding::Reflection,
    };
    let aligned = call.flag("align_corners", false)?;
    let shape: Option<Vec<usize>> = builder.shape(&x).iter().map(Dim::fixed).collect();
    let Some([batch, channels, sizes @ ..]) = shape.as_deref() else {
        fail!(Unsupported, "grid_sampler of a map of unknown size");
    };
    let n = sizes.len();
    if grid.rank() != n + 2 || n == 0 || sizes.contains(&0) {
        fail!(Shape, "a grid of rank {} for maps of {n} dimensions", grid.rank());
    }
    let mut along = Vec::new();
    for (i, &size) in sizes.iter().enumerate() {
        let index = n - 1 - i;
        let place = builder.slice(&grid, n + 1, &index.into(), &(index + 1).into())?;
        let place = builder.without(&place, n + 1)?;
        along.push(taps(builder, &Axis { size, padding, aligned }, mode, &place)?);
    }
    let (value, _) = channels_last(builder, &x)?;
    let (Some(pixels), Some(rows)) = (element_count(sizes), element_count(&[&[*batch], sizes].concat())) else {
        fail!(Shape, "a map of {sizes:?} is too large");
    };
    let value = builder.graph.reshape(value, [rows, *channels])?;
    let table = builder.plain(value);
    let mut total: Option<Tensor> = None;
    let combinations: usize = along.iter().map(Vec::len).product();
    for combination in 0..combinations {
        let part = corner(builder, &along, combination, [*batch, pixels], sizes, &table)?;
        total = Some(match total {
            Some(total) => builder.binary(Binary::Add, &total, &part)?,
            None => part,
        });
    }
    let Some(total) = total else { fail!(Shape, "a sample of nothing") };
    let order: Vec<usize> = [0, n + 1].into_iter().chain(1..=n).collect();
    one(Builder::permuted(&total, &order))
}

/// What one tap of each dimension contributes to all samples.
fn corner(
    builder: &mut Builder,
    along: &[Taps],
    mut combination: usize,
    [batch, pixels]: [usize; 2],
    sizes: &[usize],
    table: &Tensor,
) -> Result<Tensor> {
    let mut index = builder.range(&0.into(), pixels as i64, &batch.into())?;
    let mut wide = vec![Dim::from(1); sizes.len() + 1];
    wide[0] = batch.into();
    index = builder.reshape(&index, &wide)?;
    let mut weight: Option<Tensor> = None;
    let mut stride = 1;
    for (taps, &size) in along.iter().zip(sizes).rev() {
        let (place, share) = &taps[combination % taps.len()];
        combination /= taps.len();
        let inside = between(builder, place, Some(0.0), Some(size as f64 - 1.0))?;
        let valid = builder.binary(Binary::Equal, place, &inside)?;
        let valid = builder.cast(&valid, DType::F32)?;
        for factor in std::iter::once(&valid).chain(share) {
            weight = Some(match weight {
                Some(weight) => builder.binary(Binary::Mul, &weight, factor)?,
                None => factor.clone(),
            });
        }
        let position = builder.cast(&inside, DType::I64)?;
        let step = builder.number(stride as f64, DType::I64)?;
        let position = builder.binary(Binary::Mul, &position, &step)?;
        index = builder.binary(Binary::Add, &index, &position)?;
        stride *= size;
    }
    let samples = builder.take(table, 0, &index)?;
    let Some(weight) = weight else { fail!(Shape, "a sample of nothing") };
    let mut wide = builder.shape(&weight);
    wide.push(1.into());
    let weight = builder.reshape(&weight, &wide)?;
    builder.binary(Binary::Mul, &samples, &weight)
}

/// The places of a map's elements, moved by a matrix per picture.
fn affine_grid(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let theta = call.float_tensor(builder, "theta")?;
    let out = call.out_shape(0)?;
    let sizes: Option<Vec<usize>> = out.iter().map(Dim::fixed).collect();
    let Some([batch, sizes @ .., n]) = sizes.as_deref() else {
        fail!(Unsupported, "a grid of unknown size");
    };
    let aligned = call.flag("align_corners", false)?;
    let place = |i: usize, size: usize| match (aligned, size) {
        (true, 1) => 0.0,
        (true, _) => 2.0 * i as f64 / (size - 1) as f64 - 1.0,
        (false, _) => (2 * i + 1) as f64 / size as f64 - 1.0,
    };
    check_list(sizes)?;
    let pixels: usize = sizes.iter().product();
    if sizes.len() != *n {
        fail!(Unsupported, "a grid of {pixels} places in {n} dimensions");
    }
    let mut base = Vec::with_capacity(pixels * (n + 1));
    for pixel in 0..pixels {
        let mut rest = pixel;
        for &size in sizes.iter().rev() {
            base.push(place(rest % size, size) as f32);
            rest /= size;
        }
        base.push(1.0);
    }
    let base = builder.graph.constant(NDArray::new(&[1, pixels, n + 1], &base)?);
    let base = builder.plain(base);
    let base = builder.expand(&base, &[(*batch).into(), pixels.into(), (n + 1).into()])?;
    let product = matmul(builder, &base, &Builder::swapped(&theta, 1, 2))?;
    one(builder.reshape(&product, &out)?)
}
