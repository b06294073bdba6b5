//! Normalizations: over rows, and over groups of channels.

use crate::{
    arch::{enter::Kernel, isa::Isa},
    cpu::Cpu,
    math::{self, Activation},
    number::Float,
    quant::RowsOut,
    rowwise::{LANES, RUN, STAGE, fold_lanes, for_rows, piece_rows, sum},
};

/// Positions whose deviations are summed in `f32`. One of them is the origin, so the sum of squares is at most one more
/// than this many times that of the deviations from the mean: what cancels is bounded.
const MOMENT_ROWS: usize = 32;

/// Normalizes each row of `x`: `(x - mean) / sqrt(variance + eps) * weight + bias` (Ba et al. 2016).
///
/// The rows are as wide as `weight`. Mean and variance are found in two passes, so a mean far from zero costs no
/// digits.
///
/// # Panics
/// If `x` and `out` differ in length, `weight` and `bias` do, or the data is not rows of their length.
pub fn layer_norm<'a, T: Float>(
    cpu: &Cpu,
    eps: f32,
    weight: &[f32],
    bias: &[f32],
    x: &[T],
    out: impl Into<RowsOut<'a, T>>,
) {
    assert_eq!(weight.len(), bias.len(), "weight and bias differ in length");
    let (width, out) = (weight.len(), out.into());
    check_rows(width, x, &out);
    out.for_rows(cpu.pool(), width, piece_rows(width), |first, out| {
        let x = &x[first * width..][..out.rows(width) * width];
        cpu.enter(LayerNormRows { eps, weight, bias, x, out });
    });
}

/// Divides each row of `x` by its root mean square: `x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich 2019).
///
/// The rows are as wide as `weight`.
///
/// # Panics
/// If `x` and `out` differ in length, or are not rows as wide as `weight`.
pub fn rms_norm<'a, T: Float>(cpu: &Cpu, eps: f32, weight: &[f32], x: &[T], out: impl Into<RowsOut<'a, T>>) {
    let (width, out) = (weight.len(), out.into());
    check_rows(width, x, &out);
    out.for_rows(cpu.pool(), width, piece_rows(width), |first, out| {
        let x = &x[first * width..][..out.rows(width) * width];
        cpu.enter(RmsNormRows { eps, weight, x, out });
    });
}

fn check_rows<T: Float>(width: usize, x: &[T], out: &RowsOut<'_, T>) {
    assert_eq!(x.len(), out.rows(width) * width, "input and output differ in their rows of {width} elements");
}

/// What [`group_norm`] does to its input.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm<'a, T> {
    /// Positions of one batch element: height times width.
    pub spatial: usize,
    /// Number of groups; divides the channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// A factor per channel.
    pub weight: &'a [f32],
    /// What is added to each channel.
    pub bias: &'a [f32],
    /// A second scale and shift, `y * (1 + scale) + shift`, each `[batch, channels]`.
    pub modulation: Option<(&'a [T], &'a [T])>,
    /// Applied at the end.
    pub activation: Activation,
}

