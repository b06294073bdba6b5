//! A request with every choice made.

use ondine_graph::{Result, fail};
use ondine_models::{GuidanceInput, LevelShift, TextLayout};

use super::{beside::Beside, model::TextToImage, prompts::Prompts, text::Encoder};
use crate::{
    prompt::{attention::spans, chunks::chunks, emphasis::Emphasis},
    request::{Control, Init, MAX_SIDE, Request, Speedup, Tool},
    sampler::{self, Sampler, sampler_entries},
    schedule::{SchedulerClass, SchedulerConfig, empirical_mu},
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
    #[must_use]
    pub fn size(&self) -> Size {
        let [height, width] = self.facts.native.map(|side| side.saturating_mul(self.latents.factor));
        Size { width, height }
    }
}

impl TextToImage {
    /// Pixels that a latent stands for, along each side, or a square of latents where the denoiser takes squares: what
    /// sizes are multiples of.
    #[must_use]
    pub fn latent_factor(&self) -> usize {
        self.latents.factor.saturating_mul(self.facts.patch)
    }

    /// The size at which the model looks at a picture of `width` times `height`: of the sizes that it was trained on
    /// that of the closest shape, or the picture's own, in whole latents and with no more pixels than it draws.
    #[must_use]
    pub fn reference_size(&self, width: usize, height: usize) -> Size {
        let shape = |width: usize, height: usize| width.max(1) as f64 / height.max(1) as f64;
        let own = shape(width, height);
        let apart = |[width, height]: &[usize; 2]| (shape(*width, *height) - own).abs();
        let sizes = self.facts.references.sizes.iter();
        if let Some(&[width, height]) = sizes.min_by(|a, b| apart(a).total_cmp(&apart(b))) {
            return Size { width, height };
        }
        let native = self.size();
        let share = (native.width * native.height) as f64 / (width.max(1) as f64 * height.max(1) as f64);
        let (scale, factor) = (share.sqrt().min(1.0), self.latent_factor());
        let side = |pixels: usize| ((pixels as f64 * scale / factor as f64 + 1e-9) as usize * factor).max(factor);
        Size { width: side(width), height: side(height) }
    }

