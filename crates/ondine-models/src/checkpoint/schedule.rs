//! What transformers are published with besides their weights: schedules and scales of latents.

use ondine_graph::Weights;
use serde_json::{Value, json};

use super::transformer::{Kind, takes_guidance};

/// What latents are multiplied by, and what is subtracted before.
pub(super) fn latents_of(kind: Kind) -> (f64, Option<f64>) {
    match kind {
        Kind::Sd3 => (1.5305, Some(0.0609)),
        Kind::Flux => (0.3611, Some(0.1159)),
    }
}

/// What a transformer is, and what says so.
pub(super) fn family(kind: Kind, weights: Option<&Weights>) -> (&'static str, &'static str) {
    let has = |part: &str| weights.is_some_and(|weights| weights.paths().any(|path| path.contains(part)));
    match kind {
        Kind::Sd3 if has(".attn2.") => ("Stable Diffusion 3.5 medium", "blocks with a second attention"),
        Kind::Sd3 if has(".ln_q.") || has(".norm_q.") => ("Stable Diffusion 3.5", "norms of queries and keys"),
        Kind::Sd3 => ("Stable Diffusion 3", "`joint_blocks` without norms of queries and keys"),
        Kind::Flux if weights.is_some_and(takes_guidance) => ("FLUX.1 dev", "it takes the guidance scale"),
        Kind::Flux => ("FLUX.1 schnell", "it takes no guidance scale"),
    }
}

/// The schedule of a transformer on rectified flow.
pub(super) fn flow(kind: Kind, weights: Option<&Weights>) -> Value {
    let dynamic = kind == Kind::Flux && weights.is_some_and(takes_guidance);
    json!({
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "shift": if kind == Kind::Sd3 || dynamic { 3.0 } else { 1.0 },
        "use_dynamic_shifting": dynamic,
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
    })
}
