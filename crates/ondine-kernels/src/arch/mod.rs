//! Instruction sets as zero-sized types.
//!
//! An algorithm is written once over slices and fixed-size arrays, generic over [`Isa`], and compiled per tier by
//! [`crate::rowwise::Enter`]. Only matrix products and their like use intrinsics; they are in the
//! files here.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod generic;
pub(crate) mod vector;

use vector::{Lane, Vector};

/// What an algorithm may ask of the instruction set it is compiled for.
pub(crate) trait Isa: Copy + 'static {
    /// True if `a * b + c` with one rounding is a single instruction.
    const FMA: bool;
    /// The vectors of the instruction set.
    type Vector: Vector;

    /// `a * b + c`, rounded once if [`Isa::FMA`], else twice.
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        if Self::FMA { a.mul_add(b, c) } else { a * b + c }
    }
}

/// What every processor of the architecture can do.
#[derive(Clone, Copy)]
pub(crate) struct Generic;

impl Isa for Generic {
    const FMA: bool = false;
    type Vector = Lane<Self>;
}

/// AVX2, FMA and F16C.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Isa for Avx2 {
    const FMA: bool = true;
    type Vector = std::arch::x86_64::__m256;
}

/// AVX-512 F, BW, DQ, VL, BF16 and VNNI, and all of [`Avx2`].
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Isa for Avx512 {
    const FMA: bool = true;
    type Vector = std::arch::x86_64::__m512;
}
