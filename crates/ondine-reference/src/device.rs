//! The strictest device there may be: it computes with [`evaluate`](crate::evaluate), and does everything that a device
//! is allowed to do to whoever counts on more.
//!
//! - Nothing runs before it is polled, and then one thing after the other.
//! - There are two memories: the program's, and its own, of small chunks, whose bytes the program never sees.
//! - What nobody reads any more, what nobody wrote yet, and what an operator had for itself is overwritten.
//! - An error comes when it is polled for, and says of which step it is.
//! - It asks for steps in numbers that are drawn from a seed, and is lost when a test wants it to be.

mod call;
mod health;
mod memory;
mod place;
mod spoil;

use std::{any::Any, sync::Arc};

use ondine_graph::{
    DType, Error, ErrorKind, Graph, Native, Op, Result, Value, Weights, element_count, rewrite::Rewrite,
};
use ondine_runtime::{
    Options,
    backend::{
        Backend, Form, Identity, Loaded, Lowering, Memory, OperandShape, Packed, Prepared, Reader, Source, Space,
    },
    step::Cost,
};

use call::Resident;
use health::Health;
use memory::Block;
use place::{HOST, OWN, UPLOAD, is_upload};

/// The one form of weights.
const NUMBERS: &str = "f32";

/// Bytes that every operator has for itself, to be overwritten.
const SCRATCH: usize = 20;

/// A device made of loops in f64.
#[derive(Clone, Debug)]
pub struct Reference {
    identity: Identity,
    seed: u64,
    health: Arc<Health>,
}

impl Reference {
    /// A device whose own memory has chunks of `chunk` bytes; what it leaves to chance follows from `seed`.
    #[must_use]
    pub fn new(seed: u64, chunk: usize) -> Self {
        let host = Space { name: "host", align: 64, granule: 1, chunk: usize::MAX, host: true };
        let own = Space { name: "device", align: 256, granule: 4, chunk, host: false };
        let identity = Identity {
            name: "reference".into(),
            key: format!("reference, chunks of {chunk} bytes").into(),
            spaces: [host, own].into(),
            half: DType::F16,
            quick_half: true,
        };
        Self { identity, seed, health: Arc::default() }
    }

    /// Makes all that was loaded so far fail from now on. What is loaded afterwards works.
    pub fn lose(&self) {
        self.health.lose();
    }

    /// As [`Reference::lose`], once so many steps have run.
    pub fn lose_after(&self, steps: u64) {
        self.health.lose_after(steps);
    }
}

impl Backend for Reference {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn estimate(&self, op: &Op, operands: &[OperandShape<'_>]) -> Option<Cost> {
        let bytes: usize = operands.iter().map(|x| x.dtype.size() * x.shape.iter().product::<usize>()).sum();
        match op {
            Op::Native(_) if !is_upload(op) => None,
            _ => Some(Cost { bytes: bytes as u64, ..Cost::default() }),
        }
    }

    /// The graph as it is, but that every argument is brought into the device's memory.
    fn lower(&self, graph: &Graph, _options: Options, _weights: &Weights) -> Result<Lowering> {
        let mut rewrite = Rewrite::new(graph);
        for (_, value) in graph.inputs() {
            let result = graph.node(*value).signature.clone();
            let native = Native { name: UPLOAD.into(), data: Box::default(), dims: Vec::new(), result };
            let argument = rewrite.get(*value);
            let uploaded = rewrite.new.push(Op::Native(Arc::new(native)), &[argument])?;
            rewrite.set(*value, uploaded);
        }
        for (value, _) in graph.values() {
            rewrite.keep(value)?;
        }
        let graph = rewrite.finish()?;
        let space = |op: &Op| if matches!(op, Op::Input) { HOST } else { OWN };
        let spaces = graph.nodes().iter().map(|node| space(&node.op)).collect();
        let states = vec![OWN; graph.states().len()];
        Ok(Lowering { graph, spaces, states })
    }

    fn form(&self, _reader: &Reader<'_>) -> Result<Form> {
        Ok(Form(NUMBERS.into()))
    }

    fn check(&self, graph: &Graph, node: Value, forms: &[Option<Form>], _options: Options) -> Result<()> {
        forms.iter().flatten().try_for_each(known)?;
        match &graph.node(node).op {
            op @ Op::Native(native) if !is_upload(op) => {
                Err(Error::new(ErrorKind::Format, format!("an operator `{}` of another device", native.name)))
            }
            _ => Ok(()),
        }
    }

    fn packed_bytes(&self, form: &Form, shape: &[usize]) -> Result<usize> {
        known(form)?;
        let bytes = element_count(shape).and_then(|count| count.checked_mul(size_of::<f32>()));
        bytes.ok_or_else(|| Error::new(ErrorKind::Memory, format!("a weight of shape {shape:?} is too large")))
    }

    fn pack(&self, form: &Form, _shape: &[usize], source: &Source<'_>, out: &mut [u8]) -> Result<()> {
        known(form)?;
        let Source::Numbers(numbers) = source else {
            return Err(Error::new(ErrorKind::Format, "codes where numbers are packed"));
        };
        out.copy_from_slice(bytemuck::cast_slice(numbers));
        Ok(())
    }

    fn takes_codes(&self, _form: &Form) -> bool {
        false
    }

    fn prepare(&self, _op: &Op, operands: &[OperandShape<'_>], result: &OperandShape<'_>) -> Result<Prepared> {
        // All inputs are read before anything is written.
        let same = |x: &OperandShape<'_>| x.form.is_none() && (x.dtype, x.shape) == (result.dtype, result.shape);
        let in_place = operands.iter().position(same);
        Ok(Prepared { kernel: Arc::new(()), scratch: SCRATCH, in_place, cost: Cost::default() })
    }

    fn load(&self, packed: &Arc<Packed>) -> Result<Arc<dyn Loaded>> {
        Ok(Arc::new(Resident::new(packed.clone(), self.identity.spaces.clone(), self.seed, self.health.clone())))
    }

    fn memory(&self, space: u8, len: usize) -> Result<Box<dyn Memory>> {
        Ok(Box::new(Block::new(len, self.identity.spaces[usize::from(space)].host, self.health.clone())?))
    }

    fn narrowed(&self, key: &str) -> Result<Arc<dyn Backend>> {
        if *key == *self.identity.key {
            return Ok(Arc::new(self.clone()));
        }
        Err(Error::new(ErrorKind::Unsupported, format!("made for `{key}`; this is `{}`", self.identity.key)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Makes sure that a form is the one that there is.
fn known(form: &Form) -> Result<()> {
    if &*form.0 == NUMBERS {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Format, format!("a weight of the form `{}`", form.0)))
}
