//! Every sampler against trajectories that diffusers drew with a toy network.
//!
//! `data/schedulers.json` comes from `python/golden/schedulers.py`, which explains its layout.

use std::path::{Path, PathBuf};

use ondine_image::sampler::{Options, Sampler, sampler};
use ondine_image::schedule::{NoiseSchedule, SchedulerClass, SchedulerConfig};
use serde_json::Value;

/// Largest error allowed, relative to the largest value of the trajectory, its start included.
const TOLERANCE: f64 = 1e-5;

fn read(path: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).expect("golden data is JSON"))
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|number| number.as_f64().unwrap_or(f64::NAN)).collect()
}

/// The largest difference, relative to `scale`; infinite where lengths differ or a value is NaN.
fn distance(found: &[f32], expected: &[f64], scale: f64) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0, |worst, (&a, &b)| {
        let error = (f64::from(a) - b).abs() / scale;
        if error.is_nan() { f64::INFINITY } else { worst.max(error) }
    })
}

/// The toy network: `0.7 sin(1.3 x + t / 1000)`.
fn toy(x: f32, timestep: f32) -> f32 {
    0.7 * f64::from(1.3 * x + timestep / 1000.0).sin() as f32
}

/// Draw `k`, element `i`: `1.2 sin(12.9898 (8 k + i + 1))`.
fn toy_noise(draws: usize, i: usize) -> f32 {
    (1.2 * (12.9898 * (8 * draws + i + 1) as f64).sin()) as f32
}

/// Runs a sampler over the toy network; the latents after each call.
fn trajectory(sampler: &mut dyn Sampler, init: f32) -> (Vec<Vec<f32>>, usize) {
    let start = |i: usize| (1.4 * (1.7 * i as f64 + 0.3).sin()) as f32 * init;
    let mut x: Vec<f32> = (0..8).map(start).collect();
    let mut input = x.clone();
    let mut draws = 0;
    let mut after = Vec::new();
    for call in 0..sampler.timesteps().len() {
        let t = sampler.timesteps()[call];
        sampler.scale_model_input(call, &x, &mut input);
        let output: Vec<f32> = input.iter().map(|&x| toy(x, t)).collect();
        let mut noise = |out: &mut [f32]| {
            for (i, value) in out.iter_mut().enumerate() {
                *value = toy_noise(draws, i);
            }
            draws += 1;
        };
        sampler.step(call, &output, &mut x, &mut noise).expect("a step within the run");
        after.push(x.clone());
    }
    (after, draws)
}

fn options(case: &Value) -> Options {
    let numbers = case["sigmas_given"].as_array().map(|_| numbers(&case["sigmas_given"]));
    Options { eta: case["step_kwargs"]["eta"].as_f64(), mu: case["mu"].as_f64(), sigmas: numbers }
}

fn config(case: &Value) -> SchedulerConfig {
    let mut keys = case["config"].clone();
    keys["_class_name"] = case["class"].clone();
    let config = SchedulerConfig::from_json(&keys.to_string()).expect("a config that diffusers took");
    match case["timesteps_given"].as_array() {
        Some(given) => {
            let timesteps = numbers(&case["timesteps_given"]);
            config.with_timesteps(&timesteps, given.len()).expect("timesteps that diffusers took")
        }
        None => config,
    }
}

