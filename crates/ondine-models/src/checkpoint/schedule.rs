//! What denoisers are published with besides their weights: schedules and scales of latents.

use ondine_graph::{Result, Weights, fail};
use serde_json::{Value, json};

use super::{
    autoencoder::Latents,
    container::Contents,
    facts::{Facts, Finding},
    sana,
    transformer::{Kind, takes_guidance},
};

/// Mean and standard deviation of each channel of latents: the tensors that models hold which were trained on the noise
/// levels of EDM, such as Playground 2.5.
pub(super) const EDM_MEAN: &str = "edm_mean";
pub(super) const EDM_STD: &str = "edm_std";
/// The ends of the noise levels of models that predict velocities on those of EDM, such as CosXL.
pub(super) const EDM_ENDS: [&str; 2] = ["edm_vpred.sigma_min", "edm_vpred.sigma_max"];

/// The scale of latents of a transformer.
pub(super) fn latents_of(kind: Kind) -> Latents {
    let (scaling, shift) = match kind {
        Kind::Sd3 => (1.5305, 0.0609),
        Kind::Flux | Kind::ZImage => (0.3611, 0.1159),
        // Its autoencoder holds the statistics of its latents.
        Kind::Flux2 => (1.0, 0.0),
        Kind::Sana => (0.41407, 0.0),
    };
    Latents { scaling, shift: Some(shift), statistics: None }
}

/// The scale of the latents of a U-Net.
///
/// # Errors
/// If the file holds a mean without a deviation, or the other way round.
pub(super) fn latents_beside(facts: &Facts, contents: &Contents) -> Result<Latents> {
    let numbers = |key: &str| -> Result<Option<Value>> {
        let weights = &contents.weights;
        weights.get(key).map(|_| Ok(json!(weights.to_f32(key)?.as_ref()))).transpose()
    };
    match (numbers(EDM_MEAN)?, numbers(EDM_STD)?) {
        (None, None) if facts.sizes => Ok(Latents { scaling: 0.13025, ..Latents::default() }),
        (None, None) => Ok(Latents::default()),
        (Some(mean), Some(std)) => Ok(Latents { scaling: 0.5, shift: None, statistics: Some([mean, std]) }),
        _ => fail!(Missing, "of `{EDM_MEAN}` and `{EDM_STD}` one is missing; is the file whole?"),
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
        Kind::Flux2 => ("FLUX.2", "all blocks of a kind are modulated alike"),
        Kind::ZImage => ("Z-Image", "blocks that refine noise and text"),
        Kind::Sana if weights.is_some_and(sana::takes_guidance) => ("Sana-Sprint", "it takes the guidance scale"),
        Kind::Sana => ("Sana", "`attention_y_norm`, no guidance scale"),
    }
}

/// The schedule of a transformer on rectified flow.
pub(super) fn flow(kind: Kind, weights: Option<&Weights>) -> Value {
    if kind == Kind::Sana {
        return match weights.is_some_and(sana::takes_guidance) {
            true => json!({
                "_class_name": "SCMScheduler",
                "num_train_timesteps": 1000,
                "prediction_type": "trigflow",
                "sigma_data": 0.5,
            }),
            false => json!({
                "_class_name": "DPMSolverMultistepScheduler",
                "num_train_timesteps": 1000,
                "prediction_type": "flow_prediction",
                "use_flow_sigmas": true,
                "flow_shift": 3.0,
            }),
        };
    }
    let dynamic = kind == Kind::Flux2 || kind == Kind::Flux && weights.is_some_and(takes_guidance);
    json!({
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "shift": if dynamic || matches!(kind, Kind::Sd3 | Kind::ZImage) { 3.0 } else { 1.0 },
        "use_dynamic_shifting": dynamic,
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
    })
}

/// The schedule that models of this kind are published with, and what the file says of its own.
///
/// # Errors
/// If what the file says of its noise levels cannot be read.
pub(super) fn beside(facts: &Facts, contents: &Contents, findings: &mut Vec<Finding>) -> Result<Value> {
    let has = |key: &str| contents.weights.get(key).is_some();
    let mut find = |what: &str, why: String| findings.push(Finding { what: what.to_owned(), why });
    if has(EDM_MEAN) {
        find("noise levels of EDM", format!("keys `{EDM_MEAN}` and `{EDM_STD}`"));
        return Ok(edm());
    }
    if EDM_ENDS.into_iter().any(has) {
        find("v-prediction on noise levels of EDM", format!("keys `{}` and `{}`", EDM_ENDS[0], EDM_ENDS[1]));
        return edm_velocity(contents);
    }
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
    Ok(json!({
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
    }))
}

/// The schedule that Playground 2.5 is published with.
fn edm() -> Value {
    json!({
        "_class_name": "EDMDPMSolverMultistepScheduler",
        "num_train_timesteps": 1000,
        "sigma_min": 0.002,
        "sigma_max": 80.0,
        "sigma_data": 0.5,
        "rho": 7.0,
        "prediction_type": "epsilon",
        "solver_order": 2,
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
        "lower_order_final": true,
        "euler_at_final": false,
        "final_sigmas_type": "zero",
    })
}

/// The schedule of models such as CosXL: velocities, data of deviation 1, levels evenly spaced in their logarithm
/// between the two that the file holds.
fn edm_velocity(contents: &Contents) -> Result<Value> {
    let mut ends = [0.0; 2];
    for (end, key) in ends.iter_mut().zip(EDM_ENDS) {
        *end = match *contents.weights.to_f32(key)? {
            [level] => level,
            ref levels => fail!(Shape, "`{key}` holds {} numbers; a noise level is one", levels.len()),
        };
    }
    Ok(json!({
        "_class_name": "EDMEulerScheduler",
        "num_train_timesteps": 1000,
        "sigma_min": ends[0],
        "sigma_max": ends[1],
        "sigma_data": 1.0,
        "sigma_schedule": "exponential",
        "prediction_type": "v_prediction",
        "final_sigmas_type": "zero",
    }))
}
