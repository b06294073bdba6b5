//! The innermost loop: a few rows of the left operand times one packed panel.
//!
//! All element types look alike here. Along the inner dimension both operands consist of 4-byte words: one f32, a
//! pair of bf16 or four bytes. A panel holds, word after word, the words of up to
//! [`Tile::width`](crate::arch::dot::Tile::width) columns side by side; a word of a row is repeated in all lanes and
//! multiplied with them, into f32 or i32 sums.

use crate::arch::{
    dot::{Dot, MAX_ROWS, WORD, WeightType},
    enter::RawKernel,
    isa::Isa,
};

/// What a micro-kernel is to do. The inner dimension is a sequence of `runs`, each of `words` words; a row is at a
/// place of its own in each run.
#[derive(Clone, Copy)]
pub(crate) struct MicroCall {
    /// The type of the elements.
    pub(crate) dtype: WeightType,
    /// Row `i` of run `r` begins `offset` bytes after `rows[r * stride + i]`.
    pub(crate) rows: *const *const u8,
    /// Pointers from one run to the next.
    pub(crate) stride: usize,
    /// Bytes added to each pointer.
    pub(crate) offset: usize,
    /// Number of runs.
    pub(crate) runs: usize,
    /// Words per run.
    pub(crate) words: usize,
    /// `runs * words` times `vectors * LANES` words.
    pub(crate) panel: *const u32,
    /// Number of rows, at most [`Tile::rows`](crate::arch::dot::Tile::rows).
    pub(crate) count: usize,
    /// Vectors per word of the panel, at most `width / lanes`.
    pub(crate) vectors: usize,
    /// The sums: row `i` at `sums[i * sum_stride]`. Rows up to the next size of tile are overwritten as well.
    pub(crate) sums: *mut u32,
    /// See `sums`.
    pub(crate) sum_stride: usize,
    /// True if the sums begin at zero, false if at what is there.
    pub(crate) clear: bool,
}

impl RawKernel for &MicroCall {
    type Output = ();

    /// See [`MicroCall`]; `rows` holds valid pointers up to the next size of tile: 1, 2, 4, all.
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: as the caller says, and what a tier enters has its instructions.
        unsafe {
            match self.dtype {
                WeightType::F32 => self.multiply::<I, I::F32>(),
                WeightType::Bf16 => self.multiply::<I, I::Bf16>(),
                WeightType::S8 => self.multiply::<I, I::S8>(),
            }
        }
    }
}

impl MicroCall {
    /// Multiplies with the next size of tile that the tier has.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn multiply<I: Isa, D: Dot>(&self) {
        let full = I::TILE.width / I::TILE.lanes;
        // SAFETY: as the caller says; six rows are four and two more.
        unsafe {
            match self.count {
                1 => self.columns::<I, D, 1>(),
                2 => self.columns::<I, D, 2>(),
                3 | 4 => self.columns::<I, D, 4>(),
                _ if I::TILE.rows <= 4 => self.columns::<I, D, 4>(),
                _ if D::ROWS < 6 && self.vectors == full => {
                    self.columns::<I, D, 4>();
                    let rest = Self { rows: self.rows.add(4), sums: self.sums.add(4 * self.sum_stride), ..*self };
                    rest.columns::<I, D, 2>();
                }
                _ => self.columns::<I, D, 6>(),
            }
        }
    }

    /// Multiplies `R` rows.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn columns<I: Isa, D: Dot, const R: usize>(&self) {
        const { assert!(R <= MAX_ROWS && I::TILE.rows <= 6 && I::TILE.width <= 4 * I::TILE.lanes) };
        // SAFETY: as the caller says.
        unsafe {
            match self.vectors {
                1 => tile::<D, R, 1>(self),
                _ if I::TILE.width == 2 * I::TILE.lanes => tile::<D, R, 2>(self),
                2 => tile::<D, R, 2>(self),
                3 => tile::<D, R, 3>(self),
                _ => tile::<D, R, 4>(self),
            }
        }
    }
}

/// The tile of `R` rows and `V` vectors.
///
/// # Safety
/// See [`MicroCall`].
#[inline(always)]
pub(crate) unsafe fn tile<D: Dot, const R: usize, const V: usize>(call: &MicroCall) {
    // SAFETY: the caller vouches for the pointers and the instruction set.
    unsafe {
        let mut sums = [[D::zero(); V]; R];
        if !call.clear {
            for (i, row) in sums.iter_mut().enumerate() {
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum = D::load_sum(call.sums.add(i * call.sum_stride + j * D::LANES));
                }
            }
        }
        let mut panel = call.panel;
        for run in 0..call.runs {
            let mut rows = [std::ptr::null(); R];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = (*call.rows.add(run * call.stride + i)).add(call.offset);
            }
            let mut word = 0;
            // Two at a time: what counts and jumps takes the places of products, too.
            while R * V > 12 && word + 1 < call.words {
                multiply_word::<D, R, V>(&rows, word, panel, &mut sums);
                multiply_word::<D, R, V>(&rows, word + 1, panel.add(V * D::LANES), &mut sums);
                panel = panel.add(2 * V * D::LANES);
                word += 2;
            }
            while word < call.words {
                multiply_word::<D, R, V>(&rows, word, panel, &mut sums);
                panel = panel.add(V * D::LANES);
                word += 1;
            }
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                D::store_sum(sum, call.sums.add(i * call.sum_stride + j * D::LANES));
            }
        }
    }
}

/// Adds the products of one word of each row with a word of each column, the first of which is at `panel`.
///
/// # Safety
/// See [`MicroCall`].
#[inline(always)]
unsafe fn multiply_word<D: Dot, const R: usize, const V: usize>(
    rows: &[*const u8; R],
    word: usize,
    panel: *const u32,
    sums: &mut [[D::Sum; V]; R],
) {
    // SAFETY: as the caller says.
    unsafe {
        let mut right = [D::load(panel); V];
        for (j, vector) in right.iter_mut().enumerate().skip(1) {
            *vector = D::load(panel.add(j * D::LANES));
        }
        for (row, sums) in rows.iter().zip(sums) {
            let left = D::splat(row.add(word * WORD));
            for (sum, &right) in sums.iter_mut().zip(&right) {
                *sum = D::dot(*sum, left, right);
            }
        }
    }
}
