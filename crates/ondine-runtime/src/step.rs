//! The plan of a call as data: its steps, and the places of what they read and write.

use std::{any::Any, fmt, ops::Range, sync::Arc};

use ondine_graph::{Bindings, DType, Op, Value};

/// A range of a workspace, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Region {
    /// The memory that it is of, by its position among the backend's.
    pub space: u8,
    /// Its first byte.
    pub offset: usize,
    /// Its bytes.
    pub len: usize,
}

impl Region {
    /// `len` bytes of it from its byte `offset` on.
    #[must_use]
    pub(crate) fn part(self, offset: usize, len: usize) -> Self {
        Self { offset: self.offset + offset, len, ..self }
    }
}

/// Where a value lives during a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An argument, by position.
    Input(usize),
    /// A packed weight, by its position among all.
    Packed(usize),
    /// A constant, by its position among all.
    Const(usize),
    /// A state, by position.
    State(usize),
    /// A result that its caller keeps, by position.
    Result(usize),
    /// The workspace.
    Arena(Region),
}

/// What an operator costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations of its products, two for each multiply-add.
    pub flops: u64,
    /// Bytes that it reads and writes.
    pub bytes: u64,
    /// How long it takes, roughly; 0 if that is not known.
    pub seconds: f32,
}

/// What a backend keeps of a bound operator: a function, a pipeline, decoded attributes.
pub type Kernel = Arc<dyn Any + Send + Sync>;

/// A value that a step reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Where it lies.
    pub place: Place,
    /// Its element type.
    pub dtype: DType,
    /// Its sizes.
    pub shape: Box<[usize]>,
}

/// One operator to run.
#[derive(Clone)]
pub struct Step {
    /// The node that it runs.
    pub value: Value,
    /// The module that the node stands for.
    pub scope: Arc<str>,
    /// Its operator, all sizes bound.
    pub op: Op,
    /// What it reads, in the order of its inputs.
    pub reads: Vec<Operand>,
    /// What it writes, all of it.
    pub result: Operand,
    /// Memory for the operator's own use.
    pub scratch: Region,
    /// The operand that lies where the result is written, and is changed there.
    pub in_place: Option<usize>,
    /// What the backend keeps of it.
    pub kernel: Kernel,
    /// What it costs.
    pub cost: Cost,
    /// How a loop turns, if it is one; the executor runs it.
    pub(crate) turns: Option<Arc<Turns>>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, scope, op, reads, result, scratch, in_place, cost, kernel: _, turns: _ } = self;
        f.debug_struct("Step")
            .field("value", value)
            .field("scope", scope)
            .field("op", op)
            .field("reads", reads)
            .field("result", result)
            .field("scratch", scratch)
            .field("in_place", in_place)
            .field("cost", cost)
            .finish_non_exhaustive()
    }
}

/// A copy of bytes from one place to another.
pub(crate) type Copy = (Place, Place, usize);

/// How a loop turns: what it carries lies in one of two memories, and each turn reads the one and writes the other.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    /// What is carried into the first turn.
    pub(crate) entry: Vec<Copy>,
    /// Turns with an even number, and those with an odd one.
    pub(crate) sides: [Side; 2],
    /// What an odd number of turns leaves in the other memory.
    pub(crate) back: Vec<Copy>,
}

/// One of the two kinds of turns.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// Steps that tell whether there is another turn.
    pub(crate) condition: Range<usize>,
    /// Where they tell it: a truth value.
    pub(crate) truth: Place,
    /// Steps of a turn.
    pub(crate) body: Range<usize>,
    /// What it carries on.
    pub(crate) results: Vec<Copy>,
}

/// What is known of the sizes of a call when it is planned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Sizes of symbols.
    pub(crate) bound: Bindings,
    /// The largest that sizes can be which the call measures.
    pub(crate) most: Bindings,
}

impl From<&Bindings> for Sizes {
    fn from(bound: &Bindings) -> Self {
        Self { bound: bound.clone(), most: Bindings::new() }
    }
}

