//! Weights of a convolution in few bits, which stay so in memory: a step of a panel becomes words when a block of
//! pixels meets it, in memory that stays in the cache, and is multiplied as any other.
//!
//! Packed are the codes of each panel tap after tap, each tap with whole units of channels; scales, zeros, minima and a
//! table as those of a linear layer whose rows are `[channels, taps]`; for activations of 8 bits behind them what the
//! weights of each column in 8 bits are multiplied with, f32, and the sums of these, i32.

use std::ops::Range;

use half::f16;

use super::{
    CodedShape, Places, TABLE, WORD,
    pack::{CodedSource, Column},
    room,
};
use crate::{
    arch::dot::{MAX_WIDTH, WeightType},
    cpu::Cpu,
    gemm::{
        decode::{CHUNK, CodeLevels, CodedCall, CodedWork, GroupNumbers, TapsWork, unit},
        rows::Line,
        weights::{PACKED_ALIGN, WeightShape, cast, cast_mut, quantize},
    },
};

/// The shape of a convolution's weights `[outputs, channels, taps]` in few bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodedConvShape {
    /// Sizes, and the type of the words that codes become, which decides that of the activations. One group of
    /// channels of one input, not gated.
    pub weights: WeightShape,
    /// Of a code: 2, 4, 6 or 8; a table has 2 or 4.
    pub bits: u32,
    /// Consecutive elements of a row `[channels, taps]` with one scale; at least one.
    pub group: usize,
    /// How codes become numbers.
    pub levels: CodeLevels,
    /// What scales and minima are; no steps.
    pub numbers: GroupNumbers,
}

/// Where things are in the packed bytes.
struct ConvPlaces {
    matrix: Places,
    /// Of the columns, and their sums.
    scales: usize,
    sums: usize,
    size: usize,
}

impl CodedConvShape {
    /// The number of bytes of the packed weights.
    ///
    /// # Panics
    /// If there are several inputs or groups of channels, if the weights are gated, or if no codes are so.
    #[must_use]
    pub fn packed_size(&self, cpu: &Cpu) -> usize {
        self.places(cpu).size
    }

    /// The weights as a matrix.
    fn matrix(&self) -> CodedShape {
        let &Self { weights: WeightShape { outputs, channels, taps, .. }, bits, group, levels, numbers } = self;
        CodedShape { outputs, channels: channels[0] * taps, bits, group, levels, numbers, glu: false }
    }

    fn places(&self, cpu: &Cpu) -> ConvPlaces {
        let WeightShape { dtype, channels, taps, groups, glu, .. } = self.weights;
        let whole = groups == 1 && channels[1] == 0 && !glu;
        assert!(whole && !matches!(self.numbers, GroupNumbers::Steps { .. }), "no codes of a convolution: {self:?}");
        let matrix = self.matrix();
        let tap_words = matrix.words(channels[0]);
        let matrix = matrix.places_behind(cpu.tile(), tap_words, taps * tap_words);
        let scales = matrix.size.next_multiple_of(PACKED_ALIGN);
        let of_columns = if dtype == WeightType::S8 { matrix.layout.columns * WORD } else { 0 };
        let sums = scales + of_columns;
        ConvPlaces { matrix, scales, sums, size: (sums + of_columns).next_multiple_of(PACKED_ALIGN) }
    }

    /// The numbers of a row, every operation rounded to f32, in the order of kernels.
    fn row(&self, source: &CodedSource<'_>, row: usize) -> Vec<f32> {
        let matrix = self.matrix();
        let (group, (centre, symmetric_zero)) = (matrix.group.min(matrix.channels), matrix.centre());
        let groups = matrix.channels.div_ceil(group);
        let number = |x: f32| if self.numbers == GroupNumbers::F16 { f16::from_f32(x).to_f32() } else { x };
        let codes = source.codes[row * matrix.channels..][..matrix.channels].iter().enumerate();
        let numbers = codes.map(|(element, &code)| {
            let at = row * groups + element / group;
            let signed = f32::from(code) - centre;
            match self.levels {
                CodeLevels::Symmetric => (signed - symmetric_zero) * number(source.scales[at]),
                CodeLevels::Zeros => (signed - (source.zeros[at].to_f32() - centre)) * number(source.scales[at]),
                CodeLevels::Minima => f32::from(code) * number(source.scales[at]) + number(source.minima[at]),
                CodeLevels::Table => source.table[usize::from(code)],
            }
        });
        numbers.collect()
    }
}

