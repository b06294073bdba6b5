//! Functions of one number, activations among them.

use ondine_graph::{Activation, Binary, DType, Elementary, Result, Unary, fail};

use super::{
    complex,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("exp", exp).on_complex(complex::exponential),
    Rule::new("log", exp),
    Rule::new("sqrt", exp),
    Rule::new("rsqrt", exp),
    Rule::new("sin", exp),
    Rule::new("cos", exp),
    Rule::new("silu", exp),
    Rule::new("relu", exp),
    Rule::new("sigmoid", exp),
    Rule::new("tanh", exp),
    Rule::new("square", exp).on_complex(complex::integer_power),
    Rule::new("tan", exp),
    Rule::new("asin", exp),
    Rule::new("arcsin", exp),
    Rule::new("acos", exp),
    Rule::new("arccos", exp),
    Rule::new("atan", exp),
    Rule::new("arctan", exp),
    Rule::new("sinh", exp),
    Rule::new("cosh", exp),
    Rule::new("asinh", exp),
    Rule::new("acosh", exp),
    Rule::new("atanh", exp),
    Rule::new("erf", exp),
    Rule::new("expm1", exp),
    Rule::new("log1p", exp),
    Rule::new("log2", exp),
    Rule::new("log10", exp),
    Rule::new("exp2", exp),
    Rule::new("reciprocal", exp).on_complex(complex::reciprocal),
    Rule::new("special_expm1", exp),
    Rule::new("special_erf", exp),
    Rule::new("log_sigmoid", exp),
    Rule::new("deg2rad", exp),
    Rule::new("erfc", exp),
    Rule::new("frac", exp),
    Rule::new("rad2deg", exp),
    Rule::new("special_erfc", exp),
    Rule::new("lgamma", exp),
    Rule::new("special_gammaln", exp),
    Rule::new("digamma", exp),
    Rule::new("special_psi", exp),
    Rule::new("erfinv", exp),
    Rule::new("special_erfinv", exp),
    Rule::new("special_expit", exp),
    Rule::new("special_log1p", exp),
    Rule::new("special_exp2", exp),
    Rule::new("gelu", gelu),
    Rule::new("hardswish", hardswish),
    Rule::new("hardsigmoid", hardswish),
    Rule::new("mish", mish),
    Rule::new("softplus", softplus),
    Rule::new("leaky_relu", leaky_relu),
    Rule::new("rrelu", leaky_relu),
    Rule::new("prelu", prelu),
    Rule::new("elu", elu),
    Rule::new("celu", elu),
    Rule::new("selu", elu),
    Rule::new("softsign", softsign),
    Rule::new("hardshrink", threshold),
    Rule::new("threshold", threshold),
    Rule::new("glu", glu),
];

fn exp(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    one(function(builder, call.op, &x)?)
}

/// A function of one real number by its name.
pub(super) fn function(builder: &mut Builder, name: &str, x: &Tensor) -> Result<Tensor> {
    let unary = match name {
        "exp" => Unary::Exp,
        "log" => Unary::Log,
        "sqrt" => Unary::Sqrt,
        "rsqrt" => Unary::Rsqrt,
        "sin" => Unary::Sin,
        "cos" => Unary::Cos,
        "silu" => Unary::Activation(Activation::Silu),
        "relu" => Unary::Activation(Activation::Relu),
        "sigmoid" | "special_expit" => Unary::Activation(Activation::Sigmoid),
        "lgamma" | "special_gammaln" => Unary::Function(Elementary::LogGamma),
        "digamma" | "special_psi" => Unary::Function(Elementary::Digamma),
        "erfinv" | "special_erfinv" => Unary::Function(Elementary::ErfInv),
        "tanh" => Unary::Activation(Activation::Tanh),
        "tan" => Unary::Function(Elementary::Tan),
        "asin" | "arcsin" => Unary::Function(Elementary::Asin),
        "acos" | "arccos" => Unary::Function(Elementary::Acos),
        "atan" | "arctan" => Unary::Function(Elementary::Atan),
        "sinh" => Unary::Function(Elementary::Sinh),
        "cosh" => Unary::Function(Elementary::Cosh),
        "asinh" => Unary::Function(Elementary::Asinh),
        "acosh" => Unary::Function(Elementary::Acosh),
        "atanh" => Unary::Function(Elementary::Atanh),
        "erf" | "special_erf" => Unary::Function(Elementary::Erf),
        "expm1" | "special_expm1" => Unary::Function(Elementary::ExpM1),
        "log1p" | "special_log1p" => Unary::Function(Elementary::Log1p),
        "log2" => Unary::Function(Elementary::Log2),
        "log10" => Unary::Function(Elementary::Log10),
        "exp2" | "special_exp2" => Unary::Function(Elementary::Exp2),
        "reciprocal" => Unary::Function(Elementary::Reciprocal),
        "square" => return builder.binary(Binary::Mul, x, x),
        "deg2rad" => return builder.affine(x, std::f64::consts::PI / 180.0, 0.0),
        "rad2deg" => return builder.affine(x, 180.0 / std::f64::consts::PI, 0.0),
        "erfc" | "special_erfc" => {
            let erf = builder.function(Elementary::Erf, x)?;
            return builder.affine(&erf, -1.0, 1.0);
        }
        "frac" => {
            let whole = builder.function(Elementary::Trunc, x)?;
            return builder.binary(Binary::Sub, x, &whole);
        }
        "log_sigmoid" => {
            let negative = builder.unary(Unary::Neg, x)?;
            let soft = builder.function(Elementary::Softplus, &negative)?;
            return builder.unary(Unary::Neg, &soft);
        }
        other => fail!(Unsupported, "the function {other}"),
    };
    builder.unary(unary, x)
}

