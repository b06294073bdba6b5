//! Kernels that read codes: the product with a few rows, and unpacking for products with many.

use std::ops::Range;

use crate::arch::{
    dot::{MAX_ROWS, MAX_WIDTH, WeightType},
    enter::RawKernel,
    half::bf16_bits,
    isa::Isa,
    vector::CodeVector,
};

/// The most rows that are multiplied with codes as they are read.
pub(crate) const FEW_ROWS: usize = MAX_ROWS;

/// The least number of codes of so many bits that fill whole words, and how many words.
pub(crate) const fn unit(bits: u32) -> (usize, usize) {
    if bits == 6 { (16, SIX_BIT_WORDS) } else { (32 / bits as usize, 1) }
}

/// Words of 16 codes of 6 bits: two of the lower four bits, one of the upper two.
pub(crate) const SIX_BIT_WORDS: usize = 3;

/// How codes become numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeLevels {
    /// `scale * (code - zero)`, with one zero for all groups: half of all codes, or 1.5 with 2 bits.
    Symmetric,
    /// `scale * (code - zero)`
    Zeros,
    /// `scale * code + minimum`
    Minima,
    /// One table for all.
    Table,
}

/// What the scales and minima of groups are in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupNumbers {
    /// f16, to which they are rounded.
    F16,
    /// f32.
    F32,
    /// Integers from -128 to 127 times an f16 for as many consecutive groups, a power of two: a super-block of GGUF's
    /// K-quants.
    Steps {
        /// Groups of a super-block.
        groups: usize,
    },
}

/// A panel of codes, for a kernel.
#[derive(Clone, Copy)]
pub(crate) struct CodedPanel {
    pub(crate) bits: u32,
    pub(crate) levels: CodeLevels,
    pub(crate) centre: f32,
    pub(crate) symmetric_zero: f32,
    pub(crate) channels: usize,
    pub(crate) group: usize,
    pub(crate) group_words: usize,
    pub(crate) groups: usize,
    pub(crate) columns: usize,
    pub(crate) words: *const u32,
    /// As `numbers` says.
    pub(crate) scales: *const u8,
    pub(crate) numbers: GroupNumbers,
    /// Zeros, f16, or minima, as the scales.
    pub(crate) zeros: *const u8,
    /// What steps of scales and of minima are multiplied with, f16, for each `1 << unit_shift` groups.
    pub(crate) units: [*const u16; 2],
    pub(crate) unit_shift: u32,
    pub(crate) table: *const f32,
}

impl CodedPanel {
    /// What is taken off the numbers of a group before they are scaled, the scale, and what is added then.
    ///
    /// # Safety
    /// The numbers of the panel are no steps; it has the group and `LANES` columns from `column` on.
    #[inline(always)]
    pub(crate) unsafe fn grid<V: CodeVector>(&self, group: usize, column: usize) -> (V, V, V) {
        let at = group * self.columns + column;
        // SAFETY: as the caller says; scales, zeros and minima have the panel's columns for each group.
        unsafe {
            let zero = match self.levels {
                CodeLevels::Zeros => V::load_f16(self.zeros.cast::<u16>().add(at)).sub(V::splat(self.centre)),
                CodeLevels::Minima => V::splat(-self.centre),
                CodeLevels::Symmetric | CodeLevels::Table => V::splat(self.symmetric_zero),
            };
            let minimum = match self.levels {
                CodeLevels::Minima => self.number::<V, false>(self.zeros, at, zero),
                CodeLevels::Symmetric | CodeLevels::Zeros | CodeLevels::Table => V::splat(0.0),
            };
            (zero, self.number::<V, false>(self.scales, at, zero), minimum)
        }
    }

    /// True if a weight is a scale times a signed code.
    pub(crate) fn is_plain(&self) -> bool {
        self.levels == CodeLevels::Symmetric && self.symmetric_zero == 0.0
    }

