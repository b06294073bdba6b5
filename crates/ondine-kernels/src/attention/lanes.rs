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

/// Reads rows of vectors.
///
/// # Safety
/// `from` is valid for reading `R` rows.
#[inline(always)]
pub(super) unsafe fn load_rows<V: Vector, const R: usize, const N: usize>(from: *const f32, to: &mut [[V; N]; R]) {
    for (i, row) in to.iter_mut().enumerate() {
        for (j, vector) in row.iter_mut().enumerate() {
            // SAFETY: as the caller says.
            *vector = unsafe { V::load(from.add((i * N + j) * V::LANES)) };
        }
    }
}

/// Writes rows of vectors.
///
/// # Safety
/// `to` is valid for writing `R` rows.
#[inline(always)]
pub(super) unsafe fn store_rows<V: Vector, const R: usize, const N: usize>(to: *mut f32, from: &[[V; N]; R]) {
    for (i, row) in from.iter().enumerate() {
        for (j, vector) in row.iter().enumerate() {
            // SAFETY: as the caller says.
            unsafe { vector.store(to.add((i * N + j) * V::LANES)) };
        }
    }
}
