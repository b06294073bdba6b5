//! Caches: states into which rows are put that the network computed, as keys and values of earlier tokens, are held in
//! the type that products read. They take half the memory then, and nothing is converted to be read again and again.
//!
//! States that are computed with, as those of recurrent networks, stay as they are: their errors would add up. So do
//! scales of codes: these were made with what the scales are.

use std::{collections::BTreeSet, sync::Arc};

use ondine_graph::{Binary, DType, Graph, Node, Op, Result, Scatter, StateSlot, Value, rewrite::Rewrite};

/// The states of all functions that are nothing but caches.
pub(crate) fn caches<'a>(functions: impl IntoIterator<Item = &'a Graph>) -> BTreeSet<Arc<str>> {
    let (mut caches, mut others) = (BTreeSet::new(), BTreeSet::new());
    for graph in functions {
        let scaling = graph.nodes().iter().filter_map(|node| scale_of_codes(graph, node));
        others.extend(scaling.map(|state| graph.states()[state].name.clone()));
        for (index, slot) in graph.states().iter().enumerate() {
            let float = slot.signature.dtype == DType::F32 && slot.initial.is_none();
            match slot.update {
                Some(update) if float && is_put_into(graph, update, index) => caches.insert(slot.name.clone()),
                // Only read.
                None if float => false,
                _ => others.insert(slot.name.clone()),
            };
        }
    }
    caches.difference(&others).cloned().collect()
}

/// True if `value` is the state of this index with rows put into it.
fn is_put_into(graph: &Graph, mut value: Value, index: usize) -> bool {
    let mut put = false;
    loop {
        let node = graph.node(value);
        match (&node.op, &node.inputs[..]) {
            (Op::Scatter(Scatter::Replace), [into, ..]) => (value, put) = (*into, true),
            (Op::State(state), _) => return put && *state == index,
            _ => return false,
        }
    }
}

/// The state whose rows a node multiplies codes by, if it does.
fn scale_of_codes(graph: &Graph, node: &Node) -> Option<usize> {
    let (Op::Binary(Binary::Mul), &[a, b]) = (&node.op, &node.inputs[..]) else { return None };
    let source = |mut value: Value| loop {
        let node = graph.node(value);
        match node.op {
            Op::Scatter(Scatter::Replace) | Op::Slice { .. } | Op::Reshape(_) => value = node.inputs[0],
            _ => return node,
        }
    };
    let codes = |node: &Node| {
        let bytes = |value: Value| matches!(graph.node(value).signature.dtype, DType::I8 | DType::U8);
        matches!(node.op, Op::Cast(_)) && bytes(node.inputs[0])
    };
    match [source(a), source(b)] {
        [Node { op: Op::State(state), .. }, other] | [other, Node { op: Op::State(state), .. }] => {
            codes(other).then_some(*state)
        }
        _ => None,
    }
}

/// The pass: `caches` are held in `dtype`.
pub(crate) fn narrow(graph: &Graph, caches: &BTreeSet<Arc<str>>, dtype: DType) -> Result<Graph> {
    let is_cache = |slot: &StateSlot| caches.contains(&slot.name);
    if dtype == DType::F32 || !graph.states().iter().any(is_cache) {
        return Ok(graph.clone());
    }
    let mut rewrite = Rewrite::with_states(graph, |slot| if is_cache(slot) { dtype } else { slot.signature.dtype });
    let mut narrow = vec![false; graph.nodes().len()];
    for (value, node) in graph.values() {
        let first = node.inputs.first().is_some_and(|input| narrow[input.index()]);
        narrow[value.index()] = match node.op {
            Op::State(index) => is_cache(&graph.states()[index]),
            Op::Scatter(Scatter::Replace) | Op::Slice { .. } | Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) => first,
            _ => false,
        };
        if !node.inputs.iter().any(|input| narrow[input.index()]) {
            rewrite.keep(value)?;
            continue;
        }
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for &input in &node.inputs {
            let new = rewrite.get(input);
            let held = rewrite.new.node(new).signature.dtype;
            inputs.push(match narrow[value.index()] {
                true if held == DType::F32 => rewrite.new.cast(new, dtype)?,
                false if narrow[input.index()] => rewrite.new.cast(new, DType::F32)?,
                _ => new,
            });
        }
        rewrite.new.enter(node.scope.clone());
        rewrite.new.trace(node.origin.clone());
        let new = match node.op {
            Op::Loop(id) => rewrite.new.push_loop(graph.loop_info(id).clone(), &inputs)?,
            _ => rewrite.new.push(node.op.clone(), &inputs)?,
        };
        rewrite.set(value, new);
    }
    // Results keep the type that the caller was promised.
    for &(_, value) in graph.outputs() {
        if narrow[value.index()] {
            let held = rewrite.get(value);
            let result = rewrite.new.cast(held, DType::F32)?;
            rewrite.set(value, result);
        }
    }
    rewrite.finish_with(|new, state, value| match (state, &new.node(value).op) {
        (Some(state), Op::Cast(DType::F32)) if is_cache(&graph.states()[state]) => Ok(new.node(value).inputs[0]),
        _ => Ok(value),
    })
}

