//! The left operand of a product: where its rows are.

use std::ops::Range;

use crate::quant::RowScale;

/// Says where the rows of the left operand are. (Those that a convolution meets without unfolding its input are what
/// others call an implicit im2col.)
///
/// # Safety
/// While `self` is borrowed, each address that `locate` enters is valid for reading the channels of a group.
pub(crate) unsafe trait Rows: Sync {
    /// Enters the addresses of `rows` in all taps of one input and group.
    fn locate(&self, group: usize, input: usize, rows: Range<usize>, table: &mut Table<'_>);

    /// False if all of `rows` meet nothing but zeros in a tap.
    fn meets(&self, _rows: &Range<usize>, _tap: usize) -> bool {
        true
    }
}

/// Addresses of rows, ordered by tile, tap, row of the tile.
pub(crate) struct Table<'a> {
    pointers: &'a mut [*const u8],
    taps: usize,
    tile: usize,
}

impl<'a> Table<'a> {
    pub(crate) fn new(pointers: &'a mut [*const u8], taps: usize, tile: usize) -> Self {
        Self { pointers, taps, tile }
    }

    /// Taps of each row.
    pub(crate) fn taps(&self) -> usize {
        self.taps
    }

    /// Where the addresses of the `row`th of the rows asked for are.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize) -> TableRow<'_> {
        let first = row / self.tile * self.taps * self.tile + row % self.tile;
        TableRow { pointers: &mut self.pointers[first..], tile: self.tile }
    }

    /// How many rows from `row` on [`TableRow::fill`] fills: whole tiles only, so none if it is not the first of one.
    #[inline(always)]
    pub(crate) fn tile(&self, row: usize) -> Option<usize> {
        row.is_multiple_of(self.tile).then_some(self.tile)
    }
}

/// The addresses of one row.
pub(crate) struct TableRow<'a> {
    pointers: &'a mut [*const u8],
    tile: usize,
}

impl TableRow<'_> {
    /// Enters the address in a tap.
    #[inline(always)]
    pub(crate) fn set(&mut self, tap: usize, pointer: *const u8) {
        self.pointers[tap * self.tile] = pointer;
    }

    /// Enters addresses in a tap for all rows of the tile, `step` bytes apart, if this row is its first.
    #[inline(always)]
    pub(crate) fn fill(&mut self, tap: usize, first: *const u8, step: usize) {
        for (i, pointer) in self.pointers[tap * self.tile..][..self.tile].iter_mut().enumerate() {
            *pointer = first.wrapping_add(i * step);
        }
    }

    pub(crate) fn get(&self, tap: usize) -> *const u8 {
        self.pointers[tap * self.tile]
    }
}

/// The scales of quantized rows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scales<'a> {
    /// Each for as many consecutive rows.
    Apart { scales: &'a [RowScale], rows_per_scale: usize },
    /// At the end of each row.
    Beside { bytes: &'a [u8], row_len: usize },
}

impl Scales<'_> {
    /// The scale of `count` rows from `row` on, if they have one in common.
    pub(crate) fn of_all(&self, row: usize, count: usize) -> Option<RowScale> {
        match *self {
            Self::Apart { scales: [scale], .. } => Some(*scale),
            Self::Apart { .. } | Self::Beside { .. } => (count == 1).then(|| self.of(row)),
        }
    }

    /// The scale of a row.
    pub(crate) fn of(&self, row: usize) -> RowScale {
        match *self {
            Self::Apart { scales, rows_per_scale } => scales[row / rows_per_scale],
            Self::Beside { bytes, row_len } => RowScale::of_row(&bytes[row * row_len..][..row_len]),
        }
    }
}

/// 16 words on a cache line of their own.
#[derive(Clone, Copy)]
#[repr(align(64))]
#[expect(dead_code, reason = "the words are reached through the address of the first line")]
pub(crate) struct Line(pub(crate) [u32; 16]);

/// Rows at equal distances.
pub(crate) struct Dense<'a> {
    pub(crate) bytes: &'a [u8],
    /// Bytes of a row.
    pub(crate) width: usize,
    /// Bytes from one row to the next.
    pub(crate) stride: usize,
}

// SAFETY: whole rows are in the slice, or `locate` panics.
unsafe impl Rows for Dense<'_> {
    fn locate(&self, _group: usize, _input: usize, rows: Range<usize>, table: &mut Table<'_>) {
        let end = rows.end.checked_sub(1).map_or(0, |last| last * self.stride + self.width);
        assert!(end <= self.bytes.len(), "{rows:?} of rows {} bytes apart in {}", self.stride, self.bytes.len());
        for (index, row) in rows.enumerate() {
            table.row(index).set(0, self.bytes.as_ptr().wrapping_add(row * self.stride));
        }
    }
}
