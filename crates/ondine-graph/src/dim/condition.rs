//! What must hold of the sizes of a call.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Bindings, Dim, Real};
use crate::error::Result;

/// A truth of sizes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// The same for every call.
    Known(bool),
    /// How two numbers compare.
    Compare(Comparison, Real, Real),
    /// All of them.
    All(Vec<Condition>),
    /// At least one of them.
    Any(Vec<Condition>),
    /// The opposite.
    Not(Arc<Condition>),
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Comparison {
    /// They are equal.
    Equal,
    /// The first is smaller.
    Less,
    /// The first is not larger.
    AtMost,
}

impl Comparison {
    fn holds<T: PartialOrd>(self, a: &T, b: &T) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Less => a < b,
            Self::AtMost => a <= b,
        }
    }

    /// Whether it holds, if that is the same for all sizes.
    fn decided(self, a: &Dim, b: &Dim) -> Option<bool> {
        let never_less = |a: &Dim, b: &Dim| (a - b).is_counting();
        match self {
            Self::Equal if !a.may_equal(b) => Some(false),
            Self::Less if never_less(a, b) => Some(false),
            Self::Less if never_less(&(b - 1), a) => Some(true),
            Self::AtMost if never_less(b, a) => Some(true),
            Self::AtMost if never_less(&(a - 1), b) => Some(false),
            Self::Equal | Self::Less | Self::AtMost => None,
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::Less => "<",
            Self::AtMost => "<=",
        }
    }
}

impl Condition {
    /// How two numbers compare.
    #[must_use]
    pub fn compare(comparison: Comparison, a: &Real, b: &Real) -> Self {
        if a == b && a.known().is_none_or(|value| !value.is_nan()) {
            return Self::Known(comparison != Comparison::Less);
        }
        if let (Real::Of(a), Real::Of(b)) = (a, b)
            && let Some(truth) = comparison.decided(a, b)
        {
            return Self::Known(truth);
        }
        let condition = Self::Compare(comparison, a.clone(), b.clone());
        match (a.known(), b.known()) {
            (Some(_), Some(_)) => match condition.evaluate(&Bindings::new()) {
                Ok(Some(truth)) => Self::Known(truth),
                _ => condition,
            },
            _ => condition,
        }
    }

    /// True if both hold.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Known(true), other) | (other, Self::Known(true)) => other.clone(),
            (Self::Known(false), _) | (_, Self::Known(false)) => Self::Known(false),
            _ => Self::All(vec![self.clone(), other.clone()]),
        }
    }

    /// True if one of them holds.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Known(false), other) | (other, Self::Known(false)) => other.clone(),
            (Self::Known(true), _) | (_, Self::Known(true)) => Self::Known(true),
            _ => Self::Any(vec![self.clone(), other.clone()]),
        }
    }

    /// The opposite.
    #[must_use]
    pub fn opposite(&self) -> Self {
        match self {
            Self::Known(truth) => Self::Known(!truth),
            Self::Not(inner) => (**inner).clone(),
            Self::Compare(..) | Self::All(_) | Self::Any(_) => Self::Not(Arc::new(self.clone())),
        }
    }

    /// Whether it holds under `bindings`; none if a number in it is too large or divided by 0.
    ///
    /// # Errors
    /// If a symbol is not bound.
    pub fn evaluate(&self, bindings: &Bindings) -> Result<Option<bool>> {
        Ok(match self {
            Self::Known(truth) => Some(*truth),
            // Floats do not hold all integers.
            Self::Compare(comparison, Real::Of(a), Real::Of(b)) => {
                let both = a.evaluate(bindings)?.zip(b.evaluate(bindings)?);
                both.map(|(a, b)| comparison.holds(&a, &b))
            }
            Self::Compare(comparison, a, b) => {
                let both = a.evaluate(bindings)?.zip(b.evaluate(bindings)?);
                both.map(|(a, b)| comparison.holds(&a, &b))
            }
            Self::All(list) => {
                // What follows a condition that does not hold may have no value, as in Python.
                for condition in list {
                    match condition.evaluate(bindings)? {
                        Some(true) => {}
                        other => return Ok(other),
                    }
                }
                Some(true)
            }
            Self::Any(list) => {
                for condition in list {
                    match condition.evaluate(bindings)? {
                        Some(false) => {}
                        other => return Ok(other),
                    }
                }
                Some(false)
            }
            Self::Not(inner) => inner.evaluate(bindings)?.map(|truth| !truth),
        })
    }

    /// Adds every symbol of the condition to `names`.
    pub fn symbols(&self, names: &mut BTreeSet<Arc<str>>) {
        match self {
            Self::Known(_) => {}
            Self::Compare(_, a, b) => [a, b].into_iter().for_each(|real| real.symbols(names)),
            Self::All(list) | Self::Any(list) => list.iter().for_each(|condition| condition.symbols(names)),
            Self::Not(inner) => inner.symbols(names),
        }
    }

    /// True if the condition is small enough to be looked through again and again.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.fits(&mut super::MAX_PARTS.clone(), super::MAX_DEPTH)
    }

    pub(super) fn fits(&self, budget: &mut usize, depth: usize) -> bool {
        let (Some(rest), Some(depth)) = (budget.checked_sub(1), depth.checked_sub(1)) else { return false };
        *budget = rest;
        match self {
            Self::Known(_) => true,
            Self::Compare(_, a, b) => a.fits(budget, depth) && b.fits(budget, depth),
            Self::All(list) | Self::Any(list) => list.iter().all(|condition| condition.fits(budget, depth)),
            Self::Not(inner) => inner.fits(budget, depth),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, list: &[Self], word: &str| {
            for (i, condition) in list.iter().enumerate() {
                write!(f, "{}({condition})", if i == 0 { "" } else { word })?;
            }
            Ok(())
        };
        match self {
            Self::Known(truth) => write!(f, "{truth}"),
            Self::Compare(comparison, a, b) => write!(f, "{a} {} {b}", comparison.sign()),
            Self::All(conditions) => list(f, conditions, " and "),
            Self::Any(conditions) => list(f, conditions, " or "),
            Self::Not(inner) => match &**inner {
                Self::Compare(Comparison::Equal, a, b) => write!(f, "{a} != {b}"),
                Self::Compare(Comparison::Less, a, b) => write!(f, "{a} >= {b}"),
                Self::Compare(Comparison::AtMost, a, b) => write!(f, "{a} > {b}"),
                other => write!(f, "not ({other})"),
            },
        }
    }
}
