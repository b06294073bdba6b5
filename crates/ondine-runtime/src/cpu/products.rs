//! Operators that multiply: linear layers, convolutions, matrix products, attention.

use ondine_kernels::{
    self as k, AttentionMask, AttentionShape, ConvProblem, ConvShape, GemmProblem, Input, MatmulShape, Output,
    PackedWeights, Values, WeightType,
};

use super::weights::panels;
use crate::{
    device::Device,
    dtype::DType,
    error::{Result, fail},
    op::{Attention, Conv2d, Epilogue, Mask, Op},
    run::{Operand, Target},
    specialize::Precision,
};

/// Bytes that an operator needs beside its inputs and result.
pub(super) fn scratch_bytes(op: &Op, dtype: DType, inputs: &[&[usize]], device: &Device) -> usize {
    match op {
        Op::MatMul { transposed } => {
            matmul_shape(*transposed, inputs).scratch_bytes(device.kernels, device.pool.threads())
        }
        Op::Attention(attention) => {
            let dtype = if dtype == DType::BF16 { WeightType::Bf16 } else { WeightType::F32 };
            k::attention_scratch_bytes(device.kernels, &attention_shape(attention, inputs), dtype)
        }
        _ => 0,
    }
}

impl<'a> Operand<'a> {
    fn input(&self) -> Result<Input<'a>> {
        match self.dtype {
            DType::F32 => Ok(Input::F32(self.view())),
            DType::BF16 => Ok(Input::Bf16(self.view())),
            other => fail!(Unsupported, "products of {other} numbers"),
        }
    }

    fn values(&self) -> Result<Values<'a>> {
        match self.dtype {
            DType::F32 => Ok(Values::F32(self.view())),
            DType::BF16 => Ok(Values::Bf16(self.view())),
            other => fail!(Unsupported, "products of {other} numbers"),
        }
    }

    /// The packed weight, for activations of type `dtype`.
    fn packed(&self, dtype: DType, groups: usize, device: &Device) -> PackedWeights<'a> {
        let precision = if dtype == DType::BF16 { Precision::BF16 } else { Precision::F32 };
        PackedWeights::new(device.kernels, panels(precision, groups, self.shape), self.bytes)
    }
}

impl Target<'_> {
    fn output(&mut self) -> Result<Output<'_>> {
        match self.dtype {
            DType::F32 => Ok(Output::F32(self.view())),
            DType::BF16 => Ok(Output::Bf16(self.view())),
            other => fail!(Unsupported, "products into {other} numbers"),
        }
    }
}

/// The optional inputs after the weight, as the kernels take them.
fn finish<'a>(epilogue: Epilogue, inputs: &[Operand<'a>], columns: usize) -> Result<k::Epilogue<'a>> {
    Ok(k::Epilogue {
        bias: epilogue.bias.then(|| inputs[2].view()),
        activation: epilogue.activation,
        residual: if epilogue.residual { Some(inputs[inputs.len() - 1].values()?) } else { None },
        residual_stride: columns,
    })
}

pub(super) fn linear(epilogue: Epilogue, inputs: &[Operand<'_>], out: &mut Target<'_>, device: &Device) -> Result<()> {
    let [x, weight, ..] = inputs else { fail!(Shape, "linear needs an input and a weight") };
    let (channels, columns) = (weight.shape[1], weight.shape[0]);
    let problem = GemmProblem {
        rows: x.shape[..x.shape.len() - 1].iter().product(),
        input: x.input()?,
        input_stride: channels,
        weights: weight.packed(x.dtype, 1, device),
        epilogue: finish(epilogue, inputs, columns)?,
        out_stride: columns,
    };
    k::gemm(&device.pool, device.kernels, &problem, out.output()?);
    Ok(())
}

pub(super) fn conv2d(
    conv: Conv2d,
    epilogue: Epilogue,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    device: &Device,
) -> Result<()> {
    let [x, weight, ..] = inputs else { fail!(Shape, "conv2d needs an input and a weight") };
    let ([batch, height, width, channels], [outputs, _, kernel_h, kernel_w]) = (x.shape, weight.shape) else {
        fail!(Shape, "conv2d of rank {}", x.shape.len());
    };
    let problem = ConvProblem {
        shape: ConvShape {
            batch: *batch,
            height: *height,
            width: *width,
            channels: [*channels, 0],
            outputs: *outputs,
            kernel: [*kernel_h, *kernel_w],
            stride: conv.stride,
            padding: conv.padding,
            dilation: conv.dilation,
            groups: conv.groups,
            upsample: conv.upsample,
        },
        inputs: &[x.input()?],
        weights: weight.packed(x.dtype, conv.groups, device),
        epilogue: finish(epilogue, inputs, *outputs)?,
        out_stride: *outputs,
    };
    if out.bytes.is_empty() {
        return Ok(());
    }
    k::conv2d(&device.pool, device.kernels, &problem, out.output()?);
    Ok(())
}

fn matmul_shape(transposed: bool, inputs: &[&[usize]]) -> MatmulShape {
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
    device: &Device,
) -> Result<()> {
    let [a, b] = inputs else { fail!(Shape, "matmul takes 2 inputs") };
    let shape = matmul_shape(transposed, &[a.shape, b.shape]);
    k::matmul(&device.pool, device.kernels, &shape, [a.values()?, b.values()?], out.output()?, scratch);
    Ok(())
}

fn attention_shape(attention: &Attention, inputs: &[&[usize]]) -> AttentionShape {
    let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
    AttentionShape {
        batch: q[0],
        heads: attention.heads,
        kv_heads: attention.kv_heads,
        queries: q[1],
        keys: k[1],
        head_dim: q[2] / attention.heads,
        value_dim: v[2] / attention.kv_heads,
        strides: [q[2], k[2], v[2]],
        out_stride: attention.heads * (v[2] / attention.kv_heads),
        scale: attention.scale,
        causal: attention.causal,
    }
}

pub(super) fn attention(
    attention: &Attention,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Device,
) -> Result<()> {
    let [queries, keys, values, mask @ ..] = inputs else { fail!(Shape, "attention takes 3 inputs and a mask") };
    let shape = attention_shape(attention, &[queries.shape, keys.shape, values.shape]);
    let seen: Vec<bool>;
    let mask = match (attention.mask, mask) {
        (Mask::Keys, [mask]) => {
            seen = mask.bytes.iter().map(|&byte| byte != 0).collect();
            AttentionMask::Keys(&seen)
        }
        (Mask::Additive, [mask]) => {
            let wanted = [shape.batch, shape.heads, shape.queries, shape.keys];
            let fits = |axis: usize| mask.shape[axis] == wanted[axis];
            if !(fits(2) && fits(3) && (0..2).all(|axis| fits(axis) || mask.shape[axis] == 1)) {
                fail!(Shape, "an additive mask of shape {:?} does not fit scores of shape {wanted:?}", mask.shape);
            }
            AttentionMask::Additive { values: mask.view(), batch: mask.shape[0] > 1, heads: mask.shape[1] > 1 }
        }
        _ => AttentionMask::None,
    };
    let operands = [queries.values()?, keys.values()?, values.values()?];
    k::attention(&device.pool, device.kernels, &shape, operands, mask, out.output()?, scratch);
    Ok(())
}
