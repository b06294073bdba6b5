//! Attention without the matrix of scores: softmax is computed as the keys go by (Dao et al. 2022).
//!
//! Keys and values are packed once per head, tile by tile of keys. A task holds a few strips of query rows, a row in
//! each lane of a few vectors; [`tile`] says what happens to a strip when a tile goes by, [`pack`] how operands are
//! laid out. The order of all sums depends on the shape alone.

mod lanes;
mod pack;
pub(crate) mod quantize;
mod softmax;
mod tile;

use std::{cell::RefCell, ops::Range};

use crate::{
    arch::vector::Vector,
    gemm::{
        Output, Values, check_rows,
        epilogue::{MAX_LANES, Target},
        micro::WORD,
        weights::{PACKED_ALIGN, WeightType},
    },
    table::Kernels,
    threads::Pool,
};

pub(crate) use tile::{Product, Single};

/// The most keys of a tile, about: their weights for a strip stay in the first-level cache.
const TILE_KEYS: usize = 128;

/// Multiplications of words that take as long as an exponential.
const EXPONENTIAL: usize = 8;

/// Bytes that stay in the second-level cache beside others.
const CACHE: usize = 256 << 10;

/// The most strips of a task: they share the tiles of packed keys and values that they bring into the cache.
const TASK_STRIPS: usize = 4;

/// The attention of one tier and one type of operands.
#[derive(Clone, Copy)]
pub(crate) struct AttentionKernels {
    /// Keys, or elements of values, of a packed panel.
    pub(crate) panel: usize,
    /// Lanes of a vector, no fewer.
    pub(crate) lanes: usize,
    /// Elements of a word of packed values.
    pub(crate) per_word: usize,
    /// Elements of a word of packed queries and keys.
    pub(crate) queries_per_word: usize,
    /// Vectors of a strip of queries.
    pub(crate) vectors: usize,
    /// Runs a task.
    pub(crate) run: fn(Task<'_>),
}

impl AttentionKernels {
    /// The kernels that multiply by `P`, strips of `N` vectors; `run` leads to [`Task::run`].
    pub(crate) const fn new<P: Product>(vectors: usize, run: fn(Task<'_>)) -> Self {
        let (lanes, queries_per_word) = (P::Vector::LANES, P::QUERIES_PER_WORD);
        Self { panel: P::PANEL, lanes, per_word: P::PER_WORD, queries_per_word, vectors, run }
    }
}

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
    /// True if queries and keys of bf16 may be rounded to numbers of 8 bits with a scale for each query and for every
    /// few keys, where a tier multiplies those faster. Values and their weights are not.
    pub eight_bit: bool,
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
    let packing = Packing::new(kernels.gemm.attention(dtype, shape.eight_bit), shape);
    shape.batch * shape.kv_heads * packing.head_words() * WORD + PACKED_ALIGN
}

/// How the keys and values of one head are laid out: tile after tile, of each first the keys, then the values.
///
/// Behind those is the scale of the keys if they are of 8 bits. Keys of a tile are cut into panels, `[panel][word][key]`; values into panels of as many elements,
/// `[panel][word of keys][element]`. Keys that fill up the last panel repeat the last key; elements that fill up are
/// 0, and so are values that fill up a word.
#[derive(Clone, Copy)]
struct Packing {
    /// Words of a key.
    key_words: usize,
    /// Number of tiles.
    tiles: usize,
    /// Keys of a tile; the last has fewer.
    tile_keys: usize,
    /// Words of the keys of a tile.
    tile_key_words: usize,
    /// Words of a tile.
    tile_words: usize,
}

impl Packing {
    fn new(kernels: &AttentionKernels, shape: &AttentionShape) -> Self {
        let &AttentionKernels { panel, lanes, per_word, queries_per_word, .. } = kernels;
        let tiles = shape.keys.div_ceil(TILE_KEYS / panel * panel);
        let tile_keys = shape.keys.div_ceil(tiles.max(1)).next_multiple_of(panel);
        let key_words = shape.head_dim.div_ceil(queries_per_word);
        let tile_key_words = tile_keys * key_words;
        let value_words = shape.value_dim.next_multiple_of(panel) * (tile_keys / per_word);
        // Behind narrow panels whole vectors are written.
        let tile_words = (tile_key_words + value_words.max(lanes) + 1).next_multiple_of(PACKED_ALIGN / WORD);
        Self { key_words, tiles, tile_keys, tile_key_words, tile_words }
    }

