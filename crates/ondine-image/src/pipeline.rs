//! Text to picture: encode the prompt, denoise latents under its guidance, decode them to pixels.
//!
//! [`TextToImage`] works for any diffusers folder of text encoders, a U-Net and an autoencoder. It never asks which
//! model it is: what the networks take and what their configs say decides (Rombach et al. 2022).

mod conditioning;
mod denoise;
mod pictures;
mod plan;

use std::time::Duration;

use ondine_models::{GraphSizes, LatentSpace, Network, Pipeline, Source, Tokenizer};
use ondine_runtime::{Bindings, Cache, Device, NDArray, Options, Plan, Precision, Prepared, State, profile};
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    noise::Generator,
    sampler::{self, Sampler},
    schedule::{SchedulerClass, SchedulerConfig},
};

pub use pictures::Pictures;
pub use plan::{MemoryPlan, StagePlan};

use conditioning::{Conditioning, TextEncoder, Wants};
use plan::Resident;

/// What to draw. `None` leaves a choice to the model.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the picture shows.
    pub prompt: String,
    /// What it does not show; only guidance looks at it. Some models take none as another thing than an empty text.
    pub negative: Option<String>,
    /// Pixels, a multiple of the autoencoder's factor (8).
    pub width: Option<usize>,
    /// Pixels, a multiple of the autoencoder's factor (8).
    pub height: Option<usize>,
    /// Denoising steps.
    pub steps: Option<usize>,
    /// Classifier-free guidance scale (Ho and Salimans 2022); 1 and below is no guidance.
    pub guidance: Option<f32>,
    /// Share of the correction of overexposure by guidance (Lin et al. 2024), 0 to 1.
    pub guidance_rescale: f32,
    /// Picture `i` draws its noise from `seed + i`.
    pub seed: u64,
    /// Number of pictures.
    pub count: usize,
    /// Sampler by any of its names.
    pub sampler: Option<String>,
    /// Spacing of the noise levels by name.
    pub schedule: Option<String>,
    /// Share of fresh noise in each step, for samplers that have it.
    pub eta: Option<f64>,
    /// Where noise comes from.
    pub generator: Generator,
    /// Unit noise to start from, `[count, channels, height / 8, width / 8]`, instead of the seed's.
    pub noise: Option<NDArray>,
    /// True to keep the latents of every step for [`Pictures::dump`].
    pub keep_latents: bool,
}

impl Request {
    /// A picture of `prompt`, everything else as the model likes it.
    #[must_use]
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            negative: None,
            width: None,
            height: None,
            steps: None,
            guidance: None,
            guidance_rescale: 0.0,
            seed: 42,
            count: 1,
            sampler: None,
            schedule: None,
            eta: None,
            generator: Generator::default(),
            noise: None,
            keep_latents: false,
        }
    }
}

/// What happens during [`TextToImage::draw`].
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A stage begins.
    Stage(&'a str),
    /// A denoising step is done.
    Step {
        /// How many are done.
        done: usize,
        /// How many there are.
        total: usize,
        /// How long it took.
        time: Duration,
    },
    /// Something the person should know.
    Warning(&'a str),
}

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels from left to right.
    pub width: usize,
    /// Pixels from top to bottom.
    pub height: usize,
}

/// A request with every choice made.
struct Settings {
    size: Size,
    steps: usize,
    guidance: f32,
    /// 2 with guidance: the negative prompt's pass and the prompt's.
    passes: usize,
    scheduler: SchedulerConfig,
    sampler: Box<dyn Sampler>,
}

impl Settings {
    /// Height and width of the latents.
    fn latents(&self, facts: &Facts) -> [usize; 2] {
        [self.size.height, self.size.width].map(|side| side / facts.latents.factor)
    }

    /// The texts to encode: the negative prompt, if guidance needs it, and the prompt.
    fn texts<'a>(&self, request: &'a Request) -> Vec<&'a str> {
        let texts = [request.negative.as_deref().unwrap_or_default(), request.prompt.as_str()];
        texts[2 - self.passes..].to_vec()
    }
}

