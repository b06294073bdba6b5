//! Functions of one or two numbers that networks use rarely: plain loops over scalar code on every tier.

use crate::{
    arch::Generic,
    math,
    rowwise::{GRAIN, for_rows},
    strided::{Strided, Walk},
    threads::Pool,
};

/// A function of one `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the function of that name")]
pub enum Function {
    Floor,
    Ceil,
    /// The nearest integer, halves to the even one.
    Round,
    /// Without what follows the point.
    Trunc,
    /// -1, 0 or 1.
    Sign,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    /// `e^x - 1`
    ExpM1,
    /// `ln(1 + x)`
    Log1p,
    Log2,
    Log10,
    Exp2,
    /// `1 / x`
    Reciprocal,
    /// `ln(1 + e^x)`
    Softplus,
}

impl Function {
    /// The function itself.
    #[must_use]
    pub fn of(self) -> fn(f32) -> f32 {
        match self {
            Self::Floor => f32::floor,
            Self::Ceil => f32::ceil,
            Self::Round => f32::round_ties_even,
            Self::Trunc => f32::trunc,
            Self::Sign => |x| if x == 0.0 || x.is_nan() { x } else { x.signum() },
            Self::Tan => f32::tan,
            Self::Asin => f32::asin,
            Self::Acos => f32::acos,
            Self::Atan => f32::atan,
            Self::Sinh => f32::sinh,
            Self::Cosh => f32::cosh,
            Self::Asinh => f32::asinh,
            Self::Acosh => f32::acosh,
            Self::Atanh => f32::atanh,
            Self::Erf => math::erf::<Generic>,
            Self::ExpM1 => f32::exp_m1,
            Self::Log1p => f32::ln_1p,
            Self::Log2 => f32::log2,
            Self::Log10 => f32::log10,
            Self::Exp2 => f32::exp2,
            Self::Reciprocal => f32::recip,
            Self::Softplus => |x| x.max(0.0) + (-x.abs()).exp().ln_1p(),
        }
    }
}

/// `out = function(x)` for every element.
///
/// # Panics
/// If `x` and `out` differ in length.
pub fn map<A: Copy + Sync, B: Send>(pool: &Pool, function: impl Fn(A) -> B + Sync, x: &[A], out: &mut [B]) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    for_rows(pool, out, 1, GRAIN, |first, out| {
        for (out, &x) in out.iter_mut().zip(&x[first..]) {
            *out = function(x);
        }
    });
}

/// `out = function(a, b)` for every element of a dense array of the given shape.
///
/// # Panics
/// If `out` has not as many elements as `shape`, or an operand has not one stride per dimension or ends too early.
pub fn zip<A: Copy + Sync, B: Send>(
    pool: &Pool,
    function: impl Fn(A, A) -> B + Sync,
    shape: &[usize],
    a: Strided<'_, A>,
    b: Strided<'_, A>,
    out: &mut [B],
) {
    assert_eq!(out.len(), shape.iter().product::<usize>(), "the output is not of shape {shape:?}");
    if out.is_empty() {
        return;
    }
    let walk = Walk::new(shape, [a.strides, b.strides]);
    let (Some(&width), Some(&[a_step, b_step])) = (walk.sizes.last(), walk.strides.last()) else { return };
    let outer = walk.sizes.len() - 1;
    for_rows(pool, out, width, (GRAIN / width).max(1), |first, out| {
        for (row, out) in (first..).zip(out.chunks_exact_mut(width)) {
            let (mut rest, mut at) = (row, [0, 0]);
            for axis in (0..outer).rev() {
                let index = rest % walk.sizes[axis];
                rest /= walk.sizes[axis];
                at = [at[0] + index * walk.strides[axis][0], at[1] + index * walk.strides[axis][1]];
            }
            for (i, out) in out.iter_mut().enumerate() {
                *out = function(a.data[at[0] + i * a_step], b.data[at[1] + i * b_step]);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strided::broadcast_strides;

    #[test]
    fn functions_are_those_of_f64() {
        use Function::{Exp2, ExpM1, Log1p, Sinh, Softplus, Tan};
        let exact = |function, x: f64| match function {
            Tan => x.tan(),
            Log1p => x.ln_1p(),
            ExpM1 => x.exp_m1(),
            Softplus => x.exp().ln_1p(),
            Exp2 => x.exp2(),
            _ => x.sinh(),
        };
        for function in [Tan, Log1p, ExpM1, Softplus, Exp2, Sinh] {
            for i in 0..400 {
                let x = (i as f32 - 150.0) / 160.0;
                let (found, wanted) = (f64::from(function.of()(x)), exact(function, f64::from(x)));
                assert!((found - wanted).abs() <= 1e-6 * wanted.abs().max(0.1), "{function:?}({x}) = {found}");
            }
        }
        assert_eq!((Function::Round.of()(2.5), Function::Round.of()(-1.5)), (2.0, -2.0));
        assert!((Function::Erf.of()(0.5) - 0.520_499_9).abs() < 1e-6);
    }

    #[test]
    fn operands_are_repeated_along_missing_dimensions() {
        let pool = Pool::new(2);
        let (a, b) = ([1, 2, 3], [10, 20]);
        let shape = [2, 3];
        let (a_strides, b_strides) = (broadcast_strides(&[3], &shape), broadcast_strides(&[2, 1], &shape));
        let (a, b) = (Strided { data: &a, strides: &a_strides }, Strided { data: &b, strides: &b_strides });
        let mut out = [0; 6];
        zip(&pool, |a: i32, b| a + b, &shape, a, b, &mut out);
        assert_eq!(out, [11, 12, 13, 21, 22, 23]);
    }
}
