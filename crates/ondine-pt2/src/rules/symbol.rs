//! Arithmetic of sizes, and numbers that leave tensors.

use ondine_graph::{Binary, DType, Dim, Elementary, Op, Result, Unary, fail};

use super::rule::Rule;
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item, Operand},
    expr::{self, Value},
};

/// The operators of this file, by the last part of their names: they come from several modules of Python.
pub(super) const RULES: &[Rule] = &[
    Rule::new("sym_size", size).complex(),
    Rule::new("sym_numel", count_of),
    Rule::new("sym_storage_offset", offset),
    Rule::new("add", computed),
    Rule::new("sub", computed),
    Rule::new("mul", computed),
    Rule::new("floordiv", computed),
    Rule::new("mod", computed),
    Rule::new("sym_max", computed),
    Rule::new("sym_min", computed),
    Rule::new("neg", computed),
    Rule::new("pow", computed),
    Rule::new("truediv", computed),
    Rule::new("sym_float", computed),
    Rule::new("sym_int", computed),
    Rule::new("trunc", computed),
    Rule::new("ceil", computed),
    Rule::new("floor", computed),
    Rule::new("round", computed),
    Rule::new("sym_sum", computed),
    Rule::new("lshift", computed),
    Rule::new("rshift", computed),
    Rule::new("sqrt", computed),
    Rule::new("log2", computed),
    Rule::new("sym_sqrt", computed),
    Rule::new("_sym_sqrt", computed),
    Rule::new("item", item),
    Rule::new("_local_scalar_dense", item),
    Rule::new("eq", computed),
    Rule::new("ne", computed),
    Rule::new("lt", computed),
    Rule::new("le", computed),
    Rule::new("gt", computed),
    Rule::new("ge", computed),
    Rule::new("and_", computed),
    Rule::new("or_", computed),
    Rule::new("not_", computed),
    Rule::new("sym_not", computed),
    Rule::new("sym_ite", computed),
];

fn count_of(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let shape = builder.shape(&x);
    Ok(vec![Item::Integer(shape.iter().fold(Dim::from(1), |product, dim| &product * dim))])
}

/// Where in its memory a tensor begins, as the program says.
fn offset(_: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    match call.symbolic_offset("self") {
        Some(offset) => Ok(vec![Item::Integer(offset)]),
        None => fail!(Format, "the program does not say where a tensor begins"),
    }
}

fn size(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let axis = call.axis("dim", 0, x.rank())?;
    Ok(vec![Item::Integer(builder.dim(&x, axis))])
}

/// The element of a tensor as a number, which may become a size.
fn item(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let number = call.tensor("self")?;
    let number = builder.reshape(&number, &[])?;
    let Some(size) = call.symbol_of(0) else { return Ok(vec![Item::Number(number)]) };
    let mut symbols = std::collections::BTreeSet::new();
    size.symbols(&mut symbols);
    if symbols.is_empty() || !symbols.is_subset(&builder.counts) {
        return Ok(vec![Item::Number(number)]);
    }
    let count = builder.cast(&number, DType::I64)?;
    let limit = symbols.first().and_then(|symbol| builder.graph.limits().get(symbol)).map(|limits| limits[1]);
    builder.graph.push(Op::Measure { size: size.clone(), most: limit.unwrap_or(usize::MAX).into() }, &[count.value])?;
    Ok(vec![Item::Count { number, size }])
}

/// What Python computes of sizes and of numbers that the call finds.
fn computed(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let name = name_of(call);
    let values: Option<Vec<Value>> = call.node.inputs.iter().map(|input| call.value(&input.name)).collect();
    let found = call.node.inputs.iter().any(|input| call.is_found(&input.name));
    let of_sizes = match &values {
        Some(values) => Some(expr::apply(name, values)?),
        None => None,
    };
    let item = match (of_sizes, found) {
        (Some(Value::Integer(dim)), false) => Item::Integer(dim),
        (Some(Value::Real(real)), false) => Item::Real(real),
        (Some(Value::Truth(condition)), false) => Item::Truth(condition),
        // What is a size must not be negative; the number itself may.
        (Some(Value::Integer(size)), true) => match by_tensors(builder, call, name) {
            Ok(number) => Item::Count { number, size },
            Err(_) => Item::Integer(size),
        },
        (Some(Value::Real(_) | Value::Truth(_)) | None, _) => Item::Number(by_tensors(builder, call, name)?),
    };
    Ok(vec![item])
}