#[cfg(test)]
mod tests {
    use ondine_graph::{Dim, Shape};

    use super::*;

    /// A function that puts a row into `rows` and yields what `read` makes of them.
    fn putting(read: impl Fn(&mut Graph, Value) -> Value) -> Graph {
        let mut graph = Graph::new();
        let past = graph.input("past", DType::I64, Shape::default());
        graph.push(Op::Measure { size: Dim::symbol("past"), most: 7.into() }, &[past]).unwrap();
        let row = graph.input("row", DType::F32, [1, 4]);
        let rows = graph.state("rows", DType::F32, [8, 4]);
        let at = graph.push(Op::Range { start: Dim::symbol("past"), step: 1, count: 1.into() }, &[]).unwrap();
        let rows = graph.push(Op::Scatter(Scatter::Replace), &[rows, at, row]).unwrap();
        graph.update_state("rows", rows).unwrap();
        let read = read(&mut graph, rows);
        graph.output("y", read);
        graph
    }

    #[test]
    fn what_rows_are_put_into_is_narrow_and_what_is_computed_with_is_not() {
        let cache = putting(|graph, rows| {
            let first = graph.slice(rows, 0, 0, 3).unwrap();
            graph.affine(first, 2.0, 0.0).unwrap()
        });
        let mut sum = Graph::new();
        let (x, old) = (sum.input("x", DType::F32, [4]), sum.state("sum", DType::F32, [4]));
        let new = sum.add(old, x).unwrap();
        sum.update_state("sum", new).unwrap();
        let names = caches([&cache, &sum]);
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["rows"]);
        let narrowed = narrow(&cache, &names, DType::BF16).unwrap();
        assert_eq!(narrowed.states()[0].signature.dtype, DType::BF16);
        let types: Vec<_> = narrowed.nodes().iter().map(|node| (node.op.name(), node.signature.dtype)).collect();
        assert!(types.contains(&("slice", DType::BF16)) && types.contains(&("affine", DType::F32)), "{narrowed}");
        assert_eq!(narrow(&sum, &names, DType::BF16).unwrap().to_string(), sum.to_string());
        assert_eq!(narrow(&cache, &names, DType::F32).unwrap().to_string(), cache.to_string());
    }

    #[test]
    fn scales_of_codes_stay_as_they_are() {
        let scales = putting(|graph, rows| {
            let codes = graph.input("codes", DType::I8, [8, 4]);
            let numbers = graph.cast(codes, DType::F32).unwrap();
            graph.mul(numbers, rows).unwrap()
        });
        assert!(caches([&scales]).is_empty());
    }

    #[test]
    fn a_cache_that_is_a_result_too_is_one_of_the_promised_type() {
        let cache = putting(|_, rows| rows);
        let narrowed = narrow(&cache, &caches([&cache]), DType::BF16).unwrap();
        assert_eq!(narrowed.node(narrowed.outputs()[0].1).signature.dtype, DType::F32);
        let update = narrowed.states()[0].update.unwrap();
        assert_eq!(narrowed.node(update).signature.dtype, DType::BF16, "{narrowed}");
    }

    #[test]
    fn one_function_that_computes_with_a_state_decides_for_all() {
        let cache = putting(|_, rows| rows);
        let mut other = Graph::new();
        let old = other.state("rows", DType::F32, [8, 4]);
        let new = other.affine(old, 0.5, 0.0).unwrap();
        other.update_state("rows", new).unwrap();
        assert!(caches([&cache, &other]).is_empty());
    }
}
