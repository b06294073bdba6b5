//! Products of 8-bit activations in blocks with weights in few bits: four codes of a column times four of a row in one
//! instruction, integer sums that are exact, which are scaled at the end of a block or a group and added up in f32.
//!
//! A word of a panel holds codes side by side, a byte of it two of 4 bits or four of 2. Taking the same part of each
//! byte gives codes that lie apart in the row, so the codes of the row are put in that order once ([`ordered`]), and
//! codes of weights never have to be moved, only masked. Codes of 6 bits are put together from their words in the order
//! of the row. The rows of a tile are then laid side by side, word by word: a kernel reads them from one end to the
//! other with a single address.

use std::{array, hint::assert_unchecked, marker::PhantomData};

use half::f16;

use crate::{
    arch::{
        dot::{MAX_ROWS, WORD},
        enter::{Kernel, RawKernel},
        isa::Isa,
        vector::CodeVector,
    },
    cpu::Cpu,
    gemm::decode::{CodedPanel, GroupNumbers, SIX_BIT_WORDS, ask, load, unit},
    quant::blocks::{BLOCK, HALF_BLOCK, blocked_offsets, blocked_row_len},
    rowwise::{for_rows, piece_rows},
};

/// Words of a column that are asked for before up to four rows meet them: the processor foresees the next words, but
/// not scales between them, for which it would wait.
const WORDS_AHEAD: usize = 24;

/// Groups whose scales are.
const GROUPS_AHEAD: usize = 16;

/// How far what is asked for is from what is read, in elements.
#[derive(Clone, Copy)]
struct Ahead {
    words: usize,
    numbers: usize,
    units: usize,
}

impl Ahead {
    /// With `count` columns from `column` on multiplied at once. Up to four rows ask for what they read next. More wait
    /// for arithmetic rather than for memory: they ask for what they read when these columns are done, and so keep the
    /// memory as busy all the time.
    #[inline(always)]
    fn new<const SECOND: bool>(panel: &CodedPanel, column: usize, count: usize) -> Self {
        let &CodedPanel { columns, groups, group_words, unit_shift, .. } = panel;
        if !SECOND {
            return Self { words: WORDS_AHEAD * columns, numbers: GROUPS_AHEAD * columns, units: columns };
        }
        let next = |rows: usize| if column + count < columns { count } else { rows * columns - column };
        let super_blocks = groups.div_ceil(1 << unit_shift);
        Self { words: next(groups * group_words), numbers: next(groups), units: next(super_blocks) }
    }
}

/// Words that hold four codes of a row each, of half a block.
const HALF_WORDS: usize = HALF_BLOCK / WORD;

/// The codes of half a block of a row, in the order in which words of `BITS` bits a code are multiplied.
#[inline(always)]
fn ordered<const BITS: u32>(codes: &[u8; HALF_BLOCK]) -> [u32; HALF_WORDS] {
    let words: [u32; HALF_WORDS] = array::from_fn(|word| u32::from_le_bytes(codes.as_chunks().0[word]));
    match BITS {
        // Of every 8 codes first those at even places, then the others.
        4 => array::from_fn(|word| {
            let [low, high] = [words[word / 2 * 2], words[word / 2 * 2 + 1]];
            let codes = (u64::from(low) | u64::from(high) << 32) >> (word % 2 * 8);
            let codes = codes & 0x00ff_00ff_00ff_00ff;
            let codes = (codes | codes >> 8) & 0x0000_ffff_0000_ffff;
            (codes | codes >> 16) as u32
        }),
        // Of every 16 codes first each fourth from the first on, then from the second on, and so forth.
        2 => array::from_fn(|place| {
            let byte = |word: usize| (words[word] >> (8 * place) & 0xff) << (8 * word);
            byte(0) | byte(1) | byte(2) | byte(3)
        }),
        _ => words,
    }
}

/// Where what is known of a tile of rows lies, each side by side for all of its rows.
#[derive(Clone, Copy)]
pub(crate) struct RowTile {
    /// `[channels / 4, rows]`: words of four codes, in order.
    codes: *const u32,
    /// `[blocks, rows]`
    scales: *const f32,
    /// `[runs, rows]`, see [`beside`].
    beside: *const u32,
    /// A power of two; those behind the last row repeat it.
    rows: usize,
}

