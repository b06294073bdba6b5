//! Operators that multiply: linear layers, convolutions, matrix products, attention.

use std::ops::Range;

use half::bf16;
use ondine_kernels::{
    self as k, CodedConv, CodedProblem, ConvProblem, ConvShape, GemmProblem, Input, MatmulShape, Output, PackedWeights,
    PanelWeights, RowScale, Values, WeightType,
};

use super::{
    attention,
    enums::activation,
    form::Format,
    general::take,
    movement::wide_indices,
    native::{CpuOp, Finish},
    operand::{Operand, Target, dispatch},
    processor::Processor,
    weights::{coded_conv, panels, stack_stride, weight_type},
};
use crate::options::Precision;
use ondine_graph::{Attention, Conv2d, DType, Epilogue, Op, Result, fail};

/// Bytes that a product needs beside its inputs and result; 0 of what is none.
pub(super) fn scratch_bytes(
    op: &Op,
    own: Option<CpuOp>,
    weight: Option<Format>,
    dtype: DType,
    inputs: &[&[usize]],
    device: &Processor,
) -> usize {
    let attention = |of: &Attention, eight_bit: bool| attention::scratch_bytes(of, eight_bit, dtype, inputs, device);
    match (op, own) {
        (_, Some(CpuOp::Winograd(conv, _))) => {
            let Some(Format::Winograd { precision, .. }) = weight else { return 0 };
            let shape = conv_shape(conv, inputs[0], inputs[1]).ok();
            shape.map_or(0, |shape| k::winograd_scratch_bytes(&device.cpu, &shape, weight_type(precision)))
        }
        (_, Some(CpuOp::LinearChosen { .. })) => {
            let rows = inputs[0].split_last().map_or(1, |(_, rows)| rows.iter().product());
            rows * inputs[1][0] * size_of::<f32>()
        }
        (_, Some(CpuOp::Attention8(shape))) => attention(&shape, true),
        (_, Some(CpuOp::CachedAttention(cached))) => attention(&cached.attention, cached.eight_bit),
        (Op::Attention(shape), None) => attention(shape, false),
        (Op::Conv2d(..), None) => match weight {
            Some(
                Format::Panels { precision: Precision::Int8, .. } | Format::CodedConv { widened: Precision::Int8, .. },
            ) => inputs[0].iter().product(),
            _ => 0,
        },
        // Integers are multiplied as they lie.
        (Op::MatMul { .. }, None) if !dtype.is_float() => 0,
        (Op::MatMul { transposed }, None) => matmul_shape(*transposed, inputs).scratch_bytes(&device.cpu),
        (Op::GroupedMatMul { .. }, None)
            if matches!(weight, Some(Format::PanelStack { .. } | Format::CodedStack { .. })) =>
        {
            0
        }
        (Op::GroupedMatMul { transposed }, None) => {
            group_shape(*transposed, inputs, inputs[0][0]).scratch_bytes(&device.cpu)
        }
        _ => 0,
    }
}

impl<'a> Operand<'a> {
    fn input(&self) -> Result<Input<'a>> {
        match self.dtype {
            DType::F32 => Ok(Input::F32(self.view())),
            DType::BF16 => Ok(Input::Bf16(self.view())),
            DType::U8 => Ok(Input::Rows8(self.bytes)),
            other => fail!(Unsupported, "products of {other} numbers"),
        }
    }

    pub(super) fn values(&self) -> Result<Values<'a>> {
        match self.dtype {
            DType::F32 => Ok(Values::F32(self.view())),
            DType::BF16 => Ok(Values::Bf16(self.view())),
            other => fail!(Unsupported, "products of {other} numbers"),
        }
    }

    /// The packed weight.
    pub(super) fn packed(&self, device: &Processor) -> Result<PackedWeights<'a>> {
        match self.format {
            Some(Format::CodePanels { groups, gate }) => {
                let shape = panels(Precision::Int8, groups, gate, self.shape);
                Ok(PackedWeights::new(&device.cpu, shape, self.bytes))
            }
            Some(Format::Panels { precision, groups, gate }) => {
                Ok(PackedWeights::new(&device.cpu, panels(precision, groups, gate, self.shape), self.bytes))
            }
            _ => fail!(Unsupported, "products with a weight of shape {:?} that is not packed", self.shape),
        }
    }

    /// The operand in 8 bits, written to `quantized`, with a scale for each row of `width` elements.
    fn quantize(&self, width: usize, quantized: &mut [u8], device: &Processor) -> Result<Vec<RowScale>> {
        let rows = self.shape.iter().product::<usize>() / width.max(1);
        let mut scales = vec![RowScale::default(); rows];
        dispatch!("quantization", self.dtype, [F32 => f32, BF16 => bf16], T => {
            k::quantize_rows(&device.cpu, width, self.view::<T>(), quantized, &mut scales);
        })?;
        Ok(scales)
    }
}

