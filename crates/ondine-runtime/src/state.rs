//! What a caller keeps between calls, and what a call yields.

use std::{collections::BTreeMap, sync::Arc};

use ondine_graph::{DType, NDArray, Result, fail};

use crate::{
    backend::{Loaded, Memory, Residency, Workspace},
    profile::Profile,
};

/// What a caller keeps between calls of a function: its states, and the workspace, which saves asking for memory
/// at every call. A fresh one has all states zero.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) slots: BTreeMap<Arc<str>, Slot>,
    pub(crate) profile: Option<Profile>,
    workspace: Option<(Arc<dyn Loaded>, Box<dyn Workspace>)>,
    residency: Residency,
}

/// The memory of one state.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) memory: Box<dyn Memory>,
}

impl State {
    /// A fresh state that measures every operator of its calls.
    #[must_use]
    pub fn profiled() -> Self {
        Self { profile: Some(Profile::default()), ..Self::default() }
    }

    /// A fresh state whose calls let go of every weight once it was used, for functions that are called now and then:
    /// if the weights are mapped from the cache, only those of one operator stay in memory.
    #[must_use]
    pub fn frugal() -> Self {
        Self { residency: Residency::Window, ..Self::default() }
    }

    /// The measurements since the last time, if the state measures.
    pub fn take_profile(&mut self) -> Option<Profile> {
        self.profile.as_mut().map(std::mem::take)
    }

    /// A copy of the state `name`.
    ///
    /// # Errors
    /// If no call has used it, or its device is lost.
    pub fn read(&self, name: &str) -> Result<NDArray> {
        let Some(slot) = self.slots.get(name) else { fail!(Missing, "no call has used a state `{name}`") };
        let mut array = NDArray::zeros(slot.dtype, &slot.shape)?;
        slot.memory.read(0, array.bytes_mut())?;
        Ok(array)
    }

    /// Replaces what the state `name` holds.
    ///
    /// # Errors
    /// If no call has used it, `array` is of another type or shape, or its device is lost.
    pub fn write(&mut self, name: &str, array: &NDArray) -> Result<()> {
        let Some(slot) = self.slots.get_mut(name) else { fail!(Missing, "no call has used a state `{name}`") };
        if (array.dtype(), array.shape()) != (slot.dtype, &slot.shape[..]) {
            let (dtype, shape) = (array.dtype(), array.shape());
            fail!(Shape, "the state `{name}` is {} {:?}, not {dtype} {shape:?}", slot.dtype, slot.shape);
        }
        slot.memory.write(0, array.bytes())
    }

    /// The workspace for calls with these weights, which is made if there is none, and what a call fills beside it.
    pub(crate) fn parts(&mut self, loaded: &Arc<dyn Loaded>) -> Result<Parts<'_>> {
        let known = self.workspace.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, loaded));
        if !known {
            self.workspace = None;
        }
        let workspace = match &mut self.workspace {
            Some((_, workspace)) => workspace,
            none => &mut none.insert((loaded.clone(), loaded.workspace(self.residency)?)).1,
        };
        Ok(Parts { workspace: &mut **workspace, slots: &mut self.slots, profile: self.profile.as_mut() })
    }
}

/// The parts of a state that a call borrows.
pub(crate) struct Parts<'s> {
    pub(crate) workspace: &'s mut dyn Workspace,
    pub(crate) slots: &'s mut BTreeMap<Arc<str>, Slot>,
    pub(crate) profile: Option<&'s mut Profile>,
}

/// The results of a call, by name.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    pub(crate) arrays: BTreeMap<Arc<str>, NDArray>,
    /// See [`Graph::labels`](ondine_graph::Graph::labels).
    pub(crate) labels: BTreeMap<Arc<str>, Arc<str>>,
}

impl Outputs {
    /// Takes the result `name`, or the one that the imported program calls so: `logits`, of a dictionary.
    ///
    /// # Errors
    /// If the function has no such result, or it was taken before.
    pub fn take(&mut self, name: &str) -> Result<NDArray> {
        if let Some(array) = self.arrays.remove(name) {
            return Ok(array);
        }
        let labelled = self.labels.iter().find(|(_, label)| &***label == name);
        match labelled.and_then(|(output, _)| self.arrays.remove(output)) {
            Some(array) => Ok(array),
            None => fail!(Missing, "there is no result `{name}`"),
        }
    }

    /// What the imported program calls the result `name`, if it says.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(|label| &**label)
    }

    /// All results by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &NDArray)> {
        self.arrays.iter()
    }
}
