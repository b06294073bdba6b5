//! What polynomials of sizes are made of.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Bindings, Condition, Dim, Real, Rounding};
use crate::error::{Result, fail};

/// A factor of a term.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Atom {
    Symbol(Arc<str>),
    FloorDiv(Arc<Dim>, i64),
    Pair(DimPair, Arc<Dim>, Arc<Dim>),
    /// A number that is not whole, made so.
    Whole(Rounding, Arc<Real>),
    /// The first where the condition holds, else the second.
    Choice(Arc<Condition>, Arc<Dim>, Arc<Dim>),
}

/// A function of two dimensions that is no polynomial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DimPair {
    /// The larger.
    Max,
    /// The smaller.
    Min,
    /// The quotient, rounded down.
    Quotient,
    /// The product, where its terms are too many or too large to be written out.
    Product,
    /// The sum, where a coefficient would be too large to be written down.
    Sum,
    /// The first to the power of the second.
    Power,
}

impl DimPair {
    /// The number, unless it is too large or divided by 0.
    pub(super) fn apply(self, a: i64, b: i64) -> Option<i64> {
        match self {
            Self::Max => Some(a.max(b)),
            Self::Min => Some(a.min(b)),
            Self::Quotient => floor_quotient(a, b),
            Self::Product => a.checked_mul(b),
            Self::Sum => a.checked_add(b),
            Self::Power => a.checked_pow(u32::try_from(b).ok()?),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
            Self::Quotient => "quotient",
            Self::Product => "product",
            Self::Sum => "sum",
            Self::Power => "power",
        }
    }
}

/// The quotient rounded down, whatever the signs.
fn floor_quotient(a: i64, b: i64) -> Option<i64> {
    let (quotient, remainder) = (a.checked_div(b)?, a.checked_rem(b)?);
    if remainder != 0 && (remainder < 0) != (b < 0) { quotient.checked_sub(1) } else { Some(quotient) }
}

impl Atom {
    pub(super) fn evaluate(&self, bindings: &Bindings) -> Result<Option<i64>> {
        Ok(match self {
            Self::Symbol(name) => match bindings.get(name) {
                Some(&size) => i64::try_from(size).ok(),
                None => fail!(Shape, "dimension `{name}` has no value"),
            },
            Self::FloorDiv(inner, divisor) => inner.evaluate(bindings)?.map(|value| value.div_euclid(*divisor)),
            Self::Pair(pair, a, b) => match (a.evaluate(bindings)?, b.evaluate(bindings)?) {
                (Some(a), Some(b)) => pair.apply(a, b),
                _ => None,
            },
            Self::Whole(rounding, real) => real.evaluate(bindings)?.and_then(|value| rounding.apply(value)),
            Self::Choice(condition, yes, no) => match condition.evaluate(bindings)? {
                Some(true) => yes.evaluate(bindings)?,
                Some(false) => no.evaluate(bindings)?,
                None => None,
            },
        })
    }

    /// The smallest and the largest value for symbols between `least` and `most`; none where nothing is known.
    pub(super) fn bounds(&self, least: &Bindings, most: &Bindings) -> Result<Option<[i64; 2]>> {
        Ok(match self {
            Self::Symbol(name) => match (least.get(name), most.get(name)) {
                (Some(&least), Some(&most)) => {
                    i64::try_from(least).ok().zip(i64::try_from(most).ok()).map(<[i64; 2]>::from)
                }
                _ => fail!(Shape, "dimension `{name}` has no value"),
            },
            Self::FloorDiv(inner, divisor) => {
                inner.bounds(least, most)?.map(|bounds| bounds.map(|value| value.div_euclid(*divisor)))
            }
            Self::Pair(pair, a, b) => match (a.bounds(least, most)?, b.bounds(least, most)?) {
                (Some(a), Some(b)) => pair.bounds(a, b),
                _ => None,
            },
            Self::Whole(rounding, real) => match real.bounds(least, most)? {
                Some([low, high]) => rounding.apply(low).zip(rounding.apply(high)).map(<[i64; 2]>::from),
                None => None,
            },
            Self::Choice(_, yes, no) => match (yes.bounds(least, most)?, no.bounds(least, most)?) {
                (Some(yes), Some(no)) => Some([yes[0].min(no[0]), yes[1].max(no[1])]),
                _ => None,
            },
        })
    }

