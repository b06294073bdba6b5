//! Numbers rounded to codes of few bits and back, as the quantizers of PyTorch (`quantized_decomposed`) and of torchao
//! write it, in the order in which they compute; and products with codes.

use ondine_graph::{Binary, DType, Dim, Elementary, Op, Reduce, Result, Unary, fail};

use super::{
    elementwise::between,
    product::{linear_of, matmul},
    reduce::reduce,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item, Operand},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("quantized_decomposed.quantize_per_tensor", quantize_tensor),
    Rule::new("quantized_decomposed.dequantize_per_tensor", dequantize_tensor),
    Rule::new("quantized_decomposed.quantize_per_channel", quantize_channels),
    Rule::new("quantized_decomposed.dequantize_per_channel", dequantize_channels),
    Rule::new("quantized_decomposed.quantize_per_token", quantize_tokens),
    Rule::new("quantized_decomposed.dequantize_per_token", dequantize_tokens),
    Rule::new("quantized_decomposed.quantize_per_channel_group", quantize_groups),
    Rule::new("quantized_decomposed.dequantize_per_channel_group", dequantize_groups),
    Rule::new("quantized_decomposed.choose_qparams", choose_for_tensor),
    Rule::new("quantized_decomposed.choose_qparams_symmetric", choose_for_tensor),
    Rule::new("quantized_decomposed.choose_qparams_per_token", choose_for_tokens),
    Rule::new("quantized_decomposed.choose_qparams_per_token_asymmetric", choose_for_tokens_apart),
    Rule::new("quantized_decomposed._choose_qparams_per_token_asymmetric_impl", choose_for_tokens_apart),
    Rule::new("quantized_decomposed.fake_quant_per_channel", fake_channels),
    Rule::new("quantized_decomposed.convert_element_type", convert),
    Rule::new("prims.convert_element_type", convert),
    Rule::new("torchao.quantize_affine", quantize_affine),
    Rule::new("torchao.dequantize_affine", dequantize_affine),
    Rule::new("torchao.choose_qparams_affine", choose_affine),
    Rule::new("torchao.choose_scale_float8", choose_for_float8),
    Rule::new("torchao.dequantize_affine_float8_non_decomposed", dequantize_float8),
    Rule::new("fake_quantize_per_tensor_affine", fake_tensor),
    Rule::new("fake_quantize_per_channel_affine", fake_channels),
    // Which elements were within the codes only gradients ask.
    Rule::new("fake_quantize_per_tensor_affine_cachemask", fake_tensor),
    Rule::new("fake_quantize_per_channel_affine_cachemask", fake_channels),
    Rule::new("_int_mm", integer_product),
    Rule::new("_weight_int8pack_mm", scaled_product),
];

/// Codes at equal distances: what numbers are multiplied with to count in steps, which code stands for 0, and the first
/// and the last code.
struct Grid {
    inverse: Operand,
    zero: Operand,
    ends: [Operand; 2],
}

fn plain(value: f64) -> Operand {
    Operand::Number { value, integer: false }
}

/// `x op operand` in F32.
fn combine(builder: &mut Builder, op: Binary, x: &Tensor, operand: &Operand) -> Result<Tensor> {
    match (operand, op) {
        (Operand::Number { value, .. }, Binary::Add) => builder.affine(x, 1.0, *value),
        (Operand::Number { value, .. }, Binary::Sub) => builder.affine(x, 1.0, -*value),
        (Operand::Number { value, .. }, Binary::Mul) => builder.affine(x, *value, 0.0),
        (Operand::Number { value, .. }, Binary::Max) => between(builder, x, Some(*value), None),
        (Operand::Number { value, .. }, Binary::Min) => between(builder, x, None, Some(*value)),
        (Operand::Number { value, .. }, _) => {
            let number = builder.number(*value, DType::F32)?;
            builder.binary(op, x, &number)
        }
        (Operand::Tensor(tensor), _) => {
            let tensor = builder.cast(tensor, DType::F32)?;
            builder.binary(op, x, &tensor)
        }
    }
}

impl Grid {
    /// The codes of numbers, as numbers.
    fn codes(&self, builder: &mut Builder, x: &Tensor) -> Result<Tensor> {
        let steps = combine(builder, Binary::Mul, x, &self.inverse)?;
        let nearest = builder.function(Elementary::Round, &steps)?;
        let codes = combine(builder, Binary::Add, &nearest, &self.zero)?;
        self.within(builder, &codes)
    }

