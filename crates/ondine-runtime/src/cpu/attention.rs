//! Attention, and what its keys and values are read as.

use bytemuck::cast_slice;
use ondine_kernels::{self as k, AttentionMask, AttentionShape, Cached, CodeScales, WeightType};

use super::{
    native::CachedAttention,
    operand::{Operand, Target},
    processor::Processor,
};
use ondine_graph::{Attention, DType, Mask, Result, fail};

/// With fewer keys, rounding queries takes as long as it saves.
const FEWEST_KEYS: usize = 128;

fn shape(attention: &Attention, eight_bit: bool, [q, k, v]: [&[usize]; 3]) -> AttentionShape {
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
        window: attention.window,
        eight_bit: eight_bit && k[1].min(attention.window.unwrap_or(usize::MAX)) >= FEWEST_KEYS,
    }
}

/// Bytes that attention needs beside its inputs and result; `dtype` is that of its queries.
pub(super) fn scratch_bytes(
    attention: &Attention,
    eight_bit: bool,
    dtype: DType,
    inputs: &[&[usize]],
    device: &Processor,
) -> usize {
    let dtype = if dtype == DType::BF16 { WeightType::Bf16 } else { WeightType::F32 };
    let mut shape = shape(attention, eight_bit, [inputs[0], inputs[1], inputs[2]]);
    if attention.mask == Mask::Ring {
        shape.keys += k::WINDOW_TILE;
    }
    // What is planned for many keys has to do for the few that a conversation begins with.
    let plain = AttentionShape { eight_bit: false, ..shape };
    let bytes = |shape: &AttentionShape| k::attention_scratch_bytes(&device.cpu, shape, dtype);
    bytes(&shape).max(bytes(&plain))
}

/// Attention to keys and values of the type of the queries.
pub(super) fn attention(
    attention: &Attention,
    eight_bit: bool,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Processor,
) -> Result<()> {
    let [queries, keys, values, mask @ ..] = inputs else { fail!(Shape, "attention takes 3 inputs and a mask") };
    let shape = shape(attention, eight_bit, [queries.shape, keys.shape, values.shape]);
    let cached = [keys.values()?.into(), values.values()?.into()];
    attend(attention.mask, &shape, queries, cached, mask.first(), out, scratch, device)
}

/// Attention to keys and values that lie in another type.
pub(super) fn cached(
    CachedAttention { attention, eight_bit, coded }: &CachedAttention,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Processor,
) -> Result<()> {
    let [queries, keys, values, more @ ..] = inputs else { fail!(Shape, "attention takes 3 inputs and more") };
    let shape = shape(attention, *eight_bit, [queries.shape, keys.shape, values.shape]);
    let (scales, mask) = more.split_at_checked(if *coded { 2 } else { 0 }).unwrap_or((more, &[]));
    let cached = match scales {
        [of_keys, of_values] => [codes(keys, of_keys, &shape), codes(values, of_values, &shape)],
        _ => [keys.values()?.into(), values.values()?.into()],
    };
    attend(attention.mask, &shape, queries, cached, mask.first(), out, scratch, device)
}

/// Codes with their scales, one for all or one for each head of a row.
fn codes<'a>(codes: &Operand<'a>, scales: &Operand<'a>, shape: &AttentionShape) -> Cached<'a> {
    let single = scales.shape.iter().product::<usize>() == 1;
    let steps = if single { [0; 2] } else { [shape.kv_heads, 1] };
    Cached::Codes(cast_slice(codes.bytes), CodeScales { scales: scales.view(), steps })
}

#[expect(clippy::too_many_arguments, reason = "what a kernel is handed, one by one")]
fn attend(
    kind: Mask,
    shape: &AttentionShape,
    queries: &Operand<'_>,
    cached: [Cached<'_>; 2],
    mask: Option<&Operand<'_>>,
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Processor,
) -> Result<()> {
    if out.bytes.is_empty() {
        return Ok(());
    }
    let (seen, lengths): (Vec<bool>, Vec<usize>);
    let mut shape = *shape;
    let mask = match (kind, mask) {
        (Mask::Keys, Some(mask)) => {
            seen = mask.bytes.iter().map(|&byte| byte != 0).collect();
            AttentionMask::Keys(&seen)
        }
        (Mask::Lengths, Some(mask)) => {
            let most = shape.keys as i64;
            lengths = mask.view::<i64>().iter().map(|&length| length.clamp(0, most) as usize).collect();
            AttentionMask::Lengths(&lengths)
        }
        (Mask::Ring, Some(mask)) => {
            lengths = mask.view::<i64>().iter().map(|&length| usize::try_from(length).unwrap_or(0)).collect();
            if let Some(length) = lengths.iter().find(|&&length| !shape.holds(length)) {
                fail!(Shape, "{} rows no longer hold what is seen of {length} keys", shape.keys);
            }
            // As if they lay in order.
            shape.eight_bit &= lengths.iter().all(|&length| length >= FEWEST_KEYS);
            AttentionMask::Ring(&lengths)
        }
        (Mask::Additive, Some(mask)) => {
            let wanted = [shape.batch, shape.heads, shape.queries, shape.keys];
            let fits = |axis: usize| mask.shape[axis] == wanted[axis];
            if !(fits(2) && fits(3) && (0..2).all(|axis| fits(axis) || mask.shape[axis] == 1)) {
                fail!(Shape, "an additive mask of shape {:?} does not fit scores of shape {wanted:?}", mask.shape);
            }
            AttentionMask::Additive { values: mask.view(), batch: mask.shape[0] > 1, heads: mask.shape[1] > 1 }
        }
        _ => AttentionMask::None,
    };
    k::attention(&device.cpu, &shape, queries.values()?, cached, mask, out.output()?, scratch);
    Ok(())
}