/// What one measurement makes known of a plan: listed when the call is planned, so that it visits nothing else.
#[derive(Debug)]
pub(crate) struct Change {
    /// The step that measures.
    pub(crate) step: usize,
    /// Values whose sizes speak of what is found, and of nothing that is unknown still.
    pub(crate) values: Vec<LateValue>,
    /// Values that lie where one of those does.
    pub(crate) sharing: Vec<Value>,
    /// Reshapes and slices that can be asked now whether they fit.
    pub(crate) views: Vec<Value>,
    /// Steps that can be bound and prepared now.
    pub(crate) steps: Vec<LateStep>,
    /// Steps that read or write what has its place only now.
    pub(crate) moved: Vec<usize>,
    /// Guards of the graph that can be asked now, by position.
    pub(crate) guards: Vec<usize>,
}

/// A value whose sizes are found late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LateValue {
    pub(crate) value: Value,
    /// The bytes of workspace that are planned for it; none if it has no place of its own there.
    pub(crate) planned: Option<usize>,
    /// True if nothing bounds it, so that nothing is planned.
    pub(crate) open: bool,
}

/// A step whose sizes are found late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LateStep {
    pub(crate) index: usize,
    /// The bytes of scratch that are planned for it.
    pub(crate) planned: usize,
    pub(crate) open: bool,
}

impl Change {
    /// True if something of it has no memory before it is found.
    pub(crate) fn is_open(&self) -> bool {
        self.values.iter().any(|late| late.open) || self.steps.iter().any(|late| late.open)
    }
}

/// The memory plan of one function for one binding of its symbols.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Different for each plan of a process.
    pub(crate) id: u64,
    pub(crate) shapes: Vec<Vec<usize>>,
    pub(crate) places: Vec<Place>,
    /// The node whose bytes the value's are: itself, the source of a reshape, or a state whose first rows it is.
    pub(crate) roots: Vec<Value>,
    /// Those of the function, then those of its loops.
    pub(crate) steps: Vec<Step>,
    /// How many of the steps are the function's own.
    pub(crate) own: usize,
    /// Bytes of workspace in each space.
    pub(crate) arenas: Vec<usize>,
    /// For each result that the plan places in memory of its own, the bytes of that.
    pub(crate) results: Vec<Option<usize>>,
    /// States that could not be written where they lie, with the bytes to be copied there at the end.
    pub(crate) updates: Vec<Copy>,
    /// For each step of the function, the bytes of memory that hold something.
    pub(crate) live: Vec<usize>,
    /// What measurements make known, in the order of their steps.
    pub(crate) changes: Arc<[Change]>,
    /// The numbers that were measured, of as many of the changes as sizes are those of.
    pub(crate) found: Vec<usize>,
}

impl Plan {
    /// A number that no other plan of this process has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The steps: those of the function in the order in which they run, then those of its loops.
    #[must_use]
    pub fn all_steps(&self) -> &[Step] {
        &self.steps
    }

    /// Bytes of workspace in each space of the backend.
    #[must_use]
    pub fn arenas(&self) -> &[usize] {
        &self.arenas
    }

    /// Bytes that a call takes beside weights, arguments and states: workspace and results.
    #[must_use]
    pub fn arena_bytes(&self) -> usize {
        self.arenas.iter().sum::<usize>() + self.results.iter().flatten().sum::<usize>()
    }

    /// For each operator that a call runs, in order, the bytes of workspace and results that are in use while it runs:
    /// values that it or a later one reads, its result, and its own scratch.
    #[must_use]
    pub fn live_bytes(&self) -> &[usize] {
        &self.live
    }

    /// The nodes that a call runs, in order.
    pub fn order(&self) -> impl Iterator<Item = Value> {
        self.steps[..self.own].iter().map(|step| step.value)
    }

    /// The sizes of a value in the planned call.
    #[must_use]
    pub fn shape(&self, value: Value) -> &[usize] {
        &self.shapes[value.index()]
    }

    /// How many operators a call runs, loops as one.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.own
    }

    /// True if the plan of one call can become that of the next: the data decides sizes of it, within what is planned.
    pub(crate) fn settles(&self) -> bool {
        !self.changes.is_empty() && !self.changes.iter().any(Change::is_open)
    }

    /// What the call costs, loops left out.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let sum = |mut sum: Cost, step: &Step| {
            sum.flops += step.cost.flops;
            sum.bytes += step.cost.bytes;
            sum.seconds += step.cost.seconds;
            sum
        };
        self.steps[..self.own].iter().fold(Cost::default(), sum)
    }
}
