//! Rows in blocks: the loops around [`blocked`](crate::gemm::blocked).

use std::ops::Range;

use super::{CodedGemm, STEP_BYTES, Scratch, room};
use crate::{
    arch::dot::{MAX_ROWS, Tile, WORD},
    gemm::{
        blocked::{BlockedCall, BlockedRows, SpreadCodes},
        decode::CodedPanel,
    },
    quant::blocks::BLOCK,
};

impl CodedGemm<'_> {
    /// A block of rows; codes are spread step by step where that is done for more than a tile of them.
    pub(super) fn blocks(&self, blocks: &BlockedRows<'_>, panel: usize, rows: Range<usize>, scratch: &mut Scratch) {
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
