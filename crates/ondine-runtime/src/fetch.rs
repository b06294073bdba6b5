//! Values of a call, brought to the program.

use std::cell::RefCell;

use ondine_graph::{Graph, NDArray, Result, Value};

use crate::{
    backend::{Running, Wait},
    step::{Place, Plan},
};

/// A copy of a value whose memory holds it, once all that was submitted is done.
pub(crate) fn fetched(
    graph: &Graph,
    plan: &Plan,
    running: &RefCell<Box<dyn Running + '_>>,
    value: Value,
) -> Result<NDArray> {
    let mut array = NDArray::zeros(graph.node(value).signature.dtype, plan.shape(value))?;
    let from = plan.places[value.index()];
    if let (Place::Packed(_), _) | (_, true) = (from, array.is_empty()) {
        return Ok(array);
    }
    let mut running = running.borrow_mut();
    let ticket = running.fetch(from, array.bytes().len()).map_err(|fault| fault.located(plan))?;
    running.poll(ticket, Wait::Yes).map_err(|fault| fault.located(plan))?;
    running.take(ticket, array.bytes_mut())?;
    Ok(array)
}
