//! What is predicted in a step: by the denoiser under the guidance of texts and pictures, by its outermost blocks
//! alone, or from what it said before.

use std::collections::BTreeMap;

use ondine_graph::{NDArray, Result, fail};
use ondine_models::{FlowFacts, GuidanceInput, REFERENCES, unet::IMAGE_PROMPTS};
use ondine_runtime::{Function, State, Wish};

use super::{
    conditioning::{Conditioning, batch, takes},
    control::{self, Steering},
    edit::Start,
    image_prompt::Shown,
    parameters::Parameters,
    preview::Colours,
};
use crate::{
    forecast::Forecast,
    guidance,
    request::{Request, Speedup},
};

/// What is denoised.
pub(super) struct Task<'a> {
    /// The texts that guide, by their index.
    pub(super) texts: &'a [Conditioning],
    pub(super) request: &'a Request,
    pub(super) start: Start,
    /// What steers the denoiser.
    pub(super) steering: Steering,
    /// What pictures show that are prompts.
    pub(super) shown: Vec<Shown>,
    /// What latents look like, if that is asked for on the way.
    pub(super) colours: Option<Colours>,
    /// How guidance enters.
    pub(super) guidance: GuidanceInput,
    /// What goes with rectified flow, if the denoiser was trained on it.
    pub(super) flow: Option<FlowFacts>,
    /// Numbers about the picture's size that the denoiser takes, if it does.
    pub(super) time_ids: usize,
}

/// Of so many steps one runs the whole denoiser if its deep maps are kept (Ma et al. 2023).
const DEEP_EVERY: usize = 3;
/// The first steps run it whole: what the picture will be of is decided there.
const WHOLE_FIRST: usize = 4;

/// The denoiser of a drawing.
pub(super) struct Denoiser {
    /// All of it.
    pub(super) whole: Function,
    /// Its outermost blocks, for which deep maps are kept.
    pub(super) shallow: Option<Function>,
}

/// Predicts step after step.
pub(super) struct Predictor<'a> {
    denoiser: &'a Denoiser,
    task: &'a Task<'a>,
    steering: Steering,
    /// Passes of a step that is guided.
    passes: usize,
    guiding: Vec<usize>,
    /// What stays the same as long as the same texts guide.
    inputs: BTreeMap<&'static str, NDArray>,
    scaled: Vec<f32>,
    state: State,
    shallow_state: State,
    forecast: Option<Forecast>,
    /// The deep maps, and steps since they were made.
    deep: Option<(NDArray, usize)>,
    /// Calls of the whole denoiser.
    calls: usize,
}

impl<'a> Predictor<'a> {
    pub(super) fn new(denoiser: &'a Denoiser, task: &'a Task<'a>, steering: Steering, parameters: &Parameters) -> Self {
        let forecast = (parameters.speedup == Some(Speedup::Spectrum)).then(|| Forecast::new(parameters.calls()));
        Self {
            denoiser,
            task,
            steering,
            passes: parameters.passes,
            guiding: Vec::new(),
            inputs: BTreeMap::new(),
            scaled: Vec::new(),
            state: State::default(),
            shallow_state: State::default(),
            forecast,
            deep: None,
            calls: 0,
        }
    }

    /// Gives the parameters back their passes, which each call chose; yields how often the whole denoiser was called.
    pub(super) fn finish(self, parameters: &mut Parameters) -> usize {
        parameters.passes = self.passes;
        self.calls
    }

    /// The prediction for the latents that enter a call of the sampler.
    pub(super) fn predict(
        &mut self,
        call: usize,
        latents: &[f32],
        parameters: &mut Parameters,
        wish: &Wish,
    ) -> Result<Vec<f32>> {
        let (index, total) = (call - parameters.first, parameters.calls());
        let mut texts = parameters.prompts.at(call / parameters.scheduler.class.calls_per_step());
        parameters.passes = if parameters.guides(index, total) { self.passes } else { 1 };
        if parameters.passes == 1 && self.passes > 1 {
            texts = texts.into_iter().skip(1).take(1).collect();
        }
        if texts != self.guiding {
            self.inputs = fixed_inputs(&self.denoiser.whole, self.task, parameters, &texts)?;
            self.guiding = texts;
            self.deep = None;
            self.forecast.iter_mut().for_each(Forecast::reset);
        }
        if let Some(forecast) = self.forecast.as_mut().filter(|forecast| forecast.forecasts(index)) {
            return Ok(forecast.forecast(index));
        }
        let output = self.output(call, latents, parameters, wish)?;
        let mut prediction = guided(output.view::<f32>()?, self.task.request, parameters)?;
        if self.task.flow.is_some_and(|flow| flow.to_picture) {
            prediction.iter_mut().for_each(|x| *x = -*x);
        }
        if let Some(forecast) = &mut self.forecast {
            forecast.learn(index, &prediction);
        }
        Ok(prediction)
    }

