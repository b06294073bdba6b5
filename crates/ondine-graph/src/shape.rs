//! Shapes: lists of dimensions.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    dim::{Bindings, Dim},
    error::{Result, fail},
};

/// A shape: dimensions from the slowest to the fastest in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Shape(pub Vec<Dim>);

impl Shape {
    /// The number of dimensions.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The number of elements, as a dimension.
    #[must_use]
    pub fn elements(&self) -> Dim {
        self.0.iter().fold(Dim::from(1), |product, dim| &product * dim)
    }

    /// All sizes, if none is symbolic.
    #[must_use]
    pub fn fixed(&self) -> Option<Vec<usize>> {
        self.0.iter().map(Dim::fixed).collect()
    }

    /// All sizes under `bindings`.
    ///
    /// # Errors
    /// As [`Dim::bind`].
    pub fn bind(&self, bindings: &Bindings) -> Result<Vec<usize>> {
        self.0.iter().map(|dim| dim.bind(bindings)).collect()
    }

    /// The shape whose dimensions `change` makes of these.
    ///
    /// # Errors
    /// As `change`.
    pub fn map(&self, change: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        self.0.iter().map(change).collect::<Result<Vec<_>>>().map(Self)
    }

    /// The last dimension.
    ///
    /// # Errors
    /// If the shape has no dimension.
    pub fn last(&self) -> Result<&Dim> {
        match self.0.last() {
            Some(dim) => Ok(dim),
            None => fail!(Shape, "a scalar has no last dimension"),
        }
    }
}

impl<D: Into<Dim>> FromIterator<D> for Shape {
    fn from_iter<I: IntoIterator<Item = D>>(dims: I) -> Self {
        Self(dims.into_iter().map(Into::into).collect())
    }
}

impl<D: Into<Dim> + Clone, const N: usize> From<[D; N]> for Shape {
    fn from(dims: [D; N]) -> Self {
        dims.into_iter().collect()
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        dims.iter().copied().collect()
    }
}

impl From<Vec<Dim>> for Shape {
    fn from(dims: Vec<Dim>) -> Self {
        Self(dims)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.0.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}
