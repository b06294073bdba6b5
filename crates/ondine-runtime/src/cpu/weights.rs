//! The forms in which weights are packed: in the order in which kernels read them.

use ondine_kernels::{self as k, WeightShape, WeightSource, WeightType, WinogradShape};
use serde::{Deserialize, Serialize};

use crate::{
    device::Device,
    op::Op,
    specialize::{Options, Precision},
};

/// The form in which an operator reads a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Format {
    /// Row-major f32: biases, parameters of norms, tables, everything that is not multiplied as a matrix.
    Plain,
    /// Panels for matrix products.
    Panels {
        /// Type of the packed elements, which decides that of the activations that they meet.
        precision: Precision,
        /// Independent groups of a convolution.
        groups: usize,
        /// True if the second half of the outputs gates the first.
        gate: bool,
    },
    /// Panels for Winograd's convolution.
    Winograd {
        /// As above.
        precision: Precision,
        /// True if the input is doubled before.
        doubled: bool,
    },
}

/// Layers with fewer channels in or out than this are not quantized: they are at the border of a network, where
/// errors count most and there is little to gain.
const FEWEST_CHANNELS: usize = 32;

/// The form in which input `position` of `op`, a weight of this shape, is read.
pub(crate) fn format(op: &Op, position: usize, shape: &[usize], options: Options) -> Format {
    let (groups, gate) = match op {
        Op::Linear(epilogue) if position == 1 => (1, epilogue.gate),
        Op::Conv2d(conv, _) if position == 1 => (conv.groups, false),
        _ => return Format::Plain,
    };
    let large = shape[..2].iter().all(|&channels| channels >= FEWEST_CHANNELS) && groups == 1;
    let precision = match options.precision {
        Precision::Int8 if !large => Precision::BF16,
        precision => precision,
    };
    match op {
        Op::Conv2d(conv, _) if conv.winograd => Format::Winograd { precision, doubled: conv.upsample },
        _ => Format::Panels { precision, groups, gate },
    }
}

/// True if `op` with a weight of this shape takes quantized rows of what it multiplies.
pub(crate) fn reads_rows(op: &Op, shape: &[usize], options: Options) -> bool {
    let quantized = matches!(format(op, 1, shape, options), Format::Panels { precision: Precision::Int8, .. });
    quantized && matches!(op, Op::Linear(_))
}

/// What the kernels call the type of a weight.
pub(super) fn weight_type(precision: Precision) -> WeightType {
    match precision {
        Precision::F32 => WeightType::F32,
        Precision::BF16 => WeightType::Bf16,
        Precision::Int8 => WeightType::S8,
    }
}

/// What the kernels call a weight `[out, in, 3, 3]` for Winograd's convolution.
pub(super) fn winograd(precision: Precision, doubled: bool, shape: &[usize]) -> WinogradShape {
    WinogradShape { dtype: weight_type(precision), outputs: shape[0], channels: shape[1], doubled }
}

/// What the kernels call a weight of this shape: `[out, in / groups, ..]`, what follows being the kernel's taps.
pub(super) fn panels(precision: Precision, groups: usize, gate: bool, shape: &[usize]) -> WeightShape {
    let taps = shape[2..].iter().product();
    WeightShape { taps, groups, glu: gate, ..WeightShape::linear(weight_type(precision), shape[0], shape[1] * groups) }
}

/// Bytes of a packed weight.
pub(crate) fn packed_bytes(format: Format, shape: &[usize], device: &Device) -> usize {
    match format {
        Format::Plain => shape.iter().product::<usize>() * size_of::<f32>(),
        Format::Panels { precision, groups, gate } => {
            panels(precision, groups, gate, shape).packed_size(device.kernels)
        }
        Format::Winograd { precision, doubled } => winograd(precision, doubled, shape).packed_size(device.kernels),
    }
}

/// Packs a weight of [`packed_bytes`] bytes, aligned to a cache line.
pub(crate) fn pack(format: Format, shape: &[usize], values: &[f32], out: &mut [u8], device: &Device) {
    match format {
        Format::Plain => bytemuck::cast_slice_mut(out).copy_from_slice(values),
        Format::Panels { precision, groups, gate } => {
            let shape = panels(precision, groups, gate, shape);
            k::pack(&device.pool, device.kernels, &shape, WeightSource::F32(values), out);
        }
        Format::Winograd { precision, doubled } => {
            k::pack_winograd(&device.pool, device.kernels, &winograd(precision, doubled, shape), values, out);
        }
    }
}
