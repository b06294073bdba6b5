//! Formulas of numbers, written as such: what becomes of them in a graph is added when they are done.

use std::{
    collections::HashMap,
    ops::{Add, Div, Mul, Neg, Sub},
    rc::Rc,
};

use ondine_graph::{Binary, DType, Elementary, Op, Result, Unary};

use crate::builder::{Builder, Tensor};

/// A formula of F32 numbers and truth values, element by element with broadcasting; parts that it is written with
/// twice are computed once.
#[derive(Clone)]
pub(super) struct Formula(Rc<Term>);

enum Term {
    Tensor(Tensor),
    Number(f64),
    Unary(Unary, Formula),
    Binary(Binary, Formula, Formula),
    Not(Formula),
    Select(Formula, Formula, Formula),
}

impl Formula {
    /// A tensor, as it is.
    pub(super) fn of(tensor: &Tensor) -> Self {
        Self(Rc::new(Term::Tensor(tensor.clone())))
    }

    fn unary(&self, op: Unary) -> Self {
        Self(Rc::new(Term::Unary(op, self.clone())))
    }

    fn binary(&self, op: Binary, other: impl Into<Self>) -> Self {
        Self(Rc::new(Term::Binary(op, self.clone(), other.into())))
    }

    pub(super) fn function(&self, function: Elementary) -> Self {
        self.unary(Unary::Function(function))
    }

    pub(super) fn exp(&self) -> Self {
        self.unary(Unary::Exp)
    }

    pub(super) fn ln(&self) -> Self {
        self.unary(Unary::Log)
    }

    pub(super) fn sqrt(&self) -> Self {
        self.unary(Unary::Sqrt)
    }

    pub(super) fn abs(&self) -> Self {
        self.unary(Unary::Abs)
    }

    pub(super) fn sin(&self) -> Self {
        self.unary(Unary::Sin)
    }

    pub(super) fn cos(&self) -> Self {
        self.unary(Unary::Cos)
    }

    pub(super) fn floor(&self) -> Self {
        self.function(Elementary::Floor)
    }

    pub(super) fn ln_1p(&self) -> Self {
        self.function(Elementary::Log1p)
    }

    pub(super) fn pow(&self, exponent: impl Into<Self>) -> Self {
        self.binary(Binary::Pow, exponent)
    }

    pub(super) fn min(&self, other: impl Into<Self>) -> Self {
        self.binary(Binary::Min, other)
    }

    pub(super) fn max(&self, other: impl Into<Self>) -> Self {
        self.binary(Binary::Max, other)
    }

    pub(super) fn equals(&self, other: impl Into<Self>) -> Self {
        self.binary(Binary::Equal, other)
    }

    pub(super) fn less(&self, other: impl Into<Self>) -> Self {
        self.binary(Binary::Less, other)
    }

    pub(super) fn more(&self, other: impl Into<Self>) -> Self {
        other.into().less(self.clone())
    }

    pub(super) fn and(&self, other: impl Into<Self>) -> Self {
        self.binary(Binary::And, other)
    }

    pub(super) fn or(&self, other: impl Into<Self>) -> Self {
        self.binary(Binary::Or, other)
    }

    pub(super) fn not(&self) -> Self {
        Self(Rc::new(Term::Not(self.clone())))
    }

    /// `yes` where this holds, else `no`.
    pub(super) fn choose(&self, yes: impl Into<Self>, no: impl Into<Self>) -> Self {
        Self(Rc::new(Term::Select(self.clone(), yes.into(), no.into())))
    }

    /// The polynomial with these coefficients, that of the highest power first (Horner 1819).
    pub(super) fn polynomial(&self, coefficients: &[f64]) -> Self {
        let mut terms = coefficients.iter();
        let first = Self::from(terms.next().copied().unwrap_or(0.0));
        terms.fold(first, |sum, &term| sum * self.clone() + term)
    }

    /// The Chebyshev series with these coefficients, that of the highest degree first, of `self / 2` (Clenshaw 1955).
    pub(super) fn chebyshev(&self, coefficients: &[f64]) -> Self {
        let (mut b, mut before, mut last) = (Self::from(0.0), Self::from(0.0), Self::from(0.0));
        for &coefficient in coefficients {
            last = before;
            before = b;
            b = self.clone() * before.clone() - last.clone() + coefficient;
        }
        (b - last) * 0.5
    }

