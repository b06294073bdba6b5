//! A call from its arguments to its results.

use std::{collections::BTreeMap, sync::Arc};

use ondine_graph::{Bindings, Graph, NDArray, Result, Value, fail};

use crate::{
    backend::{Argument, Backend, Bound, Loaded, Memory, Resident, Wait},
    device::Device,
    exec::{Execution, Watch},
    plan::Planner,
    state::{Outputs, Slot, State},
    step::Plan,
};

/// The results of a call: those that have memory of their own, and copies of the others.
pub(crate) struct Kept {
    plan: Arc<Plan>,
    values: Vec<Value>,
    dtypes: Vec<ondine_graph::DType>,
    memories: Vec<Option<Box<dyn Memory>>>,
    copies: Vec<Option<NDArray>>,
    backend: Arc<dyn Backend>,
}

impl Kept {
    /// The plan, with the sizes that the call found.
    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The results in the program's memory, by name.
    pub(crate) fn outputs(self, graph: &Graph) -> Result<Outputs> {
        let mut outputs = BTreeMap::new();
        let memories = self.memories.into_iter().zip(self.copies);
        for ((position, (name, value)), (memory, copy)) in graph.outputs().iter().enumerate().zip(memories) {
            let array = match (memory, copy) {
                (Some(memory), _) => {
                    NDArray::from_aligned(self.dtypes[position], self.plan.shape(*value), memory.into_bytes()?)?
                }
                (None, Some(copy)) => copy,
                (None, None) => fail!(Missing, "the result `{name}` was not kept"),
            };
            outputs.insert(name.clone(), array);
        }
        Ok(Outputs { arrays: outputs, labels: graph.labels().clone() })
    }

    /// The results where they are, in the order of the graph's outputs.
    pub(crate) fn residents(self) -> Result<Vec<Resident>> {
        let mut residents = Vec::with_capacity(self.values.len());
        for (position, (memory, copy)) in self.memories.into_iter().zip(self.copies).enumerate() {
            let (dtype, shape) = (self.dtypes[position], self.plan.shape(self.values[position]).to_vec());
            let memory = match (memory, copy) {
                (Some(memory), _) => memory,
                (None, Some(copy)) => {
                    let mut memory = self.backend.memory(0, copy.bytes().len())?;
                    memory.write(0, copy.bytes())?;
                    memory
                }
                (None, None) => fail!(Missing, "result {position} was not kept"),
            };
            residents.push(Resident { dtype, shape, memory });
        }
        Ok(residents)
    }
}

/// Calls a function.
#[expect(clippy::too_many_arguments, reason = "all of a call")]
pub(crate) fn call(
    planner: Planner<'_>,
    loaded: &Arc<dyn Loaded>,
    device: &Device,
    plan: Arc<Plan>,
    arguments: &[Argument<'_>],
    bindings: &Bindings,
    state: &mut State,
    watch: &mut Watch<'_>,
) -> Result<Kept> {
    let (graph, backend) = (&planner.lowered.graph, device.backend());
    let parts = state.parts(loaded)?;
    let mut states = Borrowed::take(parts.slots, &planner, bindings)?;
    let memory = |len: &Option<usize>| len.map(|len| backend.memory(0, len)).transpose();
    let mut memories = plan.results.iter().map(memory).collect::<Result<Vec<_>>>()?;
    let mut profile = parts.profile;
    let bound = Bound { arguments, states: &mut states.memories, results: &mut memories };
    let running = parts.workspace.begin(&plan, bound)?;
    let mut execution =
        Execution::new(planner, plan, bindings, running, device.cancel().listen(), watch, profile.as_deref_mut())?;
    execution.advance(Wait::Yes)?;
    let (plan, copies, elapsed) = execution.finish();
    if let Some(profile) = profile {
        profile.calls.extend(elapsed);
    }
    let values: Vec<_> = graph.outputs().iter().map(|&(_, value)| value).collect();
    let dtypes = values.iter().map(|&value| graph.node(value).signature.dtype).collect();
    drop(states);
    Ok(Kept { plan, values, dtypes, memories, copies, backend: backend.clone() })
}

/// The states of a call, taken out of where their caller keeps them, and put back when it ends, however it ends.
struct Borrowed<'s> {
    slots: &'s mut BTreeMap<Arc<str>, Slot>,
    names: Vec<Arc<str>>,
    kinds: Vec<(ondine_graph::DType, Vec<usize>)>,
    memories: Vec<Box<dyn Memory>>,
}

impl<'s> Borrowed<'s> {
    fn take(slots: &'s mut BTreeMap<Arc<str>, Slot>, planner: &Planner<'_>, bindings: &Bindings) -> Result<Self> {
        let mut taken = Self { slots, names: Vec::new(), kinds: Vec::new(), memories: Vec::new() };
        for (position, state) in planner.lowered.graph.states().iter().enumerate() {
            let (dtype, shape) = (state.signature.dtype, state.signature.shape.bind(bindings)?);
            let slot = match taken.slots.remove(&state.name) {
                Some(slot) if slot.dtype == dtype && slot.shape == shape => slot,
                Some(slot) => {
                    let (was, held) = (slot.dtype, slot.shape.clone());
                    taken.slots.insert(state.name.clone(), slot);
                    fail!(Shape, "state `{}` holds {was} {held:?}, this call takes {dtype} {shape:?}", state.name);
                }
                None => {
                    let space = planner.lowered.states.get(position).copied().unwrap_or_default();
                    let Some(len) =
                        ondine_graph::element_count(&shape).and_then(|count| count.checked_mul(dtype.size()))
                    else {
                        fail!(Shape, "state `{}` of shape {shape:?} is too large", state.name);
                    };
                    let mut memory = planner.backend.memory(space, len)?;
                    if let Some(initial) = &state.initial {
                        memory.write(0, initial.bytes())?;
                    }
                    Slot { dtype, shape, memory }
                }
            };
            taken.names.push(state.name.clone());
            taken.kinds.push((slot.dtype, slot.shape));
            taken.memories.push(slot.memory);
        }
        Ok(taken)
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let slots = self.names.drain(..).zip(self.kinds.drain(..)).zip(self.memories.drain(..));
        for ((name, (dtype, shape)), memory) in slots {
            self.slots.insert(name, Slot { dtype, shape, memory });
        }
    }
}
