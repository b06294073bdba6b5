//! What inference leaves to the passes, asked of every node that a file claims to have: that it is of the stage which
//! the file is said to be of.

use crate::{
    error::Result,
    graph::{Graph, Value},
    portable::check_node,
};

/// The stage that a graph is of.
#[derive(Clone, Copy)]
pub enum Level<'a> {
    /// Of no machine: as builders and importers make it.
    Portable,
    /// As a backend left it, which says what can run.
    Lowered(&'a dyn Fn(&Graph, Value) -> Result<()>),
}

/// Makes sure that a node that inference let through is one that can run.
///
/// # Errors
/// If it cannot, or is none of its level.
pub fn check(graph: &Graph, value: Value, level: Level<'_>) -> Result<()> {
    match level {
        Level::Portable => check_node(graph, graph.node(value)),
        Level::Lowered(runs) => runs(graph, value),
    }
}
