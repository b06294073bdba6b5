//! What a drawing yields: pictures, and what it takes to draw them again or to check them.

use ondine_graph::{NDArray, Result, fail};

use super::{
    conditioning::Conditioning,
    denoise::Denoised,
    model::TextToImage,
    parameters::{Parameters, Size},
};
use crate::{
    codec::Picture,
    infotext::{Infotext, ZERO_SNR, told::ToldPrompt},
    prompt::emphasis::Emphasis,
    request::Request,
    sampler::{SamplerEntry, ScheduleEntry},
};

/// Finished pictures with the parameters that made them.
#[derive(Clone, Debug)]
pub struct Pictures {
    size: Size,
    /// `[count, 3, height, width]` in 0..1.
    images: NDArray,
    infotext: Infotext,
    /// The negative prompt, if guidance used one, and the prompt.
    prompts: Vec<Conditioning>,
    timesteps: Vec<f32>,
    trail: Vec<NDArray>,
    calls: usize,
}

impl Pictures {
    pub(super) fn new(
        model: &TextToImage,
        request: &Request,
        parameters: &Parameters,
        prompts: Vec<Conditioning>,
        denoised: Denoised,
        images: &[f32],
    ) -> Result<Self> {
        let Size { width, height } = parameters.size;
        Ok(Self {
            size: parameters.size,
            images: NDArray::new(&[request.count, 3, height, width], images)?,
            infotext: infotext(model, request, parameters),
            prompts,
            timesteps: parameters.sampler.timesteps().to_vec(),
            trail: denoised.trail,
            calls: denoised.calls,
        })
    }

    /// How many pictures there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.images.shape()[0]
    }

    /// Width and height of each.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// How often the whole U-Net was called.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// All pictures, `[count, 3, height, width]`, red, green and blue in 0..1.
    #[must_use]
    pub fn images(&self) -> &NDArray {
        &self.images
    }

    /// How picture `index` was made, as A1111 writes it.
    #[must_use]
    pub fn infotext(&self, index: usize) -> Infotext {
        let seed = self.infotext.seed.map(|seed| seed.wrapping_add(index as u64));
        Infotext { seed, ..self.infotext.clone() }
    }

    /// Picture `index` in 8 bits.
    ///
    /// # Errors
    /// If there is no such picture.
    pub fn picture(&self, index: usize) -> Result<Picture> {
        let each = 3 * self.size.width * self.size.height;
        let Some(planes) = self.images.view::<f32>()?.chunks_exact(each).nth(index) else {
            fail!(Argument, "there is no picture {index} of {}", self.count());
        };
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        Picture::from_planes(planes, side(self.size.width), side(self.size.height))
    }

    /// Everything that a check of the drawing looks at, by name: `prompt_embeds`, `negative_embeds`, `timesteps`,
    /// `latents_0` (the start) to `latents_n` (after the last call of the denoiser), `image`.
    ///
    /// # Errors
    /// If the prompt was not encoded, which cannot be.
    pub fn dump(&self) -> Result<Vec<(String, NDArray)>> {
        let mut tensors = Vec::new();
        for (conditioning, name) in self.prompts.iter().rev().zip(["prompt", "negative"]) {
            tensors.push((format!("{name}_embeds"), conditioning.hidden()?.clone()));
            if let Some(pooled) = &conditioning.pooled {
                tensors.push((format!("{name}_pooled"), pooled.clone()));
            }
        }
        tensors.push(("timesteps".to_owned(), NDArray::new(&[self.timesteps.len()], &self.timesteps)?));
        tensors.extend(self.trail.iter().enumerate().map(|(i, latents)| (format!("latents_{i}"), latents.clone())));
        tensors.push(("image".to_owned(), self.images.clone()));
        Ok(tensors)
    }
}

