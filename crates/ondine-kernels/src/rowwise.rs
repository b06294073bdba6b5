//! What the row-wise kernels share: sums, and the split over threads.
//!
//! A row-wise kernel is a [`Kernel`](crate::arch::enter::Kernel): a struct of slices, made of plain loops that the
//! compiler turns into vector code. What is folded is folded into [`LANES`] accumulators side by side.
//!
//! Work is cut into pieces whose size never depends on the number of threads, so results do not either.

use std::sync::Mutex;

use crate::{
    number::{Lane, Number, Total},
    threads::Pool,
};

/// Accumulators of a fold: independent of each other, so that they fill vector registers and hide their latency.
pub(crate) const LANES: usize = 128;

/// Elements of a [`Float::stage`](crate::number::Float::stage), about: they stay in the first-level cache.
pub(crate) const STAGE: usize = 1024;

/// Elements of a piece of work, about: smaller work stays on the calling thread.
pub(crate) const GRAIN: usize = 1 << 15;

/// All of `x`, each passed through `map`, combined: every [`LANES`]-th in order, then these results in pairs.
#[inline(always)]
pub(crate) fn fold<T: Number, A: Copy>(
    x: &[T],
    start: A,
    combine: impl Fn(A, A) -> A + Copy,
    map: impl Fn(T::Lane) -> A,
) -> A {
    let mut lanes = [start; LANES];
    for x in x.chunks(LANES) {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = combine(*lane, map(x.widen()));
        }
    }
    fold_lanes(&lanes, combine)
}

/// All lanes combined in pairs.
#[inline(always)]
pub(crate) fn fold_lanes<L: Copy>(lanes: &[L; LANES], combine: impl Fn(L, L) -> L + Copy) -> L {
    #[inline(always)]
    fn halved<L: Copy, const HALF: usize>(lanes: &[L], combine: impl Fn(L, L) -> L) -> [L; HALF] {
        let mut half = [lanes[0]; HALF];
        for (half, (&low, &high)) in half.iter_mut().zip(lanes.iter().zip(&lanes[HALF..])) {
            *half = combine(low, high);
        }
        half
    }
    let lanes: [L; 64] = halved(lanes, combine);
    let lanes: [L; 32] = halved(&lanes, combine);
    let lanes: [L; 16] = halved(&lanes, combine);
    let lanes: [L; 8] = halved(&lanes, combine);
    let lanes: [L; 4] = halved(&lanes, combine);
    let lanes: [L; 2] = halved(&lanes, combine);
    combine(lanes[0], lanes[1])
}

/// The sum of all of `x`, each passed through `map`: no number takes part in more than [`RUN`] + 7 additions before
/// the sum is carried on in the wider type.
#[inline(always)]
pub(crate) fn sum<T: Number>(x: &[T], map: impl Fn(T::Lane) -> T::Lane + Copy) -> <T::Lane as Lane>::Total {
    x.chunks(RUN * LANES).fold(Default::default(), |total: <T::Lane as Lane>::Total, x| {
        total.add(fold(x, T::Lane::default(), T::Lane::add, map).total())
    })
}

/// The largest of `x`: NaN if there is one, the lowest number if there is none.
#[inline(always)]
pub(crate) fn max<T: Number>(x: &[T]) -> T::Lane {
    T::Lane::ranked(fold(x, T::Lane::LOWEST.rank_nan_high(), Ord::max, T::Lane::rank_nan_high))
}

/// The smallest of `x`: NaN if there is one, the highest number if there is none.
#[inline(always)]
pub(crate) fn min<T: Number>(x: &[T]) -> T::Lane {
    T::Lane::ranked(fold(x, T::Lane::HIGHEST.rank_nan_low(), Ord::min, T::Lane::rank_nan_low))
}

/// Numbers added to one accumulator before it is carried on in the wider type.
pub(crate) const RUN: usize = 32;

/// Rows of `width` elements that make up one piece of work.
pub(crate) fn piece_rows(width: usize) -> usize {
    (GRAIN / width.max(1)).max(1)
}

/// Calls `body` once for each piece, with its index, on the threads of `pool`; a single piece stays on this thread.
pub(crate) fn for_pieces<P: Send>(pool: &Pool, pieces: Vec<P>, body: impl Fn(usize, P) + Sync) {
    if pieces.len() <= 1 {
        pieces.into_iter().enumerate().for_each(|(index, piece)| body(index, piece));
        return;
    }
    let pieces: Vec<Mutex<Option<P>>> = pieces.into_iter().map(|piece| Mutex::new(Some(piece))).collect();
    pool.run(pieces.len(), &|index| {
        let piece = pieces[index].lock().ok().and_then(|mut piece| piece.take());
        if let Some(piece) = piece {
            body(index, piece);
        }
    });
}

/// Calls `body` with pieces of `out`, each of `rows` rows of `width` elements (the last may have fewer), and the
/// index of its first row.
pub(crate) fn for_rows<T: Send>(
    pool: &Pool,
    out: &mut [T],
    width: usize,
    rows: usize,
    body: impl Fn(usize, &mut [T]) + Sync,
) {
    let pieces = out.chunks_mut((width * rows).max(1)).collect();
    for_pieces(pool, pieces, |index, piece| body(index * rows, piece));
}
