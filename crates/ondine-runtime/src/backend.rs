//! Backends: what runs graphs. The CPU is one; another is a crate that implements these traits.
//!
//! The plan of a call speaks of [`Place`]s; only a backend turns places into memory. What a backend knows of an
//! operator that does not change from call to call it is asked once, and the answer is kept in the plan's step
//! ([`Backend::prepare`]). Steps are submitted in ranges and may only be queued: completion, and errors that are known
//! late, come by [`Running::poll`]. Control flow, profiles and taps are the executor's.

use std::{any::Any, fmt, ops::Range, sync::Arc, task::Waker};

use ondine_graph::{
    AlignedBytes, DType, Error, Graph, NDArray, Op, Result, Value, Weights, encoding::Encoding,
    weights::encoded::Encoded,
};

use serde::{Deserialize, Serialize};

use crate::{
    options::{Options, Precision},
    step::{Cost, Kernel, Place, Plan},
};

/// One memory of a backend. A CPU has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// What it is called, such as `host`.
    pub name: &'static str,
    /// Values begin at multiples of this many bytes; a power of two.
    pub align: usize,
    /// Values take a multiple of this many bytes; divides `align`.
    pub granule: usize,
    /// No value crosses a multiple of this many bytes: chunks are the buffers of the device.
    pub chunk: usize,
    /// True if the program reads and writes it as its own memory.
    pub host: bool,
}

/// What plans, packed weights and results of a backend depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it is called, such as `cpu avx512`.
    pub name: Box<str>,
    /// All that packed weights depend on, such as drivers, features and the version of the kernels; part of the
    /// cache's key and of built files.
    pub key: Box<str>,
    /// Its memories. Arguments arrive in number 0, and results and what is fetched leave from there.
    pub spaces: Box<[Space]>,
    /// The element type of activations at [`Precision::BF16`] and below.
    pub half: DType,
    /// True if what is computed at [`Precision::BF16`] takes no longer than at [`Precision::F32`].
    pub quick_half: bool,
}

impl Identity {
    /// The element type of activations.
    #[must_use]
    pub fn dtype(&self, precision: Precision) -> DType {
        match precision {
            Precision::F32 => DType::F32,
            Precision::BF16 | Precision::Int8 | Precision::A8 => self.half,
        }
    }
}

/// A graph as a backend runs it.
#[derive(Clone, Debug)]
pub struct Lowering {
    /// The graph, with [`Op::Native`] where the backend has something of its own.
    pub graph: Graph,
    /// For each value the space that it lives in; empty if all live in space 0.
    pub spaces: Vec<u8>,
    /// For each state the space that it lives in; empty if all live in space 0.
    pub states: Vec<u8>,
}

impl Lowering {
    /// A graph whose values and states all live in space 0.
    #[must_use]
    pub fn in_one_space(graph: Graph) -> Self {
        Self { graph, spaces: Vec::new(), states: Vec::new() }
    }
}

/// In which form an operator reads a weight: text that only its backend reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Form(pub Arc<str>);

/// One use of a weight: input `position` of `node`.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The lowered graph.
    pub graph: &'a Graph,
    /// The node that reads it.
    pub node: Value,
    /// Which of its inputs the weight is.
    pub position: usize,
    /// The memory of the node's value, by its position among the backend's.
    pub space: u8,
    /// How the asset stores the weight, if in few bits.
    pub encoding: Option<&'a Encoding>,
    /// True if the asset knows the range of what the weight is multiplied with, for activations of 8 bits.
    pub ranged: bool,
    /// The choices of the specialization.
    pub options: Options,
}

/// The numbers of a weight to be packed.
#[derive(Debug)]
pub enum Source<'a> {
    /// As they are.
    Numbers(&'a [f32]),
    /// As codes of few bits.
    Codes(&'a Encoded<'a>),
}

/// Type and bound shape of what an operator reads or yields.
#[derive(Clone, Copy, Debug)]
pub struct OperandShape<'a> {
    /// Its element type.
    pub dtype: DType,
    /// Its sizes.
    pub shape: &'a [usize],
    /// The form of its bytes, if it is a weight; else they are plain elements in row-major order.
    pub form: Option<&'a Form>,
    /// The memory that it lies in, by its position among the backend's.
    pub space: u8,
}

/// All that is known of a bound operator before it runs.
#[derive(Clone)]
pub struct Prepared {
    /// What the backend keeps of it.
    pub kernel: Kernel,
    /// Bytes that it needs beside its operands, in the space of its result.
    pub scratch: usize,
    /// The input whose memory the result may take, which then is written where it lies.
    pub in_place: Option<usize>,
    /// What it costs.
    pub cost: Cost,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel: _, scratch, in_place, cost } = self;
        f.debug_struct("Prepared")
            .field("scratch", scratch)
            .field("in_place", in_place)
            .field("cost", cost)
            .finish_non_exhaustive()
    }
}

