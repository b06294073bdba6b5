//! Conversions between element types.

use half::{bf16, f16};

use crate::{
    arch::{enter::Kernel, isa::Isa},
    cpu::Cpu,
    number::{bf16_from_f32, bf16_to_f32},
    rowwise::{GRAIN, for_rows},
};

/// Elements that pass through the hub type at once: they stay in the first-level cache.
const STEP: usize = 1024;

/// An element type that converts to every other: by way of `i64` between integers, else by way of `f32`.
pub trait Scalar: Copy + Default + Send + Sync + 'static {
    #[doc(hidden)]
    const INTEGER: bool;
    #[doc(hidden)]
    fn to_f32(self) -> f32;
    #[doc(hidden)]
    fn from_f32(value: f32) -> Self;
    #[doc(hidden)]
    #[inline(always)]
    fn to_i64(self) -> i64 {
        self.to_f32() as i64
    }
    #[doc(hidden)]
    #[inline(always)]
    fn from_i64(value: i64) -> Self {
        Self::from_f32(value as f32)
    }
}

/// Converts every element of `x`.
///
/// To a floating-point type: the nearest number, ties to even (from `i64` to a 16-bit type by way of `f32`); NaN stays
/// NaN with the leading bits of its payload, as in the crate `half`. From floating point to an integer: truncated
/// toward zero, what lies outside the type's range becomes its nearest end, and NaN 0. Between integers: the low bits.
///
/// # Panics
/// If `x` and `out` differ in length.
pub fn convert<A: Scalar, B: Scalar>(cpu: &Cpu, x: &[A], out: &mut [B]) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    for_rows(cpu.pool(), out, 1, GRAIN, |first, out| {
        let pieces = x[first..first + out.len()].chunks(STEP).zip(out.chunks_mut(STEP));
        if A::INTEGER && B::INTEGER {
            let mut hub = [0_i64; STEP];
            for (x, out) in pieces {
                let hub = &mut hub[..x.len()];
                cpu.enter(ToHub { x, hub });
                cpu.enter(FromHub { hub, out });
            }
        } else {
            let mut hub = [0.0_f32; STEP];
            for (x, out) in pieces {
                let hub = &mut hub[..x.len()];
                cpu.enter(ToHub { x, hub });
                cpu.enter(FromHub { hub, out });
            }
        }
    });
}

/// 1 for every element of `x` that is not zero (NaN is not), else 0.
///
/// # Panics
/// If `x` and `out` differ in length.
pub fn truth<T: Scalar>(cpu: &Cpu, x: &[T], out: &mut [u8]) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    for_rows(cpu.pool(), out, 1, GRAIN, |first, out| {
        cpu.enter(ToTruth { x: &x[first..first + out.len()], out });
    });
}

/// Elements on their way to the hub type `H`.
pub(crate) struct ToHub<'a, T, H> {
    x: &'a [T],
    hub: &'a mut [H],
}

/// Elements on their way from the hub type `H`.
pub(crate) struct FromHub<'a, T, H> {
    hub: &'a [H],
    out: &'a mut [T],
}

/// A piece of [`truth`].
pub(crate) struct ToTruth<'a, T> {
    x: &'a [T],
    out: &'a mut [u8],
}

impl<T: Scalar> Kernel for ToHub<'_, T, f32> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        for (hub, &x) in self.hub.iter_mut().zip(self.x) {
            *hub = x.to_f32();
        }
    }
}

impl<T: Scalar> Kernel for FromHub<'_, T, f32> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        for (out, &hub) in self.out.iter_mut().zip(self.hub) {
            *out = T::from_f32(hub);
        }
    }
}

impl<T: Scalar> Kernel for ToHub<'_, T, i64> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        for (hub, &x) in self.hub.iter_mut().zip(self.x) {
            *hub = x.to_i64();
        }
    }
}

impl<T: Scalar> Kernel for FromHub<'_, T, i64> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        for (out, &hub) in self.out.iter_mut().zip(self.hub) {
            *out = T::from_i64(hub);
        }
    }
}

impl<T: Scalar> Kernel for ToTruth<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            *out = u8::from(if T::INTEGER { x.to_i64() != 0 } else { x.to_f32() != 0.0 });
        }
    }
}

macro_rules! float_scalar {
    ($type:ident, $to_f32:expr, $from_f32:expr) => {
        impl Scalar for $type {
            const INTEGER: bool = false;

            #[inline(always)]
            fn to_f32(self) -> f32 {
                $to_f32(self)
            }
            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                $from_f32(value)
            }
        }
    };
}

float_scalar!(f32, std::convert::identity, std::convert::identity);
float_scalar!(f16, f16_to_f32, f16_from_f32);
float_scalar!(bf16, bf16_to_f32, bf16_from_f32);

macro_rules! integer_scalar {
    ($($type:ident),+) => {$(
        impl Scalar for $type {
            const INTEGER: bool = true;

            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                value as Self
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                self as i64
            }
            #[inline(always)]
            fn from_i64(value: i64) -> Self {
                value as Self
            }
        }
    )+};
}

float_scalar!(f64, |value| value as f32, f64::from);
integer_scalar!(i64, i32, i16, i8, u64, u32, u16, u8);

/// The value of an `f16`, without branches; a NaN becomes quiet.
#[inline(always)]
fn f16_to_f32(value: f16) -> f32 {
    const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let bits = u32::from(value.to_bits());
    let magnitude = (bits & 0x7fff) << 13;
    // Read as an f32 the exponent is too small by 112; the product is exact, also for subnormal numbers.
    let finite = (f32::from_bits(magnitude) * REBIAS).to_bits();
    let quiet = if bits & 0x3ff == 0 { 0 } else { 0x0040_0000 };
    let special = magnitude | 0x7f80_0000 | quiet;
    let magnitude = if bits & 0x7c00 == 0x7c00 { special } else { finite };
    f32::from_bits((bits & 0x8000) << 16 | magnitude)
}

/// The nearest `f16`, ties to even, without branches; a NaN becomes quiet.
#[inline(always)]
fn f16_from_f32(value: f32) -> f16 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let odd = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_sub((127 - 15) << 23).wrapping_add(0xfff + odd) >> 13;
    // Added to 1/2, the number is rounded to multiples of the smallest f16.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
    let finite = if magnitude < (127 - 14) << 23 { subnormal } else { normal };
    let nan = 0x7e00 | (magnitude >> 13) & 0x3ff;
    let special = if magnitude > 0x7f80_0000 { nan } else { 0x7c00 };
    let magnitude = if magnitude >= (127 + 16) << 23 { special } else { finite };
    f16::from_bits(((bits >> 16) & 0x8000 | magnitude) as u16)
}