/// What the model likes when the request leaves it open: the entry `ondine` of its `model_index.json`.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Defaults {
    steps: Option<usize>,
    guidance: Option<f32>,
    precision: Option<Precision>,
}

/// The largest prompt, in bytes; encoders read a few hundred.
const MAX_PROMPT: usize = 16 << 10;
/// The largest side of a picture in pixels.
const MAX_SIDE: usize = 16 << 10;
/// The most pictures at once.
const MAX_COUNT: usize = 64;

/// Pictures from text. Networks are loaded when their stage begins and dropped when it ends.
#[derive(Debug)]
pub struct TextToImage {
    name: String,
    encoders: Vec<(Tokenizer, Network)>,
    unet: Network,
    autoencoder: Network,
    facts: Facts,
    scheduler: SchedulerConfig,
    defaults: Defaults,
    precision: Precision,
    device: Device,
    cache: Option<Cache>,
}

/// What the configs say that the drawing depends on.
#[derive(Clone, Copy, Debug)]
struct Facts {
    /// Height and width of the latents that the U-Net was trained on.
    native: [usize; 2],
    /// What divides the sides of latents that the U-Net halves without a remainder.
    divisor: usize,
    /// Width of the guidance embedding of models distilled with guidance (Luo et al. 2023), which then need no
    /// second pass.
    guidance_width: Option<usize>,
    /// Latents are decoded as `latents / scaling + shift`.
    latents: LatentSpace,
    /// True if no negative prompt means embeddings of zeros.
    zero_without_negative: bool,
}

impl TextToImage {
    /// Opens a model: reads its configs, checks that its weights fit them, loads nothing yet.
    ///
    /// # Errors
    /// If a component is missing, broken or of a class that is not supported.
    pub fn open(source: Source, device: Device, cache: Option<Cache>) -> Result<Self> {
        let pipeline = Pipeline::open(source)?;
        let mut encoders = Vec::new();
        for suffix in ["", "_2"] {
            let (tokenizer, encoder) = (format!("tokenizer{suffix}"), format!("text_encoder{suffix}"));
            if pipeline.get(&encoder).is_some() {
                pipeline.component(&tokenizer)?;
                let network = pipeline.network(&encoder)?;
                let tokenizer = Tokenizer::open(&pipeline.source, &tokenizer, positions(&network)?)?;
                encoders.push((tokenizer, network));
            }
        }
        let unet = pipeline.network("unet")?;
        let autoencoder = pipeline.network("vae")?;
        let scheduler = scheduler(&pipeline)?;
        let defaults = pipeline.options.get("ondine").map_or_else(
            || Ok(Defaults::default()),
            |value| {
                Defaults::deserialize(value)
                    .map_err(|error| Error::config(format!("model_index.json: ondine: {error}")))
            },
        )?;
        let facts = Facts::of(&pipeline, &unet, &autoencoder)?;
        Ok(Self {
            name: pipeline.source.describe(""),
            encoders,
            unet,
            autoencoder,
            facts,
            scheduler,
            precision: defaults.precision.unwrap_or_default(),
            defaults,
            device,
            cache,
        })
    }

    /// Chooses the type of weights and activations, instead of the model's own choice.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// The type of weights and activations.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The memory that drawing takes, known before any weight is loaded.
    ///
    /// # Errors
    /// If the request asks for something impossible; the message says what and what to do.
    pub fn plan(&self, request: &Request) -> Result<MemoryPlan> {
        let settings = self.settings(request)?;
        self.stages(request, &settings)?.plan(self, request, &settings)
    }

    /// The floating-point operations of all products that drawing takes: two per multiply-add.
    ///
    /// # Errors
    /// As [`TextToImage::plan`].
    pub fn flops(&self, request: &Request) -> Result<u64> {
        let settings = self.settings(request)?;
        self.stages(request, &settings)?.flops(self, request, &settings)
    }

