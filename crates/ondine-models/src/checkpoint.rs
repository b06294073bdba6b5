//! Checkpoints of latent diffusion in one file, as people share them: `.safetensors`, `.ckpt`, `.gguf`.
//!
//! Such a file holds the tensors of all networks of a pipeline under the names of the program that trained them
//! (CompVis' and Stability AI's), and no configs. What it is follows from names and shapes alone; each finding is kept
//! with its reason ([`Finding`]), and what no tensor says takes the value that all published models have. Configs as
//! diffusers saves them may be given instead, for models that are built otherwise.

mod autoencoder;
mod chat;
mod container;
mod deep;
mod facts;
pub(crate) mod sana;
mod schedule;
mod t5;
mod tensors;
mod text;
mod tokenizer_files;
pub(crate) mod transformer;
mod unet;
pub(crate) mod z_image;

use std::{collections::BTreeMap, path::Path};

use ondine_graph::{Context, Error, Result, Weights, fail};
use serde_json::{Map, Value};

use crate::{
    network::{CONFIG, Network},
    unet::control,
    upscaler,
    weights::{Files, Source},
};
use autoencoder::Latents;
use container::Contents;
pub use facts::Finding;
use facts::{Facts, PARTS, TEXT, TEXT_2, TEXT_3, TRANSFORMER, UNET, VAE};
use text::Use;

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
    ("text_encoders.qwen3_4b.transformer.", TEXT),
    ("text_encoders.qwen3_8b.transformer.", TEXT),
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
    (deep::MARK, VAE),
    ("text_model.embeddings.token_embedding.weight", TEXT),
    ("embeddings.token_embedding.weight", TEXT),
    ("transformer.resblocks.0.ln_1.weight", TEXT),
    (t5::MARKS[0], TEXT_3),
    (t5::MARKS[1], TEXT_3),
    (chat::MARKS[0], TEXT),
    (chat::MARKS[1], TEXT),
    (chat::MARKS[2], TEXT),
    ("joint_blocks.0.x_block.attn.qkv.weight", TRANSFORMER),
    ("double_blocks.0.img_attn.qkv.weight", TRANSFORMER),
    ("transformer_blocks.0.attn.add_q_proj.weight", TRANSFORMER),
    ("noise_refiner.0.attention.qkv.weight", TRANSFORMER),
    ("noise_refiner.0.attention.to_q.weight", TRANSFORMER),
    (sana::MARKS[0], TRANSFORMER),
    (sana::MARKS[1], TRANSFORMER),
];

