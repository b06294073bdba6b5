//! Operators that move elements without changing them.

use half::{bf16, f16};
use ondine_kernels as k;

use super::{
    form::Format,
    operand::{Operand, Target, dispatch},
    processor::Processor,
    share::map_rows,
};
use ondine_graph::{DType, Dim, Error, ErrorKind, Resample, Result, fail};

pub(super) fn permute(axes: &[usize], x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    k::permute(device.cpu.pool(), x.dtype.size(), x.shape, axes, x.bytes, out.bytes);
    Ok(())
}

pub(super) fn expand(x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    k::expand(device.cpu.pool(), x.dtype.size(), x.shape, out.shape, x.bytes, out.bytes);
    Ok(())
}

/// The input as it is.
pub(super) fn whole(x: Operand<'_>, out: &mut Target<'_>) -> Result<()> {
    out.bytes.copy_from_slice(x.bytes);
    Ok(())
}

/// A value that lies among bytes.
pub(super) fn unpack(offset: &Dim, x: Operand<'_>, out: &mut Target<'_>) -> Result<()> {
    let end = offset.fixed().and_then(|offset| offset.checked_add(out.bytes.len()));
    match (offset.fixed(), end.filter(|&end| end <= x.bytes.len())) {
        (Some(offset), Some(end)) => out.bytes.copy_from_slice(&x.bytes[offset..end]),
        _ => fail!(Shape, "byte {offset} of {}", x.bytes.len()),
    }
    Ok(())
}

pub(super) fn slice(axis: usize, start: &Dim, x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let Some(start) = start.fixed() else { fail!(Shape, "a slice that begins at {start}, which is not bound") };
    let end = start.saturating_add(out.shape[axis]);
    if end > x.shape[axis] {
        fail!(Shape, "slice {start}..{end} is outside dimension {axis} of size {}", x.shape[axis]);
    }
    k::slice(device.cpu.pool(), x.dtype.size(), x.shape, axis, start..end, x.bytes, out.bytes);
    Ok(())
}

pub(super) fn concat(axis: usize, inputs: &[Operand<'_>], out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let outer = out.shape[..axis].iter().product();
    let parts: Vec<_> = inputs.iter().map(|input| input.bytes).collect();
    k::concat(device.cpu.pool(), outer, &parts, out.bytes);
    Ok(())
}

pub(super) fn pad(amounts: &[[usize; 2]], x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    k::pad(device.cpu.pool(), x.dtype.size(), x.shape, amounts, x.bytes, out.bytes);
    Ok(())
}

/// Bytes of the rows that an embedding looks up before they are rounded.
pub(super) fn gathered_bytes(shapes: &[&[usize]]) -> usize {
    let columns = shapes[0].iter().skip(1);
    columns.chain(shapes[1]).fold(size_of::<f32>(), |product, &n| product.saturating_mul(n))
}

pub(super) fn gather(
    table: Operand<'_>,
    indices: Operand<'_>,
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Processor,
) -> Result<()> {
    let indices = wide_indices(indices)?;
    let columns: usize = table.shape[1..].iter().product();
    if columns == 0 || out.bytes.is_empty() {
        return Ok(());
    }
    let place = |error: k::IndexError| Error::new(ErrorKind::Shape, error.to_string());
    let look_up = |out: &mut [u8]| {
        if let Some(Format::Coded { coding, .. }) = table.format {
            let indices = k::check_indices(&indices, table.shape[0]).map_err(place)?;
            let shape = coding.shape(false, table.shape);
            map_rows(device, bytemuck::cast_slice_mut(out), columns, |index, out| {
                k::coded_row(&device.cpu, &shape, table.bytes, indices[index], out);
            });
            return Ok(());
        }
        if let Some(Format::Blocks { block }) = table.format {
            let indices = k::check_indices(&indices, table.shape[0]).map_err(place)?;
            let row_bytes = table.bytes.len() / table.shape[0];
            map_rows(device, bytemuck::cast_slice_mut(out), columns, |index, out| {
                block.decode(&table.bytes[indices[index] * row_bytes..][..row_bytes], out);
            });
            return Ok(());
        }
        k::gather_rows(device.cpu.pool(), columns * table.dtype.size(), table.bytes, &indices, out).map_err(place)
    };
    if table.dtype == out.dtype {
        return look_up(out.bytes);
    }
    // Tables stay in 32 bits; only the rows that are looked up are rounded.
    let scratch = &mut scratch[..indices.len() * columns * size_of::<f32>()];
    look_up(scratch)?;
    let rows: &[f32] = bytemuck::cast_slice(scratch);
    dispatch!("gather", out.dtype, [BF16 => bf16, F16 => f16], T => {
        k::convert(&device.cpu, rows, out.view::<T>());
    })
}

pub(super) fn take_row(x: Operand<'_>, position: Operand<'_>, out: &mut Target<'_>, _device: &Processor) -> Result<()> {
    let [_, rows, width] = x.shape else { fail!(Shape, "take_row of rank {}", x.shape.len()) };
    let indices = wide_indices(position)?;
    k::take_row(*rows, width * x.dtype.size(), x.bytes, &indices, out.bytes)
        .map_err(|error| Error::new(ErrorKind::Shape, error.to_string()))
}

pub(super) fn wide_indices(indices: Operand<'_>) -> Result<Vec<i64>> {
    match indices.dtype {
        DType::I64 => Ok(indices.view::<i64>().to_vec()),
        DType::I32 => Ok(indices.view::<i32>().iter().map(|&index| i64::from(index)).collect()),
        other => fail!(Shape, "indices of type {other}"),
    }
}

pub(super) fn resize(how: Resample, x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let ([_, from_h, from_w, channels], [_, to_h, to_w, _]) = (x.shape, out.shape) else {
        fail!(Shape, "resize of rank {}", x.shape.len());
    };
    let size = |height: usize, width: usize| k::Size { height, width };
    let (from, to) = (size(*from_h, *from_w), size(*to_h, *to_w));
    dispatch!("resize", x.dtype, [F32 => f32, BF16 => bf16], T => match how {
        Resample::Nearest => k::resize_nearest(device.cpu.pool(), *channels, from, to, x.view::<T>(), out.view()),
        Resample::Bilinear => {
            k::resize_bilinear(&device.cpu, *channels, from, to, x.view::<T>(), out.view());
        }
    })
}
