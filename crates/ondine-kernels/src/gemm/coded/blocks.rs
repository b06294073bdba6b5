//! Rows in blocks: the loops around [`blocked`](crate::gemm::blocked).

use std::ops::Range;

use super::{CodedGemm, STEP_BYTES, Scratch, room};
use crate::{
    arch::dot::{MAX_ROWS, Tile, WORD},
    cpu::Cpu,
    gemm::{
        blocked::{BlockedCall, BlockedRow, OrderCodes, SpreadCodes, beside},
        decode::CodedPanel,
    },
    quant::blocks::{BLOCK, HALF_BLOCK, blocked_offsets, blocked_row_len},
};

/// Rows of activations in blocks.
pub(super) struct Blocks<'a> {
    bytes: &'a [u8],
    channels: usize,
    /// The codes of each row in the order of words, if that is another.
    ordered: Vec<u8>,
    /// For each row and run.
    beside: Vec<u32>,
    plain: bool,
    /// Channels that are multiplied before sums are scaled.
    run: usize,
}

impl<'a> Blocks<'a> {
    /// `rows` rows for codes of `shape`, of which a panel is `panel`.
    pub(super) fn new(cpu: &Cpu, bytes: &'a [u8], panel: &CodedPanel) -> Self {
        let &CodedPanel { bits, channels, centre, .. } = panel;
        let plain = panel.is_plain();
        let run = if panel.group.is_multiple_of(BLOCK) { BLOCK } else { HALF_BLOCK };
        let rows = bytes.chunks_exact(blocked_row_len(channels));
        let (first_scale, first_sum) = blocked_offsets(channels);
        let (mut ordered, mut beside) = (Vec::new(), Vec::with_capacity(rows.len() * channels / run));
        if bits < 8 {
            ordered.resize(rows.len() * channels, 0);
            for (row, to) in rows.clone().zip(ordered.chunks_exact_mut(channels)) {
                cpu.enter(OrderCodes { bits, from: &row[..channels], to });
            }
        }
        for row in rows {
            let (scales, sums) = row[first_scale..].split_at(first_sum - first_scale);
            for (index, sums) in sums.chunks_exact(run / HALF_BLOCK * size_of::<i16>()).enumerate() {
                let sum = sums.as_chunks().0.iter().map(|&sum| i32::from(i16::from_ne_bytes(sum))).sum();
                let scale = scales.as_chunks().0[index * run / BLOCK];
                beside.push(self::beside(plain, centre as i32, sum, f32::from_ne_bytes(scale)));
            }
        }
        Self { bytes, channels, ordered, beside, plain, run }
    }

    fn row(&self, index: usize) -> BlockedRow {
        let row = &self.bytes[index * blocked_row_len(self.channels)..][..blocked_row_len(self.channels)];
        let (scales, _) = blocked_offsets(self.channels);
        let codes = if self.ordered.is_empty() { row } else { &self.ordered[index * self.channels..][..self.channels] };
        let beside = self.beside[index * (self.channels / self.run)..].as_ptr();
        BlockedRow { codes: codes.as_ptr(), scales: row[scales..].as_ptr().cast(), beside }
    }

    /// The rows from `first` on, the last of `count` repeated.
    fn rows(&self, first: usize, count: usize) -> [BlockedRow; MAX_ROWS] {
        std::array::from_fn(|index| self.row(first + index.min(count - 1)))
    }
}

impl CodedGemm<'_> {
    /// A block of rows; codes are spread step by step where that is done for more than a tile of them.
    pub(super) fn blocks(&self, blocks: &Blocks<'_>, panel: usize, rows: Range<usize>, scratch: &mut Scratch) {
        let Tile { width, .. } = self.cpu.tile();
        let coded = self.panel(panel);
        let tile_words = MAX_ROWS * width;
        let spread = rows.len() > MAX_ROWS && self.shape.bits < 8;
        let most = if spread { WORD * STEP_BYTES / (width * WORD) } else { usize::MAX };
        let totals = room(&mut scratch.sums, rows.len().div_ceil(MAX_ROWS) * tile_words).cast::<f32>();
        let length = (most / BLOCK * BLOCK).max(BLOCK);
        for first in (0..self.shape.channels).step_by(length) {
            let channels = first..self.shape.channels.min(first.saturating_add(length));
            let words = self.words(&coded, &channels, spread, scratch);
            for (tile, row) in rows.clone().step_by(MAX_ROWS).enumerate() {
                let count = MAX_ROWS.min(rows.end - row);
                let totals = totals.wrapping_add(tile * tile_words);
                let call = BlockedCall {
                    panel: &coded,
                    plain: blocks.plain,
                    run: blocks.run,
                    runs: channels.start / blocks.run..channels.end / blocks.run,
                    words,
                    far: row == rows.start && !spread,
                    rows: blocks.rows(row, count),
                    count,
                    totals,
                    width,
                    clear: channels.start == 0,
                };
                // SAFETY: rows and codes are those of slices that have been checked, and there is room for the tile.
                unsafe { self.cpu.enter_raw(&call) };
                if channels.end == self.shape.channels {
                    // SAFETY: all totals of the tile have been written.
                    let sums = unsafe { std::slice::from_raw_parts(totals.cast_const().cast(), tile_words) };
                    self.finish(panel, row, count, sums);
                }
            }
        }
    }

    /// The words of some channels of a panel, as they are or spread.
    fn words(
        &self,
        panel: &CodedPanel,
        channels: &Range<usize>,
        spread: bool,
        scratch: &mut Scratch,
    ) -> (u32, *const u32) {
        let (bits, columns) = (panel.bits, panel.columns);
        let word = |channel: usize| channel * bits as usize / 32;
        let from = panel.words.wrapping_add(word(channels.start) * columns);
        if !spread {
            return (bits, from);
        }
        let to = room(&mut scratch.panel, channels.len() / WORD * columns);
        let call = SpreadCodes { bits, from, words: word(channels.len()), columns, to };
        // SAFETY: the panel has words for all channels, and there is room for one code in a byte.
        unsafe { self.cpu.enter_raw(&call) };
        (8, to)
    }
}
