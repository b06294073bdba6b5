//! The networks of one drawing, their graphs fitted to it and to this machine.

use std::sync::Arc;

use ondine_graph::{Bindings, Result};
use ondine_models::{GraphSizes, unet::SHALLOW};
use ondine_runtime::{Options, Plan, Precision, Specialize};

use super::{
    encode::{TextEncoder, Wants},
    memory::{MemoryPlan, Resident, StagePlan},
    model::TextToImage,
    parameters::Parameters,
    part::{ControlParts, Part, Purpose, Terms, Which},
    predict::Unet,
};
use crate::request::Speedup;

/// Networks of which no weight is loaded.
pub(super) struct Networks<'a> {
    pub(super) encoders: Vec<TextEncoder<'a>>,
    pub(super) wants: Wants,
    pub(super) unet: Arc<Part>,
    /// What steers the U-Net, in the order of the request.
    pub(super) controls: Vec<ControlParts>,
    /// Makes latents of pictures, if there are some to begin with or the U-Net takes some.
    pub(super) image_encoder: Option<Arc<Part>>,
    pub(super) autoencoder: Arc<Part>,
    /// What the sides of the U-Net's graph are multiples of.
    multiple: usize,
}

impl<'a> Networks<'a> {
    pub(super) fn prepare(model: &'a TextToImage, parameters: &Parameters, precision: Precision) -> Result<Self> {
        let (options, device) = (Options { precision, ..Options::default() }, &model.device);
        let mut encoders = Vec::new();
        let part = |which, sizes| Purpose { which, precision, sizes };
        for (position, (tokenizer, network)) in model.encoders.iter().enumerate() {
            let sizes = GraphSizes { skip: parameters.skip, ..GraphSizes::default() };
            let purpose = part(Which::Encoder(position), sizes);
            let network = model.kept.part(purpose, || network.asset(sizes)?.prepare(&options, device))?;
            encoders.push(TextEncoder::new(tokenizer, network)?);
        }
        // Prompts of different length meet in one batch: then the padding must not be attended to.
        let mask = parameters.batch() > 1 && encoders.iter().any(|encoder| encoder.takes_mask);
        let divisor = model.denoiser.divisor;
        let whole = parameters.latents[1..].iter().all(|side| side % divisor == 0);
        let multiple = if whole { divisor } else { 1 };
        let control = !parameters.controls.is_empty();
        let deep = parameters.speedup == Some(Speedup::DeepCache);
        let sizes = GraphSizes { multiple, mask, time_ids: model.time_ids, control, deep, ..GraphSizes::default() };
        let prepare = || model.unet.asset(sizes)?.prepare(&options, device);
        let unet = model.kept.part(part(Which::Denoiser, sizes), prepare)?;
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
        let wants = Wants::of(unet.prepared.graph(unet.name())?);
        let sizes = GraphSizes::default();
        let needed = parameters.begins_with_picture();
        let prepare = || model.autoencoder.asset(sizes)?.only("encode")?.prepare(&options, device);
        let image_encoder = needed.then(|| model.kept.part(part(Which::ImageEncoder, sizes), prepare)).transpose()?;
        let prepare = || model.autoencoder.asset(sizes)?.only("decode")?.prepare(&options, device);
        let autoencoder = model.kept.part(part(Which::Decoder, sizes), prepare)?;
        Ok(Self { encoders, wants, unet, controls, image_encoder, autoencoder, multiple })
    }

    /// All of them.
    pub(super) fn parts(&self) -> Vec<Arc<Part>> {
        let encoders = self.encoders.iter().map(|encoder| &encoder.part);
        let controls = self.controls.iter().flat_map(|parts| [&parts.embed, &parts.main]);
        encoders.chain(controls).chain(&self.image_encoder).chain([&self.unet, &self.autoencoder]).cloned().collect()
    }

