//! A model folder, opened: its networks, and the facts that drawing depends on.

use std::path::Path;

use ondine_graph::{Context, Error, ErrorKind, Result, fail};
use ondine_models::{
    DenoiserFacts, HiddenStates, LatentSpace, Network, Pipeline, Source, TextLayout,
    lora::{Adapter, Applied},
    textual_inversion::{Embedding, Taught},
};
use ondine_runtime::{Cache, Device, Precision};
use serde::Deserialize;
use serde_json::Value;

use super::{
    beside::Beside,
    fit,
    part::Kept,
    prompter::Prompter,
    text::{self, Encoder},
};
use crate::schedule::{SchedulerClass, SchedulerConfig};

/// Pictures from text. Networks are loaded when their stage begins and dropped when it ends, unless
/// [`TextToImage::keep_loaded`] says otherwise.
#[derive(Debug)]
pub struct TextToImage {
    pub(super) name: String,
    pub(super) encoders: Vec<Encoder>,
    /// The adapters that changed the networks, and by how much.
    pub(super) adapters: Vec<(String, f32)>,
    /// The words that the encoders were taught.
    pub(super) words: Vec<String>,
    /// What makes prompts of pictures.
    pub(super) prompters: Vec<Prompter>,
    /// Networks that steer, by name.
    pub(super) controls: Vec<(String, Network)>,
    pub(super) denoiser: Network,
    /// The component that it is.
    pub(super) denoiser_name: &'static str,
    pub(super) autoencoder: Network,
    pub(super) facts: DenoiserFacts,
    pub(super) latents: LatentSpace,
    /// What the denoiser takes beside the latents.
    pub(super) beside: Beside,
    /// Numbers about the picture's size that the denoiser takes, if it does: six, or five with a score of beauty.
    pub(super) time_ids: usize,
    /// True if no negative prompt means embeddings of zeros.
    pub(super) zero_without_negative: bool,
    pub(super) scheduler: SchedulerConfig,
    pub(super) defaults: Defaults,
    pub(super) precision: Option<Precision>,
    pub(super) memory: Option<u64>,
    pub(super) keep: bool,
    pub(super) kept: Kept,
    /// Bytes that count against the limit besides those of the plan.
    pub(super) besides: u64,
    pub(super) device: Device,
    pub(super) cache: Option<Cache>,
}

/// The components that encoders and their tokenizers are, by place.
const ENCODERS: [(&str, &str); text::ENCODERS] =
    [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"), ("tokenizer_3", "text_encoder_3")];

/// What the model likes when the request leaves it open: the entry `ondine` of its `model_index.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Defaults {
    pub(super) steps: Option<usize>,
    pub(super) guidance: Option<f32>,
    pub(super) precision: Option<Precision>,
    pub(super) upscaler: Option<String>,
    /// Which states of a language model are the text, as the pipelines of diffusers count them
    /// (`text_encoder_out_layers`).
    pub(super) text_layers: Option<Vec<i32>>,
}

impl TextToImage {
    /// Opens a model: reads its configs, checks that its weights fit them, loads nothing yet.
    ///
    /// # Errors
    /// If a component is missing, broken or of a class that is not supported.
    pub fn open(source: Source, device: Device, cache: Option<Cache>) -> Result<Self> {
        Self::of_pipeline(&Pipeline::open(source)?, device, cache)
    }

