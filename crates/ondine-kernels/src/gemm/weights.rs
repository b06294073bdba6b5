//! Weights in the order in which the micro-kernels read them.
//!
//! The inner dimension is ordered by input, tap, channel; each (input, tap) is filled up with zeros to whole words.
//! Output columns are cut into panels of the tier's width, the last one narrower but of whole vectors. The bytes of a
//! packing are a pure function of its [`WeightShape`], the tier and the weights, so they can be kept in a file.

use std::mem;

use half::{bf16, f16};

use crate::{
    gemm::micro::{GemmKernels, WORD},
    math::bf16_bits,
    table::Kernels,
    threads::Pool,
};

/// Alignment that packed bytes must have.
pub const PACKED_ALIGN: usize = 64;

/// The type of the elements of packed weights, which decides the type of the activations that they are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// For activations of f32.
    F32,
    /// For activations of bf16.
    Bf16,
    /// -127..=127 with a scale per output, for activations of u8.
    S8,
}

impl WeightType {
    /// Elements per word.
    pub(crate) fn per_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::S8 => 4,
        }
    }

    /// Bytes of an element of the activations.
    pub(crate) fn activation_bytes(self) -> usize {
        WORD / self.per_word()
    }
}

/// The shape of the weights of a linear layer or a convolution.
///
/// Before packing they lie as `[outputs, channels / groups, taps]`, where `channels` is the sum over both inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightShape {
    /// The type to pack to.
    pub dtype: WeightType,
    /// Rows of the weights. With `glu`, twice the columns of the result.
    pub outputs: usize,
    /// Channels of the input, or of two inputs that are concatenated; the second may be 0.
    pub channels: [usize; 2],
    /// Elements of the convolution's kernel; 1 for a linear layer.
    pub taps: usize,
    /// Independent groups of channels; must divide `outputs` and `channels`. More than one only with one input.
    pub groups: usize,
    /// True if the result is the first half of the outputs times the activated second half.
    pub glu: bool,
}

impl WeightShape {
    /// The weights `[outputs, channels]` of a linear layer.
    #[must_use]
    pub fn linear(dtype: WeightType, outputs: usize, channels: usize) -> Self {
        Self { dtype, outputs, channels: [channels, 0], taps: 1, groups: 1, glu: false }
    }

    /// The number of elements of the weights before packing.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.outputs * self.group_channels() * self.taps
    }

    /// The number of bytes of the packed weights.
    #[must_use]
    pub fn packed_size(&self, kernels: &Kernels) -> usize {
        Layout::new(self, &kernels.gemm).size
    }

    /// Columns of the result.
    #[must_use]
    pub fn columns(&self) -> usize {
        if self.glu { self.outputs / 2 } else { self.outputs }
    }

    fn group_channels(&self) -> usize {
        self.channels.iter().sum::<usize>() / self.groups
    }

    /// True if each group has one channel: such weights are `[taps, outputs]` in f32, whatever the type.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.group_channels() == 1
    }

    /// Words of one row of input `i` in one group.
    pub(crate) fn words(&self, input: usize) -> usize {
        (self.channels[input] / self.groups).div_ceil(self.dtype.per_word())
    }

    fn check(&self) {
        let divides = |n: usize| n.is_multiple_of(self.groups);
        assert!(
            self.groups > 0 && divides(self.outputs) && divides(self.channels[0]),
            "groups do not divide: {self:?}"
        );
        assert!(self.groups == 1 || self.channels[1] == 0, "groups of two inputs: {self:?}");
        assert!(!self.glu || (self.groups == 1 && self.outputs.is_multiple_of(2)), "cannot be gated: {self:?}");
    }
}

/// Weights to pack, `[outputs, channels / groups, taps]`.
#[derive(Clone, Copy, Debug)]
pub enum WeightSource<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
    /// Brain floating point.
    Bf16(&'a [bf16]),
    /// Already quantized: `w = scale * q`; only for [`WeightType::S8`].
    S8 {
        /// The values `q`, -127..=127.
        values: &'a [i8],
        /// One scale per output.
        scales: &'a [f32],
    },
}

