//! Products of 8-bit activations in blocks with weights in few bits: four codes of a column times four of a row in one
//! instruction, integer sums that are exact, which are scaled at the end of a block or a group and added up in f32.
//!
//! A word of a panel holds codes side by side, a byte of it two of 4 bits or four of 2. Taking the same part of each
//! byte gives codes that lie apart in the row, so the codes of the row are put in that order once, and codes of weights
//! never have to be moved, only masked. Codes of 6 bits are put together from their words in the order of the row. Many
//! rows may meet codes that were taken out of their words once, see [`PrepareCodes`](crate::gemm::widen::PrepareCodes).

use std::{hint::assert_unchecked, marker::PhantomData};

use half::f16;

use crate::{
    arch::{
        dot::{MAX_ROWS, WORD},
        enter::RawKernel,
        isa::Isa,
        vector::{CodeVector, LIFT},
    },
    cpu::Cpu,
    gemm::{
        decode::{CodedPanel, GroupNumbers, SIX_BIT_WORDS, ask, load, unit},
        laid::RowTile,
    },
    quant::blocks::HALF_BLOCK,
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

/// Where the scales of a panel are, and what is added to its weights.
trait Grid {
    /// True if they, and words, come from memory.
    const FAR: bool;
    /// True if they are steps, see [`CodedPanel::units`].
    const STEPS: bool;

    /// True if codes are those around 0. Where many rows wait for arithmetic it is known beforehand: even a jump that
    /// is foreseen takes the place of products.
    fn is_plain(call: &BlockedCall<'_>) -> bool;

    /// See [`CodedPanel::affine`].
    ///
    /// # Safety
    /// As there, and the panel's numbers are of this kind.
    unsafe fn affine<V: CodeVector>(panel: &CodedPanel, plain: bool, at: (usize, usize), units: [V; 2]) -> (V, V);

    /// Asks for `count` scales from `at` on, and what belongs to them, which may be beyond the last; with `SECOND` into
    /// the second-level cache.
    fn prefetch<V: CodeVector, const SECOND: bool>(panel: &CodedPanel, plain: bool, at: usize, count: usize);
}

/// As they are stored: f16, or steps.
struct Stored<const STEPS: bool>;

impl<const STEPS: bool> Grid for Stored<STEPS> {
    const FAR: bool = true;
    const STEPS: bool = STEPS;

    #[inline(always)]
    fn is_plain(call: &BlockedCall<'_>) -> bool {
        call.plain
    }

    #[inline(always)]
    unsafe fn affine<V: CodeVector>(
        panel: &CodedPanel,
        plain: bool,
        (group, column): (usize, usize),
        units: [V; 2],
    ) -> (V, V) {
        // SAFETY: as the caller says; numbers of f32 are not read as they are stored.
        unsafe {
            assert_unchecked(panel.numbers != GroupNumbers::F32);
            panel.affine::<V, STEPS>(plain, (group, column), units)
        }
    }

    #[inline(always)]
    fn prefetch<V: CodeVector, const SECOND: bool>(panel: &CodedPanel, plain: bool, at: usize, count: usize) {
        let bytes = if STEPS { size_of::<i8>() } else { size_of::<f16>() };
        ask::<V, SECOND>(panel.scales.wrapping_add(at * bytes), count * bytes);
        if !plain {
            ask::<V, SECOND>(panel.zeros.wrapping_add(at * bytes), count * bytes);
        }
    }
}

/// As f32, in a cache, offsets in the place of minima.
struct Widened<const PLAIN: bool>;

impl<const PLAIN: bool> Grid for Widened<PLAIN> {
    const FAR: bool = false;
    const STEPS: bool = false;

    #[inline(always)]
    fn is_plain(_: &BlockedCall<'_>) -> bool {
        PLAIN
    }

    #[inline(always)]
    unsafe fn affine<V: CodeVector>(
        panel: &CodedPanel,
        plain: bool,
        (group, column): (usize, usize),
        _: [V; 2],
    ) -> (V, V) {
        let at = group * panel.columns + column;
        // SAFETY: as the caller says.
        unsafe {
            let offset = if plain { V::splat(0.0) } else { V::load(panel.zeros.cast::<f32>().add(at)) };
            (V::load(panel.scales.cast::<f32>().add(at)), offset)
        }
    }

    #[inline(always)]
    fn prefetch<V: CodeVector, const SECOND: bool>(_: &CodedPanel, _: bool, _: usize, _: usize) {}
}

/// Multiplies a tile of rows with a panel.
pub(crate) struct BlockedCall<'a> {
    /// If scales and offsets are `widened`, those are f32, in the places of scales and minima, and codes of 6 bits are
    /// prepared.
    pub(crate) panel: &'a CodedPanel,
    pub(crate) widened: bool,
    /// True if codes are those that [`PrepareCodes`](crate::gemm::widen::PrepareCodes) wrote.
    pub(crate) prepared: bool,
    /// See [`BlockedRows::is_plain`](crate::gemm::laid::BlockedRows::is_plain).
    pub(crate) plain: bool,
    /// See [`BlockedRows::run`](crate::gemm::laid::BlockedRows::run).
    pub(crate) run: usize,
    pub(crate) rows: RowTile,
    /// Row `i` at `i * width`; there is room for [`MAX_ROWS`].
    pub(crate) totals: *mut f32,
    pub(crate) width: usize,
}

impl BlockedCall<'_> {
    /// Each kind of codes and of scales is a kernel of its own: what the compiler needs for all in one grows with the
    /// square of their number.
    ///
    /// # Safety
    /// Panel, rows and totals are those that the fields tell of.
    pub(crate) unsafe fn multiply(&self, cpu: &Cpu) {
        // SAFETY: as the caller says.
        unsafe {
            match (self.widened, self.plain, self.panel.has_steps()) {
                (true, true, _) => self.widened::<true>(cpu),
                (true, false, _) => self.widened::<false>(cpu),
                (false, _, true) => self.stored::<true>(cpu),
                (false, _, false) => self.stored::<false>(cpu),
            }
        }
    }

    /// # Safety
    /// See [`BlockedCall::multiply`].
    unsafe fn widened<const PLAIN: bool>(&self, cpu: &Cpu) {
        // SAFETY: as the caller says.
        unsafe {
            match (self.panel.bits, self.prepared) {
                (8, true) => cpu.enter_raw(Multiply::<Widened<PLAIN>, 8, true>::new(self)),
                (_, true) => cpu.enter_raw(Multiply::<Widened<PLAIN>, 6, true>::new(self)),
                (4, false) => cpu.enter_raw(Multiply::<Widened<PLAIN>, 4, false>::new(self)),
                (2, false) => cpu.enter_raw(Multiply::<Widened<PLAIN>, 2, false>::new(self)),
                (_, false) => cpu.enter_raw(Multiply::<Widened<PLAIN>, 8, false>::new(self)),
            }
        }
    }

    /// # Safety
    /// See [`BlockedCall::multiply`].
    unsafe fn stored<const STEPS: bool>(&self, cpu: &Cpu) {
        // SAFETY: as the caller says.
        unsafe {
            match self.panel.bits {
                6 => cpu.enter_raw(Multiply::<Stored<STEPS>, 6, false>::new(self)),
                4 => cpu.enter_raw(Multiply::<Stored<STEPS>, 4, false>::new(self)),
                2 => cpu.enter_raw(Multiply::<Stored<STEPS>, 2, false>::new(self)),
                _ => cpu.enter_raw(Multiply::<Stored<STEPS>, 8, false>::new(self)),
            }
        }
    }
}

