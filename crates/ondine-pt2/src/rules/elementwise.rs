//! Operators that look at each element by itself.

use ondine_graph::{Activation, Binary, DType, Elementary, Reduce, Result, Unary, fail};

use super::{
    complex,
    positions::coordinates,
    reduce::reduce,
    rule::{Rule, one},
    sharing, view,
};
use crate::{
    builder::{Builder, Tensor, wide},
    call::{Call, Item, Operand},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("add", |builder, call| sum(builder, call, 1.0, "self", "other")).on_complex(complex::arithmetic),
    Rule::new("sub", |builder, call| sum(builder, call, -1.0, "self", "other")).on_complex(complex::arithmetic),
    Rule::new("subtract", |builder, call| sum(builder, call, -1.0, "self", "other")),
    Rule::new("rsub", |builder, call| sum(builder, call, -1.0, "other", "self")).on_complex(complex::arithmetic),
    Rule::new("mul", product).on_complex(complex::arithmetic),
    Rule::new("multiply", product),
    Rule::new("div", quotient).on_complex(complex::arithmetic),
    Rule::new("divide", quotient),
    Rule::new("true_divide", quotient),
    Rule::new("floor_divide", |builder, call| arithmetic(builder, call, Binary::FloorDiv)),
    Rule::new("remainder", |builder, call| arithmetic(builder, call, Binary::Remainder)),
    Rule::new("fmod", |builder, call| arithmetic(builder, call, Binary::Fmod)),
    Rule::new("maximum", |builder, call| arithmetic(builder, call, Binary::Max)),
    Rule::new("minimum", |builder, call| arithmetic(builder, call, Binary::Min)),
    Rule::new("fmax", best_number),
    Rule::new("fmin", best_number),
    Rule::new("atan2", |builder, call| arithmetic(builder, call, Binary::Atan2)),
    Rule::new("arctan2", |builder, call| arithmetic(builder, call, Binary::Atan2)),
    Rule::new("pow", power).on_complex(complex::integer_power),
    Rule::new("float_power", power),
    Rule::new("bitwise_and", |builder, call| arithmetic(builder, call, Binary::And)),
    Rule::new("__and__", |builder, call| arithmetic(builder, call, Binary::And)),
    Rule::new("__iand__", |builder, call| arithmetic(builder, call, Binary::And)),
    Rule::new("bitwise_or", |builder, call| arithmetic(builder, call, Binary::Or)),
    Rule::new("__or__", |builder, call| arithmetic(builder, call, Binary::Or)),
    Rule::new("__ior__", |builder, call| arithmetic(builder, call, Binary::Or)),
    Rule::new("bitwise_xor", |builder, call| arithmetic(builder, call, Binary::Xor)),
    Rule::new("__xor__", |builder, call| arithmetic(builder, call, Binary::Xor)),
    Rule::new("__ixor__", |builder, call| arithmetic(builder, call, Binary::Xor)),
    Rule::new("logical_and", |builder, call| logic(builder, call, Binary::And)),
    Rule::new("logical_or", |builder, call| logic(builder, call, Binary::Or)),
    Rule::new("logical_xor", |builder, call| logic(builder, call, Binary::Xor)),
    Rule::new("logical_not", not),
    Rule::new("bitwise_not", not),
    Rule::new("eq", |builder, call| compare(builder, call, Compare::Equal)),
    Rule::new("ne", |builder, call| compare(builder, call, Compare::Unequal)),
    Rule::new("not_equal", |builder, call| compare(builder, call, Compare::Unequal)),
    Rule::new("lt", |builder, call| compare(builder, call, Compare::Less)),
    Rule::new("less", |builder, call| compare(builder, call, Compare::Less)),
    Rule::new("gt", |builder, call| compare(builder, call, Compare::Greater)),
    Rule::new("greater", |builder, call| compare(builder, call, Compare::Greater)),
    Rule::new("le", |builder, call| compare(builder, call, Compare::AtMost)),
    Rule::new("less_equal", |builder, call| compare(builder, call, Compare::AtMost)),
    Rule::new("ge", |builder, call| compare(builder, call, Compare::AtLeast)),
    Rule::new("greater_equal", |builder, call| compare(builder, call, Compare::AtLeast)),
    Rule::new("isnan", classify),
    Rule::new("isinf", classify),
    Rule::new("isfinite", classify),
    Rule::new("where", choose).on_complex(complex::choice),
    Rule::new("masked_fill", masked_fill),
    Rule::new("clamp", clamp),
    Rule::new("clip", clamp),
    Rule::new("hardtanh", clamp),
    Rule::new("clamp_min", clamp),
    Rule::new("clamp_max", clamp),
    Rule::new("relu6", clamp),
    Rule::new("to", to).sharing(sharing::converted).on_complex(complex::cast).back(view::all_back),
    Rule::new("_to_copy", to).on_complex(complex::cast),
    Rule::new("type_as", to).sharing(sharing::converted).back(view::all_back),
    Rule::new("float", to).sharing(sharing::converted),
    Rule::new("int", to).sharing(sharing::converted),
    Rule::new("long", to).sharing(sharing::converted),
    Rule::new("bool", to).sharing(sharing::converted),
    Rule::new("half", to).sharing(sharing::converted),
    Rule::new("double", to).sharing(sharing::converted),
    Rule::new("to_copy", to),
    Rule::new("copy", copy),
    Rule::new("addcmul", addcmul),
    Rule::new("addcdiv", addcmul),
    Rule::new("neg", rounding).on_complex(complex::negative),
    Rule::new("abs", rounding).complex(),
    Rule::new("sign", rounding),
    Rule::new("sgn", rounding),
    Rule::new("floor", rounding),
    Rule::new("ceil", rounding),
    Rule::new("round", rounding),
    Rule::new("special_round", rounding),
    Rule::new("trunc", rounding),
    Rule::new("fix", rounding),
];

