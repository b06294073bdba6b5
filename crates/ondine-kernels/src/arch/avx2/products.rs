//! How AVX2 multiplies packed operands, and those of attention.

use std::arch::x86_64::*;

use crate::arch::{
    avx2::vector::F32x8,
    dot::Dot,
    product::Product,
    vector::{CodeVector, Vector},
};

/// Queries and keys of 8 bits, weights and values of f32.
pub(in crate::arch) struct Eights;

impl Product for Eights {
    type Vector = F32x8<true>;
    const PER_WORD: usize = 1;
    const PANEL: usize = 6;
    const ROWS: usize = 6;
    const COARSE: bool = true;
    const QUERIES_PER_WORD: usize = 4;
    const QUANTIZED: bool = true;

    #[inline(always)]
    fn dot(sum: Self::Vector, left: Self::Vector, right: Self::Vector) -> Self::Vector {
        left.mul_add(right, sum)
    }

    #[inline(always)]
    fn score(sum: Self::Vector, key: Self::Vector, query: Self::Vector) -> Self::Vector {
        Self::Vector::dot_bytes::<8>(sum, key, query)
    }

    #[inline(always)]
    fn number(sum: Self::Vector) -> Self::Vector {
        // SAFETY: as the trait says.
        unsafe { F32x8(_mm256_cvtepi32_ps(_mm256_castps_si256(sum.0))) }
    }

    #[inline(always)]
    fn words(first: Self::Vector, _second: Self::Vector) -> Self::Vector {
        first
    }
}

/// `vfmadd231ps`
pub(in crate::arch) struct F32;

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
    unsafe fn dot_along(sum: __m256, row: *const u8, column: *const u32) -> __m256 {
        // SAFETY: as the trait demands.
        unsafe { Self::dot(sum, Self::load(row.cast()), Self::load(column)) }
    }

    #[inline(always)]
    unsafe fn total(sum: __m256) -> u32 {
        // SAFETY: as the trait demands.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two))).to_bits()
        }
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
pub(in crate::arch) struct Bf16;

impl Dot for Bf16 {
    type Left = (__m256, __m256);
    type Right = (__m256, __m256);
    type Sum = __m256;
    const LANES: usize = 8;
    // Words taken apart need two registers each, and there are 16.
    const ROWS: usize = 4;

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
    unsafe fn dot_along(sum: __m256, row: *const u8, column: *const u32) -> __m256 {
        // SAFETY: as the trait demands.
        unsafe { Self::dot(sum, Self::load(row.cast()), Self::load(column)) }
    }

    #[inline(always)]
    unsafe fn total(sum: __m256) -> u32 {
        // SAFETY: as the trait demands.
        unsafe { F32::total(sum) }
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
pub(in crate::arch) struct S8;

impl Dot for S8 {
    type Left = (__m256i, __m256i);
    type Right = (__m256i, __m256i);
    type Sum = __m256i;
    const LANES: usize = 8;
    const LINKED: usize = 2;

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

    /// `vpmaddwd` and an addition; the sums themselves are multiplied.
    #[inline(always)]
    unsafe fn link(sum: __m256i, left: (__m256i, __m256i), right: (__m256i, __m256i)) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe { _mm256_add_epi32(left.0, _mm256_madd_epi16(sum, right.0)) }
    }

    #[inline(always)]
    unsafe fn dot_along(sum: __m256i, row: *const u8, column: *const u32) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe {
            let row = _mm256_loadu_si256(row.cast());
            let bytes = (_mm256_and_si256(row, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(row));
            Self::dot(sum, bytes, Self::load(column))
        }
    }

    #[inline(always)]
    unsafe fn total(sum: __m256i) -> u32 {
        // SAFETY: as the trait demands.
        unsafe {
            let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two))) as u32
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

/// `vpdpbusd`, which does not saturate.
pub(in crate::arch) struct S8Vnni;

impl Dot for S8Vnni {
    type Left = __m256i;
    type Right = __m256i;
    type Sum = __m256i;
    const LANES: usize = 8;
    const LINKED: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: as the trait demands.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn splat(word: *const u8) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe { _mm256_set1_epi32(word.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe { _mm256_loadu_si256(words.cast()) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m256i, left: __m256i, right: __m256i) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe { _mm256_dpbusd_avx_epi32(sum, left, right) }
    }

    #[inline(always)]
    unsafe fn dot_along(sum: __m256i, row: *const u8, column: *const u32) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe { Self::dot(sum, Self::load(row.cast()), Self::load(column)) }
    }

    #[inline(always)]
    unsafe fn total(sum: __m256i) -> u32 {
        // SAFETY: as the trait demands.
        unsafe { S8::total(sum) }
    }

    #[inline(always)]
    unsafe fn load_sum(sums: *const u32) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe { S8::load_sum(sums) }
    }

    #[inline(always)]
    unsafe fn store_sum(sum: __m256i, sums: *mut u32) {
        // SAFETY: as the trait demands.
        unsafe { S8::store_sum(sum, sums) }
    }
}
