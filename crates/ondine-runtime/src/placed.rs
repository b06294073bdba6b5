//! Several backends as one: each node is placed on a unit, and what crosses from one to another is carried over.
//!
//! The units' memories stand side by side as the spaces of the whole, so the space of a value tells its unit. Lowering
//! cuts the graph into runs of nodes of one unit, lets that lower each run, and joins them again with transfers.

mod call;
mod lower;
mod units;

use std::{any::Any, fmt, sync::Arc};

use ondine_graph::{Graph, Op, Result, Value, Weights, fail};

use crate::{
    backend::{Backend, Form, Identity, Loaded, Lowering, Memory, OperandShape, Packed, Prepared, Reader, Source},
    cost::cost,
    options::Options,
    step::Cost,
};

pub use units::{Assign, Placed};
use units::{Work, is_transfer};

impl Backend for Placed {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn estimate(&self, op: &Op, operands: &[OperandShape<'_>]) -> Option<Cost> {
        self.units.iter().find_map(|unit| unit.estimate(op, operands))
    }

    fn lower(&self, graph: &Graph, options: Options, weights: &Weights) -> Result<Lowering> {
        lower::lower(self, graph, options, weights)
    }

    fn form(&self, reader: &Reader<'_>) -> Result<Form> {
        let unit = self.unit(reader.space);
        let inner = Reader { space: reader.space - self.first[unit], ..*reader };
        let form = self.units[unit].form(&inner)?;
        Ok(Form(format!("{unit}:{}", form.0).into()))
    }

    fn check(&self, _: &Graph, _: Value, _: &[Option<Form>], _: Options) -> Result<()> {
        fail!(Unsupported, "functions of several units are not built ahead of time")
    }

    fn packed_bytes(&self, form: &Form, shape: &[usize]) -> Result<usize> {
        let (unit, form) = self.of_unit(form)?;
        self.units[unit].packed_bytes(&form, shape)
    }

    fn pack(&self, form: &Form, shape: &[usize], source: &Source<'_>, out: &mut [u8]) -> Result<()> {
        let (unit, form) = self.of_unit(form)?;
        self.units[unit].pack(&form, shape, source, out)
    }

    fn takes_codes(&self, form: &Form) -> bool {
        self.of_unit(form).is_ok_and(|(unit, form)| self.units[unit].takes_codes(&form))
    }

    fn prepare(&self, op: &Op, operands: &[OperandShape<'_>], result: &OperandShape<'_>) -> Result<Prepared> {
        if is_transfer(op) {
            let cost = cost(op, operands, result);
            return Ok(Prepared { kernel: Arc::new(Work::Transfer), scratch: 0, in_place: None, cost });
        }
        let unit = self.unit(result.space);
        let forms: Vec<Option<Form>> = operands
            .iter()
            .map(|operand| operand.form.map(|form| self.of_unit(form).map(|(_, form)| form)).transpose())
            .collect::<Result<_>>()?;
        let inside = |space: u8| space.saturating_sub(self.first[unit]);
        let reads = operands.iter().zip(&forms);
        let operands: Vec<_> = reads
            .map(|(operand, form)| OperandShape { form: form.as_ref(), space: inside(operand.space), ..*operand })
            .collect();
        let result = OperandShape { space: inside(result.space), ..*result };
        let prepared = self.units[unit].prepare(op, &operands, &result)?;
        Ok(Prepared { kernel: Arc::new(Work::Step(prepared.kernel.clone())), ..prepared })
    }

    fn load(&self, packed: &Arc<Packed>) -> Result<Arc<dyn Loaded>> {
        let mut units = Vec::with_capacity(self.units.len());
        for (index, unit) in self.units.iter().enumerate() {
            let mut own = Packed::clone(packed);
            for entry in &mut own.entries {
                let (of, form) = self.of_unit(&entry.form)?;
                // Entries keep their numbers; what is another unit's has no bytes here.
                (entry.form, entry.len) = (form, if of == index { entry.len } else { 0 });
            }
            units.push(unit.load(&Arc::new(own))?);
        }
        Ok(Arc::new(call::Ready::new(units, self.first.clone())))
    }

    fn memory(&self, space: u8, len: usize) -> Result<Box<dyn Memory>> {
        let unit = self.unit(space);
        self.units[unit].memory(space - self.first[unit], len)
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
        f.debug_list().entries(self.units.iter()).finish()
    }
}
