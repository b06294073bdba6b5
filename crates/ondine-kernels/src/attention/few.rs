//! Few queries, as those of the token that a conversation is at: keys and values are read once, where they lie, since
//! bringing them into another order would take as long as all that is computed with them.
//!
//! A key is multiplied with all rows of its head in vectors of its elements, whose lanes are added up for as many keys
//! at once as a vector has lanes; then softmax over the whole row, then the sum of the values.

use std::ops::Range;

use crate::{
    arch::{
        enter::RawKernel,
        isa::Isa,
        vector::{CodeVector, MAX_LANES, Vector},
    },
    attention::{
        cached::{Bf16, Codes, Element, Elements, F32},
        shape::{Attention, AttentionMask, AttentionShape, Scratch},
    },
    gemm::epilogue::{Target, store},
    math,
};

/// The most rows of a head of keys and values: queries times the query heads that it serves.
///
/// Whatever their number, a row comes out the same to the bit: tokens that are guessed and then checked together are
/// looked at as they would be one by one.
pub(super) const FEW_ROWS: usize = 32;

/// The most rows of a head if every query sees all keys: more of them are sooner done with keys and values that are
/// packed, and nothing checks such tokens one by one.
const FEW_SEEING_ALL: usize = 8;

/// Rows whose sums stay in registers.
const TILE_ROWS: usize = 4;

/// Vectors of a value whose sums do.
const TILE_VECTORS: usize = 4;

/// Rows that are asked for before they are read: those of one head lie too far from each other to be foreseen.
const ROWS_AHEAD: usize = 24;

/// Bytes of a cache line.
const LINE: usize = 64;

/// True if there are so few queries that nothing is packed.
pub(crate) fn are_few(shape: &AttentionShape) -> bool {
    let one_by_one = shape.causal || shape.window.is_some() || shape.queries == 1;
    shape.queries * (shape.heads / shape.kv_heads) <= if one_by_one { FEW_ROWS } else { FEW_SEEING_ALL }
}

/// All rows of a head.
pub(super) struct FewRows<'a> {
    pub(super) work: &'a Attention<'a>,
    /// Counted through all sequences.
    pub(super) head: usize,
    pub(super) scratch: &'a mut Scratch,
}

impl RawKernel for FewRows<'_> {
    type Output = ();

    /// See [`Attention`]; no other task writes the same rows.
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: as the caller says.
        unsafe {
            match self.work.elements[1] {
                Element::F32 => self.attend::<I::Wide, F32>(),
                Element::Bf16 => self.attend::<I::Wide, Bf16>(),
                Element::Code => self.attend::<I::Wide, Codes>(),
            }
        }
    }
}

/// A row of keys or values: its first element in a head, and how many elements lie between rows.
#[derive(Clone, Copy)]
struct RowsOf {
    /// That of the first row of a sequence.
    first: *const u8,
    stride: usize,
    /// The row of the first key, and how many rows there are before the first one comes again.
    ring: [usize; 2],
    /// Elements of a row.
    dim: usize,
}

impl RowsOf {
    /// The row of a key.
    #[inline(always)]
    fn row(&self, key: usize) -> *const u8 {
        let [start, rows] = self.ring;
        let mut row = start + key;
        // A division for each key would take as long as a part of the product.
        while row >= rows {
            row -= rows;
        }
        self.first.wrapping_add(row * self.stride)
    }

    /// Asks for the row that many rows behind this one.
    #[inline(always)]
    fn ask<V: CodeVector, E: Elements>(&self, row: *const u8) {
        for at in (0..self.dim * E::ELEMENT.bytes()).step_by(LINE) {
            V::prefetch::<false>(row.wrapping_add(ROWS_AHEAD * self.stride + at));
        }
    }
}

/// What the values of a sequence are multiplied by: rows of a number for each key, `stride` apart, and the keys whose
/// numbers are not 0.
struct Weights<'a> {
    rows: &'a [f32],
    stride: usize,
    keys: Range<usize>,
}