    /// Draws the pictures; `observe` hears of every step.
    ///
    /// # Errors
    /// As [`TextToImage::plan`]; if a network cannot be loaded; and on the device's wish to stop.
    pub fn draw(&self, request: &Request, observe: &mut dyn FnMut(Event<'_>)) -> Result<Pictures> {
        let mut settings = self.settings(request)?;
        let stages = self.stages(request, &settings)?;
        let cache = self.cache.as_ref();

        observe(Event::Stage("reading the prompt"));
        let mut warn = |text: &str| observe(Event::Warning(text));
        let texts = settings.texts(request);
        let mut prompts = conditioning::encode(&stages.encoders, &texts, stages.wants, cache, &mut warn)?;
        if settings.passes == 2 && request.negative.is_none() && self.facts.zero_without_negative {
            prompts[0] = prompts[1].zeros_like()?;
        }

        observe(Event::Stage("loading the U-Net"));
        let unet = stages.unet.specialize(cache)?.load().function("main")?;
        let rows: Vec<&Conditioning> = prompts.iter().collect();
        let denoised = denoise::denoise(&unet, &rows, request, &mut settings, &self.facts, observe)?;
        drop(unet);

        observe(Event::Stage("decoding"));
        let images = self.decode(&stages.autoencoder, &denoised.latents)?;
        Pictures::new(self, request, &settings, prompts, denoised, &images)
    }

    /// Pictures `[count, 3, height, width]` in 0..1, decoded one by one.
    fn decode(&self, autoencoder: &Prepared, latents: &NDArray) -> Result<Vec<f32>> {
        let decoder = autoencoder.specialize(self.cache.as_ref())?.load().function("decode")?;
        let LatentSpace { scaling, shift, .. } = self.facts.latents;
        let [count, sizes @ ..] = latents.shape() else { return Err(Error::unsupported("latents without a shape")) };
        let each = latents.len() / count.max(&1);
        let shape: Vec<_> = std::iter::once(1).chain(sizes.iter().copied()).collect();
        let mut state = State::frugal();
        let mut images = Vec::new();
        for latents in latents.view::<f32>()?.chunks(each.max(1)) {
            let unscaled: Vec<f32> = latents.iter().map(|x| x / scaling + shift).collect();
            let sample = decoder.run(&[("latents", &NDArray::new(&shape, &unscaled)?)], &mut state)?.take("sample")?;
            images.extend(sample.view::<f32>()?.iter().map(|x| (x / 2.0 + 0.5).clamp(0.0, 1.0)));
        }
        Ok(images)
    }

    /// Makes every choice that the request leaves open, and refuses what is impossible.
    fn settings(&self, request: &Request) -> Result<Settings> {
        let len = request.prompt.len().max(request.negative.as_ref().map_or(0, String::len));
        if len > MAX_PROMPT {
            return Err(Error::argument(format!("a prompt of {len} bytes is too long; shorten it to {MAX_PROMPT}")));
        }
        if request.count == 0 || request.count > MAX_COUNT {
            return Err(Error::argument(format!(
                "cannot draw {} pictures at once; ask for 1 to {MAX_COUNT}",
                request.count
            )));
        }
        let scheduler = self.scheduler_for(request)?;
        let few_steps = matches!(scheduler.class, SchedulerClass::Lcm | SchedulerClass::Tcd);
        let steps = request.steps.or(self.defaults.steps).unwrap_or(if few_steps { 4 } else { 20 });
        let options = sampler::Options { eta: request.eta, ..sampler::Options::default() };
        let sampler = sampler::sampler(&scheduler, steps, &options)?;
        let usual = match self.facts.guidance_width {
            Some(_) => 8.5,
            None if few_steps => 1.0,
            None => 7.5,
        };
        let guidance = request.guidance.or(self.defaults.guidance).unwrap_or(usual);
        if !guidance.is_finite() || guidance < 0.0 {
            return Err(Error::argument(format!("guidance is {guidance}; give a number from 0 on, such as 7.5")));
        }
        let passes = if guidance > 1.0 && self.facts.guidance_width.is_none() { 2 } else { 1 };
        Ok(Settings { size: self.size(request)?, steps, guidance, passes, scheduler, sampler })
    }

    fn size(&self, request: &Request) -> Result<Size> {
        let factor = self.facts.latents.factor;
        let [native_height, native_width] = self.facts.native.map(|side| side * factor);
        let (height, width) = (request.height.unwrap_or(native_height), request.width.unwrap_or(native_width));
        for (name, side) in [("height", height), ("width", width)] {
            if side == 0 || side % factor != 0 || side > MAX_SIDE {
                let near = (side / factor * factor).clamp(factor, MAX_SIDE / factor * factor);
                return Err(Error::argument(format!(
                    "{name} {side} is no multiple of {factor} up to {MAX_SIDE}; try {near}"
                )));
            }
        }
        Ok(Size { width, height })
    }

    fn scheduler_for(&self, request: &Request) -> Result<SchedulerConfig> {
        let mut scheduler = self.scheduler.clone();
        if let Some(name) = &request.sampler {
            scheduler = scheduler.with_sampler(name)?;
        }
        if let Some(name) = &request.schedule {
            scheduler = scheduler.with_schedule(name)?;
        }
        Ok(scheduler)
    }

    /// The networks, their graphs fitted to the request.
    fn stages(&self, request: &Request, settings: &Settings) -> Result<Stages> {
        let options = Options { precision: self.precision };
        let whole = settings.latents(&self.facts).iter().all(|side| side % self.facts.divisor == 0);
        let multiple = if whole { self.facts.divisor } else { 1 };
        let mut encoders = Vec::new();
        let mut mask = false;
        for (tokenizer, network) in &self.encoders {
            let network = network.asset(GraphSizes::default())?;
            let takes_mask = network.function("main")?.inputs().iter().any(|(name, _)| &**name == "attention_mask");
            mask |= takes_mask;
            let name = "text encoder".to_owned();
            let network = network.prepare(&options, &self.device)?;
            encoders.push(TextEncoder { name, tokenizer: tokenizer.clone(), network, takes_mask });
        }
        // Prompts of different length meet in one batch: then the padding must not be attended to.
        let mask = mask && settings.passes * request.count > 1;
        let unet = self.unet.asset(GraphSizes { multiple, mask })?;
        let wants = Wants::of(unet.function("main")?);
        let unet = unet.prepare(&options, &self.device)?;
        let autoencoder =
            self.autoencoder.asset(GraphSizes::default())?.only("decode")?.prepare(&options, &self.device)?;
        Ok(Stages { encoders, wants, unet, multiple, autoencoder })
    }
}

/// The networks of one drawing.
struct Stages {
    encoders: Vec<TextEncoder>,
    wants: Wants,
    unet: Prepared,
    /// What the sides of the U-Net's graph are multiples of.
    multiple: usize,
    autoencoder: Prepared,
}

impl Stages {
    fn plan(&self, model: &TextToImage, request: &Request, settings: &Settings) -> Result<MemoryPlan> {
        let tokens = self.encoders.iter().map(|encoder| encoder.tokenizer.max_length()).max().unwrap_or(1);
        let mut stages = self.encoders.iter().map(|encoder| encoder.plan(tokens)).collect::<Result<Vec<_>>>()?;
        let latents = settings.latents(&model.facts);
        let unet = self.unet_plan(settings.passes * request.count, tokens, latents)?;
        stages.push(StagePlan::new("U-Net", &self.unet, "main", &unet, Resident::All)?);
        let (decoder, resident) = (self.decoder_plan(latents)?, Resident::frugal(model.cache.is_some()));
        stages.push(StagePlan::new("decoder", &self.autoencoder, "decode", &decoder, resident)?);
        Ok(MemoryPlan { stages })
    }

