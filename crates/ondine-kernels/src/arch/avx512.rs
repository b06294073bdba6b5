//! AVX-512: 6 rows by 4 vectors of 16 lanes.

use std::arch::x86_64::*;

use crate::arch::{
    dot::{Dot, Tile},
    enter::enter,
    isa::Isa,
    product::{Product, Single},
    vector::{CodeVector, MAX_LANES, Vector, byte_masks},
};

/// AVX-512 F, BW, DQ, VL, BF16 and VNNI, and all of AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

enter!(
    Avx512, "avx512", is_x86_feature_detected:
    "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512bf16" "avx512vnni"
);

impl Isa for Avx512 {
    const FMA: bool = true;
    const TILE: Tile = Tile { lanes: 16, width: 64, rows: 6 };
    const WIDE_COUNT: usize = 4;

    type Vector = F32x16;
    type Wide = F32x16;

    type F32 = F32;
    type Bf16 = Bf16;
    type S8 = S8;

    type AttentionF32 = Single<F32x16, 16, 8>;
    type AttentionBf16 = Pairs;
    type AttentionS8 = Eights;
}

/// 16 f32. (Not the vector of the standard library: that could be named anywhere.)
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct F32x16(__m512);

impl CodeVector for F32x16 {
    type Table = __m512;

    const LOOKS_UP: bool = true;

    #[inline(always)]
    fn table(numbers: &[f32; 16]) -> Self::Table {
        // SAFETY: as the trait says; there are 16 numbers.
        unsafe { _mm512_loadu_ps(numbers.as_ptr()) }
    }

    #[inline(always)]
    fn looked_up(self, shift: u32, table: &Self::Table) -> Self {
        // SAFETY: as the trait says. Of an index the lowest four bits count.
        unsafe {
            let index = _mm512_srlv_epi32(_mm512_castps_si512(self.0), _mm512_set1_epi32(shift as i32));
            Self(_mm512_permutexvar_ps(index, *table))
        }
    }

    #[inline(always)]
    fn signed<const BITS: u32>(self, shift: u32) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let up = _mm512_set1_epi32((32 - BITS - shift) as i32);
            let top = _mm512_sllv_epi32(_mm512_castps_si512(self.0), up);
            Self(_mm512_cvtepi32_ps(_mm512_srav_epi32(top, _mm512_set1_epi32((32 - BITS) as i32))))
        }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
    }

    #[inline(always)]
    fn bytes<const BITS: u32>(self, part: u32) -> Self {
        let (mask, half) = byte_masks::<BITS>();
        // SAFETY: as the trait says.
        unsafe {
            let words = _mm512_srlv_epi32(_mm512_castps_si512(self.0), _mm512_set1_epi32((part * BITS) as i32));
            // (words & mask) ^ half
            let bytes =
                _mm512_ternarylogic_epi32::<0b0110_1010>(words, _mm512_set1_epi32(mask), _mm512_set1_epi32(half));
            Self(_mm512_castsi512_ps(bytes))
        }
    }

    #[inline(always)]
    fn six_bits(low: Self, high: Self, part: u32) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let low = _mm512_srlv_epi32(_mm512_castps_si512(low.0), _mm512_set1_epi32((part % 2 * 4) as i32));
            // The upper bits of each byte come to bits 4 and 5, whatever else comes along.
            let high = _mm512_rolv_epi32(_mm512_castps_si512(high.0), _mm512_set1_epi32(4 - 2 * part as i32));
            let low = _mm512_and_si512(low, _mm512_set1_epi32(0x0f0f_0f0f));
            // (high & mask) | low
            let bytes = _mm512_ternarylogic_epi32::<0b1110_1010>(high, _mm512_set1_epi32(0x3030_3030), low);
            Self(_mm512_castsi512_ps(bytes))
        }
    }

    #[inline(always)]
    fn dot_bytes<const BITS: u32>(sum: Self, bytes: Self, signed: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let (bytes, signed) = (_mm512_castps_si512(bytes.0), _mm512_castps_si512(signed.0));
            Self(_mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(sum.0), bytes, signed)))
        }
    }

    #[inline(always)]
    fn number(self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_cvtepi32_ps(_mm512_castps_si512(self.0))) }
    }

    #[inline(always)]
    fn prefetch<const SECOND: bool>(at: *const u8) {
        // SAFETY: as the trait says; nothing is read.
        unsafe { if SECOND { _mm_prefetch::<_MM_HINT_T1>(at.cast()) } else { _mm_prefetch::<_MM_HINT_T0>(at.cast()) } }
    }
}