    /// What a code without its sign is multiplied with to be a weight, and what is added then; if `plain`, of a code
    /// around 0, the latter being 0. With `STEPS` the numbers are such, and `units` are those of the super-block.
    ///
    /// # Safety
    /// As [`CodedPanel::grid`].
    #[inline(always)]
    pub(crate) unsafe fn affine<V: CodeVector, const STEPS: bool>(
        &self,
        plain: bool,
        (group, column): (usize, usize),
        units: [V; 2],
    ) -> (V, V) {
        let at = group * self.columns + column;
        // SAFETY: as the caller says; scales, zeros and minima have the panel's columns for each group.
        unsafe {
            let scale = self.number::<V, STEPS>(self.scales, at, units[0]);
            if plain {
                return (scale, V::splat(0.0));
            }
            let zero = match self.levels {
                CodeLevels::Minima => return (scale, self.number::<V, STEPS>(self.zeros, at, units[1])),
                CodeLevels::Zeros => V::load_f16(self.zeros.cast::<u16>().add(at)),
                CodeLevels::Symmetric | CodeLevels::Table => V::splat(self.symmetric_zero + self.centre),
            };
            (scale, V::splat(0.0).sub(zero.mul(scale)))
        }
    }

    /// Asks for `count` units from `at` on, which may be beyond the last, of a panel that has some.
    #[inline(always)]
    pub(crate) fn prefetch_units<V: CodeVector, const SECOND: bool>(&self, at: usize, count: usize) {
        ask::<V, SECOND>(self.units[0].wrapping_add(at).cast(), count * size_of::<u16>());
        if self.levels == CodeLevels::Minima {
            ask::<V, SECOND>(self.units[1].wrapping_add(at).cast(), count * size_of::<u16>());
        }
    }

    /// True if scales and minima are steps.
    pub(crate) fn has_steps(&self) -> bool {
        matches!(self.numbers, GroupNumbers::Steps { .. })
    }

    /// What steps of scales and of minima of a group are multiplied with, for a panel that has some.
    ///
    /// # Safety
    /// As [`CodedPanel::grid`].
    #[inline(always)]
    pub(crate) unsafe fn units<V: CodeVector>(&self, group: usize, column: usize) -> [V; 2] {
        let at = (group >> self.unit_shift) * self.columns + column;
        // SAFETY: as the caller says; each super-block has the panel's columns.
        unsafe {
            let of_minima = match self.levels {
                CodeLevels::Minima => V::load_f16(self.units[1].add(at)),
                CodeLevels::Symmetric | CodeLevels::Zeros | CodeLevels::Table => V::splat(0.0),
            };
            [V::load_f16(self.units[0].add(at)), of_minima]
        }
    }

    /// Numbers `at` and those that follow, of scales or minima; the product of a step with its unit is exact, other
    /// numbers have no unit.
    ///
    /// # Safety
    /// The address holds them, and they are steps if `STEPS` says so.
    #[inline(always)]
    pub(crate) unsafe fn number<V: CodeVector, const STEPS: bool>(&self, from: *const u8, at: usize, unit: V) -> V {
        // SAFETY: as the caller says.
        unsafe {
            if STEPS {
                V::load_codes(from.cast::<i8>().add(at)).mul(unit)
            } else if self.numbers == GroupNumbers::F32 {
                V::load(from.cast::<f32>().add(at))
            } else {
                V::load_f16(from.cast::<u16>().add(at))
            }
        }
    }
}

/// Asks for the cache lines of so many bytes from an address on, which may be any; with `SECOND` into the second level.
#[inline(always)]
pub(crate) fn ask<V: CodeVector, const SECOND: bool>(from: *const u8, bytes: usize) {
    const LINE: usize = 64;
    for line in (0..bytes).step_by(LINE) {
        V::prefetch::<SECOND>(from.wrapping_add(line));
    }
}

/// What a kernel does with a panel of codes.
pub(crate) enum CodedWork<'a> {
    /// Multiplies up to [`FEW_ROWS`] rows, all pointers of which are valid.
    Few {
        rows: [*const f32; FEW_ROWS],
        count: usize,
        /// Sums of the activations of each group.
        row_sums: [*const f32; FEW_ROWS],
        /// Row `i` at `i * width`.
        sums: *mut f32,
        width: usize,
    },
    /// Writes the numbers of some channels, `[channels, columns]`; then, if asked for, pairs of them as bf16.
    Unpack { channels: Range<usize>, to: *mut f32, pairs: Option<*mut u32> },
    /// Writes words of some taps of a convolution, whose codes the panel holds tap after tap.
    Taps(TapsWork<'a>),
}

/// Channels whose numbers are made before they become words: they stay in the first-level cache.
pub(crate) const CHUNK: usize = 64;

