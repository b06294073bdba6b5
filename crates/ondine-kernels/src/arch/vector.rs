//! Vectors of f32 as one type per instruction set, for what plain loops leave to the compiler's luck: the ends of
//! matrix products and the softmax of attention.

/// The most lanes that a vector of any tier has.
pub(crate) const MAX_LANES: usize = 16;

/// A few f32, in lanes that all do the same.
///
/// # Safety
/// All methods may assume the instructions of the tier that the type belongs to. No code can name such a type but that
/// of its tier and what [`Tier::enter`](crate::arch::tier::Tier::enter) leads to, whose caller vouches for them; so
/// methods without addresses are safe to call.
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

    /// Reads `LANES` bytes without a sign as numbers.
    ///
    /// # Safety
    /// The address is valid for that.
    unsafe fn load_bytes(from: *const u8) -> Self;

    /// Reads `count` bytes, at most `LANES`, without a sign as numbers, and zeros behind them.
    ///
    /// # Safety
    /// The address is valid for that.
    #[inline(always)]
    unsafe fn load_bytes_some(from: *const u8, count: usize) -> Self {
        let mut lanes = [0; MAX_LANES];
        // SAFETY: as the caller says.
        unsafe {
            lanes[..count].iter_mut().enumerate().for_each(|(i, lane)| *lane = from.add(i).read());
            Self::load_bytes(lanes.as_ptr())
        }
    }

    /// Reads `LANES` bytes with a sign as numbers.
    ///
    /// # Safety
    /// The address is valid for that.
    unsafe fn load_codes(from: *const i8) -> Self;

    /// Reads `count` bytes, at most `LANES`, with a sign as numbers, and zeros behind them.
    ///
    /// # Safety
    /// The address is valid for that.
    #[inline(always)]
    unsafe fn load_codes_some(from: *const i8, count: usize) -> Self {
        let mut lanes = [0; MAX_LANES];
        // SAFETY: as the caller says.
        unsafe {
            lanes[..count].iter_mut().enumerate().for_each(|(i, lane)| *lane = from.add(i).read());
            Self::load_codes(lanes.as_ptr())
        }
    }

    /// Writes the lowest byte of each lane.
    ///
    /// # Safety
    /// The address is valid for `LANES` bytes.
    unsafe fn store_bytes(self, to: *mut u8);

    /// Writes the lowest byte of each of the first `count` lanes, at most `LANES`.
    ///
    /// # Safety
    /// The address is valid for that.
    #[inline(always)]
    unsafe fn store_bytes_some(self, to: *mut u8, count: usize) {
        let mut lanes = [0; MAX_LANES];
        // SAFETY: as the caller says.
        unsafe {
            self.store_bytes(lanes.as_mut_ptr());
            lanes[..count].iter().enumerate().for_each(|(i, &lane)| to.add(i).write(lane));
        }
    }

    /// `LANES` integers less those whose bits `less` holds, as numbers.
    ///
    /// # Safety
    /// The address is valid for reading them.
    unsafe fn load_less(from: *const i32, less: Self) -> Self;

    /// Integers, whose bits the lanes hold, times another.
    fn times_integer(self, by: i32) -> Self;

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

/// A number whose last digit counts 1: an integer that is added to its bits is added to the number, which spares sums
/// of integers the conversion.
pub(crate) const LIFT: f32 = 12_582_912.0;

/// Vectors whose lanes may be words of codes of few bits.
pub(crate) trait CodeVector: Vector {
    /// 16 numbers to look up.
    type Table: Copy;

    /// True if looking up is no slower than computing.
    const LOOKS_UP: bool;

    /// True if masks and shifts take the places of products, so that many rows had better meet bytes.
    const MASKS_COMPETE: bool = false;

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

    /// The signed codes at bit `part * BITS` of each byte, each plus half of all codes: four bytes without a sign in
    /// each lane.
    fn bytes<const BITS: u32>(self, part: u32) -> Self;

    /// The codes of 6 bits that are the `part`th of four in the words that hold them, four bytes without a sign in
    /// each lane: their lower four bits are at bit `part % 2 * 4` of each byte of `low`, their upper two at bit
    /// `part * 2` of each of `high`.
    fn six_bits(low: Self, high: Self, part: u32) -> Self;

    /// Lanes of integers, each plus the products of four bytes without a sign, below `2^BITS`, with four that have one.
    fn dot_bytes<const BITS: u32>(sum: Self, bytes: Self, signed: Self) -> Self;

    /// `step` times integers below 2^22 that were added to the bits of [`LIFT`], rounded once: `step` has 22 digits at
    /// most, and `less` is `-LIFT * step`.
    #[inline(always)]
    fn lowered(self, step: Self, less: Self) -> Self {
        self.mul_add(step, less)
    }

    /// Asks for the cache line of an address, which may be any, to be brought near; with `SECOND` into the second-level
    /// cache alone.
    #[inline(always)]
    fn prefetch<const SECOND: bool>(_at: *const u8) {}
}

/// In each byte, the bits of a code, and its highest one.
#[inline(always)]
pub(crate) const fn byte_masks<const BITS: u32>() -> (i32, i32) {
    let byte = (1_u32 << BITS) - 1;
    let half = 1_u32 << (BITS - 1);
    ((byte * 0x0101_0101) as i32, (half * 0x0101_0101) as i32)
}