fn addcmul(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let dtype = wide(call.out_dtype(0)?);
    let (a, b) = (call.operand_as(builder, "tensor1", dtype)?, call.operand_as(builder, "tensor2", dtype)?);
    let op = if call.op == "addcmul" { Binary::Mul } else { Binary::Div };
    let product = builder.binary(op, &a, &b)?;
    let product = Call::scale(builder, &product, call.float("value", 1.0)?)?;
    let x = call.operand_as(builder, "self", dtype)?;
    one(builder.binary(Binary::Add, &x, &product)?)
}

fn copy(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, source) = (call.tensor("self")?, call.tensor("src")?);
    let source = builder.cast(&source, builder.dtype(&x))?;
    let shape = builder.shape(&x);
    one(builder.expand(&source, &shape)?)
}

fn to(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let x = call.cast_out(builder, &x)?;
    // What is computed in 32 bits loses its digits where the program says so.
    let half = call.narrows()?;
    match half {
        Some(half) => {
            let narrow = builder.cast(&x, half)?;
            one(builder.cast(&narrow, DType::F32)?)
        }
        None => one(x),
    }
}

fn masked_fill(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mask = call.tensor("mask")?;
    let dtype = call.out_dtype(0)?;
    let value = call.operand_as(builder, "value", dtype)?;
    let x = call.operand_as(builder, "self", dtype)?;
    one(builder.select(&mask, &value, &x)?)
}

/// The larger or smaller of two; what is no number counts for nothing.
fn best_number(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    // What is no number counts for nothing.
    let [a, b] = operands(builder, call, "self", "other")?;
    let best = builder.binary(if call.op == "fmax" { Binary::Max } else { Binary::Min }, &a, &b)?;
    let (first, second) = (builder.binary(Binary::Equal, &a, &a)?, builder.binary(Binary::Equal, &b, &b)?);
    let best = builder.select(&second, &best, &a)?;
    let best = builder.select(&first, &best, &b)?;
    finish(builder, call, &best)
}

/// Both operands in the type of the result, or the one in which that is computed.
fn operands(builder: &mut Builder, call: &Call<'_>, a: &str, b: &str) -> Result<[Tensor; 2]> {
    let dtype = wide(call.out_dtype(0)?);
    Ok([typed(builder, call, a, dtype)?, typed(builder, call, b, dtype)?])
}

/// An operand in a type that is computed in; integers beyond that of the result lose what it has no bits for.
fn typed(builder: &mut Builder, call: &Call<'_>, name: &str, dtype: DType) -> Result<Tensor> {
    let own = call.out_dtype(0)?;
    match call.operand(builder, name)? {
        Operand::Number { integer: true, .. } if !matches!(own, DType::F32 | DType::I64 | DType::Bool) => {
            let whole = call.operand_as(builder, name, DType::I64)?;
            let cut = builder.cast(&whole, own)?;
            builder.cast(&cut, dtype)
        }
        _ => call.operand_as(builder, name, dtype),
    }
}

/// `x` in the type of the result.
pub(super) fn finish(builder: &mut Builder, call: &Call<'_>, x: &Tensor) -> Result<Vec<Item>> {
    let x = call.cast_out(builder, x)?;
    one(x)
}