    /// A timestep as the denoiser takes it.
    fn time(&self, timestep: f32) -> f32 {
        match self.task.flow {
            Some(flow) if flow.to_picture => (flow.time_divisor - timestep) / flow.time_divisor,
            Some(flow) => timestep / flow.time_divisor,
            None => timestep,
        }
    }

    /// What the denoiser says for all passes.
    fn output(&mut self, call: usize, latents: &[f32], parameters: &Parameters, wish: &Wish) -> Result<NDArray> {
        let batch = parameters.batch();
        let [_, height, width] = parameters.latents;
        let timestep = parameters.sampler.timesteps()[call];
        self.scaled.resize(latents.len(), 0.0);
        parameters.sampler.scale_model_input(call, latents, &mut self.scaled);
        let (sample, wide) = model_input(&self.scaled, &self.task.start, parameters);
        self.inputs.insert("sample", NDArray::new(&[batch, wide, height, width], &sample)?);
        self.inputs.insert("timestep", NDArray::new(&[batch], &vec![self.time(timestep); batch])?);
        if let (Some(shallow), Some((deep, age))) = (&self.denoiser.shallow, &mut self.deep)
            && *age < DEEP_EVERY
            && self.calls >= WHOLE_FIRST
        {
            *age += 1;
            let inputs = self.inputs.iter().map(|(name, array)| (*name, array));
            let inputs = inputs.filter(|(name, _)| takes(shallow.graph(), name)).chain([("deep", &*deep)]);
            let inputs: Vec<_> = inputs.collect();
            return shallow.run_until(&inputs, &mut self.shallow_state, wish)?.take("out_sample");
        }
        let residuals = if self.task.request.controls.is_empty() {
            BTreeMap::new()
        } else {
            let steps = [call - parameters.first, parameters.calls()];
            self.steering.residuals(steps, &self.inputs, &control::latents(&self.scaled, parameters)?, wish)?
        };
        let residuals = residuals.iter().map(|(name, array)| (name.as_str(), array));
        let inputs: Vec<_> = self.inputs.iter().map(|(name, array)| (*name, array)).chain(residuals).collect();
        let mut outputs = self.denoiser.whole.run_until(&inputs, &mut self.state, wish)?;
        self.calls += 1;
        if self.denoiser.shallow.is_some() {
            self.deep = Some((outputs.take("deep")?, 1));
        }
        outputs.take("out_sample")
    }
}

/// What the denoiser sees: the latents, once for each pass, and what it takes beside them; and how many channels that
/// is.
/// Guidance by a picture has a pass without the picture, which comes last.
fn model_input(latents: &[f32], start: &Start, parameters: &Parameters) -> (Vec<f32>, usize) {
    let [channels, height, width] = parameters.latents;
    let plane = height * width;
    let Some(beside) = &start.beside else { return (latents.repeat(parameters.passes), channels) };
    let extra = beside.first().map_or(0, Vec::len);
    let mut input = Vec::with_capacity(parameters.passes * (latents.len() + parameters.count * extra));
    for pass in 0..parameters.passes {
        for (latents, beside) in latents.chunks((channels * plane).max(1)).zip(beside) {
            input.extend_from_slice(latents);
            if parameters.by_picture() && pass == 2 {
                input.resize(input.len() + extra, 0.0);
            } else {
                input.extend_from_slice(beside);
            }
        }
    }
    (input, channels + extra / plane.max(1))
}