/// Normalizes each group of neighbouring channels of each batch element (Wu and He 2018).
///
/// `x` and `out` are channels-last, `[batch, spatial, channels]`, with as many channels as `norm.weight` has. The
/// input is read once for the statistics and once to be normalized. Deviations are taken from a sample of each
/// channel, so a mean far from zero costs no digits.
///
/// # Panics
/// If a length does not fit the shapes, or the groups do not divide the channels.
pub fn group_norm<'a, T: Float>(cpu: &Cpu, norm: &GroupNorm<'_, T>, x: &[T], out: impl Into<RowsOut<'a, T>>) {
    let (channels, image, out) = (norm.weight.len(), norm.weight.len() * norm.spatial, out.into());
    assert_eq!(norm.bias.len(), channels, "weight and bias differ in length");
    assert!(norm.groups > 0 && channels.is_multiple_of(norm.groups), "{} groups of {channels} channels", norm.groups);
    check_rows(channels, x, &out);
    if x.is_empty() {
        return;
    }
    assert!(image > 0 && x.len().is_multiple_of(image), "the input is not [batch, {}, {channels}]", norm.spatial);
    if let Some((scale, shift)) = norm.modulation {
        let wanted = x.len() / norm.spatial;
        assert!(scale.len() == wanted && shift.len() == wanted, "the modulation is not [batch, {channels}]");
    }
    let lines = group_lines(norm, &group_moments(cpu, norm, x));
    out.for_rows(cpu.pool(), channels, piece_rows(channels), |first, out| {
        let (spatial, activation) = (norm.spatial, norm.activation);
        let x = &x[first * channels..][..out.rows(channels) * channels];
        cpu.enter(GroupApply { spatial, channels, activation, first, lines: &lines, x, out });
    });
}

/// Mean and sum of squared deviations of some numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    mean: f64,
    squares: f64,
}

impl Moments {
    /// The moments of several sets of numbers, given with their sizes.
    #[inline(always)]
    fn combined(sets: impl Iterator<Item = (f64, Self)> + Clone) -> Self {
        let (count, sum) = sets.clone().fold((0.0, 0.0), |(count, sum), (n, set)| (count + n, sum + n * set.mean));
        let mean = sum / count;
        let squares = sets.map(|(n, set)| set.squares + n * (set.mean - mean) * (set.mean - mean)).sum();
        Self { mean, squares }
    }
}

/// The moments of each group of each batch element.
fn group_moments<T: Float>(cpu: &Cpu, norm: &GroupNorm<'_, T>, x: &[T]) -> Vec<Moments> {
    let (channels, groups, spatial) = (norm.weight.len(), norm.groups, norm.spatial);
    let rows = piece_rows(channels).next_multiple_of(MOMENT_ROWS);
    let images = x.chunks_exact(spatial * channels);
    let pieces: Vec<&[T]> = images.flat_map(|image| image.chunks(rows * channels)).collect();
    let mut partials = vec![Moments::default(); pieces.len() * groups];
    for_rows(cpu.pool(), &mut partials, groups, 1, |index, moments| {
        cpu.enter(GroupMoments { channels, x: pieces[index], moments });
    });
    let per_image = spatial.div_ceil(rows) * groups;
    let count = |piece: usize| (rows.min(spatial - piece * rows) * channels / groups) as f64;
    let group = |partials: &[Moments], group: usize| {
        let sets = partials[group..].iter().step_by(groups).enumerate().map(|(piece, set)| (count(piece), *set));
        Moments::combined(sets)
    };
    partials.chunks_exact(per_image).flat_map(|image| (0..groups).map(move |index| group(image, index))).collect()
}

/// `(x - mean) * factor + offset` for each channel of a batch element.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    mean: Vec<f32>,
    factor: Vec<f32>,
    offset: Vec<f32>,
}

/// What [`group_norm`] does to each channel of each batch element.
fn group_lines<T: Float>(norm: &GroupNorm<'_, T>, moments: &[Moments]) -> Lines {
    let (channels, size) = (norm.weight.len(), norm.weight.len() / norm.groups);
    let total = moments.len() * size;
    let mut lines =
        Lines { mean: Vec::with_capacity(total), factor: Vec::with_capacity(total), offset: Vec::with_capacity(total) };
    for (index, moments) in (0..total).zip(moments.iter().flat_map(|moments| std::iter::repeat_n(moments, size))) {
        let channel = index % channels;
        let variance = moments.squares / (size * norm.spatial) as f64;
        let mean = moments.mean as f32;
        let mut factor = f64::from(norm.weight[channel]) / (variance + f64::from(norm.eps)).sqrt();
        // What the mean loses by rounding goes into the offset.
        let mut offset = f64::from(norm.bias[channel]) - (moments.mean - f64::from(mean)) * factor;
        if let Some((scale, shift)) = norm.modulation {
            let scale = 1.0 + f64::from(scale[index].widen());
            factor *= scale;
            offset = offset * scale + f64::from(shift[index].widen());
        }
        lines.mean.push(mean);
        lines.factor.push(factor as f32);
        lines.offset.push(offset as f32);
    }
    lines
}