/// Tensors of models of other kinds, by a part of a name.
const OTHERS: &[(&str, &str)] = &[
    ("control_model.", "a ControlNet, no model: give it with --control and a model with --model"),
    ("controlnet_cond_embedding.", "a ControlNet, no model: give it with --control and a model with --model"),
    ("lora_", "an adapter (LoRA), no model: give it with --lora and a model with --model"),
    (".lora", "an adapter (LoRA), no model: give it with --lora and a model with --model"),
    (".hada_w", "an adapter (LoHa), no model: give it with --lora and a model with --model"),
    (".lokr_w", "an adapter (LoKr), no model: give it with --lora and a model with --model"),
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
        let mut findings = facts::floats(&contents.weights);
        let mut tensors = split(&mut contents.weights)?;
        let facts = Facts::of(&tensors);
        let mut files = Files::default();
        let mut options = Map::new();
        let kind = tensors.get(TRANSFORMER).and_then(transformer::Kind::of);
        let latents = match (kind, &facts) {
            (Some(kind), _) => schedule::latents_of(kind),
            (None, Some(facts)) => schedule::latents_beside(facts, &contents)?,
            (None, None) => Latents::default(),
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
            let notes = &contents.notes;
            let reader = Reader { part, name, configs, notes, known: None, latents: &latents, second, projects };
            let is_clip = !t5::is_one(&weights) && !tokenizer_files::is_chat(&weights, &mut files, &folder, configs)?;
            let read = reader.read(weights, &widths)?;
            if is_clip && (part == TEXT || part == TEXT_2) {
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
            let said = schedule::beside(facts, &contents, &mut findings)?;
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
        if let Some(configs) = configs {
            options.extend(said_of_pipeline(configs)?);
        }
        let kind = contents.kind.to_owned();
        findings.push(Finding { what: parts.keys().copied().collect::<Vec<_>>().join(", "), why: kind });
        Ok(Self { findings, parts, files, options })
    }
}

/// What a folder as diffusers saves it says of a pipeline besides its parts, such as `is_distilled`.
fn said_of_pipeline(configs: &Source) -> Result<Map<String, Value>> {
    const INDEX: &str = "model_index.json";
    if !configs.exists(INDEX) {
        return Ok(Map::new());
    }
    let entries: Map<String, Value> = crate::config::parse(&configs.text(INDEX)?).at(|| configs.describe(INDEX))?;
    let is_option = |(name, value): &(String, Value)| !name.starts_with('_') && !value.is_array() && !value.is_null();
    Ok(entries.into_iter().filter(is_option).collect())
}

/// All tensors of a file of any format, mapped, under the names that it has for them; those that are scales of others
/// are parts of these.
///
/// # Errors
/// If the file is damaged, or of no kind that holds tensors.
pub fn open_tensors(path: &Path) -> Result<Weights> {
    Ok(container::open(path)?.weights)
}

/// All tensors of a file, under the names that it has for them, numbers of 8 bits in a type of more, and the notes
/// beside them.
///
/// # Errors
/// If the file is damaged, or of no kind that holds tensors.
pub(crate) fn tensors_of(path: &Path) -> Result<(Weights, BTreeMap<String, String>)> {
    let Contents { mut weights, notes, .. } = container::open(path)?;
    weights.widen_floats()?;
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
    let Contents { mut weights, .. } = container::open(path)?;
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
    let latents = given.as_ref().map_or_else(Latents::default, Latents::of);
    let second = facts.map_or_else(|| known == TEXT && text::is_open_clip(&weights), |facts| facts.second());
    // An encoder that is to yield a vector of the whole text through a projection says so in its config.
    let class = config.and_then(|config| crate::config::class_of(config).ok());
    let projects = class.as_deref() == Some("CLIPTextModelWithProjection");
    let (known_config, notes) = (given.as_ref(), &contents.notes);
    let reader = Reader {
        part: known,
        name: &name,
        configs: None,
        notes,
        known: known_config,
        latents: &latents,
        second,
        projects,
    };
    let mut read = reader.read(weights, &[]).at(|| &name)?;
    read.config = read.config.or_else(|| config.map(str::to_owned));
    Ok(read)
}

/// What is needed to read a part.
struct Reader<'a> {
    part: &'static str,
    name: &'a str,
    configs: Option<&'a Source>,
    /// What the file says beside its tensors.
    notes: &'a BTreeMap<String, String>,
    /// The config of the part that it takes the place of.
    known: Option<&'a Value>,
    latents: &'a Latents,
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
    ) -> Result<(&'static str, Option<Value>), (Error, &'static str)> {
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
                if weights.get(deep::MARK).is_some() {
                    let config = deep::convert(weights, self.known).map_err(|error| (error, deep::CLASS))?;
                    return Ok((deep::CLASS, Some(config)));
                }
                let class = autoencoder::class_of(weights);
                if weights.get("decoder.mid.block_1.norm1.weight").is_none() {
                    return Ok((class, None));
                }
                let config = autoencoder::convert(weights, self.latents, self.known).map_err(|error| (error, class))?;
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
            _ if chat::is_one(weights) => {
                let config = chat::convert(weights, self.notes, self.known).map_err(|error| (error, chat::CLASS))?;
                Ok((chat::CLASS, Some(config)))
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
        schedule::EDM_MEAN,
        schedule::EDM_STD,
        "edm_vpred.",
    ];
    let inner = path.strip_prefix("state_dict.").unwrap_or(path);
    BEGINNINGS.iter().any(|start| inner.starts_with(start))
}

#[cfg(test)]
mod tests {
    use ondine_graph::{AlignedBytes, DType, Tensor, weights::write_safetensors};
    use serde_json::json;

    use super::{
        schedule::{EDM_ENDS, EDM_MEAN, EDM_STD},
        *,
    };