impl FewRows<'_> {
    /// # Safety
    /// See [`RawKernel::run`]; `E` says what keys and values are.
    #[inline(always)]
    unsafe fn attend<V: CodeVector, E: Elements>(self) {
        let Self { work, head, scratch } = self;
        let &AttentionShape { kv_heads, queries, head_dim, value_dim, strides, .. } = work.shape;
        let rows = queries * (work.shape.heads / kv_heads);
        let (batch, of_batch) = (head / kv_heads, head % kv_heads);
        // Keys of the sequence, and those that no query sees.
        let keys = work.keys_of(batch);
        let unseen = work.shape.seen(0, keys).start / V::LANES * V::LANES;
        let (width, all) = (head_dim.next_multiple_of(V::LANES), keys.next_multiple_of(V::LANES).max(V::LANES));
        let scaled = if E::ELEMENT == Element::Code { all } else { 0 };
        let sizes = [rows * width, rows * all, TILE_ROWS * V::LANES * V::LANES, V::LANES * V::LANES, scaled, scaled];
        let [of_queries, scores, products, sums, key_scales, value_scales] = scratch.get(sizes);
        for (operand, scales) in [(1, &mut *key_scales), (2, &mut *value_scales)] {
            for (key, scale) in scales[..scaled].iter_mut().enumerate().take(keys).skip(unseen) {
                *scale = work.scale(operand, work.row(batch, key), of_batch);
            }
        }
        // SAFETY: as the caller says.
        unsafe { scale_queries::<V>(work, head, width, &mut of_queries[..rows * width]) };
        let rows_of = |operand: usize, dim: usize| {
            let stride = strides[operand] * E::ELEMENT.bytes();
            let rows = work.ring.map_or(work.shape.keys, |ring| ring.rows);
            let ring = [work.row(batch, 0) - batch * rows, rows];
            RowsOf { first: work.address(operand, batch * rows, of_batch), stride, ring, dim }
        };
        let (keys_of, values_of) = (rows_of(1, head_dim), rows_of(2, value_dim));
        for first in (unseen..keys).step_by(V::LANES) {
            let count = V::LANES.min(keys - first);
            for row in (0..rows).step_by(TILE_ROWS) {
                let queries = &of_queries[row * width..];
                // SAFETY: keys have their elements; there is room for the products of a vector of keys.
                unsafe {
                    match rows - row {
                        1 => score::<V, E, 1>(&keys_of, first, count, queries, width, products),
                        2 => score::<V, E, 2>(&keys_of, first, count, queries, width, products),
                        3 => score::<V, E, 3>(&keys_of, first, count, queries, width, products),
                        _ => score::<V, E, 4>(&keys_of, first, count, queries, width, products),
                    }
                }
                for tile_row in 0..TILE_ROWS.min(rows - row) {
                    let products = &products[tile_row * V::LANES * V::LANES..][..V::LANES * V::LANES];
                    let to = &mut scores[(row + tile_row) * all + first..][..V::LANES];
                    // SAFETY: as many lines of lanes as lanes; scales are padded to whole vectors.
                    unsafe {
                        let mut sums = add_lanes::<V>(products, sums);
                        if E::ELEMENT == Element::Code {
                            sums = sums.mul(V::load(key_scales[first..][..V::LANES].as_ptr()));
                        }
                        sums.store(to.as_mut_ptr());
                    }
                }
            }
        }
        for row in 0..rows {
            let scores = &mut scores[row * all..][..keys];
            weigh::<V>(work, head, row, unseen, scores);
            // What a value is multiplied by, its weight is instead.
            for (weight, scale) in scores.iter_mut().zip(&value_scales[..scaled]).skip(unseen) {
                *weight *= scale;
            }
        }
        for row in (0..rows).step_by(TILE_ROWS) {
            let weights = Weights { rows: &scores[row * all..], stride: all, keys: unseen..keys };
            // SAFETY: values have their elements; the rows of the result are this task's.
            unsafe {
                match rows - row {
                    1 => blend::<V, E, 1>(work, head, row, &values_of, &weights),
                    2 => blend::<V, E, 2>(work, head, row, &values_of, &weights),
                    3 => blend::<V, E, 3>(work, head, row, &values_of, &weights),
                    _ => blend::<V, E, 4>(work, head, row, &values_of, &weights),
                }
            }
        }
    }
}

