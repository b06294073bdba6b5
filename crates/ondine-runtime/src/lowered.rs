//! A function as a backend runs it, and which packed weight each of its operators reads.

use std::{collections::HashMap, sync::Arc};

use ondine_graph::{Context, Graph, NDArray, Op, Result, Value, encoding::Encoding, fail};
use serde::{Deserialize, Serialize};

use crate::{
    backend::{Backend, Form, Lowering, Reader},
    options::Options,
};

/// One packed weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) path: Arc<str>,
    pub(crate) shape: Vec<usize>,
    pub(crate) form: Form,
    /// Position among the packed weights.
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// The packed weights and constants of all functions of a model, in the making.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) entries: Vec<Entry>,
    known: HashMap<(Arc<str>, Form), usize>,
    pub(crate) constants: Vec<Arc<NDArray>>,
    positions: HashMap<usize, usize>,
}

impl Listing {
    /// The position of a weight in a form; uses of one weight in one form share it.
    fn entry(&mut self, path: &Arc<str>, shape: &[usize], form: Form, backend: &dyn Backend) -> Result<usize> {
        if let Some(&index) = self.known.get(&(path.clone(), form.clone())) {
            return Ok(index);
        }
        let end = self.entries.last().map_or(0, |last| last.offset + last.len);
        let len = backend.packed_bytes(&form, shape).at(|| format!("weight `{path}`"))?;
        let Some(offset) = end.checked_next_multiple_of(64).filter(|start| start.checked_add(len).is_some()) else {
            fail!(Memory, "the packed weights are larger than memory can be");
        };
        self.known.insert((path.clone(), form.clone()), self.entries.len());
        self.entries.push(Entry { path: path.clone(), shape: shape.to_vec(), form, offset, len });
        Ok(self.entries.len() - 1)
    }

    /// Lists the constants of a graph and of its loops.
    fn add_constants(&mut self, graph: &Graph) {
        for node in graph.nodes() {
            if let Op::Const(array) = &node.op {
                let next = self.constants.len();
                if *self.positions.entry(address(array)).or_insert(next) == next {
                    self.constants.push(array.clone());
                }
            }
        }
        for inner in graph.loops() {
            self.add_constants(&inner.condition);
            self.add_constants(&inner.body);
        }
    }
}

/// Where an array lies, as long as somebody keeps it.
fn address(array: &Arc<NDArray>) -> usize {
    Arc::as_ptr(array).addr()
}

/// What an asset knows of a weight beside its numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) encoding: Option<Encoding>,
    /// True if there is a range of what it is multiplied with.
    pub(crate) ranged: bool,
}

/// A function ready for planning.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub(crate) graph: Graph,
    spaces: Vec<u8>,
    pub(crate) states: Vec<u8>,
    /// The packed weight that an input of a node reads.
    uses: HashMap<(Value, usize), usize>,
    /// The position of each constant, by its address: the graph keeps it.
    constants: HashMap<usize, usize>,
}

impl Lowered {
    /// Asks the backend in which form each operator reads its weights.
    pub(crate) fn new(
        lowering: Lowering,
        options: Options,
        backend: &dyn Backend,
        listing: &mut Listing,
        known: impl Fn(&str) -> Result<Known>,
    ) -> Result<Self> {
        let Lowering { graph, spaces, states } = lowering;
        let mut uses = HashMap::new();
        for (node, position, weight) in weight_inputs(&graph) {
            let place = || format!("{} ({})", graph.node(node).scope, graph.node(node).op);
            let Known { encoding, ranged } = known(&weight.path).at(place)?;
            let space = spaces.get(node.index()).copied().unwrap_or_default();
            let reader = Reader { graph: &graph, node, position, space, encoding: encoding.as_ref(), ranged, options };
            let form = backend.form(&reader).at(place)?;
            uses.insert((node, position), listing.entry(&weight.path, &weight.shape, form, backend)?);
        }
        listing.add_constants(&graph);
        Ok(Self { graph, spaces, states, uses, constants: listing.positions.clone() })
    }

    /// As a file claims it: each use of a weight with its form.
    pub(crate) fn stored(
        lowering: Lowering,
        uses: &[StoredUse],
        options: Options,
        backend: &dyn Backend,
        listing: &mut Listing,
    ) -> Result<Self> {
        let Lowering { graph, spaces, states } = lowering;
        let claimed: HashMap<(usize, usize), &Form> =
            uses.iter().map(|StoredUse { node, input, form }| ((*node, *input), form)).collect();
        let mut known = HashMap::new();
        for (node, position, weight) in weight_inputs(&graph) {
            let Some(form) = claimed.get(&(node.index(), position)) else {
                fail!(Format, "node {} reads a weight in no form", node.index());
            };
            known.insert((node, position), listing.entry(&weight.path, &weight.shape, (*form).clone(), backend)?);
        }
        for (value, node) in graph.values() {
            let forms: Vec<_> = (0..node.inputs.len())
                .map(|i| known.get(&(value, i)).map(|&entry| listing.entries[entry].form.clone()))
                .collect();
            backend.check(&graph, value, &forms, options).at(|| format!("{} ({})", node.scope, node.op))?;
        }
        listing.add_constants(&graph);
        Ok(Self { graph, spaces, states, uses: known, constants: listing.positions.clone() })
    }

    /// The uses of weights, for a file.
    pub(crate) fn uses(&self, entries: &[Entry]) -> Vec<StoredUse> {
        let stored = |(&(node, input), &entry): (&(Value, usize), &usize)| StoredUse {
            node: node.index(),
            input,
            form: entries[entry].form.clone(),
        };
        let mut uses: Vec<_> = self.uses.iter().map(stored).collect();
        uses.sort_by_key(|stored| (stored.node, stored.input));
        uses
    }

    /// The packed weight that input `position` of `node` reads, through reshapes.
    pub(crate) fn entry(&self, node: Value, position: usize) -> Option<usize> {
        self.uses.get(&(node, position)).copied()
    }

    /// The position of a constant.
    pub(crate) fn constant(&self, array: &Arc<NDArray>) -> Option<usize> {
        self.constants.get(&address(array)).copied()
    }

    /// The space that a value lives in.
    pub(crate) fn space(&self, value: Value) -> u8 {
        self.spaces.get(value.index()).copied().unwrap_or_default()
    }

    /// The spaces of all values and states, for a file.
    pub(crate) fn spaces(&self) -> [&[u8]; 2] {
        [&self.spaces, &self.states]
    }
}

/// A use of a weight in a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredUse {
    node: usize,
    input: usize,
    form: Form,
}

/// The inputs of operators that are weights, through reshapes: node, position, weight.
fn weight_inputs(graph: &Graph) -> Vec<(Value, usize, &ondine_graph::Weight)> {
    let mut found = Vec::new();
    for (value, node) in graph.values().filter(|(_, node)| !matches!(node.op, Op::Reshape(_))) {
        for (position, &(mut input)) in node.inputs.iter().enumerate() {
            while let Op::Reshape(_) = graph.node(input).op {
                input = graph.node(input).inputs[0];
            }
            if let Op::Weight(id) = graph.node(input).op {
                found.push((value, position, graph.weight_info(id)));
            }
        }
    }
    found
}
