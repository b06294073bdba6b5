//! Operands in the order in which attention reads them, see [`Packing`](super::shape::Packing), and results in the
//! order of their tensor.

use crate::{
    arch::{
        half::bf16_bits,
        product::Product,
        vector::{MAX_LANES, Vector},
    },
    attention::{
        cached::{Bf16, Codes, Element, Elements, F32},
        quantize::Form,
        shape::{Attention, AttentionShape, Scratch},
    },
    gemm::epilogue::store,
};

/// Addresses of as many rows as a vector has lanes.
type Rows = [*const f32; MAX_LANES];

impl Attention<'_> {
    /// Packs the keys and values of a tile.
    ///
    /// # Safety
    /// Operands have the rows and heads of the shape; there is memory for the tile, which nobody else uses.
    #[inline(always)]
    pub(super) unsafe fn pack<P: Product>(&self, head: usize, tile: usize, scratch: &mut Scratch) {
        let &AttentionShape { kv_heads, value_dim, .. } = self.shape;
        let words = self.packing.key_words;
        let (keys, to) = (self.keys(tile), self.tile(head, tile));
        let [copies, mean] = scratch.get([self.copies::<P>(), self.shape.head_dim]);
        let batch = head / kv_heads;
        let mut form = Form::Plain;
        if P::QUANTIZED {
            let scale = self.center_keys(head, keys.clone(), mean, copies);
            // SAFETY: the last word of a tile is that of the scale.
            unsafe { to.add(self.packing.tile_words - 1).write(scale) };
            form = Form::Keys { mean, scale };
        }
        for (panel, first) in keys.clone().step_by(P::PANEL).enumerate() {
            let place = |i: usize| (self.row(batch, (first + i).min(keys.end - 1)), head % kv_heads);
            // SAFETY: rows and head exist; a tile has room for whole panels of keys and, if vectors have more lanes
            // than a panel has keys, behind them, where the next panel or values are written later.
            unsafe { self.transpose::<P>(1, place, &mut form, copies, to.add(panel * P::PANEL * words), P::PANEL) };
        }
        let to = to.wrapping_add(self.packing.tile_key_words);
        let panel_words = self.packing.tile_keys / P::PER_WORD * P::PANEL;
        for (panel, first) in (0..value_dim).step_by(P::PANEL).enumerate() {
            let count = P::PANEL.min(value_dim - first);
            for (word, key) in keys.clone().step_by(P::PER_WORD).enumerate() {
                // SAFETY: rows and head exist, and of the row the elements; a tile has room for whole panels.
                unsafe {
                    let to = to.add(panel * panel_words + word * P::PANEL);
                    let to = std::slice::from_raw_parts_mut(to, P::PANEL);
                    let place = |key: usize| (self.row(batch, key), head % kv_heads);
                    let next = (key + 1 < keys.end).then(|| place(key + 1));
                    self.value_words::<P>(place(key), next, first, &mut to[..count]);
                    to[count..].fill(0.0);
                }
            }
        }
    }

    /// Words of elements from `first` on of one key's values or, if words hold two, of two keys'; keys are a row and a
    /// head.
    ///
    /// # Safety
    /// The rows have the elements.
    #[inline(always)]
    unsafe fn value_words<P: Product>(
        &self,
        key: (usize, usize),
        next: Option<(usize, usize)>,
        first: usize,
        to: &mut [f32],
    ) {
        let (count, element) = (to.len(), self.elements[2]);
        // SAFETY: as the caller says; tensors are aligned to their elements.
        unsafe {
            let halves = |(row, head): (usize, usize)| {
                let from = self.address(2, row, head).add(first * element.bytes());
                std::slice::from_raw_parts(from.cast::<u16>(), count)
            };
            match (element, P::PER_WORD, next) {
                (Element::Bf16, 2, Some(next)) => {
                    let (low, high) = (halves(key), halves(next));
                    for ((to, &low), &high) in to.iter_mut().zip(low).zip(high) {
                        *to = f32::from_bits(u32::from(low) | u32::from(high) << 16);
                    }
                }
                (Element::Bf16, 2, None) => {
                    for (to, &low) in to.iter_mut().zip(halves(key)) {
                        *to = f32::from_bits(u32::from(low));
                    }
                }
                (_, 2, next) => {
                    let mut numbers = [0.0; MAX_LANES];
                    self.numbers(2, key, first, to);
                    if let Some(next) = next {
                        self.numbers(2, next, first, &mut numbers[..count]);
                    }
                    for (to, high) in to.iter_mut().zip(numbers) {
                        *to = f32::from_bits(u32::from(bf16_bits(*to)) | u32::from(bf16_bits(high)) << 16);
                    }
                }
                _ => self.numbers(2, key, first, to),
            }
        }
    }

    /// Words of copies of the rows of a vector, as f32 before they are of 8 bits.
    pub(super) fn copies<P: Product>(&self) -> usize {
        P::Vector::LANES * (self.packing.key_words + if P::QUANTIZED { self.shape.head_dim } else { 0 })
    }

    /// Packs queries of a strip, `[word][lane]`; lanes past `count` repeat the last. `scales` and `starts` are filled
    /// for queries of 8 bits.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the parts of a strip are borrowed one by one")]
    pub(super) fn pack_queries<P: Product>(
        &self,
        head: usize,
        row: usize,
        count: usize,
        to: &mut [f32],
        scales: &mut [f32],
        starts: &mut [f32],
        copies: &mut [f32],
    ) {
        let lanes = P::Vector::LANES;
        let width = count.next_multiple_of(lanes);
        assert!(to.len() >= width * self.packing.key_words, "words of queries");
        for first in (0..count).step_by(lanes) {
            let mut place = self.locate(head, row + first);
            let mut rest = (count - first).min(lanes);
            let each = |_| {
                let (batch, head, query) = place;
                rest -= 1;
                if rest > 0 {
                    place = self.next(place);
                } else {
                    rest = 1;
                }
                (batch * self.shape.queries + query, head)
            };
            let mut form = Form::Plain;
            if P::QUANTIZED {
                form = Form::Queries { scales: &mut scales[first..], starts: &mut starts[first..] };
            }
            // SAFETY: rows and heads exist; the length has been checked.
            unsafe { self.transpose::<P>(0, each, &mut form, copies, to.as_mut_ptr().add(first), width) };
        }
    }

    /// Reads as many queries or keys as a vector has lanes, at the rows and heads that `place` names, and writes their
    /// words, `[word][lane]`, `stride` apart.
    ///
    /// # Safety
    /// There are those rows and heads; `to` is valid for the words.
    #[inline(always)]
    unsafe fn transpose<P: Product>(
        &self,
        which: usize,
        mut place: impl FnMut(usize) -> (usize, usize),
        form: &mut Form<'_>,
        copies: &mut [f32],
        to: *mut f32,
        stride: usize,
    ) {
        let (lanes, words, dim) = (P::Vector::LANES, self.packing.key_words, self.shape.head_dim);
        assert!(copies.len() >= self.copies::<P>(), "copies of rows");
        let mut rows: Rows = [std::ptr::null(); MAX_LANES];
        if P::QUANTIZED {
            let (copies, numbers) = copies.split_at_mut(lanes * words);
            // All are on their way from memory before the first is waited for.
            for (i, numbers) in numbers.chunks_exact_mut(dim).enumerate().take(lanes) {
                // SAFETY: these are rows.
                unsafe { self.numbers(which, place(i), 0, numbers) };
            }
            for (i, row) in rows.iter_mut().enumerate().take(lanes) {
                let copy = &mut copies[i * words..][..words];
                self.quantize_row(i, &mut numbers[i * dim..][..dim], form, copy);
                *row = copy.as_ptr();
            }
            // SAFETY: rows have `words` words each; `to` is as the caller says.
            return unsafe { transpose_words::<P::Vector>(&rows, words, to, stride) };
        }
        for (i, row) in rows.iter_mut().enumerate().take(lanes) {
            let (at, head) = place(i);
            let (from, scale) = (self.address(which, at, head), self.scale(which, at, head));
            let copy = copies.as_mut_ptr().wrapping_add(i * words);
            // SAFETY: rows have `dim` elements; each has a copy of its own, of as many words.
            *row = unsafe {
                match (self.elements[which], P::PER_WORD) {
                    (Element::F32, 1) => from.cast(),
                    (Element::Bf16, 2) if dim.is_multiple_of(2) => from.cast(),
                    (Element::Bf16, 2) => {
                        *copy.add(words - 1) = 0.0;
                        from.copy_to_nonoverlapping(copy.cast(), 2 * dim);
                        copy
                    }
                    (element, _) => {
                        *copy.add(words - 1) = 0.0;
                        match element {
                            Element::F32 => write_words::<P, F32>(from, dim, scale, copy),
                            Element::Bf16 => write_words::<P, Bf16>(from, dim, scale, copy),
                            Element::Code => write_words::<P, Codes>(from, dim, scale, copy),
                        }
                        copy
                    }
                }
            };
        }
        // SAFETY: rows have `words` words each; `to` is as the caller says.
        unsafe { transpose_words::<P::Vector>(&rows, words, to, stride) };
    }

    /// Writes the results of a strip: rows of `[element][lane]`, each lane times its factor.
    #[inline(always)]
    pub(super) fn unpack<P: Product>(&self, head: usize, row: usize, count: usize, results: &[f32], factors: &[f32]) {
        let &AttentionShape { queries, value_dim, out_stride, .. } = self.shape;
        let lanes = P::Vector::LANES;
        let width = count.next_multiple_of(lanes);
        assert!(results.len() >= width * value_dim && factors.len() >= count, "results of a strip");
        let elements = lanes.min(value_dim);
        let mut block = [0.0; MAX_LANES * MAX_LANES];
        let mut places = self.locate(head, row);
        for lane in (0..count).step_by(lanes) {
            let mut after = places;
            for first in (0..value_dim).step_by(lanes) {
                // The last elements again, so that there are as many as lanes.
                let first = first.min(value_dim - elements);
                let mut rows: Rows = [std::ptr::null(); MAX_LANES];
                for (i, row) in rows.iter_mut().enumerate().take(lanes) {
                    *row = results[(first + i.min(elements - 1)) * width + lane..].as_ptr();
                }
                // SAFETY: rows have as many numbers as lanes, the block has room for as many of them.
                unsafe { P::Vector::transpose(&rows, 0, block.as_mut_ptr(), lanes) };
                let mut place = places;
                for (i, &factor) in factors[lane..count].iter().enumerate().take(lanes) {
                    let (batch, head, query) = place;
                    let at = (batch * queries + query) * out_stride + head * value_dim + first;
                    // SAFETY: `attention` checked that the output holds all rows; the block is vectors.
                    unsafe {
                        let result = P::Vector::load(block.as_ptr().add(i * lanes)).mul(P::Vector::splat(factor));
                        store(result, elements, self.out.add(at));
                    }
                    place = self.next(place);
                }
                after = place;
            }
            places = after;
        }
    }
}

