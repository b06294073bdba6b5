//! Products of codes of 8 bits with weights in few bits: codes times codes group by group, whose sums are exact, scaled
//! and added up in f32.

use std::ops::Range;

use crate::{
    arch::{
        dot::{MAX_ROWS, WORD},
        enter::RawKernel,
        isa::Isa,
        vector::CodeVector,
    },
    gemm::{
        decode::{CodeLevels, CodedPanel, unit},
        rows::Scales,
    },
    quant::RowScale,
};

/// Codes of a word.
pub(crate) const CODES: usize = WORD;

/// Writes channels of a panel as words of four signed codes, and adds up those of each column and group.
pub(crate) struct UnpackCodes {
    pub(crate) panel: CodedPanel,
    /// Whole groups, or a part of one that begins with a word of the panel.
    pub(crate) channels: Range<usize>,
    /// `[channels / 4, columns]`
    pub(crate) to: *mut u32,
    /// `[groups that the channels are of, columns]`: what is added to, or overwritten where a group begins.
    pub(crate) column_sums: *mut f32,
}

impl RawKernel for &UnpackCodes {
    type Output = ();

    /// See [`UnpackCodes`].
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: as the caller says.
        unsafe {
            match self.panel.bits {
                8 => self.unpack::<8>(),
                6 => self.unpack::<6>(),
                4 => self.unpack::<4>(),
                _ => self.unpack::<2>(),
            }
        }
    }
}

impl UnpackCodes {
    /// # Safety
    /// See [`UnpackCodes`].
    #[inline(always)]
    unsafe fn unpack<const BITS: u32>(&self) {
        let CodedPanel { columns, group, group_words, words, .. } = self.panel;
        let first = self.channels.start / group;
        let (mut channel, mut to) = (self.channels.start, self.to);
        while channel < self.channels.end {
            let index = channel / group;
            let within = channel - index * group;
            let end = self.channels.end.min((index + 1) * group);
            // SAFETY: the panel has the words of all groups; the caller made room for the channels and the sums.
            unsafe {
                let sums = std::slice::from_raw_parts_mut(self.column_sums.add((index - first) * columns), columns);
                if within == 0 {
                    sums.fill(0.0);
                }
                let (unit_codes, unit_words) = unit(BITS);
                let mut word = words.add((index * group_words + within / unit_codes * unit_words) * columns);
                while channel < end {
                    for part in 0..(unit_codes / CODES).min((end - channel).div_ceil(CODES)) {
                        let out = std::slice::from_raw_parts_mut(to, columns);
                        if BITS == 6 {
                            let low = std::slice::from_raw_parts(word.add(part / 2 * columns), columns);
                            let high = std::slice::from_raw_parts(word.add(2 * columns), columns);
                            spread_six(low, high, part, out, sums);
                        } else {
                            spread::<BITS>(std::slice::from_raw_parts(word, columns), part, out, sums);
                        }
                        to = to.add(columns);
                    }
                    channel = end.min(channel + unit_codes);
                    word = word.add(unit_words * columns);
                }
            }
        }
    }
}

/// The `part`th four codes of each word as signed bytes, added to `sums`.
#[inline(always)]
fn spread<const BITS: u32>(from: &[u32], part: usize, to: &mut [u32], sums: &mut [f32]) {
    for ((to, &word), sum) in to.iter_mut().zip(from).zip(sums) {
        let bytes = match BITS {
            8 => word,
            4 => {
                let codes = (word >> (16 * part)) & 0xffff;
                let codes = (codes | codes << 8) & 0x00ff_00ff;
                let codes = (codes | codes << 4) & 0x0f0f_0f0f;
                codes | ((codes & 0x0808_0808) * 0x1e)
            }
            _ => {
                let codes = (word >> (8 * part)) & 0xff;
                let codes = (codes | codes << 12) & 0x000f_000f;
                let codes = (codes | codes << 6) & 0x0303_0303;
                codes | ((codes & 0x0202_0202) * 0x7e)
            }
        };
        *to = bytes;
        *sum += sum_of_bytes(bytes);
    }
}

/// The `part`th four codes of 6 bits of each unit as signed bytes, added to `sums`.
#[inline(always)]
fn spread_six(low: &[u32], high: &[u32], part: usize, to: &mut [u32], sums: &mut [f32]) {
    for ((to, (&low, &high)), sum) in to.iter_mut().zip(low.iter().zip(high)).zip(sums) {
        // Less half of all codes.
        let codes = join(low, high, part) ^ 0x2020_2020;
        *to = codes | ((codes & 0x2020_2020) * 6);
        *sum += sum_of_bytes(*to);
    }
}

