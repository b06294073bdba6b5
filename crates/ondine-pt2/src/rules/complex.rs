//! Operators on complex numbers, which have a last dimension of real and imaginary part here.

use ondine_graph::{Binary, DType, NDArray, Reduce, Result, Unary, fail};

use super::{
    reduce::reduce,
    rule::{Rule, one},
    sharing,
};
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("angle", complex).complex(),
    Rule::new("conj", complex).sharing(sharing::conjugated).complex(),
    Rule::new("_conj", complex).sharing(sharing::conjugated).complex(),
    Rule::new("conj_physical", complex).complex(),
    Rule::new("_conj_physical", complex).complex(),
];

/// A number as a complex tensor without other dimensions.
fn number(builder: &mut Builder, value: f64) -> Result<Tensor> {
    let value = builder.graph.constant(NDArray::new(&[2], &[value as f32, 0.0])?);
    Ok(builder.plain(value))
}

/// An argument as a complex tensor: real ones get a part of zeros.
pub(super) fn operand(builder: &mut Builder, call: &Call<'_>, name: &str) -> Result<Tensor> {
    if call.is_complex(name) {
        return call.tensor(name);
    }
    if let Some([real, imaginary]) = call.complex_number(name) {
        let value = builder.graph.constant(NDArray::new(&[2], &[real as f32, imaginary as f32])?);
        return Ok(builder.plain(value));
    }
    let real = call.operand_as(builder, name, DType::F32)?;
    let zero = builder.affine(&real, 0.0, 0.0)?;
    join(builder, &real, &zero)
}

/// A list of tensors in the type of the result: among complex ones, real ones get a part of zeros.
pub(super) fn list(builder: &mut Builder, call: &Call<'_>, name: &str) -> Result<Vec<Tensor>> {
    let (mut tensors, kinds) = (call.tensors(name)?, call.are_complex(name));
    for (tensor, complex) in tensors.iter_mut().zip(&kinds) {
        *tensor = call.cast_out(builder, tensor)?;
        if !complex && kinds.contains(&true) {
            let zero = builder.affine(tensor, 0.0, 0.0)?;
            *tensor = join(builder, tensor, &zero)?;
        }
    }
    Ok(tensors)
}

/// Both parts, each with a last dimension of 1.
pub(super) fn parts(builder: &mut Builder, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let last = x.rank() - 1;
    Ok((builder.slice(x, last, &0.into(), &1.into())?, builder.slice(x, last, &1.into(), &2.into())?))
}

/// Both parts as real tensors.
pub(super) fn split(builder: &mut Builder, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let (real, imaginary) = parts(builder, x)?;
    let last = x.rank() - 1;
    Ok((builder.without(&real, last)?, builder.without(&imaginary, last)?))
}

pub(super) fn join(builder: &mut Builder, real: &Tensor, imaginary: &Tensor) -> Result<Tensor> {
    let mut shape = builder.shape(real);
    shape.push(1.into());
    let (real, imaginary) = (builder.reshape(real, &shape)?, builder.reshape(imaginary, &shape)?);
    builder.concat(&[&real, &imaginary], shape.len() - 1)
}

pub(super) fn conjugate(builder: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let signs = builder.graph.constant(NDArray::new(&[2], &[1.0_f32, -1.0])?);
    let signs = builder.plain(signs);
    builder.binary(Binary::Mul, x, &signs)
}

/// `(a + bi)(c + di)`
pub(super) fn product(builder: &mut Builder, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let ((a, b), (c, d)) = (parts(builder, x)?, parts(builder, y)?);
    let (ac, bd) = (builder.binary(Binary::Mul, &a, &c)?, builder.binary(Binary::Mul, &b, &d)?);
    let (ad, bc) = (builder.binary(Binary::Mul, &a, &d)?, builder.binary(Binary::Mul, &b, &c)?);
    let (real, imaginary) = (builder.binary(Binary::Sub, &ac, &bd)?, builder.binary(Binary::Add, &ad, &bc)?);
    let last = real.rank() - 1;
    builder.concat(&[&real, &imaginary], last)
}

