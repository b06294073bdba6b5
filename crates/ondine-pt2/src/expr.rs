//! Expressions of sizes: what Python and SymPy compute with them, and how archives write it down.

mod python;
mod srepr;
mod value;

pub(super) use python::{Place, condition, integer};
pub(super) use srepr::parse;
pub(super) use value::{Value, apply};
