//! Element types and sizes, as the schema writes them.

use ondine_graph::{DType, Dim, Result, fail};

use crate::{expr, schema};

/// Type codes of the elements that are computed in another type than they are told in.
pub(super) const HALF: u32 = 6;
pub(super) const DOUBLE: u32 = 8;
pub(super) const BFLOAT16: u32 = 13;
/// Type codes of numbers of 8 bits: with 4 bits of exponent, and with 5.
pub(super) const FLOAT8_E4M3: u32 = 29;
pub(super) const FLOAT8_E5M2: u32 = 30;

/// The element type in which a type of the program is computed.
pub(super) fn dtype_of(code: u32) -> Result<DType> {
    Ok(match code {
        1 => DType::U8,
        2 => DType::I8,
        3 => DType::I16,
        4 => DType::I32,
        5 => DType::I64,
        HALF | 7 | DOUBLE | BFLOAT16 | FLOAT8_E4M3 | FLOAT8_E5M2 => DType::F32,
        28 => DType::U16,
        34 => DType::U32,
        35 => DType::U64,
        9..=11 => DType::F32,
        12 => DType::Bool,
        other => fail!(Unsupported, "elements of type {other}; convert the model to float32"),
    })
}

/// The element type in which arguments and results of a type of the program are told.
pub(super) fn told_of(code: u32) -> Result<DType> {
    Ok(match code {
        HALF => DType::F16,
        BFLOAT16 => DType::BF16,
        DOUBLE => DType::F64,
        code if is_complex(code) => DType::C64,
        code => dtype_of(code)?,
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
