//! Functions of numbers that occur now and then, in terms of others.

use ondine_graph::{Binary, DType, Dim, Elementary, Reduce, Result, Unary};

use super::{
    elementwise::between,
    reduce::reduce,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, wide},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("logaddexp", logaddexp),
    Rule::new("logcumsumexp", log_scan).along(),
    Rule::new("logit", logit),
    Rule::new("special_logit", logit),
    Rule::new("nan_to_num", nan_to_num),
    Rule::new("isposinf", one_infinity),
    Rule::new("isneginf", one_infinity),
    Rule::new("heaviside", heaviside),
    Rule::new("xlogy", xlogy),
    Rule::new("special_xlogy", xlogy),
    Rule::new("isclose", isclose),
    Rule::new("sinc", sinc),
    Rule::new("special_sinc", sinc),
    Rule::new("softshrink", softshrink),
    Rule::new("negative", negative),
    Rule::new("hypot", hypot),
    Rule::new("copysign", copysign),
    Rule::new("__lshift__", shift),
    Rule::new("bitwise_left_shift", shift),
    Rule::new("__rshift__", shift),
    Rule::new("bitwise_right_shift", shift),
    Rule::new("__ilshift__", shift),
    Rule::new("__irshift__", shift),
    Rule::new("gcd", divisor),
    Rule::new("lcm", divisor),
    Rule::new("signbit", signbit),
    Rule::new("logaddexp2", logaddexp),
    Rule::new("ldexp", ldexp),
    Rule::new("special_entr", special_entr),
    Rule::new("special_ndtr", ndtr),
    Rule::new("nansum", nansum),
    Rule::new("lerp", lerp),
];

/// `-x log x`: 0 of 0, and no more than nothing of what is less.
fn special_entr(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = Formula::of(&call.float_tensor(builder, "self")?);
    let inside = x.equals(0.0).choose(0.0, -(&x * x.ln()));
    one(x.less(0.0).choose(f64::NEG_INFINITY, inside).build(builder)?)
}

fn ldexp(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, power) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "other")?);
    let power = builder.function(Elementary::Exp2, &power)?;
    one(builder.binary(Binary::Mul, &x, &power)?)
}

fn logaddexp(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "other")?);
    let (a, b) = (Formula::of(&a), Formula::of(&b));
    let sum = if call.op == "logaddexp2" {
        log_add_of(&a, &b, |away| away.function(Elementary::Exp2).ln_1p() * std::f64::consts::LOG2_E)
    } else {
        log_add(&a, &b)
    };
    one(sum.build(builder)?)
}

/// The logarithm of the sum of two powers of e.
fn log_add(a: &Formula, b: &Formula) -> Formula {
    log_add_of(a, b, |away| away.exp().ln_1p())
}

/// The logarithm of the sum of two powers, which are infinite where a state is impossible; `added` is what the smaller
/// one adds to the larger, from how far below it is.
fn log_add_of(a: &Formula, b: &Formula, added: fn(&Formula) -> Formula) -> Formula {
    let away = -(a - b).abs();
    // Two infinities of one sign have no distance, and are the sum themselves.
    let infinite = a.equals(b).and(a.abs().equals(f64::INFINITY));
    infinite.choose(a, a.max(b) + added(&away))
}

/// Logarithms of running sums of powers: each sum is joined with that of as many elements before it, which are twice as
/// many in each step (Hillis and Steele 1986). Nothing is subtracted but from its like, so that small sums stay.
fn log_scan(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    // Of a size that nobody bounds.
    const MOST: usize = 1 << 32;
    let mut x = call.float_tensor(builder, "self")?;
    let axis = call.axis("dim", 0, x.rank())?;
    let size = builder.dim(&x, axis);
    let most = builder.most(&size).min(MOST);
    let zero = builder.number(0.0, DType::I64)?;
    let mut wide = vec![Dim::from(1); x.rank()];
    wide[axis] = size.clone();
    let mut step = 1;
    while step < most {
        let places = builder.range(&Dim::from_i64(-(step as i64)), 1, &size)?;
        let before = builder.binary(Binary::Max, &places, &zero)?;
        let earlier = builder.take(&x, axis, &before)?;
        let outside = builder.binary(Binary::Less, &places, &zero)?;
        let outside = builder.reshape(&outside, &wide)?;
        let earlier = Formula::of(&outside).choose(f64::NEG_INFINITY, Formula::of(&earlier));
        x = log_add(&Formula::of(&x), &earlier).build(builder)?;
        step *= 2;
    }
    one(x)
}