/// The rows of a head as numbers, times the scale of scores, `width` apart and padded with zeros.
///
/// # Safety
/// The queries have the rows and heads of the shape.
#[inline(always)]
unsafe fn scale_queries<V: Vector>(work: &Attention<'_>, head: usize, width: usize, to: &mut [f32]) {
    let &AttentionShape { queries, head_dim, scale, .. } = work.shape;
    to.fill(0.0);
    for (row, to) in to.chunks_exact_mut(width).enumerate() {
        let (batch, query_head, query) = work.locate(head, row);
        let from = work.address(0, batch * queries + query, query_head);
        for (at, to) in (0..head_dim).step_by(V::LANES).zip(to.chunks_exact_mut(V::LANES)) {
            // SAFETY: the row has the elements.
            unsafe {
                let elements: V = match work.elements[0] {
                    Element::Bf16 => Bf16::read(from, at, head_dim - at),
                    Element::F32 | Element::Code => F32::read(from, at, head_dim - at),
                };
                elements.mul(V::splat(scale)).store(to.as_mut_ptr());
            }
        }
    }
}

/// Products of `R` queries with keys, still apart in the lanes: row by row, key by key.
///
/// # Safety
/// The keys have their elements, and there is room for `R` rows of `LANES` keys.
#[inline(always)]
unsafe fn score<V: CodeVector, E: Elements, const R: usize>(
    keys: &RowsOf,
    first: usize,
    count: usize,
    queries: &[f32],
    width: usize,
    products: &mut [f32],
) {
    for key in 0..V::LANES {
        // Those beyond the last repeat it, to be cut off later.
        let row = keys.row(first + key.min(count - 1));
        keys.ask::<V, E>(row);
        let mut sums = [V::splat(0.0); R];
        // SAFETY: as the caller says; queries are padded to whole vectors.
        unsafe {
            for at in (0..keys.dim).step_by(V::LANES) {
                let elements = E::read::<V>(row, at, keys.dim - at);
                for (index, sum) in sums.iter_mut().enumerate() {
                    *sum = elements.mul_add(V::load(queries.as_ptr().add(index * width + at)), *sum);
                }
            }
            for (index, sum) in sums.iter().enumerate() {
                sum.store(products.as_mut_ptr().add((index * V::LANES + key) * V::LANES));
            }
        }
    }
}

/// The sums of the lanes of as many vectors as there are lanes.
///
/// # Safety
/// Both have `LANES * LANES` numbers.
#[inline(always)]
unsafe fn add_lanes<V: Vector>(vectors: &[f32], turned: &mut [f32]) -> V {
    let mut rows = [vectors.as_ptr(); MAX_LANES];
    for (index, row) in rows.iter_mut().enumerate().take(V::LANES) {
        *row = vectors.as_ptr().wrapping_add(index * V::LANES);
    }
    // SAFETY: as the caller says.
    unsafe {
        V::transpose(&rows, 0, turned.as_mut_ptr(), V::LANES);
        let mut sum = V::load(turned.as_ptr());
        for lane in 1..V::LANES {
            sum = sum.add(V::load(turned.as_ptr().add(lane * V::LANES)));
        }
        sum
    }
}

