//! `ondine draw`: text to picture.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use ondine::model::find;
use ondine_image::{
    codec::PARAMETERS,
    pipeline::{Event, MemoryPlan, Pictures, Request, TextToImage},
};
use ondine_runtime::{NDArray, Precision, Weights, file::write_whole, write_safetensors};
use serde_json::{Map, Value, json};

use super::Running;
use crate::{interrupt, memory::peak_rss, output, progress::Progress};

/// Draw pictures from a text.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine draw \"a laughing cat\"
  ondine draw \"a red heart, noto style\" --seed 7 --count 4 --output heart.png
  ondine draw \"a lighthouse\" --model stable-diffusion-v1-5/ --steps 20 --sampler \"DPM++ 2M\" --schedule karras
  ondine draw \"a lighthouse\" --negative blurry --width 768 --height 512 --memory 3GB --json")]
pub(super) struct Draw {
    /// What the picture shows
    prompt: String,

    /// Model: a name from `ondine models list`, or a diffusers folder
    #[arg(short, long, value_name = "MODEL", default_value = "genmoji")]
    model: String,

    /// Where the picture goes; with several, a number is added to the name
    #[arg(short, long, value_name = "FILE", visible_alias = "out", default_value = "ondine.png")]
    output: PathBuf,

    /// What the picture should not show
    #[arg(short, long, value_name = "TEXT", visible_alias = "negative-prompt")]
    negative: Option<String>,

    /// Denoising steps [default: the model's]
    #[arg(short, long, value_name = "N")]
    steps: Option<usize>,

    /// Guidance scale: how closely to follow the prompt; 1 is no guidance [default: the model's]
    #[arg(short, long, value_name = "SCALE", visible_alias = "cfg-scale", allow_negative_numbers = true)]
    guidance: Option<f32>,

    /// Seed of the noise; the same seed draws the same picture
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,

    /// Width in pixels, a multiple of 8 [default: the model's]
    #[arg(short = 'W', long, value_name = "PIXELS")]
    width: Option<usize>,

    /// Height in pixels, a multiple of 8 [default: the model's]
    #[arg(short = 'H', long, value_name = "PIXELS")]
    height: Option<usize>,

    /// Pictures to draw at once, from seed, seed + 1, ...
    #[arg(short, long, value_name = "N", visible_aliases = ["batch", "batch-size"], default_value_t = 1)]
    count: usize,

    /// Sampler, such as ddim, euler, "Euler a", "DPM++ 2M", unipc, lcm [default: the model's]
    #[arg(long, value_name = "NAME", visible_alias = "scheduler")]
    sampler: Option<String>,

    /// Spacing of the noise levels, such as karras [default: the model's]
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,

    /// Share of fresh noise in each step, for samplers that have it
    #[arg(long, value_name = "0..1")]
    eta: Option<f64>,

    /// Strength of the correction of overexposure that strong guidance causes
    #[arg(long, value_name = "0..1")]
    guidance_rescale: Option<f32>,

    /// Noise generator: torch, philox or numpy
    #[arg(long, value_name = "NAME", default_value = "torch")]
    rng: String,

    /// Start from the tensor `noise` of this safetensors file instead of the seed's noise
    #[arg(long, value_name = "FILE")]
    noise: Option<PathBuf>,

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

impl Draw {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let start = Instant::now();
        self.check_output()?;
        let cancel = interrupt::listen()?;
        let device = self.running.device(cancel)?;
        let mut pipeline = TextToImage::open(find(&self.model)?, device, self.running.cache())?;
        if let Some(precision) = self.running.precision {
            pipeline.set_precision(precision);
        }
        let request = self.request()?;
        let plan = self.fitting_plan(&mut pipeline, &request)?;
        if self.plan {
            self.say_plan(&plan, pipeline.flops(&request)? as f64 / 1e9);
            return Ok(());
        }
        if !self.quiet && !self.json {
            output::remark(&plan);
        }
        let progress = Progress::new(self.quiet);
        let mut stages = Map::new();
        let pictures = pipeline.draw(&request, &mut |event| match event {
            Event::Stage(name) => {
                stages.insert(name.to_owned(), start.elapsed().as_secs_f64().into());
                progress.stage(name);
            }
            Event::Step { done, total, time } => progress.step(done, total, time),
            Event::Warning(text) => {
                if !self.quiet {
                    output::remark(format_args!("warning: {text}"));
                }
            }
        });
        progress.finish();
        let files = self.write(&pictures?)?;
        let drawn = Drawn {
            files,
            stages,
            precision: pipeline.precision(),
            planned: plan.peak_bytes(),
            seconds: start.elapsed().as_secs_f64(),
        };
        self.say(&drawn);
        Ok(())
    }

    /// The memory plan within `--memory`: in half precision if that is what it takes and nobody chose one.
    fn fitting_plan(&self, pipeline: &mut TextToImage, request: &Request) -> anyhow::Result<MemoryPlan> {
        let plan = pipeline.plan(request)?;
        let fits = |plan: &MemoryPlan| self.running.memory.is_none_or(|limit| plan.peak_bytes() <= limit);
        if fits(&plan) {
            return Ok(plan);
        }
        let mut least = plan.peak_bytes();
        if self.running.precision.is_none() {
            pipeline.set_precision(Precision::BF16);
            let plan = pipeline.plan(request)?;
            if fits(&plan) {
                return Ok(plan);
            }
            least = least.min(plan.peak_bytes());
        }
        let limit = self.running.memory.unwrap_or_default();
        let hint = if self.running.precision == Some(Precision::F32) { "--precision bf16, " } else { "" };
        bail!(
            "{}: this picture takes {}, --memory allows {}; try {hint}fewer pixels or fewer pictures",
            self.model,
            megabytes(least),
            megabytes(limit)
        );
    }

