//! What operators that multiply yield: layers, matrices, attention, equations.

use super::operand::{BYTES, Supposed, glu, rank, same_dtype, typed};
use crate::{
    dim::Dim,
    dtype::DType,
    error::{Result, fail},
    op::{Attention, Cell, Conv2d, Epilogue, Mask},
    shape::Shape,
    signature::Signature,
};

pub(super) fn matrices(x: &Signature) -> Result<()> {
    match &x.shape.0[..] {
        [.., rows, columns] if rows == columns && x.dtype == DType::F32 => Ok(()),
        _ => fail!(Shape, "{} {} are no square matrices", x.dtype, x.shape),
    }
}

pub(super) fn solve(a: &Signature, b: &Signature, supposed: &mut Supposed) -> Result<Signature> {
    matrices(a)?;
    same_dtype(&[a, b])?;
    let rank = a.shape.rank();
    if b.shape.rank() != rank || !supposed.all_equal(&b.shape.0[..rank - 1], &a.shape.0[..rank - 1]) {
        fail!(Shape, "equations of {} do not fit {}", a.shape, b.shape);
    }
    Ok(b.clone())
}

pub(super) fn grouped_matmul(inputs: &[&Signature], transposed: bool, supposed: &mut Supposed) -> Result<Signature> {
    let [x, weight, ends] = inputs else { fail!(Shape, "a grouped product takes 3 inputs") };
    let ([rows, inner], [groups, a, b], [count]) = (rank(x)?, rank(weight)?, rank(ends)?);
    let (k, columns) = if transposed { (b, a) } else { (a, b) };
    if !supposed.equal(&k, &inner) || !supposed.equal(&groups, &count) || ends.dtype != DType::I64 {
        fail!(Shape, "cannot multiply {} by {} in groups that end at {}", x.shape, weight.shape, ends.shape);
    }
    typed("a factor", x, &[DType::F32, DType::BF16])?;
    typed("a factor", weight, &[DType::F32])?;
    Ok(Signature::new(vec![rows, columns], x.dtype))
}

pub(super) fn recurrent(cell: Cell, inputs: &[&Signature], supposed: &mut Supposed) -> Result<Signature> {
    let [x, weight, bias, start] = inputs else { fail!(Shape, "a recurrent layer takes 4 inputs") };
    let ([steps, batch, width], [gates, hidden]) = (rank(x)?, rank(weight)?);
    let carried = &hidden * cell.carried();
    let fits = supposed.equal(&width, &gates) && gates == &hidden * cell.gates() && bias.shape.0 == [gates];
    if !fits || !supposed.all_equal(&start.shape.0, &[batch.clone(), carried.clone()]) {
        fail!(
            Shape,
            "a recurrent layer of weight {} does not fit an input of shape {} and a state of shape {}",
            weight.shape,
            x.shape,
            start.shape
        );
    }
    inputs.iter().try_for_each(|input| typed("an input", input, &[DType::F32]))?;
    Ok(Signature::new(vec![steps, batch, carried], x.dtype))
}

/// Checks the optional inputs that follow the weight, of `outputs` rows, and that there are no more.
fn check_epilogue(
    epilogue: Epilogue,
    inputs: &[&Signature],
    outputs: &Dim,
    result: &Signature,
    supposed: &mut Supposed,
) -> Result<()> {
    let wanted = 2 + usize::from(epilogue.bias) + usize::from(epilogue.residual);
    if inputs.len() != wanted {
        fail!(Shape, "takes {wanted} inputs, got {}", inputs.len());
    }
    let [x, weight, parameters @ ..] = inputs else { fail!(Shape, "needs an input and a weight") };
    typed("what is multiplied", x, &[DType::F32, DType::BF16])?;
    typed("a weight", weight, &[DType::F32])?;
    let (bias, residual) = parameters.split_at(usize::from(epilogue.bias));
    bias.iter().try_for_each(|bias| typed("a bias", bias, &[DType::F32]))?;
    residual.iter().try_for_each(|residual| typed("what is added", residual, &[DType::F32, DType::BF16]))?;
    if epilogue.bias && !supposed.all_equal(&inputs[2].shape.0, std::slice::from_ref(outputs)) {
        fail!(Shape, "a bias of shape {} does not fit {outputs} outputs", inputs[2].shape);
    }
    match inputs.last() {
        Some(residual) if epilogue.residual && !supposed.all_equal(&residual.shape.0, &result.shape.0) => {
            fail!(Shape, "cannot add {} to a result of shape {}", residual.shape, result.shape)
        }
        _ => Ok(()),
    }
}

pub(super) fn linear(epilogue: Epilogue, inputs: &[&Signature], supposed: &mut Supposed) -> Result<Signature> {
    let [x, weight, ..] = inputs else { fail!(Shape, "linear needs an input and a weight") };
    let [out, width, kernel @ ..] = weight.shape.0.as_slice() else {
        fail!(Shape, "a weight of shape {} is no matrix", weight.shape);
    };
    let last = x.shape.last()?;
    if !supposed.equal(last, width) || kernel.iter().any(|size| *size != Dim::from(1)) {
        fail!(Shape, "a weight of shape {} does not fit an input of shape {}", weight.shape, x.shape);
    }
    let mut result = (*x).clone();
    result.shape.0.pop();
    result.shape.0.push(out.clone());
    if epilogue.gate {
        result = glu(&result)?;
    }
    check_epilogue(epilogue, inputs, out, &result, supposed)?;
    Ok(result)
}