    fn unet_plan(&self, batch: usize, tokens: usize, latents: [usize; 2]) -> Result<Plan> {
        let [height, width] = latents.map(|side| side / self.multiple);
        let sizes = [("batch", batch), ("tokens", tokens), ("height", height), ("width", width)];
        Ok(self.unet.plan("main", &Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size))))?)
    }

    fn decoder_plan(&self, [height, width]: [usize; 2]) -> Result<Plan> {
        let sizes = [("batch", 1), ("height", height), ("width", width)];
        Ok(self.autoencoder.plan("decode", &Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size))))?)
    }

    fn flops(&self, model: &TextToImage, request: &Request, settings: &Settings) -> Result<u64> {
        let (mut total, mut tokens) = (0, 1);
        for encoder in &self.encoders {
            let (flops, most) = encoder.flops(&settings.texts(request))?;
            (total, tokens) = (total + flops, tokens.max(most));
        }
        let latents = settings.latents(&model.facts);
        let unet = self.unet_plan(settings.passes * request.count, tokens, latents)?;
        let calls = settings.sampler.timesteps().len() as u64;
        total += calls * profile::flops(self.unet.graph("main")?, &unet);
        let decoder = profile::flops(self.autoencoder.graph("decode")?, &self.decoder_plan(latents)?);
        Ok(total + request.count as u64 * decoder)
    }
}