/// The length of a vector of two parts, whose squares may be too large or small for numbers.
fn hypot(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "other")?);
    let (a, b) = (Formula::of(&a).abs(), Formula::of(&b).abs());
    let (most, least) = (a.max(&b), a.min(&b));
    let ratio = &least / &most;
    let length = &most * (&ratio * &ratio + 1.0).sqrt();
    let length = most.equals(0.0).choose(0.0, length);
    let infinite = a.equals(f64::INFINITY).or(b.equals(f64::INFINITY));
    one(infinite.choose(f64::INFINITY, length).build(builder)?)
}

fn signbit(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.wide_tensor(builder, "self")?;
    if !builder.dtype(&x).is_float() {
        let zero = builder.number(0.0, builder.dtype(&x))?;
        return one(builder.binary(Binary::Less, &x, &zero)?);
    }
    // Minus zero is told apart by what it divides.
    let inverse = builder.function(Elementary::Reciprocal, &x)?;
    let zero = builder.number(0.0, DType::F32)?;
    let (below, under) = (builder.binary(Binary::Less, &x, &zero)?, builder.binary(Binary::Less, &inverse, &zero)?);
    one(builder.binary(Binary::Or, &below, &under)?)
}

fn negative(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    one(builder.unary(Unary::Neg, &x)?)
}

fn logit(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut x = call.float_tensor(builder, "self")?;
    if call.has("eps") {
        let eps = call.float("eps", 0.0)?;
        x = between(builder, &x, Some(eps), Some(1.0 - eps))?;
    }
    let rest = builder.affine(&x, -1.0, 1.0)?;
    let odds = builder.binary(Binary::Div, &x, &rest)?;
    one(builder.unary(Unary::Log, &odds)?)
}

fn nan_to_num(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    if !builder.dtype(&x).is_float() {
        return one(x);
    }
    let number = builder.binary(Binary::Equal, &x, &x)?;
    let instead = builder.number(call.float("nan", 0.0)?, DType::F32)?;
    let x = builder.select(&number, &x, &instead)?;
    let (least, most) = (call.float("neginf", f64::from(f32::MIN))?, call.float("posinf", f64::from(f32::MAX))?);
    let mut result = x.clone();
    for (infinite, finite) in [(f64::NEG_INFINITY, least), (f64::INFINITY, most)] {
        let (infinite, finite) = (builder.number(infinite, DType::F32)?, builder.number(finite, DType::F32)?);
        let is = builder.binary(Binary::Equal, &x, &infinite)?;
        result = builder.select(&is, &finite, &result)?;
    }
    one(result)
}

fn one_infinity(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let sign = if call.op == "isposinf" { 1.0 } else { -1.0 };
    let infinity = builder.number(sign * f64::INFINITY, DType::F32)?;
    one(builder.binary(Binary::Equal, &x, &infinity)?)
}

fn heaviside(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, at_zero) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "values")?);
    let zero = builder.number(0.0, DType::F32)?;
    let (is_zero, positive) = (builder.binary(Binary::Equal, &x, &zero)?, builder.binary(Binary::Less, &zero, &x)?);
    let step = builder.cast(&positive, DType::F32)?;
    one(builder.select(&is_zero, &at_zero, &step)?)
}

fn xlogy(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.operand_as(builder, "self", DType::F32)?;
    let y = call.operand_as(builder, "other", DType::F32)?;
    let log = builder.unary(Unary::Log, &y)?;
    let product = builder.binary(Binary::Mul, &x, &log)?;
    let zero = builder.number(0.0, DType::F32)?;
    // Nothing of what is no number is none.
    let (nothing, number) = (builder.binary(Binary::Equal, &x, &zero)?, builder.binary(Binary::Equal, &y, &y)?);
    let nothing = builder.binary(Binary::And, &nothing, &number)?;
    one(builder.select(&nothing, &zero, &product)?)
}

/// Equal numbers are close, others if their distance is finite and allowed.
fn isclose(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, y) = (call.wide_tensor(builder, "self")?, call.wide_tensor(builder, "other")?);
    let (a, b) = (builder.cast(&x, DType::F32)?, builder.cast(&y, DType::F32)?);
    // Integers are compared as such.
    let equal = if builder.dtype(&x) == builder.dtype(&y) {
        builder.binary(Binary::Equal, &x, &y)?
    } else {
        builder.binary(Binary::Equal, &a, &b)?
    };
    let (a, b, mut close) = (Formula::of(&a), Formula::of(&b), Formula::of(&equal));
    if call.flag("equal_nan", false)? {
        close = close.or(a.equals(&a).or(b.equals(&b)).not());
    }
    let (relative, absolute) = (call.float("rtol", 1e-5)?, call.float("atol", 1e-8)?);
    if (relative, absolute) != (0.0, 0.0) {
        let distance = (&a - &b).abs();
        let allowed = b.abs() * relative + absolute;
        close = close.or(distance.less(f64::INFINITY).and(allowed.less(&distance).not()));
    }
    one(close.build(builder)?)
}

