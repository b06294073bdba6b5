//! What a node of a file must be to run here, beyond what every portable graph is asked.

use ondine_graph::{
    Conv2d, DType, Dim, Graph, Node, Op, Result, Shape, Signature, Value, fail,
    infer::{Supposed, infer},
    portable::{inferred, is_empty},
};

use super::{
    coding::Coding,
    form::Format,
    native::{CachedAttention, CpuOp, Finish, Prologue, Rows, Steps, quantized, quantized_len},
    products::prefers_winograd,
    weights::coded_conv,
};
use crate::{
    backend::Form,
    options::{Options, Precision},
};

/// Makes sure that a node is one that the passes could have left, with weights of these forms.
///
/// # Errors
/// If it is not.
pub(super) fn check(graph: &Graph, value: Value, forms: &[Option<Form>], options: Options) -> Result<()> {
    let node = graph.node(value);
    let formats = forms.iter().map(|form| form.as_ref().map(Format::of).transpose()).collect::<Result<Vec<_>>>()?;
    let dtypes: Vec<DType> = node.inputs.iter().map(|&input| graph.node(input).signature.dtype).collect();
    let held = node.signature.dtype;
    let float = |dtype: DType| matches!(dtype, DType::F32 | DType::BF16);
    let first = dtypes.first().copied().unwrap_or(held);
    let as_inferred = || Ok::<_, ondine_graph::Error>(held == inferred(graph, node)?);
    let fits = match &node.op {
        Op::Native(native) => return own(graph, node, CpuOp::of(native)?, &formats, options),
        Op::Linear(_) | Op::Conv2d(..) => float(held) && multiplies(graph, node, first, &formats),
        Op::MatMul { .. } if matches!(first, DType::I8 | DType::U8) => as_inferred()?,
        Op::MatMul { .. } => held == first && !held.is_float() || float(held) && float(first),
        Op::Attention(_) => float(held) && float(first),
        Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::GroupNorm { .. } => {
            held == first || held == DType::BF16 && first == DType::F32
        }
        Op::Gather => held == first || float(held) && first == DType::F32,
        Op::Cast(dtype) => held == *dtype || float(held) && float(*dtype),
        Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_) => true,
        Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) => as_inferred()?,
        Op::Slice { .. } | Op::Concat { .. } | Op::Pad { .. } | Op::TakeRow | Op::Take { .. } => as_inferred()?,
        Op::Scatter(_) | Op::ArgMax | Op::ArgSort { .. } | Op::Reduce { .. } | Op::Softmax => as_inferred()?,
        Op::Scan { .. } | Op::Glu(_) | Op::Resize { .. } | Op::Interpolate { .. } | Op::Pool(_) => as_inferred()?,
        Op::Suppress { .. } | Op::Regions(_) | Op::Rotate { .. } => as_inferred()?,
        Op::GroupedMatMul { .. } => held == first && multiplies_groups(first, formats.get(1).copied().flatten()),
        Op::Range { .. } | Op::Recurrent { .. } | Op::Solve => as_inferred()?,
        Op::Cholesky | Op::Determinant | Op::Measure { .. } | Op::Loop(_) | Op::Unpack { .. } => as_inferred()?,
        Op::Assert { .. } | Op::Bits(_) => as_inferred()?,
    };
    if !(fits && forms_fit(graph, node, &formats)) {
        fail!(Format, "{held} from {dtypes:?} in forms {formats:?}");
    }
    Ok(())
}