    /// The size to draw at if a picture of `width` times `height` is begun with: its own, in whole latents, or one of
    /// the same shape with as many pixels as the model was made for, if it has less than a quarter or more than twice
    /// of these.
    #[must_use]
    pub fn size_for(&self, width: usize, height: usize) -> Size {
        let native = self.size();
        let area = |size: &Size| size.width as f64 * size.height as f64;
        let own = Size { width: width.max(1), height: height.max(1) };
        let share = area(&own) / area(&native).max(1.0);
        let scale = if (0.25..=2.0).contains(&share) { 1.0 } else { (1.0 / share).sqrt() };
        let factor = self.latent_factor();
        let most = MAX_SIDE / factor * factor;
        let side = |pixels: usize| {
            let scaled = pixels as f64 * scale;
            // As diffusers does with pictures that need no scaling: rounded down.
            ((scaled / factor as f64 + 1e-9) as usize * factor).clamp(factor, most)
        };
        Size { width: side(own.width), height: side(own.height) }
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
    /// What the guidance is of models of this kind if nobody says otherwise.
    pub(super) usual_guidance: f32,
    /// The scale that does not guide.
    pub(super) unguided: f32,
    /// Scale of guidance by the picture, of denoisers that take one beside the latents.
    pub(super) image_guidance: f32,
    /// With guidance one for the negative prompt and one for each that is composed; 3 with guidance by a picture, too.
    pub(super) passes: usize,
    /// The texts, and when they guide.
    pub(super) prompts: Prompts,
    /// True if marks in prompts mean something to this model.
    pub(super) marks: bool,
    /// Layers of text encoders that are left out at the end.
    pub(super) skip: usize,
    /// Pieces in which texts are read.
    pub(super) pieces: usize,
    /// What the denoiser takes beside the latents.
    pub(super) beside: Beside,
    /// The first call of the sampler: those before it are left out if there is a picture to begin with.
    pub(super) first: usize,
    /// True if there is a picture to begin with.
    pub(super) picture: bool,
    /// How much of it is drawn anew.
    pub(super) strength: f64,
    /// The share of fresh noise, if it was chosen.
    pub(super) eta: Option<f64>,
    /// How steps are made cheaper.
    pub(super) speedup: Option<Speedup>,
    /// The shares of the steps between which more guides than the prompt.
    pub(super) guided: [f64; 2],
    /// Height and width of the latents of pictures that it looks at.
    pub(super) references: Vec<[usize; 2]>,
    /// Pictures whose content is a prompt.
    pub(super) image_prompts: usize,
    /// The networks that steer, by number.
    pub(super) controls: Vec<usize>,
    pub(super) scheduler: SchedulerConfig,
    pub(super) sampler: Box<dyn Sampler>,
}

impl Parameters {
    /// Makes every choice that the request leaves open, and refuses what is impossible.
    pub(super) fn new(model: &TextToImage, request: &Request) -> Result<Self> {
        request.check()?;
        let preset = request.preset;
        let flow = model.facts.flow;
        let (scheduler, steps, few_steps) = steps(model, request)?;
        let size = size(model, request)?;
        let [height, width] = [size.height, size.width].map(|side| side / model.latents.factor);
        let eta = request.eta.or(preset.and_then(|preset| preset.eta));
        let edit = edit(model, request, &scheduler, steps)?;
        let total = edit.map_or(steps, |edit| edit.total);
        let options = sampler::Options { eta, ..options(model, request, &scheduler, total, height * width) };
        let sampler = sampler::sampler(&scheduler, total, &options)?;
        let embedded = model.facts.guidance != GuidanceInput::Passes;
        // What the pipelines of diffusers take: networks that know the picture's size need less.
        let usual = match (flow, embedded, few_steps, model.facts.text_and_sizes) {
            (Some(flow), ..) => flow.guidance,
            (None, false, true, _) => 1.0,
            (None, _, _, true) => 5.0,
            (None, true, _, false) => 8.5,
            (None, false, false, false) => 7.5,
        };
        let guidance = request.guidance.or(preset.map(|preset| preset.guidance)).or(model.defaults.guidance);
        let guidance = guidance.unwrap_or(usual);
        let (beside, image_guidance) = (model.beside, request.image_guidance.unwrap_or(1.5));
        let unguided = flow.map_or(1.0, |flow| flow.unguided);
        let guided = guidance > unguided && !embedded;
        let reads_marks = |encoder: &Encoder| encoder.tokenizer.spells_everything() && !encoder.tokenizer.chats();
        let marks = !model.encoders.is_empty() && model.encoders.iter().all(reads_marks);
        let prompts = Prompts::new(request, total, guided, marks);
        let composed = prompts.weights().len();
        let passes = match (guided, beside) {
            (false, _) => 1,
            (true, Beside::Picture) if composed > 1 => {
                fail!(
                    Argument,
                    "models that change a picture take one prompt, and this is composed of {composed} with AND"
                )
            }
            (true, Beside::Picture) if image_guidance >= 1.0 => 3,
            (true, _) => 1 + composed,
        };
        let pieces = pieces(model, request, &prompts, marks)?;
        let first = match (&request.init, edit) {
            (Some(init), Some(Edit { total, kept, .. })) => {
                check_init(init, request.count, size)?;
                let first = (total - kept) * scheduler.class.calls_per_step();
                first.min(sampler.timesteps().len() - 1)
            }
            _ => without_picture(model).map(|()| 0)?,
        };
        check_controls(&request.controls, model.controls.len(), [size.height, size.width])?;
        let latents = [model.latents.channels, height, width];
        Ok(Self {
            size,
            count: request.count,
            latents,
            steps,
            guidance,
            usual_guidance: usual,
            unguided,
            image_guidance,
            passes,
            prompts,
            marks,
            skip: skipped(model, request)?,
            pieces,
            beside,
            first,
            picture: request.init.is_some(),
            strength: edit.map_or(1.0, |edit| edit.strength),
            eta,
            speedup: speedup(request, &scheduler, steps, few_steps || embedded)?,
            guided: interval(request, passes > 2)?,
            references: references(model, request)?,
            image_prompts: model.check_image_prompts(&request.image_prompts)?,
            controls: request.controls.iter().map(|control| control.network).collect(),
            scheduler,
            sampler,
        })
    }

