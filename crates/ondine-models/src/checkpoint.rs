//! Checkpoints of latent diffusion in one file, as people share them: `.safetensors`, `.ckpt`, `.gguf`.
//!
//! Such a file holds the tensors of all networks of a pipeline under the names of the program that trained them
//! (CompVis' and Stability AI's), and no configs. What it is follows from names and shapes alone; each finding is kept
//! with its reason ([`Finding`]), and what no tensor says takes the value that all published models have. Configs as
//! diffusers saves them may be given instead, for models that are built otherwise.

mod autoencoder;
mod container;
mod schedule;
mod t5;
mod tensors;
mod text;
mod tokenizer_files;
pub(crate) mod transformer;
mod unet;

use std::{collections::BTreeMap, fmt, path::Path};

use ondine_graph::{Context, Result, Weights, fail};
use serde_json::{Map, Value, json};

use crate::{
    network::{CONFIG, Network},
    unet::control,
    upscaler,
    weights::{Files, Source},
};
use container::Contents;
use tensors::shape;
use text::Use;

/// Something that is known of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is, such as `v-prediction`.
    pub what: String,
    /// What says so, such as ``key `v_pred` ``.
    pub why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.why)
    }
}

/// A network of a checkpoint, its tensors under the names that its class has in diffusers or transformers.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Its class.
    pub(crate) class: String,
    /// The text of its `config.json`, if it can be known.
    pub(crate) config: Option<String>,
    pub(crate) weights: Weights,
    /// Where it comes from, for messages.
    pub(crate) name: String,
}

/// A checkpoint, its parts told apart.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) findings: Vec<Finding>,
    /// By the names of diffusers: `unet`, `transformer`, `vae`, `text_encoder`, `text_encoder_2`, `text_encoder_3`.
    pub(crate) parts: BTreeMap<&'static str, Part>,
    /// What stands in files beside the networks: tokenizers and scheduler.
    pub(crate) files: Files,
    /// Entries of a `model_index.json` that are no components.
    pub(crate) options: Map<String, Value>,
}

const UNET: &str = "unet";
const TRANSFORMER: &str = "transformer";
const VAE: &str = "vae";
const TEXT: &str = "text_encoder";
const TEXT_2: &str = "text_encoder_2";
const TEXT_3: &str = "text_encoder_3";
/// The parts in the order in which they are read: the U-Net asks how wide the vector of the text is, and encoders come
/// first.
const PARTS: [&str; 6] = [TEXT, TEXT_2, TEXT_3, VAE, UNET, TRANSFORMER];

/// Parts by the beginnings of names, the longer before the shorter.
const PREFIXES: &[(&str, &str)] = &[
    ("model.diffusion_model.", UNET),
    ("diffusion_model.", UNET),
    ("first_stage_model.", VAE),
    ("cond_stage_model.transformer.", TEXT),
    ("cond_stage_model.model.", TEXT),
    ("conditioner.embedders.0.transformer.", TEXT),
    ("conditioner.embedders.0.model.", TEXT_2),
    ("conditioner.embedders.1.transformer.", TEXT_2),
    ("conditioner.embedders.1.model.", TEXT_2),
    ("text_encoders.clip_l.transformer.", TEXT),
    ("text_encoders.clip_g.transformer.", TEXT_2),
    ("text_encoders.t5xxl.transformer.", TEXT_3),
    ("unet.", UNET),
    ("vae.", VAE),
    ("text_encoder.", TEXT),
    ("text_encoder_2.", TEXT_2),
    ("text_encoder_3.", TEXT_3),
    ("transformer.", TRANSFORMER),
];

/// Tensors of networks that stand alone in their file, and which part they are then.
const ALONE: &[(&str, &str)] = &[
    ("input_blocks.0.0.weight", UNET),
    ("time_embedding.linear_1.weight", UNET),
    ("decoder.conv_in.weight", VAE),
    ("text_model.embeddings.token_embedding.weight", TEXT),
    ("embeddings.token_embedding.weight", TEXT),
    ("transformer.resblocks.0.ln_1.weight", TEXT),
    (t5::MARKS[0], TEXT_3),
    (t5::MARKS[1], TEXT_3),
    ("joint_blocks.0.x_block.attn.qkv.weight", TRANSFORMER),
    ("double_blocks.0.img_attn.qkv.weight", TRANSFORMER),
    ("transformer_blocks.0.attn.add_q_proj.weight", TRANSFORMER),
];