    /// As [`Grid::codes`], moved before they are rounded.
    fn codes_moved_first(&self, builder: &mut Builder, x: &Tensor) -> Result<Tensor> {
        let steps = combine(builder, Binary::Mul, x, &self.inverse)?;
        let moved = combine(builder, Binary::Add, &steps, &self.zero)?;
        let codes = builder.function(Elementary::Round, &moved)?;
        self.within(builder, &codes)
    }

    fn within(&self, builder: &mut Builder, codes: &Tensor) -> Result<Tensor> {
        let codes = combine(builder, Binary::Max, codes, &self.ends[0])?;
        combine(builder, Binary::Min, &codes, &self.ends[1])
    }
}

/// `(codes - zero) * scale`
fn numbers(builder: &mut Builder, codes: &Tensor, scale: &Operand, zero: Option<&Operand>) -> Result<Tensor> {
    let codes = builder.cast(codes, DType::F32)?;
    let moved = match zero {
        Some(zero) => combine(builder, Binary::Sub, &codes, zero)?,
        None => codes,
    };
    combine(builder, Binary::Mul, &moved, scale)
}

/// One over a scale, as PyTorch computes it: of a number in 64 bits.
fn inverse(builder: &mut Builder, scale: &Operand) -> Result<Operand> {
    match scale {
        Operand::Number { value, .. } => Ok(plain(1.0 / value)),
        Operand::Tensor(scale) => {
            let (one, scale) = (builder.number(1.0, DType::F32)?, builder.cast(scale, DType::F32)?);
            builder.binary(Binary::Div, &one, &scale).map(Operand::Tensor)
        }
    }
}

/// A scale or a zero of all elements: a number, or a tensor of one, which it is taken from.
fn single(builder: &mut Builder, call: &Call<'_>, name: &str) -> Result<Operand> {
    Ok(match call.operand(builder, name)? {
        Operand::Tensor(tensor) => Operand::Tensor(builder.reshape(&tensor, &[])?),
        number @ Operand::Number { .. } => number,
    })
}

/// The first and the last code, which the call names or the type of the codes tells.
fn ends(builder: &mut Builder, call: &Call<'_>, codes: DType) -> Result<[Operand; 2]> {
    let [least, most] = match codes {
        DType::U8 => [0.0, 255.0],
        DType::I8 => [-128.0, 127.0],
        _ => [f64::from(i32::MIN), f64::from(i32::MAX)],
    };
    let mut end = |name: &str, default: f64| match call.has(name) {
        true => single(builder, call, name),
        false => Ok(plain(default)),
    };
    Ok([end("quant_min", least)?, end("quant_max", most)?])
}

fn quantize_tensor(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, scale, zero) =
        (input(builder, call)?, single(builder, call, "scale")?, single(builder, call, "zero_point")?);
    let dtype = call.out_dtype(0)?;
    let grid = Grid { inverse: inverse(builder, &scale)?, zero, ends: ends(builder, call, dtype)? };
    let codes = grid.codes(builder, &x)?;
    one(builder.cast(&codes, dtype)?)
}

fn dequantize_tensor(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (scale, zero) = (single(builder, call, "scale")?, single(builder, call, "zero_point")?);
    one(numbers(builder, &call.tensor("input")?, &scale, Some(&zero))?)
}

fn input(builder: &mut Builder, call: &Call<'_>) -> Result<Tensor> {
    call.float_tensor(builder, if call.has("input") { "input" } else { "self" })
}

/// A number for each channel as a tensor that meets the channels of `x`, dimension `axis`.
fn along(builder: &mut Builder, x: &Tensor, axis: usize, numbers: &Tensor) -> Result<Operand> {
    let mut shape = vec![Dim::from(1); x.rank()];
    shape[axis] = builder.dim(x, axis);
    builder.reshape(numbers, &shape).map(Operand::Tensor)
}

fn quantize_channels(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = input(builder, call)?;
    let axis = call.axis("axis", 0, x.rank())?;
    let scale = along(builder, &x, axis, &call.tensor("scales")?)?;
    let zero = along(builder, &x, axis, &call.tensor("zero_points")?)?;
    let dtype = call.out_dtype(0)?;
    let grid = Grid { inverse: inverse(builder, &scale)?, zero, ends: ends(builder, call, dtype)? };
    let codes = grid.codes(builder, &x)?;
    one(builder.cast(&codes, dtype)?)
}

