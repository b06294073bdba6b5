//! Attention without the matrix of scores: softmax is computed as the keys go by (Dao et al. 2022).
//!
//! Keys and values are packed once per head, tile by tile of keys. A task holds a few strips of query rows, a row in
//! each lane of a few vectors; [`tile`] says what happens to a strip when a tile goes by, [`pack`] how operands are
//! laid out. The order of all sums depends on the shape alone.

pub(crate) mod cached;
pub(crate) mod few;
mod lanes;
mod pack;
pub(crate) mod quantize;
#[cfg(test)]
mod ring;
pub(crate) mod shape;
mod softmax;
mod strip;
#[cfg(test)]
mod suite;
mod tile;

use std::{cell::RefCell, ops::Range};

use crate::{
    arch::{
        dot::{WORD, WeightType},
        enter::RawKernel,
        isa::Isa,
        product::Product,
    },
    attention::cached::{Cached, Element},
    attention::few::{FewRows, are_few},
    attention::shape::{
        Attention, AttentionMask, AttentionShape, Packing, Ring, STRIP_VECTORS, Scratch, TASK_STRIPS, TILE_KEYS,
        WINDOW_TILE,
    },
    cpu::Cpu,
    gemm::{
        operand::{Output, Values, check_rows},
        weights::PACKED_ALIGN,
    },
};

/// Multiplications of words that take as long as an exponential.
const EXPONENTIAL: usize = 8;

/// Bytes that stay in the second-level cache beside others.
const CACHE: usize = 256 << 10;

/// Bytes of scratch that [`attention`] needs for queries of f32 or bf16: the packed keys and values of all heads. Of
/// rings they are those of [`WINDOW_TILE`] rows more, since what is seen may begin inside of a tile.
#[must_use]
pub fn attention_scratch_bytes(cpu: &Cpu, shape: &AttentionShape, dtype: WeightType) -> usize {
    let packing = Packing::new(cpu.tier().attention_words(dtype, shape.eight_bit), shape);
    shape.batch * shape.kv_heads * packing.head_words() * WORD + PACKED_ALIGN
}

/// Computes `softmax(scale * queries * keys^T + mask) * values` for each head.
///
/// A query that sees no key gets zeros. Keys and values are read where they lie, whatever type they are of: those of
/// few queries are multiplied as they are, others become numbers of the queries' type tile by tile.
///
/// # Panics
/// If keys and values differ in type, if a slice is too short for its rows and stride, if the mask has the wrong
/// length, or if `scratch` has fewer bytes than [`attention_scratch_bytes`].
pub fn attention(
    cpu: &Cpu,
    shape: &AttentionShape,
    queries_of: Values<'_>,
    cached: [Cached<'_>; 2],
    mask: AttentionMask<'_>,
    mut out: Output<'_>,
    scratch: &mut [u8],
) {
    let &AttentionShape { batch, heads, kv_heads, queries, keys, head_dim, value_dim, strides, .. } = shape;
    let elements = [0, 1].map(|i| cached[i].element());
    assert!(elements[0] == elements[1], "keys and values differ in type");
    assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads), "heads of {shape:?}");
    check_rows("queries", queries_of.len(), batch * queries, heads * head_dim, strides[0]);
    cached[0].check("keys", batch * keys, [kv_heads, head_dim], strides[1]);
    cached[1].check("values", batch * keys, [kv_heads, value_dim], strides[2]);
    check_rows("output", out.len(), batch * queries, heads * value_dim, shape.out_stride);
    mask.check(shape);
    let (mask, ring) = match mask {
        AttentionMask::Ring(lengths) => (AttentionMask::None, Some(Ring { rows: keys.max(1), lengths })),
        mask => (mask, None),
    };
    let operands = Operands { queries: queries_of, cached, mask, ring };
    let lengths = match (mask, ring) {
        (AttentionMask::Lengths(lengths), _) | (_, Some(Ring { lengths, .. })) if !are_few(shape) => lengths,
        _ => return attend(cpu, shape, operands, out, scratch),
    };
    // Many queries go sequence by sequence.
    for (index, &length) in lengths.iter().enumerate() {
        let keys = if ring.is_some() { length - shape.first_of_tile(length) } else { length };
        let one = AttentionShape { batch: 1, keys, ..*shape };
        let own = Operands {
            queries: queries_of.from(index * queries * strides[0]),
            cached: [0, 1].map(|i| cached[i].rows_from(index * shape.keys, strides[i + 1])),
            mask: AttentionMask::None,
            ring: ring.map(|ring| Ring { lengths: &lengths[index..][..1], ..ring }),
        };
        attend(cpu, &one, own, out.from(index * queries * shape.out_stride), scratch);
    }
}

