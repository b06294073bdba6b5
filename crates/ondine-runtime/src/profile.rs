//! Where the time of calls goes: one measurement per operator run, taken by the executor.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::plan::Plan;
use ondine_graph::{Graph, Op, Value};

/// One operator of one call.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The operator's name, such as `conv2d`.
    pub op: &'static str,
    /// The module that it stands for, such as `down_blocks.0.resnets.1`.
    pub scope: Arc<str>,
    /// The node that ran, in the graph of the function ([`Function::graph`](crate::Function::graph)).
    pub value: Value,
    /// Which of the profile's calls it was part of.
    pub call: usize,
    /// When it began, from the beginning of its call.
    pub start: Duration,
    /// How long it took.
    pub time: Duration,
    /// Floating-point operations of its products: two per multiply-add; 0 for operators without products.
    pub flops: u64,
    /// Bytes of its inputs and its result, of inputs those that it looks at.
    pub bytes: u64,
}

/// The measurements of calls, in the order in which they ran.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// All operators of all calls.
    pub samples: Vec<Sample>,
    /// The time of each whole call that came to its end.
    pub calls: Vec<Duration>,
}

/// The sum of samples that have something in common.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// How many operators ran.
    pub count: usize,
    /// Their time.
    pub time: Duration,
    /// Their floating-point operations.
    pub flops: u64,
    /// Bytes that they read and wrote.
    pub bytes: u64,
}

impl Profile {
    /// Sums by whatever `key` says, the longest time first.
    pub fn by<K: Ord>(&self, key: impl Fn(&Sample) -> K) -> Vec<(K, Share)> {
        let mut shares = BTreeMap::<K, Share>::new();
        for sample in &self.samples {
            let share = shares.entry(key(sample)).or_default();
            share.count += 1;
            share.time += sample.time;
            share.flops += sample.flops;
            share.bytes += sample.bytes;
        }
        let mut shares: Vec<_> = shares.into_iter().collect();
        shares.sort_by_key(|(_, share)| std::cmp::Reverse(share.time));
        shares
    }
}

/// Floating-point operations of the products of a planned call.
#[must_use]
pub fn flops(graph: &Graph, plan: &Plan) -> u64 {
    plan.steps.iter().map(|step| step_flops(graph, plan, step.value)).sum()
}

/// Floating-point operations of one operator's products.
pub(crate) fn step_flops(graph: &Graph, plan: &Plan, value: Value) -> u64 {
    let node = graph.node(value);
    let shape = |position: usize| plan.shapes[node.inputs[position].index()].as_slice();
    let product = |shape: &[usize]| shape.iter().map(|&n| n as u64).product::<u64>();
    let result = product(&plan.shapes[value.index()]);
    match &node.op {
        Op::Linear(epilogue) => 2 * result * shape(1)[1] as u64 * if epilogue.gate { 2 } else { 1 },
        Op::Conv2d(..) => 2 * result * product(&shape(1)[1..]),
        Op::GroupedMatMul { .. } => 2 * result * shape(0)[1] as u64,
        Op::Recurrent { .. } => 2 * product(shape(0)) * shape(1)[1] as u64,
        Op::MatMul { .. } => 2 * result * shape(0).last().map_or(0, |&inner| inner as u64),
        Op::Attention(attention) => {
            let (queries, keys) = (shape(0), shape(1));
            let heads_and_pairs = product(&queries[..2]) * keys[1] as u64 * attention.heads as u64;
            let dims = queries[2] / attention.heads + shape(2)[2] / attention.kv_heads;
            2 * heads_and_pairs * dims as u64
        }
        _ => 0,
    }
}

/// Bytes that one operator reads and writes.
pub(crate) fn step_bytes(graph: &Graph, plan: &Plan, value: Value) -> u64 {
    let size = |value: Value| {
        let elements: usize = plan.shapes[value.index()].iter().product();
        (elements * graph.node(value).signature.dtype.size()) as u64
    };
    match graph.node(value).op {
        // They read of their first input what becomes the result.
        Op::Gather | Op::TakeRow | Op::Slice { .. } => 2 * size(value),
        _ => graph.node(value).inputs.iter().map(|&input| size(input)).sum::<u64>() + size(value),
    }
}
