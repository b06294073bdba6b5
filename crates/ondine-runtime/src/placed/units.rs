//! The units of a placed graph: whose each space and form is, and what carries values from one to another.

use std::sync::Arc;

use ondine_graph::{Graph, Native, Op, Result, Signature, Value, fail};

use crate::{
    backend::{Backend, Form, Identity},
    step::Kernel,
};

/// What carries a value from one unit to another is called.
const TRANSFER: &str = "transfer";

/// On which unit a node runs, by its position among the units.
pub type Assign = Arc<dyn Fn(&Graph, Value) -> usize + Send + Sync>;

/// A backend made of others. Arguments, states and results are the first one's.
#[derive(Clone)]
pub struct Placed {
    pub(super) identity: Identity,
    pub(super) units: Arc<[Arc<dyn Backend>]>,
    /// Of each unit the position of its first space.
    pub(super) first: Arc<[u8]>,
    pub(super) assign: Assign,
}

impl Placed {
    /// The units as one; `assign` says where each node runs. A node that its unit cannot run is an error when a graph
    /// is lowered.
    ///
    /// # Errors
    /// If there is no unit, or they have more than 256 memories.
    pub fn new(units: Vec<Arc<dyn Backend>>, assign: Assign) -> Result<Self> {
        let Some(host) = units.first() else { fail!(Unsupported, "a backend made of none") };
        let (half, join) = (host.identity().half, |part: fn(&Identity) -> &str| -> Box<str> {
            let parts: Vec<_> = units.iter().map(|unit| part(unit.identity())).collect();
            parts.join(" and ").into()
        });
        let (name, key) = (join(|identity| &identity.name), join(|identity| &identity.key));
        let (mut first, mut spaces) = (Vec::new(), Vec::new());
        for unit in &units {
            let Ok(begin) = u8::try_from(spaces.len()) else { fail!(Unsupported, "{} memories", spaces.len()) };
            first.push(begin);
            spaces.extend(unit.identity().spaces.iter().cloned());
        }
        let identity = Identity { name, key, spaces: spaces.into(), half };
        Ok(Self { identity, units: units.into(), first: first.into(), assign })
    }

    /// The unit whose memory a space is.
    pub(super) fn unit(&self, space: u8) -> usize {
        unit_of(&self.first, space)
    }

    /// The unit that a form is of, and the form as that knows it.
    pub(super) fn of_unit(&self, form: &Form) -> Result<(usize, Form)> {
        let parts = form.0.split_once(':').and_then(|(unit, text)| Some((unit.parse::<usize>().ok()?, text)));
        match parts.filter(|(unit, _)| *unit < self.units.len()) {
            Some((unit, text)) => Ok((unit, Form(text.into()))),
            None => fail!(Format, "no form of a unit: {}", form.0),
        }
    }
}

/// The unit whose memory a space is.
pub(super) fn unit_of(first: &[u8], space: u8) -> usize {
    first.iter().rposition(|&begin| begin <= space).unwrap_or_default()
}

/// What is kept of a step.
pub(super) enum Work {
    /// A step of a unit, with what that keeps.
    Step(Kernel),
    /// A transfer.
    Transfer,
}

pub(super) fn transfer(result: Signature) -> Op {
    Op::Native(Arc::new(Native { name: TRANSFER.into(), data: Box::default(), dims: Vec::new(), result }))
}

pub(super) fn is_transfer(op: &Op) -> bool {
    matches!(op, Op::Native(native) if &*native.name == TRANSFER)
}