/// What an attention reads.
#[derive(Clone, Copy)]
struct Operands<'a> {
    queries: Values<'a>,
    /// Keys and values.
    cached: [Cached<'a>; 2],
    mask: AttentionMask<'a>,
    ring: Option<Ring<'a>>,
}

/// As [`attention`], whose operands have been checked.
fn attend(cpu: &Cpu, shape: &AttentionShape, operands: Operands<'_>, mut out: Output<'_>, scratch: &mut [u8]) {
    let &AttentionShape { batch, heads, kv_heads, queries, keys, value_dim, .. } = shape;
    if batch * queries * heads * value_dim == 0 {
        return;
    }
    let Operands { queries: queries_of, cached, mask, ring } = operands;
    let dtype = queries_of.weight_type();
    let packed = cpu.tier().attention_words(dtype, shape.eight_bit);
    let packing = Packing::new(packed, shape);
    let values = value_dim.div_ceil(packed.per_word);
    // An exponential for each score is worth some multiplications.
    let pool = cpu.pool().for_work(batch * heads * queries * keys * (packing.key_words + values + EXPONENTIAL));
    let skip = scratch.as_ptr().align_offset(PACKED_ALIGN);
    let needed = skip + batch * kv_heads * packing.head_words() * WORD;
    assert!(scratch.len() >= needed, "{} bytes of scratch are too few", scratch.len());
    let work = &Attention {
        shape,
        queries: queries_of,
        cached,
        elements: [Element::of(dtype), cached[0].element(), cached[1].element()],
        mask,
        ring,
        packing,
        packed: scratch.as_mut_ptr().wrapping_add(skip).cast(),
        out: out.target(),
    };
    let run = |part: Part| {
        // SAFETY: the lengths have been checked; tasks write parts of their own, and those that attend begin when all
        // that pack have ended.
        SCRATCH.with_borrow_mut(|scratch| unsafe { cpu.enter_raw(Task { work, part, scratch }) });
    };
    if are_few(shape) {
        pool.run(batch * kv_heads, &|head| {
            // SAFETY: the lengths have been checked, and each task writes the rows of its own head.
            SCRATCH.with_borrow_mut(|scratch| unsafe { cpu.enter_raw(FewRows { work, head, scratch }) });
        });
        return;
    }
    let tiles = packing.tiles;
    pool.run(batch * kv_heads * tiles, &|task| run(Part::Pack { head: task / tiles, tile: task % tiles }));
    // A strip's results depend on no other strip, so their share of a task may depend on the number of threads.
    let rows = queries * (heads / kv_heads);
    let strip = STRIP_VECTORS * packed.lanes;
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

/// What a task does.
#[derive(Debug)]
enum Part {
    /// Packs a tile of keys and values.
    Pack { head: usize, tile: usize },
    /// Computes rows.
    Attend { head: usize, rows: Range<usize> },
}

/// A piece of an attention.
struct Task<'a> {
    work: &'a Attention<'a>,
    part: Part,
    scratch: &'a mut Scratch,
}

impl RawKernel for Task<'_> {
    type Output = ();

    /// See [`Attention`]; no other task writes the same rows or tile, or reads the tile meanwhile.
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: as the caller says.
        unsafe {
            // A tier without products of its own for a type has those of f32, which are compiled once.
            match (self.work.elements[0], self.work.shape.eight_bit) {
                (Element::Bf16, true) if I::AttentionS8::QUANTIZED => self.multiply::<I::AttentionS8>(),
                (Element::Bf16, _) if I::AttentionBf16::PER_WORD > 1 => self.multiply::<I::AttentionBf16>(),
                _ => self.multiply::<I::AttentionF32>(),
            }
        }
    }
}

impl Task<'_> {
    /// Does it with products of `P::ROWS` keys or elements of values by strips of [`STRIP_VECTORS`] vectors.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn multiply<P: Product>(self) {
        const {
            let even = P::PANEL.is_multiple_of(P::ROWS) && P::ROWS.is_multiple_of(P::PER_WORD);
            assert!(WINDOW_TILE.is_multiple_of(P::PANEL) && WINDOW_TILE <= TILE_KEYS);
            assert!(even && P::PANEL <= P::WORDS.lanes && matches!(P::ROWS, 4 | 6 | 8));
        }
        let Self { work, part, scratch } = self;
        // SAFETY: as the caller says.
        unsafe {
            match part {
                Part::Pack { head, tile } => work.pack::<P>(head, tile, scratch),
                Part::Attend { head, rows } => match P::ROWS {
                    4 => work.attend::<P, 4, STRIP_VECTORS>(head, rows, scratch),
                    6 => work.attend::<P, 6, STRIP_VECTORS>(head, rows, scratch),
                    _ => work.attend::<P, 8, STRIP_VECTORS>(head, rows, scratch),
                },
            }
        }
    }
}
