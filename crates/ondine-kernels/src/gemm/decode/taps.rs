//! Codes of a convolution made words of panels: tap by tap, as products with many rows read them.
//!
//! Groups run along a row as it lies in a file, `[channels, taps]`, while panels hold the channels of one tap after
//! those of another: consecutive channels of a tap are `taps` elements apart, and may be of several groups.

use std::ops::Range;

use super::{CHUNK, CodedPanel, Decoder, TapsWork, load, pair};
use crate::{
    arch::{
        dot::{WORD, WeightType},
        vector::CodeVector,
    },
    gemm::{decode::CodeLevels, weights::quantize},
};

impl<V: CodeVector, const BITS: u32, const TABLE: bool> Decoder<V, BITS, TABLE> {
    /// Writes the words; of a word that the channels do not fill, the rest is 0.
    ///
    /// # Safety
    /// The panel holds the codes of all taps, `group_words` words of a column for each, and the numbers of all groups,
    /// which are no steps; there is room as [`TapsWork`] says.
    #[inline(always)]
    pub(super) unsafe fn widen(&self, panel: &CodedPanel, work: &TapsWork<'_>) {
        let &TapsWork { all, ref taps, ref channels, dtype, factors, numbers, mut to } = work;
        let columns = panel.columns;
        for tap in taps.clone() {
            let mut channel = channels.start;
            while channel < channels.end {
                let end = channels.end.min(channel + CHUNK);
                let words = (end - channel).div_ceil(dtype.per_word());
                // SAFETY: as the caller says; numbers have the alignment of words.
                unsafe {
                    let into = if dtype == WeightType::F32 { to.cast() } else { numbers };
                    for column in (0..columns).step_by(V::LANES) {
                        self.tap(panel, [all, tap], channel..end, column, into.add(column));
                    }
                    let count = words * dtype.per_word() * columns;
                    let filled = (end - channel) * columns;
                    if dtype != WeightType::F32 {
                        std::slice::from_raw_parts_mut(numbers.add(filled), count - filled).fill(0.0);
                        let from = std::slice::from_raw_parts(numbers, count);
                        let to = std::slice::from_raw_parts_mut(to, words * columns);
                        if dtype == WeightType::Bf16 {
                            pair(from, to, columns);
                        } else {
                            bytes(from, &factors[..columns], to);
                        }
                    }
                    to = to.add(words * columns);
                }
                channel = end;
            }
        }
    }

    /// Writes the numbers of some channels of a tap for a vector of columns, which are `panel.columns` apart.
    ///
    /// # Safety
    /// See [`Decoder::widen`].
    #[inline(always)]
    unsafe fn tap(
        &self,
        panel: &CodedPanel,
        [taps, tap]: [usize; 2],
        channels: Range<usize>,
        column: usize,
        mut to: *mut f32,
    ) {
        let scaled = panel.levels != CodeLevels::Table;
        let added = panel.levels == CodeLevels::Minima;
        let (mut zero, mut scale, mut minimum) = (V::splat(0.0), V::splat(1.0), V::splat(0.0));
        // In the order of a row; the first element behind the group whose numbers are there.
        let (mut element, mut group_end) = (channels.start * taps + tap, 0);
        let mut channel = channels.start;
        let mut word = tap * panel.group_words + channel / Self::UNIT * Self::WORDS;
        while channel < channels.end {
            // SAFETY: as the caller says.
            unsafe {
                let first = word * panel.columns + column;
                let words: [V; 1] = load(panel.words.add(first));
                for code in 0..Self::UNIT.min(channels.end - channel) {
                    if scaled && element >= group_end {
                        let group = element / panel.group;
                        (zero, scale, minimum) = panel.grid::<V>(group, column);
                        group_end = (group + 1) * panel.group;
                    }
                    let [number] = match BITS {
                        6 => Self::six_bits(panel.words.add(first), panel.columns, code),
                        _ => self.numbers(&words, code),
                    };
                    let number = if scaled { number.sub(zero).mul(scale) } else { number };
                    let number = if added { number.add(minimum) } else { number };
                    number.store(to);
                    to = to.add(panel.columns);
                    element += taps;
                }
            }
            channel += Self::UNIT;
            word += Self::WORDS;
        }
    }
}

/// Rounds numbers, each times the factor of its column, and joins those of four channels.
#[inline(always)]
fn bytes(from: &[f32], factors: &[f32], to: &mut [u32]) {
    let columns = factors.len();
    for (from, to) in from.chunks_exact(WORD * columns).zip(to.chunks_exact_mut(columns)) {
        let (first, rest) = from.split_at(columns);
        let (second, rest) = rest.split_at(columns);
        let (third, fourth) = rest.split_at(columns);
        for (index, (to, &factor)) in to.iter_mut().zip(factors).enumerate() {
            *to = byte(first[index] * factor)
                | byte(second[index] * factor) << 8
                | byte(third[index] * factor) << 16
                | byte(fourth[index] * factor) << 24;
        }
    }
}

/// The nearest signed integer of 8 bits, in the lowest bits.
#[inline(always)]
fn byte(x: f32) -> u32 {
    u32::from(quantize(x) as u8)
}
