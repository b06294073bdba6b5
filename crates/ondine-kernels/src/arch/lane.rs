//! A single number as a vector: for scalar code, and for loops that the compiler makes vectors of.

use std::marker::PhantomData;

use crate::arch::{
    half::{bf16_bits, bf16_value},
    isa::Isa,
    vector::{MAX_LANES, Vector},
};

/// A single f32 as a vector.
#[derive(Clone, Copy)]
pub(crate) struct Lane<I>(pub(crate) f32, PhantomData<I>);

impl<I> Lane<I> {
    #[inline(always)]
    pub(crate) fn new(x: f32) -> Self {
        Self(x, PhantomData)
    }
}

impl<I: Isa> Vector for Lane<I> {
    const LANES: usize = 1;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self::new(x)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the caller says.
        Self::new(unsafe { from.read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: as the caller says.
        Self::new(bf16_value(unsafe { from.read_unaligned() }))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as the caller says.
        unsafe { to.write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: as the caller says.
        unsafe { to.write_unaligned(bf16_bits(self.0)) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        // SAFETY: as the caller says.
        Self::new(f32::from(unsafe { from.read() }))
    }

    #[inline(always)]
    unsafe fn load_codes(from: *const i8) -> Self {
        // SAFETY: as the caller says.
        Self::new(f32::from(unsafe { from.read() }))
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: as the caller says.
        Self::new(unsafe { from.read_unaligned() } as f32)
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: as the caller says.
        unsafe { to.write(self.0.to_bits() as u8) }
    }

    #[inline(always)]
    unsafe fn load_less(from: *const i32, less: Self) -> Self {
        // SAFETY: as the caller says.
        Self::new(unsafe { *from }.wrapping_sub(less.0.to_bits() as i32) as f32)
    }

    #[inline(always)]
    fn times_integer(self, by: i32) -> Self {
        Self::new(f32::from_bits(by.wrapping_mul(self.0.to_bits() as i32) as u32))
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Self::new(self.0 + b.0)
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Self::new(self.0 - b.0)
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        Self::new(self.0 * b.0)
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        Self::new(self.0 / b.0)
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Self::new(I::mul_add(self.0, b.0, c.0))
    }

    #[inline(always)]
    fn if_greater(self, than: Self, yes: Self, no: Self) -> Self {
        if self.0 > than.0 { yes } else { no }
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.if_greater(b, self, b)
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        b.if_greater(self, self, b)
    }

    #[inline(always)]
    fn any_greater(self, than: Self) -> bool {
        self.0 > than.0
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self::new(self.0.abs())
    }

    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        Self::new(self.0.copysign(sign.0))
    }

    #[inline(always)]
    fn add_exponent(self, n: Self) -> Self {
        Self::new(f32::from_bits(self.0.to_bits().wrapping_add(n.0.to_bits() << 23)))
    }

    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        // In two factors, since `n` may lie outside the range of exponents. Adding 1.5 * 2^23 leaves an integer in the
        // low bits, which unlike a conversion takes any number.
        let n = ((n.0 + 12_582_912.0).to_bits() as i32).wrapping_sub(12_582_912.0_f32.to_bits() as i32);
        let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
        let half = n >> 1;
        Self::new(self.0 * power(half) * power(n.wrapping_sub(half)))
    }

    #[inline(always)]
    fn max_magnitude(self, b: Self) -> Self {
        Self::new(f32::from_bits(self.0.abs().to_bits().max(b.0.abs().to_bits())))
    }

    #[inline(always)]
    fn largest_magnitude(self) -> f32 {
        self.0
    }

    #[inline(always)]
    unsafe fn transpose(rows: &[*const f32; MAX_LANES], offset: usize, to: *mut f32, _stride: usize) {
        // SAFETY: as the caller says.
        unsafe { to.write_unaligned(rows[0].add(offset).read_unaligned()) }
    }
}
