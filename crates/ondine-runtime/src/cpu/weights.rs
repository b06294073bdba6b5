//! Packing: weights in the order in which kernels read them.

use half::f16;
use ondine_graph::{
    Result, element_count, fail,
    weights::encoded::{Encoded, Unpacked},
};
use ondine_kernels::{
    self as k, CodedConvShape, CodedShape, CodedSource, GroupNumbers, WeightShape, WeightSource, WeightType,
    WinogradShape,
};

use super::{
    coding::{Coding, Levels},
    form::Format,
    processor::Processor,
};
use crate::options::Precision;

/// More bytes than an element takes in any form, and than fit an address with all that is added.
const MOST_BYTES: usize = 64;

/// What the kernels call the type of a weight.
pub(super) fn weight_type(precision: Precision) -> WeightType {
    match precision {
        Precision::F32 => WeightType::F32,
        // Weights that are numbers are as in half precision.
        Precision::BF16 | Precision::A8 => WeightType::Bf16,
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

/// What the kernels call a weight `[out, in, height, width]` of a convolution of codes that become words of a
/// precision.
///
/// # Errors
/// If they do not read such codes.
pub(super) fn coded_conv(coding: Coding, widened: Precision, shape: &[usize]) -> Result<CodedConvShape> {
    let &[_, channels, height, width] = shape else { fail!(Format, "a convolution with a weight of shape {shape:?}") };
    let (taps, matrix) = (height * width, coding.shape(false, &shape[..2]));
    let CodedShape { outputs, bits, group, levels, numbers, .. } = matrix;
    let steps = matches!(numbers, GroupNumbers::Steps { .. });
    if coding.levels == Levels::Rows8 || steps || group > channels * taps {
        fail!(Format, "no weight of a convolution of shape {shape:?} is packed as {coding:?}");
    }
    let weights = WeightShape { taps, ..WeightShape::linear(weight_type(widened), outputs, channels) };
    Ok(CodedConvShape { weights, bits, group, levels, numbers })
}

/// Bytes from one matrix of a stack to the next.
pub(super) fn stack_stride(format: Format, matrix: &[usize], device: &Processor) -> usize {
    let size = match format {
        Format::CodedStack { coding } => coding.shape(false, matrix).packed_size(&device.cpu),
        Format::PanelStack { precision } => panels(precision, 1, false, matrix).packed_size(&device.cpu),
        _ => 0,
    };
    size.next_multiple_of(k::PACKED_ALIGN)
}

/// Bytes of a packed weight.
///
/// # Errors
/// If no weight of this shape can be in this form, or the size overflows.
pub(super) fn packed_bytes(format: Format, shape: &[usize], device: &Processor) -> Result<usize> {
    let count = element_count(shape).and_then(|count| count.checked_mul(MOST_BYTES));
    let rank = match format {
        Format::Plain => 0..=usize::MAX,
        Format::Panels { .. } | Format::CodePanels { .. } => 2..=usize::MAX,
        Format::Coded { .. } | Format::Blocks { .. } => 2..=2,
        Format::PanelStack { .. } | Format::CodedStack { .. } => 3..=3,
        Format::Winograd { .. } | Format::CodedConv { .. } => 4..=4,
    };
    if count.is_none() || !rank.contains(&shape.len()) {
        fail!(Format, "no weight of shape {shape:?} is packed as {format:?}");
    }
    Ok(match format {
        Format::Plain => shape.iter().product::<usize>() * size_of::<f32>(),
        Format::Panels { precision, groups, gate } => panels(precision, groups, gate, shape).packed_size(&device.cpu),
        Format::CodePanels { groups, gate } => panels(Precision::Int8, groups, gate, shape).packed_size(&device.cpu),
        Format::Coded { coding, gate } => coding.shape(gate, shape).packed_size(&device.cpu),
        Format::CodedConv { coding, widened } => coded_conv(coding, widened, shape)?.packed_size(&device.cpu),
        Format::PanelStack { .. } | Format::CodedStack { .. } => shape[0] * stack_stride(format, &shape[1..], device),
        Format::Blocks { block } => match block.row_bytes(shape[1]) {
            Some(row) => shape[0] * row,
            None => fail!(Format, "no weight of shape {shape:?} is made of {block} blocks"),
        },
        Format::Winograd { precision, doubled } => winograd(precision, doubled, shape).packed_size(&device.cpu),
    })
}

/// Packs a weight of [`packed_bytes`] bytes, aligned to a cache line.
///
/// # Errors
/// If the format is one of codes, which [`pack_codes`] packs.
pub(super) fn pack(format: Format, shape: &[usize], values: &[f32], out: &mut [u8], device: &Processor) -> Result<()> {
    match format {
        Format::Plain => bytemuck::cast_slice_mut(out).copy_from_slice(values),
        Format::Panels { precision, groups, gate } => {
            let shape = panels(precision, groups, gate, shape);
            k::pack(&device.cpu, &shape, WeightSource::F32(values), out);
        }
        Format::PanelStack { precision } => {
            let (matrix, stride) =
                (panels(precision, 1, false, &shape[1..]), stack_stride(format, &shape[1..], device));
            let matrices = values.chunks_exact(shape[1] * shape[2]).zip(out.chunks_exact_mut(stride));
            for (values, out) in matrices {
                let out = &mut out[..matrix.packed_size(&device.cpu)];
                k::pack(&device.cpu, &matrix, WeightSource::F32(values), out);
            }
        }
        Format::Coded { .. }
        | Format::CodedConv { .. }
        | Format::CodePanels { .. }
        | Format::CodedStack { .. }
        | Format::Blocks { .. } => {
            fail!(Format, "codes are not packed from numbers")
        }
        Format::Winograd { precision, doubled } => {
            k::pack_winograd(&device.cpu, &winograd(precision, doubled, shape), values, out);
        }
    }
    Ok(())
}

/// Packs the codes of a weight, whose coding is that of the format.
///
/// # Errors
/// If the format is not one of codes.
pub(super) fn pack_codes(
    format: Format,
    shape: &[usize],
    encoded: &Encoded<'_>,
    out: &mut [u8],
    device: &Processor,
) -> Result<()> {
    match format {
        Format::Coded { .. } | Format::CodedConv { .. } => {}
        Format::CodedStack { coding } => {
            pack_code_stack(coding, shape, encoded, out, device);
            return Ok(());
        }
        Format::CodePanels { groups, gate } => {
            let middle = 1_i16 << (encoded.encoding.bits - 1);
            let Unpacked { codes, scales, .. } = encoded.unpacked();
            let values: Vec<i8> = codes.iter().map(|&code| (i16::from(code) - middle) as i8).collect();
            let source = WeightSource::S8 { values: &values, scales: &scales };
            k::pack(&device.cpu, &panels(Precision::Int8, groups, gate, shape), source, out);
            return Ok(());
        }
        Format::Blocks { .. } => {
            for (index, out) in out.chunks_exact_mut(encoded.row_bytes()).enumerate() {
                out.copy_from_slice(encoded.row(index));
            }
            return Ok(());
        }
        Format::Plain | Format::Panels { .. } | Format::PanelStack { .. } | Format::Winograd { .. } => {
            fail!(Format, "no format of codes: {format:?}")
        }
    }
    let zeros: Vec<f16> = encoded.zeros.iter().map(|&x| f16::from_f32(x)).collect();
    let Unpacked { codes, scales, minima, units } = encoded.unpacked();
    let source = CodedSource {
        codes: &codes,
        scales: &scales,
        zeros: &zeros,
        minima: &minima,
        units: &units,
        table: &encoded.tables,
    };
    match format {
        Format::CodedConv { coding, widened } => {
            k::pack_coded_conv(&device.cpu, &coded_conv(coding, widened, shape)?, &source, out);
        }
        Format::Coded { coding, gate } => k::pack_coded(&device.cpu, &coding.shape(gate, shape), &source, out),
        _ => fail!(Format, "no format of codes: {format:?}"),
    }
    Ok(())
}

/// Packs the blocks of a stack of matrices, whose rows are whole blocks.
fn pack_code_stack(coding: Coding, shape: &[usize], encoded: &Encoded<'_>, out: &mut [u8], device: &Processor) {
    let stride = stack_stride(Format::CodedStack { coding }, &shape[1..], device);
    let matrix = coding.shape(false, &shape[1..]);
    let Unpacked { codes, scales, minima, units } = encoded.unpacked();
    let [numbers, of_scales, of_minima, of_units] =
        [codes.len(), scales.len(), minima.len(), units.len()].map(|len| len / shape[0]);
    for (index, out) in out.chunks_exact_mut(stride).enumerate() {
        let source = CodedSource {
            codes: &codes[index * numbers..][..numbers],
            scales: &scales[index * of_scales..][..of_scales],
            zeros: &[],
            minima: &minima[index * of_minima..][..of_minima],
            units: &units[index * of_units..][..of_units],
            table: &[],
        };
        k::pack_coded(&device.cpu, &matrix, &source, &mut out[..matrix.packed_size(&device.cpu)]);
    }
}
