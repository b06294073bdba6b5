//! What happens to a strip of queries when a tile of keys and values goes by.
//!
//! A strip's queries lie in the lanes of a few vectors, its scores and sums in rows of them: one row for each key of
//! the tile, one for each element of a value. So the maximum and the sum over keys are those of rows, without any
//! exchange between lanes, and every product is a word of a key, or of a value, in all lanes times a vector.
//!
//! Weights are `2^(factor * score + offset)`. The offset of a query makes its weights relative to the largest score
//! so far, but it changes only when weights would exceed `2^GROWTH`: what is summed so far has then to be rescaled.

use std::{f32::consts::LOG2_E, marker::PhantomData, ops::Range};

use crate::{
    arch::vector::Vector,
    attention::{
        Attention, AttentionMask, AttentionShape, Scratch,
        lanes::{load, load_sums, store, store_sums},
        pack::transpose_words,
    },
    gemm::epilogue::MAX_LANES,
    math,
};

/// Exponent of the largest weight before sums are rescaled.
const GROWTH: f32 = 8.0;

/// The offset of a query that has seen no key yet, larger than that of any other.
const UNSEEN: f32 = f32::MAX;

/// How a tier multiplies operands of one type.
pub(crate) trait Product {
    /// Its vectors.
    type Vector: Vector;
    /// Elements of the inner dimension in each lane.
    const PER_WORD: usize;
    /// True if there are registers for products and weights side by side.
    const FUSED: bool;

    /// Adds the products of the elements of each lane.
    fn dot(sum: Self::Vector, left: Self::Vector, right: Self::Vector) -> Self::Vector;
    /// `2^x` for `x` up to 127, at least `2^-126`, as precise as weights have to be.
    fn exp2(x: Self::Vector) -> Self::Vector;
    /// Weights of one or two adjacent keys as words.
    fn words(first: Self::Vector, second: Self::Vector) -> Self::Vector;
}

/// f32 by f32.
pub(crate) struct Single<V>(PhantomData<V>);

impl<V: Vector> Product for Single<V> {
    type Vector = V;
    const PER_WORD: usize = 1;
    const FUSED: bool = false;

    #[inline(always)]
    fn dot(sum: V, left: V, right: V) -> V {
        left.mul_add(right, sum)
    }

    #[inline(always)]
    fn exp2(x: V) -> V {
        math::exp2(x)
    }

    #[inline(always)]
    fn words(first: V, _second: V) -> V {
        first
    }
}

/// A few query rows of one head and what is known of them so far.
struct Strip<'a> {
    /// See [`Attention`].
    head: usize,
    /// The first row.
    row: usize,
    /// Rows: more than fill all vectors but one.
    count: usize,
    /// `[word][lane]`
    queries: &'a mut [f32],
    /// Sums of weighted values, `[element][lane]`.
    sums: &'a mut [f32],
    /// See the module.
    offsets: &'a mut [f32],
    /// Sums of weights.
    totals: &'a mut [f32],
    /// True if a tile has gone by; until then there are no sums.
    begun: bool,
}

