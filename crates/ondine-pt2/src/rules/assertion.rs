//! What a program says must hold: of sizes a guard of the graph, of numbers that the call finds an operator.

use ondine_graph::{Binary, Comparison, Condition, DType, Dim, Guard, Op, Real, Result};

use super::rule::Rule;
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item, output_names},
    expr::Value,
    source,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("_assert_scalar", scalar).complex(),
    Rule::new("_functional_assert_scalar", scalar).complex(),
    Rule::new("_assert_async", elements),
    Rule::new("_functional_assert_async", elements),
    Rule::new("sym_constrain_range", range),
    Rule::new("sym_constrain_range_for_size", range),
    Rule::new("_functional_sym_constrain_range", range),
    Rule::new("_functional_sym_constrain_range_for_size", range),
    Rule::new("_check_is_size", range),
    // Types and ranks are those that the program says, whatever is called.
    Rule::new("_assert_tensor_metadata", |_, _| Ok(Vec::new())).complex(),
    // A factorization that fails does so by itself.
    Rule::new("_linalg_check_errors", |_, _| Ok(Vec::new())),
    Rule::new("_set_grad_enabled", |_, _| Ok(Vec::new())),
];

/// What the program calls its condition.
fn text(call: &Call<'_>) -> String {
    let text = call.text("assert_msg").or_else(|| call.text("msg")).unwrap_or("a condition of the program");
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn scalar(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let text = text(call);
    match call.value("self") {
        Some(value) => {
            if let Some([a, b]) = equal_sizes(call) {
                builder.equate(&a, &b);
            }
            builder.graph.guard(Guard { condition: value.truth(), text: text.into() });
        }
        None => {
            let truth = call.operand_as(builder, "self", DType::Bool)?;
            holds(builder, &truth, &text)?;
        }
    }
    Ok(Vec::new())
}

fn elements(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let truth = builder.cast(&x, DType::Bool)?;
    holds(builder, &truth, &text(call))?;
    Ok(Vec::new())
}

/// The call fails if `truth` does not hold where the program goes.
fn holds(builder: &mut Builder, truth: &Tensor, text: &str) -> Result<()> {
    let truth = match builder.taken.clone() {
        Some(taken) => {
            let elsewhere = builder.not(&taken)?;
            builder.binary(Binary::Or, truth, &elsewhere)?
        }
        None => truth.clone(),
    };
    builder.graph.push(Op::Assert { text: text.into() }, &[truth.value])?;
    Ok(())
}

/// A number between others.
fn range(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let name = if call.has("size") { "size" } else { "self" };
    let smallest = if call.op.ends_with("size") { 0 } else { i64::MIN };
    let (least, most) = (call.integer("min", smallest)?, call.integer("max", i64::MAX)?);
    let text = format!("a number of the data is from {least} to {most}");
    if call.is_found(name) {
        let number = call.operand_as(builder, name, DType::I64)?;
        for (position, end) in [least, most].into_iter().enumerate() {
            let end = builder.integer(&Dim::from_i64(end))?;
            let pair = if position == 0 { [&number, &end] } else { [&end, &number] };
            let outside = builder.binary(Binary::Less, pair[0], pair[1])?;
            let inside = builder.not(&outside)?;
            holds(builder, &inside, &text)?;
        }
    } else if let Some(Value::Integer(size)) = call.value(name) {
        let end = |end: i64| Real::Of(Dim::from_i64(end));
        let number = Real::Of(size);
        let above = Condition::compare(Comparison::AtMost, &end(least), &number);
        let below = Condition::compare(Comparison::AtMost, &number, &end(most));
        builder.graph.guard(Guard { condition: above.and(&below), text: text.into() });
    }
    Ok(Vec::new())
}

/// The sizes that an assertion says are equal.
fn equal_sizes(call: &Call<'_>) -> Option<[Dim; 2]> {
    let name = source::names(&call.node.inputs.first()?.arg).next()?;
    let node = call.graph.nodes.iter().find(|node| output_names(node).contains(&Some(name)))?;
    let call = Call { node, ..*call };
    (node.target.rsplit('.').next() == Some("eq")).then_some(())?;
    let operand = |position: usize| call.dim(&call.node.inputs.get(position)?.name).ok();
    Some([operand(0)?, operand(1)?])
}
