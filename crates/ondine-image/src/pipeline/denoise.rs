//! The denoising loop: latents from noise, under the guidance of the prompt.

use std::{collections::BTreeMap, time::Instant};

use ondine_graph::{NDArray, Result, fail};
use ondine_runtime::{Function, State, Wish};

use super::{
    encode::{Conditioning, batch, takes},
    event::Event,
    parameters::Parameters,
};
use crate::{guidance, noise::NoiseSource, request::Request};

/// Latents at the end, and on the way if they were asked for.
pub(super) struct Denoised {
    /// `[count, channels, height, width]`.
    pub(super) latents: NDArray,
    /// Those at the start and after each call of the U-Net.
    pub(super) trail: Vec<NDArray>,
}

/// One generator per picture, so that each can be drawn again alone.
struct PerPicture(Vec<Box<dyn NoiseSource>>);

impl NoiseSource for PerPicture {
    fn normal(&mut self, out: &mut [f32]) {
        let each = out.len() / self.0.len().max(1);
        for (out, source) in out.chunks_mut(each.max(1)).zip(&mut self.0) {
            source.normal(out);
        }
    }
}

/// Runs the sampler over the U-Net. `prompts` are the negative one, if guidance needs it, and the prompt;
/// `guidance_width` is that of the guidance scale as the U-Net takes it, if it does.
pub(super) fn denoise(
    unet: &Function,
    prompts: &[&Conditioning],
    request: &Request,
    parameters: &mut Parameters,
    guidance_width: Option<usize>,
    wish: &Wish,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Denoised> {
    let [channels, height, width] = parameters.latents;
    let shape = [request.count, channels, height, width];
    let batch = parameters.batch();
    let mut noise =
        PerPicture((0..request.count as u64).map(|i| request.generator.seeded(request.seed.wrapping_add(i))).collect());
    let mut latents = initial_latents(request, &mut noise, &shape, parameters.sampler.init_noise_sigma())?;
    let mut inputs = fixed_inputs(unet, prompts, parameters, guidance_width)?;
    let timesteps = parameters.sampler.timesteps().to_vec();
    let mut trail = Vec::new();
    let mut state = State::default();
    let mut scaled = vec![0.0; latents.len()];
    observe(Event::Stage("denoising"));
    for (call, &timestep) in timesteps.iter().enumerate() {
        let start = Instant::now();
        keep(request, &mut trail, &shape, &latents)?;
        parameters.sampler.scale_model_input(call, &latents, &mut scaled);
        let sample = scaled.repeat(parameters.passes);
        inputs.insert("sample", NDArray::new(&[batch, channels, height, width], &sample)?);
        inputs.insert("timestep", NDArray::new(&[batch], &vec![timestep; batch])?);
        let named: Vec<_> = inputs.iter().map(|(name, array)| (*name, array)).collect();
        let output = unet.run_until(&named, &mut state, wish)?.take("out_sample")?;
        let prediction = guided(output.view::<f32>()?, request, parameters)?;
        parameters.sampler.step(call, &prediction, &mut latents, &mut noise)?;
        if latents.iter().any(|x| !x.is_finite()) {
            let (call, total) = (call + 1, timesteps.len());
            fail!(
                Argument,
                "step {call} of {total}: the latents are no longer numbers; try --precision f32 or less guidance"
            );
        }
        let (time, latents) = (start.elapsed(), &NDArray::new(&shape, &latents)?);
        observe(Event::Step { done: call + 1, total: timesteps.len(), time, latents });
    }
    keep(request, &mut trail, &shape, &latents)?;
    Ok(Denoised { latents: NDArray::new(&shape, &latents)?, trail })
}

fn keep(request: &Request, trail: &mut Vec<NDArray>, shape: &[usize], latents: &[f32]) -> Result<()> {
    if request.keep_latents {
        trail.push(NDArray::new(shape, latents)?);
    }
    Ok(())
}

/// Unit noise times the sampler's first sigma.
fn initial_latents(request: &Request, noise: &mut PerPicture, shape: &[usize], sigma: f32) -> Result<Vec<f32>> {
    let mut latents = vec![0.0; shape.iter().product()];
    match &request.noise {
        None => noise.normal(&mut latents),
        Some(given) if given.shape() == shape => latents.copy_from_slice(given.view::<f32>()?),
        Some(given) => fail!(Shape, "the noise has shape {:?}, the latents have {shape:?}", given.shape()),
    }
    latents.iter_mut().for_each(|x| *x *= sigma);
    Ok(latents)
}

/// The inputs that stay the same in all steps, of those that the U-Net takes.
fn fixed_inputs(
    unet: &Function,
    prompts: &[&Conditioning],
    parameters: &Parameters,
    guidance_width: Option<usize>,
) -> Result<BTreeMap<&'static str, NDArray>> {
    let rows: Vec<&Conditioning> =
        prompts.iter().flat_map(|prompt| std::iter::repeat_n(*prompt, parameters.count)).collect();
    let mut inputs = batch(&rows)?;
    let pooled = inputs.remove("pooled");
    let takes = |wanted: &str| takes(unet.graph(), wanted);
    if !takes("encoder_attention_mask") {
        inputs.remove("encoder_attention_mask");
    }
    for name in ["class_labels", "text_embeds"] {
        if takes(name) {
            let Some(pooled) = &pooled else { fail!(Unsupported, "the text encoder yields no {name}") };
            inputs.insert(name, pooled.clone());
        }
    }
    if takes("time_ids") {
        // Original size, crop corner and target size, all as if the picture was drawn whole (Podell et al. 2023).
        let (height, width) = (parameters.size.height as f32, parameters.size.width as f32);
        let ids = [height, width, 0.0, 0.0, height, width];
        inputs.insert("time_ids", NDArray::new(&[rows.len(), ids.len()], &ids.repeat(rows.len()))?);
    }
    if let Some(width) = guidance_width.filter(|_| takes("timestep_cond")) {
        let embedding = scale_embedding(parameters.guidance, width);
        inputs.insert("timestep_cond", NDArray::new(&[rows.len(), width], &embedding.repeat(rows.len()))?);
    }
    Ok(inputs)
}

/// The prediction for each picture: that of the prompt, led away from the negative one's if there is one.
fn guided(output: &[f32], request: &Request, parameters: &Parameters) -> Result<Vec<f32>> {
    if parameters.passes == 1 {
        return Ok(output.to_vec());
    }
    let (negative, positive) = output.split_at(output.len() / 2);
    let mut prediction = positive.to_vec();
    guidance::guide(&mut prediction, negative, parameters.guidance)?;
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
