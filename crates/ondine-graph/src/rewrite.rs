//! Rewriting: how a graph becomes another one.
//!
//! A pass reads a graph and builds a new one through [`Rewrite`], so no pass ever edits a graph in place and every
//! new node goes through shape inference.

pub mod layout;
pub mod low_rank;
pub mod share;

use std::collections::BTreeSet;

use crate::{
    dtype::DType,
    error::{Context, Result, fail},
    graph::{Graph, Node, StateSlot, Value},
    op::Op,
    signature::Signature,
};

/// A new graph in the making, and where the values of the old one went.
pub struct Rewrite<'a> {
    /// The graph that is read.
    pub old: &'a Graph,
    /// The graph that is built.
    pub new: Graph,
    map: Vec<Option<Value>>,
}

impl<'a> Rewrite<'a> {
    /// Starts a rewrite; arguments and states are carried over at once.
    pub fn new(old: &'a Graph) -> Self {
        Self::with_states(old, |slot| slot.signature.dtype)
    }

    /// As [`Rewrite::new`], with states held in the types that `dtype` says: what reads and updates them has to follow.
    pub fn with_states(old: &'a Graph, dtype: impl Fn(&StateSlot) -> DType) -> Self {
        let mut rewrite = Self { old, new: Graph::new(), map: vec![None; old.nodes().len()] };
        for (symbol, &size) in old.typical() {
            rewrite.new.expect(symbol, size);
        }
        for (name, value) in old.inputs() {
            let signature = &old.node(*value).signature;
            let input = rewrite.new.input(name, signature.dtype, signature.shape.clone());
            rewrite.set(*value, input);
        }
        for slot in old.states() {
            let signature = Signature::new(slot.signature.shape.clone(), dtype(slot));
            rewrite.new.declare_state(&StateSlot { signature, ..slot.clone() });
        }
        for (symbol, &[least, most]) in old.limits() {
            rewrite.new.limit(symbol, least, most);
        }
        for (output, label) in old.labels() {
            rewrite.new.label(output, label);
        }
        old.settled_inputs().iter().for_each(|(name, value)| rewrite.new.settle_input(name, value.clone()));
        old.guards().iter().for_each(|guard| rewrite.new.guard(guard.clone()));
        rewrite
    }

    /// Where the old value went.
    ///
    /// # Panics
    /// If it has no successor yet; passes go through the nodes in order.
    #[expect(clippy::expect_used, reason = "nodes come after what they use, in every graph")]
    pub fn get(&self, value: Value) -> Value {
        self.map[value.index()].expect("an input comes before the node that uses it")
    }

    /// Makes `new` what the old value is from now on.
    pub fn set(&mut self, value: Value, new: Value) {
        self.map[value.index()] = Some(new);
    }

    /// Copies a node as it is, and remembers where it went.
    pub fn keep(&mut self, value: Value) -> Result<Value> {
        let node = self.old.node(value);
        if let Some(done) = self.map[value.index()] {
            return Ok(done);
        }
        self.new.enter(node.scope.clone());
        self.new.trace(node.origin.clone());
        let new = match &node.op {
            Op::Input => fail!(Shape, "an argument that is none of the inputs of the graph"),
            Op::Weight(id) => {
                let weight = self.old.weight_info(*id);
                self.new.weight(&weight.path, &weight.shape)?
            }
            Op::Const(array) => self.new.constant(array.clone()),
            Op::State(slot) => self.new.state_value(*slot),
            Op::Loop(id) => {
                let inputs: Vec<_> = node.inputs.iter().map(|&input| self.get(input)).collect();
                self.new.push_loop(self.old.loop_info(*id).clone(), &inputs)?
            }
            op => {
                let inputs: Vec<_> = node.inputs.iter().map(|&input| self.get(input)).collect();
                // Some operators hold their result in another type than their inputs have.
                self.new.push_typed(op.clone(), &inputs, node.signature.dtype)?
            }
        };
        self.set(value, new);
        Ok(new)
    }

    /// Carries results, state updates and names over, and yields the new graph.
    ///
    /// # Errors
    /// If the update of a state changed its shape or type.
    pub fn finish(self) -> Result<Graph> {
        self.finish_with(|_, _, value| Ok(value))
    }

