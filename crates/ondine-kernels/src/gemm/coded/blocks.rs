//! Rows in blocks: the loops around [`blocked`](crate::gemm::blocked).

use std::ops::Range;

use super::{CodedGemm, Scratch, room};
use crate::{
    arch::dot::{MAX_ROWS, Tile},
    gemm::{blocked::BlockedCall, decode::GroupNumbers, grouped::CODES, laid::BlockedRows, widen::PrepareCodes},
};

/// Rows for which scales are made f32 beforehand, and codes bytes if that pays.
const WIDENING_ROWS: usize = 32;

impl CodedGemm<'_> {
    /// A block of rows, tile after tile; its first row is the first of a tile. Codes are read anew for each: where
    /// masks do not compete with products, taking codes out of their words costs less than the room that they would
    /// take in the caches.
    pub(super) fn blocks(&self, blocks: &BlockedRows<'_>, panel: usize, rows: Range<usize>, scratch: &mut Scratch) {
        let Tile { width, .. } = self.cpu.tile();
        let mut coded = self.panel(panel);
        let totals = room(&mut scratch.sums, MAX_ROWS * width).cast::<f32>();
        // What is stored as f32 is not narrow enough to wait for.
        let widened = self.rows >= WIDENING_ROWS || coded.numbers == GroupNumbers::F32;
        let prepared = widened && (coded.bits == 6 || self.cpu.tier().masks_compete());
        if widened {
            self.widen_numbers(&mut coded, !blocks.is_plain(), &mut scratch.numbers);
        }
        if prepared {
            let to = room(&mut scratch.products, coded.channels / CODES * coded.columns);
            // SAFETY: there is room for all channels of each column, and rows in blocks meet groups of whole units.
            unsafe { self.cpu.enter_raw(&PrepareCodes { panel: &coded, to }) };
            coded.words = to.cast_const();
        }
        for row in rows.step_by(MAX_ROWS) {
            let (tile, count) = blocks.tile(row);
            let call = BlockedCall {
                panel: &coded,
                widened,
                prepared,
                plain: blocks.is_plain(),
                run: blocks.run(),
                rows: tile,
                totals,
                width,
            };
            // SAFETY: rows and codes are those of slices that have been checked, and there is room for the tile.
            let sums = unsafe {
                call.multiply(self.cpu);
                std::slice::from_raw_parts(totals.cast_const().cast(), MAX_ROWS * width)
            };
            self.finish(panel, row, count, sums);
        }
    }
}
