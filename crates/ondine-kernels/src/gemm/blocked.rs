//! Products of 8-bit activations in blocks with weights in few bits: four codes of a column times four of a row in one
//! instruction, integer sums that are exact, which are scaled at the end of a block or a group and added up in f32.
//!
//! A word of a panel holds codes side by side, a byte of it two of 4 bits or four of 2. Taking the same part of each
//! byte gives codes that lie apart in the row, so the codes of the row are put in that order once ([`order_codes`]),
//! and codes of weights never have to be moved, only masked. Codes of 6 bits are put together from their words in the
//! order of the row.

use crate::{
    arch::{
        dot::{MAX_ROWS, WORD},
        enter::{Kernel, RawKernel},
        isa::Isa,
        vector::CodeVector,
    },
    cpu::Cpu,
    gemm::decode::{CodedPanel, SIX_BIT_WORDS, load, unit},
    quant::blocks::{BLOCK, HALF_BLOCK, blocked_offsets, blocked_row_len},
};

/// Puts the codes of rows in the order in which words of `bits` bits a code are multiplied.
pub(crate) struct OrderCodes<'a> {
    pub(crate) bits: u32,
    /// Whole blocks.
    pub(crate) from: &'a [u8],
    pub(crate) to: &'a mut [u8],
}

impl Kernel for OrderCodes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        match self.bits {
            6 | 8 => self.to.copy_from_slice(self.from),
            4 => order_pairs(self.from, self.to),
            _ => order_fours(self.from, self.to),
        }
    }
}

/// Of every 8 codes first those at even places, then the others.
#[inline(always)]
fn order_pairs(from: &[u8], to: &mut [u8]) {
    for (from, to) in from.as_chunks().0.iter().zip(to.as_chunks_mut().0) {
        let codes = u64::from_le_bytes(*from);
        // Every other byte, moved together.
        let gather = |codes: u64| {
            let codes = codes & 0x00ff_00ff_00ff_00ff;
            let codes = (codes | codes >> 8) & 0x0000_ffff_0000_ffff;
            (codes | codes >> 16) & 0xffff_ffff
        };
        *to = (gather(codes) | gather(codes >> 8) << 32).to_le_bytes();
    }
}

/// Of every 16 codes first each fourth from the first on, then from the second on, and so forth.
#[inline(always)]
fn order_fours(from: &[u8], to: &mut [u8]) {
    for (from, to) in from.as_chunks::<16>().0.iter().zip(to.as_chunks_mut::<16>().0) {
        let words: [u32; 4] = std::array::from_fn(|i| u32::from_le_bytes(from.as_chunks().0[i]));
        for (place, to) in to.as_chunks_mut().0.iter_mut().enumerate() {
            let byte = |i: usize| (words[i] >> (8 * place) & 0xff) << (8 * i);
            *to = (byte(0) | byte(1) | byte(2) | byte(3)).to_le_bytes();
        }
    }
}

/// Words of a column that are asked for before they are multiplied with few rows: the processor foresees the next
/// words, but not scales between them, for which it would wait.
const WORDS_AHEAD: usize = 24;

/// Groups whose scales are.
const GROUPS_AHEAD: usize = 16;

/// Where a row of activations in blocks is.
#[derive(Clone, Copy)]
pub(crate) struct BlockedRow {
    /// Its codes, in order.
    pub(crate) codes: *const u8,
    /// Of its blocks.
    pub(crate) scales: *const f32,
    /// For each run, see [`beside`].
    pub(crate) beside: *const u32,
}

/// Rows of activations in blocks.
pub(crate) struct BlockedRows<'a> {
    bytes: &'a [u8],
    channels: usize,
    /// The codes of each row in the order of words, if that is another.
    ordered: Vec<u8>,
    /// For each row and run.
    beside: Vec<u32>,
    pub(crate) plain: bool,
    /// Channels that are multiplied before sums are scaled.
    pub(crate) run: usize,
}

impl<'a> BlockedRows<'a> {
    /// The rows in `bytes`, prepared for codes as those of `panel`.
    pub(crate) fn new(cpu: &Cpu, bytes: &'a [u8], panel: &CodedPanel) -> Self {
        let &CodedPanel { bits, channels, centre, .. } = panel;
        let plain = panel.is_plain();
        let run = if panel.group.is_multiple_of(BLOCK) { BLOCK } else { HALF_BLOCK };
        let rows = bytes.chunks_exact(blocked_row_len(channels));
        let (first_scale, first_sum) = blocked_offsets(channels);
        let (mut ordered, mut besides) = (Vec::new(), Vec::with_capacity(rows.len() * channels / run));
        if matches!(bits, 2 | 4) {
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
                besides.push(beside(plain, centre as i32, sum, f32::from_ne_bytes(scale)));
            }
        }
        Self { bytes, channels, ordered, beside: besides, plain, run }
    }

    fn row(&self, index: usize) -> BlockedRow {
        let row = &self.bytes[index * blocked_row_len(self.channels)..][..blocked_row_len(self.channels)];
        let (scales, _) = blocked_offsets(self.channels);
        let codes = if self.ordered.is_empty() { row } else { &self.ordered[index * self.channels..][..self.channels] };
        let beside = self.beside[index * (self.channels / self.run)..].as_ptr();
        BlockedRow { codes: codes.as_ptr(), scales: row[scales..].as_ptr().cast(), beside }
    }

    /// The rows from `first` on, the last of `count` repeated.
    pub(crate) fn rows(&self, first: usize, count: usize) -> [BlockedRow; MAX_ROWS] {
        std::array::from_fn(|index| self.row(first + index.min(count - 1)))
    }
}

