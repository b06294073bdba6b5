//! Rules that turn ATen operators into those of the graph, by operator name.

mod choice;
mod complex;
mod convolve;
mod elementwise;
mod fourier;
mod index;
mod linalg;
mod loss;
mod norm;
mod product;
mod reduce;
mod sample;
mod scalar;
mod sequence;
mod shape;
mod spatial;
mod symbol;
mod tail;
pub(super) mod view;

use super::{
    builder::{Builder, Tensor},
    call::{Call, Item},
};
use ondine_graph::Result;

/// What a node becomes: its results in order.
pub(super) type Rule = fn(&mut Builder, &Call<'_>) -> Result<Vec<Item>>;

/// The rule for an operator, its overloads and its in-place form.
pub(super) fn rule(op: &str) -> Option<Rule> {
    view::rule(op)
        .or_else(|| elementwise::rule(op))
        .or_else(|| shape::rule(op))
        .or_else(|| reduce::rule(op))
        .or_else(|| norm::rule(op))
        .or_else(|| product::rule(op))
        .or_else(|| convolve::rule(op))
        .or_else(|| spatial::rule(op))
        .or_else(|| sample::rule(op))
        .or_else(|| index::rule(op))
        .or_else(|| choice::rule(op))
        .or_else(|| loss::rule(op))
        .or_else(|| linalg::rule(op))
        .or_else(|| fourier::rule(op))
        .or_else(|| sequence::rule(op))
        .or_else(|| scalar::rule(op))
        .or_else(|| tail::rule(op))
        .or_else(|| symbol::rule(op))
}

/// The rule for an operator on complex numbers; their parts are a last dimension here.
pub(super) fn complex_rule(op: &str) -> Option<Rule> {
    complex::rule(op).or_else(|| if takes_complex(op) { rule(op) } else { None })
}

/// True if an operator's rule is made for complex numbers as well.
fn takes_complex(op: &str) -> bool {
    op.starts_with("fft_")
        || op.starts_with("_fft_")
        || matches!(
            op,
            "stft"
                | "istft"
                | "unbind"
                | "split_with_sizes"
                | "flip"
                | "roll"
                | "stack"
                | "index"
                | "zeros"
                | "zeros_like"
                | "new_zeros"
                | "movedim"
                | "swapaxes"
                | "expand_as"
                | "_assert_scalar"
                | "cond"
                | "view_as_real"
                | "view_as_complex"
                | "view_as_real_copy"
                | "view_as_complex_copy"
                | "real"
                | "imag"
                | "polar"
                | "complex"
                | "abs"
                | "angle"
                | "conj"
                | "_conj"
                | "conj_physical"
                | "_conj_physical"
                | "resolve_conj"
                | "view"
                | "reshape"
                | "_unsafe_view"
                | "flatten"
                | "unflatten"
                | "unsqueeze"
                | "squeeze"
                | "alias"
                | "detach"
                | "clone"
                | "contiguous"
                | "lift_fresh_copy"
                | "permute"
                | "transpose"
                | "slice"
                | "select"
                | "narrow"
                | "expand"
                | "split"
                | "chunk"
                | "cat"
                | "index_select"
                | "sym_size"
                | "_assert_tensor_metadata"
                | "resolve_neg"
        )
}

/// One tensor as the results of a rule.
fn one(tensor: Tensor) -> Result<Vec<Item>> {
    Ok(vec![Item::Tensor(tensor)])
}