/// Writes words of as many rows as a vector has lanes, `[word][row]`, `stride` apart.
///
/// # Safety
/// The rows are valid for reading `words` words, `to` for writing them.
#[inline(always)]
pub(super) unsafe fn transpose_words<V: Vector>(rows: &Rows, words: usize, to: *mut f32, stride: usize) {
    let lanes = V::LANES;
    // SAFETY: as the caller says.
    unsafe {
        if words >= lanes {
            for first in (0..words).step_by(lanes) {
                // The last words again, so that there are as many as lanes.
                let first = first.min(words - lanes);
                V::transpose(rows, first, to.add(first * stride), stride);
            }
        } else {
            for word in 0..words {
                for (i, row) in rows.iter().enumerate().take(lanes) {
                    to.add(word * stride + i).write(row.add(word).read_unaligned());
                }
            }
        }
    }
}

/// Writes elements times a scale as the words of a product: f32, or two bf16 each.
///
/// # Safety
/// `from` is valid for reading `count` elements, `to` for writing them.
#[inline(always)]
unsafe fn write_words<P: Product, E: Elements>(from: *const u8, count: usize, scale: f32, to: *mut f32) {
    let lanes = P::Vector::LANES;
    for at in (0..count).step_by(lanes) {
        let some = lanes.min(count - at);
        // SAFETY: as the caller says.
        unsafe {
            let mut numbers = E::read::<P::Vector>(from, at, some);
            if E::ELEMENT == Element::Code {
                numbers = numbers.mul(P::Vector::splat(scale));
            }
            match (P::PER_WORD, some == lanes) {
                (1, true) => numbers.store(to.add(at)),
                (1, false) => numbers.store_some(to.add(at), some),
                (_, true) => numbers.store_bf16(to.cast::<u16>().add(at)),
                (_, false) => numbers.store_bf16_some(to.cast::<u16>().add(at), some),
            }
        }
    }
}
