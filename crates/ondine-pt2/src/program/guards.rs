//! What the program asks of the sizes of a call: ranges, and conditions that the exporter met.

use std::{collections::BTreeSet, sync::Arc};

use ondine_graph::{Condition, Context, DType, Dim, Guard, Op, Real, Result, fail};

use super::names::Program;
use crate::{
    call::Item,
    expr::{self, Place, Value},
    schema::{self, Argument, Constant, Hint, InputSpec, SymArgument, SymInt},
    types::dim_of,
};

/// Smallest sizes up to this one are what the exporter assumes of every dynamic size; PyTorch asks them of no call.
const ASSUMED: i64 = 2;

impl Program<'_> {
    /// Limits of symbols, and of what is made of them.
    pub(super) fn ranges(&mut self, program: &schema::Program) -> Result<()> {
        for (text, range) in &program.range_constraints {
            let least = range.min_val.filter(|&least| least > ASSUMED);
            let dim = expr::integer(text).at(|| format!("the range of `{text}`"))?;
            if dim != Dim::symbol(text) {
                let whole = |end: i64| Dim::from_i64(end);
                let what = "a range of the program";
                if let Some(least) = least {
                    self.builder.at_most(what, &whole(least), &dim);
                }
                if let Some(most) = range.max_val {
                    self.builder.at_most(what, &dim, &whole(most));
                }
                continue;
            }
            let size = |end: i64| usize::try_from(end).ok();
            let (least, most) = (least.and_then(size).unwrap_or(0), range.max_val.and_then(size).unwrap_or(usize::MAX));
            self.builder.graph.limit(text, least, most);
            if range.min_val.is_some_and(|least| least >= 0) {
                self.builder.counts.insert(text.as_str().into());
            }
        }
        Ok(())
    }

    /// An argument that is an integer: a number of the call, and a size where it is used as one.
    pub(super) fn integer_input(&mut self, graph: &schema::Graph, name: &Arc<str>) -> Result<()> {
        let number = self.builder.graph.input(name, DType::I64, Vec::<Dim>::new());
        let number = self.builder.plain(number);
        let item = match graph.sym_int_values.get(name) {
            Some(value) => {
                let size = dim_of(value)?;
                if let SymInt::AsExpr(schema::Expr { hint: Some(Hint::AsInt(hint)), .. }) = value
                    && let Some(hint) = usize::try_from(*hint).ok()
                    && let Some((symbol, hint)) = size.solve(hint).ok().flatten()
                {
                    self.builder.graph.expect(symbol, hint);
                }
                let op = Op::Measure { size: size.clone(), most: usize::MAX.into() };
                self.builder.graph.push(op, &[number.value])?;
                self.limits_of(name, &size);
                Item::Count { number, size }
            }
            None => Item::Number(number),
        };
        self.items.insert(name.clone(), item);
        Ok(())
    }

    /// An argument that is what it was when the program was exported, if it is a number.
    pub(super) fn settled_input(&mut self, name: &str, value: &Constant) {
        let value = match value {
            Constant::AsInt(value) => Real::Of(Dim::from_i64(*value)),
            Constant::AsFloat(value) => Real::constant(value.value()),
            Constant::AsBool(value) => Real::constant(f64::from(u8::from(*value))),
            Constant::AsNone(_) | Constant::AsString(_) | Constant::Other(_) => return,
        };
        self.builder.graph.settle_input(name, value);
    }

    /// Asks of a number what the program says of its symbol, also where nothing has its size.
    fn limits_of(&mut self, name: &str, size: &Dim) {
        let mut symbols = BTreeSet::new();
        size.symbols(&mut symbols);
        for symbol in symbols {
            let known = self.builder.graph.limits().get(&symbol).copied();
            let Some([least, most]) = known.filter(|&limits| limits != [0, usize::MAX]) else { continue };
            let symbol = Dim::symbol(&symbol);
            self.builder.at_most(name, &least.into(), &symbol);
            self.builder.at_most(name, &symbol, &most.into());
        }
    }

    /// The conditions that the exporter met, which PyTorch's program asks of every call.
    pub(super) fn guards(&mut self, program: &schema::Program) -> Result<()> {
        let graph = &program.graph_module.graph;
        let inputs: Vec<&InputSpec> = program
            .graph_module
            .signature
            .input_specs
            .iter()
            .filter(|spec| matches!(spec, InputSpec::UserInput { .. } | InputSpec::ConstantInput { .. }))
            .collect();
        let lookup = |place: &Place| match place {
            Place::Argument(keys) => integer(graph, input(&inputs, keys)?),
            Place::Size(keys, axis) => size(graph, input(&inputs, keys)?, *axis),
            Place::Symbol(name) => fail!(Unsupported, "it speaks of `{name}`, which is no input"),
        };
        for text in &program.guards_code {
            let condition = expr::condition(text, &lookup).at(|| format!("the guard `{text}`"))?;
            let Some(condition) = condition else { continue };
            // As PyTorch tells it.
            let text = text.replace("L['flat_args']", "args").replace("L['", "").replace("']", "");
            self.builder.graph.guard(Guard { condition, text: text.into() });
        }
        Ok(())
    }
}

