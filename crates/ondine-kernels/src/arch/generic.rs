//! Any processor: 4 rows by 1 vector of 8 lanes, in plain Rust.

use std::hint::black_box;

use crate::{
    arch::Generic,
    gemm::micro::{Dot, GemmKernels, MicroCall, tile},
    math::bf16_value,
    probe::ProbeKernels,
    rowwise::Enter,
};

const LANES: usize = 8;

/// The matrix kernels of this tier.
pub(crate) const GEMM: GemmKernels = GemmKernels {
    lanes: LANES,
    width: 2 * LANES,
    rows: 4,
    f32: micro::<F32>,
    bf16: micro::<Bf16>,
    s8: micro::<S8>,
    epilogue: |call| Generic::enter(call),
    pack: |call| Generic::enter(call),
    attend: |call| Generic::enter(call),
    attend_end: |call| Generic::enter(call),
    depthwise: |call| Generic::enter(call),
    winograd_input: |call| Generic::enter(call),
    winograd_output: |call| Generic::enter(call),
};

/// What this tier can do at most.
pub(crate) const PROBE: ProbeKernels =
    ProbeKernels { f32: probe, bf16: None, s8: None, read: |kernel| Generic::enter(kernel) };

/// A multiplication and an addition. The sums themselves are multiplied: products of operands that stay the same
/// would be taken out of the loop.
fn probe(loops: usize) -> u64 {
    /// Vectors of sums and their lanes: with the operands beside them they fit into 16 registers of 16 bytes.
    const CHAINS: usize = 12;
    const LANES: usize = 4;
    let (left, right) = (black_box([1.0_f32; LANES]), black_box([0.5_f32; LANES]));
    let mut sums = [left; CHAINS];
    for _ in 0..loops {
        for sum in &mut sums {
            for (sum, (left, right)) in sum.iter_mut().zip(left.iter().zip(right)) {
                *sum = *sum * right + left;
            }
        }
    }
    black_box(sums);
    (2 * loops * CHAINS * LANES) as u64
}

/// # Safety
/// See [`crate::gemm::micro::Micro`].
unsafe fn micro<D: Dot>(call: &MicroCall) {
    // SAFETY: `Micro` has this function's obligations.
    unsafe {
        match (call.count, call.vectors) {
            (1, 1) => tile::<D, 1, 1>(call),
            (1, _) => tile::<D, 1, 2>(call),
            (2, 1) => tile::<D, 2, 1>(call),
            (2, _) => tile::<D, 2, 2>(call),
            (_, 1) => tile::<D, 4, 1>(call),
            _ => tile::<D, 4, 2>(call),
        }
    }
}

#[inline(always)]
unsafe fn read<T: Copy>(words: *const u32) -> [T; LANES] {
    // SAFETY: the caller vouches for `LANES` words, and every `T` here has 4 bytes and no invalid values.
    unsafe { words.cast::<[T; LANES]>().read_unaligned() }
}

#[inline(always)]
unsafe fn write<T: Copy>(values: [T; LANES], words: *mut u32) {
    // SAFETY: the caller vouches for `LANES` words, and every `T` here has 4 bytes.
    unsafe { words.cast::<[T; LANES]>().write_unaligned(values) }
}

struct F32;

impl Dot for F32 {
    type Left = f32;
    type Right = [f32; LANES];
    type Sum = [f32; LANES];
    const LANES: usize = LANES;

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn splat(word: *const u8) -> f32 {
        // SAFETY: as the trait demands.
        unsafe { word.cast::<f32>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> Self::Right {
        // SAFETY: as the trait demands.
        unsafe { read(words) }
    }

    #[inline(always)]
    unsafe fn dot(mut sum: Self::Sum, left: f32, right: Self::Right) -> Self::Sum {
        for (sum, right) in sum.iter_mut().zip(right) {
            *sum += left * right;
        }
        sum
    }

    #[inline(always)]
    unsafe fn load_sum(sums: *const u32) -> Self::Sum {
        // SAFETY: as the trait demands.
        unsafe { read(sums) }
    }

    #[inline(always)]
    unsafe fn store_sum(sum: Self::Sum, sums: *mut u32) {
        // SAFETY: as the trait demands.
        unsafe { write(sum, sums) }
    }
}

struct Bf16;

impl Dot for Bf16 {
    type Left = [f32; 2];
    type Right = [u32; LANES];
    type Sum = [f32; LANES];
    const LANES: usize = LANES;

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn splat(word: *const u8) -> [f32; 2] {
        // SAFETY: as the trait demands.
        unsafe { word.cast::<[u16; 2]>().read_unaligned() }.map(bf16_value)
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> Self::Right {
        // SAFETY: as the trait demands.
        unsafe { read(words) }
    }

    #[inline(always)]
    unsafe fn dot(mut sum: Self::Sum, left: [f32; 2], right: Self::Right) -> Self::Sum {
        for (sum, right) in sum.iter_mut().zip(right) {
            *sum += left[0] * f32::from_bits(right << 16);
            *sum += left[1] * f32::from_bits(right & 0xffff_0000);
        }
        sum
    }

    #[inline(always)]
    unsafe fn load_sum(sums: *const u32) -> Self::Sum {
        // SAFETY: as the trait demands.
        unsafe { read(sums) }
    }

    #[inline(always)]
    unsafe fn store_sum(sum: Self::Sum, sums: *mut u32) {
        // SAFETY: as the trait demands.
        unsafe { write(sum, sums) }
    }
}

struct S8;

impl Dot for S8 {
    type Left = [i32; 4];
    type Right = [u32; LANES];
    type Sum = [i32; LANES];
    const LANES: usize = LANES;

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        [0; LANES]
    }

    #[inline(always)]
    unsafe fn splat(word: *const u8) -> [i32; 4] {
        // SAFETY: as the trait demands.
        unsafe { word.cast::<[u8; 4]>().read_unaligned() }.map(i32::from)
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> Self::Right {
        // SAFETY: as the trait demands.
        unsafe { read(words) }
    }

    #[inline(always)]
    unsafe fn dot(mut sum: Self::Sum, left: [i32; 4], right: Self::Right) -> Self::Sum {
        for (sum, right) in sum.iter_mut().zip(right) {
            for (i, left) in left.into_iter().enumerate() {
                *sum += left * ((right << (24 - 8 * i)) as i32 >> 24);
            }
        }
        sum
    }

    #[inline(always)]
    unsafe fn load_sum(sums: *const u32) -> Self::Sum {
        // SAFETY: as the trait demands.
        unsafe { read(sums) }
    }

    #[inline(always)]
    unsafe fn store_sum(sum: Self::Sum, sums: *mut u32) {
        // SAFETY: as the trait demands.
        unsafe { write(sum, sums) }
    }
}
