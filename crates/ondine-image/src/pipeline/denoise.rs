//! The denoising loop: latents from noise, under the guidance of the prompt.

use std::time::Instant;

use ondine_graph::{NDArray, Result, fail};
use ondine_runtime::Wish;

use super::{
    edit::Start,
    event::Event,
    parameters::Parameters,
    predict::{Denoiser, Predictor, Task},
};
use crate::{noise::NoiseSource, request::Request};

/// Latents at the end, and on the way if they were asked for.
pub(super) struct Denoised {
    /// `[count, channels, height, width]`.
    pub(super) latents: NDArray,
    /// Those at the start and after each call of the denoiser.
    pub(super) trail: Vec<NDArray>,
    /// How often the whole U-Net was called.
    pub(super) calls: usize,
}

/// One generator per picture, so that each can be drawn again alone.
pub(super) struct PerPicture(Vec<Box<dyn NoiseSource>>);

impl PerPicture {
    /// Those of the seeds of a request.
    pub(super) fn new(request: &Request) -> Self {
        Self::from_seed(request, request.seed)
    }

    fn from_seed(request: &Request, seed: u64) -> Self {
        Self((0..request.count as u64).map(|i| request.generator.seeded(seed.wrapping_add(i))).collect())
    }
}

impl NoiseSource for PerPicture {
    fn normal(&mut self, out: &mut [f32]) {
        let each = out.len() / self.0.len().max(1);
        for (out, source) in out.chunks_mut(each.max(1)).zip(&mut self.0) {
            source.normal(out);
        }
    }
}

/// Runs the sampler over the denoiser.
pub(super) fn denoise(
    denoiser: &Denoiser,
    mut task: Task<'_>,
    parameters: &mut Parameters,
    noise: &mut PerPicture,
    wish: &Wish,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Denoised> {
    let steering = std::mem::take(&mut task.steering);
    let Task { request, start, .. } = &task;
    let [channels, height, width] = parameters.latents;
    let shape = [request.count, channels, height, width];
    let unit = unit_noise(request, start, noise, &shape)?;
    let mut latents = first_latents(start, parameters, &unit);
    let mut predictor = Predictor::new(denoiser, &task, steering, parameters);
    let (first, total) = (parameters.first, parameters.calls());
    let mut trail = Vec::new();
    observe(Event::Stage("denoising"));
    for call in first..first + total {
        let begun = Instant::now();
        keep(request, &mut trail, &shape, &latents)?;
        let prediction = predictor.predict(call, &latents, parameters, wish)?;
        let colours = task.colours.as_ref();
        let preview = colours.map(|colours| (colours, parameters.sampler.denoised(call, &prediction, &latents)));
        parameters.sampler.step(call, &prediction, &mut latents, noise)?;
        keep_original(start, parameters, call, &unit, &mut latents);
        let done = call + 1 - first;
        if latents.iter().any(|x| !x.is_finite()) {
            fail!(
                Argument,
                "step {done} of {total}: the latents are no longer numbers; try --precision f32 or less guidance"
            );
        }
        let time = begun.elapsed();
        observe(Event::Step { done, total, time, latents: &NDArray::new(&shape, &latents)? });
        if let Some((colours, clean)) = preview {
            observe(Event::Preview(&colours.picture(&clean, parameters.latents)?));
        }
    }
    keep(request, &mut trail, &shape, &latents)?;
    Ok(Denoised { latents: NDArray::new(&shape, &latents)?, trail, calls: predictor.finish(parameters) })
}

/// Where a mask leaves latents out they are those of the picture to begin with, at the level of the next call.
fn keep_original(start: &Start, parameters: &Parameters, call: usize, noise: &[f32], latents: &mut [f32]) {
    let (Some(mask), Some(original)) = (&start.mask, &start.original) else { return };
    let mut noised = original.clone();
    if call + 1 < parameters.sampler.timesteps().len() {
        parameters.sampler.add_noise(call + 1, original, noise, &mut noised);
    }
    for (i, (x, original)) in latents.iter_mut().zip(noised).enumerate() {
        let share = mask[i % mask.len()];
        *x = (1.0 - share) * original + share * *x;
    }
}

fn keep(request: &Request, trail: &mut Vec<NDArray>, shape: &[usize], latents: &[f32]) -> Result<()> {
    if request.keep_latents {
        trail.push(NDArray::new(shape, latents)?);
    }
    Ok(())
}

/// The noise of the seed, with that of a variation mixed in, or that which is given.
fn unit_noise(request: &Request, start: &Start, noise: &mut PerPicture, shape: &[usize]) -> Result<Vec<f32>> {
    let len: usize = shape.iter().product();
    let mut unit = start.noise.clone();
    match &request.noise {
        Some(given) if given.shape() == shape => unit = given.view::<f32>()?.to_vec(),
        Some(given) => fail!(Shape, "the noise has shape {:?}, the latents have {shape:?}", given.shape()),
        None if unit.is_empty() => {
            unit = vec![0.0; len];
            noise.normal(&mut unit);
        }
        None => {}
    }
    if let Some((seed, strength)) = request.variation {
        let mut other = vec![0.0; len];
        PerPicture::from_seed(request, seed).normal(&mut other);
        let each = len / request.count.max(1);
        for (unit, other) in unit.chunks_mut(each.max(1)).zip(other.chunks(each.max(1))) {
            slerp(unit, other, strength);
        }
    }
    Ok(unit)
}

/// Turns `a` towards `b` on the sphere that they lie on, by a share of the angle between them (Shoemake 1985); nearly
/// parallel ones are mixed in a straight line.
fn slerp(a: &mut [f32], b: &[f32], share: f64) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let (from, to) = if cosine > 0.9995 || !cosine.is_finite() {
        (1.0 - share, share)
    } else {
        let angle = cosine.clamp(-1.0, 1.0).acos();
        (((1.0 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin())
    };
    a.iter_mut().zip(b).for_each(|(a, b)| *a = (from * f64::from(*a) + to * f64::from(*b)) as f32);
}

/// Unit noise times the sampler's first sigma, or the picture to begin with at the level of the first call. A picture
/// that a mask lets draw anew at full strength leaves nothing but its surroundings.
fn first_latents(start: &Start, parameters: &Parameters, unit: &[f32]) -> Vec<f32> {
    let full = start.mask.is_some() && parameters.first == 0;
    match &start.original {
        Some(original) if !full => {
            let mut latents = vec![0.0; unit.len()];
            parameters.sampler.add_noise(parameters.first, original, unit, &mut latents);
            latents
        }
        _ => {
            let sigma = parameters.sampler.init_noise_sigma();
            unit.iter().map(|x| x * sigma).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_turns_on_its_sphere() {
        let (a, b) = ([1.0_f32, 0.0, 0.0], [0.0_f32, 1.0, 0.0]);
        for (share, expected) in [(0.0, [1.0, 0.0]), (0.5, [0.5_f32.sqrt(); 2]), (1.0, [0.0, 1.0])] {
            let mut turned = a;
            slerp(&mut turned, &b, share);
            assert!(turned.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{turned:?}");
        }
        let mut same = a;
        slerp(&mut same, &a, 0.3);
        assert_eq!(same, a);
    }
}
