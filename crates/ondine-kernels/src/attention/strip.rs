//! A strip of queries and what is known of it.

/// A few query rows of one head and what is known of them so far.
pub(super) struct Strip<'a> {
    /// See [`Attention`].
    pub(super) head: usize,
    /// The first row.
    pub(super) row: usize,
    /// Rows: more than fill all vectors but one.
    pub(super) count: usize,
    /// `[word][lane]`
    pub(super) queries: &'a mut [f32],
    /// Sums of weighted values, `[element][lane]`.
    pub(super) sums: &'a mut [f32],
    /// See the module.
    pub(super) offsets: &'a mut [f32],
    /// Sums of weights.
    pub(super) totals: &'a mut [f32],
    /// Scales of queries of 8 bits.
    pub(super) scales: &'a mut [f32],
    /// What sums of products of 8 bits begin with.
    pub(super) starts: &'a mut [f32],
    /// True if a tile has gone by; until then there are no sums.
    pub(super) begun: bool,
}
