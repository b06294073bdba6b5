//! The networks of one drawing, their graphs fitted to it and to this machine.

use std::sync::Arc;

use ondine_graph::{Bindings, Result, fail};
use ondine_models::{
    GraphSizes, REFERENCES,
    unet::{SHALLOW, image_tokens},
};
use ondine_runtime::{Options, Plan, Precision, Specialize};

use super::{
    encode::TextEncoder,
    memory::{MemoryPlan, Resident, StagePlan},
    model::TextToImage,
    parameters::Parameters,
    part::{ControlParts, Part, PromptParts, Purpose, Terms, Which},
    predict::Denoiser,
    text::{self, Encoder, Wants},
};
use crate::request::Speedup;

/// Networks of which no weight is loaded.
pub(super) struct Networks<'a> {
    pub(super) encoders: Vec<TextEncoder<'a>>,
    pub(super) wants: Wants,
    /// What the denoiser is called.
    label: &'static str,
    pub(super) denoiser: Arc<Part>,
    /// What steers it, in the order of the request.
    pub(super) controls: Vec<ControlParts>,
    /// What makes prompts of pictures, in the order of the request.
    pub(super) prompters: Vec<PromptParts>,
    /// Makes latents of pictures, if there are some to begin with or the denoiser takes some.
    pub(super) image_encoder: Option<Arc<Part>>,
    pub(super) autoencoder: Arc<Part>,
    /// What the sides of the denoiser's graph are multiples of.
    multiple: usize,
    /// Pixels that a latent stands for, along each side.
    factor: usize,
}

impl<'a> Networks<'a> {
    pub(super) fn prepare(model: &'a TextToImage, parameters: &Parameters, precision: Precision) -> Result<Self> {
        let (options, device) = (Options { precision, ..Options::default() }, &model.device);
        let mut encoders = Vec::new();
        let part = |which, sizes| Purpose { which, precision, sizes };
        for Encoder { place, tokenizer, network } in &model.encoders {
            let states = text::states(model.facts.text);
            let sizes = GraphSizes { skip: parameters.skip, states, ..GraphSizes::default() };
            let purpose = part(Which::Encoder(*place), sizes);
            let network = model.kept.part(purpose, || network.asset(sizes)?.prepare(&options, device))?;
            encoders.push(TextEncoder::new(*place, tokenizer, network)?);
        }
        // Prompts of different length meet in one batch: then the padding must not be attended to.
        let mask = parameters.batch() > 1 && encoders.iter().any(|encoder| encoder.takes_mask);
        let divisor = model.facts.divisor;
        let whole = parameters.latents[1..].iter().all(|side| side % divisor == 0);
        let multiple = if whole { divisor } else { 1 };
        let control = !parameters.controls.is_empty();
        let deep = parameters.speedup == Some(Speedup::DeepCache);
        let (time_ids, references, image_prompts) =
            (model.time_ids, parameters.references.len(), parameters.image_prompts);
        let sizes =
            GraphSizes { multiple, mask, time_ids, control, references, image_prompts, deep, ..GraphSizes::default() };
        let prepare = || model.denoiser.asset(sizes)?.prepare(&options, device);
        let denoiser = model.kept.part(part(Which::Denoiser, sizes), prepare)?;
        if deep && denoiser.prepared.graph(SHALLOW).is_err() {
            fail!(Argument, "speedup deepcache is for U-Nets, whose outermost blocks can run alone; choose spectrum");
        }
        let mut controls = Vec::new();
        for &number in &parameters.controls {
            let (_, network) = &model.controls[number];
            let prepare = |function| network.asset(sizes)?.only(function)?.prepare(&options, device);
            controls.push(ControlParts {
                embed: model.kept.part(part(Which::ControlEmbedding(number), sizes), || prepare("embed"))?,
                main: model.kept.part(part(Which::Control(number), sizes), || prepare("main"))?,
                facts: network.control()?,
            });
        }
        let prompters = model.prompters.iter().enumerate().take(image_prompts);
        let prompters = prompters
            .map(|(number, prompter)| prompter.prepare(number, &model.kept, options, device))
            .collect::<Result<_>>()?;
        let wants = Wants::of(denoiser.prepared.graph(denoiser.name())?, model.facts.text);
        let sizes = GraphSizes::default();
        let needed = parameters.begins_with_picture();
        let prepare = || model.autoencoder.asset(sizes)?.only("encode")?.prepare(&options, device);
        let image_encoder = needed.then(|| model.kept.part(part(Which::ImageEncoder, sizes), prepare)).transpose()?;
        let prepare = || model.autoencoder.asset(sizes)?.only("decode")?.prepare(&options, device);
        let autoencoder = model.kept.part(part(Which::Decoder, sizes), prepare)?;
        let label = model.denoiser_label();
        let factor = model.latents.factor;
        Ok(Self { encoders, wants, label, denoiser, controls, prompters, image_encoder, autoencoder, multiple, factor })
    }

