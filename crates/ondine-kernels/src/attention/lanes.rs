//! The vectors of a strip in memory: `N` side by side, and rows of them.

use crate::arch::vector::Vector;

/// Reads a vector for each of `N`.
#[inline(always)]
pub(super) fn load<V: Vector, const N: usize>(from: &[f32]) -> [V; N] {
    assert!(from.len() >= N * V::LANES, "lanes of a strip");
    let mut vectors = [V::splat(0.0); N];
    for (j, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: the length has just been checked.
        *vector = unsafe { V::load(from.as_ptr().add(j * V::LANES)) };
    }
    vectors
}

/// Writes a vector for each of `N`.
#[inline(always)]
pub(super) fn store<V: Vector, const N: usize>(to: &mut [f32], vectors: [V; N]) {
    assert!(to.len() >= N * V::LANES, "lanes of a strip");
    for (j, vector) in vectors.into_iter().enumerate() {
        // SAFETY: the length has just been checked.
        unsafe { vector.store(to.as_mut_ptr().add(j * V::LANES)) };
    }
}

/// Sums so far, or zeros if none have `begun`.
///
/// # Safety
/// `sums` is valid for reading `R` rows.
#[inline(always)]
pub(super) unsafe fn load_sums<V: Vector, const R: usize, const N: usize>(
    sums: *const f32,
    begun: bool,
) -> [[V; N]; R] {
    let mut rows = [[V::splat(0.0); N]; R];
    if !begun {
        return rows;
    }
    for (i, row) in rows.iter_mut().enumerate() {
        for (j, sum) in row.iter_mut().enumerate() {
            // SAFETY: as the caller says.
            *sum = unsafe { V::load(sums.add((i * N + j) * V::LANES)) };
        }
    }
    rows
}

/// Writes sums.
///
/// # Safety
/// `sums` is valid for writing `R` rows.
#[inline(always)]
pub(super) unsafe fn store_sums<V: Vector, const R: usize, const N: usize>(sums: *mut f32, from: &[[V; N]; R]) {
    for (i, from) in from.iter().enumerate() {
        for (j, sum) in from.iter().enumerate() {
            // SAFETY: as the caller says.
            unsafe { sum.store(sums.add((i * N + j) * V::LANES)) };
        }
    }
}
