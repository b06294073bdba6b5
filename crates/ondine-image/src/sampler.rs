//! Samplers: from noise to clean latents in a few calls of the network.
//!
//! One file holds one sampler, written as its formula; what those of one form share is in `form.rs`, `sigma.rs`,
//! `variance.rs` and `multistep.rs`. All run on flat float32 slices, so they know
//! neither shapes nor batches; coefficients are float32 where diffusers has tensors, and trajectories
//! agree with diffusers to float32 rounding.
//!
//! ```
//! use ondine_image::noise::{NoiseSource, TorchCpu};
//! use ondine_image::sampler::{Options, sampler};
//! use ondine_image::schedule::SchedulerConfig;
//!
//! # fn network(latents: &[f32], _timestep: f32) -> Vec<f32> { latents.to_vec() }
//! # fn main() -> Result<(), ondine_graph::Error> {
//! let config = SchedulerConfig::from_json(r#"{"_class_name": "EulerDiscreteScheduler"}"#)?;
//! let mut sampler = sampler(&config, 20, &Options::default())?;
//! let mut noise = TorchCpu::new(42);
//!
//! let mut latents = vec![0.0; 4 * 8 * 8];
//! noise.normal(&mut latents);
//! latents.iter_mut().for_each(|x| *x *= sampler.init_noise_sigma());
//! let mut input = latents.clone();
//! for call in 0..sampler.timesteps().len() {
//!     sampler.scale_model_input(call, &latents, &mut input);
//!     let output = network(&input, sampler.timesteps()[call]);
//!     sampler.step(call, &output, &mut latents, &mut noise)?;
//! }
//! # Ok(())
//! # }
//! ```

mod ddim;
mod ddpm;
mod deis;
mod dpm_factors;
mod dpm_multistep;
mod dpm_singlestep;
mod edm;
mod euler;
mod euler_ancestral;
mod flow;
mod form;
mod heun;
mod kdpm2;
mod lcm;
mod level;
mod lms;
mod multistep;
mod pndm;
mod registry;
mod rounded;
mod run;
mod scm;
mod sigma;
mod tcd;
mod unipc;
mod variance;

pub use level::NoiseLevel;
pub use registry::{SamplerEntry, ScheduleEntry, sampler_entries, schedule_entries};
pub use run::{Options, Sampler};

use ondine_graph::{Context, Result, fail};

use crate::schedule::{SchedulerClass, SchedulerConfig, check_steps};

/// Sets up the config's sampler for a run of `steps` steps.
///
/// # Errors
/// A step count outside what the sampler and the training schedule allow, an `eta` outside 0..=1, or
/// a config that would divide by zero on the way (named in the message).
pub fn sampler(config: &SchedulerConfig, steps: usize, options: &Options) -> Result<Box<dyn Sampler>> {
    check_steps(config, steps)?;
    if let Some(eta) = options.eta
        && !(0.0..=1.0).contains(&eta)
    {
        fail!(Argument, "eta is {eta}; give a number from 0 to 1");
    }
    let built: Result<Box<dyn Sampler>> = match config.class {
        SchedulerClass::Ddim => boxed(ddim::Ddim::new(config, steps, options.eta)),
        SchedulerClass::Ddpm => boxed(ddpm::Ddpm::new(config, steps)),
        SchedulerClass::Pndm => boxed(pndm::Pndm::new(config, steps)),
        SchedulerClass::Lms => boxed(lms::Lms::new(config, steps)),
        SchedulerClass::Euler => boxed(euler::Euler::new(config, steps)),
        SchedulerClass::EulerAncestral => boxed(euler_ancestral::EulerAncestral::new(config, steps, options.eta)),
        SchedulerClass::Heun => boxed(heun::Heun::new(config, steps)),
        SchedulerClass::Kdpm2 => boxed(kdpm2::Kdpm2::new(config, steps)),
        SchedulerClass::Kdpm2Ancestral => boxed(kdpm2::Kdpm2::ancestral(config, steps, options.eta)),
        SchedulerClass::DpmMultistep => boxed(dpm_multistep::DpmMultistep::new(config, steps)),
        SchedulerClass::DpmSinglestep => boxed(dpm_singlestep::DpmSinglestep::new(config, steps)),
        SchedulerClass::Deis => boxed(deis::Deis::new(config, steps)),
        SchedulerClass::UniPc => boxed(unipc::UniPc::new(config, steps)),
        SchedulerClass::Lcm => boxed(lcm::Lcm::new(config, steps)),
        SchedulerClass::Tcd => boxed(tcd::Tcd::new(config, steps, options.eta)),
        SchedulerClass::EdmEuler => boxed(edm::EdmEuler::new(config, steps)),
        SchedulerClass::EdmDpmMultistep => boxed(dpm_multistep::DpmMultistep::edm(config, steps)),
        SchedulerClass::FlowEuler => boxed(flow::FlowEuler::new(config, steps, options)),
        SchedulerClass::FlowHeun => boxed(flow::FlowHeun::new(config, steps, options)),
        SchedulerClass::Scm => boxed(scm::Scm::new(config, steps)),
    };
    built.at(|| config.class.name())
}

fn boxed<S: Sampler + 'static>(sampler: Result<S>) -> Result<Box<dyn Sampler>> {
    sampler.map(|sampler| Box::new(sampler) as Box<dyn Sampler>)
}
