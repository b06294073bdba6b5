//! Numbers that need not be whole, made of sizes: factors of a resize, quotients, roots. They are computed as Python
//! does it, in f64 and in the order that is written down, so that what is rounded to a size is rounded as there.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Atom, Bindings, Condition, Dim};
use crate::error::Result;

/// A number made of sizes, which need not be whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Real {
    /// A number, by the bits of its f64.
    Constant(u64),
    /// A size or another integer.
    Of(Dim),
    /// A function of a number.
    Function(RealFunction, Arc<Real>),
    /// A function of two numbers.
    Pair(RealPair, Arc<Real>, Arc<Real>),
    /// The first where the condition holds, else the second.
    Choice(Arc<Condition>, Arc<Real>, Arc<Real>),
}

/// A function of a number whose result need not be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum RealFunction {
    Negative,
    Absolute,
    Floor,
    Ceil,
    Trunc,
    Round,
    Sqrt,
    Exp,
    Log,
    Log2,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
}

/// A function of two numbers whose result need not be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum RealPair {
    Sum,
    Difference,
    Product,
    Quotient,
    /// The quotient, rounded down.
    FloorQuotient,
    /// What is left of the first by multiples of the second, of the second's sign.
    Remainder,
    Power,
    Max,
    Min,
}

/// How a number is made whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// Down.
    Floor,
    /// Up.
    Ceil,
    /// Towards 0.
    Trunc,
    /// To the nearest, to the even one of two.
    Round,
}

impl Rounding {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Ceil => "ceil",
            Self::Trunc => "trunc",
            Self::Round => "round",
        }
    }

    /// The whole number, if there is one of 64 bits.
    pub(super) fn apply(self, value: f64) -> Option<i64> {
        let value = match self {
            Self::Floor => value.floor(),
            Self::Ceil => value.ceil(),
            Self::Trunc => value.trunc(),
            Self::Round => value.round_ties_even(),
        };
        // The ends of the range as floats; the upper one is no i64.
        (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value).then_some(value as i64)
    }
}

impl RealFunction {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn apply(self, x: f64) -> f64 {
        match self {
            Self::Negative => -x,
            Self::Absolute => x.abs(),
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
            Self::Trunc => x.trunc(),
            Self::Round => x.round_ties_even(),
            Self::Sqrt => x.sqrt(),
            Self::Exp => x.exp(),
            Self::Log => x.ln(),
            Self::Log2 => x.log2(),
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
            Self::Tan => x.tan(),
            Self::Asin => x.asin(),
            Self::Acos => x.acos(),
            Self::Atan => x.atan(),
            Self::Sinh => x.sinh(),
            Self::Cosh => x.cosh(),
            Self::Tanh => x.tanh(),
            Self::Asinh => x.asinh(),
        }
    }

    /// True if a larger argument never yields a smaller result.
    fn rises(self) -> bool {
        match self {
            Self::Floor | Self::Ceil | Self::Trunc | Self::Round | Self::Sqrt | Self::Exp | Self::Log | Self::Log2 => {
                true
            }
            Self::Sinh | Self::Asinh | Self::Tanh | Self::Atan => true,
            Self::Negative
            | Self::Absolute
            | Self::Sin
            | Self::Cos
            | Self::Tan
            | Self::Asin
            | Self::Acos
            | Self::Cosh => false,
        }
    }
}

