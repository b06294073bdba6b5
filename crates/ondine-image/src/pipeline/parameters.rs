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

impl Size {
    /// What a person should know who asks for this size of a model whose own is `native`, if anything: far from it,
    /// things repeat or fall apart.
    pub(super) fn warning(self, native: Self) -> Option<String> {
        let share = |side: usize, native: usize| side as f64 / native.max(1) as f64;
        let (width, height) = (share(self.width, native.width), share(self.height, native.height));
        let usual = (0.5..=2.0).contains(&(width * height)) && width.max(height) < 2.0;
        let [Self { width, height }, native] = [self, native];
        (!usual).then(|| {
            format!(
                "the model was made for {}x{}; at {width}x{height} things may repeat or fall apart",
                native.width, native.height
            )
        })
    }
}

impl TextToImage {
    /// The size that the model was made for.
    pub(super) fn size(&self) -> Size {
        let [height, width] = self.denoiser.native.map(|side| side.saturating_mul(self.latents.factor));
        Size { width, height }
    }
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
    let (factor, native) = (model.latents.factor, model.size());
    let (height, width) = (request.height.unwrap_or(native.height), request.width.unwrap_or(native.width));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_far_from_the_model_s_own_are_told() {
        let size = |width, height| Size { width, height };
        for (native, usual, far) in [
            (
                size(512, 512),
                [size(512, 512), size(768, 512), size(512, 704)],
                [size(768, 768), size(256, 256), size(512, 1024)],
            ),
            (
                size(1024, 1024),
                [size(1536, 640), size(768, 768), size(832, 1216)],
                [size(512, 512), size(2048, 512), size(1536, 1536)],
            ),
            (
                size(128, 128),
                [size(128, 128), size(96, 128), size(160, 128)],
                [size(64, 64), size(256, 256), size(64, 512)],
            ),
        ] {
            for size in usual {
                assert_eq!(size.warning(native), None, "{size:?}");
            }
            for size in far {
                let words = format!("made for {}x{}", native.width, native.height);
                assert!(size.warning(native).is_some_and(|text| text.contains(&words)), "{size:?}");
            }
        }
    }
}