    /// The tensor that holds its values.
    pub(super) fn build(&self, builder: &mut Builder) -> Result<Tensor> {
        self.part(builder, &mut HashMap::new())
    }

    fn number(&self) -> Option<f64> {
        match *self.0 {
            Term::Number(number) => Some(number),
            _ => None,
        }
    }

    fn part(&self, builder: &mut Builder, known: &mut HashMap<*const Term, Tensor>) -> Result<Tensor> {
        let name = Rc::as_ptr(&self.0);
        if let Some(tensor) = known.get(&name) {
            return Ok(tensor.clone());
        }
        let tensor = match &*self.0 {
            Term::Tensor(tensor) => tensor.clone(),
            Term::Number(number) => builder.number(*number, DType::F32)?,
            Term::Unary(op, x) => {
                let x = x.part(builder, known)?;
                builder.unary(*op, &x)?
            }
            Term::Binary(op, a, b) => match (op, a.number(), b.number()) {
                (Binary::Add, None, Some(number)) | (Binary::Add, Some(number), None) => {
                    let x = if a.number().is_none() { a } else { b }.part(builder, known)?;
                    builder.affine(&x, 1.0, number)?
                }
                (Binary::Mul, None, Some(number)) | (Binary::Mul, Some(number), None) => {
                    let x = if a.number().is_none() { a } else { b }.part(builder, known)?;
                    builder.affine(&x, number, 0.0)?
                }
                _ => {
                    let (a, b) = (a.part(builder, known)?, b.part(builder, known)?);
                    builder.binary(*op, &a, &b)?
                }
            },
            Term::Not(x) => {
                let x = x.part(builder, known)?;
                builder.not(&x)?
            }
            Term::Select(condition, yes, no) => {
                let condition = condition.part(builder, known)?;
                let (yes, no) = (yes.part(builder, known)?, no.part(builder, known)?);
                builder.broadcast(Op::Select, &[&condition, &yes, &no])?
            }
        };
        known.insert(name, tensor.clone());
        Ok(tensor)
    }
}

impl From<f64> for Formula {
    fn from(number: f64) -> Self {
        Self(Rc::new(Term::Number(number)))
    }
}

impl From<&Formula> for Formula {
    fn from(formula: &Formula) -> Self {
        formula.clone()
    }
}

impl Neg for Formula {
    type Output = Formula;

    fn neg(self) -> Formula {
        self.unary(Unary::Neg)
    }
}

/// `formula operator formula`, `formula operator number` and by reference.
macro_rules! operator {
    ($trait:ident, $method:ident, $op:expr) => {
        impl<T: Into<Formula>> $trait<T> for Formula {
            type Output = Formula;

            fn $method(self, other: T) -> Formula {
                match (self.number(), other.into()) {
                    (Some(a), b) if b.number().is_some() => f64::$method(a, b.number().unwrap_or(0.0)).into(),
                    (_, b) => self.binary($op, b),
                }
            }
        }

        impl<T: Into<Formula>> $trait<T> for &Formula {
            type Output = Formula;

            fn $method(self, other: T) -> Formula {
                self.clone().$method(other)
            }
        }

        impl $trait<Formula> for f64 {
            type Output = Formula;

            fn $method(self, other: Formula) -> Formula {
                Formula::from(self).$method(other)
            }
        }

        impl $trait<&Formula> for f64 {
            type Output = Formula;

            fn $method(self, other: &Formula) -> Formula {
                Formula::from(self).$method(other.clone())
            }
        }
    };
}
operator!(Add, add, Binary::Add);
operator!(Sub, sub, Binary::Sub);
operator!(Mul, mul, Binary::Mul);
operator!(Div, div, Binary::Div);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_built_once_and_numbers_go_into_what_they_meet() {
        let mut builder = Builder::default();
        let value = builder.graph.input("x", DType::F32, [3]);
        let x = Formula::of(&builder.plain(value));
        let square = &x * &x;
        let sum = (&square + 1.0) / (square * 2.0);
        let before = builder.graph.nodes().len();
        sum.build(&mut builder).unwrap();
        // A square, a sum, a product with a number, and the quotient.
        assert_eq!(builder.graph.nodes().len() - before, 4, "{}", builder.graph);
        assert_eq!(Formula::from(2.0).polynomial(&[3.0, 0.0, 1.0]).number(), Some(13.0));
    }
}
