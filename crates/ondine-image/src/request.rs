//! What to draw, and the one table of what can be asked for.
//!
//! [`OPTIONS`] says of each option what it is called, what it means and what it may be. The command line, its help and
//! the table in the README are made of it, and so is every other front door: an option is added by a field of
//! [`Request`] and a row.

mod bare;
mod limits;
mod pictures;
mod preset;
mod recall;
mod seed;
mod speedup;
mod tool;

pub(crate) use limits::MAX_SIDE;
pub use pictures::{Control, ImagePrompt, Init};
pub use preset::{PRESETS, Preset};
pub use seed::{parse_seed, random_seed};
pub use speedup::Speedup;
pub use tool::{EditSteps, Tool};

use std::{fmt, ops::RangeInclusive};

use limits::{DEFAULT_VARIATION, MAX_PROMPT};
use ondine_graph::{NDArray, Result, fail};

use crate::{
    noise::Generator,
    prompt::emphasis::Emphasis,
    sampler::{sampler_entries, schedule_entries},
    schedule::Prediction,
};

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
    /// The timesteps of training that the steps are at, falling, instead of the schedule's.
    pub timesteps: Option<Vec<f64>>,
    /// What counts where sampler, schedule, steps, guidance and the like are left open, instead of the model's.
    pub preset: Option<&'static Preset>,
    /// The program whose habits count, where they differ.
    pub like: Option<Tool>,
    /// How marks in prompts are read, and weights act.
    pub emphasis: Emphasis,
    /// The layer whose states are the text, counted from the last as 1, as A1111 counts.
    pub clip_skip: Option<usize>,
    /// What the network predicts, if the model's files say it wrongly or not at all.
    pub prediction: Option<Prediction>,
    /// Whether the last timestep of training is noise alone (Lin et al. 2024), if the model's files say it wrongly.
    pub zero_snr: Option<bool>,
    /// Where noise comes from.
    pub generator: Generator,
    /// A picture to begin with.
    pub init: Option<Init>,
    /// How much of the picture to begin with is drawn anew, 0 to 1; 0.8 if it is not said, and 1 with a mask.
    pub strength: Option<f64>,
    /// Pictures that steer the drawing.
    pub controls: Vec<Control>,
    /// What pictures show, each for the IP-Adapter of the same place among those of the model; the drawing does without
    /// those that have none.
    pub image_prompts: Vec<ImagePrompt>,
    /// Pictures that the model looks at, `[1, 3, height, width]`, red, green and blue in 0..1, of sizes of their own in
    /// whole latents; the picture is as large as the first, if no size is asked for.
    pub references: Vec<NDArray>,
    /// Scale of guidance by the picture, of models that change one (Brooks et al. 2023).
    pub image_guidance: Option<f32>,
    /// Noise that is mixed into the seed's, and how much of it, 0 to 1: another picture that is like it.
    pub variation: Option<(u64, f64)>,
    /// Unit noise to start from, `[count, channels, height / 8, width / 8]`, instead of the seed's.
    pub noise: Option<NDArray>,
    /// The share of the steps before which nothing guides but the prompt (Kynkaanniemi et al. 2024).
    pub guidance_start: f64,
    /// The share of the steps after which nothing guides but the prompt.
    pub guidance_end: f64,
    /// How steps are made cheaper.
    pub speedup: Option<Speedup>,
    /// True to be told after each step what the picture may become.
    pub previews: bool,
    /// True to keep the latents of every step for [`Pictures::dump`](crate::pipeline::Pictures::dump).
    pub keep_latents: bool,
}

impl Request {
    /// Refuses what no model can draw.
    ///
    /// # Errors
    /// A prompt that is too long, or an option outside its range; the message names it.
    pub fn check(&self) -> Result<()> {
        let len = self.prompt.len().max(self.negative.as_ref().map_or(0, String::len));
        if len > MAX_PROMPT {
            fail!(Argument, "a prompt of {len} bytes is too long; shorten it to {MAX_PROMPT}");
        }
        OPTIONS.iter().try_for_each(|option| option.check(self))
    }
}

/// An option of a [`Request`], as people see it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name, in words with dashes between.
    pub name: &'static str,
    /// Its letter on a command line.
    pub short: Option<char>,
    /// Other tools' names.
    pub aliases: &'static [&'static str],
    /// What its value is called.
    pub value: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// What decides if it is not given and has no default.
    pub otherwise: &'static str,
    /// What it may be, and where it goes.
    pub kind: Kind,
}

