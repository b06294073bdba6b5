//! How much memory a picture takes, before it is drawn.

use std::fmt;

use ondine_graph::Result;
use ondine_runtime::Plan;
use serde_json::json;

use super::part::Part;

/// The memory of one stage, in bytes.
#[derive(Clone, Debug)]
pub struct StagePlan {
    /// What the stage does.
    pub name: String,
    /// Packed weights that are in memory at a time.
    pub weights: u64,
    /// Workspace of its largest call.
    pub workspace: u64,
}

/// What stays in memory of the weights of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resident {
    /// All of them.
    All,
    /// Those of one operator at a time: they are mapped from the cache, and its calls let go of them.
    Largest,
}

impl Resident {
    /// Of a stage whose calls let go of weights, which only those of a cache come back from.
    pub(super) fn frugal(cached: bool) -> Self {
        if cached { Self::Largest } else { Self::All }
    }
}

impl StagePlan {
    /// The memory of calls of a part by this plan.
    pub(super) fn new(name: &str, part: &Part, plan: &Plan, resident: Resident) -> Result<Self> {
        let weights = match resident {
            Resident::All => part.prepared.weight_bytes(),
            Resident::Largest => part.prepared.largest_weight_bytes(part.name())?,
        };
        Ok(Self { name: name.to_owned(), weights: weights as u64, workspace: plan.arena_bytes() as u64 })
    }
}

/// The memory of a drawing. Stages follow each other and give their memory back, so the largest counts; of stages whose
/// weights are kept, all weights and the largest workspace.
#[derive(Clone, Debug)]
pub struct MemoryPlan {
    /// The stages in order.
    pub stages: Vec<StagePlan>,
    /// True if the weights of all stages stay in memory, for the next drawing.
    pub kept: bool,
}

impl MemoryPlan {
    /// Bytes in use at the worst moment.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        if self.kept {
            let workspace = self.stages.iter().map(|stage| stage.workspace).max().unwrap_or_default();
            return self.stages.iter().map(|stage| stage.weights).sum::<u64>() + workspace;
        }
        self.stages.iter().map(|stage| stage.weights + stage.workspace).max().unwrap_or_default()
    }

    /// The plan as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let stage = |stage: &StagePlan| json!({"name": stage.name, "weight_bytes": stage.weights, "workspace_bytes": stage.workspace});
        let stages: Vec<_> = self.stages.iter().map(stage).collect();
        json!({"peak_bytes": self.peak_bytes(), "stages": stages})
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory: {:.0} MB at most", self.peak_bytes() as f64 / 1e6)?;
        for (i, stage) in self.stages.iter().enumerate() {
            let (weights, workspace) = (stage.weights as f64 / 1e6, stage.workspace as f64 / 1e6);
            let separator = if i == 0 { " (" } else { ", " };
            write!(f, "{separator}{} {weights:.0} + {workspace:.0}", stage.name)?;
        }
        if self.stages.is_empty() { Ok(()) } else { f.write_str("; weights + workspace)") }
    }
}
