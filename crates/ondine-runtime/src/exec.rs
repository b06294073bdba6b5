//! The executor: runs the steps of a plan on one workspace.

use std::{borrow::Cow, time::Instant};

use crate::{cpu::{self, Format}, device::Cancel, model::{Outputs, State}, observe::{Moment, Tap}, plan::{Place, Plan, Region, Step}, profile::{self, Sample}, specialize::{Lowered, Specialized}};
use ondine_graph::{fail, AlignedBytes, Bindings, Context, DType, Graph, NDArray, Op, Result, Value};

/// An operand of a kernel: plain row-major elements, or a packed weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand<'a> {
    pub(crate) dtype: DType,
    pub(crate) shape: &'a [usize],
    pub(crate) bytes: &'a [u8],
    /// How the bytes are packed, if it is a weight.
    pub(crate) format: Option<Format>,
}

/// The result of a kernel, to be written whole.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) dtype: DType,
    pub(crate) shape: &'a [usize],
    pub(crate) bytes: &'a mut [u8],
    /// Of quantized rows, if it was chosen before.
    pub(crate) scale: Option<ondine_kernels::RowScale>,
}

/// Everything a call reads that is not in the workspace.
pub(crate) struct Call<'a> {
    specialized: &'a Specialized,
    lowered: &'a Lowered,
    plan: Cow<'a, Plan>,
    arguments: &'a [&'a NDArray],
    states: Vec<Cow<'a, NDArray>>,
}

/// Who looks at a call while it runs.
#[derive(Default)]
pub(crate) struct Watch<'a> {
    pub(crate) tap: Option<&'a mut dyn Tap>,
    /// A wish to stop beside the device's.
    pub(crate) cancel: Option<&'a Cancel>,
}

impl Watch<'_> {
    fn check(&self, device: &Cancel) -> Result<()> {
        device.check()?;
        self.cancel.map_or(Ok(()), Cancel::check)
    }

    fn look(&mut self, call: &Call<'_>, arena: &[u8], value: Option<Value>) -> Result<()> {
        self.tap.as_mut().map_or(Ok(()), |tap| tap.look(&Moment { call, arena, value }))
    }
}

pub(crate) fn run(
    specialized: &Specialized,
    lowered: &Lowered,
    plan: &Plan,
    arguments: &[&NDArray],
    bindings: &Bindings,
    state: &mut State,
    watch: &mut Watch<'_>,
) -> Result<Outputs> {
    let begin = Instant::now();
    let graph = &lowered.graph;
    if state.arena.as_slice().len() < plan.arena {
        state.arena = AlignedBytes::try_zeroed(plan.arena)?;
    }
    let states = graph.states().iter().map(|slot| {
        Ok(match state.states.get(&slot.name) {
            Some(array) => Cow::Borrowed(array),
            None if slot.initial.is_some() => Cow::Borrowed(&**slot.initial.as_ref().expect("it was just found")),
            None => Cow::Owned(NDArray::zeros(slot.signature.dtype, &slot.signature.shape.bind(bindings)?)?),
        })
    });
    let states = states.collect::<Result<Vec<_>>>()?;
    let mut call = Call { specialized, lowered, plan: Cow::Borrowed(plan), arguments, states };
    let mut bindings = Cow::Borrowed(bindings);
    let arena = state.arena.as_mut_slice();
    watch.look(&call, arena, None)?;
    for index in 0..plan.steps.len() {
        watch.check(specialized.device.cancel())?;
        let start = state.profile.is_some().then(Instant::now);
        let step = &call.plan.steps[index];
        let value = step.value;
        let place = || {
            let node = graph.node(value);
            format!("{} ({})", node.scope, node.op)
        };
        call.step(step, arena).at(place)?;
        let time = start.map(|start| start.elapsed());
        if state.frugal {
            call.forget_weights(step);
        }
        if let Op::Measure { size, .. } = &graph.node(value).op {
            let count = call.array(value, arena)?.view::<i64>()?.first().copied().unwrap_or_default();
            call.plan.to_mut().settle(graph, bindings.to_mut(), size, count).at(place)?;
        }
        watch.look(&call, arena, Some(value))?;
        if let (Some(profile), Some(start), Some(time)) = (&mut state.profile, start, time) {
            let node = graph.node(value);
            profile.samples.push(Sample {
                op: node.op.name(),
                scope: node.scope.clone(),
                value,
                call: profile.calls.len(),
                start: start - begin,
                time,
                flops: profile::step_flops(graph, &call.plan, value),
                bytes: profile::step_bytes(graph, &call.plan, value),
            });
        }
    }
    let mut outputs = Outputs::default();
    for (name, value) in graph.outputs() {
        outputs.0.insert(name.clone(), call.array(*value, arena)?);
    }
    let updates = graph.states().iter().filter_map(|slot| Some((slot.name.clone(), slot.update?)));
    let updates = updates.map(|(name, value)| Ok((name, call.array(value, arena)?))).collect::<Result<Vec<_>>>()?;
    drop(call);
    state.states.extend(updates);
    if let Some(profile) = &mut state.profile {
        profile.calls.push(begin.elapsed());
    }
    Ok(outputs)
}

