//! Functions of each element by itself.

use half::bf16;
use ondine_graph::{Activation, Binary, DType, Result, Unary};

use super::function;
use crate::{
    index::{map_indices, repeated, rows},
    number::{ELEMENTARY, Real},
    tensor::{Cast, Elements, Tensor, cast_real, misfit, wrap},
};

pub(super) fn unary<R: Real>(op: Unary, x: &Tensor<R>) -> Result<Tensor<R>> {
    match x.elements() {
        Elements::Real(numbers) => {
            Tensor::real(x.dtype(), x.shape(), numbers.iter().map(|&number| real_unary(op, number)).collect())
        }
        Elements::Integer(numbers) => {
            let function = match op {
                Unary::Neg => i64::wrapping_neg,
                Unary::Abs => i64::wrapping_abs,
                _ => return Err(misfit(format!("{op:?} of {} numbers", x.dtype()))),
            };
            Tensor::integer(x.dtype(), x.shape(), numbers.iter().map(|&number| function(number)).collect())
        }
    }
}

fn real_unary<R: Real>(op: Unary, x: R) -> R {
    match op {
        Unary::Activation(activation) => activate(activation, x),
        Unary::Neg => x.negated(),
        Unary::Abs => x.map(0.0, f64::abs),
        Unary::Exp => x.map(ELEMENTARY, f64::exp),
        Unary::Log => x.map(ELEMENTARY, f64::ln),
        Unary::Sqrt => x.map(ELEMENTARY, f64::sqrt),
        Unary::Rsqrt => x.map(ELEMENTARY, |x| 1.0 / x.sqrt()),
        Unary::Sin => x.map(ELEMENTARY, f64::sin),
        Unary::Cos => x.map(ELEMENTARY, f64::cos),
        Unary::Affine { scale, offset } => x.times(R::exact(scale.into())).plus(R::exact(offset.into())),
        Unary::Function(function) => function::map(function, x),
    }
}

/// An activation, from its formula.
pub(super) fn activate<R: Real>(activation: Activation, x: R) -> R {
    let number = |value: f64| R::exact(value);
    let sigmoid = |x: R| x.map(ELEMENTARY, |x| 1.0 / (1.0 + (-x).exp()));
    let between = |x: R, high: f64| x.larger(number(0.0)).smaller(number(high));
    // By which of two ways a device divides by six is its own affair.
    let hard_sigmoid = |x: R| between(x.map(1.0, |x| x / 6.0).plus(number(0.5)), 1.0);
    let one_and = |x: R| x.plus(number(1.0)).times(number(0.5));
    match activation {
        Activation::None => x,
        Activation::Silu => x.times(sigmoid(x)),
        Activation::Gelu => x.times(one_and(x.map(1.0, |x| x / 2_f64.sqrt()).map(ELEMENTARY, function::erf))),
        Activation::GeluTanh => {
            let cube = x.times(x).times(x).times(number(0.044_715));
            let inner = x.plus(cube).times(number((2.0 / std::f64::consts::PI).sqrt()));
            x.times(one_and(inner.map(ELEMENTARY, f64::tanh)))
        }
        Activation::QuickGelu => x.times(sigmoid(x.times(number(1.702)))),
        Activation::Relu => x.larger(number(0.0)),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.map(ELEMENTARY, f64::tanh),
        Activation::Relu6 => between(x, 6.0),
        Activation::HardSigmoid => hard_sigmoid(x),
        Activation::HardSwish => x.times(hard_sigmoid(x)),
    }
}

