//! What expressions yield, and the functions of Python and SymPy that they are made of.

use ondine_graph::{Comparison, Condition, Dim, DimPair, Real, RealFunction, RealPair, Result, Rounding, fail};

/// The value of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Integer(Dim),
    Real(Real),
    Truth(Condition),
}

impl Value {
    pub(crate) fn real(&self) -> Real {
        match self {
            Self::Real(real) => real.clone(),
            Self::Integer(_) | Self::Truth(_) => Real::Of(self.integer()),
        }
    }

    /// The value as an integer; one that is written as a fraction of others is one all the same.
    pub(crate) fn integer(&self) -> Dim {
        match self {
            Self::Integer(dim) => dim.clone(),
            Self::Real(real) => real.whole(Rounding::Round),
            Self::Truth(condition) => Dim::choose(condition, &1.into(), &0.into()),
        }
    }

    pub(crate) fn truth(&self) -> Condition {
        match self {
            Self::Truth(condition) => condition.clone(),
            Self::Integer(_) | Self::Real(_) => {
                Condition::compare(Comparison::Equal, &self.real(), &Real::Of(0.into())).opposite()
            }
        }
    }

    fn is_small(&self) -> bool {
        match self {
            Self::Integer(dim) => dim.is_small(),
            // A number is as small as what it is compared with is.
            Self::Real(real) => Condition::Compare(Comparison::Equal, real.clone(), real.clone()).is_small(),
            Self::Truth(condition) => condition.is_small(),
        }
    }
}

/// What `name`, a function of Python or SymPy, makes of its arguments.
///
/// # Errors
/// If there is no such function, or its result is too long an expression.
pub(crate) fn apply(name: &str, arguments: &[Value]) -> Result<Value> {
    let value = match arguments {
        [] => fail!(Format, "`{name}` of nothing"),
        [x] => of_one(name, x)?,
        [first, rest @ ..] if folds(name) => {
            let mut value = first.clone();
            for argument in rest {
                value = of_two(name, &value, argument)?;
                check_size(name, &value)?;
            }
            value
        }
        [a, b] => of_two(name, a, b)?,
        [condition, yes, no] if matches!(name, "Where" | "sym_ite") => choice(condition, yes, no),
        [x, divisor, modulus] if name == "ModularIndexing" => {
            let quotient = of_two("FloorDiv", x, divisor)?;
            of_two("Mod", &quotient, modulus)?
        }
        _ => fail!(Unsupported, "`{name}` of {} sizes", arguments.len()),
    };
    check_size(name, &value)?;
    Ok(value)
}

fn check_size(name: &str, value: &Value) -> Result<()> {
    if !value.is_small() {
        fail!(Unsupported, "`{name}` of sizes that depend on each other in too many ways");
    }
    Ok(())
}

/// True for functions of any number of arguments.
fn folds(name: &str) -> bool {
    matches!(name, "Add" | "Mul" | "Max" | "Min" | "And" | "Or" | "sym_max" | "sym_min" | "max" | "min" | "sym_sum")
}

fn of_one(name: &str, x: &Value) -> Result<Value> {
    let function = |function: RealFunction| Ok(Value::Real(x.real().function(function)));
    let whole = |rounding: Rounding| match x {
        Value::Integer(dim) => Ok(Value::Integer(dim.clone())),
        _ => Ok(Value::Integer(x.real().whole(rounding))),
    };
    match name {
        _ if folds(name) => Ok(x.clone()),
        "Identity" | "pos" => Ok(x.clone()),
        "neg" => match x {
            Value::Real(real) => Ok(Value::Real(real.function(RealFunction::Negative))),
            _ => Ok(Value::Integer(&Dim::from(0) - &x.integer())),
        },
        "abs" | "Abs" => match x {
            Value::Real(real) => Ok(Value::Real(real.function(RealFunction::Absolute))),
            _ => {
                let dim = x.integer();
                Ok(Value::Integer(dim.pair(DimPair::Max, &(&Dim::from(0) - &dim))))
            }
        },
        "ToFloat" | "sym_float" | "float" => {
            let real = x.real();
            Ok(Value::Real(real.known().map_or(real, Real::constant)))
        }
        "TruncToInt" | "trunc" | "sym_int" | "int" => whole(Rounding::Trunc),
        "CeilToInt" | "ceil" | "ceiling" => whole(Rounding::Ceil),
        "FloorToInt" | "floor" => whole(Rounding::Floor),
        "RoundToInt" | "round" => whole(Rounding::Round),
        "TruncToFloat" => function(RealFunction::Trunc),
        "Not" | "not_" | "sym_not" | "not" => Ok(Value::Truth(x.truth().opposite())),
        "bool" => Ok(Value::Truth(x.truth())),
        "isnan" => {
            let real = x.real();
            Ok(Value::Truth(Condition::Known(real.known().is_some_and(f64::is_nan))))
        }
        _ => {
            let name = name.trim_start_matches("OpaqueUnaryFn_").trim_start_matches('_').trim_start_matches("sym_");
            function(match name {
                "sqrt" => RealFunction::Sqrt,
                "exp" => RealFunction::Exp,
                "log" => RealFunction::Log,
                "log2" => RealFunction::Log2,
                "sin" => RealFunction::Sin,
                "cos" => RealFunction::Cos,
                "tan" => RealFunction::Tan,
                "asin" => RealFunction::Asin,
                "acos" => RealFunction::Acos,
                "atan" => RealFunction::Atan,
                "sinh" => RealFunction::Sinh,
                "cosh" => RealFunction::Cosh,
                "tanh" => RealFunction::Tanh,
                "asinh" => RealFunction::Asinh,
                _ => fail!(Unsupported, "a size by `{name}`"),
            })
        }
    }
}