impl Facts {
    fn of(pipeline: &Pipeline, unet: &Network, autoencoder: &Network) -> Result<Self> {
        let latents = autoencoder.latent_space()?;
        let config: UnetFacts =
            serde_json::from_str(&unet.config).map_err(|error| Error::config(format!("unet/config.json: {error}")))?;
        if config.in_channels != latents.channels {
            return Err(Error::unsupported(format!(
                "the U-Net takes {} channels, the autoencoder has {}; inpainting models cannot draw from text alone",
                config.in_channels, latents.channels
            )));
        }
        let side = config.sample_size.unwrap_or(Side::Square(64));
        let native = match side {
            Side::Square(side) => [side, side],
            Side::Both(sides) => sides,
        };
        let levels = config.block_out_channels.len().clamp(1, 16);
        let zero = pipeline.options.get("force_zeros_for_empty_prompt").and_then(serde_json::Value::as_bool);
        Ok(Self {
            native,
            divisor: 1 << (levels - 1),
            guidance_width: config.time_cond_proj_dim,
            latents,
            zero_without_negative: zero.unwrap_or(false),
        })
    }
}

/// What the drawing reads from the config of the U-Net.
#[derive(Deserialize)]
#[serde(default)]
struct UnetFacts {
    in_channels: usize,
    sample_size: Option<Side>,
    block_out_channels: Vec<usize>,
    time_cond_proj_dim: Option<usize>,
}

impl Default for UnetFacts {
    fn default() -> Self {
        Self { in_channels: 4, sample_size: None, block_out_channels: vec![0; 4], time_cond_proj_dim: None }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Side {
    Square(usize),
    Both([usize; 2]),
}

fn scheduler(pipeline: &Pipeline) -> Result<SchedulerConfig> {
    let file = "scheduler/scheduler_config.json";
    pipeline.component("scheduler")?;
    let text = pipeline.source.text(file)?;
    let mut config =
        SchedulerConfig::from_json(&text).map_err(|error| error.context(pipeline.source.describe(file)))?;
    if pipeline.class.as_deref() == Some("StableDiffusionPipeline") {
        // Folders of this class were published before these keys meant anything; diffusers corrects them too.
        config.steps_offset = 1;
        config.clip = None;
    }
    Ok(config)
}

/// How many tokens a text encoder can tell apart by their place.
fn positions(encoder: &Network) -> Result<usize> {
    #[derive(Deserialize)]
    struct Positions {
        max_position_embeddings: Option<usize>,
    }
    let config: Positions = serde_json::from_str(&encoder.config)
        .map_err(|error| Error::config(format!("{}/config.json: {error}", encoder.name)))?;
    Ok(config.max_position_embeddings.unwrap_or(512))
}
