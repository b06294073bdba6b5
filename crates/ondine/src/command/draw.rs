//! `ondine draw`: text to picture.

mod flags;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, ensure};
use clap::Args;
use ondine::model::find;
use ondine_image::{
    codec::PARAMETERS,
    pipeline::{Drawing, Event, Pictures, TextToImage},
    request::Request,
};
use ondine_models::{Pipeline, Source};
use ondine_runtime::{ErrorKind, NDArray, Precision, Weights, file::write_whole, write_safetensors};
use serde_json::{Map, Value, json};

use super::running::Running;
use crate::{interrupt, memory::peak_rss, output, progress::Progress};
use flags::Flags;

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

    /// Take a network of the model from another folder, such as unet=small.ondine of `ondine compress`
    #[arg(long = "part", value_name = "NAME=FOLDER", value_parser = parse_part)]
    parts: Vec<(String, PathBuf)>,

    /// Where the picture goes; with several, a number is added to the name
    #[arg(short, long, value_name = "FILE", visible_alias = "out", default_value = "ondine.png")]
    output: PathBuf,

    #[command(flatten)]
    flags: Flags,

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

fn parse_part(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => Ok((name.to_owned(), folder.into())),
        _ => Err("write the name of a network and a folder, such as unet=small.ondine".to_owned()),
    }
}

impl Draw {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let start = Instant::now();
        self.check_output()?;
        let cancel = interrupt::listen()?;
        let device = self.running.device(cancel)?;
        let mut pipeline = Pipeline::open(find(&self.model)?)?;
        for (name, folder) in &self.parts {
            pipeline.replace(name, Source::folder(folder)?)?;
        }
        let mut model = TextToImage::of_pipeline(&pipeline, device, self.running.cache())?;
        if let Some(precision) = self.running.precision {
            model.set_precision(precision);
        }
        if let Some(memory) = self.running.memory {
            model.set_memory(memory);
        }
        let request = self.request()?;
        let drawing = self.prepare(&model, &request)?;
        if self.plan {
            return self.say_plan(&drawing);
        }
        let (precision, planned) = (drawing.precision(), drawing.memory().peak_bytes());
        if !self.quiet && !self.json {
            output::remark(drawing.memory());
        }
        let progress = Progress::new(self.quiet);
        let mut stages = Map::new();
        let pictures = drawing.draw(&mut |event| match event {
            Event::Stage(name) => {
                stages.insert(name.to_owned(), start.elapsed().as_secs_f64().into());
                progress.stage(name);
            }
            Event::Step { done, total, time, .. } => progress.step(done, total, time),
            Event::Warning(text) => {
                if !self.quiet {
                    output::remark(format_args!("warning: {text}"));
                }
            }
        });
        progress.finish();
        let files = self.write(&pictures?)?;
        self.say(&Drawn { files, request, stages, precision, planned, seconds: start.elapsed().as_secs_f64() });
        Ok(())
    }

    /// The drawing, if `--memory` allows it.
    fn prepare<'a>(&self, model: &'a TextToImage, request: &'a Request) -> anyhow::Result<Drawing<'a>> {
        model.prepare(request).map_err(|error| match error.kind() {
            ErrorKind::Memory => anyhow::Error::from(error).context(format!("{}: --memory", self.model)),
            _ => error.into(),
        })
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
        let mut request = Request { keep_latents: self.dump.is_some(), ..self.flags.request(&self.prompt) };
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

    fn say_plan(&self, drawing: &Drawing<'_>) -> anyhow::Result<()> {
        let (memory, gflop) = (drawing.memory(), drawing.flops()? as f64 / 1e9);
        if self.json {
            let mut facts = memory.to_json();
            facts["gflop"] = gflop.into();
            output::line(facts);
        } else {
            output::line(format_args!("{memory}\narithmetic: {gflop:.0} GFLOP"));
        }
        Ok(())
    }

    fn say(&self, drawn: &Drawn) {
        if self.json {
            let files: Vec<_> = drawn.files.iter().map(|file| file.display().to_string()).collect();
            let seeds: Vec<_> = (0..files.len() as u64).map(|i| drawn.request.seed.wrapping_add(i)).collect();
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
    request: Request,
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