fn dequantize_channels(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let codes = call.tensor("input")?;
    let axis = call.axis("axis", 0, codes.rank())?;
    let scale = along(builder, &codes, axis, &call.tensor("scales")?)?;
    let zero = match call.try_tensor("zero_points")? {
        Some(zeros) => Some(along(builder, &codes, axis, &zeros)?),
        None => None,
    };
    one(numbers(builder, &codes, &scale, zero.as_ref())?)
}

fn quantize_tokens(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = input(builder, call)?;
    let (scale, zero) = (Operand::Tensor(call.tensor("scales")?), Operand::Tensor(call.tensor("zero_points")?));
    let dtype = call.out_dtype(0)?;
    let grid = Grid { inverse: inverse(builder, &scale)?, zero, ends: ends(builder, call, dtype)? };
    let codes = grid.codes_moved_first(builder, &x)?;
    one(builder.cast(&codes, dtype)?)
}

fn dequantize_tokens(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (scale, zero) = (Operand::Tensor(call.tensor("scales")?), Operand::Tensor(call.tensor("zero_points")?));
    one(numbers(builder, &call.tensor("input")?, &scale, Some(&zero))?)
}

/// A matrix as `[rows, groups, elements of a group]`, and scales or zeros to meet that.
fn in_groups(builder: &mut Builder, call: &Call<'_>, x: &Tensor) -> Result<(Tensor, Vec<Dim>)> {
    let shape = builder.shape(x);
    let [rows, columns] = &shape[..] else { fail!(Shape, "groups of a tensor of rank {}", shape.len()) };
    let size = call.integer("group_size", 128)?;
    let (Some(columns), Ok(size)) = (columns.fixed(), usize::try_from(size)) else {
        fail!(Unsupported, "groups of rows of unknown length");
    };
    let size = size.min(columns).max(1);
    let grouped = [rows.clone(), (columns / size).into(), size.into()];
    Ok((builder.reshape(x, &grouped)?, vec![rows.clone(), (columns / size).into(), 1.into()]))
}

fn quantize_groups(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = input(builder, call)?;
    let (grouped, meets) = in_groups(builder, call, &x)?;
    let scale = Operand::Tensor(builder.reshape(&call.tensor("scales")?, &meets)?);
    let zero = Operand::Tensor(builder.reshape(&call.tensor("zero_points")?, &meets)?);
    let dtype = call.out_dtype(0)?;
    let grid = Grid { inverse: inverse(builder, &scale)?, zero, ends: ends(builder, call, dtype)? };
    let codes = grid.codes_moved_first(builder, &grouped)?;
    let codes = builder.cast(&codes, dtype)?;
    one(builder.reshape(&codes, &call.out_shape(0)?)?)
}

fn dequantize_groups(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (grouped, meets) = in_groups(builder, call, &call.tensor("input")?)?;
    let scale = Operand::Tensor(builder.reshape(&call.tensor("scales")?, &meets)?);
    let zero = match call.try_tensor("zero_points")? {
        Some(zeros) => Some(Operand::Tensor(builder.reshape(&zeros, &meets)?)),
        None => None,
    };
    let x = numbers(builder, &grouped, &scale, zero.as_ref())?;
    one(builder.reshape(&x, &call.out_shape(0)?)?)
}

/// The least and the largest number along `axes`, and 0 if there is none beyond it.
fn range(builder: &mut Builder, x: &Tensor, axes: &[usize]) -> Result<[Tensor; 2]> {
    let low = reduce(builder, Reduce::Min, x, axes, true)?;
    let high = reduce(builder, Reduce::Max, x, axes, true)?;
    Ok([between(builder, &low, None, Some(0.0))?, between(builder, &high, Some(0.0), None)?])
}

/// `x / number`
fn divided(builder: &mut Builder, x: &Tensor, number: f64) -> Result<Tensor> {
    let number = builder.number(number, DType::F32)?;
    builder.binary(Binary::Div, x, &number)
}

