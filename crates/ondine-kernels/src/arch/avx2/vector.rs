//! The vectors of AVX2.

use std::arch::x86_64::*;

use crate::arch::vector::{CodeVector, MAX_LANES, Vector, byte_masks};

/// 8 f32, where words of four bytes are multiplied by an instruction if `VNNI`. (Not the vector of the standard
/// library: that could be named anywhere.)
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in crate::arch) struct F32x8<const VNNI: bool>(pub(in crate::arch) __m256);

impl<const VNNI: bool> CodeVector for F32x8<VNNI> {
    type Table = [__m256; 2];

    const LOOKS_UP: bool = false;
    // Three units are for all of these, two of them for products.
    const MASKS_COMPETE: bool = VNNI;

    #[inline(always)]
    fn table(numbers: &[f32; 16]) -> Self::Table {
        // SAFETY: as the trait says; there are 16 numbers.
        unsafe { [_mm256_loadu_ps(numbers.as_ptr()), _mm256_loadu_ps(numbers.as_ptr().add(8))] }
    }

    #[inline(always)]
    fn looked_up(self, shift: u32, table: &Self::Table) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let index = _mm256_srlv_epi32(_mm256_castps_si256(self.0), _mm256_set1_epi32(shift as i32));
            let low = _mm256_permutevar8x32_ps(table[0], index);
            let high = _mm256_permutevar8x32_ps(table[1], index);
            // The fourth bit decides.
            Self(_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index))))
        }
    }

    #[inline(always)]
    fn signed<const BITS: u32>(self, shift: u32) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let up = _mm256_set1_epi32((32 - BITS - shift) as i32);
            let top = _mm256_sllv_epi32(_mm256_castps_si256(self.0), up);
            Self(_mm256_cvtepi32_ps(_mm256_srav_epi32(top, _mm256_set1_epi32((32 - BITS) as i32))))
        }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_cvtph_ps(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    fn bytes<const BITS: u32>(self, part: u32) -> Self {
        let (mask, half) = byte_masks::<BITS>();
        // SAFETY: as the trait says.
        unsafe {
            let words = _mm256_srlv_epi32(_mm256_castps_si256(self.0), _mm256_set1_epi32((part * BITS) as i32));
            let codes = _mm256_and_si256(words, _mm256_set1_epi32(mask));
            Self(_mm256_castsi256_ps(_mm256_xor_si256(codes, _mm256_set1_epi32(half))))
        }
    }

    #[inline(always)]
    fn six_bits(low: Self, high: Self, part: u32) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let low = _mm256_srlv_epi32(_mm256_castps_si256(low.0), _mm256_set1_epi32((part % 2 * 4) as i32));
            let high = _mm256_srlv_epi32(_mm256_castps_si256(high.0), _mm256_set1_epi32((part * 2) as i32));
            let low = _mm256_and_si256(low, _mm256_set1_epi32(0x0f0f_0f0f));
            let high = _mm256_slli_epi32::<4>(_mm256_and_si256(high, _mm256_set1_epi32(0x0303_0303)));
            Self(_mm256_castsi256_ps(_mm256_or_si256(low, high)))
        }
    }

    #[inline(always)]
    fn dot_bytes<const BITS: u32>(sum: Self, bytes: Self, signed: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let (sum, bytes, signed) =
                (_mm256_castps_si256(sum.0), _mm256_castps_si256(bytes.0), _mm256_castps_si256(signed.0));
            if VNNI {
                return Self(_mm256_castsi256_ps(_mm256_dpbusd_avx_epi32(sum, bytes, signed)));
            }
            let added = if BITS < 8 {
                // Two products of 63 by 128 at most fit 16 bits.
                _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, signed), _mm256_set1_epi16(1))
            } else {
                let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(signed));
                let even = _mm256_madd_epi16(_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), even);
                let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(bytes), _mm256_srai_epi16::<8>(signed));
                _mm256_add_epi32(even, odd)
            };
            Self(_mm256_castsi256_ps(_mm256_add_epi32(sum, added)))
        }
    }

    #[inline(always)]
    fn prefetch<const SECOND: bool>(at: *const u8) {
        // SAFETY: as the trait says; nothing is read.
        unsafe { if SECOND { _mm_prefetch::<_MM_HINT_T1>(at.cast()) } else { _mm_prefetch::<_MM_HINT_T0>(at.cast()) } }
    }
}

