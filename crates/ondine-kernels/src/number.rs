//! Element types, and the types in which they are computed.

use half::bf16;

use crate::arch::half::{bf16_bits, bf16_value};

/// The type in which numbers of a type are computed, lane by lane.
pub trait Lane: Copy + Default + PartialOrd + Send + Sync + 'static {
    /// The type in which many lanes are summed.
    type Total: Total<Lane = Self>;

    /// Integers in the order of the numbers: their extrema need no exception for NaN.
    #[doc(hidden)]
    type Rank: Ord + Copy + Default;

    /// The smallest of all, for maxima to start from.
    #[doc(hidden)]
    const LOWEST: Self;
    /// The largest of all, for minima to start from.
    #[doc(hidden)]
    const HIGHEST: Self;

    /// The rank, or the highest of all for NaN.
    #[doc(hidden)]
    fn rank_nan_high(self) -> Self::Rank;
    /// The rank, or the lowest of all for NaN.
    #[doc(hidden)]
    fn rank_nan_low(self) -> Self::Rank;
    /// The number of a rank.
    #[doc(hidden)]
    fn ranked(rank: Self::Rank) -> Self;
    #[doc(hidden)]
    fn total(self) -> Self::Total;
    #[doc(hidden)]
    fn is_nan(self) -> bool;
    #[doc(hidden)]
    fn add(self, other: Self) -> Self;
    #[doc(hidden)]
    fn sub(self, other: Self) -> Self;
    #[doc(hidden)]
    fn mul(self, other: Self) -> Self;
    #[doc(hidden)]
    fn div(self, other: Self) -> Self;
    #[doc(hidden)]
    fn pow(self, other: Self) -> Self;

    /// The smaller, or NaN if either is NaN.
    #[doc(hidden)]
    #[inline(always)]
    fn least(self, other: Self) -> Self {
        if self < other || self.is_nan() { self } else { other }
    }

    /// The larger, or NaN if either is NaN.
    #[doc(hidden)]
    #[inline(always)]
    fn greatest(self, other: Self) -> Self {
        if self > other || self.is_nan() { self } else { other }
    }

    /// The number itself above zero, else `slope` times as much.
    #[doc(hidden)]
    #[inline(always)]
    fn rectified(self, slope: Self) -> Self {
        if self > Self::default() { self } else { self.mul(slope) }
    }
}

/// The type in which many lanes are summed.
pub trait Total: Copy + Default + Send + Sync + 'static {
    /// The type of the lanes.
    type Lane: Lane<Total = Self>;

    #[doc(hidden)]
    fn add(self, other: Self) -> Self;
    #[doc(hidden)]
    fn divide(self, count: usize) -> Self;
    #[doc(hidden)]
    fn lane(self) -> Self::Lane;
}

/// Maps the bits of an `f32`, as a signed integer, to its rank, and back.
#[inline(always)]
fn swap_negatives(bits: i32) -> i32 {
    bits ^ ((bits >> 31) & i32::MAX)
}

impl Lane for f32 {
    type Total = f64;
    type Rank = i32;

    const LOWEST: Self = Self::NEG_INFINITY;
    const HIGHEST: Self = Self::INFINITY;

    #[inline(always)]
    fn rank_nan_high(self) -> i32 {
        if self.is_nan() { i32::MAX } else { swap_negatives(self.to_bits() as i32) }
    }
    #[inline(always)]
    fn rank_nan_low(self) -> i32 {
        if self.is_nan() { i32::MIN } else { swap_negatives(self.to_bits() as i32) }
    }
    #[inline(always)]
    fn ranked(rank: i32) -> Self {
        Self::from_bits(swap_negatives(rank) as u32)
    }
    #[inline(always)]
    fn total(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        Self::is_nan(self)
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self - other
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self * other
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self / other
    }
    #[inline(always)]
    fn pow(self, other: Self) -> Self {
        if other == 2.0 { self * self } else { self.powf(other) }
    }
}

impl Total for f64 {
    type Lane = f32;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    fn divide(self, count: usize) -> Self {
        self / count as Self
    }
    #[inline(always)]
    fn lane(self) -> f32 {
        self as f32
    }
}

/// A sum of integers, modulo the size of their type.
#[derive(Clone, Copy, Debug, Default)]
pub struct IntegerTotal<T>(T);

