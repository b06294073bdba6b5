//! What happens to a strip of queries when a tile of keys and values goes by.
//!
//! A strip's queries lie in the lanes of a few vectors, its scores and sums in rows of them: one row for each key of
//! the tile, one for each element of a value. So the maximum and the sum over keys are those of rows, without any
//! exchange between lanes, and every product is a word of a key, or of a value, in all lanes times a vector.
//!
//! Scores of a few keys at a time become weights before they leave the registers, see [`softmax`](super::softmax).

use std::{f32::consts::LOG2_E, ops::Range};

use crate::{
    arch::{
        product::Product,
        vector::{MAX_LANES, Vector},
    },
    attention::{
        lanes::{load, load_rows, store, store_rows},
        pack::transpose_words,
        shape::{Attention, AttentionMask, AttentionShape, Scratch, TASK_STRIPS, TILE_KEYS},
        softmax::{Softmax, factors, grows, rescale},
        strip::Strip,
    },
};

/// The offset of a query that has seen no key yet, larger than that of any other.
const UNSEEN: f32 = f32::MAX;

impl Attention<'_> {
    /// Computes rows of a head.
    ///
    /// # Safety
    /// Operands and output have the rows and heads of the shape; all tiles of the head have been packed, and nobody
    /// else writes these rows.
    #[inline(always)]
    pub(super) unsafe fn attend<P: Product, const R: usize, const N: usize>(
        &self,
        head: usize,
        rows: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let lanes = P::Vector::LANES;
        let width = N * lanes;
        let (words, elements) = (self.packing.key_words, self.shape.value_dim.next_multiple_of(R));
        let count = rows.len().div_ceil(width);
        let [scores, copies, queries, sums, offsets, totals, scales, starts] = scratch.get([
            self.packing.tile_keys * width,
            self.copies::<P>(),
            count * words * width,
            count * elements * width,
            count * width,
            count * width,
            count * width,
            count * width,
        ]);
        let mut queries = queries.chunks_mut((words * width).max(1));
        let mut sums = sums.chunks_mut(elements * width);
        let [mut offsets, mut totals, mut scales, mut starts] =
            [offsets, totals, scales, starts].map(|lanes| lanes.chunks_mut(width));
        let mut strips: [Option<Strip<'_>>; TASK_STRIPS] = std::array::from_fn(|i| {
            let row = rows.start + i * width;
            (row < rows.end).then(|| Strip {
                head,
                row,
                count: width.min(rows.end - row),
                queries: queries.next().unwrap_or_default(),
                sums: sums.next().unwrap_or_default(),
                offsets: offsets.next().unwrap_or_default(),
                totals: totals.next().unwrap_or_default(),
                scales: scales.next().unwrap_or_default(),
                starts: starts.next().unwrap_or_default(),
                begun: false,
            })
        });
        for strip in strips.iter_mut().flatten() {
            strip.offsets.fill(UNSEEN);
            strip.totals.fill(0.0);
            let Strip { row, count, .. } = *strip;
            self.pack_queries::<P>(head, row, count, strip.queries, strip.scales, strip.starts, copies);
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
        let mut limited = false;
        if self.shape.causal || self.shape.window.is_some() {
            let [(_, first_head, first), (_, last_head, last)] =
                [strip.row, strip.row + strip.count - 1].map(|row| self.locate(strip.head, row));
            let [least, most] = if first_head == last_head { [first, last] } else { [0, self.shape.queries - 1] };
            let [by_first, by_last] = [least, most].map(|query| self.shape.seen(query, self.shape.keys));
            limited = by_first.end < keys.end || by_last.start > keys.start;
            keys.end = keys.end.min(by_last.end);
            if keys.is_empty() || by_first.start >= keys.end {
                return;
            }
        }
        let lanes = P::Vector::LANES;
        assert!(scores.len() >= keys.len().next_multiple_of(R) * N * lanes, "scores of a tile");
        assert!(strip.queries.len() >= self.packing.key_words * N * lanes, "words of queries");
        let (packed, scores) = (self.tile(strip.head, tile), scores.as_mut_ptr());
        let plain = self.shape.scale > 0.0 && !limited && matches!(self.mask, AttentionMask::None);
        // SAFETY: the lengths of queries and scores have been checked; a packed tile is whole panels of keys, of which
        // `R` divides the number, and words of values for all keys.
        unsafe {
            if !(plain && self.weigh::<P, R, N>(strip, packed, keys.len(), scores)) {
                self.weigh_masked::<P, R, N>(strip, packed, keys.clone(), limited, scores);
            }
            let values = packed.add(self.packing.tile_key_words);
            self.add_values::<P, R, N>(strip, scores, values, keys.len().div_ceil(P::PER_WORD));
        }
    }

    /// Makes weights of the keys of a tile, none of them hidden. Returns false, and leaves the strip as it was but for
    /// its offsets, if weights are too large.
    ///
    /// # Safety
    /// The tile has the keys, the strip has queries and `scores` has room for whole blocks of `R` keys.
    #[inline(always)]
    unsafe fn weigh<P: Product, const R: usize, const N: usize>(
        &self,
        strip: &mut Strip<'_>,
        packed: *const f32,
        keys: usize,
        scores: *mut f32,
    ) -> bool {
        // SAFETY: as the caller says.
        let scale = unsafe { self.key_scale::<P>(packed) };
        let factor = factors::<P, N>(strip, self.shape.scale * LOG2_E * scale);
        let mut max = [P::Vector::splat(f32::NEG_INFINITY); N];
        let mut softmax = Softmax::<P::Vector, N>::new(strip, factor);
        let whole = keys / R * R;
        for key in (0..whole).step_by(R) {
            // SAFETY: as the caller says.
            let sums = unsafe { self.score::<P, R, N>(strip, packed, key, &mut max) };
            if key == 0 && !strip.begun {
                rescale::<P::Vector, N>(strip, &factor, &max);
                softmax = Softmax::new(strip, factor);
            }
            for i in (0..R).step_by(P::PER_WORD) {
                let word = (key + i) / P::PER_WORD;
                // SAFETY: as the caller says.
                unsafe { softmax.weights::<P>(&sums[i], &sums[i + P::PER_WORD - 1], scores, word) };
            }
        }
        if whole < keys {
            // SAFETY: as the caller says.
            unsafe {
                let sums = self.score::<P, R, N>(strip, packed, whole, &mut max);
                store_rows(scores.add(whole * N * P::Vector::LANES), &sums);
                if whole == 0 && !strip.begun {
                    rescale::<P::Vector, N>(strip, &factor, &max);
                    softmax = Softmax::new(strip, factor);
                }
                softmax.weights_of_scores::<P>(scores, whole..keys);
            }
        }
        let fits = !grows(&max, &factor, &softmax.offsets);
        if fits {
            store(strip.totals, softmax.totals);
        }
        fits
    }

    /// Makes weights of the keys of a tile.
    ///
    /// # Safety
    /// See [`Attention::weigh`].
    #[inline(always)]
    unsafe fn weigh_masked<P: Product, const R: usize, const N: usize>(
        &self,
        strip: &mut Strip<'_>,
        packed: *const f32,
        keys: Range<usize>,
        limited: bool,
        scores: *mut f32,
    ) {
        let mut max = [P::Vector::splat(f32::NEG_INFINITY); N];
        // SAFETY: as the caller says.
        unsafe {
            for key in (0..keys.len()).step_by(R) {
                let mut sums = self.score::<P, R, N>(strip, packed, key, &mut max);
                if P::QUANTIZED {
                    let scales = factors::<P, N>(strip, self.key_scale::<P>(packed));
                    for sums in &mut sums {
                        for (sum, &scale) in sums.iter_mut().zip(&scales) {
                            *sum = sum.mul(scale);
                        }
                    }
                }
                store_rows(scores.add(key * N * P::Vector::LANES), &sums);
            }
            let scaled = self.mask::<P, N>(strip, keys.clone(), limited, scores, &mut max);
            let factor = [P::Vector::splat(if scaled { LOG2_E } else { self.shape.scale * LOG2_E }); N];
            rescale::<P::Vector, N>(strip, &factor, &max);
            let mut softmax = Softmax::<P::Vector, N>::new(strip, factor);
            softmax.weights_of_scores::<P>(scores, 0..keys.len());
            store(strip.totals, softmax.totals);
        }
    }

    /// Scores of `R` keys of a tile from `key` on, and the largest so far.
    ///
    /// # Safety
    /// The tile has the keys, the strip has queries.
    #[inline(always)]
    unsafe fn score<P: Product, const R: usize, const N: usize>(
        &self,
        strip: &Strip<'_>,
        packed: *const f32,
        key: usize,
        max: &mut [P::Vector; N],
    ) -> [[P::Vector; N]; R] {
        let words = self.packing.key_words;
        let mut sums = [if P::QUANTIZED { load(strip.starts) } else { [P::Vector::splat(0.0); N] }; R];
        // SAFETY: as the caller says.
        unsafe {
            let panel = packed.add(key / P::PANEL * P::PANEL * words + key % P::PANEL);
            multiply::<P, R, N, true>(&mut sums, panel, strip.queries.as_ptr(), words);
        }
        for sums in &mut sums {
            for (max, sum) in max.iter_mut().zip(sums) {
                *sum = P::number(*sum);
                // A score that is NaN is passed over here; its weight is NaN.
                *max = sum.max(*max);
            }
        }
        sums
    }

    /// Adds values times weights to the sums.
    ///
    /// # Safety
    /// There are weights and packed values for `words` words of keys.
    #[inline(always)]
    unsafe fn add_values<P: Product, const R: usize, const N: usize>(
        &self,
        strip: &mut Strip<'_>,
        weights: *const f32,
        values: *const f32,
        words: usize,
    ) {
        let width = N * P::Vector::LANES;
        let panel_words = self.packing.tile_keys / P::PER_WORD * P::PANEL;
        let begun = std::mem::replace(&mut strip.begun, true);
        for element in (0..self.shape.value_dim).step_by(R) {
            let panel = values.wrapping_add(element / P::PANEL * panel_words + element % P::PANEL);
            let sums = strip.sums[element * width..][..R * width].as_mut_ptr();
            let mut products = [[P::Vector::splat(0.0); N]; R];
            // SAFETY: panels are as wide as `R` or several times that; the rest is as the caller says.
            unsafe {
                if begun {
                    load_rows(sums, &mut products);
                }
                multiply::<P, R, N, false>(&mut products, panel, weights, words);
                store_rows(sums, &products);
            }
        }
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
        limited: bool,
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
                    // No closure: it would be compiled without the features of the tier.
                    for j in 0..N {
                        self.add_mask::<P>(strip, keys.clone(), j * lanes, row(keys.start, j), N * lanes);
                    }
                }
                AttentionMask::None | AttentionMask::Lengths(_) | AttentionMask::Ring(_) => {}
            }
            *max = [hidden; N];
            let mut place = self.locate(strip.head, strip.row);
            for (j, max) in max.iter_mut().enumerate() {
                // The keys that each query sees; lanes without a query see all.
                let (mut starts, mut ends) = ([0.0_f32; MAX_LANES], [f32::MAX; MAX_LANES]);
                if limited {
                    let queries = strip.count.saturating_sub(j * lanes).min(lanes);
                    for (start, end) in starts.iter_mut().zip(&mut ends).take(queries) {
                        let seen = self.shape.seen(place.2, self.shape.keys);
                        let within = |key: usize| key.saturating_sub(keys.start).min(TILE_KEYS) as f32;
                        (*start, *end) = (within(seen.start), within(seen.end));
                        place = self.next(place);
                    }
                }
                let [starts, ends] = [starts, ends].map(|keys| P::Vector::load(keys.as_ptr()));
                for (index, key) in keys.clone().enumerate() {
                    let mut score = P::Vector::load(row(key, j));
                    if limited {
                        let index = P::Vector::splat(index as f32);
                        score = ends.if_greater(index, score, hidden);
                        score = starts.if_greater(index, hidden, score);
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

/// Adds products of `R` rows of a panel by words of vectors: of keys by queries, or of values by weights.
///
/// # Safety
/// `panel` is valid for reading `words` words of each row, `right` for as many rows of vectors.
#[inline(always)]
unsafe fn multiply<P: Product, const R: usize, const N: usize, const KEYS: bool>(
    sums: &mut [[P::Vector; N]; R],
    panel: *const f32,
    right: *const f32,
    words: usize,
) {
    let lanes = P::Vector::LANES;
    for word in 0..words {
        let mut vectors = [P::Vector::splat(0.0); N];
        for (j, vector) in vectors.iter_mut().enumerate() {
            // SAFETY: as the caller says.
            *vector = unsafe { P::Vector::load(right.add((word * N + j) * lanes)) };
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as the caller says.
            let left = P::Vector::splat(unsafe { *panel.add(word * P::PANEL + i) });
            for (sum, &right) in sums.iter_mut().zip(&vectors) {
                *sum = if KEYS { P::score(*sum, left, right) } else { P::dot(*sum, left, right) };
            }
        }
    }
}