/// Tensors of models of other kinds, by a part of a name.
const OTHERS: &[(&str, &str)] = &[
    ("control_model.", "a ControlNet, no model: give it with --control and a model with --model"),
    ("controlnet_cond_embedding.", "a ControlNet, no model: give it with --control and a model with --model"),
    ("lora_", "an adapter (LoRA), no model: give it with --lora and a model with --model"),
    (".lora", "an adapter (LoRA), no model: give it with --lora and a model with --model"),
    (".hada_w", "an adapter (LoHa), no model: give it with --lora and a model with --model"),
    (".lokr_w", "an adapter (LoKr), no model: give it with --lora and a model with --model"),
    ("edm_mean", "a model on the noise levels of EDM (Playground 2.5), which are not supported yet"),
    (
        "string_to_param",
        "an embedding (textual inversion), no model: give it with --embedding and a model with --model",
    ),
    ("emb_params", "an embedding (textual inversion), no model: give it with --embedding and a model with --model"),
];

/// The tensors of a file by part, each without the beginning of its name that says so.
fn split(weights: &mut Weights) -> Result<BTreeMap<&'static str, Weights>> {
    let mut parts: BTreeMap<&'static str, Weights> = BTreeMap::new();
    let all = std::mem::take(weights);
    let alone = ALONE.iter().find(|(tensor, _)| all.get(tensor).is_some());
    for (path, tensor) in all.iter() {
        let of_part = || PREFIXES.iter().find_map(|(prefix, part)| Some((*part, path.strip_prefix(prefix)?)));
        let place = match alone {
            Some((_, part)) => Some((*part, &**path)),
            None => of_part(),
        };
        match place {
            Some((part, name)) => parts.entry(part).or_default().insert(name, tensor.clone()),
            None => weights.insert(path, tensor.clone()),
        }
    }
    // Programs write transformers where U-Nets were.
    if parts.get(UNET).and_then(transformer::Kind::of).is_some()
        && let Some(found) = parts.remove(UNET)
    {
        parts.insert(TRANSFORMER, found);
    }
    // The T5 is the second encoder where there are two.
    if parts.get(TRANSFORMER).and_then(transformer::Kind::of) == Some(transformer::Kind::Flux)
        && let Some(found) = parts.remove(TEXT_3)
    {
        parts.insert(TEXT_2, found);
    }
    if parts.is_empty() {
        let names = || all.paths().map(|path| &**path);
        for (name, what) in OTHERS {
            if names().any(|path| path.contains(name)) {
                fail!(Unsupported, "it is {what}");
            }
        }
        let some: Vec<_> = names().take(3).map(|path| format!("`{path}`")).collect();
        fail!(
            Unsupported,
            "its tensors are those of no model for pictures that is known here: {}, ...",
            some.join(", ")
        );
    }
    Ok(parts)
}

/// What is known of a U-Net and the text encoders beside it.
struct Facts {
    channels: usize,
    /// True if it takes a vector of the whole text, and sizes.
    sizes: bool,
    context: Option<usize>,
    /// True if the one text encoder reads what XL's second one does.
    refiner: bool,
    /// True if the only text encoder is OpenCLIP's.
    open_clip: bool,
    /// True if there are text encoders.
    texts: bool,
}

impl Facts {
    fn of(parts: &BTreeMap<&str, Weights>) -> Option<Self> {
        let unet = parts.get(UNET)?;
        let first = |paths: [&str; 2]| paths.into_iter().find_map(|path| shape(unet, path));
        let context = unet.paths().find(|path| path.ends_with("attn2.to_k.weight")).and_then(|path| shape(unet, path));
        Some(Self {
            channels: first(["input_blocks.0.0.weight", "conv_in.weight"]).and_then(|shape| shape.get(1).copied())?,
            sizes: first(["label_emb.0.0.weight", "add_embedding.linear_1.weight"]).is_some(),
            context: context.and_then(|shape| shape.get(1).copied()),
            refiner: parts.contains_key(TEXT_2) && !parts.contains_key(TEXT),
            open_clip: parts.get(TEXT).is_some_and(text::is_open_clip),
            texts: parts.contains_key(TEXT_2) || parts.contains_key(TEXT),
        })
    }

