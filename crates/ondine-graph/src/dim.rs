//! Symbolic dimensions: sizes that are known only when a function is called.
//!
//! A [`Dim`] is a polynomial with integer coefficients over atoms; an atom is a symbol, the floor of a polynomial
//! divided by a constant (what a strided convolution makes of a height), another function of two dimensions, a number
//! that is not whole made so (what a factor of a resize makes of it), or one of two by a condition. The rules that make
//! them keep to forms in which sizes that are computed in usual ways and are equal also compare equal; where they do
//! not, the sizes of a call tell.

mod atom;
mod condition;
mod real;
mod stored;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::error::{Result, fail};
use atom::Atom;
pub use atom::DimPair;
pub use condition::{Comparison, Condition};
pub use real::{Real, RealFunction, RealPair, Rounding};
use stored::Stored;

/// Values of the symbols of a function.
pub type Bindings = BTreeMap<Arc<str>, usize>;

/// Products of more terms than this stay products.
const MAX_TERMS: usize = 1024;

/// Expressions of sizes have no more parts than this, and nest no deeper, so that walking them takes little time and
/// stack.
const MAX_PARTS: usize = 4096;
const MAX_DEPTH: usize = 64;

/// The largest power that is written out.
const MAX_POWER: i64 = 16;

/// One dimension of a shape.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub struct Dim {
    /// Terms with non-zero coefficients, sorted by monomial; the empty monomial is the constant term.
    terms: Vec<Term>,
}

/// A product of atoms, in order, and its coefficient.
type Term = (Vec<Atom>, i64);

impl Dim {
    /// A dimension that each call binds, such as `height`.
    #[must_use]
    pub fn symbol(name: &str) -> Self {
        Self::atom(Atom::Symbol(name.into()))
    }

    fn atom(atom: Atom) -> Self {
        Self { terms: vec![(vec![atom], 1)] }
    }

    /// The size, if it is the same for every call.
    #[must_use]
    pub fn fixed(&self) -> Option<usize> {
        self.constant().and_then(|value| usize::try_from(value).ok())
    }

    /// The number, if it is the same for every call; unlike a size it may be negative.
    #[must_use]
    pub fn constant(&self) -> Option<i64> {
        match self.terms.as_slice() {
            [] => Some(0),
            [(monomial, value)] if monomial.is_empty() => Some(*value),
            _ => None,
        }
    }

    /// `self` and `other` through `pair`; at once if both are known.
    #[must_use]
    pub fn pair(&self, pair: DimPair, other: &Self) -> Self {
        if let (Some(a), Some(b)) = (self.constant(), other.constant())
            && let Some(value) = pair.apply(a, b)
        {
            return Self::from_i64(value);
        }
        match (pair, other.constant()) {
            (DimPair::Quotient, Some(divisor @ 1..)) => self.quotient(divisor),
            (DimPair::Quotient, Some(divisor @ ..=-1)) if divisor > i64::MIN => {
                (&Self::from(0) - self).quotient(-divisor)
            }
            // Whatever divides itself is not 0, or has no quotient.
            (DimPair::Quotient, _) if self == other && !self.terms.is_empty() => Self::from(1),
            (DimPair::Sum, _) => self + other,
            (DimPair::Product, _) => self * other,
            (DimPair::Power, Some(exponent @ 0..=MAX_POWER)) => {
                (0..exponent).fold(Self::from(1), |power, _| &power * self)
            }
            (DimPair::Max, _) if (self - other).is_counting() => self.clone(),
            (DimPair::Max, _) if (other - self).is_counting() => other.clone(),
            (DimPair::Min, _) if (self - other).is_counting() => other.clone(),
            (DimPair::Min, _) if (other - self).is_counting() => self.clone(),
            (DimPair::Max | DimPair::Min, _) if other < self => Self::unevaluated(pair, other, self),
            _ => Self::unevaluated(pair, self, other),
        }
    }

    fn unevaluated(pair: DimPair, a: &Self, b: &Self) -> Self {
        Self::atom(Atom::Pair(pair, Arc::new(a.clone()), Arc::new(b.clone())))
    }

