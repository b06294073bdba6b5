//! The shape of an attention, how its operands are packed, and what its tasks share.

use std::ops::Range;

use crate::{
    arch::{dot::WORD, product::Words, vector::MAX_LANES},
    attention::cached::{Cached, Element},
    gemm::{epilogue::Target, operand::Values, weights::PACKED_ALIGN},
};

/// The most keys of a tile, about: their weights for a strip stay in the first-level cache.
pub(super) const TILE_KEYS: usize = 128;

/// Keys of a tile of an attention with a window. Its tiles begin at multiples of this number, so that what a query gets
/// does not depend on how many keys lie before those that it sees. The panels of every tier divide it.
pub const WINDOW_TILE: usize = 96;

/// Vectors of a strip of queries.
pub(super) const STRIP_VECTORS: usize = 2;

/// The most strips of a task: they share the tiles of packed keys and values that they bring into the cache.
pub(super) const TASK_STRIPS: usize = 4;

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
    /// Number of key and value heads; divides `heads`, and each serves as many consecutive ones (grouped-query
    /// attention).
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
    /// How many of the keys up to `i + keys - queries` query `i` sees, the last ones, if not all (a sliding window).
    pub window: Option<usize>,
    /// True if queries of bf16 and their keys may be rounded to numbers of 8 bits with a scale for each query and for
    /// every few keys, where a tier multiplies those faster. Values and their weights are not.
    pub eight_bit: bool,
}