/// What a weight is multiplied with: the operand itself, or its quantized form for a quantized weight.
fn activations<'a>(
    x: Operand<'a>,
    weights: &PanelWeights<'_>,
    quantized: &'a [u8],
    scales: &'a [RowScale],
) -> Result<Input<'a>> {
    if weights.shape().dtype == WeightType::S8 { Ok(Input::U8 { values: quantized, scales }) } else { x.input() }
}

impl Target<'_> {
    pub(super) fn output(&mut self) -> Result<Output<'_>> {
        match self.dtype {
            DType::F32 => Ok(Output::F32(self.view())),
            DType::BF16 => Ok(Output::Bf16(self.view())),
            other => fail!(Unsupported, "products into {other} numbers"),
        }
    }
}

impl Target<'_> {
    /// Where a product of codes that ends so goes.
    pub(super) fn stored(&mut self, end: Finish) -> Result<Output<'_>> {
        match end.stored {
            Some(steps) => Ok(Output::Codes(self.bytes, steps.grid())),
            None => self.output(),
        }
    }
}

/// What results are rounded to before the activation, as the kernels take it.
pub(super) fn rounded(end: Finish) -> Option<k::Rounded> {
    end.rounded.map(|steps| k::Rounded { grid: steps.grid(), scale: steps.scale })
}

/// The optional inputs after the weight, as the kernels take them.
pub(super) fn finish<'a>(epilogue: Epilogue, inputs: &[Operand<'a>], columns: usize) -> Result<k::Epilogue<'a>> {
    Ok(k::Epilogue {
        rounded: None,
        bias: epilogue.bias.then(|| inputs[2].view()),
        activation: activation(epilogue.activation),
        residual: if epilogue.residual { Some(inputs[inputs.len() - 1].values()?) } else { None },
        residual_stride: columns,
    })
}

