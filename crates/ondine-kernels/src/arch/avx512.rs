//! AVX-512: 6 rows by 4 vectors of 16 lanes.

use std::arch::x86_64::*;

use crate::{
    arch::{
        Avx512,
        vector::{CodeVector, Vector},
    },
    attention::{AttentionKernels, Product, Single, Task},
    gemm::{
        decode::CodedCall,
        epilogue::MAX_LANES,
        micro::{Dot, GemmKernels, MicroCall, tile},
    },
    math,
    probe::{ProbeKernels, chains},
    rowwise::RowKernel,
};

/// The matrix kernels of this tier.
pub(crate) const GEMM: GemmKernels = GemmKernels {
    lanes: 16,
    width: 64,
    rows: 6,
    f32: micro::<F32>,
    bf16: micro::<Bf16>,
    s8: micro::<S8>,
    coded,
    epilogue: |call| enter(call),
    pack: |call| enter(call),
    attention_f32: AttentionKernels::new::<Single<__m512, 16>>(2, attend::<Single<__m512, 16>>),
    attention_bf16: AttentionKernels::new::<Pairs>(2, attend::<Pairs>),
    attention_s8: AttentionKernels::new::<Eights>(2, attend::<Eights>),
    depthwise: |call| enter(call),
    winograd_input: |call| enter(call),
    winograd_output: |call| enter(call),
    recurrent: |call| enter(call),
};

/// What this tier can do at most.
pub(crate) const PROBE: ProbeKernels = ProbeKernels {
    f32: |loops| probe::<F32>(loops, 1.0_f32.to_bits(), 1),
    bf16: Some(|loops| probe::<Bf16>(loops, 0x3f80_3f80, 2)),
    s8: Some(|loops| probe::<S8>(loops, 0x0102_0304, 4)),
    read: |kernel| enter(kernel),
};

fn probe<D: Dot>(loops: usize, word: u32, elements: usize) -> u64 {
    #[target_feature(enable = "avx512f,avx512bf16,avx512vnni")]
    fn inner<D: Dot>(loops: usize, word: u32, elements: usize) -> u64 {
        // SAFETY: this function has the features.
        unsafe { chains::<D, 16>(loops, word, elements) }
    }
    // SAFETY: only the table of a tier that the processor has refers to this function.
    unsafe { inner::<D>(loops, word, elements) }
}

/// Runs a kernel with all features of this tier.
fn enter<K: RowKernel>(kernel: K) -> K::Output {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")]
    fn inner<K: RowKernel>(kernel: K) -> K::Output {
        kernel.run::<Avx512>()
    }
    // SAFETY: only the table of a tier that the processor has refers to this function.
    unsafe { inner(kernel) }
}

/// Runs a task of attention with all features of this tier.
fn attend<P: Product>(task: Task<'_>) {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")]
    fn inner<P: Product>(task: Task<'_>) {
        task.run::<P, 8, 2>();
    }
    // SAFETY: only the table of a tier that the processor has refers to this function.
    unsafe { inner::<P>(task) }
}

/// Reads codes with all features of this tier.
fn coded(call: &CodedCall) {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")]
    fn inner(call: &CodedCall) {
        call.run::<__m512, 4>();
    }
    // SAFETY: only the table of a tier that the processor has refers to this function.
    unsafe { inner(call) }
}

/// Pairs of bf16 by pairs of bf16.
struct Pairs;

impl Product for Pairs {
    type Vector = __m512;
    const PER_WORD: usize = 2;
    const PANEL: usize = 16;

    #[inline(always)]
    fn dot(sum: __m512, left: __m512, right: __m512) -> __m512 {
        // SAFETY: as the trait says; `__m512bh` is 32 bf16, any bits are valid.
        unsafe {
            let left = std::mem::transmute::<__m512, __m512bh>(left);
            let right = std::mem::transmute::<__m512, __m512bh>(right);
            _mm512_dpbf16_ps(sum, left, right)
        }
    }

    #[inline(always)]
    fn exp2(x: __m512) -> __m512 {
        math::exp2_coarse(x)
    }

    #[inline(always)]
    fn words(first: __m512, second: __m512) -> __m512 {
        // SAFETY: as the trait says.
        unsafe {
            // Weights are never so large that rounding up overflows; a NaN stays one, its bits being 0x7fc0_0000.
            let half = _mm512_set1_epi32(0x8000);
            let first = _mm512_add_epi32(_mm512_castps_si512(first), half);
            let second = _mm512_add_epi32(_mm512_castps_si512(second), half);
            _mm512_castsi512_ps(_mm512_mask_blend_epi16(0xaaaa_aaaa, _mm512_srli_epi32::<16>(first), second))
        }
    }
}

/// Queries and keys of 8 bits, weights and values of bf16.
struct Eights;

