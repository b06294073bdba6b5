//! Symbolic dimensions: sizes that are known only when a function is called.
//!
//! A [`Dim`] is a polynomial with integer coefficients over atoms; an atom is a symbol or the floor of a
//! polynomial divided by a constant (what a strided convolution makes of a height). The form is canonical, so two
//! dimensions that are equal for every binding by these rules also compare equal.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::error::{Result, fail};

/// Values of the symbols of a function.
pub type Bindings = BTreeMap<Arc<str>, usize>;

/// Products of more terms than this stay products.
const MAX_TERMS: usize = 1024;

/// One dimension of a shape.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub struct Dim {
    /// Terms with non-zero coefficients, sorted by monomial; the empty monomial is the constant term.
    terms: Vec<(Vec<Atom>, i64)>,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Atom {
    Symbol(Arc<str>),
    FloorDiv(Arc<Dim>, i64),
    Pair(DimPair, Arc<Dim>, Arc<Dim>),
}

impl Atom {
    /// The smallest and the largest value for symbols between `least` and `most`.
    fn bounds(&self, least: &Bindings, most: &Bindings) -> Result<[Option<i64>; 2]> {
        let both = |bounds: Option<[i64; 2]>| bounds.map_or([None; 2], |bounds| bounds.map(Some));
        Ok(match self {
            Self::Symbol(name) => match (least.get(name), most.get(name)) {
                (Some(&least), Some(&most)) => [i64::try_from(least).ok(), i64::try_from(most).ok()],
                _ => fail!(Shape, "dimension `{name}` has no value"),
            },
            Self::FloorDiv(inner, divisor) => {
                both(inner.bounds(least, most)?.map(|bounds| bounds.map(|value| value.div_euclid(*divisor))))
            }
            Self::Pair(pair, a, b) => match (a.bounds(least, most)?, b.bounds(least, most)?) {
                (Some(a), Some(b)) if *pair != DimPair::Quotient => [pair.apply(a[0], b[0]), pair.apply(a[1], b[1])],
                // Nothing is divided by a size that may be zero or less.
                (Some(a), Some(b)) if a[0] >= 0 && b[0] > 0 => [pair.apply(a[0], b[1]), pair.apply(a[1], b[0])],
                _ => [None; 2],
            },
        })
    }
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
    /// The product, where its terms are too many to be written out.
    Product,
}

impl DimPair {
    fn apply(self, a: i64, b: i64) -> Option<i64> {
        match self {
            Self::Max => Some(a.max(b)),
            Self::Min => Some(a.min(b)),
            Self::Quotient => a.checked_div_euclid(b),
            Self::Product => a.checked_mul(b),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
            Self::Quotient => "quotient",
            Self::Product => "product",
        }
    }
}

impl Dim {
    /// A dimension that each call binds, such as `height`.
    #[must_use]
    pub fn symbol(name: &str) -> Self {
        Self { terms: vec![(vec![Atom::Symbol(name.into())], 1)] }
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
        match (pair, other.constant().and_then(|divisor| usize::try_from(divisor).ok())) {
            (DimPair::Quotient, Some(divisor @ 1..)) => self.floor_div(divisor),
            (DimPair::Max | DimPair::Min, _) if self == other => self.clone(),
            _ => {
                let atom = Atom::Pair(pair, Arc::new(self.clone()), Arc::new(other.clone()));
                Self { terms: vec![(vec![atom], 1)] }
            }
        }
    }

    /// A known number, which unlike a size may be negative.
    #[must_use]
    pub fn from_i64(value: i64) -> Self {
        Self::collect([(Vec::new(), value)])
    }

    fn collect(terms: impl IntoIterator<Item = (Vec<Atom>, i64)>) -> Self {
        let mut sums = BTreeMap::<Vec<Atom>, i64>::new();
        for (monomial, coefficient) in terms {
            let sum = sums.entry(monomial).or_default();
            *sum = sum.saturating_add(coefficient);
        }
        Self { terms: sums.into_iter().filter(|&(_, coefficient)| coefficient != 0).collect() }
    }

