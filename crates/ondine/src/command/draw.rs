//! `ondine draw`: text to picture.

mod adapters;
mod control;
mod edit;
mod enlarge;
mod flags;
mod hires;
mod ip_adapter;
mod parts;
mod reference;

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, bail};
use clap::Args;
use ondine::{
    genmoji,
    model::{pipeline, replace},
};
use ondine_image::{
    codec::{PARAMETERS, Picture, format::Format},
    infotext::Infotext,
    pipeline::{Drawing, Event, MemoryPlan, Pictures, TextToImage},
    prompt::compose,
    request::Request,
    upscale::Upscaler,
};
use ondine_models::{Finding, Pipeline, Source, lora::Applied, textual_inversion::Taught};
use ondine_runtime::{
    CacheEntry, Device, ErrorKind, NDArray, Precision, Weights,
    file::{check_writable, write_whole},
    write_safetensors,
};
use serde_json::{Map, Value, json};

use super::{
    bytes::megabytes,
    destination::{Destination, is_same},
    running::Running,
};
use crate::{
    interrupt,
    memory::{besides, peak_rss},
    output,
    progress::Progress,
    report::{bad_usage, usage},
    standard_input,
};
use adapters::Adapters;
use control::Controls;
use edit::Edit;
pub(super) use edit::bytes;
use enlarge::{Enlarge, Enlarger};
use flags::Flags;
use hires::Hires;
use ip_adapter::IpAdapters;
use parts::Parts;
use reference::References;

/// Draw pictures from a text.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine draw \"a laughing cat\"
  ondine draw \"a red heart, noto style\" --seed 7 --count 4 --upscale none --output heart.png
  ondine draw \"a lighthouse\" --model stable-diffusion-v1-5/ --steps 20 --sampler \"DPM++ 2M\" --schedule karras
  ondine draw \"a lighthouse\" --model dreamshaper.safetensors --vae vae-ft-mse.safetensors
  ondine draw \"a lighthouse, (night:1.2)\" --model dreamshaper.safetensors --lora ink.safetensors:0.8
  ondine draw \"a lighthouse in ink-style\" --model dreamshaper.safetensors --embedding ink-style.pt
  ondine draw \"a lighthouse at night\" --init day.jpg --strength 0.6
  ondine draw \"a house of ice\" --model sd15 --control control_v11p_sd15_canny.safetensors,house.png,canny,scale=0.8
  ondine draw \"a garden\" --model sd15 --ip-adapter models/ip-adapter_sd15.safetensors --ip-image cat.png --ip-scale 0.6
  ondine draw \"a red boat\" --init sea.png --mask here.png --mask-blur 4
  ondine draw \"the sea\" --init photo.png --outpaint left=128,right=128
  ondine draw \"make it night\" --model FLUX.2-klein-4B/ --reference day.jpg
  ondine draw --from shared.png --model dreamshaper.safetensors --seed 8
  ondine draw \"a lighthouse\" --model sd15 --hires 2 --hires-strength 0.5 --upscale RealESRGAN_x4plus.pth
  ondine draw \"a lighthouse\" --negative blurry --width 768 --height 512 --memory 3GB --json
  echo \"a green dog\" | ondine draw - --seed -1 -o - > dog.png

Ctrl-C and SIGTERM stop within a second, a second one at once; nothing half-written stays.")]
pub(super) struct Draw {
    /// What the picture shows; - reads it from standard input
    #[arg(required_unless_present = "from")]
    prompt: Option<String>,

