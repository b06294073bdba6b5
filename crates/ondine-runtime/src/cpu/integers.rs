//! Codes of 8 bits that the program computes with: numbers to codes and back, products of codes.

use ondine_kernels::{self as k, ConvProblem, Grid, Input, MatmulShape, RowScale};

use super::{
    native::Finish,
    operand::{Operand, Target},
    processor::Processor,
    products::{conv_shape, finish, linear_of, matmul_shape, rounded},
};
use ondine_graph::{Conv2d, DType, Epilogue, Result, fail};

/// The numbers of `x`, `inverse` and `zero`.
fn grid<'a>(ends: [f32; 2], moved_first: bool, inputs: &[Operand<'a>]) -> Result<(&'a [f32], Grid<'a>)> {
    let [x, inverse, zero, ..] = inputs else { fail!(Shape, "codes of numbers take their scale and zero") };
    Ok((x.view(), Grid { inverse: inverse.view(), zero: zero.view(), ends, moved_first }))
}

fn width(x: &Operand<'_>) -> usize {
    x.shape.last().copied().unwrap_or(1)
}

pub(super) fn encode(
    ends: [f32; 2],
    moved_first: bool,
    shift: f32,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let (x, grid) = grid(ends, moved_first, inputs)?;
    k::encode_rows(&device.cpu, width(&inputs[0]), x, &grid, shift, out.bytes);
    Ok(())
}

pub(super) fn round(
    ends: [f32; 2],
    moved_first: bool,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let (x, grid) = grid(ends, moved_first, inputs)?;
    let Some(scale) = inputs.get(3) else { fail!(Shape, "codes without a scale") };
    k::round_rows(&device.cpu, width(&inputs[0]), x, &grid, scale.view(), out.view());
    Ok(())
}

pub(super) fn decode(inputs: &[Operand<'_>], out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let [codes, scale, zero] = inputs else { fail!(Shape, "codes have a scale and a zero") };
    let (&[scale], &[zero]) = (scale.view::<f32>(), zero.view::<f32>()) else {
        fail!(Shape, "codes have one scale and one zero");
    };
    k::decode_codes(&device.cpu, codes.bytes, codes.dtype == DType::I8, scale, zero, out.view());
    Ok(())
}

/// How rows of codes are read; one for all, or one for each.
fn row_scales(scale: &Operand<'_>, zero: &Operand<'_>) -> Result<Vec<RowScale>> {
    let (scales, zeros) = (scale.view::<f32>(), zero.view::<f32>());
    let count = scales.len().max(zeros.len());
    let of = |numbers: &[f32], row: usize| if numbers.len() == 1 { numbers[0] } else { numbers[row] };
    let row = |row: usize| {
        let zero = of(zeros, row);
        if !(0.0..=255.0).contains(&zero) || zero.fract() != 0.0 {
            fail!(Unsupported, "codes of 8 bits whose zero is {zero}");
        }
        Ok(RowScale { scale: of(scales, row), zero: zero as i32 })
    };
    if [scales, zeros].iter().any(|numbers| numbers.len() != 1 && numbers.len() != count) {
        fail!(Shape, "{} scales and {} zeros", scales.len(), zeros.len());
    }
    (0..count).map(row).collect()
}

pub(super) fn linear(
    epilogue: Epilogue,
    end: Finish,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let [inputs @ .., scale, zero] = inputs else { fail!(Shape, "codes have a scale and a zero") };
    let [x, ..] = inputs else { fail!(Shape, "linear needs an input and a weight") };
    if out.bytes.is_empty() {
        return Ok(());
    }
    let scales = row_scales(scale, zero)?;
    linear_of(Input::U8 { values: x.bytes, scales: &scales }, (epilogue, end), inputs, None, out, device)
}

pub(super) fn conv2d(
    conv: Conv2d,
    (epilogue, end): (Epilogue, Finish),
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let [inputs @ .., scale, zero] = inputs else { fail!(Shape, "codes have a scale and a zero") };
    let [x, weight, ..] = inputs else { fail!(Shape, "conv2d needs an input and a weight") };
    let shape = conv_shape(conv, x.shape, weight.shape)?;
    if out.bytes.is_empty() {
        return Ok(());
    }
    let scales = row_scales(scale, zero)?;
    let problem = ConvProblem {
        shape,
        inputs: &[Input::U8 { values: x.bytes, scales: &scales }],
        weights: weight.packed(device)?.into(),
        epilogue: k::Epilogue { rounded: rounded(end), ..finish(epilogue, inputs, shape.outputs)? },
        out_stride: shape.outputs,
    };
    k::conv2d(&device.cpu, &problem, out.stored(end)?);
    Ok(())
}

/// Products of bytes, exact.
pub(super) fn matmul(transposed: bool, inputs: &[Operand<'_>], out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let [a, b] = inputs else { fail!(Shape, "matmul takes 2 inputs") };
    let MatmulShape { batch, rows, inner, columns, .. } = matmul_shape(transposed, &[a.shape, b.shape]);
    let signed = a.dtype == DType::I8;
    let mut turned = vec![0_u8; if transposed { 0 } else { inner * columns }];
    let out = out.view::<i32>();
    for index in 0..batch {
        let range = index * rows * inner..(index + 1) * rows * inner;
        let a = match signed {
            true => k::Bytes::Signed(&a.view::<i8>()[range]),
            false => k::Bytes::Unsigned(&a.view::<u8>()[range]),
        };
        let b = &b.bytes[index * inner * columns..][..inner * columns];
        let b = match transposed {
            true => b,
            false => {
                k::permute(device.cpu.pool(), 1, &[inner, columns], &[1, 0], b, &mut turned);
                &turned
            }
        };
        let out = &mut out[index * rows * columns..][..rows * columns];
        k::multiply_bytes(&device.cpu, [rows, inner, columns], a, bytemuck::cast_slice(b), out);
    }
    Ok(())
}