    /// As [`TextToImage::open`], of a pipeline that may have [other parts](Pipeline::replace) than its folder.
    ///
    /// # Errors
    /// As [`TextToImage::open`].
    pub fn of_pipeline(pipeline: &Pipeline, device: Device, cache: Option<Cache>) -> Result<Self> {
        fit::parts(pipeline)?;
        let denoiser_name = if pipeline.get("transformer").is_some() { "transformer" } else { "unet" };
        let denoiser = pipeline.network(denoiser_name)?;
        let defaults = defaults(pipeline)?;
        let facts = facts(&denoiser, pipeline, &defaults)?;
        let mut encoders = Vec::new();
        for (place, (tokenizer, encoder)) in ENCODERS.into_iter().enumerate() {
            if pipeline.get(encoder).is_some() {
                let (source, folder) = pipeline.tokenizer(tokenizer, encoder)?;
                let network = pipeline.network(encoder)?;
                let most = match text::limit(facts.text, place) {
                    Some(tokens) => tokens,
                    None => network.text()?.max_tokens,
                };
                let tokenizer = text::tokenizer(facts.text, source, &folder, most)?;
                encoders.push(Encoder { place, tokenizer, network });
            }
        }
        let autoencoder = pipeline.network("vae")?;
        let latents = autoencoder.latent_space()?;
        let scored = pipeline.options.get("requires_aesthetics_score").and_then(Value::as_bool) == Some(true);
        let time_ids = if scored { 5 } else { 6 };
        let beside = fit::networks(&encoders, &denoiser, &facts, &latents, time_ids)?;
        let zero = pipeline.options.get("force_zeros_for_empty_prompt").and_then(Value::as_bool);
        Ok(Self {
            name: name(&pipeline.source),
            encoders,
            adapters: Vec::new(),
            words: Vec::new(),
            prompters: Vec::new(),
            controls: Vec::new(),
            denoiser,
            denoiser_name,
            autoencoder,
            facts,
            latents,
            beside,
            time_ids,
            zero_without_negative: zero.unwrap_or(false),
            scheduler: scheduler(pipeline)?,
            defaults,
            precision: None,
            memory: None,
            keep: false,
            kept: Kept::default(),
            besides: 0,
            device,
            cache,
        })
    }

    /// Changes the networks by an adapter (LoRA and its kin), the denoiser by a share of it, and text encoders by
    /// another. What was changed before stays so.
    ///
    /// # Errors
    /// If nothing of the adapter fits the model; what of it does not is in the report.
    pub fn adapt(&mut self, adapter: &Adapter, denoiser: f32, text: f32) -> Result<Applied> {
        if !(denoiser.is_finite() && text.is_finite()) {
            fail!(Argument, "{}: strengths are {denoiser} and {text}; give numbers", adapter.name);
        }
        let mut networks: Vec<(&str, f32, &mut Network)> = vec![(self.denoiser_name, denoiser, &mut self.denoiser)];
        for encoder in &mut self.encoders {
            networks.push((ENCODERS[encoder.place].1, text, &mut encoder.network));
        }
        let applied = adapter.apply(&mut networks)?;
        self.kept.only(&[], false);
        self.adapters.push((adapter.name.clone(), denoiser));
        Ok(applied)
    }

    /// Teaches the text encoders a word, which means the embedding's vectors in prompts from then on.
    ///
    /// # Errors
    /// If the embedding was made for another model.
    pub fn teach(&mut self, embedding: &Embedding) -> Result<Taught> {
        let named = self.encoders.iter_mut().map(|encoder| {
            let Encoder { place, tokenizer, network } = encoder;
            (ENCODERS[*place].1, tokenizer, network)
        });
        let taught = embedding.teach(&mut named.collect::<Vec<_>>())?;
        self.kept.only(&[], false);
        self.words.push(taught.word.clone());
        Ok(taught)
    }

    /// Adds a network that steers drawings by a picture (`ControlNet`); yields the number by which requests name it.
    ///
    /// # Errors
    /// If it is none, or was made for another denoiser.
    pub fn add_control(&mut self, name: &str, network: Network) -> Result<usize> {
        fit::control(&self.denoiser, &network, &self.latents, self.time_ids).at(|| &network.name)?;
        self.controls.push((name.to_owned(), network));
        Ok(self.controls.len() - 1)
    }

    /// The network that denoises.
    #[must_use]
    pub fn denoiser(&self) -> &Network {
        &self.denoiser
    }

    /// The name of the network that is to make its pictures larger, if the model says so; whoever draws does that.
    #[must_use]
    pub fn upscaler(&self) -> Option<&str> {
        self.defaults.upscaler.as_deref()
    }

