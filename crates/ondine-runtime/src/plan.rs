//! Planning: where every value of a call lives, and how much memory the call takes, before it runs.

mod arrange;
mod settle;
mod sizes;
mod turns;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ondine_graph::{Bindings, Context, DType, Error, ErrorKind, Graph, Node, Op, Result, Value, element_count, fail};

use crate::{
    backend::{Backend, Form, OperandShape, Prepared},
    lowered::{Entry, Lowered},
    step::{Copy, Operand, Place, Plan, Region, Sizes, Step},
};
use arrange::{Piece, arrange};
use sizes::{agree, bind_shapes, depends, spans, spoken_of, unbounded};

pub(crate) use sizes::check_planned;

/// What plans are made of: a function, the packed weights of its model, and who runs it.
#[derive(Clone, Copy)]
pub(crate) struct Planner<'a> {
    pub(crate) lowered: &'a Lowered,
    pub(crate) entries: &'a [Entry],
    pub(crate) backend: &'a dyn Backend,
}

impl Planner<'_> {
    /// Plans a call for what is known of its sizes.
    pub(crate) fn plan(&self, sizes: &Sizes) -> Result<Plan> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let graph = &self.lowered.graph;
        let mut part = self.part(graph, None, sizes)?;
        let own = part.steps.len();
        let mut plan = Plan {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            updates: updates(graph, &part),
            shapes: part.shapes,
            places: part.places,
            roots: part.roots,
            own,
            arenas: part.arenas,
            results: part.results,
            live: part.live,
            steps: Vec::new(),
            changes: Arc::default(),
            found: Vec::new(),
        };
        let mut inner = Vec::new();
        for (step, turns) in part.steps.iter_mut().zip(part.turns) {
            if let Some(turns) = turns {
                step.turns = Some(Arc::new(turns.place(step, own, &mut inner)?));
            }
        }
        plan.steps = part.steps;
        plan.steps.append(&mut inner);
        plan.changes = settle::changes(graph, &plan, sizes)?.into();
        Ok(plan)
    }

    /// Plans a graph: that of the function, or one of a loop, whose arguments have places already.
    fn part(&self, graph: &Graph, inner: Option<&turns::Within>, sizes: &Sizes) -> Result<Part> {
        let bindings = &sizes.bound;
        let [least, most] = spans(graph, sizes)?;
        let open = unbounded(&most);
        let measured: BTreeSet<_> = most.keys().filter(|symbol| !bindings.contains_key(*symbol)).cloned().collect();
        let shapes = bind_shapes(graph, &least, &most, &open)?;
        for (value, node) in graph.values() {
            if !depends(&measured, |names| spoken_of(graph, node, names)) {
                agree(graph, value, &shapes, bindings)?;
            }
        }
        let roots = roots(graph);
        let order: Vec<Value> = graph
            .values()
            .filter(|(value, node)| runs(&node.op) && roots[value.index()] == *value)
            .map(|(value, _)| value)
            .collect();
        let mut draft = Draft { planner: self, graph, inner, bindings, measured, open, shapes, roots, order };
        draft.plan()
    }

    /// What the backend knows of a step; `space` tells the memory of a value of its graph.
    fn prepared(&self, graph: &Graph, step: &Step, space: impl Fn(Value) -> u8) -> Result<Prepared> {
        let node = graph.node(step.value);
        let forms: Vec<Option<&Form>> = step.reads.iter().map(|read| self.form(read)).collect();
        let reads = step.reads.iter().zip(&forms).zip(&node.inputs);
        let operands: Vec<_> = reads
            .map(|((read, &form), &input)| OperandShape {
                dtype: read.dtype,
                shape: &read.shape,
                form,
                space: space(input),
            })
            .collect();
        let Operand { dtype, shape, .. } = &step.result;
        let result = OperandShape { dtype: *dtype, shape, form: None, space: space(step.value) };
        self.backend.prepare(&step.op, &operands, &result).at(|| format!("{} ({})", node.scope, node.op))
    }

    fn form(&self, read: &Operand) -> Option<&Form> {
        match read.place {
            Place::Packed(entry) => Some(&self.entries[entry].form),
            Place::Input(_) | Place::Const(_) | Place::State(_) | Place::Result(_) | Place::Arena(_) => None,
        }
    }
}