/// Packed weights and constants of a model: what [`Backend::load`] makes ready for kernels.
#[derive(Clone, Debug)]
pub struct Packed {
    /// One block that holds all packed weights, usually mapped.
    pub bytes: ondine_graph::Bytes,
    /// For each packed weight its form, shape and range of the block.
    pub entries: Vec<PackedWeight>,
    /// The constants of the graphs.
    pub constants: Vec<Arc<NDArray>>,
}

/// A packed weight among others.
#[derive(Clone, Debug)]
pub struct PackedWeight {
    /// Its form.
    pub form: Form,
    /// Its sizes in the checkpoint.
    pub shape: Vec<usize>,
    /// Its first byte in the block, a multiple of 64.
    pub offset: usize,
    /// Its bytes.
    pub len: usize,
}

/// What stays in memory of weights that are mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residency {
    /// All that was touched.
    #[default]
    Whole,
    /// Those of the operator that runs.
    Window,
}

/// What runs graphs: the CPU, a GPU.
pub trait Backend: fmt::Debug + Send + Sync {
    /// What plans, packed weights and results depend on.
    fn identity(&self) -> &Identity;

    /// What running the operator would cost; `None` if this backend cannot run it.
    fn estimate(&self, op: &Op, operands: &[OperandShape<'_>]) -> Option<Cost>;

    /// The graph as this backend runs it; `weights` tells how weights are stored, and none of their numbers is read.
    ///
    /// # Errors
    /// If an operator cannot run here: never later.
    fn lower(&self, graph: &Graph, options: Options, weights: &Weights) -> Result<Lowering>;

    /// The form in which a use of a weight reads it. Asked once for each use, and kept.
    ///
    /// # Errors
    /// If the node cannot read a weight there.
    fn form(&self, reader: &Reader<'_>) -> Result<Form>;

    /// Makes sure that a node of a file is one that [`Backend::lower`] could have made, its operands of a type that
    /// it reads, and its weights of the forms that the file claims.
    ///
    /// # Errors
    /// If it is not.
    fn check(&self, graph: &Graph, node: Value, forms: &[Option<Form>], options: Options) -> Result<()>;

    /// Bytes of a weight of this shape in a form.
    ///
    /// # Errors
    /// If the form is none of this backend's, or the size overflows.
    fn packed_bytes(&self, form: &Form, shape: &[usize]) -> Result<usize>;

    /// Packs a weight into zeroed bytes, as many as [`Backend::packed_bytes`] says, aligned to 64.
    ///
    /// # Errors
    /// If the source does not have what the form is made of.
    fn pack(&self, form: &Form, shape: &[usize], source: &Source<'_>, out: &mut [u8]) -> Result<()>;

    /// True if the form is packed from codes ([`Source::Codes`]) rather than numbers.
    fn takes_codes(&self, form: &Form) -> bool;

    /// Everything about a bound operator that does not change from call to call; asked once for each plan.
    ///
    /// # Errors
    /// If it cannot run with these shapes.
    fn prepare(&self, op: &Op, operands: &[OperandShape<'_>], result: &OperandShape<'_>) -> Result<Prepared>;

    /// Makes weights ready where kernels read them: once for each model.
    ///
    /// # Errors
    /// If there is no such memory.
    fn load(&self, packed: &Arc<Packed>) -> Result<Arc<dyn Loaded>>;

    /// Zeroed memory that outlives calls: states, results, arguments that stay on the device.
    ///
    /// # Errors
    /// If there is no such memory.
    fn memory(&self, space: u8, len: usize) -> Result<Box<dyn Memory>>;

    /// This backend, kept to what a file was built for, by [`Identity::key`].
    ///
    /// # Errors
    /// If it cannot run what was built for that.
    fn narrowed(&self, key: &str) -> Result<Arc<dyn Backend>>;

    /// The backend itself, for those who know it.
    fn as_any(&self) -> &dyn Any;
}

/// Weights that are ready.
pub trait Loaded: fmt::Debug + Send + Sync {
    /// Memory of calls, one at a time; callers keep it in their `State`.
    ///
    /// # Errors
    /// If there is no such memory.
    fn workspace(&self, residency: Residency) -> Result<Box<dyn Workspace>>;
}

/// Memory that outlives calls.
pub trait Memory: fmt::Debug + Send + Sync {
    /// Its bytes.
    fn len(&self) -> usize;

    /// True if it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes themselves, if they are the program's own memory.
    fn host(&self) -> Option<&[u8]>;

    /// The bytes themselves, to be written.
    fn host_mut(&mut self) -> Option<&mut [u8]>;

    /// Writes bytes from outside.
    ///
    /// # Errors
    /// If they do not fit, or the device is lost.
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<()>;

    /// Reads bytes, after all that was submitted to write them.
    ///
    /// # Errors
    /// If they are not all there, or the device is lost.
    fn read(&self, offset: usize, out: &mut [u8]) -> Result<()>;

    /// The bytes, handed over without a copy if they are the program's own memory.
    ///
    /// # Errors
    /// As [`Memory::read`].
    fn into_bytes(self: Box<Self>) -> Result<AlignedBytes>;

    /// The memory itself, for its backend.
    fn as_any(&self) -> &dyn Any;

    /// The memory itself, for its backend.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// Memory of calls, one at a time.
pub trait Workspace: fmt::Debug + Send {
    /// Begins a call, which borrows what it works on until it is dropped. Dropping it early is cancelling: what was
    /// queued may still run, and nothing is waited for.
    ///
    /// # Errors
    /// If there is no memory for the plan.
    fn begin<'c>(&'c mut self, plan: &Arc<Plan>, bound: Bound<'c>) -> Result<Box<dyn Running + 'c>>;
}

/// What a call works on beside its workspace.
#[derive(Debug)]
pub struct Bound<'c> {
    /// The arguments, in the order of the graph's inputs.
    pub arguments: &'c [Argument<'c>],
    /// The states, in the order of the graph's.
    pub states: &'c mut [Box<dyn Memory>],
    /// Memory of the results that the plan places there, in the order of the graph's outputs; none for the others.
    pub results: &'c mut [Option<Box<dyn Memory>>],
}

/// An argument of a call.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'c> {
    /// In the program's memory.
    Host(&'c NDArray),
    /// On the device.
    Resident(&'c Resident),
}

impl Argument<'_> {
    /// Its element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        match self {
            Self::Host(array) => array.dtype(),
            Self::Resident(resident) => resident.dtype,
        }
    }

    /// Its sizes.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Host(array) => array.shape(),
            Self::Resident(resident) => &resident.shape,
        }
    }
}