/// What an option may be, and where it stands in a request.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Any text.
    Text {
        /// Reads it off a request.
        get: fn(&Request) -> Option<&str>,
        /// Puts it into a request.
        set: fn(&mut Request, String),
    },
    /// The beginning of a stream of random numbers: a whole number, or a random one.
    Seed {
        /// Reads it off a request.
        get: fn(&Request) -> u64,
        /// Puts it into a request.
        set: fn(&mut Request, u64),
    },
    /// A whole number.
    Whole {
        /// From the least to the most, both allowed.
        range: RangeInclusive<u64>,
        /// Reads it off a request.
        get: fn(&Request) -> Option<u64>,
        /// Puts it into a request.
        set: fn(&mut Request, u64),
    },
    /// A number.
    Number {
        /// From the least to the most, both allowed.
        range: RangeInclusive<f64>,
        /// Reads it off a request.
        get: fn(&Request) -> Option<f64>,
        /// Puts it into a request.
        set: fn(&mut Request, f64),
    },
    /// One of some names.
    Choice {
        /// The names that are offered; others may be understood, too.
        names: fn() -> Vec<&'static str>,
        /// Reads it off a request.
        get: fn(&Request) -> Option<String>,
        /// Puts it into a request, if it is understood there and then.
        set: fn(&mut Request, &str) -> Result<()>,
    },
}