/// The plan of one graph, before its loops have places.
struct Part {
    shapes: Vec<Vec<usize>>,
    places: Vec<Place>,
    roots: Vec<Value>,
    steps: Vec<Step>,
    /// For each step how it turns, if it is a loop.
    turns: Vec<Option<turns::Draft>>,
    arenas: Vec<usize>,
    results: Vec<Option<usize>>,
    live: Vec<usize>,
}

/// A part under way.
struct Draft<'a> {
    planner: &'a Planner<'a>,
    graph: &'a Graph,
    inner: Option<&'a turns::Within>,
    bindings: &'a Bindings,
    measured: BTreeSet<Arc<str>>,
    /// Those of which nothing says how large they can be: what speaks of them has memory once they are found.
    open: BTreeSet<Arc<str>>,
    shapes: Vec<Vec<usize>>,
    roots: Vec<Value>,
    order: Vec<Value>,
}

/// Where a step's result goes: into a piece of the workspace, or to a place that is known.
#[derive(Clone, Copy)]
enum Target {
    Piece(usize),
    Fixed(Place),
}

impl Draft<'_> {
    fn plan(&mut self) -> Result<Part> {
        let last = last_uses(self.graph, &self.roots, &self.order);
        let mut places = self.fixed_places()?;
        let (mut steps, turns) = self.steps(&places)?;
        let targets = self.targets(&steps, &last);
        let mut pieces = Vec::new();
        let (mut position, mut scratch) = (vec![None; self.graph.nodes().len()], Vec::with_capacity(steps.len()));
        for (index, step) in steps.iter_mut().enumerate() {
            let (value, space) = (step.value, self.space(step.value));
            let piece = |len: usize, last: usize| Piece { space, len, first: index, last };
            let target = match targets[index] {
                Some(place) => Target::Fixed(place),
                None => match self.taken_over(step, index, &last, &position) {
                    Some(taken) => Target::Piece(taken),
                    None => {
                        step.in_place = None;
                        pieces.push(piece(self.bytes(value)?, index));
                        Target::Piece(pieces.len() - 1)
                    }
                },
            };
            if let Target::Piece(taken) = target {
                pieces[taken].last = pieces[taken].last.max(last[value.index()]);
            }
            position[value.index()] = Some(target);
            pieces.push(piece(step.scratch.len, index));
            scratch.push(pieces.len() - 1);
        }
        let results = self.results(&position, &pieces);
        let held: Vec<_> = results.iter().filter_map(|result| *result).collect();
        let (regions, arenas) = {
            // What lies in the memory of a result takes no workspace.
            let mut placed = pieces.clone();
            held.iter().for_each(|&(piece, _)| placed[piece].len = 0);
            arrange(&placed, &self.planner.backend.identity().spaces)?
        };
        for (index, step) in steps.iter_mut().enumerate() {
            let place = match position[step.value.index()] {
                Some(Target::Fixed(place)) => place,
                Some(Target::Piece(piece)) => match results.iter().position(|r| r.is_some_and(|(p, _)| p == piece)) {
                    Some(result) => Place::Result(result),
                    None => Place::Arena(regions[piece]),
                },
                None => fail!(Unsupported, "a step without a place"),
            };
            places[step.value.index()] = place;
            step.scratch = regions[scratch[index]];
        }
        let places: Vec<Place> = self.roots.iter().map(|root| places[root.index()]).collect();
        for step in &mut steps {
            step.result.place = places[step.value.index()];
            for (position, &input) in self.graph.node(step.value).inputs.iter().enumerate() {
                if !matches!(step.reads[position].place, Place::Packed(_)) {
                    step.reads[position].place = places[input.index()];
                }
            }
        }
        let live = live(&pieces, steps.len());
        let results = results.into_iter().map(|result| result.map(|(_, len)| len)).collect();
        let (shapes, roots) = (std::mem::take(&mut self.shapes), std::mem::take(&mut self.roots));
        Ok(Part { shapes, places, roots, steps, turns, arenas, results, live })
    }

    /// The steps with all but the places of what they work on.
    fn steps(&self, places: &[Place]) -> Result<(Vec<Step>, Vec<Option<turns::Draft>>)> {
        let (mut steps, mut turns) = (Vec::with_capacity(self.order.len()), Vec::with_capacity(self.order.len()));
        for &value in &self.order {
            let node = self.graph.node(value);
            // What speaks of a size that the call will find is bound when it has.
            let unknown = depends(&self.measured, |names| self.graph.symbols(&node.op, names));
            let op = if unknown { node.op.clone() } else { node.op.bind(self.bindings)? };
            let mut reads = Vec::with_capacity(node.inputs.len());
            for (position, &input) in node.inputs.iter().enumerate() {
                let root = self.roots[input.index()];
                let place = match self.graph.node(root).op {
                    Op::Weight(_) => match self.planner.lowered.entry(value, position).filter(|_| self.inner.is_none())
                    {
                        Some(entry) => Place::Packed(entry),
                        None => fail!(Unsupported, "{} ({}) reads a weight that is not packed", node.scope, node.op),
                    },
                    _ => places[root.index()],
                };
                reads.push(self.operand(input, place));
            }
            let mut step = Step {
                value,
                scope: node.scope.clone(),
                op,
                reads,
                result: self.operand(value, Place::Arena(Region::default())),
                scratch: Region::default(),
                in_place: None,
                kernel: Arc::new(()),
                cost: Default::default(),
                turns: None,
            };
            if depends(&self.open, |names| spoken_of(self.graph, node, names)) {
                if matches!(node.op, Op::Loop(_)) {
                    fail!(
                        Unsupported,
                        "{}: a loop over sizes that nothing bounds; export with torch._check(size <= limit)",
                        node.scope
                    );
                }
                steps.push(step);
                turns.push(None);
                continue;
            }
            let turn = match &node.op {
                Op::Loop(id) => {
                    Some(turns::Draft::new(self.planner, self.graph.loop_info(*id), &step, self.space(value))?)
                }
                _ => None,
            };
            match &turn {
                Some(turn) => step.scratch.len = turn.scratch_bytes(),
                None => {
                    let prepared = self.planner.prepared(self.graph, &step, |value| self.space(value))?;
                    step.scratch.len = prepared.scratch;
                    (step.in_place, step.kernel, step.cost) = (prepared.in_place, prepared.kernel, prepared.cost);
                }
            }
            steps.push(step);
            turns.push(turn);
        }
        Ok((steps, turns))
    }

    fn operand(&self, value: Value, place: Place) -> Operand {
        let dtype = self.graph.node(value).signature.dtype;
        Operand { place, dtype, shape: self.shapes[value.index()].as_slice().into() }
    }

    fn space(&self, value: Value) -> u8 {
        self.inner.map_or_else(|| self.planner.lowered.space(value), turns::Within::space)
    }

    fn bytes(&self, value: Value) -> Result<usize> {
        bytes(self.graph.node(value).signature.dtype, &self.shapes[value.index()])
    }

    /// The places of values that are not computed.
    fn fixed_places(&self) -> Result<Vec<Place>> {
        let mut places = Vec::with_capacity(self.graph.nodes().len());
        for (value, node) in self.graph.values() {
            places.push(match &node.op {
                Op::Input => {
                    let inputs = self.graph.inputs();
                    let Some(position) = inputs.iter().position(|(_, input)| *input == value) else {
                        fail!(Unsupported, "an argument that is not listed");
                    };
                    self.inner.map_or(Place::Input(position), |within| within.arguments()[position])
                }
                Op::Const(array) => match self.planner.lowered.constant(array) {
                    Some(position) => Place::Const(position),
                    None => fail!(Unsupported, "a constant that is not listed"),
                },
                Op::State(slot) => Place::State(*slot),
                _ => Place::Arena(Region::default()),
            });
        }
        Ok(places)
    }

    /// For each step the state that its result is written into where it lies.
    ///
    /// That needs a chain of operators that change what they read, from the state's value to its update, each the last
    /// to look at what it changes.
    fn targets(&self, steps: &[Step], last: &[usize]) -> Vec<Option<Place>> {
        let mut targets = vec![None; steps.len()];
        let index = |value: Value| self.order.binary_search(&value).ok();
        for (slot, state) in self.graph.states().iter().enumerate() {
            let Some(update) = state.update else { continue };
            let (mut value, mut chain) = (self.roots[update.index()], Vec::new());
            loop {
                if self.graph.node(value).op == Op::State(slot) {
                    chain.iter().for_each(|&step| targets[step] = Some(Place::State(slot)));
                    break;
                }
                let Some(step) = index(value) else { break };
                let Some(source) = self.changed(&steps[step], step, last) else { break };
                chain.push(step);
                value = source;
            }
        }
        targets
    }

    /// The value that a step may change where it lies: it is of the same size, and nobody looks at it afterwards.
    fn changed(&self, step: &Step, index: usize, last: &[usize]) -> Option<Value> {
        let node = self.graph.node(step.value);
        let source = self.roots[node.inputs[step.in_place?].index()];
        let alone = node.inputs.iter().filter(|input| self.roots[input.index()] == source).count() == 1;
        let op = &self.graph.node(source).op;
        let states = |value: &Value| self.graph.node(*value).op == *op;
        // Every mention of a state is the same memory.
        let mentions = self.graph.values().map(|(value, _)| value).filter(states);
        let latest = match op {
            Op::State(_) => mentions.map(|value| last[value.index()]).max(),
            _ => Some(last[source.index()]),
        };
        let same = self.bytes(source).ok()? == self.bytes(step.value).ok()?;
        let fixed = !depends(&self.measured, |names| spoken_of(self.graph, node, names));
        let one_space = self.space(source) == self.space(step.value);
        (alone && same && fixed && one_space && latest == Some(index)).then_some(source)
    }

    /// The piece whose memory a step's result takes over, if it may change what lies there.
    fn taken_over(&self, step: &Step, index: usize, last: &[usize], position: &[Option<Target>]) -> Option<usize> {
        match position[self.changed(step, index, last)?.index()]? {
            Target::Piece(piece) => Some(piece),
            Target::Fixed(_) => None,
        }
    }

    /// For each result the piece that lies in memory of its own, and its bytes: results go to their caller as they are.
    fn results(&self, position: &[Option<Target>], pieces: &[Piece]) -> Vec<Option<(usize, usize)>> {
        let mut results: Vec<Option<(usize, usize)>> = Vec::new();
        if self.inner.is_some() {
            return results;
        }
        for &(_, value) in self.graph.outputs() {
            let root = self.roots[value.index()];
            let node = self.graph.node(root);
            // Of a size that the call decides, or that of a loop, which has places within.
            let open = depends(&self.measured, |names| spoken_of(self.graph, node, names));
            let piece = match position[root.index()] {
                Some(Target::Piece(piece)) if !open && !matches!(node.op, Op::Loop(_)) => Some(piece),
                _ => None,
            };
            let known = |piece: &usize| results.iter().flatten().all(|(other, _)| other != piece);
            // The first rows of a state are less than what they lie in.
            let whole = |piece: &usize| self.bytes(value).is_ok_and(|bytes| bytes == pieces[*piece].len);
            let piece = piece.filter(known).filter(whole).filter(|&piece| pieces[piece].space == 0);
            results.push(piece.map(|piece| (piece, pieces[piece].len)));
        }
        results
    }
}

