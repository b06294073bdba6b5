//! Sizes and what is made of them as tensors.

use std::{collections::BTreeSet, sync::Arc};

use ondine_graph::{
    Binary, Comparison, Condition, DType, Dim, Elementary, Guard, Real, RealFunction, RealPair, Result, Rounding,
    Unary, fail,
};

use super::{Builder, Tensor};

impl Builder {
    /// A symbolic number as a rank-0 I64.
    pub(crate) fn integer(&mut self, dim: &Dim) -> Result<Tensor> {
        let range = self.range(dim, 1, &Dim::from(1))?;
        self.reshape(&range, &[])
    }

    /// A truth of sizes as a rank-0 Bool.
    pub(crate) fn truth(&mut self, condition: &Condition) -> Result<Tensor> {
        let number = self.integer(&Dim::choose(condition, &1.into(), &0.into()))?;
        self.cast(&number, DType::Bool)
    }

    /// A number made of sizes as a rank-0 F32.
    pub(crate) fn real(&mut self, real: &Real) -> Result<Tensor> {
        if let Some(known) = real.known() {
            return self.number(known, DType::F32);
        }
        match real {
            Real::Constant(_) => fail!(Format, "a constant that is not known"),
            Real::Of(dim) => {
                let number = self.integer(dim)?;
                self.cast(&number, DType::F32)
            }
            Real::Function(function, x) => {
                let rounding = match function {
                    RealFunction::Floor => Some(Rounding::Floor),
                    RealFunction::Ceil => Some(Rounding::Ceil),
                    RealFunction::Trunc => Some(Rounding::Trunc),
                    RealFunction::Round => Some(Rounding::Round),
                    _ => None,
                };
                if let Some(rounding) = rounding {
                    return self.real(&Real::Of(x.whole(rounding)));
                }
                let x = self.real(x)?;
                self.real_function(*function, &x)
            }
            Real::Pair(pair, a, b) => {
                let (a, b) = (self.real(a)?, self.real(b)?);
                let binary = match pair {
                    RealPair::Sum => Binary::Add,
                    RealPair::Difference => Binary::Sub,
                    RealPair::Product => Binary::Mul,
                    RealPair::Quotient => Binary::Div,
                    RealPair::FloorQuotient => Binary::FloorDiv,
                    RealPair::Remainder => Binary::Remainder,
                    RealPair::Power => Binary::Pow,
                    RealPair::Max => Binary::Max,
                    RealPair::Min => Binary::Min,
                };
                self.binary(binary, &a, &b)
            }
            Real::Choice(condition, yes, no) => {
                let condition = self.truth(condition)?;
                let (yes, no) = (self.real(yes)?, self.real(no)?);
                self.select(&condition, &yes, &no)
            }
        }
    }

    fn real_function(&mut self, function: RealFunction, x: &Tensor) -> Result<Tensor> {
        let elementary = match function {
            RealFunction::Negative => return self.unary(Unary::Neg, x),
            RealFunction::Absolute => return self.unary(Unary::Abs, x),
            RealFunction::Sqrt => return self.unary(Unary::Sqrt, x),
            RealFunction::Exp => return self.unary(Unary::Exp, x),
            RealFunction::Log => return self.unary(Unary::Log, x),
            RealFunction::Sin => return self.unary(Unary::Sin, x),
            RealFunction::Cos => return self.unary(Unary::Cos, x),
            RealFunction::Log2 => Elementary::Log2,
            RealFunction::Tan => Elementary::Tan,
            RealFunction::Asin => Elementary::Asin,
            RealFunction::Acos => Elementary::Acos,
            RealFunction::Atan => Elementary::Atan,
            RealFunction::Sinh => Elementary::Sinh,
            RealFunction::Cosh => Elementary::Cosh,
            RealFunction::Asinh => Elementary::Asinh,
            RealFunction::Tanh => return self.activation(ondine_graph::Activation::Tanh, x),
            RealFunction::Floor | RealFunction::Ceil | RealFunction::Trunc | RealFunction::Round => {
                fail!(Format, "a number that is rounded as another one")
            }
        };
        self.function(elementary, x)
    }

    /// The largest that a size can be, as far as anybody says.
    pub(crate) fn most(&self, size: &Dim) -> usize {
        let mut symbols = BTreeSet::new();
        size.symbols(&mut symbols);
        let limit = |symbol: &Arc<str>| self.graph.limits().get(symbol).copied().unwrap_or([0, usize::MAX]);
        let end = |end: usize| symbols.iter().map(|symbol| (symbol.clone(), limit(symbol)[end])).collect();
        size.most(&end(0), &end(1)).ok().flatten().unwrap_or(usize::MAX)
    }

    /// Refuses calls with sizes for which `a` is not at most `b`.
    pub(crate) fn at_most(&mut self, what: &str, a: &Dim, b: &Dim) {
        let condition = Condition::compare(Comparison::AtMost, &Real::Of(a.clone()), &Real::Of(b.clone()));
        self.graph.guard(Guard { condition, text: format!("{a} <= {b} ({what})").into() });
    }

    /// The integers `start`, `start + step` and so on, `count` of them, plus each of `taps` integers `apart`, in rows:
    /// `[count, taps]`.
    pub(crate) fn places(&mut self, start: &Dim, step: i64, count: &Dim, apart: i64, taps: &Dim) -> Result<Tensor> {
        let rows = self.range(start, step, count)?;
        let rows = self.reshape(&rows, &[count.clone(), 1.into()])?;
        let columns = self.range(&0.into(), apart, taps)?;
        self.binary(Binary::Add, &rows, &columns)
    }

    /// Two integers, of which one is a size, through `op`.
    pub(crate) fn with_size(&mut self, op: Binary, x: &Tensor, size: &Dim) -> Result<Tensor> {
        let size = self.integer(size)?;
        self.binary(op, x, &size)
    }

    /// `x` at rank-2 `places` along `axis`, which become two dimensions.
    pub(crate) fn take_places(&mut self, x: &Tensor, axis: usize, places: &Tensor) -> Result<Tensor> {
        let both = self.shape(places);
        let flat = self.reshape(places, &[super::elements(&both)])?;
        let taken = self.take(x, axis, &flat)?;
        let mut shape = self.shape(x);
        shape.splice(axis..=axis, both);
        self.reshape(&taken, &shape)
    }
}
