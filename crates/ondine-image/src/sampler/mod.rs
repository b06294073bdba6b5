//! Samplers: from noise to clean latents in a few calls of the network.
//!
//! One file holds one sampler, written as its formula. All run on flat float32 slices, so they know
//! neither shapes nor batches; coefficients are float32 where diffusers has tensors, and trajectories
//! agree with diffusers to float32 rounding.
//!
//! ```
//! use ondine_image::noise::{NoiseSource, TorchCpu};
//! use ondine_image::sampler::{Options, sampler};
//! use ondine_image::schedule::SchedulerConfig;
//!
//! # fn network(latents: &[f32], _timestep: f32) -> Vec<f32> { latents.to_vec() }
//! # fn main() -> Result<(), ondine_image::Error> {
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
mod dpm_multistep;
mod euler;
mod euler_ancestral;
mod flow;
mod forms;
mod heun;
mod kdpm2;
mod lcm;
mod lms;
mod pndm;
mod registry;
mod solver;
mod tcd;
mod unipc;

pub use registry::{SamplerEntry, ScheduleEntry, sampler_entries, schedule_entries};

use crate::error::{Error, Result};
use crate::noise::NoiseSource;
use crate::schedule::{SchedulerClass, SchedulerConfig, check_steps};

/// How strongly clean latents and noise are mixed: `signal * x0 + noise * n`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseLevel {
    /// Factor of the clean latents.
    pub signal: f32,
    /// Factor of the noise.
    pub noise: f32,
}

/// A sampler set up for one run.
///
/// A run has [`timesteps`](Sampler::timesteps)`().len()` calls of the network, numbered from 0. Each
/// call is `scale_model_input`, the network, `step`, in that order. A run may begin at a later call
/// (image to image); calls are not skipped after that. Second-order samplers make two calls a step.
pub trait Sampler: Send {
    /// The timestep of each call, as the network takes it.
    fn timesteps(&self) -> &[f32];

    /// The noise level of each call and after the last one, in sigma form; empty for samplers that
    /// have none.
    fn sigmas(&self) -> &[f32] {
        &[]
    }

    /// The factor of unit noise that makes the first latents.
    fn init_noise_sigma(&self) -> f32 {
        1.0
    }

    /// Scales the latents to what the network was trained on. Slices of one length.
    fn scale_model_input(&self, call: usize, sample: &[f32], out: &mut [f32]) {
        let _ = call;
        for (out, &x) in out.iter_mut().zip(sample) {
            *out = x;
        }
    }

    /// The mixture that latents entering this call are; calls past the end give the last one's.
    fn noise_level(&self, call: usize) -> NoiseLevel;

    /// Noises clean latents to the level of a call: the start of image to image.
    fn add_noise(&self, call: usize, original: &[f32], noise: &[f32], out: &mut [f32]) {
        let level = self.noise_level(call);
        for ((out, &x), &n) in out.iter_mut().zip(original).zip(noise) {
            *out = level.signal * x + level.noise * n;
        }
    }

    /// Moves the latents from this call's noise level to the next.
    ///
    /// `model_output` is the network's prediction (after guidance) for `sample`, of the kind the
    /// config names. Stochastic samplers take one draw of `sample.len()` values from `noise`.
    ///
    /// # Errors
    /// A call number past the end, or slices of different length; the latents are then untouched.
    fn step(
        &mut self,
        call: usize,
        model_output: &[f32],
        sample: &mut [f32],
        noise: &mut dyn NoiseSource,
    ) -> Result<()>;
}

/// Choices that belong to a run, not to the model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// Share of fresh noise in each step, 0 to 1, for DDIM (default 0), TCD (0.3), Euler a and
    /// DPM2 a (1). Other samplers take no notice.
    pub eta: Option<f64>,
    /// Log of the time shift of flow models with dynamic shifting.
    pub mu: Option<f64>,
    /// Noise levels of a flow model before its shift, one a step, where its pipeline has its own.
    pub sigmas: Option<Vec<f64>>,
}

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
        return Err(Error::argument(format!("eta is {eta}; give a number from 0 to 1")));
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
        SchedulerClass::Deis => boxed(deis::Deis::new(config, steps)),
        SchedulerClass::UniPc => boxed(unipc::UniPc::new(config, steps)),
        SchedulerClass::Lcm => boxed(lcm::Lcm::new(config, steps)),
        SchedulerClass::Tcd => boxed(tcd::Tcd::new(config, steps, options.eta)),
        SchedulerClass::FlowEuler => boxed(flow::FlowEuler::new(config, steps, options)),
        SchedulerClass::FlowHeun => boxed(flow::FlowHeun::new(config, steps, options)),
    };
    built.map_err(|error| error.context(config.class.name()))
}

fn boxed<S: Sampler + 'static>(sampler: Result<S>) -> Result<Box<dyn Sampler>> {
    sampler.map(|sampler| Box::new(sampler) as Box<dyn Sampler>)
}

/// Refuses a call number past the end and slices of different length.
fn check(call: usize, calls: usize, model_output: &[f32], sample: &[f32]) -> Result<()> {
    if call >= calls {
        return Err(Error::argument(format!(
            "call {call} is past the end of a run of {calls} calls; set up a new sampler"
        )));
    }
    if model_output.len() != sample.len() {
        return Err(Error::argument(format!(
            "the model output has {} values and the latents have {}; give slices of one length",
            model_output.len(),
            sample.len()
        )));
    }
    Ok(())
}

/// `sample += scale * n` with a fresh draw of `n`.
fn add_fresh_noise(sample: &mut [f32], scale: f32, noise: &mut dyn NoiseSource) {
    let mut draw = vec![0.0; sample.len()];
    noise.normal(&mut draw);
    for (x, n) in sample.iter_mut().zip(draw) {
        *x += n * scale;
    }
}
