//! Dimensions in a file.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Atom, Dim, Term};
use crate::error::{Result, fail};

/// A dimension in a file: a number, a symbol, or all terms.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Stored {
    Number(i64),
    Symbol(Arc<str>),
    Terms(Vec<Term>),
}

impl From<Dim> for Stored {
    fn from(dim: Dim) -> Self {
        if let Some(number) = dim.constant() {
            return Self::Number(number);
        }
        match dim.terms.as_slice() {
            [(monomial, 1)] => match monomial.as_slice() {
                [Atom::Symbol(name)] => Self::Symbol(name.clone()),
                _ => Self::Terms(dim.terms),
            },
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
            && Self::collect(terms.iter().cloned().map(Some)).is_some_and(|dim| dim.terms == terms);
        if !canonical {
            fail!(Format, "a dimension that is no sum in order");
        }
        Ok(Self { terms })
    }
}