/// The scale whose codes reach from one end of a range to the other, and the code that stands for 0.
fn asymmetric(builder: &mut Builder, [low, high]: [Tensor; 2], ends: [f64; 2], eps: f64) -> Result<[Tensor; 2]> {
    let width = builder.binary(Binary::Sub, &high, &low)?;
    let scale = divided(builder, &width, ends[1] - ends[0])?;
    let scale = between(builder, &scale, Some(eps), None)?;
    let steps = builder.binary(Binary::Div, &low, &scale)?;
    let steps = builder.function(Elementary::Round, &steps)?;
    let zero = builder.affine(&steps, -1.0, ends[0])?;
    Ok([scale, between(builder, &zero, Some(ends[0]), Some(ends[1]))?])
}

/// The scale whose codes reach as far as the larger end of a range, on both sides of 0.
fn symmetric(builder: &mut Builder, [low, high]: [Tensor; 2], ends: [f64; 2], eps: f64) -> Result<Tensor> {
    let low = builder.unary(Unary::Neg, &low)?;
    let reach = builder.binary(Binary::Max, &low, &high)?;
    let scale = divided(builder, &reach, (ends[1] - ends[0]) / 2.0)?;
    between(builder, &scale, Some(eps), None)
}

/// Scale and zero as the call's two results.
fn pair(builder: &mut Builder, call: &Call<'_>, [scale, zero]: [Tensor; 2]) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for (index, tensor) in [scale, zero].iter().enumerate() {
        let tensor = builder.cast(tensor, call.out_dtype(index)?)?;
        items.push(Item::Tensor(builder.reshape(&tensor, &call.out_shape(index)?)?));
    }
    Ok(items)
}

/// `value` everywhere in a tensor like `x`.
fn filled(builder: &mut Builder, x: &Tensor, value: f64) -> Result<Tensor> {
    let number = builder.number(value, DType::F32)?;
    let shape = builder.shape(x);
    builder.expand(&number, &shape)
}

fn known_ends(call: &Call<'_>, codes: DType) -> Result<[f64; 2]> {
    let [least, most] = if codes == DType::U8 { [0.0, 255.0] } else { [-128.0, 127.0] };
    Ok([call.float("quant_min", least)?, call.float("quant_max", most)?])
}

fn choose_for_tensor(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = input(builder, call)?;
    let ends = known_ends(call, DType::I8)?;
    let range = range(builder, &x, &(0..x.rank()).collect::<Vec<_>>())?;
    let eps = f64::from(call.float("eps", f64::from(f32::EPSILON))? as f32);
    if call.op.ends_with("_symmetric") {
        let scale = symmetric(builder, range, ends, eps)?;
        let unsigned = call.scalar_type("dtype") == Some(DType::U8);
        let zero = filled(builder, &scale, if unsigned { 128.0 } else { 0.0 })?;
        return pair(builder, call, [scale, zero]);
    }
    let chosen = asymmetric(builder, range, ends, eps)?;
    pair(builder, call, chosen)
}

fn choose_for_tokens(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = input(builder, call)?;
    let reach = builder.unary(Unary::Abs, &x)?;
    let reach = reduce(builder, Reduce::Max, &reach, &[last(&x)?], true)?;
    let reach = between(builder, &reach, Some(1e-5), None)?;
    let scale = divided(builder, &reach, 127.0)?;
    let zero = filled(builder, &scale, 0.0)?;
    pair(builder, call, [scale, zero])
}

fn last(x: &Tensor) -> Result<usize> {
    match x.rank().checked_sub(1) {
        Some(last) => Ok(last),
        None => fail!(Shape, "a single number has no rows"),
    }
}

/// As XNNPACK chooses them: the code of 0 is that of the end of the range that leaves the smaller error.
fn choose_for_tokens_apart(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = input(builder, call)?;
    let [low, high] = range(builder, &x, &[last(&x)?])?;
    let width = builder.binary(Binary::Sub, &high, &low)?;
    let scale = divided(builder, &width, 255.0)?;
    let scale = between(builder, &scale, Some(f64::from(f32::EPSILON)), None)?;
    let (low, high) = (builder.binary(Binary::Div, &low, &scale)?, builder.binary(Binary::Div, &high, &scale)?);
    let (below, above) = (builder.affine(&low, 1.0, -128.0)?, builder.affine(&high, 1.0, 127.0)?);
    let both = builder.binary(Binary::Add, &below, &above)?;
    let nothing = builder.number(0.0, DType::F32)?;
    let from_low = builder.binary(Binary::Less, &nothing, &both)?;
    let (low, high) = (builder.affine(&low, -1.0, -128.0)?, builder.affine(&high, -1.0, 127.0)?);
    let zero = builder.select(&from_low, &low, &high)?;
    let zero = between(builder, &zero, Some(-128.0), Some(127.0))?;
    let zero = builder.function(Elementary::Round, &zero)?;
    pair(builder, call, [scale, zero])
}