impl Attention<'_> {
    /// Computes rows of a head.
    #[inline(always)]
    pub(super) fn attend<P: Product, const R: usize, const N: usize>(
        &self,
        head: usize,
        rows: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let lanes = P::Vector::LANES;
        let width = N * lanes;
        let (words, elements) = (self.packing.key_words, self.shape.value_dim.next_multiple_of(R));
        let count = rows.len().div_ceil(width);
        let [scores, copies, queries, sums, offsets, totals] = scratch.get([
            self.packing.tile_keys * width,
            lanes * words,
            count * words * width,
            count * elements * width,
            count * width,
            count * width,
        ]);
        let mut queries = queries.chunks_mut((words * width).max(1));
        let mut sums = sums.chunks_mut(elements * width);
        let (mut offsets, mut totals) = (offsets.chunks_mut(width), totals.chunks_mut(width));
        let mut strips: [Option<Strip<'_>>; super::TASK_STRIPS] = std::array::from_fn(|i| {
            let row = rows.start + i * width;
            (row < rows.end).then(|| Strip {
                head,
                row,
                count: width.min(rows.end - row),
                queries: queries.next().unwrap_or_default(),
                sums: sums.next().unwrap_or_default(),
                offsets: offsets.next().unwrap_or_default(),
                totals: totals.next().unwrap_or_default(),
                begun: false,
            })
        });
        for strip in strips.iter_mut().flatten() {
            strip.offsets.fill(UNSEEN);
            strip.totals.fill(0.0);
            self.pack_queries::<P>(head, strip.row, strip.count, strip.queries, copies);
        }
        for tile in 0..self.packing.tiles {
            for strip in strips.iter_mut().flatten() {
                match strip.count.div_ceil(lanes) {
                    1 if N > 1 => self.pass::<P, R, 1>(tile, strip, scores),
                    2 if N > 2 => self.pass::<P, R, 2>(tile, strip, scores),
                    _ => self.pass::<P, R, N>(tile, strip, scores),
                }
            }
        }
        for strip in strips.iter_mut().flatten() {
            self.finish::<P>(strip);
        }
    }

    /// Lets a tile of keys go by a strip of `N` vectors.
    #[inline(always)]
    fn pass<P: Product, const R: usize, const N: usize>(&self, tile: usize, strip: &mut Strip<'_>, scores: &mut [f32]) {
        let mut keys = self.keys(tile);
        let mut causal = false;
        if self.shape.causal {
            // The first and the last that the queries of the strip do not all see.
            let seen = |row| self.seen(strip.head, row);
            let rows = strip.row..strip.row + strip.count;
            let most = rows.clone().map(seen).max().unwrap_or(0);
            causal = rows.map(seen).min().unwrap_or(0) < keys.end;
            keys.end = keys.end.min(most);
            if keys.is_empty() {
                return;
            }
        }
        let lanes = P::Vector::LANES;
        let packed = self.tile(strip.head, tile);
        let words = self.packing.key_words;
        assert!(scores.len() >= keys.len().next_multiple_of(lanes) * N * lanes, "scores of a tile");
        assert!(strip.queries.len() >= words * N * lanes, "words of queries");
        let scores = scores.as_mut_ptr();
        let mut max = [P::Vector::splat(f32::NEG_INFINITY); N];
        for key in (0..keys.len()).step_by(R) {
            let panel = packed.wrapping_add(key / lanes * lanes * words + key % lanes);
            // SAFETY: a packed tile is whole panels of keys, of which `R` divides the number; the lengths of queries
            // and scores have been checked.
            unsafe {
                score::<P, R, N>(strip.queries.as_ptr(), panel, words, scores.add(key * N * lanes), &mut max);
            }
        }
        let shape = self.shape;
        let plain = shape.scale > 0.0 && !causal && matches!(self.mask, AttentionMask::None);
        let scaled = if plain {
            false
        } else {
            // SAFETY: there are scores for all keys.
            unsafe { self.mask::<P, N>(strip, keys.clone(), causal, scores, &mut max) }
        };
        let factor = if scaled { LOG2_E } else { shape.scale * LOG2_E };
        let factor = P::Vector::splat(factor);
        rescale::<P::Vector, N>(strip, factor, &max);
        // SAFETY: a packed tile holds words of values for all keys; if keys do not fill the last word, the scores of a
        // tile have room for one more.
        unsafe {
            if !keys.len().is_multiple_of(P::PER_WORD) {
                let row = scores.add(keys.len() * N * lanes);
                for j in 0..N {
                    P::Vector::splat(f32::NEG_INFINITY).store(row.add(j * lanes));
                }
            }
            let values = packed.add(self.packing.tile_key_words);
            self.add_values::<P, R, N>(strip, factor, scores, values, keys.len().div_ceil(P::PER_WORD));
        }
    }

    /// Makes weights of scores and adds the values times them to the sums.
    ///
    /// # Safety
    /// There are scores and packed values for `words` words of keys.
    #[inline(always)]
    unsafe fn add_values<P: Product, const R: usize, const N: usize>(
        &self,
        strip: &mut Strip<'_>,
        factor: P::Vector,
        scores: *mut f32,
        values: *const f32,
        words: usize,
    ) {
        let lanes = P::Vector::LANES;
        let panel_words = self.packing.tile_keys / P::PER_WORD * lanes;
        assert!(strip.sums.len() >= self.shape.value_dim.next_multiple_of(R) * N * lanes, "sums of a strip");
        let begun = std::mem::replace(&mut strip.begun, true);
        let softmax = Softmax::<P::Vector, N> { factor, offsets: load(strip.offsets), totals: load(strip.totals) };
        let mut softmax = Some(softmax);
        if !P::FUSED
            && let Some(mut softmax) = softmax.take()
        {
            // SAFETY: as the caller says.
            unsafe {
                for word in 0..words {
                    softmax.weights::<P>(scores, word);
                }
            }
            store(strip.totals, softmax.totals);
        }
        for element in (0..self.shape.value_dim).step_by(R) {
            let panel = values.wrapping_add(element / lanes * panel_words + element % lanes);
            let sums = strip.sums[element * N * lanes..].as_mut_ptr();
            // SAFETY: the panels are of whole vectors, of which `R` divides the lanes; the number of sums has been
            // checked; the rest is as the caller says.
            unsafe {
                if let Some(mut softmax) = softmax.take() {
                    weigh_and_add::<P, R, N>(&mut softmax, scores, panel, words, sums, begun);
                    store(strip.totals, softmax.totals);
                } else {
                    add::<P, R, N>(scores, panel, words, sums, begun);
                }
            }
        }
    }

    /// How many keys a row of a head sees if attention is causal.
    #[inline(always)]
    fn seen(&self, head: usize, row: usize) -> usize {
        let (_, _, query) = self.locate(head, row);
        (query + 1 + self.shape.keys).saturating_sub(self.shape.queries)
    }

    /// Hides scores and finds the largest of the others. Returns true if scores are multiplied by the scale.
    ///
    /// # Safety
    /// There are scores for the keys.
    #[inline(always)]
    unsafe fn mask<P: Product, const N: usize>(
        &self,
        strip: &Strip<'_>,
        keys: Range<usize>,
        causal: bool,
        scores: *mut f32,
        max: &mut [P::Vector; N],
    ) -> bool {
        let hidden = P::Vector::splat(f32::NEG_INFINITY);
        let lanes = P::Vector::LANES;
        let row = |key: usize, j: usize| scores.wrapping_add((key - keys.start) * N * lanes + j * lanes);
        let (batch, ..) = self.locate(strip.head, strip.row);
        let additive = matches!(self.mask, AttentionMask::Additive { .. });
        // A scale that is not positive, or NaN, turns the order of scores around.
        let scaled = additive || self.shape.scale.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater);
        // SAFETY: all rows are scores.
        unsafe {
            if scaled && !additive {
                let scale = P::Vector::splat(self.shape.scale);
                for key in keys.clone() {
                    for j in 0..N {
                        P::Vector::load(row(key, j)).mul(scale).store(row(key, j));
                    }
                }
            }
            match self.mask {
                AttentionMask::Keys(seen) => {
                    let seen = &seen[batch * self.shape.keys..];
                    for key in keys.clone().filter(|&key| !seen[key]) {
                        for j in 0..N {
                            hidden.store(row(key, j));
                        }
                    }
                }
                AttentionMask::Additive { .. } => {
                    (0..N).for_each(|j| {
                        self.add_mask::<P>(strip, keys.clone(), j * lanes, row(keys.start, j), N * lanes);
                    });
                }
                AttentionMask::None => {}
            }
            *max = [hidden; N];
            for (j, max) in max.iter_mut().enumerate() {
                let mut limits = [f32::MAX; MAX_LANES];
                if causal {
                    for (i, limit) in limits.iter_mut().enumerate().take(lanes) {
                        let seen = self.seen(strip.head, strip.row + (j * lanes + i).min(strip.count - 1));
                        *limit = seen.saturating_sub(keys.start).min(super::TILE_KEYS) as f32;
                    }
                }
                let limits = P::Vector::load(limits.as_ptr());
                for (index, key) in keys.clone().enumerate() {
                    let mut score = P::Vector::load(row(key, j));
                    if causal {
                        score = limits.if_greater(P::Vector::splat(index as f32), score, hidden);
                        score.store(row(key, j));
                    }
                    *max = score.max(*max);
                }
            }
        }
        scaled
    }

    /// Multiplies scores of a vector of rows, `stride` apart, by the scale and adds the mask.
    ///
    /// # Safety
    /// There are scores for the keys.
    #[inline(always)]
    unsafe fn add_mask<P: Product>(
        &self,
        strip: &Strip<'_>,
        keys: Range<usize>,
        lane: usize,
        scores: *mut f32,
        stride: usize,
    ) {
        let &AttentionShape { heads, queries, keys: all, scale, .. } = self.shape;
        let AttentionMask::Additive { values, batch: per_batch, heads: per_head } = self.mask else { return };
        let (lanes, scale) = (P::Vector::LANES, P::Vector::splat(scale));
        let mut rows = [std::ptr::null(); MAX_LANES];
        for (i, row) in rows.iter_mut().enumerate().take(lanes) {
            let (batch, head, query) = self.locate(strip.head, strip.row + (lane + i).min(strip.count - 1));
            let batch = if per_batch { batch } else { 0 };
            let plane = if per_head { batch * heads + head } else { batch };
            *row = values[(plane * queries + query) * all..][keys.clone()].as_ptr();
        }
        let mut block = [0.0; MAX_LANES * MAX_LANES];
        for first in (0..keys.len()).step_by(lanes) {
            let count = lanes.min(keys.len() - first);
            let from = rows.map(|row: *const f32| row.wrapping_add(first));
            // SAFETY: rows have a number for each key, the block has room for all of as many keys as lanes; there are
            // scores as the caller says.
            unsafe {
                transpose_words::<P::Vector>(&from, count, block.as_mut_ptr(), lanes);
                for i in 0..count {
                    let score = scores.add((first + i) * stride);
                    let mask = P::Vector::load(block.as_ptr().add(i * lanes));
                    P::Vector::load(score).mul_add(scale, mask).store(score);
                }
            }
        }
    }

    /// Divides the sums by those of the weights and writes them.
    #[inline(always)]
    fn finish<P: Product>(&self, strip: &mut Strip<'_>) {
        let lanes = P::Vector::LANES;
        let width = strip.count.next_multiple_of(lanes);
        if !strip.begun {
            strip.sums[..width * self.shape.value_dim].fill(0.0);
        }
        let (offsets, totals) = (&strip.offsets[..width], &mut strip.totals[..width]);
        for (offset, total) in offsets.chunks_exact(lanes).zip(totals.chunks_exact_mut(lanes)) {
            // SAFETY: the slices are vectors.
            unsafe {
                let inverse = P::Vector::splat(1.0).div(P::Vector::load(total.as_ptr()));
                let (offset, unseen) = (P::Vector::load(offset.as_ptr()), P::Vector::splat(UNSEEN));
                unseen.if_greater(offset, inverse, P::Vector::splat(0.0)).store(total.as_mut_ptr());
            }
        }
        self.unpack::<P>(strip.head, strip.row, strip.count, strip.sums, strip.totals);
    }
}

