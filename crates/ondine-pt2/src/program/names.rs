//! A program under way: what its names stand for.

use std::{collections::HashMap, sync::Arc};

use ondine_graph::{Dim, Result, Shape, fail};

use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item},
    rules, schema,
    target::split_target,
    tensors::Strided,
};

/// A program under way.
pub(super) struct Program<'a> {
    pub(super) builder: Builder,
    pub(super) items: HashMap<Arc<str>, Item>,
    pub(super) paths: HashMap<Arc<str>, Path<'a>>,
    pub(super) bases: Vec<Base>,
    /// True within a subgraph, whose names may be those of the program.
    pub(super) inner: bool,
}

/// Where a name's tensor comes from.
#[derive(Clone)]
pub(super) struct Path<'a> {
    pub(super) base: usize,
    pub(super) version: u32,
    /// The views from the base on.
    pub(super) views: Vec<View<'a>>,
    /// True if it cannot be told whether this is the base's memory or a copy.
    pub(super) unsure: bool,
}

/// A way to look at a tensor.
#[derive(Clone)]
pub(super) enum View<'a> {
    /// One result of a node.
    Result { graph: &'a schema::Graph, node: &'a schema::Node, index: usize },
    /// Elements of the memory that stored tensors share.
    Stored(Arc<Strided>),
}

/// A tensor with memory of its own.
pub(super) struct Base {
    pub(super) value: Tensor,
    pub(super) version: u32,
    pub(super) state: Option<Arc<str>>,
}

pub(super) fn call<'c>(
    graph: &'c schema::Graph,
    node: &'c schema::Node,
    items: &'c HashMap<Arc<str>, Item>,
) -> Call<'c> {
    let (op, overload, _) = split_target(&node.target);
    Call { op, overload, node, graph, items }
}

/// Lowers one node.
pub(super) fn run(
    builder: &mut Builder,
    graph: &schema::Graph,
    node: &schema::Node,
    items: &HashMap<Arc<str>, Item>,
) -> Result<Vec<Item>> {
    let call = call(graph, node, items);
    let complex = call.any_complex() || call.out_complex(0).unwrap_or(false);
    let Some(rule) = rules::rule(call.op) else { fail!(Unsupported, "there is no rule for it") };
    let run = if complex { rule.complex } else { Some(rule.run) };
    let Some(run) = run else { fail!(Unsupported, "it is known for real numbers only") };
    let mut results = run(builder, &call)?;
    for (index, result) in results.iter_mut().enumerate() {
        if let Item::Tensor(tensor) = result {
            *tensor = builder.renamed(tensor.clone())?;
        }
        let (Item::Tensor(tensor), Ok(promised)) = (result, call.out_shape(index)) else { continue };
        let shape = builder.shape(tensor);
        // What a kernel of the exporter did not make, nobody reads.
        if promised.iter().any(|dim| dim.constant() == Some(0)) {
            continue;
        }
        let unlike = |(a, b): (&Dim, &Dim)| a.constant().is_some() && b.constant().is_some() && a != b;
        if shape.len() != promised.len() || shape.iter().zip(&promised).any(unlike) {
            let (shape, promised) = (Shape(shape), Shape(promised));
            fail!(Shape, "result {index} has shape {shape}; the program says {promised}");
        }
    }
    Ok(results)
}
