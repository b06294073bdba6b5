//! Rows in blocks: the loops around [`blocked`](crate::gemm::blocked).

use std::ops::Range;

use super::{CodedGemm, Scratch, room};
use crate::{
    arch::dot::{MAX_ROWS, Tile},
    gemm::blocked::{BlockedCall, BlockedRows},
};

impl CodedGemm<'_> {
    /// A block of rows, tile after tile. Codes are read anew for each: taking them out of their words costs less than
    /// the room that they would take in the caches.
    pub(super) fn blocks(&self, blocks: &BlockedRows<'_>, panel: usize, rows: Range<usize>, scratch: &mut Scratch) {
        let Tile { width, .. } = self.cpu.tile();
        let coded = self.panel(panel);
        let totals = room(&mut scratch.sums, MAX_ROWS * width).cast::<f32>();
        for row in rows.clone().step_by(MAX_ROWS) {
            let count = MAX_ROWS.min(rows.end - row);
            let call = BlockedCall {
                panel: &coded,
                plain: blocks.plain,
                run: blocks.run,
                far: row == rows.start,
                rows: blocks.rows(row, count),
                count,
                totals,
                width,
            };
            // SAFETY: rows and codes are those of slices that have been checked, and there is room for the tile.
            let sums = unsafe {
                self.cpu.enter_raw(&call);
                std::slice::from_raw_parts(totals.cast_const().cast(), MAX_ROWS * width)
            };
            self.finish(panel, row, count, sums);
        }
    }
}