    /// True for the second generation, whose text encoder is OpenCLIP's.
    fn second(&self) -> bool {
        !self.sizes && (self.open_clip || self.context == Some(1024) && !self.texts)
    }

    fn family(&self) -> Finding {
        let width = self.context.unwrap_or_default();
        let (what, why) = match (self.sizes, self.refiner) {
            (true, true) => {
                ("SDXL refiner", format!("`label_emb`, one text encoder of OpenCLIP, text of width {width}"))
            }
            (true, false) if self.texts => {
                ("SDXL base", format!("`label_emb`, two text encoders, text of width {width}"))
            }
            (true, false) => ("SDXL", format!("`label_emb`, text of width {width}")),
            (false, _) if self.second() => ("Stable Diffusion 2", format!("text of width {width}, OpenCLIP")),
            (false, _) if width == 768 => ("Stable Diffusion 1", format!("text of width {width}, CLIP")),
            (false, _) => ("latent diffusion", format!("text of width {width}")),
        };
        Finding { what: what.to_owned(), why }
    }

    /// What the channels beside the latents are for.
    fn task(&self) -> Option<Finding> {
        let what = match self.channels {
            9 => "for inpainting",
            8 => "for editing by instruction",
            5 => "for depth",
            _ => return None,
        };
        Some(Finding { what: what.to_owned(), why: format!("{} input channels", self.channels) })
    }
}

impl Checkpoint {
    /// Reads a file and tells its parts apart; of parts that `configs`, a folder as diffusers saves it, has a config
    /// of, that counts.
    ///
    /// # Errors
    /// If the file is damaged, of another kind, or a part is not built like those that are known.
    pub(crate) fn open(path: &Path, configs: Option<&Source>) -> Result<Self> {
        let contents = container::open(path)?;
        let name = path.display().to_string();
        Self::of(&name, contents, configs).at(|| &name)
    }

    fn of(name: &str, mut contents: Contents, configs: Option<&Source>) -> Result<Self> {
        let mut tensors = split(&mut contents.weights)?;
        let facts = Facts::of(&tensors);
        let mut findings = Vec::new();
        let mut files = Files::default();
        let mut options = Map::new();
        let kind = tensors.get(TRANSFORMER).and_then(transformer::Kind::of);
        let latents = match (kind, &facts) {
            (Some(kind), _) => schedule::latents_of(kind),
            (None, Some(facts)) if facts.sizes => (0.13025, None),
            _ => (0.18215, None),
        };
        if let Some(kind) = kind {
            let (what, why) = schedule::family(kind, tensors.get(TRANSFORMER));
            findings.push(Finding { what: what.to_owned(), why: why.to_owned() });
            let file = "scheduler/scheduler_config.json";
            let text = match configs.filter(|configs| configs.exists(file)) {
                Some(configs) => configs.text(file)?,
                None => schedule::flow(kind, tensors.get(TRANSFORMER)).to_string(),
            };
            files.insert(file, &text);
        }
        let mut parts = BTreeMap::new();
        let mut widths = Vec::new();
        for part in PARTS {
            let Some(weights) = tensors.remove(part) else { continue };
            let folder = part.replace(TEXT, "tokenizer");
            if t5::is_one(&weights) && !tokenizer_files::copy(&mut files, &folder, configs)? {
                findings.push(Finding {
                    what: format!("{part} is left out"),
                    why: "no file of one network holds the vocabulary of T5; --config FOLDER gives one".to_owned(),
                });
                continue;
            }
            let second = facts.as_ref().is_some_and(Facts::second);
            let projects = kind == Some(transformer::Kind::Sd3);
            let reader = Reader { part, name, configs, known: None, latents, second, projects };
            let is_t5 = t5::is_one(&weights);
            let read = reader.read(weights, &widths)?;
            if !is_t5 && (part == TEXT || part == TEXT_2) {
                widths.push(read.config.as_deref().and_then(|config| number(config, "projection_dim")).unwrap_or(0));
                // Of CLIP's own the end of a text fills the rest, of OpenCLIP's the first token.
                let pad = if part == TEXT_2 || reader.second { "!" } else { tokenizer_files::END };
                tokenizer_files::add(&mut files, &folder, pad, configs)?;
            }
            parts.insert(part, read);
        }
        if let Some(facts) = &facts {
            findings.push(facts.family());
            findings.extend(facts.task());
            let said = scheduler(facts, &contents, &mut findings);
            let file = "scheduler/scheduler_config.json";
            let text = match configs.filter(|configs| configs.exists(file)) {
                Some(configs) => configs.text(file)?,
                None => said.to_string(),
            };
            files.insert(file, &text);
            if facts.sizes {
                options.insert("force_zeros_for_empty_prompt".to_owned(), (!facts.refiner).into());
                options.insert("requires_aesthetics_score".to_owned(), facts.refiner.into());
            }
        }
        let left = contents.weights.paths().filter(|path| !is_bystander(path)).count();
        if left > 0 {
            let first = contents.weights.paths().find(|path| !is_bystander(path)).map_or("", |path| &**path);
            findings.push(Finding {
                what: format!("{left} tensors of no known part are left out"),
                why: format!("`{first}`"),
            });
        }
        let kind = contents.kind.to_owned();
        findings.push(Finding { what: parts.keys().copied().collect::<Vec<_>>().join(", "), why: kind });
        Ok(Self { findings, parts, files, options })
    }
}

