//! Operators that look at each element, or each row, by itself.

use half::{bf16, f16};
use ondine_kernels as k;

use super::{
    enums::activation as kernel_activation,
    general,
    native::{Prologue, Rows},
    operand::{Operand, Target, dispatch},
    processor::Processor,
};
use ondine_graph::{Activation, Binary, DType, Element, Reduce, Result, Unary, fail};

pub(super) fn unary(op: Unary, x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let cpu = &device.cpu;
    let op = match op {
        Unary::Activation(activation) => k::Unary::Activation(kernel_activation(activation)),
        Unary::Neg => k::Unary::Neg,
        Unary::Abs => k::Unary::Abs,
        Unary::Exp => k::Unary::Exp,
        Unary::Log => k::Unary::Log,
        Unary::Sqrt => k::Unary::Sqrt,
        Unary::Rsqrt => k::Unary::Rsqrt,
        Unary::Sin => k::Unary::Sin,
        Unary::Cos => k::Unary::Cos,
        Unary::Affine { scale, offset } => k::Unary::Affine { scale, offset },
        Unary::Function(function) => return general::function(function, x, out, device),
    };
    match x.dtype {
        DType::I64 => k::integer_unary(cpu.pool(), op, x.view::<i64>(), out.view()),
        DType::I32 => k::integer_unary(cpu.pool(), op, x.view::<i32>(), out.view()),
        dtype => {
            return dispatch!("arithmetic", dtype, [F32 => f32, BF16 => bf16], T => {
                k::unary(cpu, op, x.view::<T>(), out.view());
            });
        }
    }
    Ok(())
}

pub(super) fn binary(
    op: Binary,
    a: Operand<'_>,
    b: Operand<'_>,
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let cpu = &device.cpu;
    let shape = out.shape;
    let (a_strides, b_strides) = (k::broadcast_strides(a.shape, shape), k::broadcast_strides(b.shape, shape));
    let arithmetic = match op {
        Binary::Add => k::Binary::Add,
        Binary::Sub => k::Binary::Sub,
        Binary::Mul => k::Binary::Mul,
        Binary::Div => k::Binary::Div,
        Binary::Min => k::Binary::Min,
        Binary::Max => k::Binary::Max,
        Binary::Pow => k::Binary::Pow,
        Binary::Prelu => k::Binary::Prelu,
        Binary::And
        | Binary::Or
        | Binary::Xor
        | Binary::Remainder
        | Binary::Fmod
        | Binary::FloorDiv
        | Binary::Atan2 => return general::rare_binary(op, a, b, out, device),
        Binary::Equal | Binary::Less => {
            let op = if op == Binary::Equal { k::Comparison::Equal } else { k::Comparison::Less };
            return dispatch!("comparison", a.dtype, [F32 => f32, BF16 => bf16, I64 => i64, I32 => i32], T => {
                let a = k::Strided { data: a.view::<T>(), strides: &a_strides };
                let b = k::Strided { data: b.view::<T>(), strides: &b_strides };
                k::compare(cpu, op, shape, a, b, out.bytes);
            });
        }
    };
    dispatch!("arithmetic", a.dtype, [F32 => f32, BF16 => bf16, I64 => i64, I32 => i32], T => {
        let a = k::Strided { data: a.view::<T>(), strides: &a_strides };
        let b = k::Strided { data: b.view::<T>(), strides: &b_strides };
        k::binary(cpu, arithmetic, shape, a, b, out.view::<T>());
    })
}