/// A [`BlockedCall`] with codes of `BITS`, or `PREPARED`, without their sign, from so many at most.
struct Multiply<'a, G, const BITS: u32, const PREPARED: bool> {
    call: &'a BlockedCall<'a>,
    grid: PhantomData<G>,
}

impl<G: Grid, const BITS: u32, const PREPARED: bool> RawKernel for Multiply<'_, G, BITS, PREPARED> {
    type Output = ();

    /// See [`BlockedCall`]: up to four rows by all wide vectors of columns, of eight as many at once as there are
    /// registers for.
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        const { assert!(matches!(I::WIDE_COUNT, 1 | 2 | 4)) };
        let prepares = BITS == 6 || I::Wide::MASKS_COMPETE;
        assert!(G::FAR || PREPARED == prepares, "codes of {BITS} bits are prepared where that pays, and only there");
        // SAFETY: as the caller says.
        unsafe {
            match I::WIDE_COUNT {
                1 => self.of_rows::<I::Wide, 1, 4, 1>(),
                2 => self.of_rows::<I::Wide, 2, 4, 2>(),
                _ => self.of_rows::<I::Wide, 4, MAX_ROWS, 2>(),
            }
        }
    }
}

impl<'a, G: Grid, const BITS: u32, const PREPARED: bool> Multiply<'a, G, BITS, PREPARED> {
    /// Codes that are read together, and their words.
    const UNIT: (usize, usize) = if PREPARED { (WORD, 1) } else { unit(BITS) };

