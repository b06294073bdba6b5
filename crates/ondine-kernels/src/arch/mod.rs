//! Instruction sets as zero-sized types.
//!
//! An algorithm is written once as `#[inline(always)] fn algorithm<I: Isa>(..)` over slices and fixed-size arrays,
//! and compiled per tier by a thin wrapper; see [`instantiate!`].

/// What an algorithm may ask of the instruction set it is compiled for.
pub(crate) trait Isa: Copy + 'static {
    /// True if `a * b + c` with one rounding is a single instruction.
    const FMA: bool;

    /// `a * b + c`, rounded once if [`Isa::FMA`], else twice.
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        if Self::FMA { a.mul_add(b, c) } else { a * b + c }
    }
}

/// What every processor of the architecture can do.
#[derive(Clone, Copy)]
pub(crate) struct Generic;

impl Isa for Generic {
    const FMA: bool = false;
}

/// AVX2, FMA and F16C.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Isa for Avx2 {
    const FMA: bool = true;
}

/// AVX-512 F, BW, DQ, VL, BF16 and VNNI, and all of [`Avx2`].
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Isa for Avx512 {
    const FMA: bool = true;
}

/// Compiles `algorithm::<I>` once per tier: `instantiate! { fn name(x: &[f32], y: &mut [f32]) = algorithm; }` makes
/// the functions `generic::name`, `avx2::name` and `avx512::name` in the calling module.
///
/// The last two are safe to take as plain `fn` pointers but must only be put in the table of a tier that the processor
/// has: that is the one obligation, and [`crate::table`] is the one place that fulfils it.
macro_rules! instantiate {
    ($(fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $algorithm:path;)*) => {
        pub(crate) mod generic {
            use super::*;
            $(pub(crate) fn $name($($arg: $type),*) $(-> $result)? {
                $algorithm::<$crate::arch::Generic>($($arg),*)
            })*
        }
        #[cfg(target_arch = "x86_64")]
        pub(crate) mod avx2 {
            use super::*;
            $(pub(crate) fn $name($($arg: $type),*) $(-> $result)? {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn inner($($arg: $type),*) $(-> $result)? {
                    $algorithm::<$crate::arch::Avx2>($($arg),*)
                }
                // SAFETY: only the table of a tier that the processor has refers to this function.
                unsafe { inner($($arg),*) }
            })*
        }
        #[cfg(target_arch = "x86_64")]
        pub(crate) mod avx512 {
            use super::*;
            $(pub(crate) fn $name($($arg: $type),*) $(-> $result)? {
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")]
                fn inner($($arg: $type),*) $(-> $result)? {
                    $algorithm::<$crate::arch::Avx512>($($arg),*)
                }
                // SAFETY: only the table of a tier that the processor has refers to this function.
                unsafe { inner($($arg),*) }
            })*
        }
    };
}
pub(crate) use instantiate;