impl WeightSource<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::S8 { values, .. } => values.len(),
        }
    }

    #[inline(always)]
    fn get(&self, index: usize) -> f32 {
        match self {
            Self::F32(values) => values[index],
            Self::F16(values) => values[index].to_f32(),
            Self::Bf16(values) => values[index].to_f32(),
            Self::S8 { values, .. } => f32::from(values[index]),
        }
    }
}

/// Where things are in packed weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Packed columns of one group.
    pub(crate) columns: usize,
    /// Words of the inner dimension.
    pub(crate) words: usize,
    /// Columns of a full panel.
    width: usize,
    /// Columns per half when gated: `lanes` of the first half are followed by `lanes` of the second.
    lanes: usize,
    /// Panels of one group.
    pub(crate) panels: usize,
    /// Offset of the scales of [`WeightType::S8`], one f32 per packed column.
    scales: usize,
    /// All bytes.
    size: usize,
}

impl Layout {
    pub(crate) fn new(shape: &WeightShape, kernels: &GemmKernels) -> Self {
        shape.check();
        let GemmKernels { lanes, width, .. } = *kernels;
        let outputs = shape.outputs / shape.groups;
        let columns =
            if shape.glu { (outputs / 2).next_multiple_of(lanes) * 2 } else { outputs.next_multiple_of(lanes) };
        let words = shape.taps * (shape.words(0) + shape.words(1));
        let panels = columns.div_ceil(width);
        let scales = shape.groups * columns * words * WORD;
        let size = match shape.dtype {
            _ if shape.is_depthwise() => shape.elements() * WORD,
            WeightType::S8 => scales + 2 * shape.groups * columns * WORD,
            WeightType::F32 | WeightType::Bf16 => scales,
        };
        let size = size.next_multiple_of(PACKED_ALIGN);
        Self { columns, words, width, lanes, panels, scales, size }
    }

    /// Columns of a panel.
    pub(crate) fn panel_columns(&self, panel: usize) -> usize {
        self.width.min(self.columns - panel * self.width)
    }

    /// Offset of a panel.
    pub(crate) fn panel_offset(&self, group: usize, panel: usize) -> usize {
        (group * self.columns + panel * self.width) * self.words * WORD
    }

    /// The output, within its group, that is packed at a column; `None` if the column is filling.
    pub(crate) fn output(&self, shape: &WeightShape, column: usize) -> Option<usize> {
        let outputs = shape.outputs / shape.groups;
        if !shape.glu {
            return (column < outputs).then_some(column);
        }
        let (block, lane) = (column / (2 * self.lanes), column % (2 * self.lanes));
        let (half, within) = (lane / self.lanes, block * self.lanes + lane % self.lanes);
        (within < outputs / 2).then_some(half * (outputs / 2) + within)
    }
}

/// Packed weights, borrowed from memory or from a mapped file.
#[derive(Clone, Copy, Debug)]
pub struct PackedWeights<'a> {
    shape: WeightShape,
    bytes: &'a [u8],
}

impl<'a> PackedWeights<'a> {
    /// What [`pack`] wrote for this shape and the same tier.
    ///
    /// # Panics
    /// If `bytes` has another length than [`WeightShape::packed_size`] or is not aligned to [`PACKED_ALIGN`].
    #[must_use]
    pub fn new(kernels: &Kernels, shape: WeightShape, bytes: &'a [u8]) -> Self {
        assert_eq!(bytes.len(), shape.packed_size(kernels), "packed bytes of {shape:?}");
        assert!(bytes.as_ptr().addr().is_multiple_of(PACKED_ALIGN), "packed bytes are not aligned");
        Self { shape, bytes }
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> &WeightShape {
        &self.shape
    }

    /// The words from `offset` bytes on.
    pub(crate) fn words(&self, offset: usize) -> *const u32 {
        self.bytes[offset..].as_ptr().cast()
    }

    /// Scales and column sums of one panel of [`WeightType::S8`].
    pub(crate) fn quantization(&self, layout: &Layout, group: usize, panel: usize) -> (&'a [f32], &'a [i32]) {
        let columns = layout.panel_columns(panel);
        let first = layout.scales + (group * layout.columns + panel * layout.width) * WORD;
        let sums = first + self.shape.groups * layout.columns * WORD;
        (cast(&self.bytes[first..], columns), cast(&self.bytes[sums..], columns))
    }

    /// `[taps, outputs]` of depthwise weights.
    pub(crate) fn depthwise(&self) -> &'a [f32] {
        cast(self.bytes, self.shape.elements())
    }
}