/// Numbers as they would come back from codes, which PyTorch keeps in 32 bits.
fn fake(builder: &mut Builder, x: &Tensor, scale: &Operand, zero: Operand, ends: [Operand; 2]) -> Result<Vec<Item>> {
    let zero = match zero {
        Operand::Tensor(zero) => Operand::Tensor(builder.cast(&zero, DType::F32)?),
        number @ Operand::Number { .. } => number,
    };
    let again = match &zero {
        Operand::Tensor(zero) => Operand::Tensor(zero.clone()),
        Operand::Number { value, .. } => plain(*value),
    };
    let grid = Grid { inverse: inverse(builder, scale)?, zero, ends };
    let codes = grid.codes(builder, x)?;
    one(numbers(builder, &codes, scale, Some(&again))?)
}

fn fake_tensor(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, scale, zero) =
        (input(builder, call)?, single(builder, call, "scale")?, single(builder, call, "zero_point")?);
    let ends = ends(builder, call, DType::I8)?;
    fake(builder, &x, &scale, zero, ends)
}

fn fake_channels(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = input(builder, call)?;
    let axis = call.axis("axis", 0, x.rank())?;
    let names = if call.has("scales") { ["scales", "zero_points"] } else { ["scale", "zero_point"] };
    let scale = along(builder, &x, axis, &call.tensor(names[0])?)?;
    let zero = along(builder, &x, axis, &call.tensor(names[1])?)?;
    let ends = ends(builder, call, DType::I8)?;
    fake(builder, &x, &scale, zero, ends)
}

fn convert(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor(if call.has("a") { "a" } else { "input" })?;
    one(call.cast_out(builder, &x)?)
}

/// The shape in which blocks of a tensor have dimensions of their own, and which dimensions those are.
fn blocks(shape: &[Dim], sizes: &[Dim]) -> Result<(Vec<Dim>, Vec<usize>)> {
    if shape.len() != sizes.len() {
        fail!(Shape, "blocks of {} dimensions for a tensor of rank {}", sizes.len(), shape.len());
    }
    let (mut split, mut within) = (Vec::new(), Vec::new());
    for (size, block) in shape.iter().zip(sizes) {
        if block.fixed() == Some(1) || block == size {
            if block.fixed() != Some(1) {
                within.push(split.len());
            }
            split.push(size.clone());
            continue;
        }
        match (size.fixed(), block.fixed()) {
            (Some(size), Some(block)) if block > 0 && size % block == 0 => {
                split.extend([(size / block).into(), block.into()]);
                within.push(split.len() - 1);
            }
            _ => fail!(Unsupported, "blocks of {block} in a dimension of size {size}"),
        }
    }
    Ok((split, within))
}

/// The input of a call in blocks, and the shape of what each block has one of.
fn in_blocks(builder: &mut Builder, call: &Call<'_>, x: &Tensor) -> Result<(Tensor, Vec<usize>, Vec<Dim>)> {
    let (split, within) = blocks(&builder.shape(x), &call.dims("block_size")?)?;
    let mut each = split.clone();
    within.iter().for_each(|&axis| each[axis] = 1.into());
    Ok((builder.reshape(x, &split)?, within, each))
}

fn block_zero(builder: &mut Builder, call: &Call<'_>, each: &[Dim]) -> Result<Option<Operand>> {
    match call.try_tensor("zero_point")? {
        // None is also written as a tensor without elements.
        Some(zero) if builder.shape(&zero).iter().all(|dim| dim.fixed() != Some(0)) => {
            builder.reshape(&zero, each).map(|zero| Some(Operand::Tensor(zero)))
        }
        _ => Ok(None),
    }
}