/// What of a convolution becomes words.
pub(crate) struct TapsWork<'a> {
    /// Taps of the convolution.
    pub(crate) all: usize,
    /// Those wanted.
    pub(crate) taps: Range<usize>,
    /// Of each tap; begins with a unit of codes.
    pub(crate) channels: Range<usize>,
    /// Of the words.
    pub(crate) dtype: WeightType,
    /// Of [`WeightType::S8`]: what a number of each column is multiplied with before it is rounded.
    pub(crate) factors: &'a [f32; MAX_WIDTH],
    /// Room for [`CHUNK`] channels of all columns.
    pub(crate) numbers: *mut f32,
    /// `[taps, words of the channels, columns]`
    pub(crate) to: *mut u32,
}

/// A call of a kernel.
pub(crate) struct CodedCall<'a> {
    pub(crate) panel: CodedPanel,
    pub(crate) work: CodedWork<'a>,
}

impl RawKernel for &CodedCall<'_> {
    type Output = ();

    /// See [`CodedPanel`] and [`CodedWork`].
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        const { assert!(matches!(I::WIDE_COUNT, 1 | 2 | 4)) };
        // SAFETY: as the caller says.
        unsafe {
            match I::WIDE_COUNT {
                1 => self.read::<I::Wide, 1>(),
                2 => self.read::<I::Wide, 2>(),
                _ => self.read::<I::Wide, 4>(),
            }
        }
    }
}

impl CodedCall<'_> {
    /// Does the work, with `WIDE` vectors of columns at once for one to four rows.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn read<V: CodeVector, const WIDE: usize>(&self) {
        let CodedPanel { bits, levels, .. } = self.panel;
        // Where looking up is one instruction, integers of few bits are looked up as well.
        // SAFETY: as the caller says.
        unsafe {
            match (bits, levels == CodeLevels::Table || V::LOOKS_UP) {
                (8, _) => self.decoded::<V, 8, false, WIDE>(),
                (6, _) => self.decoded::<V, 6, false, WIDE>(),
                (4, true) => self.decoded::<V, 4, true, WIDE>(),
                (4, false) => self.decoded::<V, 4, false, WIDE>(),
                (_, true) => self.decoded::<V, 2, true, WIDE>(),
                (_, false) => self.decoded::<V, 2, false, WIDE>(),
            }
        }
    }

    /// Does the work for codes of `BITS` bits, by a table or as signed integers.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn decoded<V: CodeVector, const BITS: u32, const TABLE: bool, const WIDE: usize>(&self) {
        let panel = &self.panel;
        let entries: [f32; 16] = if panel.levels == CodeLevels::Table {
            // SAFETY: a table has 16 entries, on a cache line.
            unsafe { panel.table.cast::<[f32; 16]>().read() }
        } else {
            // Codes as signed integers.
            std::array::from_fn(|code| {
                let code = (code as u32) << (32 - BITS);
                (code as i32 >> (32 - BITS)) as f32
            })
        };
        let decoder = Decoder::<V, BITS, TABLE> { table: V::table(&entries) };
        match &self.work {
            CodedWork::Unpack { channels, to, pairs } => {
                // SAFETY: the caller made room for these channels of all columns.
                unsafe {
                    for column in (0..panel.columns).step_by(V::LANES) {
                        decoder.unpack(panel, channels.clone(), column, to.add(column));
                    }
                    if let Some(pairs) = *pairs {
                        let count = channels.len() / 2 * panel.columns;
                        let from = std::slice::from_raw_parts(*to, 2 * count);
                        pair(from, std::slice::from_raw_parts_mut(pairs, count), panel.columns);
                    }
                }
            }
            // SAFETY: as the caller says.
            CodedWork::Taps(work) => unsafe { decoder.widen(panel, work) },
            CodedWork::Few { rows, count, row_sums, sums, width } => {
                let mut row = 0;
                while row < *count {
                    let (rows, row_sums) = (&rows[row..], &row_sums[row..]);
                    // SAFETY: the caller made room for all rows of all columns; pointers beyond the last row repeat it.
                    row += unsafe {
                        let sums = sums.add(row * width);
                        match count - row {
                            1 => decoder.columns::<1, WIDE>(panel, rows, row_sums, sums, *width),
                            2 => decoder.columns::<2, WIDE>(panel, rows, row_sums, sums, *width),
                            _ => decoder.columns::<4, WIDE>(panel, rows, row_sums, sums, *width),
                        }
                    };
                }
            }
        }
    }
}