/// For each value the step after which nobody needs its memory.
fn last_uses(graph: &Graph, roots: &[Value], order: &[Value]) -> Vec<usize> {
    let mut last = vec![0; graph.nodes().len()];
    for (step, value) in order.iter().enumerate() {
        // What nobody reads is written all the same.
        last[value.index()] = last[value.index()].max(step);
        for input in &graph.node(*value).inputs {
            last[roots[input.index()].index()] = step;
        }
    }
    let updates = graph.states().iter().filter_map(|slot| slot.update);
    for value in graph.outputs().iter().map(|(_, value)| *value).chain(updates) {
        last[roots[value.index()].index()] = order.len();
    }
    last
}

/// States that were not written where they lie.
fn updates(graph: &Graph, part: &Part) -> Vec<Copy> {
    let slots = graph.states().iter().enumerate().filter_map(|(slot, state)| Some((slot, state.update?)));
    let copies = slots.filter_map(|(slot, update)| {
        let (from, to) = (part.places[update.index()], Place::State(slot));
        let len = bytes(graph.node(update).signature.dtype, &part.shapes[update.index()]).ok()?;
        (from != to).then_some((from, to, len))
    });
    copies.collect()
}

/// The bytes of all pieces that are needed at each step.
fn live(pieces: &[Piece], steps: usize) -> Vec<usize> {
    let (mut begin, mut end) = (vec![0; steps + 1], vec![0; steps + 1]);
    for piece in pieces {
        begin[piece.first] += piece.len;
        end[(piece.last + 1).min(steps)] += piece.len;
    }
    let mut live = 0;
    let step = |(begin, end): (&usize, &usize)| {
        live = live + begin - end;
        live
    };
    begin.iter().zip(&end).take(steps).map(step).collect()
}