/// True if each weight is in a form that its place can read.
fn forms_fit(graph: &Graph, node: &Node, formats: &[Option<Format>]) -> bool {
    formats.iter().enumerate().all(|(position, format)| {
        let Some(format) = format else { return true };
        let direct = matches!(graph.node(node.inputs[position]).op, Op::Weight(_));
        let Some(shape) = graph.shape(node.inputs[position]).fixed() else { return false };
        if let Format::PanelStack { .. } | Format::CodedStack { .. } = format {
            let stack = matches!((&node.op, position), (Op::GroupedMatMul { transposed: true }, 1));
            let whole = |coding: &Coding| shape.last().is_some_and(|&columns| coding.group <= columns);
            let fits = if let Format::CodedStack { coding } = format { whole(coding) } else { true };
            return stack && direct && shape.len() == 3 && fits;
        }
        match (&node.op, position, format) {
            (_, _, Format::Plain) => !(matches!(node.op, Op::Linear(_) | Op::Conv2d(..)) && position == 1),
            (Op::Linear(epilogue), 1, Format::Panels { groups, gate, .. }) => {
                direct && *groups == 1 && *gate == epilogue.gate
            }
            (Op::Linear(epilogue), 1, Format::Coded { coding, gate }) => {
                direct && shape.len() == 2 && coding.group <= shape[1] && *gate == epilogue.gate
            }
            (Op::Conv2d(conv, _), 1, Format::Panels { groups, gate, .. }) => direct && *groups == conv.groups && !gate,
            (Op::Conv2d(conv, _), 1, Format::CodedConv { coding, widened }) => {
                direct && conv.groups == 1 && coded_conv(*coding, *widened, &shape).is_ok()
            }
            (Op::Recurrent { .. }, 1, Format::Panels { precision, groups, gate }) => {
                direct && *precision == Precision::F32 && *groups == 1 && !gate && !shape.contains(&0)
            }
            (Op::Gather, 0, Format::Coded { coding, gate }) => {
                direct && shape.len() == 2 && coding.group <= shape[1] && !gate
            }
            (Op::Gather, 0, Format::Blocks { .. }) => direct && shape.len() == 2,
            _ => false,
        }
    })
}

/// True if the packed weight of a product meets the type that it was packed for.
fn multiplies(graph: &Graph, node: &Node, dtype: DType, formats: &[Option<Format>]) -> bool {
    if is_empty(graph, node.inputs[1]) {
        return false;
    }
    let float = matches!(dtype, DType::F32 | DType::BF16);
    match (formats.get(1).copied().flatten(), &node.op) {
        (Some(Format::Panels { precision: Precision::F32, .. }), _) => dtype == DType::F32,
        (Some(Format::Panels { precision: Precision::BF16, .. }), _) => dtype == DType::BF16,
        (Some(Format::Panels { precision: Precision::Int8, .. }), Op::Conv2d(..)) => float,
        (Some(Format::CodedConv { widened: Precision::F32, .. }), Op::Conv2d(..)) => dtype == DType::F32,
        (Some(Format::CodedConv { widened: Precision::BF16, .. }), Op::Conv2d(..)) => dtype == DType::BF16,
        (Some(Format::CodedConv { widened: Precision::Int8, .. }), Op::Conv2d(..)) => float,
        (Some(Format::Coded { .. }), Op::Linear(_)) => float,
        _ => false,
    }
}

/// As [`multiplies`], of a stack of matrices.
fn multiplies_groups(dtype: DType, format: Option<Format>) -> bool {
    match format {
        Some(Format::PanelStack { precision: Precision::BF16 }) => dtype == DType::BF16,
        Some(Format::CodedStack { .. }) => matches!(dtype, DType::F32 | DType::BF16),
        _ => dtype == DType::F32,
    }
}

