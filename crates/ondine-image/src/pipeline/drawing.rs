//! A request with its networks prepared: what it takes, and the pictures.

use std::fmt;

use ondine_graph::{Result, fail};
use ondine_runtime::{Cancel, Precision, Wish};

use super::{
    conditioning::Conditioning,
    control::Steering,
    decode::decode,
    denoise::{PerPicture, denoise},
    edit::{Encoder, Start, put_back, start},
    encode::encode,
    event::Event,
    image_prompt::show,
    memory::MemoryPlan,
    model::TextToImage,
    networks::Networks,
    parameters::{FEWEST_STEPS, Parameters, Size},
    part::Terms,
    pictures::Pictures,
    predict::Task,
    preview::Colours,
};
use crate::{prompt, request::Request};

/// Pictures that are about to be drawn: every choice is made and the memory is known, but no weight is loaded.
pub struct Drawing<'a> {
    model: &'a TextToImage,
    request: &'a Request,
    parameters: Parameters,
    precision: Precision,
    /// The precision that would have been taken without a limit on memory.
    wanted: Precision,
    networks: Networks<'a>,
    memory: MemoryPlan,
    /// Of this drawing alone, beside the device's.
    wish: Option<Wish>,
}

impl TextToImage {
    /// Makes every choice that `request` leaves open, and fits the networks to it.
    ///
    /// # Errors
    /// If the request asks for something impossible, or for more memory than is allowed
    /// ([`Memory`](ondine_graph::ErrorKind::Memory)); the message says what and what to do.
    pub fn prepare<'a>(&'a self, request: &'a Request) -> Result<Drawing<'a>> {
        let parameters = Parameters::new(self, request)?;
        let cached = self.cache.is_some();
        let fitted = |precision| -> Result<_> {
            let networks = Networks::prepare(self, &parameters, precision)?;
            let memory = networks.memory(&parameters, cached)?;
            Ok((precision, networks, memory))
        };
        let wanted = self.precision.or(self.defaults.precision).unwrap_or_default();
        let (mut precision, mut networks, mut memory) = fitted(wanted)?;
        let least = memory.peak_bytes().saturating_add(self.besides);
        if let Some(limit) = self.memory.filter(|&limit| least > limit) {
            if self.precision.is_some() {
                return too_much(least, limit, wanted);
            }
            (precision, networks, memory) = fitted(Precision::BF16)?;
            let half = memory.peak_bytes().saturating_add(self.besides);
            if half > limit {
                return too_much(least.min(half), limit, precision);
            }
        }
        let kept = if self.keep { Some(networks.memory_kept(&parameters)?) } else { None };
        let room = |all: &MemoryPlan, limit: u64| all.peak_bytes().saturating_add(self.besides) <= limit;
        if let Some(all) = kept.filter(|all| self.memory.is_none_or(|limit| room(all, limit))) {
            memory = all;
        }
        Ok(Drawing { model: self, request, parameters, precision, wanted, networks, memory, wish: None })
    }

    /// Draws the pictures of `request`; `observe` hears of every step.
    ///
    /// # Errors
    /// As [`TextToImage::prepare`] and [`Drawing::draw`].
    pub fn draw(&self, request: &Request, observe: &mut dyn FnMut(Event<'_>)) -> Result<Pictures> {
        self.prepare(request)?.draw(observe)
    }
}

fn too_much<T>(least: u64, limit: u64, precision: Precision) -> Result<T> {
    let hint = if precision == Precision::F32 { "half precision, " } else { "" };
    let [least, limit] = [least, limit].map(|bytes| bytes as f64 / 1e6);
    fail!(
        Memory,
        "this picture takes {least:.0} MB, {limit:.0} MB are allowed; try {hint}fewer pixels or fewer pictures"
    )
}

impl Drawing<'_> {
    /// The memory that it takes.
    #[must_use]
    pub fn memory(&self) -> &MemoryPlan {
        &self.memory
    }

    /// Width and height of the pictures.
    #[must_use]
    pub fn size(&self) -> Size {
        self.parameters.size
    }

    /// The type of weights and activations.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The floating-point operations of all products that it takes: two per multiply-add.
    ///
    /// # Errors
    /// If the prompt cannot be read.
    pub fn flops(&self) -> Result<u64> {
        self.networks.flops(&self.parameters, &self.parameters.texts())
    }