    fn sum(&self, other: &Self, sign: i64) -> Self {
        let negated = other.terms.iter().map(|(monomial, c)| (monomial.clone(), sign.saturating_mul(*c)));
        Self::collect(self.terms.iter().cloned().chain(negated))
    }

    fn product(&self, other: &Self) -> Self {
        if self.terms.len().saturating_mul(other.terms.len()) > MAX_TERMS {
            let atom = Atom::Pair(DimPair::Product, Arc::new(self.clone()), Arc::new(other.clone()));
            return Self { terms: vec![(vec![atom], 1)] };
        }
        let pairs = self.terms.iter().flat_map(|left| other.terms.iter().map(move |right| (left, right)));
        Self::collect(pairs.map(|((a, x), (b, y))| {
            let mut monomial: Vec<_> = a.iter().chain(b).cloned().collect();
            monomial.sort();
            (monomial, x.saturating_mul(*y))
        }))
    }

    /// `floor(self / divisor)`; terms whose coefficients divide leave the floor.
    ///
    /// # Panics
    /// If `divisor` is 0.
    #[must_use]
    pub fn floor_div(&self, divisor: usize) -> Self {
        let divisor = i64::try_from(divisor).unwrap_or(i64::MAX);
        assert!(divisor > 0, "division of a dimension by zero");
        let (mut whole, mut rest) = (Vec::new(), Vec::new());
        for (monomial, coefficient) in &self.terms {
            let (quotient, remainder) = (coefficient.div_euclid(divisor), coefficient.rem_euclid(divisor));
            whole.push((monomial.clone(), quotient));
            rest.push((monomial.clone(), remainder));
        }
        let rest = Self::collect(rest);
        if rest.constant().is_none() {
            whole.push((vec![Atom::FloorDiv(Arc::new(rest), divisor)], 1));
        }
        Self::collect(whole)
    }

    /// The number under `bindings`, which unlike a size may be negative.
    ///
    /// # Errors
    /// If a symbol is not bound, or the number is too large.
    pub fn number(&self, bindings: &Bindings) -> Result<i64> {
        match self.evaluate(bindings)? {
            Some(value) => Ok(value),
            None => fail!(Shape, "dimension {self} is too large"),
        }
    }

    /// The size under `bindings`.
    ///
    /// # Errors
    /// If a symbol is not bound, or the size is negative or too large.
    pub fn bind(&self, bindings: &Bindings) -> Result<usize> {
        match self.evaluate(bindings)? {
            Some(value) if value >= 0 => Ok(usize::try_from(value).unwrap_or(usize::MAX)),
            Some(value) => fail!(Shape, "dimension {self} comes out as {value}"),
            None => fail!(Shape, "dimension {self} is too large"),
        }
    }

    fn evaluate(&self, bindings: &Bindings) -> Result<Option<i64>> {
        let mut total = 0_i64;
        for (monomial, coefficient) in &self.terms {
            let mut product = *coefficient;
            for atom in monomial {
                let value = match atom {
                    Atom::Symbol(name) => match bindings.get(name) {
                        Some(&size) => i64::try_from(size).ok(),
                        None => fail!(Shape, "dimension `{name}` has no value"),
                    },
                    Atom::FloorDiv(inner, divisor) => inner.evaluate(bindings)?.map(|v| v.div_euclid(*divisor)),
                    Atom::Pair(pair, a, b) => match (a.evaluate(bindings)?, b.evaluate(bindings)?) {
                        (Some(a), Some(b)) => pair.apply(a, b),
                        _ => None,
                    },
                };
                let Some(next) = value.and_then(|value| product.checked_mul(value)) else { return Ok(None) };
                product = next;
            }
            let Some(next) = total.checked_add(product) else { return Ok(None) };
            total = next;
        }
        Ok(Some(total))
    }

    /// The largest size for symbols between `least` and `most`, which both hold all of them.
    ///
    /// # Errors
    /// As [`Dim::bind`].
    pub fn most(&self, least: &Bindings, most: &Bindings) -> Result<usize> {
        match self.bounds(least, most)? {
            Some([_, value]) => Ok(usize::try_from(value.max(0)).unwrap_or(usize::MAX)),
            None => fail!(
                Shape,
                "nothing says how large {self} can be, which the data decides; export with torch._check(size <= limit)"
            ),
        }
    }