impl RealPair {
    fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum => a + b,
            Self::Difference => a - b,
            Self::Product => a * b,
            // Python divides by no zero.
            Self::Quotient | Self::FloorQuotient | Self::Remainder if b == 0.0 => f64::NAN,
            Self::Quotient => a / b,
            Self::FloorQuotient => ((a - self.remainder(a, b)) / b).round(),
            Self::Remainder => self.remainder(a, b),
            Self::Power => a.powf(b),
            Self::Max => a.max(b),
            Self::Min => a.min(b),
        }
    }

    fn remainder(self, a: f64, b: f64) -> f64 {
        let rest = a % b;
        if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Sum => "+",
            Self::Difference => "-",
            Self::Product => "*",
            Self::Quotient => "/",
            Self::FloorQuotient => "//",
            Self::Remainder => "%",
            Self::Power => "**",
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

/// The most that a size is taken to be where floats are exact: a factor of few bits times it needs no rounding.
const EXACT_BITS: u32 = 20;

impl Real {
    /// A number known now.
    #[must_use]
    pub fn constant(value: f64) -> Self {
        Self::Constant(value.to_bits())
    }

    /// The number, if it is the same for every call.
    #[must_use]
    pub fn known(&self) -> Option<f64> {
        match self {
            Self::Constant(bits) => Some(f64::from_bits(*bits)),
            Self::Of(dim) => dim.constant().map(|value| value as f64),
            Self::Function(..) | Self::Pair(..) | Self::Choice(..) => None,
        }
    }

    /// A function of the number.
    #[must_use]
    pub fn function(&self, function: RealFunction) -> Self {
        match self.known() {
            Some(value) => Self::constant(function.apply(value)),
            None => Self::Function(function, Arc::new(self.clone())),
        }
    }

    /// A function of the number and another.
    #[must_use]
    pub fn pair(&self, pair: RealPair, other: &Self) -> Self {
        match (self.known(), other.known()) {
            (Some(a), Some(b)) => Self::constant(pair.apply(a, b)),
            _ => Self::Pair(pair, Arc::new(self.clone()), Arc::new(other.clone())),
        }
    }

    /// The number where `condition` holds, else another.
    #[must_use]
    pub fn choose(condition: &Condition, yes: &Self, no: &Self) -> Self {
        match condition {
            Condition::Known(true) => yes.clone(),
            Condition::Known(false) => no.clone(),
            _ => Self::Choice(Arc::new(condition.clone()), Arc::new(yes.clone()), Arc::new(no.clone())),
        }
    }

    /// The number made whole: a quotient of integers or a multiple by few bits becomes a quotient rounded down, which
    /// is equal to those of convolutions and pools.
    #[must_use]
    pub fn whole(&self, rounding: Rounding) -> Dim {
        if let Some(value) = self.known().and_then(|value| rounding.apply(value)) {
            return Dim::from_i64(value);
        }
        if let Self::Of(dim) = self {
            return dim.clone();
        }
        if let Some(dim) = self.ratio().and_then(|(above, below)| rounded(&above, &below, rounding)) {
            return dim;
        }
        Dim::atom(Atom::Whole(rounding, Arc::new(self.clone())))
    }

    /// The integers that the number is the quotient of, where floats compute it exactly enough to be rounded.
    fn ratio(&self) -> Option<(Dim, Dim)> {
        match self {
            Self::Of(dim) => Some((dim.clone(), Dim::from(1))),
            Self::Pair(RealPair::Quotient, a, b) => match (&**a, &**b) {
                (Self::Of(a), Self::Of(b)) => Some((a.clone(), b.clone())),
                (Self::Of(a), b) => {
                    let [above, below] = fraction(b.known()?)?;
                    (above > 0).then(|| (a * &Dim::from_i64(below), Dim::from_i64(above)))
                }
                _ => None,
            },
            Self::Pair(RealPair::Product, a, b) => match (&**a, &**b) {
                (Self::Of(dim), factor) | (factor, Self::Of(dim)) => {
                    let [above, below] = fraction(factor.known()?)?;
                    Some((dim * &Dim::from_i64(above), Dim::from_i64(below)))
                }
                _ => None,
            },
            Self::Constant(_) | Self::Function(..) | Self::Pair(..) | Self::Choice(..) => None,
        }
    }

    /// The value under `bindings`; none if Python would not have one, or an infinite one.
    ///
    /// # Errors
    /// If a symbol is not bound.
    pub fn evaluate(&self, bindings: &Bindings) -> Result<Option<f64>> {
        let value = match self {
            Self::Constant(bits) => Some(f64::from_bits(*bits)),
            Self::Of(dim) => dim.evaluate(bindings)?.map(|value| value as f64),
            Self::Function(function, x) => x.evaluate(bindings)?.map(|x| function.apply(x)),
            Self::Pair(pair, a, b) => match (a.evaluate(bindings)?, b.evaluate(bindings)?) {
                (Some(a), Some(b)) => Some(pair.apply(a, b)),
                _ => None,
            },
            Self::Choice(condition, yes, no) => match condition.evaluate(bindings)? {
                Some(true) => yes.evaluate(bindings)?,
                Some(false) => no.evaluate(bindings)?,
                None => None,
            },
        };
        // Constants may be infinite, as limits are.
        Ok(value.filter(|value| value.is_finite() || matches!(self, Self::Constant(_)) && !value.is_nan()))
    }

    /// The smallest and the largest value for symbols between `least` and `most`; none where nothing is known.
    pub(super) fn bounds(&self, least: &Bindings, most: &Bindings) -> Result<Option<[f64; 2]>> {
        let bounds = match self {
            Self::Constant(bits) => Some([f64::from_bits(*bits); 2]),
            Self::Of(dim) => dim.bounds(least, most)?.map(|bounds| bounds.map(|value| value as f64)),
            Self::Function(function, x) if function.rises() => {
                x.bounds(least, most)?.map(|bounds| bounds.map(|x| function.apply(x)))
            }
            Self::Function(..) => None,
            Self::Pair(pair, a, b) => match (a.bounds(least, most)?, b.bounds(least, most)?) {
                (Some(a), Some(b)) => {
                    let corners =
                        [[a[0], b[0]], [a[0], b[1]], [a[1], b[0]], [a[1], b[1]]].map(|[a, b]| pair.apply(a, b));
                    let ends = corners
                        .iter()
                        .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], &x| [low.min(x), high.max(x)]);
                    match pair {
                        RealPair::Sum | RealPair::Difference | RealPair::Product | RealPair::Max | RealPair::Min => {
                            Some(ends)
                        }
                        RealPair::Quotient if b[0] > 0.0 => Some(ends),
                        RealPair::Quotient | RealPair::FloorQuotient | RealPair::Remainder | RealPair::Power => None,
                    }
                }
                _ => None,
            },
            Self::Choice(_, yes, no) => match (yes.bounds(least, most)?, no.bounds(least, most)?) {
                (Some(yes), Some(no)) => Some([yes[0].min(no[0]), yes[1].max(no[1])]),
                _ => None,
            },
        };
        Ok(bounds.filter(|bounds| bounds.iter().all(|end| end.is_finite())))
    }

    /// True if the number is 0 or more for all sizes.
    pub(super) fn is_counting(&self) -> bool {
        match self {
            Self::Constant(bits) => f64::from_bits(*bits) >= 0.0,
            Self::Of(dim) => dim.is_counting(),
            Self::Function(RealFunction::Sqrt | RealFunction::Absolute | RealFunction::Exp, _) => true,
            Self::Function(RealFunction::Floor | RealFunction::Ceil | RealFunction::Trunc | RealFunction::Round, x) => {
                x.is_counting()
            }
            Self::Function(..) | Self::Choice(..) => false,
            Self::Pair(RealPair::Sum | RealPair::Product | RealPair::Quotient, a, b) => {
                a.is_counting() && b.is_counting()
            }
            Self::Pair(RealPair::Max, a, b) => a.is_counting() || b.is_counting(),
            Self::Pair(..) => false,
        }
    }

    /// Adds every symbol of the number to `names`.
    pub fn symbols(&self, names: &mut BTreeSet<Arc<str>>) {
        match self {
            Self::Constant(_) => {}
            Self::Of(dim) => dim.symbols(names),
            Self::Function(_, x) => x.symbols(names),
            Self::Pair(_, a, b) => [a, b].into_iter().for_each(|real| real.symbols(names)),
            Self::Choice(condition, yes, no) => {
                condition.symbols(names);
                [yes, no].into_iter().for_each(|real| real.symbols(names));
            }
        }
    }

    pub(super) fn fits(&self, budget: &mut usize, depth: usize) -> bool {
        let (Some(rest), Some(depth)) = (budget.checked_sub(1), depth.checked_sub(1)) else { return false };
        *budget = rest;
        match self {
            Self::Constant(_) => true,
            Self::Of(dim) => dim.fits(budget, depth),
            Self::Function(_, x) => x.fits(budget, depth),
            Self::Pair(_, a, b) => a.fits(budget, depth) && b.fits(budget, depth),
            Self::Choice(condition, yes, no) => {
                condition.fits(budget, depth) && yes.fits(budget, depth) && no.fits(budget, depth)
            }
        }
    }
}