impl<const VNNI: bool> Vector for F32x8<VNNI> {
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())))))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as the trait says.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: as the trait says.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0));
            let kept = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
            let halves = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(kept, kept));
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(halves));
        }
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_cvtepi32_ps(_mm256_loadu_si256(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn load_codes(from: *const i8) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: as the trait says.
        unsafe {
            let low = _mm256_and_si256(_mm256_castps_si256(self.0), _mm256_set1_epi32(0xff));
            let words = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(low, low));
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_castsi256_si128(words));
            _mm_storel_epi64(to.cast(), bytes);
        }
    }

    #[inline(always)]
    unsafe fn load_less(from: *const i32, less: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let less = _mm256_castps_si256(less.0);
            Self(_mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_loadu_si256(from.cast()), less)))
        }
    }

    #[inline(always)]
    fn times_integer(self, by: i32) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_castsi256_ps(_mm256_mullo_epi32(_mm256_set1_epi32(by), _mm256_castps_si256(self.0)))) }
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_add_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_sub_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_mul_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_div_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_fmadd_ps(self.0, b.0, c.0)) }
    }

    #[inline(always)]
    fn if_greater(self, than: Self, yes: Self, no: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, than.0))) }
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_max_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_min_ps(self.0, b.0)) }
    }

    #[inline(always)]
    fn any_greater(self, than: Self) -> bool {
        // SAFETY: as the trait says.
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self.0, than.0)) != 0 }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)) }
    }

    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let mask = _mm256_set1_ps(-0.0);
            Self(_mm256_or_ps(_mm256_andnot_ps(mask, self.0), _mm256_and_ps(mask, sign.0)))
        }
    }

    #[inline(always)]
    fn add_exponent(self, n: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let n = _mm256_slli_epi32::<23>(_mm256_castps_si256(n.0));
            Self(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(self.0), n)))
        }
    }

    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            // In two factors, since `n` may lie outside the range of exponents.
            let n = _mm256_cvtps_epi32(n.0);
            let half = _mm256_srai_epi32::<1>(n);
            let bias = _mm256_set1_epi32(127);
            let power = |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, bias)));
            Self(_mm256_mul_ps(_mm256_mul_ps(self.0, power(half)), power(_mm256_sub_epi32(n, half))))
        }
    }

    #[inline(always)]
    fn max_magnitude(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let (a, b) = (_mm256_castps_si256(self.abs().0), _mm256_castps_si256(b.abs().0));
            Self(_mm256_castsi256_ps(_mm256_max_epu32(a, b)))
        }
    }

    #[inline(always)]
    fn largest_magnitude(self) -> f32 {
        // SAFETY: as the trait says.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let half = _mm_max_epu32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256::<1>(bits));
            let pair = _mm_max_epu32(half, _mm_shuffle_epi32::<0b1110>(half));
            let one = _mm_max_epu32(pair, _mm_shuffle_epi32::<1>(pair));
            f32::from_bits(_mm_cvtsi128_si32(one) as u32)
        }
    }

    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "the index is that of a column, of several arrays at once")]
    unsafe fn transpose(rows: &[*const f32; MAX_LANES], offset: usize, to: *mut f32, stride: usize) {
        // SAFETY: as the trait says.
        unsafe {
            let mut words = [_mm256_setzero_ps(); 8];
            for (i, words) in words.iter_mut().enumerate() {
                *words = _mm256_loadu_ps(rows[i].add(offset));
            }
            // Blocks of 2 by 2 words, of 4 by 4, then the two halves of vectors.
            let mut pairs = [_mm256_setzero_pd(); 8];
            for i in 0..8 {
                let (a, b) = (words[i & !1], words[i | 1]);
                pairs[i] =
                    _mm256_castps_pd(if i % 2 == 0 { _mm256_unpacklo_ps(a, b) } else { _mm256_unpackhi_ps(a, b) });
            }
            // Of each four rows, column `i % 4` of each half.
            let mut quads = [_mm256_setzero_ps(); 8];
            for i in 0..8 {
                let first = (i & !3) + (i % 4) / 2;
                let (a, b) = (pairs[first], pairs[first + 2]);
                quads[i] =
                    _mm256_castpd_ps(if i % 2 == 0 { _mm256_unpacklo_pd(a, b) } else { _mm256_unpackhi_pd(a, b) });
            }
            for i in 0..8 {
                let (a, b) = (quads[i % 4], quads[4 + i % 4]);
                let column =
                    if i < 4 { _mm256_permute2f128_ps::<0x20>(a, b) } else { _mm256_permute2f128_ps::<0x31>(a, b) };
                _mm256_storeu_ps(to.add(i * stride), column);
            }
        }
    }
}