    /// The same drawing, which ends with [`ErrorKind::Cancelled`](ondine_graph::ErrorKind::Cancelled) if `cancel` is
    /// cancelled from now on; [`Device::with_cancel`](ondine_runtime::Device::with_cancel) stops all that run.
    #[must_use]
    pub fn with_cancel(self, cancel: &Cancel) -> Self {
        Self { wish: Some(cancel.listen()), ..self }
    }

    /// Draws the pictures; `observe` hears of every step.
    ///
    /// # Errors
    /// If a network cannot be loaded, if latents stop being numbers, and on the wish to stop.
    pub fn draw(self, observe: &mut dyn FnMut(Event<'_>)) -> Result<Pictures> {
        let Self { model, request, mut parameters, precision, wanted, networks, memory, wish } = self;
        let device = model.device.cancel().listen();
        let wish = &match wish {
            Some(own) => device.or(own),
            None => device,
        };
        let terms = &Terms { cache: model.cache.as_ref(), keep: memory.kept, wish };
        model.kept.only(&networks.parts(), terms.keep);

        observe(Event::Stage("reading the prompt"));
        let mut warn = |text: &str| observe(Event::Warning(text));
        let narrowed = (precision != wanted)
            .then(|| format!("drawn at {precision} instead of {wanted}, to fit into the memory that is allowed"));
        let size = parameters.size.warning(model.size());
        let idle = (request.speedup.is_some() && parameters.speedup.is_none())
            .then(|| format!("speedup is left out below {FEWEST_STEPS} steps"));
        let marks = if parameters.marks { None } else { prompt::about_marks(&request.prompt) };
        let guidance = parameters.about_guidance(request);
        let distilled = parameters.about_distillation(model, request);
        for warning in [narrowed, size, idle, marks, guidance, distilled].into_iter().flatten() {
            warn(&warning);
        }
        let texts = parameters.texts();
        let negative = |index| parameters.prompts.is_negative(index);
        let texts = (texts.as_slice(), &negative as &dyn Fn(usize) -> bool);
        let mut texts = encode(&networks.encoders, texts, request.emphasis, networks.wants, terms, &mut warn)?;
        if request.negative.is_none() && model.zero_without_negative {
            for (index, text) in texts.iter_mut().enumerate() {
                if parameters.prompts.is_negative(index) {
                    *text = text.zeros_like()?;
                }
            }
        }

        let mut noise = PerPicture::new(request);
        let start = match &networks.image_encoder {
            None => Start::default(),
            Some(part) => {
                observe(Event::Stage("reading the picture"));
                let encoder =
                    Encoder { function: part.function(terms)?, space: &model.latents, terms, count: request.count };
                start(&encoder, request, &parameters, &mut noise)?
            }
        };

        let guided = parameters.passes > 1;
        if !networks.prompters.is_empty() {
            observe(Event::Stage("looking at the picture"));
        }
        let shown = show(&networks.prompters, &request.image_prompts, guided, terms)?;

        let colours = if request.previews {
            Some(Colours::fit(&networks.autoencoder.function(terms)?, &model.latents, terms)?)
        } else {
            None
        };
        observe(Event::Stage(&format!("loading the {}", model.denoiser_label())));
        let denoiser = networks.denoiser(terms)?;
        let steering = Steering::new(&networks.controls, request, terms)?;
        let (guidance, time_ids) = (model.facts.guidance, model.time_ids);
        let flow = model.facts.flow;
        let task = Task { texts: &texts, request, start, steering, shown, colours, guidance, flow, time_ids };
        let denoised = denoise(&denoiser, task, &mut parameters, &mut noise, wish, observe)?;
        drop(denoiser);

        observe(Event::Stage("decoding"));
        let decoder = networks.autoencoder.function(terms)?;
        let mut images = decode(&decoder, &denoised.latents, &model.latents, terms)?;
        if let Some(init) = &request.init {
            put_back(&mut images, init)?;
        }
        let first: Vec<Conditioning> =
            parameters.prompts.at(0).into_iter().take(2).map(|text| texts[text].clone()).collect();
        Pictures::new(model, request, &parameters, first, denoised, &images)
    }
}

impl fmt::Debug for Drawing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request, precision, memory, .. } = self;
        f.debug_struct("Drawing")
            .field("request", request)
            .field("precision", precision)
            .field("memory", memory)
            .finish()
    }
}