/// The mask of the first lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    ((1_u32 << count) - 1) as __mmask16
}

impl Vector for F32x16 {
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())))))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as the trait says.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: as the trait says.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self.0));
            _mm256_storeu_si256(to.cast(), rounded);
        }
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> Self {
        // SAFETY: as the trait says; lanes that are masked are not read.
        unsafe { Self(_mm512_maskz_loadu_ps(first(count), from)) }
    }

    #[inline(always)]
    unsafe fn load_bf16_some(from: *const u16, count: usize) -> Self {
        // SAFETY: as the trait says; lanes that are masked are not read.
        unsafe {
            let halves = _mm256_maskz_loadu_epi16(first(count), from.cast());
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves))))
        }
    }

    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        // SAFETY: as the trait says; lanes that are masked are not written.
        unsafe { _mm512_mask_storeu_ps(to, first(count), self.0) }
    }

    #[inline(always)]
    unsafe fn store_bf16_some(self, to: *mut u16, count: usize) {
        // SAFETY: as the trait says; lanes that are masked are not written.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self.0));
            _mm256_mask_storeu_epi16(to.cast(), first(count), rounded);
        }
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_cvtepi32_ps(_mm512_loadu_si512(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn load_codes(from: *const i8) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn store_bytes_some(self, to: *mut u8, count: usize) {
        // SAFETY: as the trait says; lanes that are masked are not written.
        unsafe { _mm_mask_storeu_epi8(to.cast(), first(count), _mm512_cvtepi32_epi8(_mm512_castps_si512(self.0))) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: as the trait says.
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_castps_si512(self.0))) }
    }

    #[inline(always)]
    unsafe fn load_less(from: *const i32, less: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let less = _mm512_castps_si512(less.0);
            Self(_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(from.cast()), less)))
        }
    }

    #[inline(always)]
    fn times_integer(self, by: i32) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_castsi512_ps(_mm512_mullo_epi32(_mm512_set1_epi32(by), _mm512_castps_si512(self.0)))) }
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_add_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_sub_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_mul_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_div_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_fmadd_ps(self.0, b.0, c.0)) }
    }

    #[inline(always)]
    fn if_greater(self, than: Self, yes: Self, no: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, than.0), no.0, yes.0)) }
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_max_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_min_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn any_greater(self, than: Self) -> bool {
        // SAFETY: as the trait says.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, than.0) != 0 }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_abs_ps(self.0)) }
    }

    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_or_ps(_mm512_abs_ps(self.0), _mm512_and_ps(sign.0, _mm512_set1_ps(-0.0)))) }
    }

    #[inline(always)]
    fn add_exponent(self, n: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(n.0));
            Self(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self.0), n)))
        }
    }

    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm512_scalef_ps(self.0, n.0)) }
    }

    #[inline(always)]
    fn max_magnitude(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let (a, b) = (_mm512_castps_si512(_mm512_abs_ps(self.0)), _mm512_castps_si512(_mm512_abs_ps(b.0)));
            Self(_mm512_castsi512_ps(_mm512_max_epu32(a, b)))
        }
    }

    #[inline(always)]
    fn largest_magnitude(self) -> f32 {
        // SAFETY: as the trait says.
        f32::from_bits(unsafe { _mm512_reduce_max_epu32(_mm512_castps_si512(self.0)) })
    }

    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "the index is that of a column, of several arrays at once")]
    unsafe fn transpose(rows: &[*const f32; MAX_LANES], offset: usize, to: *mut f32, stride: usize) {
        // SAFETY: as the trait says.
        unsafe {
            let mut words = [_mm512_setzero_ps(); 16];
            for (i, words) in words.iter_mut().enumerate() {
                *words = _mm512_loadu_ps(rows[i].add(offset));
            }
            // Blocks of 2 by 2 words, of 4 by 4, of 8 by 8, then the two halves of vectors.
            let mut pairs = [_mm512_setzero_pd(); 16];
            for i in 0..16 {
                let (a, b) = (words[i & !1], words[i | 1]);
                pairs[i] =
                    _mm512_castps_pd(if i % 2 == 0 { _mm512_unpacklo_ps(a, b) } else { _mm512_unpackhi_ps(a, b) });
            }
            // Of each four rows, column `i % 4` of each quarter.
            let mut quads = [_mm512_setzero_ps(); 16];
            for i in 0..16 {
                let first = (i & !3) + (i % 4) / 2;
                let (a, b) = (pairs[first], pairs[first + 2]);
                quads[i] =
                    _mm512_castpd_ps(if i % 2 == 0 { _mm512_unpacklo_pd(a, b) } else { _mm512_unpackhi_pd(a, b) });
            }
            // Of each eight rows, quarters 0 and 1 or 2 and 3.
            let mut halves = [_mm512_setzero_ps(); 16];
            for i in 0..16 {
                let (a, b) = (quads[(i & 8) + i % 4], quads[(i & 8) + 4 + i % 4]);
                halves[i] =
                    if i & 4 == 0 { _mm512_shuffle_f32x4::<0x44>(a, b) } else { _mm512_shuffle_f32x4::<0xee>(a, b) };
            }
            for i in 0..16 {
                let (a, b) = (halves[(i / 8) * 4 + i % 4], halves[8 + (i / 8) * 4 + i % 4]);
                let column =
                    if i & 4 == 0 { _mm512_shuffle_f32x4::<0x88>(a, b) } else { _mm512_shuffle_f32x4::<0xdd>(a, b) };
                _mm512_storeu_ps(to.add(i * stride), column);
            }
        }
    }
}

