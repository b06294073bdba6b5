//! Element types and sizes, as the schema writes them.

use ondine_graph::{DType, Dim, Result, fail};

use crate::{expr, schema};

/// Type codes of numbers of 8 bits: with 4 bits of exponent, and with 5.
pub(super) const FLOAT8_E4M3: u32 = 29;
pub(super) const FLOAT8_E5M2: u32 = 30;

/// The element type in which a type of the program is computed.
pub(super) fn dtype_of(code: u32) -> Result<DType> {
    Ok(match code {
        1 => DType::U8,
        2 => DType::I8,
        3 | 4 | 28 => DType::I32,
        5 | 34 => DType::I64,
        6 | 7 | 8 | 13 | FLOAT8_E4M3 | FLOAT8_E5M2 => DType::F32,
        9..=11 => DType::F32,
        12 => DType::Bool,
        other => fail!(Unsupported, "elements of type {other}; convert the model to float32"),
    })
}

/// True for the complex types, whose tensors have a last dimension more here: real and imaginary part.
pub(super) fn is_complex(code: u32) -> bool {
    matches!(code, 9..=11)
}

pub(super) fn dim_of(size: &schema::SymInt) -> Result<Dim> {
    match size {
        schema::SymInt::AsInt(value) => Ok(Dim::from_i64(*value)),
        schema::SymInt::AsExpr(expr) => expr::parse(&expr.expr_str),
    }
}
