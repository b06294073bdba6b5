//! Attention without the matrix of scores: softmax is computed as the keys go by (Dao et al. 2022).
//!
//! Keys and values are packed once per head. A task holds a few query rows; for each tile of keys it computes the
//! scores, turns them into weights relative to the largest score so far, and adds the weighted values to its sums,
//! after scaling them to the new largest score. The order of all sums depends on the shape alone.

use std::{cell::RefCell, f32::consts::LOG2_E, ops::Range};

use crate::{
    arch::{Isa, vector::Vector},
    gemm::{
        Output, Values, check_rows,
        epilogue::{MAX_LANES, Target, store},
        matmul::{Operand, PackOperand, Slots, packed_operand},
        micro::{GemmKernels, MAX_ROWS, MicroCall, WORD},
        weights::{Layout, PACKED_ALIGN, WeightType},
    },
    math::{exp, exp2, exp2_coarse},
    rowwise::RowKernel,
    table::Kernels,
    threads::Pool,
};

/// Keys of a tile; a multiple of every tier's panel width.
const TILE_KEYS: usize = 128;

/// Query rows of a task, about.
const TASK_ROWS: usize = 96;

/// The shape of an attention over `batch` sequences.
///
/// Element `d` of head `h` of row `i` of sequence `b` is at `(b * rows + i) * stride + h * dim + d`, so queries, keys
/// and values may be columns of one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Number of sequences.
    pub batch: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`, and each serves as many consecutive ones.
    pub kv_heads: usize,
    /// Query rows per sequence.
    pub queries: usize,
    /// Key and value rows per sequence.
    pub keys: usize,
    /// Elements of a query or key of one head.
    pub head_dim: usize,
    /// Elements of a value of one head.
    pub value_dim: usize,
    /// Elements from one row of queries, keys, values to the next.
    pub strides: [usize; 3],
    /// Elements from one row of the result to the next.
    pub out_stride: usize,
    /// What the scores are multiplied by, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// True if query `i` sees keys `0..=i + keys - queries` only.
    pub causal: bool,
}

/// What keeps queries from attending to keys.
#[derive(Clone, Copy, Debug)]
pub enum AttentionMask<'a> {
    /// Nothing.
    None,
    /// `[batch, keys]`: false hides the key.
    Keys(&'a [bool]),
    /// `[batch or 1, heads or 1, queries, keys]`, added to the scaled scores.
    Additive {
        /// The numbers.
        values: &'a [f32],
        /// True if there is one for each sequence, false if all share it.
        batch: bool,
        /// True if there is one for each head, false if all share it.
        heads: bool,
    },
}

impl AttentionMask<'_> {
    fn check(&self, shape: &AttentionShape) {
        let &AttentionShape { batch, heads, queries, keys, .. } = shape;
        match *self {
            Self::None => {}
            Self::Keys(seen) => assert_eq!(seen.len(), batch * keys, "mask of {shape:?}"),
            Self::Additive { values, batch: per_batch, heads: per_head } => {
                let count = if per_batch { batch } else { 1 } * if per_head { heads } else { 1 };
                assert_eq!(values.len(), count * queries * keys, "mask of {shape:?}");
            }
        }
    }
}

/// Bytes of scratch that [`attention`] needs for operands of f32 or bf16: the packed keys and values of all heads.
#[must_use]
pub fn attention_scratch_bytes(kernels: &Kernels, shape: &AttentionShape, dtype: WeightType) -> usize {
    let (keys, values) = packings(&kernels.gemm, shape, dtype);
    shape.batch * shape.kv_heads * (keys.1 + values.1) + PACKED_ALIGN
}

/// Layout and size of the keys and the values of one head.
fn packings(kernels: &GemmKernels, shape: &AttentionShape, dtype: WeightType) -> ((Layout, usize), (Layout, usize)) {
    let keys = packed_operand(dtype, shape.head_dim, shape.keys, kernels);
    (keys, packed_operand(dtype, shape.keys, shape.value_dim, kernels))
}

/// Computes `softmax(scale * queries * keys^T + mask) * values` for each head.
///
/// A query that sees no key gets zeros.
///
/// # Panics
/// If the operands differ in type, if a slice is too short for its rows and stride, if the mask has the wrong length,
/// or if `scratch` has fewer bytes than [`attention_scratch_bytes`].
pub fn attention(
    pool: &Pool,
    kernels: &Kernels,
    shape: &AttentionShape,
    operands: [Values<'_>; 3],
    mask: AttentionMask<'_>,
    mut out: Output<'_>,
    scratch: &mut [u8],
) {
    let &AttentionShape { batch, heads, kv_heads, queries, keys, head_dim, value_dim, strides, .. } = shape;
    let dtype = operands[0].weight_type();
    assert!(operands.iter().all(|operand| operand.weight_type() == dtype), "operands differ in type");
    assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads), "heads of {shape:?}");
    let widths = [heads * head_dim, kv_heads * head_dim, kv_heads * value_dim];
    for (i, what) in ["queries", "keys", "values"].into_iter().enumerate() {
        check_rows(what, operands[i].len(), batch * [queries, keys, keys][i], widths[i], strides[i]);
    }
    check_rows("output", out.len(), batch * queries, heads * value_dim, shape.out_stride);
    mask.check(shape);
    if batch * queries * heads * value_dim == 0 {
        return;
    }
    let gemm = &kernels.gemm;
    let (key_packing, value_packing) = packings(gemm, shape, dtype);
    let work = Attention {
        kernels: gemm,
        shape,
        operands,
        dtype,
        mask,
        keys: key_packing.0,
        values: value_packing.0,
        packed: Slots::new(scratch, key_packing.1 + value_packing.1, batch * kv_heads),
        key_bytes: key_packing.1,
        out: out.target(),
    };
    pool.run(2 * batch * kv_heads, &|task| work.pack(task / 2, task % 2 == 1));
    let tiles = queries.div_ceil(TASK_ROWS);
    let rows = queries.div_ceil(tiles).next_multiple_of(gemm.rows);
    pool.run(batch * heads * tiles, &|task| {
        let (head, first) = (task / tiles, task % tiles * rows);
        if first < queries {
            SCRATCH.with_borrow_mut(|scratch| work.rows(head, first..queries.min(first + rows), scratch));
        }
    });
}

/// Memory of a thread that outlives a call.
#[derive(Default)]
struct Scratch {
    strips: Vec<Strip>,
    /// Copies of query rows that end within a word.
    copies: Vec<u32>,
    /// Sums of weighted values of all strips, `[strip][row][value]`.
    sums: Vec<f32>,
    tile: Tile,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// An attention under way.
struct Attention<'a> {
    kernels: &'a GemmKernels,
    shape: &'a AttentionShape,
    operands: [Values<'a>; 3],
    dtype: WeightType,
    mask: AttentionMask<'a>,
    keys: Layout,
    values: Layout,
    /// Per sequence and key head: packed keys, then packed values.
    packed: Slots,
    key_bytes: usize,
    out: Target,
}

// SAFETY: the address is that of a slice that the caller of `attention` holds, and no two tasks write the same rows.
unsafe impl Sync for Attention<'_> {}

/// A few query rows of one head, no more than a tile of the micro-kernel.
struct Strip {
    /// The sequence.
    batch: usize,
    /// The head.
    head: usize,
    /// The first row.
    row: usize,
    /// Rows.
    count: usize,
    /// The address of each row; the last one is repeated.
    queries: [*const u8; MAX_ROWS],
    /// The largest score of each row so far.
    max: [f32; MAX_ROWS],
    /// The sums of the weights of each row so far, relative to the largest score, lane by lane.
    sum: [[f32; MAX_LANES]; MAX_ROWS],
}

/// Scores of a strip for a tile of keys and the weights made of them, `[row][key]`.
#[repr(C, align(64))]
struct Tile {
    scores: [[f32; TILE_KEYS]; MAX_ROWS],
    /// Weights as f32.
    single: [[f32; TILE_KEYS]; MAX_ROWS],
    /// Weights as bits of bf16.
    brain: [[u16; TILE_KEYS]; MAX_ROWS],
}

impl Default for Tile {
    fn default() -> Self {
        let zeros = [[0.0; TILE_KEYS]; MAX_ROWS];
        Self { scores: zeros, single: zeros, brain: [[0; TILE_KEYS]; MAX_ROWS] }
    }
}

impl Attention<'_> {
    /// Packs the keys or the values of one sequence and head.
    fn pack(&self, index: usize, values: bool) {
        let &AttentionShape { kv_heads, keys, head_dim, value_dim, strides, .. } = self.shape;
        let (batch, head) = (index / kv_heads, index % kv_heads);
        let (dim, layout, part) = if values {
            (value_dim, self.values, self.key_bytes..self.packed.size())
        } else {
            (head_dim, self.keys, 0..self.key_bytes)
        };
        if keys == 0 || dim == 0 {
            return;
        }
        let which = 1 + usize::from(values);
        let stride = strides[which];
        let from = self.operands[which].slice(batch * keys * stride + head * dim, (keys - 1) * stride + dim);
        let (inner, columns) = if values { (keys, dim) } else { (dim, keys) };
        let operand = Operand { values: from, stride, inner, columns };
        // SAFETY: each task has a part of its own.
        let out = unsafe { self.packed.get(index, part) };
        (self.kernels.pack)(PackOperand { operand, transposed: !values, layout, out });
    }

    /// Computes rows of one head; `head` counts through all sequences.
    fn rows(&self, head: usize, rows: Range<usize>, scratch: &mut Scratch) {
        let &AttentionShape { heads, kv_heads, keys, .. } = self.shape;
        let Scratch { strips, copies, sums, tile } = scratch;
        let (batch, head) = (head / heads, head % heads);
        // SAFETY: nobody writes to the packed operands any more.
        let packed = unsafe { self.packed.get(batch * kv_heads + head / (heads / kv_heads), 0..self.packed.size()) };
        self.strips(batch, head, rows, strips, copies);
        let strip_sums = self.kernels.rows * self.values.columns;
        sums.clear();
        sums.resize(strips.len() * strip_sums, 0.0);
        for first in (0..keys).step_by(TILE_KEYS) {
            let keys = first..keys.min(first + TILE_KEYS);
            for (strip, sums) in strips.iter_mut().zip(sums.chunks_exact_mut(strip_sums)) {
                self.tile(strip, keys.clone(), packed, tile, sums);
            }
        }
        for (strip, sums) in strips.iter().zip(sums.chunks_exact(strip_sums)) {
            self.finish(strip, sums);
        }
    }

    /// Cuts rows into strips.
    fn strips(&self, batch: usize, head: usize, rows: Range<usize>, strips: &mut Vec<Strip>, copies: &mut Vec<u32>) {
        let &AttentionShape { queries, head_dim, strides: [stride, ..], .. } = self.shape;
        let (tile, element) = (self.kernels.rows, self.dtype.activation_bytes());
        let bytes = head_dim * element;
        let words = bytes.div_ceil(WORD);
        copies.clear();
        if !bytes.is_multiple_of(WORD) {
            copies.resize(rows.len() * words, 0);
        }
        let (first, copies) = (rows.start, copies.as_mut_ptr().cast::<u8>());
        let address = |row: usize| {
            let element_index = (batch * queries + row) * stride + head * head_dim;
            let query = self.operands[0].pointer().wrapping_add(element_index * element);
            if bytes.is_multiple_of(WORD) {
                return query;
            }
            let copy = copies.wrapping_add((row - first) * words * WORD);
            // SAFETY: the row has `bytes` bytes, and each row has a copy of as many or more.
            unsafe { query.copy_to_nonoverlapping(copy, bytes) };
            copy.cast_const()
        };
        strips.clear();
        strips.extend(rows.clone().step_by(tile).map(|row| {
            let count = tile.min(rows.end - row);
            let queries = std::array::from_fn(|i| address(row + i.min(count - 1)));
            Strip {
                batch,
                head,
                row,
                count,
                queries,
                max: [f32::NEG_INFINITY; MAX_ROWS],
                sum: [[0.0; MAX_LANES]; MAX_ROWS],
            }
        }));
    }

    /// Lets a tile of keys go by.
    fn tile(&self, strip: &mut Strip, keys: Range<usize>, packed: &[u8], tile: &mut Tile, sums: &mut [f32]) {
        let &AttentionShape { queries, keys: all, causal, scale, .. } = self.shape;
        // Keys of the tile that the first row sees; each row sees one more than the row before.
        let seen =
            if causal { (strip.row + 1 + all) as isize - (queries + keys.start) as isize } else { isize::MAX / 2 };
        if seen + strip.count as isize <= 1 {
            return;
        }
        self.scores(strip, keys.clone(), packed, tile);
        (self.kernels.attend)(SoftmaxTile {
            scale,
            mask: self.mask_tile(strip, keys.clone()),
            seen,
            keys: keys.len(),
            bf16: self.dtype == WeightType::Bf16,
            strip,
            tile,
            sums,
            stride: self.values.columns,
        });
        self.add_values(strip, keys, packed, tile, sums);
    }

    fn scores(&self, strip: &Strip, keys: Range<usize>, packed: &[u8], tile: &mut Tile) {
        let GemmKernels { width, lanes, .. } = *self.kernels;
        let micro = self.kernels.micro(self.dtype);
        let scores = tile.scores.as_flattened_mut().as_mut_ptr().cast::<u32>();
        for (index, panel) in (keys.start / width..keys.end.div_ceil(width)).enumerate() {
            // SAFETY: the packing holds `words` words for each column, the rows as many; the panels of a tile of keys
            // have no more columns than a row of scores, of which there are as many as a tile may have rows.
            unsafe {
                micro(&MicroCall {
                    rows: strip.queries.as_ptr(),
                    stride: MAX_ROWS,
                    offset: 0,
                    runs: 1,
                    words: self.keys.words,
                    panel: packed[self.keys.panel_offset(0, panel)..].as_ptr().cast(),
                    count: strip.count,
                    vectors: self.keys.panel_columns(panel) / lanes,
                    sums: scores.add(index * width),
                    sum_stride: TILE_KEYS,
                    clear: true,
                });
            }
        }
    }

    fn add_values(&self, strip: &Strip, keys: Range<usize>, packed: &[u8], tile: &Tile, sums: &mut [f32]) {
        let GemmKernels { width, lanes, .. } = *self.kernels;
        let micro = self.kernels.micro(self.dtype);
        let rows: [*const u8; MAX_ROWS] = match self.dtype {
            WeightType::Bf16 => std::array::from_fn(|i| tile.brain[i].as_ptr().cast()),
            _ => std::array::from_fn(|i| tile.single[i].as_ptr().cast()),
        };
        let per_word = self.dtype.per_word();
        for panel in 0..self.values.panels {
            let columns = self.values.panel_columns(panel);
            let offset = self.key_bytes + self.values.panel_offset(0, panel) + keys.start / per_word * columns * WORD;
            // SAFETY: the packing holds a word of each column for each word of keys, and each row of weights as many;
            // the sums have as many rows as a tile, of all columns.
            unsafe {
                micro(&MicroCall {
                    rows: rows.as_ptr(),
                    stride: MAX_ROWS,
                    offset: 0,
                    runs: 1,
                    words: keys.len().div_ceil(per_word),
                    panel: packed[offset..].as_ptr().cast(),
                    count: strip.count,
                    vectors: columns / lanes,
                    sums: sums.as_mut_ptr().add(panel * width).cast(),
                    sum_stride: self.values.columns,
                    clear: false,
                });
            }
        }
    }

    /// The mask of a strip and a tile of keys.
    fn mask_tile(&self, strip: &Strip, tile: Range<usize>) -> MaskTile<'_> {
        let &AttentionShape { heads, queries, keys, .. } = self.shape;
        match self.mask {
            AttentionMask::None => MaskTile::None,
            AttentionMask::Keys(seen) => MaskTile::Keys(&seen[strip.batch * keys..][tile]),
            AttentionMask::Additive { values, batch: per_batch, heads: per_head } => {
                let batch = if per_batch { strip.batch } else { 0 };
                let plane = if per_head { batch * heads + strip.head } else { batch };
                MaskTile::Additive(&values[(plane * queries + strip.row) * keys + tile.start..], keys)
            }
        }
    }

    /// Divides the sums by those of the weights and writes them.
    fn finish(&self, strip: &Strip, sums: &[f32]) {
        let &AttentionShape { queries, value_dim, out_stride, .. } = self.shape;
        let first = (strip.batch * queries + strip.row) * out_stride + strip.head * value_dim;
        // SAFETY: `attention` checked that the output holds all rows.
        let out = unsafe { self.out.add(first) };
        (self.kernels.attend_end)(AttentionEnd {
            strip,
            sums,
            stride: self.values.columns,
            value_dim,
            out,
            out_stride,
        });
    }
}

/// From sums of weighted values to results.
pub(crate) struct AttentionEnd<'a> {
    strip: &'a Strip,
    /// Rows `stride` apart.
    sums: &'a [f32],
    stride: usize,
    value_dim: usize,
    /// Rows `out_stride` apart.
    out: Target,
    out_stride: usize,
}

impl RowKernel for AttentionEnd<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        for i in 0..self.strip.count {
            let empty = self.strip.max[i] == f32::NEG_INFINITY;
            let lanes = &self.strip.sum[i][..I::Vector::LANES];
            let total = I::Vector::splat(if empty { 1.0 } else { lanes.iter().sum() });
            let sums = &self.sums[i * self.stride..][..self.stride];
            for first in (0..self.value_dim).step_by(I::Vector::LANES) {
                let count = I::Vector::LANES.min(self.value_dim - first);
                // SAFETY: the stride is whole vectors; whoever made the call vouches for the output.
                unsafe {
                    let sum = I::Vector::load(sums.as_ptr().add(first));
                    store(sum.div(total), count, self.out.add(i * self.out_stride + first));
                }
            }
        }
    }
}

/// The mask of the rows of a strip, for the keys of a tile.
#[derive(Clone, Copy)]
enum MaskTile<'a> {
    None,
    /// The same for all rows.
    Keys(&'a [bool]),
    /// Rows at a distance.
    Additive(&'a [f32], usize),
}

/// From scores to weights, for a strip and a tile of keys.
pub(crate) struct SoftmaxTile<'a> {
    scale: f32,
    mask: MaskTile<'a>,
    /// How many keys the first row sees, counted from the first of the tile; each row sees one more than the one before.
    seen: isize,
    /// Keys of the tile.
    keys: usize,
    /// True if the weights are to be bf16.
    bf16: bool,
    strip: &'a mut Strip,
    tile: &'a mut Tile,
    /// Sums of weighted values, rows `stride` apart.
    sums: &'a mut [f32],
    stride: usize,
}

impl RowKernel for SoftmaxTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let end = self.keys.next_multiple_of(I::Vector::LANES);
        for i in 0..self.strip.count {
            let seen = (self.seen + i as isize).clamp(0, self.keys as isize) as usize;
            let scores = &mut self.tile.scores[i][..end];
            let factor = LOG2_E * mask_scores::<I>(&mut scores[..self.keys], i, self.mask, self.scale);
            scores[seen..].fill(f32::NEG_INFINITY);
            let max = largest::<I::Vector>(scores);
            if max.any_greater(I::Vector::splat(self.strip.max[i])) {
                let (old, new) = (self.strip.max[i], max.largest());
                let shrink = if old == f32::NEG_INFINITY { 0.0 } else { exp::<I>(factor / LOG2_E * (old - new)) };
                self.strip.max[i] = new;
                self.strip.sum[i].iter_mut().for_each(|sum| *sum *= shrink);
                self.sums[i * self.stride..][..self.stride].iter_mut().for_each(|sum| *sum *= shrink);
            }
            let max = self.strip.max[i];
            if max == f32::NEG_INFINITY {
                self.tile.single[i][..end].fill(0.0);
                self.tile.brain[i][..end].fill(0);
                continue;
            }
            let (power, sum) = ([factor, -factor * max], &mut self.strip.sum[i]);
            if self.bf16 {
                let weights = &mut self.tile.brain[i][..end];
                // SAFETY: a chunk of weights is a vector.
                add_weights::<I::Vector, _>(scores, power, exp2_coarse, sum, weights, |x, to| unsafe {
                    x.store_bf16(to);
                });
                weights[seen..].fill(0);
            } else {
                let weights = &mut self.tile.single[i][..end];
                // SAFETY: a chunk of weights is a vector.
                add_weights::<I::Vector, _>(scores, power, exp2, sum, weights, |x, to| unsafe {
                    x.store(to);
                });
                weights[seen..].fill(0.0);
            }
        }
    }
}

/// Applies the mask of row `i`; returns what the scores are still to be multiplied by.
#[inline(always)]
fn mask_scores<I: Isa>(scores: &mut [f32], i: usize, mask: MaskTile<'_>, scale: f32) -> f32 {
    match mask {
        MaskTile::None if scale >= 0.0 => return scale,
        MaskTile::None => scores.iter_mut().for_each(|score| *score *= scale),
        MaskTile::Keys(seen) => {
            for (score, &seen) in scores.iter_mut().zip(seen) {
                *score = if seen { *score * scale } else { f32::NEG_INFINITY };
            }
        }
        MaskTile::Additive(mask, stride) => {
            for (score, &mask) in scores.iter_mut().zip(&mask[i * stride..]) {
                *score = I::mul_add(*score, scale, mask);
            }
        }
    }
    1.0
}

/// The largest score of each lane.
#[inline(always)]
fn largest<V: Vector>(scores: &[f32]) -> V {
    let mut max = V::splat(f32::NEG_INFINITY);
    for scores in scores.chunks_exact(V::LANES) {
        // SAFETY: a chunk is a vector. A score that is NaN is passed over here; its weight is NaN.
        max = unsafe { V::load(scores.as_ptr()) }.max(max);
    }
    max
}

/// Writes the weights, `exp2(factor * score + offset)`, and adds them to the sums of their lanes.
#[inline(always)]
fn add_weights<V: Vector, T>(
    scores: &[f32],
    [factor, offset]: [f32; 2],
    exp2: impl Fn(V) -> V,
    sums: &mut [f32; MAX_LANES],
    weights: &mut [T],
    store: impl Fn(V, *mut T),
) {
    let (factor, offset) = (V::splat(factor), V::splat(offset));
    // SAFETY: chunks are vectors, and there are at least as many sums as lanes.
    unsafe {
        let mut sum = V::load(sums.as_ptr());
        for (scores, weights) in scores.chunks_exact(V::LANES).zip(weights.chunks_exact_mut(V::LANES)) {
            let weight = exp2(V::load(scores.as_ptr()).mul_add(factor, offset));
            store(weight, weights.as_mut_ptr());
            sum = sum.add(weight);
        }
        sum.store(sums.as_mut_ptr());
    }
}
