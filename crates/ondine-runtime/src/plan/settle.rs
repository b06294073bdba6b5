//! Sizes that the data decides: a plan for the largest becomes that of those found.

use std::{collections::BTreeSet, sync::Arc};

use ondine_graph::{Bindings, Graph, Op, Result, Value, fail};

use super::{
    Planner,
    arrange::{Piece, arrange, taken},
    bytes, last_uses,
    sizes::{agree, depends, spans, spoken_of, unbounded},
    turns,
};
use crate::step::{Change, LateStep, LateValue, Operand, Place, Plan, Sizes, Step};

/// What the measurements of a plan make known, in the order of their steps.
pub(super) fn changes(graph: &Graph, plan: &Plan, sizes: &Sizes) -> Result<Vec<Change>> {
    let open = unbounded(&spans(graph, sizes)?[1]);
    let mut known: BTreeSet<Arc<str>> = sizes.bound.keys().cloned().collect();
    let mut changes = Vec::new();
    for step in 0..plan.own {
        let Op::Measure { size, .. } = &graph.node(plan.steps[step].value).op else { continue };
        let mut found = BTreeSet::new();
        size.symbols(&mut found);
        found.retain(|symbol| known.insert(symbol.clone()));
        let late = Late { graph, plan, found: &found, known: &known, open: &open };
        changes.push(late.change(step));
    }
    Ok(changes)
}

/// What tells what a measurement changes.
struct Late<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    /// The symbols that it finds.
    found: &'a BTreeSet<Arc<str>>,
    /// All that are known then.
    known: &'a BTreeSet<Arc<str>>,
    open: &'a BTreeSet<Arc<str>>,
}

impl Late<'_> {
    fn change(&self, step: usize) -> Change {
        let Self { graph, plan, .. } = *self;
        let mut change = Change {
            step,
            values: Vec::new(),
            sharing: Vec::new(),
            views: Vec::new(),
            steps: Vec::new(),
            moved: Vec::new(),
            guards: Vec::new(),
        };
        if self.found.is_empty() {
            return change;
        }
        let mut moved = vec![false; graph.nodes().len()];
        for (value, node) in graph.values() {
            if let Some(open) = self.bound(|names| node.signature.shape.0.iter().for_each(|dim| dim.symbols(names))) {
                let own = plan.roots[value.index()] == value;
                let planned = match plan.places[value.index()] {
                    Place::Arena(region) if own => Some(region.len),
                    _ => None,
                };
                moved[value.index()] = planned.is_some();
                change.values.push(LateValue { value, planned, open });
            }
            if matches!(node.op, Op::Reshape(_) | Op::Slice { .. })
                && self.bound(|names| spoken_of(graph, node, names)).is_some()
            {
                change.views.push(value);
            }
        }
        let shares = |value: &Value| plan.roots[value.index()] != *value && moved[plan.roots[value.index()].index()];
        change.sharing = graph.values().map(|(value, _)| value).filter(shares).collect();
        change.sharing.iter().for_each(|value| moved[value.index()] = true);
        for (index, step) in plan.steps[..plan.own].iter().enumerate() {
            let node = graph.node(step.value);
            if let Some(open) = self.bound(|names| spoken_of(graph, node, names)) {
                change.steps.push(LateStep { index, planned: step.scratch.len, open });
            }
            if moved[step.value.index()] || node.inputs.iter().any(|input| moved[input.index()]) {
                change.moved.push(index);
            }
        }
        let asked = |guard: &ondine_graph::Guard| self.bound(|names| guard.condition.symbols(names)).is_some();
        let guards = graph.guards().iter().enumerate().filter(|(_, guard)| asked(guard));
        change.guards = guards.map(|(position, _)| position).collect();
        change
    }

    /// Of what speaks of symbols found, and of none that is not known: whether it had no bound.
    fn bound(&self, list: impl Fn(&mut BTreeSet<Arc<str>>)) -> Option<bool> {
        let mut names = BTreeSet::new();
        list(&mut names);
        let bound = !names.is_disjoint(self.found) && names.is_subset(self.known);
        bound.then(|| depends(self.open, list))
    }
}