    fn insert(weights: &mut Weights, path: &str, shape: &[usize], values: &[f32]) {
        let mut bytes = AlignedBytes::zeroed(4 * values.len());
        for (out, value) in bytes.as_mut_slice().chunks_exact_mut(4).zip(values) {
            out.copy_from_slice(&value.to_le_bytes());
        }
        let tensor = Tensor { dtype: DType::F32, shape: shape.to_vec(), bytes: bytes.into(), file: "file".into() };
        weights.insert(path, tensor);
    }

    #[test]
    fn what_configs_say_of_a_pipeline_counts() {
        let index: &[u8] = br#"{"_class_name": "X", "is_distilled": true, "vae": ["diffusers", "Y"], "unet": null,
            "force_zeros_for_empty_prompt": false}"#;
        let files: &'static [(&str, &[u8])] = Box::leak(Box::new([("model_index.json", index)]));
        let read = |configs: Option<&Source>| Checkpoint::of("file", contents(&[]), configs).unwrap().options;
        let options = read(Some(&Source::Embedded(files)));
        assert_eq!((&options["is_distilled"], &options["force_zeros_for_empty_prompt"]), (&json!(true), &json!(false)));
        assert!(["_class_name", "vae", "unet"].iter().all(|name| !options.contains_key(*name)));
        assert_eq!(read(None)["force_zeros_for_empty_prompt"], json!(true));
    }

    #[test]
    fn an_autoencoder_of_squares_is_told_by_its_statistics() {
        let mut weights = Weights::default();
        insert(&mut weights, "decoder.conv_in.weight", &[1], &[0.0]);
        insert(&mut weights, "bn.running_mean", &[1], &[0.0]);
        let (latents, notes) = (Latents::default(), BTreeMap::new());
        let reader = Reader {
            part: VAE,
            name: "file",
            configs: None,
            notes: &notes,
            known: None,
            latents: &latents,
            second: false,
            projects: false,
        };
        assert_eq!(reader.read(weights.clone(), &[]).unwrap().class, "AutoencoderKLFlux2");
        let zeros = [0.0; 32];
        for (path, shape) in [
            ("encoder.conv_in.weight", vec![1, 3, 1, 1]),
            ("decoder.conv_in.weight", vec![1, 4, 1, 1]),
            ("decoder.conv_out.weight", vec![3, 1, 1, 1]),
            ("encoder.down.0.block.0.conv1.weight", vec![32, 1, 1, 1]),
            ("decoder.up.0.block.0.conv1.weight", vec![16, 1, 1, 1]),
            ("decoder.mid.block_1.norm1.weight", vec![32]),
            ("encoder.quant_conv.weight", vec![1]),
        ] {
            insert(&mut weights, path, &shape, &zeros[..shape.iter().product()]);
        }
        let part = reader.read(weights, &[]).unwrap();
        let config: Value = serde_json::from_str(&part.config.unwrap()).unwrap();
        assert_eq!(config["_class_name"], "AutoencoderKLFlux2");
        assert_eq!((&config["latent_channels"], &config["use_quant_conv"]), (&json!(4), &json!(true)));
        assert_eq!(config["use_post_quant_conv"], json!(false));
        assert_eq!(config["decoder_block_out_channels"], json!([16]));
        assert!(config.get("scaling_factor").is_none() && part.weights.get("quant_conv.weight").is_some());
    }

    /// A U-Net of `XL` and an autoencoder, as far as finding out what they are needs them.
    fn contents(marks: &[(&str, [f32; 4])]) -> Contents {
        let mut contents = Contents::default();
        let zeros = [0.0; 64];
        for (path, shape) in [
            ("unet.conv_in.weight", vec![2, 4, 1, 1]),
            ("unet.add_embedding.linear_1.weight", vec![2, 2]),
            ("first_stage_model.encoder.conv_in.weight", vec![1, 3, 1, 1]),
            ("first_stage_model.decoder.conv_in.weight", vec![1, 4, 1, 1]),
            ("first_stage_model.decoder.conv_out.weight", vec![3, 1, 1, 1]),
            ("first_stage_model.encoder.down.0.block.0.conv1.weight", vec![32, 1, 1, 1]),
            ("first_stage_model.decoder.mid.block_1.norm1.weight", vec![32]),
        ] {
            insert(&mut contents.weights, path, &shape, &zeros[..shape.iter().product()]);
        }
        for (path, values) in marks {
            insert(&mut contents.weights, path, &[1, 4, 1, 1], values);
        }
        contents
    }

    const MARKS: [(&str, [f32; 4]); 2] = [(EDM_MEAN, [-1.5, 0.5, 0.25, 2.0]), (EDM_STD, [8.0, 4.0, 5.5, 3.0])];

    /// What was found, the class of the scheduler, the config of the autoencoder.
    fn read(marks: &[(&str, [f32; 4])]) -> Result<(Vec<String>, Value, Value)> {
        let checkpoint = Checkpoint::of("file", contents(marks), None)?;
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let config = checkpoint.parts[VAE].config.as_deref().map(json).unwrap();
        let scheduler = checkpoint.files.source("file").text("scheduler/scheduler_config.json")?;
        let findings = checkpoint.findings.iter().map(|finding| finding.what.clone()).collect();
        Ok((findings, json(&scheduler)["_class_name"].clone(), config))
    }

    #[test]
    fn models_on_the_noise_levels_of_edm_are_found_out() {
        let (findings, scheduler, config) = read(&MARKS).unwrap();
        assert_eq!(findings, ["SDXL", "noise levels of EDM", "unet, vae"]);
        assert_eq!(scheduler, "EDMDPMSolverMultistepScheduler");
        assert_eq!(config["scaling_factor"], 0.5);
        assert_eq!(config["latents_mean"], json!(MARKS[0].1));
        assert_eq!(config["latents_std"], json!(MARKS[1].1));

        let (findings, scheduler, config) = read(&[]).unwrap();
        assert_eq!(findings[..2], ["SDXL", "epsilon prediction"]);
        assert_eq!(scheduler, "EulerDiscreteScheduler");
        assert_eq!((&config["scaling_factor"], &config["latents_mean"]), (&json!(0.13025), &Value::Null));

        for mark in MARKS {
            let error = read(&[mark]).unwrap_err().to_string();
            assert!(error.contains("`edm_mean` and `edm_std`"), "{error}");
        }
    }

    #[test]
    fn velocities_on_the_noise_levels_of_edm_are_found_out() {
        let with = |ends: &[(&str, f32)]| {
            let mut contents = contents(&[]);
            for &(key, level) in ends {
                insert(&mut contents.weights, key, &[], &[level]);
            }
            Checkpoint::of("file", contents, None)
        };
        let checkpoint = with(&[(EDM_ENDS[0], 0.005), (EDM_ENDS[1], 110.0)]).unwrap();
        assert_eq!(checkpoint.findings[1].what, "v-prediction on noise levels of EDM");
        let scheduler = checkpoint.files.source("file").text("scheduler/scheduler_config.json").unwrap();
        let scheduler: Value = serde_json::from_str(&scheduler).unwrap();
        for (option, value) in [
            ("_class_name", json!("EDMEulerScheduler")),
            ("prediction_type", json!("v_prediction")),
            ("sigma_schedule", json!("exponential")),
            ("sigma_data", json!(1.0)),
            ("sigma_min", json!(0.005_f32)),
            ("sigma_max", json!(110.0)),
        ] {
            assert_eq!(scheduler[option], value, "{option}");
        }
        assert!(with(&[(EDM_ENDS[1], 110.0)]).unwrap_err().to_string().contains("edm_vpred.sigma_min"));
    }

    #[test]
    fn an_autoencoder_in_the_place_of_another_keeps_its_scale_of_latents() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let weights = contents(&[]).weights;
        let tensors: Vec<_> = weights.paths().map(|path| (path.to_string(), weights.array(path).unwrap())).collect();
        write_safetensors(file.path(), &tensors).unwrap();
        let given =
            json!({"scaling_factor": 0.5, "latents_mean": [1.0, 2.0, 3.0, 4.0], "latents_std": [5.0, 6.0, 7.0, 8.0]});
        let part = part(file.path(), VAE, Some(&given.to_string())).unwrap();
        let config: Value = serde_json::from_str(&part.config.unwrap()).unwrap();
        for option in ["scaling_factor", "latents_mean", "latents_std"] {
            assert_eq!(config[option], given[option], "{option}");
        }
    }
}
