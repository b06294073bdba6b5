//! The vectors of AVX-512.

use std::arch::x86_64::*;

use crate::arch::vector::{CodeVector, MAX_LANES, Vector, byte_masks};

/// 16 f32, which become bf16 by an instruction if `BF16`. (Not the vector of the standard library: that could be named
/// anywhere.)
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in crate::arch) struct F32x16<const BF16: bool>(pub(in crate::arch) __m512);

impl<const BF16: bool> F32x16<BF16> {
    /// As bf16, rounded to nearest even.
    #[inline(always)]
    fn bf16(self) -> __m256i {
        // SAFETY: as `Vector` says; a tier that has the instruction says so.
        unsafe {
            if BF16 {
                return std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self.0));
            }
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            // NaN stays one, whatever its bits.
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            let bits = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x0040_0000));
            _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(bits))
        }
    }
}

impl<const BF16: bool> CodeVector for F32x16<BF16> {
    type Table = __m512;

    const LOOKS_UP: bool = true;
    // Intel's processors, which this is for without products of bf16, have two units for all of these.
    const MASKS_COMPETE: bool = !BF16;

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

impl<const BF16: bool> Vector for F32x16<BF16> {
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
        unsafe { _mm256_storeu_si256(to.cast(), self.bf16()) }
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
        unsafe { _mm256_mask_storeu_epi16(to.cast(), first(count), self.bf16()) }
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