fn gelu(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let tanh = call.text("approximate") == Some("tanh");
    one(builder.activation(if tanh { Activation::GeluTanh } else { Activation::Gelu }, &x)?)
}

fn hardswish(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let swish = call.op == "hardswish";
    one(builder.activation(if swish { Activation::HardSwish } else { Activation::HardSigmoid }, &x)?)
}

fn mish(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let gate = builder.function(Elementary::Softplus, &x)?;
    let gate = builder.activation(Activation::Tanh, &gate)?;
    one(builder.binary(Binary::Mul, &x, &gate)?)
}

fn softplus(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let (beta, threshold) = (call.float("beta", 1.0)?, call.float("threshold", 20.0)?);
    let scaled = Call::scale(builder, &x, beta)?;
    let soft = builder.function(Elementary::Softplus, &scaled)?;
    let soft = Call::scale(builder, &soft, 1.0 / beta)?;
    let threshold = builder.number(threshold, DType::F32)?;
    let large = builder.binary(Binary::Less, &threshold, &scaled)?;
    one(builder.select(&large, &x, &soft)?)
}

fn leaky_relu(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let slope = match call.op {
        "rrelu" => (call.float("lower", 0.125)? + call.float("upper", 1.0 / 3.0)?) / 2.0,
        _ => call.float("negative_slope", 0.01)?,
    };
    let low = builder.affine(&x, slope, 0.0)?;
    if (0.0..=1.0).contains(&slope) {
        return one(builder.binary(Binary::Max, &x, &low)?);
    }
    let zero = builder.number(0.0, DType::F32)?;
    let negative = builder.binary(Binary::Less, &x, &zero)?;
    one(builder.select(&negative, &low, &x)?)
}

fn prelu(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let mut weight = call.float_tensor(builder, "weight")?;
    if x.rank() > 2 && weight.rank() == 1 {
        let mut shape = vec![1.into(); x.rank() - 1];
        shape[0] = builder.dim(&weight, 0);
        weight = builder.reshape(&weight, &shape)?;
    }
    let zero = builder.number(0.0, DType::F32)?;
    let (high, low) = (builder.binary(Binary::Max, &x, &zero)?, builder.binary(Binary::Min, &x, &zero)?);
    let low = builder.binary(Binary::Mul, &low, &weight)?;
    one(builder.binary(Binary::Add, &high, &low)?)
}

/// `scale * x` above zero, `scale * alpha * (e^(input_scale * x) - 1)` below.
fn elu(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let (alpha, scale, input_scale) = match call.op {
        "selu" => (1.673_263_242_354_377_2, 1.050_700_987_355_480_5, 1.0),
        "celu" => {
            let alpha = call.float("alpha", 1.0)?;
            (alpha, 1.0, 1.0 / alpha)
        }
        _ => (call.float("alpha", 1.0)?, call.float("scale", 1.0)?, call.float("input_scale", 1.0)?),
    };
    let scaled = Call::scale(builder, &x, input_scale)?;
    let low = builder.function(Elementary::ExpM1, &scaled)?;
    let low = Call::scale(builder, &low, alpha * scale)?;
    let high = Call::scale(builder, &x, scale)?;
    let zero = builder.number(0.0, DType::F32)?;
    let positive = builder.binary(Binary::Less, &zero, &x)?;
    one(builder.select(&positive, &high, &low)?)
}

fn softsign(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let size = builder.unary(Unary::Abs, &x)?;
    let size = builder.affine(&size, 1.0, 1.0)?;
    one(builder.binary(Binary::Div, &x, &size)?)
}

fn threshold(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let limit =
        builder.number(call.float(if call.op == "threshold" { "threshold" } else { "lambd" }, 0.5)?, DType::F32)?;
    let other = builder.number(call.float("value", 0.0)?, DType::F32)?;
    let size = if call.op == "threshold" { x.clone() } else { builder.unary(Unary::Abs, &x)? };
    let passes = builder.binary(Binary::Less, &limit, &size)?;
    one(builder.select(&passes, &x, &other)?)
}

fn glu(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let axis = call.axis("dim", -1, x.rank())?;
    let size = builder.dim(&x, axis);
    let half = size.floor_div(2);
    let a = builder.slice(&x, axis, &0.into(), &half)?;
    let b = builder.slice(&x, axis, &half, &size)?;
    let gate = builder.activation(Activation::Sigmoid, &b)?;
    one(builder.binary(Binary::Mul, &a, &gate)?)
}
