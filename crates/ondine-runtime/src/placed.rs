//! Several backends as one: each node is placed on a unit, and what crosses from one to another is carried over.
//!
//! The units' memories stand side by side as the spaces of the whole, so the space of a value tells its unit. Lowering
//! cuts the graph into runs of nodes of one unit, lets that lower each run, and joins them again with transfers.

mod call;
mod lower;
mod unit;

use std::{any::Any, fmt, sync::Arc};

use ondine_graph::{Graph, Op, Result, Value, Weights, fail};

use crate::{
    backend::{Backend, Form, Identity, Loaded, Lowering, Memory, OperandShape, Packed, Prepared, Reader, Source},
    cost::cost,
    options::Options,
    step::Cost,
};
use unit::{Units, Work, is_transfer};

pub use unit::Assign;

/// A backend made of others. Arguments, states and results are the first one's.
#[derive(Clone)]
pub struct Placed {
    identity: Identity,
    units: Units,
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
        let quick_half = units.iter().all(|unit| unit.identity().quick_half);
        let identity = Identity { name, key, spaces: spaces.into(), half, quick_half };
        Ok(Self { identity, units: Units { all: units.into(), first: first.into(), assign } })
    }

    /// The unit that a form is of, and the form as that knows it.
    fn of_unit(&self, form: &Form) -> Result<(usize, Form)> {
        let parts = form.0.split_once(':').and_then(|(unit, text)| Some((unit.parse::<usize>().ok()?, text)));
        match parts.filter(|(unit, _)| *unit < self.units.all.len()) {
            Some((unit, text)) => Ok((unit, Form(text.into()))),
            None => fail!(Format, "no form of a unit: {}", form.0),
        }
    }
}

impl Backend for Placed {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn estimate(&self, op: &Op, operands: &[OperandShape<'_>]) -> Option<Cost> {
        self.units.all.iter().find_map(|unit| unit.estimate(op, operands))
    }

    fn lower(&self, graph: &Graph, options: Options, weights: &Weights) -> Result<Lowering> {
        lower::lower(&self.units, graph, options, weights)
    }

    fn form(&self, reader: &Reader<'_>) -> Result<Form> {
        let unit = self.units.unit(reader.space);
        let inner = Reader { space: reader.space - self.units.first[unit], ..*reader };
        let form = self.units.all[unit].form(&inner)?;
        Ok(Form(format!("{unit}:{}", form.0).into()))
    }

    fn check(&self, _: &Graph, _: Value, _: &[Option<Form>], _: Options) -> Result<()> {
        fail!(Unsupported, "functions of several units are not built ahead of time")
    }

    fn packed_bytes(&self, form: &Form, shape: &[usize]) -> Result<usize> {
        let (unit, form) = self.of_unit(form)?;
        self.units.all[unit].packed_bytes(&form, shape)
    }

    fn pack(&self, form: &Form, shape: &[usize], source: &Source<'_>, out: &mut [u8]) -> Result<()> {
        let (unit, form) = self.of_unit(form)?;
        self.units.all[unit].pack(&form, shape, source, out)
    }

    fn takes_codes(&self, form: &Form) -> bool {
        self.of_unit(form).is_ok_and(|(unit, form)| self.units.all[unit].takes_codes(&form))
    }

    fn prepare(&self, op: &Op, operands: &[OperandShape<'_>], result: &OperandShape<'_>) -> Result<Prepared> {
        if is_transfer(op) {
            let cost = cost(op, operands, result);
            return Ok(Prepared { kernel: Arc::new(Work::Transfer), scratch: 0, in_place: None, cost });
        }
        let unit = self.units.unit(result.space);
        let forms: Vec<Option<Form>> = operands
            .iter()
            .map(|operand| operand.form.map(|form| self.of_unit(form).map(|(_, form)| form)).transpose())
            .collect::<Result<_>>()?;
        let inside = |space: u8| space.saturating_sub(self.units.first[unit]);
        let reads = operands.iter().zip(&forms);
        let operands: Vec<_> = reads
            .map(|(operand, form)| OperandShape { form: form.as_ref(), space: inside(operand.space), ..*operand })
            .collect();
        let result = OperandShape { space: inside(result.space), ..*result };
        let prepared = self.units.all[unit].prepare(op, &operands, &result)?;
        Ok(Prepared { kernel: Arc::new(Work::Step(prepared.kernel.clone())), ..prepared })
    }

    fn load(&self, packed: &Arc<Packed>) -> Result<Arc<dyn Loaded>> {
        let mut units = Vec::with_capacity(self.units.all.len());
        for (index, unit) in self.units.all.iter().enumerate() {
            let mut own = Packed::clone(packed);
            for entry in &mut own.entries {
                let (of, form) = self.of_unit(&entry.form)?;
                // Entries keep their numbers; what is another unit's has no bytes here.
                (entry.form, entry.len) = (form, if of == index { entry.len } else { 0 });
            }
            units.push(unit.load(&Arc::new(own))?);
        }
        Ok(Arc::new(call::Ready::new(units, self.units.first.clone())))
    }

    fn memory(&self, space: u8, len: usize) -> Result<Box<dyn Memory>> {
        let unit = self.units.unit(space);
        self.units.all[unit].memory(space - self.units.first[unit], len)
    }

    fn narrowed(&self, key: &str) -> Result<Arc<dyn Backend>> {
        if *key != *self.identity.key {
            fail!(Unsupported, "made for `{key}`; this is `{}`", self.identity.key);
        }
        Ok(Arc::new(self.clone()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.units.all.iter()).finish()
    }
}
