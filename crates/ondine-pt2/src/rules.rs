//! What is known of every operator, by name.

mod airy;
mod assertion;
mod bag;
mod choice;
mod complex;
mod convolve;
mod differences;
mod distance;
mod elementwise;
mod factor;
mod fourier;
mod function;
mod histogram;
mod indefinite;
mod index;
mod linalg;
mod loss;
mod margin;
mod matrix;
mod nibbles;
mod norm;
mod order;
mod places;
mod polynomial;
mod positions;
mod product;
mod quantized;
mod rare;
mod reduce;
pub(super) mod rule;
mod sample;
mod scalar;
mod sequence;
mod series;
mod shape;
pub(super) mod sharing;
mod singular;
mod spatial;
mod special;
mod spectrum;
mod statistics;
mod symbol;
pub(super) mod view;
mod vision;

use std::{collections::HashMap, sync::LazyLock};

use ondine_graph::fail;

use self::sharing::{Ends, Memory};
use crate::{
    schema,
    target::{is_control, split_target},
};

pub(super) use self::rule::Rule;

/// The operators of ATen.
const ATEN: &[&[Rule]] = &[
    assertion::RULES,
    view::RULES,
    elementwise::RULES,
    function::RULES,
    shape::RULES,
    reduce::RULES,
    norm::RULES,
    product::RULES,
    quantized::RULES,
    nibbles::RULES,
    convolve::RULES,
    spatial::RULES,
    sample::RULES,
    histogram::RULES,
    index::RULES,
    choice::RULES,
    loss::RULES,
    linalg::RULES,
    matrix::RULES,
    order::RULES,
    distance::RULES,
    fourier::RULES,
    sequence::RULES,
    scalar::RULES,
    complex::RULES,
    special::RULES,
    airy::RULES,
    factor::RULES,
    indefinite::RULES,
    singular::RULES,
    rare::RULES,
    polynomial::RULES,
    bag::RULES,
    series::RULES,
    differences::RULES,
    places::RULES,
    margin::RULES,
    spectrum::RULES,
    statistics::RULES,
    vision::RULES,
];

/// By name, those of ATen and, by the last part of their names, those of sizes.
static RULES: LazyLock<[HashMap<&'static str, Rule>; 2]> = LazyLock::new(|| {
    let named = |rules: &[&[Rule]]| rules.iter().copied().flatten().map(|rule| (rule.name, *rule)).collect();
    [named(ATEN), named(&[symbol::RULES])]
});

/// An operator that holds graphs, which the program runs itself.
const CONTROL: Rule = Rule::new("control", |_, _| fail!(Unsupported, "it is lowered by the program"));

/// What is known of an operator, its overloads and its in-place form.
pub(super) fn rule(op: &str) -> Option<Rule> {
    let [aten, sizes] = &*RULES;
    let last = op.rsplit('.').next().unwrap_or(op);
    let found = aten.get(op).or_else(|| sizes.get(last)).copied();
    found.or_else(|| product::library_rule(op)).or_else(|| is_control(last).then_some(CONTROL))
}

/// What the exporter can do about an operator of ATen that is not known, as the end of a message.
pub(super) fn advice(op: &str) -> &'static str {
    match op.contains('.') {
        false => "; `program.run_decompositions()` before torch.export.save may write it in terms of others",
        true => "",
    }
}

/// Whose memory the results of a node are in.
pub(super) fn memory(graph: &schema::Graph, node: &schema::Node) -> Memory {
    let rule = rule(split_target(&node.target).0);
    rule.map_or(Memory::Own, |rule| (rule.memory)(&Ends::of(graph, node)))
}

/// True for operators whose in-place form changes what a name means, not what memory holds.
pub(super) fn renames(op: &str) -> bool {
    rule(op).is_some_and(|rule| rule.renames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_has_one_row() {
        let rows: usize = ATEN.iter().map(|rules| rules.len()).sum();
        assert_eq!((rows, symbol::RULES.len()), (RULES[0].len(), RULES[1].len()));
    }
}