/// All tensors of a file, under the names that it has for them, and the notes beside them.
///
/// # Errors
/// If the file is damaged, or of no kind that holds tensors.
pub(crate) fn tensors_of(path: &Path) -> Result<(Weights, BTreeMap<String, String>)> {
    let Contents { weights, notes, .. } = container::open(path)?;
    Ok((weights, notes))
}

/// Opens a network that makes pictures larger, of the ESRGAN family, in a file of any format and dialect.
///
/// # Errors
/// If the file is damaged, or holds none.
pub fn open_upscaler(path: &Path) -> Result<Network> {
    upscaler_of(&path.display().to_string(), tensors_of(path)?.0)
}

/// The network of the ESRGAN family that has these tensors, in the names of any dialect; `name` stands for them in
/// messages.
///
/// # Errors
/// If they are those of none.
pub fn upscaler_of(name: &str, mut weights: Weights) -> Result<Network> {
    let (class, config) = upscaler::open(&mut weights).at(|| name)?;
    Network::of(name, class, config, weights)
}

/// Opens a network that steers a U-Net by a picture (`ControlNet`), in a file of any format, in the names of diffusers
/// or of the program that trained it; what its shapes do not say is as in `unet`, of which it is a copy.
///
/// # Errors
/// If the file is damaged, or holds none.
pub fn open_control(path: &Path, unet: &Network) -> Result<Network> {
    let name = path.display().to_string();
    let (mut weights, _) = tensors_of(path)?;
    if weights.paths().any(|path| path.starts_with("control_model.")) {
        weights.retain(|path| path.starts_with("control_model."));
        weights.rename(|path| path.strip_prefix("control_model.").map(str::to_owned))?;
    }
    unet::convert_control(&mut weights).at(|| &name)?;
    let config = control::config_like(&weights, &unet.config).at(|| &name)?;
    Network::of(&name, control::ARCHITECTURE.class, config, weights)
}