pub(super) fn select(inputs: &[Operand<'_>], out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let strides: Vec<_> = inputs.iter().map(|input| k::broadcast_strides(input.shape, out.shape)).collect();
    let strided = |i: usize| k::Strided { data: inputs[i].bytes, strides: &strides[i] };
    k::select(device.cpu.pool(), out.dtype.size(), out.shape, strided(0), strided(1), strided(2), out.bytes);
    Ok(())
}

pub(super) fn cast(x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let cpu = &device.cpu;
    macro_rules! from {
        ($A:ty) => {
            match out.dtype {
                DType::F32 => k::convert(cpu, x.view::<$A>(), out.view::<f32>()),
                DType::F16 => k::convert(cpu, x.view::<$A>(), out.view::<f16>()),
                DType::BF16 => k::convert(cpu, x.view::<$A>(), out.view::<bf16>()),
                DType::I64 => k::convert(cpu, x.view::<$A>(), out.view::<i64>()),
                DType::I32 => k::convert(cpu, x.view::<$A>(), out.view::<i32>()),
                DType::I8 => k::convert(cpu, x.view::<$A>(), out.view::<i8>()),
                DType::U8 => k::convert(cpu, x.view::<$A>(), out.view::<u8>()),
                DType::F64 => k::convert(cpu, x.view::<$A>(), out.view::<f64>()),
                DType::I16 => k::convert(cpu, x.view::<$A>(), out.view::<i16>()),
                DType::U16 => k::convert(cpu, x.view::<$A>(), out.view::<u16>()),
                DType::U32 => k::convert(cpu, x.view::<$A>(), out.view::<u32>()),
                DType::U64 => k::convert(cpu, x.view::<$A>(), out.view::<u64>()),
                DType::C64 => fail!(Unsupported, "complex numbers of {} ones", x.dtype),
                DType::Bool => k::truth(cpu, x.view::<$A>(), out.bytes),
            }
        };
    }
    match x.dtype {
        DType::F32 => from!(f32),
        DType::F16 => from!(f16),
        DType::BF16 => from!(bf16),
        DType::I64 => from!(i64),
        DType::I32 => from!(i32),
        DType::I8 => from!(i8),
        DType::U8 | DType::Bool => from!(u8),
        DType::F64 => from!(f64),
        DType::I16 => from!(i16),
        DType::U16 => from!(u16),
        DType::U32 => from!(u32),
        DType::U64 => from!(u64),
        DType::C64 if out.dtype == DType::C64 => out.bytes.copy_from_slice(x.bytes),
        DType::C64 => fail!(Unsupported, "{} numbers of complex ones", out.dtype),
    }
    Ok(())
}

pub(super) fn glu(activation: Activation, x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let width = out.shape.last().copied().unwrap_or(1);
    if out.bytes.is_empty() {
        return Ok(());
    }
    dispatch!("glu", x.dtype, [F32 => f32, BF16 => bf16], T => {
        k::glu(&device.cpu, kernel_activation(activation), width, x.view::<T>(), out.view());
    })
}

pub(super) fn softmax(x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let width = out.shape.last().copied().unwrap_or(1);
    dispatch!("softmax", x.dtype, [F32 => f32, BF16 => bf16], T => {
        k::softmax(&device.cpu, width, x.view::<T>(), out.view());
    })
}

pub(super) fn argmax(x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let width = x.shape.last().copied().unwrap_or(1);
    if width == 0 {
        fail!(Shape, "argmax of an empty row");
    }
    dispatch!("argmax", x.dtype, [F32 => f32, BF16 => bf16], T => {
        k::argmax(&device.cpu, width, x.view::<T>(), out.view());
    })
}

/// Folds dimensions that are neighbours at once; others one after the other would need a workspace.
pub(super) fn reduce(
    how: Reduce,
    axes: &[usize],
    x: Operand<'_>,
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let (Some(&first), Some(&last)) = (axes.first(), axes.last()) else {
        out.bytes.copy_from_slice(x.bytes);
        return Ok(());
    };
    if last - first + 1 != axes.len() {
        fail!(Unsupported, "folding dimensions {axes:?} that are no neighbours");
    }
    let product = |dims: &[usize]| dims.iter().product::<usize>();
    let view = [product(&x.shape[..first]), product(&x.shape[first..=last]), product(&x.shape[last + 1..])];
    let how = match how {
        Reduce::Sum => k::Reduce::Sum,
        Reduce::Mean => k::Reduce::Mean,
        Reduce::Max => k::Reduce::Max,
        Reduce::Min => k::Reduce::Min,
        Reduce::Product => return general::product(axes, x, out),
    };
    dispatch!("reduction", x.dtype, [F32 => f32, BF16 => bf16, I64 => i64], T => {
        k::reduce(&device.cpu, how, view, x.view::<T>(), out.view());
    })
}

pub(super) fn rotate(
    interleaved: bool,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let [x, cos, sin] = inputs else { fail!(Shape, "a rotation takes 3 inputs") };
    let (&[.., heads, width], &[.., pairs]) = (x.shape, cos.shape) else { fail!(Shape, "heads of rank 1") };
    if out.bytes.is_empty() {
        return Ok(());
    }
    let rotation = k::Rotation { heads, width, pairs, interleaved, cos: cos.view(), sin: sin.view() };
    dispatch!("rotation", x.dtype, [F32 => f32, BF16 => bf16], T => {
        k::rotate(&device.cpu, &rotation, x.view::<T>(), out.view());
    })
}

/// Where rows go that a norm yields: as numbers, or quantized with a scale that is known or to be found, or in blocks.
#[derive(Clone, Copy)]
pub(super) enum RowsTo {
    Numbers,
    Quantized(Option<k::RowScale>),
    Blocks,
}

pub(super) fn layer_norm(
    eps: f32,
    inputs: &[Operand<'_>],
    to: RowsTo,
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let [x, weight, bias] = inputs else { fail!(Shape, "layer_norm takes 3 inputs") };
    dispatch!("layer_norm", x.dtype, [F32 => f32, BF16 => bf16], T => {
        k::layer_norm(&device.cpu, eps, weight.view(), bias.view(), x.view::<T>(), out.rows(to));
    })
}

pub(super) fn rms_norm(
    eps: f32,
    inputs: &[Operand<'_>],
    to: RowsTo,
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let [x, weight] = inputs else { fail!(Shape, "rms_norm takes 2 inputs") };
    dispatch!("rms_norm", x.dtype, [F32 => f32, BF16 => bf16], T => {
        k::rms_norm(&device.cpu, eps, weight.view(), x.view::<T>(), out.rows(to));
    })
}

/// How a group norm is done.
#[derive(Clone, Copy)]
pub(super) struct GroupNorm {
    pub(super) groups: usize,
    pub(super) eps: f32,
    pub(super) activation: Activation,
}

pub(super) fn group_norm(
    GroupNorm { groups, eps, activation }: GroupNorm,
    inputs: &[Operand<'_>],
    to: RowsTo,
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let [x, weight, bias] = inputs else { fail!(Shape, "group_norm takes 3 inputs") };
    let [_, between @ .., _] = x.shape else { fail!(Shape, "group_norm of rank {}", x.shape.len()) };
    let (spatial, activation) = (between.iter().product(), kernel_activation(activation));
    let (weight, bias) = (weight.view(), bias.view());
    dispatch!("group_norm", x.dtype, [F32 => f32, BF16 => bf16], T => {
        let norm = k::GroupNorm { spatial, groups, eps, weight, bias, modulation: None, activation };
        k::group_norm(&device.cpu, &norm, x.view::<T>(), out.rows(to));
    })
}

pub(super) fn quantize(
    prologue: Prologue,
    rows: Rows,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let to = match rows {
        Rows::Spanning => RowsTo::Quantized(None),
        Rows::Within([low, high]) => RowsTo::Quantized(Some(k::RowScale::spanning(low, high))),
        Rows::Blocks => RowsTo::Blocks,
    };
    match prologue {
        Prologue::None => {
            let width = inputs[0].shape.last().copied().unwrap_or(1);
            dispatch!("quantization", inputs[0].dtype, [F32 => f32, BF16 => bf16], T => {
                match to {
                    RowsTo::Blocks => k::quantize_blocks(&device.cpu, width, inputs[0].view::<T>(), out.bytes),
                    RowsTo::Quantized(scale) => {
                        k::quantize_beside(&device.cpu, width, inputs[0].view::<T>(), scale, out.bytes);
                    }
                    RowsTo::Numbers => {}
                }
            })
        }
        Prologue::LayerNorm { eps } => layer_norm(eps, inputs, to, out, device),
        Prologue::RmsNorm { eps } => rms_norm(eps, inputs, to, out, device),
        Prologue::GroupNorm { groups, eps, activation } => {
            group_norm(GroupNorm { groups, eps, activation }, inputs, to, out, device)
        }
    }
}

impl Target<'_> {
    /// Rows of what a kernel reads `T` for: as numbers of this type, rounded to bf16, or quantized.
    fn rows<T: Element>(&mut self, to: RowsTo) -> k::RowsOut<'_, T> {
        match to {
            RowsTo::Quantized(scale) => k::RowsOut::Quantized(self.bytes, scale),
            RowsTo::Blocks => k::RowsOut::Blocks(self.bytes),
            RowsTo::Numbers if self.dtype == DType::BF16 && T::DTYPE != DType::BF16 => k::RowsOut::Bf16(self.view()),
            RowsTo::Numbers => k::RowsOut::Plain(self.view()),
        }
    }
}