impl Planner<'_> {
    /// Makes `count`, the number that a step measured, the size of everything that speaks of it.
    ///
    /// A plan that was settled before is brought from the sizes found then to those found now.
    ///
    /// # Errors
    /// If the number is another than the size has already, or larger than memory is planned for.
    pub(crate) fn settle(&self, plan: &mut Arc<Plan>, bindings: &mut Bindings, step: usize, count: i64) -> Result<()> {
        let graph = &self.lowered.graph;
        let Some(position) = plan.changes.iter().position(|change| change.step == step) else {
            fail!(Internal, "step {step} measures nothing that was planned for");
        };
        let Op::Measure { size, .. } = &graph.node(plan.steps[step].value).op else {
            fail!(Internal, "step {step} measures nothing");
        };
        let Ok(count) = usize::try_from(count) else { fail!(Shape, "{count} elements") };
        let mut symbols = BTreeSet::new();
        size.symbols(&mut symbols);
        if symbols.iter().any(|symbol| !bindings.contains_key(symbol)) {
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
        let changes = plan.changes.clone();
        let change = &changes[position];
        for &guard in &change.guards {
            graph.guards()[guard].check(bindings)?;
        }
        if plan.found.get(position) == Some(&count) {
            return Ok(());
        }
        let plan = Arc::make_mut(plan);
        plan.found.truncate(position);
        self.apply(plan, change, bindings)?;
        plan.found.push(count);
        Ok(())
    }

    fn apply(&self, plan: &mut Plan, change: &Change, bindings: &Bindings) -> Result<()> {
        let graph = &self.lowered.graph;
        let mut found = Found::default();
        for late in &change.values {
            found.values.extend(settle_value(plan, graph, bindings, *late)?);
        }
        share_places(plan, change);
        for &value in &change.views {
            agree(graph, value, &plan.shapes, bindings)?;
        }
        for late in &change.steps {
            agree(graph, plan.steps[late.index].value, &plan.shapes, bindings)?;
            let scratch = self.settle_step(plan, *late, bindings)?;
            found.scratch.extend(scratch.map(|len| (late.index, len)));
        }
        self.place(plan, &found)?;
        share_places(plan, change);
        let Plan { steps, places, .. } = plan;
        for &index in &change.moved {
            let step = &mut steps[index];
            for (read, input) in step.reads.iter_mut().zip(&graph.node(step.value).inputs) {
                if !matches!(read.place, Place::Packed(_)) {
                    read.place = places[input.index()];
                }
            }
            step.result.place = places[step.value.index()];
        }
        Ok(())
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

    /// Brings a step to the sizes that were found; yields the scratch of one that had none planned.
    fn settle_step(&self, plan: &mut Plan, late: LateStep, bindings: &Bindings) -> Result<Option<usize>> {
        let graph = &self.lowered.graph;
        let Plan { steps, shapes, places, .. } = plan;
        let step = &mut steps[late.index];
        let node = graph.node(step.value);
        step.op = node.op.bind(bindings)?;
        for (read, input) in step.reads.iter_mut().zip(&node.inputs) {
            resize(read, &shapes[input.index()]);
            if !matches!(read.place, Place::Packed(_)) {
                read.place = places[input.index()];
            }
        }
        resize(&mut step.result, &shapes[step.value.index()]);
        step.result.place = places[step.value.index()];
        if let Op::Loop(id) = node.op {
            let turns = turns::Draft::new(self, graph.loop_info(id), step, self.lowered.space(step.value))?;
            self.settle_turns(plan, late, turns)?;
            return Ok(None);
        }
        let prepared = self.prepared(graph, step, |value| self.lowered.space(value))?;
        (step.kernel, step.cost) = (prepared.kernel, prepared.cost);
        if late.open {
            step.in_place = None;
            return Ok(Some(prepared.scratch));
        }
        if prepared.scratch > late.planned {
            fail!(Memory, "{} takes {} bytes, but {} are planned", node.op, prepared.scratch, late.planned);
        }
        Ok(None)
    }

    /// Brings the steps of a loop to the sizes that were found: they are as many as before, in the same order.
    fn settle_turns(&self, plan: &mut Plan, late: LateStep, turns: turns::Draft) -> Result<()> {
        let mut step: Step = plan.steps[late.index].clone();
        let Some(first) = step.turns.as_ref().map(|turns| turns.sides[0].condition.start) else { return Ok(()) };
        if turns.scratch_bytes() > late.planned {
            fail!(Memory, "a loop takes {} bytes, but {} are planned", turns.scratch_bytes(), late.planned);
        }
        let mut inner = Vec::new();
        step.turns = Some(Arc::new(turns.place(&step, first, &mut inner)?));
        for (old, new) in plan.steps[first..].iter_mut().zip(inner) {
            *old = new;
        }
        plan.steps[late.index] = step;
        Ok(())
    }
}

/// Gives an operand the sizes that were found.
fn resize(operand: &mut Operand, shape: &[usize]) {
    match operand.shape.len() == shape.len() {
        true => operand.shape.copy_from_slice(shape),
        false => operand.shape = shape.into(),
    }
}

/// Gives every value that lies where a changed one does the place of that.
fn share_places(plan: &mut Plan, change: &Change) {
    for value in &change.sharing {
        plan.places[value.index()] = plan.places[plan.roots[value.index()].index()];
    }
}

/// What has memory only now: values, and the scratch of steps, with their bytes.
#[derive(Default)]
struct Found {
    values: Vec<(Value, usize)>,
    scratch: Vec<(usize, usize)>,
}

/// Gives a value the shape that was found, and its place the bytes that this takes; yields what has no place yet.
fn settle_value(
    plan: &mut Plan,
    graph: &Graph,
    bindings: &Bindings,
    late: LateValue,
) -> Result<Option<(Value, usize)>> {
    let (index, signature) = (late.value.index(), &graph.node(late.value).signature);
    let shape = &mut plan.shapes[index];
    shape.clear();
    for dim in &signature.shape.0 {
        shape.push(dim.bind(bindings)?);
    }
    let len = bytes(signature.dtype, shape)?;
    let (Place::Arena(region), Some(planned)) = (&mut plan.places[index], late.planned) else { return Ok(None) };
    if late.open {
        return Ok(Some((late.value, len)));
    }
    if len > planned {
        fail!(Memory, "{} takes {len} bytes, but {planned} are planned", signature.shape);
    }
    region.len = len;
    Ok(None)
}