/// Rows of activations in blocks, tile by tile.
pub(crate) struct BlockedRows<'a> {
    /// Of each tile codes, scales and what is beside them, as in [`RowTile`].
    tiles: &'a [u32],
    rows: usize,
    channels: usize,
    /// Channels that are multiplied before sums are scaled: a block, or half of one.
    run: usize,
    /// True if scales are all that there is to codes around 0.
    plain: bool,
}

impl<'a> BlockedRows<'a> {
    /// The rows in `bytes`, laid into `memory` for codes as those of `panel`.
    pub(crate) fn new(cpu: &Cpu, bytes: &[u8], panel: &CodedPanel, memory: &'a mut Vec<u32>) -> Self {
        let &CodedPanel { bits, channels, centre, .. } = panel;
        let plain = panel.is_plain();
        let run = if panel.group.is_multiple_of(BLOCK) { BLOCK } else { HALF_BLOCK };
        let row_len = blocked_row_len(channels);
        let rows = bytes.len() / row_len;
        let tile_words = MAX_ROWS * words_of_row(channels, run);
        let words = rows.div_ceil(MAX_ROWS) * tile_words;
        if memory.len() < words {
            memory.resize(words, 0);
        }
        let tiles = &mut memory[..words];
        for_rows(cpu.pool(), tiles, tile_words, piece_rows(tile_words), |first, tiles| {
            for (tile, to) in tiles.chunks_exact_mut(tile_words).enumerate() {
                let row = (first + tile) * MAX_ROWS;
                let from = &bytes[row * row_len..(row + MAX_ROWS).min(rows) * row_len];
                cpu.enter(LayTile { bits, channels, run, plain, centre: centre as i32, from, to });
            }
        });
        Self { tiles, rows, channels, run, plain }
    }

    /// The tile that begins with a row, a multiple of [`MAX_ROWS`], and how many rows it has.
    pub(crate) fn tile(&self, row: usize) -> (RowTile, usize) {
        let count = MAX_ROWS.min(self.rows - row);
        let rows = count.next_power_of_two();
        let row_words = words_of_row(self.channels, self.run);
        let words = &self.tiles[row * row_words..][..rows * row_words];
        let (codes, rest) = words.split_at(rows * (self.channels / WORD));
        let (scales, beside) = rest.split_at(rows * (self.channels / BLOCK));
        (RowTile { codes: codes.as_ptr(), scales: scales.as_ptr().cast(), beside: beside.as_ptr(), rows }, count)
    }

    /// True if scales are all that there is to codes around 0.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Channels that are multiplied before sums are scaled.
    pub(crate) fn run(&self) -> usize {
        self.run
    }
}

/// Words that a row takes in a tile.
fn words_of_row(channels: usize, run: usize) -> usize {
    channels / WORD + channels / BLOCK + channels / run
}

/// Lays rows in blocks side by side.
struct LayTile<'a> {
    bits: u32,
    channels: usize,
    run: usize,
    plain: bool,
    centre: i32,
    /// At most [`MAX_ROWS`] rows.
    from: &'a [u8],
    /// As in [`RowTile`].
    to: &'a mut [u32],
}

impl Kernel for LayTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        match self.bits {
            4 => self.lay::<4>(),
            2 => self.lay::<2>(),
            _ => self.lay::<8>(),
        }
    }
}

