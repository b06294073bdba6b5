//! The way into kernels with the processor features of an instruction set.

use std::{hint::black_box, mem::MaybeUninit};

use crate::arch::isa::Isa;

/// A kernel written once for every instruction set. `run` and all that it calls are `#[inline(always)]`, so that they
/// are compiled with the features of the tier that enters it.
pub(crate) trait Kernel {
    /// What it yields.
    type Output;

    /// Does the work.
    fn run<I: Isa>(self) -> Self::Output;
}

/// A [`Kernel`] over addresses, which cannot check what it is given.
pub(crate) trait RawKernel {
    /// What it yields.
    type Output;

    /// Does the work.
    ///
    /// # Safety
    /// The addresses are valid for what the fields of the kernel say of them.
    unsafe fn run<I: Isa>(self) -> Self::Output;
}

impl<K: Kernel> RawKernel for K {
    type Output = K::Output;

    #[inline(always)]
    unsafe fn run<I: Isa>(self) -> Self::Output {
        Kernel::run::<I>(self)
    }
}

/// An instruction set that kernels can be entered with.
pub(super) trait Enter: Isa {
    /// The name of its tier.
    const NAME: &'static str;

    /// True if this processor has the instructions.
    fn is_available() -> bool;

    /// Runs a kernel that is compiled with the instructions.
    ///
    /// # Safety
    /// This processor has the instructions, and what the kernel demands holds.
    unsafe fn enter<K: RawKernel>(kernel: K) -> K::Output;
}

/// Makes the function that it is inlined into begin its frame with a cache line of its own.
///
/// The compiler aligns a frame to vectors only if it knows of them before it hands out registers. Those that it has to
/// set aside afterwards would otherwise lie across two cache lines each.
#[inline(always)]
pub(super) fn align_stack() {
    #[repr(align(64))]
    struct Line(#[expect(dead_code, reason = "only its place counts")] [u8; 64]);
    black_box(&MaybeUninit::<Line>::uninit());
}

/// Implements [`Enter`] for an instruction set: its name, the macro of the standard library that detects features, and
/// the features. They are listed once, so no kernel is compiled with any that were not detected.
macro_rules! enter {
    ($isa:ident, $name:literal $(, $detected:ident: $($feature:tt)+)?) => {
        impl $crate::arch::enter::Enter for $isa {
            const NAME: &'static str = $name;

            fn is_available() -> bool {
                true $($(&& std::arch::$detected!($feature))+)?
            }

            #[inline(always)]
            unsafe fn enter<K: $crate::arch::enter::RawKernel>(kernel: K) -> K::Output {
                $($(#[target_feature(enable = $feature)])+)?
                #[inline(never)]
                unsafe fn inner<K: $crate::arch::enter::RawKernel>(kernel: K) -> K::Output {
                    $crate::arch::enter::align_stack();
                    // SAFETY: as the caller says.
                    unsafe { kernel.run::<$isa>() }
                }
                // SAFETY: as the caller says.
                unsafe { inner(kernel) }
            }
        }
    };
}

pub(super) use enter;