/// The number as a quotient of integers, if few bits hold it.
fn fraction(value: f64) -> Option<[i64; 2]> {
    let below = 2_i64.pow(EXACT_BITS);
    let above = value * below as f64;
    if above.fract() != 0.0 || above.abs() >= below as f64 * below as f64 {
        return None;
    }
    let (mut above, mut below) = (above as i64, below);
    while above % 2 == 0 && below > 1 {
        (above, below) = (above / 2, below / 2);
    }
    // More bits could need a rounding of the product.
    (above.unsigned_abs() < 1 << EXACT_BITS).then_some([above, below])
}

/// `above / below` made whole by integers, where that is a quotient rounded down.
fn rounded(above: &Dim, below: &Dim, rounding: Rounding) -> Option<Dim> {
    let divides = below.constant().map_or_else(|| below.is_counting(), |below| below > 0);
    if !divides {
        return None;
    }
    match rounding {
        Rounding::Floor => Some(above.pair(super::DimPair::Quotient, below)),
        Rounding::Trunc if above.is_counting() => Some(above.pair(super::DimPair::Quotient, below)),
        Rounding::Ceil => Some((&(above + below) - 1).pair(super::DimPair::Quotient, below)),
        Rounding::Trunc | Rounding::Round => None,
    }
}

impl fmt::Display for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Self::Of(dim) => write!(f, "{dim}"),
            Self::Function(function, x) => write!(f, "{}({x})", function.name()),
            Self::Pair(pair @ (RealPair::Max | RealPair::Min), a, b) => write!(f, "{}({a}, {b})", pair.sign()),
            Self::Pair(pair, a, b) => write!(f, "({a}){}({b})", pair.sign()),
            Self::Choice(condition, yes, no) => write!(f, "({yes} if {condition} else {no})"),
        }
    }
}
