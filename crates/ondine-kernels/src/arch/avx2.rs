//! AVX2: 6 rows by 2 vectors of 8 lanes.

use std::arch::x86_64::*;

use crate::{
    arch::Avx2,
    gemm::micro::{Dot, GemmKernels, MicroCall, tile},
    rowwise::Enter,
};

/// The matrix kernels of this tier.
pub(crate) const GEMM: GemmKernels =
    GemmKernels {
    lanes: 8,
    width: 16,
    rows: 6,
    f32: micro::<F32>,
    bf16: micro::<Bf16>,
    s8: micro::<S8>,
    epilogue: |call| Avx2::enter(call),
    pack: |call| Avx2::enter(call),
    attend: |call| Avx2::enter(call),
    depthwise: |call| Avx2::enter(call),
};

#[target_feature(enable = "avx2,fma,f16c")]
fn micro<D: Dot>(call: &MicroCall) {
    // SAFETY: `Micro` has this function's obligations.
    unsafe {
        match (call.count, call.vectors) {
            (1, 1) => tile::<D, 1, 1>(call),
            (1, _) => tile::<D, 1, 2>(call),
            (2, 1) => tile::<D, 2, 1>(call),
            (2, _) => tile::<D, 2, 2>(call),
            (3 | 4, 1) => tile::<D, 4, 1>(call),
            (3 | 4, _) => tile::<D, 4, 2>(call),
            (_, 1) => tile::<D, 6, 1>(call),
            _ => tile::<D, 6, 2>(call),
        }
    }
}

/// `vfmadd231ps`
struct F32;

impl Dot for F32 {
    type Left = __m256;
    type Right = __m256;
    type Sum = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: as the trait demands.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(word: *const u8) -> __m256 {
        // SAFETY: as the trait demands.
        unsafe { _mm256_set1_ps(word.cast::<f32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> __m256 {
        // SAFETY: as the trait demands.
        unsafe { _mm256_loadu_ps(words.cast()) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m256, left: __m256, right: __m256) -> __m256 {
        // SAFETY: as the trait demands.
        unsafe { _mm256_fmadd_ps(left, right, sum) }
    }

    #[inline(always)]
    unsafe fn load_sum(sums: *const u32) -> __m256 {
        // SAFETY: as the trait demands.
        unsafe { _mm256_loadu_ps(sums.cast()) }
    }

    #[inline(always)]
    unsafe fn store_sum(sum: __m256, sums: *mut u32) {
        // SAFETY: as the trait demands.
        unsafe { _mm256_storeu_ps(sums.cast(), sum) }
    }
}

/// Each half of the word made an f32, then `vfmadd231ps`.
struct Bf16;

impl Dot for Bf16 {
    type Left = (__m256, __m256);
    type Right = (__m256, __m256);
    type Sum = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: as the trait demands.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(word: *const u8) -> (__m256, __m256) {
        // SAFETY: as the trait demands.
        unsafe { split(_mm256_set1_epi32(word.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> (__m256, __m256) {
        // SAFETY: as the trait demands.
        unsafe { split(_mm256_loadu_si256(words.cast())) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m256, left: (__m256, __m256), right: (__m256, __m256)) -> __m256 {
        // SAFETY: as the trait demands.
        unsafe { _mm256_fmadd_ps(left.1, right.1, _mm256_fmadd_ps(left.0, right.0, sum)) }
    }

    #[inline(always)]
    unsafe fn load_sum(sums: *const u32) -> __m256 {
        // SAFETY: as the trait demands.
        unsafe { _mm256_loadu_ps(sums.cast()) }
    }

    #[inline(always)]
    unsafe fn store_sum(sum: __m256, sums: *mut u32) {
        // SAFETY: as the trait demands.
        unsafe { _mm256_storeu_ps(sums.cast(), sum) }
    }
}

/// The even and the odd bf16 as f32.
#[inline(always)]
unsafe fn split(words: __m256i) -> (__m256, __m256) {
    // SAFETY: the caller has AVX2.
    unsafe {
        let even = _mm256_slli_epi32::<16>(words);
        let odd = _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000_u32 as i32));
        (_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd))
    }
}

/// Even and odd bytes made i16, then `vpmaddwd`, which cannot overflow.
struct S8;

impl Dot for S8 {
    type Left = (__m256i, __m256i);
    type Right = (__m256i, __m256i);
    type Sum = __m256i;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: as the trait demands.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn splat(word: *const u8) -> (__m256i, __m256i) {
        // SAFETY: as the trait demands.
        unsafe {
            let word = _mm256_set1_epi32(word.cast::<i32>().read_unaligned());
            (_mm256_and_si256(word, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(word))
        }
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> (__m256i, __m256i) {
        // SAFETY: as the trait demands.
        unsafe {
            let words = _mm256_loadu_si256(words.cast());
            (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(words)), _mm256_srai_epi16::<8>(words))
        }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m256i, left: (__m256i, __m256i), right: (__m256i, __m256i)) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe {
            let even = _mm256_madd_epi16(left.0, right.0);
            let odd = _mm256_madd_epi16(left.1, right.1);
            _mm256_add_epi32(sum, _mm256_add_epi32(even, odd))
        }
    }

    #[inline(always)]
    unsafe fn load_sum(sums: *const u32) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe { _mm256_loadu_si256(sums.cast()) }
    }

    #[inline(always)]
    unsafe fn store_sum(sum: __m256i, sums: *mut u32) {
        // SAFETY: as the trait demands.
        unsafe { _mm256_storeu_si256(sums.cast(), sum) }
    }
}