/// The argument that keys lead to: arguments are called by all of them, or by all but that of `**kwargs`.
fn input<'a>(inputs: &[&'a InputSpec], keys: &[String]) -> Result<&'a InputSpec> {
    if let [flat, index] = keys
        && flat == "flat_args"
        && let Some(input) = index.parse::<usize>().ok().and_then(|index| inputs.get(index))
    {
        return Ok(input);
    }
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
    };
    for keys in [keys, keys.get(1..).unwrap_or_default()] {
        let name = plain(&keys.join("_"));
        let found = inputs.iter().find(|input| argument_name(input).is_some_and(|other| plain(other) == name));
        if let Some(found) = found {
            return Ok(found);
        }
    }
    fail!(Unsupported, "it speaks of the argument {keys:?}, which is no input")
}

fn argument_name(input: &InputSpec) -> Option<&str> {
    match input {
        InputSpec::UserInput { arg: Argument::AsTensor(tensor) } => Some(&tensor.name),
        InputSpec::UserInput { arg: Argument::AsSymInt(SymArgument::AsName(name)) } => Some(name),
        InputSpec::ConstantInput { name, .. } => Some(name),
        _ => None,
    }
}

/// An argument that is a number.
fn integer(graph: &schema::Graph, input: &InputSpec) -> Result<Value> {
    match input {
        InputSpec::UserInput { arg: Argument::AsSymInt(SymArgument::AsName(name)) } => {
            match graph.sym_int_values.get(name) {
                Some(value) => dim_of(value).map(Value::Integer),
                None => fail!(Format, "the program does not say what `{name}` is"),
            }
        }
        InputSpec::ConstantInput { name, value } => match value {
            Constant::AsInt(value) => Ok(Value::Integer(Dim::from_i64(*value))),
            Constant::AsFloat(value) => Ok(Value::Real(Real::constant(value.value()))),
            Constant::AsBool(value) => Ok(Value::Truth(Condition::Known(*value))),
            _ => fail!(Unsupported, "it speaks of `{name}`, which is no number"),
        },
        _ => fail!(Unsupported, "it speaks of a tensor as a number"),
    }
}

/// The size of a dimension of an argument.
fn size(graph: &schema::Graph, input: &InputSpec, axis: usize) -> Result<Value> {
    let meta = match input {
        InputSpec::UserInput { arg: Argument::AsTensor(tensor) } => graph.tensor_values.get(&tensor.name),
        _ => None,
    };
    match meta.and_then(|meta| meta.sizes.get(axis)) {
        Some(size) => dim_of(size).map(Value::Integer),
        None => fail!(Format, "it speaks of dimension {axis} of what has none"),
    }
}