    /// All of them.
    pub(super) fn parts(&self) -> Vec<Arc<Part>> {
        let encoders = self.encoders.iter().map(|encoder| &encoder.part);
        let controls = self.controls.iter().flat_map(|parts| [&parts.embed, &parts.main]);
        let prompters = self.prompters.iter().flat_map(|parts| [&parts.encoder, &parts.projection]);
        let others = [&self.denoiser, &self.autoencoder];
        encoders.chain(controls).chain(prompters).chain(&self.image_encoder).chain(others).cloned().collect()
    }

    /// The denoiser, loaded.
    pub(super) fn denoiser(&self, terms: &Terms<'_>) -> Result<Denoiser> {
        let model = self.denoiser.load(terms)?;
        let has = |name: &str| self.denoiser.prepared.graph(name).is_ok();
        let shallow = has(SHALLOW).then(|| model.function(SHALLOW)).transpose()?;
        Ok(Denoiser { whole: model.function(self.denoiser.name())?, shallow })
    }

    /// The memory of every stage, if each gives back what it took; `cached` if weights that are let go come back from a
    /// cache.
    pub(super) fn memory(&self, parameters: &Parameters, cached: bool) -> Result<MemoryPlan> {
        self.plan(parameters, Resident::frugal(cached), false)
    }

    /// The memory of every stage, if the weights of all stay.
    pub(super) fn memory_kept(&self, parameters: &Parameters) -> Result<MemoryPlan> {
        self.plan(parameters, Resident::All, true)
    }

    fn plan(&self, parameters: &Parameters, decoder_keeps: Resident, kept: bool) -> Result<MemoryPlan> {
        let read = |encoder: &TextEncoder<'_>| encoder.tokenizer.max_length();
        let mut stages = Vec::new();
        for encoder in &self.encoders {
            stages.push(encoder.plan(read(encoder))?);
        }
        let read = self.encoders.iter().map(|encoder| (encoder.place, encoder.tokenizer.kept(read(encoder))));
        let tokens = self.wants.tokens(read, parameters.pieces);
        if let Some(encoder) = &self.image_encoder {
            let plans = self.picture_plans(encoder, parameters)?;
            if let Some(plan) = plans.iter().max_by_key(|plan| plan.arena_bytes()) {
                stages.push(StagePlan::new("image encoder", encoder, plan, Resident::All)?);
            }
        }
        for parts in &self.prompters {
            stages.push(parts.plan()?);
        }
        let denoiser = self.denoiser_plan(parameters, tokens)?;
        let mut denoiser = StagePlan::new(self.label, &self.denoiser, &denoiser, Resident::All)?;
        if self.denoiser.prepared.graph(SHALLOW).is_ok() {
            denoiser.workspace += self.function_plan(&self.denoiser, SHALLOW, parameters, tokens)?.arena_bytes() as u64;
        }
        for parts in &self.controls {
            // They are in memory beside it, each with a workspace of its own, what they yield, and its sum.
            let plan = self.call_plan(&parts.main, parameters, tokens)?;
            let stage = StagePlan::new("ControlNet", &parts.main, &plan, Resident::All)?;
            let embedding =
                StagePlan::new("ControlNet", &parts.embed, &self.embedding_plan(parts, parameters)?, Resident::All)?;
            denoiser.weights += stage.weights + embedding.weights;
            denoiser.workspace += stage.workspace + embedding.workspace;
        }
        stages.push(denoiser);
        stages.push(StagePlan::new("decoder", &self.autoencoder, &self.decoder_plan(parameters)?, decoder_keeps)?);
        Ok(MemoryPlan { stages, kept })
    }

