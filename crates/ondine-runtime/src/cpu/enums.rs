//! The kernels' enums for those of the language.

use ondine_graph::{Activation, Cell, Elementary, Fold};
use ondine_kernels as k;

pub(super) fn activation(activation: Activation) -> k::Activation {
    match activation {
        Activation::None => k::Activation::None,
        Activation::Silu => k::Activation::Silu,
        Activation::Gelu => k::Activation::Gelu,
        Activation::GeluTanh => k::Activation::GeluTanh,
        Activation::QuickGelu => k::Activation::QuickGelu,
        Activation::Relu => k::Activation::Relu,
        Activation::Sigmoid => k::Activation::Sigmoid,
        Activation::Tanh => k::Activation::Tanh,
        Activation::Relu6 => k::Activation::Relu6,
        Activation::HardSigmoid => k::Activation::HardSigmoid,
        Activation::HardSwish => k::Activation::HardSwish,
    }
}

pub(super) fn elementary(function: Elementary) -> k::Elementary {
    match function {
        Elementary::Floor => k::Elementary::Floor,
        Elementary::Ceil => k::Elementary::Ceil,
        Elementary::Round => k::Elementary::Round,
        Elementary::Trunc => k::Elementary::Trunc,
        Elementary::Sign => k::Elementary::Sign,
        Elementary::Tan => k::Elementary::Tan,
        Elementary::Asin => k::Elementary::Asin,
        Elementary::Acos => k::Elementary::Acos,
        Elementary::Atan => k::Elementary::Atan,
        Elementary::Sinh => k::Elementary::Sinh,
        Elementary::Cosh => k::Elementary::Cosh,
        Elementary::Asinh => k::Elementary::Asinh,
        Elementary::Acosh => k::Elementary::Acosh,
        Elementary::Atanh => k::Elementary::Atanh,
        Elementary::Erf => k::Elementary::Erf,
        Elementary::ExpM1 => k::Elementary::ExpM1,
        Elementary::Log1p => k::Elementary::Log1p,
        Elementary::Log2 => k::Elementary::Log2,
        Elementary::Log10 => k::Elementary::Log10,
        Elementary::Exp2 => k::Elementary::Exp2,
        Elementary::Reciprocal => k::Elementary::Reciprocal,
        Elementary::Softplus => k::Elementary::Softplus,
        Elementary::LogGamma => k::Elementary::LogGamma,
        Elementary::Digamma => k::Elementary::Digamma,
        Elementary::ErfInv => k::Elementary::ErfInv,
    }
}

pub(super) fn fold(fold: Fold) -> k::Fold {
    match fold {
        Fold::Max => k::Fold::Max,
        Fold::Average => k::Fold::Average,
    }
}

pub(super) fn cell(cell: Cell) -> k::RecurrentCell {
    match cell {
        Cell::Lstm => k::RecurrentCell::Lstm,
        Cell::Gru => k::RecurrentCell::Gru,
        Cell::Tanh => k::RecurrentCell::Tanh,
        Cell::Relu => k::RecurrentCell::Relu,
    }
}
