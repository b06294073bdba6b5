//! Weights in the order in which the micro-kernels read them.
//!
//! The inner dimension is ordered by input, tap, channel; each (input, tap) is filled up with zeros to whole words.
//! Output columns are cut into panels of the tier's width, the last one narrower but of whole vectors. The bytes of a
//! packing are a pure function of its [`WeightShape`], the tier and the weights, so they can be kept in a file.

use std::{
    mem,
    sync::{Mutex, PoisonError},
};

use half::{bf16, f16};

use crate::{
    arch::{
        dot::{MAX_WIDTH, Tile, WORD, WeightType},
        half::{bf16_bits, bf16_value, f16_value},
    },
    cpu::Cpu,
    threads::Pool,
};

/// Alignment that packed bytes must have.
pub const PACKED_ALIGN: usize = 64;

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
    pub fn packed_size(&self, cpu: &Cpu) -> usize {
        Layout::new(self, cpu.tile()).size
    }

    /// Columns of the result.
    #[must_use]
    pub fn columns(&self) -> usize {
        if self.glu { self.outputs / 2 } else { self.outputs }
    }

    fn group_channels(&self) -> usize {
        self.channels.iter().sum::<usize>() / self.groups
    }

    /// True if each group has one channel: such weights are `[taps, outputs]` in f32, whatever the type; codes as
    /// numbers, with the scales of the outputs behind them.
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
    /// bf16 (brain floating point).
    Bf16(&'a [bf16]),
    /// Already quantized: `w = scale * q`; only for [`WeightType::S8`].
    S8 {
        /// The values `q`.
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

/// The panels that a product passes over.
pub(crate) enum Panels {
    /// The first so many, which are all.
    All(usize),
    /// Those in which wanted columns lie.
    Some(Vec<usize>),
}

impl Panels {
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::Some(panels) => panels.len(),
        }
    }

    /// At most `count` panels from the `first`th on.
    pub(crate) fn part(&self, first: usize, count: usize) -> impl Iterator<Item = usize> {
        let range = first..self.count().min(first + count);
        range.filter_map(move |index| match self {
            Self::All(_) => Some(index),
            Self::Some(panels) => panels.get(index).copied(),
        })
    }
}

impl Layout {
    pub(crate) fn new(shape: &WeightShape, Tile { lanes, width, .. }: Tile) -> Self {
        shape.check();
        let outputs = shape.outputs / shape.groups;
        let columns =
            if shape.glu { (outputs / 2).next_multiple_of(lanes) * 2 } else { outputs.next_multiple_of(lanes) };
        let words = shape.taps * (shape.words(0) + shape.words(1));
        let panels = columns.div_ceil(width);
        let scales = shape.groups * columns * words * WORD;
        let size = match shape.dtype {
            WeightType::S8 if shape.is_depthwise() => (shape.elements() + shape.outputs) * WORD,
            _ if shape.is_depthwise() => shape.elements() * WORD,
            WeightType::S8 => scales + 2 * shape.groups * columns * WORD,
            WeightType::F32 | WeightType::Bf16 => scales,
        };
        let size = size.next_multiple_of(PACKED_ALIGN);
        Self { columns, words, width, lanes, panels, scales, size }
    }

