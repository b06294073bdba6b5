//! Numbers that follow one another.

use ondine_graph::{Binary, DType, NDArray, Result};

use super::rule::{Rule, one};
use crate::{
    builder::Builder,
    call::{Call, Item, Operand},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] =
    &[Rule::new("arange", arange), Rule::new("linspace", linspace), Rule::new("logspace", linspace)];

fn arange(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let count = call.out_dim(0, 0)?;
    let dtype = call.out_dtype(0)?;
    let integers = call.try_dim("start").and_then(|start| Ok((start, call.try_dim("step")?)));
    let range = match integers {
        Ok((start, step)) if step.as_ref().is_none_or(|step| step.constant().is_some()) => {
            let step = step.and_then(|step| step.constant()).unwrap_or(1);
            builder.range(&start.unwrap_or_else(|| 0.into()), step, &count)?
        }
        _ => {
            let (start, step) = (call.float("start", 0.0)?, call.float("step", 1.0)?);
            let range = builder.range(&0.into(), 1, &count)?;
            let range = builder.cast(&range, DType::F32)?;
            builder.affine(&range, step, start)?
        }
    };
    one(builder.cast(&range, dtype)?)
}

/// Numbers at equal distances, or powers with such exponents.
fn linspace(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let steps = call.integer("steps", 100)?.clamp(0, 1 << 24);
    let (start, end) = (call.operand(builder, "start")?, call.operand(builder, "end")?);
    let values = if let (Operand::Number { value: start, .. }, Operand::Number { value: end, .. }) = (&start, &end) {
        let step = (end - start) / (steps - 1).max(1) as f64;
        // From both ends, as PyTorch does, so that the last is exact.
        let early = |i: i64| i < steps / 2 || steps == 1;
        let value = |i: i64| if early(i) { start + step * i as f64 } else { end - step * (steps - 1 - i) as f64 };
        let whole = !matches!(call.out_dtype(0)?, DType::F32) && call.op == "linspace";
        if whole {
            let values: Vec<i64> = (0..steps).map(|i| value(i) as i64).collect();
            builder.graph.constant(NDArray::new(&[values.len()], &values)?)
        } else {
            let values: Vec<f32> = (0..steps).map(|i| value(i) as f32).collect();
            builder.graph.constant(NDArray::new(&[values.len()], &values)?)
        }
    } else {
        let (start, end) =
            (call.operand_as(builder, "start", DType::F32)?, call.operand_as(builder, "end", DType::F32)?);
        let turns: Vec<f32> = (0..steps).map(|i| i as f32).collect();
        let turns = builder.graph.constant(NDArray::new(&[turns.len()], &turns)?);
        let (turns, start, end) = (Formula::of(&builder.plain(turns)), Formula::of(&start), Formula::of(&end));
        let step = (&end - &start) / (steps - 1).max(1) as f64;
        let late = turns.less((steps / 2).max(i64::from(steps == 1)) as f64).not();
        let from_end = &end - &step * ((steps - 1) as f64 - &turns);
        late.choose(from_end, &start + step * turns).build(builder)?.value
    };
    let values = builder.plain(values);
    if call.op == "linspace" {
        return one(call.cast_out(builder, &values)?);
    }
    let base = builder.number(call.float("base", 10.0)?, DType::F32)?;
    let values = builder.cast(&values, DType::F32)?;
    let powers = builder.binary(Binary::Pow, &base, &values)?;
    one(call.cast_out(builder, &powers)?)
}
