//! Functions of elements: of one number, of two, and of many that are folded or accumulated.

use serde::{Deserialize, Serialize};

use crate::number;

/// A function applied to each element of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `x * sigmoid(x)`
    Silu,
    /// `x * (1 + erf(x / sqrt 2)) / 2`
    Gelu,
    /// [`Activation::Gelu`] by its approximation with the hyperbolic tangent.
    GeluTanh,
    /// `x * sigmoid(1.702 x)`
    QuickGelu,
    /// `max(x, 0)`
    Relu,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `x` no smaller than 0 and no larger than 6.
    Relu6,
    /// `x / 6 + 1/2` no smaller than 0 and no larger than 1.
    HardSigmoid,
    /// `x` times [`Activation::HardSigmoid`] of it.
    HardSwish,
}

/// A function of one number that networks use rarely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the function of that name")]
pub enum Elementary {
    Floor,
    Ceil,
    /// The nearest integer, halves to the even one.
    Round,
    /// Without what follows the point.
    Trunc,
    /// -1, 0 or 1; 0 of what is no number.
    Sign,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    /// `e^x - 1`
    ExpM1,
    /// `ln(1 + x)`
    Log1p,
    Log2,
    Log10,
    Exp2,
    /// `1 / x`
    Reciprocal,
    /// `ln(1 + e^x)`
    Softplus,
    /// The logarithm of the size of the gamma function.
    LogGamma,
    /// The derivative of the gamma function's logarithm.
    Digamma,
    /// The inverse of [`Self::Erf`].
    ErfInv,
}

/// A function of one number, applied to every element.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Unary {
    /// One of the activation functions of neural networks.
    Activation(Activation),
    /// `-x`
    Neg,
    /// `|x|`
    Abs,
    /// `e^x`
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// `1 / sqrt(x)`
    Rsqrt,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// `scale * x + offset`
    Affine {
        /// The factor.
        #[serde(with = "number")]
        scale: f32,
        /// What is added after.
        #[serde(with = "number")]
        offset: f32,
    },
    /// One of the functions that networks use rarely.
    Function(Elementary),
}

/// A function of two numbers, applied element by element with numpy's broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// The smaller.
    Min,
    /// The larger.
    Max,
    /// `a` to the power of `b`.
    Pow,
    /// `a` where it is above zero, else `a * b`: a rectifier with a slope (He et al. 2015).
    Prelu,
    /// `a == b`, a truth value.
    Equal,
    /// `a < b`, a truth value.
    Less,
    /// What is true, or the bits that are set, in both; of truth values and integers.
    And,
    /// What is true, or the bits that are set, in one at least; of truth values and integers.
    Or,
    /// What is true, or the bits that are set, in one only; of truth values and integers.
    Xor,
    /// `a - b * floor(a / b)`: the remainder with the sign of `b`.
    Remainder,
    /// The remainder with the sign of `a`.
    Fmod,
    /// `floor(a / b)`
    FloorDiv,
    /// The angle of the point `(b, a)`.
    Atan2,
}

impl Binary {
    /// True if the result is a truth value.
    #[must_use]
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::Less)
    }
}

/// How a dimension is folded away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reduce {
    /// The sum.
    Sum,
    /// The arithmetic mean.
    Mean,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// The product.
    Product,
}

/// What is accumulated along a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scan {
    /// The sum so far.
    Sum,
    /// The product so far.
    Product,
    /// The largest so far.
    Max,
    /// The smallest so far.
    Min,
}

/// How rows are combined into those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scatter {
    /// The new row; the last of several for one place.
    Replace,
    /// Their sum.
    Add,
    /// Their product.
    Multiply,
    /// The larger elements.
    Max,
    /// The smaller elements.
    Min,
}

/// How a feature map is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resample {
    /// The source element `floor(i * (in / out))`, the quotient rounded to `f32` as PyTorch does.
    Nearest,
    /// Between the four nearest, pixel centres at halves (`align_corners = false`).
    Bilinear,
}

impl Unary {
    /// A short lower-case name, such as `affine`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Activation(_) => "activation",
            Self::Neg => "neg",
            Self::Abs => "abs",
            Self::Exp => "exp",
            Self::Log => "log",
            Self::Sqrt => "sqrt",
            Self::Rsqrt => "rsqrt",
            Self::Sin => "sin",
            Self::Cos => "cos",
            Self::Affine { .. } => "affine",
            Self::Function(_) => "function",
        }
    }
}

impl Binary {
    /// A short lower-case name, such as `add`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
            Self::Min => "min",
            Self::Max => "max",
            Self::Pow => "pow",
            Self::Prelu => "prelu",
            Self::Equal => "equal",
            Self::Less => "less",
            Self::And => "and",
            Self::Or => "or",
            Self::Xor => "xor",
            Self::Remainder => "remainder",
            Self::Fmod => "fmod",
            Self::FloorDiv => "floor_div",
            Self::Atan2 => "atan2",
        }
    }
}