    /// Finds out that the pictures have no place before drawing them.
    fn check_output(&self) -> anyhow::Result<()> {
        for file in std::iter::once(&self.output).chain(&self.dump) {
            let folder = match file.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            ensure!(folder.is_dir(), "{}: there is no folder {}; make it first", file.display(), folder.display());
            ensure!(!file.is_dir(), "{}: is a folder; name a file in it", file.display());
            tempfile_in(folder).with_context(|| format!("{}: cannot write there", file.display()))?;
        }
        Ok(())
    }

    fn request(&self) -> anyhow::Result<Request> {
        let mut request = Request {
            prompt: self.prompt.clone(),
            negative: self.negative.clone(),
            width: self.width,
            height: self.height,
            steps: self.steps,
            guidance: self.guidance,
            guidance_rescale: self.guidance_rescale.unwrap_or_default(),
            seed: self.seed,
            count: self.count,
            sampler: self.sampler.clone(),
            schedule: self.schedule.clone(),
            eta: self.eta,
            generator: self.rng.parse()?,
            noise: None,
            keep_latents: self.dump.is_some(),
        };
        if let Some(path) = &self.noise {
            request.noise = Some(read_noise(path)?);
        }
        Ok(request)
    }

    /// Writes pictures and dump; whatever fails, no file is left half-written.
    fn write(&self, pictures: &Pictures) -> anyhow::Result<Vec<PathBuf>> {
        if let Some(path) = &self.dump {
            write_safetensors(path, &pictures.dump()?)?;
        }
        let mut files = Vec::new();
        for i in 0..pictures.count() {
            let path = numbered(&self.output, i, pictures.count());
            let mut picture = pictures.picture(i)?;
            if !self.no_metadata {
                picture = picture.with_text(PARAMETERS, pictures.infotext(i).to_string());
            }
            let mut png = Vec::new();
            picture.write_png(&mut png)?;
            write_whole(&path, |file| Ok(std::io::Write::write_all(file, &png)?))?;
            files.push(path);
        }
        Ok(files)
    }

    fn say_plan(&self, plan: &MemoryPlan, gflop: f64) {
        if self.json {
            let mut facts = plan.to_json();
            facts["gflop"] = gflop.into();
            output::line(facts);
        } else {
            output::line(format_args!("{plan}\narithmetic: {gflop:.0} GFLOP"));
        }
    }

    fn say(&self, drawn: &Drawn) {
        if self.json {
            let files: Vec<_> = drawn.files.iter().map(|file| file.display().to_string()).collect();
            let seeds: Vec<_> = (0..files.len() as u64).map(|i| self.seed.wrapping_add(i)).collect();
            let facts = json!({
                "files": files,
                "seeds": seeds,
                "precision": drawn.precision.to_string(),
                "seconds": drawn.seconds,
                "stages_began_at_seconds": drawn.stages,
                "planned_peak_bytes": drawn.planned,
                "peak_rss_bytes": peak_rss(),
            });
            output::line(facts);
        } else if !self.quiet {
            for file in &drawn.files {
                output::line(file.display());
            }
            output::remark(format_args!("drawn in {:.2} s", drawn.seconds));
        }
    }
}

/// What is told about pictures that are on the disk.
struct Drawn {
    files: Vec<PathBuf>,
    /// When each stage began.
    stages: Map<String, Value>,
    precision: Precision,
    /// Bytes that the plan promised not to exceed.
    planned: u64,
    seconds: f64,
}

fn read_noise(path: &Path) -> anyhow::Result<NDArray> {
    let weights = Weights::open(path)?;
    let noise = weights.array("noise").with_context(|| path.display().to_string())?;
    let shape = noise.shape().to_vec();
    Ok(NDArray::new(&shape, &noise.to_f32())?)
}

/// `cat.png` stays, or becomes `cat-1.png`, `cat-2.png`, ... for several pictures.
fn numbered(path: &Path, index: usize, count: usize) -> PathBuf {
    if count == 1 {
        return path.to_path_buf();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map_or_else(|| "png".into(), |extension| extension.to_string_lossy());
    path.with_file_name(format!("{stem}-{}.{extension}", index + 1))
}

/// Makes and removes a file, to see whether that is possible.
fn tempfile_in(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".ondine-{}.part", std::process::id()));
    std::fs::File::create(&path)?;
    std::fs::remove_file(path)
}

/// Bytes as people read them.
pub(super) fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_pictures_are_numbered() {
        assert_eq!(numbered(Path::new("a/cat.png"), 0, 1), Path::new("a/cat.png"));
        assert_eq!(numbered(Path::new("a/cat.png"), 1, 2), Path::new("a/cat-2.png"));
        assert_eq!(numbered(Path::new("cat"), 0, 2), Path::new("cat-1.png"));
    }
}
