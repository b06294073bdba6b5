//! What is known of a value before it is computed.

use serde::{Deserialize, Serialize};

use crate::{dtype::DType, shape::Shape};

/// Shape and element type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Its sizes.
    pub shape: Shape,
    /// Its element type.
    pub dtype: DType,
}

impl Signature {
    /// Of this shape and type.
    pub fn new(shape: impl Into<Shape>, dtype: DType) -> Self {
        Self { shape: shape.into(), dtype }
    }
}
