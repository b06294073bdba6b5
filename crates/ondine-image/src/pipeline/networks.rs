//! The networks of one drawing, their graphs fitted to it and to this machine.

use ondine_models::GraphSizes;
use ondine_runtime::{Bindings, Options, Plan, Precision, Prepared, Result, Specialize};

use super::{
    encode::{TextEncoder, Wants},
    memory::{MemoryPlan, Resident, StagePlan},
    model::TextToImage,
    settings::Settings,
};

/// Networks of which no weight is loaded.
pub(super) struct Networks<'a> {
    pub(super) encoders: Vec<TextEncoder<'a>>,
    pub(super) wants: Wants,
    pub(super) unet: Prepared,
    pub(super) autoencoder: Prepared,
    /// What the sides of the U-Net's graph are multiples of.
    multiple: usize,
}

impl<'a> Networks<'a> {
    pub(super) fn prepare(model: &'a TextToImage, settings: &Settings, precision: Precision) -> Result<Self> {
        let (options, device) = (Options { precision, ..Options::default() }, &model.device);
        let mut encoders = Vec::new();
        for (tokenizer, network) in &model.encoders {
            encoders.push(TextEncoder::prepare(tokenizer, network, &options, device)?);
        }
        // Prompts of different length meet in one batch: then the padding must not be attended to.
        let mask = settings.batch() > 1 && encoders.iter().any(|encoder| encoder.takes_mask);
        let divisor = model.denoiser.divisor;
        let whole = settings.latents[1..].iter().all(|side| side % divisor == 0);
        let multiple = if whole { divisor } else { 1 };
        let unet = model.unet.asset(GraphSizes { multiple, mask })?;
        let wants = Wants::of(unet.function("main")?);
        let unet = unet.prepare(&options, device)?;
        let autoencoder = model.autoencoder.asset(GraphSizes::default())?.only("decode")?.prepare(&options, device)?;
        Ok(Self { encoders, wants, unet, autoencoder, multiple })
    }

    /// The memory of every stage; `cached` if weights that are let go come back from a cache.
    pub(super) fn memory(&self, settings: &Settings, cached: bool) -> Result<MemoryPlan> {
        let tokens = self.encoders.iter().map(|encoder| encoder.tokenizer.max_length()).max().unwrap_or(1);
        let mut stages = self.encoders.iter().map(|encoder| encoder.plan(tokens)).collect::<Result<Vec<_>>>()?;
        let unet = self.unet_plan(settings, tokens)?;
        stages.push(StagePlan::new("U-Net", &self.unet, "main", &unet, Resident::All)?);
        let (decoder, resident) = (self.decoder_plan(settings)?, Resident::frugal(cached));
        stages.push(StagePlan::new("decoder", &self.autoencoder, "decode", &decoder, resident)?);
        Ok(MemoryPlan { stages })
    }

    /// The floating-point operations of all products that drawing `texts` takes.
    pub(super) fn flops(&self, settings: &Settings, texts: &[&str]) -> Result<u64> {
        let (mut total, mut tokens) = (0, 1);
        for encoder in &self.encoders {
            let (flops, most) = encoder.flops(texts)?;
            (total, tokens) = (total + flops, tokens.max(most));
        }
        let calls = settings.sampler.timesteps().len() as u64;
        total += calls * self.unet_plan(settings, tokens)?.cost().flops;
        let decoder = self.decoder_plan(settings)?.cost().flops;
        Ok(total + settings.count as u64 * decoder)
    }

    fn unet_plan(&self, settings: &Settings, tokens: usize) -> Result<Plan> {
        let [_, height, width] = settings.latents.map(|side| side / self.multiple);
        let sizes = [("batch", settings.batch()), ("tokens", tokens), ("height", height), ("width", width)];
        self.unet.plan("main", &Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size))))
    }

    fn decoder_plan(&self, settings: &Settings) -> Result<Plan> {
        let [_, height, width] = settings.latents;
        let sizes = [("batch", 1), ("height", height), ("width", width)];
        self.autoencoder.plan("decode", &Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size))))
    }
}
