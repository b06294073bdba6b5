//! What this machine can do at most, measured when the bench begins.

use std::fmt;

use ondine_runtime::{Precision, Processor};
use serde_json::{Value, json};

use crate::memory::forget_peak;

/// The limits that speeds are compared with.
pub(crate) struct Machine {
    tier: String,
    threads: usize,
    /// Operations per second of the multiplying instructions, in registers.
    f32: f64,
    bf16: f64,
    int8: f64,
    /// Bytes per second read from memory.
    pub(crate) bandwidth: f64,
}

impl Machine {
    pub(crate) fn measure(processor: &Processor) -> Self {
        let machine = Self {
            tier: processor.tier().to_string(),
            threads: processor.threads(),
            f32: processor.peak(Precision::F32),
            bf16: processor.peak(Precision::BF16),
            int8: processor.peak(Precision::Int8),
            bandwidth: processor.read_bandwidth(),
        };
        // The memory that was read is no work's.
        forget_peak();
        machine
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Operations per second that no network of this precision can exceed.
    pub(crate) fn peak(&self, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => self.f32,
            Precision::BF16 => self.bf16,
            Precision::Int8 | Precision::A8 => self.int8,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "tier": self.tier,
            "threads": self.threads,
            "peak_f32_gflops": self.f32 / 1e9,
            "peak_bf16_gflops": self.bf16 / 1e9,
            "peak_int8_gops": self.int8 / 1e9,
            "read_gb_s": self.bandwidth / 1e9,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tier, threads, .. } = self;
        writeln!(f, "this machine with {threads} threads, {tier}:")?;
        for (name, peak) in [("f32", self.f32), ("bf16", self.bf16), ("int8", self.int8)] {
            writeln!(f, "  {name:4} {:6.0} GFLOP/s in registers", peak / 1e9)?;
        }
        write!(f, "  read {:6.1} GB/s from memory", self.bandwidth / 1e9)
    }
}
