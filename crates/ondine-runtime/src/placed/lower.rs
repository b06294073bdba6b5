//! A graph cut into runs of nodes of one unit, each as that runs it, and joined again.

use std::collections::{BTreeMap, HashMap};

use ondine_graph::{Context, Graph, Op, Result, Value, Weights, fail};

use super::unit::{Units, transfer};
use crate::{backend::Lowering, options::Options};

/// Nodes one after the other that one unit runs.
struct Run {
    unit: usize,
    nodes: Vec<Value>,
}

/// A value of the joined graph.
#[derive(Clone, Copy)]
struct Joined {
    value: Value,
    /// Where it lives; none if every unit reaches it.
    space: Option<u8>,
}

pub(super) fn lower(units: &Units, graph: &Graph, options: Options, weights: &Weights) -> Result<Lowering> {
    let mut join = Join { units, old: graph, new: Graph::new(), spaces: Vec::new(), known: HashMap::new() };
    join.begin();
    for run in runs(units, graph)? {
        let (cut, crossing) = cut(graph, &run)?;
        let lowering = units.all[run.unit].lower(&cut, options, weights)?;
        join.add(&run, &lowering, &crossing)?;
    }
    join.finish()
}

/// True if a node is a place, which belongs to whoever reads it.
fn is_place(op: &Op) -> bool {
    matches!(op, Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_))
}

fn runs(units: &Units, graph: &Graph) -> Result<Vec<Run>> {
    let (mut runs, mut placed) = (Vec::<Run>::new(), HashMap::new());
    for (value, node) in graph.values().filter(|(_, node)| !is_place(&node.op)) {
        // A reshape is where its source is.
        let source = node.inputs.first().and_then(|input| placed.get(input)).copied();
        let unit = match node.op {
            Op::Reshape(_) => source.unwrap_or_else(|| (units.assign)(graph, value)),
            _ => (units.assign)(graph, value),
        };
        if unit >= units.all.len() {
            fail!(Unsupported, "{} ({}) is placed on unit {unit} of {}", node.scope, node.op, units.all.len());
        }
        placed.insert(value, unit);
        match runs.last_mut().filter(|run| run.unit == unit) {
            Some(run) => run.nodes.push(value),
            None => runs.push(Run { unit, nodes: vec![value] }),
        }
    }
    Ok(runs)
}

fn name(value: Value) -> String {
    format!("value {}", value.index())
}

/// The graph of a run, its arguments what others compute; and which values it takes and yields, by name.
fn cut(graph: &Graph, run: &Run) -> Result<(Graph, BTreeMap<String, Value>)> {
    let (mut new, mut map, mut crossing) = (Graph::new(), HashMap::new(), BTreeMap::new());
    graph.typical().iter().for_each(|(symbol, &size)| new.expect(symbol, size));
    graph.limits().iter().for_each(|(symbol, &[least, most])| new.limit(symbol, least, most));
    for &value in &run.nodes {
        let node = graph.node(value);
        for &input in &node.inputs {
            if map.contains_key(&input) {
                continue;
            }
            let source = graph.node(input);
            let taken = match &source.op {
                Op::Weight(id) => new.weight(&graph.weight_info(*id).path, &graph.weight_info(*id).shape)?,
                Op::Const(array) => new.constant(array.clone()),
                _ => {
                    crossing.insert(name(input), input);
                    new.input(&name(input), source.signature.dtype, source.signature.shape.clone())
                }
            };
            map.insert(input, taken);
        }
        new.enter(node.scope.clone());
        new.trace(node.origin.clone());
        let inputs: Vec<Value> = node.inputs.iter().map(|input| map[input]).collect();
        let copied = match &node.op {
            Op::Loop(id) => new.push_loop(graph.loop_info(*id).clone(), &inputs)?,
            op => new.push_typed(op.clone(), &inputs, node.signature.dtype)?,
        };
        map.insert(value, copied);
    }
    for &value in run.nodes.iter().filter(|&&value| leaves(graph, run, value)) {
        crossing.insert(name(value), value);
        new.output(&name(value), map[&value]);
    }
    Ok((new, crossing))
}

/// True if somebody outside the run wants the value.
fn leaves(graph: &Graph, run: &Run, value: Value) -> bool {
    let handed_on = graph.outputs().iter().any(|&(_, result)| result == value)
        || graph.states().iter().any(|slot| slot.update == Some(value));
    let outside = |(reader, node): (Value, &ondine_graph::Node)| {
        node.inputs.contains(&value) && run.nodes.binary_search(&reader).is_err()
    };
    handed_on || graph.values().any(outside)
}

/// The joined graph in the making.
struct Join<'a> {
    units: &'a Units,
    old: &'a Graph,
    new: Graph,
    spaces: Vec<u8>,
    /// Values that cross, and what became of them.
    known: HashMap<Value, Joined>,
}