/// Reads the part of a pipeline that a file holds: it alone, or beside others.
///
/// `config` is that of the part which it takes the place of; of an autoencoder, its scale of latents stays.
///
/// # Errors
/// As [`Checkpoint::open`], and if the file does not hold that part.
pub(crate) fn part(path: &Path, part: &str, config: Option<&str>) -> Result<Part> {
    let name = path.display().to_string();
    let mut contents = container::open(path)?;
    let mut tensors = split(&mut contents.weights).at(|| &name)?;
    let facts = Facts::of(&tensors);
    // One text encoder alone in its file is whichever is asked for.
    let only = if tensors.len() == 1 { tensors.keys().next().copied() } else { None };
    let known = PARTS.into_iter().find(|known| *known == part);
    let found = match (known, only) {
        (Some(part), _) if tensors.contains_key(part) => Some(part),
        (Some(TEXT | TEXT_2 | TEXT_3), Some(alone @ (TEXT | TEXT_2 | TEXT_3))) => Some(alone),
        _ => None,
    };
    let Some((found, known)) = found.zip(known) else {
        let held: Vec<_> = tensors.keys().copied().collect();
        fail!(Missing, "{name}: holds no `{part}`, but {}", held.join(", "));
    };
    let weights = tensors.remove(found).unwrap_or_default();
    let given: Option<Value> = config.and_then(|config| serde_json::from_str(config).ok());
    let factor = |name: &str| given.as_ref().and_then(|config| config.get(name)?.as_f64());
    let latents = (factor("scaling_factor").unwrap_or(0.18215), factor("shift_factor"));
    let second = facts.map_or_else(|| known == TEXT && text::is_open_clip(&weights), |facts| facts.second());
    // An encoder that is to yield a vector of the whole text through a projection says so in its config.
    let class = config.and_then(|config| crate::config::class_of(config).ok());
    let projects = class.as_deref() == Some("CLIPTextModelWithProjection");
    let reader = Reader { part: known, name: &name, configs: None, known: given.as_ref(), latents, second, projects };
    let mut read = reader.read(weights, &[]).at(|| &name)?;
    read.config = read.config.or_else(|| config.map(str::to_owned));
    Ok(read)
}

/// What is needed to read a part.
struct Reader<'a> {
    part: &'static str,
    name: &'a str,
    configs: Option<&'a Source>,
    /// The config of the part that it takes the place of.
    known: Option<&'a Value>,
    /// What latents of an autoencoder are multiplied by, and what is subtracted before.
    latents: (f64, Option<f64>),
    /// True for a text encoder whose last layer is left out.
    second: bool,
    /// True if the first text encoder yields a projected vector of the whole text, too.
    projects: bool,
}

impl Reader<'_> {
    fn read(&self, mut weights: Weights, text_widths: &[usize]) -> Result<Part> {
        let path = format!("{}/{CONFIG}", self.part);
        let given = match self.configs.filter(|configs| configs.exists(&path)) {
            Some(configs) => Some(configs.text(&path)?),
            None => None,
        };
        // With a config given, nothing that the shapes do not say is asked of them.
        let layers = given.as_deref().and_then(|config| number(config, "num_hidden_layers"));
        let (class, found) = match self.convert(&mut weights, text_widths, layers) {
            Ok((class, config)) => (class, config),
            Err((_, class)) if given.is_some() => (class, None),
            Err((error, _)) => return Err(error.at(self.part)),
        };
        let class = match &given {
            Some(text) => crate::config::class_of(text).at(|| &path)?,
            None => class.to_owned(),
        };
        let config = given.or_else(|| found.map(|config| config.to_string()));
        Ok(Part { class, config, weights, name: format!("{}: {}", self.name, self.part) })
    }

    /// Gives the tensors their names in diffusers; yields class and config, if one can be told. What is wrong with a
    /// config comes after the tensors have their names.
    fn convert(
        &self,
        weights: &mut Weights,
        text_widths: &[usize],
        layers: Option<usize>,
    ) -> Result<(&'static str, Option<Value>), (ondine_graph::Error, &'static str)> {
        match self.part {
            UNET => {
                let class = "UNet2DConditionModel";
                if weights.get("input_blocks.0.0.weight").is_none() {
                    return Ok((class, None));
                }
                let config = unet::convert(weights, text_widths).map_err(|error| (error, class))?;
                Ok((class, Some(config)))
            }
            VAE => {
                let class = "AutoencoderKL";
                if weights.get("decoder.mid.block_1.norm1.weight").is_none() {
                    return Ok((class, None));
                }
                let config = autoencoder::convert(weights, self.latents).map_err(|error| (error, class))?;
                Ok((class, Some(config)))
            }
            TRANSFORMER => {
                let kind = transformer::Kind::of(weights).unwrap_or(transformer::Kind::Sd3);
                let class = kind.class();
                if !transformer::Kind::is_original(weights) {
                    return Ok((class, None));
                }
                let config = transformer::convert(weights, kind, self.known).map_err(|error| (error, class))?;
                Ok((class, Some(config)))
            }
            _ if t5::is_one(weights) => {
                let config = t5::convert(weights).map_err(|error| (error, t5::CLASS))?;
                Ok((t5::CLASS, Some(config)))
            }
            part => {
                let purpose = match part {
                    TEXT_2 => Use::Projected,
                    _ if self.projects => Use::Projected,
                    _ if self.second => Use::BeforeLast,
                    _ => Use::Last,
                };
                let projected = part == TEXT_2 || self.projects;
                let class = if projected { "CLIPTextModelWithProjection" } else { "CLIPTextModel" };
                let (class, config) = text::convert(weights, purpose, layers).map_err(|error| (error, class))?;
                Ok((class, Some(config)))
            }
        }
    }
}

