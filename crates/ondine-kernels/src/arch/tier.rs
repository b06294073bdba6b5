//! The tiers, and what is asked of one.

use std::fmt;

#[cfg(target_arch = "x86_64")]
use crate::arch::{
    avx2::{Avx2, Avx2Vnni},
    avx512::{Avx512, Avx512Vnni, is_bf16_slow},
};
use crate::arch::{
    dot::{Dot, Tile, WeightType},
    enter::{Enter, RawKernel},
    generic::Generic,
    product::{Product, Words},
    vector::CodeVector,
};

/// A family of instruction sets, the least able first: those of the architecture that the program is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// What every processor of the architecture can do.
    Generic,
    /// x86-64 with AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// x86-64 with AVX2, FMA, F16C and AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx2Vnni,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// x86-64 with AVX-512 F, BW, DQ, VL, BF16 and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// What is asked of the instruction set of a tier. (Private: a set may be known without the processor having it.)
trait Ask {
    type Answer;

    fn ask<I: Enter>(self) -> Self::Answer;
}

impl Tier {
    /// Every tier, the least able first.
    #[cfg(target_arch = "x86_64")]
    pub const ALL: [Self; 5] = [Self::Generic, Self::Avx2, Self::Avx2Vnni, Self::Avx512Vnni, Self::Avx512];

    /// Every tier, the least able first.
    #[cfg(not(target_arch = "x86_64"))]
    pub const ALL: [Self; 1] = [Self::Generic];

    /// The one place where a tier becomes its instruction set.
    #[inline(always)]
    fn ask<A: Ask>(self, question: A) -> A::Answer {
        match self {
            Self::Generic => question.ask::<Generic>(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => question.ask::<Avx2>(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni => question.ask::<Avx2Vnni>(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => question.ask::<Avx512Vnni>(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => question.ask::<Avx512>(),
        }
    }

    /// Runs a kernel with the instructions of the tier.
    ///
    /// # Safety
    /// This processor has them, see [`Tier::is_available`], and what the kernel demands holds.
    #[inline(always)]
    pub(crate) unsafe fn enter<K: RawKernel>(self, kernel: K) -> K::Output {
        struct Run<K>(K);

        impl<K: RawKernel> Ask for Run<K> {
            type Answer = K::Output;

            #[inline(always)]
            fn ask<I: Enter>(self) -> K::Output {
                // SAFETY: the caller of `Tier::enter` vouches for processor and kernel.
                unsafe { I::enter(self.0) }
            }
        }

        self.ask(Run(kernel))
    }

    /// The name in `ONDINE_CPU` and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        struct Name;

        impl Ask for Name {
            type Answer = &'static str;

            fn ask<I: Enter>(self) -> &'static str {
                I::NAME
            }
        }

        self.ask(Name)
    }

    /// True if this processor has the instructions of the tier.
    #[must_use]
    pub fn is_available(self) -> bool {
        struct IsAvailable;

        impl Ask for IsAvailable {
            type Answer = bool;

            fn ask<I: Enter>(self) -> bool {
                I::is_available()
            }
        }

        self.ask(IsAvailable)
    }

    /// The best one that this processor has.
    #[must_use]
    pub fn best() -> Self {
        Self::ALL.into_iter().rfind(|tier| tier.is_available() && tier.pays()).unwrap_or(Self::Generic)
    }

    /// False if this processor is faster with the tier before.
    fn pays(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => !is_bf16_slow(),
            _ => true,
        }
    }

    /// True if the tier multiplies bf16 by instructions of their own, and not as f32.
    #[must_use]
    pub fn has_bf16_products(self) -> bool {
        struct HasBf16Products;

        impl Ask for HasBf16Products {
            type Answer = bool;

            fn ask<I: Enter>(self) -> bool {
                I::Bf16::LINKED > 0
            }
        }

        self.ask(HasBf16Products)
    }

    /// See [`CodeVector::MASKS_COMPETE`].
    pub(crate) fn masks_compete(self) -> bool {
        struct MasksCompete;

        impl Ask for MasksCompete {
            type Answer = bool;

            fn ask<I: Enter>(self) -> bool {
                I::Wide::MASKS_COMPETE
            }
        }

        self.ask(MasksCompete)
    }

    /// How products with packed operands are cut.
    pub(crate) fn tile(self) -> Tile {
        struct TileOf;

        impl Ask for TileOf {
            type Answer = Tile;

            fn ask<I: Enter>(self) -> Tile {
                I::TILE
            }
        }

        self.ask(TileOf)
    }

    /// How attention lays out operands of a type, queries and keys of which may be rounded if they are `eight_bit`.
    pub(crate) fn attention_words(self, dtype: WeightType, eight_bit: bool) -> Words {
        struct WordsOf(WeightType, bool);

        impl Ask for WordsOf {
            type Answer = Words;

            fn ask<I: Enter>(self) -> Words {
                match self {
                    Self(WeightType::Bf16, true) => I::AttentionS8::WORDS,
                    Self(WeightType::Bf16, false) => I::AttentionBf16::WORDS,
                    Self(..) => I::AttentionF32::WORDS,
                }
            }
        }

        self.ask(WordsOf(dtype, eight_bit))
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::dot::{MAX_ROWS, MAX_WIDTH};

    #[test]
    fn every_tier_has_a_name_of_its_own() {
        for (i, tier) in Tier::ALL.into_iter().enumerate() {
            assert!(Tier::ALL[..i].iter().all(|other| other < &tier && other.name() != tier.name()), "{tier}");
        }
        assert!(Tier::Generic.is_available());
    }

    #[test]
    fn tiles_fit_into_what_is_set_aside_for_them() {
        for tier in Tier::ALL {
            let Tile { lanes, width, rows } = tier.tile();
            assert!(width.is_multiple_of(lanes) && width <= MAX_WIDTH && rows <= MAX_ROWS, "{tier}");
        }
    }
}