    /// The floating-point operations of all products that drawing `texts` takes.
    pub(super) fn flops(&self, parameters: &Parameters, texts: &[&str]) -> Result<u64> {
        let (mut total, mut read) = (0, Vec::new());
        for encoder in &self.encoders {
            let (flops, most) = encoder.flops(texts, self.wants.padded())?;
            total += flops;
            read.push((encoder.place, most));
        }
        let tokens = self.wants.tokens(read.into_iter(), parameters.pieces);
        if let Some(encoder) = &self.image_encoder {
            total += self.picture_plans(encoder, parameters)?.iter().map(|plan| plan.cost().flops).sum::<u64>();
        }
        for parts in &self.prompters {
            total += parts.flops(parameters.passes > 1)?;
        }
        let calls = parameters.calls() as u64;
        total += calls * self.denoiser_plan(parameters, tokens)?.cost().flops;
        for parts in &self.controls {
            total += self.embedding_plan(parts, parameters)?.cost().flops;
            total += calls * self.call_plan(&parts.main, parameters, tokens)?.cost().flops;
        }
        Ok(total + parameters.count as u64 * self.decoder_plan(parameters)?.cost().flops)
    }

    fn denoiser_plan(&self, parameters: &Parameters, tokens: usize) -> Result<Plan> {
        self.call_plan(&self.denoiser, parameters, tokens)
    }

    /// The plan of a network that is called with all latents and texts.
    fn call_plan(&self, part: &Part, parameters: &Parameters, tokens: usize) -> Result<Plan> {
        self.function_plan(part, part.name(), parameters, tokens)
    }

    fn function_plan(&self, part: &Part, name: &str, parameters: &Parameters, tokens: usize) -> Result<Plan> {
        let [_, height, width] = parameters.latents.map(|side| side / self.multiple);
        let sizes = [("batch", parameters.batch()), ("tokens", tokens), ("height", height), ("width", width)];
        let mut sizes = Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size)));
        for (name, sides) in REFERENCES.iter().zip(&parameters.references) {
            for (side, size) in ["height", "width"].into_iter().zip(sides) {
                sizes.insert(format!("{name}_{side}").into(), size / self.multiple);
            }
        }
        for (number, parts) in self.prompters.iter().enumerate() {
            sizes.insert(image_tokens(number).into(), parts.facts.tokens);
        }
        part.prepared.plan(name, &sizes)
    }

    /// The plan of looking at a picture that steers.
    fn embedding_plan(&self, parts: &ControlParts, parameters: &Parameters) -> Result<Plan> {
        let [_, height, width] = parameters.latents.map(|side| side / self.multiple);
        let sizes = [("batch", 1), ("height", height), ("width", width)];
        let sizes = Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size)));
        parts.embed.prepared.plan(parts.embed.name(), &sizes)
    }

    /// The plans of encoding pictures: of the size to draw, if one is begun with, and of those to look at.
    fn picture_plans(&self, encoder: &Part, parameters: &Parameters) -> Result<Vec<Plan>> {
        let own = [parameters.size.height, parameters.size.width];
        let begins = parameters.references.is_empty() || parameters.encodes_own();
        let looked_at = parameters.references.iter().map(|sides| sides.map(|side| side * self.factor));
        let plan = |[height, width]: [usize; 2]| {
            let sizes = [("batch", 1), ("height", height), ("width", width)];
            encoder.prepared.plan(encoder.name(), &Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size))))
        };
        begins.then_some(own).into_iter().chain(looked_at).map(plan).collect()
    }

    fn decoder_plan(&self, parameters: &Parameters) -> Result<Plan> {
        let [_, height, width] = parameters.latents;
        let sizes = [("batch", 1), ("height", height), ("width", width)];
        self.autoencoder
            .prepared
            .plan(self.autoencoder.name(), &Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size))))
    }
}