impl Product for Eights {
    type Vector = __m512;
    const PER_WORD: usize = Pairs::PER_WORD;
    const PANEL: usize = Pairs::PANEL;
    const QUERIES_PER_WORD: usize = 4;
    const QUANTIZED: bool = true;

    #[inline(always)]
    fn dot(sum: __m512, left: __m512, right: __m512) -> __m512 {
        Pairs::dot(sum, left, right)
    }

    #[inline(always)]
    fn score(sum: __m512, key: __m512, query: __m512) -> __m512 {
        // SAFETY: as the trait says.
        unsafe {
            let [sum, key, query] = [_mm512_castps_si512(sum), _mm512_castps_si512(key), _mm512_castps_si512(query)];
            _mm512_castsi512_ps(_mm512_dpbusd_epi32(sum, key, query))
        }
    }

    #[inline(always)]
    fn number(sum: __m512) -> __m512 {
        // SAFETY: as the trait says.
        unsafe { _mm512_cvtepi32_ps(_mm512_castps_si512(sum)) }
    }

    #[inline(always)]
    fn exp2(x: __m512) -> __m512 {
        Pairs::exp2(x)
    }

    #[inline(always)]
    fn words(first: __m512, second: __m512) -> __m512 {
        Pairs::words(first, second)
    }
}

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

impl CodeVector for __m512 {
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
            let index = _mm512_srlv_epi32(_mm512_castps_si512(self), _mm512_set1_epi32(shift as i32));
            _mm512_permutexvar_ps(index, *table)
        }
    }

    #[inline(always)]
    fn signed<const BITS: u32>(self, shift: u32) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let up = _mm512_set1_epi32((32 - BITS - shift) as i32);
            let top = _mm512_sllv_epi32(_mm512_castps_si512(self), up);
            _mm512_cvtepi32_ps(_mm512_srav_epi32(top, _mm512_set1_epi32((32 - BITS) as i32)))
        }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
}

/// The mask of the first lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    ((1_u32 << count) - 1) as __mmask16
}

impl Vector for __m512 {
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as the trait says.
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: as the trait says.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self));
            _mm256_storeu_si256(to.cast(), rounded);
        }
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> Self {
        // SAFETY: as the trait says; lanes that are masked are not read.
        unsafe { _mm512_maskz_loadu_ps(first(count), from) }
    }

    #[inline(always)]
    unsafe fn load_bf16_some(from: *const u16, count: usize) -> Self {
        // SAFETY: as the trait says; lanes that are masked are not read.
        unsafe {
            let halves = _mm256_maskz_loadu_epi16(first(count), from.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }

    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        // SAFETY: as the trait says; lanes that are masked are not written.
        unsafe { _mm512_mask_storeu_ps(to, first(count), self) }
    }

    #[inline(always)]
    unsafe fn store_bf16_some(self, to: *mut u16, count: usize) {
        // SAFETY: as the trait says; lanes that are masked are not written.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self));
            _mm256_mask_storeu_epi16(to.cast(), first(count), rounded);
        }
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_cvtepi32_ps(_mm512_loadu_si512(from.cast())) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: as the trait says.
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_castps_si512(self))) }
    }

    #[inline(always)]
    unsafe fn corrected(sums: *const i32, zero: i32, weights: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let weights = _mm512_mullo_epi32(_mm512_set1_epi32(zero), _mm512_castps_si512(weights));
            _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(sums.cast()), weights))
        }
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_add_ps(self, b) }
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_sub_ps(self, b) }
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_mul_ps(self, b) }
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_div_ps(self, b) }
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_fmadd_ps(self, b, c) }
    }

    #[inline(always)]
    fn if_greater(self, than: Self, yes: Self, no: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self, than), no, yes) }
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_max_ps(self, b) }
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_min_ps(self, b) }
    }

    #[inline(always)]
    fn any_greater(self, than: Self) -> bool {
        // SAFETY: as the trait says.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self, than) != 0 }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_abs_ps(self) }
    }

    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_or_ps(_mm512_abs_ps(self), _mm512_and_ps(sign, _mm512_set1_ps(-0.0))) }
    }

    #[inline(always)]
    fn add_exponent(self, n: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(n));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self), n))
        }
    }

    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_scalef_ps(self, n) }
    }

    #[inline(always)]
    fn max_magnitude(self, b: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let (a, b) = (_mm512_castps_si512(_mm512_abs_ps(self)), _mm512_castps_si512(_mm512_abs_ps(b)));
            _mm512_castsi512_ps(_mm512_max_epu32(a, b))
        }
    }

    #[inline(always)]
    fn largest_magnitude(self) -> f32 {
        // SAFETY: as the trait says.
        f32::from_bits(unsafe { _mm512_reduce_max_epu32(_mm512_castps_si512(self)) })
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