    /// Take prompt and settings from this picture, as A1111 and others write them; flags that are given count more
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Model: a name from `ondine models list`, a diffusers folder, or a checkpoint in one file (.safetensors, .ckpt,
    /// .gguf, .dduf)
    #[arg(short, long, value_name = "MODEL", default_value = "genmoji")]
    model: String,

    #[command(flatten)]
    parts: Parts,

    /// Where the picture goes: a .png, .jpg or .webp, or - for standard output; with several, a number is added to the
    /// name [default: ondine.png, or the first of ondine-2.png, ondine-3.png, ... that is not there yet]
    #[arg(short, long, value_name = "FILE", visible_alias = "out")]
    output: Option<PathBuf>,

    #[command(flatten)]
    flags: Flags,

    #[command(flatten)]
    edit: Edit,

    #[command(flatten)]
    references: References,

    #[command(flatten)]
    controls: Controls,

    #[command(flatten)]
    ip_adapters: IpAdapters,

    #[command(flatten)]
    hires: Hires,

    #[command(flatten)]
    adapters: Adapters,

    /// Start from the tensor `noise` of this safetensors file instead of the seed's noise
    #[arg(long, value_name = "FILE")]
    noise: Option<PathBuf>,

    #[command(flatten)]
    enlarge: Enlarge,

    /// Write after each step what the first picture may become to this .png, .jpg or .webp: colours without detail
    #[arg(long, value_name = "FILE")]
    preview: Option<PathBuf>,

    /// Write embeddings, timesteps, latents after each step and the picture to this safetensors file
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,

    /// Leave prompt and settings out of the picture file
    #[arg(long)]
    no_metadata: bool,

    /// Print one JSON object about what was drawn
    #[arg(long)]
    json: bool,

    /// Show the memory and the arithmetic that the picture takes, and stop
    #[arg(long)]
    plan: bool,

    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    running: Running,
}

/// What the picture of `--from` tells besides the request.
#[derive(Default)]
struct Told {
    /// The network that made it larger.
    network: Option<&'static str>,
    ip_adapters: Option<IpAdapters>,
}

/// More than any prompt of a picture may have.
const LONGEST_PROMPT: usize = 1 << 20;

impl Draw {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let start = Instant::now();
        let (mut request, told) = self.request()?;
        let edit = self.edit.read()?;
        let destination = self.destination(&request)?;
        let device = self.running.device(interrupt::wish())?;
        let mut pipeline = pipeline(&self.model, self.parts.config())?;
        let unpacked = self.unpacked(&pipeline.source);
        for (name, path) in self.parts.replaced() {
            replace(&mut pipeline, name, path)?;
        }
        self.say_findings(&pipeline.findings);
        let mut model = self.model(&pipeline, device, unpacked)?;
        let mut adapters = self.adapters.apply(&mut request.prompt, &mut model)?;
        let ip_adapters = told.ip_adapters.as_ref().unwrap_or(&self.ip_adapters);
        adapters.extend(ip_adapters.add(&pipeline, &mut model)?);
        let taught = self.adapters.teach(&request, &mut model)?;
        if !self.quiet {
            adapters.iter().for_each(output::remark);
            taught.iter().for_each(output::remark);
        }
        if let Some(edit) = edit {
            edit.begin(&mut request, &model, self.quiet)?;
        }
        self.references.begin(&mut request, &model, self.quiet)?;
        ip_adapters.begin(&mut request, &model, self.quiet)?;
        self.controls.add(&mut model)?;
        self.controls.begin(&mut request, &model, self.quiet)?;
        let drawing = self.prepare(&model, &request)?;
        let enlarger = self.enlarger(&model, &drawing, told.network)?;
        let memory = enlarger.as_ref().map_or_else(|| drawing.memory().clone(), |it| it.added_to(drawing.memory()));
        if self.plan {
            let larger = enlarger.as_ref().map_or(Ok(0), Enlarger::flops)? * request.count as u64;
            return self.say_plan(&memory, drawing.flops()? + larger);
        }
        let (precision, planned) = (drawing.precision(), memory.peak_bytes());
        if self.running.memory.is_none() {
            self.running.allow(&self.model, || Ok(planned))?;
        }
        if !self.quiet && !self.json {
            let besides = megabytes(besides() + unpacked);
            output::remark(format_args!("{memory}; the program itself takes about {besides} more"));
        }
        let progress = Progress::new(self.quiet);
        let mut stages = Map::new();
        let mut unshown = None;
        let mut hear = |event: Event<'_>| match event {
            Event::Stage(name) => {
                stages.insert(name.to_owned(), start.elapsed().as_secs_f64().into());
                progress.stage(name);
            }
            Event::Step { done, total, time, .. } => progress.step(done, total, time),
            Event::Preview(picture) => self.show(picture, &mut unshown),
            Event::Warning(text) => {
                if !self.quiet {
                    output::remark(format_args!("warning: {text}"));
                }
            }
        };
        let mut pictures = drawing.draw(&mut hear);
        if let (true, Ok(first)) = (self.hires.asked(), &pictures) {
            let second = self.hires.request(first, &request, &model, enlarger.as_ref())?;
            pictures = self.prepare(&model, &second)?.draw(&mut hear);
        }
        // A network that enlarged between two goes does not enlarge once more.
        let enlarger = enlarger.filter(|_| !self.hires.asked());
        if enlarger.is_some() && pictures.is_ok() {
            hear(Event::Stage("enlarging"));
        }
        progress.finish();
        let pictures = pictures?;
        unshown.map_or(Ok(()), Err)?;
        let files = self.write(&pictures, &destination, enlarger.as_ref())?;
        let seconds = start.elapsed().as_secs_f64();
        let findings = std::mem::take(&mut pipeline.findings);
        let drawn =
            Drawn { files, pictures, enlarger, stages, precision, planned, seconds, findings, adapters, taught };
        self.say(&drawn, destination.is_stream());
        Ok(())
    }

    /// The model of a pipeline, in the precision and memory that are wanted; `unpacked` bytes of it are in memory
    /// besides.
    fn model(&self, pipeline: &Pipeline, device: Device, unpacked: u64) -> anyhow::Result<TextToImage> {
        let mut model = TextToImage::of_pipeline(pipeline, device, self.running.cache())?;
        if matches!(pipeline.source, Source::Embedded(_)) {
            model.set_name(genmoji::NAME);
        }
        if let Some(precision) = self.running.precision {
            model.set_precision(precision);
        }
        if let Some(memory) = self.running.memory {
            model.set_memory(memory);
            model.set_memory_besides(besides() + unpacked);
        }
        Ok(model)
    }

    /// Bytes of a model in the program that are read, and stay in memory, as its weights are not packed yet. Those of a
    /// file are let go one by one.
    fn unpacked(&self, source: &Source) -> u64 {
        let Source::Embedded(files) = source else { return 0 };
        let entries = self.running.cache().map_or_else(Vec::new, |cache| cache.entries());
        let is_own =
            |entry: &CacheEntry| entry.about.as_ref().is_ok_and(|about| about.model.starts_with("built-in unet"));
        if entries.iter().any(is_own) { 0 } else { files.iter().map(|(_, bytes)| bytes.len() as u64).sum() }
    }

    /// The drawing, if `--memory` allows it.
    fn prepare<'a>(&self, model: &'a TextToImage, request: &'a Request) -> anyhow::Result<Drawing<'a>> {
        model.prepare(request).map_err(|error| match error.kind() {
            ErrorKind::Memory => anyhow::Error::from(error).context(format!("{}: --memory", self.model)),
            // All that is looked at here is what was asked for.
            ErrorKind::Argument => bad_usage(error),
            _ => error.into(),
        })
    }

    /// Where the pictures go. What has no place is found out before it is drawn.
    fn destination(&self, request: &Request) -> anyhow::Result<Destination> {
        let destination = Destination::new(self.output.as_deref(), request.count)?;
        if self.json && destination.is_stream() {
            usage!("--json and the picture cannot both go to standard output; name a file for the picture");
        }
        if let Some(path) = &self.preview {
            Format::of(path).map_err(bad_usage)?;
        }
        let others: Vec<&Path> = self.dump.iter().chain(&self.preview).map(PathBuf::as_path).collect();
        for (i, path) in others.iter().enumerate() {
            if destination.is(path) || others[..i].iter().any(|other| is_same(other, path)) {
                usage!("{}: two of --output, --dump and --preview are this file; name another", path.display());
            }
            check_writable(path)?;
        }
        Ok(destination)
    }

    /// What is asked for, and what a picture tells besides.
    fn request(&self) -> anyhow::Result<(Request, Told)> {
        let prompt = match self.prompt.as_deref() {
            Some("-") => standard_input::read("the prompt", LONGEST_PROMPT)?,
            prompt => prompt.unwrap_or_default().to_owned(),
        };
        let mut request = self.flags.request(&prompt);
        (request.keep_latents, request.previews) = (self.dump.is_some(), self.preview.is_some());
        let told = match &self.from {
            Some(path) => self.recall(path, &mut request)?,
            None => Told::default(),
        };
        request.prompt = compose::chosen(&request.prompt, request.seed);
        request.negative = request.negative.map(|negative| compose::chosen(&negative, request.seed));
        request.check().map_err(bad_usage)?;
        if let Some(path) = &self.noise {
            request.noise = Some(read_noise(path)?);
        }
        Ok((request, told))
    }

    /// What makes the pictures larger, if anything does. Between two goes only what is asked for does.
    fn enlarger(
        &self,
        model: &TextToImage,
        drawing: &Drawing<'_>,
        told: Option<&str>,
    ) -> anyhow::Result<Option<Enlarger>> {
        let usual = model.upscaler().filter(|_| !self.hires.asked());
        let Some(name) = self.enlarge.choose(told, usual) else { return Ok(None) };
        let device = self.running.device(interrupt::wish())?;
        let precision = self.running.precision.unwrap_or_else(|| Upscaler::usual_precision(&device));
        Enlarger::new(name, drawing.size(), precision, device, self.running.cache(), self.running.memory).map(Some)
    }

    /// Writes what a picture may become; the first failure is kept.
    fn show(&self, picture: &Picture, failed: &mut Option<anyhow::Error>) {
        let Some(path) = self.preview.as_ref().filter(|_| failed.is_none()) else { return };
        let write = || -> anyhow::Result<()> {
            let mut bytes = Vec::new();
            picture.write(Format::of(path)?, &mut bytes)?;
            Ok(write_whole(path, |file| Ok(file.write_all(&bytes)?))?)
        };
        *failed = write().err();
    }

    /// Takes over what a picture tells of itself; yields the network that made it larger.
    fn recall(&self, path: &Path, request: &mut Request) -> anyhow::Result<Told> {
        let picture = Picture::read(&bytes(path)?).with_context(|| path.display().to_string())?.picture;
        let Some(text) = picture.text(PARAMETERS) else {
            let others: Vec<_> = picture.texts.iter().map(|(keyword, _)| keyword.as_str()).collect();
            let others = if others.is_empty() { "none at all".to_owned() } else { others.join(", ") };
            bail!("{}: has no text `{PARAMETERS}` that tells how it was made; it has {others}", path.display());
        };
        let text = Infotext::parse(text);
        let (told, lost) = self.enlarge.recalled(&text);
        let ip_adapters = self.ip_adapters.recalled(&text, path)?;
        let mut left =
            request.recall(&text, &|name| if name == "prompt" { self.prompt.is_some() } else { self.flags.has(name) });
        if !self.edit.begins() && !self.flags.has("strength") && request.strength.take().is_some() {
            left.push("the strength, as the picture that it began with is not given with --init".to_owned());
        }
        if lost {
            left.push("the network that made it larger".to_owned());
        }
        if !self.quiet {
            let by = text.model.map_or_else(String::new, |model| format!(", made by the model {model}"));
            let left = if left.is_empty() { String::new() } else { format!("; not taken over: {}", left.join(", ")) };
            output::remark(format_args!("{}: prompt and settings taken over{by}{left}", path.display()));
        }
        Ok(Told { network: told, ip_adapters })
    }

    /// Writes pictures and dump; whatever fails, no file is left half-written.
    fn write(
        &self,
        pictures: &Pictures,
        destination: &Destination,
        enlarger: Option<&Enlarger>,
    ) -> anyhow::Result<Vec<PathBuf>> {
        if let Some(path) = &self.dump {
            write_safetensors(path, &pictures.dump()?)?;
        }
        let mut files = Vec::new();
        for i in 0..pictures.count() {
            let mut picture = pictures.picture(i)?;
            let mut text = pictures.infotext(i);
            if let Some(enlarger) = enlarger {
                picture = enlarger.enlarge(&picture)?;
                enlarger.note(&mut text);
            }
            if !self.no_metadata {
                picture = picture.with_text(PARAMETERS, text.to_string());
            }
            files.push(destination.write(&picture, i, pictures.count(), self.quiet)?);
        }
        Ok(files)
    }

    fn say_plan(&self, memory: &MemoryPlan, flops: u64) -> anyhow::Result<()> {
        let gflop = flops as f64 / 1e9;
        if self.json {
            let mut facts = memory.to_json();
            facts["gflop"] = gflop.into();
            output::json(&facts);
        } else {
            output::line(memory);
            output::line(format_args!("arithmetic: {gflop:.0} GFLOP"));
        }
        Ok(())
    }

    /// What was found out about a checkpoint, and why.
    fn say_findings(&self, findings: &[Finding]) {
        if !self.quiet && !self.json && !findings.is_empty() {
            let said: Vec<_> = findings.iter().map(Finding::to_string).collect();
            output::remark(format_args!("{}: {}", self.model, said.join(", ")));
        }
    }

    fn say(&self, drawn: &Drawn, streamed: bool) {
        if self.json {
            output::json(&drawn.to_json());
        } else if !self.quiet {
            if !streamed {
                drawn.files.iter().for_each(|file| output::line(file.display()));
            }
            let seed = drawn.pictures.infotext(0).seed.unwrap_or_default();
            output::remark(format_args!("drawn in {:.2} s, seed {seed}", drawn.seconds));
        }
    }
}