/// The inputs that stay the same as long as the same texts guide, of those that the denoiser takes.
fn fixed_inputs(
    denoiser: &Function,
    task: &Task<'_>,
    parameters: &Parameters,
    texts: &[usize],
) -> Result<BTreeMap<&'static str, NDArray>> {
    // With guidance by a picture one pass has the prompt and two the negative one, of which the last has no picture.
    let passes = match texts {
        [negative, prompt] if parameters.by_picture() => vec![*prompt, *negative, *negative],
        texts => texts.to_vec(),
    };
    let rows: Vec<&Conditioning> =
        passes.iter().flat_map(|text| std::iter::repeat_n(&task.texts[*text], parameters.count)).collect();
    let mut inputs = batch(&rows)?;
    let pooled = inputs.remove("pooled");
    let takes = |wanted: &str| takes(denoiser.graph(), wanted);
    if !takes("encoder_attention_mask") {
        inputs.remove("encoder_attention_mask");
    }
    for name in ["class_labels", "text_embeds", "pooled_projections"] {
        if takes(name) {
            let Some(pooled) = &pooled else { fail!(Unsupported, "the text encoder yields no {name}") };
            inputs.insert(name, pooled.clone());
        }
    }
    if takes("time_ids") {
        let ids = size_numbers(task, parameters);
        inputs.insert("time_ids", NDArray::new(&[rows.len(), task.time_ids], &ids)?);
    }
    for (name, latents) in REFERENCES.into_iter().zip(&task.start.references) {
        let shape: Vec<usize> = std::iter::once(rows.len()).chain(latents.shape().iter().copied().skip(1)).collect();
        inputs.insert(name, NDArray::new(&shape, &latents.view::<f32>()?.repeat(rows.len()))?);
    }
    for (names, shown) in IMAGE_PROMPTS.into_iter().zip(&task.shown) {
        let negative = passes.iter().map(|text| parameters.prompts.is_negative(*text));
        let negative = negative.flat_map(|negative| std::iter::repeat_n(negative, parameters.count));
        inputs.extend(names.into_iter().zip(shown.inputs(negative)?));
    }
    match task.guidance {
        GuidanceInput::Waves(width) => {
            let embedding = scale_embedding(parameters.guidance, width);
            inputs.insert("timestep_cond", NDArray::new(&[rows.len(), width], &embedding.repeat(rows.len()))?);
        }
        GuidanceInput::Number => {
            inputs.insert("guidance", NDArray::new(&[rows.len()], &vec![parameters.guidance; rows.len()])?);
        }
        GuidanceInput::Passes => {}
    }
    Ok(inputs)
}

/// Original size, crop corner and target size, all as if the picture was drawn whole (Podell et al. 2023); in place of
/// the target size a refiner takes a score of beauty, which is low for the negative prompt.
fn size_numbers(task: &Task<'_>, parameters: &Parameters) -> Vec<f32> {
    const SCORES: [f32; 2] = [2.5, 6.0];
    let (height, width) = (parameters.size.height as f32, parameters.size.width as f32);
    let passes: Vec<usize> = match parameters.passes {
        1 => vec![1],
        3 if parameters.by_picture() => vec![1, 0, 0],
        passes => (0..passes).map(|pass| pass.min(1)).collect(),
    };
    let of = |pass: usize| match task.time_ids {
        5 => vec![height, width, 0.0, 0.0, SCORES[pass]],
        _ => vec![height, width, 0.0, 0.0, height, width],
    };
    passes.iter().flat_map(|&pass| of(pass).repeat(parameters.count)).collect()
}

/// The prediction for each picture: that of the prompt, led away from the negative one's if there is one, and from that
/// without the picture (Brooks et al. 2023).
fn guided(output: &[f32], request: &Request, parameters: &Parameters) -> Result<Vec<f32>> {
    if parameters.passes == 1 {
        return Ok(output.to_vec());
    }
    if parameters.by_picture() {
        let third = output.len() / 3;
        let (text, image, none) = (&output[..third], &output[third..2 * third], &output[2 * third..]);
        let mut prediction =
            guidance::guide_by_picture([text, image, none], parameters.guidance, parameters.image_guidance)?;
        if request.guidance_rescale > 0.0 {
            guidance::rescale(&mut prediction, text, request.guidance_rescale, third / request.count)?;
        }
        return Ok(prediction);
    }
    let mut passes = output.chunks(output.len() / parameters.passes);
    let (Some(negative), Some(positive)) = (passes.next(), passes.next()) else {
        fail!(Internal, "guidance without two passes")
    };
    let (weights, scale) = (parameters.prompts.weights(), parameters.guidance + (1.0 - parameters.unguided));
    let mut prediction = positive.to_vec();
    guidance::guide(&mut prediction, negative, scale * weights.first().copied().unwrap_or(1.0))?;
    for (further, weight) in passes.zip(weights.iter().skip(1)) {
        guidance::compose(&mut prediction, further, negative, scale * weight)?;
    }
    if request.guidance_rescale > 0.0 {
        guidance::rescale(&mut prediction, positive, request.guidance_rescale, positive.len() / request.count)?;
    }
    Ok(prediction)
}

/// The guidance scale as models distilled with guidance take it: sinusoids of `1000 (scale - 1)`, sines first
/// (Luo et al. 2023, as in diffusers' `get_guidance_scale_embedding`).
fn scale_embedding(scale: f32, width: usize) -> Vec<f32> {
    let half = width / 2;
    let position = (scale - 1.0) * 1000.0;
    let step = 10_000_f32.ln() / (half.max(2) - 1) as f32;
    let angles: Vec<f32> = (0..half).map(|i| position * (-step * i as f32).exp()).collect();
    let waves = angles.iter().map(|a| a.sin()).chain(angles.iter().map(|a| a.cos()));
    waves.chain(std::iter::repeat_n(0.0, width % 2)).collect()
}