/// `a + sign * alpha * b`
fn sum(builder: &mut Builder, call: &Call<'_>, sign: f64, a: &str, b: &str) -> Result<Vec<Item>> {
    let factor = sign * call.float("alpha", 1.0)?;
    let dtype = call.out_dtype(0)?;
    if dtype == DType::F32 && !call.out_complex(0)? {
        match (call.operand(builder, a)?, call.operand(builder, b)?) {
            (Operand::Tensor(x), Operand::Number { value, .. }) => {
                let x = builder.cast(&x, dtype)?;
                return one(builder.affine(&x, 1.0, factor * value)?);
            }
            (Operand::Number { value, .. }, Operand::Tensor(x)) => {
                let x = builder.cast(&x, dtype)?;
                return one(builder.affine(&x, factor, value)?);
            }
            _ => {}
        }
    }
    let [a, mut b] = operands(builder, call, a, b)?;
    let op = if sign < 0.0 { Binary::Sub } else { Binary::Add };
    if factor != sign {
        let alpha = call.operand_as(builder, "alpha", builder.dtype(&b))?;
        b = builder.binary(Binary::Mul, &b, &alpha)?;
    }
    let result =
        if dtype == DType::Bool { builder.binary(Binary::Max, &a, &b)? } else { builder.binary(op, &a, &b)? };
    finish(builder, call, &result)
}

fn product(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    if call.out_complex(0)? {
        return complex_product(builder, call);
    }
    if call.out_dtype(0)? == DType::F32
        && let (Operand::Tensor(x), Operand::Number { value, .. }) =
            (call.operand(builder, "self")?, call.operand(builder, "other")?)
    {
        let x = builder.cast(&x, DType::F32)?;
        return one(builder.affine(&x, value, 0.0)?);
    }
    arithmetic(builder, call, Binary::Mul)
}

/// `(a + bi)(c + di)`; complex tensors have a last dimension of both parts.
fn complex_product(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, y) = (call.tensor("self")?, call.tensor("other")?);
    if !(call.is_complex("self") && call.is_complex("other")) {
        // A real factor applies to both parts.
        let mut parts = [x, y];
        for (part, name) in parts.iter_mut().zip(["self", "other"]) {
            if !call.is_complex(name) {
                let mut shape = builder.shape(part);
                shape.push(1.into());
                *part = builder.reshape(part, &shape)?;
            }
        }
        return one(builder.binary(Binary::Mul, &parts[0], &parts[1])?);
    }
    let mut part = |x: &Tensor, index: usize| builder.slice(x, x.rank() - 1, &index.into(), &(index + 1).into());
    let [a, b, c, d] = [part(&x, 0)?, part(&x, 1)?, part(&y, 0)?, part(&y, 1)?];
    let (ac, bd) = (builder.binary(Binary::Mul, &a, &c)?, builder.binary(Binary::Mul, &b, &d)?);
    let (ad, bc) = (builder.binary(Binary::Mul, &a, &d)?, builder.binary(Binary::Mul, &b, &c)?);
    let (real, imaginary) = (builder.binary(Binary::Sub, &ac, &bd)?, builder.binary(Binary::Add, &ad, &bc)?);
    let last = real.rank() - 1;
    one(builder.concat(&[&real, &imaginary], last)?)
}

fn arithmetic(builder: &mut Builder, call: &Call<'_>, op: Binary) -> Result<Vec<Item>> {
    let [a, b] = operands(builder, call, "self", "other")?;
    let result = builder.binary(op, &a, &b)?;
    finish(builder, call, &result)
}

fn quotient(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mode = call.text("rounding_mode");
    if mode.is_none() {
        if let (Operand::Tensor(x), Operand::Number { value, .. }) =
            (call.operand(builder, "self")?, call.operand(builder, "other")?)
            && value != 0.0
            && (1.0 / value) as f32 as f64 * value == 1.0
        {
            // The reciprocal is exact, so a product is the same.
            let x = builder.cast(&x, DType::F32)?;
            return one(builder.affine(&x, 1.0 / value, 0.0)?);
        }
        return arithmetic(builder, call, Binary::Div);
    }
    match (mode, call.out_dtype(0)?) {
        (Some("floor"), _) => arithmetic(builder, call, Binary::FloorDiv),
        (Some("trunc"), DType::F32) => {
            let [a, b] = operands(builder, call, "self", "other")?;
            let result = builder.binary(Binary::Div, &a, &b)?;
            one(builder.function(Elementary::Trunc, &result)?)
        }
        (Some("trunc"), _) => arithmetic(builder, call, Binary::Div),
        (mode, _) => fail!(Unsupported, "division with rounding {mode:?}"),
    }
}

