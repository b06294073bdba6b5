//! The arithmetic of Ondine: matrix products, convolutions, attention and row-wise operations over plain slices.
//!
//! This crate knows no tensor, no graph and no model. Its functions take slices, shapes and strides; feature maps are
//! channels-last. Everything is written once and compiled for several instruction sets ([`Tier`]); the best one is
//! chosen when the program runs, so one binary serves every processor.
//!
//! - [`Cpu`] is what kernels run on: a tier that this processor has, and threads. [`Cpu::new`] takes the best one.
//! - [`Pool`] holds the threads. Results have the same bits for any number of them. What only moves data, and needs no
//!   instructions of its own, takes a pool alone.
//! - [`pack`] brings weights into the order of a tier, once; [`gemm`] and [`conv2d`] multiply with them, and
//!   [`Epilogue`] says what happens to the product. [`matmul`] and [`attention`] multiply what is known only now.
//! - [`probe`] measures what this processor can do at most.
//!
//! ```
//! use ondine_kernels::{
//!     Activation, Cpu, Epilogue, GemmProblem, Input, Output, PACKED_ALIGN, PackedWeights, WeightShape, WeightSource,
//!     WeightType, gemm, pack,
//! };
//!
//! // Two outputs of three channels each.
//! let shape = WeightShape::linear(WeightType::F32, 2, 3);
//! let cpu = Cpu::new(2)?;
//! let mut memory = vec![0; shape.packed_size(&cpu) + PACKED_ALIGN];
//! let first = memory.as_ptr().align_offset(PACKED_ALIGN);
//! let packed = &mut memory[first..][..shape.packed_size(&cpu)];
//! pack(&cpu, &shape, WeightSource::F32(&[1.0, 0.0, -1.0, 0.5, 0.5, 0.5]), packed);
//!
//! let problem = GemmProblem {
//!     rows: 1,
//!     input: Input::F32(&[3.0, 4.0, 5.0]),
//!     input_stride: 3,
//!     weights: PackedWeights::new(&cpu, shape, packed),
//!     epilogue: Epilogue { bias: Some(&[0.5, 0.0]), activation: Activation::Relu, ..Epilogue::default() },
//!     out_stride: 2,
//! };
//! let mut out = [0.0; 2];
//! gemm(&cpu, &problem, Output::F32(&mut out));
//! assert_eq!(out, [0.0, 6.0]);
//! # Ok::<(), ondine_kernels::TierError>(())
//! ```
//!
//! # Profiles
//!
//! Kernels are fast with Cargo's own release profile, and with any that links with optimization (`lto`) or has a single
//! codegen unit. With `lto = "off"` and several units, parts of kernels are compiled without the instructions of the
//! tier that they belong to: some then take 20 times as long.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]
#![expect(unsafe_code, reason = "SIMD intrinsics and disjoint writes from several threads")]

mod arch;
mod attention;
mod binary;
mod conv;
mod convert;
mod cpu;
mod depthwise;
mod elementary;
mod elementwise;
mod gemm;
mod grid;
mod index;
mod layout;
mod linear_system;
mod math;
#[cfg(test)]
mod naive;
mod norm;
mod number;
mod pixels;
mod pooling;
pub mod probe;
mod quant;
mod recurrent;
mod reduce;
mod region;
mod resize;
mod rotate;
mod rowwise;
mod softmax;
mod strided;
#[cfg(test)]
mod suite;
mod threads;
mod whole_product;
mod winograd;

pub use arch::{dot::WeightType, tier::Tier};
pub use attention::{
    attention, attention_scratch_bytes,
    cached::{Cached, CodeScales},
    shape::{AttentionMask, AttentionShape, WINDOW_TILE},
};
pub use binary::{Binary, Comparison, binary, compare, select};
pub use conv::{ConvProblem, conv2d};
pub use convert::{Scalar, convert, truth};
pub use cpu::{Cpu, TierError};
pub use elementary::{Elementary, map, zip};
pub use elementwise::{Unary, glu, integer_unary, unary};
pub use gemm::{
    GemmProblem,
    coded::{
        CodedProblem, CodedShape,
        conv::{CodedConv, CodedConvShape, pack_coded_conv},
        gemm_coded, gemm_coded_columns,
        pack::{CodedSource, pack_coded},
        row::coded_row,
    },
    decode::{CodeLevels, GroupNumbers},
    drive::PanelWeights,
    gemm, gemm_columns,
    matmul::{MatmulShape, matmul},
    operand::{Epilogue, Input, Output, Values},
    weights::{PACKED_ALIGN, PackedWeights, WeightShape, WeightSource, pack},
};
pub use grid::{Bytes, CodeGrid, Grid, MOST_ZERO, Rounded, decode_codes, encode_rows, multiply_bytes, round_rows};
pub use index::{argsort, scan, scatter_rows, take};
pub use layout::{IndexError, check_indices, concat, expand, gather_rows, pad, permute, slice, take_row};
pub use linear_system::{cholesky, determinant, solve};
pub use math::Activation;
pub use norm::{GroupNorm, group_norm, layer_norm, rms_norm};
pub use number::{Float, Lane, Number, Total};
pub use pixels::ConvShape;
pub use pooling::{Fold, Sources, Windows, pool_windows, resample};
pub use quant::{
    RowScale, RowsOut,
    blocks::{BLOCK, blocked_row_len, quantize_blocks},
    dequantize_rows, quantize_beside, quantize_rows, quantize_weights, quantized_row_len,
};
pub use recurrent::{RecurrentCell, RecurrentProblem, RecurrentShape, RecurrentWeights, recurrent};
pub use reduce::{Reduce, argmax, reduce};
pub use region::{RegionKind, RegionShape, regions, suppress};
pub use resize::{Size, resize_bilinear, resize_nearest};
pub use rotate::{Rotation, rotate};
pub use softmax::softmax;
pub use strided::{Strided, broadcast_strides, dense_strides};
pub use threads::Pool;
pub use whole_product::whole_matmul;
pub use winograd::{WinogradProblem, WinogradShape, pack_winograd, winograd, winograd_scratch_bytes};

#[cfg(test)]
mod rowwise_suite;
