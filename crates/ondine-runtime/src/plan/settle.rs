//! Sizes that the data decides: a plan for the largest becomes that of those found.

use std::{collections::BTreeSet, sync::Arc};

use ondine_graph::{Bindings, Dim, Graph, Op, Result, fail};

use super::{
    Planner, bytes,
    sizes::{agree, spoken_of},
    turns,
};
use crate::step::{Place, Plan};

impl Planner<'_> {
    /// Makes `count`, a number that a node measured, the size of everything that speaks of `size`.
    ///
    /// # Errors
    /// If the number is another than the size has already, or larger than memory is planned for.
    pub(crate) fn settle(&self, plan: &mut Plan, bindings: &mut Bindings, size: &Dim, count: i64) -> Result<()> {
        let graph = &self.lowered.graph;
        let Ok(count) = usize::try_from(count) else { fail!(Shape, "{count} elements") };
        let mut symbols = BTreeSet::new();
        size.symbols(&mut symbols);
        let known = symbols.iter().all(|symbol| bindings.contains_key(symbol));
        if !known {
            let solved = size.solve(count)?;
            let Some((symbol, value)) = solved else { fail!(Unsupported, "a size of {size} that the data decides") };
            if let Some(&[least, most]) = graph.limits().get(symbol)
                && !(least..=most).contains(&value)
            {
                fail!(Shape, "the data makes a size of {value}; the model was made for {least} to {most}");
            }
            bindings.insert(symbol.clone(), value);
        }
        let wanted = size.bind(bindings)?;
        if wanted != count {
            fail!(Shape, "the data makes a size of {count}; the model was made for {wanted}");
        }
        if known {
            return Ok(());
        }
        let bound = |list: &dyn Fn(&mut BTreeSet<Arc<str>>)| {
            let mut names = BTreeSet::new();
            list(&mut names);
            !names.is_disjoint(&symbols) && names.iter().all(|name| bindings.contains_key(name))
        };
        settle_values(plan, graph, bindings, &bound)?;
        for index in 0..plan.own {
            let node = graph.node(plan.steps[index].value);
            if bound(&|names| spoken_of(graph, node, names)) {
                agree(graph, plan.steps[index].value, &plan.shapes, bindings)?;
                self.settle_step(plan, index, bindings)?;
            }
        }
        Ok(())
    }

    /// Brings a step to the sizes that were found.
    fn settle_step(&self, plan: &mut Plan, index: usize, bindings: &Bindings) -> Result<()> {
        let graph = &self.lowered.graph;
        let mut step = plan.steps[index].clone();
        let node = graph.node(step.value);
        let mut symbols = BTreeSet::new();
        graph.symbols(&node.op, &mut symbols);
        if symbols.iter().all(|symbol| bindings.contains_key(symbol)) {
            step.op = node.op.bind(bindings)?;
        }
        for (read, input) in step.reads.iter_mut().zip(&node.inputs) {
            read.shape = plan.shapes[input.index()].as_slice().into();
            if !matches!(read.place, Place::Packed(_)) {
                read.place = plan.places[input.index()];
            }
        }
        step.result.shape = plan.shapes[step.value.index()].as_slice().into();
        step.result.place = plan.places[step.value.index()];
        if let Op::Loop(id) = node.op {
            let turns = turns::Draft::new(self, graph.loop_info(id), &step, self.lowered.space(step.value))?;
            self.settle_turns(plan, &mut step, turns)?;
        } else {
            let prepared = self.prepared(graph, &step, |value| self.lowered.space(value))?;
            if prepared.scratch > step.scratch.len {
                fail!(Memory, "{} takes {} bytes, but {} are planned", node.op, prepared.scratch, step.scratch.len);
            }
            (step.kernel, step.cost) = (prepared.kernel, prepared.cost);
        }
        plan.steps[index] = step;
        Ok(())
    }

    /// Brings the steps of a loop to the sizes that were found: they are as many as before, in the same order.
    fn settle_turns(&self, plan: &mut Plan, step: &mut crate::step::Step, turns: turns::Draft) -> Result<()> {
        let Some(first) = step.turns.as_ref().map(|turns| turns.sides[0].condition.start) else { return Ok(()) };
        if turns.scratch_bytes() > step.scratch.len {
            fail!(Memory, "a loop takes {} bytes, but {} are planned", turns.scratch_bytes(), step.scratch.len);
        }
        let mut inner = Vec::new();
        step.turns = Some(Arc::new(turns.place(step, first, &mut inner)?));
        for (old, new) in plan.steps[first..].iter_mut().zip(inner) {
            *old = new;
        }
        Ok(())
    }
}

/// True if what lists its symbols speaks of those found, and of none that is not known.
type Bound<'a> = dyn Fn(&dyn Fn(&mut BTreeSet<Arc<str>>)) -> bool + 'a;

/// Gives values that speak of nothing unknown any more their shapes, and their places the bytes that these take.
fn settle_values(plan: &mut Plan, graph: &Graph, bindings: &Bindings, bound: &Bound<'_>) -> Result<()> {
    for (value, node) in graph.values() {
        let shape = &node.signature.shape;
        if !bound(&|names| shape.0.iter().for_each(|dim| dim.symbols(names))) {
            continue;
        }
        plan.shapes[value.index()] = shape.bind(bindings)?;
        let len = bytes(node.signature.dtype, &plan.shapes[value.index()])?;
        if let (Place::Arena(region), true) = (&mut plan.places[value.index()], plan.roots[value.index()] == value) {
            if len > region.len {
                fail!(Memory, "{shape} takes {len} bytes, but {} are planned", region.len);
            }
            region.len = len;
        }
    }
    for (value, node) in graph.values() {
        if matches!(node.op, Op::Reshape(_)) && bound(&|names| spoken_of(graph, node, names)) {
            agree(graph, value, &plan.shapes, bindings)?;
        }
    }
    for value in 0..plan.places.len() {
        plan.places[value] = plan.places[plan.roots[value].index()];
    }
    Ok(())
}
