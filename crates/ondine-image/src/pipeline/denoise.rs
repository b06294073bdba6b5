//! The denoising loop: latents from noise, under the guidance of the prompt.

use std::{collections::BTreeMap, time::Instant};

use ondine_graph::{NDArray, Result, fail};
use ondine_models::GuidanceInput;
use ondine_runtime::{Function, State, Wish};

use super::{
    conditioning::{Conditioning, batch, takes},
    edit::Start,
    event::Event,
    parameters::Parameters,
};
use crate::{guidance, noise::NoiseSource, request::Request};

/// Latents at the end, and on the way if they were asked for.
pub(super) struct Denoised {
    /// `[count, channels, height, width]`.
    pub(super) latents: NDArray,
    /// Those at the start and after each call of the denoiser.
    pub(super) trail: Vec<NDArray>,
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

/// What is denoised.
pub(super) struct Task<'a> {
    /// The texts that guide, by their index.
    pub(super) texts: &'a [Conditioning],
    pub(super) request: &'a Request,
    pub(super) start: Start,
    /// How guidance enters.
    pub(super) guidance: GuidanceInput,
    /// What timesteps are divided by.
    pub(super) time_divisor: f32,
    /// Numbers about the picture's size that the denoiser takes, if it does.
    pub(super) time_ids: usize,
}