    /// What a person should know whose guidance does not do what it does elsewhere, if anything.
    pub(super) fn about_guidance(&self, request: &Request) -> Option<String> {
        if self.usual_guidance <= self.unguided && self.passes > 1 {
            let scale = self.guidance;
            return Some(format!(
                "the model was distilled to draw without guidance: {scale} takes twice the time and may spoil the picture"
            ));
        }
        let negative = request.negative.as_ref().is_some_and(|text| !text.trim().is_empty());
        (negative && self.passes == 1)
            .then(|| "the negative prompt has no effect: the model is not guided by a second pass here".to_owned())
    }

    /// What a person should know whose model may be another than the one that it is drawn as, if anything.
    pub(super) fn about_distillation(&self, model: &TextToImage, request: &Request) -> Option<String> {
        let (steps, guidance) = model.facts.flow.and_then(|flow| flow.undistilled)?;
        let said = request.steps.is_some() || request.guidance.is_some() || request.preset.is_some();
        let open = !said && model.defaults.steps.is_none() && model.defaults.guidance.is_none();
        open.then(|| {
            format!(
                "drawn in {} steps without guidance, as the distilled model (Turbo) is; no file says which it is: for the one \
                 that it was distilled from give --steps {steps} --guidance {guidance}",
                self.steps
            )
        })
    }

    /// Latents in one call of the denoiser.
    pub(super) fn batch(&self) -> usize {
        self.passes * self.count
    }

    /// The texts to encode.
    pub(super) fn texts(&self) -> Vec<&str> {
        self.prompts.texts.iter().map(String::as_str).collect()
    }

    /// True if a picture guides, too.
    pub(super) fn by_picture(&self) -> bool {
        self.beside == Beside::Picture && self.passes == 3
    }

    /// True if a picture of the size to draw is encoded before anything is drawn.
    pub(super) fn encodes_own(&self) -> bool {
        self.picture || self.beside != Beside::Nothing
    }

    /// True if pictures are encoded before anything is drawn.
    pub(super) fn begins_with_picture(&self) -> bool {
        self.encodes_own() || !self.references.is_empty()
    }

    /// True if more than the prompt guides a call.
    pub(super) fn guides(&self, index: usize, total: usize) -> bool {
        let share = index as f64 / total as f64;
        let [start, end] = self.guided;
        share >= start && (share < end || end >= 1.0)
    }