/// What products of a run with plain codes begin at, since codes are read without their sign: an integer. With others,
/// the sum of the run as a number, which meets what is added to each weight.
pub(crate) fn beside(plain: bool, centre: i32, sum: i32, scale: f32) -> u32 {
    if plain { (-centre * sum) as u32 } else { (sum as f32 * scale).to_bits() }
}

/// Multiplies some rows with a panel.
pub(crate) struct BlockedCall<'a> {
    pub(crate) panel: &'a CodedPanel,
    /// True if scales are all that there is to codes around 0.
    pub(crate) plain: bool,
    /// Channels that are multiplied before sums are scaled: a block, or half of one.
    pub(crate) run: usize,
    /// True if words come from memory, false if from a cache.
    pub(crate) far: bool,
    /// Valid up to the last.
    pub(crate) rows: [BlockedRow; MAX_ROWS],
    pub(crate) count: usize,
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
                1 => self.of_bits::<I::Wide, 1>(),
                2 => self.of_bits::<I::Wide, 2>(),
                _ => self.of_bits::<I::Wide, 4>(),
            }
        }
    }
}

impl BlockedCall<'_> {
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn of_bits<V: CodeVector, const WIDE: usize>(&self) {
        // SAFETY: as the caller says.
        unsafe {
            match (self.panel.bits, self.plain) {
                (8, true) => self.of_numbers::<V, 8, true, WIDE>(),
                (8, false) => self.of_numbers::<V, 8, false, WIDE>(),
                (6, true) => self.of_numbers::<V, 6, true, WIDE>(),
                (6, false) => self.of_numbers::<V, 6, false, WIDE>(),
                (4, true) => self.of_numbers::<V, 4, true, WIDE>(),
                (4, false) => self.of_numbers::<V, 4, false, WIDE>(),
                _ => self.of_numbers::<V, 2, false, WIDE>(),
            }
        }
    }

    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn of_numbers<V: CodeVector, const BITS: u32, const PLAIN: bool, const WIDE: usize>(&self) {
        // SAFETY: as the caller says.
        unsafe {
            match self.panel.has_steps() {
                true => self.of_rows::<V, BITS, PLAIN, true, WIDE>(),
                false => self.of_rows::<V, BITS, PLAIN, false, WIDE>(),
            }
        }
    }

    /// As many rows at once as registers hold, beside `WIDE` vectors of columns.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn of_rows<V: CodeVector, const BITS: u32, const PLAIN: bool, const STEPS: bool, const WIDE: usize>(&self) {
        let mut row = 0;
        while row < self.count {
            // SAFETY: as the caller says; rows beyond the last repeat it, and there is room for their totals.
            row += unsafe {
                match self.count - row {
                    1 => self.columns::<V, BITS, PLAIN, STEPS, 1, WIDE>(row),
                    2 => self.columns::<V, BITS, PLAIN, STEPS, 2, WIDE>(row),
                    _ => self.columns::<V, BITS, PLAIN, STEPS, 4, WIDE>(row),
                }
            };
        }
    }

    /// `R` rows by all columns, `N` vectors at a time; yields `R`.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn columns<
        V: CodeVector,
        const BITS: u32,
        const PLAIN: bool,
        const STEPS: bool,
        const R: usize,
        const N: usize,
    >(
        &self,
        row: usize,
    ) -> usize {
        let mut rows = [self.rows[row]; R];
        for (index, at) in rows.iter_mut().enumerate() {
            *at = self.rows[(row + index).min(self.count - 1)];
        }
        let totals = self.totals.wrapping_add(row * self.width);
        let mut column = 0;
        // SAFETY: as the caller says.
        unsafe {
            while column + N * V::LANES <= self.panel.columns {
                self.tile::<V, BITS, PLAIN, STEPS, R, N>(&rows, column, totals.add(column));
                column += N * V::LANES;
            }
            while column < self.panel.columns {
                self.tile::<V, BITS, PLAIN, STEPS, R, 1>(&rows, column, totals.add(column));
                column += V::LANES;
            }
        }
        R
    }

    /// `R` rows by `N` vectors of columns.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn tile<
        V: CodeVector,
        const BITS: u32,
        const PLAIN: bool,
        const STEPS: bool,
        const R: usize,
        const N: usize,
    >(
        &self,
        rows: &[BlockedRow; R],
        column: usize,
        out: *mut f32,
    ) {
        let Self { panel, run: length, width, .. } = self;
        let runs_of_group = panel.group / length;
        let words_of_run = length * BITS as usize / 32;
        // SAFETY: rows hold all channels, panel and totals all columns, and words those of the runs.
        unsafe {
            let mut totals = [[V::splat(0.0); N]; R];
            let mut from = panel.words.add(column);
            let (mut units, mut other_units) = ([[V::splat(0.0); 2]; N], 0);
            for run in 0..panel.channels / length {
                let group = if runs_of_group <= 1 { run } else { (run / runs_of_group).min(panel.groups - 1) };
                if STEPS && group == other_units {
                    for (vector, units) in units.iter_mut().enumerate() {
                        *units = panel.units(group, column + vector * V::LANES);
                    }
                    other_units += 1 << panel.unit_shift;
                    if self.far {
                        panel.prefetch_units::<V>(other_units, column, N * V::LANES);
                    }
                }
                if self.far {
                    panel.prefetch::<V>(group + GROUPS_AHEAD, column, N * V::LANES);
                }
                let sums = self.sums::<V, BITS, PLAIN, R, N>(rows, run, from);
                from = from.add(words_of_run * panel.columns);
                for (vector, sums) in sums.iter().enumerate() {
                    let (scale, offset) =
                        panel.affine::<V, PLAIN, STEPS>(group, column + vector * V::LANES, units[vector]);
                    for (index, sum) in sums.iter().enumerate() {
                        let step = V::splat(rows[index].scales.add(run * length / BLOCK).read_unaligned());
                        let mut total = sum.number().mul(step).mul_add(scale, totals[index][vector]);
                        if !PLAIN {
                            let sum = V::splat(rows[index].beside.add(run).cast::<f32>().read_unaligned());
                            total = offset.mul_add(sum, total);
                        }
                        totals[index][vector] = total;
                    }
                }
            }
            for (index, totals) in totals.iter().enumerate() {
                for (vector, total) in totals.iter().enumerate() {
                    total.store(out.add(index * width + vector * V::LANES));
                }
            }
        }
    }

    /// The sums of a run, integers, by vector and row.
    ///
    /// # Safety
    /// See [`BlockedCall::tile`]; `from` is the first word of the run in the first column.
    #[inline(always)]
    unsafe fn sums<V: CodeVector, const BITS: u32, const PLAIN: bool, const R: usize, const N: usize>(
        &self,
        rows: &[BlockedRow; R],
        run: usize,
        mut from: *const u32,
    ) -> [[V; R]; N] {
        let mut sums = [[V::splat(0.0); R]; N];
        // SAFETY: as the caller says.
        unsafe {
            if PLAIN {
                for (index, row) in rows.iter().enumerate() {
                    let start = V::splat(row.beside.add(run).cast::<f32>().read_unaligned());
                    for sums in &mut sums {
                        sums[index] = start;
                    }
                }
            }
            let end = (run + 1) * self.run;
            let mut channel = run * self.run;
            while channel < end {
                let mut words = [[V::splat(0.0); N]; SIX_BIT_WORDS];
                for words in words.iter_mut().take(unit(BITS).1) {
                    *words = load(from);
                    for vector in 0..if self.far { N } else { 0 } {
                        V::prefetch(from.wrapping_add(WORDS_AHEAD * self.panel.columns + vector * V::LANES).cast());
                    }
                    from = from.add(self.panel.columns);
                }
                if BITS == 6 {
                    let [first, second, high] = &words;
                    multiply::<V, BITS, R, N>(rows, channel, &six_bits::<V, N, 0>(first, high), &mut sums);
                    multiply::<V, BITS, R, N>(rows, channel + WORD, &six_bits::<V, N, 1>(first, high), &mut sums);
                    multiply::<V, BITS, R, N>(rows, channel + 2 * WORD, &six_bits::<V, N, 2>(second, high), &mut sums);
                    multiply::<V, BITS, R, N>(rows, channel + 3 * WORD, &six_bits::<V, N, 3>(second, high), &mut sums);
                } else {
                    for part in 0..8 / BITS {
                        let mut bytes = words[0];
                        for bytes in &mut bytes {
                            *bytes = bytes.bytes::<BITS>(part);
                        }
                        multiply::<V, BITS, R, N>(rows, channel + part as usize * WORD, &bytes, &mut sums);
                    }
                }
                channel += unit(BITS).0;
            }
        }
        sums
    }
}

/// Adds the products of four codes of each column, a byte each, with those of each row from a channel on.
///
/// # Safety
/// The rows hold these channels.
#[inline(always)]
unsafe fn multiply<V: CodeVector, const BITS: u32, const R: usize, const N: usize>(
    rows: &[BlockedRow; R],
    channel: usize,
    bytes: &[V; N],
    sums: &mut [[V; R]; N],
) {
    for (index, row) in rows.iter().enumerate() {
        // SAFETY: as the caller says.
        let x = V::splat(unsafe { row.codes.add(channel).cast::<f32>().read_unaligned() });
        for (sums, &bytes) in sums.iter_mut().zip(bytes) {
            sums[index] = V::dot_bytes::<BITS>(sums[index], bytes, x);
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