/// A type of 4 bytes that any bits are valid for.
trait Word: Copy {}
impl Word for f32 {}
impl Word for i32 {}
impl Word for u32 {}

fn cast<T: Word>(bytes: &[u8], count: usize) -> &[T] {
    assert!(bytes.len() >= count * WORD && bytes.as_ptr().addr().is_multiple_of(align_of::<T>()), "misplaced words");
    // SAFETY: length and alignment have just been checked, and any bits are a `T`.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) }
}

fn cast_mut<T: Word>(bytes: &mut [u8]) -> &mut [T] {
    assert!(bytes.as_ptr().addr().is_multiple_of(align_of::<T>()), "misplaced words");
    // SAFETY: the alignment has just been checked, the length is rounded down, and any bits are a `T` and back.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / WORD) }
}

/// Packs weights for one tier.
///
/// Weights that become [`WeightType::S8`] get a scale per output, the largest absolute value over 127.
///
/// # Panics
/// If `source` does not have [`WeightShape::elements`] elements, if `out` does not have
/// [`WeightShape::packed_size`] bytes or is not aligned to [`PACKED_ALIGN`], or if quantized weights are to be packed
/// to another type.
pub fn pack(pool: &Pool, kernels: &Kernels, shape: &WeightShape, source: WeightSource<'_>, out: &mut [u8]) {
    let layout = Layout::new(shape, &kernels.gemm);
    assert_eq!(source.len(), shape.elements(), "weights of {shape:?}");
    assert_eq!(out.len(), layout.size, "packed bytes of {shape:?}");
    assert!(out.as_ptr().addr().is_multiple_of(PACKED_ALIGN), "packed bytes are not aligned");
    if let WeightSource::S8 { scales, .. } = source {
        assert!(shape.dtype == WeightType::S8 && scales.len() == shape.outputs, "scales of {shape:?}");
    }
    if shape.is_depthwise() {
        return pack_depthwise(shape, source, cast_mut(out));
    }
    let (panels, quantization) = out.split_at_mut(layout.scales);
    let (scales, sums) = quantization.split_at_mut(quantization.len().min(shape.groups * layout.columns * WORD));
    let packing = Packing { shape, layout, source };
    if shape.dtype == WeightType::S8 {
        let columns = scales.len() / WORD;
        packing.quantization(pool, cast_mut(scales), &mut cast_mut(sums)[..columns]);
    }
    let scales = &cast_mut::<f32>(scales)[..];
    let jobs: Vec<_> =
        packing.split(cast_mut(panels)).into_iter().map(|job| std::sync::Mutex::new(Some(job))).collect();
    pool.run(jobs.len(), &|task| {
        let job = mem::take(&mut *jobs[task].lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        if let Some((group, panel, words)) = job {
            packing.panel(group, panel, scales, words);
        }
    });
}

fn pack_depthwise(shape: &WeightShape, source: WeightSource<'_>, out: &mut [f32]) {
    for (index, value) in out.iter_mut().take(shape.elements()).enumerate() {
        let (tap, output) = (index / shape.outputs, index % shape.outputs);
        let scale = if let WeightSource::S8 { scales, .. } = source { scales[output] } else { 1.0 };
        *value = source.get(output * shape.taps + tap) * scale;
    }
}

/// A packing under way.
struct Packing<'a> {
    shape: &'a WeightShape,
    layout: Layout,
    source: WeightSource<'a>,
}

