//! The CPU as a backend: how weights are packed for it, and what runs each operator.

mod algorithm;
mod attention;
mod cached;
mod check;
mod chosen;
mod codes;
mod coding;
mod computed;
mod elementwise;
mod enums;
mod form;
mod general;
mod integers;
mod kernel;
mod lower;
mod memory;
mod movement;
mod native;
mod operand;
mod processor;
mod products;
mod quantize;
mod recurrent;
mod regions;
mod requantize;
mod run;
pub(crate) mod share;
mod weights;
mod workspace;

use std::{any::Any, num::NonZeroUsize, sync::Arc};

use ondine_graph::{AlignedBytes, Graph, Op, Result, Value, Weights, fail};

use crate::{
    backend::{Backend, Form, Identity, Loaded, Lowering, Memory, OperandShape, Packed, Prepared, Reader, Source},
    cost::cost,
    device::Device,
    options::Options,
    step::Cost,
};
use form::Format;

pub use ondine_kernels::Tier;
pub use processor::Processor;
pub(crate) use run::evaluate;

impl Device {
    /// The CPU with this many threads, or one per available core.
    ///
    /// # Errors
    /// As [`Processor::new`].
    pub fn cpu(threads: Option<NonZeroUsize>) -> Result<Self> {
        Processor::new(threads).map(Self::from)
    }

    /// The processor that it is.
    ///
    /// # Errors
    /// If it is another device.
    pub fn processor(&self) -> Result<&Processor> {
        match self.backend().as_any().downcast_ref() {
            Some(processor) => Ok(processor),
            None => fail!(Unsupported, "{} is no processor", self.backend().identity().name),
        }
    }
}

impl From<Processor> for Device {
    fn from(processor: Processor) -> Self {
        Self::new(Arc::new(processor))
    }
}

impl Backend for Processor {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn estimate(&self, op: &Op, operands: &[OperandShape<'_>]) -> Option<Cost> {
        let own = match op {
            Op::Native(native) => native::CpuOp::of(native).ok()?.portable(),
            _ => None,
        };
        let result = OperandShape { dtype: ondine_graph::DType::F32, shape: &[], form: None, space: 0 };
        Some(cost(own.as_ref().unwrap_or(op), operands, &result))
    }

    fn lower(&self, graph: &Graph, options: Options, weights: &Weights) -> Result<Lowering> {
        self.rewrite(graph, options, weights).map(Lowering::in_one_space)
    }

    fn form(&self, reader: &Reader<'_>) -> Result<Form> {
        form::format(reader)?.form()
    }

    fn check(&self, graph: &Graph, node: Value, forms: &[Option<Form>], options: Options) -> Result<()> {
        check::check(graph, node, forms, options)
    }

    fn packed_bytes(&self, form: &Form, shape: &[usize]) -> Result<usize> {
        weights::packed_bytes(Format::of(form)?, shape, self)
    }

    fn pack(&self, form: &Form, shape: &[usize], source: &Source<'_>, out: &mut [u8]) -> Result<()> {
        match (Format::of(form)?, source) {
            (
                format @ (Format::Coded { .. }
                | Format::CodedConv { .. }
                | Format::CodedStack { .. }
                | Format::CodePanels { .. }
                | Format::Blocks { .. }),
                Source::Codes(encoded),
            ) => weights::pack_codes(format, shape, encoded, out, self),
            (
                Format::Coded { .. }
                | Format::CodedConv { .. }
                | Format::CodedStack { .. }
                | Format::CodePanels { .. }
                | Format::Blocks { .. },
                Source::Numbers(_),
            ) => fail!(Format, "a weight that has no codes"),
            (format, Source::Numbers(values)) => weights::pack(format, shape, values, out, self),
            (_, Source::Codes(_)) => fail!(Format, "a weight of numbers from codes"),
        }
    }

    fn takes_codes(&self, form: &Form) -> bool {
        matches!(
            Format::of(form),
            Ok(Format::Coded { .. }
                | Format::CodedConv { .. }
                | Format::CodedStack { .. }
                | Format::CodePanels { .. }
                | Format::Blocks { .. })
        )
    }

    fn prepare(&self, op: &Op, operands: &[OperandShape<'_>], result: &OperandShape<'_>) -> Result<Prepared> {
        let (kernel, prepared) = self.kernel(op, operands, result)?;
        Ok(Prepared { kernel: Arc::new(kernel), ..prepared })
    }

    fn load(&self, packed: &Arc<Packed>) -> Result<Arc<dyn Loaded>> {
        Ok(Arc::new(workspace::Ready(Arc::new(workspace::Weights::new(self, packed)?))))
    }

    fn memory(&self, _: u8, len: usize) -> Result<Box<dyn Memory>> {
        Ok(Box::new(memory::HostMemory(AlignedBytes::try_zeroed(len)?)))
    }

    fn narrowed(&self, key: &str) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(self.with_tier(key)?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
