//! How attention multiplies: in lanes that each belong to a query, or to an element of a value.

use std::marker::PhantomData;

use crate::arch::vector::Vector;

/// How operands are laid out for a [`Product`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// Keys, or elements of values, of a packed panel.
    pub(crate) panel: usize,
    /// Lanes of a vector, no fewer.
    pub(crate) lanes: usize,
    /// Elements of a word of packed values.
    pub(crate) per_word: usize,
    /// Elements of a word of packed queries and keys.
    pub(crate) queries_per_word: usize,
}

/// How a tier multiplies operands of one type.
///
/// # Safety
/// See [`Vector`].
pub(crate) trait Product {
    /// Its vectors.
    type Vector: Vector;
    /// Elements of the inner dimension in each lane.
    const PER_WORD: usize;
    /// Keys, or elements of values, of a packed panel.
    const PANEL: usize;
    /// Keys, or elements of values, whose sums for two vectors of queries stay in registers: 4, 6 or 8.
    const ROWS: usize;
    /// Elements of queries and keys in each lane.
    const QUERIES_PER_WORD: usize = Self::PER_WORD;
    /// True if queries and keys are numbers of 8 bits: the keys unsigned, the queries signed.
    const QUANTIZED: bool = false;
    /// True if weights are stored with so few bits that a coarse exponential is as good as any.
    const COARSE: bool = false;
    /// All of these.
    const WORDS: Words = Words {
        panel: Self::PANEL,
        lanes: Self::Vector::LANES,
        per_word: Self::PER_WORD,
        queries_per_word: Self::QUERIES_PER_WORD,
    };

    /// Adds the products of the elements of each lane.
    fn dot(sum: Self::Vector, left: Self::Vector, right: Self::Vector) -> Self::Vector;
    /// Adds the products of the elements of keys and queries of each lane.
    #[inline(always)]
    fn score(sum: Self::Vector, key: Self::Vector, query: Self::Vector) -> Self::Vector {
        Self::dot(sum, key, query)
    }
    /// Sums of such products as numbers.
    #[inline(always)]
    fn number(sum: Self::Vector) -> Self::Vector {
        sum
    }
    /// Weights of one or two adjacent keys as words.
    fn words(first: Self::Vector, second: Self::Vector) -> Self::Vector;
}

/// f32 by f32.
pub(crate) struct Single<V, const PANEL: usize, const ROWS: usize>(PhantomData<V>);

impl<V: Vector, const PANEL: usize, const ROWS: usize> Product for Single<V, PANEL, ROWS> {
    type Vector = V;
    const PER_WORD: usize = 1;
    const PANEL: usize = PANEL;
    const ROWS: usize = ROWS;

    #[inline(always)]
    fn dot(sum: V, left: V, right: V) -> V {
        left.mul_add(right, sum)
    }

    #[inline(always)]
    fn words(first: V, _second: V) -> V {
        first
    }
}