fn quotient(builder: &mut Builder, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let turned = conjugate(builder, y)?;
    let over = product(builder, x, &turned)?;
    let under = power(builder, y)?;
    builder.binary(Binary::Div, &over, &under)
}

pub(super) fn arithmetic(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let [mut a, mut b] = [operand(builder, call, "self")?, operand(builder, call, "other")?];
    let alpha = call.float("alpha", 1.0)?;
    if call.op == "rsub" {
        a = Call::scale(builder, &a, alpha)?;
        (a, b) = (b, a);
    } else if matches!(call.op, "add" | "sub") {
        b = Call::scale(builder, &b, alpha)?;
    }
    one(match call.op {
        "add" => builder.binary(Binary::Add, &a, &b)?,
        "sub" | "rsub" => builder.binary(Binary::Sub, &a, &b)?,
        "mul" => product(builder, &a, &b)?,
        _ => quotient(builder, &a, &b)?,
    })
}

pub(super) fn negative(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    one(builder.unary(Unary::Neg, &x)?)
}

pub(super) fn reciprocal(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let unit = number(builder, 1.0)?;
    one(quotient(builder, &unit, &x)?)
}

pub(super) fn integer_power(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let exponent = if call.op == "square" { 2 } else { call.integer("exponent", 0)? };
    if !(1..=8).contains(&exponent) {
        fail!(Unsupported, "a complex number to the power of {exponent}");
    }
    let mut result = x.clone();
    for _ in 1..exponent {
        result = product(builder, &result, &x)?;
    }
    one(result)
}

pub(super) fn exponential(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let (real, imaginary) = parts(builder, &x)?;
    let size = builder.unary(Unary::Exp, &real)?;
    let (c, s) = (builder.unary(Unary::Cos, &imaginary)?, builder.unary(Unary::Sin, &imaginary)?);
    let both = builder.concat(&[&c, &s], x.rank() - 1)?;
    one(builder.binary(Binary::Mul, &size, &both)?)
}

pub(super) fn turned(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    if x.rank() < 3 {
        return one(x);
    }
    let turned = Builder::swapped(&x, x.rank() - 3, x.rank() - 2);
    one(if matches!(call.op, "adjoint" | "mH" | "matrix_H") { conjugate(builder, &turned)? } else { turned })
}

pub(super) fn choice(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let condition = call.tensor("condition")?;
    let mut wide = builder.shape(&condition);
    wide.push(1.into());
    let condition = builder.reshape(&condition, &wide)?;
    let [a, b] = [operand(builder, call, "self")?, operand(builder, call, "other")?];
    one(builder.select(&condition, &a, &b)?)
}

pub(super) fn cast(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = operand(builder, call, "self")?;
    if call.out_complex(0)? {
        return one(x);
    }
    one(split(builder, &x)?.0)
}

fn complex(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    if !call.is_complex("self") {
        if call.op == "angle" {
            let x = Formula::of(&call.float_tensor(builder, "self")?);
            let angle = x.less(0.0).choose(std::f64::consts::PI, 0.0);
            return one(x.equals(&x).choose(angle, &x).build(builder)?);
        }
        return one(x);
    }
    let last = x.rank() - 1;
    let (real, imaginary) =
        (builder.slice(&x, last, &0.into(), &1.into())?, builder.slice(&x, last, &1.into(), &2.into())?);
    if call.op == "angle" {
        let angle = builder.binary(Binary::Atan2, &imaginary, &real)?;
        return one(builder.without(&angle, last)?);
    }
    let turned = builder.unary(Unary::Neg, &imaginary)?;
    one(builder.concat(&[&real, &turned], last)?)
}

/// The sum of squares of both parts.
pub(super) fn power(builder: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let square = builder.binary(Binary::Mul, x, x)?;
    reduce(builder, Reduce::Sum, &square, &[x.rank() - 1], true)
}