/// Pairs of bf16 by pairs of bf16.
pub(super) struct Pairs;

impl Product for Pairs {
    type Vector = F32x16;
    const PER_WORD: usize = 2;
    const PANEL: usize = 16;
    const ROWS: usize = 8;
    const COARSE: bool = true;

    #[inline(always)]
    fn dot(sum: F32x16, left: F32x16, right: F32x16) -> F32x16 {
        // SAFETY: as the trait says; `__m512bh` is 32 bf16, any bits are valid.
        unsafe {
            let left = std::mem::transmute::<__m512, __m512bh>(left.0);
            let right = std::mem::transmute::<__m512, __m512bh>(right.0);
            F32x16(_mm512_dpbf16_ps(sum.0, left, right))
        }
    }

    #[inline(always)]
    fn words(first: F32x16, second: F32x16) -> F32x16 {
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

/// Queries and keys of 8 bits, weights and values of bf16.
pub(super) struct Eights;

impl Product for Eights {
    type Vector = F32x16;
    const PER_WORD: usize = Pairs::PER_WORD;
    const PANEL: usize = Pairs::PANEL;
    const ROWS: usize = Pairs::ROWS;
    const COARSE: bool = Pairs::COARSE;
    const QUERIES_PER_WORD: usize = 4;
    const QUANTIZED: bool = true;

    #[inline(always)]
    fn dot(sum: F32x16, left: F32x16, right: F32x16) -> F32x16 {
        Pairs::dot(sum, left, right)
    }

    #[inline(always)]
    fn score(sum: F32x16, key: F32x16, query: F32x16) -> F32x16 {
        // SAFETY: as the trait says.
        unsafe {
            let [sum, key, query] = [sum, key, query].map(|words| _mm512_castps_si512(words.0));
            F32x16(_mm512_castsi512_ps(_mm512_dpbusd_epi32(sum, key, query)))
        }
    }

    #[inline(always)]
    fn number(sum: F32x16) -> F32x16 {
        // SAFETY: as the trait says.
        unsafe { F32x16(_mm512_cvtepi32_ps(_mm512_castps_si512(sum.0))) }
    }

    #[inline(always)]
    fn words(first: F32x16, second: F32x16) -> F32x16 {
        Pairs::words(first, second)
    }
}

/// `vfmadd231ps`
pub(super) struct F32;

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
pub(super) struct Bf16;

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

/// `vpdpbusd`, which does not saturate.
pub(super) struct S8;

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
