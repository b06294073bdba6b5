//! How packed operands are multiplied: word by word, in vectors of columns.

/// Bytes of a word.
pub(crate) const WORD: usize = 4;

/// The most columns that a panel of any tier has.
pub(crate) const MAX_WIDTH: usize = 64;

/// The most rows that a tile of any tier has.
pub(crate) const MAX_ROWS: usize = 8;

/// How products are cut into what the registers of a tier hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Columns per vector.
    pub(crate) lanes: usize,
    /// Columns of a full panel.
    pub(crate) width: usize,
    /// Rows of a full tile.
    pub(crate) rows: usize,
}

/// The type of the elements of packed weights, which decides the type of the activations that they are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// For activations of f32.
    F32,
    /// For activations of bf16.
    Bf16,
    /// -127..=127 with a scale per output, for activations of u8.
    S8,
}

impl WeightType {
    /// Elements per word.
    #[inline(always)]
    pub(crate) fn per_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::S8 => 4,
        }
    }

    /// Bytes of an element of the activations.
    pub(crate) fn activation_bytes(self) -> usize {
        WORD / self.per_word()
    }
}

/// How the vectors of one instruction set multiply one element type.
///
/// # Safety
/// All methods assume the instructions of the tier, see [`Vector`](crate::arch::vector::Vector); addresses are valid
/// for what is read or written there, and need no alignment.
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
    /// Products that a [`Dot::link`] adds in each lane; 0 if the tier has no instructions for the type but those of
    /// f32.
    const LINKED: usize = 0;

    /// Sums of nothing.
    unsafe fn zero() -> Self::Sum;
    /// Reads one word.
    unsafe fn splat(word: *const u8) -> Self::Left;
    /// Reads `LANES` words.
    unsafe fn load(words: *const u32) -> Self::Right;
    /// Adds the products of the elements of the words.
    unsafe fn dot(sum: Self::Sum, left: Self::Left, right: Self::Right) -> Self::Sum;
    /// Adds the products of the elements of `LANES` words of one row with those of one column, lane by lane.
    unsafe fn dot_along(sum: Self::Sum, row: *const u8, column: *const u32) -> Self::Sum;
    /// The sum of all lanes, as [`Dot::store_sum`] writes a lane.
    unsafe fn total(sum: Self::Sum) -> u32;
    /// Reads `LANES` sums.
    unsafe fn load_sum(sums: *const u32) -> Self::Sum;
    /// Writes `LANES` sums.
    unsafe fn store_sum(sum: Self::Sum, sums: *mut u32);

    /// One multiplication in a chain of them, to be timed: takes as long as [`Dot::dot`], for as many products as
    /// [`Dot::LINKED`], and no part of it can be taken out of a loop.
    #[inline(always)]
    unsafe fn link(sum: Self::Sum, left: Self::Left, right: Self::Right) -> Self::Sum {
        // SAFETY: as the caller says.
        unsafe { Self::dot(sum, left, right) }
    }
}
