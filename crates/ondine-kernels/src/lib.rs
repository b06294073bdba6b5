//! The arithmetic of Ondine: matrix products, convolutions, attention and row-wise operations over plain slices.
//!
//! This crate knows no tensor, no graph and no model. Its functions take slices, shapes and strides; feature maps are
//! channels-last. Everything is written once and compiled for several instruction sets ([`Tier`]); the best one is
//! chosen when the program runs, so one binary serves every processor.
//!
//! - [`kernels()`] gives the table of functions for this processor; [`Kernels::for_tier`] any other that it can run.
//! - [`Pool`] holds the threads. Results have the same bits for any number of them.

#![expect(unsafe_code, reason = "SIMD intrinsics and disjoint writes from several threads")]

mod arch;
mod attention;
mod binary;
mod conv;
mod convert;
mod elementwise;
mod gemm;
mod layout;
mod math;
#[cfg(test)]
mod naive;
mod norm;
mod number;
mod quant;
mod reduce;
mod resize;
mod rowwise;
mod softmax;
mod strided;
#[cfg(test)]
mod suite;
mod table;
mod threads;

pub use attention::{AttentionMask, AttentionShape, attention, attention_scratch_bytes};
pub use binary::{Binary, Comparison, binary, compare, select};
pub use conv::{ConvProblem, ConvShape, conv2d};
pub use convert::{Scalar, convert, truth};
pub use elementwise::{Unary, glu, integer_unary, unary};
pub use gemm::{
    Epilogue, GemmProblem, Input, Output, Values, gemm,
    matmul::{MatmulShape, matmul},
    micro::GemmKernels,
    weights::{PACKED_ALIGN, PackedWeights, WeightShape, WeightSource, WeightType, pack},
};
pub use layout::{IndexError, concat, expand, gather_rows, pad, permute, slice, take_row};
pub use math::Activation;
pub use norm::{GroupNorm, group_norm, layer_norm, rms_norm};
pub use number::{Float, Lane, Number, Total};
pub use quant::{RowScale, dequantize_rows, quantize_rows, quantize_weights};
pub use reduce::{Reduce, argmax, reduce};
pub use resize::{Size, resize_bilinear, resize_nearest};
pub use rowwise::RowwiseKernels;
pub use softmax::softmax;
pub use strided::{Strided, broadcast_strides, dense_strides};
pub use table::{Kernels, Tier, TierError, detect, kernels};
pub use threads::Pool;

#[cfg(test)]
mod rowwise_suite;