/// As [`check`], of an operator of this backend: its value must be what the operator that it stands for yields.
fn own(graph: &Graph, node: &Node, op: CpuOp, formats: &[Option<Format>], options: Options) -> Result<()> {
    let held = &node.signature;
    let float = |dtype: DType| matches!(dtype, DType::F32 | DType::BF16);
    let dtype = |position: usize| node.inputs.get(position).map(|&input| graph.node(input).signature.dtype);
    let weight = formats.get(1).copied().flatten();
    let plain = |from: usize| formats.iter().skip(from).flatten().all(|format| *format == Format::Plain);
    let fits = match op {
        CpuOp::QuantizeRows { prologue, rows } => plain(0) && quantizes(graph, node, prologue, rows)?,
        CpuOp::LinearRows(epilogue) => {
            let result = linear_of(graph, &node.inputs, epilogue, Some(Rows::Spanning), weight)?;
            plain(2) && float(held.dtype) && result.is_some_and(|shape| shape == held.shape)
        }
        CpuOp::LinearBlocks(epilogue) => {
            let result = linear_of(graph, &node.inputs, epilogue, Some(Rows::Blocks), weight)?;
            plain(2) && float(held.dtype) && result.is_some_and(|shape| shape == held.shape)
        }
        CpuOp::LinearChosen { epilogue, rows } => plain(2) && chosen_fits(graph, node, epilogue, rows, weight)?,
        CpuOp::Winograd(conv, epilogue) => {
            let inferred = graph.infer(&Op::Conv2d(conv, epilogue), &node.inputs)?;
            let precision = match weight {
                Some(Format::Winograd { precision, doubled }) if doubled == conv.upsample => precision,
                _ => fail!(Format, "Winograd's convolution with a weight in another form"),
            };
            let x = dtype(0).filter(|&x| float(x) && (precision != Precision::F32 || x == DType::F32));
            x.is_some() && plain(2) && inferred.shape == held.shape && float(held.dtype) && chosen(graph, node, conv)
        }
        CpuOp::Encode { ends, shift, .. } => {
            plain(0)
                && matches!(held.dtype, DType::I8 | DType::U8)
                && finite(ends, shift)
                && numbers_fit(graph, node, 2)?
        }
        CpuOp::Round { ends, .. } => {
            plain(0) && held.dtype == DType::F32 && finite(ends, 0.0) && numbers_fit(graph, node, 3)?
        }
        CpuOp::Decode => {
            let single = |position: usize| graph.shape(node.inputs[position]).elements().fixed() == Some(1);
            let typed = node.inputs.len() == 3 && dtype(1) == Some(DType::F32) && dtype(2) == Some(DType::F32);
            let codes = matches!(dtype(0), Some(DType::I8 | DType::U8)) && held.dtype == DType::F32;
            plain(0) && codes && typed && single(1) && single(2) && *graph.shape(node.inputs[0]) == held.shape
        }
        CpuOp::LinearCodes(epilogue, finish) => {
            let form = match weight {
                Some(Format::CodePanels { groups, gate }) => groups == 1 && gate == epilogue.gate,
                Some(Format::Coded { coding, gate }) => {
                    let shape = graph.shape(node.inputs[1]).fixed();
                    let fits = |shape: Vec<usize>| shape.len() == 2 && coding.shape(gate, &shape).multiplies_codes();
                    gate == epilogue.gate && shape.is_some_and(fits)
                }
                _ => false,
            };
            form && plain(2) && finishes(held.dtype, finish) && codes_fit(graph, node, &Op::Linear(epilogue))?
        }
        CpuOp::ConvCodes(conv, epilogue, finish) => {
            weight == Some(Format::CodePanels { groups: conv.groups, gate: false })
                && plain(2)
                && finishes(held.dtype, finish)
                && codes_fit(graph, node, &Op::Conv2d(conv, epilogue))?
        }
        CpuOp::CachedAttention(cached) => plain(0) && cached_fits(graph, node, &cached, options.precision)?,
        CpuOp::Attention8(attention) => {
            let inferred = graph.infer(&Op::Attention(attention), &node.inputs)?;
            let typed = float(held.dtype) && dtype(0).is_some_and(float);
            options.precision == Precision::Int8 && inferred.shape == held.shape && typed
        }
    };
    if !fits {
        fail!(Format, "`{}` as no pass leaves it", node.op);
    }
    Ok(())
}

/// True if cached keys and values, with their scales, fit the attention to them.
fn cached_fits(graph: &Graph, node: &Node, cached: &CachedAttention, precision: Precision) -> Result<bool> {
    let CachedAttention { attention, eight_bit, coded } = cached;
    let signature = |value: &Value| &graph.node(*value).signature;
    let (Some(&[q, k, v]), Some(more)) = (node.inputs.first_chunk::<3>(), node.inputs.get(3..)) else {
        return Ok(false);
    };
    let Some((scales, mask)) = more.split_at_checked(if *coded { 2 } else { 0 }) else { return Ok(false) };
    let held = if *coded { DType::I8 } else { DType::BF16 };
    let scaled = |(scales, rows): (&Value, Value)| {
        let single = graph.shape(*scales).elements().fixed() == Some(1);
        let mut wanted = graph.shape(rows).0.clone();
        wanted.pop();
        wanted.push(attention.kv_heads.into());
        signature(scales).dtype == DType::F32 && (single || graph.shape(*scales).0 == wanted)
    };
    // As if keys and values were of the type of the queries.
    let [mut keys, mut values] = [k, v].map(|value| signature(&value).clone());
    let typed = keys.dtype == held && values.dtype == held && matches!(signature(&q).dtype, DType::F32 | DType::BF16);
    (keys.dtype, values.dtype) = (signature(&q).dtype, signature(&q).dtype);
    let inputs: Vec<_> = [signature(&q), &keys, &values].into_iter().chain(mask.iter().map(signature)).collect();
    let inferred = infer(&Op::Attention(*attention), &inputs, &mut Supposed::default())?;
    let float = matches!(node.signature.dtype, DType::F32 | DType::BF16);
    let rounded = !eight_bit || precision == Precision::Int8;
    Ok(typed && float && rounded && scales.iter().zip([k, v]).all(scaled) && inferred.shape == node.signature.shape)
}

