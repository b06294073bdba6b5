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

pub(super) fn elementary(function: Elementary) -> k::Function {
    match function {
        Elementary::Floor => k::Function::Floor,
        Elementary::Ceil => k::Function::Ceil,
        Elementary::Round => k::Function::Round,
        Elementary::Trunc => k::Function::Trunc,
        Elementary::Sign => k::Function::Sign,
        Elementary::Tan => k::Function::Tan,
        Elementary::Asin => k::Function::Asin,
        Elementary::Acos => k::Function::Acos,
        Elementary::Atan => k::Function::Atan,
        Elementary::Sinh => k::Function::Sinh,
        Elementary::Cosh => k::Function::Cosh,
        Elementary::Asinh => k::Function::Asinh,
        Elementary::Acosh => k::Function::Acosh,
        Elementary::Atanh => k::Function::Atanh,
        Elementary::Erf => k::Function::Erf,
        Elementary::ExpM1 => k::Function::ExpM1,
        Elementary::Log1p => k::Function::Log1p,
        Elementary::Log2 => k::Function::Log2,
        Elementary::Log10 => k::Function::Log10,
        Elementary::Exp2 => k::Function::Exp2,
        Elementary::Reciprocal => k::Function::Reciprocal,
        Elementary::Softplus => k::Function::Softplus,
        Elementary::LogGamma => k::Function::LogGamma,
        Elementary::Digamma => k::Function::Digamma,
        Elementary::ErfInv => k::Function::ErfInv,
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
