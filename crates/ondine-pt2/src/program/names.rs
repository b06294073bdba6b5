//! A program under way: what its names stand for.

use std::{collections::HashMap, sync::Arc};

use ondine_graph::{Dim, Result, Shape, fail};

use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item},
    rules, schema, source,
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

/// Lowers one node: its results have the shapes and element types that the program says, whatever its rule made.
pub(super) fn run(
    builder: &mut Builder,
    graph: &schema::Graph,
    node: &schema::Node,
    items: &HashMap<Arc<str>, Item>,
) -> Result<Vec<Item>> {
    let mut results = moved(builder, graph, node, items)?;
    for (index, result) in results.iter_mut().enumerate() {
        if let (Item::Tensor(tensor), Ok(dtype)) = (result, call(graph, node, items).out_dtype(index)) {
            *tensor = builder.cast(tensor, dtype)?;
        }
    }
    Ok(results)
}

/// As [`run`], with the element types that the rule made: a view moves whatever it is given, places of elements too.
pub(super) fn moved(
    builder: &mut Builder,
    graph: &schema::Graph,
    node: &schema::Node,
    items: &HashMap<Arc<str>, Item>,
) -> Result<Vec<Item>> {
    let call = call(graph, node, items);
    if let Some(nothing) = nothing(builder, &call)? {
        return Ok(nothing);
    }
    let complex = call.any_complex() || call.out_complex(0).unwrap_or(false);
    let Some(rule) = rules::rule(call.op) else { fail!(Unsupported, "there is no rule for it") };
    let run = if complex { rule.complex } else { Some(rule.run) };
    let Some(run) = run else { fail!(Unsupported, "it is known for real numbers only{}", rules::advice(call.op)) };
    let lifted = if rule.along { lifted(builder, &call)? } else { None };
    let mut results = run(builder, &Call { items: lifted.as_ref().unwrap_or(items), ..call })?;
    for (index, result) in results.iter_mut().enumerate() {
        if let Item::Tensor(tensor) = result {
            *tensor = settled(builder, &call, index, tensor)?;
        }
    }
    Ok(results)
}

/// The results of a node that yields no element at all: no rule need know of those.
fn nothing(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Item>>> {
    let mut results = Vec::new();
    for index in 0..call.output_names().len() {
        let (Ok(shape), Ok(dtype)) = (call.out_shape(index), call.out_dtype(index)) else { return Ok(None) };
        if !shape.iter().all(|dim| dim.constant().is_some()) || !shape.iter().any(|dim| dim.constant() == Some(0)) {
            return Ok(None);
        }
        let zero = builder.number(0.0, dtype)?;
        results.push(Item::Tensor(builder.expand(&zero, &shape)?));
    }
    Ok(if results.is_empty() { None } else { Some(results) })
}

/// What the arguments of a node stand for if the first is a number without dimensions: each such number has one of
/// size 1.
fn lifted(builder: &mut Builder, call: &Call<'_>) -> Result<Option<HashMap<Arc<str>, Item>>> {
    let first = call.first_name().and_then(|name| call.items.get(name));
    if !matches!(first, Some(Item::Tensor(tensor)) if tensor.rank() == 0) {
        return Ok(None);
    }
    let mut items = HashMap::new();
    for name in call.node.inputs.iter().flat_map(|input| source::names(&input.arg)) {
        let Some(item) = call.items.get(name) else { continue };
        let item = match item {
            Item::Tensor(tensor) if tensor.rank() == 0 => Item::Tensor(builder.reshape(tensor, &[1.into()])?),
            item => item.clone(),
        };
        items.insert(name.clone(), item);
    }
    Ok(Some(items))
}

/// Result `index` of a node in the shape that the program says.
fn settled(builder: &mut Builder, call: &Call<'_>, index: usize, tensor: &Tensor) -> Result<Tensor> {
    let mut tensor = builder.renamed(tensor.clone())?;
    let (Ok(promised), Ok(dtype)) = (call.out_shape(index), call.out_dtype(index)) else { return Ok(tensor) };
    // What a kernel of the exporter did not make, nobody reads.
    if promised.iter().any(|dim| dim.constant() == Some(0)) {
        let known = promised.iter().all(|dim| dim.constant().is_some()) && builder.shape(&tensor) != promised;
        let zero = if known { builder.number(0.0, dtype)? } else { return Ok(tensor) };
        return builder.expand(&zero, &promised);
    }
    let long = |shape: &[Dim]| shape.iter().filter(|dim| dim.constant() != Some(1)).cloned().collect::<Vec<_>>();
    if builder.shape(&tensor).len() != promised.len() && long(&builder.shape(&tensor)) == long(&promised) {
        tensor = builder.reshape(&tensor, &promised)?;
    }
    let shape = builder.shape(&tensor);
    let unlike = |(a, b): (&Dim, &Dim)| a.constant().is_some() && b.constant().is_some() && a != b;
    if shape.len() != promised.len() || shape.iter().zip(&promised).any(unlike) {
        let (shape, promised) = (Shape(shape), Shape(promised));
        fail!(Shape, "result {index} has shape {shape}; the program says {promised}");
    }
    Ok(tensor)
}