fn quantize_affine(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = input(builder, call)?;
    let (split, _, each) = in_blocks(builder, call, &x)?;
    let scale = Operand::Tensor(builder.reshape(&call.tensor("scale")?, &each)?);
    let zero = block_zero(builder, call, &each)?.unwrap_or(plain(0.0));
    let dtype = call.out_dtype(0)?;
    let grid = Grid { inverse: inverse(builder, &scale)?, zero, ends: ends(builder, call, dtype)? };
    let codes = grid.codes(builder, &split)?;
    let codes = builder.cast(&codes, dtype)?;
    one(builder.reshape(&codes, &call.out_shape(0)?)?)
}

fn dequantize_affine(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (split, _, each) = in_blocks(builder, call, &call.tensor("input")?)?;
    let scale = Operand::Tensor(builder.reshape(&call.tensor("scale")?, &each)?);
    let zero = block_zero(builder, call, &each)?;
    let x = numbers(builder, &split, &scale, zero.as_ref())?;
    one(builder.reshape(&x, &call.out_shape(0)?)?)
}

fn choose_affine(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = input(builder, call)?;
    let (split, within, _) = in_blocks(builder, call, &x)?;
    let ends = known_ends(call, call.scalar_type("target_dtype").unwrap_or(DType::I8))?;
    let eps = call.float("eps", f64::from(f32::MIN_POSITIVE))?;
    let range = range(builder, &split, &within)?;
    let middle = ((ends[1] + ends[0] + 1.0) / 2.0).trunc();
    let chosen = match call.text("mapping_type") {
        Some("ASYMMETRIC") => asymmetric(builder, range, ends, eps)?,
        Some("SYMMETRIC") => {
            let scale = symmetric(builder, range, ends, eps)?;
            let zero = filled(builder, &scale, middle)?;
            [scale, zero]
        }
        Some("SYMMETRIC_NO_CLIPPING_ERR") => {
            let [low, high] = range;
            let (low, high) = (divided(builder, &low, ends[0])?, divided(builder, &high, ends[1])?);
            let scale = builder.binary(Binary::Max, &low, &high)?;
            let scale = between(builder, &scale, Some(eps), None)?;
            let zero = filled(builder, &scale, middle)?;
            [scale, zero]
        }
        other => fail!(Unsupported, "scales chosen by the rule {}", other.unwrap_or("none")),
    };
    pair(builder, call, chosen)
}

fn choose_for_float8(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "tensor")?;
    let (split, within, _) = in_blocks(builder, call, &x)?;
    let reach = builder.unary(Unary::Abs, &split)?;
    let mut reach = reduce(builder, Reduce::Max, &reach, &within, true)?;
    for (name, op) in [("hp_value_lb", Binary::Max), ("hp_value_ub", Binary::Min)] {
        if call.has(name) {
            reach = combine(builder, op, &reach, &plain(call.float(name, 0.0)?))?;
        }
    }
    // The largest finite number of eight bits, 4 of them the exponent's.
    let scale = divided(builder, &reach, 448.0)?;
    one(builder.reshape(&scale, &call.out_shape(0)?)?)
}

fn dequantize_float8(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, scale) = (call.float_tensor(builder, "tensor")?, call.float_tensor(builder, "scale")?);
    one(builder.binary(Binary::Mul, &x, &scale)?)
}

/// The product of two matrices of bytes, exact in 32 bits.
fn integer_product(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.tensor("self")?, call.tensor("mat2")?);
    if a.rank() != 2 || b.rank() != 2 {
        fail!(Shape, "an integer product of ranks {} and {}", a.rank(), b.rank());
    }
    let transposed = b.axes[0] > b.axes[1];
    let b = if transposed { Builder::swapped(&b, 0, 1) } else { b };
    let inputs = [builder.dense(&a)?, builder.dense(&b)?];
    let value = builder.graph.push(Op::MatMul { transposed }, &inputs)?;
    one(builder.plain(value))
}

/// `x` times transposed codes, each column scaled.
fn scaled_product(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, codes) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "mat2")?);
    let product = match builder.is_fixed(&codes) {
        true => linear_of(builder, &x, &codes, None)?,
        false => matmul(builder, &x, &Builder::swapped(&codes, 0, 1))?,
    };
    let scales = call.float_tensor(builder, "scales")?;
    one(builder.binary(Binary::Mul, &product, &scales)?)
}