fn infotext(model: &TextToImage, request: &Request, parameters: &Parameters) -> Infotext {
    let sampler = SamplerEntry::of(&parameters.scheduler);
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    let mut extra: Vec<(String, String)> = Vec::new();
    let mut add = |key: &str, value: String| extra.push((key.to_owned(), value));
    if let Some((seed, strength)) = request.variation {
        add("Variation seed", seed.to_string());
        add("Variation seed strength", strength.to_string());
    }
    if parameters.picture && !parameters.by_picture() {
        add("Denoising strength", parameters.strength.to_string());
        if let Some(tool) = request.like {
            add("Like", tool.name().to_owned());
        }
    }
    if parameters.by_picture() {
        add("Image CFG scale", parameters.image_guidance.to_string());
    }
    if let Some(layer) = request.clip_skip.filter(|layer| *layer > 1) {
        add("Clip skip", layer.to_string());
    }
    if parameters.marks && request.emphasis != Emphasis::Original {
        add("Emphasis", request.emphasis.to_string());
    }
    if !model.adapters.is_empty() {
        let named: Vec<_> = model.adapters.iter().map(|(name, strength)| format!("{name}:{strength}")).collect();
        add("Lora", named.join(", "));
    }
    if !model.words.is_empty() {
        add("Embeddings", model.words.join(", "));
    }
    for (i, (prompter, prompt)) in model.prompters.iter().zip(&request.image_prompts).enumerate() {
        let (model, weight) = (prompter.name.clone(), prompt.scale);
        let told = ToldPrompt { model, image: prompt.name.clone(), weight };
        add(&format!("{} {i}", ToldPrompt::KEY), told.to_string());
    }
    for (i, control) in request.controls.iter().enumerate() {
        let name = model.controls.get(control.network).map_or("", |(name, _)| name);
        let (scale, start, end) = (control.scale, control.start, control.end);
        add(
            &format!("ControlNet {i}"),
            format!("Model: {name}, Weight: {scale}, Guidance Start: {start}, Guidance End: {end}"),
        );
    }
    if !parameters.references.is_empty() {
        add("Reference pictures", parameters.references.len().to_string());
    }
    if let Some(eta) = parameters.eta {
        add("Eta", eta.to_string());
    }
    if let Some(timesteps) = &parameters.scheduler.timesteps {
        add("Timesteps", timesteps.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
    }
    extra.extend(guidance_pairs(request, parameters));
    let mut add = |key: &str, value: String| extra.push((key.to_owned(), value));
    if let Some(speedup) = parameters.speedup {
        add("Cache", speedup.name().to_owned());
    }
    add("RNG", request.generator.a1111().to_owned());
    Infotext {
        prompt: request.prompt.clone(),
        negative_prompt: request.negative.clone().unwrap_or_default(),
        steps: u32::try_from(parameters.steps).ok(),
        sampler: Some(sampler.map_or(parameters.scheduler.class.name(), |entry| entry.label).to_owned()),
        schedule: ScheduleEntry::of(&parameters.scheduler).map(|entry| entry.label.to_owned()),
        // As written by a person: 7.1, not the 7.099999904632568 that its f32 is.
        cfg_scale: parameters.guidance.to_string().parse().ok(),
        seed: Some(request.seed),
        size: Some((side(parameters.size.width), side(parameters.size.height))),
        model: Some(model.name.clone()),
        extra,
        version: Some(concat!("Ondine ", env!("CARGO_PKG_VERSION")).to_owned()),
        ..Infotext::default()
    }
}

/// How guidance and prediction were changed.
fn guidance_pairs(request: &Request, parameters: &Parameters) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut add = |key: &str, value: String| pairs.push((key.to_owned(), value));
    let [start, end] = parameters.guided;
    if parameters.passes > 1 && (start, end) != (0.0, 1.0) {
        add("Guidance start", start.to_string());
        add("Guidance end", end.to_string());
    }
    if parameters.passes > 1 && request.guidance_rescale > 0.0 {
        add("Guidance rescale", request.guidance_rescale.to_string());
    }
    if let Some(prediction) = request.prediction {
        add("Prediction", prediction.name().to_owned());
    }
    if let Some(zero) = request.zero_snr {
        add("Noise Schedule", if zero { ZERO_SNR } else { "Default" }.to_owned());
    }
    pairs
}
