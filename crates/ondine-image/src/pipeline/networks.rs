//! The networks of one drawing, their graphs fitted to it and to this machine.

use ondine_graph::{Bindings, Result};
use ondine_models::GraphSizes;
use ondine_runtime::{Options, Plan, Precision, Prepared, Specialize};

use super::{
    encode::{TextEncoder, Wants},
    memory::{MemoryPlan, Resident, StagePlan},
    model::TextToImage,
    parameters::Parameters,
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
    pub(super) fn prepare(model: &'a TextToImage, parameters: &Parameters, precision: Precision) -> Result<Self> {
        let (options, device) = (Options { precision, ..Options::default() }, &model.device);
        let mut encoders = Vec::new();
        for (tokenizer, network) in &model.encoders {
            encoders.push(TextEncoder::prepare(tokenizer, network, &options, device)?);
        }
        // Prompts of different length meet in one batch: then the padding must not be attended to.
        let mask = parameters.batch() > 1 && encoders.iter().any(|encoder| encoder.takes_mask);
        let divisor = model.denoiser.divisor;
        let whole = parameters.latents[1..].iter().all(|side| side % divisor == 0);
        let multiple = if whole { divisor } else { 1 };
        let unet = model.unet.asset(GraphSizes { multiple, mask })?;
        let wants = Wants::of(unet.function("main")?);
        let unet = unet.prepare(&options, device)?;
        let autoencoder = model.autoencoder.asset(GraphSizes::default())?.only("decode")?.prepare(&options, device)?;
        Ok(Self { encoders, wants, unet, autoencoder, multiple })
    }

    /// The memory of every stage; `cached` if weights that are let go come back from a cache.
    pub(super) fn memory(&self, parameters: &Parameters, cached: bool) -> Result<MemoryPlan> {
        let tokens = self.encoders.iter().map(|encoder| encoder.tokenizer.max_length()).max().unwrap_or(1);
        let mut stages = self.encoders.iter().map(|encoder| encoder.plan(tokens)).collect::<Result<Vec<_>>>()?;
        let unet = self.unet_plan(parameters, tokens)?;
        stages.push(StagePlan::new("U-Net", &self.unet, "main", &unet, Resident::All)?);
        let (decoder, resident) = (self.decoder_plan(parameters)?, Resident::frugal(cached));
        stages.push(StagePlan::new("decoder", &self.autoencoder, "decode", &decoder, resident)?);
        Ok(MemoryPlan { stages })
    }

    /// The floating-point operations of all products that drawing `texts` takes.
    pub(super) fn flops(&self, parameters: &Parameters, texts: &[&str]) -> Result<u64> {
        let (mut total, mut tokens) = (0, 1);
        for encoder in &self.encoders {
            let (flops, most) = encoder.flops(texts)?;
            (total, tokens) = (total + flops, tokens.max(most));
        }
        let calls = parameters.sampler.timesteps().len() as u64;
        total += calls * self.unet_plan(parameters, tokens)?.cost().flops;
        Ok(total + parameters.count as u64 * self.decoder_plan(parameters)?.cost().flops)
    }

    fn unet_plan(&self, parameters: &Parameters, tokens: usize) -> Result<Plan> {
        let [_, height, width] = parameters.latents.map(|side| side / self.multiple);
        let sizes = [("batch", parameters.batch()), ("tokens", tokens), ("height", height), ("width", width)];
        self.unet.plan("main", &Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size))))
    }

    fn decoder_plan(&self, parameters: &Parameters) -> Result<Plan> {
        let [_, height, width] = parameters.latents;
        let sizes = [("batch", 1), ("height", height), ("width", width)];
        self.autoencoder.plan("decode", &Bindings::from(sizes.map(|(symbol, size)| (symbol.into(), size))))
    }
}
