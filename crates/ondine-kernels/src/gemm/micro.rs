//! The innermost loop: a few rows of the left operand times one packed panel.
//!
//! All element types look alike here. Along the inner dimension both operands consist of 4-byte words: one f32, a
//! pair of bf16 or four bytes. A panel holds, word after word, the words of up to [`GemmKernels::width`] columns side
//! by side; a word of a row is repeated in all lanes and multiplied with them, into f32 or i32 sums.

use crate::{
    attention::AttentionKernels,
    depthwise::DepthwiseLine,
    gemm::{decode::CodedCall, epilogue::EpilogueCall, matmul::PackKernel, weights::WeightType},
    recurrent::CellStep,
    winograd::{TileInput, TileOutput, TileScales},
};

/// Bytes of a word.
pub(crate) const WORD: usize = 4;

/// The most columns that a panel of any tier has.
pub(crate) const MAX_WIDTH: usize = 64;

/// The most rows that a tile of any tier has.
pub(crate) const MAX_ROWS: usize = 8;

/// How the vectors of one instruction set multiply one element type.
pub(crate) trait Dot {
    /// A word of a row, in every lane.
    type Left: Copy;
    /// Words of [`Dot::LANES`] columns.
    type Right: Copy;
    /// Sums of [`Dot::LANES`] columns.
    type Sum: Copy;
    /// Lanes of a vector.
    const LANES: usize;
    /// The most rows of a full panel that fit into the registers.
    const ROWS: usize = MAX_ROWS;

    /// Sums of nothing.
    unsafe fn zero() -> Self::Sum;
    /// Reads one word, of any alignment.
    unsafe fn splat(word: *const u8) -> Self::Left;
    /// Reads `LANES` words.
    unsafe fn load(words: *const u32) -> Self::Right;
    /// Adds the products of the elements of the words.
    unsafe fn dot(sum: Self::Sum, left: Self::Left, right: Self::Right) -> Self::Sum;
    /// Reads `LANES` sums.
    unsafe fn load_sum(sums: *const u32) -> Self::Sum;
    /// Writes `LANES` sums.
    unsafe fn store_sum(sum: Self::Sum, sums: *mut u32);
}

/// What a micro-kernel is to do. The inner dimension is a sequence of `runs`, each of `words` words; a row is at a
/// place of its own in each run.
#[derive(Clone, Copy)]
pub(crate) struct MicroCall {
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
    /// Number of rows, at most [`GemmKernels::rows`].
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

/// A micro-kernel.
///
/// # Safety
/// All pointers are valid for what [`MicroCall`] says, and the processor has the tier's instructions. `rows` holds
/// valid pointers up to the next size of tile: 1, 2, 4, all.
pub(crate) type Micro = unsafe fn(&MicroCall);

/// The tile of `R` rows and `V` vectors.
///
/// # Safety
/// See [`Micro`].
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
            for word in 0..call.words {
                let mut right = [D::load(panel); V];
                for (j, vector) in right.iter_mut().enumerate().skip(1) {
                    *vector = D::load(panel.add(j * D::LANES));
                }
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let left = D::splat(row.add(word * WORD));
                    for (sum, &right) in sums.iter_mut().zip(&right) {
                        *sum = D::dot(*sum, left, right);
                    }
                }
                panel = panel.add(V * D::LANES);
            }
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                D::store_sum(sum, call.sums.add(i * call.sum_stride + j * D::LANES));
            }
        }
    }
}

/// The matrix kernels of one tier.
pub struct GemmKernels {
    /// Columns per vector.
    pub(crate) lanes: usize,
    /// Columns of a full panel.
    pub(crate) width: usize,
    /// Rows of a full tile.
    pub(crate) rows: usize,
    /// f32 times f32.
    pub(crate) f32: Micro,
    /// bf16 times bf16, into f32.
    pub(crate) bf16: Micro,
    /// u8 times s8, into i32.
    pub(crate) s8: Micro,
    /// Reads weights in few bits.
    pub(crate) coded: fn(&CodedCall),
    /// From sums to results.
    pub(crate) epilogue: fn(&EpilogueCall<'_>),
    /// Packs an operand known only when the network runs.
    pub(crate) pack: PackKernel,
    /// Attention to operands of f32.
    pub(crate) attention_f32: AttentionKernels,
    /// Attention to operands of bf16.
    pub(crate) attention_bf16: AttentionKernels,
    /// The same if queries and keys may be of 8 bits.
    pub(crate) attention_s8: AttentionKernels,
    /// Pixels of a depthwise convolution.
    pub(crate) depthwise: fn(DepthwiseLine<'_>),
    /// The input of a tile of Winograd's convolution, transformed.
    pub(crate) winograd_input: fn(TileInput<'_>) -> TileScales,
    /// The sums of tiles of Winograd's convolution, transformed back.
    pub(crate) winograd_output: fn(TileOutput<'_>),
    /// The gates of a step of a recurrent layer.
    pub(crate) recurrent: fn(CellStep<'_>),
}

impl GemmKernels {
    /// The micro-kernel for weights of a type.
    pub(crate) fn micro(&self, dtype: WeightType) -> Micro {
        match dtype {
            WeightType::F32 => self.f32,
            WeightType::Bf16 => self.bf16,
            WeightType::S8 => self.s8,
        }
    }

    /// The attention to operands of a type.
    pub(crate) fn attention(&self, dtype: WeightType, eight_bit: bool) -> &AttentionKernels {
        match dtype {
            WeightType::Bf16 if eight_bit => &self.attention_s8,
            WeightType::Bf16 => &self.attention_bf16,
            _ => &self.attention_f32,
        }
    }
}

impl std::fmt::Debug for GemmKernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GemmKernels").field("width", &self.width).field("rows", &self.rows).finish_non_exhaustive()
    }
}
