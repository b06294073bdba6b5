//! The forms in which weights are packed: in the order in which kernels read them.

use half::f16;
use ondine_kernels::{
    self as k, CodeLevels, CodedShape, CodedSource, WeightShape, WeightSource, WeightType, WinogradShape,
};
use serde::{Deserialize, Serialize};

use super::rows;
use crate::{
    device::Device,
    encoding::Encoded,
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
    /// Panels of codes for matrix products, as few bits in memory as in the file.
    Coded {
        /// How codes become numbers.
        coding: Coding,
        /// As above.
        gate: bool,
    },
    /// Rows of codes, as few bits in memory as in the file.
    Rows {
        /// How codes become numbers.
        coding: Coding,
    },
    /// Panels for Winograd's convolution.
    Winograd {
        /// As above.
        precision: Precision,
        /// True if the input is doubled before.
        doubled: bool,
    },
}

/// How the codes of a weight become numbers, of those that kernels read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Coding {
    /// Of a code.
    pub(crate) bits: u32,
    /// Consecutive elements of a row with one scale.
    pub(crate) group: usize,
    pub(crate) levels: Levels,
}

impl Coding {
    /// Of weights whose activations have 8 bits, too.
    pub(crate) const ROWS8: Self = Self { bits: 8, group: 1, levels: Levels::Rows8 };

    /// True if kernels read such codes, which a file may not be believed.
    pub(crate) fn is_known(self) -> bool {
        let bits: &[u32] = match self.levels {
            Levels::Table => &[2, 4],
            Levels::Symmetric | Levels::Zeros => &[2, 4, 8],
            Levels::Rows8 => &[],
        };
        self.group > 0 && bits.contains(&self.bits)
    }
}

/// The kernels' [`CodeLevels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Levels {
    Symmetric,
    Zeros,
    Table,
    /// Not as they are: panels of 8 bits are made of them, for activations of 8 bits whatever the precision.
    Rows8,
}

/// Layers with fewer channels in or out than this are not quantized: they are at the border of a network, where
/// errors count most and there is little to gain.
const FEWEST_CHANNELS: usize = 32;

/// The form in which input `position` of `op`, a weight of this shape, is read; `coding` is that of its codes if
/// kernels read them.
pub(crate) fn format(op: &Op, position: usize, shape: &[usize], coding: Option<Coding>, options: Options) -> Format {
    let (groups, gate) = match op {
        Op::Linear(epilogue) if position == 1 => (1, epilogue.gate),
        Op::Conv2d(conv, _) if position == 1 => (conv.groups, false),
        Op::Recurrent { .. } if position == 1 && !shape.contains(&0) => {
            // The state is of 32 bits in every precision: errors of a step are handed on to all that follow.
            return Format::Panels { precision: Precision::F32, groups: 1, gate: false };
        }
        Op::Gather if position == 0 => {
            let coding = coding.filter(|coding| coding.levels != Levels::Rows8);
            return coding.map_or(Format::Plain, |coding| Format::Rows { coding });
        }
        _ => return Format::Plain,
    };
    match (op, coding) {
        (Op::Linear(_), Some(Coding { levels: Levels::Rows8, .. })) => {
            return Format::Panels { precision: Precision::Int8, groups, gate };
        }
        (Op::Linear(_), Some(coding)) if options.precision != Precision::Int8 => {
            return Format::Coded { coding, gate };
        }
        _ => {}
    }
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
pub(crate) fn reads_rows(op: &Op, shape: &[usize], coding: Option<Coding>, options: Options) -> bool {
    let quantized = matches!(format(op, 1, shape, coding, options), Format::Panels { precision: Precision::Int8, .. });
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

/// What the kernels call a weight `[out, in]` of codes.
pub(super) fn coded(coding: Coding, gate: bool, shape: &[usize]) -> CodedShape {
    let levels = match coding.levels {
        Levels::Symmetric => CodeLevels::Symmetric,
        Levels::Zeros => CodeLevels::Zeros,
        Levels::Table | Levels::Rows8 => CodeLevels::Table,
    };
    let Coding { bits, group, .. } = coding;
    CodedShape { outputs: shape[0], channels: shape[1], bits, group, levels, glu: gate }
}

/// Bytes of a packed weight.
pub(crate) fn packed_bytes(format: Format, shape: &[usize], device: &Device) -> usize {
    match format {
        Format::Plain => shape.iter().product::<usize>() * size_of::<f32>(),
        Format::Panels { precision, groups, gate } => panels(precision, groups, gate, shape).packed_size(&device.cpu),
        Format::Coded { coding, gate } => coded(coding, gate, shape).packed_size(&device.cpu),
        Format::Rows { coding } => rows::packed_rows(coding, [shape[0], shape[1]]),
        Format::Winograd { precision, doubled } => winograd(precision, doubled, shape).packed_size(&device.cpu),
    }
}

/// Packs a weight of [`packed_bytes`] bytes, aligned to a cache line.
///
/// # Panics
/// If the format is one of codes, which [`pack_codes`] packs.
pub(crate) fn pack(format: Format, shape: &[usize], values: &[f32], out: &mut [u8], device: &Device) {
    match format {
        Format::Plain => bytemuck::cast_slice_mut(out).copy_from_slice(values),
        Format::Panels { precision, groups, gate } => {
            let shape = panels(precision, groups, gate, shape);
            k::pack(&device.cpu, &shape, WeightSource::F32(values), out);
        }
        Format::Coded { .. } | Format::Rows { .. } => unreachable!("codes are not packed from numbers"),
        Format::Winograd { precision, doubled } => {
            k::pack_winograd(&device.cpu, &winograd(precision, doubled, shape), values, out);
        }
    }
}

/// Packs the codes of a weight, whose coding is that of the format.
///
/// # Panics
/// If the format is not one of codes.
pub(crate) fn pack_codes(format: Format, shape: &[usize], encoded: &Encoded<'_>, out: &mut [u8], device: &Device) {
    let (coding, gate) = match format {
        Format::Coded { coding, gate } => (coding, gate),
        Format::Rows { coding } => return rows::pack_rows(coding, [shape[0], shape[1]], encoded, out),
        _ => unreachable!("no format of codes: {format:?}"),
    };
    let halves = |numbers: &[f32]| numbers.iter().map(|&x| f16::from_f32(x)).collect::<Vec<f16>>();
    let (scales, zeros) = (halves(&encoded.scales), halves(&encoded.zeros));
    let codes = encoded.codes();
    let source = CodedSource { codes: &codes, scales: &scales, zeros: &zeros, table: &encoded.tables };
    k::pack_coded(&device.cpu, &coded(coding, gate, shape), &source, out);
}