fn of_two(name: &str, a: &Value, b: &Value) -> Result<Value> {
    let compare = |comparison, a: &Value, b: &Value| Condition::compare(comparison, &a.real(), &b.real());
    Ok(match name {
        "Equality" | "Eq" | "eq" => Value::Truth(compare(Comparison::Equal, a, b)),
        "Unequality" | "Ne" | "ne" => Value::Truth(compare(Comparison::Equal, a, b).opposite()),
        "StrictLessThan" | "Lt" | "lt" => Value::Truth(compare(Comparison::Less, a, b)),
        "LessThan" | "Le" | "le" => Value::Truth(compare(Comparison::AtMost, a, b)),
        "StrictGreaterThan" | "Gt" | "gt" => Value::Truth(compare(Comparison::Less, b, a)),
        "GreaterThan" | "Ge" | "ge" => Value::Truth(compare(Comparison::AtMost, b, a)),
        "And" | "and_" | "and" => Value::Truth(a.truth().and(&b.truth())),
        "Or" | "or_" | "or" => Value::Truth(a.truth().or(&b.truth())),
        "IntTrueDiv" | "FloatTrueDiv" | "truediv" => Value::Real(a.real().pair(RealPair::Quotient, &b.real())),
        "RoundDecimal" | "round" if matches!(b, Value::Integer(digits) if digits.constant() == Some(0)) => {
            Value::Real(a.real().function(RealFunction::Round))
        }
        "FloatPow" => Value::Real(a.real().pair(RealPair::Power, &b.real())),
        _ => match (a, b) {
            (Value::Real(_), _) | (_, Value::Real(_)) => Value::Real(of_reals(name, &a.real(), &b.real())?),
            _ => of_integers(name, &a.integer(), &b.integer())?,
        },
    })
}

fn of_reals(name: &str, a: &Real, b: &Real) -> Result<Real> {
    let pair = match name {
        "Add" | "add" | "sym_sum" => RealPair::Sum,
        "sub" => RealPair::Difference,
        "Mul" | "mul" => RealPair::Product,
        "FloorDiv" | "floordiv" => RealPair::FloorQuotient,
        "Mod" | "PythonMod" | "mod" => RealPair::Remainder,
        "Pow" | "pow" => RealPair::Power,
        "Max" | "sym_max" | "max" => RealPair::Max,
        "Min" | "sym_min" | "min" => RealPair::Min,
        _ => fail!(Unsupported, "a size by `{name}`"),
    };
    Ok(a.pair(pair, b))
}

fn of_integers(name: &str, a: &Dim, b: &Dim) -> Result<Value> {
    let two = || Dim::from(2);
    Ok(Value::Integer(match name {
        "Add" | "add" | "sym_sum" => a + b,
        "sub" => a - b,
        "Mul" | "mul" => a * b,
        "FloorDiv" | "CleanDiv" | "floordiv" => a.pair(DimPair::Quotient, b),
        "CeilDiv" => (&(a + b) - 1).pair(DimPair::Quotient, b),
        // The quotient would be lost in a product with nothing.
        "Mod" | "PythonMod" | "mod" if b.constant() == Some(0) => a.pair(DimPair::Quotient, b),
        "Mod" | "PythonMod" | "mod" => a - &(&a.pair(DimPair::Quotient, b) * b),
        "Max" | "sym_max" | "max" => a.pair(DimPair::Max, b),
        "Min" | "sym_min" | "min" => a.pair(DimPair::Min, b),
        // A negative power is no integer.
        "Pow" | "pow" if b.constant().is_some_and(|power| power < 0) => {
            let (a, b) = (Real::Of(a.clone()), Real::Of(b.clone()));
            return Ok(Value::Real(a.pair(RealPair::Power, &b)));
        }
        "Pow" | "PowByNatural" | "pow" => a.pair(DimPair::Power, b),
        "LShift" | "lshift" => a * &two().pair(DimPair::Power, b),
        "RShift" | "rshift" => a.pair(DimPair::Quotient, &two().pair(DimPair::Power, b)),
        _ => fail!(Unsupported, "a size by `{name}`"),
    }))
}

fn choice(condition: &Value, yes: &Value, no: &Value) -> Value {
    let condition = condition.truth();
    match (yes, no) {
        (Value::Real(_), _) | (_, Value::Real(_)) => Value::Real(Real::choose(&condition, &yes.real(), &no.real())),
        (Value::Truth(yes), Value::Truth(no)) => Value::Truth(condition.and(yes).or(&condition.opposite().and(no))),
        _ => Value::Integer(Dim::choose(&condition, &yes.integer(), &no.integer())),
    }
}
