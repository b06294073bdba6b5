//! Sizes of a call: bound, or as large as they can be where the data decides them.

use std::{collections::BTreeSet, sync::Arc};

use ondine_graph::{Bindings, Context, Dim, Error, ErrorKind, Graph, Node, Op, Result, Value, element_count, fail};

use crate::step::Sizes;

/// The smallest and largest values of all symbols: those of the call, and of those that it measures what the graph and
/// its sizes say.
pub(super) fn spans(graph: &Graph, Sizes { bound: bindings, most: known_most }: &Sizes) -> Result<[Bindings; 2]> {
    let (mut least, mut most) = (bindings.clone(), bindings.clone());
    for node in graph.nodes() {
        let Op::Measure { size, most: limit } = &node.op else { continue };
        let limit = limit.most(&least, &most)?.unwrap_or(usize::MAX);
        let mut symbols = BTreeSet::new();
        size.symbols(&mut symbols);
        for symbol in symbols.into_iter().filter(|symbol| !bindings.contains_key(symbol)) {
            let known = graph.limits().get(&symbol).copied().unwrap_or([0, usize::MAX]);
            // Only of a symbol itself does the limit of its size tell the limit.
            let own = if *size == Dim::from(&*symbol) { limit } else { usize::MAX };
            let told = known_most.get(&symbol).copied().unwrap_or(usize::MAX);
            let largest = known[1].min(own).min(told).min(most.get(&symbol).copied().unwrap_or(usize::MAX));
            most.insert(symbol.clone(), largest);
            least.insert(symbol, known[0].min(largest));
        }
    }
    Ok([least, most])
}

/// The symbols of which nothing says how large they can be.
pub(super) fn unbounded(most: &Bindings) -> BTreeSet<Arc<str>> {
    // Limits that say nothing are the largest numbers.
    let says_nothing = |most: usize| isize::try_from(most).is_err() || most == isize::MAX as usize;
    most.iter().filter(|(_, most)| says_nothing(**most)).map(|(symbol, _)| symbol.clone()).collect()
}

/// True if the symbols that `list` adds are among `measured`.
pub(super) fn depends(measured: &BTreeSet<Arc<str>>, list: impl Fn(&mut BTreeSet<Arc<str>>)) -> bool {
    if measured.is_empty() {
        return false;
    }
    let mut names = BTreeSet::new();
    list(&mut names);
    !names.is_disjoint(measured)
}

/// All shapes, or the largest of those that the call decides; those that are `open` have no elements yet.
pub(super) fn bind_shapes(
    graph: &Graph,
    least: &Bindings,
    most: &Bindings,
    open: &BTreeSet<Arc<str>>,
) -> Result<Vec<Vec<usize>>> {
    let certain = least == most;
    let bind = |node: &Node| {
        let dims = &node.signature.shape.0;
        if depends(open, |names| dims.iter().for_each(|dim| dim.symbols(names))) {
            return Ok(vec![0; dims.len()]);
        }
        let size = |dim: &Dim| match certain {
            true => dim.bind(most),
            false => match dim.most(least, most)? {
                Some(size) => Ok(size),
                None => fail!(
                    Shape,
                    "nothing says how large {dim} can be, which the data decides; export with torch._check(size <= limit)"
                ),
            },
        };
        let shape = dims.iter().map(size).collect::<Result<Vec<_>>>()?;
        match element_count(&shape) {
            Some(_) => Ok(shape),
            None => Err(Error::new(ErrorKind::Shape, format!("a value of shape {shape:?} is too large"))),
        }
    };
    graph.nodes().iter().map(|node| bind(node).at(|| format!("{} ({})", node.scope, node.op))).collect()
}

/// The symbols that a node and what it works on speak of.
pub(super) fn spoken_of(graph: &Graph, node: &Node, names: &mut BTreeSet<Arc<str>>) {
    let shapes = node.inputs.iter().map(|&input| graph.shape(input)).chain([&node.signature.shape]);
    shapes.for_each(|shape| shape.0.iter().for_each(|dim| dim.symbols(names)));
    graph.symbols(&node.op, names);
}

/// Asks of sizes what could not be asked of symbols.
pub(super) fn agree(graph: &Graph, value: Value, shapes: &[Vec<usize>], bindings: &Bindings) -> Result<()> {
    let node = graph.node(value);
    let check = || {
        let Some(from) = node.inputs.first().map(|input| &shapes[input.index()]) else { return Ok(()) };
        match &node.op {
            Op::Reshape(_) if element_count(from) != element_count(&shapes[value.index()]) => {
                fail!(Shape, "{from:?} cannot be reshaped to {:?}", shapes[value.index()])
            }
            Op::Slice { axis, start, end } => {
                let (start, end, size) = (start.bind(bindings)?, end.bind(bindings)?, from[*axis]);
                if start > end || end > size {
                    fail!(Shape, "slice {start}..{end} is outside dimension {axis} of size {size}");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    };
    check().at(|| format!("{} ({})", node.scope, node.op))
}

/// Refuses a number that the data decides and that is larger than what memory is planned for.
pub(crate) fn check_planned(size: &Dim, most: &Dim, count: i64, bindings: &Bindings) -> Result<()> {
    match most.bind(bindings) {
        Ok(most) if usize::try_from(count).is_ok_and(|count| count > most) => {
            fail!(Memory, "{size} is {count}, but memory is planned for {most}")
        }
        _ => Ok(()),
    }
}