/// True if rows are quantized as they say.
fn quantizes(graph: &Graph, node: &Node, prologue: Prologue, rows: Rows) -> Result<bool> {
    let known = match rows {
        Rows::Within([low, high]) => low.is_finite() && high.is_finite() && low <= high,
        Rows::Spanning | Rows::Blocks => true,
    };
    let normed = match prologue {
        Prologue::None => match node.inputs[..] {
            [x] => graph.node(x).signature.clone(),
            _ => fail!(Format, "rows of {} values", node.inputs.len()),
        },
        Prologue::LayerNorm { eps } => graph.infer(&Op::LayerNorm { eps }, &node.inputs)?,
        Prologue::RmsNorm { eps } => graph.infer(&Op::RmsNorm { eps }, &node.inputs)?,
        Prologue::GroupNorm { groups, eps, activation } => {
            graph.infer(&Op::GroupNorm { groups, eps, activation }, &node.inputs)?
        }
    };
    let float = matches!(normed.dtype, DType::F32 | DType::BF16);
    Ok(known && float && quantized(&normed, rows)? == node.signature)
}

/// True if codes reach from one end to the other within what a byte holds.
fn finite([low, high]: [f32; 2], shift: f32) -> bool {
    let integers = [low, high, shift].iter().all(|number| number.is_finite() && number.fract() == 0.0);
    integers && low <= high && (-128.0..=255.0).contains(&(low + shift)) && (-128.0..=255.0).contains(&(high + shift))
}

/// True if results are rounded to what a byte holds, and stored in a type that holds it.
fn finishes(held: DType, Finish { rounded, stored }: Finish) -> bool {
    let known = |steps: Steps| {
        let Steps { inverse, zero, scale, ends, shift, .. } = steps;
        let numbers = [inverse, scale].iter().all(|number| number.is_finite());
        let in_reach = zero.fract() == 0.0 && zero.abs() <= ondine_kernels::MOST_ZERO;
        numbers && in_reach && finite(ends, shift)
    };
    let typed = match stored {
        Some(_) => matches!(held, DType::I8 | DType::U8),
        None => held == DType::F32,
    };
    typed && rounded.is_none_or(known) && stored.is_none_or(known)
}

/// True if numbers are followed by `count` others, each one for all or one for each of their rows.
fn numbers_fit(graph: &Graph, node: &Node, count: usize) -> Result<bool> {
    let Some((&x, others)) = node.inputs.split_first() else { return Ok(false) };
    let shape = graph.shape(x);
    let fits =
        |&other: &Value| graph.node(other).signature.dtype == DType::F32 && is_number_of_rows(graph, other, shape);
    let numbers = graph.node(x).signature.dtype == DType::F32 && *shape == node.signature.shape;
    Ok(numbers && others.len() == count && others.iter().all(fits))
}

/// True for one number, or one for each row of `shape`.
fn is_number_of_rows(graph: &Graph, value: Value, shape: &Shape) -> bool {
    let own = graph.shape(value);
    let rows = |shape: &Shape| shape.0.split_last().map(|(_, rows)| rows.to_vec());
    own.elements().fixed() == Some(1)
        || own.rank() == shape.rank() && rows(own) == rows(shape) && own.0.last().and_then(Dim::fixed) == Some(1)
}

/// True if codes and the other operands of a product fit each other and the shape of its value.
fn codes_fit(graph: &Graph, node: &Node, op: &Op) -> Result<bool> {
    let [inputs @ .., scale, zero] = &node.inputs[..] else { return Ok(false) };
    let (Some(&first), 2..) = (inputs.first(), inputs.len()) else { return Ok(false) };
    if is_empty(graph, inputs[1]) || graph.node(first).signature.dtype != DType::U8 {
        return Ok(false);
    }
    let mut x = graph.node(first).signature.clone();
    x.dtype = DType::F32;
    let others = inputs[1..].iter().map(|&input| &graph.node(input).signature);
    let all: Vec<_> = std::iter::once(&x).chain(others).collect();
    let by_rows = |&number: &Value| match op {
        Op::Linear(_) => is_number_of_rows(graph, number, &x.shape),
        _ => graph.shape(number).elements().fixed() == Some(1),
    };
    let float = |&&value: &&Value| graph.node(value).signature.dtype == DType::F32;
    let numbers = inputs[1..].iter().chain([scale, zero]).filter(float).count() == inputs.len() + 1;
    let inferred = infer(op, &all, &mut Supposed::default())?;
    Ok(numbers && by_rows(scale) && by_rows(zero) && inferred.shape == node.signature.shape)
}