    /// `yes` where `condition` holds, else `no`.
    #[must_use]
    pub fn choose(condition: &Condition, yes: &Self, no: &Self) -> Self {
        match condition {
            Condition::Known(true) => yes.clone(),
            Condition::Known(false) => no.clone(),
            _ if yes == no => yes.clone(),
            _ => Self::atom(Atom::Choice(Arc::new(condition.clone()), Arc::new(yes.clone()), Arc::new(no.clone()))),
        }
    }

    /// A known number, which unlike a size may be negative.
    #[must_use]
    pub fn from_i64(value: i64) -> Self {
        Self { terms: if value == 0 { Vec::new() } else { vec![(Vec::new(), value)] } }
    }

    /// The sum of terms; none if a coefficient is too large.
    fn collect(terms: impl IntoIterator<Item = Option<Term>>) -> Option<Self> {
        let mut sums = BTreeMap::<Vec<Atom>, i64>::new();
        for term in terms {
            let (monomial, coefficient) = term?;
            let sum = sums.entry(monomial).or_default();
            *sum = sum.checked_add(coefficient)?;
        }
        Some(Self { terms: sums.into_iter().filter(|&(_, coefficient)| coefficient != 0).collect() })
    }

    fn sum(&self, other: &Self, sign: i64) -> Self {
        let signed = other.terms.iter().map(|(monomial, c)| Some((monomial.clone(), sign.checked_mul(*c)?)));
        let sum = Self::collect(self.terms.iter().cloned().map(Some).chain(signed));
        let unwritten = || Self::unevaluated(DimPair::Sum, self, &other.product(&Self::from_i64(sign)));
        sum.unwrap_or_else(unwritten)
    }

    fn product(&self, other: &Self) -> Self {
        if self.terms.len().saturating_mul(other.terms.len()) > MAX_TERMS {
            return Self::unevaluated(DimPair::Product, self, other);
        }
        let pairs = self.terms.iter().flat_map(|left| other.terms.iter().map(move |right| (left, right)));
        let product = Self::collect(pairs.map(|((a, x), (b, y))| {
            let mut monomial: Vec<_> = a.iter().chain(b).cloned().collect();
            monomial.sort();
            Some((monomial, x.checked_mul(*y)?))
        }));
        product.unwrap_or_else(|| Self::unevaluated(DimPair::Product, self, other))
    }

    /// `floor(self / divisor)`; terms whose coefficients divide leave the floor, and a floor within joins it.
    ///
    /// # Panics
    /// If `divisor` is 0.
    #[must_use]
    pub fn floor_div(&self, divisor: usize) -> Self {
        assert!(divisor > 0, "division of a dimension by zero");
        self.quotient(i64::try_from(divisor).unwrap_or(i64::MAX))
    }

    /// As [`Dim::floor_div`], by a positive number.
    fn quotient(&self, divisor: i64) -> Self {
        let divisor_dim = || Self::from_i64(divisor);
        self.divided(divisor, true).unwrap_or_else(|| Self::unevaluated(DimPair::Quotient, self, &divisor_dim()))
    }