/// Rounds to bf16 and joins the numbers of two channels.
#[inline(always)]
fn pair(from: &[f32], to: &mut [u32], columns: usize) {
    for (from, to) in from.chunks_exact(2 * columns).zip(to.chunks_exact_mut(columns)) {
        let (even, odd) = from.split_at(columns);
        for ((to, &even), &odd) in to.iter_mut().zip(even).zip(odd) {
            *to = u32::from(bf16_bits(even)) | u32::from(bf16_bits(odd)) << 16;
        }
    }
}

/// Makes numbers of codes of `BITS` bits: by a table, or as signed integers.
struct Decoder<V: CodeVector, const BITS: u32, const TABLE: bool> {
    table: V::Table,
}

impl<V: CodeVector, const BITS: u32, const TABLE: bool> Decoder<V, BITS, TABLE> {
    /// Codes of whole words, and how many words.
    const UNIT: usize = unit(BITS).0;
    const WORDS: usize = unit(BITS).1;

    /// Code `index` of each of some words.
    #[inline(always)]
    fn numbers<const N: usize>(&self, words: &[V; N], index: usize) -> [V; N] {
        // No closures here: they would be compiled without the features of the tier.
        let (mut numbers, shift) = (*words, index as u32 * BITS);
        for number in &mut numbers {
            *number = if TABLE { number.looked_up(shift, &self.table) } else { number.signed::<BITS>(shift) };
        }
        numbers
    }

    /// Code `index` of 6 bits of a unit, whose words are `columns` apart.
    ///
    /// # Safety
    /// The address is valid for the words of a unit.
    #[inline(always)]
    unsafe fn six_bits<const N: usize>(words: *const u32, columns: usize, index: usize) -> [V; N] {
        // SAFETY: as the caller says.
        let (mut numbers, high): ([V; N], [V; N]) =
            unsafe { (load(words.add(index / 8 * columns)), load(words.add(2 * columns))) };
        for (number, high) in numbers.iter_mut().zip(high) {
            let bytes = V::six_bits(*number, high, (index / 4) as u32);
            *number = bytes.signed::<8>((index % 4 * 8) as u32).sub(V::splat(32.0));
        }
        numbers
    }

    /// Writes the numbers of a vector of columns.
    ///
    /// # Safety
    /// See [`CodedWork::Unpack`]; `channels` begins with a group, or within one with a word.
    #[inline(always)]
    unsafe fn unpack(&self, panel: &CodedPanel, channels: Range<usize>, column: usize, mut to: *mut f32) {
        let mut channel = channels.start;
        while channel < channels.end {
            let group = channel / panel.group;
            let end = channels.end.min((group + 1) * panel.group);
            let word = group * panel.group_words + (channel - group * panel.group) / Self::UNIT * Self::WORDS;
            // SAFETY: as the caller says.
            unsafe {
                let scaled = panel.levels != CodeLevels::Table;
                let added = panel.levels == CodeLevels::Minima;
                let (zero, scale, minimum) =
                    if scaled { panel.grid::<V>(group, column) } else { (V::splat(0.0), V::splat(1.0), V::splat(0.0)) };
                for (index, _) in (channel..end).step_by(Self::UNIT).enumerate() {
                    let first = (word + index * Self::WORDS) * panel.columns + column;
                    let words: [V; 1] = load(panel.words.add(first));
                    for code in 0..Self::UNIT.min(end - channel) {
                        let [number] = match BITS {
                            6 => Self::six_bits(panel.words.add(first), panel.columns, code),
                            _ => self.numbers(&words, code),
                        };
                        let number = if scaled { number.sub(zero).mul(scale) } else { number };
                        let number = if added { number.add(minimum) } else { number };
                        number.store(to);
                        to = to.add(panel.columns);
                    }
                    channel = end.min(channel + Self::UNIT);
                }
            }
        }
    }

    /// `R` rows by all columns, `WIDE` vectors at a time; yields `R`.
    ///
    /// # Safety
    /// See [`CodedWork::Few`].
    #[inline(always)]
    unsafe fn columns<const R: usize, const WIDE: usize>(
        &self,
        panel: &CodedPanel,
        rows: &[*const f32],
        row_sums: &[*const f32],
        sums: *mut f32,
        width: usize,
    ) -> usize {
        // SAFETY: as the caller says.
        unsafe {
            let pointer = |from: &[*const f32], row: usize| from[row.min(from.len() - 1)];
            let rows: [*const f32; R] = std::array::from_fn(|row| pointer(rows, row));
            let row_sums: [*const f32; R] = std::array::from_fn(|row| pointer(row_sums, row));
            let mut column = 0;
            while column + WIDE * V::LANES <= panel.columns {
                self.tile::<R, WIDE>(panel, &rows, &row_sums, column, sums.add(column), width);
                column += WIDE * V::LANES;
            }
            while column < panel.columns {
                self.tile::<R, 1>(panel, &rows, &row_sums, column, sums.add(column), width);
                column += V::LANES;
            }
        }
        R
    }