impl LayTile<'_> {
    #[inline(always)]
    fn lay<const BITS: u32>(self) {
        let Self { channels, run, plain, centre, from, to, .. } = self;
        let row_len = blocked_row_len(channels);
        let count = from.len() / row_len;
        let rows = count.next_power_of_two();
        let (words, rest) = to.split_at_mut(rows * (channels / WORD));
        let (steps, rest) = rest.split_at_mut(rows * (channels / BLOCK));
        let (first_scale, first_sum) = blocked_offsets(channels);
        for lane in 0..rows {
            let row = &from[lane.min(count - 1) * row_len..][..row_len];
            let (codes, scales, sums) = (&row[..channels], &row[first_scale..first_sum], &row[first_sum..]);
            for (codes, to) in codes.as_chunks().0.iter().zip(words.chunks_exact_mut(HALF_WORDS * rows)) {
                for (word, to) in ordered::<BITS>(codes).into_iter().zip(to[lane..].iter_mut().step_by(rows)) {
                    *to = word;
                }
            }
            let scales = scales.as_chunks().0;
            for (&scale, to) in scales.iter().zip(steps[lane..].iter_mut().step_by(rows)) {
                *to = u32::from_ne_bytes(scale);
            }
            let sums = sums.chunks_exact(run / HALF_BLOCK * size_of::<i16>());
            for ((index, sums), to) in sums.enumerate().zip(rest[lane..].iter_mut().step_by(rows)) {
                let sum = sums.as_chunks().0.iter().map(|&sum| i32::from(i16::from_ne_bytes(sum))).sum();
                *to = beside(plain, centre, sum, f32::from_ne_bytes(scales[index * run / BLOCK]));
            }
        }
    }
}

/// What products of a run with plain codes begin at, since codes are read without their sign: an integer. With others,
/// the sum of the run as a number, which meets what is added to each weight.
#[inline(always)]
pub(crate) fn beside(plain: bool, centre: i32, sum: i32, scale: f32) -> u32 {
    if plain { (-centre * sum) as u32 } else { (sum as f32 * scale).to_bits() }
}

/// Where the scales of a panel are, and what is added to its weights.
trait Grid {
    /// True if they, and words, come from memory.
    const FAR: bool;
    /// True if they are steps, see [`CodedPanel::units`].
    const STEPS: bool;

    /// See [`CodedPanel::affine`].
    ///
    /// # Safety
    /// As there, and the panel's numbers are of this kind.
    unsafe fn affine<V: CodeVector, const PLAIN: bool>(panel: &CodedPanel, at: (usize, usize), units: [V; 2])
    -> (V, V);

    /// Asks for `count` scales from `at` on, and what belongs to them, which may be beyond the last; with `SECOND` into
    /// the second-level cache.
    fn prefetch<V: CodeVector, const PLAIN: bool, const SECOND: bool>(panel: &CodedPanel, at: usize, count: usize);
}

/// As they are stored: f16, or steps.
struct Stored<const STEPS: bool>;

impl<const STEPS: bool> Grid for Stored<STEPS> {
    const FAR: bool = true;
    const STEPS: bool = STEPS;

    #[inline(always)]
    unsafe fn affine<V: CodeVector, const PLAIN: bool>(
        panel: &CodedPanel,
        (group, column): (usize, usize),
        units: [V; 2],
    ) -> (V, V) {
        // SAFETY: as the caller says; numbers of f32 are not read as they are stored.
        unsafe {
            assert_unchecked(panel.numbers != GroupNumbers::F32);
            panel.affine::<V, PLAIN, STEPS>(group, column, units)
        }
    }

    #[inline(always)]
    fn prefetch<V: CodeVector, const PLAIN: bool, const SECOND: bool>(panel: &CodedPanel, at: usize, count: usize) {
        let bytes = if STEPS { size_of::<i8>() } else { size_of::<f16>() };
        ask::<V, SECOND>(panel.scales.wrapping_add(at * bytes), count * bytes);
        if !PLAIN {
            ask::<V, SECOND>(panel.zeros.wrapping_add(at * bytes), count * bytes);
        }
    }
}

/// As f32, in a cache, offsets in the place of minima.
struct Widened;

impl Grid for Widened {
    const FAR: bool = false;
    const STEPS: bool = false;

    #[inline(always)]
    unsafe fn affine<V: CodeVector, const PLAIN: bool>(
        panel: &CodedPanel,
        (group, column): (usize, usize),
        _: [V; 2],
    ) -> (V, V) {
        let at = group * panel.columns + column;
        // SAFETY: as the caller says.
        unsafe {
            let offset = if PLAIN { V::splat(0.0) } else { V::load(panel.zeros.cast::<f32>().add(at)) };
            (V::load(panel.scales.cast::<f32>().add(at)), offset)
        }
    }