    /// True if the value is 0 or more for all sizes.
    pub(super) fn is_counting(&self) -> bool {
        match self {
            Self::Symbol(_) => true,
            Self::FloorDiv(inner, _) => inner.is_counting(),
            Self::Pair(DimPair::Max, a, b) => a.is_counting() || b.is_counting(),
            Self::Pair(DimPair::Min | DimPair::Quotient | DimPair::Product | DimPair::Sum, a, b) => {
                a.is_counting() && b.is_counting()
            }
            Self::Pair(DimPair::Power, a, _) => a.is_counting(),
            Self::Whole(_, real) => real.is_counting(),
            Self::Choice(_, yes, no) => yes.is_counting() && no.is_counting(),
        }
    }

    /// True if the arithmetic of dimensions yields the atom as it is.
    pub(super) fn is_canonical(&self) -> bool {
        let single = |dim: &Dim| matches!(dim.terms.as_slice(), [(monomial, 1)] if monomial[..] == [self.clone()]);
        match self {
            Self::Symbol(_) => true,
            Self::FloorDiv(inner, divisor) => {
                usize::try_from(*divisor).is_ok_and(|divisor| divisor > 0 && single(&inner.floor_div(divisor)))
            }
            // They stand where numbers or terms were too many.
            Self::Pair(DimPair::Product | DimPair::Sum, ..) => true,
            Self::Pair(pair, a, b) => single(&a.pair(*pair, b)),
            Self::Whole(rounding, real) => single(&real.whole(*rounding)),
            Self::Choice(condition, yes, no) => single(&Dim::choose(condition, yes, no)),
        }
    }

    pub(super) fn symbols(&self, names: &mut BTreeSet<Arc<str>>) {
        match self {
            Self::Symbol(name) => {
                names.insert(name.clone());
            }
            Self::FloorDiv(inner, _) => inner.symbols(names),
            Self::Pair(_, a, b) => [a, b].into_iter().for_each(|dim| dim.symbols(names)),
            Self::Whole(_, real) => real.symbols(names),
            Self::Choice(condition, yes, no) => {
                condition.symbols(names);
                [yes, no].into_iter().for_each(|dim| dim.symbols(names));
            }
        }
    }

    /// Takes what the atom holds off `budget`; false once that is spent, or `depth` is.
    pub(super) fn fits(&self, budget: &mut usize, depth: usize) -> bool {
        match self {
            Self::Symbol(_) => true,
            Self::FloorDiv(inner, _) => inner.fits(budget, depth),
            Self::Pair(_, a, b) => a.fits(budget, depth) && b.fits(budget, depth),
            Self::Whole(_, real) => real.fits(budget, depth),
            Self::Choice(condition, yes, no) => {
                condition.fits(budget, depth) && yes.fits(budget, depth) && no.fits(budget, depth)
            }
        }
    }
}

impl DimPair {
    fn bounds(self, a: [i64; 2], b: [i64; 2]) -> Option<[i64; 2]> {
        let corners = |b: [i64; 2]| {
            let all =
                [self.apply(a[0], b[0])?, self.apply(a[0], b[1])?, self.apply(a[1], b[0])?, self.apply(a[1], b[1])?];
            Some([all.into_iter().min()?, all.into_iter().max()?])
        };
        match self {
            Self::Max | Self::Min | Self::Sum | Self::Product => corners(b),
            // Nothing is divided by a size that may be zero or less.
            Self::Quotient if b[0] > 0 => corners(b),
            Self::Power if a[0] >= 1 && b[0] >= 0 => corners(b),
            Self::Quotient | Self::Power => None,
        }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(name) => f.write_str(name),
            Self::FloorDiv(inner, divisor) => write!(f, "floor(({inner})/{divisor})"),
            Self::Pair(pair, a, b) => write!(f, "{}({a}, {b})", pair.name()),
            Self::Whole(rounding, real) => write!(f, "{}({real})", rounding.name()),
            Self::Choice(condition, yes, no) => write!(f, "({yes} if {condition} else {no})"),
        }
    }
}
