//! Sizes that the data decides: a plan for the largest becomes that of those found.

use std::{collections::BTreeSet, sync::Arc};

use ondine_graph::{Bindings, Dim, Graph, Op, Result, Value, fail};

use super::{
    Planner,
    arrange::{Piece, arrange, taken},
    bytes, last_uses,
    sizes::{agree, depends, spans, spoken_of, unbounded},
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
        graph.check(bindings)?;
        if known {
            return Ok(());
        }
        let bound = |list: &dyn Fn(&mut BTreeSet<Arc<str>>)| {
            let mut names = BTreeSet::new();
            list(&mut names);
            !names.is_disjoint(&symbols) && names.iter().all(|name| bindings.contains_key(name))
        };
        let open = self.open(bindings)?;
        let mut found = Found::default();
        settle_values(plan, graph, bindings, &bound, &open, &mut found)?;
        for index in 0..plan.own {
            let node = graph.node(plan.steps[index].value);
            if bound(&|names| spoken_of(graph, node, names)) {
                agree(graph, plan.steps[index].value, &plan.shapes, bindings)?;
                let scratch =
                    self.settle_step(plan, index, bindings, depends(&open, |names| spoken_of(graph, node, names)))?;
                found.scratch.extend(scratch.map(|len| (index, len)));
            }
        }
        self.place(plan, &found)?;
        share_places(plan);
        let places = &plan.places;
        for step in &mut plan.steps[..plan.own] {
            for (read, input) in step.reads.iter_mut().zip(&graph.node(step.value).inputs) {
                if !matches!(read.place, Place::Packed(_)) {
                    read.place = places[input.index()];
                }
            }
            step.result.place = places[step.value.index()];
        }
        Ok(())
    }

    /// The symbols that were unbounded when the call was planned.
    fn open(&self, bindings: &Bindings) -> Result<BTreeSet<Arc<str>>> {
        let graph = &self.lowered.graph;
        let mut measured = BTreeSet::new();
        for node in graph.nodes() {
            if let Op::Measure { size, .. } = &node.op {
                size.symbols(&mut measured);
            }
        }
        let planned: Bindings =
            bindings.iter().filter(|(symbol, _)| !measured.contains(*symbol)).map(|(s, v)| (s.clone(), *v)).collect();
        Ok(unbounded(&spans(graph, &planned)?[1]))
    }

    /// Gives what had no memory yet some behind all that there is.
    fn place(&self, plan: &mut Plan, found: &Found) -> Result<()> {
        if found.values.is_empty() && found.scratch.is_empty() {
            return Ok(());
        }
        let graph = &self.lowered.graph;
        let order: Vec<Value> = plan.order().collect();
        let last = last_uses(graph, &plan.roots, &order);
        let value = |&(value, len): &(Value, usize)| {
            let first = order.binary_search(&value).unwrap_or(0);
            Piece { space: self.lowered.space(value), len, first, last: last[value.index()] }
        };
        let scratch = |&(index, len): &(usize, usize)| Piece {
            space: self.lowered.space(plan.steps[index].value),
            len,
            first: index,
            last: index,
        };
        let pieces: Vec<Piece> = found.values.iter().map(value).chain(found.scratch.iter().map(scratch)).collect();
        let spaces = &self.backend.identity().spaces;
        let (mut regions, _) = arrange(&pieces, spaces)?;
        let mut ends = plan.arenas.clone();
        for region in regions.iter_mut().filter(|region| region.len > 0) {
            let space = usize::from(region.space);
            region.offset = match region.offset.checked_add(plan.arenas[space]) {
                Some(offset) => offset,
                None => fail!(Memory, "{} bytes are more than there is memory", region.len),
            };
            ends[space] = ends[space].max(taken(*region, &spaces[space]));
        }
        plan.arenas = ends;
        let (values, scratch) = regions.split_at(found.values.len());
        for (&(value, _), &region) in found.values.iter().zip(values) {
            plan.places[value.index()] = Place::Arena(region);
        }
        for (&(index, _), &region) in found.scratch.iter().zip(scratch) {
            plan.steps[index].scratch = region;
        }
        Ok(())
    }

    /// Brings a step to the sizes that were found; yields the scratch of one that was `open`.
    fn settle_step(&self, plan: &mut Plan, index: usize, bindings: &Bindings, open: bool) -> Result<Option<usize>> {
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
        let mut scratch = None;
        if let Op::Loop(id) = node.op {
            let turns = turns::Draft::new(self, graph.loop_info(id), &step, self.lowered.space(step.value))?;
            self.settle_turns(plan, &mut step, turns)?;
        } else {
            let prepared = self.prepared(graph, &step, |value| self.lowered.space(value))?;
            if open {
                scratch = Some(prepared.scratch);
                step.in_place = None;
            } else if prepared.scratch > step.scratch.len {
                fail!(Memory, "{} takes {} bytes, but {} are planned", node.op, prepared.scratch, step.scratch.len);
            }
            (step.kernel, step.cost) = (prepared.kernel, prepared.cost);
        }
        plan.steps[index] = step;
        Ok(scratch)
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

/// Gives every value the place of the one whose bytes it is.
fn share_places(plan: &mut Plan) {
    for value in 0..plan.places.len() {
        plan.places[value] = plan.places[plan.roots[value].index()];
    }
}

/// What has memory only now: values, and the scratch of steps, with their bytes.
#[derive(Default)]
struct Found {
    values: Vec<(Value, usize)>,
    scratch: Vec<(usize, usize)>,
}

/// True if what lists its symbols speaks of those found, and of none that is not known.
type Bound<'a> = dyn Fn(&dyn Fn(&mut BTreeSet<Arc<str>>)) -> bool + 'a;

/// Gives values that speak of nothing unknown any more their shapes, and their places the bytes that these take.
fn settle_values(
    plan: &mut Plan,
    graph: &Graph,
    bindings: &Bindings,
    bound: &Bound<'_>,
    open: &BTreeSet<Arc<str>>,
    found: &mut Found,
) -> Result<()> {
    for (value, node) in graph.values() {
        let shape = &node.signature.shape;
        if !bound(&|names| shape.0.iter().for_each(|dim| dim.symbols(names))) {
            continue;
        }
        plan.shapes[value.index()] = shape.bind(bindings)?;
        let len = bytes(node.signature.dtype, &plan.shapes[value.index()])?;
        if let (Place::Arena(region), true) = (&mut plan.places[value.index()], plan.roots[value.index()] == value) {
            if depends(open, |names| shape.0.iter().for_each(|dim| dim.symbols(names))) {
                found.values.push((value, len));
                continue;
            }
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
    share_places(plan);
    Ok(())
}
