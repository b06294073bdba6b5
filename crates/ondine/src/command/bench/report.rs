//! What is told about a work.

use std::fmt;

use ondine_runtime::{Precision, profile::Share};
use serde_json::{Map, Value, json};

use super::{super::bytes::megabytes, machine::Machine};
use crate::output;

/// A result of a work, as programs and people read it.
pub(super) trait Told {
    fn to_json(&self, machine: &Machine) -> Value;

    /// Prints to a person.
    fn print(&self, machine: &Machine);
}

/// Seconds of several runs.
pub(super) struct Times {
    pub(super) median: f64,
    pub(super) fastest: f64,
    pub(super) count: usize,
}

impl Times {
    /// Times `repeat` runs of `body`, at least one; it yields the seconds that count.
    pub(super) fn of(repeat: usize, mut body: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<Self> {
        let mut times = (0..repeat).map(|_| body()).collect::<anyhow::Result<Vec<_>>>()?;
        times.sort_by(f64::total_cmp);
        Ok(Self { median: times[times.len() / 2], fastest: times[0], count: times.len() })
    }
}

/// What only drawings have.
pub(super) struct Drawn {
    /// Seconds of the start that packs the weights.
    pub(super) first: f64,
    /// Bytes that the plan promised not to exceed.
    pub(super) planned: u64,
    /// Seconds of each stage.
    pub(super) stages: Vec<(String, f64)>,
}

/// The result of one work.
pub(super) struct Report {
    pub(super) work: &'static str,
    pub(super) precision: Precision,
    pub(super) threads: usize,
    pub(super) times: Times,
    /// Billions of operations of its products; none if the clock stops before them.
    pub(super) gflop: Option<f64>,
    pub(super) peak_rss: Option<u64>,
    /// What the kinds of operators took in all runs.
    pub(super) profile: Vec<(String, Share)>,
    /// The relative error of the results, and against which precision.
    pub(super) error: Option<(Precision, f64)>,
    pub(super) drawn: Option<Drawn>,
}

impl Report {
    fn gflops(&self) -> Option<f64> {
        Some(self.gflop? / self.times.median)
    }

    fn fraction(&self, machine: &Machine) -> Option<f64> {
        Some(self.gflops()? * 1e9 / machine.peak(self.precision))
    }

    fn rows<'a>(&'a self, machine: &'a Machine) -> impl Iterator<Item = OpRow<'a>> + 'a {
        let total: f64 = self.profile.iter().map(|(_, share)| share.time.as_secs_f64()).sum();
        self.profile.iter().map(move |(op, share)| {
            let seconds = share.time.as_secs_f64();
            let (flops, bytes) = (share.flops as f64 / seconds, share.bytes as f64 / seconds);
            OpRow {
                op,
                share: seconds / total,
                seconds: seconds / self.times.count as f64,
                calls: share.count / self.times.count,
                speed: match share.flops {
                    0 => Speed::Bytes { per_second: bytes, fraction: bytes / machine.bandwidth },
                    _ => Speed::Flops { per_second: flops, fraction: flops / machine.peak(self.precision) },
                },
            }
        })
    }
}

impl Told for Report {
    fn to_json(&self, machine: &Machine) -> Value {
        let mut facts = json!({
            "work": self.work,
            "precision": self.precision.to_string(),
            "threads": self.threads,
            "median_s": self.times.median,
            "fastest_s": self.times.fastest,
            "gflop": self.gflop,
            "gflops": self.gflops(),
            "fraction_of_peak": self.fraction(machine),
            "peak_rss_bytes": self.peak_rss,
            "machine": machine.to_json(),
        });
        if let Some((against, error)) = self.error {
            facts["against"] = against.to_string().into();
            facts["relative_error"] = error.into();
        }
        if let Some(drawn) = &self.drawn {
            facts["first_start_s"] = drawn.first.into();
            facts["planned_peak_bytes"] = drawn.planned.into();
            let stages: Map<_, _> = drawn.stages.iter().map(|(name, time)| (name.clone(), (*time).into())).collect();
            facts["stages_s"] = stages.into();
        }
        if !self.profile.is_empty() {
            facts["profile"] = self.rows(machine).map(|row| row.to_json()).collect();
        }
        facts
    }

    fn print(&self, machine: &Machine) {
        let precision = self.precision.to_string();
        let mut first = format!("{:15} {precision:4}  {:8.4} s", self.work, self.times.median);
        if let (Some(gflops), Some(fraction)) = (self.gflops(), self.fraction(machine)) {
            first += &format!("  {gflops:6.0} GFLOP/s, {:4.1} % of the {precision} peak", 100.0 * fraction);
        }
        if let Some(bytes) = self.peak_rss {
            first += &format!("  {} at most", megabytes(bytes));
        }
        output::line(first);
        if let Some((against, error)) = self.error {
            output::line(format_args!("  relative error against {against}: {error:.2e}"));
        }
        if let Some(drawn) = &self.drawn {
            output::line(format_args!("  first start {:.3} s; then {}", drawn.first, Stages(&drawn.stages)));
        }
        self.rows(machine).for_each(|row| output::line(format_args!("  {row}")));
    }
}

struct Stages<'a>(&'a [(String, f64)]);

impl fmt::Display for Stages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, time)) in self.0.iter().enumerate() {
            write!(f, "{}{name} {time:.3} s", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// One kind of operator in one call.
struct OpRow<'a> {
    op: &'a str,
    /// Of the time of the call.
    share: f64,
    seconds: f64,
    calls: usize,
    speed: Speed,
}

/// Operators with products are limited by arithmetic, the others by memory; bytes from caches come sooner than that.
enum Speed {
    Flops { per_second: f64, fraction: f64 },
    Bytes { per_second: f64, fraction: f64 },
}

impl OpRow<'_> {
    fn to_json(&self) -> Value {
        let mut facts = json!({"op": self.op, "share": self.share, "seconds": self.seconds, "calls": self.calls});
        match self.speed {
            Speed::Flops { per_second, fraction } => {
                facts["gflops"] = (per_second / 1e9).into();
                facts["fraction_of_peak"] = fraction.into();
            }
            Speed::Bytes { per_second, fraction } => {
                facts["gb_s"] = (per_second / 1e9).into();
                facts["fraction_of_bandwidth"] = fraction.into();
            }
        }
        facts
    }
}

impl fmt::Display for OpRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { op, calls, seconds, .. } = self;
        write!(f, "{op:12} {:5.1} %  {seconds:8.4} s  {calls:4} calls  ", 100.0 * self.share)?;
        match self.speed {
            Speed::Flops { per_second, fraction } => {
                write!(f, "{:6.0} GFLOP/s, {:3.0} % of the peak", per_second / 1e9, 100.0 * fraction)
            }
            Speed::Bytes { per_second, fraction } => {
                write!(f, "{:6.1} GB/s, {:3.0} % of memory's", per_second / 1e9, 100.0 * fraction)
            }
        }
    }
}