/// The size that an option of a config is.
fn number(config: &str, option: &str) -> Option<usize> {
    let config: Value = serde_json::from_str(config).ok()?;
    usize::try_from(config.get(option)?.as_u64()?).ok()
}

/// True for tensors that stand beside the networks and are none of theirs: tables of the schedule, copies of the
/// weights averaged over training, marks.
fn is_bystander(path: &str) -> bool {
    const BEGINNINGS: &[&str] = &[
        "model_ema.",
        "alphas_cumprod",
        "betas",
        "sqrt_",
        "log_one_minus_",
        "posterior_",
        "denoiser.",
        "callbacks.",
        "optimizer_states.",
        "lr_schedulers.",
        "loops.",
        "cond_stage_model.logit_scale",
        "logvar",
        "scale_factor",
        "lvlb_weights",
        "v_pred",
        "ztsnr",
    ];
    let inner = path.strip_prefix("state_dict.").unwrap_or(path);
    BEGINNINGS.iter().any(|start| inner.starts_with(start))
}

/// The schedule that models of this kind are published with, and what the file says of its own.
fn scheduler(facts: &Facts, contents: &Contents, findings: &mut Vec<Finding>) -> Value {
    let has = |key: &str| contents.weights.get(key).is_some();
    let mut find = |what: &str, why: String| findings.push(Finding { what: what.to_owned(), why });
    let note = contents.notes.get("modelspec.prediction_type").map(String::as_str);
    let global_step = contents.numbers.get("global_step");
    let velocity = match note {
        _ if has("v_pred") => {
            find("v-prediction", "key `v_pred`".to_owned());
            true
        }
        Some(kind @ ("v" | "v_prediction" | "velocity")) => {
            find("v-prediction", format!("note `modelspec.prediction_type` is `{kind}`"));
            true
        }
        Some(kind @ ("epsilon" | "eps")) => {
            find("epsilon prediction", format!("note `modelspec.prediction_type` is `{kind}`"));
            false
        }
        _ if facts.second() && facts.channels == 4 && global_step != Some(&875_000) => {
            find(
                "v-prediction",
                "assumed of Stable Diffusion 2: no file says it; --prediction epsilon otherwise".to_owned(),
            );
            true
        }
        _ => {
            find("epsilon prediction", "usual, and no key says otherwise; --prediction chooses another".to_owned());
            false
        }
    };
    let zero = has("ztsnr");
    if zero {
        find("zero terminal SNR", "key `ztsnr`".to_owned());
    }
    let class = match (facts.sizes, zero || facts.second()) {
        (true, _) => "EulerDiscreteScheduler",
        (false, true) => "DDIMScheduler",
        (false, false) => "PNDMScheduler",
    };
    json!({
        "_class_name": class,
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
        "clip_sample": false,
        "set_alpha_to_one": false,
        "skip_prk_steps": true,
        "prediction_type": if velocity { "v_prediction" } else { "epsilon" },
        "rescale_betas_zero_snr": zero,
        "timestep_spacing": if zero { "trailing" } else { "leading" },
    })
}