/// What keeps queries from attending to keys.
#[derive(Clone, Copy, Debug)]
pub enum AttentionMask<'a> {
    /// Nothing.
    None,
    /// `[batch, keys]`: false hides the key.
    Keys(&'a [bool]),
    /// `[batch]`: how many keys a sequence has, at most `keys`; what lies behind them is never read. For it, that many
    /// is what [`AttentionShape::keys`] says to `causal` and `window`.
    Lengths(&'a [usize]),
    /// `[batch]`: how many keys a sequence has had. They lie in a ring of `keys` rows, number `p` in row `p % keys`, so
    /// that later ones have taken the place of earlier ones; none that is seen may be gone
    /// ([`AttentionShape::holds`]). To `causal` and `window` a sequence has all that it has had.
    Ring(&'a [usize]),
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
    pub(super) fn check(&self, shape: &AttentionShape) {
        let &AttentionShape { batch, heads, queries, keys, .. } = shape;
        match *self {
            Self::None => {}
            Self::Keys(seen) => assert_eq!(seen.len(), batch * keys, "mask of {shape:?}"),
            Self::Lengths(lengths) => {
                assert_eq!(lengths.len(), batch, "mask of {shape:?}");
                assert!(lengths.iter().all(|&length| length <= keys), "lengths of {shape:?}");
            }
            Self::Ring(lengths) => {
                assert_eq!(lengths.len(), batch, "mask of {shape:?}");
                assert!(lengths.iter().all(|&length| shape.holds(length)), "{lengths:?} keys in a ring of {shape:?}");
            }
            Self::Additive { values, batch: per_batch, heads: per_head } => {
                let count = if per_batch { batch } else { 1 } * if per_head { heads } else { 1 };
                assert_eq!(values.len(), count * queries * keys, "mask of {shape:?}");
            }
        }
    }
}

/// How the keys and values of one head are laid out: tile after tile, of each first the keys, then the values.
///
/// Behind those is the scale of the keys if they are of 8 bits. Keys of a tile are cut into panels,
/// `[panel][word][key]`; values into panels of as many elements, `[panel][word of keys][element]`. Keys that fill up
/// the last panel repeat the last key; elements that fill up are 0, and so are values that fill up a word.
#[derive(Clone, Copy)]
pub(super) struct Packing {
    /// Words of a key.
    pub(super) key_words: usize,
    /// Number of tiles.
    pub(super) tiles: usize,
    /// Keys of a tile; the last has fewer.
    pub(super) tile_keys: usize,
    /// Words of the keys of a tile.
    pub(super) tile_key_words: usize,
    /// Words of a tile.
    pub(super) tile_words: usize,
}

impl Packing {
    pub(super) fn new(words: Words, shape: &AttentionShape) -> Self {
        let Words { panel, lanes, per_word, queries_per_word } = words;
        let (tiles, tile_keys) = if shape.window.is_some() {
            (shape.keys.div_ceil(WINDOW_TILE), WINDOW_TILE)
        } else {
            let tiles = shape.keys.div_ceil(TILE_KEYS / panel * panel);
            (tiles, shape.keys.div_ceil(tiles.max(1)).next_multiple_of(panel))
        };
        let key_words = shape.head_dim.div_ceil(queries_per_word);
        let tile_key_words = tile_keys * key_words;
        let value_words = shape.value_dim.next_multiple_of(panel) * (tile_keys / per_word);
        // Behind narrow panels whole vectors are written.
        let tile_words = (tile_key_words + value_words.max(lanes) + 1).next_multiple_of(PACKED_ALIGN / WORD);
        Self { key_words, tiles, tile_keys, tile_key_words, tile_words }
    }

    /// Words of a head.
    pub(super) fn head_words(&self) -> usize {
        self.tiles * self.tile_words
    }
}

/// Memory of a thread that outlives a call.
#[derive(Default)]
pub(super) struct Scratch {
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
    pub(super) fn get<const N: usize>(&mut self, sizes: [usize; N]) -> [&mut [f32]; N] {
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

/// Keys and values in rings, one for each sequence. Keys are counted from the first of the tile in which the first one
/// lies that is seen: what lies before it is never read.
#[derive(Clone, Copy)]
pub(super) struct Ring<'a> {
    /// Rows of a ring.
    pub(super) rows: usize,
    /// How many keys each sequence has had.
    pub(super) lengths: &'a [usize],
}

/// An attention under way. Heads are those of keys and values, counted through all sequences; the rows of a head are
/// those of all query heads that it serves, one query head after the other.
pub(super) struct Attention<'a> {
    pub(super) shape: &'a AttentionShape,
    pub(super) queries: Values<'a>,
    /// Keys and values.
    pub(super) cached: [Cached<'a>; 2],
    /// What the elements of queries, keys and values are.
    pub(super) elements: [Element; 3],
    pub(super) mask: AttentionMask<'a>,
    /// Where keys and values lie, if not one after the other.
    pub(super) ring: Option<Ring<'a>>,
    pub(super) packing: Packing,
    /// Packed keys and values, see [`Packing`].
    pub(super) packed: *mut f32,
    pub(super) out: Target,
}

// SAFETY: the addresses are those of slices that the caller of `attention` holds, and no two tasks write the same
// parts.
unsafe impl Sync for Attention<'_> {}

impl AttentionShape {
    /// True if a ring of `keys` rows still holds all keys that are seen of a sequence which has had so many.
    #[must_use]
    pub fn holds(&self, length: usize) -> bool {
        length - self.seen(0, length).start <= self.keys
    }

    /// The first key of the tile in which the first key lies that a query sees, of a sequence of so many keys.
    #[inline(always)]
    pub(super) fn first_of_tile(&self, keys: usize) -> usize {
        self.seen(0, keys).start / WINDOW_TILE * WINDOW_TILE
    }

    /// The keys that a query sees, of a sequence that has `keys` of them.
    #[inline(always)]
    pub(super) fn seen(&self, query: usize, keys: usize) -> Range<usize> {
        // The key at the place of the query, and those before it.
        let reached = (query + 1 + keys).saturating_sub(self.queries);
        let first = self.window.map_or(0, |window| reached.saturating_sub(window));
        first.min(keys)..if self.causal { reached.min(keys) } else { keys }
    }
}

impl Attention<'_> {
    /// The sequence, the query head and the query of a row of a head.
    #[inline(always)]
    pub(super) fn locate(&self, head: usize, row: usize) -> (usize, usize, usize) {
        let &AttentionShape { heads, kv_heads, queries, .. } = self.shape;
        (head / kv_heads, head % kv_heads * (heads / kv_heads) + row / queries, row % queries)
    }

    /// The place after one that [`Attention::locate`] found.
    #[inline(always)]
    pub(super) fn next(&self, (batch, head, query): (usize, usize, usize)) -> (usize, usize, usize) {
        if query + 1 < self.shape.queries { (batch, head, query + 1) } else { (batch, head + 1, 0) }
    }

    /// The address of a row of one head of an operand.
    #[inline(always)]
    pub(super) fn address(&self, which: usize, row: usize, head: usize) -> *const u8 {
        let dim = if which == 2 { self.shape.value_dim } else { self.shape.head_dim };
        let first = if which == 0 { self.queries.pointer() } else { self.cached[which - 1].pointer() };
        first.wrapping_add((row * self.shape.strides[which] + head * dim) * self.elements[which].bytes())
    }

    /// What the elements of a row of one head of an operand are multiplied by.
    #[inline(always)]
    pub(super) fn scale(&self, which: usize, row: usize, head: usize) -> f32 {
        if which == 0 { 1.0 } else { self.cached[which - 1].scale(row, head) }
    }

    /// Reads elements of a row of one head of an operand, from number `first` on.
    ///
    /// # Safety
    /// The row has the elements.
    #[inline(always)]
    pub(super) unsafe fn numbers(&self, which: usize, (row, head): (usize, usize), first: usize, to: &mut [f32]) {
        let element = self.elements[which];
        // SAFETY: as the caller says; tensors are aligned to their elements.
        unsafe { element.numbers(self.address(which, row, head).add(first * element.bytes()), to) };
        if element == Element::Code {
            let scale = self.scale(which, row, head);
            to.iter_mut().for_each(|to| *to *= scale);
        }
    }

    /// How many keys a sequence has.
    #[inline(always)]
    pub(super) fn keys_of(&self, batch: usize) -> usize {
        match (self.mask, self.ring) {
            (_, Some(ring)) => ring.lengths[batch] - self.shape.first_of_tile(ring.lengths[batch]),
            (AttentionMask::Lengths(lengths), None) => lengths[batch],
            _ => self.shape.keys,
        }
    }

    /// The row of a sequence's key and value, rows counted through all sequences.
    #[inline(always)]
    pub(super) fn row(&self, batch: usize, key: usize) -> usize {
        match self.ring {
            None => batch * self.shape.keys + key,
            Some(Ring { rows, lengths }) => batch * rows + (self.shape.first_of_tile(lengths[batch]) + key) % rows,
        }
    }

    /// The packed tile of a head.
    #[inline(always)]
    pub(super) fn tile(&self, head: usize, tile: usize) -> *mut f32 {
        self.packed.wrapping_add(head * self.packing.head_words() + tile * self.packing.tile_words)
    }

    /// The keys of a tile.
    pub(super) fn keys(&self, tile: usize) -> Range<usize> {
        let first = tile * self.packing.tile_keys;
        first..self.shape.keys.min(first + self.packing.tile_keys)
    }
}