/// Makes the weights relative to the largest scores of the tile if they would grow too large otherwise.
#[inline(always)]
fn rescale<V: Vector, const N: usize>(strip: &mut Strip<'_>, factor: V, max: &[V; N]) {
    let offsets: [V; N] = load(strip.offsets);
    let mut growths = *max;
    let mut rescale = false;
    for (growth, &offset) in growths.iter_mut().zip(&offsets) {
        *growth = growth.mul_add(factor, offset);
        rescale |= growth.any_greater(V::splat(GROWTH));
    }
    if !rescale {
        return;
    }
    let mut totals: [V; N] = load(strip.totals);
    let (mut shrinks, mut new) = (offsets, offsets);
    for j in 0..N {
        let zero = V::splat(0.0);
        let larger = zero.sub(max[j].mul(factor));
        new[j] = growths[j].if_greater(zero, larger, offsets[j]);
        shrinks[j] = math::exp2(new[j].sub(offsets[j]));
        totals[j] = totals[j].mul(shrinks[j]);
    }
    store(strip.offsets, new);
    store(strip.totals, totals);
    if !strip.begun {
        return;
    }
    for sums in strip.sums.chunks_exact_mut(N * V::LANES) {
        let mut products: [V; N] = load(sums);
        for (product, &shrink) in products.iter_mut().zip(&shrinks) {
            *product = product.mul(shrink);
        }
        store(sums, products);
    }
}