    /// The panels in which these columns lie, which rise, or all.
    pub(crate) fn panels_of(&self, columns: Option<&[usize]>) -> Panels {
        let Some(columns) = columns else { return Panels::All(self.panels) };
        let mut panels: Vec<usize> = columns.iter().map(|column| column / self.width).collect();
        panels.dedup();
        Panels::Some(panels)
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
    /// If the weights are empty, if `bytes` has another length than [`WeightShape::packed_size`] or is not aligned to
    /// [`PACKED_ALIGN`].
    #[must_use]
    pub fn new(cpu: &Cpu, shape: WeightShape, bytes: &'a [u8]) -> Self {
        assert!(shape.elements() > 0, "empty weights: {shape:?}");
        assert_eq!(bytes.len(), shape.packed_size(cpu), "packed bytes of {shape:?}");
        assert!(bytes.as_ptr().addr().is_multiple_of(PACKED_ALIGN), "packed bytes are not aligned");
        Self { shape, bytes }
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> &WeightShape {
        &self.shape
    }

    /// Checks that the weights were packed for a tier of the same layout as that of `cpu`.
    pub(crate) fn check(&self, cpu: &Cpu) {
        assert_eq!(self.bytes.len(), self.shape.packed_size(cpu), "weights packed for another tier");
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

    /// What sums of depthwise codes are multiplied by, for each output; none of other types.
    pub(crate) fn depthwise_scales(&self) -> Option<&'a [f32]> {
        let coded = self.shape.dtype == WeightType::S8;
        coded.then(|| cast(&self.bytes[self.shape.elements() * WORD..], self.shape.outputs))
    }
}

/// A type of 4 bytes that any bits are valid for.
pub(crate) trait Word: Copy {}
impl Word for f32 {}
impl Word for i32 {}
impl Word for u32 {}

pub(crate) fn cast<T: Word>(bytes: &[u8], count: usize) -> &[T] {
    assert!(bytes.len() >= count * WORD && bytes.as_ptr().addr().is_multiple_of(align_of::<T>()), "misplaced words");
    // SAFETY: length and alignment have just been checked, and any bits are a `T`.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) }
}

pub(crate) fn cast_mut<T: Word>(bytes: &mut [u8]) -> &mut [T] {
    assert!(bytes.as_ptr().addr().is_multiple_of(align_of::<T>()), "misplaced words");
    // SAFETY: the alignment has just been checked, the length is rounded down, and any bits are a `T` and back.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / WORD) }
}

/// Packs weights for one tier.
///
/// Weights that become [`WeightType::S8`] get a scale per output, the largest absolute value over 127.
///
/// # Panics
/// If the weights are empty, if `source` does not have [`WeightShape::elements`] elements, if `out` does not have
/// [`WeightShape::packed_size`] bytes or is not aligned to [`PACKED_ALIGN`], or if quantized weights are to be packed
/// to another type.
pub fn pack(cpu: &Cpu, shape: &WeightShape, source: WeightSource<'_>, out: &mut [u8]) {
    let layout = Layout::new(shape, cpu.tile());
    assert!(shape.elements() > 0, "empty weights: {shape:?}");
    assert_eq!(source.len(), shape.elements(), "weights of {shape:?}");
    assert_eq!(out.len(), layout.size, "packed bytes of {shape:?}");
    assert!(out.as_ptr().addr().is_multiple_of(PACKED_ALIGN), "packed bytes are not aligned");
    if let WeightSource::S8 { scales, .. } = source {
        assert!(shape.dtype == WeightType::S8 && scales.len() == shape.outputs, "scales of {shape:?}");
    }
    if shape.is_depthwise() {
        return pack_depthwise(shape, source, cast_mut(out));
    }
    let pool = cpu.pool();
    match source {
        WeightSource::F32(values) => Packing { shape, layout, values, scales: None }.run(pool, out),
        WeightSource::F16(values) => Packing { shape, layout, values, scales: None }.run(pool, out),
        WeightSource::Bf16(values) => Packing { shape, layout, values, scales: None }.run(pool, out),
        WeightSource::S8 { values, scales } => Packing { shape, layout, values, scales: Some(scales) }.run(pool, out),
    }
}

fn pack_depthwise(shape: &WeightShape, source: WeightSource<'_>, out: &mut [f32]) {
    for (index, value) in out.iter_mut().take(shape.elements()).enumerate() {
        let (tap, output) = (index / shape.outputs, index % shape.outputs);
        let at = output * shape.taps + tap;
        *value = match source {
            WeightSource::F32(values) => values[at],
            WeightSource::F16(values) => values[at].number(),
            WeightSource::Bf16(values) => values[at].number(),
            WeightSource::S8 { values, .. } => values[at].number(),
        };
    }
    if shape.dtype == WeightType::S8 {
        for (output, scale) in out[shape.elements()..].iter_mut().take(shape.outputs).enumerate() {
            *scale = if let WeightSource::S8 { scales, .. } = source { scales[output] } else { 1.0 };
        }
    }
}

/// An element of weights to pack.
trait Weight: Copy + Sync {
    fn number(self) -> f32;
}

impl Weight for f32 {
    #[inline(always)]
    fn number(self) -> f32 {
        self
    }
}

impl Weight for f16 {
    #[inline(always)]
    fn number(self) -> f32 {
        f16_value(self.to_bits())
    }
}

impl Weight for bf16 {
    #[inline(always)]
    fn number(self) -> f32 {
        bf16_value(self.to_bits())
    }
}

impl Weight for i8 {
    #[inline(always)]
    fn number(self) -> f32 {
        f32::from(self)
    }
}

/// A packing under way.
struct Packing<'a, T> {
    shape: &'a WeightShape,
    layout: Layout,
    values: &'a [T],
    /// Of weights that are quantized already.
    scales: Option<&'a [f32]>,
}

/// A panel to fill.
struct Panel<'a> {
    group: usize,
    index: usize,
    words: &'a mut [u32],
    /// Of [`WeightType::S8`]: the scale and the sum of each column.
    scales: &'a mut [f32],
    sums: &'a mut [i32],
}

/// Where a column comes from: its first element and what elements are multiplied by.
#[derive(Clone, Copy)]
struct Column {
    first: usize,
    factor: f32,
}

