//! Where the time of calls goes: one measurement per operator run, taken by the executor.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ondine_graph::Value;

/// One operator of one call.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The operator's name, such as `conv2d`.
    pub op: Arc<str>,
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