/// True if the operator computes or moves anything.
fn runs(op: &Op) -> bool {
    !matches!(op, Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_) | Op::Reshape(_))
}

/// For each value the one whose bytes it is: itself, the source of a reshape, or a state of which it is the first rows.
fn roots(graph: &Graph) -> Vec<Value> {
    let reshaped = |roots: &[Value], value: Value, node: &Node| match node.op {
        Op::Reshape(_) => roots[node.inputs[0].index()],
        _ => value,
    };
    let mut roots: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    for (value, node) in graph.values() {
        roots.push(reshaped(&roots, value, node));
    }
    let mut kept = vec![false; roots.len()];
    for (value, node) in graph.values() {
        kept[value.index()] = matches!(node.op, Op::State(_));
    }
    for update in graph.states().iter().filter_map(|state| state.update) {
        kept[roots[update.index()].index()] = true;
    }
    for (value, node) in graph.values() {
        let first_rows = matches!(&node.op, Op::Slice { axis: 0, start, .. } if start.constant() == Some(0));
        roots[value.index()] = match node.inputs.first().map(|input| roots[input.index()]) {
            Some(source) if first_rows && kept[source.index()] => source,
            _ => reshaped(&roots, value, node),
        };
    }
    roots
}

fn bytes(dtype: DType, shape: &[usize]) -> Result<usize> {
    let bytes = element_count(shape).and_then(|n| n.checked_mul(dtype.size()));
    bytes.ok_or_else(|| Error::new(ErrorKind::Shape, format!("a value of shape {shape:?} is too large")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Lowering, cpu::Processor, lowered::Listing, options::Options};
    use ondine_graph::{Dim, Reduce, Scatter, Shape};

    /// A graph, and what plans it.
    struct Subject {
        lowered: Lowered,
        processor: Processor,
    }

    impl Subject {
        fn new(graph: Graph) -> Self {
            let processor = Processor::new(std::num::NonZeroUsize::new(1)).unwrap();
            let mut listing = Listing::default();
            let lowering = Lowering::in_one_space(graph);
            let known = |_: &str| Ok(crate::lowered::Known::default());
            let lowered = Lowered::new(lowering, Options::default(), &processor, &mut listing, known).unwrap();
            Self { lowered, processor }
        }

        fn planner(&self) -> Planner<'_> {
            Planner { lowered: &self.lowered, entries: &[], backend: &self.processor }
        }

        fn plan(&self, bindings: &Bindings) -> Result<Plan> {
            self.planner().plan(&bindings.into())
        }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let mut graph = Graph::new();
        let mut x = graph.input("x", DType::F32, [1024]);
        for _ in 0..10 {
            x = graph.affine(x, 2.0, 0.0).unwrap();
        }
        graph.output("x", x);
        let plan = Subject::new(graph).plan(&Bindings::new()).unwrap();
        // The last one is the caller's.
        assert_eq!((&plan.arenas[..], &plan.results[..], plan.own), (&[2 * 4096][..], &[Some(4096)][..], 10));
        assert_eq!((plan.live_bytes()[0], &plan.live_bytes()[1..]), (4096, &[2 * 4096; 9][..]));
    }

    /// The first `n` numbers of `x`, where `n` is found by the call.
    fn measuring(most: usize) -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [16]);
        let count = graph.input("count", DType::I64, Shape::default());
        let n = Dim::symbol("n");
        graph.push(Op::Measure { size: n.clone(), most: most.into() }, &[count]).unwrap();
        let part = graph.slice(x, 0, 0, &n).unwrap();
        let twice = graph.concat(&[part, part], 0).unwrap();
        graph.output("twice", twice);
        graph
    }

    #[test]
    fn memory_is_planned_for_the_largest_size_and_used_for_the_one_found() {
        let subject = Subject::new(measuring(16));
        let mut plan = Arc::new(subject.plan(&Bindings::new()).unwrap());
        let result = subject.lowered.graph.outputs()[0].1.index();
        assert_eq!(plan.shapes[result], [32]);
        let planned = plan.arenas.clone();
        let mut bindings = Bindings::new();
        subject.planner().settle(&mut plan, &mut bindings, 0, 3).unwrap();
        assert_eq!((plan.shapes[result].as_slice(), &plan.arenas), (&[6][..], &planned));
        assert!(matches!(plan.places[result], Place::Arena(Region { len: 24, .. })));
        subject.planner().settle(&mut plan, &mut bindings, 0, 3).unwrap();
        assert!(subject.planner().settle(&mut plan, &mut bindings, 0, 4).is_err());
    }

    #[test]
    fn a_plan_that_was_settled_becomes_that_of_other_sizes() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [16]);
        let [n, m] = ["n", "m"].map(|name| {
            let count = graph.input(name, DType::I64, Shape::default());
            graph.push(Op::Measure { size: Dim::symbol(name), most: 16.into() }, &[count]).unwrap();
            Dim::symbol(name)
        });
        let part = graph.slice(x, 0, 0, &n).unwrap();
        let part = graph.affine(part, 2.0, 0.0).unwrap();
        let column = graph.reshape(part, [n, 1.into()]).unwrap();
        let row = graph.slice(x, 0, 0, &m).unwrap();
        let table = graph.add(column, row).unwrap();
        graph.output("table", table);
        let subject = Subject::new(graph);
        let settled = |plan: &mut Arc<Plan>, sizes: [i64; 2]| {
            let mut bindings = Bindings::new();
            let steps: Vec<_> = (0..plan.own).filter(|&i| matches!(plan.steps[i].op, Op::Measure { .. })).collect();
            for (step, size) in steps.into_iter().zip(sizes) {
                subject.planner().settle(plan, &mut bindings, step, size).unwrap();
            }
        };
        let fresh = Arc::new(subject.plan(&Bindings::new()).unwrap());
        assert!(fresh.settles());
        let mut kept = fresh.clone();
        for sizes in [[3, 5], [3, 5], [4, 5], [4, 6], [16, 16], [0, 2], [3, 5]] {
            let mut wanted = fresh.clone();
            settled(&mut wanted, sizes);
            let at = Arc::as_ptr(&kept);
            settled(&mut kept, sizes);
            assert!(
                sizes == [3, 5] || Arc::as_ptr(&kept) == at,
                "a plan that nobody else holds is changed where it is"
            );
            assert_eq!(format!("{:?}", kept.steps), format!("{:?}", wanted.steps), "{sizes:?}");
            assert_eq!((&kept.shapes, &kept.places, &kept.found), (&wanted.shapes, &wanted.places, &wanted.found));
        }
        let mut none = fresh;
        assert!(subject.planner().settle(&mut none, &mut Bindings::new(), 0, 17).is_err());
    }

    #[test]
    fn sizes_outside_what_was_planned_are_errors() {
        let subject = Subject::new(measuring(4));
        for count in [-1, 5, i64::MAX] {
            let mut plan = Arc::new(subject.plan(&Bindings::new()).unwrap());
            let settled = subject.planner().settle(&mut plan, &mut Bindings::new(), 0, count);
            assert!(settled.is_err(), "{count}");
        }
    }

    #[test]
    fn what_nothing_bounds_has_memory_once_it_is_found() {
        let subject = Subject::new(measuring(usize::MAX));
        let mut plan = Arc::new(subject.plan(&Bindings::new()).unwrap());
        let planned = plan.arenas.clone();
        let result = subject.lowered.graph.outputs()[0].1.index();
        subject.planner().settle(&mut plan, &mut Bindings::new(), 0, 5).unwrap();
        assert_eq!(plan.shapes[result], [10]);
        assert!(matches!(plan.places[result], Place::Arena(Region { len: 40, offset, .. }) if offset >= planned[0]));
        assert!(plan.arenas[0] >= planned[0] + 20 + 40, "{:?}", plan.arenas);
        // More than there is to be cut, and more than there can be.
        for count in [17, i64::MAX, -1] {
            let mut plan = Arc::new(subject.plan(&Bindings::new()).unwrap());
            let settled = subject.planner().settle(&mut plan, &mut Bindings::new(), 0, count);
            assert!(settled.is_err(), "{count}");
        }
    }

    #[test]
    fn sizes_that_symbols_left_open_are_asked_of_calls() {
        let symbol = || Dim::symbol("n");
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [symbol(), 3.into()]);
        let square = graph.reshape(x, [symbol(), symbol()]).unwrap();
        graph.output("square", square);
        let mut cut = Graph::new();
        let x = cut.input("x", DType::F32, [symbol()]);
        let slice = cut.slice(x, 0, 2, 4).unwrap();
        cut.output("slice", slice);
        for (graph, right, wrong) in [(graph, 3, 4), (cut, 4, 3)] {
            let subject = Subject::new(graph);
            let with = |size: usize| subject.plan(&Bindings::from([("n".into(), size)]));
            assert!(with(right).is_ok());
            let error = with(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Shape, "{error}");
        }
    }

    /// A cache of 64 rows, one of which each call replaces: what else the function does with it `more` adds.
    fn cached(more: impl Fn(&mut Graph, Value, Value)) -> Graph {
        let mut graph = Graph::new();
        let position = graph.input("position", DType::I64, [1]);
        let row = graph.input("row", DType::F32, [1, 4, 8]);
        let cache = graph.state("cache", DType::F32, [4, 16, 8]);
        // As rows of 32 numbers.
        let rows = graph.reshape(cache, [16, 32]).unwrap();
        let row = graph.reshape(row, [1, 32]).unwrap();
        let rows = graph.push(Op::Scatter(Scatter::Replace), &[rows, position, row]).unwrap();
        let new = graph.reshape(rows, [4, 16, 8]).unwrap();
        graph.update_state("cache", new).unwrap();
        more(&mut graph, cache, new);
        graph
    }

    /// True if the only scatter of the function writes where the state lies.
    fn in_place(graph: Graph) -> bool {
        let plan = Subject::new(graph).plan(&Bindings::new()).unwrap();
        let scatter = plan.steps.iter().find(|step| matches!(step.op, Op::Scatter(_))).unwrap();
        let in_place = scatter.result.place == Place::State(0);
        assert_eq!(in_place, scatter.in_place == Some(0));
        assert_eq!(in_place, plan.updates.is_empty(), "{:?}", plan.updates);
        in_place
    }

    #[test]
    fn the_first_rows_of_a_state_are_read_where_they_lie() {
        let sum = |graph: &mut Graph, rows: Value| {
            let first = graph.slice(rows, 0, 0, 2).unwrap();
            let sum = graph.reduce(Reduce::Sum, first, &[0], false).unwrap();
            graph.output("sum", sum);
        };
        let slices = |plan: &Plan| plan.steps.iter().filter(|step| matches!(step.op, Op::Slice { .. })).count();
        let subject = Subject::new(cached(|graph, _, new| sum(graph, new)));
        let plan = subject.plan(&Bindings::new()).unwrap();
        assert_eq!((slices(&plan), plan.updates.len()), (0, 0));
        let reduce = plan.steps.iter().find(|step| matches!(step.op, Op::Reduce { .. })).unwrap();
        assert_eq!((reduce.reads[0].place, &*reduce.reads[0].shape), (Place::State(0), &[2, 16, 8][..]));
        // As a result they are less than what they lie in, and copied.
        let result = |graph: &mut Graph, _: Value, new: Value| {
            let first = graph.slice(new, 0, 0, 2).unwrap();
            graph.output("first", first);
        };
        let plan = Subject::new(cached(result)).plan(&Bindings::new()).unwrap();
        assert_eq!((slices(&plan), &plan.results[..]), (0, &[None][..]));
        // Rows of anything else are cut out.
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [4, 16, 8]);
        sum(&mut graph, x);
        assert_eq!(slices(&Subject::new(graph).plan(&Bindings::new()).unwrap()), 1);
    }

    #[test]
    fn a_state_is_written_where_it_lies_unless_its_old_value_is_wanted() {
        let read = |name: &'static str, old: bool| {
            move |graph: &mut Graph, before: Value, after: Value| {
                let sum = graph.reduce(Reduce::Sum, if old { before } else { after }, &[0], false).unwrap();
                graph.output(name, sum);
            }
        };
        assert!(in_place(cached(|_, _, _| {})));
        assert!(in_place(cached(read("sum", false))));
        assert!(in_place(cached(|graph, _, new| graph.output("cache", new))));
        // What was there before is looked at afterwards, handed on, or kept by another state.
        assert!(!in_place(cached(read("sum", true))));
        assert!(!in_place(cached(|graph, old, _| graph.output("cache", old))));
        assert!(!in_place(cached(|graph, old, _| {
            graph.state("before", DType::F32, [4, 16, 8]);
            graph.update_state("before", old).unwrap();
        })));
    }
}