    /// `R` rows by `N` vectors of columns.
    ///
    /// # Safety
    /// See [`CodedWork::Few`].
    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize>(
        &self,
        panel: &CodedPanel,
        rows: &[*const f32; R],
        row_sums: &[*const f32; R],
        column: usize,
        out: *mut f32,
        width: usize,
    ) {
        let mut totals = [[V::splat(0.0); N]; R];
        for group in 0..panel.groups {
            let first = group * panel.group;
            let count = panel.group.min(panel.channels - first);
            let mut sums = [[V::splat(0.0); N]; R];
            // SAFETY: rows hold all channels, the panel the words of the group for all columns.
            unsafe {
                let words = panel.words.add(group * panel.group_words * panel.columns + column);
                let whole = count / Self::UNIT;
                for unit in 0..whole {
                    let words = words.add(unit * Self::WORDS * panel.columns);
                    self.unit(words, panel.columns, Self::UNIT, rows, first + unit * Self::UNIT, &mut sums);
                }
                if !count.is_multiple_of(Self::UNIT) {
                    let words = words.add(whole * Self::WORDS * panel.columns);
                    let rest = count % Self::UNIT;
                    self.unit(words, panel.columns, rest, rows, first + whole * Self::UNIT, &mut sums);
                }
                if panel.levels == CodeLevels::Table {
                    totals = sums;
                    continue;
                }
                for vector in 0..N {
                    let (zero, scale, minimum) = panel.grid::<V>(group, column + vector * V::LANES);
                    for row in 0..R {
                        let row_sum = V::splat(*row_sums[row].add(group));
                        let total = sums[row][vector].sub(zero.mul(row_sum)).mul_add(scale, totals[row][vector]);
                        totals[row][vector] = match panel.levels {
                            CodeLevels::Minima => minimum.mul_add(row_sum, total),
                            CodeLevels::Symmetric | CodeLevels::Zeros | CodeLevels::Table => total,
                        };
                    }
                }
            }
        }
        for (row, totals) in totals.iter().enumerate() {
            for (vector, total) in totals.iter().enumerate() {
                // SAFETY: as the caller says, there is room for whole tiles.
                unsafe { total.store(out.add(row * width + vector * V::LANES)) };
            }
        }
    }

    /// Adds the products of the first `count` channels of a unit.
    ///
    /// # Safety
    /// The rows hold the channels from `channel` on, the address is valid for the words of the unit.
    #[inline(always)]
    unsafe fn unit<const R: usize, const N: usize>(
        &self,
        words: *const u32,
        columns: usize,
        count: usize,
        rows: &[*const f32; R],
        channel: usize,
        sums: &mut [[V; N]; R],
    ) {
        // SAFETY: as the caller says.
        unsafe {
            if BITS == 6 {
                for code in 0..count {
                    Self::add(Self::six_bits(words, columns, code), rows, channel + code, sums);
                }
            } else {
                let words = load(words);
                for code in 0..count {
                    Self::add(self.numbers(&words, code), rows, channel + code, sums);
                }
            }
        }
    }

    /// Adds the products of one channel.
    ///
    /// # Safety
    /// The rows hold the channel.
    #[inline(always)]
    unsafe fn add<const R: usize, const N: usize>(
        numbers: [V; N],
        rows: &[*const f32; R],
        channel: usize,
        sums: &mut [[V; N]; R],
    ) {
        for (sums, row) in sums.iter_mut().zip(rows) {
            // SAFETY: as the caller says.
            let x = V::splat(unsafe { row.add(channel).read_unaligned() });
            for (sum, number) in sums.iter_mut().zip(numbers) {
                *sum = number.mul_add(x, *sum);
            }
        }
    }
}

/// Vectors side by side.
///
/// # Safety
/// The address is valid for all their lanes.
#[inline(always)]
pub(crate) unsafe fn load<V: CodeVector, const N: usize>(words: *const u32) -> [V; N] {
    let mut vectors = [V::splat(0.0); N];
    for (index, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: as the caller says.
        *vector = unsafe { V::load(words.add(index * V::LANES).cast()) };
    }
    vectors
}

mod taps;