/// Runs the sampler over the denoiser.
pub(super) fn denoise(
    denoiser: &Function,
    task: &Task<'_>,
    parameters: &mut Parameters,
    noise: &mut PerPicture,
    wish: &Wish,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Denoised> {
    let Task { request, start, .. } = task;
    let [channels, height, width] = parameters.latents;
    let shape = [request.count, channels, height, width];
    let batch = parameters.batch();
    let unit = unit_noise(request, start, noise, &shape)?;
    let mut latents = first_latents(start, parameters, &unit);
    let per_step = parameters.scheduler.class.calls_per_step();
    let mut guiding = Vec::new();
    let mut inputs = BTreeMap::new();
    let timesteps = parameters.sampler.timesteps().to_vec();
    let (first, total) = (parameters.first, parameters.calls());
    let mut trail = Vec::new();
    let mut state = State::default();
    let mut scaled = vec![0.0; latents.len()];
    observe(Event::Stage("denoising"));
    for (call, &timestep) in timesteps.iter().enumerate().skip(first) {
        let begun = Instant::now();
        keep(request, &mut trail, &shape, &latents)?;
        let now = parameters.prompts.at(call / per_step);
        if now != guiding {
            inputs = fixed_inputs(denoiser, task, parameters, &now)?;
            guiding = now;
        }
        parameters.sampler.scale_model_input(call, &latents, &mut scaled);
        let (sample, wide) = model_input(&scaled, start, parameters);
        inputs.insert("sample", NDArray::new(&[batch, wide, height, width], &sample)?);
        inputs.insert("timestep", NDArray::new(&[batch], &vec![timestep / task.time_divisor; batch])?);
        let named: Vec<_> = inputs.iter().map(|(name, array)| (*name, array)).collect();
        let output = denoiser.run_until(&named, &mut state, wish)?.take("out_sample")?;
        let prediction = guided(output.view::<f32>()?, request, parameters)?;
        parameters.sampler.step(call, &prediction, &mut latents, noise)?;
        keep_original(start, parameters, call, &unit, &mut latents);
        let done = call + 1 - first;
        if latents.iter().any(|x| !x.is_finite()) {
            fail!(
                Argument,
                "step {done} of {total}: the latents are no longer numbers; try --precision f32 or less guidance"
            );
        }
        let (time, latents) = (begun.elapsed(), &NDArray::new(&shape, &latents)?);
        observe(Event::Step { done, total, time, latents });
    }
    keep(request, &mut trail, &shape, &latents)?;
    Ok(Denoised { latents: NDArray::new(&shape, &latents)?, trail })
}

/// What the denoiser sees: the latents, once for each pass, and what it takes beside them; and how many channels that
/// is.
/// Guidance by a picture has a pass without the picture, which comes last.
fn model_input(latents: &[f32], start: &Start, parameters: &Parameters) -> (Vec<f32>, usize) {
    let [channels, height, width] = parameters.latents;
    let plane = height * width;
    let Some(beside) = &start.beside else { return (latents.repeat(parameters.passes), channels) };
    let extra = beside.first().map_or(0, Vec::len);
    let mut input = Vec::with_capacity(parameters.passes * (latents.len() + parameters.count * extra));
    for pass in 0..parameters.passes {
        for (latents, beside) in latents.chunks((channels * plane).max(1)).zip(beside) {
            input.extend_from_slice(latents);
            if parameters.by_picture() && pass == 2 {
                input.resize(input.len() + extra, 0.0);
            } else {
                input.extend_from_slice(beside);
            }
        }
    }
    (input, channels + extra / plane.max(1))
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

/// The inputs that stay the same as long as the same texts guide, of those that the denoiser takes.
fn fixed_inputs(
    denoiser: &Function,
    task: &Task<'_>,
    parameters: &Parameters,
    texts: &[usize],
) -> Result<BTreeMap<&'static str, NDArray>> {
    // With guidance by a picture one pass has the prompt and two the negative one, of which the last has no picture.
    let passes = match texts {
        [negative, prompt] if parameters.by_picture() => vec![*prompt, *negative, *negative],
        texts => texts.to_vec(),
    };
    let rows: Vec<&Conditioning> =
        passes.iter().flat_map(|text| std::iter::repeat_n(&task.texts[*text], parameters.count)).collect();
    let mut inputs = batch(&rows)?;
    let pooled = inputs.remove("pooled");
    let takes = |wanted: &str| takes(denoiser.graph(), wanted);
    if !takes("encoder_attention_mask") {
        inputs.remove("encoder_attention_mask");
    }
    for name in ["class_labels", "text_embeds", "pooled_projections"] {
        if takes(name) {
            let Some(pooled) = &pooled else { fail!(Unsupported, "the text encoder yields no {name}") };
            inputs.insert(name, pooled.clone());
        }
    }
    if takes("time_ids") {
        let ids = size_numbers(task, parameters);
        inputs.insert("time_ids", NDArray::new(&[rows.len(), task.time_ids], &ids)?);
    }
    match task.guidance {
        GuidanceInput::Waves(width) => {
            let embedding = scale_embedding(parameters.guidance, width);
            inputs.insert("timestep_cond", NDArray::new(&[rows.len(), width], &embedding.repeat(rows.len()))?);
        }
        GuidanceInput::Number => {
            inputs.insert("guidance", NDArray::new(&[rows.len()], &vec![parameters.guidance; rows.len()])?);
        }
        GuidanceInput::Passes => {}
    }
    Ok(inputs)
}

/// Original size, crop corner and target size, all as if the picture was drawn whole (Podell et al. 2023); in place of
/// the target size a refiner takes a score of beauty, which is low for the negative prompt.
fn size_numbers(task: &Task<'_>, parameters: &Parameters) -> Vec<f32> {
    const SCORES: [f32; 2] = [2.5, 6.0];
    let (height, width) = (parameters.size.height as f32, parameters.size.width as f32);
    let passes: Vec<usize> = match parameters.passes {
        1 => vec![1],
        3 if parameters.by_picture() => vec![1, 0, 0],
        passes => (0..passes).map(|pass| pass.min(1)).collect(),
    };
    let of = |pass: usize| match task.time_ids {
        5 => vec![height, width, 0.0, 0.0, SCORES[pass]],
        _ => vec![height, width, 0.0, 0.0, height, width],
    };
    passes.iter().flat_map(|&pass| of(pass).repeat(parameters.count)).collect()
}

/// The prediction for each picture: that of the prompt, led away from the negative one's if there is one, and from that
/// without the picture (Brooks et al. 2023).
fn guided(output: &[f32], request: &Request, parameters: &Parameters) -> Result<Vec<f32>> {
    if parameters.passes == 1 {
        return Ok(output.to_vec());
    }
    if parameters.by_picture() {
        let third = output.len() / 3;
        let (text, image, none) = (&output[..third], &output[third..2 * third], &output[2 * third..]);
        let mut prediction =
            guidance::guide_by_picture([text, image, none], parameters.guidance, parameters.image_guidance)?;
        if request.guidance_rescale > 0.0 {
            guidance::rescale(&mut prediction, text, request.guidance_rescale, third / request.count)?;
        }
        return Ok(prediction);
    }
    let mut passes = output.chunks(output.len() / parameters.passes);
    let (Some(negative), Some(positive)) = (passes.next(), passes.next()) else {
        fail!(Internal, "guidance without two passes")
    };
    let weights = parameters.prompts.weights();
    let mut prediction = positive.to_vec();
    guidance::guide(&mut prediction, negative, parameters.guidance * weights.first().copied().unwrap_or(1.0))?;
    for (further, weight) in passes.zip(weights.iter().skip(1)) {
        guidance::compose(&mut prediction, further, negative, parameters.guidance * weight)?;
    }
    if request.guidance_rescale > 0.0 {
        guidance::rescale(&mut prediction, positive, request.guidance_rescale, positive.len() / request.count)?;
    }
    Ok(prediction)
}

/// The guidance scale as models distilled with guidance take it: sinusoids of `1000 (scale - 1)`, sines first
/// (Luo et al. 2023, as in diffusers' `get_guidance_scale_embedding`).
fn scale_embedding(scale: f32, width: usize) -> Vec<f32> {
    let half = width / 2;
    let position = (scale - 1.0) * 1000.0;
    let step = 10_000_f32.ln() / (half.max(2) - 1) as f32;
    let angles: Vec<f32> = (0..half).map(|i| position * (-step * i as f32).exp()).collect();
    let waves = angles.iter().map(|a| a.sin()).chain(angles.iter().map(|a| a.cos()));
    waves.chain(std::iter::repeat_n(0.0, width % 2)).collect()
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