    /// The smallest and the largest value for symbols between `least` and `most`; none if it is too large.
    fn bounds(&self, least: &Bindings, most: &Bindings) -> Result<Option<[i64; 2]>> {
        let mut total = [0_i64; 2];
        for (monomial, coefficient) in &self.terms {
            let mut product = [*coefficient; 2];
            for atom in monomial {
                let [Some(low), Some(high)] = atom.bounds(least, most)? else { return Ok(None) };
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

    /// How deeply floors and pairs lie within each other.
    pub fn depth(&self) -> usize {
        let atoms = self.terms.iter().flat_map(|(monomial, _)| monomial);
        let depth = atoms.map(|atom| match atom {
            Atom::Symbol(_) => 0,
            Atom::FloorDiv(inner, _) => 1 + inner.depth(),
            Atom::Pair(_, a, b) => 1 + a.depth().max(b.depth()),
        });
        depth.max().unwrap_or(0)
    }

    /// Adds every symbol of the dimension to `names`.
    pub fn symbols(&self, names: &mut std::collections::BTreeSet<Arc<str>>) {
        for atom in self.terms.iter().flat_map(|(monomial, _)| monomial) {
            match atom {
                Atom::Symbol(name) => {
                    names.insert(name.clone());
                }
                Atom::FloorDiv(inner, _) => inner.symbols(names),
                Atom::Pair(_, a, b) => {
                    a.symbols(names);
                    b.symbols(names);
                }
            }
        }
    }
}

/// A dimension in a file: a number, a symbol, or all terms.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Number(i64),
    Symbol(Arc<str>),
    Terms(Vec<(Vec<Atom>, i64)>),
}

impl From<Dim> for Stored {
    fn from(dim: Dim) -> Self {
        if let Some(number) = dim.constant() {
            return Self::Number(number);
        }
        match dim.terms.as_slice() {
            [(monomial, 1)] if matches!(monomial.as_slice(), [Atom::Symbol(_)]) => {
                Self::Symbol(monomial[0].to_string().into())
            }
            _ => Self::Terms(dim.terms),
        }
    }
}

impl TryFrom<Stored> for Dim {
    type Error = crate::Error;

    fn try_from(stored: Stored) -> Result<Self> {
        let terms = match stored {
            Stored::Number(number) => return Ok(Self::from_i64(number)),
            Stored::Symbol(name) => return Ok(Self::symbol(&name)),
            Stored::Terms(terms) => terms,
        };
        // What is canonical is what the arithmetic of dimensions would yield again.
        let sorted = |monomial: &Vec<Atom>| monomial.is_sorted();
        let canonical = terms.iter().flat_map(|(monomial, _)| monomial).all(Atom::is_canonical)
            && terms.iter().all(|(monomial, _)| sorted(monomial))
            && Self::collect(terms.iter().cloned()).terms == terms;
        if !canonical {
            fail!(Format, "a dimension that is no sum in order");
        }
        Ok(Self { terms })
    }
}

impl Atom {
    /// True if the arithmetic of dimensions yields the atom as it is.
    fn is_canonical(&self) -> bool {
        let single = |dim: &Dim| matches!(dim.terms.as_slice(), [(monomial, 1)] if monomial[..] == [self.clone()]);
        match self {
            Self::Symbol(_) => true,
            Self::FloorDiv(inner, divisor) => {
                usize::try_from(*divisor).is_ok_and(|divisor| divisor > 0 && single(&inner.floor_div(divisor)))
            }
            Self::Pair(pair, a, b) => single(&a.pair(*pair, b)),
        }
    }
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

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(name) => f.write_str(name),
            Self::FloorDiv(inner, divisor) => write!(f, "floor(({inner})/{divisor})"),
            Self::Pair(pair, a, b) => write!(f, "{}({a}, {b})", pair.name()),
        }
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
mod tests {
    use super::*;

    #[test]
    fn strided_convolutions_and_their_upsampling_cancel_when_sizes_divide() {
        let height = &Dim::symbol("h") * 8;
        let down = (&height - 1).floor_div(2);
        let out = &down + 1;
        assert_eq!(out, &Dim::symbol("h") * 4);
        assert_eq!(&out * 2, height);
    }

    #[test]
    fn floors_stay_when_the_size_is_unknown() {
        let half = (&Dim::symbol("h") - 1).floor_div(2);
        let bind = |h| half.bind(&Bindings::from([("h".into(), h)])).ok();
        assert_eq!((bind(7), bind(8)), (Some(3), Some(3)));
        assert_eq!(half.to_string(), "floor((h+1)/2)-1");
    }

    #[test]
    fn dimensions_survive_a_file_and_others_are_refused() {
        let (height, width) = (Dim::symbol("h"), Dim::symbol("w"));
        let half = (&height - 1).floor_div(2);
        let pair = (&half * &width).pair(DimPair::Max, &Dim::from(3));
        for dim in [Dim::from(7), Dim::from_i64(-7), height.clone(), &height * 8, half, &(&pair * 2) - 1, pair] {
            let text = serde_json::to_string(&dim).unwrap();
            assert_eq!(serde_json::from_str::<Dim>(&text).unwrap(), dim, "{text}");
        }
        let floor = |divisor: i64, inner: &str| format!(r#"[[[{{"floordiv":[{inner},{divisor}]}}],1]]"#);
        assert!(serde_json::from_str::<Dim>(&floor(2, r#""h""#)).is_ok());
        let twice = r#"[[[{"symbol":"h"}],1],[[{"symbol":"h"}],2]]"#.to_owned();
        let unsorted = r#"[[[{"symbol":"w"},{"symbol":"h"}],1]]"#.to_owned();
        for text in [floor(0, r#""h""#), floor(-2, r#""h""#), floor(2, "4"), twice, unsorted, "[[[],0]]".to_owned()] {
            assert!(serde_json::from_str::<Dim>(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_largest_size_is_that_of_the_worst_values() {
        let (n, h) = (Dim::symbol("n"), Dim::symbol("h"));
        let span = |n: usize, h: usize| Bindings::from([("n".into(), n), ("h".into(), h)]);
        let most = |dim: &Dim| dim.most(&span(0, 8), &span(5, 8)).unwrap();
        assert_eq!(most(&(&n * &h)), 40);
        assert_eq!(most(&(&h - &n)), 8);
        assert_eq!(most(&(&n - &h)), 0);
        assert_eq!(most(&(&(&n * 3) + 1).floor_div(2)), 8);
        assert_eq!(most(&n.pair(DimPair::Max, &Dim::from(7))), 7);
        assert_eq!(most(&h.pair(DimPair::Quotient, &(&n + 1))), 8);
        assert!(h.pair(DimPair::Quotient, &n).most(&span(0, 8), &span(5, 8)).is_err());
        let open = n.most(&span(0, 8), &span(usize::MAX, 8)).unwrap_err().to_string();
        assert!(open.contains("torch._check"), "{open}");
    }

    #[test]
    fn products_of_many_terms_stay_small_and_right() {
        let sum = (0..6).fold(Dim::from(1), |sum, i| &sum + &Dim::symbol(&format!("s{i}")));
        let bindings: Bindings = (0..6).map(|i| (format!("s{i}").into(), i)).collect();
        let power = (0..8).fold(Dim::from(1), |power, _| &power * &sum);
        assert!(power.terms.len() <= MAX_TERMS);
        assert_eq!(power.bind(&bindings).unwrap(), 16_usize.pow(8));
        assert_eq!(power.most(&bindings, &bindings).unwrap(), 16_usize.pow(8));
        assert!(power.depth() > 0);
    }

    #[test]
    fn unbound_and_overflowing_dimensions_are_errors() {
        let huge = &Dim::symbol("a") * usize::MAX;
        assert!(huge.bind(&Bindings::new()).is_err());
        assert!(huge.bind(&Bindings::from([("a".into(), usize::MAX)])).is_err());
    }
}
