//! `ondine upscale`: larger pictures.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use clap::Args;
use ondine::{model, realesrgan};
use ondine_image::{
    codec::{Picture, format::Format},
    upscale::{Tiles, Upscaler},
};
use serde_json::json;

use super::{bytes::megabytes, destination::Destination, running::Running};
use crate::{interrupt, output, progress::Progress, report::usage};

/// Make a picture larger with a network of the ESRGAN family.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine upscale cat.png
  ondine upscale cat.png --model RealESRGAN_x4plus.pth
  ondine upscale photo.jpg --model 4x-UltraSharp.safetensors --output large.png --tile 256
  ondine upscale cat.png --precision int8 --json

Without --precision it is bf16 where the processor is quick at it (half the time of f32 with AVX-512, a fifth less with AVX2; no one
sees it), else f32; int8 is faster still, and may show in smooth areas. What the file says of how it was made stays in the larger one.")]
pub(super) struct Upscale {
    /// The picture: PNG, JPEG or WebP
    file: PathBuf,

    /// The network: the built-in one, made for drawn pictures, or an RRDBNet or SRVGGNetCompact in a .pth or
    /// .safetensors file
    #[arg(short, long, value_name = "FILE", default_value = realesrgan::NAME)]
    model: String,

    /// Where the larger picture goes, or - for standard output [default: the name with -x4 or what the network makes of
    /// it]
    #[arg(short, long, value_name = "FILE", visible_alias = "out")]
    output: Option<PathBuf>,

    /// The longest side of a tile in pixels; larger pictures are cut into tiles, which are mixed where they meet
    #[arg(long, value_name = "PIXELS", default_value_t = 192)]
    tile: usize,

    /// Print one JSON object about what was made
    #[arg(long)]
    json: bool,

    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    running: Running,
}

impl Upscale {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let start = Instant::now();
        let opened =
            Picture::read(&super::draw::bytes(&self.file)?).with_context(|| self.file.display().to_string())?;
        let device = self.running.device(interrupt::wish())?;
        let network = model::upscaler(&self.model)?;
        let precision = self.running.precision.unwrap_or_else(|| Upscaler::usual_precision(&device));
        let upscaler = Upscaler::new(&network, precision, device, self.running.cache())?;
        let path = self.output.clone().unwrap_or_else(|| named(&self.file, upscaler.scale()));
        let destination = Destination::new(Some(&path), 1)?;
        if self.json && destination.is_stream() {
            usage!("--json and the picture cannot both go to standard output; name a file for the picture");
        }
        opened.picture.check_text(destination.format()).with_context(|| self.file.display().to_string())?;
        let tiles = Tiles { side: self.tile, ..Tiles::default() };
        let (width, height) = (opened.picture.width as usize, opened.picture.height as usize);
        let plan = upscaler.memory(width, height, tiles)?;
        let memory = plan.weights + plan.workspace;
        if let Some(limit) = self.running.memory.filter(|limit| memory > *limit) {
            usage!(
                "tiles of {} pixels take {}, {} are allowed; give a smaller --tile",
                self.tile,
                megabytes(memory),
                megabytes(limit)
            );
        }
        if !self.quiet && !self.json {
            let changes = opened.changes.iter().map(|change| format!(", {change}")).collect::<String>();
            output::remark(format_args!("memory: {} at most{changes}", megabytes(memory)));
        }
        let progress = Progress::new(self.quiet);
        progress.stage("enlarging");
        let mut last = Instant::now();
        let larger = upscaler.enlarge(&opened.picture, tiles, &mut |done, total| {
            progress.step(done, total, last.elapsed());
            last = Instant::now();
        });
        progress.finish();
        let larger = larger?;
        let path = destination.write(&larger, 0, 1, self.quiet)?;
        let seconds = start.elapsed().as_secs_f64();
        if self.json {
            output::json(&json!({
                "file": path.display().to_string(),
                "width": larger.width,
                "height": larger.height,
                "scale": upscaler.scale(),
                "network": network.architecture.class,
                "precision": precision.to_string(),
                "planned_peak_bytes": memory,
                "seconds": seconds,
            }));
        } else if !self.quiet {
            if !destination.is_stream() {
                output::line(path.display());
            }
            output::remark(format_args!("{}x{} in {seconds:.2} s", larger.width, larger.height));
        }
        Ok(())
    }
}

/// `cat.png` becomes `cat-x4.png`; what no picture is written as becomes a PNG.
fn named(path: &Path, scale: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = match Format::of(path) {
        Ok(_) => path.extension().unwrap_or_default().to_string_lossy().into_owned(),
        Err(_) => "png".to_owned(),
    };
    let extension = if extension.is_empty() { "png".to_owned() } else { extension };
    path.with_file_name(format!("{stem}-x{scale}.{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_pictures_are_named_after_the_others() {
        for (name, larger) in [("a/cat.png", "a/cat-x4.png"), ("cat.gif", "cat-x4.png"), ("cat", "cat-x4.png")] {
            assert_eq!(named(Path::new(name), 4), Path::new(larger));
        }
    }
}
