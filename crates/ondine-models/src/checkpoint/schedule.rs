//! The schedules and scales of latents that models of a kind are published with, and what a file says of its own.

use ondine_graph::Weights;
use serde_json::{Value, json};

use super::{
    Facts, Finding,
    container::Contents,
    transformer::{Kind, takes_guidance},
};

/// What latents are multiplied by, and what is subtracted before.
pub(super) fn latents_of(kind: Kind) -> (f64, Option<f64>) {
    match kind {
        Kind::Sd3 => (1.5305, Some(0.0609)),
        Kind::Flux => (0.3611, Some(0.1159)),
    }
}

/// What a transformer is.
pub(super) fn family(kind: Kind, weights: Option<&Weights>) -> Finding {
    let has = |part: &str| weights.is_some_and(|weights| weights.paths().any(|path| path.contains(part)));
    let (what, why) = match kind {
        Kind::Sd3 if has(".attn2.") => ("Stable Diffusion 3.5 medium", "blocks with a second attention"),
        Kind::Sd3 if has(".ln_q.") || has(".norm_q.") => ("Stable Diffusion 3.5", "norms of queries and keys"),
        Kind::Sd3 => ("Stable Diffusion 3", "`joint_blocks` without norms of queries and keys"),
        Kind::Flux if weights.is_some_and(takes_guidance) => ("FLUX.1 dev", "it takes the guidance scale"),
        Kind::Flux => ("FLUX.1 schnell", "it takes no guidance scale"),
    };
    Finding { what: what.to_owned(), why: why.to_owned() }
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

/// The schedule that models of this kind are published with, and what the file says of its own.
pub(super) fn diffusion(facts: &Facts, contents: &Contents, findings: &mut Vec<Finding>) -> Value {
    let has = |key: &str| contents.weights.get(key).is_some();
    let mut find = |what: &str, why: String| findings.push(Finding { what: what.to_owned(), why });
    let note = contents.notes.get("modelspec.prediction_type").map(String::as_str);
    let global_step = contents.numbers.get("global_step");
    let velocity = match note {
        _ if has("v_pred") => {
            find("v-prediction", "key `v_pred`".to_owned());
            true
        }
        Some(kind @ ("v" | "v_prediction" | "velocity")) => {
            find("v-prediction", format!("note `modelspec.prediction_type` is `{kind}`"));
            true
        }
        Some(kind @ ("epsilon" | "eps")) => {
            find("epsilon prediction", format!("note `modelspec.prediction_type` is `{kind}`"));
            false
        }
        _ if facts.second() && facts.channels == 4 && global_step != Some(&875_000) => {
            find(
                "v-prediction",
                "assumed of Stable Diffusion 2: no file says it; --prediction epsilon otherwise".to_owned(),
            );
            true
        }
        _ => {
            find("epsilon prediction", "usual, and no key says otherwise; --prediction chooses another".to_owned());
            false
        }
    };
    let zero = has("ztsnr");
    if zero {
        find("zero terminal SNR", "key `ztsnr`".to_owned());
    }
    let class = match (facts.sizes, zero || facts.second()) {
        (true, _) => "EulerDiscreteScheduler",
        (false, true) => "DDIMScheduler",
        (false, false) => "PNDMScheduler",
    };
    json!({
        "_class_name": class,
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
        "clip_sample": false,
        "set_alpha_to_one": false,
        "skip_prk_steps": true,
        "prediction_type": if velocity { "v_prediction" } else { "epsilon" },
        "rescale_betas_zero_snr": zero,
        "timestep_spacing": if zero { "trailing" } else { "leading" },
    })
}
