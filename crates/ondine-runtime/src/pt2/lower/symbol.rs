//! Arithmetic of sizes, and numbers that leave tensors.

use super::{Builder, Call, Item, Rule};
use crate::{
    dim::{Dim, DimPair},
    dtype::DType,
    error::{Result, fail},
    op::{Binary, Unary},
};

pub(super) fn rule(op: &str) -> Option<Rule> {
    let name = op.rsplit('.').next().unwrap_or(op);
    Some(match name {
        "sym_size" => |builder, call| {
            let x = call.tensor("self")?;
            let axis = call.axis("dim", 0, x.rank())?;
            Ok(vec![Item::Integer(builder.dim(&x, axis))])
        },
        "sym_numel" => |builder, call| {
            let x = call.tensor("self")?;
            let shape = builder.shape(&x);
            Ok(vec![Item::Integer(shape.iter().fold(Dim::from(1), |product, dim| &product * dim))])
        },
        "add" | "sub" | "mul" | "floordiv" | "mod" | "sym_max" | "sym_min" | "neg" | "pow" | "truediv"
        | "sym_float" | "sym_int" | "trunc" | "ceil" | "floor" | "round" | "sym_sqrt" | "_sym_sqrt" => arithmetic,
        "item" | "_local_scalar_dense" => |_, call| Ok(vec![Item::Number(call.tensor("self")?)]),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "and_" | "or_" | "not_" | "sym_not" | "sym_ite" => {
            // Conditions of sizes only guard what the exporter assumed.
            |_, _| Ok(vec![Item::Truth])
        }
        "cond" => |_, _| fail!(Unsupported, "cond is lowered by the program"),
        _ => return None,
    })
}

/// Arguments of Python's operators have names that depend on the operator; these are in order.
fn operand(call: &Call<'_>, position: usize) -> Result<Dim> {
    match call.node.inputs.get(position) {
        Some(input) => call.dim(&input.name),
        None => fail!(Format, "argument {position} is missing"),
    }
}

fn arithmetic(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let name = call.node.target.rsplit('.').find(|part| !matches!(*part, "default" | "Scalar" | "int")).unwrap_or("");
    let a = match operand(call, 0) {
        Ok(a) => a,
        Err(_) => return by_tensors(builder, call, name),
    };
    let dim = match name {
        "neg" => &Dim::from(0) - &a,
        "sym_float" | "truediv" | "sym_sqrt" | "_sym_sqrt" => return by_tensors(builder, call, name),
        "sym_int" | "trunc" | "ceil" | "floor" | "round" => a,
        _ => {
            let Ok(b) = operand(call, 1) else { return by_tensors(builder, call, name) };
            match name {
                "add" => &a + &b,
                "sub" => &a - &b,
                "mul" => &a * &b,
                "floordiv" => a.pair(DimPair::Quotient, &b),
                "mod" => &a - &(&a.pair(DimPair::Quotient, &b) * &b),
                "sym_max" => a.pair(DimPair::Max, &b),
                "sym_min" => a.pair(DimPair::Min, &b),
                "pow" if matches!(b.constant(), Some(0..=8)) => {
                    (0..b.constant().unwrap_or(0)).fold(Dim::from(1), |power, _| &power * &a)
                }
                other => fail!(Unsupported, "`{other}` of sizes"),
            }
        }
    };
    Ok(vec![Item::Integer(dim)])
}

/// Numbers that are not integers, or that come from data, are tensors without dimensions.
fn by_tensors(builder: &mut Builder, call: &Call<'_>, name: &str) -> Result<Vec<Item>> {
    let mut operands = Vec::new();
    for input in &call.node.inputs {
        operands.push(call.operand_as(builder, &input.name, DType::F32)?);
    }
    let result = match (name, &operands[..]) {
        ("sym_float", [a]) => a.clone(),
        ("neg", [a]) => builder.unary(Unary::Neg, a)?,
        ("sym_sqrt" | "_sym_sqrt", [a]) => builder.unary(Unary::Sqrt, a)?,
        ("add", [a, b]) => builder.binary(Binary::Add, a, b)?,
        ("sub", [a, b]) => builder.binary(Binary::Sub, a, b)?,
        ("mul", [a, b]) => builder.binary(Binary::Mul, a, b)?,
        ("truediv", [a, b]) => builder.binary(Binary::Div, a, b)?,
        ("floordiv", [a, b]) => builder.binary(Binary::FloorDiv, a, b)?,
        ("mod", [a, b]) => builder.binary(Binary::Remainder, a, b)?,
        ("pow", [a, b]) => builder.binary(Binary::Pow, a, b)?,
        (other, _) => fail!(Unsupported, "`{other}` of numbers that the data decides"),
    };
    Ok(vec![Item::Number(result)])
}