/// The worst errors of one case: timesteps (absolute), sigmas (relative), trajectory (relative).
fn errors(name: &str, case: &Value) -> [f64; 3] {
    let steps = case["steps"].as_u64().expect("a step count") as usize;
    let mut sampler = sampler(&config(case), steps, &options(case)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let timesteps = distance(sampler.timesteps(), &numbers(&case["timesteps"]), 1.0);
    let sigmas = match case["sigmas"].as_array() {
        Some(_) => {
            let expected = numbers(&case["sigmas"]);
            let highest = expected.iter().copied().fold(0.0, f64::max);
            // Second-order samplers of diffusers repeat levels where ours state the midpoints.
            let comparable = sampler.sigmas().len() == expected.len() && !name.contains("kdpm2");
            if comparable { distance(sampler.sigmas(), &expected, highest) } else { 0.0 }
        }
        None => 0.0,
    };
    let init = case["init_noise_sigma"].as_f64().unwrap_or(1.0) as f32;
    let own = sampler.init_noise_sigma();
    assert!((own - init).abs() <= 1e-6 * init, "{name}: init_noise_sigma {own}, not {init}");
    let (after, draws) = trajectory(sampler.as_mut(), init);
    if let Some(calls) = case["noise_calls"].as_u64() {
        assert_eq!(draws as u64, calls, "{name}: draws of noise");
    }
    let all: Vec<Vec<f64>> = case["trajectory"].as_array().into_iter().flatten().map(numbers).collect();
    let start = 1.4 * f64::from(init);
    let scale = all.iter().flatten().fold(start, |scale, value| scale.max(value.abs()));
    let kept: Vec<usize> = match case["kept"].as_array() {
        Some(_) => numbers(&case["kept"]).into_iter().map(|call| call as usize).collect(),
        None => (0..after.len()).collect(),
    };
    assert_eq!(kept.len(), all.len(), "{name}: calls of the trajectory");
    let worst = kept
        .iter()
        .zip(&all)
        .map(|(&call, expected)| after.get(call).map_or(f64::INFINITY, |x| distance(x, expected, scale)));
    [timesteps, sigmas, worst.fold(0.0, f64::max)]
}

/// Checks all cases, reporting each; `cases` is an object of case by name.
fn check_all(cases: &Value) -> usize {
    let mut failures = Vec::new();
    let cases = cases.as_object().expect("cases by name");
    for (name, case) in cases {
        let class = case["class"].as_str().unwrap_or_default();
        if SchedulerClass::from_name(class).is_err() || case.get("trajectory").is_none() {
            println!("{name:34} skipped: {class} is not run here");
            continue;
        }
        let [timesteps, sigmas, latents] = errors(name, case);
        println!("{name:34} timesteps {timesteps:.1e} sigmas {sigmas:.1e} latents {latents:.1e}");
        if timesteps > 2e-3 || sigmas > 1e-6 || latents > TOLERANCE {
            failures.push(format!("{name}: {timesteps:.1e} {sigmas:.1e} {latents:.1e}"));
        }
    }
    assert!(failures.is_empty(), "too far from diffusers:\n{}", failures.join("\n"));
    cases.len()
}

/// Golden data that stands beside the repository, where there is any.
fn shared() -> Option<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = std::env::var_os("ONDINE_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let golden = read(&folder.join("golden/scheduler_golden.json"));
    if golden.is_none() {
        println!("skipped: no shared golden data (set ONDINE_SHARED to its folder)");
    }
    golden
}

fn own_golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schedulers.json");
    read(&path).expect("the repository's own golden data")
}

#[test]
fn golden_trajectories() {
    assert!(check_all(&own_golden()["cases"]) > 100);
}

#[test]
fn tables_have_the_bits_of_torch() {
    for (name, table) in own_golden()["tables"].as_object().expect("tables by name") {
        let mut keys = table["config"].clone();
        keys["_class_name"] = "DDIMScheduler".into();
        let config = SchedulerConfig::from_json(&keys.to_string()).expect("a config");
        let schedule = NoiseSchedule::new(&config);
        let alphas = schedule.alphas_cumprod();
        let bits: Vec<f64> = alphas.iter().step_by(37).map(|alpha| f64::from(alpha.to_bits())).collect();
        let expected = numbers(&table["bits"]);
        let equal = bits.iter().zip(&expected).filter(|(a, b)| a == b).count();
        println!("{name}: {equal} of {} equal", expected.len());
        // Square roots of the zero-SNR rescaling round differently in torch's library.
        if name == "zero_snr" {
            let worst = distance(
                &alphas.iter().step_by(37).copied().collect::<Vec<_>>(),
                &expected.iter().map(|&b| f64::from(f32::from_bits(b as u32))).collect::<Vec<_>>(),
                1.0,
            );
            assert!(worst < 3e-7, "{name}: {worst:e}");
        } else {
            assert_eq!(bits, expected, "{name}");
        }
        let sum: f64 = alphas.iter().map(|&alpha| f64::from(alpha)).sum();
        assert!((sum - table["sum"].as_f64().unwrap_or_default()).abs() < 1e-4, "{name}: {sum}");
    }
}

#[test]
fn shared_golden_trajectories() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = std::env::var_os("ONDINE_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let Some(golden) = read(&folder.join("golden/scheduler_golden.json")) else {
        println!("skipped: no shared golden data (set ONDINE_SHARED to its folder)");
        return;
    };
    assert!(check_all(&golden["schedulers"]) > 30);
}

#[test]
fn shared_flow_schedules() {
    let Some(golden) = shared() else { return };
    for name in ["flux_dev_dynamic_512", "flux_dev_dynamic_1024"] {
        let case = &golden["schedulers"][name];
        let steps = case["steps"].as_u64().expect("a step count") as usize;
        let config = SchedulerConfig::new(SchedulerClass::FlowEuler)
            .and_then(|config| config.with_key("use_dynamic_shifting", true.into()))
            .expect("a config");
        let sigmas = (0..steps).map(|i| 1.0 - i as f64 / steps as f64).collect();
        let options = Options { eta: None, mu: case["mu"].as_f64(), sigmas: Some(sigmas) };
        let sampler = sampler(&config, steps, &options).expect("a sampler");
        assert!(distance(sampler.timesteps(), &numbers(&case["timesteps"]), 1000.0) < 1e-6);
        assert!(distance(sampler.sigmas(), &numbers(&case["sigmas"]), 1.0) < 1e-6);
    }
}