/// From the scores of a row to weights whose sum is 1, or 0 if no key is seen. Of the first `unseen` keys, whole
/// vectors of them, there are no scores, and no weights are made: they would be 0.
#[inline(always)]
fn weigh<V: Vector>(work: &Attention<'_>, head: usize, row: usize, unseen: usize, scores: &mut [f32]) {
    let &AttentionShape { queries, keys, heads, .. } = work.shape;
    let (batch, query_head, query) = work.locate(head, row);
    let seen = work.shape.seen(query, scores.len());
    scores[seen.end.max(unseen)..].fill(f32::NEG_INFINITY);
    scores[unseen..seen.start.max(unseen)].fill(f32::NEG_INFINITY);
    let scores = &mut scores[unseen..];
    match work.mask {
        AttentionMask::None | AttentionMask::Lengths(_) | AttentionMask::Ring(_) => {}
        AttentionMask::Keys(seen) => {
            for (score, &seen) in scores.iter_mut().zip(&seen[batch * keys + unseen..]) {
                *score = if seen { *score } else { f32::NEG_INFINITY };
            }
        }
        AttentionMask::Additive { values, batch: per_batch, heads: per_head } => {
            let batch = if per_batch { batch } else { 0 };
            let plane = if per_head { batch * heads + query_head } else { batch };
            for (score, value) in scores.iter_mut().zip(&values[(plane * queries + query) * keys..][unseen..keys]) {
                *score += value;
            }
        }
    }
    let mut largest = f32::NEG_INFINITY;
    for &score in &*scores {
        largest = if score > largest { score } else { largest };
    }
    if largest == f32::NEG_INFINITY {
        scores.iter_mut().for_each(|score| *score = if score.is_nan() { f32::NAN } else { 0.0 });
        return;
    }
    let (vectors, rest) = scores.split_at_mut(scores.len() / V::LANES * V::LANES);
    let (mut lanes, mut total) = (V::splat(0.0), 0.0_f64);
    for chunk in vectors.chunks_exact_mut(V::LANES) {
        // SAFETY: a chunk is a vector.
        unsafe {
            let power = math::exp_lanes(V::load(chunk.as_ptr()).sub(V::splat(largest)));
            lanes = lanes.add(power);
            power.store(chunk.as_mut_ptr());
        }
    }
    let mut sums = [0.0_f32; MAX_LANES];
    // SAFETY: no vector has more lanes.
    unsafe { lanes.store(sums.as_mut_ptr()) };
    for &sum in &sums[..V::LANES] {
        total += f64::from(sum);
    }
    if !rest.is_empty() {
        let mut last = [f32::NEG_INFINITY; MAX_LANES];
        last[..rest.len()].copy_from_slice(rest);
        // SAFETY: no vector has more lanes.
        unsafe {
            math::exp_lanes(V::load(last.as_ptr()).sub(V::splat(largest))).store(last.as_mut_ptr());
        }
        rest.copy_from_slice(&last[..rest.len()]);
        total += rest.iter().map(|&power| f64::from(power)).sum::<f64>();
    }
    let inverse = (1.0 / total) as f32;
    for weight in scores {
        *weight *= inverse;
    }
}

/// Sums of values for `R` rows of a head, written where they go.
///
/// # Safety
/// The values have their elements, the result has the rows, and no other task writes them.
#[inline(always)]
unsafe fn blend<V: CodeVector, E: Elements, const R: usize>(
    work: &Attention<'_>,
    head: usize,
    row: usize,
    values: &RowsOf,
    weights: &Weights<'_>,
) {
    let mut at = 0;
    // SAFETY: as the caller says.
    unsafe {
        while at + TILE_VECTORS * V::LANES <= values.dim {
            blend_columns::<V, E, R, TILE_VECTORS>(work, head, row, values, weights, at);
            at += TILE_VECTORS * V::LANES;
        }
        while at < values.dim {
            blend_columns::<V, E, R, 1>(work, head, row, values, weights, at);
            at += V::LANES;
        }
    }
}

/// `N` vectors of [`blend`], from element `at` on.
///
/// # Safety
/// As [`blend`].
#[inline(always)]
unsafe fn blend_columns<V: CodeVector, E: Elements, const R: usize, const N: usize>(
    work: &Attention<'_>,
    head: usize,
    row: usize,
    values: &RowsOf,
    weights: &Weights<'_>,
    at: usize,
) {
    let &AttentionShape { queries, value_dim, out_stride, .. } = work.shape;
    let mut sums = [[V::splat(0.0); N]; R];
    // SAFETY: as the caller says.
    unsafe {
        for key in weights.keys.clone() {
            let from = values.row(key);
            if at == 0 {
                values.ask::<V, E>(from);
            }
            let mut elements = [V::splat(0.0); N];
            for (vector, elements) in elements.iter_mut().enumerate() {
                let at = at + vector * V::LANES;
                *elements = E::read::<V>(from, at, values.dim - at);
            }
            for (index, sums) in sums.iter_mut().enumerate() {
                let weight = V::splat(*weights.rows.as_ptr().add(index * weights.stride + key));
                for (sum, &elements) in sums.iter_mut().zip(&elements) {
                    *sum = elements.mul_add(weight, *sum);
                }
            }
        }
        for (index, sums) in sums.iter().enumerate() {
            let (batch, query_head, query) = work.locate(head, row + index);
            let to: Target = work.out.add((batch * queries + query) * out_stride + query_head * value_dim + at);
            for (vector, &sum) in sums.iter().enumerate() {
                let count = V::LANES.min(values.dim - at - vector * V::LANES);
                store(sum, count, to.add(vector * V::LANES));
            }
        }
    }
}