/// Scores of `R` keys, whose words are `LANES` apart.
///
/// # Safety
/// `queries` is valid for reading `words` rows, `panel` for as many words of each key, `scores` for writing `R` rows.
#[inline(always)]
unsafe fn score<P: Product, const R: usize, const N: usize>(
    queries: *const f32,
    panel: *const f32,
    words: usize,
    scores: *mut f32,
    max: &mut [P::Vector; N],
) {
    let lanes = P::Vector::LANES;
    let mut sums = [[P::Vector::splat(0.0); N]; R];
    // SAFETY: as the caller says.
    unsafe {
        multiply::<P, R, N>(&mut sums, panel, queries, words);
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                sum.store(scores.add((i * N + j) * lanes));
            }
        }
    }
    for sums in &sums {
        for (max, sum) in max.iter_mut().zip(sums) {
            // A score that is NaN is passed over here; its weight is NaN.
            *max = sum.max(*max);
        }
    }
}

/// Adds products of `R` rows, whose words are `LANES` apart, by words of vectors.
///
/// # Safety
/// `left` is valid for reading `words` words of each row, `right` for as many rows of vectors.
#[inline(always)]
unsafe fn multiply<P: Product, const R: usize, const N: usize>(
    sums: &mut [[P::Vector; N]; R],
    left: *const f32,
    right: *const f32,
    words: usize,
) {
    let lanes = P::Vector::LANES;
    for word in 0..words {
        // SAFETY: as the caller says.
        unsafe {
            let mut vectors = [P::Vector::splat(0.0); N];
            for (j, vector) in vectors.iter_mut().enumerate() {
                *vector = P::Vector::load(right.add((word * N + j) * lanes));
            }
            multiply_word::<P, R, N>(sums, left.add(word * lanes), &vectors);
        }
    }
}