    /// Words of a head.
    fn head_words(&self) -> usize {
        self.tiles * self.tile_words
    }
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
    let kernels = kernels.gemm.attention(dtype, shape.eight_bit);
    let packing = Packing::new(kernels, shape);
    let values = value_dim.div_ceil(kernels.per_word);
    // An exponential for each score is worth some multiplications.
    let pool = pool.for_work(batch * heads * queries * keys * (packing.key_words + values + EXPONENTIAL));
    let skip = scratch.as_ptr().align_offset(PACKED_ALIGN);
    let needed = skip + batch * kv_heads * packing.head_words() * WORD;
    assert!(scratch.len() >= needed, "{} bytes of scratch are too few", scratch.len());
    let work = &Attention {
        shape,
        operands,
        dtype,
        mask,
        packing,
        packed: scratch.as_mut_ptr().wrapping_add(skip).cast(),
        out: out.target(),
    };
    let run = |task: Part| SCRATCH.with_borrow_mut(|scratch| (kernels.run)(Task { work, part: task, scratch }));
    let tiles = packing.tiles;
    pool.run(batch * kv_heads * tiles, &|task| run(Part::Pack { head: task / tiles, tile: task % tiles }));
    // A strip's results depend on no other strip, so their share of a task may depend on the number of threads.
    let rows = queries * (heads / kv_heads);
    let strip = kernels.vectors * kernels.lanes;
    let strips = batch * kv_heads * rows.div_ceil(strip);
    let task_rows = strip * (strips / (4 * pool.threads())).clamp(1, TASK_STRIPS);
    let (heads, tasks) = (batch * kv_heads, rows.div_ceil(task_rows));
    // Either all keys and values stay in the cache, and rows pass by with all their heads, or those of one head do.
    let by_rows = heads * packing.head_words() * WORD <= CACHE;
    pool.run(heads * tasks, &|task| {
        let (head, index) = if by_rows { (task % heads, task / heads) } else { (task / tasks, task % tasks) };
        let first = index * task_rows;
        run(Part::Attend { head, rows: first..rows.min(first + task_rows) });
    });
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Memory of a thread that outlives a call.
#[derive(Default)]
pub(crate) struct Scratch {
    lines: Vec<Line>,
}

/// As many words as a vector of any tier has at most, and aligned to it.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _words: [f32; MAX_LANES],
}

impl Scratch {
    /// Memory for each of `sizes` words, aligned to vectors; what is there is left over from earlier uses.
    fn get<const N: usize>(&mut self, sizes: [usize; N]) -> [&mut [f32]; N] {
        let sizes = sizes.map(|size| size.next_multiple_of(MAX_LANES));
        let lines = sizes.iter().sum::<usize>() / MAX_LANES;
        if self.lines.len() < lines {
            self.lines.resize(lines, Line { _words: [0.0; MAX_LANES] });
        }
        // SAFETY: lines are arrays of numbers without padding.
        let mut words = unsafe {
            std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast::<f32>(), self.lines.len() * MAX_LANES)
        };
        sizes.map(|size| words.split_off_mut(..size).unwrap_or_default())
    }
}

/// An attention under way. Heads are those of keys and values, counted through all sequences; the rows of a head are
/// those of all query heads that it serves, one query head after the other.
pub(crate) struct Attention<'a> {
    shape: &'a AttentionShape,
    operands: [Values<'a>; 3],
    dtype: WeightType,
    mask: AttentionMask<'a>,
    packing: Packing,
    /// Packed keys and values, see [`Packing`].
    packed: *mut f32,
    out: Target,
}

// SAFETY: the addresses are those of slices that the caller of `attention` holds, and no two tasks write the same parts.
unsafe impl Sync for Attention<'_> {}

/// What a task does.
#[derive(Debug)]
enum Part {
    /// Packs a tile of keys and values.
    Pack { head: usize, tile: usize },
    /// Computes rows.
    Attend { head: usize, rows: Range<usize> },
}

/// A piece of an attention.
pub(crate) struct Task<'a> {
    work: &'a Attention<'a>,
    part: Part,
    scratch: &'a mut Scratch,
}

impl Task<'_> {
    /// Does it: products of `R` keys or elements of values by strips of `N` vectors.
    #[inline(always)]
    pub(crate) fn run<P: Product, const R: usize, const N: usize>(self) {
        const { assert!(P::PANEL.is_multiple_of(R) && R.is_multiple_of(P::PER_WORD) && P::PANEL <= P::Vector::LANES) };
        match self.part {
            Part::Pack { head, tile } => self.work.pack::<P>(head, tile, self.scratch),
            Part::Attend { head, rows } => self.work.attend::<P, R, N>(head, rows, self.scratch),
        }
    }
}

impl Attention<'_> {
    /// The sequence, the query head and the query of a row of a head.
    #[inline(always)]
    fn locate(&self, head: usize, row: usize) -> (usize, usize, usize) {
        let &AttentionShape { heads, kv_heads, queries, .. } = self.shape;
        (head / kv_heads, head % kv_heads * (heads / kv_heads) + row / queries, row % queries)
    }

    /// The place after one that [`Attention::locate`] found.
    #[inline(always)]
    fn next(&self, (batch, head, query): (usize, usize, usize)) -> (usize, usize, usize) {
        if query + 1 < self.shape.queries { (batch, head, query + 1) } else { (batch, head + 1, 0) }
    }

    /// The packed tile of a head.
    #[inline(always)]
    fn tile(&self, head: usize, tile: usize) -> *mut f32 {
        self.packed.wrapping_add(head * self.packing.head_words() + tile * self.packing.tile_words)
    }

    /// The keys of a tile.
    fn keys(&self, tile: usize) -> Range<usize> {
        let first = tile * self.packing.tile_keys;
        first..self.shape.keys.min(first + self.packing.tile_keys)
    }
}