/// What a linear layer yields of `inputs`, whose first holds rows of numbers or rows quantized so, with a weight in
/// this form; none if they do not fit each other.
fn linear_of(
    graph: &Graph,
    inputs: &[Value],
    epilogue: ondine_graph::Epilogue,
    rows: Option<Rows>,
    format: Option<Format>,
) -> Result<Option<Shape>> {
    let (Some(&[x, weight]), Some(format)) = (inputs.first_chunk(), format) else { return Ok(None) };
    let (mut x, shape) = (graph.node(x).signature.clone(), graph.shape(weight).fixed());
    let Some(shape) = shape.filter(|shape| shape.len() == 2 && !shape.contains(&0)) else { return Ok(None) };
    if !meets(format, &shape, epilogue.gate, rows, x.dtype) {
        return Ok(None);
    }
    if let Some(rows) = rows {
        // As if the rows were numbers.
        let Some(len) = quantized_len(shape[1], rows) else { return Ok(None) };
        if *x.shape.last()? != len.into() {
            return Ok(None);
        }
        x.shape.0.pop();
        x.shape.0.push(shape[1].into());
    }
    x.dtype = DType::F32;
    let others = inputs[1..].iter().map(|&input| &graph.node(input).signature);
    let signatures: Vec<_> = std::iter::once(&x).chain(others).collect();
    let types = signatures[2..].iter().map(|signature| signature.dtype);
    let float =
        types.enumerate().all(|(i, dtype)| dtype == DType::F32 || dtype == DType::BF16 && !(i == 0 && epilogue.bias));
    Ok(if float { Some(infer(&Op::Linear(epilogue), &signatures, &mut Supposed::default())?.shape) } else { None })
}

/// True if some columns of a linear layer are as the pass leaves them.
fn chosen_fits(
    graph: &Graph,
    node: &Node,
    epilogue: ondine_graph::Epilogue,
    rows: Option<Rows>,
    format: Option<Format>,
) -> Result<bool> {
    let Some((names, inputs)) = node.inputs.split_last() else { return Ok(false) };
    let names = &graph.node(*names).signature;
    let Some(mut shape) = linear_of(graph, inputs, epilogue, rows, format)? else { return Ok(false) };
    shape.0.pop();
    shape.0.extend(names.shape.0.iter().cloned());
    let named = names.dtype == DType::I64 && names.shape.rank() == 1 && !epilogue.gate && !epilogue.residual;
    let Signature { dtype, shape: held } = &node.signature;
    Ok(named && shape == *held && matches!(dtype, DType::F32 | DType::BF16))
}

/// True if a weight of this shape in this form is multiplied with rows quantized so, or with numbers of this type.
fn meets(format: Format, shape: &[usize], gated: bool, rows: Option<Rows>, dtype: DType) -> bool {
    match (rows, format) {
        (None, Format::Panels { precision: Precision::F32, groups: 1, gate }) => gate == gated && dtype == DType::F32,
        (None, Format::Panels { precision: Precision::BF16, groups: 1, gate }) => gate == gated && dtype == DType::BF16,
        (None, Format::Coded { coding, gate }) => {
            gate == gated && coding.group <= shape[1] && matches!(dtype, DType::F32 | DType::BF16)
        }
        (Some(Rows::Spanning), Format::Panels { precision: Precision::Int8, groups: 1, gate }) => {
            gate == gated && dtype == DType::U8
        }
        (Some(Rows::Blocks), Format::Coded { coding, gate }) => {
            gate == gated && dtype == DType::U8 && coding.shape(gate, shape).multiplies_blocks()
        }
        _ => false,
    }
}

/// True if Winograd's algorithm is the one that is chosen for the expected sizes.
fn chosen(graph: &Graph, node: &Node, conv: Conv2d) -> bool {
    let Some(weight) = graph.shape(node.inputs[1]).fixed() else { return false };
    let x = graph.shape(node.inputs[0]).bind(&graph.typical_sizes());
    x.is_ok_and(|x| prefers_winograd(conv, &x, &weight))
}