/// Packs the weights of a convolution in few bits for one tier. Rows of the source are `[channels, taps]`.
///
/// # Panics
/// If a slice does not have the length that the shape demands, or `out` is not aligned to [`PACKED_ALIGN`].
pub fn pack_coded_conv(cpu: &Cpu, shape: &CodedConvShape, source: &CodedSource<'_>, out: &mut [u8]) {
    let (places, matrix) = (shape.places(cpu), shape.matrix());
    source.check(&matrix, &places.matrix);
    assert_eq!(out.len(), places.size, "packed bytes of {shape:?}");
    out.fill(0);
    let WeightShape { channels: [channels, _], taps, dtype, .. } = shape.weights;
    let (layout, width) = (places.matrix.layout, cpu.tile().width);
    // Codes begin with a new word at each tap, numbers are those of the groups.
    let of_taps = CodedShape { group: channels, ..matrix };
    let mut by_tap = vec![0; matrix.channels];
    for panel in 0..layout.panels {
        let count = layout.panel_columns(panel);
        for lane in 0..count {
            let Some(row) = layout.output(&matrix.plain(), panel * width + lane) else { continue };
            let codes = &source.codes[row * matrix.channels..][..matrix.channels];
            for (index, code) in by_tap.iter_mut().enumerate() {
                *code = codes[index % channels * taps + index / channels];
            }
            let [words, scales, zeros] = places.matrix.panel(panel, width, &matrix);
            let column = |shape| Column { shape, places: &places.matrix, row, count, lane };
            column(&of_taps).put_codes(&by_tap, words, out);
            column(&matrix).put_numbers(source, [scales, zeros], places.matrix.units, out);
            if dtype == WeightType::S8 {
                let (scale, sum) = eight_bit(&shape.row(source, row));
                let column = panel * width + lane;
                cast_mut::<f32>(&mut out[places.scales..])[column] = scale;
                cast_mut::<i32>(&mut out[places.sums..])[column] = sum;
            }
        }
    }
    if matrix.levels == CodeLevels::Table {
        source.put_table(&mut out[places.matrix.table..][..TABLE * WORD]);
    }
}

/// What weights in 8 bits are multiplied with, and their sum.
fn eight_bit(row: &[f32]) -> (f32, i32) {
    let scale = row.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / 127.0;
    let factor = inverse(scale);
    (scale, row.iter().map(|x| i32::from(quantize(x * factor))).sum())
}

fn inverse(scale: f32) -> f32 {
    if scale > 0.0 { 1.0 / scale } else { 0.0 }
}

/// Packed weights of a convolution in few bits, borrowed from memory or from a mapped file.
#[derive(Clone, Copy, Debug)]
pub struct CodedConv<'a> {
    shape: CodedConvShape,
    bytes: &'a [u8],
}

/// Room for words, and for numbers on their way there.
#[derive(Default)]
pub(crate) struct Widened {
    words: Vec<Line>,
    numbers: Vec<Line>,
}

impl<'a> CodedConv<'a> {
    /// What [`pack_coded_conv`] wrote for this shape and the same tier.
    ///
    /// # Panics
    /// If `bytes` has another length than [`CodedConvShape::packed_size`] or is not aligned to [`PACKED_ALIGN`].
    #[must_use]
    pub fn new(cpu: &Cpu, shape: CodedConvShape, bytes: &'a [u8]) -> Self {
        assert_eq!(bytes.len(), shape.packed_size(cpu), "packed bytes of {shape:?}");
        assert!(bytes.as_ptr().addr().is_multiple_of(PACKED_ALIGN), "packed bytes are not aligned");
        Self { shape, bytes }
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> &CodedConvShape {
        &self.shape
    }
    /// What sums of products with a panel are multiplied with, and the sums of its weights, for 8 bits.
    pub(crate) fn quantization(&self, cpu: &Cpu, panel: usize) -> (&'a [f32], &'a [i32]) {
        let ConvPlaces { matrix: Places { layout, .. }, scales, sums, .. } = self.shape.places(cpu);
        let (columns, first) = (layout.panel_columns(panel), panel * cpu.tile().width * WORD);
        (cast(&self.bytes[scales + first..], columns), cast(&self.bytes[sums + first..], columns))
    }

    /// The words `words` of each of the `taps` of a panel: `[taps, words, columns]`.
    ///
    /// # Panics
    /// If the first word does not begin with a unit of codes.
    pub(crate) fn widen(
        &self,
        cpu: &Cpu,
        panel: usize,
        [taps, words]: [Range<usize>; 2],
        memory: &mut Widened,
    ) -> *const u32 {
        let &WeightShape { dtype, channels: [all_channels, _], taps: all, .. } = &self.shape.weights;
        let (places, matrix) = (self.shape.places(cpu).matrix, self.shape.matrix());
        let coded = places.coded(panel, cpu.tile().width, &matrix, self.bytes);
        let channels = words.start * dtype.per_word()..all_channels.min(words.end * dtype.per_word());
        assert!(channels.start.is_multiple_of(unit(matrix.bits).0) && taps.end <= all, "words within a unit");
        let mut factors = [0.0; MAX_WIDTH];
        if dtype == WeightType::S8 {
            let (scales, _) = self.quantization(cpu, panel);
            factors.iter_mut().zip(scales).for_each(|(factor, &scale)| *factor = inverse(scale));
        }
        let to = room(&mut memory.words, taps.len() * words.len() * coded.columns);
        let numbers = room(&mut memory.numbers, CHUNK * coded.columns).cast();
        let work = TapsWork { all, taps, channels, dtype, factors: &factors, numbers, to };
        // SAFETY: the bytes have been checked to hold the codes and numbers of all panels, and there is room.
        unsafe { cpu.enter_raw(&CodedCall { panel: coded, work: CodedWork::Taps(work) }) };
        to
    }
}
