//! What recurrent layers do at each step.

use serde::{Deserialize, Serialize};

/// What a recurrent layer does at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// Long short-term memory (Hochreiter and Schmidhuber 1997), gates in the order input, forget, cell, output.
    Lstm,
    /// Gated recurrent unit (Cho et al. 2014), gates in the order reset, update, new.
    Gru,
    /// The hyperbolic tangent of the sum.
    Tanh,
    /// The positive part of the sum.
    Relu,
}

impl Cell {
    /// Vectors of the hidden size that a step takes from the input's product.
    #[must_use]
    pub fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Tanh | Self::Relu => 1,
        }
    }

    /// Vectors of the hidden size that a step hands on: the hidden state and, for [`Cell::Lstm`], the cell state.
    #[must_use]
    pub fn carried(self) -> usize {
        if self == Self::Lstm { 2 } else { 1 }
    }
}