    /// As [`Rewrite::finish`]; what the graph hands on is what `hand_on` makes of it: a result or, by its position, the
    /// update of a state.
    ///
    /// # Errors
    /// As [`Rewrite::finish`] and `hand_on`.
    pub fn finish_with(
        mut self,
        mut hand_on: impl FnMut(&mut Graph, Option<usize>, Value) -> Result<Value>,
    ) -> Result<Graph> {
        for named in self.old.named() {
            // What has gone into another operator has no value any more, and what another shape stands for is not it.
            let new = self.map[named.value.index()];
            if let Some(new) = new.filter(|&new| self.new.shape(new) == self.old.shape(named.value)) {
                self.new.rename(named, new);
            }
        }
        for (name, value) in self.old.outputs() {
            let value = self.get(*value);
            let value = hand_on(&mut self.new, None, value)?;
            self.new.output(name, value);
        }
        for (position, slot) in self.old.states().iter().enumerate() {
            if let Some(update) = slot.update {
                let update = self.get(update);
                let update = hand_on(&mut self.new, Some(position), update)?;
                self.new.update_state(&slot.name, update)?;
            }
        }
        Ok(self.new)
    }
}

/// How often each value is used: by nodes, as a result, or as the update of a state.
pub fn uses(graph: &Graph) -> Vec<usize> {
    let mut uses = vec![0; graph.nodes().len()];
    let by_nodes = graph.nodes().iter().flat_map(|node| &node.inputs);
    let results = graph.outputs().iter().map(|(_, value)| value);
    let updates = graph.states().iter().filter_map(|slot| slot.update.as_ref());
    for value in by_nodes.chain(results).chain(updates) {
        uses[value.index()] += 1;
    }
    uses
}

/// Rewrites node by node: `rule` yields what takes the place of a node, or `None` to keep it.
///
/// Nodes that no result needs are dropped. An error names the pass.
pub fn rewrite(
    name: &'static str,
    graph: &Graph,
    mut rule: impl FnMut(&mut Rewrite<'_>, Value, &Node) -> Result<Option<Value>>,
) -> Result<Graph> {
    let live = live(graph);
    let mut rewrite = Rewrite::new(graph);
    for (value, node) in graph.values() {
        if !live[value.index()] || matches!(node.op, Op::Input) {
            continue;
        }
        rewrite.new.enter(node.scope.clone());
        rewrite.new.trace(node.origin.clone());
        match rule(&mut rewrite, value, node).at(|| format!("pass {name}"))? {
            Some(new) => rewrite.set(value, new),
            None => {
                rewrite.keep(value).at(|| format!("pass {name}"))?;
            }
        }
    }
    rewrite.finish()
}

/// Which nodes a result or a state's update depends on.
fn live(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.nodes().len()];
    let updates = graph.states().iter().filter_map(|slot| slot.update);
    for value in graph.outputs().iter().map(|(_, value)| *value).chain(updates) {
        live[value.index()] = true;
    }
    let mut spoken_of = BTreeSet::new();
    graph.guards().iter().for_each(|guard| guard.condition.symbols(&mut spoken_of));
    for (value, node) in (0..graph.nodes().len()).rev().zip(graph.nodes().iter().rev()) {
        if let Op::Measure { size, .. } = &node.op {
            let mut symbols = BTreeSet::new();
            size.symbols(&mut symbols);
            live[value] |= symbols.is_empty() || !symbols.is_disjoint(&spoken_of);
        }
        live[value] |= matches!(node.op, Op::Assert { .. });
        if live[value] {
            node.inputs.iter().for_each(|input| live[input.index()] = true);
            graph.symbols(&node.op, &mut spoken_of);
            node.signature.shape.0.iter().for_each(|dim| dim.symbols(&mut spoken_of));
        }
    }
    live
}

/// Drops what no result needs.
///
/// # Errors
/// As [`rewrite`].
pub fn sweep(graph: &Graph) -> Result<Graph> {
    rewrite("sweep", graph, |_, _, _| Ok(None))
}
