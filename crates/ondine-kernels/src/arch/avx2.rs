//! AVX2: 6 rows by 2 vectors of 8 lanes.

mod products;
mod vector;

use vector::F32x8;

use crate::arch::{dot::Tile, enter::enter, isa::Isa, product::Single};

/// AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

enter!(Avx2, "avx2", is_x86_feature_detected: "avx2" "fma" "f16c");

impl Isa for Avx2 {
    const FMA: bool = true;
    const TILE: Tile = TILE;
    const WIDE_COUNT: usize = WIDE_COUNT;

    type Vector = F32x8<false>;
    type Wide = F32x8<false>;

    type F32 = products::F32;
    type Bf16 = products::Bf16;
    type S8 = products::S8;

    // There are no products of bf16: such operands are made f32 when they are packed.
    type AttentionF32 = Single<F32x8<false>, 6, 6>;
    type AttentionBf16 = Single<F32x8<false>, 6, 6>;
    type AttentionS8 = Single<F32x8<false>, 6, 6>;
}

/// AVX2, FMA, F16C and AVX-VNNI.
#[derive(Clone, Copy)]
pub(super) struct Avx2Vnni;

enter!(Avx2Vnni, "avx2-vnni", is_x86_feature_detected: "avx2" "fma" "f16c" "avxvnni");

impl Isa for Avx2Vnni {
    const FMA: bool = true;
    const TILE: Tile = TILE;
    const WIDE_COUNT: usize = WIDE_COUNT;

    type Vector = F32x8<true>;
    type Wide = F32x8<true>;

    type F32 = products::F32;
    type Bf16 = products::Bf16;
    type S8 = products::S8Vnni;

    type AttentionF32 = Single<F32x8<true>, 6, 6>;
    type AttentionBf16 = Single<F32x8<true>, 6, 6>;
    type AttentionS8 = products::Eights;
}

const TILE: Tile = Tile { lanes: 8, width: 16, rows: 6 };
const WIDE_COUNT: usize = 2;