/// Every option of a request but its prompt.
pub static OPTIONS: &[Setting] = &[
    Setting {
        name: "negative",
        short: Some('n'),
        aliases: &["negative-prompt"],
        value: "TEXT",
        help: "What the picture should not show",
        otherwise: "nothing",
        kind: Kind::Text { get: |r| r.negative.as_deref(), set: |r, text| r.negative = Some(text) },
    },
    Setting {
        name: "steps",
        short: Some('s'),
        aliases: &[],
        value: "N",
        help: "Denoising steps",
        otherwise: MODEL,
        kind: Kind::Whole {
            range: 1..=1000,
            get: |r| r.steps.map(|n| n as u64),
            set: |r, n| r.steps = Some(n as usize),
        },
    },
    Setting {
        name: "guidance",
        short: Some('g'),
        aliases: &["cfg-scale"],
        value: "SCALE",
        help: "Guidance scale: how closely to follow the prompt; 1 is no guidance",
        otherwise: MODEL,
        kind: Kind::Number {
            range: 0.0..=1000.0,
            get: |r| r.guidance.map(f64::from),
            set: |r, scale| r.guidance = Some(scale as f32),
        },
    },
    Setting {
        name: "guidance-rescale",
        short: None,
        aliases: &[],
        value: "0..1",
        help: "Strength of the correction of overexposure that strong guidance causes",
        otherwise: MODEL,
        kind: Kind::Number {
            range: 0.0..=1.0,
            get: |r| Some(r.guidance_rescale.into()),
            set: |r, share| r.guidance_rescale = share as f32,
        },
    },
    Setting {
        name: "guidance-start",
        short: None,
        aliases: &[],
        value: "0..1",
        help: "Share of the steps before guidance begins; until then steps take half the time",
        otherwise: MODEL,
        kind: Kind::Number {
            range: 0.0..=1.0,
            get: |r| Some(r.guidance_start),
            set: |r, share| r.guidance_start = share,
        },
    },
    Setting {
        name: "guidance-end",
        short: None,
        aliases: &[],
        value: "0..1",
        help: "Share of the steps after which guidance ends; from then on steps take half the time",
        otherwise: MODEL,
        kind: Kind::Number { range: 0.0..=1.0, get: |r| Some(r.guidance_end), set: |r, share| r.guidance_end = share },
    },
    Setting {
        name: "speedup",
        short: None,
        aliases: &["cache-mode"],
        value: "NAME",
        help: "Make steps cheaper for nearly the same picture: spectrum forecasts about half of them, deepcache runs the outermost blocks alone in two of three; from 12 steps on",
        otherwise: "none",
        kind: Kind::Choice {
            names: || std::iter::once("none").chain(Speedup::NAMES.map(|(name, _)| name)).collect(),
            get: |r| Some(r.speedup.map_or("none", Speedup::name).to_owned()),
            set: |r, name| {
                r.speedup = Speedup::parse(name)?;
                Ok(())
            },
        },
    },
    Setting {
        name: "seed",
        short: None,
        aliases: &[],
        value: "N",
        help: "Seed of the noise; the same seed draws the same picture",
        otherwise: MODEL,
        kind: Kind::Seed { get: |r| r.seed, set: |r, seed| r.seed = seed },
    },
    Setting {
        name: "width",
        short: Some('W'),
        aliases: &[],
        value: "PIXELS",
        help: "Width in pixels, a multiple of 8",
        otherwise: MODEL,
        kind: Kind::Whole {
            range: 1..=MAX_SIDE as u64,
            get: |r| r.width.map(|n| n as u64),
            set: |r, n| r.width = Some(n as usize),
        },
    },
    Setting {
        name: "height",
        short: Some('H'),
        aliases: &[],
        value: "PIXELS",
        help: "Height in pixels, a multiple of 8",
        otherwise: MODEL,
        kind: Kind::Whole {
            range: 1..=MAX_SIDE as u64,
            get: |r| r.height.map(|n| n as u64),
            set: |r, n| r.height = Some(n as usize),
        },
    },
    Setting {
        name: "count",
        short: Some('c'),
        aliases: &["batch", "batch-size"],
        value: "N",
        help: "Pictures to draw at once, from seed, seed + 1, ...",
        otherwise: MODEL,
        kind: Kind::Whole { range: 1..=64, get: |r| Some(r.count as u64), set: |r, n| r.count = n as usize },
    },
    Setting {
        name: "sampler",
        short: None,
        aliases: &["scheduler"],
        value: "NAME",
        help: "Sampler, such as ddim, euler, \"Euler a\", \"DPM++ 2M\", unipc, lcm",
        otherwise: MODEL,
        kind: Kind::Choice {
            names: || sampler_entries().iter().map(|entry| entry.id).collect(),
            get: |r| r.sampler.clone(),
            set: |r, name| {
                r.sampler = Some(name.to_owned());
                Ok(())
            },
        },
    },
    Setting {
        name: "schedule",
        short: None,
        aliases: &[],
        value: "NAME",
        help: "Spacing of the noise levels, such as karras",
        otherwise: MODEL,
        kind: Kind::Choice {
            names: || schedule_entries().iter().map(|entry| entry.id).collect(),
            get: |r| r.schedule.clone(),
            set: |r, name| {
                r.schedule = Some(name.to_owned());
                Ok(())
            },
        },
    },
    Setting {
        name: "eta",
        short: None,
        aliases: &["gamma"],
        value: "0..1",
        help: "Share of fresh noise in each step, for samplers that have it",
        otherwise: "the sampler's",
        kind: Kind::Number { range: 0.0..=1.0, get: |r| r.eta, set: |r, share| r.eta = Some(share) },
    },
    Setting {
        name: "preset",
        short: None,
        aliases: &[],
        value: "NAME",
        help: "Settings that suit a model or LoRA of few steps, by how it was distilled; others that are given count more",
        otherwise: "none",
        kind: Kind::Choice {
            names: || PRESETS.iter().map(|preset| preset.name).collect(),
            get: |r| r.preset.map(|preset| preset.name.to_owned()),
            set: |r, name| {
                r.preset = Some(Preset::find(name)?);
                Ok(())
            },
        },
    },
    Setting {
        name: "timesteps",
        short: None,
        aliases: &[],
        value: "LIST",
        help: "Timesteps of training that the steps are at, for euler, \"Euler a\", lcm and tcd",
        otherwise: "the schedule's",
        kind: Kind::Choice {
            names: || vec!["999,749,499,249"],
            get: |r| r.timesteps.as_deref().map(preset::written),
            set: |r, text| {
                r.timesteps = Some(preset::parse_timesteps(text)?);
                Ok(())
            },
        },
    },
    Setting {
        name: "strength",
        short: None,
        aliases: &["denoising-strength"],
        value: "0..1",
        help: "How much of the picture of --init is drawn anew",
        otherwise: "0.8, or 1 with a mask",
        kind: Kind::Number { range: 0.0..=1.0, get: |r| r.strength, set: |r, strength| r.strength = Some(strength) },
    },
    Setting {
        name: "image-guidance",
        short: None,
        aliases: &["image-cfg-scale"],
        value: "SCALE",
        help: "How closely models that change a picture keep to it",
        otherwise: "1.5",
        kind: Kind::Number {
            range: 0.0..=1000.0,
            get: |r| r.image_guidance.map(f64::from),
            set: |r, scale| r.image_guidance = Some(scale as f32),
        },
    },
    Setting {
        name: "variation-seed",
        short: None,
        aliases: &["subseed"],
        value: "N",
        help: "Seed of a noise that is mixed into the seed's, for pictures that are like it",
        otherwise: "none",
        kind: Kind::Whole {
            range: 0..=0xFFFF_FFFF,
            get: |r| r.variation.map(|(seed, _)| seed),
            set: |r, seed| r.variation = Some((seed, r.variation.map_or(DEFAULT_VARIATION, |(_, strength)| strength))),
        },
    },
    Setting {
        name: "variation-strength",
        short: None,
        aliases: &["subseed-strength"],
        value: "0..1",
        help: "How much of the variation's noise is mixed in",
        otherwise: "0.1 with --variation-seed",
        kind: Kind::Number {
            range: 0.0..=1.0,
            get: |r| r.variation.map(|(_, strength)| strength),
            set: |r, strength| r.variation = Some((r.variation.map_or(1, |(seed, _)| seed), strength)),
        },
    },
    Setting {
        name: "like",
        short: None,
        aliases: &[],
        value: "TOOL",
        help: "Make a picture of another program again: its --emphasis, its --rng, and what --strength means to it",
        otherwise: "a1111's marks, torch's noise, diffusers' strength",
        kind: Kind::Choice {
            names: || Tool::names().collect(),
            get: |r| r.like.map(|tool| tool.name().to_owned()),
            set: |r, name| {
                r.adopt(name.parse()?);
                Ok(())
            },
        },
    },
    Setting {
        name: "emphasis",
        short: None,
        aliases: &[],
        value: "RULE",
        help: "Whose marks prompts have: (more:1.2), BREAK, [a:b:0.5], AND of a1111 or comfy, or plain letters as in diffusers",
        otherwise: MODEL,
        kind: Kind::Choice {
            names: || Emphasis::names().collect(),
            get: |r| Some(r.emphasis.to_string()),
            set: |r, name| {
                r.emphasis = name.parse()?;
                Ok(())
            },
        },
    },
    Setting {
        name: "clip-skip",
        short: None,
        aliases: &[],
        value: "N",
        help: "Layer of the text encoder to read, from the last: 1 is the last, 2 the one before",
        otherwise: MODEL,
        kind: Kind::Whole {
            range: 1..=64,
            get: |r| r.clip_skip.map(|n| n as u64),
            set: |r, n| r.clip_skip = Some(n as usize),
        },
    },
    Setting {
        name: "prediction",
        short: None,
        aliases: &["parameterization"],
        value: "NAME",
        help: "What the network predicts: epsilon, v_prediction or sample",
        otherwise: MODEL,
        kind: Kind::Choice {
            names: || Prediction::NAMES.map(|(name, _)| name).to_vec(),
            get: |r| r.prediction.map(|prediction| prediction.name().to_owned()),
            set: |r, name| {
                r.prediction = Some(name.parse()?);
                Ok(())
            },
        },
    },
    Setting {
        name: "zero-snr",
        short: None,
        aliases: &["ztsnr"],
        value: "on|off",
        help: "Whether training ended at noise alone (zero terminal SNR)",
        otherwise: MODEL,
        kind: Kind::Choice {
            names: || vec!["on", "off"],
            get: |r| r.zero_snr.map(|on| if on { "on" } else { "off" }.to_owned()),
            set: |r, word| {
                r.zero_snr = Some(match word {
                    "on" => true,
                    "off" => false,
                    _ => fail!(Argument, "{word:?} is neither on nor off"),
                });
                Ok(())
            },
        },
    },
    Setting {
        name: "rng",
        short: None,
        aliases: &[],
        value: "NAME",
        help: "Noise generator: torch, philox or numpy",
        otherwise: MODEL,
        kind: Kind::Choice {
            names: || Generator::names().collect(),
            get: |r| Some(r.generator.to_string()),
            set: |r, name| {
                r.generator = name.parse()?;
                Ok(())
            },
        },
    },
];