/// The operator's name in Python: several modules hold operators of sizes.
fn name_of<'a>(call: &Call<'a>) -> &'a str {
    call.node.target.rsplit('.').find(|part| !matches!(*part, "default" | "Scalar" | "int")).unwrap_or("")
}

/// The operands as tensors of the type that Python computes in.
fn operands(builder: &mut Builder, call: &Call<'_>, name: &str) -> Result<Vec<Tensor>> {
    let mut operands = Vec::new();
    for input in &call.node.inputs {
        operands.push(match call.operand(builder, &input.name)? {
            Operand::Tensor(tensor) => tensor,
            Operand::Number { integer: true, .. } => call.operand_as(builder, &input.name, DType::I64)?,
            Operand::Number { value, .. } => builder.number(value, DType::F32)?,
        });
    }
    let whole = operands.iter().all(|operand| !builder.dtype(operand).is_float());
    let common = match name {
        "and_" | "or_" | "not_" | "sym_not" => DType::Bool,
        "truediv" | "sym_float" | "sym_sqrt" | "_sym_sqrt" | "sqrt" => DType::F32,
        _ if whole => DType::I64,
        _ => DType::F32,
    };
    for (position, operand) in operands.iter_mut().enumerate() {
        let dtype = if name == "sym_ite" && position == 0 { DType::Bool } else { common };
        *operand = builder.cast(operand, dtype)?;
    }
    Ok(operands)
}

/// Numbers that come from data are tensors without dimensions: I64, F32 or Bool.
fn by_tensors(builder: &mut Builder, call: &Call<'_>, name: &str) -> Result<Tensor> {
    let rounded = |builder: &mut Builder, x: &Tensor, function: Elementary| {
        let x = if builder.dtype(x).is_float() { builder.function(function, x)? } else { x.clone() };
        builder.cast(&x, DType::I64)
    };
    match (name, &operands(builder, call, name)?[..]) {
        ("sym_float", [a]) => Ok(a.clone()),
        ("sym_int" | "trunc" | "int", [a]) => rounded(builder, a, Elementary::Trunc),
        ("ceil", [a]) => rounded(builder, a, Elementary::Ceil),
        ("floor", [a]) => rounded(builder, a, Elementary::Floor),
        ("round", [a]) => rounded(builder, a, Elementary::Round),
        ("neg", [a]) => builder.unary(Unary::Neg, a),
        ("abs", [a]) => builder.unary(Unary::Abs, a),
        ("sym_sqrt" | "_sym_sqrt" | "sqrt", [a]) => builder.unary(Unary::Sqrt, a),
        ("add", [a, b]) => builder.binary(Binary::Add, a, b),
        ("sub", [a, b]) => builder.binary(Binary::Sub, a, b),
        ("mul", [a, b]) => builder.binary(Binary::Mul, a, b),
        ("truediv", [a, b]) => builder.binary(Binary::Div, a, b),
        ("floordiv", [a, b]) => builder.binary(Binary::FloorDiv, a, b),
        ("mod", [a, b]) => builder.binary(Binary::Remainder, a, b),
        ("pow", [a, b]) => builder.binary(Binary::Pow, a, b),
        ("sym_max", [a, b]) => builder.binary(Binary::Max, a, b),
        ("sym_min", [a, b]) => builder.binary(Binary::Min, a, b),
        ("eq", [a, b]) => builder.binary(Binary::Equal, a, b),
        ("lt", [a, b]) | ("gt", [b, a]) => builder.binary(Binary::Less, a, b),
        ("ne", [a, b]) => {
            let equal = builder.binary(Binary::Equal, a, b)?;
            builder.not(&equal)
        }
        ("ge", [a, b]) | ("le", [b, a]) => {
            let less = builder.binary(Binary::Less, a, b)?;
            builder.not(&less)
        }
        ("and_", [a, b]) => builder.binary(Binary::And, a, b),
        ("or_", [a, b]) => builder.binary(Binary::Or, a, b),
        ("not_" | "sym_not", [a]) => builder.not(a),
        ("sym_ite", [condition, a, b]) => builder.select(condition, a, b),
        (other, _) => fail!(Unsupported, "`{other}` of numbers that the data decides"),
    }
}