fn power(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let base = if call.has("self") { "self" } else { "base" };
    let exponent = if call.has("exponent") { "exponent" } else { "exp" };
    if call.out_dtype(0)? == DType::F32
        && let (Operand::Tensor(x), Operand::Number { value, .. }) =
            (call.operand(builder, base)?, call.operand(builder, exponent)?)
    {
        let x = builder.cast(&x, DType::F32)?;
        let result = match value {
            1.0 => x,
            2.0 => builder.binary(Binary::Mul, &x, &x)?,
            3.0 => {
                let square = builder.binary(Binary::Mul, &x, &x)?;
                builder.binary(Binary::Mul, &square, &x)?
            }
            0.5 => builder.unary(Unary::Sqrt, &x)?,
            -0.5 => builder.unary(Unary::Rsqrt, &x)?,
            -1.0 => builder.function(Elementary::Reciprocal, &x)?,
            _ => {
                let value = builder.number(value, DType::F32)?;
                builder.binary(Binary::Pow, &x, &value)?
            }
        };
        return one(result);
    }
    let [a, b] = operands(builder, call, base, exponent)?;
    let result = builder.binary(Binary::Pow, &a, &b)?;
    finish(builder, call, &result)
}

fn logic(builder: &mut Builder, call: &Call<'_>, op: Binary) -> Result<Vec<Item>> {
    let a = call.operand_as(builder, "self", DType::Bool)?;
    let b = call.operand_as(builder, "other", DType::Bool)?;
    let truth = builder.binary(op, &a, &b)?;
    finish(builder, call, &truth)
}

fn not(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    if call.out_dtype(0)? == DType::Bool {
        return one(builder.not(&x)?);
    }
    if call.op == "logical_not" {
        let opposite = builder.not(&x)?;
        return one(call.cast_out(builder, &opposite)?);
    }
    let dtype = builder.dtype(&x);
    let ones = builder.number(-1.0, DType::I64)?;
    let ones = builder.cast(&ones, dtype)?;
    one(builder.binary(Binary::Xor, &x, &ones)?)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal,
    Unequal,
    Less,
    Greater,
    AtMost,
    AtLeast,
}

fn compare(builder: &mut Builder, call: &Call<'_>, how: Compare) -> Result<Vec<Item>> {
    let (a, b) = (call.operand(builder, "self")?, call.operand(builder, "other")?);
    let rank = |builder: &Builder, operand: &Operand| match operand {
        Operand::Tensor(tensor) => builder.dtype(tensor),
        Operand::Number { integer: true, .. } => DType::Bool,
        Operand::Number { .. } => DType::F32,
    };
    let types = [rank(builder, &a), rank(builder, &b)];
    let dtype = if types.contains(&DType::F32) {
        DType::F32
    } else if types.contains(&DType::I64) || !matches!((&a, &b), (Operand::Tensor(_), Operand::Tensor(_))) {
        DType::I64
    } else {
        DType::I32
    };
    let mut b_cut = call.operand_as(builder, "other", dtype)?;
    if let (Operand::Tensor(x), Operand::Number { integer: true, .. }) = (&a, &b)
        && !matches!(builder.dtype(x), DType::F32 | DType::I64 | DType::Bool)
    {
        // A number beyond the type that it meets loses what that has no bits for.
        let cut = builder.cast(&b_cut, builder.dtype(x))?;
        b_cut = builder.cast(&cut, dtype)?;
    }
    let (a, b) = (call.operand_as(builder, "self", dtype)?, b_cut);
    let result = match how {
        Compare::Equal => builder.binary(Binary::Equal, &a, &b)?,
        Compare::Unequal => {
            let equal = builder.binary(Binary::Equal, &a, &b)?;
            builder.not(&equal)?
        }
        Compare::Less => builder.binary(Binary::Less, &a, &b)?,
        Compare::Greater => builder.binary(Binary::Less, &b, &a)?,
        Compare::AtMost | Compare::AtLeast => {
            let (a, b) = if how == Compare::AtMost { (a, b) } else { (b, a) };
            if dtype == DType::F32 {
                // NaN is neither less nor equal.
                let (less, equal) = (builder.binary(Binary::Less, &a, &b)?, builder.binary(Binary::Equal, &a, &b)?);
                builder.binary(Binary::Or, &less, &equal)?
            } else {
                let more = builder.binary(Binary::Less, &b, &a)?;
                builder.not(&more)?
            }
        }
    };
    // In place a comparison keeps the type of what it replaces.
    finish(builder, call, &result)
}

