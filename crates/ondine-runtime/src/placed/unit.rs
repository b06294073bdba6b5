//! The units of a whole, and what stands between them.

use std::sync::Arc;

use ondine_graph::{Graph, Native, Op, Signature, Value};

use crate::{backend::Backend, step::Kernel};

/// What carries a value from one unit to another is called.
const TRANSFER: &str = "transfer";

/// On which unit a node runs, by its position among the units.
pub type Assign = Arc<dyn Fn(&Graph, Value) -> usize + Send + Sync>;

/// Backends whose memories stand side by side.
#[derive(Clone)]
pub(super) struct Units {
    pub(super) all: Arc<[Arc<dyn Backend>]>,
    /// Of each unit the position of its first space.
    pub(super) first: Arc<[u8]>,
    pub(super) assign: Assign,
}

impl Units {
    /// The unit whose memory a space is.
    pub(super) fn unit(&self, space: u8) -> usize {
        unit_of(&self.first, space)
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