/// An array that stays on its device.
#[derive(Debug)]
pub struct Resident {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) memory: Box<dyn Memory>,
}

impl Resident {
    /// Its element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Its sizes.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The memory that holds it from its first byte on.
    #[must_use]
    pub fn memory(&self) -> &dyn Memory {
        &*self.memory
    }

    /// The array in the program's memory, without a copy where it is there already.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn into_array(self) -> Result<NDArray> {
        NDArray::from_aligned(self.dtype, &self.shape, self.memory.into_bytes()?)
    }
}

/// What was submitted, by number; tickets of a call complete in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Whether to wait.
#[derive(Clone, Copy, Debug)]
pub enum Wait<'a> {
    /// Ask and go on.
    No,
    /// Until it is done.
    Yes,
    /// Ask, and be woken when it is worth asking again.
    Wake(&'a Waker),
}

/// An error of a call, and the step that it belongs to, if that is known.
#[derive(Debug)]
pub struct Fault {
    /// Which of the plan's steps.
    pub step: Option<usize>,
    /// What is wrong.
    pub error: Error,
}

impl Fault {
    /// The error, with the place of its step.
    pub(crate) fn located(self, plan: &Plan) -> Error {
        match self.step.and_then(|step| plan.all_steps().get(step)) {
            Some(step) => self.error.at(format!("{} ({})", step.scope, step.op)),
            None => self.error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { step: None, error }
    }
}

/// A call under way.
pub trait Running {
    /// How many steps from `step` on it wants to be given at once, one at least.
    fn batch(&self, step: usize) -> usize {
        let _ = step;
        1
    }

    /// Runs or queues steps of the plan, in order; it never waits for a device. What is queued keeps the plan as it is
    /// now: later ones have the sizes that were found meanwhile.
    ///
    /// # Errors
    /// What is known at once; other errors come by [`Running::poll`].
    fn submit(&mut self, plan: &Arc<Plan>, steps: Range<usize>) -> Result<Ticket, Fault>;

    /// Copies `len` bytes, in the order of the queue.
    ///
    /// # Errors
    /// As [`Running::submit`].
    fn copy(&mut self, from: Place, to: Place, len: usize) -> Result<Ticket, Fault>;

    /// Brings a value of `len` bytes towards the program, in the order of the queue.
    ///
    /// # Errors
    /// As [`Running::submit`].
    fn fetch(&mut self, from: Place, len: usize) -> Result<Ticket, Fault>;

    /// Brings bytes of the program to a place, in the order of the queue.
    ///
    /// # Errors
    /// As [`Running::submit`].
    fn write(&mut self, to: Place, bytes: &[u8]) -> Result<Ticket, Fault>;

    /// True once all up to the ticket is done, and known to have been done.
    ///
    /// # Errors
    /// The first error of what was submitted, by step.
    fn poll(&mut self, ticket: Ticket, wait: Wait<'_>) -> Result<bool, Fault>;

    /// What was fetched, once its ticket is done.
    ///
    /// # Errors
    /// If there is nothing under that ticket, or the device is lost.
    fn take(&mut self, ticket: Ticket, out: &mut [u8]) -> Result<()>;

    /// The data decided a size: from step `from` on, steps are those of `plan`.
    ///
    /// # Errors
    /// If it cannot run them.
    fn settled(&mut self, plan: &Arc<Plan>, from: usize) -> Result<()>;
}
