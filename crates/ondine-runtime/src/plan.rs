//! Plan: where every value of a call lives, and how much memory the call takes, before it runs.

use std::{collections::BTreeSet, sync::Arc};

use ondine_graph::{element_count, fail, Bindings, Context, Dim, Error, ErrorKind, Graph, Op, Result, Value};

/// Values begin at multiples of this many bytes.
const ALIGNMENT: usize = 64;

/// Where a value lives during a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An argument of the caller, by position.
    Input(usize),
    /// The packed weights.
    Weight,
    /// The constants of the graph.
    Const,
    /// A state of the caller, by position.
    State(usize),
    /// The workspace.
    Arena(Region),
}

/// A range of the workspace, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Region {
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// One operator to run.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The node it runs, whose place is the result's.
    pub(crate) value: Value,
    /// Its operator, all sizes bound.
    pub(crate) op: Op,
    /// Memory for the operator's own use.
    pub(crate) scratch: Region,
}

/// The memory plan of one function for one binding of its symbols.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) shapes: Vec<Vec<usize>>,
    pub(crate) places: Vec<Place>,
    /// The node whose bytes the value's are: itself, or the source of a reshape.
    pub(crate) roots: Vec<Value>,
    pub(crate) steps: Vec<Step>,
    pub(crate) arena: usize,
    /// For each step, the bytes of the workspace that hold something.
    live: Vec<usize>,
}

impl Plan {
    /// Bytes of workspace that a call takes beside weights, arguments and states.
    #[must_use]
    pub fn arena_bytes(&self) -> usize {
        self.arena
    }

    /// For each operator that a call runs, in order, the bytes of workspace that are in use while it runs: values that
    /// it or a later one reads, its result, and its own scratch.
    #[must_use]
    pub fn live_bytes(&self) -> &[usize] {
        &self.live
    }

    /// The nodes that a call runs, in order.
    pub fn order(&self) -> impl Iterator<Item = Value> {
        self.steps.iter().map(|step| step.value)
    }

    /// The sizes of a value in the planned call.
    #[must_use]
    pub fn shape(&self, value: Value) -> &[usize] {
        &self.shapes[value.index()]
    }

    /// How many operators a call runs.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps.len()
    }
}

/// A piece of workspace that is needed from one step to another, both included.
struct Piece {
    len: usize,
    first: usize,
    last: usize,
}

