//! Functions of one number, activations among them.

use ondine_graph::{Activation, Binary, DType, Elementary, Result, Unary};

use super::{
    complex,
    elementwise::between,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("exp", |b, c| unary(b, c, Unary::Exp)).on_complex(complex::exponential),
    Rule::new("log", |b, c| unary(b, c, Unary::Log)),
    Rule::new("sqrt", |b, c| unary(b, c, Unary::Sqrt)),
    Rule::new("rsqrt", |b, c| unary(b, c, Unary::Rsqrt)),
    Rule::new("sin", |b, c| unary(b, c, Unary::Sin)),
    Rule::new("cos", |b, c| unary(b, c, Unary::Cos)),
    Rule::new("silu", |b, c| activation(b, c, Activation::Silu)),
    Rule::new("relu", relu),
    Rule::new("sigmoid", |b, c| activation(b, c, Activation::Sigmoid)),
    Rule::new("tanh", |b, c| activation(b, c, Activation::Tanh)),
    Rule::new("square", square).on_complex(complex::integer_power),
    Rule::new("tan", |b, c| elementary(b, c, Elementary::Tan)),
    Rule::new("asin", |b, c| elementary(b, c, Elementary::Asin)),
    Rule::new("arcsin", |b, c| elementary(b, c, Elementary::Asin)),
    Rule::new("acos", |b, c| elementary(b, c, Elementary::Acos)),
    Rule::new("arccos", |b, c| elementary(b, c, Elementary::Acos)),
    Rule::new("atan", |b, c| elementary(b, c, Elementary::Atan)),
    Rule::new("arctan", |b, c| elementary(b, c, Elementary::Atan)),
    Rule::new("sinh", |b, c| elementary(b, c, Elementary::Sinh)),
    Rule::new("cosh", |b, c| elementary(b, c, Elementary::Cosh)),
    Rule::new("asinh", |b, c| elementary(b, c, Elementary::Asinh)),
    Rule::new("acosh", |b, c| elementary(b, c, Elementary::Acosh)),
    Rule::new("atanh", |b, c| elementary(b, c, Elementary::Atanh)),
    Rule::new("erf", |b, c| elementary(b, c, Elementary::Erf)),
    Rule::new("expm1", |b, c| elementary(b, c, Elementary::ExpM1)),
    Rule::new("log1p", |b, c| elementary(b, c, Elementary::Log1p)),
    Rule::new("log2", |b, c| elementary(b, c, Elementary::Log2)),
    Rule::new("log10", |b, c| elementary(b, c, Elementary::Log10)),
    Rule::new("exp2", |b, c| elementary(b, c, Elementary::Exp2)),
    Rule::new("reciprocal", |b, c| elementary(b, c, Elementary::Reciprocal)).on_complex(complex::reciprocal),
    Rule::new("special_expm1", |b, c| elementary(b, c, Elementary::ExpM1)),
    Rule::new("special_erf", |b, c| elementary(b, c, Elementary::Erf)),
    Rule::new("log_sigmoid", |b, c| {
        let x = c.float_tensor(b, "self")?;
        one(log_sigmoid(b, &x)?)
    }),
    Rule::new("deg2rad", deg2rad),
    Rule::new("erfc", erfc),
    Rule::new("frac", frac),
    Rule::new("rad2deg", rad2deg),
    Rule::new("special_erfc", erfc),
    Rule::new("lgamma", |b, c| elementary(b, c, Elementary::LogGamma)),
    Rule::new("special_gammaln", |b, c| elementary(b, c, Elementary::LogGamma)),
    Rule::new("digamma", |b, c| elementary(b, c, Elementary::Digamma)),
    Rule::new("special_digamma", |b, c| elementary(b, c, Elementary::Digamma)),
    Rule::new("special_psi", |b, c| elementary(b, c, Elementary::Digamma)),
    Rule::new("erfinv", |b, c| elementary(b, c, Elementary::ErfInv)),
    Rule::new("special_erfinv", |b, c| elementary(b, c, Elementary::ErfInv)),
    Rule::new("special_expit", |b, c| activation(b, c, Activation::Sigmoid)),
    Rule::new("special_log1p", |b, c| elementary(b, c, Elementary::Log1p)),
    Rule::new("special_exp2", |b, c| elementary(b, c, Elementary::Exp2)),
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

fn unary(builder: &mut Builder, call: &Call<'_>, op: Unary) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    one(builder.unary(op, &x)?)
}

fn elementary(builder: &mut Builder, call: &Call<'_>, function: Elementary) -> Result<Vec<Item>> {
    unary(builder, call, Unary::Function(function))
}

fn activation(builder: &mut Builder, call: &Call<'_>, activation: Activation) -> Result<Vec<Item>> {
    unary(builder, call, Unary::Activation(activation))
}

fn relu(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.wide_tensor(builder, "self")?;
    one(between(builder, &x, Some(0.0), None)?)
}

fn square(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.wide_tensor(builder, "self")?;
    one(builder.binary(Binary::Mul, &x, &x)?)
}

fn deg2rad(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    one(builder.affine(&x, std::f64::consts::PI / 180.0, 0.0)?)
}

fn rad2deg(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    one(builder.affine(&x, 180.0 / std::f64::consts::PI, 0.0)?)
}

fn erfc(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let erf = builder.function(Elementary::Erf, &x)?;
    one(builder.affine(&erf, -1.0, 1.0)?)
}

fn frac(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let whole = builder.function(Elementary::Trunc, &x)?;
    one(builder.binary(Binary::Sub, &x, &whole)?)
}

/// The logarithm of the sigmoid, finite where the sigmoid itself is rounded to 0.
pub(super) fn log_sigmoid(builder: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let negative = builder.unary(Unary::Neg, x)?;
    let soft = builder.function(Elementary::Softplus, &negative)?;
    builder.unary(Unary::Neg, &soft)
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
    let slope = builder.number(slope, DType::F32)?;
    one(builder.binary(Binary::Prelu, &x, &slope)?)
}

fn prelu(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let mut weight = call.float_tensor(builder, "weight")?;
    if x.rank() > 2 && weight.rank() == 1 {
        let mut shape = vec![1.into(); x.rank() - 1];
        shape[0] = builder.dim(&weight, 0);
        weight = builder.reshape(&weight, &shape)?;
    }
    one(builder.binary(Binary::Prelu, &x, &weight)?)
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
    let x = Formula::of(&x);
    let limit = call.float(if call.op == "threshold" { "threshold" } else { "lambd" }, 0.5)?;
    let size = if call.op == "threshold" { x.clone() } else { x.abs() };
    // What is no number is on neither side of the limit, and passes.
    let stays = size.less(limit).or(size.equals(limit));
    one(stays.choose(call.float("value", 0.0)?, x).build(builder)?)
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