/// Of the columns of the result those that are wanted, in rising order, or all.
pub(super) fn linear(
    epilogue: Epilogue,
    inputs: &[Operand<'_>],
    wanted: Option<&[usize]>,
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let [x, weight, ..] = inputs else { fail!(Shape, "linear needs an input and a weight") };
    let input = match (weight.format, x.dtype) {
        (Some(Format::Coded { .. }), DType::U8) => Input::Blocks(x.bytes),
        _ => x.input()?,
    };
    linear_of(input, (epilogue, Finish::default()), inputs, wanted, out, device)
}

/// The columns of a linear layer that the last of `inputs` names. `scratch` has room for all of them, so that kernels
/// write each where it is among all; what nobody asks for is not written.
pub(super) fn chosen(
    epilogue: Epilogue,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Processor,
) -> Result<()> {
    let Some((names, inputs @ [_, weight, ..])) = inputs.split_last() else {
        fail!(Shape, "chosen columns need an input, a weight and names");
    };
    if out.bytes.is_empty() {
        return Ok(());
    }
    let (columns, axis) = (weight.shape[0], out.shape.len() - 1);
    // Counted from the end where they are negative; what is none is refused where it is looked up.
    let place = |name: i64| usize::try_from(if name < 0 { name.wrapping_add_unsigned(columns as u64) } else { name });
    let named = wide_indices(*names)?;
    let mut wanted: Vec<usize> = named.iter().filter_map(|&name| place(name).ok()).collect();
    wanted.retain(|&column| column < columns);
    wanted.sort_unstable();
    wanted.dedup();
    let shape = [&out.shape[..axis], &[columns]].concat();
    let len = shape.iter().product::<usize>() * out.dtype.size();
    let mut all = Target { dtype: out.dtype, shape: &shape, bytes: &mut scratch[..len] };
    linear(epilogue, inputs, Some(&wanted), &mut all, device)?;
    let all = Operand { dtype: out.dtype, shape: &shape, bytes: &scratch[..len], format: None };
    take(axis, all, *names, out, device)
}

/// A linear layer of the first of `inputs`, as `input` says that it is read.
pub(super) fn linear_of(
    input: Input<'_>,
    (epilogue, end): (Epilogue, Finish),
    inputs: &[Operand<'_>],
    wanted: Option<&[usize]>,
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let [x, weight, ..] = inputs else { fail!(Shape, "linear needs an input and a weight") };
    let (Some((&input_stride, rows)), Some(&columns)) = (x.shape.split_last(), out.shape.last()) else {
        fail!(Shape, "linear of a single number");
    };
    if out.bytes.is_empty() {
        return Ok(());
    }
    let epilogue = k::Epilogue { rounded: rounded(end), ..finish(epilogue, inputs, columns)? };
    let (rows, out_stride) = (rows.iter().product(), columns);
    if let Some(Format::Coded { coding, gate }) = weight.format {
        let shape = coding.shape(gate, weight.shape);
        let problem = CodedProblem { rows, input, input_stride, shape, weights: weight.bytes, epilogue, out_stride };
        let out = out.stored(end)?;
        match wanted {
            Some(wanted) => k::gemm_coded_columns(&device.cpu, &problem, wanted, out),
            None => k::gemm_coded(&device.cpu, &problem, out),
        }
        return Ok(());
    }
    let problem = GemmProblem { rows, input, input_stride, weights: weight.packed(device)?, epilogue, out_stride };
    let out = out.stored(end)?;
    match wanted {
        Some(wanted) => k::gemm_columns(&device.cpu, &problem, wanted, out),
        None => k::gemm(&device.cpu, &problem, out),
    }
    Ok(())
}

/// The shape of a convolution of `x` `[b, h, w, in]` with `weight` `[out, in / groups, kh, kw]`.
pub(super) fn conv_shape(conv: Conv2d, x: &[usize], weight: &[usize]) -> Result<ConvShape> {
    let (&[batch, height, width, channels], &[outputs, _, kernel_height, kernel_width]) = (x, weight) else {
        fail!(Shape, "conv2d of rank {}", x.len());
    };
    Ok(ConvShape {
        batch,
        height,
        width,
        channels: [channels, 0],
        outputs,
        kernel: [kernel_height, kernel_width],
        stride: conv.stride,
        padding: conv.padding,
        dilation: conv.dilation,
        groups: conv.groups,
        upsample: conv.upsample,
    })
}

/// The fewest pixels of a picture that pay for Winograd's larger weights.
const FEWEST_PIXELS: usize = 256;

/// The fewest channels of the input and of the result that pay for Winograd's transforms.
const FEWEST_CHANNELS: [usize; 2] = [32, 16];

/// True if Winograd's algorithm is the faster one for inputs of the shape `x`: it takes 2.25 times fewer
/// multiplications than the direct one (4 times fewer after doubling), but reads 1.8 times the weights.
pub(crate) fn prefers_winograd(conv: Conv2d, x: &[usize], weight: &[usize]) -> bool {
    let Ok(shape) = conv_shape(conv, x, weight) else { return false };
    let enough = shape.channels[0] >= FEWEST_CHANNELS[0] && shape.outputs >= FEWEST_CHANNELS[1];
    let [height, width] = shape.out_size();
    enough && shape.winograd(WeightType::F32).is_some() && height.saturating_mul(width) >= FEWEST_PIXELS
}

pub(super) fn conv2d(
    conv: Conv2d,
    epilogue: Epilogue,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Processor,
) -> Result<()> {
    let [x, weight, ..] = inputs else { fail!(Shape, "conv2d needs an input and a weight") };
    let shape = conv_shape(conv, x.shape, weight.shape)?;
    if out.bytes.is_empty() {
        return Ok(());
    }
    let epilogue = finish(epilogue, inputs, shape.outputs)?;
    if let Some(Format::Winograd { precision, .. }) = weight.format {
        let dtype = weight_type(precision);
        let (input, out_stride) = (x.values()?, shape.outputs);
        let problem = k::WinogradProblem { shape, input, dtype, weights: weight.bytes, epilogue, out_stride };
        k::winograd(&device.cpu, &problem, out.output()?, scratch);
        return Ok(());
    }
    let weights: PanelWeights<'_> = match weight.format {
        Some(Format::CodedConv { coding, widened }) => {
            let shape = coded_conv(coding, widened, weight.shape)?;
            PanelWeights::Codes(CodedConv::new(&device.cpu, shape, weight.bytes))
        }
        _ => weight.packed(device)?.into(),
    };
    let scales = if weights.shape().dtype == WeightType::S8 {
        // Taps of one product come from several pixels, which then need one scale.
        x.quantize(shape.height * shape.width * shape.channels[0], scratch, device)?
    } else {
        Vec::new()
    };
    let input = activations(*x, &weights, scratch, &scales)?;
    let problem = ConvProblem { shape, inputs: &[input], weights, epilogue, out_stride: shape.outputs };
    k::conv2d(&device.cpu, &problem, out.output()?);
    Ok(())
}

pub(super) fn matmul_shape(transposed: bool, inputs: &[&[usize]]) -> MatmulShape {
    let (a, b) = (inputs[0], inputs[1]);
    let rank = a.len();
    MatmulShape {
        batch: a[..rank - 2].iter().product(),
        rows: a[rank - 2],
        inner: a[rank - 1],
        columns: if transposed { b[rank - 2] } else { b[rank - 1] },
        transposed,
    }
}

pub(super) fn matmul(
    transposed: bool,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Processor,
) -> Result<()> {
    let [a, b] = inputs else { fail!(Shape, "matmul takes 2 inputs") };
    let shape = matmul_shape(transposed, &[a.shape, b.shape]);
    if shape.inner == 0 {
        // Sums of nothing.
        out.bytes.fill(0);
        return Ok(());
    }
    let size = [shape.rows, shape.inner, shape.columns];
    match a.dtype {
        DType::I64 => k::whole_matmul(device.cpu.pool(), size, transposed, [a.view::<i64>(), b.view()], out.view()),
        DType::I32 => k::whole_matmul(device.cpu.pool(), size, transposed, [a.view::<i32>(), b.view()], out.view()),
        _ => k::matmul(&device.cpu, &shape, [a.values()?, b.values()?], out.output()?, scratch),
    }
    Ok(())
}

/// The product of `rows` rows with the matrix of one group.
fn group_shape(transposed: bool, inputs: &[&[usize]], rows: usize) -> MatmulShape {
    let (inner, weight) = (inputs[0][1], inputs[1]);
    let columns = if transposed { weight[1] } else { weight[2] };
    MatmulShape { batch: 1, rows, inner, columns, transposed }
}

pub(super) fn grouped_matmul(
    transposed: bool,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Processor,
) -> Result<()> {
    let [x, weight, ends] = inputs else { fail!(Shape, "a grouped product takes 3 inputs") };
    if let Some(format @ (Format::PanelStack { .. } | Format::CodedStack { .. })) = weight.format {
        return stacked(format, inputs, out, device);
    }
    if x.dtype != DType::F32 {
        fail!(Unsupported, "grouped products of {} numbers", x.dtype);
    }
    let (x_values, weights) = (x.view::<f32>(), weight.view::<f32>());
    let shape = group_shape(transposed, &[x.shape, weight.shape], x.shape[0]);
    let (inner, columns) = (shape.inner, shape.columns);
    let out = out.view::<f32>();
    out.fill(0.0);
    for (group, rows) in groups(ends, x.shape[0])?.into_iter().filter(|_| inner > 0) {
        let operands = [
            Values::F32(&x_values[rows.start * inner..rows.end * inner]),
            Values::F32(&weights[group * inner * columns..][..inner * columns]),
        ];
        let shape = MatmulShape { rows: rows.len(), ..shape };
        let out = Output::F32(&mut out[rows.start * columns..rows.end * columns]);
        k::matmul(&device.cpu, &shape, operands, out, scratch);
    }
    Ok(())
}

/// The groups that have rows, with these.
fn groups(ends: &Operand<'_>, count: usize) -> Result<Vec<(usize, Range<usize>)>> {
    let (mut first, mut groups) = (0, Vec::new());
    for (group, &end) in ends.view::<i64>().iter().enumerate() {
        let Some(end) = usize::try_from(end).ok().filter(|&end| end >= first && end <= count) else {
            fail!(Shape, "group {group} ends at {end}, after {first} of {count} rows");
        };
        if end > first {
            groups.push((group, first..end));
        }
        first = end;
    }
    Ok(groups)
}

/// Rows in groups times packed matrices; those that no row asks for are not read.
fn stacked(format: Format, inputs: &[Operand<'_>], out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let [x, weight, ends] = inputs else { fail!(Shape, "a grouped product takes 3 inputs") };
    let (input_stride, matrix) = (x.shape[1], &weight.shape[1..]);
    let (columns, stride) = (matrix[0], stack_stride(format, matrix, device));
    let (input_row, out_row) = (input_stride * x.dtype.size(), columns * out.dtype.size());
    let dtype = out.dtype;
    out.bytes.fill(0);
    for (group, rows) in groups(ends, x.shape[0])? {
        let bytes = &x.bytes[rows.start * input_row..rows.end * input_row];
        let input = Operand { bytes, ..*x }.input()?;
        let bytes = &mut out.bytes[rows.start * out_row..rows.end * out_row];
        let mut target = Target { dtype, shape: out.shape, bytes };
        let (epilogue, packed) = (k::Epilogue::default(), &weight.bytes[group * stride..]);
        match format {
            Format::CodedStack { coding } => {
                let shape = coding.shape(false, matrix);
                let weights = &packed[..shape.packed_size(&device.cpu)];
                let (rows, out_stride) = (rows.len(), columns);
                let problem = CodedProblem { rows, input, input_stride, shape, weights, epilogue, out_stride };
                k::gemm_coded(&device.cpu, &problem, target.output()?);
            }
            Format::PanelStack { precision } => {
                let shape = panels(precision, 1, false, matrix);
                let weights = PackedWeights::new(&device.cpu, shape, &packed[..shape.packed_size(&device.cpu)]);
                let (rows, out_stride) = (rows.len(), columns);
                let problem = GemmProblem { rows, input, input_stride, weights, epilogue, out_stride };
                k::gemm(&device.cpu, &problem, target.output()?);
            }
            _ => fail!(Unsupported, "a stack of matrices in another form"),
        }
    }
    Ok(())
}