/// The `part`th four codes of 6 bits in the words of their lower and upper bits, bytes without a sign.
#[inline(always)]
pub(crate) fn join(low: u32, high: u32, part: usize) -> u32 {
    (low >> (part % 2 * 4)) & 0x0f0f_0f0f | ((high >> (2 * part)) & 0x0303_0303) << 4
}

/// The sum of four signed bytes.
#[inline(always)]
fn sum_of_bytes(bytes: u32) -> f32 {
    let (low, high) = ((bytes << 24) as i32 >> 24, (bytes << 16) as i32 >> 24);
    (low + high + ((bytes << 8) as i32 >> 24) + (bytes as i32 >> 24)) as f32
}

/// Adds the scaled sums of a group to those of the groups before.
pub(crate) struct AddGroup<'a> {
    pub(crate) panel: &'a CodedPanel,
    pub(crate) group: usize,
    /// Of products of codes, row `i` at `i * width`.
    pub(crate) products: *const i32,
    pub(crate) width: usize,
    pub(crate) rows: usize,
    /// The codes of 0 of each row.
    pub(crate) zeros: [f32; MAX_ROWS],
    /// Of each row, the sum of the group's codes less those of 0.
    pub(crate) row_sums: [f32; MAX_ROWS],
    /// Of each column, as [`UnpackCodes`] left them.
    pub(crate) column_sums: *const f32,
    /// As `products`.
    pub(crate) totals: *mut f32,
    /// Of each row, what the totals are multiplied with behind the last group.
    pub(crate) scales: Option<[f32; MAX_ROWS]>,
}

impl RawKernel for &AddGroup<'_> {
    type Output = ();

    /// See [`AddGroup`].
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: as the caller says.
        unsafe {
            match (self.panel.levels, self.panel.symmetric_zero == 0.0) {
                (CodeLevels::Symmetric, true) => self.add::<I::Wide, false>(),
                _ => self.add::<I::Wide, true>(),
            }
        }
    }
}

impl AddGroup<'_> {
    /// # Safety
    /// See [`AddGroup`].
    #[inline(always)]
    unsafe fn add<V: CodeVector, const ZEROS: bool>(&self) {
        for column in (0..self.panel.columns).step_by(V::LANES) {
            // SAFETY: columns of a panel are whole vectors, and there are as many of everything.
            unsafe {
                let (zero, scale, minimum) = self.panel.grid::<V>(self.group, column);
                let weights = V::load(self.column_sums.add(column));
                for row in 0..self.rows {
                    let at = row * self.width + column;
                    let products = V::load_i32(self.products.add(at));
                    let mut sum = weights.mul_add(V::splat(-self.zeros[row]), products);
                    if ZEROS {
                        sum = zero.mul_add(V::splat(-self.row_sums[row]), sum);
                    }
                    let before = if self.group == 0 { V::splat(0.0) } else { V::load(self.totals.add(at)) };
                    let mut total = sum.mul_add(scale, before);
                    if self.panel.levels == CodeLevels::Minima {
                        total = minimum.mul_add(V::splat(self.row_sums[row]), total);
                    }
                    let total = self.scales.map_or(total, |scales| total.mul(V::splat(scales[row])));
                    total.store(self.totals.add(at));
                }
            }
        }
    }
}

/// Rows of codes, beside what of them is known before they are multiplied.
pub(crate) struct CodeRows<'a> {
    pub(crate) scales: Scales<'a>,
    /// Of each row and group: the sum of the codes less those of 0; empty if the codes of weights stand around 0.
    pub(crate) sums: Vec<f32>,
    pub(crate) groups: usize,
}

impl CodeRows<'_> {
    /// How the rows from `first` on are read, the last of `count` repeated.
    pub(crate) fn scales(&self, first: usize, count: usize) -> [RowScale; MAX_ROWS] {
        std::array::from_fn(|row| self.scales.of(first + row.min(count - 1)))
    }

    /// The sums of a group of those rows.
    pub(crate) fn sums(&self, first: usize, count: usize, group: usize) -> [f32; MAX_ROWS] {
        let of = |row: usize| self.sums.get((first + row.min(count - 1)) * self.groups + group);
        std::array::from_fn(|row| of(row).copied().unwrap_or(0.0))
    }
}

/// The sum of codes less as many codes of 0.
pub(crate) fn sum_of_codes(codes: &[u8], zero: i32) -> f32 {
    let sum: i64 =
        codes.chunks(1 << 16).map(|codes| i64::from(codes.iter().map(|&code| u32::from(code)).sum::<u32>())).sum();
    (sum - codes.len() as i64 * i64::from(zero)) as f32
}
