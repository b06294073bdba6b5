//! Every operator on a device, against its meaning: the entrance exam of a backend.
//!
//! A [`Case`] is a small graph with its arguments; sizes are ragged and empty, types are all that an operator takes.
//! What a device may be off by is never chosen: [`Bounded`](crate::Bounded) derives it from the operations.

mod case;
mod control;
mod convolution;
mod elementwise;
mod every;
mod lookup;
mod movement;
mod norm;
mod order;
mod product;
mod recurrent;
mod regions;
mod resample;

use std::{collections::BTreeSet, fmt};

use ondine_graph::{DType, Op};
use ondine_runtime::{Device, Precision};

pub use case::{Case, Failure};

/// What the runs of a suite came to.
#[derive(Debug)]
pub struct Report {
    /// The device, and how precise it was asked to be.
    pub device: String,
    /// Cases that were run.
    pub cases: usize,
    /// What was not as it should be.
    pub failures: Vec<Failure>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} of {} cases failed", self.device, self.failures.len(), self.cases)?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "{failure}"))
    }
}

/// Every case; arithmetic is on numbers of F32 and of `half`, the other type that a device computes in.
#[must_use]
pub fn cases(half: DType) -> Vec<Case> {
    let floats = [DType::F32, half];
    let kinds = [
        elementwise::cases(&floats),
        movement::cases(),
        lookup::cases(&floats),
        order::cases(&floats),
        norm::cases(&floats),
        product::cases(&floats),
        convolution::cases(),
        resample::cases(&floats),
        recurrent::cases(),
        regions::cases(),
        control::cases(),
    ];
    kinds.into_iter().flatten().collect()
}

/// Runs every case on a device at a precision.
#[must_use]
pub fn suite(device: &Device, precision: Precision) -> Report {
    let identity = device.backend().identity();
    let mut report = Report { device: format!("{}, {precision}", identity.name), cases: 0, failures: Vec::new() };
    for case in cases(identity.half) {
        report.cases += 1;
        report.failures.extend(case.run(device, precision).err());
    }
    report
}

/// The kinds of operators, by name; does not compile if one is missing.
macro_rules! kinds {
    ($($pattern:pat => $name:literal),+ $(,)?) => {
        const KINDS: &[&str] = &[$($name),+];
        fn kind(op: &Op) -> &'static str {
            match op { $($pattern => $name),+ }
        }
    };
}

kinds! {
    Op::Input => "input",
    Op::Weight(_) => "weight",
    Op::Const(_) => "const",
    Op::State(_) => "state",
    Op::Unary(_) => "unary",
    Op::Binary(_) => "binary",
    Op::Select => "select",
    Op::Cast(_) => "cast",
    Op::Bits(_) => "bits",
    Op::Reshape(_) => "reshape",
    Op::Permute(_) => "permute",
    Op::Expand(_) => "expand",
    Op::Slice { .. } => "slice",
    Op::Concat { .. } => "concat",
    Op::Pad { .. } => "pad",
    Op::Gather => "gather",
    Op::TakeRow => "take_row",
    Op::ArgMax => "argmax",
    Op::Reduce { .. } => "reduce",
    Op::Softmax => "softmax",
    Op::LayerNorm { .. } => "layer_norm",
    Op::RmsNorm { .. } => "rms_norm",
    Op::GroupNorm { .. } => "group_norm",
    Op::Linear(_) => "linear",
    Op::Conv2d(..) => "conv2d",
    Op::MatMul { .. } => "matmul",
    Op::Attention(_) => "attention",
    Op::Glu(_) => "glu",
    Op::Resize { .. } => "resize",
    Op::Range { .. } => "range",
    Op::Take { .. } => "take",
    Op::Scatter(_) => "scatter",
    Op::Scan { .. } => "scan",
    Op::ArgSort { .. } => "argsort",
    Op::Pool(_) => "pool",
    Op::Interpolate { .. } => "interpolate",
    Op::Rotate { .. } => "rotate",
    Op::GroupedMatMul { .. } => "grouped_matmul",
    Op::Recurrent { .. } => "recurrent",
    Op::Solve => "solve",
    Op::Cholesky => "cholesky",
    Op::Determinant => "determinant",
    Op::Suppress { .. } => "suppress",
    Op::Regions(_) => "regions",
    Op::Measure { .. } => "measure",
    Op::Assert { .. } => "assert",
    Op::Loop(_) => "loop",
    Op::Unpack { .. } => "unpack",
    Op::Native(_) => "native",
}

/// The kinds of operators that no case holds.
#[must_use]
pub fn uncovered(cases: &[Case]) -> Vec<&'static str> {
    let held: BTreeSet<_> = cases.iter().flat_map(|case| case.graph().nodes()).map(|node| kind(&node.op)).collect();
    // What one backend makes for itself is in no graph that it is given.
    KINDS.iter().copied().filter(|kind| *kind != "native" && !held.contains(kind)).collect()
}
