//! Samplers by name, and what they do with odd requests.

use ondine_image::noise::Generator;
use ondine_image::sampler::{Options, SamplerEntry, sampler, sampler_entries, schedule_entries};
use ondine_image::schedule::{
    Algorithm, Prediction, SchedulerClass, SchedulerConfig, SigmaSchedule, SolverType, Spacing,
};

/// Stable Diffusion 1.5's scheduler.
fn stable_diffusion() -> SchedulerConfig {
    SchedulerConfig::from_json(
        r#"{"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
            "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
            "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1,
            "trained_betas": null, "clip_sample": false}"#,
    )
    .expect("a valid config")
}

fn named(name: &str) -> SchedulerConfig {
    stable_diffusion().with_sampler(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_tools_spelling_is_known() {
    use SchedulerClass as C;
    for (name, class) in [
        ("DPM++ 2M", C::DpmMultistep),
        ("dpm++-2m", C::DpmMultistep),
        ("dpmpp_2m", C::DpmMultistep),
        ("k_dpmpp_2m", C::DpmMultistep),
        ("DPMSolverMultistepScheduler", C::DpmMultistep),
        ("k_euler", C::Euler),
        ("Euler a", C::EulerAncestral),
        ("k_euler_a", C::EulerAncestral),
        ("k_euler_ancestral", C::EulerAncestral),
        ("euler_a", C::EulerAncestral),
        ("EulerAncestralDiscreteScheduler", C::EulerAncestral),
        ("k_heun", C::Heun),
        ("k_lms", C::Lms),
        ("k_dpm_2", C::Kdpm2),
        ("DPM2 a", C::Kdpm2Ancestral),
        ("UniPC", C::UniPc),
        ("PLMS", C::Pndm),
        ("pndm", C::Pndm),
        ("ddim", C::Ddim),
        ("LCM", C::Lcm),
        ("tcd", C::Tcd),
    ] {
        assert_eq!(named(name).class, class, "{name}");
    }
}

#[test]
fn names_do_not_collide() {
    for entry in sampler_entries() {
        for name in [entry.id, entry.label].iter().chain(entry.aliases) {
            let (found, schedule) = SamplerEntry::find(name).expect("a name of its own");
            assert_eq!((found.id, schedule.is_some()), (entry.id, false), "{name}");
        }
    }
}

#[test]
fn a_name_sets_the_options_that_make_the_sampler() {
    let sde = named("DPM++ 2M SDE Heun");
    assert_eq!(sde.solver.algorithm, Algorithm::SdeDpmSolverPlusPlus);
    assert_eq!(sde.solver.solver_type, SolverType::Heun);
    assert_eq!(named("DPM++ 3M SDE").solver.order, 3);
    for entry in sampler_entries() {
        let config = named(entry.id);
        assert_eq!(SamplerEntry::of(&config).map(|found| found.id), Some(entry.id));
    }
}

#[test]
fn schedules_go_with_samplers() {
    assert_eq!(named("DPM++ 2M Karras").sigma_schedule, SigmaSchedule::Karras);
    assert_eq!(named("euler_a karras").sigma_schedule, SigmaSchedule::Karras);
    let config = named("DPM++ 2M SDE").with_schedule("Automatic").expect("a schedule");
    assert_eq!(config.sigma_schedule, SigmaSchedule::Exponential);
    let config = config.with_schedule("SGM Uniform").expect("a schedule");
    assert_eq!((config.sigma_schedule, config.spacing), (SigmaSchedule::Table, Spacing::Trailing));
    let error = named("DDIM").with_schedule("karras").expect_err("DDIM has no sigmas");
    assert!(error.to_string().contains("DDIMScheduler"), "{error}");
    for (name, known) in [("dreamy", "karras"), ("", "karras")] {
        let error = named("Euler").with_schedule(name).expect_err("an unknown schedule");
        assert!(error.to_string().contains(known), "{error}");
    }
    let error = stable_diffusion().with_sampler("DPM-42").expect_err("an unknown sampler");
    assert!(error.to_string().contains("Euler a"), "{error}");
}

/// Runs a sampler on pictures of its own latents; `None` where the request is refused.
fn finish(config: &SchedulerConfig, steps: usize) -> Option<Vec<f32>> {
    let options = Options { eta: Some(1.0), ..Options::default() };
    let mut sampler = sampler(config, steps, &options).ok()?;
    let mut noise = Generator::TorchCpu.seeded(1);
    let mut latents = vec![0.0; 32];
    noise.normal(&mut latents);
    latents.iter_mut().for_each(|x| *x *= sampler.init_noise_sigma());
    let mut input = latents.clone();
    for call in 0..sampler.timesteps().len() {
        sampler.scale_model_input(call, &latents, &mut input);
        let output: Vec<f32> = input.iter().map(|x| x.sin()).collect();
        sampler.step(call, &output, &mut latents, noise.as_mut()).expect("a step within the run");
    }
    Some(latents)
}

#[test]
fn every_request_ends_in_numbers_or_in_an_error() {
    let zero_snr = stable_diffusion()
        .with_key("rescale_betas_zero_snr", true.into())
        .and_then(|config| config.with_key("prediction_type", "v_prediction".into()))
        .expect("a zero-SNR model");
    let mut refused = Vec::new();
    for model in [stable_diffusion(), zero_snr] {
        for entry in sampler_entries() {
            for schedule in schedule_entries() {
                let config = model.with_sampler(entry.id).expect("a sampler");
                let Ok(config) = config.with_schedule(schedule.id) else { continue };
                for steps in [1, 2, 3, 4, 5, 19, 61, 1000] {
                    match finish(&config, steps) {
                        None => refused.push((entry.id, schedule.id, steps)),
                        Some(latents) => assert!(
                            latents.iter().all(|x| x.is_finite()),
                            "{} {} {steps} {:?}",
                            entry.id,
                            schedule.id,
                            model.prediction == Prediction::Velocity
                        ),
                    }
                }
            }
        }
    }
    let usual = refused.iter().find(|(_, _, steps)| *steps < 50);
    assert_eq!(usual, None, "a usual request is refused");
}

#[test]
fn step_counts_outside_the_range_are_refused() {
    for entry in sampler_entries() {
        let config = named(entry.id);
        for steps in [0, 1001, usize::MAX] {
            let error = sampler(&config, steps, &Options::default()).err().expect("too few or many");
            let text = error.to_string();
            assert!(text.contains(config.class.name()) && text.contains("ask for"), "{text}");
        }
    }
    let text = sampler(&named("lcm"), 51, &Options::default()).err().map(|error| error.to_string());
    assert!(text.is_some_and(|text| text.contains("distilled on")));
}

#[test]
fn wrong_slices_and_calls_are_refused_and_nothing_moves() {
    for entry in sampler_entries() {
        let mut run = sampler(&named(entry.id), 4, &Options::default()).expect("a sampler");
        let mut latents = vec![1.0f32; 4];
        let mut noise = |out: &mut [f32]| out.fill(0.0);
        let calls = run.timesteps().len();
        assert!(run.step(calls, &[0.0; 4], &mut latents, &mut noise).is_err());
        assert!(run.step(0, &[0.0; 3], &mut latents, &mut noise).is_err());
        assert_eq!(latents, [1.0; 4], "{}", entry.id);
    }
}

#[test]
fn eta_outside_its_range_is_refused() {
    for eta in [-0.1, 1.1, f64::NAN] {
        let options = Options { eta: Some(eta), ..Options::default() };
        assert!(sampler(&named("ddim"), 4, &options).is_err(), "{eta}");
    }
}

#[test]
fn epsilon_prediction_at_zero_signal_is_refused() {
    let config = stable_diffusion()
        .with_sampler("ddim")
        .and_then(|config| config.with_key("rescale_betas_zero_snr", true.into()))
        .and_then(|config| config.with_schedule("trailing"))
        .expect("a config");
    let error = sampler(&config, 4, &Options::default()).err().expect("a refusal");
    assert!(error.to_string().contains("v_prediction"), "{error}");
}

#[test]
fn a_run_may_begin_late() {
    for entry in sampler_entries() {
        let mut run = sampler(&named(entry.id), 20, &Options::default()).expect("a sampler");
        let begin = 10;
        let mut latents = vec![0.0; 4];
        run.add_noise(begin, &[0.5; 4], &[1.0, -1.0, 0.5, -0.5], &mut latents);
        let mut noise = |out: &mut [f32]| out.fill(0.1);
        for call in begin..run.timesteps().len() {
            run.step(call, &[0.1; 4], &mut latents, &mut noise).expect("a step");
        }
        assert!(latents.iter().all(|x| x.is_finite()), "{}: {latents:?}", entry.id);
    }
}

#[test]
fn tiny_and_odd_training_schedules_do_not_panic() {
    for total in [1, 2, 3, 11] {
        for entry in sampler_entries() {
            for keys in [
                r#""beta_start": 0.5, "beta_end": 0.999"#,
                r#""rescale_betas_zero_snr": true, "prediction_type": "v_prediction""#,
                r#""timestep_spacing": "leading", "steps_offset": 1"#,
                r#""timestep_spacing": "trailing", "use_karras_sigmas": true, "sigma_min": 9e9"#,
                r#""solver_order": 3, "lower_order_final": false, "lambda_min_clipped": 99"#,
            ] {
                let class = entry.class.name();
                let text = format!(r#"{{"_class_name": "{class}", "num_train_timesteps": {total}, {keys}}}"#);
                let Ok(config) = SchedulerConfig::from_json(&text) else { continue };
                for steps in 1..=total {
                    let _ = finish(&config, steps);
                }
            }
        }
    }
}
