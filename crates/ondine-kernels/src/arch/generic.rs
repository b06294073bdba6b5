//! Any processor: 4 rows by 1 vector of 8 lanes, in plain Rust.

use std::hint::black_box;

use crate::arch::{
    dot::{Dot, Tile, WORD},
    enter::enter,
    half::{bf16_bits, bf16_value, f16_value},
    isa::Isa,
    lane::Lane,
    product::Product,
    vector::{CodeVector, LIFT, MAX_LANES, Vector, byte_masks},
};

/// What every processor of the architecture can do.
#[derive(Clone, Copy)]
pub(crate) struct Generic;

enter!(Generic, "generic");

const LANES: usize = 8;

impl Isa for Generic {
    const FMA: bool = false;
    const TILE: Tile = Tile { lanes: LANES, width: 2 * LANES, rows: 4 };
    const WIDE_COUNT: usize = 1;

    type Vector = Lane<Self>;
    type Wide = F32x4;

    type F32 = F32;
    type Bf16 = Bf16;
    type S8 = S8;

    // Operands of bf16 are made f32 when they are packed.
    type AttentionF32 = Quads;
    type AttentionBf16 = Quads;
    type AttentionS8 = Quads;
}

/// Four f32: what the vectors of nearly every processor hold at least.
#[derive(Clone, Copy)]
pub(crate) struct F32x4([f32; 4]);

impl F32x4 {
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

/// f32 by f32.
pub(crate) struct Quads;

impl Product for Quads {
    type Vector = F32x4;
    const PER_WORD: usize = 1;
    const PANEL: usize = 4;
    const ROWS: usize = 4;

    #[inline(always)]
    fn dot(sum: F32x4, left: F32x4, right: F32x4) -> F32x4 {
        left.mul_add(right, sum)
    }

    /// By way of memory: sums that are stored there four by four are those that the compiler makes vectors of. Where it
    /// sees what becomes of each it may choose others, which do not fit the vectors that are multiplied.
    #[inline(always)]
    fn number(sum: F32x4) -> F32x4 {
        F32x4(black_box(sum.0))
    }

    #[inline(always)]
    fn words(first: F32x4, _second: F32x4) -> F32x4 {
        first
    }
}

impl CodeVector for F32x4 {
    type Table = [f32; 16];

    const LOOKS_UP: bool = false;

    #[inline(always)]
    fn table(numbers: &[f32; 16]) -> Self::Table {
        *numbers
    }

    #[inline(always)]
    fn looked_up(self, shift: u32, table: &Self::Table) -> Self {
        self.map(|word| table[(word.to_bits() >> shift & 15) as usize])
    }

    #[inline(always)]
    fn signed<const BITS: u32>(self, shift: u32) -> Self {
        self.map(|word| ((word.to_bits() << (32 - BITS - shift)) as i32 >> (32 - BITS)) as f32)
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: as the caller says.
        Self(unsafe { from.cast::<[u16; 4]>().read_unaligned() }.map(f16_value))
    }

    #[inline(always)]
    fn bytes<const BITS: u32>(self, part: u32) -> Self {
        let (mask, half) = byte_masks::<BITS>();
        self.map(|word| f32::from_bits(((word.to_bits() >> (part * BITS)) & mask as u32) ^ half as u32))
    }

    #[inline(always)]
    fn six_bits(low: Self, high: Self, part: u32) -> Self {
        Self(std::array::from_fn(|i| {
            let (low, high) = (low.0[i].to_bits() >> (part % 2 * 4), high.0[i].to_bits() >> (part * 2));
            f32::from_bits(low & 0x0f0f_0f0f | (high & 0x0303_0303) << 4)
        }))
    }

    #[inline(always)]
    fn dot_bytes<const BITS: u32>(sum: Self, bytes: Self, signed: Self) -> Self {
        Self(std::array::from_fn(|i| {
            let (bytes, signed) = (bytes.0[i].to_bits().to_ne_bytes(), signed.0[i].to_bits().to_ne_bytes());
            let product = |k: usize| i32::from(bytes[k]) * i32::from(signed[k] as i8);
            let added = product(0) + product(1) + product(2) + product(3);
            f32::from_bits((sum.0[i].to_bits() as i32).wrapping_add(added) as u32)
        }))
    }

    // There is no multiplication that adds before it rounds.
    #[inline(always)]
    fn lowered(self, step: Self, _: Self) -> Self {
        self.sub(Self::splat(LIFT)).mul(step)
    }
}

impl Vector for F32x4 {
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the caller says.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: as the caller says.
        Self(unsafe { from.cast::<[u16; 4]>().read_unaligned() }.map(bf16_value))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as the caller says.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: as the caller says.
        unsafe { to.cast::<[u16; 4]>().write_unaligned(self.0.map(bf16_bits)) }
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: as the caller says.
        Self(unsafe { from.cast::<[i32; 4]>().read_unaligned() }.map(|x| x as f32))
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        // SAFETY: as the caller says.
        Self(unsafe { from.cast::<[u8; 4]>().read() }.map(f32::from))
    }