fn sinc(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let x = builder.affine(&x, std::f64::consts::PI, 0.0)?;
    let (sine, zero) = (builder.unary(Unary::Sin, &x)?, builder.number(0.0, DType::F32)?);
    let (quotient, there) = (builder.binary(Binary::Div, &sine, &x)?, builder.binary(Binary::Equal, &x, &zero)?);
    let unit = builder.number(1.0, DType::F32)?;
    one(builder.select(&there, &unit, &quotient)?)
}

fn softshrink(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let limit = call.float("lambd", 0.5)?;
    let inside = between(builder, &x, Some(-limit), Some(limit))?;
    one(builder.binary(Binary::Sub, &x, &inside)?)
}

fn copysign(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let other = call.operand_as(builder, "other", DType::F32)?;
    let size = builder.unary(Unary::Abs, &x)?;
    let (negative, zero) = (builder.unary(Unary::Neg, &size)?, builder.number(0.0, DType::F32)?);
    let below = builder.binary(Binary::Less, &other, &zero)?;
    one(builder.select(&below, &negative, &size)?)
}

/// Multiplied by or divided by a power of two; shifts by as many bits as there are leave nothing, or the sign.
fn shift(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let dtype = call.out_dtype(0)?;
    let (x, bits) = (call.operand_as(builder, "self", dtype)?, call.operand_as(builder, "other", dtype)?);
    let (x, bits) = (builder.cast(&x, DType::I64)?, builder.cast(&bits, DType::I64)?);
    let number = |builder: &mut Builder, value: f64| builder.number(value, DType::I64);
    let left = call.op.contains("left") || call.op.contains("lshift");
    // In two steps, so that no power is too large for the type.
    let (two, zero) = (number(builder, 2.0)?, number(builder, 0.0)?);
    let most = number(builder, if left { 63.0 } else { 62.0 })?;
    let bits = builder.binary(Binary::Max, &bits, &zero)?;
    let bits = builder.binary(Binary::Min, &bits, &most)?;
    let half = builder.binary(Binary::FloorDiv, &bits, &two)?;
    let rest = builder.binary(Binary::Sub, &bits, &half)?;
    let op = if left { Binary::Mul } else { Binary::FloorDiv };
    let mut result = x;
    for part in [half, rest] {
        let factor = builder.binary(Binary::Pow, &two, &part)?;
        result = builder.binary(op, &result, &factor)?;
    }
    one(builder.cast(&result, dtype)?)
}

/// The largest integer that divides both, by Euclid's algorithm written out, and the least that both divide.
fn divisor(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    // No pair of 64 bits takes more steps.
    const STEPS: usize = 92;
    let dtype = wide(call.out_dtype(0)?);
    let (a, b) = (call.operand_as(builder, "self", dtype)?, call.operand_as(builder, "other", dtype)?);
    let (a, b) = (builder.unary(Unary::Abs, &a)?, builder.unary(Unary::Abs, &b)?);
    let zero = builder.number(0.0, dtype)?;
    let (mut high, mut low) = (a.clone(), b.clone());
    for _ in 0..STEPS {
        let done = builder.binary(Binary::Equal, &low, &zero)?;
        let rest = builder.binary(Binary::Remainder, &high, &low)?;
        (high, low) = (builder.select(&done, &high, &low)?, rest);
    }
    if call.op == "gcd" {
        return one(high);
    }
    let part = builder.binary(Binary::FloorDiv, &a, &high)?;
    one(builder.binary(Binary::Mul, &part, &b)?)
}

fn ndtr(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.float_tensor(builder, "self")?;
    let x = builder.affine(&x, std::f64::consts::FRAC_1_SQRT_2, 0.0)?;
    let erf = builder.function(Elementary::Erf, &x)?;
    one(builder.affine(&erf, 0.5, 0.5)?)
}

fn nansum(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let dtype = call.out_dtype(0)?;
    let x = call.operand_as(builder, "self", dtype)?;
    let (number, zero) = (builder.binary(Binary::Equal, &x, &x)?, builder.number(0.0, dtype)?);
    let x = builder.select(&number, &x, &zero)?;
    let axes = if call.has("dim") { call.axes("dim", x.rank())? } else { (0..x.rank()).collect() };
    one(reduce(builder, Reduce::Sum, &x, &axes, call.flag("keepdim", false)?)?)
}

/// The way from one operand to another, in parts.
fn lerp(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.float_tensor(builder, "self")?, call.float_tensor(builder, "end")?);
    let weight = call.operand_as(builder, "weight", DType::F32)?;
    let difference = builder.binary(Binary::Sub, &b, &a)?;
    let part = builder.binary(Binary::Mul, &difference, &weight)?;
    one(builder.binary(Binary::Add, &a, &part)?)
}
