//! AVX-512: 6 rows by 4 vectors of 16 lanes.

mod products;
mod vector;

use std::arch::x86_64::__cpuid;

use vector::F32x16;

use crate::arch::{dot::Tile, enter::enter, isa::Isa, product::Single};

/// AVX-512 F, BW, DQ, VL, BF16 and VNNI, and all of AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

enter!(
    Avx512, "avx512", is_x86_feature_detected:
    "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512bf16" "avx512vnni"
);

impl Isa for Avx512 {
    const FMA: bool = true;
    const TILE: Tile = TILE;
    const WIDE_COUNT: usize = WIDE_COUNT;

    type Vector = F32x16<true>;
    type Wide = F32x16<true>;

    type F32 = products::F32;
    type Bf16 = products::Bf16;
    type S8 = products::S8;

    type AttentionF32 = Single<F32x16<true>, 16, 8>;
    type AttentionBf16 = products::Pairs;
    type AttentionS8 = products::Eights<products::Pairs>;
}

/// AVX-512 F, BW, DQ, VL and VNNI, and all of AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx512Vnni;

enter!(
    Avx512Vnni, "avx512-vnni", is_x86_feature_detected:
    "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni"
);

impl Isa for Avx512Vnni {
    const FMA: bool = true;
    const TILE: Tile = TILE;
    const WIDE_COUNT: usize = WIDE_COUNT;

    type Vector = F32x16<false>;
    type Wide = F32x16<false>;

    type F32 = products::F32;
    type Bf16 = products::Halves;
    type S8 = products::S8;

    // There are no products of bf16: such operands are made f32 when they are packed.
    type AttentionF32 = Single<F32x16<false>, 16, 8>;
    type AttentionBf16 = Single<F32x16<false>, 16, 8>;
    type AttentionS8 = products::Eights<Single<F32x16<false>, 16, 8>>;
}

const TILE: Tile = Tile { lanes: 16, width: 64, rows: 6 };
const WIDE_COUNT: usize = 4;

/// True if two products of f32 are faster than the instruction for bf16: on Intel's processors but Cooper Lake, which
/// leave such products to tiles.
pub(super) fn is_bf16_slow() -> bool {
    const COOPER_LAKE: [u32; 2] = [6, 0x55];
    let vendor = __cpuid(0);
    let version = __cpuid(1).eax;
    let intel = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == *b"GenuineIntel";
    let (family, model) = ((version >> 8) & 0xf, ((version >> 4) & 0xf) | ((version >> 12) & 0xf0));
    intel && [family, model] != COOPER_LAKE
}