    #[inline(always)]
    unsafe fn load_codes(from: *const i8) -> Self {
        // SAFETY: as the caller says.
        Self(unsafe { from.cast::<[i8; 4]>().read() }.map(f32::from))
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: as the caller says.
        unsafe { to.cast::<[u8; 4]>().write(self.0.map(|x| x.to_bits() as u8)) }
    }

    #[inline(always)]
    fn max_magnitude(self, b: Self) -> Self {
        self.zip(b, |a, b| f32::from_bits(a.abs().to_bits().max(b.abs().to_bits())))
    }

    #[inline(always)]
    fn largest_magnitude(self) -> f32 {
        f32::from_bits(self.0.iter().fold(0, |most, x| most.max(x.to_bits())))
    }

    #[inline(always)]
    unsafe fn load_less(from: *const i32, less: Self) -> Self {
        // SAFETY: as the caller says.
        let sums = unsafe { from.cast::<[i32; 4]>().read_unaligned() };
        Self(std::array::from_fn(|i| sums[i].wrapping_sub(less.0[i].to_bits() as i32) as f32))
    }

    #[inline(always)]
    fn times_integer(self, by: i32) -> Self {
        Self(self.0.map(|lane| f32::from_bits(by.wrapping_mul(lane.to_bits() as i32) as u32)))
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self.mul(b).add(c)
    }

    #[inline(always)]
    fn if_greater(self, than: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|i| if self.0[i] > than.0[i] { yes.0[i] } else { no.0[i] }))
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
        self.0.iter().zip(than.0).any(|(&a, b)| a > b)
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.map(f32::abs)
    }

    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        self.zip(sign, f32::copysign)
    }

    #[inline(always)]
    fn add_exponent(self, n: Self) -> Self {
        self.zip(n, |x, n| f32::from_bits(x.to_bits().wrapping_add(n.to_bits() << 23)))
    }

    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        self.zip(n, |x, n| Lane::<Generic>::new(x).scale(Lane::new(n)).0)
    }

    #[inline(always)]
    unsafe fn transpose(rows: &[*const f32; MAX_LANES], offset: usize, to: *mut f32, stride: usize) {
        // SAFETY: as the caller says.
        let rows: [Self; 4] = std::array::from_fn(|i| unsafe { Self::load(rows[i].add(offset)) });
        for j in 0..4 {
            // SAFETY: as the caller says.
            unsafe { Self(rows.map(|row| row.0[j])).store(to.add(j * stride)) };
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

pub(crate) struct F32;

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
    unsafe fn dot_along(mut sum: Self::Sum, row: *const u8, column: *const u32) -> Self::Sum {
        // SAFETY: as the trait demands.
        let column = unsafe { Self::load(column) };
        for (lane, (sum, column)) in sum.iter_mut().zip(column).enumerate() {
            // SAFETY: as the trait demands.
            let left = unsafe { Self::splat(row.add(lane * WORD)) };
            *sum += left * column;
        }
        sum
    }

    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> u32 {
        sum.into_iter().sum::<f32>().to_bits()
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

/// `sum` and the products of two numbers with the two bf16 of a word.
#[inline(always)]
fn pair(sum: f32, left: [f32; 2], right: u32) -> f32 {
    sum + left[0] * f32::from_bits(right << 16) + left[1] * f32::from_bits(right & 0xffff_0000)
}

/// `sum` and the products of four numbers with the four bytes of a word.
#[inline(always)]
fn quad(sum: i32, left: [i32; 4], right: u32) -> i32 {
    let byte = |i: usize| (right << (24 - 8 * i)) as i32 >> 24;
    left.into_iter().enumerate().fold(sum, |sum, (i, left)| sum + left * byte(i))
}

pub(crate) struct Bf16;

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
            *sum = pair(*sum, left, right);
        }
        sum
    }

    #[inline(always)]
    unsafe fn dot_along(mut sum: Self::Sum, row: *const u8, column: *const u32) -> Self::Sum {
        // SAFETY: as the trait demands.
        let column = unsafe { Self::load(column) };
        for (lane, (sum, column)) in sum.iter_mut().zip(column).enumerate() {
            // SAFETY: as the trait demands.
            let left = unsafe { Self::splat(row.add(lane * WORD)) };
            *sum = pair(*sum, left, column);
        }
        sum
    }

    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> u32 {
        sum.into_iter().sum::<f32>().to_bits()
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

pub(crate) struct S8;

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
            *sum = quad(*sum, left, right);
        }
        sum
    }

    #[inline(always)]
    unsafe fn dot_along(mut sum: Self::Sum, row: *const u8, column: *const u32) -> Self::Sum {
        // SAFETY: as the trait demands.
        let column = unsafe { Self::load(column) };
        for (lane, (sum, column)) in sum.iter_mut().zip(column).enumerate() {
            // SAFETY: as the trait demands.
            let left = unsafe { Self::splat(row.add(lane * WORD)) };
            *sum = quad(*sum, left, column);
        }
        sum
    }

    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> u32 {
        sum.into_iter().sum::<i32>() as u32
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