pub(super) fn binary<R: Real>(op: Binary, [a, b]: [&Tensor<R>; 2], shape: &[usize]) -> Result<Tensor<R>> {
    if a.dtype() != b.dtype() {
        return Err(misfit(format!("{op:?} of {} and {} numbers", a.dtype(), b.dtype())));
    }
    let pairs = repeated(a.shape(), shape).into_iter().zip(repeated(b.shape(), shape));
    if op.is_comparison() {
        let holds = |(i, j)| Ok(compare(op, a, b, (i, j))?.into());
        return Tensor::integer(DType::Bool, shape, pairs.map(holds).collect::<Result<_>>()?);
    }
    match (a.elements(), b.elements()) {
        (Elements::Real(x), Elements::Real(y)) => {
            let numbers = pairs.map(|(i, j)| real_binary(op, x[i], y[j])).collect::<Result<_>>()?;
            Tensor::real(a.dtype(), shape, numbers)
        }
        _ => {
            let (x, y) = (a.integers()?, b.integers()?);
            let numbers = pairs.map(|(i, j)| integer_binary(op, x[i], y[j])).collect::<Result<_>>()?;
            Tensor::integer(a.dtype(), shape, numbers)
        }
    }
}

fn compare<R: Real>(op: Binary, a: &Tensor<R>, b: &Tensor<R>, (i, j): (usize, usize)) -> Result<bool> {
    let equal = op == Binary::Equal;
    Ok(match a.elements() {
        Elements::Real(x) => {
            let (x, y) = (x[i].value(), b.reals()?[j].value());
            if equal { x == y } else { x < y }
        }
        Elements::Integer(x) => {
            let (x, y) = (x[i], b.integers()?[j]);
            if equal { x == y } else { x < y }
        }
    })
}

fn real_binary<R: Real>(op: Binary, a: R, b: R) -> Result<R> {
    // Of what is exact; of other numbers it is the error in both, one after the other.
    let both = |units: f64, function: fn(f64, f64) -> f64| {
        let other = b.map(0.0, |b| function(a.value(), b)).error();
        a.map(units, |a| function(a, b.value())).off(other)
    };
    Ok(match op {
        Binary::Add => a.plus(b),
        Binary::Sub => a.minus(b),
        Binary::Mul => a.times(b),
        Binary::Div => a.over(b),
        Binary::Min => a.smaller(b),
        Binary::Max => a.larger(b),
        Binary::Pow => both(ELEMENTARY, f64::powf),
        Binary::Prelu if a.value() > 0.0 => a,
        Binary::Prelu => a.times(b),
        Binary::Atan2 => both(ELEMENTARY, f64::atan2),
        // The remainder of a division is exact.
        Binary::Fmod => both(0.0, |a, b| a % b),
        Binary::Remainder => both(1.0, remainder),
        // A quotient that is nearly a whole number may be rounded to it.
        Binary::FloorDiv => a.over(b).map(0.0, f64::floor),
        Binary::Equal | Binary::Less | Binary::And | Binary::Or | Binary::Xor => {
            return Err(misfit(format!("{op:?} of floating-point numbers")));
        }
    })
}

/// `a - b * floor(a / b)`, without rounding but of the result.
fn remainder(a: f64, b: f64) -> f64 {
    let rest = a % b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
}

/// Integers wrap around; a division by zero yields zero.
fn integer_binary(op: Binary, a: i64, b: i64) -> Result<i64> {
    let rest = if b == 0 { 0 } else { a.wrapping_rem(b) };
    let quotient = if b == 0 { 0 } else { a.wrapping_div(b) };
    let apart = rest != 0 && (rest < 0) != (b < 0);
    Ok(match op {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::Div => quotient,
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::Pow => power(a, b),
        Binary::Prelu if a > 0 => a,
        Binary::Prelu => a.wrapping_mul(b),
        Binary::And => a & b,
        Binary::Or => a | b,
        Binary::Xor => a ^ b,
        Binary::Fmod => rest,
        Binary::Remainder => {
            if apart {
                rest + b
            } else {
                rest
            }
        }
        Binary::FloorDiv => quotient - i64::from(apart),
        Binary::Atan2 | Binary::Equal | Binary::Less => return Err(misfit(format!("{op:?} of integers"))),
    })
}