macro_rules! integer_lane {
    ($($type:ty),+) => {$(
        impl Lane for $type {
            type Total = IntegerTotal<$type>;
            type Rank = $type;

            const LOWEST: Self = Self::MIN;
            const HIGHEST: Self = Self::MAX;

            #[inline(always)]
            fn rank_nan_high(self) -> Self {
                self
            }
            #[inline(always)]
            fn rank_nan_low(self) -> Self {
                self
            }
            #[inline(always)]
            fn ranked(rank: Self) -> Self {
                rank
            }
            #[inline(always)]
            fn total(self) -> Self::Total {
                IntegerTotal(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }
            #[inline(always)]
            fn pow(self, other: Self) -> Self {
                match (self, u32::try_from(other)) {
                    (_, Ok(exponent)) => self.wrapping_pow(exponent),
                    // An exponent that fills more than 32 bits: its high bits, then its low ones.
                    (_, Err(_)) if other > 0 => {
                        let (high, low) = ((i64::from(other) >> 32) as u32, i64::from(other) as u32);
                        self.wrapping_pow(high).wrapping_pow(1 << 31).wrapping_pow(2).wrapping_mul(self.wrapping_pow(low))
                    }
                    (1, Err(_)) => 1,
                    (-1, Err(_)) => 1 - 2 * (other & 1),
                    (_, Err(_)) => 0,
                }
            }
        }

        impl Total for IntegerTotal<$type> {
            type Lane = $type;

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                Self(self.0.wrapping_add(other.0))
            }
            #[inline(always)]
            fn divide(self, count: usize) -> Self {
                Self(<$type>::try_from(count).map_or(0, |count| Lane::div(self.0, count)))
            }
            #[inline(always)]
            fn lane(self) -> $type {
                self.0
            }
        }
    )+};
}

integer_lane!(i32, i64);

/// An element type of arithmetic: `f32`, `bf16`, `i64` or `i32`.
pub trait Number: Copy + Default + Send + Sync + 'static {
    /// The type in which it is computed.
    type Lane: Lane;

    /// The number, ready to be computed with.
    #[doc(hidden)]
    fn widen(self) -> Self::Lane;

    /// The nearest number of this type, ties to even.
    #[doc(hidden)]
    fn narrow(lane: Self::Lane) -> Self;
}

/// A floating-point element type that is computed in `f32`: `f32` or `bf16`.
pub trait Float: Number<Lane = f32> {
    /// Lets `fill` write `f32` numbers, then stores them in `out`: by way of `scratch`, which has at least as many
    /// elements, unless this is `f32` already.
    #[doc(hidden)]
    fn stage(out: &mut [Self], scratch: &mut [f32], fill: impl FnOnce(&mut [f32]));

    /// Where `f32` numbers are to be written before [`Float::narrow_all`] stores them in `out`: `out` itself if it can
    /// hold them, else `scratch`, which is as long.
    #[doc(hidden)]
    fn lanes<'a>(out: &'a mut [Self], scratch: &'a mut [f32]) -> &'a mut [f32];

    /// See [`Float::lanes`].
    #[doc(hidden)]
    fn narrow_all(out: &mut [Self], scratch: &[f32]);
}

macro_rules! number {
    ($type:ident, $lane:ty, $widen:expr, $narrow:expr) => {
        impl Number for $type {
            type Lane = $lane;

            #[inline(always)]
            fn widen(self) -> $lane {
                $widen(self)
            }
            #[inline(always)]
            fn narrow(lane: $lane) -> Self {
                $narrow(lane)
            }
        }
    };
}

number!(f32, f32, std::convert::identity, std::convert::identity);
number!(i64, i64, std::convert::identity, std::convert::identity);
number!(i32, i32, std::convert::identity, std::convert::identity);
number!(bf16, f32, bf16_to_f32, bf16_from_f32);

impl Float for f32 {
    #[inline(always)]
    fn stage(out: &mut [Self], _scratch: &mut [f32], fill: impl FnOnce(&mut [f32])) {
        fill(out);
    }
    #[inline(always)]
    fn lanes<'a>(out: &'a mut [Self], _scratch: &'a mut [f32]) -> &'a mut [f32] {
        out
    }
    #[inline(always)]
    fn narrow_all(_out: &mut [Self], _scratch: &[f32]) {}
}

impl Float for bf16 {
    #[inline(always)]
    fn stage(out: &mut [Self], scratch: &mut [f32], fill: impl FnOnce(&mut [f32])) {
        let scratch = &mut scratch[..out.len()];
        fill(scratch);
        Self::narrow_all(out, scratch);
    }
    #[inline(always)]
    fn lanes<'a>(_out: &'a mut [Self], scratch: &'a mut [f32]) -> &'a mut [f32] {
        scratch
    }
    #[inline(always)]
    fn narrow_all(out: &mut [Self], scratch: &[f32]) {
        for (out, &value) in out.iter_mut().zip(scratch) {
            *out = bf16_from_f32(value);
        }
    }
}

#[inline(always)]
pub(crate) fn bf16_to_f32(value: bf16) -> f32 {
    bf16_value(value.to_bits())
}

#[inline(always)]
pub(crate) fn bf16_from_f32(value: f32) -> bf16 {
    bf16::from_bits(bf16_bits(value))
}
