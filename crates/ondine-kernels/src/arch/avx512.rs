//! AVX-512: 6 rows by 4 vectors of 16 lanes.

use std::arch::x86_64::*;

use crate::{
    arch::Avx512,
    gemm::micro::{Dot, GemmKernels, MicroCall, tile},
    rowwise::Enter,
};

/// The matrix kernels of this tier.
pub(crate) const GEMM: GemmKernels =
    GemmKernels {
    lanes: 16,
    width: 64,
    rows: 6,
    f32: micro::<F32>,
    bf16: micro::<Bf16>,
    s8: micro::<S8>,
    epilogue: |call| Avx512::enter(call),
    pack: |call| Avx512::enter(call),
    attend: |call| Avx512::enter(call),
    depthwise: |call| Avx512::enter(call),
};

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")]
fn micro<D: Dot>(call: &MicroCall) {
    // SAFETY: `Micro` has this function's obligations.
    unsafe {
        match (call.count, call.vectors) {
            (1, 1) => tile::<D, 1, 1>(call),
            (1, 2) => tile::<D, 1, 2>(call),
            (1, 3) => tile::<D, 1, 3>(call),
            (1, _) => tile::<D, 1, 4>(call),
            (2, 1) => tile::<D, 2, 1>(call),
            (2, 2) => tile::<D, 2, 2>(call),
            (2, 3) => tile::<D, 2, 3>(call),
            (2, _) => tile::<D, 2, 4>(call),
            (3 | 4, 1) => tile::<D, 4, 1>(call),
            (3 | 4, 2) => tile::<D, 4, 2>(call),
            (3 | 4, 3) => tile::<D, 4, 3>(call),
            (3 | 4, _) => tile::<D, 4, 4>(call),
            (_, 1) => tile::<D, 6, 1>(call),
            (_, 2) => tile::<D, 6, 2>(call),
            (_, 3) => tile::<D, 6, 3>(call),
            _ => tile::<D, 6, 4>(call),
        }
    }
}

/// `vfmadd231ps`
struct F32;

impl Dot for F32 {
    type Left = __m512;
    type Right = __m512;
    type Sum = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: as the trait demands.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(word: *const u8) -> __m512 {
        // SAFETY: as the trait demands.
        unsafe { _mm512_set1_ps(word.cast::<f32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> __m512 {
        // SAFETY: as the trait demands.
        unsafe { _mm512_loadu_ps(words.cast()) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m512, left: __m512, right: __m512) -> __m512 {
        // SAFETY: as the trait demands.
        unsafe { _mm512_fmadd_ps(left, right, sum) }
    }

    #[inline(always)]
    unsafe fn load_sum(sums: *const u32) -> __m512 {
        // SAFETY: as the trait demands.
        unsafe { _mm512_loadu_ps(sums.cast()) }
    }

    #[inline(always)]
    unsafe fn store_sum(sum: __m512, sums: *mut u32) {
        // SAFETY: as the trait demands.
        unsafe { _mm512_storeu_ps(sums.cast(), sum) }
    }
}

/// `vdpbf16ps`
struct Bf16;

impl Dot for Bf16 {
    type Left = __m512i;
    type Right = __m512i;
    type Sum = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: as the trait demands.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(word: *const u8) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe { _mm512_set1_epi32(word.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe { _mm512_loadu_si512(words.cast()) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m512, left: __m512i, right: __m512i) -> __m512 {
        // SAFETY: as the trait demands; `__m512bh` is 32 bf16, any bits are valid.
        unsafe {
            let left = std::mem::transmute::<__m512i, __m512bh>(left);
            let right = std::mem::transmute::<__m512i, __m512bh>(right);
            _mm512_dpbf16_ps(sum, left, right)
        }
    }

    #[inline(always)]
    unsafe fn load_sum(sums: *const u32) -> __m512 {
        // SAFETY: as the trait demands.
        unsafe { _mm512_loadu_ps(sums.cast()) }
    }

    #[inline(always)]
    unsafe fn store_sum(sum: __m512, sums: *mut u32) {
        // SAFETY: as the trait demands.
        unsafe { _mm512_storeu_ps(sums.cast(), sum) }
    }
}

/// `vpdpbusd`, which does not saturate.
struct S8;

impl Dot for S8 {
    type Left = __m512i;
    type Right = __m512i;
    type Sum = __m512i;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: as the trait demands.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn splat(word: *const u8) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe { _mm512_set1_epi32(word.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe { _mm512_loadu_si512(words.cast()) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m512i, left: __m512i, right: __m512i) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe { _mm512_dpbusd_epi32(sum, left, right) }
    }

    #[inline(always)]
    unsafe fn load_sum(sums: *const u32) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe { _mm512_loadu_si512(sums.cast()) }
    }

    #[inline(always)]
    unsafe fn store_sum(sum: __m512i, sums: *mut u32) {
        // SAFETY: as the trait demands.
        unsafe { _mm512_storeu_si512(sums.cast(), sum) }
    }
}