/// Multiplied out, modulo the size of the type; a negative power of anything but 1 and -1 is 0.
fn power(base: i64, exponent: i64) -> i64 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 => {
                if exponent % 2 == 0 {
                    1
                } else {
                    -1
                }
            }
            _ => 0,
        };
    }
    let (mut result, mut square, mut rest) = (1_i64, base, exponent);
    while rest > 0 {
        if rest % 2 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        rest /= 2;
    }
    result
}

pub(super) fn select<R: Real>([condition, a, b]: [&Tensor<R>; 3], shape: &[usize]) -> Result<Tensor<R>> {
    let [holds, x, y] = [condition, a, b].map(|tensor| repeated(tensor.shape(), shape));
    let places = holds.into_iter().zip(x.into_iter().zip(y));
    let place = |(at, (i, j))| Some(if condition.is_true(at) { (0, i) } else { (1, j) });
    Tensor::pick(&[a, b], shape, places.map(place))
}

/// To a floating-point type the nearest number, ties to even, of integers and F64 by way of F32; from there to an
/// integer truncated toward zero, to the nearest end of the type if outside, and 0 if no number; between integers the
/// low bits; to a truth value whether it is not 0.
pub(super) fn cast<R: Real>(to: DType, x: &Tensor<R>) -> Result<Tensor<R>> {
    let elements = match x.elements() {
        Elements::Integer(numbers) if to.is_float() => {
            let near =
                |number: i64| if x.dtype() == DType::U64 { number.cast_unsigned() as f32 } else { number as f32 };
            let float = |&number: &i64| match to {
                DType::BF16 => bf16::from_f32(near(number)).to_f64(),
                DType::F16 => half::f16::from_f32(near(number)).to_f64(),
                _ => f64::from(near(number)),
            };
            Elements::Real(numbers.iter().map(|number| R::exact(float(number))).collect())
        }
        Elements::Integer(numbers) => Elements::Integer(numbers.iter().map(|&number| wrap(number, to)).collect()),
        Elements::Real(numbers) => {
            let (mut reals, mut integers) = (Vec::new(), Vec::new());
            for &number in numbers {
                match cast_real(number, to) {
                    Cast::Real(number) => reals.push(number),
                    Cast::Integer(number) => integers.push(number),
                }
            }
            if to.is_float() { Elements::Real(reals) } else { Elements::Integer(integers) }
        }
    };
    Tensor::new(to, x.shape(), elements)
}

/// Pairs of the features of heads, turned; see [`ondine_graph::Op::Rotate`].
pub(super) fn rotate<R: Real>(interleaved: bool, [x, cos, sin]: [&Tensor<R>; 3]) -> Result<Tensor<R>> {
    let (&[.., heads, width], &[.., pairs]) = (x.shape(), cos.shape()) else {
        return Err(misfit("heads of rank 1".to_owned()));
    };
    let (numbers, cos, sin) = (x.reals()?, cos.reals()?, sin.reals()?);
    let turned = numbers.iter().enumerate().map(|(at, &number)| {
        let (row, feature) = (at / width, at % width);
        if feature >= 2 * pairs {
            return number;
        }
        let (pair, second) =
            if interleaved { (feature / 2, feature % 2 == 1) } else { (feature % pairs, feature >= pairs) };
        let apart = if interleaved { 1 } else { pairs };
        let other = numbers[if second { at - apart } else { at + apart }];
        let angle = row / heads * pairs + pair;
        let (kept, turned) = (number.times(cos[angle]), other.times(sin[angle]));
        if second { kept.plus(turned) } else { kept.minus(turned) }
    });
    Tensor::real(x.dtype(), x.shape(), turned.collect())
}

pub(super) fn glu<R: Real>(activation: Activation, x: &Tensor<R>, shape: &[usize]) -> Result<Tensor<R>> {
    let (numbers, (_, width)) = (x.reals()?, rows(shape));
    let gated = |at: usize| {
        let start = at / width * 2 * width + at % width;
        numbers[start].times(activate(activation, numbers[start + width]))
    };
    let mut at = 0..;
    let numbers = map_indices(shape, |_| at.next().map_or(R::exact(0.0), gated));
    Tensor::real(x.dtype(), shape, numbers)
}