impl Packing<'_> {
    /// The words of each panel, with its group and index.
    fn split<'w>(&self, mut words: &'w mut [u32]) -> Vec<(usize, usize, &'w mut [u32])> {
        let mut jobs = Vec::with_capacity(self.shape.groups * self.layout.panels);
        for group in 0..self.shape.groups {
            for panel in 0..self.layout.panels {
                let count = self.layout.panel_columns(panel) * self.layout.words;
                let (head, tail) = mem::take(&mut words).split_at_mut(count);
                jobs.push((group, panel, head));
                words = tail;
            }
        }
        jobs
    }

    /// The row of the weights that is packed at a column of a group.
    fn row(&self, group: usize, column: usize) -> Option<usize> {
        Some(group * (self.shape.outputs / self.shape.groups) + self.layout.output(self.shape, column)?)
    }

    fn panel(&self, group: usize, panel: usize, scales: &[f32], words: &mut [u32]) {
        let columns = self.layout.panel_columns(panel);
        for column in 0..columns {
            let packed = panel * self.layout.width + column;
            let Some(row) = self.row(group, packed) else {
                words.iter_mut().skip(column).step_by(columns).for_each(|word| *word = 0);
                continue;
            };
            let inverse = match (self.shape.dtype, self.source) {
                (WeightType::S8, WeightSource::S8 { .. }) => 1.0,
                (WeightType::S8, _) => invert(scales[group * self.layout.columns + packed]),
                _ => 1.0,
            };
            self.column(row, inverse, words.iter_mut().skip(column).step_by(columns));
        }
    }

    /// Fills the words of one column.
    fn column<'w>(&self, row: usize, inverse: f32, mut words: impl Iterator<Item = &'w mut u32>) {
        let WeightShape { dtype, taps, channels, groups, .. } = *self.shape;
        let [first, second] = channels.map(|count| count / groups);
        let row = row * (first + second) * taps;
        for (begin, count) in [(0, first), (first, second)] {
            for tap in 0..taps {
                let value = |channel: usize| self.source.get(row + (begin + channel) * taps + tap);
                for (channel, word) in (0..count).step_by(dtype.per_word()).zip(&mut words) {
                    *word = encode(dtype, count - channel, |i| value(channel + i) * inverse);
                }
            }
        }
    }

    /// Finds the scale of each packed column and the sum of its quantized weights.
    fn quantization(&self, _pool: &Pool, scales: &mut [f32], sums: &mut [i32]) {
        let length = self.shape.elements() / self.shape.outputs.max(1);
        for (index, (scale, sum)) in scales.iter_mut().zip(sums).enumerate() {
            (*scale, *sum) = (0.0, 0);
            let Some(row) = self.row(index / self.layout.columns, index % self.layout.columns) else { continue };
            let values = || (row * length..(row + 1) * length).map(|i| self.source.get(i));
            if let WeightSource::S8 { scales, .. } = self.source {
                *scale = scales[row];
                *sum = values().map(|value| value as i32).sum();
            } else {
                *scale = values().fold(0.0_f32, |most, value| most.max(value.abs())) / 127.0;
                let inverse = invert(*scale);
                *sum = values().map(|value| i32::from(quantize(value * inverse))).sum();
            }
        }
    }
}

/// `1 / scale`, or 0 for a row of zeros.
fn invert(scale: f32) -> f32 {
    if scale > 0.0 { 1.0 / scale } else { 0.0 }
}

fn quantize(value: f32) -> i8 {
    value.round_ties_even().clamp(-127.0, 127.0) as i8
}

/// The word of elements `value(0..)`, of which `count` exist.
#[inline(always)]
fn encode(dtype: WeightType, count: usize, value: impl Fn(usize) -> f32) -> u32 {
    match dtype {
        WeightType::F32 => value(0).to_bits(),
        WeightType::Bf16 => {
            let high = if count > 1 { bf16_bits(value(1)) } else { 0 };
            u32::from(bf16_bits(value(0))) | u32::from(high) << 16
        }
        WeightType::S8 => {
            let byte = |i: usize| if i < count { quantize(value(i)) } else { 0 };
            u32::from_le_bytes([0, 1, 2, 3].map(|i| byte(i) as u8))
        }
    }
}