/// The moments of each group over some positions.
pub(crate) struct GroupMoments<'a, T> {
    channels: usize,
    x: &'a [T],
    moments: &'a mut [Moments],
}

impl<T: Float> Kernel for GroupMoments<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let (channels, size) = (self.channels, self.channels / self.moments.len());
        let mut per_channel = vec![Moments::default(); channels];
        let mut scratch = vec![0.0; 3 * channels];
        let mut done = 0.0;
        for x in self.x.chunks(MOMENT_ROWS * channels) {
            channel_moments::<I, T>(x, &mut scratch, &mut per_channel);
            let count = (x.len() / channels) as f64;
            for (group, per_channel) in self.moments.iter_mut().zip(per_channel.chunks_exact(size)) {
                let new = Moments::combined(per_channel.iter().map(|channel| (count, *channel)));
                let sets = [(done * size as f64, *group), (count * size as f64, new)];
                *group = if done == 0.0 { new } else { Moments::combined(sets.into_iter()) };
            }
            done += count;
        }
    }
}

/// The moments of each channel over a few positions.
#[inline(always)]
fn channel_moments<I: Isa, T: Float>(x: &[T], scratch: &mut [f32], moments: &mut [Moments]) {
    let channels = moments.len();
    let (origin, rest) = scratch.split_at_mut(channels);
    let (sums, squares) = rest.split_at_mut(channels);
    for (origin, x) in origin.iter_mut().zip(x) {
        *origin = x.widen();
    }
    sums.fill(0.0);
    squares.fill(0.0);
    for row in x.chunks_exact(channels).skip(1) {
        add_deviations::<I, T>(row, origin, sums, squares);
    }
    let inverse = 1.0 / (x.len() / channels) as f64;
    let sums = sums.iter().zip(squares.iter().zip(&*origin));
    for (moments, (&sum, (&squares, &origin))) in moments.iter_mut().zip(sums) {
        let (sum, squares) = (f64::from(sum), f64::from(squares));
        *moments = Moments { mean: f64::from(origin) + sum * inverse, squares: squares - sum * sum * inverse };
    }
}

#[inline(always)]
fn add_deviations<I: Isa, T: Float>(row: &[T], origin: &[f32], sums: &mut [f32], squares: &mut [f32]) {
    for (((x, origin), sum), square) in row.iter().zip(origin).zip(sums).zip(squares) {
        let deviation = x.widen() - origin;
        *sum += deviation;
        *square = I::mul_add(deviation, deviation, *square);
    }
}

/// A piece of the second pass of [`group_norm`].
pub(crate) struct GroupApply<'a, T> {
    spatial: usize,
    channels: usize,
    activation: Activation,
    first: usize,
    lines: &'a Lines,
    x: &'a [T],
    out: RowsOut<'a, T>,
}

impl<T: Float> Kernel for GroupApply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self) {
        let channels = self.channels;
        let rows = (STAGE / channels).max(1);
        let mut scratch = vec![0.0; rows * channels];
        for (stage, x) in self.x.chunks(rows * channels).enumerate() {
            let first = stage * rows;
            self.out.store::<I::Wide>(first, channels, &mut scratch[..x.len()], |lanes| {
                let pixels = x.chunks_exact(channels).zip(lanes.chunks_exact_mut(channels));
                for (row, (x, lanes)) in (self.first + first..).zip(pixels) {
                    self.lines.apply::<I, T>(row / self.spatial * channels, x, lanes);
                }
                math::activate::<I>(self.activation, lanes);
            });
        }
    }
}

