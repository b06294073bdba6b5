//! Pictures from text: everything around the networks.
//!
//! A picture begins as noise and is denoised in a few steps. This crate holds what decides which
//! picture comes out, and keeps to the conventions people share pictures by: the same seed, sampler
//! and settings give what diffusers gives, to float32 rounding.
//!
//! | to | use |
//! |---|---|
//! | draw the noise a seed stands for | [`noise::Generator`], [`noise::NoiseSource`] |
//! | read a model's `scheduler_config.json` | [`schedule::SchedulerConfig`] |
//! | choose another sampler or schedule by name | [`schedule::SchedulerConfig::with_sampler`], `with_schedule` |
//! | step from noise to latents | [`sampler::sampler`], [`sampler::Sampler`] |
//! | lean towards the prompt | [`guidance`] |
//! | write and read PNG with its text | [`codec::Picture`], [`infotext::Infotext`] |
//!
//! ```
//! use ondine_image::{guidance, noise::Generator, sampler, schedule::SchedulerConfig};
//!
//! # fn network(latents: &[f32], _timestep: f32, _prompt: &str) -> Vec<f32> { latents.to_vec() }
//! # fn main() -> Result<(), ondine_graph::Error> {
//! // Stable Diffusion 1.5's own file, but with A1111's most used sampler.
//! let config = SchedulerConfig::from_json(
//!     r#"{"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
//!         "beta_schedule": "scaled_linear", "skip_prk_steps": true, "steps_offset": 1}"#,
//! )?;
//! let config = config.with_sampler("DPM++ 2M")?.with_schedule("karras")?;
//! let mut sampler = sampler::sampler(&config, 20, &sampler::Options::default())?;
//!
//! let mut noise = Generator::TorchCpu.seeded(42);
//! let mut latents = vec![0.0; 4 * 16 * 16];
//! noise.normal(&mut latents);
//! latents.iter_mut().for_each(|x| *x *= sampler.init_noise_sigma());
//!
//! let mut input = latents.clone();
//! for call in 0..sampler.timesteps().len() {
//!     let timestep = sampler.timesteps()[call];
//!     sampler.scale_model_input(call, &latents, &mut input);
//!     let mut prediction = network(&input, timestep, "a laughing cat");
//!     guidance::guide(&mut prediction, &network(&input, timestep, ""), 7.5)?;
//!     sampler.step(call, &prediction, &mut latents, noise.as_mut())?;
//! }
//! # assert!(latents.iter().all(|x| x.is_finite()));
//! # Ok(())
//! # }
//! ```
//!
//! These work on float32 slices: they know no tensor, no graph and no model. [`pipeline`] brings them together with
//! the networks of a model and draws what a [`request::Request`] asks for. Errors are those of [`ondine_graph`].

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod codec;
pub mod edges;
pub mod forecast;
pub mod guidance;
pub mod infotext;
pub mod noise;
pub mod pipeline;
pub mod prompt;
pub mod request;
pub mod sampler;
pub mod schedule;
pub mod upscale;