    /// What the denoiser is called in messages.
    pub(super) fn denoiser_label(&self) -> &'static str {
        if self.denoiser_name == "unet" { "U-Net" } else { self.denoiser_name }
    }

    /// Chooses the name by which pictures tell what drew them, instead of that of the model's folder.
    pub fn set_name(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// Chooses the type of weights and activations, instead of the model's own choice.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = Some(precision);
    }

    /// Leaves the networks loaded from one drawing to the next, if the memory that is allowed holds all of them beside
    /// the drawing; one that it does not hold with them drops them, and loads each when its stage begins.
    ///
    /// What stays is what the last drawing used: others of another precision, or of sizes that the denoiser halves with
    /// a remainder, load anew.
    pub fn keep_loaded(&mut self, keep: bool) {
        self.keep = keep;
        if !keep {
            self.kept.only(&[], false);
        }
    }

    /// Limits the memory of a drawing, in bytes: half precision is taken if that is what it takes and no precision is
    /// chosen, and what does not fit is refused before anything is loaded.
    pub fn set_memory(&mut self, limit: u64) {
        self.memory = Some(limit);
    }

    /// Says how many bytes the process takes besides what a drawing plans, weights and workspace: they count against
    /// the limit, too.
    pub fn set_memory_besides(&mut self, bytes: u64) {
        self.besides = bytes;
    }
}

/// What a model is called: by its folder, whose place is nobody's business.
fn name(source: &Source) -> String {
    let folder = match source {
        Source::Folder(folder) => folder,
        Source::Inside(file, _) => {
            return Path::new(&**file).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        Source::Embedded(_) => return source.describe(""),
    };
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.clone());
    let mut parts = whole.components().rev().map(|part| part.as_os_str().to_string_lossy());
    match [parts.next(), parts.next(), parts.next()] {
        // A folder of the cache of a model hub: models--OWNER--NAME/snapshots/COMMIT.
        [_, Some(snapshots), Some(model)] if snapshots == "snapshots" && model.contains("--") => {
            model.rsplit("--").next().unwrap_or_default().to_owned()
        }
        [name, ..] => name.unwrap_or_default().into_owned(),
    }
}

/// The facts of the denoiser, with those that the pipeline knows better.
fn facts(denoiser: &Network, pipeline: &Pipeline, defaults: &Defaults) -> Result<DenoiserFacts> {
    let mut facts = denoiser.denoiser()?;
    let distilled = pipeline.options.get("is_distilled").and_then(Value::as_bool) == Some(true);
    if let Some(flow) = facts.flow.as_mut().filter(|_| distilled)
        && let Some((steps, guidance)) = flow.distilled
    {
        (flow.steps, flow.guidance) = (steps, guidance);
    }
    if let (TextLayout::Chat { states, .. }, Some(layers)) = (&mut facts.text, &defaults.text_layers) {
        *states = HiddenStates::of(layers).at(|| "model_index.json: ondine: text_layers")?;
    }
    Ok(facts)
}

fn defaults(pipeline: &Pipeline) -> Result<Defaults> {
    let Some(value) = pipeline.options.get("ondine") else { return Ok(Defaults::default()) };
    Defaults::deserialize(value)
        .map_err(|error| Error::new(ErrorKind::Format, format!("model_index.json: ondine: {error}")))
}

fn scheduler(pipeline: &Pipeline) -> Result<SchedulerConfig> {
    let file = "scheduler/scheduler_config.json";
    let component = pipeline.component("scheduler")?;
    // Folders keep the config of one scheduler when the index names another; diffusers goes by the index.
    let indexed = (component.library == "diffusers").then(|| SchedulerClass::from_name(&component.class));
    let class = indexed.transpose().at(|| pipeline.source.describe("model_index.json"))?;
    let text = pipeline.source.text(file)?;
    let mut config = SchedulerConfig::of_class(&text, class).at(|| pipeline.source.describe(file))?;
    if pipeline.class.as_deref() == Some("StableDiffusionPipeline") {
        // Folders of this class were published before these keys meant anything; diffusers corrects them too.
        config.steps_offset = 1;
        config.clip = None;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_called_by_their_folders() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| Source::Folder(folder.path().join(path));
        for path in ["tiny-sdxl", "models--runwayml--sd15/snapshots/0123abc"] {
            std::fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        assert_eq!([name(&at("tiny-sdxl/")), name(&at("tiny-sdxl/."))], ["tiny-sdxl", "tiny-sdxl"]);
        assert_eq!(name(&at("models--runwayml--sd15/snapshots/0123abc")), "sd15");
        assert_eq!(name(&at("models--runwayml--sd15/snapshots")), "snapshots");
        assert_eq!(name(&Source::Embedded(&[])), "built-in");
    }
}