    #[inline(always)]
    fn prefetch<V: CodeVector, const PLAIN: bool, const SECOND: bool>(_: &CodedPanel, _: usize, _: usize) {}
}

/// Multiplies a tile of rows with a panel.
pub(crate) struct BlockedCall<'a> {
    /// If scales and offsets are `widened`, those are f32, in the places of scales and minima, and no code has 6 bits.
    pub(crate) panel: &'a CodedPanel,
    pub(crate) widened: bool,
    /// True if codes of 8 bits were widened from 6.
    pub(crate) narrow: bool,
    /// See [`BlockedRows::is_plain`].
    pub(crate) plain: bool,
    /// See [`BlockedRows::run`].
    pub(crate) run: usize,
    pub(crate) rows: RowTile,
    /// Row `i` at `i * width`; there is room for [`MAX_ROWS`].
    pub(crate) totals: *mut f32,
    pub(crate) width: usize,
}

impl RawKernel for &BlockedCall<'_> {
    type Output = ();

    /// See [`BlockedCall`].
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        const { assert!(matches!(I::WIDE_COUNT, 1 | 2 | 4)) };
        // SAFETY: as the caller says.
        unsafe {
            match I::WIDE_COUNT {
                1 => self.of_grid::<I::Wide, 1, 4, 1>(),
                2 => self.of_grid::<I::Wide, 2, 4, 2>(),
                _ => self.of_grid::<I::Wide, 4, MAX_ROWS, 2>(),
            }
        }
    }
}

impl BlockedCall<'_> {
    /// `WIDE` vectors of columns at once for up to four rows; of eight rows `ROWS` at once, with `MANY` vectors.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn of_grid<V: CodeVector, const WIDE: usize, const ROWS: usize, const MANY: usize>(&self) {
        // SAFETY: as the caller says.
        unsafe {
            match (self.widened, self.panel.has_steps()) {
                (true, _) => self.of_bits::<V, Widened, WIDE, ROWS, MANY>(),
                (false, true) => self.of_bits::<V, Stored<true>, WIDE, ROWS, MANY>(),
                (false, false) => self.of_bits::<V, Stored<false>, WIDE, ROWS, MANY>(),
            }
        }
    }

    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn of_bits<V: CodeVector, G: Grid, const WIDE: usize, const ROWS: usize, const MANY: usize>(&self) {
        // SAFETY: as the caller says.
        unsafe {
            match (self.panel.bits, self.plain) {
                (6, true) if G::FAR => Multiply::<V, G, 6, true, 6>::new(self).of_rows::<WIDE, ROWS, MANY>(),
                (6, false) if G::FAR => Multiply::<V, G, 6, false, 6>::new(self).of_rows::<WIDE, ROWS, MANY>(),
                (4, true) => Multiply::<V, G, 4, true, 4>::new(self).of_rows::<WIDE, ROWS, MANY>(),
                (4, false) => Multiply::<V, G, 4, false, 4>::new(self).of_rows::<WIDE, ROWS, MANY>(),
                (2, _) => Multiply::<V, G, 2, false, 2>::new(self).of_rows::<WIDE, ROWS, MANY>(),
                (8, true) if self.narrow && !G::FAR => {
                    Multiply::<V, G, 8, true, 6>::new(self).of_rows::<WIDE, ROWS, MANY>();
                }
                (8, false) if self.narrow && !G::FAR => {
                    Multiply::<V, G, 8, false, 6>::new(self).of_rows::<WIDE, ROWS, MANY>();
                }
                (_, true) => Multiply::<V, G, 8, true, 8>::new(self).of_rows::<WIDE, ROWS, MANY>(),
                (_, false) => Multiply::<V, G, 8, false, 8>::new(self).of_rows::<WIDE, ROWS, MANY>(),
            }
        }
    }
}

/// A [`BlockedCall`] with codes of `BITS` bits, which are `PLAIN` or not, and without their sign below `2^RANGE`.
struct Multiply<'a, V, G, const BITS: u32, const PLAIN: bool, const RANGE: u32> {
    call: &'a BlockedCall<'a>,
    kind: PhantomData<(V, G)>,
}

