//! What an algorithm may ask of the instruction set that it is compiled for.

use crate::arch::{
    dot::{Dot, Tile},
    product::Product,
    vector::{CodeVector, Vector},
};

/// An instruction set.
pub(crate) trait Isa: Copy + 'static {
    /// True if `a * b + c` with one rounding is a single instruction.
    const FMA: bool;
    /// How products with packed operands are cut into what registers hold.
    const TILE: Tile;
    /// Vectors of [`Isa::Wide`] whose sums stay in registers for up to four rows.
    const WIDE_COUNT: usize;

    /// Vectors for loops that the compiler may widen further.
    type Vector: Vector;
    /// Vectors for loops that hold several of them in registers.
    type Wide: CodeVector;

    /// f32 times f32, into f32.
    type F32: Dot;
    /// bf16 times bf16, into f32.
    type Bf16: Dot;
    /// u8 times s8, into i32.
    type S8: Dot;

    /// Attention to operands of f32.
    type AttentionF32: Product;
    /// Attention to operands of bf16.
    type AttentionBf16: Product;
    /// Attention to operands of bf16, queries and keys of which may be rounded to 8 bits.
    type AttentionS8: Product;

    /// `a * b + c`, rounded once if [`Isa::FMA`], else twice.
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        if Self::FMA { a.mul_add(b, c) } else { a * b + c }
    }
}