    /// The quotient rounded down, unless numbers become too large; `turns` if it may be written as minus another one.
    fn divided(&self, divisor: i64, turns: bool) -> Option<Self> {
        let whole = self.terms.iter().map(|(monomial, c)| Some((monomial.clone(), c.div_euclid(divisor))));
        let rest = self.terms.iter().map(|(monomial, c)| Some((monomial.clone(), c.rem_euclid(divisor))));
        let (whole, mut rest) = (Self::collect(whole)?, Self::collect(rest)?);
        let Some(leading) = rest.terms.iter().find(|(monomial, _)| !monomial.is_empty()).cloned() else {
            return Some(whole);
        };
        // What all but the constant share with the divisor is of no account to the quotient.
        let varying = rest.terms.iter().filter(|(monomial, _)| !monomial.is_empty());
        let shared = varying.fold(divisor, |shared, (_, coefficient)| greatest_divisor(shared, *coefficient));
        let divisor = divisor / shared;
        rest.terms.iter_mut().for_each(|(_, coefficient)| *coefficient = coefficient.div_euclid(shared));
        rest.terms.retain(|(_, coefficient)| *coefficient != 0);
        if divisor == 1 {
            return whole.checked_sum(&rest);
        }
        // floor((floor(p/m) + q) / n) is floor((p + m*q) / (m*n)).
        let inner = rest.terms.iter().enumerate().find_map(|(position, term)| match term {
            (monomial, 1) => match monomial.as_slice() {
                [Atom::FloorDiv(inner, by)] => Some((position, inner.clone(), *by)),
                _ => None,
            },
            _ => None,
        });
        if let Some((position, inner, by)) = inner
            && let Some(product) = by.checked_mul(divisor)
        {
            rest.terms.remove(position);
            let scaled = rest.terms.into_iter().map(|(monomial, c)| Some((monomial, c.checked_mul(by)?)));
            let joined = Self::collect(inner.terms.iter().cloned().map(Some).chain(scaled))?;
            return whole.checked_sum(&joined.divided(product, true)?);
        }
        // Of floor(p/n) and -floor((n-1-p)/n), which are equal, the one that begins with fewer.
        let negative = self.terms.iter().any(|(monomial, c)| *monomial == leading.0 && *c < 0);
        let half = leading.1.div_euclid(shared).checked_mul(2)?.cmp(&divisor);
        if turns && (half.is_gt() || half.is_eq() && negative) {
            let opposite = rest.terms.iter().map(|(monomial, c)| Some((monomial.clone(), -c)));
            let opposite = Self::collect(opposite.chain([Some((Vec::new(), divisor - 1))]))?;
            let turned = opposite.divided(divisor, false)?;
            return whole.checked_sum(&Self { terms: turned.negated()? });
        }
        whole.checked_sum(&Self::atom(Atom::FloorDiv(Arc::new(rest), divisor)))
    }

    fn checked_sum(&self, other: &Self) -> Option<Self> {
        Self::collect(self.terms.iter().chain(&other.terms).cloned().map(Some))
    }

    fn negated(&self) -> Option<Vec<Term>> {
        self.terms.iter().map(|(monomial, c)| Some((monomial.clone(), c.checked_neg()?))).collect()
    }

    /// The number under `bindings`, which unlike a size may be negative.
    ///
    /// # Errors
    /// If a symbol is not bound, or there is no such number: it is too large, or divided by 0.
    pub fn number(&self, bindings: &Bindings) -> Result<i64> {
        match self.evaluate(bindings)? {
            Some(value) => Ok(value),
            None => fail!(Shape, "dimension {self} is too large, or divided by 0"),
        }
    }

    /// The size under `bindings`.
    ///
    /// # Errors
    /// If a symbol is not bound, or the size is negative, too large, or divided by 0.
    pub fn bind(&self, bindings: &Bindings) -> Result<usize> {
        match self.number(bindings)? {
            value if value >= 0 => Ok(usize::try_from(value).unwrap_or(usize::MAX)),
            value => fail!(Shape, "dimension {self} comes out as {value}"),
        }
    }

    fn evaluate(&self, bindings: &Bindings) -> Result<Option<i64>> {
        let mut total = 0_i64;
        for (monomial, coefficient) in &self.terms {
            let mut product = *coefficient;
            for atom in monomial {
                let value = atom.evaluate(bindings)?;
                let Some(next) = value.and_then(|value| product.checked_mul(value)) else { return Ok(None) };
                product = next;
            }
            let Some(next) = total.checked_add(product) else { return Ok(None) };
            total = next;
        }
        Ok(Some(total))
    }

    /// The largest size for symbols between `least` and `most`, which both hold all of them; none if nothing says.
    ///
    /// # Errors
    /// If a symbol is not bound.
    pub fn most(&self, least: &Bindings, most: &Bindings) -> Result<Option<usize>> {
        let bounds = self.bounds(least, most)?;
        Ok(bounds.map(|[_, value]| usize::try_from(value.max(0)).unwrap_or(usize::MAX)))
    }

    /// The smallest and the largest value for symbols between `least` and `most`; none where nothing is known.
    fn bounds(&self, least: &Bindings, most: &Bindings) -> Result<Option<[i64; 2]>> {
        let mut total = [0_i64; 2];
        for (monomial, coefficient) in &self.terms {
            let mut product = [*coefficient; 2];
            for atom in monomial {
                let Some([low, high]) = atom.bounds(least, most)? else { return Ok(None) };
                let ends = [product[0].checked_mul(low), product[0].checked_mul(high)];
                let more = [product[1].checked_mul(low), product[1].checked_mul(high)];
                let [Some(a), Some(b)] = ends else { return Ok(None) };
                let [Some(c), Some(d)] = more else { return Ok(None) };
                product = [a.min(b).min(c).min(d), a.max(b).max(c).max(d)];
            }
            let sums = [total[0].checked_add(product[0]), total[1].checked_add(product[1])];
            let [Some(low), Some(high)] = sums else { return Ok(None) };
            total = [low, high];
        }
        Ok(Some(total))
    }

