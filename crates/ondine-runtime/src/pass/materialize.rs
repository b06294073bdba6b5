//! Materialize: what a call hands on becomes a value of its own where it is a weight, which is packed, or the old value
//! of another state, which may be written before it is handed on.

use ondine_graph::{
    Graph, Op, Result, Value,
    rewrite::{Rewrite, sweep},
};

/// The pass.
pub(crate) fn materialize(graph: &Graph) -> Result<Graph> {
    let updates = graph.states().iter().enumerate().filter_map(|(slot, state)| Some((Some(slot), state.update?)));
    let handed_on = graph.outputs().iter().map(|&(_, value)| (None, value)).chain(updates);
    if !handed_on.into_iter().any(|(slot, value)| needs_copy(graph, slot, value)) {
        return Ok(graph.clone());
    }
    let mut rewrite = Rewrite::new(graph);
    for (value, _) in graph.values().filter(|(_, node)| !matches!(node.op, Op::Input)) {
        rewrite.keep(value)?;
    }
    let copied = rewrite.finish_with(|new, slot, value| {
        if !needs_copy(new, slot, value) {
            return Ok(value);
        }
        let shape = new.shape(value).clone();
        new.push(Op::Expand(shape), &[value])
    })?;
    sweep(&copied)
}

/// True if the value, a result or the update of a state, is one whose memory is not the call's.
fn needs_copy(graph: &Graph, slot: Option<usize>, mut value: Value) -> bool {
    while let Op::Reshape(_) = graph.node(value).op {
        value = graph.node(value).inputs[0];
    }
    match graph.node(value).op {
        Op::Weight(_) => true,
        Op::State(old) => slot.is_some_and(|slot| slot != old),
        _ => false,
    }
}