/// Plans a call; `scratch` says how many bytes a node needs for itself, given all shapes.
pub(crate) fn plan(
    graph: &Graph,
    bindings: &Bindings,
    scratch: impl Fn(Value, &[Vec<usize>]) -> usize,
) -> Result<Plan> {
    let [least, most] = spans(graph, bindings)?;
    let measured: BTreeSet<_> = most.keys().filter(|symbol| !bindings.contains_key(*symbol)).cloned().collect();
    let shapes = bind_shapes(graph, &least, &most)?;
    for (value, node) in graph.values() {
        if !depends(&measured, |names| spoken_of(graph, node, names)) {
            agree(graph, value, &shapes, bindings)?;
        }
    }
    let roots = roots(graph);
    let order: Vec<Value> = graph.values().filter(|(_, node)| runs(&node.op)).map(|(value, _)| value).collect();
    let last_use = last_uses(graph, &roots, &order);
    let mut pieces = Vec::new();
    for (step, &value) in order.iter().enumerate() {
        let len = bytes(graph, &shapes, value)?;
        pieces.push(Piece { len, first: step, last: last_use[value.index()].max(step) });
        pieces.push(Piece { len: scratch(value, &shapes), first: step, last: step });
    }
    let (regions, arena) = arrange(&pieces)?;
    let mut places: Vec<_> = graph.values().map(|(value, node)| fixed_place(graph, value, &node.op)).collect();
    let mut steps = Vec::with_capacity(order.len());
    for (&value, regions) in order.iter().zip(regions.chunks(2)) {
        places[value.index()] = Place::Arena(regions[0]);
        let op = &graph.node(value).op;
        // What speaks of a size that the call will find is bound when it has.
        let op = if depends(&measured, |names| op.symbols(names)) { op.clone() } else { op.bind(bindings)? };
        steps.push(Step { value, op, scratch: regions[1] });
    }
    let places = roots.iter().map(|root| places[root.index()]).collect();
    let live = live(&pieces, steps.len());
    Ok(Plan { shapes, places, roots, steps, arena, live })
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

/// The smallest and largest values of all symbols: those of the call, and what the graph says of those it measures.
fn spans(graph: &Graph, bindings: &Bindings) -> Result<[Bindings; 2]> {
    let (mut least, mut most) = (bindings.clone(), bindings.clone());
    for node in graph.nodes() {
        let Op::Measure { size, most: limit } = &node.op else { continue };
        let limit = limit.most(&least, &most)?;
        let mut symbols = BTreeSet::new();
        size.symbols(&mut symbols);
        for symbol in symbols.into_iter().filter(|symbol| !bindings.contains_key(symbol)) {
            let known = graph.limits().get(&symbol).copied().unwrap_or([0, usize::MAX]);
            // Only of a symbol itself does the limit of its size tell the limit.
            let own = if *size == Dim::from(&*symbol) { limit } else { usize::MAX };
            let largest = known[1].min(own).min(most.get(&symbol).copied().unwrap_or(usize::MAX));
            most.insert(symbol.clone(), largest);
            least.insert(symbol, known[0].min(largest));
        }
    }
    Ok([least, most])
}

/// True if the symbols that `list` adds are among `measured`.
fn depends(measured: &BTreeSet<Arc<str>>, list: impl Fn(&mut BTreeSet<Arc<str>>)) -> bool {
    if measured.is_empty() {
        return false;
    }
    let mut names = BTreeSet::new();
    list(&mut names);
    !names.is_disjoint(measured)
}

impl Plan {
    /// Makes `count`, a number that a node measured, the size of everything that speaks of `size`.
    ///
    /// # Errors
    /// If the number is another than the size has already, or larger than memory is planned for.
    pub(crate) fn settle(&mut self, graph: &Graph, bindings: &mut Bindings, size: &Dim, count: i64) -> Result<()> {
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
        for (value, node) in graph.values() {
            let shape = &node.signature.shape;
            if !bound(&|names| shape.0.iter().for_each(|dim| dim.symbols(names))) {
                continue;
            }
            self.shapes[value.index()] = shape.bind(bindings)?;
            let len = bytes(graph, &self.shapes, value)?;
            if let (Place::Arena(region), true) = (&mut self.places[value.index()], self.roots[value.index()] == value)
            {
                if len > region.len {
                    fail!(Memory, "{shape} takes {len} bytes, but {} are planned", region.len);
                }
                region.len = len;
            }
        }
        for (value, node) in graph.values() {
            if bound(&|names| spoken_of(graph, node, names)) {
                agree(graph, value, &self.shapes, bindings)?;
            }
        }
        for value in 0..self.places.len() {
            self.places[value] = self.places[self.roots[value].index()];
        }
        for step in &mut self.steps {
            let op = &graph.node(step.value).op;
            if bound(&|names| op.symbols(names)) {
                step.op = op.bind(bindings)?;
            }
        }
        Ok(())
    }
}

/// All shapes, or the largest of those that the call decides.
fn bind_shapes(graph: &Graph, least: &Bindings, most: &Bindings) -> Result<Vec<Vec<usize>>> {
    let certain = least == most;
    let bind = |node: &ondine_graph::Node| {
        let dims = &node.signature.shape.0;
        let size = |dim: &Dim| if certain { dim.bind(most) } else { dim.most(least, most) };
        let shape = dims.iter().map(size).collect::<Result<Vec<_>>>()?;
        match element_count(&shape) {
            Some(_) => Ok(shape),
            None => Err(Error::new(ErrorKind::Shape, format!("a value of shape {shape:?} is too large"))),
        }
    };
    graph.nodes().iter().map(|node| bind(node).at(|| format!("{} ({})", node.scope, node.op))).collect()
}

/// The symbols that a node and what it works on speak of.
fn spoken_of(graph: &Graph, node: &ondine_graph::Node, names: &mut BTreeSet<Arc<str>>) {
    let shapes = node.inputs.iter().map(|&input| graph.shape(input)).chain([&node.signature.shape]);
    shapes.for_each(|shape| shape.0.iter().for_each(|dim| dim.symbols(names)));
    node.op.symbols(names);
}

/// Asks of sizes what could not be asked of symbols.
fn agree(graph: &Graph, value: Value, shapes: &[Vec<usize>], bindings: &Bindings) -> Result<()> {
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

/// True if the operator computes or moves anything.
fn runs(op: &Op) -> bool {
    !matches!(op, Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_) | Op::Reshape(_))
}

fn roots(graph: &Graph) -> Vec<Value> {
    let mut roots: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    for (value, node) in graph.values() {
        roots.push(match node.op {
            Op::Reshape(_) => roots[node.inputs[0].index()],
            _ => value,
        });
    }
    roots
}

fn last_uses(graph: &Graph, roots: &[Value], order: &[Value]) -> Vec<usize> {
    let mut last = vec![0; graph.nodes().len()];
    for (step, value) in order.iter().enumerate() {
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

fn bytes(graph: &Graph, shapes: &[Vec<usize>], value: Value) -> Result<usize> {
    let dtype = graph.node(value).signature.dtype;
    let bytes = element_count(&shapes[value.index()]).and_then(|n| n.checked_mul(dtype.size()));
    bytes.ok_or_else(|| {
        Error::new(ErrorKind::Shape, format!("a value of shape {:?} is too large", shapes[value.index()]))
    })
}

fn fixed_place(graph: &Graph, value: Value, op: &Op) -> Place {
    match op {
        Op::Input => {
            let position = graph.inputs().iter().position(|(_, input)| *input == value);
            Place::Input(position.expect("an input node is listed among the inputs"))
        }
        Op::Weight(_) => Place::Weight,
        Op::Const(_) => Place::Const,
        Op::State(slot) => Place::State(*slot),
        _ => Place::Arena(Region::default()),
    }
}

/// Places pieces so that those needed at the same time do not overlap: the largest first, each as low as it fits.
fn arrange(pieces: &[Piece]) -> Result<(Vec<Region>, usize)> {
    let mut order: Vec<usize> = (0..pieces.len()).filter(|&i| pieces[i].len > 0).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(pieces[i].len), pieces[i].first));
    let mut regions = vec![Region::default(); pieces.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(order.len());
    let mut arena = 0;
    let mut busy = Vec::new();
    for i in order {
        let piece = &pieces[i];
        busy.clear();
        let meets = |&&j: &&usize| pieces[j].first <= piece.last && piece.first <= pieces[j].last;
        busy.extend(placed.iter().filter(meets).map(|&j| regions[j]));
        busy.sort_unstable();
        let mut offset = 0_usize;
        for region in &busy {
            if offset.saturating_add(piece.len) <= region.offset {
                break;
            }
            offset = offset.max((region.offset + region.len).next_multiple_of(ALIGNMENT));
        }
        let Some(end) = offset.checked_add(piece.len).filter(|&end| end < isize::MAX as usize - ALIGNMENT) else {
            return Err(Error::new(ErrorKind::Memory, "the workspace is larger than memory can be; ask for less"));
        };
        regions[i] = Region { offset, len: piece.len };
        arena = arena.max(end.next_multiple_of(ALIGNMENT));
        placed.push(i);
    }
    Ok((regions, arena))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondine_graph::{DType, Shape};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_alive_together_never_overlap(spec in prop::collection::vec((0_usize..300, 0_usize..20, 0_usize..6), 1..60)) {
            let pieces: Vec<_> =
                spec.into_iter().map(|(len, first, span)| Piece { len, first, last: first + span }).collect();
            let (regions, arena) = arrange(&pieces).unwrap();
            for (i, a) in pieces.iter().enumerate() {
                prop_assert_eq!(regions[i].len, a.len);
                prop_assert!(regions[i].offset % ALIGNMENT == 0 && regions[i].offset + a.len <= arena);
                for (j, b) in pieces.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let (r, s) = (regions[i], regions[j]);
                    let apart = r.len == 0 || s.len == 0 || r.offset + r.len <= s.offset || s.offset + s.len <= r.offset;
                    prop_assert!(!together || apart);
                }
            }
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
        let plan = plan(&graph, &Bindings::new(), |_, _| 0).unwrap();
        assert_eq!((plan.arena, plan.steps.len()), (2 * 4096, 10));
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
        let graph = measuring(16);
        let mut plan = plan(&graph, &Bindings::new(), |_, _| 0).unwrap();
        let result = graph.outputs()[0].1.index();
        assert_eq!(plan.shapes[result], [32]);
        let (planned, n) = (plan.arena, Dim::symbol("n"));
        let mut bindings = Bindings::new();
        plan.settle(&graph, &mut bindings, &n, 3).unwrap();
        assert_eq!((plan.shapes[result].as_slice(), plan.arena), (&[6][..], planned));
        assert!(matches!(plan.places[result], Place::Arena(Region { len: 24, .. })));
        plan.settle(&graph, &mut bindings, &n, 3).unwrap();
        assert!(plan.settle(&graph, &mut bindings, &n, 4).is_err());
    }

    #[test]
    fn sizes_outside_what_was_planned_are_errors() {
        let graph = measuring(4);
        for count in [-1, 5, i64::MAX] {
            let mut plan = plan(&graph, &Bindings::new(), |_, _| 0).unwrap();
            assert!(plan.settle(&graph, &mut Bindings::new(), &Dim::symbol("n"), count).is_err(), "{count}");
        }
        let open = plan(&measuring(usize::MAX), &Bindings::new(), |_, _| 0).unwrap_err().to_string();
        assert!(open.contains("torch._check"), "{open}");
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
            let with = |size: usize| plan(&graph, &Bindings::from([("n".into(), size)]), |_, _| 0);
            assert!(with(right).is_ok());
            let error = with(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Shape, "{error}");
        }
    }
}
