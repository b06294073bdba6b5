//! Rows of 8-bit activations in blocks, laid side by side for [`blocked`](crate::gemm::blocked): a kernel reads those
//! of a tile from one end to the other with a single address.

use std::array;

use crate::{
    arch::{
        dot::{MAX_ROWS, WORD},
        enter::Kernel,
        isa::Isa,
        vector::LIFT,
    },
    cpu::Cpu,
    gemm::decode::CodedPanel,
    quant::blocks::{BLOCK, HALF_BLOCK, blocked_offsets, blocked_row_len},
    rowwise::{for_rows, piece_rows},
};

/// Words that hold four codes of a row each, of half a block.
pub(crate) const HALF_WORDS: usize = HALF_BLOCK / WORD;

/// Half a block of each row of a tile, word by word.
type HalfTile = [[u32; MAX_ROWS]; HALF_WORDS];

/// The codes of half a block of rows, in the order in which words of `BITS` bits a code are multiplied.
#[inline(always)]
fn ordered<const BITS: u32>(words: &HalfTile) -> HalfTile {
    let mut ordered = *words;
    for row in 0..MAX_ROWS {
        match BITS {
            // Of every 8 codes first those at even places, then the others.
            4 => {
                for (word, to) in ordered.iter_mut().enumerate() {
                    let every_other = |from: u32| {
                        let codes = (from >> (word % 2 * 8)) & 0x00ff_00ff;
                        (codes | codes >> 8) & 0xffff
                    };
                    let first = word / 2 * 2;
                    to[row] = every_other(words[first][row]) | every_other(words[first + 1][row]) << 16;
                }
            }
            // Of every 16 codes first each fourth from the first on, then from the second on, and so forth.
            2 => {
                for (place, to) in ordered.iter_mut().enumerate() {
                    let byte = |word: usize| (words[word][row] >> (8 * place) & 0xff) << (8 * word);
                    to[row] = byte(0) | byte(1) | byte(2) | byte(3);
                }
            }
            _ => {}
        }
    }
    ordered
}

/// Where what is known of a tile of rows lies, each side by side for all of its rows.
#[derive(Clone, Copy)]
pub(crate) struct RowTile {
    /// `[channels / 4, rows]`: words of four codes, in order.
    pub(crate) codes: *const u32,
    /// `[blocks, rows]`
    pub(crate) scales: *const f32,
    /// `[blocks, rows]`: the scales times `-LIFT`.
    pub(crate) less: *const f32,
    /// `[runs, rows]`, see [`beside`].
    pub(crate) beside: *const u32,
    /// A power of two; those behind the last row repeat it.
    pub(crate) rows: usize,
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
        let (scales, rest) = rest.split_at(rows * (self.channels / BLOCK));
        let (less, beside) = rest.split_at(scales.len());
        let (scales, less) = (scales.as_ptr().cast(), less.as_ptr().cast());
        (RowTile { codes: codes.as_ptr(), scales, less, beside: beside.as_ptr(), rows }, count)
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
    channels / WORD + 2 * (channels / BLOCK) + channels / run
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
        let (less, rest) = rest.split_at_mut(steps.len());
        let (first_scale, first_sum) = blocked_offsets(channels);
        let row = |lane: usize| &from[lane.min(count - 1) * row_len..][..row_len];
        let lanes: [&[[u8; HALF_BLOCK]]; MAX_ROWS] = array::from_fn(|lane| row(lane)[..channels].as_chunks().0);
        for (half, to) in words.chunks_exact_mut(HALF_WORDS * rows).enumerate() {
            let mut codes: HalfTile = Default::default();
            for (lane, halves) in lanes.iter().enumerate() {
                for (word, bytes) in halves[half].as_chunks().0.iter().enumerate() {
                    codes[word][lane] = u32::from_le_bytes(*bytes);
                }
            }
            for (word, to) in ordered::<BITS>(&codes).iter().zip(to.chunks_exact_mut(rows)) {
                to.copy_from_slice(&word[..rows]);
            }
        }
        for lane in 0..rows {
            let (scales, sums) = row(lane)[first_scale..].split_at(first_sum - first_scale);
            let scales = scales.as_chunks().0;
            let steps = steps[lane..].iter_mut().step_by(rows).zip(less[lane..].iter_mut().step_by(rows));
            for (&scale, (step, less)) in scales.iter().zip(steps) {
                *step = u32::from_ne_bytes(scale);
                *less = (-LIFT * f32::from_ne_bytes(scale)).to_bits();
            }
            let sums = sums.chunks_exact(run / HALF_BLOCK * size_of::<i16>());
            for ((index, sums), to) in sums.enumerate().zip(rest[lane..].iter_mut().step_by(rows)) {
                let sum = sums.as_chunks().0.iter().map(|&sum| i32::from(i16::from_ne_bytes(sum))).sum();
                *to = beside(plain, centre, sum, f32::from_ne_bytes(scales[index * run / BLOCK]));
            }
        }
    }
}

/// What products of a run with plain codes begin at: an integer, since codes are read without their sign, on [`LIFT`].
/// With others, the sum of the run as a number, which meets what is added to each weight.
#[inline(always)]
fn beside(plain: bool, centre: i32, sum: i32, scale: f32) -> u32 {
    if plain { LIFT.to_bits().wrapping_add_signed(-centre * sum) } else { (sum as f32 * scale).to_bits() }
}