/// What decides where a request leaves a choice open.
const MODEL: &str = "the model's";

impl Setting {
    /// What it is if it is not given.
    #[must_use]
    pub fn default(&self) -> String {
        let request = Request::new("");
        let value = match &self.kind {
            Kind::Text { get, .. } => get(&request).map(str::to_owned),
            Kind::Seed { get, .. } => Some(get(&request).to_string()),
            Kind::Whole { get, .. } => get(&request).map(|n| n.to_string()),
            Kind::Number { get, .. } => get(&request).map(|x| x.to_string()),
            Kind::Choice { get, .. } => get(&request),
        };
        value.unwrap_or_else(|| self.otherwise.to_owned())
    }

    /// Refuses a number of the request that is out of range. Names are checked when they are looked up.
    fn check(&self, request: &Request) -> Result<()> {
        match &self.kind {
            Kind::Whole { range, get, .. } => self.within(range, get(request)),
            Kind::Number { range, get, .. } => self.within(range, get(request)),
            Kind::Text { .. } | Kind::Seed { .. } | Kind::Choice { .. } => Ok(()),
        }
    }

    fn within<T: PartialOrd + fmt::Display>(&self, range: &RangeInclusive<T>, value: Option<T>) -> Result<()> {
        if let Some(value) = value.filter(|value| !range.contains(value)) {
            let (name, values) = (self.name, self.values());
            fail!(Argument, "{name} is {value}; give {values}");
        }
        Ok(())
    }

    /// What it may be, in words.
    #[must_use]
    pub fn values(&self) -> String {
        match &self.kind {
            Kind::Text { .. } => "a text".to_owned(),
            Kind::Seed { .. } => "a whole number, or -1 for a random one".to_owned(),
            Kind::Whole { range, .. } => format!("a whole number from {} to {}", range.start(), range.end()),
            Kind::Number { range, .. } => format!("a number from {} to {}", range.start(), range.end()),
            Kind::Choice { names, .. } => names().join(", "),
        }
    }
}