impl<'c> Call<'c> {
    pub(crate) fn graph(&self) -> &'c Graph {
        &self.lowered.graph
    }

    /// The node whose bytes the value's are.
    pub(crate) fn root(&self, value: Value) -> Value {
        self.plan.roots[value.index()]
    }

    fn step(&self, step: &Step, arena: &mut [u8]) -> Result<()> {
        let graph = &self.lowered.graph;
        let node = graph.node(step.value);
        let Place::Arena(result) = self.plan.places[step.value.index()] else {
            fail!(Unsupported, "the result has no place in the workspace");
        };
        let cut = Cut::new(arena, [result, step.scratch]);
        let mut operands = Vec::with_capacity(node.inputs.len());
        for (position, &input) in node.inputs.iter().enumerate() {
            operands.push(self.operand(graph, &node.op, position, input, &cut.rest));
        }
        let [result, scratch] = cut.taken;
        let mut target = Target {
            dtype: node.signature.dtype,
            shape: &self.plan.shapes[step.value.index()],
            bytes: result,
            scale: None,
        };
        cpu::run(&step.op, &operands, &mut target, scratch, &self.specialized.device)
    }

    fn operand<'a>(
        &'a self,
        graph: &'a Graph,
        op: &Op,
        position: usize,
        value: Value,
        rest: &[(usize, &'a [u8])],
    ) -> Operand<'a> {
        let (dtype, shape) = (graph.node(value).signature.dtype, self.plan.shapes[value.index()].as_slice());
        let root = graph.node(self.plan.roots[value.index()]);
        let mut format = None;
        let bytes = match (self.plan.places[value.index()], &root.op) {
            (Place::Arena(region), _) => find(rest, region),
            (Place::Input(position), _) => self.arguments[position].bytes(),
            (Place::State(slot), _) => self.states[slot].bytes(),
            (Place::Weight, Op::Weight(id)) => {
                // Through a reshape it is the reshape that reads the weight.
                let direct = self.plan.roots[value.index()] == value;
                let (op, position) = if direct { (op, position) } else { (&graph.node(value).op, 0) };
                let pack = self.lowered.pack(op, position, *id, self.specialized.options);
                let pack = pack.expect("specialization packs every use of a weight");
                format = Some(self.specialized.packed.entries[pack].format);
                self.specialized.packed.get(pack)
            }
            (_, Op::Const(array)) => array.bytes(),
            (place, op) => unreachable!("a value of {op} is never placed at {place:?}"),
        };
        Operand { dtype, shape, bytes, format }
    }

    /// Lets go of the pages of the weights that a step used.
    fn forget_weights(&self, step: &Step) {
        let graph = &self.lowered.graph;
        let node = graph.node(step.value);
        for (position, &input) in node.inputs.iter().enumerate() {
            if let Op::Weight(id) = graph.node(input).op {
                let pack = self.lowered.pack(&node.op, position, id, self.specialized.options);
                pack.into_iter().for_each(|pack| self.specialized.packed.forget(pack));
            }
        }
    }

    /// A value whose memory still holds it, copied out.
    pub(crate) fn array(&self, value: Value, arena: &[u8]) -> Result<NDArray> {
        let operand = self.operand(&self.lowered.graph, &Op::Input, 0, value, &[(0, arena)]);
        NDArray::from_bytes(operand.dtype, operand.shape, operand.bytes)
    }
}

/// The workspace cut into what a step writes and what is left to read.
pub(crate) struct Cut<'a, const N: usize> {
    pub(crate) taken: [&'a mut [u8]; N],
    pub(crate) rest: Vec<(usize, &'a [u8])>,
}

impl<'a, const N: usize> Cut<'a, N> {
    /// Cuts `regions`, which do not overlap, out of `arena`.
    pub(crate) fn new(mut arena: &'a mut [u8], regions: [Region; N]) -> Self {
        let mut order: [usize; N] = std::array::from_fn(|i| i);
        order.sort_by_key(|&i| (regions[i].offset, regions[i].len));
        // What is empty is aligned all the same, as kernels expect of their numbers.
        let mut taken = std::array::from_fn(|_| arena.split_off_mut(..0).unwrap_or_default());
        let mut rest = Vec::with_capacity(N + 1);
        let mut position = 0;
        for i in order {
            let Region { offset, len } = regions[i];
            if len == 0 {
                continue;
            }
            let (before, tail) = arena.split_at_mut(offset - position);
            let (part, tail) = tail.split_at_mut(len);
            rest.push((position, &*before));
            taken[i] = part;
            arena = tail;
            position = offset + len;
        }
        rest.push((position, &*arena));
        Self { taken, rest }
    }
}

/// The bytes of `region` among the pieces of the workspace; each piece comes with its position.
pub(crate) fn find<'a>(pieces: &[(usize, &'a [u8])], region: Region) -> &'a [u8] {
    let holds =
        |(start, piece): &&(usize, &[u8])| *start <= region.offset && region.offset + region.len <= start + piece.len();
    let (start, piece) = pieces.iter().find(holds).expect("the plan keeps what a step reads apart from what it writes");
    &piece[region.offset - start..][..region.len]
}
