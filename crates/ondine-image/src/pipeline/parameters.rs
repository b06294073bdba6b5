//! A request with every choice made.

use ondine_graph::{Result, fail};

use super::model::TextToImage;
use crate::{
    request::{MAX_SIDE, Request},
    sampler::{self, Sampler},
    schedule::{SchedulerClass, SchedulerConfig},
};

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels from left to right.
    pub width: usize,
    /// Pixels from top to bottom.
    pub height: usize,
}

/// What a drawing goes by.
pub(super) struct Parameters {
    pub(super) size: Size,
    /// Number of pictures.
    pub(super) count: usize,
    /// Channels, height and width of the latents of a picture.
    pub(super) latents: [usize; 3],
    pub(super) steps: usize,
    pub(super) guidance: f32,
    /// 2 with guidance: the negative prompt's pass and the prompt's.
    pub(super) passes: usize,
    pub(super) scheduler: SchedulerConfig,
    pub(super) sampler: Box<dyn Sampler>,
}

impl Parameters {
    /// Makes every choice that the request leaves open, and refuses what is impossible.
    pub(super) fn new(model: &TextToImage, request: &Request) -> Result<Self> {
        request.check()?;
        let scheduler = scheduler(model, request)?;
        let few_steps = matches!(scheduler.class, SchedulerClass::Lcm | SchedulerClass::Tcd);
        let steps = request.steps.or(model.defaults.steps).unwrap_or(if few_steps { 4 } else { 20 });
        let options = sampler::Options { eta: request.eta, ..sampler::Options::default() };
        let sampler = sampler::sampler(&scheduler, steps, &options)?;
        let embedded = model.denoiser.guidance_width.is_some();
        // What the pipelines of diffusers take: networks that know the picture's size need less.
        let usual = match (embedded, few_steps, model.denoiser.text_and_sizes) {
            (false, true, _) => 1.0,
            (_, _, true) => 5.0,
            (true, _, false) => 8.5,
            (false, false, false) => 7.5,
        };
        let guidance = request.guidance.or(model.defaults.guidance).unwrap_or(usual);
        let passes = if guidance > 1.0 && !embedded { 2 } else { 1 };
        let size = size(model, request)?;
        let [height, width] = [size.height, size.width].map(|side| side / model.latents.factor);
        let latents = [model.latents.channels, height, width];
        Ok(Self { size, count: request.count, latents, steps, guidance, passes, scheduler, sampler })
    }

    /// Latents in one call of the denoiser.
    pub(super) fn batch(&self) -> usize {
        self.passes * self.count
    }

    /// The texts to encode: the negative prompt, if guidance needs it, and the prompt.
    pub(super) fn texts<'a>(&self, request: &'a Request) -> Vec<&'a str> {
        let texts = [request.negative.as_deref().unwrap_or_default(), request.prompt.as_str()];
        texts[2 - self.passes..].to_vec()
    }
}

fn size(model: &TextToImage, request: &Request) -> Result<Size> {
    let factor = model.latents.factor;
    let [native_height, native_width] = model.denoiser.native.map(|side| side.saturating_mul(factor));
    let (height, width) = (request.height.unwrap_or(native_height), request.width.unwrap_or(native_width));
    for (name, side) in [("height", height), ("width", width)] {
        if side == 0 || side % factor != 0 || side > MAX_SIDE {
            let near = (side / factor * factor).clamp(factor, MAX_SIDE / factor * factor);
            fail!(Argument, "{name} {side} is no multiple of {factor} up to {MAX_SIDE}; try {near}");
        }
    }
    Ok(Size { width, height })
}

fn scheduler(model: &TextToImage, request: &Request) -> Result<SchedulerConfig> {
    let mut scheduler = model.scheduler.clone();
    if let Some(name) = &request.sampler {
        scheduler = scheduler.with_sampler(name)?;
    }
    if let Some(name) = &request.schedule {
        scheduler = scheduler.with_schedule(name)?;
    }
    Ok(scheduler)
}