/// Adds products of a word of each of `R` rows by vectors.
///
/// # Safety
/// `left` is valid for reading `R` words.
#[inline(always)]
unsafe fn multiply_word<P: Product, const R: usize, const N: usize>(
    sums: &mut [[P::Vector; N]; R],
    left: *const f32,
    right: &[P::Vector; N],
) {
    for (i, sums) in sums.iter_mut().enumerate() {
        // SAFETY: as the caller says.
        let left = P::Vector::splat(unsafe { *left.add(i) });
        for (sum, &right) in sums.iter_mut().zip(right) {
            *sum = P::dot(*sum, left, right);
        }
    }
}

/// From scores to weights.
#[derive(Clone, Copy)]
struct Softmax<V, const N: usize> {
    factor: V,
    offsets: [V; N],
    /// Sums of weights.
    totals: [V; N],
}

impl<V: Vector, const N: usize> Softmax<V, N> {
    /// The weights of a key for vector `j`.
    ///
    /// # Safety
    /// There are scores for the key.
    #[inline(always)]
    unsafe fn weight<P: Product<Vector = V>>(&self, scores: *const f32, key: usize, j: usize) -> V {
        // SAFETY: as the caller says.
        let score = unsafe { V::load(scores.add((key * N + j) * V::LANES)) };
        P::exp2(score.mul_add(self.factor, self.offsets[j]))
    }

    /// Makes weights of a word of keys, and writes them over the scores at the place of that word.
    ///
    /// # Safety
    /// There are scores for the word; no weights have been made of them or of those after.
    #[inline(always)]
    unsafe fn weights<P: Product<Vector = V>>(&mut self, scores: *mut f32, word: usize) -> [V; N] {
        let (mut words, mut totals) = ([V::splat(0.0); N], self.totals);
        for (j, (words, total)) in words.iter_mut().zip(&mut totals).enumerate() {
            // SAFETY: as the caller says.
            let (first, second) = unsafe {
                let first = self.weight::<P>(scores, word * P::PER_WORD, j);
                (first, if P::PER_WORD > 1 { self.weight::<P>(scores, word * P::PER_WORD + 1, j) } else { first })
            };
            let sum = if P::PER_WORD > 1 { first.add(second) } else { first };
            *total = total.add(sum);
            *words = P::words(first, second);
        }
        self.totals = totals;
        for (j, words) in words.iter().enumerate() {
            // SAFETY: words are no more than scores, and those before have been read.
            unsafe { words.store(scores.add((word * N + j) * V::LANES)) };
        }
        words
    }
}

/// Makes weights of scores and adds `R` elements of values times them.
///
/// # Safety
/// `scores` and `values` are valid for `words` words of keys, `sums` for `R` rows.
#[inline(always)]
unsafe fn weigh_and_add<P: Product, const R: usize, const N: usize>(
    softmax: &mut Softmax<P::Vector, N>,
    scores: *mut f32,
    values: *const f32,
    words: usize,
    sums: *mut f32,
    begun: bool,
) {
    let lanes = P::Vector::LANES;
    // SAFETY: as the caller says.
    unsafe {
        let mut products = load_sums::<P::Vector, R, N>(sums, begun);
        let mut state = *softmax;
        for word in 0..words {
            let weights = state.weights::<P>(scores, word);
            multiply_word::<P, R, N>(&mut products, values.add(word * lanes), &weights);
        }
        softmax.totals = state.totals;
        store_sums(sums, &products);
    }
}

/// Adds `R` elements of values times weights.
///
/// # Safety
/// `weights` and `values` are valid for `words` words of keys, `sums` for `R` rows.
#[inline(always)]
unsafe fn add<P: Product, const R: usize, const N: usize>(
    weights: *const f32,
    values: *const f32,
    words: usize,
    sums: *mut f32,
    begun: bool,
) {
    // SAFETY: as the caller says.
    unsafe {
        let mut products = load_sums::<P::Vector, R, N>(sums, begun);
        multiply::<P, R, N>(&mut products, values, weights, words);
        store_sums(sums, &products);
    }
}
