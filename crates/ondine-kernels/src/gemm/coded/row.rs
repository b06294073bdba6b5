//! Single rows of weights in few bits: a table of embeddings that is also multiplied with lies in memory once.

use half::f16;

use super::{CodedShape, Places, TABLE, WORD, pack::six_bit_places};
use crate::{
    cpu::Cpu,
    gemm::decode::{CodeLevels, GroupNumbers, SIX_BIT_WORDS, unit},
};

/// The numbers of one row of weights in few bits: `weights` is what [`pack_coded`](super::pack::pack_coded) wrote for
/// this shape and the same tier.
///
/// Each is that of its code, every operation rounded to f32.
///
/// # Panics
/// If the shape is gated, if there is no such row, or if a slice has another length than the shape says.
pub fn coded_row(cpu: &Cpu, shape: &CodedShape, weights: &[u8], row: usize, out: &mut [f32]) {
    assert!(!shape.glu && row < shape.outputs, "row {row} of {shape:?}");
    let width = cpu.tile().width;
    let places = shape.places(cpu.tile());
    assert!(weights.len() == places.size && out.len() == shape.channels, "a row of {shape:?}");
    let (panel, lane) = (row / width, row % width);
    let [words, scales, zeros] = places.panel(panel, width, shape);
    let columns = places.layout.panel_columns(panel);
    let word_at = |at: usize| u32::from_le_bytes(bytes_at(weights, words + (at * columns + lane) * WORD));
    let half_at = |from: usize, at: usize| f16::from_ne_bytes(bytes_at(weights, from + 2 * (at * columns + lane)));
    let units = places.panel_units(panel, width);
    let number_at = |from: usize, units: usize, group: usize| match shape.numbers {
        GroupNumbers::F16 => half_at(from, group).to_f32(),
        GroupNumbers::F32 => f32::from_ne_bytes(bytes_at(weights, from + WORD * (group * columns + lane))),
        GroupNumbers::Steps { groups } => {
            let step = f32::from(weights[from + group * columns + lane].cast_signed());
            step * half_at(units, group / groups).to_f32()
        }
    };
    let Places { group_words, table, .. } = places;
    let entries: [f32; TABLE] = std::array::from_fn(|entry| match shape.levels {
        CodeLevels::Table => f32::from_ne_bytes(bytes_at(weights, table + WORD * entry)),
        CodeLevels::Symmetric | CodeLevels::Zeros | CodeLevels::Minima => 0.0,
    });
    let (centre, symmetric_zero) = shape.centre();
    for (group, out) in out.chunks_mut(shape.group.min(shape.channels)).enumerate() {
        let (scale, zero, minimum) = match shape.levels {
            CodeLevels::Symmetric => (number_at(scales, units[0], group), centre + symmetric_zero, 0.0),
            CodeLevels::Zeros => (number_at(scales, units[0], group), half_at(zeros, group).to_f32(), 0.0),
            CodeLevels::Minima => (number_at(scales, units[0], group), 0.0, number_at(zeros, units[1], group)),
            CodeLevels::Table => (0.0, 0.0, 0.0),
        };
        let (unit_codes, unit_words) = unit(shape.bits);
        for (index, out) in out.chunks_mut(unit_codes).enumerate() {
            let first = group * group_words + index * unit_words;
            let mut words = [0; SIX_BIT_WORDS];
            words.iter_mut().take(unit_words).enumerate().for_each(|(index, word)| *word = word_at(first + index));
            for (index, x) in out.iter_mut().enumerate() {
                let code = match shape.bits {
                    6 => {
                        let [low, high] = six_bit_places(index).map(|(word, bit)| words[word] >> bit);
                        (low & 15 | (high & 3) << 4) as u8
                    }
                    bits => shape.code(words[0] >> (index as u32 * bits)),
                };
                *x = match shape.levels {
                    CodeLevels::Symmetric | CodeLevels::Zeros => scale * (f32::from(code) - zero),
                    CodeLevels::Minima => scale * f32::from(code) + minimum,
                    CodeLevels::Table => entries[usize::from(code)],
                };
            }
        }
    }
}

impl CodedShape {
    /// The lowest code of a word, without its sign.
    fn code(&self, word: u32) -> u8 {
        let mask = ((1_u16 << self.bits) - 1) as u8;
        let centre = if self.levels == CodeLevels::Table { 0 } else { 1_u8 << (self.bits - 1) };
        (word as u8).wrapping_add(centre) & mask
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut found = [0; N];
    found.copy_from_slice(&bytes[at..at + N]);
    found
}
