//! Arithmetic of sizes, and numbers that leave tensors.

use ondine_graph::{Binary, DType, Dim, DimPair, Op, Result, Unary, fail};

use super::rule::Rule;
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item, output_names},
    source,
};

/// The operators of this file, by the last part of their names: they come from several modules of Python.
pub(super) const RULES: &[Rule] = &[
    Rule::new("sym_size", size).complex(),
    Rule::new("sym_numel", count_of),
    Rule::new("add", arithmetic),
    Rule::new("sub", arithmetic),
    Rule::new("mul", arithmetic),
    Rule::new("floordiv", arithmetic),
    Rule::new("mod", arithmetic),
    Rule::new("sym_max", arithmetic),
    Rule::new("sym_min", arithmetic),
    Rule::new("neg", arithmetic),
    Rule::new("pow", arithmetic),
    Rule::new("truediv", arithmetic),
    Rule::new("sym_float", arithmetic),
    Rule::new("sym_int", arithmetic),
    Rule::new("trunc", arithmetic),
    Rule::new("ceil", arithmetic),
    Rule::new("floor", arithmetic),
    Rule::new("round", arithmetic),
    Rule::new("sym_sqrt", arithmetic),
    Rule::new("_sym_sqrt", arithmetic),
    Rule::new("item", item),
    Rule::new("_local_scalar_dense", item),
    Rule::new("eq", decided),
    Rule::new("ne", decided),
    Rule::new("lt", decided),
    Rule::new("le", decided),
    Rule::new("gt", decided),
    Rule::new("ge", decided),
    Rule::new("and_", decided),
    Rule::new("or_", decided),
    Rule::new("not_", decided),
    Rule::new("sym_not", decided),
    Rule::new("sym_ite", decided),
    Rule::new("_assert_scalar", assertion).complex(),
];

fn assertion(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    if let Some([a, b]) = asserted(call) {
        builder.equate(&a, &b);
    }
    Ok(Vec::new())
}

// Most conditions of sizes only guard what the exporter assumed, whatever they are made of.
fn decided(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    Ok(vec![condition(builder, call).map_or(Item::Truth, Item::Number)])
}

fn count_of(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let shape = builder.shape(&x);
    Ok(vec![Item::Integer(shape.iter().fold(Dim::from(1), |product, dim| &product * dim))])
}

fn size(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let axis = call.axis("dim", 0, x.rank())?;
    Ok(vec![Item::Integer(builder.dim(&x, axis))])
}

/// The sizes that an assertion says are equal.
fn asserted(call: &Call<'_>) -> Option<[Dim; 2]> {
    let name = source::names(&call.node.inputs.first()?.arg).next()?;
    let node = call.graph.nodes.iter().find(|node| output_names(node).contains(&Some(name)))?;
    let call = Call { node, ..*call };
    (node.target.rsplit('.').next() == Some("eq")).then_some(())?;
    Some([operand(&call, 0).ok()?, operand(&call, 1).ok()?])
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

/// A truth value of numbers.
fn condition(builder: &mut Builder, call: &Call<'_>) -> Result<Tensor> {
    let name = call.op.rsplit('.').next().unwrap_or(call.op);
    let mut operands = Vec::new();
    for input in &call.node.inputs {
        let dtype = match name {
            "and_" | "or_" | "not_" | "sym_not" => DType::Bool,
            "sym_ite" if operands.is_empty() => DType::Bool,
            "sym_ite" => DType::I64,
            _ => DType::F32,
        };
        operands.push(call.operand_as(builder, &input.name, dtype)?);
    }
    Ok(match (name, &operands[..]) {
        ("eq", [a, b]) => builder.binary(Binary::Equal, a, b)?,
        ("ne", [a, b]) => {
            let equal = builder.binary(Binary::Equal, a, b)?;
            builder.not(&equal)?
        }
        ("lt", [a, b]) | ("gt", [b, a]) => builder.binary(Binary::Less, a, b)?,
        ("ge", [a, b]) | ("le", [b, a]) => {
            let less = builder.binary(Binary::Less, a, b)?;
            builder.not(&less)?
        }
        ("and_", [a, b]) => builder.binary(Binary::And, a, b)?,
        ("or_", [a, b]) => builder.binary(Binary::Or, a, b)?,
        ("not_" | "sym_not", [a]) => builder.not(a)?,
        ("sym_ite", [condition, a, b]) => builder.select(condition, a, b)?,
        (other, _) => fail!(Unsupported, "the condition `{other}`"),
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
    if dim.depth() > MAX_DEPTH {
        fail!(Unsupported, "sizes that depend on each other more than {MAX_DEPTH} deep");
    }
    Ok(vec![Item::Integer(dim)])
}

/// Expressions of sizes nest no deeper than this, so that walking them takes little stack.
const MAX_DEPTH: usize = 64;

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
