//! Packing weights in few bits: codes in words, column by column, and behind them what makes numbers of them.

use half::f16;

use super::{CodedShape, Places, WORD};
use crate::{
    cpu::Cpu,
    gemm::decode::{CodeLevels, GroupNumbers, unit},
};

/// Weights in few bits, to pack.
#[derive(Clone, Copy, Debug)]
pub struct CodedSource<'a> {
    /// `[outputs, channels]`, a byte each.
    pub codes: &'a [u8],
    /// `[outputs, groups]`; none with a table. Numbers, or the integers of [`GroupNumbers::Steps`].
    pub scales: &'a [f32],
    /// `[outputs, groups]`; only of [`CodeLevels::Zeros`].
    pub zeros: &'a [f16],
    /// `[outputs, groups]`, only of [`CodeLevels::Minima`]; as the scales.
    pub minima: &'a [f32],
    /// `[outputs, super-blocks]`, only of [`GroupNumbers::Steps`]: what scales and minima are multiplied with, rounded
    /// to f16.
    pub units: &'a [[f32; 2]],
    /// `2^bits` numbers, only of [`CodeLevels::Table`].
    pub table: &'a [f32],
}

/// Packs weights in few bits for one tier.
///
/// # Panics
/// If a slice does not have the length that the shape demands, or `out` is not aligned to
/// [`PACKED_ALIGN`](crate::PACKED_ALIGN).
pub fn pack_coded(cpu: &Cpu, shape: &CodedShape, source: &CodedSource<'_>, out: &mut [u8]) {
    let (tile, places) = (cpu.tile(), shape.places(cpu.tile()));
    let layout = places.layout;
    source.check(shape, &places);
    assert_eq!(out.len(), places.size, "packed bytes of {shape:?}");
    out.fill(0);
    for panel in 0..layout.panels {
        let count = layout.panel_columns(panel);
        for lane in 0..count {
            let Some(row) = layout.output(&shape.plain(), panel * tile.width + lane) else { continue };
            let column = Column { shape, places: &places, row, count, lane };
            let [words, scales, zeros] = places.panel(panel, tile.width, shape);
            column.put_codes(&source.codes[row * shape.channels..][..shape.channels], words, out);
            column.put_numbers(source, [scales, zeros], places.panel_units(panel, tile.width), out);
        }
    }
    if shape.levels == CodeLevels::Table {
        source.put_table(&mut out[places.table..]);
    }
}

impl CodedSource<'_> {
    /// Checks the lengths.
    pub(super) fn check(&self, shape: &CodedShape, places: &Places) {
        let numbers = shape.outputs * places.groups;
        assert_eq!(self.codes.len(), shape.outputs * shape.channels, "codes of {shape:?}");
        let units = match shape.numbers {
            GroupNumbers::Steps { .. } if shape.levels != CodeLevels::Table => shape.outputs * places.super_blocks,
            GroupNumbers::Steps { .. } | GroupNumbers::F16 | GroupNumbers::F32 => 0,
        };
        let wanted = match shape.levels {
            CodeLevels::Symmetric => [numbers, 0, 0, 0, units],
            CodeLevels::Zeros => [numbers, numbers, 0, 0, units],
            CodeLevels::Minima => [numbers, 0, numbers, 0, units],
            CodeLevels::Table => [0, 0, 0, 1 << shape.bits, 0],
        };
        let &CodedSource { scales, zeros, minima, table, units, .. } = self;
        let given = [scales.len(), zeros.len(), minima.len(), table.len(), units.len()];
        assert_eq!(given, wanted, "numbers of {shape:?}");
    }

    /// Writes the table, as many times as there is room.
    pub(super) fn put_table(&self, out: &mut [u8]) {
        for (index, bytes) in out.chunks_exact_mut(WORD).enumerate() {
            // Two bits are looked up by four, of which the upper belong to the next code.
            bytes.copy_from_slice(&self.table[index % self.table.len()].to_ne_bytes());
        }
    }
}

/// A column of a panel that is being packed.
pub(super) struct Column<'a> {
    pub(super) shape: &'a CodedShape,
    pub(super) places: &'a Places,
    /// Of the weights.
    pub(super) row: usize,
    /// Columns of the panel.
    pub(super) count: usize,
    /// Which of them.
    pub(super) lane: usize,
}

impl Column<'_> {
    /// Writes the codes of a row to the words that begin at an offset.
    pub(super) fn put_codes(&self, codes: &[u8], words: usize, out: &mut [u8]) {
        let &Self { shape: &CodedShape { bits, levels, channels, group, .. }, places, count, lane, .. } = self;
        let ((unit_codes, unit_words), group) = (unit(bits), group.min(channels));
        let centre = if levels == CodeLevels::Table || bits == 6 { 0 } else { 1_u8 << (bits - 1) };
        let mask = ((1_u16 << bits) - 1) as u8;
        for (channel, &code) in codes.iter().enumerate() {
            let within = channel % group;
            let first = channel / group * places.group_words + within / unit_codes * unit_words;
            let (code, index) = (code.wrapping_sub(centre) & mask, within % unit_codes);
            let mut put = |word: usize, bit: usize, part: u8| {
                out[words + ((first + word) * count + lane) * WORD + bit / 8] |= part << (bit % 8);
            };
            if bits == 6 {
                let [(low, shift), (high, shift_high)] = six_bit_places(index);
                put(low, shift, code & 15);
                put(high, shift_high, code >> 4);
            } else {
                put(0, index * bits as usize, code);
            }
        }
    }

    /// Writes scales, zeros or minima, and units to those offsets.
    pub(super) fn put_numbers(&self, source: &CodedSource<'_>, offsets: [usize; 2], units: [usize; 2], out: &mut [u8]) {
        let &Self { shape, places: &Places { groups, super_blocks, .. }, row, count, lane } = self;
        let mut put = |offset: usize, index: usize, bytes: &[u8]| {
            out[offset + (index * count + lane) * bytes.len()..][..bytes.len()].copy_from_slice(bytes);
        };
        let half = |x: f32| f16::from_f32(x).to_ne_bytes();
        let [scales, zeros] = offsets;
        for group in 0..groups {
            for (offset, numbers) in [(scales, source.scales), (zeros, source.minima)] {
                let Some(&number) = numbers.get(row * groups + group) else { continue };
                match shape.numbers {
                    GroupNumbers::F16 => put(offset, group, &half(number)),
                    GroupNumbers::F32 => put(offset, group, &number.to_ne_bytes()),
                    GroupNumbers::Steps { .. } => put(offset, group, &(number as i8).to_ne_bytes()),
                }
            }
            if let Some(zero) = source.zeros.get(row * groups + group) {
                put(zeros, group, &zero.to_ne_bytes());
            }
        }
        for (block, units_of) in source.units.iter().skip(row * super_blocks).take(super_blocks).enumerate() {
            put(units[0], block, &half(units_of[0]));
            if shape.levels == CodeLevels::Minima {
                put(units[1], block, &half(units_of[1]));
            }
        }
    }
}

/// Where in the three words of 16 codes of 6 bits one lies: the word and the bit of its lower four bits, and of its
/// upper two.
pub(super) fn six_bit_places(index: usize) -> [(usize, usize); 2] {
    let (byte, part) = (index % WORD, index / WORD);
    [(part / 2, byte * 8 + part % 2 * 4), (2, byte * 8 + part * 2)]
}
