//! Vectors of f32 as one type per instruction set, for what plain loops leave to the compiler's luck: the ends of
//! matrix products and the softmax of attention.

use std::marker::PhantomData;

use crate::{
    arch::Isa,
    gemm::epilogue::MAX_LANES,
    math::{bf16_bits, bf16_value},
};

/// A few f32, in lanes that all do the same.
///
/// The types of a tier are used only in code entered by [`crate::rowwise::Enter`], so their methods may assume its
/// instructions.
pub(crate) trait Vector: Copy {
    /// Number of lanes.
    const LANES: usize;

    /// `x` in every lane.
    fn splat(x: f32) -> Self;

    /// Reads `LANES` numbers.
    ///
    /// # Safety
    /// The address is valid for that.
    unsafe fn load(from: *const f32) -> Self;

    /// Reads `LANES` bf16, given as bits.
    ///
    /// # Safety
    /// The address is valid for that.
    unsafe fn load_bf16(from: *const u16) -> Self;

    /// Writes `LANES` numbers.
    ///
    /// # Safety
    /// The address is valid for that.
    unsafe fn store(self, to: *mut f32);

    /// Writes `LANES` bf16, rounded to nearest even; denormals may become 0.
    ///
    /// # Safety
    /// The address is valid for that.
    unsafe fn store_bf16(self, to: *mut u16);

    /// Reads `count` numbers, at most `LANES`, and zeros behind them.
    ///
    /// # Safety
    /// The address is valid for that.
    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: as the caller says.
        unsafe {
            lanes[..count].iter_mut().enumerate().for_each(|(i, lane)| *lane = from.add(i).read_unaligned());
            Self::load(lanes.as_ptr())
        }
    }

    /// Reads `count` bf16, at most `LANES`, given as bits, and zeros behind them.
    ///
    /// # Safety
    /// The address is valid for that.
    #[inline(always)]
    unsafe fn load_bf16_some(from: *const u16, count: usize) -> Self {
        let mut lanes = [0; MAX_LANES];
        // SAFETY: as the caller says.
        unsafe {
            lanes[..count].iter_mut().enumerate().for_each(|(i, lane)| *lane = from.add(i).read_unaligned());
            Self::load_bf16(lanes.as_ptr())
        }
    }

    /// Writes the first `count` numbers, at most `LANES`.
    ///
    /// # Safety
    /// The address is valid for that.
    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: as the caller says.
        unsafe {
            self.store(lanes.as_mut_ptr());
            lanes[..count].iter().enumerate().for_each(|(i, &lane)| to.add(i).write_unaligned(lane));
        }
    }

    /// Writes the first `count` numbers, at most `LANES`, as [`Vector::store_bf16`] does.
    ///
    /// # Safety
    /// The address is valid for that.
    #[inline(always)]
    unsafe fn store_bf16_some(self, to: *mut u16, count: usize) {
        let mut lanes = [0; MAX_LANES];
        // SAFETY: as the caller says.
        unsafe {
            self.store_bf16(lanes.as_mut_ptr());
            lanes[..count].iter().enumerate().for_each(|(i, &lane)| to.add(i).write_unaligned(lane));
        }
    }

    /// Reads `LANES` integers as numbers.
    ///
    /// # Safety
    /// The address is valid for that.
    unsafe fn load_i32(from: *const i32) -> Self;

    /// Writes the lowest byte of each lane.
    ///
    /// # Safety
    /// The address is valid for `LANES` bytes.
    unsafe fn store_bytes(self, to: *mut u8);

    /// `sums - zero * weights` of `LANES` integers; the lanes of `weights` are the bits of some.
    ///
    /// # Safety
    /// The address is valid for reading them.
    unsafe fn corrected(sums: *const i32, zero: i32, weights: Self) -> Self;

    /// `self + b`
    fn add(self, b: Self) -> Self;
    /// `self - b`
    fn sub(self, b: Self) -> Self;
    /// `self * b`
    fn mul(self, b: Self) -> Self;
    /// `self / b`
    fn div(self, b: Self) -> Self;
    /// `self * b + c`, see [`Isa::mul_add`].
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// `yes` where `self > than`, else, also where either is NaN, `no`.
    fn if_greater(self, than: Self, yes: Self, no: Self) -> Self;
    /// The larger; `b` where either is NaN.
    fn max(self, b: Self) -> Self;
    /// The smaller; `b` where either is NaN.
    fn min(self, b: Self) -> Self;
    /// True if any lane is greater.
    fn any_greater(self, than: Self) -> bool;
    /// `|self|`
    fn abs(self) -> Self;
    /// `|self|` with the sign of `sign`.
    fn copysign(self, sign: Self) -> Self;
    /// `self * 2^n`, where the low bits of `n` are an integer and the result is a normal number.
    fn add_exponent(self, n: Self) -> Self;
    /// `self * 2^n` for an integer `n` in -300..=300.
    fn scale(self, n: Self) -> Self;
    /// The larger of the absolute values, bit by bit: NaN is larger than any number.
    fn max_magnitude(self, b: Self) -> Self;
    /// The largest lane, all being absolute values: NaN if there is one.
    fn largest_magnitude(self) -> f32;
    /// Reads a vector from each of the first `LANES` rows, `offset` words into it, and writes the vectors that the
    /// lanes of these make, rows `stride` apart.
    ///
    /// # Safety
    /// The addresses are valid for that.
    unsafe fn transpose(rows: &[*const f32; MAX_LANES], offset: usize, to: *mut f32, stride: usize);
}

/// Vectors whose lanes may be words of codes of few bits.
pub(crate) trait CodeVector: Vector {
    /// 16 numbers to look up.
    type Table: Copy;

    /// True if looking up is no slower than computing.
    const LOOKS_UP: bool;

    /// The numbers as a table.
    fn table(numbers: &[f32; 16]) -> Self::Table;

    /// The numbers that bits `shift..shift + 4` of each word are the indices of; beyond the word they are 0.
    fn looked_up(self, shift: u32, table: &Self::Table) -> Self;

    /// Bits `shift..shift + BITS` of each word as a signed number.
    fn signed<const BITS: u32>(self, shift: u32) -> Self;

    /// Reads `LANES` f16, given as bits.
    ///
    /// # Safety
    /// The address is valid for that.
    unsafe fn load_f16(from: *const u16) -> Self;
}

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
    unsafe fn corrected(sums: *const i32, zero: i32, weights: Self) -> Self {
        // SAFETY: as the caller says.
        Self::new(unsafe { *sums }.wrapping_sub(zero.wrapping_mul(weights.0.to_bits() as i32)) as f32)
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