    /// The calls of the denoiser.
    pub(super) fn calls(&self) -> usize {
        self.sampler.timesteps().len() - self.first
    }
}

/// Layers at the end of text encoders whose states are not the text. Of networks that know the picture's size, or join
/// the texts of several encoders, the text is the states before the last layer, which others count as 2.
fn skipped(model: &TextToImage, request: &Request) -> Result<usize> {
    let chats = matches!(model.facts.text, TextLayout::Chat { .. } | TextLayout::Instructed { .. });
    if chats && request.clip_skip.is_some() {
        fail!(Argument, "clip-skip is for text encoders of CLIP, and this model's is a language model: leave it out");
    }
    let before_last = model.facts.text_and_sizes || matches!(model.facts.text, TextLayout::Joined { .. });
    Ok(match (request.clip_skip, before_last) {
        (None, _) => 0,
        (Some(layer), true) => layer.saturating_sub(2),
        (Some(layer), false) => layer - 1,
    })
}

/// In how many pieces the model reads the longest text.
fn pieces(model: &TextToImage, request: &Request, prompts: &Prompts, marks: bool) -> Result<usize> {
    let Some(Encoder { tokenizer, .. }) = model
        .encoders
        .first()
        .filter(|encoder| marks && encoder.tokenizer.lead() > 0 && request.emphasis != Emphasis::Off)
    else {
        return Ok(1);
    };
    let mut most = 1;
    for text in &prompts.texts {
        most = most.max(chunks(tokenizer, &spans(text))?.0.len());
    }
    Ok(most)
}

/// Refuses what no network can be steered by.
fn check_controls(controls: &[Control], networks: usize, [height, width]: [usize; 2]) -> Result<()> {
    for control in controls {
        let Control { network, image, scale, start, end } = control;
        if *network >= networks {
            fail!(Argument, "there is no network {network} that steers the drawing; there are {networks}");
        }
        if image.shape() != [1, 3, height, width] {
            fail!(Shape, "the picture that steers has shape {:?}, not [1, 3, {height}, {width}]", image.shape());
        }
        if !(scale.is_finite() && (0.0..=1.0).contains(start) && start < end && *end <= 1.0) {
            fail!(
                Argument,
                "a picture steers with strength {scale} from {start} to {end}; give a finite strength, and a start below \
                 the end, both in 0..1"
            );
        }
    }
    Ok(())
}

/// Below so many steps nothing is to be saved.
pub(super) const FEWEST_STEPS: usize = 12;

/// How steps are made cheaper, if there are enough of them.
fn speedup(request: &Request, scheduler: &SchedulerConfig, steps: usize, few: bool) -> Result<Option<Speedup>> {
    let Some(speedup) = request.speedup else { return Ok(None) };
    let name = speedup.name();
    if few {
        fail!(Argument, "speedup {name} is for many steps, and this model or sampler draws in a few: leave it out");
    }
    if scheduler.class.calls_per_step() > 1 {
        fail!(
            Argument,
            "speedup {name} does not go with {}, which calls the network twice a step; choose another sampler",
            scheduler.class
        );
    }
    if speedup == Speedup::DeepCache && !request.controls.is_empty() {
        fail!(Argument, "speedup deepcache does not go with pictures that steer; choose spectrum");
    }
    Ok((steps >= FEWEST_STEPS).then_some(speedup))
}

/// The steps that more guides than the prompt.
fn interval(request: &Request, several: bool) -> Result<[f64; 2]> {
    let [start, end] = [request.guidance_start, request.guidance_end];
    if start >= end {
        fail!(Argument, "guidance-start is {start} and guidance-end {end}; give a start below the end");
    }
    if several && (start, end) != (0.0, 1.0) {
        fail!(Argument, "guidance-start and guidance-end go with one prompt, and no picture that guides");
    }
    Ok([start, end])
}

/// Height and width of the latents of pictures to look at; refuses those that the model cannot look at.
fn references(model: &TextToImage, request: &Request) -> Result<Vec<[usize; 2]>> {
    let (given, most) = (request.references.len(), model.facts.references.most);
    if given > 0 && most == 0 {
        fail!(
            Argument,
            "the model looks at no picture beside the one that it draws, as FLUX.2-klein and FLUX.1 Kontext do: give it \
             one to begin with, or none"
        );
    }
    if given > most {
        fail!(Argument, "{given} pictures to look at are given; the model looks at up to {most}");
    }
    let factor = model.latent_factor();
    let sides = |image: &ondine_graph::NDArray| match image.shape() {
        [1, 3, height, width]
            if [height, width].iter().all(|&&side| side > 0 && side % factor == 0 && side <= MAX_SIDE) =>
        {
            Ok([height, width].map(|side| side / model.latents.factor))
        }
        shape => {
            fail!(Shape, "a picture to look at has shape {shape:?}, not [1, 3, height, width] in multiples of {factor}")
        }
    };
    request.references.iter().map(sides).collect()
}

/// Refuses pictures to begin with that are not of the size to draw.
fn check_init(init: &Init, count: usize, size: Size) -> Result<()> {
    let Size { width, height } = size;
    match init.image.shape() {
        [n, 3, h, w] if (*h, *w) == (height, width) && (*n == 1 || *n == count) => {}
        shape => {
            fail!(Shape, "the picture to begin with has shape {shape:?}, not [1 or {count}, 3, {height}, {width}]")
        }
    }
    match init.mask.as_ref().map(ondine_graph::NDArray::shape) {
        None => Ok(()),
        Some([1, 1, h, w]) if (*h, *w) == (height, width) => Ok(()),
        Some(shape) => fail!(Shape, "the mask has shape {shape:?}, not [1, 1, {height}, {width}]"),
    }
}

/// Refuses models that make pictures of pictures alone.
fn without_picture(model: &TextToImage) -> Result<()> {
    if model.beside == Beside::Picture {
        fail!(Argument, "the model changes a picture: give one with --init FILE");
    }
    if model.time_ids < 6 {
        fail!(Argument, "the model is a refiner, which makes a picture of a picture: give one with --init FILE");
    }
    Ok(())
}

/// How a picture that is there is drawn on.
#[derive(Clone, Copy)]
struct Edit {
    /// What of it is drawn anew.
    strength: f64,
    /// Steps of the schedule.
    total: usize,
    /// The last of them, which are made.
    kept: usize,
}

/// How the picture to begin with, if any, is drawn on.
fn edit(model: &TextToImage, request: &Request, scheduler: &SchedulerConfig, steps: usize) -> Result<Option<Edit>> {
    let Some(init) = &request.init else { return Ok(None) };
    let strength = request.strength.unwrap_or(if init.mask.is_some() { 1.0 } else { 0.8 });
    let drawn = if model.beside == Beside::Picture { 1.0 } else { strength };
    // The pipelines of flow models round up.
    let up = scheduler.class.is_flow();
    let (total, kept) = request.like.map(Tool::edit_steps).unwrap_or_default().of(steps, drawn, up)?;
    if total != steps && scheduler.timesteps.is_some() {
        fail!(Argument, "--timesteps say where the steps are, and --like asks for others; give one of them");
    }
    Ok(Some(Edit { strength, total, kept }))
}

fn size(model: &TextToImage, request: &Request) -> Result<Size> {
    let (factor, native) = (model.latent_factor(), model.size());
    let most = model.facts.most.map_or(MAX_SIDE, |most| most.saturating_mul(model.latents.factor).min(MAX_SIDE));
    let given = request.init.as_ref().map(|init| &init.image).or(request.references.first());
    let own = given.and_then(|image| match image.shape() {
        [_, _, height, width] => Some(Size { width: *width, height: *height }),
        _ => None,
    });
    let usual = own.unwrap_or(native);
    let (height, width) = (request.height.unwrap_or(usual.height), request.width.unwrap_or(usual.width));
    for (name, side) in [("height", height), ("width", width)] {
        if side == 0 || side % factor != 0 || side > most {
            let near = (side / factor * factor).clamp(factor, (most / factor * factor).max(factor));
            fail!(Argument, "{name} {side} is no multiple of {factor} up to {most}; try {near}");
        }
    }
    Ok(Size { width, height })
}

/// The scheduler, how many steps it takes, and whether it is made for few.
fn steps(model: &TextToImage, request: &Request) -> Result<(SchedulerConfig, usize, bool)> {
    let scheduler = scheduler(model, request)?;
    let few = matches!(scheduler.class, SchedulerClass::Lcm | SchedulerClass::Tcd | SchedulerClass::Scm);
    let given = request.timesteps.as_ref().map(Vec::len);
    let of_preset = request.preset.map(|preset| preset.steps);
    let usual = model.facts.flow.map_or(if few { 4 } else { 20 }, |flow| flow.steps);
    let steps = request.steps.or(given).or(of_preset).or(model.defaults.steps).unwrap_or(usual);
    let usual = request.preset.filter(|preset| request.sampler.is_none() && preset.timesteps.len() == steps);
    match request.timesteps.as_deref().or(usual.map(|preset| preset.timesteps)) {
        Some(timesteps) => Ok((scheduler.with_timesteps(timesteps, steps)?, steps, few)),
        None => Ok((scheduler, steps, few)),
    }
}

fn scheduler(model: &TextToImage, request: &Request) -> Result<SchedulerConfig> {
    let mut scheduler = model.scheduler.clone();
    if let Some(prediction) = request.prediction {
        scheduler = scheduler.with_prediction(prediction)?;
    }
    if let Some(zero) = request.zero_snr {
        scheduler = scheduler.with_zero_snr(zero)?;
    }
    let preset = request.preset;
    if let Some(name) = request.sampler.as_deref().or(preset.map(|preset| preset.sampler)) {
        scheduler = scheduler.with_sampler(name)?;
    }
    if model.facts.flow.is_some() {
        scheduler = scheduler.on_flow()?;
    } else if scheduler.is_on_flow() {
        fail!(Argument, "{} is for models of rectified flow, which this is none of; choose another", scheduler.class);
    }
    // The schedule of a preset is that of its sampler.
    let usual = preset.filter(|_| request.sampler.is_none()).and_then(|preset| preset.schedule);
    if let Some(name) = request.schedule.as_deref().or(usual) {
        scheduler = scheduler.with_schedule(name)?;
    }
    if request.zero_snr == Some(true) && !scheduler.class.takes_zero_snr() {
        let able: Vec<_> =
            sampler_entries().iter().filter(|entry| entry.class.takes_zero_snr()).map(|entry| entry.id).collect();
        fail!(
            Argument,
            "{} cannot begin at noise alone, as a model with zero terminal SNR must; choose another sampler, such as {}",
            scheduler.class,
            able.join(", ")
        );
    }
    Ok(scheduler)
}

/// What a sampler is told besides its config, of a picture of so many latents.
fn options(
    model: &TextToImage,
    request: &Request,
    scheduler: &SchedulerConfig,
    steps: usize,
    latents: usize,
) -> sampler::Options {
    let eta = request.eta;
    let Some(flow) = model.facts.flow else { return sampler::Options { eta, ..sampler::Options::default() } };
    let tokens = latents / model.facts.patch.pow(2);
    let even = |i: usize| 1.0 - i as f64 * (1.0 - 1.0 / steps as f64) / (steps.max(2) - 1) as f64;
    let sigmas = flow.even_levels.then(|| (0..steps).map(even).collect());
    let mu = || match flow.shift {
        LevelShift::Line => scheduler.flow.mu(tokens),
        LevelShift::Empirical => empirical_mu(tokens, steps),
    };
    sampler::Options { eta, mu: scheduler.flow.dynamic.then(mu), sigmas }
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

    #[test]
    fn pictures_that_cannot_steer_are_refused() {
        let image = ondine_graph::NDArray::zeros(ondine_graph::DType::F32, &[1, 3, 8, 8]).unwrap();
        let good = Control { network: 0, image, scale: 1.0, start: 0.0, end: 1.0 };
        assert!(check_controls(std::slice::from_ref(&good), 1, [8, 8]).is_ok());
        for bad in [
            Control { network: 1, ..good.clone() },
            Control { scale: f32::NAN, ..good.clone() },
            Control { start: 0.5, end: 0.5, ..good.clone() },
            Control { end: 1.5, ..good.clone() },
        ] {
            assert!(check_controls(&[bad], 1, [8, 8]).is_err());
        }
        assert!(check_controls(&[good], 1, [8, 16]).is_err());
    }
}