/// What is told about pictures that are written.
struct Drawn {
    files: Vec<PathBuf>,
    pictures: Pictures,
    /// What made them larger.
    enlarger: Option<Enlarger>,
    /// When each stage began.
    stages: Map<String, Value>,
    precision: Precision,
    /// Bytes that the plan promised not to exceed.
    planned: u64,
    seconds: f64,
    /// What was found out about the model.
    findings: Vec<Finding>,
    /// What became of its adapters.
    adapters: Vec<Applied>,
    /// The words that it was taught.
    taught: Vec<Taught>,
}

impl Drawn {
    fn to_json(&self) -> Value {
        let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        let seeds: Vec<_> = (0..files.len()).map(|i| self.pictures.infotext(i).seed).collect();
        let (text, drawn) = (self.pictures.infotext(0), self.pictures.size());
        let size = self.enlarger.as_ref().map_or(drawn, |enlarger| enlarger.size(drawn));
        json!({
            "file": files.first(),
            "files": files,
            "prompt": text.prompt,
            "negative": text.negative_prompt,
            "model": text.model,
            "adapters": self.adapters.iter().map(adapter_json).collect::<Vec<_>>(),
            "embeddings": self.taught.iter().map(taught_json).collect::<Vec<_>>(),
            "found": self.findings.iter().map(|found| json!({"what": found.what, "why": found.why})).collect::<Vec<_>>(),
            "width": size.width,
            "height": size.height,
            "size": [size.width, size.height],
            "drawn_size": [drawn.width, drawn.height],
            "upscaler": self.enlarger.as_ref().map(Enlarger::name),
            "sampler": text.sampler,
            "schedule": text.schedule,
            "steps": text.steps,
            "guidance": text.cfg_scale,
            "unet_calls": self.pictures.calls(),
            "seed": text.seed,
            "seeds": seeds,
            "precision": self.precision.to_string(),
            "seconds": self.seconds,
            "stages_began_at_seconds": self.stages,
            "planned_peak_bytes": self.planned,
            "peak_rss_bytes": peak_rss(),
        })
    }
}

fn adapter_json(applied: &Applied) -> Value {
    let Applied { name, applied, total, left } = applied;
    json!({"name": name, "applied": applied, "total": total, "left_out": left})
}

fn taught_json(taught: &Taught) -> Value {
    let Taught { word, vectors, encoders, total } = taught;
    json!({"word": word, "vectors": vectors, "encoders": encoders, "total": total})
}

fn read_noise(path: &Path) -> anyhow::Result<NDArray> {
    let weights = Weights::open(path)?;
    let noise = weights.array("noise").with_context(|| path.display().to_string())?;
    let shape = noise.shape().to_vec();
    Ok(NDArray::new(&shape, &noise.to_f32())?)
}