impl Lines {
    /// Applies the lines from `first` on to one position.
    #[inline(always)]
    fn apply<I: Isa, T: Float>(&self, first: usize, x: &[T], out: &mut [f32]) {
        let lines = self.factor[first..].iter().zip(&self.offset[first..]);
        for (((out, x), mean), (&factor, &offset)) in out.iter_mut().zip(x).zip(&self.mean[first..]).zip(lines) {
            *out = I::mul_add(x.widen() - mean, factor, offset);
        }
    }
}

/// A piece of [`layer_norm`].
pub(crate) struct LayerNormRows<'a, T> {
    eps: f32,
    weight: &'a [f32],
    bias: &'a [f32],
    x: &'a [T],
    out: RowsOut<'a, T>,
}

impl<T: Float> Kernel for LayerNormRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self) {
        let width = self.weight.len();
        let mut scratch = vec![0.0; width];
        for (row, x) in self.x.chunks_exact(width).enumerate() {
            let Moments { mean, squares } = row_moments::<I, T>(x);
            let deviation = (squares / width as f64 + f64::from(self.eps)).sqrt();
            let (high, inverse) = (mean as f32, (1.0 / deviation) as f32);
            // What the mean loses by rounding.
            let low = ((mean - f64::from(high)) / deviation) as f32;
            self.out.store::<I::Wide>(row, width, &mut scratch, |lanes| {
                for ((lane, x), (&weight, &bias)) in lanes.iter_mut().zip(x).zip(self.weight.iter().zip(self.bias)) {
                    let normal = I::mul_add(x.widen() - high, inverse, -low);
                    *lane = I::mul_add(normal, weight, bias);
                }
            });
        }
    }
}

/// The moments of a row: the mean by deviations from its first element, then the squares by those from the mean.
#[inline(always)]
fn row_moments<I: Isa, T: Float>(x: &[T]) -> Moments {
    let width = x.len() as f64;
    let origin = x[0].widen();
    let center = (f64::from(origin) + sum(x, |x| x - origin) / width) as f32;
    let (rest, squares) = deviations::<I, T>(x, center);
    Moments { mean: f64::from(center) + rest / width, squares: squares - rest * rest / width }
}

/// The sums of `x - center` and of its square, as [`sum`] adds.
#[inline(always)]
fn deviations<I: Isa, T: Float>(x: &[T], center: f32) -> (f64, f64) {
    x.chunks(RUN * LANES).fold((0.0, 0.0), |(sum, square), x| {
        let (mut sums, mut squares) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        for x in x.chunks(LANES) {
            for ((x, sum), square) in x.iter().zip(&mut sums).zip(&mut squares) {
                let deviation = x.widen() - center;
                *sum += deviation;
                *square = I::mul_add(deviation, deviation, *square);
            }
        }
        let (sums, squares) = (fold_lanes(&sums, |a, b| a + b), fold_lanes(&squares, |a, b| a + b));
        (sum + f64::from(sums), square + f64::from(squares))
    })
}

/// A piece of [`rms_norm`].
pub(crate) struct RmsNormRows<'a, T> {
    eps: f32,
    weight: &'a [f32],
    x: &'a [T],
    out: RowsOut<'a, T>,
}

impl<T: Float> Kernel for RmsNormRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self) {
        let width = self.weight.len();
        let mut scratch = vec![0.0; width];
        for (row, x) in self.x.chunks_exact(width).enumerate() {
            let mean = sum(x, |x| x * x) / width as f64;
            let inverse = (1.0 / (mean + f64::from(self.eps)).sqrt()) as f32;
            self.out.store::<I::Wide>(row, width, &mut scratch, |lanes| {
                for ((lane, x), weight) in lanes.iter_mut().zip(x).zip(self.weight) {
                    *lane = x.widen() * inverse * weight;
                }
            });
        }
    }
}