pub(super) fn conv2d(
    conv: Conv2d,
    epilogue: Epilogue,
    inputs: &[&Signature],
    supposed: &mut Supposed,
) -> Result<Signature> {
    let [x, weight, ..] = inputs else { fail!(Shape, "conv2d needs an input and a weight") };
    let [batch, height, width, channels] = rank(x)?;
    let [out, group_channels, kernel_h, kernel_w] = rank(weight)?;
    let divides = out.fixed().is_some_and(|out| conv.groups > 0 && out % conv.groups == 0);
    if !divides || !supposed.equal(&(&group_channels * conv.groups), &channels) {
        fail!(
            Shape,
            "a weight of shape {} in {} groups does not fit an input of shape {} (channels last)",
            weight.shape,
            conv.groups,
            x.shape
        );
    }
    conv.check([&kernel_h, &kernel_w])?;
    let [top, bottom, left, right] = conv.padding;
    let scale = if conv.upsample { 2 } else { 1 };
    let along = |size: &Dim, before: usize, after: usize, kernel: &Dim, axis: usize| -> Result<Dim> {
        let Some(kernel) = kernel.fixed().filter(|&kernel| kernel > 0) else { fail!(Shape, "the kernel has no size") };
        let padded = &(&(size * scale) + before) + after;
        let reach = (kernel - 1) * conv.dilation[axis] + 1;
        let room = &padded - reach;
        if padded.fixed().is_some_and(|padded| padded < reach) {
            fail!(Shape, "a kernel of size {kernel} does not fit an input of shape {}", x.shape);
        }
        Ok(&room.floor_div(conv.stride[axis]) + 1)
    };
    let height = along(&height, top, bottom, &kernel_h, 0)?;
    let width = along(&width, left, right, &kernel_w, 1)?;
    if epilogue.gate {
        fail!(Unsupported, "convolutions are not gated");
    }
    let result = Signature::new(vec![batch, height, width, out.clone()], x.dtype);
    check_epilogue(epilogue, inputs, &out, &result, supposed)?;
    Ok(result)
}

pub(super) fn matmul(a: &Signature, b: &Signature, transposed: bool, supposed: &mut Supposed) -> Result<Signature> {
    let (Some((a_head, [m, k])), Some((b_head, [b0, b1]))) =
        (a.shape.0.split_last_chunk::<2>(), b.shape.0.split_last_chunk::<2>())
    else {
        fail!(Shape, "matmul needs matrices, got {} and {}", a.shape, b.shape);
    };
    let dtype = match (a.dtype, b.dtype) {
        (DType::I8 | DType::U8, DType::I8) => DType::I32,
        _ => same_dtype(&[a, b])?,
    };
    let (inner, n) = if transposed { (b1, b0) } else { (b0, b1) };
    if !supposed.equal(k, inner) || !supposed.all_equal(a_head, b_head) {
        fail!(Shape, "cannot multiply {} by {}{}", a.shape, b.shape, if transposed { " transposed" } else { "" });
    }
    Ok(Signature::new(a_head.iter().chain([m, n]).collect::<Shape>(), dtype))
}

pub(super) fn attention(attention: &Attention, inputs: &[&Signature], supposed: &mut Supposed) -> Result<Signature> {
    let wanted = if attention.mask == Mask::None { 3 } else { 4 };
    if inputs.len() != wanted {
        fail!(Shape, "attention takes {wanted} inputs, got {}", inputs.len());
    }
    let [batch, queries, width] = rank(inputs[0])?;
    let [k_batch, keys, k_width] = rank(inputs[1])?;
    let [v_batch, values, v_width] = rank(inputs[2])?;
    let Attention { heads, kv_heads, mask, .. } = *attention;
    same_dtype(&inputs[..3])?;
    let split = |width: &Dim, heads: usize| width.fixed().filter(|w| heads > 0 && w % heads == 0).map(|w| w / heads);
    let (head_dim, k_dim, v_dim) = (split(&width, heads), split(&k_width, kv_heads), split(&v_width, kv_heads));
    let Some(v_dim) = v_dim.filter(|_| head_dim.is_some() && head_dim == k_dim && heads % kv_heads == 0) else {
        fail!(Shape, "{heads} heads ({kv_heads} for keys) do not fit widths {width}, {k_width} and {v_width}");
    };
    let same = supposed.equal(&batch, &k_batch) && supposed.equal(&batch, &v_batch) && supposed.equal(&keys, &values);
    if !same {
        fail!(Shape, "queries {}, keys {} and values {} differ", inputs[0].shape, inputs[1].shape, inputs[2].shape);
    }
    match mask {
        Mask::None => {}
        Mask::Keys => typed("a mask of keys", inputs[3], &BYTES)?,
        Mask::Lengths | Mask::Ring => typed("lengths of sequences", inputs[3], &[DType::I64])?,
        Mask::Additive => typed("an additive mask", inputs[3], &[DType::F32])?,
    }
    if attention.window == Some(0) {
        fail!(Shape, "attention whose window holds no key");
    }
    if matches!(mask, Mask::Lengths | Mask::Ring)
        && !supposed.all_equal(&inputs[3].shape.0, std::slice::from_ref(&batch))
    {
        fail!(Shape, "lengths of shape {} do not fit queries of shape {}", inputs[3].shape, inputs[0].shape);
    }
    if mask == Mask::Keys && !supposed.all_equal(&inputs[3].shape.0, &[batch.clone(), keys]) {
        fail!(Shape, "a key mask of shape {} does not fit keys of shape {}", inputs[3].shape, inputs[1].shape);
    }
    if mask == Mask::Additive && inputs[3].shape.rank() != 4 {
        fail!(Shape, "an additive mask has 4 dimensions, got {}", inputs[3].shape);
    }
    Ok(Signature::new(vec![batch, queries, (heads * v_dim).into()], inputs[0].dtype))
}