    /// True if the value is 0 or more for all sizes, as far as that can be seen.
    fn is_counting(&self) -> bool {
        self.terms.iter().all(|(monomial, coefficient)| *coefficient > 0 && monomial.iter().all(Atom::is_counting))
    }

    /// False if the two differ for every call.
    #[must_use]
    pub fn may_equal(&self, other: &Self) -> bool {
        self == other || (self - other).constant().is_none_or(|difference| difference == 0)
    }

    /// The symbol and its value if the dimension is to come out as `size`, for dimensions that are a symbol or a
    /// multiple of one.
    ///
    /// # Errors
    /// If `size` is not such a multiple.
    pub fn solve(&self, size: usize) -> Result<Option<(&Arc<str>, usize)>> {
        let [(monomial, factor @ 1..)] = self.terms.as_slice() else { return Ok(None) };
        let [Atom::Symbol(name)] = monomial.as_slice() else { return Ok(None) };
        let factor = usize::try_from(*factor).unwrap_or(usize::MAX);
        if !size.is_multiple_of(factor) {
            fail!(Shape, "a dimension of size {size} must be a multiple of {factor}");
        }
        Ok(Some((name, size / factor)))
    }

    /// True if the expression is small enough to be walked through again and again.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.fits(&mut MAX_PARTS.clone(), MAX_DEPTH)
    }

    /// Takes the parts of the expression off `budget`; false once that is spent, or `depth` is.
    fn fits(&self, budget: &mut usize, depth: usize) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return false };
        self.terms.iter().all(|(monomial, _)| {
            let parts = budget.checked_sub(1 + monomial.len());
            *budget = parts.unwrap_or(0);
            parts.is_some() && monomial.iter().all(|atom| atom.fits(budget, depth))
        })
    }

    /// Adds every symbol of the dimension to `names`.
    pub fn symbols(&self, names: &mut BTreeSet<Arc<str>>) {
        self.terms.iter().flat_map(|(monomial, _)| monomial).for_each(|atom| atom.symbols(names));
    }
}

/// The greatest number that divides both, of which neither is negative.
fn greatest_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

impl From<usize> for Dim {
    fn from(size: usize) -> Self {
        Self::from_i64(i64::try_from(size).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Dim {
    fn from(name: &str) -> Self {
        Self::symbol(name)
    }
}

impl From<&Dim> for Dim {
    fn from(dim: &Dim) -> Self {
        dim.clone()
    }
}

impl<R: Into<Dim>> std::ops::Add<R> for &Dim {
    type Output = Dim;
    fn add(self, other: R) -> Dim {
        self.sum(&other.into(), 1)
    }
}

impl<R: Into<Dim>> std::ops::Sub<R> for &Dim {
    type Output = Dim;
    fn sub(self, other: R) -> Dim {
        self.sum(&other.into(), -1)
    }
}

impl<R: Into<Dim>> std::ops::Mul<R> for &Dim {
    type Output = Dim;
    fn mul(self, other: R) -> Dim {
        self.product(&other.into())
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // The constant sorts first; people expect it last.
        let ordered = self.terms.iter().filter(|t| !t.0.is_empty()).chain(self.terms.iter().filter(|t| t.0.is_empty()));
        for (i, (monomial, coefficient)) in ordered.enumerate() {
            match (i, *coefficient < 0) {
                (0, false) => {}
                (0, true) | (_, true) => f.write_str("-")?,
                (_, false) => f.write_str("+")?,
            }
            let size = coefficient.unsigned_abs();
            if monomial.is_empty() {
                write!(f, "{size}")?;
            } else if size != 1 {
                write!(f, "{size}*")?;
            }
            for (j, atom) in monomial.iter().enumerate() {
                write!(f, "{}{atom}", if j == 0 { "" } else { "*" })?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
