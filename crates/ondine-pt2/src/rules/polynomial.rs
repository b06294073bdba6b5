//! Orthogonal polynomials whose degrees are data: their recurrences, step by step, each element kept at its degree.

use ondine_graph::{DType, Result};

use super::rule::{Rule, one};
use crate::{
    builder::Builder,
    call::{Call, Item, Operand},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("special_chebyshev_polynomial_t", polynomial),
    Rule::new("special_chebyshev_polynomial_u", polynomial),
    Rule::new("special_chebyshev_polynomial_v", polynomial),
    Rule::new("special_chebyshev_polynomial_w", polynomial),
    Rule::new("special_shifted_chebyshev_polynomial_t", polynomial),
    Rule::new("special_shifted_chebyshev_polynomial_u", polynomial),
    Rule::new("special_shifted_chebyshev_polynomial_v", polynomial),
    Rule::new("special_shifted_chebyshev_polynomial_w", polynomial),
    Rule::new("special_hermite_polynomial_h", polynomial),
    Rule::new("special_hermite_polynomial_he", polynomial),
    Rule::new("special_laguerre_polynomial_l", polynomial),
    Rule::new("special_legendre_polynomial_p", polynomial),
];

/// The highest degree that is found; PyTorch knows no Hermite polynomials beyond it either, and yields NaN.
const MOST: u32 = 128;

fn polynomial(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.operand_as(builder, "x", DType::F32)?;
    let (degree, most) = match call.operand(builder, "n")? {
        Operand::Number { value, .. } => (value.into(), (value.max(0.0) as u32).min(MOST)),
        Operand::Tensor(n) => (Formula::of(&builder.cast(&n, DType::F32)?), MOST),
    };
    let name = call.op.strip_prefix("special_").unwrap_or(call.op);
    let x = Formula::of(&x);
    let (name, x) = match name.strip_prefix("shifted_") {
        Some(name) => (name, &x * 2.0 - 1.0),
        None => (name, x),
    };
    let double = &x * 2.0;
    let (mut before, mut last) = (
        Formula::from(1.0),
        match name {
            "chebyshev_polynomial_u" | "hermite_polynomial_h" => double.clone(),
            "chebyshev_polynomial_v" => &double - 1.0,
            "chebyshev_polynomial_w" => &double + 1.0,
            "laguerre_polynomial_l" => 1.0 - &x,
            _ => x.clone(),
        },
    );
    // A degree is what a number has before its point.
    let reaches = |k: u32| degree.less(f64::from(k)).not();
    let mut result = reaches(1).choose(&last, 1.0);
    for k in 1..most {
        let n = f64::from(k);
        let next = match name {
            "hermite_polynomial_h" => &double * &last - &before * (2.0 * n),
            "hermite_polynomial_he" => &x * &last - &before * n,
            "laguerre_polynomial_l" => ((2.0 * n + 1.0 - &x) * &last - &before * n) * (1.0 / (n + 1.0)),
            "legendre_polynomial_p" => (&x * (2.0 * n + 1.0) * &last - &before * n) * (1.0 / (n + 1.0)),
            _ => &double * &last - &before,
        };
        (before, last) = (last, next);
        result = reaches(k + 1).choose(&last, result);
    }
    let known = reaches(MOST + 1).choose(f64::NAN, result);
    let none = degree.more(-1.0).not();
    one(none.choose(0.0, known).build(builder)?)
}