fn classify(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let size = builder.unary(Unary::Abs, &x)?;
    let infinity = builder.number(f64::INFINITY, DType::F32)?;
    one(match call.op {
        "isinf" => builder.binary(Binary::Equal, &size, &infinity)?,
        "isfinite" => builder.binary(Binary::Less, &size, &infinity)?,
        _ => {
            let number = builder.binary(Binary::Equal, &x, &x)?;
            builder.not(&number)?
        }
    })
}

fn choose(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    if !call.has("self") {
        let condition = call.tensor("condition")?;
        let columns = coordinates(builder, &condition, call.out_shape(0)?.first())?;
        return Ok(columns.into_iter().map(Item::Tensor).collect());
    }
    let dtype = call.out_dtype(0)?;
    let condition = call.tensor("condition")?;
    let condition = builder.cast(&condition, DType::Bool)?;
    let a = call.operand_as(builder, "self", dtype)?;
    let b = call.operand_as(builder, "other", dtype)?;
    one(builder.select(&condition, &a, &b)?)
}

/// `x` no smaller than `least` and no larger than `most`.
pub(super) fn between(builder: &mut Builder, x: &Tensor, least: Option<f64>, most: Option<f64>) -> Result<Tensor> {
    let mut x = x.clone();
    let dtype = builder.dtype(&x);
    if (least, most, dtype) == (Some(0.0), Some(6.0), DType::F32) {
        return builder.activation(Activation::Relu6, &x);
    }
    if let Some(least) = least {
        if least == 0.0 && dtype == DType::F32 {
            x = builder.activation(Activation::Relu, &x)?;
        } else {
            let least = builder.number(least, dtype)?;
            x = builder.binary(Binary::Max, &x, &least)?;
        }
    }
    if let Some(most) = most {
        let most = builder.number(most, dtype)?;
        x = builder.binary(Binary::Min, &x, &most)?;
    }
    Ok(x)
}

fn clamp(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let dtype = wide(call.out_dtype(0)?);
    let mut x = call.operand_as(builder, "self", dtype)?;
    let (least, most) = match call.op {
        "relu6" => return one(between(builder, &x, Some(0.0), Some(6.0))?),
        "hardtanh" => {
            let (least, most) = (call.float("min_val", -1.0)?, call.float("max_val", 1.0)?);
            return one(between(builder, &x, Some(least), Some(most))?);
        }
        _ => ("min", "max"),
    };
    for (name, op) in [(least, Binary::Max), (most, Binary::Min)] {
        if !call.has(name) {
            continue;
        }
        match call.operand(builder, name)? {
            // Integers keep all of their digits.
            Operand::Number { .. } if dtype != DType::F32 => {
                let limit = call.operand_as(builder, name, dtype)?;
                x = builder.binary(op, &x, &limit)?;
            }
            Operand::Number { value, .. } if op == Binary::Max => x = between(builder, &x, Some(value), None)?,
            Operand::Number { value, .. } => x = between(builder, &x, None, Some(value))?,
            Operand::Tensor(limit) => {
                let limit = builder.cast(&limit, dtype)?;
                x = builder.binary(op, &x, &limit)?;
            }
        }
    }
    finish(builder, call, &x)
}

fn rounding(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let dtype = call.out_dtype(0)?;
    let x = call.tensor("self")?;
    if call.op == "abs" && call.is_complex("self") {
        let last = x.rank() - 1;
        let square = builder.binary(Binary::Mul, &x, &x)?;
        let sum = reduce(builder, Reduce::Sum, &square, &[last], false)?;
        return one(builder.unary(Unary::Sqrt, &sum)?);
    }
    let function = match (call.op, dtype) {
        ("neg", _) => return one(builder.unary(Unary::Neg, &x)?),
        ("abs", _) => return one(builder.unary(Unary::Abs, &x)?),
        ("sign" | "sgn", DType::F32) => Elementary::Sign,
        ("sign" | "sgn", DType::Bool) => return one(x),
        ("sign" | "sgn", _) => {
            let (least, most) = (Some(-1.0), Some(1.0));
            return one(between(builder, &x, least, most)?);
        }
        (_, dtype) if dtype != DType::F32 => return one(x),
        ("floor", _) => Elementary::Floor,
        ("ceil", _) => Elementary::Ceil,
        ("round" | "special_round", _) => Elementary::Round,
        _ => Elementary::Trunc,
    };
    let decimals = call.integer("decimals", 0)?;
    if decimals != 0 {
        let scale = 10_f64.powi(i32::try_from(decimals).unwrap_or(0));
        let scaled = builder.affine(&x, scale, 0.0)?;
        let rounded = builder.function(function, &scaled)?;
        let scale = builder.number(scale, DType::F32)?;
        return one(builder.binary(Binary::Div, &rounded, &scale)?);
    }
    one(builder.function(function, &x)?)
}
