//! What operators that go step by step do at each: cells of recurrent layers, and turns of loops.

use ondine_kernels::RecurrentCell;
use serde::{Deserialize, Serialize};

use crate::{dim::Dim, graph::Graph, infer::Signature};

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
        self.kernel().gates()
    }

    /// Vectors of the hidden size that a step hands on: the hidden state and, for [`Cell::Lstm`], the cell state.
    #[must_use]
    pub fn carried(self) -> usize {
        self.kernel().carried()
    }

    /// What the kernels call it.
    pub(crate) fn kernel(self) -> RecurrentCell {
        match self {
            Self::Lstm => RecurrentCell::Lstm,
            Self::Gru => RecurrentCell::Gru,
            Self::Tanh => RecurrentCell::Tanh,
            Self::Relu => RecurrentCell::Relu,
        }
    }
}

/// A loop of [`crate::Op::Loop`].
#[derive(Clone, Debug)]
pub struct Loop {
    /// Whether there is another turn: arguments are those of the loop, the result a truth value.
    pub condition: Graph,
    /// A turn: arguments are those of the loop, results what is carried.
    pub body: Graph,
    /// How many of the arguments are carried.
    pub carried: usize,
}

impl PartialEq for Loop {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Loop {
    /// Shapes and types of the arguments.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Signature> {
        self.body.inputs().iter().map(|(_, value)| &self.body.node(*value).signature)
    }

    /// Where each carried value lies, and behind them how many bytes there are.
    pub(crate) fn offsets(&self) -> Vec<Dim> {
        let mut offsets = vec![Dim::from(0)];
        for signature in self.arguments().take(self.carried) {
            let bytes = &signature.shape.elements() * signature.dtype.size();
            let lines = (&bytes + 63).floor_div(64);
            let end = &offsets[offsets.len() - 1] + &lines * 64;
            offsets.push(end);
        }
        offsets
    }
}