impl<T: Weight> Packing<'_, T> {
    fn run(&self, pool: &Pool, out: &mut [u8]) {
        let panels: Vec<_> = self.panels(out).into_iter().map(|panel| Mutex::new(Some(panel))).collect();
        pool.run(panels.len(), &|task| {
            let panel = panels[task].lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(panel) = panel {
                self.fill(panel);
            }
        });
    }

    /// Cuts the bytes into panels.
    fn panels<'o>(&self, out: &'o mut [u8]) -> Vec<Panel<'o>> {
        let Layout { columns, panels, scales, words, .. } = self.layout;
        let quantized = if self.shape.dtype == WeightType::S8 { self.shape.groups * columns * WORD } else { 0 };
        let (mut bytes, rest) = out.split_at_mut(scales);
        let (mut scales, rest) = rest.split_at_mut(quantized);
        let mut sums = &mut rest[..quantized];
        let mut all = Vec::with_capacity(self.shape.groups * panels);
        for group in 0..self.shape.groups {
            for index in 0..panels {
                let size = self.layout.panel_columns(index) * WORD;
                let words = cast_mut(take(&mut bytes, size * words));
                let size = size.min(quantized);
                let (scales, sums) = (cast_mut(take(&mut scales, size)), cast_mut(take(&mut sums, size)));
                all.push(Panel { group, index, words, scales, sums });
            }
        }
        all
    }

    fn fill(&self, panel: Panel<'_>) {
        let Panel { group, index, words, scales, sums } = panel;
        let count = self.layout.panel_columns(index);
        let row_length = self.values.len() / self.shape.outputs;
        let mut columns = [None; MAX_WIDTH];
        for (lane, column) in columns[..count].iter_mut().enumerate() {
            let output = self.layout.output(self.shape, index * self.layout.width + lane);
            *column = output.map(|output| {
                let row = group * (self.shape.outputs / self.shape.groups) + output;
                Column { first: row * row_length, factor: 1.0 }
            });
        }
        match self.shape.dtype {
            WeightType::F32 => self.words(&columns[..count], words, |_, _, [x]: [f32; 1]| x.to_bits()),
            WeightType::Bf16 => self.words(&columns[..count], words, |_, _, [x, y]: [f32; 2]| {
                u32::from(bf16_bits(x)) | u32::from(bf16_bits(y)) << 16
            }),
            WeightType::S8 => {
                self.scale(&mut columns[..count], row_length, scales);
                sums.fill(0);
                self.words(&columns[..count], words, |lane, factor, quad: [f32; 4]| {
                    let quad = quad.map(|x| quantize(x * factor));
                    sums[lane] += quad.into_iter().map(i32::from).sum::<i32>();
                    u32::from_le_bytes(quad.map(|q| q as u8))
                });
            }
        }
    }

    /// Chooses the scale of each column.
    fn scale(&self, columns: &mut [Option<Column>], row_length: usize, scales: &mut [f32]) {
        for (column, scale) in columns.iter_mut().zip(scales) {
            *scale = 0.0;
            let Some(column) = column else { continue };
            if let Some(scales) = self.scales {
                *scale = scales[column.first / row_length];
                continue;
            }
            let row = &self.values[column.first..column.first + row_length];
            *scale = row.iter().fold(0.0_f32, |most, value| most.max(value.number().abs())) / 127.0;
            column.factor = if *scale > 0.0 { 1.0 / *scale } else { 0.0 };
        }
    }

    /// Fills the words of a panel, each made by `encode` of the lane, its factor and `N` elements.
    #[inline(always)]
    fn words<const N: usize>(
        &self,
        columns: &[Option<Column>],
        words: &mut [u32],
        mut encode: impl FnMut(usize, f32, [f32; N]) -> u32,
    ) {
        let WeightShape { taps, channels, groups, .. } = *self.shape;
        let mut begin = 0;
        let mut before = 0;
        for (input, channels) in channels.map(|count| count / groups).into_iter().enumerate() {
            let run = self.shape.words(input);
            for (word, channel) in (0..channels).step_by(N).enumerate() {
                let there = N.min(channels - channel);
                for tap in 0..taps {
                    let place = (begin + tap * run + word) * columns.len();
                    let first = (before + channel) * taps + tap;
                    let out = &mut words[place..place + columns.len()];
                    for (lane, (column, out)) in columns.iter().zip(out).enumerate() {
                        *out = column.map_or(0, |Column { first: row, factor }| {
                            let value =
                                |i: usize| if i < there { self.values[row + first + i * taps].number() } else { 0.0 };
                            encode(lane, factor, std::array::from_fn(value))
                        });
                    }
                }
            }
            begin += taps * run;
            before += channels;
        }
    }
}

/// Takes bytes off the front.
fn take<'o>(bytes: &mut &'o mut [u8], count: usize) -> &'o mut [u8] {
    let (head, tail) = mem::take(bytes).split_at_mut(count);
    *bytes = tail;
    head
}

/// The nearest of -128..=127, ties to even; 0 for NaN.
#[inline(always)]
pub(crate) fn quantize(value: f32) -> i8 {
    // Adding 1.5 * 2^23 rounds and leaves the integer in the low bits.
    (value.clamp(-128.0, 127.0) + 12_582_912.0).to_bits() as i8
}
