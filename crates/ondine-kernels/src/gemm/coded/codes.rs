//! Rows of codes: the loops around [`grouped`](crate::gemm::grouped).

use std::ops::Range;

use super::{CodedGemm, STEP_BYTES, Scratch, room, steps};
use crate::{
    arch::dot::{MAX_ROWS, Tile, WORD, WeightType},
    gemm::{
        decode::CodedPanel,
        grouped::{AddGroup, CODES, CodeRows, UnpackCodes},
        micro::MicroCall,
    },
};

/// A tile of rows of codes, and where its sums are.
struct Tiles<'a> {
    codes: &'a CodeRows<'a>,
    panel: &'a CodedPanel,
    /// The first row.
    row: usize,
    count: usize,
    unpacked: *const u32,
    column_sums: *const f32,
    products: *mut u32,
    totals: *mut f32,
}

impl CodedGemm<'_> {
    /// A block of rows of codes, with codes unpacked step by step.
    pub(super) fn codes(&self, codes: &CodeRows<'_>, panel: usize, rows: Range<usize>, scratch: &mut Scratch) {
        let Tile { rows: tile_rows, width, .. } = self.cpu.tile();
        let (columns, group) = (self.places.layout.panel_columns(panel), self.shape.group.min(self.shape.channels));
        let (tiles, tile_words) = (rows.len().div_ceil(tile_rows), tile_rows * width);
        let totals = room(&mut scratch.sums, tiles * tile_words).cast::<f32>();
        let products = room(&mut scratch.products, tiles * tile_words);
        let coded = self.panel_of_numbers(panel, &mut scratch.numbers);
        for step in steps(self.shape, CODES * STEP_BYTES / (width * WORD)) {
            let unpacked = room(&mut scratch.panel, step.len() / CODES * columns);
            let first = step.start / group;
            let column_sums = room(&mut scratch.words, (step.end.div_ceil(group) - first) * columns).cast::<f32>();
            // SAFETY: the codes are those of a slice that has been checked, and there is room for the step.
            unsafe {
                self.cpu.enter_raw(&UnpackCodes { panel: coded, channels: step.clone(), to: unpacked, column_sums });
            }
            for (tile, row) in rows.clone().step_by(tile_rows).enumerate() {
                let work = Tiles {
                    codes,
                    panel: &coded,
                    row,
                    count: tile_rows.min(rows.end - row),
                    unpacked,
                    column_sums,
                    products: products.wrapping_add(tile * tile_words),
                    totals: totals.wrapping_add(tile * tile_words),
                };
                // SAFETY: there is room for all tiles, and the step has just been unpacked.
                unsafe { self.groups(&work, &step) };
                if step.end == self.shape.channels {
                    // SAFETY: all sums of the tile have been written.
                    let sums = unsafe { std::slice::from_raw_parts(work.totals.cast_const().cast(), tile_words) };
                    self.finish(panel, row, work.count, sums);
                }
            }
        }
    }

    /// A tile of rows of codes by the groups of a step.
    ///
    /// # Safety
    /// The codes of the step and the sums of its columns are there, and so is room for the tile.
    unsafe fn groups(&self, work: &Tiles<'_>, step: &Range<usize>) {
        let &Tiles { codes, panel, row, count, .. } = work;
        let Tile { width, lanes, .. } = self.cpu.tile();
        let group = panel.group;
        let pointers: [*const u8; MAX_ROWS] =
            std::array::from_fn(|index| self.input.wrapping_add((row + index.min(count - 1)) * self.row_bytes));
        let scales = codes.scales(row, count);
        let mut channel = step.start;
        while channel < step.end {
            let index = channel / group;
            let end = step.end.min((index + 1) * group);
            // SAFETY: rows hold all channels; the rest as the caller says.
            unsafe {
                self.cpu.enter_raw(&MicroCall {
                    dtype: WeightType::S8,
                    rows: pointers.as_ptr(),
                    stride: MAX_ROWS,
                    offset: channel,
                    runs: 1,
                    words: (end - channel) / CODES,
                    panel: work.unpacked.add((channel - step.start) / CODES * panel.columns),
                    count,
                    vectors: panel.columns / lanes,
                    sums: work.products,
                    sum_stride: width,
                    clear: channel == index * group,
                });
                if end == self.shape.channels.min((index + 1) * group) {
                    self.cpu.enter_raw(&AddGroup {
                        panel,
                        group: index,
                        products: work.products.cast(),
                        width,
                        rows: count,
                        zeros: scales.map(|scale| scale.zero as f32),
                        row_sums: codes.sums(row, count, index),
                        column_sums: work.column_sums.add((index - step.start / group) * panel.columns),
                        totals: work.totals,
                        scales: (end == self.shape.channels).then_some(scales.map(|scale| scale.scale)),
                    });
                }
            }
            channel = end;
        }
    }
}