    fn new(call: &'a BlockedCall<'a>) -> Self {
        Self { call, grid: PhantomData }
    }

    /// `WIDE` vectors of columns at once for up to four rows; of eight rows `ROWS` at once, with `MANY` vectors.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn of_rows<V: CodeVector, const WIDE: usize, const ROWS: usize, const MANY: usize>(&self) {
        // SAFETY: as the caller says.
        unsafe {
            match self.call.rows.rows {
                1 => self.columns::<V, 1, 1, WIDE, false>(),
                2 => self.columns::<V, 2, 2, WIDE, false>(),
                4 => self.columns::<V, 4, 4, WIDE, false>(),
                _ => self.columns::<V, MAX_ROWS, ROWS, MANY, true>(),
            }
        }
    }

    /// All columns of a tile of `ALL` rows, `R` rows by `N` vectors at a time.
    ///
    /// # Safety
    /// See [`RawKernel::run`]; the tile has `ALL` rows.
    #[inline(always)]
    unsafe fn columns<V: CodeVector, const ALL: usize, const R: usize, const N: usize, const SECOND: bool>(&self) {
        let columns = self.call.panel.columns;
        let mut column = 0;
        // SAFETY: as the caller says.
        unsafe {
            while column + N * V::LANES <= columns {
                for first in (0..ALL).step_by(R) {
                    self.tile::<V, ALL, R, N, SECOND>(first, column);
                }
                column += N * V::LANES;
            }
            while N > 1 && column < columns {
                for first in (0..ALL).step_by(R) {
                    self.tile::<V, ALL, R, 1, SECOND>(first, column);
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
    unsafe fn tile<V: CodeVector, const ALL: usize, const R: usize, const N: usize, const SECOND: bool>(
        &self,
        first: usize,
        column: usize,
    ) {
        let &BlockedCall { panel, run: length, rows, totals: out, width, .. } = self.call;
        let plain = G::is_plain(self.call);
        let ahead = Ahead::new::<SECOND>(panel, column, N * V::LANES);
        let runs_of_group = panel.group / length;
        let halves_of_run = length / HALF_BLOCK;
        // SAFETY: rows hold all channels, panel and totals all columns, and words those of the runs.
        unsafe {
            let at = |row: usize, vector: usize| out.add((first + row) * width + column + vector * V::LANES);
            let mut totals = [[V::splat(0.0); N]; R];
            let (mut words, mut codes) = (panel.words.add(column), rows.codes.add(first));
            let (mut units, mut grid) = ([[V::splat(0.0); 2]; N], [(V::splat(0.0), V::splat(0.0)); N]);
            let (mut group, mut left_of_group, mut other_units) = (0, 0, 0);
            // One loop, so that totals need not move between registers at the ends of another.
            for run in 0..panel.channels / length {
                if left_of_group == 0 {
                    if G::STEPS && group == other_units {
                        for (vector, units) in units.iter_mut().enumerate() {
                            *units = panel.units(group, column + vector * V::LANES);
                        }
                        other_units += 1 << panel.unit_shift;
                        let next = (group >> panel.unit_shift) * panel.columns + column + ahead.units;
                        panel.prefetch_units::<V, SECOND>(next, N * V::LANES);
                    }
                    let next = group * panel.columns + column + ahead.numbers;
                    G::prefetch::<V, SECOND>(panel, plain, next, N * V::LANES);
                    for (vector, grid) in grid.iter_mut().enumerate() {
                        *grid = G::affine::<V>(panel, plain, (group, column + vector * V::LANES), units[vector]);
                    }
                    (group, left_of_group) = (group + 1, runs_of_group);
                }
                left_of_group -= 1;
                let beside = rows.beside.add(run * ALL + first);
                let sums = self.sums::<V, ALL, R, N, SECOND>(beside, words, codes, ahead.words);
                words = words.add(length / Self::UNIT.0 * Self::UNIT.1 * panel.columns);
                codes = codes.add(length / WORD * ALL);
                let block = run * halves_of_run / 2 * ALL + first;
                let (steps, less) = (rows.scales.add(block), rows.less.add(block));
                for row in 0..R {
                    let step = V::splat(steps.add(row).read());
                    let less = V::splat(less.add(row).read());
                    for vector in 0..N {
                        let sum = sums[row][vector].lowered(step, less);
                        totals[row][vector] = sum.mul_add(grid[vector].0, totals[row][vector]);
                    }
                }
                if !plain {
                    for (row, totals) in totals.iter_mut().enumerate() {
                        let beside = V::splat(beside.add(row).cast::<f32>().read());
                        for (total, (_, offset)) in totals.iter_mut().zip(&grid) {
                            *total = offset.mul_add(beside, *total);
                        }
                    }
                }
            }
            store(&totals, at);
        }
    }

    /// The sums of a run, integers: `words` is the first of the run in the first column, `codes` those of all rows,
    /// and words `ahead` are asked for.
    ///
    /// # Safety
    /// See [`Multiply::tile`].
    #[inline(always)]
    unsafe fn sums<V: CodeVector, const ALL: usize, const R: usize, const N: usize, const SECOND: bool>(
        &self,
        beside: *const u32,
        mut words: *const u32,
        mut codes: *const u32,
        ahead: usize,
    ) -> [[V; N]; R] {
        let columns = self.call.panel.columns;
        let mut sums = [[V::splat(LIFT); N]; R];
        // As many units as the compiler unrolls where arithmetic is what takes long: what counts and jumps takes the
        // places of products, too.
        let unrolled = if SECOND { HALF_BLOCK / Self::UNIT.0 } else { 1 };
        let loops = self.call.run / (unrolled * Self::UNIT.0);
        // SAFETY: as the caller says; a run is half a block at least.
        unsafe {
            assert_unchecked(loops > 0);
            if G::is_plain(self.call) {
                for (row, sums) in sums.iter_mut().enumerate() {
                    *sums = [V::splat(beside.add(row).cast::<f32>().read()); N];
                }
            }
            for _ in 0..loops {
                for _ in 0..unrolled {
                    self.unit::<V, ALL, R, N, SECOND>(words, codes, ahead, &mut sums);
                    words = words.add(Self::UNIT.1 * columns);
                    codes = codes.add(Self::UNIT.0 / WORD * ALL);
                }
            }
        }
        sums
    }

    /// Adds the products of the codes that are read together.
    ///
    /// # Safety
    /// See [`Multiply::tile`].
    #[inline(always)]
    unsafe fn unit<V: CodeVector, const ALL: usize, const R: usize, const N: usize, const SECOND: bool>(
        &self,
        words: *const u32,
        codes: *const u32,
        ahead: usize,
        sums: &mut [[V; N]; R],
    ) {
        let mut unit_words = [[V::splat(0.0); N]; SIX_BIT_WORDS];
        // SAFETY: as the caller says.
        unsafe {
            for (index, of_unit) in unit_words.iter_mut().take(Self::UNIT.1).enumerate() {
                let words = words.add(index * self.call.panel.columns);
                *of_unit = load(words);
                if G::FAR {
                    ask::<V, SECOND>(words.wrapping_add(ahead).cast(), N * V::LANES * WORD);
                }
            }
            if BITS == 6 && !PREPARED {
                let [first, second, high] = &unit_words;
                multiply::<V, 6, R, N>(codes, &six_bits::<V, N, 0>(first, high), sums);
                multiply::<V, 6, R, N>(codes.add(ALL), &six_bits::<V, N, 1>(first, high), sums);
                multiply::<V, 6, R, N>(codes.add(2 * ALL), &six_bits::<V, N, 2>(second, high), sums);
                multiply::<V, 6, R, N>(codes.add(3 * ALL), &six_bits::<V, N, 3>(second, high), sums);
                return;
            }
            for part in 0..(Self::UNIT.0 / WORD) as u32 {
                let mut bytes = unit_words[0];
                for bytes in bytes.iter_mut().filter(|_| !PREPARED) {
                    *bytes = bytes.bytes::<BITS>(part);
                }
                multiply::<V, BITS, R, N>(codes.add(part as usize * ALL), &bytes, sums);
            }
        }
    }
}

/// Writes the vectors of some rows.
///
/// # Safety
/// The addresses of rows and vectors are valid for that.
#[inline(always)]
unsafe fn store<V: CodeVector, const R: usize, const N: usize>(
    totals: &[[V; N]; R],
    at: impl Fn(usize, usize) -> *mut f32,
) {
    for (row, totals) in totals.iter().enumerate() {
        for (vector, total) in totals.iter().enumerate() {
            // SAFETY: as the caller says.
            unsafe { total.store(at(row, vector)) };
        }
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