impl<'a, V: CodeVector, G: Grid, const BITS: u32, const PLAIN: bool, const RANGE: u32>
    Multiply<'a, V, G, BITS, PLAIN, RANGE>
{
    #[inline(always)]
    fn new(call: &'a BlockedCall<'a>) -> Self {
        Self { call, kind: PhantomData }
    }

    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn of_rows<const WIDE: usize, const ROWS: usize, const MANY: usize>(&self) {
        // SAFETY: as the caller says.
        unsafe {
            match self.call.rows.rows {
                1 => self.columns::<1, 1, WIDE, false>(),
                2 => self.columns::<2, 2, WIDE, false>(),
                4 => self.columns::<4, 4, WIDE, false>(),
                _ => self.columns::<MAX_ROWS, ROWS, MANY, true>(),
            }
        }
    }

    /// All columns of a tile of `ALL` rows, `R` rows by `N` vectors at a time.
    ///
    /// # Safety
    /// See [`RawKernel::run`]; the tile has `ALL` rows.
    #[inline(always)]
    unsafe fn columns<const ALL: usize, const R: usize, const N: usize, const SECOND: bool>(&self) {
        let columns = self.call.panel.columns;
        let mut column = 0;
        // SAFETY: as the caller says.
        unsafe {
            while column + N * V::LANES <= columns {
                for first in (0..ALL).step_by(R) {
                    self.tile::<ALL, R, N, SECOND>(first, column);
                }
                column += N * V::LANES;
            }
            while column < columns {
                for first in (0..ALL).step_by(R) {
                    self.tile::<ALL, R, 1, SECOND>(first, column);
                }
                column += V::LANES;
            }
        }
    }

    /// `R` rows from `first` on by `N` vectors of columns.
    ///
    /// # Safety
    /// See [`RawKernel::run`]; the tile has `ALL` rows.
    #[inline(always)]
    unsafe fn tile<const ALL: usize, const R: usize, const N: usize, const SECOND: bool>(
        &self,
        first: usize,
        column: usize,
    ) {
        let &BlockedCall { panel, run: length, rows, totals: out, width, .. } = self.call;
        let ahead = Ahead::new::<SECOND>(panel, column, N * V::LANES);
        let runs = panel.channels / length;
        let runs_of_group = panel.group / length;
        // SAFETY: rows hold all channels, panel and totals all columns, and words those of the runs.
        unsafe {
            let mut totals = [[V::splat(0.0); N]; R];
            let (mut words, mut codes) = (panel.words.add(column), rows.codes.add(first));
            let (mut units, mut other_units) = ([[V::splat(0.0); 2]; N], 0);
            for group in 0..panel.groups {
                if G::STEPS && group == other_units {
                    for (vector, units) in units.iter_mut().enumerate() {
                        *units = panel.units(group, column + vector * V::LANES);
                    }
                    other_units += 1 << panel.unit_shift;
                    let at = (group >> panel.unit_shift) * panel.columns + column + ahead.units;
                    panel.prefetch_units::<V, SECOND>(at, N * V::LANES);
                }
                let at = group * panel.columns + column + ahead.numbers;
                G::prefetch::<V, PLAIN, SECOND>(panel, at, N * V::LANES);
                let mut grid = [(V::splat(0.0), V::splat(0.0)); N];
                for (vector, grid) in grid.iter_mut().enumerate() {
                    *grid = G::affine::<V, PLAIN>(panel, (group, column + vector * V::LANES), units[vector]);
                }
                for run in group * runs_of_group..runs.min((group + 1) * runs_of_group) {
                    let beside = rows.beside.add(run * ALL + first);
                    let sums = self.sums::<ALL, R, N, SECOND>(beside, words, codes, ahead.words);
                    words = words.add(length / unit(BITS).0 * unit(BITS).1 * panel.columns);
                    codes = codes.add(length / WORD * ALL);
                    let steps = rows.scales.add(run * length / BLOCK * ALL + first);
                    for row in 0..R {
                        let step = V::splat(steps.add(row).read());
                        for vector in 0..N {
                            let (scale, offset) = grid[vector];
                            let sum = sums[row][vector].number().mul(step);
                            let mut total = sum.mul_add(scale, totals[row][vector]);
                            if !PLAIN {
                                total = offset.mul_add(V::splat(beside.add(row).cast::<f32>().read()), total);
                            }
                            totals[row][vector] = total;
                        }
                    }
                }
            }
            for (row, totals) in totals.iter().enumerate() {
                for (vector, total) in totals.iter().enumerate() {
                    total.store(out.add((first + row) * width + column + vector * V::LANES));
                }
            }
        }
    }

    /// The sums of a run, integers: `words` is the first of the run in the first column, `codes` those of all rows,
    /// and words `ahead` are asked for.
    ///
    /// # Safety
    /// See [`Multiply::tile`].
    #[inline(always)]
    unsafe fn sums<const ALL: usize, const R: usize, const N: usize, const SECOND: bool>(
        &self,
        beside: *const u32,
        mut words: *const u32,
        mut codes: *const u32,
        ahead: usize,
    ) -> [[V; N]; R] {
        let columns = self.call.panel.columns;
        let mut sums = [[V::splat(0.0); N]; R];
        // SAFETY: as the caller says.
        unsafe {
            if PLAIN {
                for (row, sums) in sums.iter_mut().enumerate() {
                    *sums = [V::splat(beside.add(row).cast::<f32>().read()); N];
                }
            }
            for _ in 0..self.call.run / unit(BITS).0 {
                let mut unit_words = [[V::splat(0.0); N]; SIX_BIT_WORDS];
                for of_unit in unit_words.iter_mut().take(unit(BITS).1) {
                    *of_unit = load(words);
                    if G::FAR {
                        ask::<V, SECOND>(words.wrapping_add(ahead).cast(), N * V::LANES * WORD);
                    }
                    words = words.add(columns);
                }
                if BITS == 6 {
                    let [first, second, high] = &unit_words;
                    multiply::<V, 6, R, N>(codes, &six_bits::<V, N, 0>(first, high), &mut sums);
                    multiply::<V, 6, R, N>(codes.add(ALL), &six_bits::<V, N, 1>(first, high), &mut sums);
                    multiply::<V, 6, R, N>(codes.add(2 * ALL), &six_bits::<V, N, 2>(second, high), &mut sums);
                    multiply::<V, 6, R, N>(codes.add(3 * ALL), &six_bits::<V, N, 3>(second, high), &mut sums);
                } else {
                    for part in 0..8 / BITS {
                        let mut bytes = unit_words[0];
                        for bytes in &mut bytes {
                            *bytes = bytes.bytes::<BITS>(part);
                        }
                        multiply::<V, RANGE, R, N>(codes.add(part as usize * ALL), &bytes, &mut sums);
                    }
                }
                codes = codes.add(unit(BITS).0 / WORD * ALL);
            }
        }
        sums
    }
}

/// Adds the products of four codes of each column, a byte each, with those of each row.
///
/// # Safety
/// There is a word of codes for each row.
#[inline(always)]
unsafe fn multiply<V: CodeVector, const RANGE: u32, const R: usize, const N: usize>(
    codes: *const u32,
    bytes: &[V; N],
    sums: &mut [[V; N]; R],
) {
    for (row, sums) in sums.iter_mut().enumerate() {
        // SAFETY: as the caller says.
        let x = V::splat(unsafe { codes.add(row).cast::<f32>().read() });
        for (sum, &bytes) in sums.iter_mut().zip(bytes) {
            *sum = V::dot_bytes::<RANGE>(*sum, bytes, x);
        }
    }
}

/// The `PART`th four codes of 6 bits of a unit, see [`CodeVector::six_bits`].
#[inline(always)]
fn six_bits<V: CodeVector, const N: usize, const PART: u32>(low: &[V; N], high: &[V; N]) -> [V; N] {
    let mut bytes = *low;
    for (bytes, &high) in bytes.iter_mut().zip(high) {
        *bytes = V::six_bits(*bytes, high, PART);
    }
    bytes
}
