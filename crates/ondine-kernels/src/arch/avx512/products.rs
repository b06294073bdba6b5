//! How AVX-512 multiplies packed operands, and those of attention.

use std::{arch::x86_64::*, marker::PhantomData};

use crate::arch::{avx512::vector::F32x16, dot::Dot, product::Product};

/// Pairs of bf16 by pairs of bf16.
pub(in crate::arch) struct Pairs;

impl Product for Pairs {
    type Vector = F32x16<true>;
    const PER_WORD: usize = 2;
    const PANEL: usize = 16;
    const ROWS: usize = 8;
    const COARSE: bool = true;

    #[inline(always)]
    fn dot(sum: Self::Vector, left: Self::Vector, right: Self::Vector) -> Self::Vector {
        // SAFETY: as the trait says; `__m512bh` is 32 bf16, any bits are valid.
        unsafe {
            let left = std::mem::transmute::<__m512, __m512bh>(left.0);
            let right = std::mem::transmute::<__m512, __m512bh>(right.0);
            F32x16(_mm512_dpbf16_ps(sum.0, left, right))
        }
    }

    #[inline(always)]
    fn words(first: Self::Vector, second: Self::Vector) -> Self::Vector {
        // SAFETY: as the trait says.
        unsafe {
            // Weights are never so large that rounding up overflows; a NaN stays one, its bits being 0x7fc0_0000.
            let half = _mm512_set1_epi32(0x8000);
            let first = _mm512_add_epi32(_mm512_castps_si512(first.0), half);
            let second = _mm512_add_epi32(_mm512_castps_si512(second.0), half);
            F32x16(_mm512_castsi512_ps(_mm512_mask_blend_epi16(0xaaaa_aaaa, _mm512_srli_epi32::<16>(first), second)))
        }
    }
}

/// Queries and keys of 8 bits, weights and values as `P` has them.
pub(in crate::arch) struct Eights<P>(PhantomData<P>);

impl<const BF16: bool, P: Product<Vector = F32x16<BF16>>> Product for Eights<P> {
    type Vector = F32x16<BF16>;
    const PER_WORD: usize = P::PER_WORD;
    const PANEL: usize = P::PANEL;
    const ROWS: usize = P::ROWS;
    const COARSE: bool = true;
    const QUERIES_PER_WORD: usize = 4;
    const QUANTIZED: bool = true;

    #[inline(always)]
    fn dot(sum: Self::Vector, left: Self::Vector, right: Self::Vector) -> Self::Vector {
        P::dot(sum, left, right)
    }

    #[inline(always)]
    fn score(sum: Self::Vector, key: Self::Vector, query: Self::Vector) -> Self::Vector {
        // SAFETY: as the trait says.
        unsafe {
            let [sum, key, query] = [sum, key, query].map(|words| _mm512_castps_si512(words.0));
            F32x16(_mm512_castsi512_ps(_mm512_dpbusd_epi32(sum, key, query)))
        }
    }

    #[inline(always)]
    fn number(sum: Self::Vector) -> Self::Vector {
        // SAFETY: as the trait says.
        unsafe { F32x16(_mm512_cvtepi32_ps(_mm512_castps_si512(sum.0))) }
    }

    #[inline(always)]
    fn words(first: Self::Vector, second: Self::Vector) -> Self::Vector {
        P::words(first, second)
    }
}

/// `vfmadd231ps`
pub(in crate::arch) struct F32;

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
    unsafe fn dot_along(sum: __m512, row: *const u8, column: *const u32) -> __m512 {
        // SAFETY: as the trait demands.
        unsafe { Self::dot(sum, Self::load(row.cast()), Self::load(column)) }
    }

    #[inline(always)]
    unsafe fn total(sum: __m512) -> u32 {
        // SAFETY: as the trait demands.
        unsafe { _mm512_reduce_add_ps(sum).to_bits() }
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
pub(in crate::arch) struct Bf16;

impl Dot for Bf16 {
    type Left = __m512i;
    type Right = __m512i;
    type Sum = __m512;
    const LANES: usize = 16;
    const LINKED: usize = 2;

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
    unsafe fn dot_along(sum: __m512, row: *const u8, column: *const u32) -> __m512 {
        // SAFETY: as the trait demands.
        unsafe { Self::dot(sum, Self::load(row.cast()), Self::load(column)) }
    }

    #[inline(always)]
    unsafe fn total(sum: __m512) -> u32 {
        // SAFETY: as the trait demands.
        unsafe { F32::total(sum) }
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

/// Each half of the word made an f32, then `vfmadd231ps`.
pub(in crate::arch) struct Halves;

impl Dot for Halves {
    type Left = [__m512; 2];
    type Right = [__m512; 2];
    type Sum = __m512;
    const LANES: usize = 16;
    // Words taken apart need two registers each.
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: as the trait demands.
        unsafe { F32::zero() }
    }

    #[inline(always)]
    unsafe fn splat(word: *const u8) -> [__m512; 2] {
        // SAFETY: as the trait demands.
        unsafe { halves(_mm512_set1_epi32(word.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> [__m512; 2] {
        // SAFETY: as the trait demands.
        unsafe { halves(_mm512_loadu_si512(words.cast())) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m512, left: [__m512; 2], right: [__m512; 2]) -> __m512 {
        // SAFETY: as the trait demands.
        unsafe { _mm512_fmadd_ps(left[1], right[1], _mm512_fmadd_ps(left[0], right[0], sum)) }
    }

    #[inline(always)]
    unsafe fn dot_along(sum: __m512, row: *const u8, column: *const u32) -> __m512 {
        // SAFETY: as the trait demands.
        unsafe { Self::dot(sum, Self::load(row.cast()), Self::load(column)) }
    }

    #[inline(always)]
    unsafe fn total(sum: __m512) -> u32 {
        // SAFETY: as the trait demands.
        unsafe { F32::total(sum) }
    }

    #[inline(always)]
    unsafe fn load_sum(sums: *const u32) -> __m512 {
        // SAFETY: as the trait demands.
        unsafe { F32::load_sum(sums) }
    }

    #[inline(always)]
    unsafe fn store_sum(sum: __m512, sums: *mut u32) {
        // SAFETY: as the trait demands.
        unsafe { F32::store_sum(sum, sums) }
    }
}

/// The even and the odd bf16 as f32.
#[inline(always)]
unsafe fn halves(words: __m512i) -> [__m512; 2] {
    // SAFETY: the caller has AVX-512.
    unsafe {
        let odd = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32));
        [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(odd)]
    }
}

/// `vpdpbusd`, which does not saturate.
pub(in crate::arch) struct S8;

impl Dot for S8 {
    type Left = __m512i;
    type Right = __m512i;
    type Sum = __m512i;
    const LANES: usize = 16;
    const LINKED: usize = 4;

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
    unsafe fn dot_along(sum: __m512i, row: *const u8, column: *const u32) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe { Self::dot(sum, Self::load(row.cast()), Self::load(column)) }
    }

    #[inline(always)]
    unsafe fn total(sum: __m512i) -> u32 {
        // SAFETY: as the trait demands.
        unsafe { _mm512_reduce_add_epi32(sum) as u32 }
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