impl Join<'_> {
    /// Carries over what belongs to no run.
    fn begin(&mut self) {
        let (old, new) = (self.old, &mut self.new);
        old.typical().iter().for_each(|(symbol, &size)| new.expect(symbol, size));
        old.limits().iter().for_each(|(symbol, &[least, most])| new.limit(symbol, least, most));
        old.settled_inputs().iter().for_each(|(name, value)| new.settle_input(name, value.clone()));
        old.guards().iter().for_each(|guard| new.guard(guard.clone()));
        for (name, value) in old.inputs() {
            let signature = &old.node(*value).signature;
            let input = new.input(name, signature.dtype, signature.shape.clone());
            self.known.insert(*value, Joined { value: input, space: None });
        }
        old.states().iter().for_each(|slot| new.declare_state(slot));
        for (value, node) in old.values() {
            let joined = match &node.op {
                Op::State(slot) => Joined { value: new.state_value(*slot), space: Some(0) },
                Op::Const(array) => Joined { value: new.constant(array.clone()), space: None },
                _ => continue,
            };
            self.known.insert(value, joined);
        }
        self.mark(0);
    }

    /// Says that all nodes added since the last time live in `space`.
    fn mark(&mut self, space: u8) {
        self.spaces.resize(self.new.nodes().len(), space);
    }

    /// Adds a run as its unit has lowered it.
    fn add(&mut self, run: &Run, lowering: &Lowering, crossing: &BTreeMap<String, Value>) -> Result<()> {
        let (graph, first) = (&lowering.graph, self.units.first[run.unit]);
        let mut map: HashMap<Value, Value> = HashMap::new();
        for (name, value) in graph.inputs() {
            let Some(&old) = crossing.get(&**name) else { fail!(Unsupported, "a unit invented the argument `{name}`") };
            let brought = self.bring(old, run.unit)?;
            map.insert(*value, brought);
        }
        if !graph.states().is_empty() {
            fail!(Unsupported, "a unit invented a state");
        }
        for (value, node) in graph.values().filter(|(_, node)| !matches!(node.op, Op::Input)) {
            self.new.enter(node.scope.clone());
            self.new.trace(node.origin.clone());
            let inputs: Vec<Value> = node.inputs.iter().map(|input| map[input]).collect();
            let added = match &node.op {
                Op::Weight(id) => {
                    let weight = graph.weight_info(*id);
                    self.new.weight(&weight.path, &weight.shape)?
                }
                Op::Const(array) => self.new.constant(array.clone()),
                Op::Loop(id) => self.new.push_loop(graph.loop_info(*id).clone(), &inputs)?,
                op => self.new.push_typed(op.clone(), &inputs, node.signature.dtype)?,
            };
            self.mark(first + lowering.spaces.get(value.index()).copied().unwrap_or_default());
            map.insert(value, added);
        }
        for (name, value) in graph.outputs() {
            let Some(&old) = crossing.get(&**name) else { fail!(Unsupported, "a unit invented the result `{name}`") };
            let space = lowering.spaces.get(value.index()).copied().unwrap_or_default();
            let joined = match graph.node(*value).op {
                Op::Input => self.known[&crossing[&name_of(graph, *value)?]],
                _ => Joined { value: map[value], space: Some(first + space) },
            };
            self.known.insert(old, joined);
        }
        Ok(())
    }

    /// A value where a unit can read it.
    fn bring(&mut self, old: Value, unit: usize) -> Result<Value> {
        let Some(&Joined { value, space }) = self.known.get(&old) else {
            fail!(Unsupported, "a unit reads what no other computes");
        };
        if space.is_none_or(|space| self.units.unit(space) == unit) {
            return Ok(value);
        }
        let signature = self.new.node(value).signature.clone();
        let brought = self.new.push(transfer(signature), &[value])?;
        self.mark(self.units.first[unit]);
        Ok(brought)
    }

    fn finish(mut self) -> Result<Lowering> {
        let handed_on = |join: &Self, value: Value| match join.known.get(&value) {
            Some(joined) => Ok(joined.value),
            None => fail!(Unsupported, "nobody computes a result"),
        };
        for (name, value) in self.old.outputs() {
            let value = handed_on(&self, *value).at(|| name)?;
            self.new.output(name, value);
        }
        for slot in self.old.states() {
            if let Some(update) = slot.update {
                let update = handed_on(&self, update).at(|| &slot.name)?;
                self.new.update_state(&slot.name, update)?;
            }
        }
        self.mark(0);
        Ok(Lowering { graph: self.new, spaces: self.spaces, states: Vec::new() })
    }
}

/// The name of an argument.
fn name_of(graph: &Graph, value: Value) -> Result<String> {
    match graph.inputs().iter().find(|(_, input)| *input == value) {
        Some((name, _)) => Ok(name.to_string()),
        None => fail!(Unsupported, "an argument that is not listed"),
    }
}