    /// The U-Net, loaded.
    pub(super) fn unet(&self, terms: &Terms<'_>) -> Result<Unet> {
        let model = self.unet.load(terms)?;
        let has = |name: &str| self.unet.prepared.graph(name).is_ok();
        let shallow = has(SHALLOW).then(|| model.function(SHALLOW)).transpose()?;
        Ok(Unet { whole: model.function(self.unet.name())?, shallow })
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
        let tokens = self.encoders.iter().map(|encoder| encoder.tokenizer.max_length()).max().unwrap_or(1);
        let mut stages = self.encoders.iter().map(|encoder| encoder.plan(tokens)).collect::<Result<Vec<_>>>()?;
        if let Some(encoder) = &self.image_encoder {
            let plan = Self::picture_plan(encoder, parameters)?;
            stages.push(StagePlan::new("image encoder", encoder, &plan, Resident::All)?);
        }
        let tokens = tokens * parameters.pieces;
        let unet = self.unet_plan(parameters, tokens)?;
        let mut unet = StagePlan::new("U-Net", &self.unet, &unet, Resident::All)?;
        if self.unet.prepared.graph(SHALLOW).is_ok() {
            unet.workspace += self.function_plan(&self.unet, SHALLOW, parameters, tokens)?.arena_bytes() as u64;
        }
        for parts in &self.controls {
            // They are in memory beside it, each with a workspace of its own, what they yield, and its sum.
            let plan = self.call_plan(&parts.main, parameters, tokens)?;
            let stage = StagePlan::new("ControlNet", &parts.main, &plan, Resident::All)?;
            let embedding =
                StagePlan::new("ControlNet", &parts.embed, &self.embedding_plan(parts, parameters)?, Resident::All)?;
            unet.weights += stage.weights + embedding.weights;
            unet.workspace += stage.workspace + embedding.workspace;
        }
        stages.push(unet);
        stages.push(StagePlan::new("decoder", &self.autoencoder, &self.decoder_plan(parameters)?, decoder_keeps)?);
        Ok(MemoryPlan { stages, kept })
    }

    /// The floating-point operations of all products that drawing `texts` takes.
    pub(super) fn flops(&self, parameters: &Parameters, texts: &[&str]) -> Result<u64> {
        let (mut total, mut tokens) = (0, 1);
        for encoder in &self.encoders {
            let (flops, most) = encoder.flops(texts)?;
            (total, tokens) = (total + flops, tokens.max(most));
        }
        if let Some(encoder) = &self.image_encoder {
            total += Self::picture_plan(encoder, parameters)?.cost().flops;
        }
        let calls = parameters.calls() as u64;
        total += calls * self.unet_plan(parameters, tokens * parameters.pieces)?.cost().flops;
        for parts in &self.controls {
            total += self.embedding_plan(parts, parameters)?.cost().flops;
            total += calls * self.call_plan(&parts.main, parameters, tokens * parameters.pieces)?.cost().flops;
        }
        Ok(total + parameters.count as u64 * self.decoder_plan(parameters)?.cost().flops)
    }

    fn unet_plan(&self, parameters: &Parameters, tokens: usize) -> Result<Plan> {
        self.call_plan(&self.unet, parameters, tokens)
    }

    /// The plan of a network that is called with all latents and texts.
    fn call_plan(&self, part: &Part, parameters: &Parameters, tokens: usize) -> Result<Plan> {
        self.function_plan(part, part.name(), parameters, tokens)
    }

    fn function_plan(&self, part: &Part, name: &str, parameters: &Parameters, tokens: usize) -> Result<Plan> {
        let [_, height, width] = parameters.latents.map(|side| side / self.multiple);
        let sizes = [("batch", parameters.batch()), ("tokens", tokens), ("height", height), ("width", width)];
        part.prepared.plan(name, &Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size))))
    }

    /// The plan of looking at a picture that steers.
    fn embedding_plan(&self, parts: &ControlParts, parameters: &Parameters) -> Result<Plan> {
        let [_, height, width] = parameters.latents.map(|side| side / self.multiple);
        let sizes = [("batch", 1), ("height", height), ("width", width)];
        let sizes = Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size)));
        parts.embed.prepared.plan(parts.embed.name(), &sizes)
    }

    /// The plan of encoding a picture.
    fn picture_plan(encoder: &Part, parameters: &Parameters) -> Result<Plan> {
        let sizes = [("batch", 1), ("height", parameters.size.height), ("width", parameters.size.width)];
        encoder.prepared.plan(encoder.name(), &Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size))))
    }

    fn decoder_plan(&self, parameters: &Parameters) -> Result<Plan> {
        let [_, height, width] = parameters.latents;
        let sizes = [("batch", 1), ("height", height), ("width", width)];
        self.autoencoder
            .prepared
            .plan(self.autoencoder.name(), &Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size))))
    }
}
